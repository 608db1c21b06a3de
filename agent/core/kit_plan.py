# SPDX-License-Identifier: GPL-2.0-or-later
"""Whom a kit speaks with and from where: drawn from the configuration and the interfaces' state."""

from ipaddress import ip_address, ip_interface

from agent.core.keeping import Keeping, KeptGroup, KeptPeer, Router
from agent.core.kit import KitAddress, KitPeer, KitRouter, Link
from agent.core.settings import AddressSettings, GroupSettings, NodeSettings, Settings
from agent.core.vrrp_wire import GROUPS

FIRST_PRIORITY = 200  # below 255, which is for an address owner (RFC 9568 5.2.4)
PRIORITY_STEP = 10
NO_MAC = "00:00:00:00:00:00"


class Host:
    """This node's interfaces, and which addresses on them are its own."""

    def __init__(self, settings: Settings, links: dict[str, Link]) -> None:
        self.node = settings.nodes[settings.node]
        self.links = links
        floating = {it.address for group in settings.groups.values() for it in group.addresses}
        self._own = {
            name: [ip_interface(f"{a}/{bits}") for a, bits in link.addresses if a not in floating]
            for name, link in links.items()
        }

    def reaches(self, interface: str, address: str) -> bool:
        """Whether an own address makes the route by which `address` is on the link."""
        wanted = ip_address(address)
        return any(
            wanted in own.network and own.network.num_addresses > 1
            for own in self._own.get(interface, ())
            if own.version == wanted.version
        )

    def link_of(self, address: str) -> str:
        """The interface on whose link the address is, "" where there is none."""
        return next((name for name in self.links if self.reaches(name, address)), "")

    def source(self, interface: str, toward: str) -> str:
        """Our own address to speak from, "" where there is none.

        A path, else one of the same network, else any; link-local toward a group or a link-local.
        """
        wanted = ip_address(toward)
        own = [it for it in self._own.get(interface, ()) if it.version == wanted.version]
        if wanted.version == 6:
            near = wanted.is_multicast or wanted.is_link_local
            own = [it for it in own if it.is_link_local == near]
        best = [it for it in own if str(it.ip) in self.node.paths]
        best += [it for it in own if wanted in it.network]
        return str((best + own)[0].ip) if own else ""

    def speaks_ethernet(self, interface: str) -> bool:
        """Whether ARP and neighbour discovery mean anything there; not on a loopback or tunnel."""
        return self.links[interface].mac not in ("", NO_MAC)


def keeping_of(settings: Settings, host: Host) -> Keeping:
    """What the keeper's core is configured with; boot 0, the keeper draws it."""
    others = {name: node for name, node in settings.nodes.items() if name != settings.node}
    return Keeping(
        node=settings.node,
        boot=0,
        groups={it.name: _kept_group(it, settings.node) for it in settings.own_groups()},
        peers={name: _kept_peer(node, host) for name, node in others.items()},
        sources={path: node.name for node in settings.nodes.values() for path in node.paths},
    )


def _kept_group(group: GroupSettings, node: str) -> KeptGroup:
    place = group.nodes.index(node)
    return KeptGroup(
        name=group.name,
        priority=max(FIRST_PRIORITY - PRIORITY_STEP * place, 1),
        place=place,
        advert_ms=group.advert_ms,
        hold_ms=group.hold_ms,
        routers=tuple(
            Router(family, vrid, interface, tuple(it.address for it in addresses))
            for (family, interface, vrid), addresses in _by_router(group).items()
        ),
        peers=tuple(name for name in group.nodes if name != node),
    )


def _kept_peer(node: NodeSettings, host: Host) -> KeptPeer:
    """Its paths as far as ours go: a path is spoken from our end of it, in its family."""
    pairs = zip(host.node.paths, node.paths, strict=False)
    paths = tuple(theirs for mine, theirs in pairs if (":" in mine) == (":" in theirs))
    found = ((host.link_of(path), path) for path in node.paths)
    asked = tuple((link, path) for link, path in found if link and host.speaks_ethernet(link))
    return KeptPeer(node.name, paths, asked)


def _by_router(group: GroupSettings) -> dict[tuple[int, str, int], list[AddressSettings]]:
    routers: dict[tuple[int, str, int], list[AddressSettings]] = {}
    for it in group.addresses:
        routers.setdefault((it.family, it.interface, it.vrid), []).append(it)
    return routers


def kit_peer(node: NodeSettings) -> KitPeer:
    return KitPeer(node.name, node.paths, node.peer_port)


def kit_addresses(group: GroupSettings, host: Host) -> tuple[KitAddress, ...]:
    """Index 0 where the interface is not there."""
    index = {name: link.index for name, link in host.links.items()}
    return tuple(
        KitAddress(it.interface, index.get(it.interface, 0), it.family, it.address)
        for it in group.addresses
    )


def kit_routers(
    group: GroupSettings, settings: Settings, host: Host
) -> tuple[tuple[KitRouter, ...], tuple[str, ...]]:
    """The group's virtual routers, and why some cannot be kept as things are."""
    routers: list[KitRouter] = []
    missing: list[str] = []
    others = [settings.nodes[name] for name in group.nodes if name != settings.node]
    for (family, interface, vrid), addresses in _by_router(group).items():
        if interface not in host.links:
            missing.append(f"interface {interface} is not there")
            continue
        destinations = _destinations(group, others, host, interface, family)
        source = host.source(interface, destinations[0])
        if not source:
            missing.append(f"interface {interface} has no IPv{family} address of its own")
            continue
        listed = tuple(it.address for it in addresses)
        index = host.links[interface].index
        routers.append(KitRouter(family, vrid, interface, index, listed, source, destinations))
    return tuple(routers), tuple(missing)


def _destinations(
    group: GroupSettings, others: list[NodeSettings], host: Host, interface: str, family: int
) -> tuple[str, ...]:
    """Each peer's first path on this link; the multicast group where one has none, or as told."""
    nearest = [
        next(
            (
                path
                for path in node.paths
                if (":" in path) == (family == 6) and host.reaches(interface, path)
            ),
            "",
        )
        for node in others
    ]
    if group.unicast and nearest and all(nearest):
        return tuple(nearest)
    return (GROUPS[family],)
