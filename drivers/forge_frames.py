# SPDX-License-Identifier: GPL-2.0-or-later
"""Ethernet frames that announce and ask for addresses, built with scapy. Part of the forge."""

from ipaddress import ip_address

from scapy.config import conf

from agent.core.kit_plan import NO_MAC

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

BROADCAST_MAC = "ff:ff:ff:ff:ff:ff"
ALL_NODES = "ff02::1"
ALL_NODES_MAC = "33:33:00:00:00:01"
HOP_LIMIT = 255


def announcement(mac: str, address: str, *, router: bool) -> bytes:
    """Gratuitous ARP as a request (RFC 5227 3), or an overriding advertisement (RFC 4861 7.2.6)."""
    if ":" not in address:
        return _arp_request(mac, address, address)
    frame = (
        Ether(src=mac, dst=ALL_NODES_MAC)
        / IPv6(src=address, dst=ALL_NODES, hlim=HOP_LIMIT)
        / ICMPv6ND_NA(tgt=address, R=int(router), S=0, O=1)
        / ICMPv6NDOptDstLLAddr(lladdr=mac)
    )
    return bytes(frame)


def question(mac: str, source: str, address: str) -> bytes:
    """ARP request, or neighbour solicitation to the solicited-node group (RFC 4861 7.2.2)."""
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
