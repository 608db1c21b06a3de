# SPDX-License-Identifier: GPL-2.0-or-later
"""The agent's hand on the services' table: answers and deaths in, orders out, and what people are
told."""

from typing import TYPE_CHECKING

from agent.core.care import Care, fire
from agent.core.care_rows import ENDING, FELLING, FRESH, MOVING, OFF, PROVING, STUCK, WELL
from agent.core.model import Checked, Decision, Died, Health, Lives, Outcome
from agent.core.ordering import dependants, forerunners
from agent.core.orders import ControlService

if TYPE_CHECKING:
    from agent.core.engine import AgentCore


def _care(core: "AgentCore", group: str, service: str) -> Care | None:
    role = core.roles.get(group)
    return next((c for c in role.cares if c.settings.name == service), None) if role else None


def checked(core: "AgentCore", event: Checked) -> bool:
    """An answer; False where it changes nothing."""
    care = _care(core, event.group, event.service)
    if care is None or event.check not in care.checks:
        return False
    if event.answer.ok and care.began_ms and care.state == PROVING:
        care.starts_ms.append(core.now - care.began_ms)
        care.began_ms = 0
    edge = care.checks[event.check].hear(event.answer, core.now)
    if edge is None:
        return False
    judge(core, care)
    return True


def lives(core: "AgentCore", event: Lives) -> bool:
    """Its main process was found, or none."""
    care = _care(core, event.group, event.service)
    if care is None:
        return False
    care.pid = event.pid
    if care.dead and event.pid:
        care.dead = False
        judge(core, care)
    return True


def died(core: "AgentCore", event: Died) -> bool:
    """Its main process is gone: no check is waited for. False where that one was replaced."""
    care = _care(core, event.group, event.service)
    if care is None or not event.pid or event.pid != care.pid:
        return False
    care.pid = 0
    care.dead = True
    care.detail = f"main process {event.pid} is gone" + (f": {event.status}" * bool(event.status))
    core.note("sample", care.subject, care.detail)
    judge(core, care)
    return True


def controlled(core: "AgentCore", care: Care, event: Outcome) -> None:
    """How an order ended; one that was overtaken by another says nothing."""
    if care.op_id != event.op_id:
        return
    care.detail = event.detail or care.detail
    ok = event.ok
    if care.state in ENDING and "running" in event.facts:  # it was looked at
        ok = event.facts["running"] is False
    fire_care(core, care, "done" if ok else "unknown" if ok is None else "failed")


def tick(core: "AgentCore", care: Care) -> None:
    """Time goes by for one service, or its group has come or gone."""
    if care.state in (FRESH, WELL):
        judge(core, care)  # what was let be during maintenance, or known before
    if care.state == MOVING and not care.serving:
        fire_care(core, care, "gone")
    if care.late_at and core.now >= care.late_at:
        fire_care(core, care, "late")


def judge(core: "AgentCore", care: Care) -> None:
    """The service's health to its table, and to people."""
    health = care.health(core.now)
    if health in (Health.UP, Health.DEGRADED):
        fire_care(core, care, "up")
        core.clear_alarm("service-down", care.subject, "it answers again")
    elif health is Health.DOWN and care.state not in ENDING:
        if not care.dead:
            down = (c.detail for c in care.checks.values() if c.health is Health.DOWN)
            care.detail = next(down, "no answer")
        if _grounded(core, care):  # else people are told of what it stands on
            core.raise_alarm("service-down", care.subject, care.detail)
        fire_care(core, care, "died" if care.dead else "hung" if care.hangs else "down")


def _grounded(core: "AgentCore", care: Care) -> bool:
    cares = core.roles[care.group].cares
    below = forerunners([c.settings for c in cares], care.settings.name)
    return all(c.well for c in cares if c.settings.name in below)


def fire_care(core: "AgentCore", care: Care, event: str) -> None:
    """One event into a service's table, with its record."""
    before = care.state
    care.may_act = not core.maintained()
    care.grounded = _grounded(core, care)
    row = fire(care, event, core.now)
    if row is None:
        return
    core.decided(
        Decision(
            care.subject,
            row.rule,
            before,
            care.state,
            row.why,
            {
                "health": str(care.health(core.now)),
                "detail": care.detail,
                "pid": care.pid,
                "restarts_left": care.budget.left(core.now),
            },
        )
    )
    _tell(core, care, before, row.effects, row.why)
    if care.wants_move:
        core.fire_role(core.roles[care.group], "broken")
    if care.well:
        _mend_above(core, care)


def _mend_above(core: "AgentCore", care: Care) -> None:
    """What stands on a service that is well again had to wait for that."""
    cares = core.roles[care.group].cares
    above = dependants([c.settings for c in cares], care.settings.name)
    for other in cares:
        if other.settings.name in above and other.state in (FRESH, WELL):
            judge(core, other)


def _tell(core: "AgentCore", care: Care, before: str, effects: tuple[str, ...], why: str) -> None:
    subject = care.subject
    if care.state == OFF:
        core.clear_alarm("service-down", subject, "it is not meant to run here")
    if "restart" in effects:
        core.raise_alarm("service-restarted", subject, care.detail or why)
    if care.state == FELLING or "kill_aside" in effects:
        core.raise_alarm("service-hung", subject, f"killed: {care.detail or why}")
    if care.state == STUCK:
        core.raise_alarm("stop-failed", subject, care.detail or why)
    elif before == STUCK:
        core.clear_alarm("stop-failed", subject, why)


def order(core: "AgentCore", care: Care, verb: str, within_ms: int) -> int:
    """Carry a verb out; its op_id."""
    op_id = core.begin("service", care)
    core.note("intent", care.subject, verb, op_id=op_id, within_ms=within_ms)
    core.out.append(ControlService(op_id, care.group, care.settings.name, verb, within_ms))
    return op_id
