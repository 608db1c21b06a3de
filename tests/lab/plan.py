# SPDX-License-Identifier: GPL-2.0-or-later
"""Which hosts there are, their cables and addresses: two whole sites, or a few nodes on one LAN.

Site LANs are 10.1.0.0/24 (london) and 10.2.0.0/24 (paris), the network that only peers use is
10.9.0.0/24, and 192.0.2.0/24 (core) holds the client, the name servers and the NMS. Each
10.N.0.0/24 has its fd00:N::/64, the core fd00:c::/64; a host ends in the same digits in both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tests.lab.netns import Cable

ROUTER = "router"
LONDON, PARIS, PEERS, CORE = "london", "paris", "peers", "core"
LAN, SECOND = "eth0", "eth1"  # a node's interface in its site's LAN, and in the peers' network
CLIENT, PRIMARY, SECONDARY, RESOLVER, NMS, UPS = "client", "ns1", "ns2", "resolver", "nms", "ups1"

_NETWORKS = {
    LONDON: ("10.1.0.", "fd00:1::"),
    PARIS: ("10.2.0.", "fd00:2::"),
    PEERS: ("10.9.0.", "fd00:9::"),
    CORE: ("192.0.2.", "fd00:c::"),
}


@dataclass(frozen=True)
class Plan:
    """`sites` maps a site to its nodes, preferred first; `gateways` a host to its next hops."""

    networks: tuple[str, ...]
    cables: tuple[Cable, ...]
    sites: dict[str, tuple[str, ...]]
    gateways: dict[str, tuple[str, ...]]

    @property
    def hosts(self) -> list[str]:
        return list(dict.fromkeys(cable.host for cable in self.cables))

    @property
    def nodes(self) -> list[str]:
        return [node for nodes in self.sites.values() for node in nodes]

    def site_of(self, node: str) -> str:
        return next(site for site, nodes in self.sites.items() if node in nodes)


def addresses(network: str, number: int) -> tuple[str, ...]:
    """A host's IPv4 and IPv6 address in a network, with prefix lengths."""
    four, six = _NETWORKS[network]
    return f"{four}{number}/24", f"{six}{number}/64"


def gateways(network: str) -> tuple[str, ...]:
    """The router's addresses in a network."""
    return tuple(address.split("/")[0] for address in addresses(network, 1))


def two_sites() -> Plan:
    """lon1, lon2, par1, par2 with two paths each, a router, and everything Standpipe speaks to."""
    networks = (LONDON, PARIS, PEERS, CORE)
    sites: dict[str, tuple[str, ...]] = {LONDON: ("lon1", "lon2"), PARIS: ("par1", "par2")}
    cables = [
        Cable(ROUTER, f"eth{index}", network, addresses(network, 1))
        for index, network in enumerate((LONDON, PARIS, CORE))
    ]
    for number, node in ((11, "lon1"), (12, "lon2")):
        cables += _node(node, LONDON, number, second=number)
    for number, node in ((11, "par1"), (12, "par2")):
        cables += _node(node, PARIS, number, second=number + 10)
    single = {UPS: (LONDON, 60), PRIMARY: (CORE, 53), SECONDARY: (CORE, 54), RESOLVER: (CORE, 55)}
    single |= {CLIENT: (CORE, 100), NMS: (CORE, 200)}
    cables += [
        Cable(host, LAN, network, addresses(network, number))
        for host, (network, number) in single.items()
    ]
    routes = {host: gateways(network) for host, (network, _) in single.items()}
    routes |= {node: gateways(site) for site, nodes in sites.items() for node in nodes}
    return Plan(networks, tuple(cables), sites, routes)


def one_lan(nodes: Sequence[str] = ("lon1", "lon2"), *, second_path: bool = True) -> Plan:
    """The nodes (.11, .12, ...) and a client (.200) on london's LAN; no router."""
    cables = []
    for number, node in enumerate(nodes, start=11):
        cables += _node(node, LONDON, number, second=number if second_path else None)
    cables.append(Cable(CLIENT, LAN, LONDON, addresses(LONDON, 200)))
    networks = (LONDON, PEERS) if second_path else (LONDON,)
    return Plan(networks, tuple(cables), {LONDON: tuple(nodes)}, {})


def _node(name: str, site: str, number: int, second: int | None) -> list[Cable]:
    cables = [Cable(name, LAN, site, addresses(site, number))]
    if second is not None:
        cables.append(Cable(name, SECOND, PEERS, addresses(PEERS, second)))
    return cables
