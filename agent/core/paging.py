# SPDX-License-Identifier: GPL-2.0-or-later
"""The page to people: what broke, what it said last, what was short then, what was tried."""

from typing import TYPE_CHECKING

from agent.core.care import Care
from agent.core.care_rows import SPENT
from agent.core.model import Outcome
from agent.core.orders import GatherFacts
from agent.core.role import QUARANTINE, Role

if TYPE_CHECKING:
    from agent.core.engine import AgentCore

GATHER_WITHIN_MS = 5_000


def gather(core: "AgentCore", role: Role) -> None:
    """Facts for people: the first service that is broken, what it said last, what was short."""
    care = next((c for c in role.cares if c.state == SPENT), None)
    care = care or next(iter(role.cares), None)
    if care is None:
        return
    op_id = core.begin("facts", (role, care))
    name = care.settings.name
    core.out.append(GatherFacts(op_id, role.settings.name, name, GATHER_WITHIN_MS))


def gathered(core: "AgentCore", about: tuple[Role, Care], event: Outcome) -> None:
    """One page that says it all."""
    role, care = about
    subject = role.subject
    lines = [str(line) for line in event.facts.get("lines", ())]
    resources = event.facts.get("resources", {})
    tried = f"{care.settings.restarts - care.budget.left(core.now)} restarts"
    core.note(
        "page",
        subject,
        f"service {care.settings.name}: {care.detail or 'it does not answer'}; tried: {tried}",
        lines=lines,
        resources=resources,
    )
    if role.state == QUARANTINE:
        last = f"; its last line: {lines[-1]}" if lines else ""
        text = (
            f"service {care.settings.name}: {care.detail or 'it does not answer'}; tried {tried}"
            f"{last}; see standpipe journal, then: standpipe clear {role.settings.name}"
        )
        core.raise_alarm("group-quarantined", subject, text)
