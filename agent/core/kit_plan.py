# SPDX-License-Identifier: GPL-2.0-or-later
"""Whom a kit speaks with and from where: drawn from the configuration and the interfaces' state."""

from ipaddress import ip_address, ip_interface

from agent.core.keeping import Keeping, KeptGroup, KeptPeer, LeaseTerms, Router
from agent.core.kit import KitAddress, KitPeer, KitRouter, Link, macvlan_name
from agent.core.settings import (
    AddressSettings,
    Exclusive,
    GroupSettings,
    NodeSettings,
    Settings,
)
from agent.core.vrrp_wire import GROUPS

FIRST_PRIORITY = 200  # below 255, which is for an address owner (RFC 9568 5.2.4)
PRIORITY_STEP = 10
SHORTEST_ASK_MS, LONGEST_ASK_MS = (
    10,
    25,
)  # for one question to a peer; an interval, where that is less
NO_MAC = "00:00:00:00:00:00"
MACVLAN_INDEX = 1 << 30  # macvlans are numbered from here, far from what the kernel chooses itself
MOST_PARENTS = 1 << 21

Asked = tuple[tuple[str, str], ...]
"""(interface, address): somebody who can be asked by ARP or neighbour discovery."""


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

    def asker(self, interface: str, address: str) -> str:
        """Our own address there to ask for `address` from, "" where it cannot be asked for."""
        if interface not in self.links or not self.speaks_ethernet(interface):
            return ""
        source = self.source(interface, address)
        return source or (self.source(interface, GROUPS[6]) if ":" in address else "")

    def speaks_ethernet(self, interface: str) -> bool:
        """Whether ARP and neighbour discovery mean anything there; not on a loopback or tunnel."""
        mac = self.links[interface].mac  # a tunnel's is its end's address, of another length
        return len(mac) == len(NO_MAC) and mac != NO_MAC

    def mouth(
        self, group: GroupSettings, family: int, interface: str, vrid: int
    ) -> tuple[str, int]:
        """Name and number of what carries a virtual router's addresses on an interface of ours.

        The macvlan with its virtual MAC, there or still to be made; without one the interface.
        """
        parent = self.links[interface].index
        if not group.virtual_mac:
            return interface, parent
        name = macvlan_name(family, vrid, parent)
        index = MACVLAN_INDEX | parent % MOST_PARENTS << 9 | vrid << 1 | int(family == 6)
        return name, self.links[name].index if name in self.links else index


def keeping_of(settings: Settings, host: Host) -> Keeping:
    """What the keeper's core is configured with; boot 0, the keeper draws it."""
    others = {name: node for name, node in settings.nodes.items() if name != settings.node}
    own = settings.own_groups()
    return Keeping(
        node=settings.node,
        boot=0,
        groups={it.name: _kept_group(it, host) for it in own},
        peers={name: _kept_peer(node, host) for name, node in others.items()},
        sources={path: node.name for node in settings.nodes.values() for path in node.paths},
        ask_gap_ms=min([LONGEST_ASK_MS, *(max(SHORTEST_ASK_MS, it.advert_ms) for it in own)]),
        leases=leases_of(settings),
    )


def leases_of(settings: Settings) -> dict[str, LeaseTerms]:
    """By group, all that this node has a vote on: its own groups, or as a witness every lease."""
    witnesses = tuple(name for name, node in settings.nodes.items() if node.witness)
    found: dict[str, LeaseTerms] = {}
    for group in settings.groups.values():
        if group.exclusive is Exclusive.SEGMENT:
            continue
        fence = group.exclusive is Exclusive.FENCE
        voters = group.nodes if fence else (*group.nodes, *witnesses)
        if settings.node in voters:
            fence = fence or any(settings.nodes[name].fence for name in group.nodes)
            found[group.name] = LeaseTerms(group.nodes, voters, group.lease_ms, fence)
    return found


def _kept_group(group: GroupSettings, host: Host) -> KeptGroup:
    place = group.nodes.index(host.node.name)
    routers = tuple(
        Router(family, vrid, interface, tuple(it.address for it in addresses))
        for (family, interface, vrid), addresses in _by_router(group).items()
    )
    first = [(it.interface, it.addresses[0]) for it in routers]
    gateways = [
        (interface, address)
        for address in group.gateways
        for interface in _links_of(address, group, host)
    ]
    return KeptGroup(
        name=group.name,
        priority=_priority(group, place),
        place=place,
        advert_ms=group.advert_ms,
        hold_ms=group.hold_ms,
        routers=routers,
        peers=tuple(name for name in group.nodes if name != host.node.name),
        plain=group.plain_peers,
        gateways=_askable(gateways, host),
        probed=_askable(first, host),
        apart=group.break_first,
        drain_ms=group.drain_ms,
        form="pseudo" if group.checksum_pseudo else "plain",
    )


def _priority(group: GroupSettings, place: int) -> int:
    if group.priorities:
        return group.priorities[place]
    return max(FIRST_PRIORITY - PRIORITY_STEP * place, 1)


def _links_of(address: str, group: GroupSettings, host: Host) -> list[str]:
    """Where a neighbour of the group is: one of its interfaces, or else another one of ours.

    A link-local address says nothing of its link: it belongs to each of the group's for IPv6.
    """
    own = list(
        dict.fromkeys(it.interface for it in group.addresses if it.family == _family(address))
    )
    if _is_link_local(address):
        return own
    near = [name for name in own if host.reaches(name, address)]
    return (near or [host.link_of(address)])[:1]


def _askable(wanted: list[tuple[str, str]], host: Host) -> Asked:
    return tuple((link, address) for link, address in wanted if host.asker(link, address))


def _family(address: str) -> int:
    return 6 if ":" in address else 4


def _is_link_local(address: str) -> bool:
    """IPv6 only: IPv4 has one such network, not one for each link."""
    return ":" in address and ip_address(address).is_link_local


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
    return tuple(
        KitAddress(
            it.interface,
            host.mouth(group, it.family, it.interface, it.vrid)[1]
            if it.interface in host.links
            else 0,
            it.family,
            it.address,
        )
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
        if group.virtual_mac and not host.speaks_ethernet(interface):
            missing.append(f"interface {interface} has no MAC: virtual_mac cannot be used there")
            continue
        destinations = _destinations(group, others, host, interface, family)
        near = [it for it in destinations if _is_link_local(it) or ip_address(it).is_multicast]
        source = host.source(interface, (near or destinations)[0])
        if not source:
            missing.append(f"interface {interface} has no IPv{family} address of its own")
            continue
        listed = _listed(group, [it.address for it in addresses], host, interface, family)
        index = host.links[interface].index
        mouth = host.mouth(group, family, interface, vrid)
        routers.append(
            KitRouter(family, vrid, interface, index, listed, source, destinations, mouth)
        )
    return tuple(routers), tuple(missing)


def _listed(
    group: GroupSettings, floating: list[str], host: Host, interface: str, family: int
) -> tuple[str, ...]:
    """As advertised: RFC 9568 5.2.9 wants a link-local first, a floating one or else our own."""
    if family == 4 or not group.link_local_first:
        return tuple(floating)
    first = [it for it in floating if _is_link_local(it)]
    own = [] if first else [host.source(interface, GROUPS[6])]
    return tuple(filter(None, [*own, *sorted(floating, key=lambda it: it not in first)]))


def _destinations(
    group: GroupSettings, others: list[NodeSettings], host: Host, interface: str, family: int
) -> tuple[str, ...]:
    """Each peer's first path on this link; the multicast group where one has none, or as told.

    Plain peers are sent to by themselves unless all is multicast.
    """
    if not group.unicast:
        return (GROUPS[family],)
    nearest = [
        next(
            (
                path
                for path in node.paths
                if _family(path) == family and host.reaches(interface, path)
            ),
            "",
        )
        for node in others
    ]
    plain = [
        it
        for it in group.plain_peers
        if _family(it) == family and (_is_link_local(it) or host.reaches(interface, it))
    ]
    if all(nearest) and (nearest or plain):
        return (*nearest, *plain)
    return (GROUPS[family], *plain)
