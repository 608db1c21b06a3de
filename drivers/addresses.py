# SPDX-License-Identifier: GPL-2.0-or-later
"""Floating addresses in the kernel: taken, refreshed and released by prebuilt netlink batches.

Two rtnetlink sockets (rtnetlink(7)): one asks, the other hears what happens to links and addresses.
"""

import contextlib
import errno
import os
import socket
import struct
from collections.abc import Iterator

from agent.core.keeping import AddressSeen, LinkSeen
from agent.core.kit import Batch, Kit, KitAddress

SOL_NETLINK = 270
NETLINK_CAP_ACK = 10  # a refusal does not carry the whole request back
NETLINK_GET_STRICT_CHK = 12  # a dump can be asked for one interface
SO_RCVBUFFORCE = 33
KEPT_BYTES = 4 << 20  # thousands of events or refusals; past that the kernel says ENOBUFS
RECEIVES_AT_ONCE = 1024

NLMSG_ERROR = 2
NLMSG_DONE = 3
NLM_F_REQUEST_DUMP = 0x301
NLM_F_DUMP_INTR = 0x10
RTM_NEWLINK = 16
RTM_DELLINK = 17
RTM_GETLINK = 18
RTM_NEWADDR = 20
RTM_DELADDR = 21
RTM_GETADDR = 22
HEARD_GROUPS = 0x1 | 0x10 | 0x100  # RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR

IFA_ADDRESS = 1
IFA_LOCAL = 2
IFLA_ADDRESS = 1
IFLA_IFNAME = 3
IFLA_OPERSTATE = 16
IFF_UP = 0x1
IFF_LOWER_UP = 0x10000  # carrier
OPERSTATES_UP = (0, 6)  # IF_OPER_UNKNOWN, where a driver does not say, and IF_OPER_UP

HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
ADDRESS = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, interface index
LINK = struct.Struct("=BxHiII")  # family, type, index, flags, change
ATTRIBUTE = struct.Struct("=HH")  # length, type
ERROR = struct.Struct("=i")  # -errno, 0 for an ACK
LIFETIME = struct.Struct("=I")
FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}

FINE_WHEN_TAKING = {errno.EEXIST}
FINE_WHEN_RELEASING = {errno.EADDRNOTAVAIL, errno.ENODEV}

Message = tuple[int, int, int, bytes]  # type, flags, sequence, what follows the header
Place = tuple[int, bytes]  # interface index, packed address


class Addresses:
    """Takes, keeps, releases and watches the floating addresses of a kit."""

    def __init__(self, kit: Kit) -> None:
        self._groups = kit.groups
        self._take = {name: _Order(group.take) for name, group in kit.groups.items()}
        self._release = {name: _Order(group.release) for name, group in kit.groups.items()}
        self._asking = _route_socket(0)
        self._asking.setsockopt(SOL_NETLINK, NETLINK_CAP_ACK, 1)
        self._asking.setsockopt(SOL_NETLINK, NETLINK_GET_STRICT_CHK, 1)
        self._news = _News(kit)

    @property
    def stale(self) -> frozenset[str]:
        """Interfaces that are not what the kit was forged for (number, MAC): forge again."""
        return frozenset(self._news.stale)

    @property
    def overruns(self) -> int:
        """How often events were lost, and everything was looked at again."""
        return self._news.overruns

    def take(self, group: str, lifetime_s: int) -> tuple[bool, str]:
        """Set all addresses of the group, to vanish after `lifetime_s` unless refreshed.

        Carried out when it returns. False: the kernel refused at least the one that is named.
        """
        missing = self._groups[group].missing
        if missing:
            return False, "; ".join(missing)
        self._take[group].patch(lifetime_s)
        return self._carry_out(group, self._take[group], FINE_WHEN_TAKING)

    def refresh(self, group: str, lifetime_s: int) -> tuple[bool, str]:
        """Renew the lifetimes; what somebody removed meanwhile is put back."""
        return self.take(group, lifetime_s)

    def release(self, group: str) -> tuple[bool, str]:
        """Remove all addresses of the group; those that are not there are fine."""
        return self._carry_out(group, self._release[group], FINE_WHEN_RELEASING)

    def held(self, group: str) -> bool:
        """Whether the kernel has every address of the group now."""
        wanted = {entry.address for entry in self._groups[group].addresses}
        return bool(wanted) and self.present(group) == wanted

    def present(self, group: str) -> set[str]:
        """Which addresses of the group the kernel has now."""
        entries = self._groups[group].addresses
        wanted = {_place(entry): entry.address for entry in entries}
        found: set[str] = set()
        for index, family in sorted({(entry.index, entry.family) for entry in entries}):
            _drained(self._asking)
            self._asking.send(_address_dump(FAMILIES[family], index))
            for kind, _, _, body in self._dumped():
                if kind == RTM_NEWADDR and (address := wanted.get(_place_of(body))):
                    found.add(address)
        return found

    def fileno(self) -> int:
        """Readable when there is something to receive; at first there always is."""
        return self._news.socket.fileno()

    def receive(self) -> list[AddressSeen | LinkSeen]:
        """What changed; at first every interface of the kit and every floating address found."""
        return self._news.receive()

    def close(self) -> None:
        self._asking.close()
        self._news.socket.close()

    def _carry_out(self, group: str, order: "_Order", fine: set[int]) -> tuple[bool, str]:
        _drained(self._asking)
        faults: dict[int, int] = {}
        for messages, last in order.batches:
            try:
                self._asking.send(messages)  # the kernel has carried it out when this returns
                answered = dict(_answers(_drained(self._asking)))
            except OSError as error:
                return False, f"group {group}: netlink: {error.strerror}; look again"
            if last not in answered:
                return False, f"group {group}: netlink: the last message is unanswered; look again"
            faults |= {at: fault for at, fault in answered.items() if fault and fault not in fine}
        if not faults:
            return True, ""
        at, fault = next(iter(faults.items()))
        entry = self._groups[group].addresses[at - 1]
        more = f", and {len(faults) - 1} more" if len(faults) > 1 else ""
        return False, f"{entry.address} on {entry.interface}: {os.strerror(fault)}{more}"

    def _dumped(self) -> Iterator[Message]:
        while True:
            for message in _messages(self._asking.recv(65536)):
                if message[0] in (NLMSG_DONE, NLMSG_ERROR):
                    return
                yield message


class _Order:
    """Batches ready to be sent, and the sequence number of each one's last message."""

    def __init__(self, batches: tuple[Batch, ...]) -> None:
        self._lifetimes = [batch.lifetimes for batch in batches]
        self._lifetime_s = -1
        self.batches = [
            (bytearray(batch.messages), [message[2] for message in _messages(batch.messages)][-1])
            for batch in batches
        ]

    def patch(self, lifetime_s: int) -> None:
        if lifetime_s == self._lifetime_s:
            return
        for (messages, _), places in zip(self.batches, self._lifetimes, strict=True):
            for at in places:
                LIFETIME.pack_into(messages, at, lifetime_s)
        self._lifetime_s = lifetime_s


class _News:
    """The listening socket: events, and at the start or after an overrun two dumps, as edges.

    The dumps come by the same socket, so that they and the events stand in their true order.
    """

    def __init__(self, kit: Kit) -> None:
        self._interfaces = kit.interfaces
        self._floating = {
            _place(entry): entry for group in kit.groups.values() for entry in group.addresses
        }
        self._up: dict[str, bool] = {}
        self._present: set[Place] = set()
        self._found: set[str | Place] = set()  # since the dump began
        self._dumping = 0  # RTM_GETLINK, RTM_GETADDR, 0
        self._again = False
        self.stale: set[str] = set()
        self.overruns = 0
        self.socket = _route_socket(HEARD_GROUPS)
        self._look(RTM_GETLINK)

    def receive(self) -> list[AddressSeen | LinkSeen]:
        seen: list[AddressSeen | LinkSeen] = []
        for _ in range(RECEIVES_AT_ONCE):
            try:
                data = self.socket.recv(65536)
            except BlockingIOError:
                if self._dumping or not self._again:
                    break
                self._look(RTM_GETLINK)  # not before all is read: a full socket takes no dump
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self.overruns += 1
                self._again = True
            else:
                for message in _messages(data):
                    self._read(message, seen)
        return seen

    def _look(self, what: int) -> None:
        if what == RTM_GETLINK:
            self._found.clear()
            self._again = False
            request = _request(what, LINK.pack(0, 0, 0, 0, 0))
        else:
            request = _address_dump(socket.AF_UNSPEC, 0)
        self._dumping = what
        self.socket.send(request)

    def _read(self, message: Message, seen: list[AddressSeen | LinkSeen]) -> None:
        kind, flags, sequence, body = message
        if flags & NLM_F_DUMP_INTR and sequence:
            self._again = True
        if kind in (RTM_NEWADDR, RTM_DELADDR):
            self._read_address(body, kind == RTM_NEWADDR, seen)
        elif kind in (RTM_NEWLINK, RTM_DELLINK):
            self._read_link(body, kind == RTM_NEWLINK, seen)
        elif kind == NLMSG_DONE:
            self._end_of_dump(seen)
        elif kind == NLMSG_ERROR:
            self._dumping = 0
            self._again = True

    def _end_of_dump(self, seen: list[AddressSeen | LinkSeen]) -> None:
        if self._dumping == RTM_GETLINK:
            for interface in self._interfaces:
                if interface not in self._found:
                    self._tell_link(interface, False, seen)
            self._look(RTM_GETADDR)
            return
        self._dumping = 0
        for place in self._present - self._found:
            self._tell_address(place, False, seen)

    def _read_address(self, body: bytes, present: bool, seen: list[AddressSeen | LinkSeen]) -> None:
        place = _place_of(body)
        if place in self._floating:
            if present:
                self._found.add(place)
            else:
                self._found.discard(place)
            self._tell_address(place, present, seen)

    def _tell_address(
        self, place: Place, present: bool, seen: list[AddressSeen | LinkSeen]
    ) -> None:
        if present != (place in self._present):
            (self._present.add if present else self._present.remove)(place)
            entry = self._floating[place]
            seen.append(AddressSeen(entry.interface, entry.address, present))

    def _read_link(self, body: bytes, there: bool, seen: list[AddressSeen | LinkSeen]) -> None:
        family, _, index, flags, _ = LINK.unpack_from(body)
        attributes = _attributes(body, LINK.size)
        interface = attributes.get(IFLA_IFNAME, b"").rstrip(b"\0").decode(errors="replace")
        if family != socket.AF_UNSPEC or interface not in self._interfaces:
            return  # a bridge tells of its ports, with a family of its own
        self._found.add(interface)
        mac = attributes.get(IFLA_ADDRESS, b"").hex(":")
        if (index, mac) == self._interfaces[interface]:
            self.stale.discard(interface)
        else:
            self.stale.add(interface)
        operstate = attributes.get(IFLA_OPERSTATE, b"\0")[0]
        up = flags & IFF_UP and flags & IFF_LOWER_UP and operstate in OPERSTATES_UP
        self._tell_link(interface, bool(there and up), seen)

    def _tell_link(self, interface: str, up: bool, seen: list[AddressSeen | LinkSeen]) -> None:
        if self._up.get(interface) is not up:
            self._up[interface] = up
            seen.append(LinkSeen(interface, up))


def _route_socket(groups: int) -> socket.socket:
    route = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    with contextlib.suppress(PermissionError):
        route.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, KEPT_BYTES)
    route.bind((0, groups))
    route.setblocking(not groups)
    return route


def _address_dump(family: int, index: int) -> bytes:
    return _request(RTM_GETADDR, ADDRESS.pack(family, 0, 0, 0, index))


def _request(kind: int, body: bytes) -> bytes:
    return HEADER.pack(HEADER.size + len(body), kind, NLM_F_REQUEST_DUMP, kind, 0) + body


def _drained(route: socket.socket) -> list[bytes]:
    """Everything that waits on the socket now; that some was lost shows in what is not there."""
    waiting = []
    while True:
        try:
            waiting.append(route.recv(65536, socket.MSG_DONTWAIT))
        except BlockingIOError:
            return waiting
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise


def _answers(waiting: list[bytes]) -> Iterator[tuple[int, int]]:
    """(sequence, errno or 0) of each ACK and refusal."""
    for data in waiting:
        for kind, _, sequence, body in _messages(data):
            if kind == NLMSG_ERROR:
                yield sequence, -ERROR.unpack_from(body)[0]


def _messages(data: bytes) -> Iterator[Message]:
    at = 0
    while at + HEADER.size <= len(data):
        length, kind, flags, sequence, _ = HEADER.unpack_from(data, at)
        if length < HEADER.size:
            return
        yield kind, flags, sequence, data[at + HEADER.size : at + length]
        at += (length + 3) & ~3


def _attributes(body: bytes, at: int) -> dict[int, bytes]:
    found = {}
    while at + ATTRIBUTE.size <= len(body):
        length, kind = ATTRIBUTE.unpack_from(body, at)
        if length < ATTRIBUTE.size:
            break
        found[kind] = body[at + ATTRIBUTE.size : at + length]
        at += (length + 3) & ~3
    return found


def _place(entry: KitAddress) -> Place:
    return entry.index, socket.inet_pton(FAMILIES[entry.family], entry.address)


def _place_of(body: bytes) -> Place:
    """IFA_LOCAL is our end of an IPv4 address; IPv6 has it only on point-to-point links."""
    attributes = _attributes(body, ADDRESS.size)
    index = ADDRESS.unpack_from(body)[4]
    return index, attributes.get(IFA_LOCAL) or attributes.get(IFA_ADDRESS, b"")
