# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs seeds, on as many processes as there are cores, and shortens what failed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from multiprocessing import get_context
from pathlib import Path

from tests.sim.fault import Fault
from tests.sim.world import Result, World

SEEDS = 300
MINUTES = 10.0
KEPT = Path(__file__).with_name("seeds.txt")


def kept_seeds() -> list[int]:
    """Those that found something once."""
    lines = KEPT.read_text().splitlines()
    return [int(line) for line in lines if line and not line.startswith("#")]


def run_seed(job: tuple[type[World], int, str, float]) -> Result:
    """One seed, from its parameters alone, so that any process can do it."""
    kind, seed, shape, minutes = job
    return kind(seed, shape, minutes).run()


def run_seeds(
    seeds: Sequence[int],
    jobs: int = 1,
    minutes: float = MINUTES,
    shape: str = "",
    kind: type[World] = World,
) -> Iterator[Result]:
    """Results in the order of the seeds."""
    todo = [(kind, seed, shape, minutes) for seed in seeds]
    if jobs == 1:
        yield from map(run_seed, todo)
        return
    with get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap(run_seed, todo, chunksize=4)


def replay_command(
    result: Result, shape: str = "", minutes: float = MINUTES, kind: type[World] = World
) -> str:
    """What somebody types to see this failure."""
    more = f" --shape {shape}" if shape else ""
    more += {"ExclusiveWorld": " --exclusive", "ScriptedWorld": " --scripted"}.get(
        kind.__name__, ""
    )
    more += f" --minutes {minutes:g}" if minutes != MINUTES else ""
    return f"python -m tests.sim --seed {result.seed}{more} --trace"


def again(world: World, faults: list[Fault]) -> World:
    """The same world with other faults, ready to run."""
    minutes = world.end_ms / 60_000
    return type(world)(world.seed, world.shape, minutes, world.cores, faults, world.town)


def shorten(world: World) -> list[Fault]:
    """The faults without which the same rule still breaks, tried one by one."""
    rule = world.run().rule
    faults = [fault for fault in world.faults if fault.at_ms <= world.agenda.now]
    for fault in faults[::-1]:
        fewer = [one for one in faults if one is not fault]
        if again(world, fewer).run().rule == rule:
            faults = fewer
    return faults
