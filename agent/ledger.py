# SPDX-License-Identifier: GPL-2.0-or-later
"""The store from the loop's side: one worker thread, in order, and what to do when it fails.

Journal lines, alarms and traps that the store would not take stay in memory, bounded, and go in
when it can be written again. Protection does not wait for a disk.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from agent.core.model import Alarm, Reading, StoreFailed, StoreMended
from agent.core.orders import Record
from agent.ports import PortError, Store, Trapper

Result = TypeVar("Result")

HELD_RECORDS = 10_000
RETRY_S = 5.0
UNDELIVERED_S = 5.0


class Ledger:
    """Everything that is kept. `trouble` is called on the edges of failing and mending."""

    def __init__(self, store: Store, nms: list[str]) -> None:
        self.store = store
        self.trouble: Callable[[StoreFailed | StoreMended], None] = lambda _: None
        self._nms = nms
        self._thread = ThreadPoolExecutor(1, "store")
        self._held: deque[dict[str, Any]] = deque(maxlen=HELD_RECORDS)
        self._alarms: deque[Callable[[], object]] = deque(maxlen=HELD_RECORDS)
        self._failed = ""
        self._failing = asyncio.Event()
        self._mended = ""
        self._spooled = {name: asyncio.Event() for name in nms}
        self._flushing: asyncio.Future[None] | None = None

    def run(self, work: Callable[[], Result]) -> "asyncio.Future[Result]":
        """In the store's thread, after all that was asked before."""
        return asyncio.get_running_loop().run_in_executor(self._thread, work)

    # ------------------------------------------------------------ journal and alarms

    def write(self, records: list[Record], wall_ns: int) -> Awaitable[None]:
        """Into the journal; the awaitable ends when they are on disk (or held because it fails)."""
        self._held.extend(
            {
                "wall_s": wall_ns / 1e9,
                "kind": record.kind,
                "subject": record.subject,
                "text": record.text,
                "detail": record.detail,
            }
            for record in records
        )
        return self._flushing if self._flushing and not records else self._flush()

    def tell(self, alarm: Alarm, wall_s: float) -> None:
        """Keep the alarm, and spool its trap for every NMS."""
        self._alarms.append(partial(self.store.keep_alarm, alarm, wall_s))
        self._alarms.extend(partial(self.store.spool, nms, alarm, wall_s) for nms in self._nms)
        self._flush()

    def _flush(self) -> Awaitable[None]:
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.ensure_future(self._write_all())
        return asyncio.shield(self._flushing)

    async def _write_all(self) -> None:
        while self._held or self._alarms:
            records, alarms = list(self._held), list(self._alarms)
            told = bool(alarms)
            self._held.clear()
            self._alarms.clear()
            try:
                await self.run(partial(self._put, records, alarms))
            except PortError as error:  # what was written was taken out of the two lists
                self._held.extendleft(reversed(records))
                self._alarms.extendleft(reversed(alarms))
                self._fail(str(error))
                return
            if told:
                for event in self._spooled.values():
                    event.set()
            self._mend()

    def _put(self, records: list[dict[str, Any]], alarms: list[Callable[[], object]]) -> None:
        """In the store's thread. Takes out of the lists what is written."""
        if records:
            self.store.append(records)
            records.clear()
        while alarms:
            alarms[0]()
            del alarms[0]

    def _fail(self, detail: str) -> None:
        if not self._failed:
            self._failed = detail
            self._failing.set()
            self.trouble(StoreFailed(detail))

    def _mend(self) -> None:
        """It was written: say what was put aside for that, and that it works."""
        if self.store.mended != self._mended:
            self._mended = self.store.mended
            self._fail(self._mended)
        if self._failed:
            self._failed = ""
            self._failing.clear()
            self.trouble(StoreMended())

    async def retry(self) -> None:
        """What the store would not take goes in when it can be written again."""
        while True:
            await self._failing.wait()
            await asyncio.sleep(RETRY_S)
            await self._flush()

    # ------------------------------------------------------------ samples

    async def keep_samples(self, readings: Sequence[Reading], wall_s: float) -> None:
        """History for forecasts; where the store does not take it, it is just missing."""
        with contextlib.suppress(PortError):
            await self.run(partial(self.store.keep_samples, readings, wall_s))

    # ------------------------------------------------------------ epochs

    async def keep_epoch(self, name: str, ceiling: int) -> dict[str, Any]:
        """Returns when it is on disk. Raises Unreachable."""
        await self.run(lambda: self.store.keep_epoch(name, ceiling))
        return {"detail": f"{name} {ceiling} is on disk"}

    # ------------------------------------------------------------ traps

    async def deliver(self, trapper: Trapper, undelivered: Callable[[str], None]) -> None:
        """Send this NMS what is spooled for it, oldest first; what it does not take stays."""
        news = self._spooled[trapper.name]
        news.set()
        while True:
            await news.wait()
            news.clear()
            for spool_id, alarm, wall_s in await self.run(lambda: self.store.spooled(trapper.name)):
                await self._insist(trapper, alarm, wall_s, undelivered)
                await self.run(partial(self.store.unspool, spool_id))

    async def _insist(
        self, trapper: Trapper, alarm: Alarm, wall_s: float, undelivered: Callable[[str], None]
    ) -> None:
        while True:
            try:
                await trapper.send(alarm, wall_s)
            except PortError as error:
                undelivered(str(error))
            else:
                undelivered("")
                return
            await asyncio.sleep(UNDELIVERED_S)

    def close(self) -> None:
        """Ends the thread and the store."""
        self._thread.submit(self.store.close)
        self._thread.shutdown(wait=True)
