# SPDX-License-Identifier: GPL-2.0-or-later
"""What a kit is forged from: interfaces and own addresses as they are now, and a mark of it all."""

import hashlib
import os
import socket
import sys
from pathlib import Path

from agent.core.kit import VERSION, Link, macvlan_name, virtual_mac
from agent.core.kit_plan import MACVLAN_INDEX, MOST_PARENTS
from agent.core.settings import Settings
from drivers import rtnetlink as net

READINGS = 5  # if the last one is wrong too, the keeper says that its kit is stale


def read_links() -> dict[str, Link]:
    """The interfaces of this network namespace with the host's own addresses. Raises OSError."""
    with net.opened(0) as route:
        return links_in(settled(route))


def links_in(told: list[net.Message]) -> dict[str, Link]:
    """What the kernel's messages say."""
    own: dict[int, list[tuple[str, int]]] = {}
    for it in (net.address_found(it.body) for it in told if it.kind == net.RTM_NEWADDR):
        if it.tag == net.TAG or it.family not in net.FAMILIES.values():
            continue  # a floating one, perhaps of an older configuration; or not of IP at all
        index, packed = it.place
        own.setdefault(index, []).append((socket.inet_ntop(it.family, packed), it.prefix_len))
    return {
        it.name: Link(it.name, it.number, it.mac, tuple(own.get(it.number, ())), _forwards(it.name))
        for it in (net.link_found(it.body) for it in told if it.kind == net.RTM_NEWLINK)
    }


def settled(route: socket.socket) -> list[net.Message]:
    """Links and addresses, read again where they changed meanwhile, a few times at most."""
    told: list[net.Message] = []
    for _ in range(READINGS):
        told = [
            *net.dumped(route, net.link_dump()),
            *net.dumped(route, net.address_dump(socket.AF_UNSPEC, 0)),
        ]
        if not any(it.flags & net.NLM_F_DUMP_INTR for it in told):
            break
    return told


def _forwards(interface: str) -> bool:
    try:
        return Path("/proc/sys/net/ipv6/conf", interface, "forwarding").read_text().strip() != "0"
    except OSError:  # no IPv6 there, or it went away meanwhile
        return False


def fingerprint(settings: Settings, links: dict[str, Link]) -> str:
    """SHA-256, hex, of all that a kit is made from: where it is the same, so is the kit.

    What the keeper itself adds makes no difference: floating addresses, macvlans of ours.
    """
    floating = {it.address for group in settings.groups.values() for it in group.addresses}
    found = sorted(
        (
            it.name,
            it.index,
            it.mac,
            [own for own in it.addresses if own[0] not in floating],
            it.forwarding,
        )
        for it in links.values()
        if not _is_of_a_kit(it)
    )
    whole = (VERSION, _installed(), settings.digest, settings.node, found)
    return hashlib.sha256(repr(whole).encode()).hexdigest()


def _is_of_a_kit(link: Link) -> bool:
    """A macvlan of ours with the number that Host.mouth gave it; another one needs a new kit."""
    family, vrid = 6 if link.index & 1 else 4, link.index >> 1 & 0xFF
    name = macvlan_name(family, vrid, link.index >> 9 & (MOST_PARENTS - 1))
    wanted = name, virtual_mac(family, vrid)
    return link.index >= MACVLAN_INDEX and (link.name, link.mac) == wanted


def _installed() -> str:
    """The folder that says which version is installed, "standpipe-0.1.0.dist-info", or "".

    importlib.metadata knows too, and takes 30 ms to be there.
    """
    for folder in sys.path:
        try:
            for name in os.listdir(folder or "."):
                if name.startswith("standpipe-") and name.endswith(".dist-info"):
                    return name
        except OSError:
            continue  # sys.path names what is not there, and archives
    return ""
