# SPDX-License-Identifier: GPL-2.0-or-later
"""The agent's hand on `bringing`: its steps become operations, and what is seen becomes events."""

from typing import TYPE_CHECKING, Any

from agent.core import bringing as ways
from agent.core import steps
from agent.core.bringing import (
    CLAIMING,
    DRAINING,
    FENCING,
    GONE,
    IDLE,
    SERVING,
    STARTING,
    STOPPING,
)
from agent.core.care import Care
from agent.core.care_rows import OFF
from agent.core.hands import (
    HANDS,
    fenceable,
    hook_aside,
    kill,
    kill_all,
    start_ready,
    stop_ready,
)
from agent.core.model import Decision, Outcome
from agent.core.orders import ReadSessions
from agent.core.role import ACTIVE, Role

if TYPE_CHECKING:
    from agent.core.engine import AgentCore

COUNT_EVERY_MS = 1_000
COUNT_WITHIN_MS = 2_000
KILL_WITHIN_MS = 2_000
FENCE_AGAIN_MS = 10_000
PAUSED_MS = 100
HEAR_MS = 30
SETTLED = 8  # steps that one event may lead to


def fire(core: "AgentCore", role: Role, event: str) -> bool:
    """One event into the group's way, with its record and what it leads to."""
    way = role.way
    before = way.state
    way.has_addresses = role.held
    row = steps.fire(way, event, core.now)
    if row is None:
        return False
    if event in ("up", "took", "adopted"):
        role.winding_down = False
        way.broken = False
    if not row.quiet and (way.state != before or row.effects):
        name = role.settings.name
        inputs: dict[str, Any] = {"role": role.state, "keeper": role.deed_state}
        if way.exclusive:
            inputs["lease"] = role.lease
        if way.sessions is not None:
            inputs["sessions"] = way.sessions
        core.decided(Decision(f"way {name}", row.rule, before, way.state, row.why, inputs))
    carry_out(core, role)
    return True


def carry_out(core: "AgentCore", role: Role) -> None:
    """What the last rows asked for, in their order."""
    while role.way.asks:
        verb, word = role.way.asks.pop(0)
        HANDS[verb](core, role, word)


def advance(core: "AgentCore", role: Role) -> None:
    """Whatever can be seen to have come true since the last look."""
    for _ in range(SETTLED):
        if role.way.state == STARTING:
            start_ready(core, role)
        elif role.way.state == STOPPING or role.winding_down:
            stop_ready(core, role)
        event = _seen(core, role)
        if not event or not fire(core, role, event):
            break
    _release(role)
    _count(core, role)


def _release(role: Role) -> None:
    """The lease goes, and with it the right to run, when everything is seen to stand still."""
    way = role.way
    ending = role.cold or role.winding_down
    running = ending and any(care.state != OFF for care in role.cares)
    if way.releasing and not running and not way.unstill:
        way.releasing = way.claims = False
        way.fenced = ()
        if role.owned_last and not role.held:
            role.marks.append("left")


def _seen(core: "AgentCore", role: Role) -> str:
    """The event that is due now, "" for none."""
    way, now = role.way, core.now
    late_ms = now - role.lease_until_ms
    if role.lease == "held" and role.lease_until_ms and late_ms > PAUSED_MS and way.claims:
        role.lease_until_ms = (
            now + HEAR_MS
        )  # we were paused: the keeper's word may lie in the queue
    ended = role.lease in ("lost", "refused") or 0 < role.lease_until_ms <= now
    if ended and way.claims and way.state not in (IDLE, CLAIMING, FENCING, GONE):
        return "lease_lost"
    if way.state == CLAIMING and role.lease == "held":
        core.clear_alarm("exclusive-blocked", role.subject, "the lease is here")
        core.clear_alarm("lease-lost", role.subject, "the lease is here again")
        return "held"
    if way.state == STARTING:
        if role.broken() and role.held:
            return "broken"
        if not role.unwell(now):
            return "alive"
    if way.state == STOPPING and all(care.state == OFF for care in role.cares):
        return "stopped"
    if way.state == DRAINING and way.sessions == 0:
        return "drained"
    if way.late_at and now >= way.late_at:
        way.late_at = 0
        way.can_fence = way.state == CLAIMING and fenceable(core, role) != ""
        return "late"
    return ""


# ---------------------------------------------------------------- up and down


def begin_down(core: "AgentCore", role: Role, to: str, planned: bool, drain_ms: int = 0) -> None:
    """Go out of service here, so that `to` ("" any) can take the group."""
    way = role.way
    way.to, way.planned = to, planned
    way.sick, way.broken = bool(role.failing()), bool(role.broken())
    if drain_ms:
        way.drain_ms = drain_ms
    elif role.settings.realtime is not None:
        way.drain_ms = role.settings.realtime.deadline_ms
    way.sessions = None
    fire(core, role, "down")


# ---------------------------------------------------------------- outcomes


def outcome(core: "AgentCore", role: Role, event: Outcome) -> None:
    """How the present step's operation ended."""
    way = role.way
    if way.op_id != event.op_id:
        return
    way.op_id = 0
    way.why = event.detail or ""
    if way.state == ways.PLACING:
        way.nothing_known = bool(event.facts.get("none"))
    if way.state == ways.SHIPPING and event.ok:
        failed = {node: why for node, why in event.facts.get("nodes", {}).items() if why}
        if failed and (way.to in failed or len(failed) == len(event.facts["nodes"])):
            way.why = "; ".join(f"{node}: {why}" for node, why in failed.items())
            fire(core, role, "failed")
            return
    if way.state == ways.PLACING and way.nothing_known:
        fire(core, role, "failed")
        return
    fire(core, role, "done" if event.ok else "unknown" if event.ok is None else "failed")


def killed(core: "AgentCore", care: Care, event: Outcome) -> None:
    """Seen to be gone, or not: then it is tried again for as long as it takes."""
    way = core.roles[care.group].way
    way.unstill.discard(event.op_id)
    subject = care.subject
    if event.ok:
        core.clear_alarm("stop-failed", subject, "its processes are gone")
    else:
        core.raise_alarm("stop-failed", subject, f"kill: {event.detail or 'no answer'}")
        if way.releasing:
            kill(core, care)


def hook_ended(core: "AgentCore", run: tuple[Role, str], event: Outcome) -> None:
    """One that no step waits for."""
    role, hook = run
    if event.op_id in role.way.unstill:
        role.way.unstill.discard(event.op_id)
        if not event.ok:
            kill_all(core, role, "")
    if event.ok:
        core.clear_alarm("hook-failed", role.subject, f"{hook} was done")
    else:
        core.raise_alarm("hook-failed", role.subject, f"{hook}: {event.detail}")


# ---------------------------------------------------------------- sessions


def _count(core: "AgentCore", role: Role) -> None:
    """Ask how many sessions are up while that matters; run what waited for the last one."""
    realtime = role.settings.realtime
    if realtime is None:
        return
    if role.way.emptying_until and (role.way.sessions == 0 or core.now >= role.way.emptying_until):
        role.way.emptying_until = 0
        hook_aside("demote")(core, role, "")
        hook_aside("undrain")(core, role, "")
    if not realtime.sessions_kind:
        return
    counts = role.way.state == DRAINING or role.way.emptying_until
    if counts and not role.way.counting and core.now >= role.way.count_at:
        role.way.counting = core.begin("sessions", role)
        role.way.count_at = core.now + COUNT_EVERY_MS
        core.out.append(ReadSessions(role.way.counting, role.settings.name, COUNT_WITHIN_MS))


def counted(core: "AgentCore", role: Role, event: Outcome) -> None:
    """An answer, or none."""
    role.way.counting = 0
    role.way.sessions = int(event.facts["sessions"]) if event.ok else None
    if role.way.sessions == 0:
        advance(core, role)


def serves(role: Role) -> bool:
    """Whether the group's services are meant to run here now."""
    return role.state == ACTIVE and role.way.state in (SERVING, ways.DRAINING)


def stands_by(role: Role) -> bool:
    """Whether its services are meant to run here although another node may work."""
    return not role.cold and not role.winding_down and not role.way.releasing
