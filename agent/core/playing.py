# SPDX-License-Identifier: GPL-2.0-or-later
"""The agent's hand on the groups' table: what the keeper says, what that makes of this node's part,
and what follows from it."""

from typing import TYPE_CHECKING

from agent.core import announcing, courses, governor, network, operate, paging, tending
from agent.core import role as roles
from agent.core.bringing import IDLE, SERVING
from agent.core.care_rows import OFF
from agent.core.model import Decision, GroupDeed, Health, KeeperLost, KeeperSaid
from agent.core.orders import KeepEpoch
from agent.core.role import ACTIVE, HELD, PROBATION, QUARANTINE, STARTING, Role

if TYPE_CHECKING:
    from agent.core.engine import AgentCore

ACQUAINTED_MS = 3_000  # by then the nodes have heard what the others could do
TURN_MS = 10_000  # beyond the services' own start, for a preferred node that could come up first


def keeper_said(core: "AgentCore", event: KeeperSaid) -> bool | None:
    """The truth about the addresses, from the one that has them; False where nothing is new."""
    before, core.keeper, core.keeper_ms = core.keeper, event, core.now
    if core.keeper_lost or before is None:
        core.keeper_lost = ""
        core.clear_alarm("keeper-lost", "keeper", "it is back")
    for decision in event.decisions:
        if decision.machine != "packets":
            core.decided(decision)
    network.noticed(core, before, event)
    changed = before is None or before.groups != event.groups or before.peers != event.peers
    if not changed and not event.decisions:
        return False
    for name, role in core.roles.items():
        if name in event.groups:
            _group_said(core, role, event, first=before is None)
    return None


def _group_said(core: "AgentCore", role: Role, event: KeeperSaid, first: bool) -> None:
    deed = event.groups[role.settings.name]
    adopted = first and deed.tenure > 0
    if adopted:
        role.epoch = deed.epoch  # this keeper served before this agent was started
    peer_ready = bool(operate.takers(core, role))
    for care in role.cares:
        care.peer_ready = peer_ready
    _hear_deed(core, role, deed, adopted)
    if first and not role.held:
        _look_around(core, role)
    for care in role.cares:
        tending.tick(core, care)
    announcing.heard(core, role, deed, event.decisions)
    _settle_standby(core, role)


def keeper_gone(core: "AgentCore", event: KeeperLost) -> None:
    """Its beat is missing."""
    core.keeper_lost = event.why
    core.raise_alarm("keeper-lost", "keeper", event.why)


def _hear_deed(core: "AgentCore", role: Role, deed: GroupDeed, adopted: bool) -> None:
    role.deed_state, role.deed_active = deed.state, deed.active
    role.lease, role.lease_until_ms = deed.lease, deed.lease_until_ms
    if deed.orphaned and not role.orphaned:
        role.orphaned_ms = core.now
    role.orphaned = deed.orphaned
    if deed.active or deed.state in HELD:
        role.lost_ms = None
    elif role.lost_ms is None:
        role.lost_ms = core.now
    role.epoch = max(role.epoch, deed.epoch)
    if deed.state in HELD:
        fire_role(core, role, "took")
        courses.fire(core, role, "adopted" if adopted else "took")
        role.last_owner = core.settings.node
        return
    if role.state == ACTIVE:
        fire_role(core, role, "left")
    if role.plain_active():
        tell_move(core, role, deed.active)  # it cannot say so itself
    if deed.active:
        for kind in ("exclusive-blocked", "lease-lost"):
            core.clear_alarm(kind, role.subject, f"{deed.active} serves")
    role.last_owner = deed.active or role.last_owner


def _look_around(core: "AgentCore", role: Role) -> None:
    """An earlier agent may have begun to bring the group up: nothing of it may go on unseen."""
    if role.cold:
        role.way.claims = role.way.releasing = role.lease not in ("", "refused")
        for care in role.cares:
            tending.fire_care(core, care, "left_over")


def _settle_standby(core: "AgentCore", role: Role) -> None:
    """What a node without the addresses has to do: come up, or go down again."""
    assert core.keeper is not None
    name, me = role.settings.name, core.settings.node
    peers = core.keeper.peers
    wanted = any(p.state == "alive" and p.wanted.get(name) == me for p in peers.values())
    role.way.fenced = tuple(
        node for node in role.way.fenced if node not in peers or peers[node].state != "alive"
    )  # one that speaks is on again
    role.barred = _barred(core, role)
    if role.orphaned:
        role.my_turn = _my_turn(core, role)
        fire_role(core, role, "orphaned")
    elif wanted or role.order == "take":
        fire_role(core, role, "wanted")
    elif role.state == STARTING and role.deed_active not in ("", me):
        fire_role(core, role, "served")


def _my_turn(core: "AgentCore", role: Role) -> bool:
    """Whether no preferred node is heard that could bring the group up, or it has had its time."""
    nodes = role.settings.nodes
    before = nodes[: nodes.index(core.settings.node)]
    peers = core.keeper.peers if core.keeper is not None else {}
    young = core.now - core.began_ms < ACQUAINTED_MS
    able = any(
        (peer.state == "alive" and (young or role.settings.name in peer.able))
        or (peer.state == "unknown" and young)
        for node, peer in peers.items()
        if node in before
    )
    return not able or core.now - role.orphaned_ms >= role.way.start_ms + TURN_MS


def _barred(core: "AgentCore", role: Role) -> str:
    """What other groups say against bringing this one up here; "" for nothing."""
    for name in role.settings.after:
        owner = core.owner(name)
        if not owner:
            return f"group {name}, which it needs, is served by nobody"
        if owner in core.settings.nodes and not core.serves(name, owner):
            return f"group {name}, which it needs, does not answer on {owner}"
    others = core.keeper.peers if core.keeper is not None else {}
    elsewhere = any(others[node].state == "alive" for node in role.settings.nodes if node in others)
    for name in role.settings.apart:
        if core.owner(name) == core.settings.node and elsewhere:
            return f"group {name}, from which it must be kept apart, is here"
    return ""


def fire_role(core: "AgentCore", role: Role, event: str) -> None:
    """One event into a group's table, with its record and what it leads to."""
    role.now = core.now
    role.way.has_addresses = role.held
    before, way_before = role.state, role.way.state
    choice = roles.TABLE.choose(before, event, role)
    row = choice.row
    if row is None:
        return
    role.state = row.next or before
    role.rule = row.rule
    name = role.settings.name
    if not row.quiet:
        core.decided(
            Decision(
                f"role {name}",
                row.rule,
                before,
                role.state,
                row.why,
                {"keeper": role.deed_state, "epoch": role.epoch, "orphaned": role.orphaned},
                tuple(choice.rejected),
            )
        )
    for effect in choice.effects:
        effect(role)
    if role.way.state not in (way_before, IDLE):
        role.winding_down = False
    if role.way.state != way_before:
        core.note("decision", f"way {name}", f"{row.rule}: {way_before} -> {role.way.state}")
    courses.carry_out(core, role)
    keep_marks(core, role)
    if role.state == ACTIVE and before != ACTIVE:
        tell_move(core, role, core.settings.node)
    if role.state == QUARANTINE:
        core.raise_alarm("group-quarantined", f"group {name}", row.why)
    elif before == QUARANTINE:
        core.clear_alarm("group-quarantined", f"group {name}", row.why)
    if role.paged:
        role.paged = False
        paging.gather(core, role)


def keep_marks(core: "AgentCore", role: Role) -> None:
    """Write down what must be known after a restart."""
    while role.marks:
        mark = role.marks.pop(0)
        number = role.turn(mark)
        op_id = core.begin("mark", role)
        core.note("intent", role.subject, f"{mark} {number}", op_id=op_id)
        core.out.append(KeepEpoch(op_id, f"{mark}:{role.settings.name}", number))


def tell_move(core: "AgentCore", role: Role, to: str) -> None:
    """People hear that a group is elsewhere now."""
    if role.last_owner in ("", to):
        return
    under = "" if role.plain_active() else f" under epoch {role.epoch}"
    text = f"from {role.called(role.last_owner)} to {role.called(to)}{under}"
    core.raise_alarm("group-moved", role.subject, text)


def tick_role(core: "AgentCore", role: Role) -> None:
    """Time goes by for one group."""
    role.maintenance = core.maintained()
    announcing.watch(core, role)
    for care in role.cares:
        if care.state == OFF and (courses.serves(role) or courses.stands_by(role)):
            tending.fire_care(core, care, "wanted")
        tending.tick(core, care)
    role.left_ill = role.left_ill and any(not care.well for care in role.cares)
    keep_marks(core, role)
    if core.keeper is not None and role.orphaned:
        _settle_standby(core, role)
    if role.state == PROBATION:
        _probe(core, role)


def leave(core: "AgentCore", role: Role) -> None:
    """A group that must be taken down here before it can go elsewhere, where it cannot stay or
    where its preferred node has been well for long enough."""
    if role.state != ACTIVE or not role.way.steps_down or role.way.state != SERVING:
        return
    why = role.failing() or role.pressing()
    if why and not core.maintained() and operate.takers(core, role):
        courses.begin_down(core, role, "", planned=not role.failing())
    elif not why:
        to = operate.failback_to(core, role)
        if to and governor.may_move(core, role, len(core.roles)):
            courses.begin_down(core, role, to, planned=True)


def _probe(core: "AgentCore", role: Role) -> None:
    """Good health without a break, for as long as its probation lasts."""
    well = all(c.well and c.health(core.now) is Health.UP for c in role.cares) or role.cold
    if not well:
        if role.proven_since:
            fire_role(core, role, "relapsed")
        role.proven_since = 0
    elif not role.proven_since:
        role.proven_since = core.now
    if role.proven_since and core.now - role.proven_since >= role.probation_ms():
        fire_role(core, role, "proven")
