# SPDX-License-Identifier: GPL-2.0-or-later
"""What this node asks one peer for: news of the groups they share, then what it lacks.

What was received of a content stays when the connection is cut, and the next one goes on from
there. Nothing counts before all of a version is here and is what its digests say.
"""

import asyncio
import contextlib
import hashlib
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from agent.carried_group import CarriedGroup
from agent.carry_hands import Channel, Clock
from agent.core.carriage import (
    BATCH_BYTES,
    LONGEST_VERSION_BYTES,
    MOST_ITEMS,
    AskNews,
    AskObjects,
    AskStatus,
    AskVersion,
    Question,
    dump_question,
    load_said,
    unpacked,
)
from agent.core.manifest import Snapshot, Version, load_snapshot, load_version, patched
from agent.ports import Garbled, PortError, Refused

NEWS_WITHIN_MS = 5_000
NEWS_A_LIMIT = 4  # a status is vouched for so often within the time in which it grows stale
ANSWER_S = 2.0  # beyond the time that a question for news may wait: a cut sends no farewell
FIRST_WAIT_S, LONGEST_WAIT_S = 0.2, 2.0
AFTER_REFUSAL_S = 10.0


@dataclass(slots=True)
class Pull:
    """A version on its way. missing: sha256 -> size of what is not on the shelf yet."""

    version: Version
    missing: dict[str, int] = field(default_factory=dict)


class Link:
    """Asks one peer, for ever. groups: those that both share."""

    def __init__(
        self,
        node: str,
        groups: list[CarriedGroup],
        clock: Clock,
        dial: Callable[[], Awaitable[Channel]],
        space: Callable[[str], int],
        told: Callable[[str], None],
    ) -> None:
        self.trouble = ""
        self.offset_ms: int | None = None  # how far its wall clock is ahead of ours
        self._node = node
        self._groups = {group.name: group for group in groups}
        self._clock = clock
        self._dial = dial
        self._space = space
        self._told = told  # something about this group may be new for the core
        self._seen: dict[str, int] = {}
        self._pulls: dict[str, Pull] = {}
        self._refused_ms: dict[tuple[str, str], int] = {}
        limits = [g.carried.status_max_age_ms for g in groups if g.allowed.status]
        self._within_ms = min([NEWS_WITHIN_MS, *(ms // NEWS_A_LIMIT for ms in limits)])

    async def run(self) -> None:
        """Never ends by itself."""
        wait_s = FIRST_WAIT_S
        while True:
            try:
                channel = await self._dial()
            except PortError as error:
                self._lost(str(error))
            else:
                try:
                    await self._talk(channel)
                except PortError as error:
                    self._lost(str(error))
                finally:
                    await channel.close()
                wait_s = FIRST_WAIT_S
            await asyncio.sleep(wait_s)
            wait_s = min(LONGEST_WAIT_S, wait_s * 2)

    def _lost(self, why: str) -> None:
        self.trouble = why
        self._seen.clear()
        for group in self._groups.values():
            group.lost(self._node)
            self._told(group.name)

    async def _talk(self, channel: Channel) -> None:
        more = True
        while True:
            have = {name: group.have() for name, group in self._groups.items()}
            asked_ms = self._clock.now_ms()
            ask = AskNews(0 if more else self._within_ms, dict(self._seen), have)
            await channel.say(dump_question(ask))
            self._hear(await channel.hear(ask.within_ms / 1000 + ANSWER_S), asked_ms)
            self.trouble = ""
            more = False
            for group in self._groups.values():
                more = await self._pull(channel, group) or more
                self._told(group.name)

    async def _ask(self, channel: Channel, question: Question) -> dict[str, Any]:
        await channel.say(dump_question(question))
        return await channel.hear()

    def _hear(self, raw: dict[str, Any], asked_ms: int) -> None:
        news = raw.get("news")
        if not isinstance(news, dict):
            raise Garbled(f"{self._node}: sent news that are none")
        for name, group in self._groups.items():
            if name not in news:  # its configuration does not have the group (yet)
                group.lost(self._node)
                continue
            try:
                said = load_said(news[name])
            except ValueError as error:
                raise Garbled(f"{self._node}: group {name}: {error}") from error
            self._seen[name] = said.stamp
            group.hear(self._node, said, asked_ms)
        self._hear_host(raw)

    def _hear_host(self, raw: dict[str, Any]) -> None:
        """What its host is like, for the proofs; a peer of another version may say nothing."""
        wall_ms, facts = raw.get("wall_ms"), raw.get("facts")
        self.offset_ms = wall_ms - self._clock.wall_ms() if type(wall_ms) is int else None
        for name, group in self._groups.items():
            found = facts.get(name) if isinstance(facts, dict) else None
            group.facts_of[self._node] = found if isinstance(found, dict) else {}

    async def _pull(self, channel: Channel, group: CarriedGroup) -> bool:
        """One step towards what the peer has; True: there is more to do at once."""
        if group.follow().node != self._node:
            self._pulls.pop(group.name, None)
            return False
        more = False
        try:
            if self._wants_status(group):
                await self._pull_status(channel, group)
                more = True
            if self._wants_version(group):
                more = await self._pull_version(channel, group) or more
        except Refused as error:
            self._pulls.pop(group.name, None)
            self._refused_ms[group.name, group.said[self._node].version] = self._clock.now_ms()
            group.pull_trouble = str(error)
        except Garbled as error:
            group.pull_trouble = str(error)
            raise
        return more

    # ------------------------------------------------------------ status

    def _wants_status(self, group: CarriedGroup) -> bool:
        rank, held = group.said[self._node].status, group.status.held
        return (
            rank is not None and bool(group.allowed.status) and (held is None or rank > held.rank)
        )

    async def _pull_status(self, channel: Channel, group: CarriedGroup) -> None:
        asked_ms = self._clock.now_ms()
        raw = await self._ask(channel, AskStatus(group.name))
        if raw.get("status") is None:
            return
        try:
            fresh = load_snapshot(raw["status"], group.allowed, group.carried.max_bytes)
        except ValueError as error:
            raise Garbled(f"{self._node}: {error}") from error
        durable = raw.get("durable") is True
        fresh = replace(fresh, node=self._node)
        with group.shelf.incoming() as part:
            await self._receive_status(channel, group, fresh, part)
            async with group.status_lock:
                if group.active:
                    return
                keep = partial(group.status.receive, fresh, part, asked_ms, self._clock.wall_ms())
                await group.on_status(group.guarded(keep))
        await group.settle_status(durable)
        group.changed()

    async def _receive_status(
        self, channel: Channel, group: CarriedGroup, fresh: Snapshot, part: Path
    ) -> None:
        digest, left = hashlib.sha256(), fresh.entry.size
        room = self._space(str(group.shelf.folder)) >= left
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        into = os.open(part, flags, 0o600)
        try:
            while left > 0:
                piece = await channel.catch(0)
                if len(piece) > left:
                    raise Garbled(f"{self._node}: sent more of a status than it said")
                left -= len(piece)
                digest.update(piece)
                if room:
                    await group.on_status(group.guarded(partial(_write, into, piece)))
        finally:
            os.close(into)
        if not room:
            raise Refused(f"{group.shelf.folder}: no room for the status; make room")
        if digest.hexdigest() != fresh.entry.sha256:
            raise Garbled(f"{self._node}: sent a status that is not what its digest says")

    # ------------------------------------------------------------ settings

    def _wants_version(self, group: CarriedGroup) -> bool:
        wanted, current = group.said[self._node].version, group.files.current
        if not wanted or (current is not None and current.digest == wanted):
            return False
        refused_ms = self._refused_ms.get((group.name, wanted))
        return refused_ms is None or (self._clock.now_ms() - refused_ms > AFTER_REFUSAL_S * 1000)

    async def _pull_version(self, channel: Channel, group: CarriedGroup) -> bool:
        wanted = group.said[self._node].version
        pull = self._pulls.get(group.name)
        if pull is None or pull.version.digest != wanted:
            version = await self._manifest(channel, group, wanted)
            if version is None:
                return False
            lacking = partial(self._missing, group, version)
            pull = Pull(version, await group.on_files(group.guarded(lacking)))
            self._pulls[group.name] = pull
        if pull.missing:
            await self._batch(channel, group, pull)
        if pull.missing:
            return True
        del self._pulls[group.name]
        await self._adopt(group, pull.version)
        return False

    async def _manifest(self, channel: Channel, group: CarriedGroup, wanted: str) -> Version | None:
        current = group.files.current
        base = current.digest if current is not None else ""
        left = (await self._ask(channel, AskVersion(group.name, wanted, base))).get("bytes")
        if type(left) is not int or not 0 <= left <= LONGEST_VERSION_BYTES:
            raise Garbled(f"{self._node}: sent a version of a size that is none")
        body = bytearray()
        while len(body) < left:
            body += await channel.catch(0)
        if len(body) > left:
            raise Garbled(f"{self._node}: sent more of a version than it said")
        if not left:
            return None  # it has another one by now, and says so
        read = partial(_read_version, bytes(body), group, current)
        try:
            version = await group.on_files(read)
        except ValueError as error:
            raise Garbled(f"{self._node}: group {group.name}: {error}") from error
        if version.digest != wanted or version.group != group.name:
            raise Garbled(f"{self._node}: sent another version than it was asked for")
        return version

    def _missing(self, group: CarriedGroup, version: Version) -> dict[str, int]:
        here = group.files.current.contents() if group.files.current is not None else {}
        missing = {
            sha256: size
            for sha256, size in version.contents().items()
            if sha256 not in here and not group.shelf.has(sha256)
        }
        needed, space = sum(missing.values()), self._space(str(group.shelf.folder))
        if needed > space:
            raise Refused(
                f"{group.shelf.folder}: no room for {needed} bytes beside what must stay free; make"
                " room, the version before still counts"
            )
        return missing

    async def _batch(self, channel: Channel, group: CarriedGroup, pull: Pull) -> None:
        """Asks for the next few megabytes, and writes what came."""
        chosen: list[tuple[str, int]] = []
        expected = 0
        begun = await group.on_files(partial(_begun, group, pull.missing))
        for sha256, offset in begun:
            chosen.append((sha256, offset))
            expected += pull.missing[sha256] - offset
            if expected >= BATCH_BYTES or len(chosen) == MOST_ITEMS:
                break
        sizes = (await self._ask(channel, AskObjects(group.name, tuple(chosen)))).get("bytes")
        if not isinstance(sizes, list) or len(sizes) != len(chosen):
            raise Garbled(f"{self._node}: sent sizes that are none")
        came: list[tuple[str, int, bytes]] = []
        for item, ((sha256, offset), size) in enumerate(zip(chosen, sizes, strict=True)):
            if type(size) is not int or not 0 <= size <= pull.missing[sha256] - offset:
                raise Garbled(f"{self._node}: sent a size that is none")
            piece = bytearray()
            while len(piece) < size:
                piece += await channel.catch(item)
            if len(piece) > size:
                raise Garbled(f"{self._node}: sent more of a content than it said")
            came.append((sha256, offset, bytes(piece)))
        if not any(piece for _, _, piece in came) and expected:
            raise Refused(f"{self._node}: does not have what its version of {group.name} holds")
        done = await group.on_files(group.guarded(partial(_write_parts, group, pull, came)))
        for sha256 in done:
            del pull.missing[sha256]

    async def _adopt(self, group: CarriedGroup, version: Version) -> None:
        """All of it is here: now it counts, and is put into place."""
        async with group.files_lock:
            if group.follow().node != self._node:
                return
            group.files.count(version)
            group.pull_trouble = ""
            await group.on_files(group.guarded(group.shelf.drop_parts))
            with contextlib.suppress(PortError):  # tried again by the look below, and said
                await group.mend(now=True)
            group.untidy = True
        group.changed()
        group.look_soon(set())


def _write(into: int, piece: bytes) -> None:
    view = memoryview(piece)
    while view:
        view = view[os.write(into, view) :]


def _read_version(body: bytes, group: CarriedGroup, current: Version | None) -> Version:
    raw = unpacked(body)
    most = group.carried.max_bytes
    if isinstance(raw, dict) and raw.get("change") is not None:
        if current is None:
            raise ValueError("a change of a version that is not here")
        return patched(current, raw, group.allowed, most)
    return load_version(raw, group.allowed, most)


def _begun(group: CarriedGroup, missing: dict[str, int]) -> list[tuple[str, int]]:
    """The next contents to ask for, and how much of each is here already."""
    found, left = [], BATCH_BYTES
    for sha256, size in missing.items():
        part = group.shelf.part(sha256)
        offset = part.stat().st_size if part.exists() else 0
        if offset > size:
            part.unlink()
            offset = 0
        found.append((sha256, offset))
        left -= size - offset
        if left <= 0 or len(found) == MOST_ITEMS:
            break
    return found


def _write_parts(group: CarriedGroup, pull: Pull, came: list[tuple[str, int, bytes]]) -> list[str]:
    """Those that are whole by now, and on the shelf."""
    done = []
    for sha256, offset, piece in came:
        part = group.shelf.part(sha256)
        if piece or not pull.missing[sha256]:
            with part.open("ab") as into:
                into.write(piece)
        if offset + len(piece) == pull.missing[sha256]:
            group.shelf.adopt(sha256, part)
            done.append(sha256)
    return done
