# SPDX-License-Identifier: GPL-2.0-or-later
"""The agent's eyes on its services: each is asked in its own rhythm, and its death is seen at once.

A question that is overdue is asked again before its limit: a service that hangs is known after the
limit and twice two thirds of it. Whoever starts or stops a service stirs those who watch it.
"""

import asyncio
import contextlib
import os
import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from agent.clock import now_ms
from agent.core.health import CheckHealth
from agent.core.model import Answer, Died, Lives
from agent.ports import Check, Service

LOOK_FIRST_S, LOOK_LAST_S = 0.1, 5.0  # for a main process while there is none: less and less often
REPLACED_WITHIN_S = 0.02  # one may hand over to another before it ends: who is it now?
PHASES_MS = 60_000
LINES = 20


class Tended:
    """ports.Service around a driver: a start waits for a kill that is under way, and those who
    watch the service look again at once when something is done to it."""

    def __init__(self, driver: Service) -> None:
        self._driver = driver
        self.phase_ms = random.randrange(PHASES_MS)  # its checks are asked together: one waking
        self._killing = asyncio.Lock()
        self._stirred: asyncio.Future[None] | None = None

    async def start(self, within_ms: int) -> str:
        return await self._begin(self._driver.start, within_ms)

    async def restart(self, within_ms: int) -> str:
        return await self._begin(self._driver.restart, within_ms)

    async def stop(self, within_ms: int) -> str:
        try:
            return await self._driver.stop(within_ms)
        finally:
            self._stir()

    async def kill(self, within_ms: int) -> str:
        """Not held up by a stop that hangs."""
        async with self._killing:
            try:
                return await self._driver.kill(within_ms)
            finally:
                self._stir()

    async def running(self) -> bool | None:
        return await self._driver.running()

    async def main_pid(self) -> int:
        return await self._driver.main_pid()

    async def last_lines(self, count: int) -> list[str]:
        return await self._driver.last_lines(count)

    async def _begin(self, order: Callable[[int], Awaitable[str]], within_ms: int) -> str:
        async with self._killing:
            self._stir()
        try:
            return await order(within_ms)
        finally:
            self._stir()

    def _stir(self) -> None:
        if self._stirred is not None and not self._stirred.done():
            self._stirred.set_result(None)

    def stirred(self) -> "asyncio.Future[None]":
        """Done when something is done to the service the next time."""
        if self._stirred is None or self._stirred.done():
            self._stirred = asyncio.get_running_loop().create_future()
        return self._stirred


class Asker:
    """One check of one service, asked for ever.

    health: its present verdict, which sets the rhythm. hear: takes each answer. concerns_us:
    whether there is anything to learn here now.
    """

    def __init__(
        self,
        check: Check,
        health: Callable[[], CheckHealth],
        hear: Callable[[Answer], None],
        concerns_us: Callable[[], bool],
        tended: Tended,
    ) -> None:
        self._check = check
        self._health = health
        self._hear = hear
        self._concerns_us = concerns_us
        self._tended = tended
        self._asked: list[asyncio.Future[Answer]] = []  # and not answered yet, oldest first

    async def run(self) -> None:
        """Raises what `hear` raises."""
        try:
            while True:
                began_ms = now_ms()
                if self._concerns_us() and not await self._ask(began_ms):
                    continue  # overdue: once more
                await self._rest(began_ms)
        finally:
            for question in self._asked:
                question.cancel()

    async def _ask(self, began_ms: int) -> bool:
        """Whether it was answered before it was overdue."""
        newest = asyncio.ensure_future(self._check.ask())
        self._asked.append(newest)
        overdue_ms = self._health().overdue_ms()
        while not newest.done():
            left_s = (began_ms + overdue_ms - now_ms()) / 1000 if overdue_ms else None
            if left_s is not None and left_s <= 0:
                return False
            await self._listen(left_s)
        return True

    async def _rest(self, began_ms: int) -> None:
        """Until the next question is due, or something is done to the service."""
        stirred = self._tended.stirred()
        while not stirred.done():
            left_ms = self._due(began_ms) - now_ms()
            if left_ms <= 0:
                return
            await self._listen(left_ms / 1000, stirred)

    def _due(self, began_ms: int) -> int:
        """When to ask again: in its plain rhythm on the beat that the service's checks share."""
        health = self._health()
        again_ms = health.ask_again_ms()
        if again_ms < health.settings.every_ms:
            return began_ms + again_ms
        return began_ms + again_ms - (began_ms + self._tended.phase_ms) % again_ms

    async def _listen(self, within_s: float | None, *others: "asyncio.Future[None]") -> None:
        waited_for: list[asyncio.Future[Any]] = [*self._asked, *others]
        await asyncio.wait(waited_for, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
        ended = [question for question in self._asked if question.done()]
        self._asked = [question for question in self._asked if not question.done()]
        for question in ended:
            self._hear(question.result())
        if any(question.result().ok for question in ended):  # what was asked before is moot
            for question in self._asked:
                question.cancel()
            self._asked.clear()


class Mourner(Protocol):
    """Follows processes, one for each service: `drivers.deaths`."""

    def follow(self, group: str, service: str, pid: int, on_death: Callable[[], None]) -> bool:
        """False where it is dead already. Raises Refused, Unreachable."""
        ...

    def forget(self, group: str, service: str) -> None: ...


async def watch_life(
    group: str,
    service: str,
    tended: Tended,
    mourner: Mourner,
    feed: Callable[[Lives | Died], None],
) -> None:
    """Tells of the service's main process, and of its death. Raises Refused, Unreachable."""
    known, wait_s = 0, LOOK_FIRST_S
    try:
        while True:
            stirred = tended.stirred()
            gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            pid = await tended.main_pid()
            if pid and not mourner.follow(group, service, pid, lambda: _end(gone)):  # noqa: B023
                pid = 0
            if pid != known:
                feed(Lives(group, service, pid))
                known = pid
            await asyncio.wait(
                (stirred, gone),
                timeout=None if pid else wait_s,
                return_when=asyncio.FIRST_COMPLETED,
            )
            wait_s = min(LOOK_LAST_S, wait_s * 2)
            if pid or stirred.done():
                wait_s = LOOK_FIRST_S
            if gone.done() and not await _replaced(tended, pid):
                feed(Died(group, service, pid))
                known = 0
    finally:
        mourner.forget(group, service)


def _end(gone: "asyncio.Future[None]") -> None:
    if not gone.done():
        gone.set_result(None)


async def _replaced(tended: Tended, pid: int) -> bool:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(REPLACED_WITHIN_S):
            return await tended.main_pid() not in (0, pid)
    return False


async def gather(service: Service, resources: Mapping[str, str]) -> dict[str, Any]:
    """For the page to people: {"lines": its last ones, "resources": name -> text}."""
    load = " ".join(f"{share:.2f}" for share in os.getloadavg())
    return {"lines": await service.last_lines(LINES), "resources": {"load": load, **resources}}
