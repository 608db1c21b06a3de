# SPDX-License-Identifier: GPL-2.0-or-later
"""How much may move at once: what can wait waits, and what moves too often is let be.

Governed are moves that nobody ordered and that no outage asks for: away from a resource that is
forecast to run out, and back to the preferred node. A group whose services are broken, whose power
ends or whose node is lost is never kept from moving.
"""

from typing import TYPE_CHECKING

from agent.core.budget import Budget
from agent.core.role import ACTIVE, CAN_WAIT, Role

if TYPE_CHECKING:
    from agent.core.engine import AgentCore

KIND = "moves-frozen"
FULL_PCT = 100


class Governor:
    """The node's budget of such moves. leaving: groups that were let go and are still here."""

    __slots__ = ("budget", "leaving", "share_pct")

    def __init__(self, moves: int, moves_in_ms: int, share_pct: int) -> None:
        self.budget = Budget(moves, moves_in_ms)
        self.share_pct = share_pct
        self.leaving: set[str] = set()


def watch(core: "AgentCore") -> None:
    """Let go whom the limits allow, preferred order first."""
    governor = core.governor
    here = [role for role in core.roles.values() if role.state == ACTIVE]
    governor.leaving &= {role.settings.name for role in here if role.threats}
    for role in core.roles.values():
        waits = [name for name in role.threats if name.startswith(CAN_WAIT)]
        if not waits or role.state != ACTIVE:
            role.let_go = False
        elif not role.let_go:
            role.let_go = may_move(core, role, len(here))
    if governor.budget.left(core.now):
        core.clear_alarm(KIND, _subject(core), "moves are allowed again")


def may_move(core: "AgentCore", role: Role, here: int) -> bool:
    """Whether one more move that can wait may begin; it is counted if so."""
    governor = core.governor
    at_once = max(1, here * governor.share_pct // FULL_PCT)
    if len(governor.leaving) >= at_once:
        return False
    if not governor.budget.take(core.now):
        text = (
            f"{governor.budget.n} moves in {governor.budget.window_ms // 60_000} min that nobody "
            f"ordered: {role.settings.name} is let be; look why, then: standpipe clear"
        )
        core.raise_alarm(KIND, _subject(core), text)
        return False
    governor.leaving.add(role.settings.name)
    return True


def cleared(core: "AgentCore") -> None:
    """An operator has looked."""
    core.governor.budget.clear()
    core.clear_alarm(KIND, _subject(core), "an operator has looked")


def _subject(core: "AgentCore") -> str:
    return f"node {core.settings.node}"
