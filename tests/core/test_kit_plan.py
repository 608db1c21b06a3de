# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

from dataclasses import replace

import pytest

from agent.core.keeping import LeaseTerms
from agent.core.kit_plan import leases_of
from agent.core.settings import (
    AddressSettings,
    Exclusive,
    FenceSettings,
    GroupSettings,
    NodeSettings,
    Settings,
)

ADDRESS = AddressSettings("10.1.0.100", 24, 4, "eth0", 51)
NODES = {name: NodeSettings(name, "london", ()) for name in ("lon1", "lon2", "lon3")} | {
    "wit": NodeSettings("wit", "paris", (), witness=True)
}
GROUPS = {
    name: GroupSettings(name, nodes, (ADDRESS,), exclusive=kind, lease_ms=lease_ms)
    for name, nodes, kind, lease_ms in (
        ("sbc", ("lon2", "lon1"), Exclusive.SEGMENT, 2_000),
        ("db", ("lon2", "lon1"), Exclusive.LEASE, 3_000),
        ("far", ("lon2", "lon3"), Exclusive.LEASE, 2_000),
        ("disk", ("lon1", "lon2"), Exclusive.FENCE, 2_000),
    )
}


def terms(node: str, nodes: dict[str, NodeSettings] = NODES) -> dict[str, LeaseTerms]:
    return leases_of(Settings("callcentre", "/key", node, ("london",), nodes, GROUPS))


@pytest.mark.parametrize(
    ("node", "groups"),
    [("lon1", {"db", "disk"}), ("lon2", {"db", "far", "disk"}), ("wit", {"db", "far"})],
)
def test_a_node_votes_on_its_own_groups_and_a_witness_on_every_lease(
    node: str, groups: set[str]
) -> None:
    assert set(terms(node)) == groups


def test_the_voters_are_the_nodes_and_for_a_lease_every_witness() -> None:
    found = terms("lon1")
    assert found["db"] == LeaseTerms(("lon2", "lon1"), ("lon2", "lon1", "wit"), 3_000)
    assert found["disk"] == LeaseTerms(("lon1", "lon2"), ("lon1", "lon2"), 2_000, fence=True)


def test_where_one_of_its_nodes_can_be_fenced_a_lease_is_told() -> None:
    fenced = NODES | {"lon2": replace(NODES["lon2"], fence=FenceSettings("ipmi"))}
    assert terms("lon1", fenced)["db"].fence
