# SPDX-License-Identifier: GPL-2.0-or-later
"""Service control by commands of the configuration: start, stop, status."""

from pathlib import Path
from urllib.parse import quote

from agent.core.settings import ServiceSettings
from agent.ports import Refused, Unreachable
from drivers.inquiry import boottime_ms
from drivers.shell import order, question, said, trim

STATUS_WITHIN_MS = 5000
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
