# SPDX-License-Identifier: GPL-2.0-or-later
"""Memory and swap of this host (proc_meminfo(5), by psutil)."""

from collections.abc import Callable
from typing import Any

import psutil

from agent.core.model import Reading
from agent.core.settings import WatchSettings
from drivers.host import HostWatch


def memory_readings(seen: Any) -> list[Reading]:
    """From psutil's svmem. Caches that the kernel would drop are not used memory."""
    return [Reading("memory", seen.total - seen.available, "bytes", limit=seen.total)]


def swap_readings(seen: Any) -> list[Reading]:
    """From psutil's sswap; nothing where the host has no swap."""
    return [Reading("swap", seen.used, "bytes", limit=seen.total)] if seen.total else []


class MemoryWatch(HostWatch):
    """Kind "memory"."""

    def __init__(
        self, settings: WatchSettings, *, fetch: Callable[[], Any] = psutil.virtual_memory
    ) -> None:
        super().__init__(settings)
        self._fetch = fetch

    async def read(self) -> list[Reading]:
        return memory_readings(await self._look(self._fetch))


class SwapWatch(HostWatch):
    """Kind "swap"."""

    def __init__(
        self, settings: WatchSettings, *, fetch: Callable[[], Any] = psutil.swap_memory
    ) -> None:
        super().__init__(settings)
        self._fetch = fetch

    async def read(self) -> list[Reading]:
        return swap_readings(await self._look(self._fetch))
