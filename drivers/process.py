# SPDX-License-Identifier: GPL-2.0-or-later
"""Check: a process of that name runs (proc_pid_stat(5), by psutil)."""

import psutil

from agent.core.model import Answer
from agent.core.settings import CheckSettings
from drivers.inquiry import CannotAsk, Verdict, answer_within
from drivers.lane import Lane

LIFELESS = {
    psutil.STATUS_ZOMBIE: "is a zombie",
    psutil.STATUS_DEAD: "is dead",
    psutil.STATUS_STOPPED: "is stopped (SIGSTOP)",
}


class ProcessCheck:
    """Target: the name as `ps -o comm` shows it, or, beyond 15 characters, that of its program.

    A zombie serves nobody, a stopped process neither. A full search of the process table (about
    10 ms) is only made when the process that was found last is gone.
    """

    def __init__(self, settings: CheckSettings) -> None:
        self._name = settings.target
        self._timeout_ms = settings.timeout_ms
        self._lane = Lane(f"process {self._name}")
        self._known: psutil.Process | None = None

    async def ask(self) -> Answer:
        return await answer_within(self._timeout_ms, self._question, silence=None)

    async def _question(self) -> Verdict:
        return await self._lane.run(self._look, self._timeout_ms)

    def _look(self) -> Verdict:
        if self._known is not None:
            verdict = _judge(self._known)
            if verdict.ok and self._known.is_running():
                return verdict
        self._known, found = None, ""
        for process in psutil.process_iter():
            try:
                if process.name() != self._name:
                    continue
            except psutil.Error:
                continue
            verdict = _judge(process)
            if verdict.ok:
                self._known = process
                return verdict
            found = found or verdict.detail
        if not found and not psutil.pid_exists(1):
            raise CannotAsk("processes of others are hidden here; see hidepid= and ProtectProc=")
        return Verdict(False, found or f"no process {self._name}")


def _judge(process: psutil.Process) -> Verdict:
    try:
        why = LIFELESS.get(process.status())
    except psutil.Error:
        return Verdict(False, f"pid {process.pid} is gone")
    return Verdict(why is None, f"pid {process.pid} {why or 'runs'}")
