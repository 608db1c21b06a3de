# SPDX-License-Identifier: GPL-2.0-or-later
"""One seed: its town, its faults, true time, and what came of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from traceback import walk_tb
from typing import Any
from zlib import crc32

from agent.core.engine import AgentCore
from agent.core.keeper import KeeperCore
from agent.core.model import Asked
from agent.core.settings import Failback, Standby
from tests.sim.agenda import Agenda
from tests.sim.agent import AgentProcess
from tests.sim.deeds import Violation
from tests.sim.fault import Fault
from tests.sim.faults import APPLY
from tests.sim.invariants import Judge
from tests.sim.lan import Client, Neighbour, Rogue
from tests.sim.liveness import ONE_OWNER_MS
from tests.sim.network import Link, Network
from tests.sim.node import Node
from tests.sim.outside import Nms, Outlet, Zone
from tests.sim.plain import PlainRouter
from tests.sim.plan import SHAPES, plan
from tests.sim.process import Process
from tests.sim.town import ADVERT_MS, QUICK_MS, PowerSupply, Town
from tests.sim.trace import Trace

CALM_MS = 90_000
EDGES_KEPT = 3
CRASHES = (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError)

Witness = Callable[[Process, int, Any, list[Any]], None]


@dataclass(frozen=True, slots=True)
class Cores:
    """What the processes run; mutants put something else here."""

    keeper: type = KeeperCore
    agent: type = AgentCore


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
    """Mostly one site with two nodes and two networks, and a service network full of people."""
    kind = rng.random()
    sites = ("london", "paris") if kind > 0.92 else ("london",)
    per_site = 3 if 0.84 < kind <= 0.92 else 2
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
        QUICK_MS if rng.random() < 0.12 else ADVERT_MS,
        rng.random() < 0.85,
        rng.choice((0, 300, 300, 2_000)),
        rng.random() < 0.2,
        rng.choice((100, 195, 250)) if rng.random() < 0.12 and len(sites) == 1 else 0,
        rng.random() < 0.5,
        rng.random() < 0.1,
        rng.choice((0, 0, 500)),
        rng.random() < 0.7,
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
        self.outlets = {name: Outlet() for name in self.town.nodes}
        self._settle(seed)
        self.judge = self.judge_of()
        self.nodes = {
            name: Node(name, site, self, Random(f"{name} {seed}"))
            for name, site in self.town.nodes.items()
        }
        self.network.answers = {
            name: machine.answers_on for name, machine in self.neighbours.items()
        } | {name: node.kernel.answers_on for name, node in self.nodes.items()}
        self._members = {group: self._machines_of(group) for group in self.town.groups}
        self._whose = self._addresses()
        self._heals: dict[int, Callable[[], None]] = {}
        self._faults_begun = 0
        self._requests = 0
        self.asked_ms = -1
        self.edges = deque([-CALM_MS] * EDGES_KEPT, EDGES_KEPT)  # faults that began or ended last
        self.forced_ms: dict[str, int] = {}  # group or geo -> when somebody insisted

    def judge_of(self) -> Judge:
        """Who looks at what is done here."""
        return Judge(self)

    def agent_of(self, node: Node) -> AgentProcess:
        """What runs there beside the keeper."""
        return AgentProcess(node, self)

    def _settle(self, seed: int) -> None:
        """Everybody on the service networks who is none of our nodes, and the networks."""
        town = self.town
        self.clients = {s: Client(self, s, Random(f"client {s} {seed}")) for s in town.sites}
        self.rogues = {site: Rogue(self, site) for site in town.sites}
        self.gateways = {s: Neighbour(self, "gateway", s) for s in town.sites if town.gateways}
        self.plains = {s: PlainRouter(self, s) for s in town.sites if town.plain}
        kinds: tuple[dict[str, Any], ...] = (
            self.clients, self.rogues, self.gateways, self.plains,
        )  # fmt: skip
        self.neighbours: dict[str, Any] = {
            machine.name: machine for kind in kinds for machine in kind.values()
        }
        machines = town.nodes | {name: n.site for name, n in self.neighbours.items()}
        self.network = Network(self.agenda, machines, town.paths, Random(f"network {seed}"))

    def _machines_of(self, group: str) -> list[str]:
        """Whom a question for its address reaches and concerns."""
        site = self.client_of(group).site
        plain = [machine.name for machine in self.plain_in(group)]
        return [*self.town.groups[group].nodes, *plain, self.rogues[site].name]

    def _addresses(self) -> dict[str, list[str]]:
        town = self.town
        real = {town.real_address(n, p): [n] for n in town.nodes for p in range(town.paths)}
        others = {machine.address: [name] for name, machine in self.neighbours.items()}
        return real | others | {town.address(g): names for g, names in self._members.items()}

    # ---------------------------------------------------------------- asked by the rest

    def machine(self, name: str) -> Any:
        """A node, or a neighbour of theirs."""
        return self.nodes.get(name) or self.neighbours[name]

    def whose(self, address: str) -> list[str]:
        """The machine that has it; all that might, where it floats."""
        return self._whose[address]

    def client_of(self, group: str) -> Client:
        return self.clients[self.town.nodes[self.town.groups[group].nodes[0]]]

    def plain_in(self, group: str) -> list[PlainRouter]:
        return [plain for plain in self.plains.values() if plain.group.name == group]

    def reached_by(self, site: str) -> list[str]:
        """Who must be reached for a node to be of use, and to know that it is."""
        gateway = self.gateways.get(site)
        return [self.clients[site].name] + ([gateway.name] if gateway else [])

    def witnesses_of(self, node: Node, path: int) -> list[Neighbour]:
        """Neighbours that the node has overheard since it was switched on."""
        if path or not self.town.witnesses:
            return []
        if self.chatter(node, node.passed_ms):
            node.overheard.add(self.clients[node.site].name)
        return [self.neighbours[name] for name in sorted(node.overheard)]

    def chatter_link(self, node: Node) -> Link:
        return self.network.links[self.clients[node.site].name, node.name, 0]

    def chatter(self, node: Node, since_ms: int = 0) -> int:
        """Frames of everybody there to everybody; since_ms: of the link's open time."""
        passed_ms = self.chatter_link(node).passed_ms(self.agenda.now) - since_ms
        return passed_ms // self.town.chatter_ms if self.town.chatter_ms else 0

    def received(self, node: Node, path: int) -> int:
        """Frames that came in on the node's interface."""
        frames = self.network.received[node.name][path]
        return frames if path else frames + self.chatter(node)

    def loses_power(self, node: str) -> bool:
        """A UPS that feeds it is on battery, so that its groups leave for good reason."""
        return any(
            supply.on_battery and node in self.town.devices[name].feeds
            for name, supply in self.power_supplies.items()
        )

    def wall_s(self, node: Node) -> float:
        return 1.7e9 + self.agenda.now / 1000 + node.wall_ahead_s

    @property
    def disturbed_ms(self) -> int:
        """When a fault last began or ended."""
        return self.edges[-1]

    def note(self, what: str) -> None:
        """What a replay must do again, to the letter."""
        self.digest = crc32(f"{self.agenda.now} {what}".encode(), self.digest)
        if self.trace is not None:
            self.trace.note(self.agenda.now, f"== {what}")

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
        except CRASHES as error:
            *_, last = walk_tb(error.__traceback__)
            where = f"{Path(last[0].f_code.co_filename).name}:{last[1]}"
            text = f"{self.agenda.now / 1000:.3f} s: crashed: {where}: {error!r}"
            return self.result(text, "crashed")
        return self.result()

    def play(self) -> None:
        for node in self.nodes.values():
            self.agenda.at(node.rng.randrange(3000), node.switch_on)
        for client in self.clients.values():
            client.begin()
        for plain in self.plains.values():
            self.agenda.at(self.works.randrange(3000), plain.begin)
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
        self.edges.append(self.agenda.now)
        heal = APPLY[fault.kind](self, fault)
        if heal is not None:
            self._heals[number] = heal
            self.agenda.after(fault.lasts_ms, self._heal, number)

    def _heal(self, number: int) -> None:
        heal = self._heals.pop(number, None)
        if heal is not None:
            self.note(f"over {self.faults[number]}")
            self.edges.append(self.agenda.now)
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
