# SPDX-License-Identifier: GPL-2.0-or-later
"""Who else is on a group's segment: plain peers, gateways; and how the nodes rank beside them."""

from collections.abc import Collection, Mapping
from ipaddress import ip_address
from typing import Any

from agent.config_forms import host_address
from agent.config_lines import At
from agent.config_nodes import Addresses
from agent.config_section import Section
from agent.core.settings import AddressSettings

OWNER_PRIORITY = 255


def neighbour(text: str) -> str:
    """Another machine's address."""
    address = host_address(text)
    if ip_address(address).is_loopback:
        raise ValueError("is a loopback address; name another machine's")
    return address


def read_priorities(group: Section) -> tuple[int, ...]:
    """VRRP priorities as `nodes` are ordered, () where none are given.

    Two may be equal: RFC 9568 6.4.3 then goes by the address.
    """
    found: list[Any] | None = group.value("priorities", list)
    if found is None:
        return ()
    good: list[int] = []
    for place, priority in enumerate(found):
        why = _priority_fault(priority, good)
        if why:
            group.source.note(group.spot("priorities", place), why, priority)
            return ()
        good.append(priority)
    nodes = group.content.get("nodes")
    if type(nodes) is list and len(nodes) != len(good):
        why = f"needs one for each node, in the order of nodes: there are {len(nodes)}"
        group.note("priorities", why)
    return tuple(good)


def _priority_fault(priority: object, before: list[int]) -> str:
    if type(priority) is not int or not 1 <= priority <= OWNER_PRIORITY:
        return f"must be a whole number, 1..{OWNER_PRIORITY}"
    if before and priority == OWNER_PRIORITY:
        return "is the address owner's, and there is but one (RFC 9568, 8.3.2): the first node"
    if before and priority > before[-1]:
        return f"is above the {before[-1]} before it: nodes are preferred first; reorder them"
    return ""


def read_plain_peers(
    group: Section, addresses: Collection[AddressSettings], taken: Addresses
) -> tuple[str, ...]:
    """Primary addresses of the VRRP routers that share the group's virtual routers."""
    instead = "list routers that are no nodes; the nodes know one another"
    found = _read_outsiders(group, "plain_peers", taken, instead)
    families = {it.family for it in addresses}
    for address, at in found.items():
        family: int = ip_address(address).version
        if families and family not in families:
            why = f"is IPv{family}, and the group has no such address: they share no virtual router"
            group.source.note(at, why, address)
    for family in sorted(families - {ip_address(it).version for it in found}):
        if found and len(found) == len(group.content["plain_peers"]):
            why = f"none is IPv{family}: when one takes the group, nobody has its IPv{family} "
            group.note("plain_peers", why + "addresses; add theirs, or make a group of those")
    return tuple(found)


def read_gateways(
    group: Section,
    plain_peers: Collection[str],
    addresses: Collection[AddressSettings],
    taken: Addresses,
) -> tuple[str, ...]:
    """Who is asked whether this node is cut off."""
    four_only = bool(addresses) and all(it.family == 4 for it in addresses)
    instead = "name a router that answers while the nodes do not"
    found = _read_outsiders(group, "gateway", taken, instead)
    for address, at in found.items():
        if address in plain_peers:
            why = "is a plain peer: while it is lost no node would take over; name another router"
            group.source.note(at, why, address)
        elif four_only and ":" in address and ip_address(address).is_link_local:
            why = "is on every link, and no IPv6 address of the group says on which; name another"
            group.source.note(at, why, address)
    return tuple(found)


def _read_outsiders(group: Section, key: str, taken: Addresses, instead: str) -> Mapping[str, At]:
    found: dict[str, At] = {}
    for at, text in group.texts(key, one=key == "gateway"):
        try:
            address = neighbour(text)
        except ValueError as error:
            group.source.note(at, str(error), text)
            continue
        if address in taken:
            see, whose = taken[address]
            group.source.note(at, f"is {whose}: {instead}", text, see)
        elif address in found:
            group.source.note(at, "is in the list already", text, found[address])
        else:
            found[address] = at
    return found
