# SPDX-License-Identifier: GPL-2.0-or-later
"""What this node answers when peers ask for settings, licences and status.

Only groups that both nodes share, and only what is on the shelf: no question names a path.
"""

import asyncio
import os
from collections.abc import Callable
from functools import partial
from typing import Any

from agent.carried_group import CarriedGroup
from agent.carry_hands import Channel, Clock
from agent.core.carriage import (
    BATCH_BYTES,
    PIECE_BYTES,
    AskNews,
    AskObjects,
    AskStatus,
    AskVersion,
    Bucket,
    dump_said,
    load_question,
    packed,
)
from agent.core.manifest import Version, delta, dump_snapshot, dump_version
from agent.core.model import Copy
from agent.ports import Garbled

LEAST_NEWS_S = 0.005  # what changes at once is told at once


class Door:
    """Answers one peer after the other; `changed` is awaited where nothing is new."""

    def __init__(
        self,
        groups: dict[str, CarriedGroup],
        clock: Clock,
        changed: Callable[[], asyncio.Event],
        heard: Callable[[str], None],
    ) -> None:
        self._groups = groups
        self._clock = clock
        self._changed = changed
        self._heard = heard  # a peer said how its copy of this group stands
        self._buckets = {n: Bucket(g.carried.rate_bytes_s) for n, g in groups.items()}

    async def serve(self, channel: Channel) -> None:
        """Until the peer goes. Raises Unreachable, Garbled."""
        while True:
            raw = await channel.hear()
            try:
                question = load_question(raw)
            except ValueError as error:
                raise Garbled(f"{channel.node}: {error}") from error
            match question:
                case AskNews():
                    await self._news(channel, question)
                case AskVersion():
                    await self._version(channel, question)
                case AskObjects():
                    await self._objects(channel, question)
                case AskStatus():
                    await self._status(channel, question)

    def _shared(self, node: str, name: str) -> CarriedGroup:
        group = self._groups.get(name)
        if group is None or node not in group.nodes:
            raise Garbled(f"{node}: asks for group {name[:80]!r}, which it does not share with us")
        return group

    # ------------------------------------------------------------ news

    async def _news(self, channel: Channel, question: AskNews) -> None:
        node = channel.node
        for name, have in question.have.items():
            group = self._groups.get(name)
            if group is None or node not in group.nodes:
                continue  # its configuration is not ours (yet)
            epoch, origin_ms = have.status or (0, 0)
            group.copies[node] = Copy(have.ok, have.detail, self._clock.now_ms(), epoch, origin_ms)
            self._heard(name)
        shared = [group for group in self._groups.values() if node in group.nodes]
        until_ms = self._clock.now_ms() + question.within_ms
        while all(question.seen.get(group.name) == group.stamp for group in shared):
            changed, left_ms = self._changed(), until_ms - self._clock.now_ms()
            if left_ms <= 0:
                break
            try:
                async with asyncio.timeout(left_ms / 1000):
                    await changed.wait()
            except TimeoutError:
                break
            await asyncio.sleep(LEAST_NEWS_S)
        said = {group.name: dump_said(group.said_now()) for group in shared}
        facts = {group.name: group.facts for group in shared if group.facts}
        await channel.say({"news": said, "facts": facts, "wall_ms": self._clock.wall_ms()})

    # ------------------------------------------------------------ settings

    async def _version(self, channel: Channel, question: AskVersion) -> None:
        group = self._shared(channel.node, question.group)
        current = group.files.current
        if current is None or current.digest != question.digest:
            await channel.say({"bytes": 0})
            return
        work = partial(self._packed_version, group, current, question.base)
        body = await asyncio.to_thread(group.guarded(work))
        await channel.say({"bytes": len(body)})
        for at in range(0, len(body), PIECE_BYTES):
            await self._spend(group, len(body[at : at + PIECE_BYTES]))
            await channel.pour(0, body[at : at + PIECE_BYTES])

    @staticmethod
    def _packed_version(group: CarriedGroup, current: Version, base: str) -> bytes:
        old = group.files.recent.get(base)
        if old is None:
            return packed(dump_version(current))
        change = delta(old.entries, current.entries)
        return packed(dump_version(current, whole=False) | {"change": change})

    async def _objects(self, channel: Channel, question: AskObjects) -> None:
        """As many bytes of each item as a batch has room for, in the order of the items."""
        group = self._shared(channel.node, question.group)
        work = partial(self._sizes, group, question.items)
        sizes = await asyncio.to_thread(group.guarded(work))
        await channel.say({"bytes": sizes})
        for item, ((sha256, offset), size) in enumerate(zip(question.items, sizes, strict=True)):
            if size:
                await self._pour(channel, group, item, group.shelf.open(sha256), offset, size)

    @staticmethod
    def _sizes(group: CarriedGroup, items: tuple[tuple[str, int], ...]) -> list[int]:
        left, sizes = BATCH_BYTES, []
        for sha256, offset in items:
            there = group.shelf.size(sha256) if left else 0
            sizes.append(max(0, min(left, there - offset)))
            left -= sizes[-1]
        return sizes

    async def _pour(
        self, channel: Channel, group: CarriedGroup, item: int, source: int, at: int, size: int
    ) -> None:
        try:
            while size > 0:
                piece = os.pread(source, min(PIECE_BYTES, size), at)
                if not piece:
                    raise Garbled(f"{group.name}: a content on the shelf grew shorter")
                await self._spend(group, len(piece))
                await channel.pour(item, piece)
                at += len(piece)
                size -= len(piece)
        finally:
            os.close(source)

    async def _spend(self, group: CarriedGroup, size_bytes: int) -> None:
        wait_ms = self._buckets[group.name].wait_ms(size_bytes, self._clock.now_ms())
        if wait_ms:
            await asyncio.sleep(wait_ms / 1000)

    # ------------------------------------------------------------ status

    async def _status(self, channel: Channel, question: AskStatus) -> None:
        group = self._shared(channel.node, question.group)
        held = group.status.held
        said: dict[str, Any] = {"status": None, "durable": group.shipping}
        source = -1
        if held is not None:
            async with group.status_lock:
                held = group.status.held
                assert held is not None
                source = group.shelf.open_status(held)
            said["status"] = dump_snapshot(held)
        try:
            await channel.say(said)
            if held is not None and held.entry.size:
                source, open_source = -1, source
                await self._pour(channel, group, 0, open_source, 0, held.entry.size)
        finally:
            if source >= 0:
                os.close(source)
