# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel's tables: open files and tasks of the host (proc_sys_fs(5), proc_loadavg(5))."""

from pathlib import Path

from agent.core.model import Reading
from agent.core.settings import WatchSettings
from drivers.host import PROC, HostWatch

BOUNDLESS = 2**53  # systemd sets fs.file-max to 2**63-1: no table of files is that long


def parse_file_nr(text: str) -> list[Reading]:
    """/proc/sys/fs/file-nr: allocated, of these unused (0 since Linux 2.6), maximum."""
    allocated, unused, maximum = (int(word) for word in text.split())
    limit = maximum if maximum < BOUNDLESS else None
    return [Reading("fds", allocated - unused, "count", limit=limit)]


def parse_tasks(loadavg: str, pid_max: str, threads_max: str) -> list[Reading]:
    """Tasks (every thread takes a PID) against the lower of both limits.

    loadavg: its fourth field is runnable/existing tasks.
    """
    existing = int(loadavg.split()[3].split("/")[1])
    return [Reading("pids", existing, "count", limit=min(int(pid_max), int(threads_max)))]


class FdsWatch(HostWatch):
    """Kind "fds"."""

    def __init__(self, settings: WatchSettings, *, proc: Path = PROC) -> None:
        super().__init__(settings)
        self._file_nr = proc / "sys/fs/file-nr"

    async def read(self) -> list[Reading]:
        return await self._look(lambda: parse_file_nr(self._file_nr.read_text()))


class PidsWatch(HostWatch):
    """Kind "pids"."""

    def __init__(self, settings: WatchSettings, *, proc: Path = PROC) -> None:
        super().__init__(settings)
        self._proc = proc

    async def read(self) -> list[Reading]:
        return await self._look(self._parse)

    def _parse(self) -> list[Reading]:
        return parse_tasks(
            (self._proc / "loadavg").read_text(),
            (self._proc / "sys/kernel/pid_max").read_text(),
            (self._proc / "sys/kernel/threads-max").read_text(),
        )
