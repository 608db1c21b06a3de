# SPDX-License-Identifier: GPL-2.0-or-later
"""Killing all of a service's processes, and seeing that they are gone (pidfd_send_signal(2))."""

import os
import select
import signal
from collections.abc import Iterable
from contextlib import suppress
from typing import Self

import psutil

from agent.ports import Refused, Unreachable
from drivers.inquiry import boottime_ms

ROUND_MS = 50  # so often it is looked whether one was born meanwhile


class Held:
    """Processes by pidfd: a number that was given anew meanwhile is none of them."""

    def __init__(self, pids: Iterable[int]) -> None:
        """Raises OSError where no descriptor is left."""
        self._fds: dict[int, int] = {}
        self._poll = select.poll()
        try:
            for pid in pids:
                with suppress(ProcessLookupError):
                    fd = os.pidfd_open(pid)
                    self._fds[fd] = pid
                    self._poll.register(fd, select.POLLIN)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """They go on as they are."""
        for fd in self._fds:
            os.close(fd)
        self._fds.clear()

    def strike(self) -> None:
        """SIGKILL to each. Raises Refused where this user may not."""
        for fd, pid in self._fds.items():
            try:
                signal.pidfd_send_signal(fd, signal.SIGKILL)
            except ProcessLookupError:
                continue
            except PermissionError:
                raise Refused(
                    f"pid {pid}: uid {os.geteuid()} may not kill it; run it as the same user"
                ) from None

    def left(self, wait_ms: int = 0) -> list[int]:
        """Those that have not terminated; waits for a change so long. Blocks."""
        if self._fds:
            for fd, _ in self._poll.poll(wait_ms):
                self._poll.unregister(fd)
                os.close(fd)
                del self._fds[fd]
        return list(self._fds.values())


def family(main_pid: int) -> set[int]:
    """The process, its descendants, and all that it leads the session or the group of.

    A group or session outlives its leader, and its number is nobody else's meanwhile.
    """
    found: set[int] = set()
    with suppress(psutil.Error):
        found = {child.pid for child in psutil.Process(main_pid).children(recursive=True)}
    for pid in psutil.pids():
        with suppress(OSError):
            if main_pid in (pid, os.getpgid(pid), os.getsid(pid)):
                found.add(pid)
    return found - {os.getpid()}


def slay(main_pid: int, within_ms: int) -> int:
    """SIGKILL to all of the family until none is left; how many they were. Blocks.

    Raises Refused where this user may not, Unreachable where some are still there at the limit.
    """
    until_ms = boottime_ms() + within_ms
    killed: set[int] = set()
    while True:
        with Held(family(main_pid)) as held:
            left = held.left()
            if not left:
                return len(killed)
            if boottime_ms() >= until_ms:
                raise Unreachable(f"{shown(left)} still there after SIGKILL; look at dmesg")
            killed.update(left)
            held.strike()
            round_ms = min(until_ms, boottime_ms() + ROUND_MS)
            while held.left(max(0, round_ms - boottime_ms())) and boottime_ms() < round_ms:
                pass


def shown(pids: Iterable[int]) -> str:
    """ "pid 7, 8"."""
    return "pid " + ", ".join(str(pid) for pid in sorted(pids))
