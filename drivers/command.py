# SPDX-License-Identifier: GPL-2.0-or-later
"""Check: a shell command ends with 0."""

from agent.core.model import Answer
from agent.core.settings import CheckSettings
from agent.ports import Unreachable
from drivers.inquiry import boottime_ms
from drivers.shell import question, said

NOT_RUN = (126, 127)  # the shell found no such command, or may not run it


class CommandCheck:
    """Target: a command for /bin/sh. Killed with all its children at its limit."""

    def __init__(self, settings: CheckSettings) -> None:
        self._command = settings.target
        self._timeout_ms = settings.timeout_ms

    async def ask(self) -> Answer:
        began_ms = boottime_ms()
        try:
            ended = await question(self._command, self._timeout_ms)
        except (OSError, Unreachable) as error:
            detail = f"cannot run a command: {error}"
            return Answer(None, detail, boottime_ms() - began_ms)
        ok: bool | None = ended.code == 0
        if ended.code in NOT_RUN:
            ok = None
        return Answer(ok, said(ended), ended.took_ms)
