# SPDX-License-Identifier: GPL-2.0-or-later
"""What must happen in the end: groups are served, sick owners are relieved, all is in order."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.sim.invariants import Judge
    from tests.sim.node import Node

UNSERVED_MS = 20_000
SICK_OWNER_MS = 240_000
DELIVERED_MS = 3_000
ONE_OWNER_MS = 15_000


class Liveness:
    """The judge's other half: it looks again after a time."""

    def __init__(self, judge: Judge) -> None:
        self.judge = judge
        self.world = judge.world
        self.agenda = judge.agenda
        self.unserved: set[str] = set()  # groups that are being watched

    def watch(self, group: str) -> None:
        """Nobody has it: somebody who could, takes it within a bound."""
        if not self.owners(group) and group not in self.unserved:
            self.unserved.add(group)
            self.agenda.after(UNSERVED_MS, self._still_unserved, group)

    def _still_unserved(self, group: str) -> None:
        self.unserved.discard(group)
        if self.owners(group):
            return
        now, plains = self.agenda.now, self.world.plain_in(group)
        plain_ms = min(
            (now - self.judge.left_ms.get((group, plain.name), 0) for plain in plains),
            default=UNSERVED_MS,
        )
        for name in self.world.town.groups[group].nodes:
            node = self.world.nodes[name]
            ready_ms = now - node.keeper.ready_ms.get(group, now)
            well_ms = min(now - p.well_since if p.running else 0 for p in node.processes.values())
            calm_ms = now - max(node.kernel.changed_ms, node.disk.mended_ms)
            able = node.kernel.running and not (
                node.leaving or node.kernel.carriers_lost[0] or node.disk.full
            )
            held_ms = min(plain_ms, now - self.judge.left_ms.get((group, name), -UNSERVED_MS))
            fair_ms = [
                self.world.network.fair_for_ms(name, other, 0)
                for other in self.world.reached_by(node.site)
            ]
            if able and min(ready_ms, well_ms, calm_ms, held_ms, *fair_ms) >= UNSERVED_MS:
                self.judge.fail(
                    "unserved", f"nobody has {group}, {name} could for {UNSERVED_MS} ms"
                )
        self.watch(group)

    def owners(self, group: str) -> list[str]:
        """Everybody who holds it, routers that are none of our nodes too."""
        nodes = [node.name for node in self.judge.holders(group)]
        return nodes + [plain.name for plain in self.world.plain_in(group) if plain.holds]

    def service_died(self, node: Node, group: str, service: str) -> None:
        """An owner with a dead service restarts it or hands over, in the end."""
        since = node.services[group, service].bad_since
        self.agenda.after(SICK_OWNER_MS, self._still_sick, node, group, service, since)

    def _still_sick(self, node: Node, group: str, service: str, since: int) -> None:
        state, now = node.services[group, service], self.agenda.now
        if state.alive or state.bad_since != since or group not in node.kernel.held:
            return
        for process in node.processes.values():
            if not process.running or now - process.well_since < SICK_OWNER_MS:
                return
        for name in self.world.town.groups[group].nodes:
            other = self.world.nodes[name]
            fair = [
                name != node.name
                and self.world.network.fair_for_ms(node.name, name, path) >= UNSERVED_MS
                for path in range(self.world.network.paths)
            ]
            ready_ms = now - other.keeper.ready_ms.get(group, now)
            if all(fair) and other.keeper.running and ready_ms >= UNSERVED_MS:
                self.judge.fail(
                    "sick-owner",
                    f"{node.name} keeps {group} though its {service} is dead for "
                    f"{now - since} ms and {name} is ready",
                )

    # ---------------------------------------------------------------- when everything is mended

    def one_owner(self) -> None:
        """Every group that somebody could serve for so long is served by one."""
        for group in self.world.town.groups:
            holders = self.owners(group)
            if len(holders) == 1:
                continue
            ready_ms = self.ready_for_ms(group)
            if len(holders) > 1 or ready_ms > ONE_OWNER_MS:
                self.judge.fail(
                    "not-one-owner",
                    f"{group} is held by {holders}, somebody was ready for {ready_ms} ms",
                )

    def ready_for_ms(self, group: str) -> int:
        """How long the readiest node's agent has called itself ready."""
        now = self.agenda.now
        nodes = [self.world.nodes[name] for name in self.world.town.groups[group].nodes]
        return max(
            (now - n.keeper.ready_ms[group] for n in nodes if group in n.keeper.ready_ms), default=0
        )

    def finished(self) -> None:
        """The calm is over: everything must be in order."""
        self.one_owner()
        for group, moves in self.judge.moves.items():
            if self.world.shape == "single" and len(moves) > 2 + 2 * len(self.world.faults):
                self.judge.fail("flap", f"{group} moved {len(moves)} times, one fault at a time")
        for group in self.world.town.groups:
            self._served_well(group)
        for node in self.world.nodes.values():
            self._told_everything(node)

    def _served_well(self, group: str) -> None:
        owners = self.owners(group)
        if len(owners) != 1:
            self.judge.fail("not-one-owner", f"{group} is held by {owners} at last")
        knows = self.world.client_of(group).knows.get(group)
        if knows != owners[0] and not self.judge.served.plain_has(group):
            self.judge.fail(
                "client-misled", f"clients look for {group} at {knows}, {owners[0]} has it"
            )
        node = self.world.nodes.get(owners[0])
        for (name, service), state in node.services.items() if node else ():
            if name == group and not state.alive:
                self.judge.fail(
                    "not-served", f"{owners[0]} has {group}, its {service} is dead at last"
                )

    def _told_everything(self, node: Node) -> None:
        known = self.world.nms.standing
        orphans = {i for name, i in known if name == node.name} - set(node.agent.standing)
        if orphans and node.disk.mended_ms < 0:
            self.judge.fail("alarm-orphaned", f"{node.name} no longer knows of {orphans}")
        quiet = self.agenda.now - node.agent.told_ms > DELIVERED_MS
        if quiet and (node.disk.spool or node.agent.unstored):
            self.judge.fail("trap-lost", f"{node.name} still keeps {node.disk.spool[:2]}")
