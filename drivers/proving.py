# SPDX-License-Identifier: GPL-2.0-or-later
"""What all provers have in common: a bounded look, and no verdict where it came to nothing."""

import time
from collections.abc import Callable
from typing import TypeVar

from agent.core.model import Proof
from agent.core.settings import GroupSettings
from agent.ports import PortError
from drivers.lane import Lane

T = TypeVar("T")

LOOK_MS = 3_000
ROUNDS_AN_AGE = 4  # so often within the age that a proof may reach
SHORTEST_MS = 1_000


def never() -> bool:
    return False


def wall_s() -> float:
    """Seconds of the wall clock, which proofs about dates go by."""
    return time.time_ns() / 1e9


class Prover:
    """The frame of a ports.Prover; the heir writes `_proofs`.

    serving: whether this node has the group in service, or is about to: then there is nothing to
    prove of a standby, and nothing is said.
    """

    name = ""  # of the proof that is said when a look came to nothing

    def __init__(self, settings: GroupSettings, serving: Callable[[], bool] = never) -> None:
        self.group = settings.name
        self.settings = settings
        self.every_ms = max(SHORTEST_MS, settings.proof_max_age_ms // ROUNDS_AN_AGE)
        self._serving = serving
        self._lane = Lane(f"proof {self.name} of {settings.name}")

    async def prove(self) -> list[Proof]:
        if self._serving():
            return []
        try:
            proofs = await self._proofs()
        except (PortError, OSError, LookupError, ValueError) as error:
            proofs = [Proof(self.name, None, str(error))]
        return [] if self._serving() else proofs

    async def _proofs(self) -> list[Proof]:
        raise NotImplementedError

    async def _look(self, work: Callable[[], T]) -> T:
        """Off the loop, within LOOK_MS."""
        return await self._lane.run(work, LOOK_MS)


def judged(name: str, faults: list[str], good: str = "") -> Proof:
    """A proof that holds where there are no faults."""
    return Proof(name, not faults, "; ".join(faults) or good)
