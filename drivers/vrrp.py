# SPDX-License-Identifier: GPL-2.0-or-later
"""VRRPv3 advertisements on the wire (RFC 9568): a raw IP socket a family and interface.

What floods in must not delay what we have to say: others' virtual routers are passed over unread,
and of each sender only so many advertisements a second are read, more than any honest one sends.
While a flood lasts its packets are let gather for 1 ms, for to be woken by each costs far more than
to pass it over.
"""

import socket
import struct
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress

from agent.clock import now_ms
from agent.core import vrrp_wire
from agent.core.keeping import AdvertSeen, PacketRefused
from agent.core.kit import Kit, KitRouter
from agent.ports import Refused

# More than a queue holds, so that what waited through a freeze is all read before a timer is looked
# at; and yet an end, some 10 ms away where nearly all is passed over, to a flood that never ends.
RECEIVES_AT_ONCE = 2048
GATHER_S = 0.001
FLOOD_MS = 50  # a flood is over when nothing was passed over for so long
QUEUED_BYTES = 1 << 20  # some 1,300 advertisements: ten seconds of a hundred a second, and a flood
LONGEST_PACKET_BYTES = 8192  # 255 IPv6 addresses and the headers; what is longer is cut and refused
CONTROL_CLASS = 0xC0  # DSCP CS6: network control (RFC 4594 3.1)
CONTROL_PRIORITY = 6  # TC_PRIO_CONTROL: before the services' own packets

MEMBERSHIP_4 = struct.Struct("=4s4si")  # ip_mreqn: group, own address, interface index
MEMBERSHIP_6 = struct.Struct("=16si")  # ipv6_mreq
SENDER_4 = struct.Struct("=i4s4s")  # in_pktinfo: interface index, source, unused
SENDER_6 = struct.Struct("=16si")  # in6_pktinfo: source, interface index
IP_PKTINFO = 8  # ip(7); not named by Python's socket
IP_MULTICAST_ALL = 49
IPV6_FREEBIND = 78  # linux/in6.h
SO_RCVBUFFORCE = 33
NUMBER = struct.Struct("=i")
ANCILLARY_BYTES = 256

Ancillary = list[tuple[int, int, bytes]]
Options = list[tuple[int, int, int | bytes]]
Letter = tuple["_Ear | _Mouth", bytes, Ancillary, tuple[str, int]]
Seen = list[AdvertSeen | PacketRefused]


class Vrrp:
    """Sends and hears advertisements for all virtual routers of a kit. Never blocks.

    counters: "advert-unsent", one for each packet that the kernel would not take; "advert-flood",
    one for each that was passed over because its sender sends too many. clock: ms, for the latter.
    Refused where raw sockets are not permitted.
    """

    def __init__(
        self,
        kit: Kit,
        clock: Callable[[], int] = now_ms,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._kit = kit
        self._clock = clock
        self._pause = pause
        self._flooded_ms = -FLOOD_MS  # when something was last passed over
        self._ears: dict[tuple[int, str], _Ear] = {}
        self._mouths: dict[tuple[int, str], _Mouth] = {}
        self._letters: dict[tuple[str, int], list[Letter]] = {}
        self.counters = {"advert-unsent": 0, "advert-flood": 0}
        for group in kit.groups.values():
            for router in group.routers:
                at = router.family, router.interface
                if at not in self._ears:
                    self._ears[at] = self._listen(router)
                self._ears[at].own.add(router.source)
                self._ears[at].vrids.add(router.vrid)
                name, index = router.mouth
                if name != router.interface:
                    self._mouths[router.family, name] = _Mouth(router.family, name, index)

    def filenos(self) -> list[int]:
        """Any of them is readable when there is something to receive."""
        return [ear.socket.fileno() for ear in self._ears.values()]

    def send(self, group: str, priority: int) -> int:
        """One advertisement for each virtual router to each of its destinations; how many left."""
        letters = self._letters.get((group, priority))
        if letters is None:
            letters = self._letters[group, priority] = self._write(group, priority)
        sent = 0
        for way, message, ancillary, destination in letters:
            try:
                way.send(message, ancillary, destination)
            except OSError:  # no carrier, down, no route, a full queue: the next one is due soon
                self.counters["advert-unsent"] += 1
            else:
                sent += 1
        return sent

    def receive(self) -> Seen:
        """All that waits, from every interface."""
        seen: Seen = []
        now = self._clock()
        if now - self._flooded_ms < FLOOD_MS:
            self._pause(GATHER_S)
        passed_over = sum([ear.receive(seen, now) for ear in self._ears.values()])
        if passed_over:
            self._flooded_ms = now
            self.counters["advert-flood"] += passed_over
        return seen

    def close(self) -> None:
        for ear in self._ears.values():
            ear.socket.close()
        for mouth in self._mouths.values():
            mouth.close()

    def _listen(self, router: KitRouter) -> "_Ear":
        try:
            return _Ear(router)
        except OSError as error:
            self.close()
            raise Refused(
                f"vrrp {router.interface}: {error.strerror}; the keeper needs CAP_NET_RAW and the"
                " interface, and where that was made anew the kit must be forged again"
            ) from error

    def _write(self, group: str, priority: int) -> list[Letter]:
        """Made once for each priority: an advertisement never changes otherwise."""
        kept = self._kit.groups[group]
        interval_ms = self._kit.keeping.groups[group].advert_ms
        letters: list[Letter] = []
        for router in kept.routers:
            for destination in router.destinations:
                message = vrrp_wire.encode(
                    router.family,
                    router.vrid,
                    priority,
                    interval_ms,
                    router.addresses,
                    router.source,
                    destination,
                    kept.checksum_pseudo,
                )
                way, index = self._way(router, destination)
                letters.append((way, message, _sender(router, index), (destination, 0)))
        return letters

    def _way(self, router: KitRouter, destination: str) -> tuple["_Ear | _Mouth", int]:
        """By which socket and interface number it leaves: multicast from the virtual MAC."""
        name, index = router.mouth
        if name == router.interface or destination != vrrp_wire.GROUPS[router.family]:
            return self._ears[router.family, router.interface], router.index
        return self._mouths[router.family, name], index


class Sieve:
    """Which advertisements are read: of each sender, in each virtual router, 200 a second.

    An honest one sends a hundred at the quickest. A burst may be ten seconds' worth of those, as
    they lie in a queue after a freeze. Senders seen for the first time share 1,000 a second, so
    that forged sources without number neither cost much nor push out those that were there before
    them.
    """

    GAP_MS = 5
    BURST_MS = 5_000
    NEWCOMERS_GAP_MS = 1
    NEWCOMERS_BURST_MS = 2_000
    SETTLED_MS = 10_000  # so long after its first one a sender is no newcomer any more
    FORGOTTEN_MS = 60_000
    SENDERS = 256

    def __init__(self) -> None:
        self._senders: dict[tuple[str, int], tuple[int, int]] = {}  # first; used up to
        self._newcomers = 0

    def lets(self, source: str, vrid: int, now: int) -> bool:
        """Whether to read this one; it is counted against its sender's allowance."""
        key = source, vrid
        first, used = self._senders.get(key, (now, now))
        if used > now + self.BURST_MS:
            return False
        if now - first < self.SETTLED_MS:
            if self._newcomers > now + self.NEWCOMERS_BURST_MS:
                return False
            self._newcomers = max(self._newcomers, now) + self.NEWCOMERS_GAP_MS
            if key not in self._senders and not self._has_room(now):
                return True
        self._senders[key] = first, max(used, now) + self.GAP_MS
        return True

    def _has_room(self, now: int) -> bool:
        """Whether one more sender can be remembered; idle newcomers make room first."""
        if len(self._senders) >= self.SENDERS:
            self._senders = {
                key: (first, used)
                for key, (first, used) in self._senders.items()
                if used > now or (used - first > self.SETTLED_MS and used > now - self.FORGOTTEN_MS)
            }
        return len(self._senders) < self.SENDERS


class _Ear:
    """A raw socket that sends and hears on one interface, multicast and unicast."""

    def __init__(self, router: KitRouter) -> None:
        self.interface = router.interface
        self.family = router.family
        self.own: set[str] = set()
        self.vrids: set[int] = set()
        self._sieve = Sieve()
        self.socket = _open(
            router.family,
            router.interface,
            _sending(router.family, router.index) + _hearing(router.family, router.index),
        )
        with suppress(PermissionError):
            self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, QUEUED_BYTES)

    def send(self, message: bytes, ancillary: Ancillary, destination: tuple[str, int]) -> None:
        self.socket.sendmsg([message], ancillary, 0, destination)

    def receive(self, seen: Seen, now: int) -> int:
        """How many were passed over."""
        read = self._read_4 if self.family == 4 else self._read_6
        passed_over = 0
        for _ in range(RECEIVES_AT_ONCE):
            try:
                payload, source, destination, ttl = read()
            except BlockingIOError:
                break
            except OSError:  # ENETDOWN, once, when the link went: links are told of elsewhere
                continue
            if source in self.own or vrrp_wire.concerns_others(payload, self.vrids):
                continue
            if not self._sieve.lets(source, payload[1] if len(payload) > 1 else 0, now):
                passed_over += 1
                continue
            multicast = destination == vrrp_wire.GROUPS[self.family]
            seen.append(
                vrrp_wire.decode(
                    payload, self.family, source, destination, ttl, self.interface, multicast
                )
            )
        return passed_over

    def _read_4(self) -> tuple[bytes, str, str, int]:
        payload, source, destination, ttl = vrrp_wire.unwrap_ipv4(
            self.socket.recv(LONGEST_PACKET_BYTES)
        )
        return payload, socket.inet_ntoa(source), socket.inet_ntoa(destination), ttl

    def _read_6(self) -> tuple[bytes, str, str, int]:
        payload, ancillary, _, sender = self.socket.recvmsg(LONGEST_PACKET_BYTES, ANCILLARY_BYTES)
        told = {kind: value for level, kind, value in ancillary if level == socket.IPPROTO_IPV6}
        destination = socket.inet_ntop(socket.AF_INET6, told[socket.IPV6_PKTINFO][:16])
        hop_limit = NUMBER.unpack(told[socket.IPV6_HOPLIMIT])[0]
        return payload, sender[0].partition("%")[0], destination, hop_limit


class _Mouth:
    """Multicast from a virtual MAC leaves by the macvlan that has it (RFC 9568 7.3).

    It is down while this node is backup, and may be made after us: then this opens when it is first
    needed. When it is made anew its number, which is the kit's, is the same.
    """

    def __init__(self, family: int, name: str, index: int) -> None:
        self._family = family
        self._name = name
        self._options = _sending(family, index)
        if family == 4:
            self._options.append((socket.IPPROTO_IP, IP_MULTICAST_ALL, 0))
        else:  # our link-local address lies on the interface below
            self._options.append((socket.IPPROTO_IPV6, IPV6_FREEBIND, 1))
        self._options.append((socket.SOL_SOCKET, socket.SO_RCVBUF, 0))  # the least: it is not read
        self._socket: socket.socket | None = None
        with suppress(OSError):
            self._open()

    def send(self, message: bytes, ancillary: Ancillary, destination: tuple[str, int]) -> None:
        """OSError where the macvlan is down or not there."""
        way = self._socket or self._open()
        way.sendmsg([message], ancillary, 0, destination)

    def _open(self) -> socket.socket:
        self._socket = _open(self._family, self._name, self._options)
        return self._socket

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()


def _open(family: int, interface: str, options: Options) -> socket.socket:
    with ExitStack() as otherwise:
        kind = socket.AF_INET if family == 4 else socket.AF_INET6
        raw = socket.socket(kind, socket.SOCK_RAW, vrrp_wire.PROTOCOL)
        otherwise.callback(raw.close)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
        raw.setblocking(False)
        for level, option, value in options:
            raw.setsockopt(level, option, value)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY, CONTROL_PRIORITY)
        otherwise.pop_all()
    return raw


def _sending(family: int, index: int) -> Options:
    if family == 4:
        leaves_by = MEMBERSHIP_4.pack(bytes(4), bytes(4), index)
        return [
            (socket.IPPROTO_IP, socket.IP_TOS, CONTROL_CLASS),
            (socket.IPPROTO_IP, socket.IP_TTL, vrrp_wire.HOP_LIMIT),
            (socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, vrrp_wire.HOP_LIMIT),
            (socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0),
            (socket.IPPROTO_IP, socket.IP_MULTICAST_IF, leaves_by),
        ]
    return [
        (socket.IPPROTO_IPV6, socket.IPV6_TCLASS, CONTROL_CLASS),
        (socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, vrrp_wire.HOP_LIMIT),
        (socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, vrrp_wire.HOP_LIMIT),
        (socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 0),
        (socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index),
    ]


def _hearing(family: int, index: int) -> Options:
    if family == 4:
        group = socket.inet_aton(vrrp_wire.GROUPS[4])
        membership = MEMBERSHIP_4.pack(group, bytes(4), index)
        return [(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)]
    membership = MEMBERSHIP_6.pack(socket.inet_pton(socket.AF_INET6, vrrp_wire.GROUPS[6]), index)
    return [
        (socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1),
        (socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1),
        (socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, membership),
    ]


def _sender(router: KitRouter, index: int) -> Ancillary:
    """Which of our addresses a packet comes from; left to itself the kernel may take another."""
    if router.family == 4:
        source = socket.inet_aton(router.source)
        return [(socket.IPPROTO_IP, IP_PKTINFO, SENDER_4.pack(index, source, bytes(4)))]
    source = socket.inet_pton(socket.AF_INET6, router.source)
    return [(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, SENDER_6.pack(source, index))]
