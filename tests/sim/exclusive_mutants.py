# SPDX-License-Identifier: GPL-2.0-or-later
"""Leases with a planted bug each, and the faults that bring it out: two copies must be seen."""

from __future__ import annotations

from dataclasses import dataclass

from agent.core.keeper import KeeperCore
from agent.core.lease import Lease
from agent.core.settings import Exclusive, Failback, Standby
from tests.core.planted import Amnesic, Forgets, FromReply, LateReply, Trusts
from tests.sim.exclusive import ExclusiveWorld
from tests.sim.fault import Fault
from tests.sim.scripted import ScriptedAgent
from tests.sim.town import WITNESS, Town
from tests.sim.world import Cores

MINUTES = 2.75
SEEDS_TRIED = 24
FAULT_MS = 40_000
LEASE_MS = 6_000
HOLDER, RIVAL = "lon1", "lon2"


class TrustingAgent(ScriptedAgent):
    """It waits for the keeper's word alone."""

    def deadline(self) -> int:
        for part in self.parts.values():
            part.until_ms = 0
        return super().deadline()


def _keeper(leases: type[Lease]) -> type:
    """A keeper with such leases."""

    class Planted(KeeperCore):
        lease = leases

    return Planted


def _cut(node: str, other: str, at_ms: int = FAULT_MS, both: bool = True) -> list[Fault]:
    kind = "partition" if both else "one-way"
    return [Fault(at_ms, kind, 35_000, node, other, path) for path in (0, 1)]


def _slow() -> list[Fault]:
    """The witness answers the holder late, then hears nothing of it."""
    at_ms = FAULT_MS - 4_000
    slow = [Fault(at_ms, "slow", 25_000, HOLDER, WITNESS, path, amount=1_200) for path in (0, 1)]
    return [*slow, *_cut(HOLDER, WITNESS, both=False)]


APART = _cut(HOLDER, RIVAL, FAULT_MS - 15_000)
STORIES = {
    "lease counted from the reply": [*APART, *_slow()],
    "late reply re-arms": [*APART, *_slow()],
    "amnesic witness grants": [
        *APART, *_cut(HOLDER, WITNESS, both=False), Fault(FAULT_MS, "power-cut", 200, WITNESS),
    ],
    "promise forgotten": [
        *APART, *_cut(HOLDER, WITNESS, both=False), Fault(FAULT_MS, "kill-keeper", 200, WITNESS),
    ],
    "pause not distrusted": [
        Fault(FAULT_MS, "freeze", 16_000, HOLDER),
        Fault(FAULT_MS, "isolate", 25_000, HOLDER, RIVAL),
    ],
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Planted:
    """A bug, and the story that shows it."""

    leases: type[Lease]
    story: str
    agent: type = ScriptedAgent

    def world(self, seed: int, cores: Cores) -> ExclusiveWorld:
        town = Town(
            ("london",), 2, 2, Standby.COLD, Failback.MANUAL, 0,
            exclusive=Exclusive.LEASE, lease_ms=LEASE_MS, witness_node=True,
        )  # fmt: skip
        return ExclusiveWorld(seed, "plain", MINUTES, cores, STORIES[self.story], town)

    def hunt(self) -> tuple[str, str]:
        """(the rule that it breaks, "" for none; the rule that the real core breaks there)."""
        for seed in range(SEEDS_TRIED):
            caught = self.world(seed, Cores(_keeper(self.leases), self.agent)).run().rule
            if caught:
                return caught, self.world(seed, Cores(agent=ScriptedAgent)).run().rule
        return "", ""


PLANTED = [
    Planted(FromReply, "lease counted from the reply"),
    Planted(LateReply, "late reply re-arms"),
    Planted(Amnesic, "amnesic witness grants"),
    Planted(Forgets, "promise forgotten"),
    Planted(Trusts, "pause not distrusted", TrustingAgent),
]
