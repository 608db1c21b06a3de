# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs seeds of the simulator, or replays one.

`python -m tests.sim --seeds 0:300 [--jobs 2] [--minutes 10] [--shape plain]`
`python -m tests.sim --seed 23 --trace [--full] [--from 40 --to 60]`, `--shorten` drops faults that
the failure does not need. `python -m tests.sim --calm-hours 24 --loss 1 --advert 200 --paths 2`:
no faults, random loss. `--exclusive`: groups that must never run twice.
Exit status 1 where an invariant did not hold or somebody took over in calm.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter

from tests.sim.calm import be_calm
from tests.sim.exclusive import ExclusiveWorld, ScriptedWorld
from tests.sim.plan import SHAPES
from tests.sim.runner import MINUTES, SEEDS, again, replay_command, run_seeds, shorten
from tests.sim.trace import Trace
from tests.sim.world import Result, World


def replay(arguments: argparse.Namespace) -> int:
    """One seed, told."""
    seed, shape, minutes = arguments.seed, arguments.shape, arguments.minutes
    world = _kind(arguments)(seed, shape, minutes)
    if arguments.shorten:
        world = again(world, shorten(world))
    town = world.town
    print(
        f"seed {seed}, {world.shape}: {len(town.nodes)} nodes, {town.paths} paths, "
        f"{town.standby.value} standby, failback {town.failback.value}"
    )
    for fault in world.faults:
        print(fault)
    if arguments.trace:
        to_ms = int(arguments.to * 1000) if arguments.to else None
        trace = Trace(print, arguments.full, int(arguments.begin * 1000), to_ms)
        world.tell(trace)
    result = world.run()
    print(
        f"{result.events} events, {result.moves} takeovers, digest {result.digest:08x}: "
        f"{result.failure or 'every invariant held'}"
    )
    return 1 if result.failure else 0


def _kind(arguments: argparse.Namespace) -> type[World]:
    if arguments.scripted:
        return ScriptedWorld
    return ExclusiveWorld if arguments.exclusive else World


def run_many(arguments: argparse.Namespace) -> int:
    """A range of seeds, summed up."""
    first, _, last = arguments.seeds.partition(":")
    seeds = range(int(first), int(last or int(first) + 1))
    began_s, rules = time.perf_counter(), Counter[str]()
    events = faults = moves = 0
    failed: list[Result] = []
    for result in run_seeds(
        seeds, arguments.jobs, arguments.minutes, arguments.shape, _kind(arguments)
    ):
        events, faults, moves = events + result.events, faults + result.faults, moves + result.moves
        if result.failure:
            failed.append(result)
            rules[result.rule] += 1
            print(f"seed {result.seed} ({result.shape}): {result.failure}")
            command = replay_command(result, arguments.shape, arguments.minutes, _kind(arguments))
            print(f"  {command}", flush=True)
    took_s = time.perf_counter() - began_s
    print(
        f"{len(seeds)} seeds of {arguments.minutes:g} min in {took_s:.1f} s: {events} events "
        f"({events / took_s / arguments.jobs:.0f} /s/core), {faults} faults, {moves} takeovers, "
        f"{len(failed)} failed{''.join(f', {rule} {n}' for rule, n in rules.most_common())}"
    )
    return 1 if failed else 0


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--seeds", default=f"0:{SEEDS}", metavar="FIRST:END")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--minutes", type=float, default=MINUTES)
    parser.add_argument("--shape", choices=SHAPES, default="")
    parser.add_argument("--exclusive", action="store_true")
    parser.add_argument("--scripted", action="store_true", help="exclusive, with small agents")
    parser.add_argument("--trace", action="store_true")
    parser.add_argument("--full", action="store_true", help="routine too")
    parser.add_argument("--from", dest="begin", type=float, default=0.0, metavar="SECOND")
    parser.add_argument("--to", type=float, default=0.0, metavar="SECOND")
    parser.add_argument("--shorten", action="store_true")
    parser.add_argument("--calm-hours", type=float, default=0.0, metavar="HOURS")
    parser.add_argument("--loss", type=float, default=1.0, metavar="PERCENT", help="in calm")
    parser.add_argument("--advert", type=int, default=200, metavar="MS", help="in calm")
    parser.add_argument("--paths", type=int, default=2, help="in calm")
    arguments = parser.parse_args(argv)
    if arguments.calm_hours:
        seed = arguments.seed or 0
        calm = be_calm(
            arguments.calm_hours, arguments.loss, arguments.advert, arguments.paths, seed
        )
        print(calm)
        return 1 if calm.false_moves or calm.result.failure else 0
    return run_many(arguments) if arguments.seed is None else replay(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
