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
from agent.core.model import KeeperSaid
from tests.sim.deeds import Deeds
from tests.sim.liveness import Liveness
from tests.sim.served import Served
from tests.sim.town import CHECK_EVERY_MS, HOLD_MS, LIFETIME_S

if TYPE_CHECKING:
    from tests.sim.keeper import KeeperProcess
    from tests.sim.node import Node
    from tests.sim.plain import PlainRouter
    from tests.sim.world import World

TWO_OWNERS_MS = 500  # and one interval; another one where an advert may be lost
HANDOVER_MS = 200
ANNOUNCEMENTS = 20
ANNOUNCED_MS = 10_000
WELL_MS = 8_000  # an owner that has been well for so long must not be taken from
SICKNESS_SEEN_MS = 4 * CHECK_EVERY_MS + HOLD_MS + 3_000
WORD_OLD_MS = HOLD_MS + 3_000
LATE_PACKETS_MS = 4_000
JUST_HELD_MS = 1_500
ORPHANED_MS = LIFETIME_S * 1000 + 500
RACE_MS = 200  # two that become ready together may both take: it is settled at once
FLAP_MS = 20_000
FORCED_MS = 90_000
LOSS_SURVIVED = 0.02  # three adverts lost one after another do not happen
HELD = ("active", "doubt", "giving")


class Judge(Deeds):
    """Looks at effects as they happen; raises Violation."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.taken_ms: dict[tuple[str, str], int] = {}  # (group, node) -> since when it holds
        self.epochs: dict[tuple[str, str], int] = {}
        self.owner: dict[str, str] = {}  # the last node to take
        self.before: dict[str, str] = {}  # the one before it
        self.moves: dict[str, list[int]] = {group: [] for group in world.town.groups}
        self.announced: defaultdict[tuple[str, str], deque[int]] = defaultdict(
            lambda: deque(maxlen=ANNOUNCEMENTS + 1)
        )
        self.deleted_ms: dict[tuple[str, str], int] = {}  # (group, node) -> by a foreign hand
        self.liveness = Liveness(self)
        self.served = Served(self)

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
            if how == "deleted":
                self.deleted_ms[group, node.name] = now
            holders = self.holders(group)
            if len(holders) == 1:
                self._owned(holders[0], group)
        self.watch(group)
        self.served.look(group)
        self.liveness.watch(group)

    def plain_changed(self, plain: PlainRouter) -> None:
        """It took the address, or let it go."""
        group = plain.group.name
        self.world.note(f"{plain.name} {group} {'taken' if plain.holds else 'released'}")
        self.left_ms[group, plain.name] = self.agenda.now
        self.watch(group)
        self.served.look(group)
        self.liveness.watch(group)

    def forced(self, group: str) -> bool:
        """An operator took it upon himself, and the journal says so."""
        return self.agenda.now - self.world.forced_ms.get(group, -FORCED_MS) < FORCED_MS

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
        if self.deleted_ms.get((group, between.name), -1) > since:
            return  # a foreign hand drove it away
        if any(self.left_ms.get((group, p.name), -1) > since for p in self.world.plain_in(group)):
            return  # an RFC peer had it between
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
        self.served.looked_different()

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
        most_ms = self.two_owners_ms(one, other)
        bound = self.overlap_ms(group, one, other, most_ms) if since == taken else most_ms
        if now - since > bound:
            self.fail(
                "two-owners",
                f"{group}: {one.name} and {other.name} hear each other and both hold it "
                f"for {now - since} ms (bound {bound} ms)",
            )
        self.agenda.at(since + bound + 1, self.watch, group)

    def two_owners_ms(self, one: Node, other: Node) -> int:
        """0.7 s with adverts each 200 ms."""
        advert_ms = self.world.town.advert_ms
        clear = self.world.network.clear_for_ms(one.name, other.name, 0) > TWO_OWNERS_MS
        return TWO_OWNERS_MS + (advert_ms if clear else 2 * advert_ms)

    def overlap_ms(self, group: str, one: Node, other: Node, most_ms: int) -> int:
        """How long both may hold it: a handover is quicker than finding out."""
        clear = not self.world.network.troubled(one.name, other.name)
        said = [self.said(machine, group) for machine in (one, other)]
        return HANDOVER_MS if "giving" in said and clear else most_ms

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
            self.served.taking(node, group)
            self._not_from_the_plain(process, group)
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
        if self.forced(group):
            return
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

    def _not_from_the_plain(self, process: KeeperProcess, group: str) -> None:
        """An RFC peer is followed by the RFC: three adverts are missing, or the agent orders."""
        node, now, network = process.node, self.agenda.now, self.world.network
        word = process.words.get(group)
        for plain in self.world.plain_in(group):
            ends = ((plain.name, node.name, 0), (node.name, plain.name, 0))
            loss = max(network.links[end].loss for end in ends)
            fair_ms = network.fair_for_ms(plain.name, node.name, 0)
            since = max(plain.active_ms, plain.changed_ms, now - fair_ms, node.keeper.well_since)
            well = plain.holds and fair_ms >= 0 and loss <= LOSS_SURVIVED
            if well and now - since > WELL_MS and (word is None or word.order != "take"):
                self.fail(
                    "taken-from-the-well",
                    f"{node.name} takes {group} from {plain.name}, which advertises it",
                )

    def keeper_began(self, node: Node) -> None:
        """It cannot know what the one before it announced."""
        for group in self.world.town.groups:
            self.announced[group, node.name].clear()

    def announcing(self, node: Node, group: str) -> None:
        """No storms: whatever happens, a bounded number in any ten seconds."""
        times = self.announced[group, node.name]
        times.append(self.agenda.now)
        if len(times) > ANNOUNCEMENTS and times[-1] - times[0] < ANNOUNCED_MS:
            self.fail(
                "announcement-storm",
                f"{node.name} announced {group} {len(times)} times in {times[-1] - times[0]} ms",
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
        if self.served.just_cut_off(node) or any(p.holds for p in self.world.plain_in(group)):
            return
        if self.world.town.apart and self.said(node, group) in ("active", "giving"):
            return
        lease = process.core.leases.by_group.get(group)
        if lease is not None and not lease.held:
            return  # whoever may run it next must not wait for us
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

    def reported(self, process: KeeperProcess, said: KeeperSaid, before: KeeperSaid | None) -> None:
        """Who is back, as its keeper has found."""
        for name, deed in said.peers.items():
            was = before.peers[name].state if before is not None else "unknown"
            if was in ("silent", "held") and deed.state == "alive":
                for group, state in said.groups.items():
                    nodes = self.world.town.groups[group].nodes
                    rival = group in self.world.nodes[name].kernel.held
                    if state.state == "active" and name in nodes and not rival:
                        self.served.is_back(process.node, group)

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
