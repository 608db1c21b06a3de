# SPDX-License-Identifier: GPL-2.0-or-later
"""How busy the processors were between two rounds (proc_stat(5), by psutil)."""

from collections.abc import Callable
from typing import Any

import psutil

from agent.core.model import Reading
from agent.core.settings import WatchSettings
from drivers.host import HostWatch


def busy_pct(before: Any, after: Any) -> float | None:
    """From two of psutil's scputimes; None where no time went by between them.

    Waiting for a disk is idle, time that the hypervisor stole is not. Guest time is part of user
    time (proc_stat(5)), and iowait may go backwards: no share leaves 0..100.
    """

    def total_s(times: Any) -> float:
        return float(sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0))

    def idle_s(times: Any) -> float:
        return float(times.idle + getattr(times, "iowait", 0.0))

    span_s = total_s(after) - total_s(before)
    if span_s <= 0:
        return None
    idle_share = (idle_s(after) - idle_s(before)) / span_s
    return 100.0 * (1.0 - min(max(idle_share, 0.0), 1.0))


class CpuWatch(HostWatch):
    """Kind "cpu": the mean over all processors since the round before."""

    def __init__(
        self, settings: WatchSettings, *, fetch: Callable[[], Any] = psutil.cpu_times
    ) -> None:
        super().__init__(settings)
        self._fetch = fetch
        self._before: Any = None

    async def read(self) -> list[Reading]:
        after = await self._look(self._fetch)
        before, self._before = self._before, after
        if before is None:
            return [Reading("cpu", None, "pct", limit=100.0, text="known from the second round on")]
        return [Reading("cpu", busy_pct(before, after), "pct", limit=100.0)]
