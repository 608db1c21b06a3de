# SPDX-License-Identifier: GPL-2.0-or-later
"""Which cases are measured, and the rows that come of them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from tests.bench.cold import cases
from tests.bench.cold.plant import Plant, Seen
from tests.bench.cold.seats import S_MS
from tests.bench.cold.standpipe import LEASE, LEASE_MS, OVERLAP
from tests.bench.common import Row

PEER = "keepalived"
SEATS = {OVERLAP.name: "may overlap", LEASE.name: "lease"}
FOLDS: Mapping[str, Callable[[Sequence[float]], float]] = {
    "median": statistics.median,
    "longest": max,
    "most": max,
    "all runs": sum,
}


@dataclass(frozen=True)
class Wanted:
    """A row for each seat that has a limit in it, None: shown without one."""

    what: str
    fold: str
    limits: Mapping[str, float | None]
    unit: str = "ms"

    def rows(self, name: str, runs: Sequence[Seen]) -> list[Row]:
        return [
            Row(
                f"{name}, {SEATS[seat]}: {self.what}, {self.fold}",
                self._folded(seat, runs),
                self._folded(PEER, runs),
                self.unit,
                limit,
            )
            for seat, limit in self.limits.items()
        ]

    def _folded(self, seat: str, runs: Sequence[Seen]) -> float | None:
        known = [seen[self.what, seat] for seen in runs if (self.what, seat) in seen]
        return round(FOLDS[self.fold](known), 1) if known else None


def each(overlap: float | None, lease: float | None) -> Mapping[str, float | None]:
    """A limit for each of our seats."""
    return {OVERLAP.name: overlap, LEASE.name: lease}


@dataclass(frozen=True)
class Case:
    """A fault, and what is wanted of it. wanted: beside what is wanted of every case."""

    name: str
    once: Callable[[Plant], Seen]
    wanted: tuple[Wanted, ...]
    copies: float | None = 0.0  # two copies of the group that may overlap

    def rows(self, runs: Sequence[Seen]) -> list[Row]:
        safe = Wanted("two copies", "longest", each(self.copies, 0))
        return [row for wanted in (*self.wanted, safe) for row in wanted.rows(self.name, runs)]


def outage(overlap: float | None, lease: float | None) -> tuple[Wanted, Wanted]:
    """The median is limited, and the longest to half as much again."""
    longest = [None if limit is None else 1.5 * limit for limit in (overlap, lease)]
    return (
        Wanted("outage", "median", each(overlap, lease)),
        Wanted("outage", "longest", each(*longest)),
    )


NOTHING = (
    Wanted("outage", "longest", each(0, 0)),
    Wanted("starts", "all runs", each(0, 0), "starts"),
    Wanted("after: outage", "longest", each(0, 0)),
    Wanted("after: two copies", "longest", each(0, 0)),
)
HEALED = (
    Wanted("healed: outage", "longest", each(20, 20)),
    Wanted("healed: two copies", "longest", each(100, 0)),
    Wanted("healed: survivor started again", "all runs", each(0, 0), "starts"),
)
LOST = Wanted("status lost", "most", each(10, 10), "changes of 0.1 s")
KEPT = Wanted("status lost", "most", each(0, 0), "changes of 0.1 s")
CASES = (
    Case(
        "power cut",
        cases.power_cut,
        (
            *outage(S_MS + 450, S_MS + LEASE_MS + 600),
            LOST,
            Wanted("return: outage", "longest", each(0, 0)),
            Wanted("return: starts", "all runs", each(0, 0), "starts"),
            Wanted("return: two copies", "longest", each(0, 0)),
        ),
    ),
    Case("killed", cases.killed, outage(S_MS + 150, S_MS + 150)),
    Case("hung", cases.hung, outage(S_MS + 1200, S_MS + 1200)),
    Case(
        "fails to start",
        cases.no_start,
        (
            *outage(S_MS + 1000, S_MS + 1000),
            Wanted("starts on the sick node", "most", each(2, 2), "starts"),
        ),
    ),
    Case("planned", cases.planned, (*outage(S_MS + 150, S_MS + 150), KEPT)),
    *(
        Case(f"{name} {fate}", partial(once, role), NOTHING)
        for role, name in enumerate(("agent", "keeper"))
        for fate, once in (("killed", cases.manager_killed), ("frozen", cases.manager_frozen))
    ),
    Case(
        "node frozen",
        cases.node_frozen,
        (
            *outage(None, S_MS + LEASE_MS + 600),
            Wanted("thawed: outage", "longest", each(0, 0)),
            Wanted("thawed: two copies", "longest", each(50, 50)),
        ),
        copies=None,
    ),
    Case(
        "split, witness",
        cases.split_with_witness,
        (Wanted("outage", "longest", each(None, 0)), *HEALED),
        copies=None,
    ),
    Case(
        "split, no third vote",
        cases.split_alone,
        (
            Wanted("outage", "longest", each(None, None)),
            Wanted("alarm after", "longest", {LEASE.name: 5000}),
            Wanted("healed: two copies", "longest", each(100, 0)),
        ),
        copies=None,
    ),
    Case(
        "silent cut",
        cases.silent_cut,
        (
            *outage(S_MS + 450, S_MS + LEASE_MS + 600),
            Wanted("healed: outage", "longest", each(20, 20)),
        ),
        copies=None,
    ),
    Case(
        "all cables out",
        cases.carrier_cut,
        (
            *outage(S_MS + 450, S_MS + LEASE_MS + 600),
            Wanted("healed: outage", "longest", each(20, 20)),
        ),
        copies=None,
    ),
    Case(
        "both cut, both return",
        cases.both_return,
        (Wanted("served after power on", "median", each(4000, 4000)), LOST),
    ),
    Case(
        "both cut, the standby returns",
        cases.standby_returns,
        (Wanted("served after power on", "median", each(4500, 4500)),),
    ),
    Case(
        "both cut, the owner returns",
        cases.owner_returns,
        (Wanted("served after power on", "median", each(4500, 4500)), LOST),
    ),
)
