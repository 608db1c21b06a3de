# SPDX-License-Identifier: GPL-2.0-or-later
"""One seed: its town, its faults, true time, and what came of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any
from zlib import crc32

from agent.core.engine import AgentCore
from agent.core.keeper import KeeperCore
from agent.core.model import Asked
from agent.core.settings import Failback, Standby
from tests.sim.agenda import Agenda
from tests.sim.faults import APPLY, Fault
from tests.sim.invariants import Judge, Violation
from tests.sim.liveness import ONE_OWNER_MS
from tests.sim.network import Network
from tests.sim.node import Node
from tests.sim.outside import Nms, Zone
from tests.sim.plan import SHAPES, plan
from tests.sim.process import Process
from tests.sim.town import PowerSupply, Town
from tests.sim.trace import Trace

CALM_MS = 90_000

Witness = Callable[[Process, int, Any, list[Any]], None]


@dataclass(frozen=True, slots=True)
class Cores:
    """What the processes run; mutants put something else here."""

    keeper: type = KeeperCore
    agent: type = AgentCore


@dataclass(slots=True)
class Client:
    """Everybody on a site's service network who is not one of us: whom they take for the owner."""

    name: str
    knows: dict[str, str] = field(default_factory=dict)

    def learn(self, group: str, node: str, again: bool) -> None:
        self.knows[group] = node


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a seed. failure: "" where everything held."""

    seed: int
    shape: str
    events: int
    faults: int
    moves: int
    digest: int
    failure: str = ""
    rule: str = ""


def draw_town(rng: Random) -> Town:
    """Mostly one site with two nodes and two networks."""
    kind = rng.random()
    sites = ("london", "paris") if kind > 0.85 else ("london",)
    per_site = 3 if 0.75 < kind <= 0.85 else 2
    failback = rng.choice((Failback.MANUAL, Failback.NEVER, Failback.AFTER))
    return Town(
        sites,
        per_site,
        1 if kind < 0.1 else 2,
        rng.choice((Standby.HOT, Standby.HOT, Standby.COLD)),
        failback,
        60_000 if failback is Failback.AFTER else 0,
        2 if 0.1 <= kind < 0.2 else 1,
        rng.random() < 0.2,
    )


class World:
    """Everything of one seed. `faults`: a plan of its own instead of the seed's."""

    def __init__(
        self,
        seed: int,
        shape: str = "",
        minutes: float = 10.0,
        cores: Cores | None = None,
        faults: list[Fault] | None = None,
        town: Town | None = None,
    ) -> None:
        rng = Random(f"standpipe {seed}")
        self.seed = seed
        self.shape = shape or SHAPES[seed % len(SHAPES)]
        self.town = town or draw_town(rng)
        self.cores = cores or Cores()
        self.end_ms = int(minutes * 60_000)
        self.calm_ms = self.end_ms - CALM_MS
        self.faults = plan(self.shape, self.town, rng, self.calm_ms) if faults is None else faults
        self.agenda = Agenda()
        self.events = 0
        self.digest = 0
        self.witness: Witness | None = None
        self.trace: Trace | None = None
        self.boots = Random(f"boots {seed}")
        self.works = Random(f"works {seed}")
        self.nms = Nms()
        self.zones = {geo: Zone(settings.sites[0]) for geo, settings in self.town.geos.items()}
        self.power_supplies = {name: PowerSupply(name) for name in self.town.devices}
        self.clients = {site: Client(f"lan@{site}") for site in self.town.sites}
        self.judge = Judge(self)
        machines = dict(self.town.nodes) | {c.name: site for site, c in self.clients.items()}
        self.network = Network(
            self.agenda, machines, self.town.paths, Random(f"network {seed}"), self.answers_on
        )
        self.nodes = {
            name: Node(name, site, self, Random(f"{name} {seed}"))
            for name, site in self.town.nodes.items()
        }
        self._heals: dict[int, Callable[[], None]] = {}
        self._faults_begun = 0
        self._requests = 0
        self.asked_ms = -1
        self.disturbed_ms = -1  # when a fault last began or ended
        self.forced_ms: dict[str, int] = {}  # group or geo -> when somebody insisted

    # ---------------------------------------------------------------- asked by the rest

    def answers_on(self, machine: str, path: int) -> bool:
        node = self.nodes.get(machine)
        return node is None or node.kernel.answers_on(path)

    def loses_power(self, node: str) -> bool:
        """A UPS that feeds it is on battery, so that its groups leave for good reason."""
        return any(
            supply.on_battery and node in self.town.devices[name].feeds
            for name, supply in self.power_supplies.items()
        )

    def wall_s(self, node: Node) -> float:
        return 1.7e9 + self.agenda.now / 1000 + node.wall_ahead_s

    def note(self, what: str) -> None:
        """What a replay must do again, to the letter."""
        self.digest = crc32(f"{self.agenda.now} {what}".encode(), self.digest)
        if self.trace is not None:
            self.trace.line(self.agenda.now, f"== {what}")

    def tell(self, trace: Trace) -> None:
        """Everything from now on."""
        self.trace = trace
        self.witness = trace.witness

    def next_fault(self) -> int:
        self._faults_begun += 1
        return self._faults_begun

    def ask(self, node: str, verb: str, args: dict[str, Any]) -> None:
        """An operator at that node's socket."""
        self._requests += 1
        self.asked_ms = self.agenda.now
        if args.get("force"):
            self.forced_ms[args["group"]] = self.agenda.now
        self.nodes[node].agent.feed(Asked(self._requests, verb, args, "root (uid 0)"))

    # ---------------------------------------------------------------- running

    def run(self) -> Result:
        """The whole story; a Violation ends it and is part of the result."""
        try:
            self.play()
        except Violation as violation:
            return self.result(str(violation), violation.rule)
        return self.result()

    def play(self) -> None:
        for node in self.nodes.values():
            self.agenda.at(node.rng.randrange(3000), node.switch_on)
        for number, fault in enumerate(self.faults):
            self.agenda.at(fault.at_ms, self._begin, number, fault)
        self.agenda.run(self.calm_ms)
        self._mend()
        self.agenda.run(self.calm_ms + ONE_OWNER_MS)
        self.judge.liveness.one_owner()
        self.agenda.run(self.end_ms)
        self.judge.liveness.finished()

    def _begin(self, number: int, fault: Fault) -> None:
        self.note(f"fault {fault}")
        self.disturbed_ms = self.agenda.now
        heal = APPLY[fault.kind](self, fault)
        if heal is not None:
            self._heals[number] = heal
            self.agenda.after(fault.lasts_ms, self._heal, number)

    def _heal(self, number: int) -> None:
        heal = self._heals.pop(number, None)
        if heal is not None:
            self.note(f"over {self.faults[number]}")
            self.disturbed_ms = self.agenda.now
            heal()

    def _mend(self) -> None:
        """Every fault ends now; an operator has looked at what was left alone."""
        for number in list(self._heals):
            self._heal(number)
        for node in self.nodes.values():
            self.agenda.after(1000, self.ask, node.name, "clear", {})

    def result(self, failure: str = "", rule: str = "") -> Result:
        moves = sum(len(times) for times in self.judge.moves.values())
        return Result(
            self.seed,
            self.shape,
            self.events,
            self._faults_done(),
            moves,
            self.digest,
            failure,
            rule,
        )

    def _faults_done(self) -> int:
        return sum(fault.at_ms <= self.agenda.now for fault in self.faults)
