# SPDX-License-Identifier: GPL-2.0-or-later
"""Service control by commands of the configuration: start, stop, status; and its pid file."""

import os
from pathlib import Path
from urllib.parse import quote

import psutil

from agent.core.settings import ServiceSettings
from agent.ports import Refused, Unreachable
from drivers.inquiry import boottime_ms
from drivers.lane import Lane
from drivers.shell import order, plain, question, said, trim
from drivers.slaying import slay

STATUS_WITHIN_MS = 5000
PID_FILE_BYTES = 64
LINES_BYTES = 65_536
YOUNGER_S = 2.0  # clocks of files and of processes differ by so much
NOT_RUN = (126, 127)  # the shell found no such command, or may not run it


class CommandService:
    """ports.Service. start and stop must end with 0; status ends with 0 where the service runs.

    output_dir: where NAME.out takes what start and stop print, and what a daemon that they leave
    behind goes on printing; it is emptied whenever it has grown.
    """

    def __init__(
        self,
        settings: ServiceSettings,
        output_dir: Path,
        *,
        status_within_ms: int = STATUS_WITHIN_MS,
    ) -> None:
        self._settings = settings
        self._status_within_ms = status_within_ms
        self._output = output_dir / f"{quote(settings.name, safe='')}.out"
        self._last_pid = 0

    async def start(self, within_ms: int) -> str:
        return await self._order("start", self._settings.start, within_ms)

    async def stop(self, within_ms: int) -> str:
        return await self._order("stop", self._settings.stop, within_ms)

    async def restart(self, within_ms: int) -> str:
        """Within the limit both. A stop that is refused counts only where something still runs."""
        began_ms = boottime_ms()
        try:
            await self.stop(within_ms)
        except Refused:
            if await self.running() is not False:
                raise
        left_ms = began_ms + within_ms - boottime_ms()
        if left_ms <= 0:
            raise Unreachable(
                f"service {self._settings.name}: stopped, but no time is left to start it again"
            )
        return await self.start(left_ms)

    async def running(self) -> bool | None:
        trim(self._output)
        try:
            ended = await question(self._settings.status, self._status_within_ms)
        except (OSError, Unreachable):
            return None
        if ended.code is None or ended.code < 0 or ended.code in NOT_RUN:
            return None
        return ended.code == 0

    async def kill(self, within_ms: int) -> str:
        """Of its main process all that stands under it; what the pid file does not lead to stays.

        A main process that died is still known by its number: what it left behind goes as well.
        """
        who = f"service {self._settings.name}: kill"
        pid = await self.main_pid() or self._last_pid
        if not pid:
            wants = f"; give it a pid_file of {self._settings.name}'s main process"
            hint = "" if self._settings.pid_file else wants
            raise Refused(f"{who}: its main process is not known{hint}")
        try:
            count = await Lane(who).run(lambda: slay(pid, within_ms), within_ms * 2)
        except OSError as error:
            raise Unreachable(f"{who}: {error.strerror}; see ulimit -n") from error
        except (Refused, Unreachable) as error:
            raise type(error)(f"{who}: {error}") from error
        return f"{who}: {count} processes, gone"

    async def main_pid(self) -> int:
        pid = read_pid_file(self._settings.pid_file) if self._settings.pid_file else 0
        self._last_pid = pid or self._last_pid
        return pid

    async def last_lines(self, count: int) -> list[str]:
        try:
            with self._output.open("rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - LINES_BYTES))
                lines = file.read(LINES_BYTES).splitlines()
        except OSError:
            return []
        return [plain(line) for line in lines[-count:]]

    async def _order(self, verb: str, command: str, within_ms: int) -> str:
        who = f"service {self._settings.name}"
        try:
            ended = await order(command, within_ms, self._output)
        except OSError as error:
            raise Unreachable(
                f"{who}: {verb} command could not be run: {error.strerror}; see ulimit -u -n"
            ) from error
        if ended.code is None:
            raise Unreachable(
                f"{who}: {verb} command did not end within {within_ms} ms and was killed"
                f"{': ' + ended.tail if ended.tail else ''}; look what its status command says"
            )
        if ended.code != 0:
            raise Refused(f"{who}: {verb} command: {said(ended)}; run by hand: {command}")
        return f"{who}: {verb} done in {ended.took_ms} ms"


def read_pid_file(path: str) -> int:
    """The living process that it names, 0 for none.

    Not one that is younger than the file: that has got the number of one that is gone. Nor one of
    somebody else than who wrote the file, unless that is root.
    """
    try:
        with Path(path).open("rb") as file:
            written = os.fstat(file.fileno())
            pid = int(file.read(PID_FILE_BYTES).split(maxsplit=1)[0])
        process = psutil.Process(pid)
        younger = process.create_time() > written.st_mtime + YOUNGER_S
        theirs = written.st_uid not in (0, process.uids().real)
        dead = process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
        kernels = os.getsid(pid) == 0
    except (OSError, ValueError, IndexError, psutil.Error):
        return 0
    ours = pid in (1, os.getpid())
    return 0 if ours or kernels or younger or theirs or dead else pid
