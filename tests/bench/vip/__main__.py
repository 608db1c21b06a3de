# SPDX-License-Identifier: GPL-2.0-or-later
"""How long a client is without its address when things break, beside keepalived.

Both are at work on the same two nodes, each with a virtual router and an address of its own, and
meet the same fault at the same moment; faults come at moments spread evenly over the advertisement
interval.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator

from tests.bench.common import Row, as_installed, finish, load, say
from tests.bench.vip.deaths import GONE_MS
from tests.bench.vip.faults import HEALED_MS, PATIENCE_MS
from tests.bench.vip.pair import Bed, Seen
from tests.bench.vip.table import ADVERTS_MS, SCENARIOS, Scenario
from tests.lab.netns import LabError

RUNS, QUICK_RUNS = 7, 3
REMARKS = (
    "client outage by probes each 1 ms; keepalived 2.2.7 as Debian ships it, nopreempt, "
    "its own address on the same nodes",
    f"a client in the dark is watched for {PATIENCE_MS / 1000:g} s after a heal, "
    f"{HEALED_MS / 1000:g} s after a pause: a longer outage is cut off there",
    f"two owners after all were killed are watched for {GONE_MS / 1000:g} s",
)


def measure(advert_ms: int, options: argparse.Namespace) -> Iterator[Row]:
    """All scenarios at one interval; after one that could not be measured, in another world."""
    with contextlib.closing(Bed(advert_ms)) as bed:
        for scenario in SCENARIOS:
            if scenario.name not in options.only or advert_ms not in scenario.adverts_ms:
                continue
            try:
                yield from scenario.measured(advert_ms, repeat(scenario, bed, options))
            except LabError as error:
                print(f"bench vip: {error}", file=sys.stderr, flush=True)
                bed.close()
                yield from scenario.failed(advert_ms)


def phases(scenario: Scenario, options: argparse.Namespace) -> list[float]:
    """The middles of equal parts of the interval, one for each run."""
    usual = QUICK_RUNS if options.quick else max(RUNS, scenario.least_runs)
    runs = 1 if scenario.once_only else options.runs or usual
    return [(number + 0.5) / runs for number in range(runs)]


def repeat(scenario: Scenario, bed: Bed, options: argparse.Namespace) -> list[Seen]:
    found: list[Seen] = []
    moments = phases(scenario, options)
    for phase in moments:
        seen = scenario.once(bed, phase)
        found.append(seen)
        text = "; ".join(
            f"{what} {ours:.3g}" + ("" if peers is None else f" ({peers:.3g})")
            for what, (ours, peers) in seen.items()
        )
        where = f"{scenario.called(bed.advert_ms)}, {len(found)} of {len(moments)}"
        say(f"{where}: {text}")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.vip", description=__doc__)
    names = [scenario.name for scenario in SCENARIOS]
    parser.add_argument("--runs", type=int, metavar="N", help=f"of each scenario (default {RUNS})")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_RUNS} runs of each")
    parser.add_argument(
        "--only", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names)
    )
    parser.add_argument(
        "--advert", nargs="+", type=float, metavar="S", help="only at these intervals"
    )
    options = parser.parse_args()
    as_installed()
    say(f"load average {load()} at the start")
    rows: list[Row] = []
    for advert_ms in ADVERTS_MS:
        if not options.advert or advert_ms / 1000 in options.advert:
            rows += measure(advert_ms, options)
    return finish("vip", rows, "keepalived", REMARKS)


if __name__ == "__main__":
    sys.exit(main())
