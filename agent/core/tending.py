# SPDX-License-Identifier: GPL-2.0-or-later
"""The agent's hand on the services' table: answers in, orders out, and what people are told."""

from typing import TYPE_CHECKING

from agent.core import role as roles
from agent.core.care import Care
from agent.core.model import Checked, ControlService, Decision, Health

if TYPE_CHECKING:
    from agent.core.engine import AgentCore


def checked(core: "AgentCore", event: Checked) -> bool:
    """An answer; False where it changes nothing."""
    role = core.roles.get(event.group)
    care = next((c for c in role.cares if c.settings.name == event.service), None) if role else None
    if care is None or event.check not in care.checks:
        return False
    edge = care.checks[event.check].hear(event.answer, core.now)
    if edge is None:
        return False
    judge(core, care)
    return True


def judge(core: "AgentCore", care: Care) -> None:
    """The service's health to its table, and to people."""
    health = care.health(core.now)
    subject = f"service {care.settings.name} of {care.group}"
    if health in (Health.UP, Health.DEGRADED):
        fire_care(core, care, "up")
        core.clear_alarm("service-down", subject, "it answers again")
    elif health is Health.DOWN and care.state not in ("off", "stopping"):
        detail = next(
            (c.detail for c in care.checks.values() if c.health is Health.DOWN), "no answer"
        )
        care.detail = detail
        core.raise_alarm("service-down", subject, detail)
        fire_care(core, care, "down")


def fire_care(core: "AgentCore", care: Care, event: str) -> None:
    """One event into a service's table, with its record."""
    before = care.state
    care.may_act = not core.maintained()
    row = roles.fire(care, event, core.now)
    if row is None:
        return
    core.decided(
        Decision(
            f"service {care.settings.name} of {care.group}",
            row.rule,
            before,
            care.state,
            row.why,
            {
                "health": str(care.health(core.now)),
                "detail": care.detail,
                "restarts_left": care.budget.left(core.now),
            },
        )
    )
    subject = f"service {care.settings.name} of {care.group}"
    if care.state == "off":
        core.clear_alarm("service-down", subject, "it is not meant to run here")
    if "restart" in row.effects:
        core.raise_alarm("service-restarted", subject, care.detail or row.why)
    role = core.roles[care.group]
    if role.broken():
        core.fire_role(role, "broken")


def order(core: "AgentCore", care: Care, verb: str, within_ms: int) -> int:
    """Carry a verb out; its op_id."""
    op_id = core.begin("service", care)
    subject = f"service {care.settings.name} of {care.group}"
    core.note("intent", subject, verb, op_id=op_id, within_ms=within_ms)
    core.out.append(ControlService(op_id, care.group, care.settings.name, verb, within_ms))
    return op_id
