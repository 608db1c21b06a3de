# SPDX-License-Identifier: GPL-2.0-or-later
"""A long time without faults on networks that lose a little: nobody may take over from anybody."""

from __future__ import annotations

import time
from dataclasses import dataclass

from agent.core.settings import Failback, Standby
from tests.sim.network import Trouble
from tests.sim.town import Town
from tests.sim.world import Result, World

SETTLED_MS = 20_000


@dataclass(frozen=True, slots=True)
class Calm:
    """What came of it. false_moves: changes of owner after the first one."""

    result: Result
    hours: float
    false_moves: int
    frames_lost: int
    took_s: float

    def __str__(self) -> str:
        rate = self.result.events / self.took_s
        return (
            f"{self.hours:g} h simulated in {self.took_s:.0f} s: {self.result.events} events "
            f"({rate:.0f} /s), {self.frames_lost} frames lost, "
            f"{self.false_moves} false take-overs"
            f"{', ' + self.result.failure if self.result.failure else ''}"
        )


def calm_town(advert_ms: int, paths: int) -> Town:
    """Two nodes that share a service network with others."""
    return Town(
        ("london",), 2, paths, Standby.HOT, Failback.MANUAL, 0, advert_ms=advert_ms
    )  # fmt: skip


def be_calm(hours: float, loss_pct: float, advert_ms: int, paths: int, seed: int = 0) -> Calm:
    """Every link loses its share from the beginning on, each way, independently."""
    began_s = time.perf_counter()
    town = calm_town(advert_ms, paths)
    world = World(seed, "calm", hours * 60, faults=[], town=town)
    for link in world.network.links.values():
        link.change(0, Trouble(loss=loss_pct / 100), 0)
    result = world.run()
    moves = [len([at for at in m if at > SETTLED_MS]) for m in world.judge.moves.values()]
    return Calm(result, hours, sum(moves), world.network.lost, time.perf_counter() - began_s)
