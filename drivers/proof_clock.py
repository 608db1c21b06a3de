# SPDX-License-Identifier: GPL-2.0-or-later
"""Prover: this host's wall clock is sane: ages of statuses and ends of licences go by it.

A clock that runs free is said and keeps nobody from serving: a lost time server must not take every
standby with it. One that is far from the other nodes', or in the past, does.
"""

import ctypes
from collections.abc import Callable

from agent.core.model import Proof
from agent.core.settings import GroupSettings
from drivers.proving import Prover, wall_s

FAR_MS = 5_000
BUILT_S = 1_735_689_600  # 2025-01-01: no clock that works is before this
TIME_ERROR = 5  # adjtimex(2): not synchronised
TIMEX_BYTES = 512  # more than struct timex has anywhere; all zero it asks and sets nothing


def unsynchronised() -> bool:
    """Whether the kernel holds its clock for unsynchronised. Raises OSError. Blocking."""
    libc = ctypes.CDLL(None, use_errno=True)
    state: int = libc.adjtimex(ctypes.create_string_buffer(TIMEX_BYTES))
    if state < 0:
        raise OSError(ctypes.get_errno(), "adjtimex")
    return state == TIME_ERROR


class ClockProof(Prover):
    """Proof "clock". offset_ms: how far the other nodes' clocks are ahead, None: not known."""

    name = "clock"

    def __init__(
        self,
        settings: GroupSettings,
        offset_ms: Callable[[], int | None],
        *,
        wall: Callable[[], float] = wall_s,
        free: Callable[[], bool] = unsynchronised,
    ) -> None:
        super().__init__(settings)
        self._offset_ms = offset_ms
        self._wall = wall
        self._free = free

    async def _proofs(self) -> list[Proof]:
        if self._wall() < BUILT_S:
            return [Proof("clock", False, "it is years behind: set it, and see its battery")]
        offset_ms = self._offset_ms()
        if offset_ms is not None and abs(offset_ms) > FAR_MS:
            told = (
                f"it is {abs(offset_ms) / 1000:.1f} s {'behind' if offset_ms > 0 else 'ahead of'}"
            )
            return [Proof("clock", False, f"{told} the active node's; see timedatectl")]
        free = await self._look(self._free)
        return [Proof("clock", True, "not synchronised: see timedatectl" if free else "")]
