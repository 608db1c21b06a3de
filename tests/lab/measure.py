# SPDX-License-Identifier: GPL-2.0-or-later
"""What happened, in numbers: outages, owners, announcements and answers within any span of time.

Watchers run beside the laboratory in processes of their own; `record()` gives what they saw so far.
All times are milliseconds of CLOCK_MONOTONIC (netns.now_ms); a span is half open, and
is the whole record without bounds.
"""

from __future__ import annotations

import bisect
import json
import math
import select
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from tests.lab import plan as places
from tests.lab.netns import SWITCH, LabError, now_ms
from tests.lab.patient import UDP_PORT
from tests.lab.world import ROOT, World

EVER = math.inf
Span = tuple[float, float]


@dataclass(frozen=True)
class Probes:
    """Probes sent, and who answered each in time."""

    sent_ms: Sequence[float]
    by: Sequence[str | None]

    def _within(self, start_ms: float, end_ms: float) -> range:
        return range(
            bisect.bisect_left(self.sent_ms, start_ms), bisect.bisect_left(self.sent_ms, end_ms)
        )

    def outages(self, start_ms: float = -EVER, end_ms: float = EVER) -> list[Span]:
        """From the first probe that nobody answered to the next that somebody did, or the end."""
        found: list[Span] = []
        since_ms: float | None = None
        chosen = self._within(start_ms, end_ms)
        for index in chosen:
            if self.by[index] is None:
                since_ms = self.sent_ms[index] if since_ms is None else since_ms
            elif since_ms is not None:
                found.append((since_ms, self.sent_ms[index]))
                since_ms = None
        if since_ms is not None:
            found.append((since_ms, min(end_ms, self.sent_ms[chosen[-1]])))
        return found

    def outage_ms(self, start_ms: float = -EVER, end_ms: float = EVER) -> float:
        """The longest outage."""
        return max((end - start for start, end in self.outages(start_ms, end_ms)), default=0.0)

    def lost(self, start_ms: float = -EVER, end_ms: float = EVER) -> int:
        return sum(self.by[index] is None for index in self._within(start_ms, end_ms))

    def served_by(self, start_ms: float = -EVER, end_ms: float = EVER) -> list[tuple[float, str]]:
        """Who answered, noted at the first answer and at each change: [(sent_ms, node)]."""
        found: list[tuple[float, str]] = []
        for index in self._within(start_ms, end_ms):
            node = self.by[index]
            if node is not None and (not found or found[-1][1] != node):
                found.append((self.sent_ms[index], node))
        return found

    def stall_ms(self, start_ms: float = -EVER, end_ms: float = EVER) -> float:
        """The longest pause between two probes: what the measurement cannot see."""
        sent = [self.sent_ms[index] for index in self._within(start_ms, end_ms)]
        return max((after - before for before, after in pairwise(sent)), default=0.0)


@dataclass(frozen=True)
class Edge:
    """A node gained or lost an address."""

    at_ms: float
    node: str
    address: str
    gained: bool


@dataclass(frozen=True)
class Ownership:
    """All edges until a moment, in order of time."""

    edges: Sequence[Edge]
    until_ms: float

    def spans(
        self, node: str, address: str, start_ms: float = -EVER, end_ms: float = EVER
    ) -> list[Span]:
        """When the node held the address, cut to the span."""
        found: list[Span] = []
        since_ms: float | None = None
        for edge in self.edges:
            if (edge.node, edge.address) == (node, address):
                if edge.gained:
                    since_ms = edge.at_ms
                elif since_ms is not None:
                    found.append((since_ms, edge.at_ms))
                    since_ms = None
        if since_ms is not None:
            found.append((since_ms, self.until_ms))
        return [
            (max(since, start_ms), min(until, end_ms))
            for since, until in found
            if since < end_ms and until > start_ms
        ]

    def owners(self, address: str, at_ms: float | None = None) -> set[str]:
        """Who held it at a moment, by default the last."""
        now: set[str] = set()
        for edge in self.edges:
            if edge.address == address and (at_ms is None or edge.at_ms <= at_ms):
                (now.add if edge.gained else now.discard)(edge.node)
        return now

    def owners_seen(self, address: str, start_ms: float = -EVER, end_ms: float = EVER) -> list[str]:
        """Everyone who held it in the span, in the order in which they came to it."""
        held = {
            node: self.spans(node, address, start_ms, end_ms)
            for node in dict.fromkeys(edge.node for edge in self.edges if edge.address == address)
        }
        return sorted(
            (node for node, spans in held.items() if spans), key=lambda node: held[node][0]
        )

    def counts_ms(
        self, address: str, start_ms: float = -EVER, end_ms: float = EVER
    ) -> dict[int, float]:
        """How long it had no owner, one, two...: {number of owners: ms}."""
        first_ms = max(start_ms, self.edges[0].at_ms if self.edges else self.until_ms)
        last_ms = min(end_ms, self.until_ms)
        turns = [(first_ms, 0), (last_ms, 0)]
        for node in self.owners_seen(address, first_ms, last_ms):
            for since, until in self.spans(node, address, first_ms, last_ms):
                turns += [(since, 1), (until, -1)]
        turns.sort()
        total: dict[int, float] = {}
        owners = 0
        for (at_ms, change), (next_ms, _) in pairwise(turns):
            owners += change
            if next_ms > at_ms:
                total[owners] = total.get(owners, 0.0) + next_ms - at_ms
        return total

    def doubled_ms(self, address: str, start_ms: float = -EVER, end_ms: float = EVER) -> float:
        """How long it had more than one owner."""
        return sum(
            ms for owners, ms in self.counts_ms(address, start_ms, end_ms).items() if owners > 1
        )

    def unowned_ms(self, address: str, start_ms: float = -EVER, end_ms: float = EVER) -> float:
        return self.counts_ms(address, start_ms, end_ms).get(0, 0.0)


@dataclass(frozen=True)
class Announcement:
    """An ARP packet about its own sender, or a neighbour advertisement; `mac` sent the frame."""

    at_ms: float
    node: str
    interface: str
    address: str
    mac: str


@dataclass(frozen=True)
class Advert:
    """A VRRP advertisement; priority 0 is a goodbye (RFC 9568 section 6.1)."""

    at_ms: float
    node: str
    interface: str
    vrid: int
    priority: int
    mac: str


@dataclass(frozen=True)
class Traffic:
    """What the nodes sent into the switch, in order of time."""

    announcements: list[Announcement] = field(default_factory=list)
    adverts: list[Advert] = field(default_factory=list)


@dataclass(frozen=True)
class Answers:
    """A resolver's answer at each change: sorted rdata texts, or one error such as NXDOMAIN."""

    changes: Sequence[tuple[float, tuple[str, ...]]]

    def first(self, answer: Iterable[str], after_ms: float = -EVER) -> float | None:
        """When this answer was first in force at or after a moment; None when it never was."""
        wanted = tuple(sorted(answer))
        current: tuple[str, ...] = ()
        for at_ms, given in self.changes:
            if at_ms >= after_ms:
                if current == wanted:
                    return after_ms
                if given == wanted:
                    return at_ms
            current = given
        return after_ms if current == wanted else None


class Watcher:
    """A measuring process: it runs until `close`, and never outlives this one."""

    def __init__(self, kind: str, options: dict[str, Any]) -> None:
        self._kind = kind
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.lab.watchers", kind, json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            cwd=ROOT,
        )
        self._read()

    def _ask(self, what: str) -> Any:
        assert self._process.stdin
        self._process.stdin.write(what.encode() + b"\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> Any:
        assert self._process.stdout
        ready, _, _ = select.select([self._process.stdout], [], [], 20.0)
        line = self._process.stdout.readline() if ready else b""
        if not line:
            self.close()
            raise LabError(f"the {self._kind} watcher gave no answer; its complaint is above")
        return json.loads(line)

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        with self._process:
            pass


class Prober(Watcher):
    """The client's eye on a service address: UDP probes by the kernel's own ARP cache."""

    def __init__(
        self,
        world: World,
        address: str,
        *,
        source: str = places.CLIENT,
        port: int = UDP_PORT,
        interval_ms: float = 1.0,
        late_ms: float = 250.0,
    ) -> None:
        """An answer later than `late_ms` counts as none."""
        where = {"namespace": world.host(source).namespace, "address": address, "port": port}
        super().__init__("prober", where | {"interval_ms": interval_ms, "late_ms": late_ms})
        world.keep(self)

    def served_by(self, within_ms: float = 100.0) -> str | None:
        """Who answered last, if that was within the last moments."""
        latest = self._ask("latest")
        return str(latest[1]) if latest and now_ms() - latest[0] <= within_ms else None

    def record(self) -> Probes:
        notes = self._ask("record")
        names: list[str | None] = [*notes["names"], None]  # nobody is -1
        return Probes(notes["sent"], [names[index] for index in notes["by"]])


class AddressWatch(Watcher):
    """Who holds which address, by the netlink events of every node."""

    def __init__(self, world: World) -> None:
        super().__init__(
            "addresses", {"namespaces": {node.name: node.namespace for node in world.nodes}}
        )
        world.keep(self)

    def owners(self, address: str) -> set[str]:
        """Who holds it now."""
        return {node for node, held in self._ask("latest") if held == address}

    def record(self) -> Ownership:
        edges = [
            Edge(at_ms, node, address, bool(gained))
            for at_ms, node, address, gained in self._ask("record")
        ]
        return Ownership(edges, now_ms())


class WireWatch(Watcher):
    """Announcements and VRRP adverts that the nodes send."""

    def __init__(self, world: World) -> None:
        ports = {
            port.name: (node.name, name)
            for node in world.nodes
            for name, port in node.ports.items()
        }
        super().__init__("wire", {"namespace": world.fabric.namespace(SWITCH), "ports": ports})
        world.keep(self)

    def record(self) -> Traffic:
        notes = self._ask("record")
        return Traffic(
            [Announcement(*entry) for entry in notes["announcements"]],
            [Advert(*entry) for entry in notes["adverts"]],
        )


class NameWatch(Watcher):
    """The client's eye on a name: one question to a resolver each interval."""

    def __init__(
        self,
        world: World,
        name: str,
        kind: str = "A",
        *,
        server: str = places.RESOLVER,
        source: str = places.CLIENT,
        interval_ms: float = 100.0,
    ) -> None:
        where = {"namespace": world.host(source).namespace, "resolver": world.host(server).address}
        super().__init__("name", where | {"name": name, "kind": kind, "interval_ms": interval_ms})
        world.keep(self)

    def answer(self) -> tuple[str, ...]:
        """The answer now, () before the first."""
        latest = self._ask("latest")
        return tuple(latest[1]) if latest else ()

    def record(self) -> Answers:
        return Answers([(at_ms, tuple(answer)) for at_ms, answer in self._ask("record")])
