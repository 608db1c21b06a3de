# SPDX-License-Identifier: GPL-2.0-or-later
"""Which faults are measured at which intervals, and the rows that come of them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType

from tests.bench.common import Row
from tests.bench.vip import deaths, faults, many, rest
from tests.bench.vip.pair import Bed, Pair, Seen

ADVERTS_MS = FAST_MS, SLOW_MS = 100, 1000
FOLDS: Mapping[str, Callable[[Sequence[float]], float]] = {
    "median": statistics.median,
    "longest": max,
    "most": max,
    "all runs": sum,
    "one run": max,
}
NO_SHARE: Mapping[int, float] = MappingProxyType({})


@dataclass(frozen=True)
class Wanted:
    """One row: what of every run, folded into one number. share: of keepalived's, by interval."""

    what: str
    fold: str
    limit: float | None = None
    unit: str = "ms"
    share: Mapping[int, float] = field(default_factory=lambda: NO_SHARE)

    def row(self, name: str, advert_ms: int, runs: Sequence[Seen]) -> Row:
        fold = FOLDS[self.fold]
        ours = round(fold([seen[self.what][0] for seen in runs]), 3)
        known = [peer for seen in runs if (peer := seen[self.what][1]) is not None]
        peers = round(fold(known), 3) if known else None
        limit = self.limit
        if peers is not None and advert_ms in self.share:
            limit = round(self.share[advert_ms] * peers, 1)
        return Row(f"{name}: {self.what}, {self.fold}", ours, peers, self.unit, limit)


@dataclass(frozen=True)
class Scenario:
    """A fault, done at moments spread evenly over the interval."""

    name: str
    once: Callable[[Bed, float], Seen]
    rows: tuple[Wanted, ...]
    adverts_ms: tuple[int, ...] = (FAST_MS,)
    least_runs: int = 1
    once_only: bool = False

    def called(self, advert_ms: int) -> str:
        return f"{self.name}, {advert_ms / 1000:g} s"

    def failed(self, advert_ms: int) -> list[Row]:
        """Its rows where it could not be measured: limits are missed."""
        name = self.called(advert_ms)
        return [
            Row(
                f"{name}: {wanted.what}, {wanted.fold}",
                None,
                None,
                wanted.unit,
                0 if advert_ms in wanted.share else wanted.limit,
            )
            for wanted in self.rows
        ]

    def measured(self, advert_ms: int, runs: Sequence[Seen]) -> list[Row]:
        return [wanted.row(self.called(advert_ms), advert_ms, runs) for wanted in self.rows]


def beside(once: Callable[[Pair, float], Seen]) -> Callable[[Bed, float], Seen]:
    """What needs both at work."""
    return lambda bed, phase: once(bed.pair, phase)


SHARE = {SLOW_MS: 0.30, FAST_MS: 0.55}
LOST = Wanted("probes lost", "all runs", 0, "probes")
STAYS = (LOST, Wanted("two owners", "longest", 0), Wanted("moves", "all runs", 0, "moves"))
SCENARIOS = (
    Scenario(
        "power cut",
        beside(faults.power_cut),
        (
            Wanted("outage", "median", share=SHARE),
            Wanted("outage", "longest"),
            Wanted("moves at its return", "all runs", 0, "moves"),
        ),
        (FAST_MS, SLOW_MS),
    ),
    Scenario(
        "silent cut",
        beside(faults.silent_cut),
        (
            Wanted("outage", "median", share=SHARE),
            Wanted("outage", "longest"),
            Wanted("healed: outage", "median"),
            Wanted("healed: outage", "longest", 50),
            Wanted("healed: two owners", "median"),
            Wanted("healed: two owners", "longest", 50),
        ),
        (FAST_MS, SLOW_MS),
    ),
    Scenario(
        "planned",
        beside(faults.planned),
        tuple(
            wanted
            for how in ("order", "SIGTERM")
            for wanted in (
                Wanted(f"{how}: outage", "median"),
                Wanted(f"{how}: outage", "longest", 10),
                Wanted(f"{how}: two owners", "longest", 30),
                Wanted(f"{how}: probes lost", "all runs", unit="probes"),
            )
        ),
        (FAST_MS, SLOW_MS),
    ),
    *(
        Scenario(f"{role} {fate}", beside(partial(once, role)), STAYS)
        for fate, once in (("killed", deaths.killed), ("hung", deaths.hung))
        for role in ("keeper", "agent")
    ),
    Scenario(
        "all killed",
        beside(deaths.all_killed),
        (Wanted("outage", "longest"), Wanted("two owners", "longest", 3500)),
    ),
    Scenario(
        "frozen",
        beside(deaths.frozen),
        (
            Wanted("announcements after the thaw", "median", unit="", limit=10),
            Wanted("announcements after the thaw", "most", unit="", limit=10),
            Wanted("outage", "longest"),
            Wanted("two owners", "longest"),
        ),
    ),
    Scenario(
        "paused",
        beside(faults.paused),
        (
            Wanted("black holes", "all runs", 0, "runs"),
            Wanted("outage", "longest"),
            Wanted("one owner again within", "longest", 100),
        ),
        least_runs=10,
    ),
    Scenario(
        "idle",
        beside(rest.idle),
        (
            Wanted("keeper, active", "one run", 0.3, "s/min"),
            Wanted("keeper, standby", "one run", 0.3, "s/min"),
            Wanted("agent, active", "one run", unit="s/min"),
            Wanted("agent, standby", "one run", unit="s/min"),
        ),
        (SLOW_MS,),
        once_only=True,
    ),
    Scenario(
        "1000 addresses",
        many.power_cut,
        (
            Wanted("last one announced after the first was added", "median", 60),
            Wanted("last one announced after the first was added", "longest"),
            Wanted("outage", "median"),
        ),
        (SLOW_MS,),
    ),
)
