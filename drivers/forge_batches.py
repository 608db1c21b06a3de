# SPDX-License-Identifier: GPL-2.0-or-later
"""Netlink batches that take, park and release a group, built with pyroute2. Part of the forge.

IPv4 addresses are set as /32: the kernel then counts none of them as secondary to another one, so
that releasing one never takes others along, and does not choose one as the source of what this
host sends by itself. IPv6 addresses are set deprecated (preferred lifetime 0) for the latter.
Where no address of the host's own makes the route to their network, they bring it.

What is taken goes by itself when nobody refreshes it: addresses have a lifetime, the kernel removes
an IPv4 route together with the address that is its source, and IPv6 routes have a lifetime too.
"""

import struct
from collections.abc import Iterable, Iterator
from ipaddress import ip_interface, ip_network
from socket import AF_INET, AF_INET6
from typing import Any

from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from agent.core.kit import Batch, virtual_mac
from agent.core.kit_plan import Host
from agent.core.settings import AddressSettings, GroupSettings, RouteSettings
from drivers.rtnetlink import TAG

LONGEST_BATCH_BYTES = 200 << 10  # a netlink socket's send buffer is 212,992 bytes by default
RTM_NEWLINK = 16
RTM_SETLINK = 19
RTM_NEWADDR = 20
RTM_DELADDR = 21
RTM_NEWROUTE = 24
RTM_DELROUTE = 25
NLM_F_REQUEST = 0x1
NLM_F_ACK = 0x4
NLM_F_REPLACE = 0x100
NLM_F_EXCL = 0x200
NLM_F_CREATE = 0x400

IFA_F_NODAD = 0x02
IFA_F_NOPREFIXROUTE = 0x200
IFA_CACHEINFO = 6
FAMILIES = {4: AF_INET, 6: AF_INET6}
LOOPBACK_INDEX = 1  # in every network namespace
IFF_UP = 0x1
ADDRGENMODE_NONE = 1

ROUTE_METRIC = 7000  # plus the vrid: behind the host's own routes, and one for each group
FIRST_METRIC_6 = 1000  # where none is given: before the 1024 of routes made by hand and by RA
RTA_EXPIRES = 23
SECOND = struct.pack("=I", 1)  # patched to the lifetime before it is sent
RTNH_F_ONLINK = 4
RT_TABLE_COMPAT = 252  # the number is in RTA_TABLE
RT_TABLE_MAIN = 254
RT_SCOPE_UNIVERSE = 0
RT_SCOPE_LINK = 253
RTN_UNICAST = 1

HEADERS = {RTM_NEWADDR: 24, RTM_NEWROUTE: 28}  # bytes: nlmsghdr and ifaddrmsg or rtmsg

Attributes = list[tuple[str, Any]]


def preparing(group: GroupSettings, host: Host) -> tuple[Batch, ...]:
    """Makes the macvlans that carry the group's virtual MACs, where they are not there yet.

    Down, and without an address of their own: only who has the group may be heard from that MAC.
    """
    return _batches(_macvlans(group, host))


def clearing(group: GroupSettings, host: Host) -> tuple[Batch, ...]:
    """Removes what an earlier hand-over parked, and IPv6 routes that lost their source."""
    return _batches(_clearing(group, host))


def taking(group: GroupSettings, host: Host) -> tuple[Batch, ...]:
    """Sets everything, or renews what is there already without disturbing it."""
    return _batches(_taking(group, host))


def parking(group: GroupSettings) -> tuple[Batch, ...]:
    """Sets the addresses on the loopback interface, where no neighbour is told of them."""
    return _batches(_parking(group)) if group.drain_ms else ()


def releasing(group: GroupSettings, host: Host) -> tuple[Batch, ...]:
    """Removes everything; what has a virtual MAC falls silent first."""
    return _batches(_releasing(group, host))


def _macvlans(group: GroupSettings, host: Host) -> Iterator[bytes]:
    for number, it, name, index in _mouths(group, host):
        mode = {"attrs": [("IFLA_MACVLAN_MODE", "bridge")]}
        made: Attributes = [
            ("IFLA_LINK", host.links[it.interface].index),
            ("IFLA_IFNAME", name),
            ("IFLA_ADDRESS", virtual_mac(it.family, it.vrid)),
            ("IFLA_LINKINFO", {"attrs": [("IFLA_INFO_KIND", "macvlan"), ("IFLA_INFO_DATA", mode)]}),
        ]
        yield _link_message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, number, index, made)
        quiet = {"attrs": [("IFLA_INET6_ADDR_GEN_MODE", ADDRGENMODE_NONE)]}
        families: Attributes = [("IFLA_AF_SPEC", {"attrs": [("AF_INET6", quiet)]})]
        yield _link_message(RTM_SETLINK, 0, number, index, families)


def _clearing(group: GroupSettings, host: Host) -> Iterator[bytes]:
    if group.drain_ms:
        for number, it in _parked(group):
            yield _old_address(number, LOOPBACK_INDEX, it, 128)
    for route in group.routes:
        if route.family == 6:
            yield _group_route(RTM_DELROUTE, 0, route, group, host)


def _taking(group: GroupSettings, host: Host) -> Iterator[bytes]:
    for number, _, _, index in _mouths(group, host):
        yield _link_message(RTM_SETLINK, 0, number, index, [], up=True)
    routed: set[Any] = set()
    for number, it in enumerate(group.addresses, 1):
        index = host.mouth(group, it.family, it.interface, it.vrid)[1]
        brings_route = not host.reaches(it.interface, it.address)
        if group.virtual_mac and it.family == 6 and ip_interface(it.address).is_link_local:
            brings_route = True  # each interface has its own fe80::/64
        flags = IFA_F_NODAD if it.family == 6 else 0
        if it.family == 4 or not brings_route:
            flags |= IFA_F_NOPREFIXROUTE
        yield _new_address(number, index, it, it.prefix_len, flags)
        network = ip_interface(f"{it.address}/{it.prefix_len}").network
        if it.family == 4 and brings_route and it.prefix_len < 32 and network not in routed:
            routed.add(network)
            yield _network_route(number, index, it, str(network.network_address))
    for route in group.routes:
        yield _group_route(RTM_NEWROUTE, NLM_F_CREATE, route, group, host)


def _parking(group: GroupSettings) -> Iterator[bytes]:
    for number, it in _parked(group):
        flags = IFA_F_NOPREFIXROUTE | (IFA_F_NODAD if it.family == 6 else 0)
        yield _new_address(number, LOOPBACK_INDEX, it, 128, flags)


def _parked(group: GroupSettings) -> Iterator[tuple[int, AddressSettings]]:
    """A link-local address is none of this host on another link."""
    for number, it in enumerate(group.addresses, 1):
        if it.family == 4 or not ip_interface(it.address).is_link_local:
            yield number, it


def _releasing(group: GroupSettings, host: Host) -> Iterator[bytes]:
    for route in group.routes:
        yield _group_route(RTM_DELROUTE, 0, route, group, host)
    for number, _, _, index in _mouths(group, host):
        yield _link_message(RTM_SETLINK, 0, number, index, [], up=False)
    for number, it in enumerate(group.addresses, 1):
        index = host.mouth(group, it.family, it.interface, it.vrid)[1]
        yield _old_address(number, index, it, it.prefix_len)


def _mouths(group: GroupSettings, host: Host) -> Iterator[tuple[int, AddressSettings, str, int]]:
    """Each macvlan once: the number of its first address, that address, its name and index."""
    seen: set[int] = set()
    for number, it in enumerate(group.addresses, 1) if group.virtual_mac else ():
        name, index = host.mouth(group, it.family, it.interface, it.vrid)
        if index not in seen:
            seen.add(index)
            yield number, it, name, index


def _link_message(
    kind: int, flags: int, number: int, index: int, attributes: Attributes, up: bool | None = None
) -> bytes:
    message = ifinfmsg()
    message["index"] = index
    message["attrs"] = attributes
    if up is not None:
        message["flags"] = IFF_UP if up else 0
        message["change"] = IFF_UP
    return _encoded(message, kind, flags, number)


def _new_address(number: int, index: int, it: AddressSettings, bits: int, flags: int) -> bytes:
    attributes = [
        ("IFA_ADDRESS", it.address),
        ("IFA_FLAGS", flags),
        ("IFA_PROTO", TAG),
        ("IFA_CACHEINFO", {"ifa_preferred": int(it.family == 4), "ifa_valid": 1}),
    ]
    replace = NLM_F_CREATE | NLM_F_REPLACE
    return _address_message(RTM_NEWADDR, replace, number, index, it, bits, attributes)


def _old_address(number: int, index: int, it: AddressSettings, bits: int) -> bytes:
    """IPv4 addresses go whatever prefix somebody gave them: IFA_ADDRESS alone would bind it."""
    named = [] if it.family == 4 else [("IFA_ADDRESS", it.address)]
    return _address_message(RTM_DELADDR, 0, number, index, it, bits, named)


def _address_message(
    kind: int,
    flags: int,
    number: int,
    index: int,
    it: AddressSettings,
    bits: int,
    attributes: Attributes,
) -> bytes:
    message = ifaddrmsg()
    message["family"] = FAMILIES[it.family]
    message["prefixlen"] = 32 if it.family == 4 else bits
    message["index"] = index
    message["attrs"] = [("IFA_LOCAL", it.address), *attributes]
    return _encoded(message, kind, flags, number)


def _network_route(number: int, index: int, it: AddressSettings, network: str) -> bytes:
    message = rtmsg()
    message["family"] = AF_INET
    message["dst_len"] = it.prefix_len
    message["table"] = RT_TABLE_MAIN
    message["proto"] = TAG
    message["scope"] = RT_SCOPE_LINK
    message["type"] = RTN_UNICAST
    message["attrs"] = [
        ("RTA_DST", network),
        ("RTA_OIF", index),
        ("RTA_PREFSRC", it.address),
        ("RTA_PRIORITY", ROUTE_METRIC + it.vrid),
    ]
    return _encoded(message, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, number)


def _group_route(
    kind: int, flags: int, route: RouteSettings, group: GroupSettings, host: Host
) -> bytes:
    """Set without REPLACE, which would take the place of somebody's route of the same metric.

    IPv4: it goes before such a one, and is left alone where it is there already (EEXIST). IPv6:
    only its lifetime is renewed then (EEXIST too), so that it needs a metric of its own.

    With a virtual MAC IPv4 leaves by that; IPv6 must leave where the next hop's network is.
    """
    number, source = next(
        (number, it) for number, it in enumerate(group.addresses, 1) if it.address == route.source
    )
    index = host.links[route.interface].index
    near = host.reaches(route.interface, route.via) if route.via else True
    if group.virtual_mac and source.family == 4 and source.interface == route.interface:
        index = host.mouth(group, 4, source.interface, source.vrid)[1]
        near = False
    message = rtmsg()
    message["family"] = FAMILIES[route.family]
    message["table"] = RT_TABLE_COMPAT
    message["proto"] = TAG
    message["scope"] = RT_SCOPE_UNIVERSE if route.via or route.family == 6 else RT_SCOPE_LINK
    message["type"] = RTN_UNICAST
    metric = route.metric or (FIRST_METRIC_6 if route.family == 6 else 0)
    attributes: Attributes = [
        ("RTA_TABLE", route.table),
        ("RTA_OIF", index),
        ("RTA_PREFSRC", route.source),
        ("RTA_PRIORITY", metric),
    ]
    if route.to != "default":
        network = ip_network(route.to)
        message["dst_len"] = network.prefixlen
        attributes.append(("RTA_DST", str(network.network_address)))
    if route.via:
        attributes.append(("RTA_GATEWAY", route.via))
        message["flags"] = 0 if near else RTNH_F_ONLINK
    if route.family == 6 and kind == RTM_NEWROUTE:
        attributes.append(("RTA_EXPIRES", SECOND.hex(":")))
    message["attrs"] = attributes
    return _encoded(message, kind, flags, number)


def _encoded(message: Any, kind: int, flags: int, number: int) -> bytes:
    message["header"]["type"] = kind
    message["header"]["flags"] = NLM_F_REQUEST | flags
    message["header"]["sequence_number"] = number
    message.encode()
    return bytes(message.data)


def _batches(messages: Iterable[bytes]) -> tuple[Batch, ...]:
    """As few sends as fit; only the last message of each asks for an ACK."""
    gathered: list[list[bytes]] = [[]]
    length = 0
    for message in messages:
        if length + len(message) > LONGEST_BATCH_BYTES:
            gathered.append([])
            length = 0
        gathered[-1].append(message)
        length += len(message)
    return tuple(_batch(part) for part in gathered if part)


def _batch(messages: list[bytes]) -> Batch:
    flags = struct.unpack_from("=H", messages[-1], 6)[0] | NLM_F_ACK
    last = messages[-1][:6] + struct.pack("=H", flags) + messages[-1][8:]
    lifetimes: list[int] = []
    start = 0
    for message in messages:
        lifetimes += [start + at for at in _lifetimes(message)]
        start += len(message)
    return Batch(b"".join([*messages[:-1], last]), tuple(lifetimes))


def _lifetimes(message: bytes) -> list[int]:
    """Where the lifetimes lie (ifa_cacheinfo: preferred, valid; RTA_EXPIRES), those not 0."""
    kind = struct.unpack_from("=H", message, 4)[0]
    at = HEADERS.get(kind, len(message))
    while at < len(message):
        length, attribute = struct.unpack_from("=HH", message, at)
        if (kind, attribute) == (RTM_NEWADDR, IFA_CACHEINFO):
            return [place for place in (at + 4, at + 8) if any(message[place : place + 4])]
        if (kind, attribute) == (RTM_NEWROUTE, RTA_EXPIRES):
            return [at + 4]
        at += (length + 3) & ~3
    return []
