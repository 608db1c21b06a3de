# SPDX-License-Identifier: GPL-2.0-or-later
"""What must never happen, looked at on each effect. The judge sees the true state of everything.

Assumed: clocks drift at most 0.5 %, kernels honour lifetimes up to 0.3 s late, packets may be late,
doubled, lost, reordered without bound. Groups are `exclusive = "segment"`: two nodes that cannot
hear each other may both own one.
"""

from __future__ import annotations

from collections import defaultdict, deque
from typing import TYPE_CHECKING

from agent.core.keeping import AdvertSeen, RefreshAddresses, ReleaseAddresses, TakeAddresses, Woken
from agent.core.model import (
    Alarm,
    ControlService,
    KeepEpoch,
    KeeperSaid,
    Record,
    Reply,
    Severity,
    UpdateNames,
)
from tests.sim.liveness import Liveness
from tests.sim.town import ADVERT_MS, CHECK_EVERY_MS, HOLD_MS, LIFETIME_S

if TYPE_CHECKING:
    from tests.sim.agent import AgentProcess
    from tests.sim.keeper import KeeperProcess
    from tests.sim.node import Node
    from tests.sim.world import World

TWO_OWNERS_MS = 2 * ADVERT_MS + 500  # one advert may be lost on a link that counts as fair
HANDOVER_MS = 200
WELL_MS = 8_000  # an owner that has been well for so long must not be taken from
SICKNESS_SEEN_MS = 4 * CHECK_EVERY_MS + HOLD_MS + 3_000
WORD_OLD_MS = HOLD_MS + 3_000
LATE_PACKETS_MS = 4_000
JUST_HELD_MS = 1_500
ORPHANED_MS = LIFETIME_S * 1000 + 500
ANSWERED_MS = 30_000
MOST_ORDERS = 10
ORDERS_MS = 120_000
RACE_MS = 200  # two that become ready together may both take: it is settled at once
FLAP_MS = 20_000
FORCED_MS = 90_000
HELD = ("active", "doubt", "giving")


class Violation(AssertionError):
    """An invariant did not hold. rule: its short name."""

    def __init__(self, rule: str, at_ms: int, text: str) -> None:
        super().__init__(f"{at_ms / 1000:.3f} s: {rule}: {text}")
        self.rule = rule


class Judge:
    """Looks at effects as they happen; raises Violation."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.agenda = world.agenda
        self.taken_ms: dict[tuple[str, str], int] = {}  # (group, node) -> since when it holds
        self.left_ms: dict[tuple[str, str], int] = {}  # (group, node) -> when it last held
        self.epochs: dict[tuple[str, str], int] = {}
        self.owner: dict[str, str] = {}  # the last node to take
        self.before: dict[str, str] = {}  # the one before it
        self.moves: dict[str, list[int]] = {group: [] for group in world.town.groups}
        self.asked: dict[int, bool] = {}
        self.zone_epoch: dict[str, int] = {}
        self.orders: defaultdict[tuple[str, str], deque[int]] = defaultdict(
            lambda: deque(maxlen=MOST_ORDERS)
        )
        self.liveness = Liveness(self)

    def fail(self, rule: str, text: str) -> None:
        raise Violation(rule, self.agenda.now, text)

    # ---------------------------------------------------------------- who holds what

    def holders(self, group: str) -> list[Node]:
        """Machines that answer for the group's addresses; a frozen one does not."""
        nodes = self.world.nodes
        names = self.world.town.groups[group].nodes
        return [
            nodes[n] for n in names if group in nodes[n].kernel.held and nodes[n].kernel.running
        ]

    def said(self, node: Node, group: str) -> str:
        """The state that its keeper last reported; "" while it has reported nothing."""
        said = node.keeper.said
        return said.groups[group].state if said is not None else ""

    def held_changed(self, node: Node, group: str, how: str) -> None:
        now = self.agenda.now
        self.world.note(f"{node.name} {group} {how}")
        if how == "taken":
            self.taken_ms[group, node.name] = now
            self._owned(node, group)
        else:
            self.left_ms[group, node.name] = now
            holders = self.holders(group)
            if len(holders) == 1:
                self._owned(holders[0], group)
        self.watch(group)
        self.liveness.watch(group)

    def _owned(self, node: Node, group: str) -> None:
        if self.owner.get(group) != node.name:
            self._taken_back(node, group)
            self.before[group] = self.owner.get(group, "")
            self.owner[group] = node.name
            self.moves[group].append(self.agenda.now)

    def _taken_back(self, node: Node, group: str) -> None:
        """A -> B -> A in a moment, though B stayed well and nobody asked for it."""
        moves = self.moves[group]
        if self.before.get(group) != node.name or self.agenda.now - moves[-1] > FLAP_MS:
            return
        since = moves[-1]
        between = self.world.nodes[self.owner[group]]
        misled_ms = max(node.kernel.misled_ms, between.kernel.misled_ms)
        if self.agenda.now - misled_ms < FLAP_MS or self.agenda.now - since < RACE_MS:
            return  # one could not know: it stood still, or both took at one moment
        changes = [between.kernel.changed_ms, *(n.well_since for n in between.processes.values())]
        fair = [
            self.world.network.fair_for_ms(node.name, between.name, path)
            for path in range(self.world.town.paths)
        ]
        well = all(process.running for process in between.processes.values())
        well = well and all(service.alive for service in between.services.values())
        well = well and not (between.leaving or self.world.loses_power(between.name))
        if well and max(changes) < since and min(fair) > WELL_MS and self.world.asked_ms < since:
            self.fail(
                "flap",
                f"{group} went to {between.name} and back to {node.name} within "
                f"{self.agenda.now - since} ms",
            )

    def looked_different(self) -> None:
        """Something that decides who can hear whom has changed."""
        for group in self.world.town.groups:
            holders = len(self.holders(group))
            if holders > 1:
                self.watch(group)
            elif not holders:
                self.liveness.watch(group)

    def watch(self, group: str) -> None:
        """Two owners that can hear each other have a bounded time to sort it out."""
        holders = self.holders(group)
        for place, one in enumerate(holders):
            for other in holders[place + 1 :]:
                self._watch_pair(group, one, other)

    def _watch_pair(self, group: str, one: Node, other: Node) -> None:
        fair_ms = self.world.network.fair_for_ms(one.name, other.name, 0)
        if fair_ms < 0 or not (one.keeper.running and other.keeper.running):
            return
        now = self.agenda.now
        since = max(
            now - fair_ms,
            self.taken_ms[group, one.name],
            self.taken_ms[group, other.name],
            *(max(n.keeper.well_since, n.kernel.changed_ms) for n in (one, other)),
        )
        taken = max(self.taken_ms[group, one.name], self.taken_ms[group, other.name])
        bound = self.overlap_ms(group, one, other) if since == taken else TWO_OWNERS_MS
        if now - since > bound:
            self.fail(
                "two-owners",
                f"{group}: {one.name} and {other.name} hear each other and both hold it "
                f"for {now - since} ms (bound {bound} ms)",
            )
        self.agenda.at(since + bound + 1, self.watch, group)

    def overlap_ms(self, group: str, one: Node, other: Node) -> int:
        """How long both may hold it: a handover is quicker than finding out."""
        clear = not self.world.network.troubled(one.name, other.name)
        said = [self.said(machine, group) for machine in (one, other)]
        return HANDOVER_MS if "giving" in said and clear else TWO_OWNERS_MS

    # ---------------------------------------------------------------- the keeper's effects

    def taking(self, process: KeeperProcess, action: TakeAddresses) -> None:
        node, group = process.node, action.group
        self._lifetime(node, action)
        key = (group, node.name)
        if group in node.kernel.held:
            return
        put_back = self.said(node, group) in HELD  # expired or removed, never handed over
        unnumbered = put_back and not action.epoch  # adopted, and its agent has not spoken yet
        if action.epoch < self.epochs.get(key, 0) + (0 if put_back else 1) and not unnumbered:
            self.fail(
                "epoch-reused",
                f"{node.name} takes {group} under epoch {action.epoch}, "
                f"it used {self.epochs[key]} before",
            )
        self.epochs[key] = max(action.epoch, self.epochs.get(key, 0))
        kept = node.disk.epochs.get(f"group:{group}", 0)
        if action.epoch > kept:
            self.fail(
                "epoch-not-kept",
                f"{node.name} takes {group} under epoch {action.epoch}, its disk knows {kept}",
            )
        if not put_back:
            self._ready(process, group)
        holders = [other for other in self.holders(group) if other is not node]
        if not any(self.said(other, group) == "giving" for other in holders):
            for other in holders:
                self._not_from_the_well(node, other, group)

    def _lifetime(self, node: Node, action: TakeAddresses | RefreshAddresses) -> None:
        if not 1 <= action.lifetime_s <= LIFETIME_S:
            self.fail(
                "no-lifetime",
                f"{node.name} holds {action.group} with lifetime {action.lifetime_s} s",
            )

    def _ready(self, process: KeeperProcess, group: str) -> None:
        node, now = process.node, self.agenda.now
        if now - self.world.forced_ms.get(group, -FORCED_MS) < FORCED_MS:
            return  # an operator took it upon himself, and the journal says so
        word = process.words.get(group)
        if word is None or not word.ready:
            self.fail("not-ready", f"{node.name} takes {group}, its agent never said it is ready")
        age_ms = process.clock.read(now) - process.words_ms
        if age_ms > WORD_OLD_MS:
            self.fail("not-ready", f"{node.name} takes {group} on a word {age_ms} ms old")
        for (name, service), state in node.services.items():
            dead_ms = now - max(state.bad_since, node.kernel.thawed_at)
            if name == group and not state.alive and dead_ms > SICKNESS_SEEN_MS:
                self.fail(
                    "not-ready",
                    f"{node.name} takes {group}, its {service} is dead for {dead_ms} ms",
                )

    def _not_from_the_well(self, node: Node, owner: Node, group: str) -> None:
        """B takes while A holds: was A up, running, reachable, and not handing over?"""
        now, network = self.agenda.now, self.world.network
        if owner.leaving or self.said(owner, group) != "active":
            return
        together = now - self.taken_ms[group, owner.name] < RACE_MS
        if together and isinstance(node.keeper.hearing, Woken):
            return  # each waited for the other, and both took at one moment
        if now - node.kernel.misled_ms < WELL_MS:
            return  # it stood still and cannot know
        for path in range(network.paths):
            if network.fair_for_ms(node.name, owner.name, path) < WELL_MS:
                return
        if now - owner.kernel.changed_ms < WELL_MS:
            return
        for process in owner.processes.values():
            if not process.running or now - process.well_since < WELL_MS:
                return
        self.fail(
            "taken-from-the-well",
            f"{node.name} takes {group} from {owner.name}, which is up, running and reachable",
        )

    def refreshing(self, process: KeeperProcess, action: RefreshAddresses) -> None:
        self._lifetime(process.node, action)

    def releasing(self, process: KeeperProcess, action: ReleaseAddresses) -> None:
        """Never let go by own action unless somebody has it."""
        node, group, now = process.node, action.group, self.agenda.now
        if group not in node.kernel.held or node.leaving or node.kernel.carriers_lost[0]:
            return
        if process.stopped_ms <= node.kernel.unplugged_ms <= process.well_since:
            return  # it learns only now of a carrier that was lost while it stood still
        for name in self.world.town.groups[group].nodes:
            if name == node.name:
                continue
            held = group in self.world.nodes[name].kernel.held
            later = self.taken_ms.get((group, name), -1) >= self.taken_ms[group, node.name]
            fair_ms = self.world.network.fair_for_ms(name, node.name, 0)
            if isinstance(process.hearing, AdvertSeen) and fair_ms < LATE_PACKETS_MS:
                return  # it may be seconds old and does not say so
            left_ms = now - self.left_ms.get((group, name), -JUST_HELD_MS)
            if held or (later and left_ms < JUST_HELD_MS):
                return
        self.fail("let-go", f"{node.name} lets {group} go and nobody else has it")

    def reported(self, process: KeeperProcess, said: KeeperSaid) -> None:
        """States are looked at where they decide something."""

    def process_died(self, node: Node) -> None:
        """From the last death on, the kernel alone decides how long the addresses stay."""
        if not any(process.alive for process in node.processes.values()):
            lives = [process.life for process in node.processes.values()]
            for group in node.kernel.held:
                self.agenda.after(ORPHANED_MS, self._orphaned, node, group, lives)

    def _orphaned(self, node: Node, group: str, lives: list[int]) -> None:
        same = lives == [process.life for process in node.processes.values()]
        if same and group in node.kernel.held and node.kernel.running:
            if self.agenda.now - node.kernel.thawed_at <= ORPHANED_MS:
                self.agenda.after(ORPHANED_MS, self._orphaned, node, group, lives)
            else:
                self.fail("outlives", f"{node.name} has {group} though both processes are dead")

    # ---------------------------------------------------------------- the agent's effects

    def agent_began(self, process: AgentProcess) -> None:
        process.intents = set()

    def recorded(self, process: AgentProcess, action: Record) -> None:
        if action.kind == "intent":
            process.intents.add(action.detail["op_id"])

    def acting(
        self, process: AgentProcess, action: ControlService | KeepEpoch | UpdateNames
    ) -> None:
        """Written down before it takes effect."""
        if action.op_id not in process.intents:
            self.fail("not-journalled", f"{process.node.name} does {action} and wrote no intent")
        process.intents.discard(action.op_id)
        if isinstance(action, ControlService):
            self._restless(process.node.name, action.group)

    def _restless(self, node: str, group: str) -> None:
        """Starting and stopping a service for ever helps nobody; each fault excuses some of it."""
        orders = self.orders[node, group]
        others = [name for name in self.world.town.groups[group].nodes if name != node]
        troubled = any(self.world.network.troubled(node, other) for other in others)
        if troubled or (orders and orders[-1] < self.world.disturbed_ms):
            orders.clear()
        orders.append(self.agenda.now)
        if len(orders) == MOST_ORDERS and orders[-1] - orders[0] < ORDERS_MS:
            self.fail("restless", f"{node} gave {MOST_ORDERS} orders for {group} in {ORDERS_MS} ms")

    def names_written(self, process: AgentProcess, action: UpdateNames) -> None:
        before = self.zone_epoch.get(action.geo, 0)
        if action.epoch <= before:
            self.fail("dns-epoch", f"{action.geo}: epoch {action.epoch} after {before}")
        self.zone_epoch[action.geo] = action.epoch
        group = self.world.town.geos[action.geo].groups[action.site]
        if not self._answered(group):
            self.fail(
                "dns-to-the-dead",
                f"{process.node.name} sends {action.geo} to {action.site}, "
                f"where nobody serves {group}",
            )

    def _answered(self, group: str) -> bool:
        """Somebody serves it, or did until just now."""
        now = self.agenda.now
        for name in self.world.town.groups[group].nodes:
            node = self.world.nodes[name]
            held = group in node.kernel.held
            recently = now - self.left_ms.get((group, name), -ANSWERED_MS) < ANSWERED_MS
            for (owner, _), service in node.services.items():
                alive = service.alive or now - service.bad_since < ANSWERED_MS
                if owner == group and alive and (held or recently):
                    return True
        return False

    def alarming(self, process: AgentProcess, alarm: Alarm) -> None:
        """Raises and clears come in pairs."""
        standing = process.standing.get(alarm.alarm_id)
        if alarm.severity is Severity.CLEARED:
            if standing is None:
                self.fail("clear-unpaired", f"{process.node.name}: {alarm.alarm_id} never raised")
            del process.standing[alarm.alarm_id]
        else:
            process.standing[alarm.alarm_id] = alarm.severity

    def replied(self, process: AgentProcess, action: Reply) -> None:
        """A request ends once."""
        if action.ok is not None:
            if self.asked.get(action.request_id):
                self.fail("replied-twice", f"request {action.request_id}: {action.text}")
            self.asked[action.request_id] = True
