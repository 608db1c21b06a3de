# SPDX-License-Identifier: GPL-2.0-or-later
"""Worlds of cold groups that must never run twice: leases, a witness, outlets that can be cut.

Assumed beside what `invariants` assumes: of keeper and agent of one node, one runs (or is back
within the half second that a lease keeps in reserve), and a machine's clock counts what it slept.
A machine whose clock stood with it learns within a lease that it was replaced.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any

from agent.core.keeping import RefreshAddresses, ReleaseAddresses, TakeAddresses
from agent.core.model import Outcome
from agent.core.orders import (
    ControlService,
    FenceNode,
    PlaceStatus,
    ReadSessions,
    RunHook,
    ShipStatus,
)
from agent.core.settings import Exclusive, Failback, Standby
from tests.sim.agent import AgentProcess
from tests.sim.fault import Fault
from tests.sim.invariants import HELD, Judge
from tests.sim.plan import SHAPES, plan
from tests.sim.scripted import ScriptedAgent
from tests.sim.town import LEASE_MS, Town
from tests.sim.world import CALM_MS, Cores, World

if TYPE_CHECKING:
    from tests.sim.keeper import KeeperProcess
    from tests.sim.node import Node

KILL_MS = 20
STOP_MS = 200
THAWED_MS = 60  # a thawed machine's keeper kills what runs there
RESTARTED_MS = 500  # where both processes had just died: the next ones do
READ_BACK_MS = 200
BEAT_MS = 250
KEEPER_HUNG_MS = LEASE_MS // 2
SERVED_WITHIN_MS = 80_000
ONE_OF_TWO = {"kill-keeper": "agent", "pause-keeper": "agent"} | {
    "kill-agent": "keeper", "pause-agent": "keeper",
}  # fmt: skip


def draw_town(rng: Random) -> Town:
    """Two or three nodes; a third vote, outlets, or neither."""
    kind = rng.choice(("pair", "witness", "witness", "three", "witness-of-three", "fence", "fence"))
    fence = kind == "fence"
    return Town(
        ("london",),
        3 if kind in ("three", "witness-of-three") or (fence and rng.random() < 0.4) else 2,
        1 if rng.random() < 0.2 else 2,
        Standby.COLD,
        Failback.MANUAL,
        0,
        2 if rng.random() < 0.2 else 1,
        witnesses=rng.random() < 0.85,
        chatter_ms=300,
        exclusive=Exclusive.FENCE if fence else Exclusive.LEASE,
        witness_node=kind.startswith("witness"),
        fences=fence,
    )


class ExclusiveWorld(World):
    """As a World, with another judge."""

    def __init__(
        self,
        seed: int,
        shape: str = "",
        minutes: float = 10.0,
        cores: Cores | None = None,
        faults: list[Fault] | None = None,
        town: Town | None = None,
    ) -> None:
        rng = Random(f"exclusive {seed}")
        shape = shape or SHAPES[seed % len(SHAPES)]
        town = town or draw_town(rng)
        if faults is None:
            until_ms = int(minutes * 60_000) - CALM_MS
            faults = [_spared(fault) for fault in plan(shape, town, rng, until_ms)]
        cores = cores or self.cores_of()
        super().__init__(seed, shape, minutes, cores, faults, town)

    def cores_of(self) -> Cores:
        """What runs there, unless it is said."""
        return Cores()

    def judge_of(self) -> Judge:
        return TwiceJudge(self)

    def agent_of(self, node: Node) -> AgentProcess:
        return ExclusiveAgent(node, self)

    def _begin(self, number: int, fault: Fault) -> None:
        other = ONE_OF_TWO.get(fault.kind)
        node = self.nodes[fault.node]
        if other is None or (node.processes[other].running and not node.kept_dead[other]):
            super()._begin(number, fault)

    def _mend(self) -> None:
        super()._mend()
        for node in self.nodes.values():
            self.outlets[node.name].off = False
            node.gain_power()


class ScriptedWorld(ExclusiveWorld):
    """With small agents that claim and stop at the slightest sign, for the leases' sake."""

    def cores_of(self) -> Cores:
        return Cores(agent=ScriptedAgent)


def _spared(fault: Fault) -> Fault:
    """Both processes of a node do not stay away for long."""
    return replace(fault, amount=0) if fault.kind == "kill-both" else fault


class ExclusiveAgent(AgentProcess):
    """Its services' processes are there from the order to start on, until they were stopped."""

    world: ExclusiveWorld

    def __init__(self, node: Node, world: ExclusiveWorld) -> None:
        super().__init__(node, world)
        self.hands[FenceNode] = self.fence_node
        for quick in (PlaceStatus, ShipStatus, RunHook, ReadSessions):
            self.hands[quick] = self.do_quickly

    def do_quickly(self, action: Any) -> None:
        """Files and commands are not what is looked at here."""
        self.outcome(5, action.op_id, True, "", nodes={}, age_ms=0, epoch=0, sessions=0)

    def begin(self) -> None:
        super().begin()
        self.agenda.after(BEAT_MS, self.beat_often, self.life)

    def beat_often(self, life: int) -> None:
        """A keeper that says nothing for half a lease is killed, so that the next one renews it."""
        if life != self.life or not self.alive:
            return
        self.agenda.after(BEAT_MS, self.beat_often, life)
        silent_ms = self.agenda.now - self.keeper_heard_ms
        if not self.stopped and silent_ms > KEEPER_HUNG_MS and not self.keeper_lost:
            self.keeper_lost = True
            self.node.kill("keeper")

    def control_service(self, action: ControlService) -> None:
        self.world.judge.acting(self, action)
        node, service = self.node, self.node.services[action.group, action.service]
        if action.verb == "status":
            self.outcome(5, action.op_id, True, "", running=service.begun)
            return
        service.orders += 1
        took_ms = {"stop": STOP_MS, "kill": KILL_MS}.get(action.verb, service.start_ms)
        if action.verb == "stop" and service.hanging:
            took_ms = action.within_ms
        if action.verb == "start" and not service.refusing:
            service.begun = True
            node.world.judge.looked_different()
        self.agenda.after(took_ms, self.finish_control, self.life, service.orders, action)

    def finish_control(self, life: int, order: int, action: ControlService) -> None:
        verb = "stop" if action.verb == "kill" else action.verb
        super().finish_control(life, order, replace(action, verb=verb))
        self.node.world.judge.looked_different()

    def fence_node(self, action: FenceNode) -> None:
        """The driver believes what it reads back, not what it is answered."""
        outlet = self.world.outlets[action.node]
        if outlet.refuses or not self.node.reaches_world():
            self.outcome(500, action.op_id, None, "no answer")
            return
        if action.verb != "off":
            self.outcome(READ_BACK_MS, action.op_id, True, "on")
            return
        delay_ms = 8_000 if outlet.slow else 2_500 if outlet.lies else 300
        self.agenda.after(delay_ms, self._cut, action.node)
        until_ms = self.agenda.now + action.within_ms
        self.agenda.after(READ_BACK_MS, self._read_back, self.life, action, until_ms)

    def _cut(self, name: str) -> None:
        node = self.world.nodes[name]
        if node.kernel.powered:
            self.world.note(f"{name} is switched off")
            node.lose_power()
        self.world.outlets[name].off = True
        self.agenda.after(self.rng.randint(4_000, 30_000), self._switched_on, node)

    def _switched_on(self, node: Node) -> None:
        """Somebody looks at the network first: two that come back unheard would outvote a third."""
        links, nodes = self.world.network.links, self.world.nodes
        heard = [
            any(
                not (links[node.name, other, path].cut or links[other, node.name, path].cut)
                and not (node.kernel.carriers_lost[path] or nodes[other].kernel.carriers_lost[path])
                for path in range(self.world.town.paths)
            )
            for other in self.world.town.peers(node.name)
        ]
        if all(heard):
            self.world.outlets[node.name].off = False
            node.gain_power()
        else:
            self.agenda.after(2_000, self._switched_on, node)

    def _read_back(self, life: int, action: FenceNode, until_ms: int) -> None:
        if not self.world.nodes[action.node].kernel.powered:
            self.feed_life(life, Outcome(action.op_id, True, "off"))
        elif self.agenda.now >= until_ms:
            self.feed_life(life, Outcome(action.op_id, None, "timed out"))
        else:
            self.agenda.after(READ_BACK_MS, self._read_back, life, action, until_ms)


class Unheeded:
    """A part of the judge that has nothing to say here."""

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


class TwiceJudge(Judge):
    """Never two copies by true time; epochs rise and are kept; in the end one node serves."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.served: Any = Unheeded()
        self.liveness: Any = self
        self.held_ms = 0

    # ---------------------------------------------------------------- two copies

    def copies(self, group: str) -> list[Node]:
        """Machines on which a process of the group runs; on a frozen one nothing does."""
        nodes = [self.world.nodes[name] for name in self.world.town.groups[group].nodes]
        return [
            node
            for node in nodes
            if node.kernel.running
            and any(it.begun for (name, _), it in node.services.items() if name == group)
        ]

    def looked_different(self) -> None:
        for group in self.world.town.groups:
            self.look_twice(group)

    def look_twice(self, group: str) -> None:
        copies = self.copies(group)
        if len(copies) < 2:
            return
        until_ms = max(node.kernel.thawed_at + self.noticing_ms(node) for node in copies)
        if self.agenda.now <= until_ms and any(node.kernel.thawed_at for node in copies):
            self.agenda.at(until_ms + 1, self.look_twice, group)
            return
        names = ", ".join(node.name for node in copies)
        self.fail("double-start", f"{group} runs on {names}")

    def noticing_ms(self, node: Node) -> int:
        """How long a thawed machine may take to stop what was replaced meanwhile."""
        thawed_at = node.kernel.thawed_at
        if node.kernel.misled_ms == thawed_at:
            return LEASE_MS  # its clock stood too: the voters tell it
        lives = [process for process in node.processes.values() if process.alive]
        return THAWED_MS if any(it.well_since <= thawed_at for it in lives) else RESTARTED_MS

    # ---------------------------------------------------------------- what else is looked at

    def held_changed(self, node: Node, group: str, how: str) -> None:
        self.world.note(f"{node.name} {group} {how}")
        if how == "taken":
            self.taken_ms[group, node.name] = self.agenda.now
            self._owned(node, group)

    def _taken_back(self, node: Node, group: str) -> None:
        """Nobody looks at it here."""

    def _ready(self, process: KeeperProcess, group: str) -> None:
        """Ready without its service, or without a word of its agent?"""
        word = process.words.get(group)
        if word is None or not word.ready:
            self.fail("not-ready", f"{process.node.name} takes {group}, not called ready")

    def _not_from_the_plain(self, process: KeeperProcess, group: str) -> None:
        """There is none."""

    def _not_from_the_well(self, node: Node, owner: Node, group: str) -> None:
        """A lease decides, not who is heard."""

    def _restless(self, node: str, group: str) -> None:
        """Leases come and go with the network here."""

    def taking(self, process: KeeperProcess, action: TakeAddresses) -> None:
        super().taking(process, action)
        lease = process.core.leases.by_group[action.group]
        put_back = self.said(process.node, action.group) in HELD  # by one that is about to give it
        if not (lease.held or put_back):
            self.fail("no-lease", f"{process.node.name} takes {action.group} without its lease")

    def watch(self, group: str) -> None:
        """Addresses follow the services."""

    def refreshing(self, process: KeeperProcess, action: RefreshAddresses) -> None:
        self._lifetime(process.node, action)

    def releasing(self, process: KeeperProcess, action: ReleaseAddresses) -> None:
        """A lost lease is a reason."""

    def reported(self, process: Any, said: Any, before: Any) -> None:
        """Nothing of it matters here."""

    # ---------------------------------------------------------------- when everything is mended

    def service_died(self, node: Node, group: str, service: str) -> None:
        """It is looked at in the end."""

    def one_owner(self) -> None:
        """Leases take longer: `finished` looks."""

    def finished(self) -> None:
        for group, settings in self.world.town.groups.items():
            copies = self.copies(group)
            holders = self.holders(group)
            names = [node.name for node in holders]
            if len(copies) != 1 or holders != copies:
                states = {
                    name: self.world.nodes[name].agent.core.parts[group].state
                    for name in settings.nodes
                    if isinstance(self.world.nodes[name].agent.core, ScriptedAgent)
                }
                runs = [node.name for node in copies]
                self.fail(
                    "not-one-owner", f"{group} runs on {runs} and is held by {names}: {states}"
                )
