# SPDX-License-Identifier: GPL-2.0-or-later
"""rtnetlink(7) as bytes: sockets, requests, and what the kernel says. Common ground."""

import contextlib
import errno
import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

from agent.core.kit import KitAddress

SOL_NETLINK = 270
NETLINK_CAP_ACK = 10  # a refusal does not carry the whole request back
NETLINK_GET_STRICT_CHK = 12  # a dump can be asked for one interface
SO_RCVBUFFORCE = 33
KEPT_BYTES = 4 << 20  # thousands of events or refusals; past that the kernel says ENOBUFS

NLMSG_ERROR = 2
NLMSG_DONE = 3
NLM_F_REQUEST = 0x1
NLM_F_MULTI = 0x2
NLM_F_ACK = 0x4
NLM_F_DUMP_INTR = 0x10
NLM_F_DUMP = 0x300
RTM_NEWLINK = 16
RTM_DELLINK = 17
RTM_GETLINK = 18
RTM_SETLINK = 19
RTM_NEWADDR = 20
RTM_DELADDR = 21
RTM_GETADDR = 22
RTM_NEWROUTE = 24
RTM_DELROUTE = 25
EVENTS = 0x1 | 0x10 | 0x100  # RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR

IFA_ADDRESS = 1
IFA_LOCAL = 2
IFA_PROTO = 11
IFLA_ADDRESS = 1
IFLA_IFNAME = 3
IFLA_LINK = 5
IFLA_OPERSTATE = 16
IFLA_STATS64 = 23
IFF_UP = 0x1
IFF_LOWER_UP = 0x10000  # carrier
OPERSTATES_UP = (0, 6)  # IF_OPER_UNKNOWN, where a driver does not say, and IF_OPER_UP

HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
ADDRESS = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, interface index
LINK = struct.Struct("=BxHiII")  # family, type, index, flags, change
ATTRIBUTE = struct.Struct("=HH")  # length, type
ERROR = struct.Struct("=iIH")  # -errno, 0 for an ACK; length and type of what is answered
COUNT = struct.Struct("=Q")
NUMBER = struct.Struct("=I")
PID_BITS = 0x3FFFFF
FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}

TAG = 77  # IFA_PROTO and the routes' protocol: what the keeper set, for people and for clean-ups

Place = tuple[int, bytes]
"""Interface index, packed address."""


class Message(NamedTuple):
    """A netlink message; body: what follows its header."""

    kind: int
    flags: int
    sequence: int
    port: int
    body: bytes


class Answer(NamedTuple):
    """An ACK (fault 0) or a refusal (an errno) of a message of that kind."""

    sequence: int
    fault: int
    kind: int


class LinkFound(NamedTuple):
    """An interface as the kernel tells of it. parent: the number of the one below, or 0."""

    family: int
    number: int
    name: str
    mac: str
    parent: int
    flags: int
    carries: bool


class AddressFound(NamedTuple):
    """An address as the kernel tells of it. tag: IFA_PROTO, who set it, 0 where nobody says."""

    family: int
    prefix_len: int
    place: Place
    tag: int


def opened(groups: int) -> socket.socket:
    """A socket that hears these groups and never blocks, or 0: that asks."""
    route = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    with contextlib.suppress(PermissionError):
        route.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, KEPT_BYTES)
    route.bind((0, groups))
    route.setblocking(not groups)
    if not groups:
        route.setsockopt(SOL_NETLINK, NETLINK_CAP_ACK, 1)
        route.setsockopt(SOL_NETLINK, NETLINK_GET_STRICT_CHK, 1)
    return route


def request(kind: int, flags: int, body: bytes, sequence: int = 0) -> bytes:
    return HEADER.pack(HEADER.size + len(body), kind, NLM_F_REQUEST | flags, sequence, 0) + body


def link_dump() -> bytes:
    return request(RTM_GETLINK, NLM_F_DUMP, LINK.pack(0, 0, 0, 0, 0), RTM_GETLINK)


def address_dump(family: int, index: int) -> bytes:
    """Of one interface on a socket that asks, else of all whatever the index."""
    body = ADDRESS.pack(family, 0, 0, 0, index)
    return request(RTM_GETADDR, NLM_F_DUMP, body, RTM_GETADDR)


def link_question(interface: str) -> bytes:
    name = interface.encode() + b"\0"
    attribute = ATTRIBUTE.pack(ATTRIBUTE.size + len(name), IFLA_IFNAME) + name
    body = LINK.pack(0, 0, 0, 0, 0) + attribute + bytes(-len(attribute) % 4)
    return request(RTM_GETLINK, 0, body, RTM_GETLINK)


def link_down(index: int) -> bytes:
    return request(RTM_SETLINK, NLM_F_ACK, LINK.pack(0, 0, index, 0, IFF_UP), 1)


def link_removal(index: int) -> bytes:
    return request(RTM_DELLINK, NLM_F_ACK, LINK.pack(0, 0, index, 0, 0), 1)


def address_removal(found: AddressFound) -> bytes:
    index, address = found.place
    body = ADDRESS.pack(found.family, found.prefix_len, 0, 0, index)
    body += ATTRIBUTE.pack(ATTRIBUTE.size + len(address), IFA_LOCAL) + address
    return request(RTM_DELADDR, NLM_F_ACK, body, 1)


def drained(route: socket.socket) -> list[bytes]:
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


def asked(route: socket.socket, question: bytes | bytearray) -> list[Answer]:
    """What the kernel answers: it has carried everything out when `send` returns."""
    drained(route)
    route.send(question)
    return [
        Answer(message.sequence, -fault, kind)
        for data in drained(route)
        for message in messages(data)
        if message.kind == NLMSG_ERROR
        for fault, _, kind in [ERROR.unpack_from(message.body)]
    ]


def dumped(route: socket.socket, question: bytes) -> Iterator[Message]:
    """The messages that answer it, to the last one; none where it is refused."""
    drained(route)
    route.send(question)
    while True:
        for message in messages(route.recv(65536)):
            if message.kind in (NLMSG_DONE, NLMSG_ERROR):
                return
            yield message
            if not message.flags & NLM_F_MULTI:
                return


def messages(data: bytes) -> Iterator[Message]:
    at = 0
    while at + HEADER.size <= len(data):
        length, kind, flags, sequence, port = HEADER.unpack_from(data, at)
        if length < HEADER.size:
            return
        yield Message(kind, flags, sequence, port, data[at + HEADER.size : at + length])
        at += (length + 3) & ~3


def attributes(body: bytes, at: int) -> dict[int, bytes]:
    found = {}
    while at + ATTRIBUTE.size <= len(body):
        length, kind = ATTRIBUTE.unpack_from(body, at)
        if length < ATTRIBUTE.size:
            break
        found[kind] = body[at + ATTRIBUTE.size : at + length]
        at += (length + 3) & ~3
    return found


def place(entry: KitAddress) -> Place:
    return entry.index, socket.inet_pton(FAMILIES[entry.family], entry.address)


def address_found(body: bytes) -> AddressFound:
    """IFA_LOCAL is our end of an IPv4 address; IPv6 has it only on point-to-point links."""
    family, prefix_len, _, _, index = ADDRESS.unpack_from(body)
    found = attributes(body, ADDRESS.size)
    address = found.get(IFA_LOCAL) or found.get(IFA_ADDRESS, b"")
    return AddressFound(family, prefix_len, (index, address), found.get(IFA_PROTO, b"\0")[0])


def link_found(body: bytes) -> LinkFound:
    family, _, index, flags, _ = LINK.unpack_from(body)
    found = attributes(body, LINK.size)
    parent = found.get(IFLA_LINK, b"")
    carries = flags & IFF_UP and flags & IFF_LOWER_UP
    return LinkFound(
        family,
        index,
        found.get(IFLA_IFNAME, b"").rstrip(b"\0").decode(errors="replace"),
        found.get(IFLA_ADDRESS, b"").hex(":"),
        NUMBER.unpack(parent)[0] if len(parent) == NUMBER.size else 0,
        flags,
        bool(carries and found.get(IFLA_OPERSTATE, b"\0")[0] in OPERSTATES_UP),
    )


def packets_received(body: bytes) -> int:
    """rtnl_link_stats64: rx_packets stands first. -1 where the driver counts nothing."""
    stats = attributes(body, LINK.size).get(IFLA_STATS64, b"")
    return int(COUNT.unpack_from(stats)[0]) if len(stats) >= COUNT.size else -1


def author(port: int, own: set[int]) -> str:
    """Who sent a request with this port number, which is a pid as a rule (netlink(7)).

    "" for ourselves and the kernel, port 0: an address expired, or it was IPv6, which never says.
    libnl counts its sockets above the 22 bits of the pid; further ones of others the kernel numbers
    at will, below 0 if it is signed.
    """
    pid = port & PID_BITS
    if not port or port in own:
        return ""
    if port >> 31:
        return f"netlink port {port}"
    try:
        with open(f"/proc/{pid}/comm") as file:
            return f"{file.read().strip()} (pid {pid})"
    except OSError:
        return f"pid {pid}, gone by now"
