# SPDX-License-Identifier: GPL-2.0-or-later
"""VRRPv3 advertisements on the wire (RFC 9568): a raw IP socket a family and interface."""

import socket
import struct
from contextlib import ExitStack

from agent.core import vrrp_wire
from agent.core.keeping import AdvertSeen, PacketRefused
from agent.core.kit import Kit, KitRouter
from agent.ports import Refused

RECEIVES_AT_ONCE = 1024  # more than a queue holds after a freeze
LONGEST_PACKET_BYTES = 65_535
CONTROL_CLASS = 0xC0  # DSCP CS6: network control (RFC 4594 3.1)
CONTROL_PRIORITY = 6  # TC_PRIO_CONTROL: before the services' own packets

MEMBERSHIP_4 = struct.Struct("=4s4si")  # ip_mreqn: group, own address, interface index
MEMBERSHIP_6 = struct.Struct("=16si")  # ipv6_mreq
SENDER_4 = struct.Struct("=i4s4s")  # in_pktinfo: interface index, source, unused
SENDER_6 = struct.Struct("=16si")  # in6_pktinfo: source, interface index
IP_PKTINFO = 8  # ip(7); not named by Python's socket
NUMBER = struct.Struct("=i")
ANCILLARY_BYTES = 256

Ancillary = list[tuple[int, int, bytes]]
Letter = tuple["_Ear", bytes, Ancillary, tuple[str, int]]


class Vrrp:
    """Sends and hears advertisements for all virtual routers of a kit. Never blocks.

    counters: "advert-unsent", one for each packet that the kernel would not take.
    Refused where raw sockets are not permitted.
    """

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self._ears: dict[tuple[int, str], _Ear] = {}
        self._letters: dict[tuple[str, int], list[Letter]] = {}
        self.counters = {"advert-unsent": 0}
        for group in kit.groups.values():
            for router in group.routers:
                at = router.family, router.interface
                if at not in self._ears:
                    self._ears[at] = self._listen(router)
                self._ears[at].own.add(router.source)

    def filenos(self) -> list[int]:
        """Any of them is readable when there is something to receive."""
        return [ear.socket.fileno() for ear in self._ears.values()]

    def send(self, group: str, priority: int) -> int:
        """One advertisement for each virtual router to each of its destinations; how many left."""
        letters = self._letters.get((group, priority))
        if letters is None:
            letters = self._letters[group, priority] = self._write(group, priority)
        sent = 0
        for ear, message, ancillary, destination in letters:
            try:
                ear.socket.sendmsg([message], ancillary, 0, destination)
            except OSError:  # no carrier, no route, a full queue: the next one is due soon
                self.counters["advert-unsent"] += 1
            else:
                sent += 1
        return sent

    def receive(self) -> list[AdvertSeen | PacketRefused]:
        """All that waits, from every interface."""
        seen: list[AdvertSeen | PacketRefused] = []
        for ear in self._ears.values():
            ear.receive(seen)
        return seen

    def close(self) -> None:
        for ear in self._ears.values():
            ear.socket.close()

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
        return [
            (
                self._ears[router.family, router.interface],
                vrrp_wire.encode(
                    router.family,
                    router.vrid,
                    priority,
                    interval_ms,
                    router.addresses,
                    router.source,
                    destination,
                    kept.checksum_pseudo,
                ),
                _sender(router),
                (destination, 0),
            )
            for router in kept.routers
            for destination in router.destinations
        ]


class _Ear:
    """A raw socket that sends and hears on one interface, multicast and unicast."""

    def __init__(self, router: KitRouter) -> None:
        self.interface = router.interface
        self.family = router.family
        self.own: set[str] = set()
        self.socket = _open(router)

    def receive(self, seen: list[AdvertSeen | PacketRefused]) -> None:
        read = self._read_4 if self.family == 4 else self._read_6
        for _ in range(RECEIVES_AT_ONCE):
            try:
                payload, source, destination, ttl = read()
            except BlockingIOError:
                return
            except OSError:  # ENETDOWN, once, when the link went: links are told of elsewhere
                continue
            if source not in self.own:
                multicast = destination == vrrp_wire.GROUPS[self.family]
                seen.append(
                    vrrp_wire.decode(
                        payload, self.family, source, destination, ttl, self.interface, multicast
                    )
                )

    def _read_4(self) -> tuple[bytes, str, str, int]:
        """IPv4 raw sockets deliver the header too (raw(7)); what follows its length is padding."""
        packet = self.socket.recv(LONGEST_PACKET_BYTES)
        start, end = (packet[0] & 15) * 4, int.from_bytes(packet[2:4], "big")
        source, destination = socket.inet_ntoa(packet[12:16]), socket.inet_ntoa(packet[16:20])
        return packet[start:end], source, destination, packet[8]

    def _read_6(self) -> tuple[bytes, str, str, int]:
        payload, ancillary, _, sender = self.socket.recvmsg(LONGEST_PACKET_BYTES, ANCILLARY_BYTES)
        told = {kind: value for level, kind, value in ancillary if level == socket.IPPROTO_IPV6}
        destination = socket.inet_ntop(socket.AF_INET6, told[socket.IPV6_PKTINFO][:16])
        hop_limit = NUMBER.unpack(told[socket.IPV6_HOPLIMIT])[0]
        return payload, sender[0].partition("%")[0], destination, hop_limit


def _open(router: KitRouter) -> socket.socket:
    family = socket.AF_INET if router.family == 4 else socket.AF_INET6
    group = socket.inet_pton(family, vrrp_wire.GROUPS[router.family])
    index = router.index
    if router.family == 4:
        membership = MEMBERSHIP_4.pack(group, bytes(4), index)
        options: tuple[tuple[int, int, int | bytes], ...] = (
            (socket.IPPROTO_IP, socket.IP_TOS, CONTROL_CLASS),
            (socket.IPPROTO_IP, socket.IP_TTL, vrrp_wire.HOP_LIMIT),
            (socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, vrrp_wire.HOP_LIMIT),
            (socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0),
            (socket.IPPROTO_IP, socket.IP_MULTICAST_IF, membership),
            (socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership),
        )
    else:
        membership = MEMBERSHIP_6.pack(group, index)
        options = (
            (socket.IPPROTO_IPV6, socket.IPV6_TCLASS, CONTROL_CLASS),
            (socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, vrrp_wire.HOP_LIMIT),
            (socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, vrrp_wire.HOP_LIMIT),
            (socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 0),
            (socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index),
            (socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1),
            (socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1),
            (socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, membership),
        )
    with ExitStack() as otherwise:
        ear = socket.socket(family, socket.SOCK_RAW, vrrp_wire.PROTOCOL)
        otherwise.callback(ear.close)
        ear.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, router.interface.encode())
        ear.setblocking(False)
        for level, option, value in options:
            ear.setsockopt(level, option, value)
        ear.setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY, CONTROL_PRIORITY)
        otherwise.pop_all()
    return ear


def _sender(router: KitRouter) -> Ancillary:
    """Which of our addresses a packet comes from; left to itself the kernel may take another."""
    if router.family == 4:
        source = socket.inet_aton(router.source)
        told = SENDER_4.pack(router.index, source, bytes(4))
        return [(socket.IPPROTO_IP, IP_PKTINFO, told)]
    told = SENDER_6.pack(socket.inet_pton(socket.AF_INET6, router.source), router.index)
    return [(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, told)]
