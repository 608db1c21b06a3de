# SPDX-License-Identifier: GPL-2.0-or-later
"""Fence: commands of the configuration, `off`, `on` and `status`; they leave nobody behind.

Each gets STANDPIPE_NODE in its environment. What a command started lives no longer than it, even in
a session of its own: it is known by a mark in its environment.
"""

import os
import secrets
import shlex
import signal
from contextlib import suppress
from pathlib import Path

from agent.core.fencing import Sight
from agent.core.settings import FenceSettings
from agent.ports import PortError, Refused, Unreachable
from drivers.executable import fault
from drivers.lane import Lane
from drivers.shell import Ended, question, said
from drivers.switching import switch

STATUS = {0: Sight.ON, 2: Sight.OFF}  # as fence-agents(8); 1 is how any broken script ends
NOT_RUN = (126, 127)  # the shell found no such command, or may not run it
SWEEPS = 5  # a child may be forked while the others are killed
SWEEP_MS = 2_000


class CommandFence:
    """ports.Fence. `off` and `on` must end with 0; only `status` proves anything."""

    def __init__(self, node: str, settings: FenceSettings) -> None:
        self.node = node
        self._settings = settings
        self.name = "its power"

    async def off(self, within_ms: int) -> str:
        return await switch(self.node, [self], True, within_ms, blind=True)

    async def on(self, within_ms: int) -> str:
        if not self._settings.on:
            raise Refused(f"node.{self.node}.fence has no `on`: switch it on by hand")
        return await switch(self.node, [self], False, within_ms, blind=True)

    async def status(self, within_ms: int) -> str:
        """What the status command says, for people."""
        return f"node {self.node}: {self.name} is {await self._look(within_ms)}"

    async def test(self, within_ms: int) -> str:
        for key in ("off", "on"):
            command = getattr(self._settings, key)
            if command and (why := fault(command)):
                raise Refused(f"node.{self.node}.fence.{key}: {why}")
        return f"{await self.status(within_ms)}; `off` can be executed, and was not"

    async def look(self, within_ms: int) -> tuple[Sight, str]:
        return await self._look(within_ms), ""

    async def command(self, off: bool, _clear: bool, within_ms: int) -> None:
        """Leaves a third of the limit for the status. Nothing waits that could be cleared."""
        verb = "off" if off else "on"
        ended = await self._run(getattr(self._settings, verb), within_ms * 2 // 3)
        if ended.code is None:
            raise Unreachable(f"{verb} command: {said(ended)}")
        if ended.code != 0:
            raise Refused(f"node.{self.node}.fence.{verb}: {said(ended)}")

    async def _look(self, within_ms: int) -> Sight:
        """Raises Refused where it cannot be run, Unreachable where it does not tell."""
        ended = await self._run(self._settings.status, within_ms)
        if ended.code in NOT_RUN:
            raise Refused(f"node.{self.node}.fence.status: {said(ended)}")
        sight = STATUS.get(-1 if ended.code is None else ended.code)
        if sight is None:
            raise Unreachable(f"node {self.node}: status command: {said(ended)}; 0 is on, 2 is off")
        return sight

    async def _run(self, command: str, within_ms: int) -> Ended:
        """Raises Unreachable where no process can be made."""
        mark = f"STANDPIPE_FENCE={secrets.token_hex(16)}"
        node = shlex.quote(f"STANDPIPE_NODE={self.node}")
        try:
            return await question(f"export {mark} {node}; {command}", max(1, within_ms))
        except OSError as error:
            raise Unreachable(
                f"node {self.node}: cannot run a command: {error.strerror}; see ulimit -u -n"
            ) from error
        finally:
            with suppress(PortError, OSError):
                await Lane("sweep").run(lambda: sweep(mark), SWEEP_MS)


def sweep(mark: str) -> int:
    """Kills every process of ours whose environment has this mark; how many there were."""
    found = 0
    for _ in range(SWEEPS):
        names = [name for name in os.listdir("/proc") if name.isdigit()]
        killed = sum(_kill_marked(int(name), mark.encode()) for name in names)
        found += killed
        if not killed:
            break
    return found


def _kill_marked(pid: int, mark: bytes) -> bool:
    """A pidfd held while it is looked at: its number cannot become another's meanwhile."""
    if pid == os.getpid():
        return False
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:  # it ended
        return False
    try:
        marked = mark in Path("/proc", str(pid), "environ").read_bytes().split(b"\0")
        if marked:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        return marked
    except OSError:  # it ended, or is somebody else's
        return False
    finally:
        os.close(pidfd)
