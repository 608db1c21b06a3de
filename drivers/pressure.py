# SPDX-License-Identifier: GPL-2.0-or-later
"""The share of time in which work stood still (the kernel's accounting/psi.rst)."""

import errno
from pathlib import Path

from agent.core.model import Reading
from agent.core.settings import WatchSettings
from drivers.host import PROC, HostWatch

# Some task waits for a processor all the time on a busy host; memory and I/O are in trouble when
# all tasks wait at once.
LINES = {"cpu": "some", "memory": "full", "io": "full"}
ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.EOPNOTSUPP)  # not built in, or psi=0


def parse_pressure(text: str, line: str) -> float:
    """The last minute's share (0..1). line: some or full. Raises LookupError, ValueError."""
    rows = dict(row.split(" ", 1) for row in text.splitlines())
    averages = dict(word.split("=") for word in rows[line].split())
    return float(averages["avg60"]) / 100


class PressureWatch(HostWatch):
    """Kind "psi": "psi:cpu", "psi:memory", "psi:io"; no readings where the kernel has none."""

    def __init__(self, settings: WatchSettings, *, proc: Path = PROC) -> None:
        super().__init__(settings)
        self._folder = proc / "pressure"

    async def read(self) -> list[Reading]:
        return await self._look(self._parse)

    def _parse(self) -> list[Reading]:
        readings = []
        for name, line in LINES.items():
            try:
                share = parse_pressure((self._folder / name).read_text(), line)
            except OSError as error:
                if error.errno not in ABSENT:
                    raise
                continue
            readings.append(Reading(f"psi:{name}", share, "ratio", limit=1.0))
        return readings
