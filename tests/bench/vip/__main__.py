# SPDX-License-Identifier: GPL-2.0-or-later
"""How long a client is without its address when things break, beside keepalived.

`python -m tests.bench.vip [--runs 5] [--long] [--only 'power cut' ...]`. Both are at work on the
same two nodes, each with a virtual router and an address of its own, and meet the same fault at the
same moment; faults come at moments spread evenly over the advertisement interval.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

from tests.bench.common import Row, as_installed, finish, load, say
from tests.bench.vip.pair import Healed, Moved, Pair, Stayed
from tests.lab.netns import LabError
from tests.lab.plan import one_lan
from tests.lab.world import World

SCENARIOS = ("power cut", "planned stop", "agent killed", "keeper killed", "silent cut")
POWER_CUT_MS = 350.0  # outage, median, adverts each 200 ms
PLANNED_STOP_MS = 20.0
HEAL_MS = 100.0
SLOW_SHARE = 0.45  # of keepalived's outage at a power cut, adverts each second
Seen = TypeVar("Seen", Moved, Stayed, Healed)


def middle(values: Sequence[float]) -> float:
    return round(statistics.median(values), 1)


def repeat(what: str, runs: int, once: Callable[[float], Seen]) -> list[Seen]:
    """`once(phase)`: phases are the middles of `runs` equal parts of the interval."""
    found: list[Seen] = []
    for number in range(runs):
        seen = once((number + 0.5) / runs)
        found.append(seen)
        say(f"{what} {number + 1} of {runs}: {seen}")
    return found


def moved(name: str, found: Sequence[Moved], limit_ms: float | None = None) -> list[Row]:
    """Rows of a scenario in which the address changes hands."""
    ours, peers = [seen.ours_ms for seen in found], [seen.peer_ms for seen in found]
    return [
        Row(f"{name}: outage, median", middle(ours), middle(peers), "ms", limit_ms),
        Row(f"{name}: outage, longest", round(max(ours), 1), round(max(peers), 1), "ms"),
    ]


def stayed(name: str, found: Sequence[Stayed]) -> list[Row]:
    """Rows of a scenario in which nothing may happen; keepalived has no such two processes."""
    return [
        Row(f"{name}: probes lost, all runs", sum(s.lost for s in found), None, "probes", 0),
        Row(f"{name}: moves, all runs", sum(s.moves for s in found), None, "moves", 0),
    ]


def healed(name: str, found: Sequence[Healed]) -> list[Row]:
    """Rows of the silent cut: while it lasts, and after it."""
    median, longest = moved(f"heal, {name}", [seen.heal for seen in found])
    doubled = round(max(seen.doubled_ms for seen in found), 1)
    peer_doubled = round(max(seen.peer_doubled_ms for seen in found), 1)
    return [
        *moved(f"silent cut, {name}", [seen.cut for seen in found]),
        replace(longest, limit=HEAL_MS),
        median,
        Row(f"heal, {name}: two owners, longest", doubled, peer_doubled, "ms"),
    ]


def power_cuts(name: str, found: Sequence[Moved], advert_ms: int) -> list[Row]:
    """With slow adverts the limit is a share of what keepalived needs."""
    if advert_ms < 1000:
        return moved(name, found, POWER_CUT_MS)
    return moved(name, found, round(SLOW_SHARE * middle([seen.peer_ms for seen in found])))


def measure(world: World, advert_ms: int, options: argparse.Namespace) -> Iterator[Row]:
    """Every scenario at one interval."""
    every, runs = f"{advert_ms} ms", options.runs
    pair = Pair(world, advert_ms)
    say(f"adverts each {every}: both are at work on {' and '.join(world.plan.nodes)}")
    for scenario in options.only:
        name = f"{scenario}, {every}"
        match scenario:
            case "power cut":
                yield from power_cuts(name, repeat(name, runs, pair.power_cut), advert_ms)
            case "planned stop":
                yield from moved(name, repeat(name, runs, pair.planned_stop), PLANNED_STOP_MS)
            case "agent killed" | "keeper killed":
                kill = partial(pair.killed, scenario.split()[0])
                yield from stayed(name, repeat(name, runs, kill))
            case _:
                cut = partial(pair.heal, patience_s=options.patience)
                yield from healed(every, repeat(name, runs, cut))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.vip", description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--long", action="store_true", help="with adverts each second as well")
    parser.add_argument("--only", nargs="+", choices=SCENARIOS, default=SCENARIOS)
    parser.add_argument(
        "--patience", type=float, default=12.0, metavar="S", help="to wait for a healed client"
    )
    options = parser.parse_args()
    as_installed()
    say(f"load average {load()} at the start")
    rows: list[Row] = []
    try:
        for advert_ms in (200, 1000) if options.long else (200,):
            with World.build(one_lan()) as world:
                rows += measure(world, advert_ms, options)
    except LabError as error:
        print(f"bench vip: {error}", file=sys.stderr)
        return 1
    remarks = [
        "client outage by probes each 1 ms; keepalived 2.2.7 as Debian ships it, nopreempt, "
        "its own address on the same nodes",
        f"an outage after a heal is watched for {options.patience:g} s at most, then cut off",
    ]
    return finish("vip", rows, "keepalived", remarks)


if __name__ == "__main__":
    sys.exit(main())
