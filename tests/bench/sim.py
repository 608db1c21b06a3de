# SPDX-License-Identifier: GPL-2.0-or-later
"""How fast the simulator is: events of the real cores, each with its actions, a second and core.

`python -m tests.bench.sim [--seeds 40]`: processor time of one process, so that what else the
machine does counts little.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass

from tests.bench.common import Row, finish, load, say
from tests.sim.runner import MINUTES
from tests.sim.world import World

LEAST_PER_S = 10_000


@dataclass(frozen=True)
class AtLeast(Row):
    """A row whose limit is a floor."""

    @property
    def ok(self) -> bool:
        return self.limit is None or (self.ours is not None and self.ours >= self.limit)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.sim", description=__doc__)
    parser.add_argument("--seeds", type=int, default=40)
    options = parser.parse_args()
    say(f"load average {load()} at the start")
    events = faults = moves = failed = 0
    began_s = time.process_time()
    for seed in range(options.seeds):
        result = World(seed).run()
        events, faults = events + result.events, faults + result.faults
        moves, failed = moves + result.moves, failed + bool(result.failure)
    took_s = time.process_time() - began_s
    say(f"{options.seeds} seeds of {MINUTES:g} min: {events} events")
    simulated_s = options.seeds * MINUTES * 60
    rows = [
        AtLeast("events", round(events / took_s), None, "/s/core", LEAST_PER_S),
        Row("faults", round(faults / took_s), None, "/s/core"),
        Row("faster than real time", round(simulated_s / took_s), None, "times"),
        Row("events of a simulated second", round(events / simulated_s, 1), None, ""),
        Row("takeovers", moves, None, ""),
        Row("seeds that broke an invariant", failed, None, "", 0),
    ]
    return finish("sim", rows, "-")


if __name__ == "__main__":
    sys.exit(main())
