# SPDX-License-Identifier: GPL-2.0-or-later
"""How long `standpipe status` takes, against a running agent that has everything loaded.

`python -m tests.bench.status [--runs 20]`: wall time from before the fork to the exit, commands
taking turns; the peers are an interpreter that does nothing, and a program in C that says its
version.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence

from tests.bench.common import Row, as_installed, finish, load, p95, say
from tests.bench.loaded import NODE, Loaded
from tests.lab.cluster import STANDPIPE
from tests.lab.netns import LabError
from tests.lab.world import World

LIMIT_MS = 150.0
WARM_UP = 3
WELL = (0, 1, 2)  # well, in trouble, degraded: each is an answer


def took_ms(argv: Sequence[str], wanted: Sequence[int]) -> float:
    """Wall time; LabError where the exit status is another."""
    began = time.perf_counter()
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    ended = time.perf_counter()
    if done.returncode not in wanted:
        raise LabError(f"{' '.join(argv)}: exit {done.returncode}: {done.stderr.decode()}")
    return (ended - began) * 1000


def measure(run_dir: str, runs: int) -> list[Row]:
    status = [STANDPIPE, "--run-dir", run_dir, "status"]
    commands: dict[str, tuple[Sequence[str], Sequence[int]]] = {
        "status": (status, WELL),
        "status --json": ([*status, "--json"], WELL),
        "python3 -c pass": ([sys.executable, "-c", "pass"], (0,)),
        "keepalived --version": (["keepalived", "--version"], (0,)),
    }
    times: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(-WARM_UP, runs):
        for name, (argv, wanted) in commands.items():
            ms = took_ms(argv, wanted)
            if number >= 0:
                times[name].append(ms)
    for name, found in times.items():
        say(f"{name}: {min(found):.0f} to {max(found):.0f} ms, {len(found)} runs")
    rows = []
    for name in ("status", "status --json"):
        for word, pick, limit_ms in (
            ("median", statistics.median, LIMIT_MS),
            ("p95", p95, LIMIT_MS),
        ):
            ours, bare = pick(times[name]), pick(times["python3 -c pass"])
            rows.append(Row(f"{name}, {word}", round(ours, 1), round(bare, 1), "ms", limit_ms))
    ours, peer = (statistics.median(times[name]) for name in ("status", "keepalived --version"))
    rows.append(Row("beside keepalived --version, median", round(ours, 1), round(peer, 1), "ms"))
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.status", description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    options = parser.parse_args()
    as_installed()
    say(f"load average {load()} at the start")
    try:
        with World.build() as world:
            Loaded(world)
            rows = measure(str(world.node(NODE).run_folder), options.runs)
    except LabError as error:
        print(f"bench status: {error}", file=sys.stderr)
        return 1
    return finish("status", rows, "python3 -c pass")


if __name__ == "__main__":
    sys.exit(main())
