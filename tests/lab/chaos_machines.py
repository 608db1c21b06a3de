# SPDX-License-Identifier: GPL-2.0-or-later
"""What the faults of chaos do to lines, nodes and neighbours; several may be on the same one.

Everything that is done is noted as `Effect`s for the judge, begun before the deed and ended after
its repair, and as lines of a calendar for whoever reads.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from tests.lab import plan as places
from tests.lab.chaos_candidates import VIP, VRID, Candidate, processes
from tests.lab.chaos_judge import DOWN, FROZEN, LINE, ROGUE, Effect
from tests.lab.netns import Cable, LabError, Port, command, inside, now_ms, set_ports
from tests.lab.plan import Plan, one_lan
from tests.lab.world import ROOT, Node, World

STRANGER = "stranger"
NODES = ("lon1", "lon2", "lon3")
STOPS_WITHIN_MS = 10_000.0
STARTS_WITHIN_MS = 5_000.0  # until all its processes are there
BUSY = "while :; do :; done"


def plan(nodes: int, paths: int) -> Plan:
    """So many nodes, a client and a stranger on one LAN, with a second path or without."""
    lan = one_lan(NODES[:nodes], second_path=paths > 1)
    addresses = places.addresses(places.LONDON, 66)
    stranger = Cable(STRANGER, places.LAN, places.LONDON, addresses)
    return replace(lan, cables=(*lan.cables, stranger))


@dataclass
class Calendar:
    """notes: (ms, text) of all that was done; effects: for the judge; overdue: who did not stop."""

    notes: list[tuple[float, str]] = field(default_factory=list)
    effects: list[Effect] = field(default_factory=list)
    overdue: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        self.notes.append((now_ms(), text))

    def begin(self, what: str, node: str = "", path: int = 0) -> Effect:
        effect = Effect(what, node, now_ms(), path=path)
        self.effects.append(effect)
        return effect

    def end(self, effect: Effect) -> None:
        effect.until_ms = min(effect.until_ms, now_ms())


class Line:
    """A node's port on the switch; what is wrong with it may have several reasons at a time.

    kinds: unplugged, cut, deaf, mute, loss (each way), sent loss (of what the node sends).
    """

    def __init__(self, port: Port, node: str, path: int, calendar: Calendar) -> None:
        self.port, self.node, self.path, self.calendar = port, node, path, calendar
        self.troubles: dict[int, tuple[str, int, Effect]] = {}

    def begin(self, number: int, kind: str, pct: int = 0) -> None:
        """The trouble that the fault of that number makes; a fault makes one at a time."""
        effect = self.calendar.begin(LINE, self.node, self.path)
        self.troubles[number] = (kind, pct, effect)
        self.apply()

    def end(self, number: int) -> None:
        if number in self.troubles:
            effect = self.troubles.pop(number)[2]
            self.apply()
            self.calendar.end(effect)

    def apply(self) -> None:
        """Bring the port to what all troubles together ask for."""
        kinds = {kind for kind, _, _ in self.troubles.values()}
        up = "unplugged" not in kinds
        set_ports([self.port], up=up)
        if up:  # a port that comes up forwards
            state = "0" if "cut" in kinds else "3"
            where = ["bridge", "-n", self.port.switch]
            command(*where, "link", "set", "dev", self.port.name, "state", state)
        command(
            *["ip", "netns", "exec", self.port.switch, "nft", "-f", "-"], text=self._rules(kinds)
        )

    def _rules(self, kinds: set[str]) -> str:
        name = self.port.name
        table = f"table netdev chaos-{name}"
        chains = []
        for hook, silent, lossy in (
            ("ingress", "mute", ("loss", "sent loss")),
            ("egress", "deaf", ("loss",)),
        ):
            lost = [pct for kind, pct, _ in self.troubles.values() if kind in lossy]
            lines = [f"numgen random mod 100 < {pct} drop" for pct in lost]
            drops = ["drop"] if silent in kinds else lines
            if drops:
                place = f"type filter hook {hook} device {name} priority 0; policy accept"
                chains.append("\n".join([f"chain {hook} {{", place, *drops, "}"]))
        whole = [f"{table} {{", *chains, "}"] if chains else []
        return "\n".join([table, f"delete {table}", *whole, ""])


class Machine:
    """A node: its lines, its power, and the candidate's processes on it."""

    def __init__(self, node: Node, candidate: Candidate, world: World, calendar: Calendar) -> None:
        self.node, self.candidate, self.world, self.calendar = node, candidate, world, calendar
        self.name = node.name
        self.lines = [
            Line(port, node.name, path, calendar) for path, port in enumerate(node.ports.values())
        ]
        self.dark: set[int] = set()  # faults that keep its power away
        self.off: set[int] = set()  # faults that keep the candidate from running
        self.frozen: dict[int, Effect] = {}
        self.down: Effect | None = None
        self.told_ms = 0.0  # to stop
        self.latest_ms = 0.0  # it is excused for its start no longer; 0: it does not start

    # ------------------------------------------------------------ power

    def power_off(self, number: int) -> None:
        self._go_down(number)
        self.dark.add(number)
        pids = processes(self.world, self.name)
        for pid in pids:  # at once: cables are cut one by one, and the first would be told of
            _send(pid, signal.SIGSTOP)
        set_ports(list(self.node.ports.values()), up=True)  # which `power_cut` counts on
        self.node.power_cut()
        for line in self.lines:
            line.begin(number, "unplugged")
        self._thawed()

    def power_on(self, number: int) -> None:
        self.dark.discard(number)
        for line in self.lines:
            line.end(number)
        if not self.dark:
            self.serve()
        self._come_up(number)

    def serve(self) -> None:
        """The service starts with the power; starting one that runs is well."""
        self.node.start("sh", "-c", self.node.patient("start"), log="patient.log")

    # ------------------------------------------------------------ processes

    def kill_all(self, number: int) -> None:
        self._go_down(number)
        stopped: set[int] = set()
        while fresh := processes(self.world, self.name) - stopped:
            for pid in fresh:  # no child says goodbye for its parent
                _send(pid, signal.SIGSTOP)
            stopped |= fresh
        for pid in stopped:
            _send(pid, signal.SIGKILL)
        self._thawed()

    def stop(self, number: int) -> None:
        self._go_down(number)
        self.told_ms = now_ms()
        self.candidate.terminate(self.name)

    def start(self, number: int) -> None:
        """When no other fault keeps it from running, and what ran before has ended."""
        self._come_up(number)

    def kill_one(self, number: int, choice: float) -> str:
        """Which, "" for none; one that nobody starts again is off until `start`."""
        before, self.down = self.down, self.down or self.calendar.begin(DOWN, self.name)
        killed, started_again = self.candidate.kill_one(self.name, choice)
        if not killed:
            if before is None:
                self.calendar.effects.remove(self.down)
            self.down = before
        elif not started_again:
            self._go_down(number)
        elif not self.off:
            self._starting()
        return killed

    def freeze(self, number: int) -> None:
        self.frozen[number] = self.calendar.begin(FROZEN, self.name)
        for pid in processes(self.world, self.name):
            _send(pid, signal.SIGSTOP)

    def thaw(self, number: int) -> None:
        effect = self.frozen.pop(number, None)
        if effect is None:
            return
        if not self.frozen:
            for pid in processes(self.world, self.name):
                _send(pid, signal.SIGCONT)
            self.told_ms = now_ms()  # what it was told meanwhile it hears now
        self.calendar.end(effect)

    def _thawed(self) -> None:
        """Those that were frozen are dead; what starts next is not frozen."""
        for effect in self.frozen.values():
            self.calendar.end(effect)
        self.frozen.clear()

    def _go_down(self, number: int) -> None:
        self.off.add(number)
        self.latest_ms = 0.0
        if self.down is None:
            self.down = self.calendar.begin(DOWN, self.name)

    def _come_up(self, number: int) -> None:
        self.off.discard(number)
        self.tick()

    def _starting(self) -> None:
        self.latest_ms = now_ms() + STARTS_WITHIN_MS

    def tick(self) -> None:
        """Start the candidate if that is due, and see that it is there."""
        if self.down is None or self.off or self.dark:
            return
        if self.latest_ms:
            if self.frozen:
                self._starting()
            elif self.candidate.up(self.name) or now_ms() > self.latest_ms:
                self.calendar.end(self.down)
                self.down, self.latest_ms = None, 0.0
        elif not self.candidate.alive(self.name):
            self.candidate.launch(self.name)
            self._starting()
            self.calendar.note(f"{self.name} starts")
        elif now_ms() - self.told_ms > STOPS_WITHIN_MS and not self.frozen:
            text = f"{self.name} had not ended {STOPS_WITHIN_MS / 1000:g} s after SIGTERM"
            self.calendar.note(f"{text}: killed")
            self.calendar.overdue.append(text)
            self.kill_all(-1)
            self.off.discard(-1)

    @property
    def mended(self) -> bool:
        return self.down is None and not self.frozen and not any(x.troubles for x in self.lines)


def _send(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


class Stranger:
    """The process that chaos_stranger.py is, on a host of its own."""

    def __init__(self, world: World, family: int, flood_priority: int, calendar: Calendar) -> None:
        host = world.host(STRANGER)
        self.calendar = calendar
        self.notes = host.folder / "neighbours.txt"
        own = [entry.split("/")[0] for entry in host.own if (":" in entry) == (family == 6)]
        options = {
            "namespace": host.namespace,
            "interface": places.LAN,
            "address": VIP[family],
            "own": own[0] if family == 4 else link_local(host.namespace),
            "vrid": VRID,
            "priority": flood_priority,
            "nodes": [
                [mac_address(node), address.split("/")[0]]
                for node in world.nodes
                for address in node.own[:2]  # the LAN's
                if (":" in address) == (family == 6)
            ],
            "notes": str(self.notes),
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.lab.chaos_stranger", json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            cwd=ROOT,
        )
        world.keep(self)
        self._answer()
        self._rogues: dict[int, Effect] = {}
        self._floods: set[int] = set()

    def rogue(self, number: int, *, on: bool) -> None:
        if on:
            self._rogues[number] = self.calendar.begin(ROGUE)
            self._order("rogue on")
            return
        effect = self._rogues.pop(number)
        if not self._rogues:
            self._order("rogue off")
        self.calendar.end(effect)

    def flood(self, number: int, *, on: bool) -> None:
        (self._floods.add if on else self._floods.discard)(number)
        self._order("flood on" if self._floods else "flood off")

    def _order(self, text: str) -> None:
        assert self._process.stdin
        self._process.stdin.write(text.encode() + b"\n")
        self._process.stdin.flush()
        self._answer()

    def _answer(self) -> None:
        assert self._process.stdout
        ready, _, _ = select.select([self._process.stdout], [], [], 20.0)
        if not ready or not self._process.stdout.readline():
            self.close()
            raise LabError("the stranger gave no answer; its complaint is above")

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        with self._process:
            pass


def mac_address(node: Node, interface: str = places.LAN) -> str:
    with inside(node.namespace):
        links = json.loads(command("ip", "-j", "link", "show", interface))
    return str(links[0]["address"])


def link_local(namespace: str) -> str:
    links = json.loads(command("ip", "-j", "-n", namespace, "-6", "address", "show"))
    entries = (entry for link in links for entry in link.get("addr_info", ()))
    return next(str(entry["local"]) for entry in entries if entry["scope"] == "link")


class Hogs:
    """Busy processes on this machine, in nobody's namespace."""

    def __init__(self, world: World) -> None:
        self._running: list[subprocess.Popen[bytes]] = []
        world.keep(self)

    def begin(self, count: int) -> list[subprocess.Popen[bytes]]:
        hogs = [
            subprocess.Popen(["sh", "-c", BUSY], stdin=subprocess.DEVNULL, start_new_session=True)
            for _ in range(count)
        ]
        self._running += hogs
        return hogs

    def end(self, hogs: list[subprocess.Popen[bytes]]) -> None:
        for hog in hogs:
            hog.kill()
            hog.wait()
            self._running.remove(hog)

    def close(self) -> None:
        self.end(list(self._running))


@dataclass
class Street:
    """All that faults can be done to."""

    world: World
    machines: dict[str, Machine]
    stranger: Stranger
    hogs: Hogs
    calendar: Calendar
    address: str

    def holders(self) -> Iterator[tuple[Machine, str, str]]:
        """(machine, interface, address with prefix length) of everybody who has the address."""
        for machine in self.machines.values():
            where = ["ip", "-j", "-n", machine.node.namespace, "address", "show"]
            for link in json.loads(command(*where)):
                for entry in link.get("addr_info", ()):
                    if entry["local"] == self.address:
                        yield machine, link["ifname"], f"{entry['local']}/{entry['prefixlen']}"
