# SPDX-License-Identifier: GPL-2.0-or-later
"""Prover: the status that was received last does load, by a command of the configuration."""

import os
import shlex
from collections.abc import Awaitable, Callable
from pathlib import Path

from agent.core.model import Proof
from agent.core.settings import GroupSettings
from drivers.proving import Prover, never
from drivers.shell import question, said

LONGEST_MS = 60_000
NOT_RUN = (126, 127)  # the shell found no such command, or may not run it

Mark = tuple[str, int, int, int]


class StatusProof(Prover):
    """Proof "status-load". copy: where the freshest one lies, None while there is none.

    One that is the same as last time is not loaded again.
    """

    name = "status-load"

    def __init__(
        self,
        settings: GroupSettings,
        copy: Callable[[], Awaitable[Path | None]],
        serving: Callable[[], bool] = never,
    ) -> None:
        super().__init__(settings, serving)
        self._copy = copy
        self._within_ms = min(LONGEST_MS, settings.proof_max_age_ms)
        self._shown: tuple[Mark, Proof] | None = None

    async def _proofs(self) -> list[Proof]:
        copy = await self._copy()
        if copy is None:
            return [Proof(self.name, None, "no status was received yet")]
        mark = await self._look(lambda: _mark(copy))
        if self._shown and self._shown[0] == mark:
            return [self._shown[1]]
        command = self.settings.carried.load_test if self.settings.carried else ""
        ended = await question(f"{command} {shlex.quote(str(copy))}", self._within_ms)
        if ended.code is None or ended.code in NOT_RUN:
            return [Proof(self.name, None if ended.code is None else False, said(ended))]
        proof = Proof(self.name, ended.code == 0, "" if ended.code == 0 else said(ended))
        self._shown = mark, proof
        return [proof]


def _mark(path: Path) -> Mark:
    seen = os.stat(path)
    return str(path), seen.st_ino, seen.st_size, seen.st_mtime_ns
