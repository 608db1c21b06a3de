# SPDX-License-Identifier: GPL-2.0-or-later
"""The agent's core: samples, answers, the keeper's reports and operators in; words and deeds out.

It routes events to the services' table (`care`), the groups' table (`role`) and the names' table
(`geo`), and turns what they say into actions, each with its journal record before it. Nothing here
touches the world: `step` returns actions, `deadline` says when it wants to be woken next.
"""

from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import Any

from agent.core import announcing, naming, network, notice, operate, tending, word
from agent.core import role as roles
from agent.core.alarm import AlarmBook
from agent.core.care import Care
from agent.core.geo import Geo
from agent.core.keeping import PacketRefused
from agent.core.model import (
    AgentAction,
    AgentEvent,
    Alarm,
    Asked,
    Checked,
    ConfigAccepted,
    ConfigRefused,
    Decision,
    GroupDeed,
    Health,
    KeepEpoch,
    KeeperLost,
    KeeperSaid,
    Outcome,
    Reading,
    Record,
    Sampled,
    Severity,
    SourceFailed,
    StoreFailed,
    StoreMended,
    Tell,
    Ticked,
    Word,
)
from agent.core.resource import ResourceWatch
from agent.core.role import ACTIVE, PROBATION, QUARANTINE, STARTING, Role
from agent.core.settings import Settings

TICK_MS = 1000
KEPT_DECISIONS = 256
HELD = ("active", "doubt", "giving")
BACKUP = "backup"


class AgentCore:
    """One node's agent. `step(event, now)`, then `deadline()`; times in ms of one clock.

    epochs: what the store holds, by "group:NAME", "owned:NAME", "left:NAME" and "geo:NAME".
    history: by resource, (at_ms, reading) of an earlier life, oldest first. standing: its alarms.
    """

    def __init__(
        self,
        settings: Settings,
        epochs: dict[str, int],
        now: int,
        history: dict[str, list[tuple[int, Reading]]] | None = None,
        standing: Sequence[Alarm] = (),
    ) -> None:
        self.settings = settings
        self.now = now
        self.began_ms = now
        self.out: list[AgentAction] = []
        self.alarms = AlarmBook()
        self.decisions: deque[tuple[int, Decision]] = deque(maxlen=KEPT_DECISIONS)
        self.keeper: KeeperSaid | None = None
        self.keeper_ms = now
        self.keeper_lost = ""
        self.resources: dict[str, ResourceWatch] = {}
        self.history = history or {}
        self.devices: dict[str, notice.Device] = {
            name: notice.Device(device, now) for name, device in settings.devices.items()
        }
        self.config_problems: tuple[str, ...] = ()
        self.store_failed = ""
        self.maintenance_until = 0
        self.maintenance_by = ""
        self.pending: list[operate.Pending] = []
        self.packets: dict[str, tuple[int, int]] = {}  # kind -> (count, when it last grew)
        self.wrong_since: dict[tuple[str, str], int] = {}  # (alarm kind, subject)
        self.calm_at: dict[tuple[str, str], int] = {}  # the same: when nothing new means over
        self.geos = {
            name: Geo(
                geo, partial(naming.ask, self), partial(naming.reply, self), self.site_answers
            )
            for name, geo in settings.geos.items()
        }
        self._ops: dict[int, tuple[str, Any]] = {}
        self._next_op = 0
        self._tick_at = now
        self.words: dict[str, Word] = {}
        self.words_ms = now  # when they were last thought over
        self.roles: dict[str, Role] = {}
        for group in settings.own_groups():
            cares = [
                Care(group.name, service, partial(tending.order, self), group.standby.value)
                for service in group.services
            ]
            role = self.roles[group.name] = Role(group, cares)
            role.epoch = role.ceiling = epochs.get(f"group:{group.name}", 0)
            if epochs.get(f"owned:{group.name}", 0) > epochs.get(f"left:{group.name}", 0):
                role.state = PROBATION  # it owned the group and never let go: it fell
        for alarm in standing:  # whoever was told of it must hear of its end
            self.alarms.restore(alarm, now)
            network.recall(self, alarm)
        for name, geo in self.geos.items():
            geo.epoch = epochs.get(f"geo:{name}", 0)

    # ------------------------------------------------------------ the two calls

    def step(self, event: AgentEvent | PacketRefused, now: int) -> list[AgentAction]:
        """Take in one event; the actions are to be carried out in order."""
        self.now = now
        out: list[AgentAction] = []
        self.out = out
        if _HANDLERS[type(event)](self, event) is not False:
            word.speak(self)
        return out

    def deadline(self) -> int:
        """When to feed `Ticked` next."""
        return self._tick_at

    # ------------------------------------------------------------ what all handlers use

    def note(self, kind: str, subject: str, text: str, **detail: Any) -> None:
        """A line for the journal."""
        self.out.append(Record(kind, subject, text, detail))

    def raise_alarm(
        self, kind: str, subject: str, text: str, severity: Severity | None = None
    ) -> None:
        """Tells people where this is an edge."""
        alarm = self.alarms.raise_(kind, subject, text, self.now, severity)
        if alarm is not None:
            self.note("alarm", subject, f"{alarm.severity}: {text}", id=alarm.alarm_id)
            self.out.append(Tell(alarm))

    def clear_alarm(self, kind: str, subject: str, text: str) -> None:
        """Tells people where this is an edge."""
        alarm = self.alarms.clear(kind, subject, self.now, text)
        if alarm is not None:
            self.note("alarm", subject, f"cleared: {text}", id=alarm.alarm_id)
            self.out.append(Tell(alarm))

    def decided(self, decision: Decision) -> None:
        """Remember it for `explain`, and write it down."""
        self.decisions.append((self.now, decision))
        text = f"{decision.rule}: {decision.before} -> {decision.after}: {decision.why}"
        self.out.append(Record("decision", decision.machine, text, {"inputs": decision.inputs}))

    def begin(self, what: str, subject: Any) -> int:
        """A number for an operation, so that its outcome finds its way home."""
        self._next_op += 1
        self._ops[self._next_op] = (what, subject)
        return self._next_op

    def maintained(self) -> bool:
        """Whether maintenance is on."""
        return self.now < self.maintenance_until

    def owner(self, group: str) -> str:
        """The node, or the plain peer's address, that is known to have the group; "" if none."""
        said = self.keeper
        if said is None:
            return ""
        deed = said.groups.get(group)
        if deed is not None and deed.state in HELD:
            return self.settings.node
        for name, peer in said.peers.items():
            if peer.state == "alive" and peer.groups.get(group, ("", False))[0] in HELD:
                return name
        role = self.roles.get(group)
        if role is None or role.deed_state != BACKUP or role.orphaned:
            return ""
        return role.plain_active()

    def site_answers(self, site: str) -> bool:
        """Whether a group that serves some name at `site` is seen to be in service there."""
        groups = {geo.groups[site] for geo in self.settings.geos.values() if site in geo.groups}
        for group in groups:
            owner = self.owner(group)
            if owner in self.settings.nodes and self.settings.nodes[owner].site == site:
                return self._serves(group, owner)
        return False

    def _serves(self, group: str, owner: str) -> bool:
        role = self.roles.get(group)
        if owner == self.settings.node:
            return role is not None and role.serves_well(self.now)
        return self.keeper is not None and self.keeper.peers[owner].groups[group][1]

    # ------------------------------------------------------------ outcomes

    def _outcome(self, event: Outcome) -> bool:
        what, subject = self._ops.pop(event.op_id, ("", None))
        if not what:
            return False  # late, or of an earlier life: it answers nothing that is asked now
        if what == "observed":
            naming.observed(self, subject, event)
            return False
        self.note("outcome", what, event.detail or "", op_id=event.op_id, ok=event.ok)
        if what == "service" and subject.op_id == event.op_id:
            subject.detail = event.detail or subject.detail
            ok = event.ok
            if subject.state == "stopping" and "running" in event.facts:  # it was looked at
                ok = event.facts["running"] is False
            tending.fire_care(
                self, subject, "done" if ok else "unknown" if ok is None else "failed"
            )
        elif what == "ceiling":
            role, ceiling = subject
            role.storing = 0
            role.store_at = 0 if event.ok else self.now + word.STORE_AGAIN_MS
            if event.ok:
                role.ceiling = max(role.ceiling, ceiling)
        elif what == "geo" and subject.op_id == event.op_id:
            naming.outcome(self, subject, event)
        elif what == "announce":
            announcing.ended(self, subject, event)
        return True

    # ------------------------------------------------------------ the keeper

    def _keeper_said(self, event: KeeperSaid) -> bool | None:
        before, self.keeper, self.keeper_ms = self.keeper, event, self.now
        if self.keeper_lost or before is None:
            self.keeper_lost = ""
            self.clear_alarm("keeper-lost", "keeper", "it is back")
        for decision in event.decisions:
            if decision.machine != "packets":
                self.decided(decision)
        network.noticed(self, before, event)
        changed = before is None or before.groups != event.groups or before.peers != event.peers
        if not changed and not event.decisions:
            return False
        for name, role in self.roles.items():
            deed = event.groups.get(name)
            if deed is None:
                continue
            if before is None and deed.tenure:
                role.epoch = deed.epoch  # this keeper served before this agent was started
            self._hear_deed(role, deed)
            announcing.heard(self, role, deed, event.decisions)
            self._settle_standby(role)
        operate.settle(self)
        return True

    def _hear_deed(self, role: Role, deed: GroupDeed) -> None:
        role.deed_state, role.deed_active = deed.state, deed.active
        role.orphaned = deed.orphaned
        role.epoch = max(role.epoch, deed.epoch)
        if deed.state in HELD:
            self.fire_role(role, "took")
            role.last_owner = self.settings.node
            return
        if role.state == ACTIVE:
            self.fire_role(role, "left")
        if role.plain_active():
            self._tell_move(role, deed.active)  # it cannot say so itself
        role.last_owner = deed.active or role.last_owner

    def _settle_standby(self, role: Role) -> None:
        """What a node without the addresses has to do: come up, or go down again."""
        assert self.keeper is not None
        name, me = role.settings.name, self.settings.node
        wanted = any(
            peer.state == "alive" and peer.wanted.get(name) == me
            for peer in self.keeper.peers.values()
        )
        if role.orphaned:
            self.fire_role(role, "orphaned")
        elif wanted or role.order == "take":
            self.fire_role(role, "wanted")
        elif role.state == STARTING and role.deed_active not in ("", me):
            self.fire_role(role, "served")

    def _keeper_gone(self, event: KeeperLost) -> None:
        self.keeper_lost = event.why
        self.raise_alarm("keeper-lost", "keeper", event.why)

    def fire_role(self, role: Role, event: str) -> None:
        """One event into a group's table, with its record."""
        role.now = self.now
        before = role.state
        choice = roles.TABLE.choose(before, event, role)
        row = choice.row
        if row is None:
            return
        role.state = row.next or before
        role.rule = row.rule
        name = role.settings.name
        if not row.quiet:
            self.decided(
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
        while role.marks:
            mark = role.marks.pop(0)
            op_id = self.begin("mark", role)
            self.note("intent", f"group {name}", f"{mark} epoch {role.epoch}", op_id=op_id)
            self.out.append(KeepEpoch(op_id, f"{mark}:{name}", role.epoch))
        if role.state == ACTIVE and before != ACTIVE:
            self._tell_move(role, self.settings.node)
        if role.state == QUARANTINE:
            self.raise_alarm("group-quarantined", f"group {name}", row.why)
        elif before == QUARANTINE:
            self.clear_alarm("group-quarantined", f"group {name}", row.why)

    def _tell_move(self, role: Role, to: str) -> None:
        if role.last_owner in ("", to):
            return
        under = "" if role.plain_active() else f" under epoch {role.epoch}"
        text = f"from {role.called(role.last_owner)} to {role.called(to)}{under}"
        self.raise_alarm("group-moved", f"group {role.settings.name}", text)

    # ------------------------------------------------------------ time

    def _ticked(self, _: Ticked) -> bool | None:
        if self.now < self._tick_at:
            return None
        notice.watch_self(self, self.now - self._tick_at)
        self._tick_at = self.now + TICK_MS
        for alarm in self.alarms.settle(self.now):
            self.note("alarm", alarm.subject, f"cleared: {alarm.text}", id=alarm.alarm_id)
            self.out.append(Tell(alarm))
        for role in self.roles.values():
            self._tick_role(role)
        for geo in self.geos.values():
            if geo.late_at and self.now >= geo.late_at:
                naming.fire_geo(self, geo, "late")
        naming.observe(self)
        notice.watch_time(self)
        if self.keeper is not None:
            network.watch(self, self.keeper)
        operate.settle(self)
        return None

    def _tick_role(self, role: Role) -> None:
        role.maintenance = self.maintained()
        announcing.watch(self, role)
        for care in role.cares:
            if role.state == ACTIVE and care.state == "off":
                tending.fire_care(self, care, "serving")
            if care.state in ("fresh", "well"):
                tending.judge(self, care)  # what was let be during maintenance, or known before
            if care.late_at and self.now >= care.late_at:
                tending.fire_care(self, care, "late")
        if role.state == PROBATION:
            well = all(c.well and c.health(self.now) is Health.UP for c in role.cares) or role.cold
            if not well:
                role.proven_since = 0
            elif not role.proven_since:
                role.proven_since = self.now
            if role.proven_since and self.now - role.proven_since >= role.settings.probation_ms:
                self.fire_role(role, "proven")


_HANDLERS: dict[type, Any] = {
    Sampled: notice.sampled,
    SourceFailed: notice.source_failed,
    Checked: tending.checked,
    Outcome: AgentCore._outcome,
    KeeperSaid: AgentCore._keeper_said,
    KeeperLost: AgentCore._keeper_gone,
    PacketRefused: network.packet_refused,
    Asked: operate.asked,
    ConfigRefused: notice.config_refused,
    ConfigAccepted: notice.config_accepted,
    StoreFailed: notice.store_failed,
    StoreMended: notice.store_mended,
    Ticked: AgentCore._ticked,
}
