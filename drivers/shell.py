# SPDX-License-Identifier: GPL-2.0-or-later
"""Shell commands of the configuration, run with a limit and without holding anything open.

A question (a check, a status command) leaves nobody behind: its process group is killed when it
ends. An order (start, stop) may leave a daemon behind, which must outlive this agent: its output
goes to a file, not to a pipe that would break under it, and its group is killed only at the limit.
"""

import asyncio
import os
import signal
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from drivers.inquiry import boottime_ms
from drivers.lane import Hung, Lane

SHELL = "/bin/sh"
FRAME = 'cd /; umask 022; eval "$1"'
TAIL_BYTES = 4096
TAIL_CHARS = 300
TRIM_BYTES = 65_536
OURS = (
    "NOTIFY_SOCKET",
    "WATCHDOG_",
    "LISTEN_",
    "FDSTORE",
    "CREDENTIALS_DIRECTORY",
    "INVOCATION_ID",
)


@dataclass(frozen=True, slots=True)
class Ended:
    """code: 0..255 as the shell says, negative for a signal, None: killed at its limit."""

    code: int | None
    tail: str
    took_ms: int


class Child:
    """A shell in its own session and process group."""

    def __init__(self, command: str, output_fd: int, sweep: bool) -> None:
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(OURS)
        }
        self.pid = os.posix_spawn(
            SHELL,
            [SHELL, "-c", FRAME, "sh", command],
            environment,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, output_fd, 1),
                (os.POSIX_SPAWN_DUP2, output_fd, 2),
            ],
            setsid=True,
            setsigmask=[],
            setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],
        )
        self._sweep = sweep
        self._lock = threading.Lock()
        self._reaped = False

    def kill(self) -> None:
        """The group. Until the child is reaped its number belongs to nobody else."""
        with self._lock:
            if not self._reaped:
                self._kill_group()

    def wait(self) -> int:
        """Blocks until it ended, then reaps it; what is left of a question's group goes with it."""
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        with self._lock:
            if self._sweep:
                self._kill_group()
            _, status = os.waitpid(self.pid, 0)
            self._reaped = True
        return os.waitstatus_to_exitcode(status)

    def _kill_group(self) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)


async def question(command: str, within_ms: int) -> Ended:
    """Runs a command that is to tell something. Raises OSError where it cannot be run."""
    began_ms = boottime_ms()
    read_fd, write_fd = os.pipe()
    loop = asyncio.get_running_loop()
    tail = bytearray()

    def hear() -> None:
        chunk = os.read(read_fd, 65_536)
        tail.extend(chunk)
        del tail[:-TAIL_BYTES]
        if not chunk:
            loop.remove_reader(read_fd)

    try:
        os.set_blocking(read_fd, False)
        try:
            child = Child(command, write_fd, sweep=True)
        finally:
            os.close(write_fd)
        loop.add_reader(read_fd, hear)
        try:
            code = await _ended(child, within_ms)
        finally:
            child.kill()
            loop.remove_reader(read_fd)
        with suppress(BlockingIOError):
            hear()
    finally:
        os.close(read_fd)
    return Ended(code, shown(bytes(tail)), boottime_ms() - began_ms)


async def printed(argv: list[str], within_ms: int) -> list[bytes]:
    """The lines that a program prints, without a shell; [] where it cannot be run or hangs."""
    try:
        child = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except OSError:
        return []
    try:
        async with asyncio.timeout(within_ms / 1000):
            output, _ = await child.communicate()
    except TimeoutError:
        return []
    finally:
        if child.returncode is None:
            with suppress(ProcessLookupError):
                child.kill()
            await child.wait()
    return output.splitlines() if child.returncode == 0 else []


async def order(command: str, within_ms: int, output: Path) -> Ended:
    """Runs a command that is to do something. Cancelled, it is left to finish: half done is worse.

    output: appended to. Where it cannot be opened the command runs all the same, unheard.
    """
    began_ms = boottime_ms()
    try:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
        output_fd = os.open(output, flags, 0o600)
    except OSError:
        output_fd = os.open(os.devnull, os.O_RDWR)
    try:
        begin_bytes = os.fstat(output_fd).st_size
        child = Child(command, output_fd, sweep=False)
        code = await _ended(child, within_ms)
        if code is None:
            child.kill()
        end_bytes = os.fstat(output_fd).st_size
        begin_bytes = max(begin_bytes, end_bytes - TAIL_BYTES)
        tail = os.pread(output_fd, TAIL_BYTES, begin_bytes)
    finally:
        os.close(output_fd)
    return Ended(code, shown(tail), boottime_ms() - began_ms)


def trim(output: Path) -> None:
    """A daemon that kept its start command's output may write there for ever."""
    with suppress(OSError), open(output, "r+b", opener=_no_link) as file:
        if os.fstat(file.fileno()).st_size > TRIM_BYTES:
            file.truncate(0)


def _no_link(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW)


def shown(tail: bytes) -> str:
    """The end of what a command printed, in one line fit for a terminal and a trap."""
    return plain(tail)[-TAIL_CHARS:]


def plain(text: bytes) -> str:
    """One line, without what plays tricks on a terminal."""
    chars = text.decode("utf-8", "replace")
    return " ".join("".join(char if char.isprintable() else " " for char in chars).split())


def said(ended: Ended) -> str:
    """ "exit 3: no such file"."""
    how = "killed at its limit" if ended.code is None else f"exit {ended.code}"
    if ended.code is not None and ended.code < 0:
        how = f"killed by signal {-ended.code}"
    return f"{how}: {ended.tail}" if ended.tail else how


async def _ended(child: Child, within_ms: int) -> int | None:
    try:
        return await Lane(f"sh {child.pid}").run(child.wait, within_ms)
    except Hung:
        return None
