# SPDX-License-Identifier: GPL-2.0-or-later
"""How long a client is without a cold service when things break, beside keepalived.

Two appliances with systemd and a witness; each candidate protects a ledger of its own on them,
which takes 2 s to start, and all meet the same fault at the same moment. Standpipe is installed
from its package, built from this tree.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.bench.cold.keepalived import Keepalived
from tests.bench.cold.plant import Plant, Seen
from tests.bench.cold.seats import NODES, WITNESS, Stack
from tests.bench.cold.standpipe import Standpipe
from tests.bench.cold.table import CASES, Case
from tests.bench.common import Row, finish, load, say
from tests.lab.netns import LabError, command
from tests.lab.plan import one_lan
from tests.lab.world import ROOT, World

RUNS = 3
STACKS = {"ours": Standpipe, "keepalived": Keepalived}
REMARKS = (
    "client outage by probes each 10 ms; S, the ledger's own start, is about 2.0 s in each of them",
    "two copies, by the referee: time in which ledgers ran on both nodes",
    "keepalived 2.2.7 as Debian ships it, adverts each 0.2 s, nopreempt, a check each second; the "
    "same faults at the same moments on the same nodes",
    "keepalived has one manager: it stands beside our agent and beside our keeper",
)


class Bench:
    """A plant, built when it is first needed, and again after one that could not be measured."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self._plant: Plant | None = None
        self._stack = contextlib.ExitStack()

    @property
    def plant(self) -> Plant:
        if self._plant is None:
            world = self._stack.enter_context(World.build(one_lan((*NODES, WITNESS))))
            stacks: list[Stack] = [STACKS[name]() for name in self.options.candidate]
            self._plant = Plant(
                world,
                stacks,
                package(self.options.package),
                live=self.options.live,
                ballast_bytes=self.options.ballast,
            )
        return self._plant

    def close(self) -> None:
        self._plant = None
        self._stack.close()

    def measure(self, case: Case) -> list[Row]:
        runs: list[Seen] = []
        for number in range(self.options.runs):
            try:
                runs.append(case.once(self.plant))
            except LabError as error:
                print(f"bench cold: {case.name}: {error}", file=sys.stderr, flush=True)
                self.close()
                continue
            say(f"{case.name}, {number + 1} of {self.options.runs}: {_line(runs[-1])}")
        return case.rows(runs)


def _line(seen: Seen) -> str:
    whats = dict.fromkeys(what for what, _ in seen)
    parts = []
    for what in whats:
        values = {seat: value for (name, seat), value in seen.items() if name == what}
        if any(values.values()):
            parts.append(f"{what} {json.dumps({k: round(v) for k, v in values.items()})}")
    return "; ".join(parts)


def package(given: Path | None) -> Path:
    """The .deb, by default made from this tree now."""
    if given:
        return given
    command("sh", str(ROOT / "packaging" / "build.sh"))
    found: Sequence[Path] = sorted((ROOT / "dist").glob("standpipe_*_amd64.deb"))
    if not found:
        raise LabError("packaging/build.sh left no .deb in dist/")
    return found[-1]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.cold", description=__doc__)
    names = [case.name for case in CASES]
    parser.add_argument("--runs", type=int, default=RUNS, metavar="N", help="of each case")
    parser.add_argument(
        "--only", nargs="+", choices=names, default=names, metavar="CASE", help=", ".join(names)
    )
    parser.add_argument("--candidate", nargs="+", choices=list(STACKS), default=list(STACKS))
    parser.add_argument("--package", type=Path, metavar="DEB", help="instead of making one")
    parser.add_argument("--live", action="store_true", help="this tree's code over the package's")
    parser.add_argument("--ballast", type=int, default=100_000, metavar="BYTES", help="of a status")
    options = parser.parse_args()
    say(f"load average {load()} at the start")
    rows: list[Row] = []
    with contextlib.closing(Bench(options)) as bench:
        for case in CASES:
            if case.name in options.only:
                rows += bench.measure(case)
    return finish("cold", rows, "keepalived", REMARKS)


if __name__ == "__main__":
    sys.exit(main())
