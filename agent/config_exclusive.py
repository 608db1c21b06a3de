# SPDX-License-Identifier: GPL-2.0-or-later
"""`exclusive` of a group: what must be had before it runs here while it may run elsewhere."""

from collections.abc import Mapping, Sequence

from agent.config_section import Section, listed
from agent.core.settings import Exclusive, NodeSettings, Standby

LEASE_MS = 2000
VOTERS = 3  # of two no majority is left when one is lost


def read_exclusive(
    table: Section, own: Sequence[str], nodes: Mapping[str, NodeSettings], standby: Standby
) -> tuple[Exclusive, int]:
    """And the length of its lease in ms."""
    exclusive = Exclusive(table.choice("exclusive", tuple(Exclusive), Exclusive.SEGMENT.value))
    lease_ms = table.duration("lease", LEASE_MS, 500, 60_000)
    if exclusive is Exclusive.SEGMENT:
        if "lease" in table and table.content.get("exclusive", exclusive) == exclusive:
            table.note("lease", 'belongs to exclusive = "lease" or "fence"')
        return exclusive, lease_ms
    if "plain_peers" in table:
        why = "take the addresses without asking for a lease, so nothing would be exclusive"
        table.note("plain_peers", why)
    if standby is not Standby.COLD and not ("promote" in table and "demote" in table):
        why = "its services run on every node, and only promote and demote say which of them works"
        table.remark("exclusive", why)
    if exclusive is Exclusive.FENCE:
        unfenced = [name for name in own if nodes[name].fence is None]
        if unfenced:
            why = "needs every node of the group to have [node.NAME.fence]: there is none for "
            table.note("exclusive", why + listed(unfenced))
    else:
        witnesses = [name for name, node in nodes.items() if node.witness]
        if len(own) > 1 and len(own) + len(witnesses) < VOTERS:
            why = "without a witness a lost node is not replaced by itself: of two votes one is no "
            table.remark("exclusive", why + 'majority; add a [node.NAME] with role = "witness"')
    return exclusive, lease_ms
