# SPDX-License-Identifier: GPL-2.0-or-later
"""Prover: the group's own dress rehearsal, a command that ends with 0 where it would serve."""

from collections.abc import Callable

from agent.core.model import Proof
from agent.core.settings import GroupSettings
from drivers.proving import Prover, never
from drivers.shell import question, said

LONGEST_MS = 600_000
NOT_RUN = (126, 127)  # the shell found no such command, or may not run it


class RehearsalProof(Prover):
    """Proof "rehearsal", every `rehearse_every`. Killed with all its children at its limit."""

    name = "rehearsal"

    def __init__(self, settings: GroupSettings, serving: Callable[[], bool] = never) -> None:
        super().__init__(settings, serving)
        self.every_ms = settings.rehearse_every_ms
        self._within_ms = min(LONGEST_MS, settings.rehearse_every_ms)

    async def _proofs(self) -> list[Proof]:
        ended = await question(self.settings.rehearse, self._within_ms)
        if ended.code in NOT_RUN:
            return [Proof("rehearsal", False, f"it cannot be run: {said(ended)}")]
        return [Proof("rehearsal", ended.code == 0, said(ended))]
