# SPDX-License-Identifier: GPL-2.0-or-later
"""Which events are measured, and the rows that come of them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from tests.bench.common import Row
from tests.lab import sip_scene
from tests.lab.sip_scene import HOT, KEEPALIVED, REALTIME, Event, Felt, Outcome, SipScene

FOLDS: Mapping[str, Callable[[Sequence[float]], float]] = MappingProxyType(
    {"median": statistics.median, "longest": max, "all runs": sum}
)
B2BUA_RATE = 5.0  # calls a second, at most: it is a small one

Taken = Callable[[Outcome], float | None]


@dataclass(frozen=True)
class Wanted:
    """One row: what of every run, folded into one number."""

    what: str
    fold: str
    of: Taken
    limit: float | None = None
    unit: str = "calls"

    def row(self, name: str, ours: Sequence[Outcome], peers: Sequence[Outcome]) -> Row:
        measured = self._folded(ours), self._folded(peers)
        return Row(f"{name}: {self.what}, {self.fold}", *measured, self.unit, self.limit)

    def _folded(self, runs: Sequence[Outcome]) -> float | None:
        """None where nothing was measured, or where it never came to it."""
        values = [value for run in runs if (value := self.of(run)) is not None]
        if not runs or len(values) < len(runs):
            return None
        return round(FOLDS[self.fold](values), 3)


@dataclass(frozen=True)
class Scenario:
    """An event with its rows. noisy: its second half keeps the machine itself busy."""

    name: str
    event: Event
    rows: tuple[Wanted, ...]
    kind: str = HOT
    noisy: bool = False

    def stall_ms(self, outcome: Outcome) -> float:
        """Longest, that this event is not to blame for."""
        halves = [outcome.fault] if self.noisy else [outcome.fault, outcome.repair]
        return max(felt.stall_ms for felt in halves)

    def once(self, peer: bool, rate: float, advert_s: float) -> Outcome:
        """In a world of its own."""
        realtime = self.kind == REALTIME
        rate = min(rate, B2BUA_RATE) if realtime else rate
        kind = KEEPALIVED if peer else self.kind
        with SipScene(kind, rate, advert_s=advert_s, b2bua=realtime) as scene:
            return scene.through(self.event)


def first(of: Callable[[Felt], float | None]) -> Taken:
    return lambda outcome: of(outcome.fault)


def second(of: Callable[[Felt], float | None]) -> Taken:
    return lambda outcome: of(outcome.repair)


def _half(part: Callable[[Callable[[Felt], float | None]], Taken], name: str) -> tuple[Wanted, ...]:
    """What every half is asked."""
    return (
        Wanted(f"{name}lost", "all runs", part(lambda it: it.tally.lost), 0),
        Wanted(f"{name}slow", "all runs", part(lambda it: it.tally.slow), 0),
        Wanted(
            f"{name}longest set-up", "longest", part(lambda it: it.tally.worst_setup_ms), unit="ms"
        ),
        Wanted(f"{name}repeats", "all runs", part(lambda it: it.tally.repeats), unit="messages"),
    )


def _silence(
    part: Callable[[Callable[[Felt], float | None]], Taken], name: str, limit: float | None = None
) -> tuple[Wanted, ...]:
    return (
        Wanted(f"{name}speech gap", "longest", part(lambda it: it.media_gap_ms), limit, "ms"),
        Wanted(f"{name}OPTIONS gap", "median", part(lambda it: it.options_gap_ms), unit="ms"),
    )


def _taken(limit: float) -> tuple[Wanted, ...]:
    of = first(lambda it: it.taken_ms)
    return (
        Wanted("other node has the address", "median", of, limit, "ms"),
        Wanted("other node has the address", "longest", of, unit="ms"),
    )


def _moved(
    part: Callable[[Callable[[Felt], float | None]], Taken], name: str
) -> tuple[Wanted, ...]:
    """Planned: nothing is felt at all."""
    return (
        Wanted(f"{name}lost", "all runs", part(lambda it: it.tally.lost), 0),
        Wanted(f"{name}repeats", "all runs", part(lambda it: it.tally.repeats), 0, "messages"),
        *_silence(part, name, 40),
    )


GHOSTS = Wanted("ghosts", "all runs", lambda outcome: float(outcome.ghosts), 0)
STALE = Wanted(
    "woken: stale INVITEs", "all runs", second(lambda it: it.tally.stale_invites), 0, "messages"
)
SCENARIOS = (
    Scenario("steady", sip_scene.STEADY, (*_half(first, ""), *_silence(first, ""))),
    Scenario(
        "planned switch", sip_scene.PLANNED, (*_moved(first, ""), *_moved(second, "back: "), GHOSTS)
    ),
    Scenario(
        "service killed",
        sip_scene.KILLED,
        (*_taken(50), *_half(first, ""), *_silence(first, ""), *_half(second, "started: "), GHOSTS),
    ),
    Scenario(
        "service hung",
        sip_scene.HUNG,
        (*_taken(450), *_half(first, ""), *_half(second, "woken: "), STALE, GHOSTS),
        noisy=True,  # a server that wakes works off its queue on every core
    ),
    Scenario(
        "power cut",
        sip_scene.POWER,
        (*_taken(450), *_half(first, ""), *_half(second, "back: "), GHOSTS),
    ),
    Scenario(
        "node frozen",
        sip_scene.FROZEN,
        (
            *_taken(450),
            *_half(first, ""),
            *_half(second, "thawed: "),
            *_silence(second, "thawed: ", 100),
            GHOSTS,
        ),
    ),
    Scenario(
        "B2BUA, planned switch",
        sip_scene.PLANNED,
        (
            Wanted("standing lost", "all runs", first(lambda it: it.tally.standing_lost), 0),
            Wanted("ringing lost", "all runs", first(lambda it: it.tally.ringing_lost), 0),
            Wanted("new lost", "all runs", first(lambda it: it.tally.new_lost), 0),
            Wanted("repeats", "all runs", first(lambda it: it.tally.repeats), 0, "messages"),
            *_moved(second, "back: "),
            GHOSTS,
        ),
        REALTIME,
    ),
)
