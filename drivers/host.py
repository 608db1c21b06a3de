# SPDX-License-Identifier: GPL-2.0-or-later
"""What the watchers of this host have in common: a bounded look off the loop, and its errors."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from agent.core.settings import WatchSettings
from agent.ports import Garbled, Refused, Unreachable
from drivers.lane import Lane

T = TypeVar("T")

PROC = Path("/proc")
LOOK_MS = 2000


class HostWatch:
    """The frame of a ports.Watch; the heir writes `read`. Its name is "host:" and the kind."""

    def __init__(self, settings: WatchSettings) -> None:
        self.name = f"host:{settings.kind}"
        self.every_ms = settings.every_ms
        self._lane = Lane(self.name)

    async def _look(self, work: Callable[[], T]) -> T:
        """Raises Unreachable where the kernel does not answer, Refused, Garbled."""
        try:
            return await self._lane.run(work, LOOK_MS)
        except PermissionError as error:
            raise Refused(
                f"{self.name}: {error.filename}: not permitted; see ProtectProc= and hidepid="
            ) from error
        except OSError as error:
            raise Unreachable(f"{self.name}: {error}; is /proc mounted here?") from error
        except (LookupError, ValueError) as error:
            raise Garbled(f"{self.name}: the kernel's text makes no sense: {error!r}") from error
