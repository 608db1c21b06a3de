# SPDX-License-Identifier: GPL-2.0-or-later
"""What the steps of `bringing` ask for, as operations of the shell and as what people are told."""

from typing import TYPE_CHECKING, Any

from agent.core.bringing import MARK_WITHIN_MS, PLACE_WITHIN_MS, SHIP_SICK_MS, SHIP_WITHIN_MS
from agent.core.care import Care
from agent.core.care_rows import OFF
from agent.core.orders import ControlService, FenceNode, KeepEpoch, PlaceStatus, RunHook, ShipStatus
from agent.core.role import Role
from agent.core.tending import fire_care

if TYPE_CHECKING:
    from agent.core.engine import AgentCore

KILL_WITHIN_MS = 2_000
FENCE_AGAIN_MS = 10_000


def start_ready(core: "AgentCore", role: Role) -> None:
    """Every service whose forerunners are alive."""
    well = {care.settings.name for care in role.cares if care.well}
    for care in role.cares:
        if care.state == OFF and well.issuperset(care.settings.after):
            fire_care(core, care, "wanted")


def stop_ready(core: "AgentCore", role: Role) -> None:
    """Every service that no running one stands on; in the reverse of their order."""
    for care in reversed(role.cares):
        name = care.settings.name
        if not any(name in c.settings.after and c.state != OFF for c in role.cares):
            fire_care(core, care, "unwanted")
    role.winding_down = any(care.state != OFF for care in role.cares)


def fenceable(core: "AgentCore", role: Role) -> str:
    """The silent node that may still run the group and can be switched off; "" if there is none."""
    owner = role.last_owner
    node = core.settings.nodes.get(owner)
    if node is None or node.fence is None or owner in (core.settings.node, *role.way.fenced):
        return ""
    peer = core.keeper.peers.get(owner) if core.keeper is not None else None
    if peer is None or peer.state != "silent" or core.now < core.fence_again.get(owner, 0):
        return ""
    return "" if core.arming.why(owner, core.now) else owner


# ---------------------------------------------------------------- what the steps ask for


def _place(core: "AgentCore", role: Role, _: str) -> None:
    op_id = _begin(core, role, "place the last known status")
    core.out.append(PlaceStatus(op_id, role.settings.name, PLACE_WITHIN_MS))


def _start(core: "AgentCore", role: Role, _: str) -> None:
    for care in role.cares:
        care.serving = role.held
    start_ready(core, role)


def _stop(core: "AgentCore", role: Role, _: str) -> None:
    stop_ready(core, role)


def kill_all(core: "AgentCore", role: Role, _: str) -> None:
    for care in role.cares:
        if care.state != OFF:
            kill(core, care)
    stop_ready(core, role)


def kill(core: "AgentCore", care: Care) -> None:
    """All of its processes, now: nobody waits for how that ends, the stop after it looks."""
    op_id = core.begin("kill", care)
    core.roles[care.group].way.unstill.add(op_id)
    subject = care.subject
    core.note("intent", subject, "kill", op_id=op_id, within_ms=KILL_WITHIN_MS)
    name = care.settings.name
    core.out.append(ControlService(op_id, care.group, name, "kill", KILL_WITHIN_MS))


def _hook_first(hook: str) -> Any:
    """A step: the table waits for its outcome."""

    def hand(core: "AgentCore", role: Role, word: str) -> None:
        op_id = _begin(core, role, hook)
        within_ms = role.settings.hook_within_ms
        core.out.append(RunHook(op_id, role.settings.name, hook, within_ms, word))

    return hand


def hook_aside(hook: str) -> Any:
    """No step waits for it; that it failed is told."""

    def hand(core: "AgentCore", role: Role, word: str) -> None:
        place = role.settings.realtime if hook in ("drain", "undrain", "ramp") else role.settings
        if place is None or not getattr(place, hook):
            return
        if hook in ("drain", "undrain"):
            if role.way.drained == (hook == "drain"):
                return
            role.way.drained = hook == "drain"
        op_id = core.begin("hook", (role, hook))
        if hook == "demote" and role.way.releasing:
            role.way.unstill.add(op_id)
        within_ms = role.settings.hook_within_ms
        core.note("intent", role.subject, f"{hook} {word}".strip(), op_id=op_id)
        core.out.append(RunHook(op_id, role.settings.name, hook, within_ms, word))

    return hand


def _demote(core: "AgentCore", role: Role, word: str) -> None:
    """Not before the last session is gone, or had its time."""
    realtime = role.settings.realtime
    if realtime is not None and (realtime.sessions_kind or realtime.drain):
        role.way.emptying_until = core.now + role.way.drain_ms
        role.way.sessions = None
        return
    hook_aside("demote")(core, role, word)


def _ship(core: "AgentCore", role: Role, _: str) -> None:
    way = role.way
    op_id = _begin(core, role, f"send the last status to {way.to or 'every peer'}")
    within_ms = SHIP_WITHIN_MS if way.planned else SHIP_SICK_MS
    core.out.append(ShipStatus(op_id, role.settings.name, way.to, role.epoch, within_ms))


def _mark(core: "AgentCore", role: Role, _: str) -> None:
    op_id = _begin(core, role, "store that this node let go")
    role.way.late_at = core.now + MARK_WITHIN_MS
    core.out.append(KeepEpoch(op_id, f"left:{role.settings.name}", role.turn("left")))


def _fence(core: "AgentCore", role: Role, _: str) -> None:
    owner = fenceable(core, role)
    node = core.settings.nodes[owner]
    assert node.fence is not None
    core.fence_again[owner] = core.now + FENCE_AGAIN_MS
    role.fencing = owner
    op_id = _begin(core, role, f"switch {owner} off")
    core.out.append(FenceNode(op_id, owner, "off", node.fence.within_ms))


def _begin(core: "AgentCore", role: Role, what: str) -> int:
    op_id = role.way.op_id = core.begin("way", role)
    core.note("intent", role.subject, what, op_id=op_id)
    return op_id


# ---------------------------------------------------------------- what they say


def _fail(core: "AgentCore", role: Role, _: str) -> None:
    core.fire_role(role, "broken")


def _fenced(core: "AgentCore", role: Role, _: str) -> None:
    role.way.fenced = (*role.way.fenced, role.fencing)
    core.clear_alarm("fence-failed", f"node {role.fencing}", "it is seen to be off")


def _unfenced(core: "AgentCore", role: Role, _: str) -> None:
    text = f"{role.way.why or 'no answer'}; {role.settings.name} stays down until it is off"
    core.raise_alarm("fence-failed", f"node {role.fencing}", text)


def _blocked(core: "AgentCore", role: Role, _: str) -> None:
    name = role.settings.name
    text = (
        f"{role.last_owner or 'another node'} may still run it, and no majority says otherwise; if "
        f"you know it is off: standpipe failover {name} --to {core.settings.node} --force"
    )
    core.raise_alarm("exclusive-blocked", role.subject, text)


def _lease_lost(core: "AgentCore", role: Role, _: str) -> None:
    text = "no majority renewed the lease in time: stopped here, so that there is one copy"
    core.raise_alarm("lease-lost", role.subject, text)
    core.fire_role(role, "lease_lost")


def _hook_failed(core: "AgentCore", role: Role, _: str) -> None:
    core.raise_alarm("hook-failed", role.subject, role.way.why or "it did not say why")


def _undone(_: "AgentCore", role: Role, __: str) -> None:
    role.order = role.order_to = ""
    role.refused = f"{role.way.why or 'it could not be done in time'}; back in service here"


def _back(_: "AgentCore", role: Role, __: str) -> None:
    role.marks.append("owned")


HANDS = {
    "place": _place,
    "start": _start,
    "stop": _stop,
    "kill": kill_all,
    "promote": _hook_first("promote"),
    "demote_first": _hook_first("demote"),
    "demote": _demote,
    "drain": hook_aside("drain"),
    "undrain": hook_aside("undrain"),
    "ramp": hook_aside("ramp"),
    "ship": _ship,
    "mark": _mark,
    "fence": _fence,
    "fail": _fail,
    "fenced": _fenced,
    "unfenced": _unfenced,
    "blocked": _blocked,
    "lease": _lease_lost,
    "hook": _hook_failed,
    "undone": _undone,
    "back": _back,
}
