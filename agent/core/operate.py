# SPDX-License-Identifier: GPL-2.0-or-later
"""What operators may ask for, and the refusals: each says what to do next."""

from typing import TYPE_CHECKING, Any

from agent.core import announcing
from agent.core.geo import IDLE, Geo
from agent.core.model import Asked, Reply
from agent.core.naming import fire_geo
from agent.core.role import ACTIVE, QUARANTINE, Role
from agent.core.tending import fire_care

if TYPE_CHECKING:
    from agent.core.engine import AgentCore

MOVE_WITHIN_MS = 10_000
OUTRANK_WITHIN_MS = 3_000  # a plain peer that ranks below gives way to the first advert
MAINTENANCE_S = 7200
FORCE_MS = 60_000


class Pending:
    """A move that was begun for an operator and has not been seen to end."""

    __slots__ = ("began_ms", "group", "request_id", "to", "until_ms")

    def __init__(self, request_id: int, group: str, to: str, began_ms: int, until_ms: int) -> None:
        self.request_id = request_id
        self.group = group
        self.to = to  # "" = to any other node
        self.began_ms = began_ms
        self.until_ms = until_ms


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
    slow = sum(c.settings.start_within_ms for c in role.cares) if role.cold else 0
    if here:
        target = "" if to in role.settings.plain_peers else to
        role.order, role.order_to = "give", target
    else:
        role.order = "take"
        target = me
        if force:
            role.force_until = core.now + FORCE_MS
    within_ms = OUTRANK_WITHIN_MS if role.plain_active() and not here else MOVE_WITHIN_MS
    core.pending.append(
        Pending(event.request_id, name, target, core.now, core.now + within_ms + slow)
    )
    core.out.append(Reply(event.request_id, None, f"{name}: asked for, waiting to see it done"))
    if not here and role.cold:
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
    return role.cold or peer.groups.get(role.settings.name, ("", False))[1]


def _why_not(core: "AgentCore", event: Asked, role: Role, to: str, here: bool, force: bool) -> str:
    name, me = role.settings.name, core.settings.node
    plain = role.settings.plain_peers
    if to and to not in role.settings.nodes + plain:
        there = ", ".join(role.settings.nodes + plain)
        return f"{name} may run on {there}; {to!r} is none of them"
    if event.verb == "failover" and not force:
        return f"failover breaks before it makes: add --force, or try standpipe switchover {name}"
    if any(p.group == name for p in core.pending):
        return f"{name} is being moved already: see standpipe status --watch"
    if here and to == me:
        return f"{name} is on {me} already"
    if not here:
        owner = core.owner(name)
        if to and to == owner:
            return f"{name} is on {role.called(owner)} already"
        if to and to != me:
            able = [n for n in (owner or "the active node", to) if n not in plain]
            hint = f"run this on {' or on '.join(able)}" if able else "its owner takes no orders"
            return f"{name} is not on {me}: {hint}"
        why = role.proof(core.now) if not role.cold else role.startable(core.now)
        if why and not force:
            hint = f"mend that, or insist with: standpipe failover {name} --to {me} --force"
            return f"{me} is not ready for {name}: {why}; {hint}"
        return ""
    return _why_no_target(core, role, to)


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
        if done:
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
            continue
        core.note("operator", f"group {move.group}", text)
        role.order = role.order_to = ""
        core.pending.remove(move)


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
    for role in roles:
        for care in role.cares:
            care.budget.clear()
            fire_care(core, care, "cleared")
        announcing.cleared(core, role)
        if role.state == QUARANTINE:
            core.fire_role(role, "cleared")
    names = ", ".join(role.settings.name for role in roles)
    core.out.append(Reply(event.request_id, True, f"cleared: {names}; budgets are whole again"))
