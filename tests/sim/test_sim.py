# SPDX-License-Identifier: GPL-2.0-or-later
"""The simulator over the real cores: seeds, stories, planted bugs, replays."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.sim.calm import be_calm
from tests.sim.mutants import MUTANTS, Mutant
from tests.sim.runner import SEEDS, kept_seeds, replay_command, run_seeds, shorten
from tests.sim.stories import STORIES, Story
from tests.sim.trace import Trace
from tests.sim.world import Cores, World

ROOT = Path(__file__).parents[2]
REPLAYED = (3, 8, 14)


@pytest.mark.timeout(400)
def test_no_seed_breaks_an_invariant() -> None:
    seeds = [*kept_seeds(), *range(SEEDS)]
    failed = [
        f"seed {result.seed}: {result.failure}\n  {replay_command(result)}"
        for result in run_seeds(seeds, jobs=os.cpu_count() or 1)
        if result.failure
    ]
    assert not failed, "\n".join(failed)


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.name)
def test_what_went_wrong_once_does_not_again(story: Story) -> None:
    result = story.world().run()
    assert not result.failure, f"{result.failure}; it was: {story.found}"


@pytest.mark.parametrize("paths", [1, 2])
def test_random_loss_moves_nothing(paths: int) -> None:
    calm = be_calm(hours=0.3, loss_pct=1.0, advert_ms=200, paths=paths)
    assert not calm.result.failure
    assert calm.false_moves == 0
    assert calm.frames_lost > 100


@pytest.mark.parametrize("mutant", MUTANTS.values(), ids=MUTANTS)
def test_a_planted_bug_is_caught_where_the_real_core_is_not(mutant: Mutant) -> None:
    caught, sane = mutant.hunt()
    assert caught in mutant.rules, f"caught by {caught or 'nothing'}"
    assert sane == "", f"the real core breaks {sane} there too"


@pytest.mark.parametrize("seed", REPLAYED)
def test_a_seed_tells_the_same_story_twice(seed: int) -> None:
    first, again = told(seed), told(seed)
    assert len(first) > 1000
    assert first == again


def test_a_seed_tells_the_same_story_in_another_process() -> None:
    command = [
        sys.executable,
        "-m",
        "tests.sim",
        "--seed",
        "8",
        "--minutes",
        "4",
        "--trace",
        "--full",
    ]
    stories = [
        subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": salt},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for salt in ("1", "2")
    ]
    assert stories[0] == stories[1]


def test_the_same_events_make_a_core_do_the_same() -> None:
    lives: list[Life] = []
    cores = Cores(remembering(Cores().keeper, lives), remembering(Cores().agent, lives))
    assert not World(8, minutes=4, cores=cores).run().failure
    assert len(lives) > 4
    for life in lives:
        core = life.core(*life.begun_with)
        for event, now, did in life.steps:
            assert repr(core.step(event, now)) == did


@dataclass
class Life:
    """One life of a core: what it was made from, what it heard when, what it then did."""

    core: type
    begun_with: tuple[Any, ...]
    steps: list[tuple[Any, int, str]] = field(default_factory=list)


def remembering(core: type, lives: list[Life]) -> type:
    """That core, with a journal."""

    class Remembering(core):  # type: ignore[misc]
        def __init__(self, *begun_with: Any) -> None:
            super().__init__(*begun_with)
            self.lived = Life(core, begun_with)
            lives.append(self.lived)

        def step(self, event: Any, now: int) -> list[Any]:
            actions: list[Any] = super().step(event, now)
            self.lived.steps.append((event, now, repr(actions)))
            return actions

    return Remembering


def test_a_failure_is_shortened_to_the_faults_that_it_needs() -> None:
    mutant = MUTANTS["trusts itself"].cores
    story = next(story for story in STORIES if story.name == "short-freeze")
    world = story.world(mutant)
    kept = shorten(world)
    assert 0 < len(kept) < len(story.faults)
    assert story.world(mutant).run().rule == "flap"


def told(seed: int) -> list[str]:
    lines: list[str] = []
    world = World(seed, minutes=4)
    world.tell(Trace(lines.append, full=True))
    world.run()
    return lines
