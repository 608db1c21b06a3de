# SPDX-License-Identifier: GPL-2.0-or-later
"""One group's settings, licences and status on this node: when they are read, when replaced.

Where the node serves the group, what lies here is the group's and becomes versions; elsewhere the
version of the node that is followed becomes what lies here. The two never at once: `active` is
asked before anything is placed, and again when all is staged.
"""

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from agent.carried_files import CarriedFiles
from agent.carried_status import CarriedStatus
from agent.carried_word import NOTHING, CarriedWord
from agent.carry_hands import Clock, Hands
from agent.core.manifest import declared
from agent.core.settings import CarriedSettings, GroupSettings
from agent.ports import Garbled, PortError, Refused, Unreachable
from agent.shelf import Shelf

T = TypeVar("T")

SETTLE_S = 0.03  # what is written in one go is looked at in one go
AGAIN_S = 0.1
TIDY_S = 0.5  # nobody waits for what is only written down
SCAN_S = 600.0
TROUBLE_SCAN_S = 10.0
STATUS_EVERY_S = 0.02
HEAL_AFTER_MS = 60_000  # what people wrote on a standby is left to them so long
APPLY_WITHIN_MS = 60_000
LOOKS = 8
SETTLE_STATUS_S = 1.0  # between two that are made durable


class CarriedGroup(CarriedWord):
    """heal_after_ms: how long what people wrote on a standby is left to them.

    untidy: something is to be written down, soon.
    """

    def __init__(
        self,
        settings: GroupSettings,
        node: str,
        state_dir: Path,
        hands: Hands,
        active: Callable[[], bool],
        epoch: Callable[[], int],
        clock: Clock,
        wake: Callable[[], None],
    ) -> None:
        self.nodes = settings.nodes
        self.carried: CarriedSettings = settings.carried or CarriedSettings()
        self.allowed = declared(self.carried)
        self.shelf = Shelf(state_dir, settings.name, self.allowed, hands.sync)
        super().__init__(
            settings.name,
            CarriedFiles(settings.name, node, self.allowed, self.shelf, hands),
            CarriedStatus(node, self.allowed, self.shelf, hands, self.carried.max_bytes),
            active,
            epoch,
            clock,
            wake,
        )
        self.files_lock = asyncio.Lock()
        self.status_lock = asyncio.Lock()
        self.heal_after_ms = HEAL_AFTER_MS
        self._hands = hands
        self.untidy = False
        self._edited_ms: int | None = None
        self._serving: tuple[bool, int] = (False, 0)
        self._followed = ""
        self._settling = asyncio.Lock()
        self._settle_task: asyncio.Future[None] | None = None
        self._pending: set[str] | None = None  # None: everywhere
        self._due = asyncio.Event()
        self._status_due = asyncio.Event()
        self._files_lane = ThreadPoolExecutor(1, f"carry-{settings.name}")
        self._status_lane = ThreadPoolExecutor(1, f"status-{settings.name}")

    # ------------------------------------------------------------ lanes

    async def on_files(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._files_lane, work)

    async def on_status(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._status_lane, work)

    def close(self) -> None:
        self._files_lane.shutdown(wait=False, cancel_futures=True)
        self._status_lane.shutdown(wait=False, cancel_futures=True)

    async def start(self) -> None:
        """What an earlier life left, ended or taken up again."""
        async with self.files_lock, self.status_lock:
            done = await self.on_files(self.guarded(self.files.start))
            self.remark = done
            await self.on_status(self.status.start)
        self._due.set()

    def guarded(self, work: Callable[[], T]) -> Callable[[], T]:
        """A disk that fails is Refused, which says who and what."""

        def guarded() -> T:
            try:
                return work()
            except OSError as error:
                raise Refused(
                    f"{self.name}: {error.filename or self.shelf.folder}:"
                    f" {error.strerror or error}; what was there before still counts"
                ) from error

        return guarded

    # ------------------------------------------------------------ settings

    def look_soon(self, folders: set[str] | None) -> None:
        """Something changed in these; None: look everywhere."""
        if folders is None or self._pending is None:
            self._pending = None
        else:
            self._pending |= folders
        self._due.set()

    def status_soon(self) -> None:
        self._status_due.set()

    async def mind_files(self, watch: Callable[[], list[str]]) -> None:
        """Looks when something changed, and now and then anyway.

        watch: blocking; brings the watches up to date and says which folders are new to them.
        """
        while True:
            wait_s = TROUBLE_SCAN_S if self.files.trouble or self.trouble else SCAN_S
            try:
                async with asyncio.timeout(TIDY_S if self.untidy else wait_s):
                    await self._due.wait()
            except TimeoutError:
                if self.untidy:
                    await self._tidy()
                    continue
                self._pending = None
            self._due.clear()
            await asyncio.sleep(SETTLE_S)
            pending, self._pending = self._pending, set()
            try:
                async with self.files_lock:
                    await self._look(pending, watch)
                    await self._settle()
            except PortError as error:
                self._set_trouble(str(error))
                if isinstance(error, Unreachable):
                    self._again(AGAIN_S)
            else:
                self._set_trouble("")
            if self.files.unsettled:
                self._again(AGAIN_S)

    def _again(self, wait_s: float) -> None:
        asyncio.get_running_loop().call_later(wait_s, self.look_soon, None)

    def _set_trouble(self, why: str) -> None:
        if why != self.trouble:
            self.trouble = why
            self.changed()

    async def _look(self, folders: set[str] | None, watch: Callable[[], list[str]]) -> None:
        await self.on_files(self.guarded(partial(self.files.look, folders)))
        for _ in range(LOOKS):  # what was made between looking and watching is looked at again
            fresh = await self.on_files(self.guarded(watch))
            if not fresh:
                break
            await self.on_files(self.guarded(partial(self.files.look, fresh)))

    async def _settle(self) -> None:
        """What lies here is published, or mended. With the files' lock held."""
        first, self.looked = not self.looked, True
        if self.active:
            publish = partial(
                self.files.publish, self.epoch, self.clock.wall_ms(), self.carried.max_bytes
            )
            before = self.files.trouble
            if await self.on_files(self.guarded(publish)) or self.files.trouble != before or first:
                self.changed()
            self.drift, self._edited_ms = NOTHING, None
            self.untidy = True
            return
        await self.mend()
        if first:
            self.changed()

    async def _tidy(self) -> None:
        """What was made or received is written down, and no more kept than is wanted."""
        self.untidy = False
        async with self.files_lock:
            try:
                await self.on_files(self.guarded(partial(self.files.tidy, self.carried.versions)))
            except PortError as error:
                self._set_trouble(str(error))

    async def mend(self, now: bool = False) -> None:
        """Makes what lies here what the followed node has. With the files' lock held.

        now: also what people wrote here, which otherwise is left to them for a while.
        Raises Refused, Unreachable.
        """
        self.drift = await self.on_files(self.guarded(self.files.drift))
        whom = self.follow().node
        current = self.files.current
        if not self.drift:
            self._edited_ms = None
        if not whom or current is None or current.digest != self.said[whom].version:
            return
        if self.drift.edited and not now:
            self._edited_ms = self._edited_ms or self.clock.now_ms()
            if self.clock.now_ms() - self._edited_ms < self.heal_after_ms:
                self.changed()
                return
        if self.drift:
            await self._place(whom)
        await self._apply(current.digest)

    async def _place(self, whom: str) -> None:
        when = datetime.fromtimestamp(self.clock.wall_ms() / 1000, UTC).strftime("%Y%m%dT%H%M%SZ")
        place = partial(self.files.place, lambda: self.active, when)
        try:
            aside = await self.on_files(self.guarded(place))
        except Garbled:
            self.files.current = None  # a content of it was damaged here: it is fetched again
            raise
        if aside:
            self.remark = (
                f"replaced by what {whom} has, and put aside here: {self.files.named(aside)}"
            )
        self.drift = await self.on_files(self.guarded(self.files.drift))
        self._edited_ms = None

    async def _apply(self, digest: str) -> None:
        """Tells the services here of other settings than they were told of last."""
        if not self.carried.apply or self.shelf.applied() == digest:
            return
        ok, words = await self._hands.command(self.carried.apply, APPLY_WITHIN_MS)
        if not ok:
            raise Refused(f"apply: {words}; the new settings are in place")
        await self.on_files(self.guarded(partial(self.shelf.set_applied, digest)))

    # ------------------------------------------------------------ status

    async def mind_status(self) -> None:
        """Reads the status when it changed, while this node serves the group."""
        while self.allowed.status:
            await self._status_due.wait()
            self._status_due.clear()
            if not self.active:
                continue
            try:
                async with self.status_lock:
                    changed = await self._take(self.epoch)
            except Unreachable:
                asyncio.get_running_loop().call_later(AGAIN_S / 2, self.status_soon)
            except Refused:
                changed = False  # it is not there yet, or it was overtaken: its age tells
            else:
                if changed:
                    self.changed()
                    await self.settle_status(False)
            await asyncio.sleep(STATUS_EVERY_S)

    async def _take(self, epoch: int) -> bool:
        take = partial(self.status.take, epoch, self.clock.now_ms(), self.clock.wall_ms())
        return await self.on_status(self.guarded(take))

    async def settle_status(self, now: bool) -> None:
        """What is held is on disk: at once, or within about a second and without waiting for it.

        Raises Refused.
        """
        if now:
            async with self._settling:
                await asyncio.to_thread(self.guarded(self.status.settle))
        elif not self._settling.locked() and (
            self._settle_task is None or self._settle_task.done()
        ):
            self._settle_task = asyncio.ensure_future(self._settle_later())

    async def _settle_later(self) -> None:
        settled = None
        while self.status.held is not settled:
            settled = self.status.held
            async with self._settling:
                with contextlib.suppress(Refused):  # a fresher one came, and is settled next
                    await asyncio.to_thread(self.guarded(self.status.settle))
            await asyncio.sleep(SETTLE_STATUS_S)

    async def ship(self, epoch: int) -> tuple[int, int] | None:
        """The status as it is now, on disk; its rank, None where nobody ever wrote one.

        Raises Refused, Unreachable.
        """
        if not self.allowed.status:
            return None
        async with self.status_lock:
            if self.status.held is None and not await self.on_status(self.status.written):
                return None
            for attempt in range(5):
                try:
                    await self._take(max(epoch, self.epoch))
                    break
                except Unreachable:
                    if attempt == 4:
                        raise
                    await asyncio.sleep(AGAIN_S / 2)
        self.changed()
        await self.settle_status(True)
        assert self.status.held is not None
        return self.status.held.rank

    async def place_status(self) -> dict[str, Any]:
        """Raises Refused."""
        if not self.allowed.status:
            return {"age_ms": None, "epoch": 0, "from": "", "detail": f"{self.name}: has no status"}
        async with self.status_lock:
            now_ms, wall_ms = self.clock.now_ms(), self.clock.wall_ms()
            place = partial(self.status.place, self.carried.status_max_age_ms, now_ms, wall_ms)
            return await self.on_status(self.guarded(place))

    # ------------------------------------------------------------ time

    def tick(self) -> None:
        """Once a second, and when the node's part may have changed."""
        serving = (self.active, self.epoch)
        if serving != self._serving:
            self._serving = serving
            self.remark = "" if serving[0] else self.remark
            self.look_soon(set())
            self.status_soon()
            self.changed()
        if self.follow().node != self._followed:
            self._followed = self.follow().node
            self.look_soon(set())
        if self.active and self.allowed.status:
            held = self.status.held
            if held is None:
                self.status_soon()  # until the service writes its first
            elif self.status.vouched_ms is not None:
                self.status.vouch(held.rank, self.clock.now_ms(), self.clock.wall_ms())
        since_ms = self.clock.now_ms() - (self._edited_ms or self.clock.now_ms())
        if self._edited_ms is not None and since_ms >= self.heal_after_ms:
            self.look_soon(set())
