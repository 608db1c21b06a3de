# SPDX-License-Identifier: GPL-2.0-or-later
"""What a seed's installation looks like, and the configuration that each process of it gets."""

from __future__ import annotations

from dataclasses import dataclass, field

from agent.core.keeping import Keeping, KeptGroup, KeptPeer, Router
from agent.core.kit_plan import leases_of
from agent.core.model import Reading, Sampled
from agent.core.settings import (
    AddressSettings,
    CheckSettings,
    DeviceSettings,
    Exclusive,
    Failback,
    FenceSettings,
    GeoSettings,
    GroupSettings,
    NodeSettings,
    RecordSettings,
    ServiceSettings,
    Settings,
    SnmpSettings,
    Standby,
)

ADVERT_MS = 1000
QUICK_MS = 200
HOLD_MS = 10_000
LIFETIME_S = 3
LEASE_MS = 2_000
WITNESS = "wit9"
CHECK_EVERY_MS = 3000
POLL_EVERY_MS = 5000
RUNTIME_LOW_S = 300
NEIGHBOURS = {"gateway": 1, "plain": 9, "lan": 200, "rogue": 201}  # host parts of their addresses


@dataclass(slots=True)
class PowerSupply:
    """A UPS as its SNMP agent shows it. on_battery counts faults; runtime falls while it is."""

    name: str
    on_battery: int = 0
    since_ms: int = 0
    runtime_s: int = 600

    def sampled(self, now: int) -> Sampled:
        left = self.runtime_s
        if self.on_battery:
            left = max(0, left - (now - self.since_ms) // 100)  # ten times as fast as real ones
        prefix = f"ups:{self.name}"
        source = "battery" if self.on_battery else "normal"
        return Sampled(
            self.name,
            (
                Reading(f"{prefix}:runtime", float(left), "s", 0.0, rising=False),
                Reading(f"{prefix}:source", float(bool(self.on_battery)), "state", text=source),
            ),
        )


@dataclass(slots=True)
class Town:
    """Sites, nodes, groups. Every node has `paths` networks; path 0 is the service network.

    witnesses: neighbours there can be overheard and asked. chatter_ms: one broadcast frame so often
    from them, 0: never. plain: the priority of a router that speaks the RFC and is no node of ours,
    in each site's first group; 0: there is none.
    """

    sites: tuple[str, ...]
    nodes_per_site: int
    paths: int
    standby: Standby
    failback: Failback
    failback_ms: int
    groups_per_site: int = 1
    with_devices: bool = False
    advert_ms: int = ADVERT_MS
    witnesses: bool = True
    chatter_ms: int = 300
    gateways: bool = False
    plain: int = 0
    plain_preempts: bool = False
    apart: bool = False
    drain_ms: int = 0
    exclusive: Exclusive = Exclusive.SEGMENT
    lease_ms: int = LEASE_MS
    witness_node: bool = False  # a machine that only votes
    fences: bool = False  # each node has an outlet that can be switched off
    client_forgets: bool = True  # False: a router that keeps its ARP entries for hours
    nodes: dict[str, str] = field(default_factory=dict)  # name -> site
    groups: dict[str, GroupSettings] = field(default_factory=dict)
    geos: dict[str, GeoSettings] = field(default_factory=dict)
    devices: dict[str, DeviceSettings] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for site in self.sites:
            for number in range(1, self.nodes_per_site + 1):
                self.nodes[f"{site[:3]}{number}"] = site
        for site in self.sites:
            for number in range(self.groups_per_site):
                self._add_group(site, number)
        if self.witness_node:
            self.nodes[WITNESS] = self.sites[0]
        if len(self.sites) > 1:
            self._add_geo()
        if self.with_devices:
            fed = next(iter(self.nodes))
            self.devices["ups1"] = DeviceSettings(
                "ups1", "10.1.0.60", self.sites[0], SnmpSettings(), (fed,), POLL_EVERY_MS, 30_000,
                RUNTIME_LOW_S,
            )  # fmt: skip

    def _add_group(self, site: str, number: int) -> None:
        """The second group prefers the nodes in the other order."""
        name = f"{'ab'[number]}-{site}"
        nodes = tuple(n for n, s in self.nodes.items() if s == site)
        place = self.sites.index(site) + 1
        address = f"10.{place}.0.{100 + number}"
        check = CheckSettings("tcp", "tcp", "127.0.0.1:5060", CHECK_EVERY_MS, stale_after_ms=30_000)
        service = ServiceSettings("sbc", "sbc.service", checks=(check,))
        self.groups[name] = GroupSettings(
            name, nodes[::-1] if number else nodes,
            (AddressSettings(address, 24, 4, "eth0", 51 + number),), (service,), self.standby,
            self.failback, self.failback_ms, self.advert_ms, HOLD_MS,
            plain_peers=(self.plain_address(site),) if self.plain and not number else (),
            gateways=(self.neighbour_address("gateway", site),) if self.gateways else (),
            break_first=self.apart, drain_ms=self.drain_ms,
            exclusive=self.exclusive, lease_ms=self.lease_ms,
        )  # fmt: skip

    def _add_geo(self) -> None:
        values: dict[str, tuple[str, ...]] = {
            site: (f"192.0.2.{10 + i}",) for i, site in enumerate(self.sites)
        }
        self.geos["voice"] = GeoSettings(
            "voice", self.sites, {site: f"a-{site}" for site in self.sites}, "example.net",
            ("192.0.2.53",), "/key", (RecordSettings("sip.example.net", "A", 30, values),),
        )  # fmt: skip

    def peers(self, node: str) -> list[str]:
        return [name for name in self.nodes if name != node]

    def groups_of(self, node: str) -> list[GroupSettings]:
        return [group for group in self.groups.values() if node in group.nodes]

    def interface(self, path: int) -> str:
        return f"eth{path}"

    def address(self, group: str) -> str:
        return self.groups[group].addresses[0].address

    def real_address(self, node: str, path: int) -> str:
        """10.1.0.11 is the first node of the first site on its service network."""
        place = self.sites.index(self.nodes[node]) + 1
        return f"10.{place + 8 * path}.0.{10 + int(node[-1])}"

    def neighbour_address(self, kind: str, site: str) -> str:
        """10.1.0.1 is the gateway of the first site. kind: as in NEIGHBOURS."""
        return f"10.{self.sites.index(site) + 1}.0.{NEIGHBOURS[kind]}"

    def plain_address(self, site: str) -> str:
        return self.neighbour_address("plain", site)

    def mac(self, node: str) -> str:
        place = self.sites.index(self.nodes[node]) + 1
        return f"02:00:00:00:{place:02x}:{int(node[-1]):02x}"

    def settings(self, node: str) -> Settings:
        """What agent.config would read on that node."""
        nodes = {
            name: NodeSettings(
                name,
                site,
                tuple(self.real_address(name, p) for p in range(self.paths)),
                witness=name == WITNESS,
                fence=FenceSettings("command") if self.fences and name != WITNESS else None,
            )
            for name, site in self.nodes.items()
        }
        return Settings(
            "sim", "/key", node, self.sites, nodes, self.groups, self.geos, self.devices,
            digest="0" * 64,
        )  # fmt: skip

    def keeping(self, node: str, boot: int) -> Keeping:
        """What the forge would leave for that node's keeper."""
        site = self.nodes[node]
        groups = {}
        for group in self.groups_of(node):
            address = group.addresses[0]
            router = Router(4, address.vrid, address.interface, (address.address,))
            place = group.nodes.index(node)
            peers = tuple(name for name in group.nodes if name != node)
            groups[group.name] = KeptGroup(
                group.name,
                200 - 10 * place,
                place,
                group.advert_ms,
                group.hold_ms,
                (router,),
                peers,
                group.plain_peers,
                tuple((address.interface, gateway) for gateway in group.gateways),
                ((address.interface, address.address),),
                group.break_first,
                group.drain_ms,
            )
        kept = {}
        for peer in self.peers(node):
            addresses = tuple(self.real_address(peer, p) for p in range(self.paths))
            near = self.nodes[peer] == site
            asked = tuple((self.interface(p), a) for p, a in enumerate(addresses) if near)
            kept[peer] = KeptPeer(peer, addresses, asked)
        sources = {
            self.real_address(name, p): name for name in self.nodes for p in range(self.paths)
        }
        return Keeping(
            node,
            boot,
            groups,
            kept,
            sources,
            lifetime_s=LIFETIME_S,
            beat_ms=1000,
            report_ms=1000,
            leases=leases_of(self.settings(node)),
        )
