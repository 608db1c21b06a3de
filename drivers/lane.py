# SPDX-License-Identifier: GPL-2.0-or-later
"""Calls that may block, off the loop and with a limit: a dead NFS server must not stop a round.

Threads here are daemons and belong to no executor: one that never comes back costs one thread, is
not waited for when the process ends, and takes no place from the others.
"""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from agent.ports import PortError, Unreachable

T = TypeVar("T")

RELAYED = (OSError, LookupError, ValueError, PortError)


class Hung(Unreachable):
    """The call has not come back; it goes on alone."""


class Lane:
    """One blocking call at a time. While one hangs the next are refused instead of piled up."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.busy = False

    async def run(self, work: Callable[[], T], within_ms: int) -> T:
        """What `work` returns, or one of RELAYED that it raises. Raises Hung after `within_ms`."""
        if self.busy:
            raise Hung(f"{self.name}: hangs, an earlier call has not come back; look at dmesg")
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self.busy = True
        try:
            threading.Thread(
                target=self._work, args=(work, done), name=self.name, daemon=True
            ).start()
        except RuntimeError as error:  # can't start new thread
            self.busy = False
            raise Unreachable(f"{self.name}: {error}; see TasksMax= and ulimit -u") from error
        try:
            async with asyncio.timeout(within_ms / 1000):
                return await done
        except TimeoutError:
            if done.done() and not done.cancelled():  # it raised that itself, or we were late
                return done.result()
            raise Hung(f"{self.name}: hangs, no answer within {within_ms} ms") from None

    def _work(self, work: Callable[[], T], done: "asyncio.Future[T]") -> None:
        failure: BaseException = RuntimeError(f"{self.name}: died, its traceback is on stderr")
        result: list[T] = []
        try:
            result.append(work())
        except RELAYED as error:
            failure = error
        finally:
            self.busy = False
            with suppress(RuntimeError):  # the loop closed meanwhile
                done.get_loop().call_soon_threadsafe(_deliver, done, result, failure)


def _deliver(done: "asyncio.Future[T]", result: list[T], failure: BaseException) -> None:
    if done.done():
        return
    if result:
        done.set_result(result[0])
    else:
        done.set_exception(failure)
