# SPDX-License-Identifier: GPL-2.0-or-later
"""What may be asked of whoever keeps an address through a run of chaos, and whether it was done.

Pure: a `Story` in, a `Verdict` out; milliseconds of CLOCK_MONOTONIC, spans are half open.

A node COULD SERVE at a moment when all of this holds:
- its line to the service LAN (path 0) has carrier, is not cut, deaf or mute, and loses nothing;
- none of its processes is frozen;
- its processes have all been there for WARM_MS; time in which it is frozen does not count;
- no rogue answers for the address;
- the machine that all of this runs on does not stand still (`STALL`).
Floods, busy processors, foreign hands that delete the address, and what became of another node
excuse nobody.

Two nodes HEAR EACH OTHER when on every path both lines have carrier and are whole as above, neither
is frozen, all their processes have been there for START_MS, and the machine does not stand still.

The rules:
- unserved: while one same node could serve all along, the client is without an answer for at most
  STRETCH_MS at a time, and SUM_MS in a run; time that several nodes could have saved counts once,
  and an outage shorter than LOST_MS is some lost packets of a lossy line and does not count;
- two owners: while two nodes hear each other, both have the address for at most DOUBLE_MS at a
  time;
- end: from AFTER_MS after the last fault the client is served and the address has one owner;
- stood still: the machine does for at most STALL_MS in a run, or the run says nothing; whoever
  sends so much that it does is not excused by it either;
- left over: what is told to stop ends in time, and nothing is left of it at the end.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

START_MS = 1000.0
WARM_MS = 3000.0
STRETCH_MS = 1200.0
SUM_MS = 2000.0
DOUBLE_MS = 700.0
AFTER_MS = 5000.0
STALL_MS = 5000.0
LOST_MS = 50.0
BLINK_MS = 100.0  # at the end: a probe or two that the measuring machine itself was late with
LINE, DOWN, FROZEN, ROGUE, STALL = "line", "down", "frozen", "rogue", "stall"
Span = tuple[float, float]


@dataclass
class Effect:
    """What a fault does to a node ("" = to everybody), from before it is done till after it ends.

    what: LINE (of `path`: no carrier, cut, deaf, mute or lossy), DOWN (a process is missing),
    FROZEN, ROGUE, STALL.
    """

    what: str
    node: str
    since_ms: float
    until_ms: float = math.inf
    path: int = 0


@dataclass(frozen=True)
class Story:
    """A run. outages: of the client. owned: node -> when it had the address. over_ms: mended."""

    nodes: Sequence[str]
    paths: int
    began_ms: float
    over_ms: float
    ended_ms: float
    effects: Sequence[Effect]
    outages: Sequence[Span]
    owned: Mapping[str, Sequence[Span]]
    left: Sequence[str] = ()


@dataclass(frozen=True)
class Violation:
    rule: str  # unserved, unserved sum, two owners, end, stood still, left over
    text: str
    span: Span
    limit_ms: float = 0.0


@dataclass
class Verdict:
    """unexcused, doubled: the stretches that the first two rules are about, longest first."""

    violations: list[Violation] = field(default_factory=list)
    unserved_ms: float = 0.0
    unexcused_ms: float = 0.0
    unexcused: list[tuple[Span, str]] = field(default_factory=list)
    doubled: list[tuple[Span, str]] = field(default_factory=list)


def length(span: Span) -> float:
    return span[1] - span[0]


def union(spans: Iterable[Span]) -> list[Span]:
    """The same time, each moment once, in order."""
    found: list[Span] = []
    for since, until in sorted(span for span in spans if span[1] > span[0]):
        if found and since <= found[-1][1]:
            found[-1] = (found[-1][0], max(until, found[-1][1]))
        else:
            found.append((since, until))
    return found


def common(one: Iterable[Span], other: Iterable[Span]) -> list[Span]:
    """Moments that are in both."""
    others = union(other)
    return union(
        (max(since, begin), min(until, end)) for since, until in one for begin, end in others
    )


def without(whole: Span, holes: Iterable[Span]) -> list[Span]:
    """The rest of `whole`."""
    found, at = [], whole[0]
    for since, until in union(holes):
        if since > at:
            found.append((at, min(since, whole[1])))
        at = max(at, until)
        if at >= whole[1]:
            return [span for span in found if length(span) > 0]
    return [span for span in [*found, (at, whole[1])] if length(span) > 0]


def warmed(at_ms: float, need_ms: float, frozen: Sequence[Span]) -> float:
    """When a process started then has run for so long; `frozen` in order, each moment once."""
    for since, until in frozen:
        if until <= at_ms:
            continue
        if since - at_ms >= need_ms:
            break
        need_ms -= max(0.0, since - at_ms)
        at_ms = until
    return at_ms + need_ms


class Judge:
    """One story."""

    def __init__(self, story: Story) -> None:
        self.story = story
        self.whole = (story.began_ms, story.ended_ms)

    def _spans(self, what: str, node: str) -> list[Span]:
        return [
            (effect.since_ms, effect.until_ms)
            for effect in self.story.effects
            if effect.what == what and effect.node == node
        ]

    def _hampered(self, node: str, paths: int, need_ms: float) -> list[Span]:
        """When it was frozen, not whole on one of the first `paths`, or not running so long."""
        frozen = union(self._spans(FROZEN, node))
        lines = [
            (effect.since_ms, effect.until_ms)
            for effect in self.story.effects
            if (effect.what, effect.node) == (LINE, node) and effect.path < paths
        ]
        down = [(since, warmed(until, need_ms, frozen)) for since, until in self._spans(DOWN, node)]
        return [*frozen, *lines, *down]

    def could_serve(self, node: str) -> list[Span]:
        hampered = self._hampered(node, 1, WARM_MS)
        return without(self.whole, [*hampered, *self._spans(ROGUE, ""), *self._spans(STALL, "")])

    def hear_each_other(self, one: str, other: str) -> list[Span]:
        paths = self.story.paths
        hampered = [span for node in (one, other) for span in self._hampered(node, paths, START_MS)]
        return without(self.whole, [*hampered, *self._spans(STALL, "")])

    def verdict(self) -> Verdict:
        found = Verdict()
        self._unserved(found)
        self._two_owners(found)
        self._end(found)
        stalls = union(self._spans(STALL, ""))
        if sum(map(length, stalls)) > STALL_MS:
            text = f"this machine stood still for {sum(map(length, stalls)):.0f} ms: run it again"
            worst = max(stalls, key=length)
            found.violations.append(Violation("stood still", text, worst, STALL_MS))
        for left in self.story.left:
            end_ms = self.story.ended_ms
            found.violations.append(Violation("left over", left, (end_ms, end_ms)))
        return found

    def _unserved(self, found: Verdict) -> None:
        seen = common(self.story.outages, [self.whole])
        outages = [span for span in seen if length(span) >= LOST_MS]
        found.unserved_ms = sum(map(length, seen))
        for node in self.story.nodes:
            able = self.could_serve(node)
            found.unexcused += [(span, node) for span in common(outages, able)]
        found.unexcused.sort(key=lambda entry: -length(entry[0]))
        once = union(span for span, _ in found.unexcused)
        found.unexcused_ms = sum(map(length, once))
        told: list[Span] = []
        for span, node in found.unexcused:
            if length(span) > STRETCH_MS and not common([span], told):
                told.append(span)
                text = f"client unserved for {length(span):.0f} ms while {node} could serve"
                found.violations.append(Violation("unserved", text, span, STRETCH_MS))
        if found.unexcused_ms > SUM_MS:
            text = (
                f"client unserved for {found.unexcused_ms:.0f} ms without excuse, {len(once)} times"
            )
            worst = max(once, key=length)
            found.violations.append(Violation("unserved sum", text, worst, SUM_MS))

    def _two_owners(self, found: Verdict) -> None:
        owned = self.story.owned
        for one, other in combinations(self.story.nodes, 2):
            double = common(owned.get(one, ()), owned.get(other, ()))
            spans = common(double, self.hear_each_other(one, other))
            found.doubled += [(span, f"{one} and {other}") for span in spans]
        found.doubled.sort(key=lambda entry: -length(entry[0]))
        for span, who in found.doubled:
            if length(span) > DOUBLE_MS:
                text = f"{who} both had the address for {length(span):.0f} ms, hearing each other"
                found.violations.append(Violation("two owners", text, span, DOUBLE_MS))

    def _end(self, found: Verdict) -> None:
        last = (self.story.over_ms + AFTER_MS, self.story.ended_ms)
        for span in common(self.story.outages, [last]):
            if length(span) > BLINK_MS:
                text = f"client unserved for {length(span):.0f} ms although all was mended"
                found.violations.append(Violation("end", text, span, BLINK_MS))
        unowned = without(last, [span for spans in self.story.owned.values() for span in spans])
        for span in unowned:
            if length(span) > BLINK_MS:
                text = f"nobody had the address for {length(span):.0f} ms although all was mended"
                found.violations.append(Violation("end", text, span, BLINK_MS))
        holders = [
            node
            for node, spans in self.story.owned.items()
            if common(spans, [(last[1] - BLINK_MS, last[1])])
        ]
        if len(holders) > 1:
            text = f"{' and '.join(holders)} both have the address at the end"
            found.violations.append(Violation("end", text, (last[1] - BLINK_MS, last[1])))
