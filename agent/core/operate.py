# SPDX-License-Identifier: GPL-2.0-or-later
"""What operators may ask for, and the refusals: each says what to do next."""

from typing import TYPE_CHECKING, Any

from agent.core import announcing, arming, courses, governor
from agent.core.bringing import DRAINING, SERVING
from agent.core.geo import IDLE, Geo
from agent.core.model import Asked
from agent.core.naming import fire_geo
from agent.core.orders import Reply
from agent.core.role import ACTIVE, QUARANTINE, Role
from agent.core.settings import Failback
from agent.core.tending import fire_care

if TYPE_CHECKING:
    from agent.core.engine import AgentCore

MOVE_WITHIN_MS = 10_000
OUTRANK_WITHIN_MS = 3_000  # a plain peer that ranks below gives way to the first advert
MAINTENANCE_S = 7200
FORCE_MS = 60_000


class Pending:
    """A move that was begun for an operator and has not been seen to end."""

    __slots__ = ("began_ms", "group", "request_id", "shown", "to", "until_ms")

    def __init__(self, request_id: int, group: str, to: str, began_ms: int, until_ms: int) -> None:
        self.request_id = request_id
        self.group = group
        self.to = to  # "" = to any other node
        self.began_ms = began_ms
        self.until_ms = until_ms
        self.shown = ""  # as the operator was told last


def asked(core: "AgentCore", event: Asked) -> None:
    """One request; its refusal or its end comes as a Reply."""
    core.note("operator", event.who, f"{event.verb} {_shown(event.args)}")
    if event.verb in ("switchover", "failover"):
        name = str(event.args.get("group", "")).removeprefix("geo.")
        if name in core.geos:
            _move_geo(core, event, core.geos[name])
        elif name in core.roles:
            _move_group(core, event, core.roles[name])
        else:
            known = ", ".join([*core.roles, *core.geos]) or "none on this node"
            _refuse(core, event, f"no group or geo named {name!r} here; there are: {known}")
    elif event.verb == "maintenance":
        _maintain(core, event)
    elif event.verb == "clear":
        _clear(core, event)
    elif event.verb == "fence":
        arming.asked(core, event)
    else:
        _refuse(core, event, f"unknown verb {event.verb!r}: see standpipe --help")


def _shown(args: dict[str, Any]) -> str:
    return " ".join(f"{key}={value}" for key, value in args.items() if value not in (None, False))


def _refuse(core: "AgentCore", event: Asked, text: str) -> None:
    core.out.append(Reply(event.request_id, False, text))


# ---------------------------------------------------------------- groups


def _move_group(core: "AgentCore", event: Asked, role: Role) -> None:
    name, me = role.settings.name, core.settings.node
    to = _node(core, role, str(event.args.get("to") or ""))
    force = bool(event.args.get("force"))
    here = role.state == ACTIVE
    refusal = _why_not(core, event, role, to, here, force)
    if refusal:
        _refuse(core, event, refusal)
        return
    within_ms = OUTRANK_WITHIN_MS if role.plain_active() and not here else MOVE_WITHIN_MS
    within_ms += role.way.start_ms if role.way.brought else 0
    role.refused = ""
    drain_ms = _drain_ms(event, role)
    if here:
        target = "" if to in role.settings.plain_peers else to
        within_ms += drain_ms + (role.way.stop_ms if role.way.stops_first else 0)
    else:
        target = me
    core.pending.append(Pending(event.request_id, name, target, core.now, core.now + within_ms))
    core.out.append(Reply(event.request_id, None, f"{name}: asked for, waiting to see it done"))
    if here and role.way.steps_down:
        courses.begin_down(core, role, target, planned=True, drain_ms=drain_ms)
    elif here:
        role.order, role.order_to = "give", target
    else:
        _take(core, role, force)


def _drain_ms(event: Asked, role: Role) -> int:
    """How long sessions are waited for: as asked for now, else as configured."""
    asked_s = event.args.get("drain_s")
    if isinstance(asked_s, int) and asked_s > 0:
        return asked_s * 1000
    realtime = role.settings.realtime
    return realtime.deadline_ms if realtime is not None and realtime.drain else 0


def _take(core: "AgentCore", role: Role, force: bool) -> None:
    role.order = "take"
    if force:
        role.force_until = core.now + FORCE_MS
        if role.way.exclusive and role.last_owner not in ("", core.settings.node):
            role.way.fenced = (*role.way.fenced, role.last_owner)  # by the operator's word
    if role.way.brought:
        core.fire_role(role, "wanted")


def _node(core: "AgentCore", role: Role, to: str) -> str:
    """The node that `to` means: where it names a site, this node or the first ready one there."""
    there = [n for n in role.settings.nodes if core.settings.nodes[n].site == to]
    if to in role.settings.nodes or not there:
        return to
    if core.settings.node in there:
        return core.settings.node
    ready = (n for n in there if _takes(core, role, n))
    return next(ready, there[0])


def _takes(core: "AgentCore", role: Role, node: str) -> bool:
    """Whether a peer is heard that can take the group; a cold one is brought up for it."""
    peer = core.keeper.peers.get(node) if core.keeper is not None else None
    if peer is None or peer.state != "alive":
        return False
    name = role.settings.name
    return name in peer.able or peer.groups.get(name, ("", False))[1]


def takers(core: "AgentCore", role: Role) -> list[str]:
    """The other nodes that could take the group now, preferred first."""
    return [n for n in role.settings.nodes if _takes(core, role, n)]


def failback_to(core: "AgentCore", role: Role) -> str:
    """The preferred node that has been fit for as long as `failback` asks; "" for none.

    Only for a group that must be taken down here first; the others are taken back by that node.
    """
    settings, me = role.settings, core.settings.node
    if settings.failback is not Failback.AFTER or core.maintained() or not core.window_open(role):
        role.ready_since = 0
        return ""
    before = settings.nodes[: settings.nodes.index(me)]
    to = next((node for node in before if _takes(core, role, node)), "")
    if not to or to != role.way.failback_to:
        role.way.failback_to, role.ready_since = to, core.now
        return ""
    return to if core.now - role.ready_since >= settings.failback_ms else ""


def _why_not(core: "AgentCore", event: Asked, role: Role, to: str, here: bool, force: bool) -> str:
    name, me = role.settings.name, core.settings.node
    plain = role.settings.plain_peers
    if to and to not in role.settings.nodes + plain:
        there = ", ".join(role.settings.nodes + plain)
        return f"{name} may run on {there}; {to!r} is none of them"
    if event.verb == "failover" and not force:
        return f"failover breaks before it makes: add --force, or try standpipe switchover {name}"
    if any(p.group == name for p in core.pending) or (here and role.way.state != SERVING):
        return f"{name} is being moved already: see standpipe status --watch"
    if here and to == me:
        return f"{name} is on {me} already"
    return _why_no_target(core, role, to) if here else _why_not_take(core, event, role, to, force)


def _why_not_take(core: "AgentCore", event: Asked, role: Role, to: str, force: bool) -> str:
    """What speaks against taking it here, asked on a node that does not have it."""
    name, me, owner = role.settings.name, core.settings.node, core.owner(role.settings.name)
    plain = role.settings.plain_peers
    if to and to == owner:
        return f"{name} is on {role.called(owner)} already"
    if to and to != me:
        able = [n for n in (owner or "the active node", to) if n not in plain]
        hint = f"run this on {' or on '.join(able)}" if able else "its owner takes no orders"
        return f"{name} is not on {me}: {hint}"
    if event.args.get("drain_s") and owner:
        return f"{name} drains where it runs: run this on {role.called(owner)}"
    if role.way.stops_first and owner and not force:
        hint = f"run this on {owner}" if owner not in plain else "stop it there first"
        return f"{name} goes out of service on {role.called(owner)} first, in order: {hint}"
    if force and role.way.exclusive and owner:
        hint = f"if it must, first: standpipe fence {owner} --off --yes"
        return f"{name} runs on {owner}, which is heard, and must never run twice; {hint}"
    why = role.proof(core.now) if not role.way.brought else role.startable(core.now)
    if why and not force:
        hint = f"mend that, or insist with: standpipe failover {name} --to {me} --force"
        return f"{me} is not ready for {name}: {why}; {hint}"
    return ""


def _why_no_target(core: "AgentCore", role: Role, to: str) -> str:
    name = role.settings.name
    said = core.keeper
    peers = said.peers if said is not None else {}
    plain = role.settings.plain_peers
    names = [to] if to and to not in plain else [n for n in role.settings.nodes if n in peers]
    able = [node for node in names if _takes(core, role, node)]
    if to in plain and able:
        return (
            f"{able[0]} is ready and goes before a plain peer: to have it pass, say there first: "
            "standpipe maintenance on"
        )
    if able or to in plain or (plain and not to):  # one of those may be there: priority 0 tells
        return ""
    states = "; ".join(
        f"{node} is {peers[node].state if node in peers else 'unknown'}"
        + (", not ready" if node in peers and peers[node].state == "alive" else "")
        for node in names
    )
    states = states or "it has no other node"
    return f"nobody can take {name} ({states}): standpipe explain {name} there"


def settle(core: "AgentCore") -> None:
    """Ends the moves that are seen to be done, and those whose time is over."""
    for move in list(core.pending):
        role = core.roles[move.group]
        owner = core.owner(move.group)
        me = core.settings.node
        done = owner == move.to if move.to else owner not in ("", me)
        if role.refused and not done:
            text = f"{move.group}: not done: {role.refused}"
            core.out.append(Reply(move.request_id, False, text))
        elif done:
            took = core.now - move.began_ms
            under = "" if owner in role.settings.plain_peers else f"epoch {role.epoch}, "
            text = f"{move.group}: now on {role.called(owner)} ({under}{took} ms)"
            core.out.append(Reply(move.request_id, True, text, {"owner": owner, "took_ms": took}))
        elif core.now >= move.until_ms:
            text = (
                f"{move.group}: not done in {(move.until_ms - move.began_ms) // 1000} s, given up; "
                f"it is on {role.called(owner) or 'no node that is heard'}: "
                + _what_now(role, move, owner)
            )
            core.out.append(Reply(move.request_id, False, text))
        else:
            _progress(core, role, move)
            continue
        core.note("operator", f"group {move.group}", text)
        role.order = role.order_to = ""
        core.pending.remove(move)


def _progress(core: "AgentCore", role: Role, move: Pending) -> None:
    """Long work shows where it is, at each change."""
    shown = role.way.state
    if role.way.state == DRAINING:
        left = "an unknown number of" if role.way.sessions is None else str(role.way.sessions)
        left_s = max(0, role.way.late_at - core.now) // 1000
        shown = f"draining, {left} sessions are up, {left_s} s at the most"
    if shown != move.shown and role.way.steps_down:
        move.shown = shown
        facts = {"step": role.way.state, "sessions": role.way.sessions}
        core.out.append(Reply(move.request_id, None, f"{move.group}: {shown}", facts))


def _what_now(role: Role, move: Pending, owner: str) -> str:
    if owner in role.settings.plain_peers and move.to:
        return (
            f"the priority of {move.to} is not above its own; stop that router or lower its "
            "priority, then ask again"
        )
    return f"standpipe explain {move.group}"


# ---------------------------------------------------------------- names


def _move_geo(core: "AgentCore", event: Asked, geo: Geo) -> None:
    name, to = geo.settings.name, str(event.args.get("to") or "")
    force = bool(event.args.get("force"))
    if to not in geo.settings.sites:
        sites = ", ".join(geo.settings.sites)
        _refuse(core, event, f"{name}: say where to with --to, one of {sites}")
        return
    if geo.state != IDLE:
        _refuse(core, event, f"{name} is being moved already ({geo.state}): wait for its end")
        return
    others = [s for s in geo.settings.sites if s != to]
    lost = [s for s in others if not core.site_answers(s)]
    if lost and not force:
        _refuse(
            core,
            event,
            f"{', '.join(lost)} does not answer, so this is a failover and two sites alone cannot "
            f"know who is right: if you do, confirm: standpipe failover {name} --to {to} --force",
        )
        return
    geo.target, geo.request_id, geo.began_ms = to, event.request_id, core.now
    geo.written = geo.agree = False
    geo.verify_until = geo.observe_op = 0
    core.out.append(Reply(event.request_id, None, f"{name}: sending the world to {to}"))
    fire_geo(core, geo, "confirmed")


# ---------------------------------------------------------------- maintenance, clear


def _maintain(core: "AgentCore", event: Asked) -> None:
    on = bool(event.args.get("on"))
    for_s = event.args.get("for_s") or MAINTENANCE_S
    if not isinstance(for_s, int) or for_s < 0:
        _refuse(core, event, f"maintenance for {for_s!r} s: give a whole number, as in --for 2h")
        return
    if on:
        core.maintenance_until = core.now + for_s * 1000
        core.maintenance_by = event.who
        text = (
            f"maintenance is on for {for_s} s: {core.settings.node} watches and alarms, restarts "
            "nothing and takes nothing over; what it serves stays until you switch it over"
        )
    else:
        core.maintenance_until = 0
        core.clear_alarm("maintenance-forgotten", f"node {core.settings.node}", "switched off")
        text = "maintenance is off"
    for role in core.roles.values():
        role.maintenance = on
    core.out.append(Reply(event.request_id, True, text))


def _clear(core: "AgentCore", event: Asked) -> None:
    name = str(event.args.get("group") or "")
    roles = (
        [core.roles[name]] if name in core.roles else list(core.roles.values()) if not name else []
    )
    if not roles:
        _refuse(
            core, event, f"no group {name!r} here; there are: {', '.join(core.roles) or 'none'}"
        )
        return
    governor.cleared(core)
    for role in roles:
        for care in role.cares:
            care.budget.clear()
            fire_care(core, care, "cleared")
        announcing.cleared(core, role)
        if role.state == QUARANTINE:
            core.fire_role(role, "cleared")
    names = ", ".join(role.settings.name for role in roles)
    core.out.append(Reply(event.request_id, True, f"cleared: {names}; budgets are whole again"))
