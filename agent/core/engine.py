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

from agent.core import (
    announcing,
    arming,
    courses,
    governor,
    naming,
    network,
    notice,
    operate,
    paging,
    playing,
    proving,
    tending,
    word,
)
from agent.core.alarm import AlarmBook
from agent.core.care import Care
from agent.core.geo import Geo
from agent.core.governor import Governor
from agent.core.keeping import PacketRefused
from agent.core.model import (
    AgentEvent,
    Alarm,
    Asked,
    Carried,
    CertificateSaid,
    Checked,
    CloudSaid,
    ConfigAccepted,
    ConfigRefused,
    Decision,
    Died,
    KeeperLost,
    KeeperSaid,
    Lives,
    Outcome,
    Proved,
    Reading,
    Sampled,
    Severity,
    SourceFailed,
    StoreFailed,
    StoreMended,
    Ticked,
    Word,
)
from agent.core.orders import AgentAction, Record, Tell
from agent.core.readiness import Readiness
from agent.core.resource import ResourceWatch
from agent.core.role import HELD, PROBATION, Role
from agent.core.settings import Exclusive, GroupSettings, Settings

TICK_MS = 1000
KEPT_DECISIONS = 256
BACKUP = "backup"


class AgentCore:
    """One node's agent. `step(event, now)`, then `deadline()`; times in ms of one clock.

    epochs: what the store holds, by "group:NAME", "owned:NAME", "left:NAME" and "geo:NAME".
    history: by resource, (at_ms, reading) of an earlier life, oldest first. standing: its alarms.
    proofs: somebody looks for the proofs of readiness; without, services that answer are enough.
    """

    def __init__(
        self,
        settings: Settings,
        epochs: dict[str, int],
        now: int,
        history: dict[str, list[tuple[int, Reading]]] | None = None,
        standing: Sequence[Alarm] = (),
        proofs: bool = False,
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
        self.governor = Governor(settings.moves, settings.moves_in_ms, settings.moves_share_pct)
        self.arming = arming.arms(settings)
        self.fence_again: dict[str, int] = {}  # node -> not before
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
        self.local_minute = -1  # of the day, as people here count it; -1 not known
        self.words: dict[str, Word] = {}
        self.words_ms = now  # when they were last thought over
        self.roles: dict[str, Role] = {}
        for group in settings.own_groups():
            self.roles[group.name] = self._role(group, epochs, proofs)
        for alarm in standing:  # whoever was told of it must hear of its end
            self.alarms.restore(alarm, now)
            network.recall(self, alarm)
        for name, geo in self.geos.items():
            geo.epoch = epochs.get(f"geo:{name}", 0)

    def _role(self, group: GroupSettings, epochs: dict[str, int], proofs: bool) -> Role:
        order = partial(tending.order, self)
        cares = [Care(group.name, it, order, group.standby.value) for it in group.services]
        for care in cares:
            care.alone = group.exclusive is not Exclusive.SEGMENT
        role = Role(group, cares)
        role.epoch = role.ceiling = epochs.get(f"group:{group.name}", 0)
        role.stored = {mark: epochs.get(f"{mark}:{group.name}", 0) for mark in role.stored}
        if role.owned_last:
            role.state = PROBATION  # it owned the group and never let go: it fell
            role.marks.append("fell")
        if proofs:
            role.readiness = Readiness(group)
        return role

    # ------------------------------------------------------------ the two calls

    def step(self, event: AgentEvent | PacketRefused, now: int) -> list[AgentAction]:
        """Take in one event; the actions are to be carried out in order."""
        self.now = now
        out: list[AgentAction] = []
        self.out = out
        if _HANDLERS[type(event)](self, event) is not False:
            governor.watch(self)
            for role in self.roles.values():
                courses.advance(self, role)
                playing.leave(self, role)
            if self.pending:
                operate.settle(self)
            word.speak(self)
        return out

    def deadline(self) -> int:
        """When to feed `Ticked` next."""
        leases = (role.lease_until_ms for role in self.roles.values() if role.way.claims)
        return min([self._tick_at, *(until for until in leases if until > self.now)])

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

    def window_open(self, role: Role) -> bool:
        """Whether a failback is allowed at this time of the day."""
        begin, end = role.settings.failback_window
        if begin == end:
            return True
        if self.local_minute < 0:
            return False
        inside = self.local_minute - begin
        return inside % 1440 < (end - begin) % 1440

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
                return self.serves(group, owner)
        return False

    def serves(self, group: str, owner: str) -> bool:
        """Whether `group` is seen to answer on `owner`, which has it."""
        role = self.roles.get(group)
        if owner == self.settings.node:
            return role is not None and role.serves_well(self.now)
        return self.keeper is not None and self.keeper.peers[owner].groups[group][1]

    # ------------------------------------------------------------ outcomes

    def _outcome(self, event: Outcome) -> bool:
        what, subject = self._ops.pop(event.op_id, ("", None))
        if not what:
            return False  # late, or of an earlier life: it answers nothing that is asked now
        if what not in _UNWRITTEN:
            self.note("outcome", what, event.detail or "", op_id=event.op_id, ok=event.ok)
        hear = _OUTCOMES.get(what)
        if hear is not None:
            hear(self, subject, event)
        return what != "observed"

    def _stored(self, reserved: tuple[Role, int], event: Outcome) -> None:
        role, ceiling = reserved
        role.storing = 0
        role.store_at = 0 if event.ok else self.now + word.STORE_AGAIN_MS
        if event.ok:
            role.ceiling = max(role.ceiling, ceiling)

    def fire_role(self, role: Role, event: str) -> None:
        """One event into a group's table."""
        playing.fire_role(self, role, event)

    # ------------------------------------------------------------ time

    def _ticked(self, event: Ticked) -> bool | None:
        self.local_minute = event.local_minute
        if self.now < self._tick_at:
            return None  # a lease ends: the groups' ways see that
        notice.watch_self(self, self.now - self._tick_at)
        self._tick_at = self.now + TICK_MS
        for alarm in self.alarms.settle(self.now):
            self.note("alarm", alarm.subject, f"cleared: {alarm.text}", id=alarm.alarm_id)
            self.out.append(Tell(alarm))
        for role in self.roles.values():
            playing.tick_role(self, role)
            proving.watch(self, role)
        for geo in self.geos.values():
            if geo.late_at and self.now >= geo.late_at:
                naming.fire_geo(self, geo, "late")
        naming.observe(self)
        notice.watch_time(self)
        arming.watch(self)
        if self.keeper is not None:
            network.watch(self, self.keeper)
        return None


_UNWRITTEN = frozenset(("observed", "sessions"))  # asked all the time, and nothing is changed
_OUTCOMES: dict[str, Any] = {
    "observed": naming.observed,
    "sessions": courses.counted,
    "service": tending.controlled,
    "ceiling": AgentCore._stored,
    "geo": naming.outcome,
    "announce": announcing.ended,
    "way": courses.outcome,
    "hook": courses.hook_ended,
    "kill": courses.killed,
    "facts": paging.gathered,
    "fence": arming.ended,
    "fence-test": arming.tested,
}
_HANDLERS: dict[type, Any] = {
    Sampled: notice.sampled,
    SourceFailed: notice.source_failed,
    Checked: tending.checked,
    Died: tending.died,
    Lives: tending.lives,
    Proved: proving.proved,
    Carried: proving.proved,
    CloudSaid: proving.cloud_said,
    CertificateSaid: proving.certificate_said,
    Outcome: AgentCore._outcome,
    KeeperSaid: playing.keeper_said,
    KeeperLost: playing.keeper_gone,
    PacketRefused: network.packet_refused,
    Asked: operate.asked,
    ConfigRefused: notice.config_refused,
    ConfigAccepted: notice.config_accepted,
    StoreFailed: notice.store_failed,
    StoreMended: notice.store_mended,
    Ticked: AgentCore._ticked,
}
