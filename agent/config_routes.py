# SPDX-License-Identifier: GPL-2.0-or-later
"""[[group.NAME.route]]: the routes that come and go with a group's addresses."""

from collections.abc import Collection
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network

from agent.config_forms import host_address, interface_name
from agent.config_lines import At
from agent.config_nodes import Addresses
from agent.config_outsiders import neighbour
from agent.config_section import Section, did_you_mean, listed
from agent.core.settings import AddressSettings, RouteSettings

DEFAULT = "default"
HIGHEST = 0xFFFF_FFFF  # metrics and tables are 32 bits (rtnetlink(7))
MAIN_TABLE = 254
LOCAL_TABLE = 255
USUAL_METRIC = {4: 0, 6: 1000}  # over IPv6 0 is set as 1000, before what hosts usually have
SHOWN = 3  # addresses in a message, of what may be hundreds

Key = tuple[str, int, str, int, int]
"""Node, family, destination, table, metric: one route in a kernel."""


@dataclass(slots=True)
class Owner:
    """The group whose routes are read. `own_paths`: its nodes' addresses."""

    group: str
    nodes: tuple[str, ...]
    addresses: tuple[AddressSettings, ...]
    own_paths: Collection[str]


@dataclass(slots=True)
class RouteClaims:
    """Routes that are taken already, and whose; `addresses`: all of the cluster."""

    addresses: Addresses
    routes: dict[Key, tuple[At, str]] = field(default_factory=dict)


def destination(text: str) -> tuple[str, int]:
    """ "192.0.2.0/24" and its family; "default" alone has none yet, 0."""
    if text == DEFAULT:
        return DEFAULT, 0
    address_text, slash, _ = text.partition("/")
    try:
        address, network = ip_address(address_text), ip_network(text, strict=False)
    except ValueError:
        raise ValueError('must be "default" or a network, as in "192.0.2.0/24"') from None
    if not slash:
        raise ValueError(f'needs its prefix length; did you mean "{network}"')
    if network.network_address != address:
        raise ValueError(f'is an address in a network; did you mean "{network}"')
    return (str(network) if network.prefixlen else DEFAULT), network.version


def read_routes(table: Section, owner: Owner, claims: RouteClaims) -> tuple[RouteSettings, ...]:
    """The group's routes; each takes its place in `claims`."""
    routes = []
    for entry in table.tables("route"):
        route = _read_route(entry, owner, claims.addresses)
        entry.close()
        if route is not None:
            routes.append(route)
            _claim(entry, route, owner, claims)
    return tuple(routes)


def _read_route(entry: Section, owner: Owner, taken: Addresses) -> RouteSettings | None:
    needed = '"default" or a network, as in "192.0.2.0/24"'
    to, family = entry.form("to", destination, ("", 0), needed=needed)
    via = entry.form("via", neighbour, "")
    given = entry.form("source", host_address, "")
    named = entry.form("interface", interface_name, "")
    metric = entry.whole("metric", 0, 0, HIGHEST)
    number = entry.whole("table", MAIN_TABLE, 1, HIGHEST)
    if number == LOCAL_TABLE:
        entry.note("table", "is the kernel's own; leave it out for the main table")
    if not to or not owner.addresses:
        return None
    family = family or next((ip_address(it).version for it in (via, given) if it), 4)
    _check_via(entry, via, family, owner, taken)
    own = [it for it in owner.addresses if it.family == family]
    if not own:
        why = f"is IPv{family}, and the group has no IPv{family} address to be its source"
        entry.note("to", why)
        return None
    interface = _interface(entry, named, given, own, owner)
    source = _source(entry, given, interface, own)
    if not interface or not source:
        return None
    return RouteSettings(to, family, interface, source, via, metric, number)


def _check_via(entry: Section, via: str, family: int, owner: Owner, taken: Addresses) -> None:
    if not via:
        return
    if ip_address(via).version != family:
        entry.note("via", f"must be IPv{family}, as the route is")
    elif via in owner.own_paths or via in {it.address for it in owner.addresses}:
        see, whose = taken[via]
        entry.note("via", f"is {whose}: a next hop is another machine", see)


def _interface(
    entry: Section, named: str, given: str, own: list[AddressSettings], owner: Owner
) -> str:
    """The one that is named, else the source's, else the only one; "" where something was noted."""
    if "interface" in entry:
        known = dict.fromkeys(it.interface for it in owner.addresses)
        if named and named not in known:
            why = f"no address of this group is there: there are {listed(known)}"
            entry.note("interface", why + did_you_mean(named, known))
            return ""
        return named
    of_source = [it.interface for it in own if it.address == given]
    places = dict.fromkeys(of_source or [it.interface for it in own])
    if len(places) > 1:
        entry.note("interface", f"missing: one of {listed(places)}")
        return ""
    return next(iter(places))


def _source(entry: Section, given: str, interface: str, own: list[AddressSettings]) -> str:
    """The one that is given, else the group's first one there, a link-local only in need."""
    if "source" in entry:
        if given and given not in {it.address for it in own}:
            some = [it.address for it in own[:SHOWN]] + ["..."] * (len(own) > SHOWN)
            why = f"must be one of the group's IPv{own[0].family} addresses: "
            entry.note("source", why + f"there are {listed(some)}")
            return ""
        return given
    there = [it.address for it in own if it.interface == interface]
    if interface and not there:
        why = f"the group has no IPv{own[0].family} address there; name one of its others in source"
        entry.note("interface", why)
    return min(there, key=lambda address: ip_address(address).is_link_local, default="")


def _claim(entry: Section, route: RouteSettings, owner: Owner, claims: RouteClaims) -> None:
    metric = route.metric or USUAL_METRIC[route.family]
    for node in owner.nodes:
        key = node, route.family, route.to, route.table, metric
        see, group = claims.routes.setdefault(key, (entry.at, owner.group))
        if see != entry.at:
            why = f"group {group} has this route on {node}; give one of them another metric"
            entry.note("to", why, see)
            return
