# SPDX-License-Identifier: GPL-2.0-or-later
"""Groups that must never run twice, simulated: seeds, planted bugs, both cut and one returns."""

from __future__ import annotations

import os

import pytest

from agent.core.settings import Exclusive, Failback, Standby
from tests.sim.exclusive import ExclusiveWorld, ScriptedWorld
from tests.sim.exclusive_mutants import PLANTED, Planted
from tests.sim.fault import Fault
from tests.sim.runner import replay_command, run_seeds
from tests.sim.town import Town

SEEDS = range(40)
MINUTES = 6.0


@pytest.mark.timeout(400)
@pytest.mark.parametrize("kind", [ExclusiveWorld, ScriptedWorld])
def test_no_seed_runs_anything_twice(kind: type[ExclusiveWorld]) -> None:
    results = run_seeds(SEEDS, os.cpu_count() or 1, MINUTES, kind=kind)
    failed = [
        f"seed {result.seed}: {result.failure}\n"
        f"  {replay_command(result, minutes=MINUTES, kind=kind)}"
        for result in results
        if result.failure
    ]
    assert not failed, "\n".join(failed)


@pytest.mark.parametrize("planted", PLANTED, ids=lambda planted: planted.story)
def test_a_planted_bug_is_caught_where_the_real_lease_is_not(planted: Planted) -> None:
    assert planted.hunt() == ("double-start", "")


@pytest.mark.parametrize(
    ("witness", "returns", "serves"),
    [
        (False, "lon2", ["lon2"]),  # it owned it last
        (False, "lon1", []),  # nobody knows what the other one did since
        (True, "lon1", ["lon1"]),
        (True, "lon2", ["lon2"]),
    ],
)
def test_after_both_were_cut_the_one_that_returns_serves_where_it_may(
    witness: bool, returns: str, serves: list[str]
) -> None:
    town = Town(
        ("london",), 2, 2, Standby.COLD, Failback.MANUAL, 0, exclusive=Exclusive.LEASE,
        witness_node=witness,
    )  # fmt: skip
    lasts_ms = {"lon1": 60_000, "lon2": 60_000, returns: 8_000}
    faults = [Fault(30_000, "power-cut", ms, node) for node, ms in lasts_ms.items()]
    world = ScriptedWorld(1, "single", 3.0, faults=faults, town=town)
    seen: list[list[str]] = []

    def look() -> None:
        seen.append([node.name for node in world.judge.holders("a-london")])

    world.agenda.at(29_000, look)
    world.agenda.at(75_000, look)
    assert not world.run().failure
    assert seen == [["lon2"], serves]
