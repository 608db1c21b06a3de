# SPDX-License-Identifier: GPL-2.0-or-later
"""The round that every fence makes: look at all feeds, command those that need it, look again."""

import asyncio
from collections.abc import Sequence
from typing import Protocol

from agent.core.fencing import Sight, Step, Switching, Verdict
from agent.ports import Garbled, PortError, Refused, Unreachable
from drivers.inquiry import boottime_ms

LOOK_EVERY_MS = 200
LAST_WORD_MS = 100  # a look ends so long before the limit, so that it can say what was in its way


class Feed(Protocol):
    """Something that feeds a node and can be switched. name: for people, unique in its node."""

    name: str

    async def look(self, within_ms: int, /) -> tuple[Sight, str]:
        """Where it stands, and what is odd about that. Raises PortError; Refused ends it all."""
        ...

    async def command(self, off: bool, clear: bool, within_ms: int, /) -> None:
        """`clear`: take back what waits, first. Raises PortError; Unreachable: perhaps done."""
        ...


async def switch(
    node: str, feeds: Sequence[Feed], off: bool, within_ms: int, *, blind: bool = False
) -> str:
    """What was seen, once all feeds are seen as wanted. Raises Refused, Unreachable, Garbled.

    blind: command before the first look.
    """
    switching = Switching([feed.name for feed in feeds], off, boottime_ms(), within_ms)
    try:
        async with asyncio.timeout(within_ms / 1000):
            if blind:
                for feed in feeds:
                    await _command(switching, feed, off, False)
            await _look_round(switching, feeds)
            while not switching.over(boottime_ms()):
                await _command_round(switching, feeds, off)
                await asyncio.sleep(LOOK_EVERY_MS / 1000)
                await _look_round(switching, feeds)
    except TimeoutError:
        pass  # whatever was not answered is unknown, and the verdict says so
    return _said(node, off, switching.verdict())


def _said(node: str, off: bool, verdict: Verdict) -> str:
    text = f"node {node}: {verdict.text}"
    if verdict.ok:
        return text
    if verdict.ok is None:
        raise Unreachable(f"{text}; not known to be {'off' if off else 'on'}: look again")
    if verdict.lies:
        raise Garbled(f"{text}; look whether it really switches")
    raise Refused(f"{text}; switch it by hand, then standpipe fence {node} --status")


async def _look_round(switching: Switching, feeds: Sequence[Feed]) -> None:
    switching.begin_round()
    async with asyncio.TaskGroup() as tasks:
        for feed in feeds:
            tasks.create_task(_look(switching, feed))


async def _command_round(switching: Switching, feeds: Sequence[Feed], off: bool) -> None:
    async with asyncio.TaskGroup() as tasks:
        for feed in feeds:
            step = switching.step(feed.name, boottime_ms())
            if step in (Step.COMMAND, Step.CLEAR):
                tasks.create_task(_command(switching, feed, off, step is Step.CLEAR))


async def _look(switching: Switching, feed: Feed) -> None:
    try:
        left_ms = max(1, switching.deadline_ms - LAST_WORD_MS - boottime_ms())
        switching.hear(feed.name, *await feed.look(left_ms))
    except Refused as error:
        switching.refuse(feed.name, str(error))
    except PortError as error:
        switching.hear(feed.name, Sight.UNKNOWN, str(error))


async def _command(switching: Switching, feed: Feed, off: bool, clear: bool) -> None:
    switching.asked(feed.name, boottime_ms())
    try:
        left_ms = max(1, switching.deadline_ms - boottime_ms())
        await feed.command(off, clear, left_ms)
    except Unreachable:
        pass  # it may have been done: the next look tells
    except PortError as error:
        switching.refuse(feed.name, str(error))
