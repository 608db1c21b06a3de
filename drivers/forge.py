# SPDX-License-Identifier: GPL-2.0-or-later
"""Forges the keeper's kit in a short-lived process: batches with pyroute2, frames with scapy.

    python -m drivers.forge --config FILE [--node NAME] --run-dir DIR      writes DIR/kit.json

IPv4 addresses are set as /32: the kernel then counts none of them as secondary to another one, so
that releasing one never takes others along, and does not choose one as the source of what this
host sends by itself. IPv6 addresses are set deprecated (preferred lifetime 0) for the latter.
Where no address of the host's own makes the route to their network, they bring it.
"""

import argparse
import os
import struct
import sys
from collections.abc import Iterable
from ipaddress import ip_address, ip_interface
from pathlib import Path
from socket import AF_INET, AF_INET6
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg
from scapy.config import conf

from agent.core.kit import Batch, Kit, KitFrame, KitGroup, KitQuestion, Link, dump
from agent.core.kit_plan import (
    NO_MAC,
    Host,
    keeping_of,
    kit_addresses,
    kit_peer,
    kit_routers,
)
from agent.core.settings import AddressSettings, GroupSettings, Settings

conf.route_autoload = False  # frames name both ends: no routes need be read
conf.route6_autoload = False
from scapy.layers.inet6 import (  # noqa: E402
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
)
from scapy.layers.l2 import ARP, Ether  # noqa: E402

LONGEST_BATCH_BYTES = 200 << 10  # a netlink socket's send buffer is 212,992 bytes by default
RTM_NEWADDR = 20
RTM_DELADDR = 21
RTM_NEWROUTE = 24
NLM_F_REQUEST = 0x1
NLM_F_ACK = 0x4
NLM_F_REPLACE = 0x100
NLM_F_EXCL = 0x200
NLM_F_CREATE = 0x400
IFA_F_NODAD = 0x02
IFA_F_NOPREFIXROUTE = 0x200
IFA_CACHEINFO = 6
ADDRESS_HEADER_BYTES = 24  # nlmsghdr and ifaddrmsg
TAG = 77  # IFA_PROTO and the routes' protocol: whose they are, for people and for clean-ups
ROUTE_METRIC = 7000  # plus the vrid: behind the host's own routes, and one for each group
RT_TABLE_MAIN = 254
RT_SCOPE_LINK = 253
RTN_UNICAST = 1

BROADCAST_MAC = "ff:ff:ff:ff:ff:ff"
ALL_NODES = "ff02::1"
ALL_NODES_MAC = "33:33:00:00:00:01"
HOP_LIMIT = 255


def forge(settings: Settings, links: dict[str, Link]) -> Kit:
    """The kit of `settings.node` for the interfaces as they are now; the keeper draws the boot."""
    host = Host(settings, links)
    keeping = keeping_of(settings, host)
    questions = [pair for peer in keeping.peers.values() for pair in peer.asked]
    interfaces = {it.interface for group in settings.own_groups() for it in group.addresses}
    interfaces |= {interface for interface, _ in questions}
    return Kit(
        keeping=keeping,
        own=kit_peer(host.node),
        key_file=settings.key_file,
        digest=settings.digest,
        peers={name: kit_peer(settings.nodes[name]) for name in keeping.peers},
        interfaces={
            name: (links[name].index, links[name].mac) if name in links else (0, "")
            for name in sorted(interfaces)
        },
        groups={it.name: _kit_group(it, settings, host) for it in settings.own_groups()},
        questions=tuple(
            KitQuestion(interface, address, _question(host, interface, address))
            for interface, address in questions
        ),
    )


def _kit_group(group: GroupSettings, settings: Settings, host: Host) -> KitGroup:
    addresses = kit_addresses(group, host)
    routers, missing = kit_routers(group, settings, host)
    if missing:
        return KitGroup(addresses, (), (), (), (), group.checksum_pseudo, missing)
    return KitGroup(
        addresses=addresses,
        routers=routers,
        take=_batches(_taking(group, host)),
        release=_batches(_releasing(group, host)),
        announcements=tuple(
            KitFrame(it.interface, _announcement(host.links[it.interface], it.address))
            for it in group.addresses
            if host.speaks_ethernet(it.interface)
        ),
        checksum_pseudo=group.checksum_pseudo,
    )


# ---------------------------------------------------------------- netlink


def _taking(group: GroupSettings, host: Host) -> Iterable[bytes]:
    routed: set[Any] = set()
    for number, it in enumerate(group.addresses, 1):
        link = host.links[it.interface]
        brings_route = not host.reaches(it.interface, it.address)
        flags = IFA_F_NODAD if it.family == 6 else 0
        if it.family == 4 or not brings_route:
            flags |= IFA_F_NOPREFIXROUTE
        lifetimes = {"ifa_preferred": int(it.family == 4), "ifa_valid": 1}
        attributes = [
            ("IFA_ADDRESS", it.address),
            ("IFA_FLAGS", flags),
            ("IFA_PROTO", TAG),
            ("IFA_CACHEINFO", lifetimes),
        ]
        yield _address_message(
            RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, number, link.index, it, attributes
        )
        network = ip_interface(f"{it.address}/{it.prefix_len}").network
        if it.family == 4 and brings_route and it.prefix_len < 32 and network not in routed:
            routed.add(network)
            yield _route_message(number, link.index, it, str(network.network_address))


def _releasing(group: GroupSettings, host: Host) -> Iterable[bytes]:
    """The kernel removes an IPv4 route together with its source, an IPv6 one when it expires.

    IPv4 addresses go whatever prefix somebody gave them: IFA_ADDRESS alone would bind it.
    """
    for number, it in enumerate(group.addresses, 1):
        named = [] if it.family == 4 else [("IFA_ADDRESS", it.address)]
        yield _address_message(RTM_DELADDR, 0, number, host.links[it.interface].index, it, named)


def _address_message(
    kind: int,
    flags: int,
    number: int,
    index: int,
    it: AddressSettings,
    attributes: list[tuple[str, Any]],
) -> bytes:
    message = ifaddrmsg()
    message["family"] = AF_INET if it.family == 4 else AF_INET6
    message["prefixlen"] = 32 if it.family == 4 else it.prefix_len
    message["index"] = index
    message["attrs"] = [("IFA_LOCAL", it.address), *attributes]
    return _encoded(message, kind, flags, number)


def _route_message(number: int, index: int, it: AddressSettings, network: str) -> bytes:
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
    """Where the preferred and the valid lifetime lie (ifa_cacheinfo), those that are not 0."""
    at = ADDRESS_HEADER_BYTES
    while struct.unpack_from("=H", message, 4)[0] == RTM_NEWADDR and at < len(message):
        length, kind = struct.unpack_from("=HH", message, at)
        if kind == IFA_CACHEINFO:
            places = (at + 4, at + 8)
            return [place for place in places if any(message[place : place + 4])]
        at += (length + 3) & ~3
    return []


# ---------------------------------------------------------------- frames


def _announcement(link: Link, address: str) -> bytes:
    """Gratuitous ARP as a request (RFC 5227 3), or an overriding advertisement (RFC 4861 7.2.6)."""
    if ":" not in address:
        return _arp_request(link.mac, address, address)
    says = ICMPv6ND_NA(tgt=address, R=int(link.forwarding), S=0, O=1)
    frame = (
        Ether(src=link.mac, dst=ALL_NODES_MAC)
        / IPv6(src=address, dst=ALL_NODES, hlim=HOP_LIMIT)
        / says
        / ICMPv6NDOptDstLLAddr(lladdr=link.mac)
    )
    return bytes(frame)


def _question(host: Host, interface: str, address: str) -> bytes:
    """ARP request, or neighbour solicitation to the solicited-node group (RFC 4861 7.2.2)."""
    mac, source = host.links[interface].mac, host.source(interface, address)
    if ":" not in address:
        return _arp_request(mac, source, address)
    last = ip_address(address).packed[-3:].hex()
    group = f"ff02::1:ff{last[:2]}:{last[2:]}"
    frame = (
        Ether(src=mac, dst=f"33:33:ff:{last[:2]}:{last[2:4]}:{last[4:]}")
        / IPv6(src=source, dst=group, hlim=HOP_LIMIT)
        / ICMPv6ND_NS(tgt=address)
        / ICMPv6NDOptSrcLLAddr(lladdr=mac)
    )
    return bytes(frame)


def _arp_request(mac: str, source: str, target: str) -> bytes:
    says = ARP(op="who-has", hwsrc=mac, psrc=source, hwdst=NO_MAC, pdst=target)
    return bytes(Ether(src=mac, dst=BROADCAST_MAC) / says)


# ---------------------------------------------------------------- the process


def read_links() -> dict[str, Link]:
    """The interfaces and addresses of this network namespace."""
    with IPRoute() as route:
        names = {it["index"]: it for it in route.get_links()}
        addresses: dict[int, list[tuple[str, int]]] = {index: [] for index in names}
        for it in route.get_addr():
            local = it.get_attr("IFA_LOCAL") or it.get_attr("IFA_ADDRESS")
            addresses.setdefault(it["index"], []).append((local, it["prefixlen"]))
    links = {}
    for index, it in names.items():
        name, mac = it.get_attr("IFLA_IFNAME"), it.get_attr("IFLA_ADDRESS") or ""
        links[name] = Link(name, index, mac, tuple(addresses[index]), _forwards(name))
    return links


def _forwards(interface: str) -> bool:
    path = Path("/proc/sys/net/ipv6/conf", interface, "forwarding")
    return path.exists() and path.read_text().strip() != "0"


def write(kit: Kit, run_dir: Path) -> Path:
    """RUN_DIR/kit.json, whole or not at all, for the owner's eyes only."""
    run_dir.mkdir(parents=True, exist_ok=True)
    path, fresh = run_dir / "kit.json", run_dir / f".kit.json.{os.getpid()}"
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(dump(kit))
    fresh.replace(path)
    return path


def main(argv: list[str]) -> int:
    from agent.config import ConfigError, load

    parser = argparse.ArgumentParser(prog="python -m drivers.forge", description=__doc__)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--node", help="default: the one with this host's name")
    parser.add_argument("--run-dir", type=Path, required=True)
    options = parser.parse_args(argv)
    try:
        settings = load(options.config, options.node)
        if not settings.node:
            print(f"forge: {options.config} has no node: there is nothing to keep", file=sys.stderr)
            return 1
        write(forge(settings, read_links()), options.run_dir)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        print(f"forge: {options.run_dir}: {error.strerror}; the kit is not forged", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
