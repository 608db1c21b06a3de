# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether this whole host stood still for a while (the kernel's accounting/psi.rst)."""

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

PRESSURE = Path("/proc/pressure")

# As the watchers of the host: some task waits for a processor; all of them for memory or a disk.
LINES = {"cpu": b"some", "memory": b"full", "io": b"full"}
STRAINED = 0.8  # a share of the time: from here on silence may be the host's fault


def parse_total_us(text: bytes, line: bytes) -> int:
    """How long work stood still since boot, in microseconds. Raises LookupError, ValueError."""
    rows = dict(row.split(b" ", 1) for row in text.splitlines())
    return int(rows[line].rpartition(b"total=")[2])


class Strain:
    """The kernel's sums, read now and again: about 3 us each time. Without PSI it knows nothing."""

    def __init__(self, folder: Path = PRESSURE) -> None:
        self._files: dict[str, int] = {}
        for name in LINES:
            with suppress(OSError):  # not built in, or psi=0
                self._files[name] = os.open(folder / name, os.O_RDONLY | os.O_CLOEXEC)

    def totals_us(self) -> dict[str, int]:
        """By kind; one that cannot be read is left out."""
        found = {}
        for name, fd in self._files.items():
            with suppress(OSError, LookupError, ValueError):
                found[name] = parse_total_us(os.pread(fd, 512, 0), LINES[name])
        return found

    def since(self, before: Mapping[str, int], span_ms: int) -> str:
        """What work waited for during most of the last `span_ms`: "cpu", "io"; "" for nothing."""
        after = self.totals_us()
        shares = {
            name: (total_us - before[name]) / max(1, span_ms * 1000)
            for name, total_us in after.items()
            if name in before
        }
        worst = max(shares, key=lambda name: shares[name], default="")
        return worst if worst and shares[worst] >= STRAINED else ""
