# SPDX-License-Identifier: GPL-2.0-or-later
"""[group.NAME]: what fails over together, and that no two groups want the same thing."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from agent.config_bonds import bind_groups
from agent.config_carried import PathClaims, read_carried
from agent.config_duration import duration_ms, duration_text
from agent.config_exclusive import read_exclusive
from agent.config_forms import day_window, floating_address, interface_name
from agent.config_lines import At
from agent.config_nodes import Addresses
from agent.config_outsiders import read_gateways, read_plain_peers, read_priorities
from agent.config_realtime import read_realtime
from agent.config_routes import Owner, RouteClaims, read_routes
from agent.config_section import Section, did_you_mean, listed
from agent.config_services import read_services
from agent.core.settings import AddressSettings, Failback, GroupSettings, NodeSettings, Standby

NODES_LIMIT = 20  # a node's VRRP priority is 200 less 10 for each node before it
NEEDS_LIMIT_BYTES = 1 << 50
HOUR_MS = 3_600_000
DAY_MS = 86_400_000

Router = tuple[str, str, int, int]
"""Site, interface, family, VRID: one virtual router on a segment."""


@dataclass(slots=True)
class Claims:
    """What is taken already: addresses by anybody, virtual routers and paths by groups."""

    paths: PathClaims = field(default_factory=PathClaims)
    addresses: Addresses = field(default_factory=dict)
    routers: dict[Router, tuple[At, str]] = field(default_factory=dict)


def read_groups(
    root: Section, nodes: Mapping[str, NodeSettings], claims: Claims
) -> dict[str, GroupSettings]:
    """The groups, as the file orders them. All addresses first: others must not be among them."""
    tables = root.named("group")
    owners = {name: _read_owner(name, table, nodes, claims) for name, table in tables.items()}
    routes = RouteClaims(claims.addresses)
    groups = {}
    for name, table in tables.items():
        groups[name] = _read_group(table, owners[name], routes, nodes, claims.paths)
    groups = bind_groups(tables, groups)
    for table in tables.values():
        table.close()
    return groups


def _read_owner(
    name: str, table: Section, nodes: Mapping[str, NodeSettings], claims: Claims
) -> Owner:
    own_nodes = _read_own_nodes(table, nodes)
    sites = {nodes[node].site for node in own_nodes}
    if len(sites) > 1:
        why = f"in sites {listed(sorted(sites))}: addresses move within one site; make a group"
        table.note("nodes", why + " in each and join them with [geo.NAME]")
    addresses = _read_addresses(name, table, sites or {""}, claims)
    paths = {path for node in own_nodes for path in nodes[node].paths}
    return Owner(name, own_nodes, addresses, paths)


def _read_group(
    table: Section,
    owner: Owner,
    routes: RouteClaims,
    nodes: Mapping[str, NodeSettings],
    paths: PathClaims,
) -> GroupSettings:
    addresses = owner.addresses
    standby = Standby(table.choice("standby", tuple(Standby), Standby.HOT.value))
    failback, failback_ms = _read_failback(table)
    services = read_services(table, standby, {address.address for address in addresses})
    plain_peers = read_plain_peers(table, addresses, routes.addresses)
    exclusive, lease_ms = read_exclusive(table, owner.nodes, nodes, standby)
    hand_over = table.choice("hand_over", ("overlap", "break-first"), "overlap")
    group = GroupSettings(
        name=owner.group,
        nodes=owner.nodes,
        addresses=addresses,
        services=services,
        standby=standby,
        failback=failback,
        failback_ms=failback_ms,
        advert_ms=_read_advert(table),
        hold_ms=table.duration("hold", 10_000, 100, HOUR_MS),
        unicast=not table.flag("multicast", False),
        checksum_pseudo=table.choice("checksum", ("pseudo", "plain"), "pseudo") == "pseudo",
        probation_ms=table.duration("probation", 30_000, 0, DAY_MS),
        priorities=read_priorities(table),
        plain_peers=plain_peers,
        gateways=read_gateways(table, plain_peers, addresses, routes.addresses),
        routes=read_routes(table, owner, routes),
        break_first=hand_over == "break-first",
        drain_ms=_read_drain(table),
        virtual_mac=table.flag("virtual_mac", False),
        link_local_first=_read_link_local_first(table, addresses),
        announce_command=table.text("announce"),
        exclusive=exclusive,
        lease_ms=lease_ms,
        carried=read_carried(table, owner.group, owner.nodes, paths),
        realtime=read_realtime(table, standby),
        promote=table.text("promote"),
        demote=table.text("demote"),
        hook_within_ms=table.duration("hook_within", 10_000, 100, HOUR_MS),
        rehearse=table.text("rehearse"),
        rehearse_every_ms=table.duration("rehearse_every", HOUR_MS, 60_000, 30 * DAY_MS),
        proof_max_age_ms=table.duration("proof_max_age", 60_000, 1000, DAY_MS),
        needs_bytes=table.size("needs_memory", 0, 0, NEEDS_LIMIT_BYTES),
        failback_window=_read_window(table, failback),
    )
    _check_hooks(table, standby)
    return group


def _read_own_nodes(table: Section, nodes: Mapping[str, NodeSettings]) -> tuple[str, ...]:
    found: dict[str, At] = {}
    for at, node in table.texts("nodes", needed="who may own it, preferred first"):
        if node not in nodes:
            why = f"no such [node.*]: there are {listed(nodes)}{did_you_mean(node, nodes)}"
            table.source.note(at, why, node)
        elif node in found:
            table.source.note(at, "is in the list already", node, found[node])
        elif nodes[node].witness:
            table.source.note(at, "is a witness: it votes and serves nothing", node)
        else:
            found[node] = at
    if len(found) > NODES_LIMIT:
        table.note("nodes", f"at most {NODES_LIMIT} nodes in a group")
    return tuple(found)


def _read_failback(table: Section) -> tuple[Failback, int]:
    found = table.text("failback", Failback.MANUAL.value)
    if found in (Failback.MANUAL, Failback.NEVER):
        return Failback(found), 0
    try:
        span_ms = duration_ms(found)
    except ValueError:
        words = (Failback.MANUAL.value, Failback.NEVER.value)
        why = 'must be manual, never, or a time of good health, as in "10m"'
        table.note("failback", why + did_you_mean(found, words))
        return Failback.MANUAL, 0
    if not 1000 <= span_ms <= 7 * DAY_MS:
        table.note("failback", "must be 1s..7d of good health")
    return Failback.AFTER, span_ms


def _read_window(table: Section, failback: Failback) -> tuple[int, int]:
    window = table.form("failback_window", day_window, (0, 0))
    if "failback_window" in table and failback is not Failback.AFTER:
        why = 'is for a failback that happens by itself: give failback a time, as in "10m"'
        table.note("failback_window", why)
    return window


def _check_hooks(table: Section, standby: Standby) -> None:
    table.only_with("rehearse", "rehearse_every")
    for key in ("promote", "demote") if standby is Standby.COLD else ():
        if key in table:
            table.note(key, "is for a standby that runs; a cold one is started and stopped")
    if not any(key in table for key in ("promote", "demote", "realtime")):
        table.only_with("promote", "hook_within")


def _read_advert(table: Section) -> int:
    advert_ms = table.duration("advert", 200, 10, 40_000)
    if advert_ms % 10:
        near_ms = max(10, round(advert_ms / 10) * 10)
        why = f'VRRP counts hundredths of a second (RFC 9568, 5.2.7); did you mean "{near_ms}ms"'
        table.note("advert", why)
    return advert_ms


def _read_drain(table: Section) -> int:
    drain_ms = table.duration("drain", 0, 0, HOUR_MS)
    if drain_ms % 1000:
        near = duration_text(-(-drain_ms // 1000) * 1000)
        table.note("drain", f'the kernel counts lifetimes in seconds; did you mean "{near}"')
    return drain_ms


def _read_link_local_first(table: Section, addresses: tuple[AddressSettings, ...]) -> bool:
    wanted = table.flag("link_local_first", False)
    if wanted and addresses and all(it.family == 4 for it in addresses):
        table.note("link_local_first", "is about IPv6 addresses, and this group has none")
    return wanted


def _read_addresses(
    group: str, table: Section, sites: set[str], claims: Claims
) -> tuple[AddressSettings, ...]:
    found: list[AddressSettings] = []
    tables = table.tables("address")
    if not tables and not table.content.get("address"):
        table.note("address", f"missing: at least one [[group.{group}.address]]")
    for entry in tables:
        interface = entry.form("interface", interface_name, "", needed="where it lives, as in eth0")
        vrid = entry.whole("vrid", 0, 1, 255)
        if "vrid" not in entry:
            entry.note("vrid", "missing: the VRRP virtual router, 1..255, its own on the segment")
        families: dict[int, None] = {}
        for at, text in entry.texts("address", needed='as in "10.1.0.100/24"', one=True):
            parsed = _claimed_address(group, entry, at, text, claims)
            if parsed is not None:
                families[parsed[2]] = None
                found.append(AddressSettings(*parsed, interface, vrid))
        entry.close()
        if interface and vrid:
            for family in families:
                _claim_routers(group, entry, (interface, family, vrid), sites, claims)
    return tuple(found)


def _claimed_address(
    group: str, entry: Section, at: At, text: str, claims: Claims
) -> tuple[str, int, int] | None:
    try:
        parsed = floating_address(text)
    except ValueError as error:
        entry.source.note(at, str(error), text)
        return None
    if parsed[0] in claims.addresses:
        see, whose = claims.addresses[parsed[0]]
        entry.source.note(at, f"is {whose} already", text, see)
    claims.addresses.setdefault(parsed[0], (at, f"an address of group {group}"))
    return parsed


def _claim_routers(
    group: str, entry: Section, router: tuple[str, int, int], sites: set[str], claims: Claims
) -> None:
    interface, family, vrid = router
    for site in sorted(sites):
        see, owner = claims.routers.setdefault(
            (site, interface, family, vrid), (entry.spot("vrid"), group)
        )
        if owner != group:
            used = {key[3] for key in claims.routers if key[:3] == (site, interface, family)}
            free = next((n for n in (*range(vrid, 256), *range(1, vrid)) if n not in used), "none")
            why = f"is the virtual router of group {owner} for IPv{family} on {interface}"
            entry.note("vrid", f"{why}; free there: {free}", see)
            return
