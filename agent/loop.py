# SPDX-License-Identifier: GPL-2.0-or-later
"""The agent's shell in four beats: feed the core, drain what it says, act, re-arm one timer.

Every action is written into the journal before it is carried out; its outcome comes back as the
next event. What a driver does runs in a task of its own inside `supervise`, so that one broken
device never stops the rest. If the loop itself fails, the process ends and its watchers act.
"""

import asyncio
import contextlib
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

from agent.clock import now_ms
from agent.core.engine import AgentCore
from agent.core.keeping import PacketRefused
from agent.core.model import AgentEvent, Outcome, SourceFailed, Ticked, Word
from agent.core.orders import (
    AgentAction,
    ControlService,
    KeepEpoch,
    LookNames,
    ObserveNames,
    Operation,
    Record,
    Reply,
    Tell,
    TellKeeper,
    UpdateNames,
    VerifyNames,
)
from agent.core.settings import GeoSettings
from agent.errands import Errand, Errands
from agent.ledger import Ledger
from agent.ports import Garbled, Names, PortError, Refused, Service, Unreachable

INTENT_WITHIN_S = 0.5  # a disk that hangs does not stop protection: the intent follows when it can


def error_word(error: PortError) -> str:
    """unreachable refused garbled."""
    return type(error).__name__.lower()


class Loop:
    """One node's agent at work. `services` by (group, service), `names` by geo."""

    def __init__(
        self,
        core: AgentCore,
        ledger: Ledger,
        services: dict[tuple[str, str], Service],
        names: dict[str, Names],
        tell_keeper: Callable[[dict[str, Word]], None],
        errands: Errands | None = None,
    ) -> None:
        self.core = core
        self.ledger = ledger
        self.words: dict[str, Word] = {}
        self._services = services
        self._names = names
        self._errands = errands or Errands(services)
        self._tell_keeper = tell_keeper
        self._replies: dict[int, asyncio.Queue[Reply]] = {}
        self._requests = 0
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: asyncio.TaskGroup | None = None

    # ------------------------------------------------------------ the four beats

    def feed(self, event: AgentEvent | PacketRefused) -> None:
        """One event in, its actions begun, the timer armed."""
        actions = self.core.step(event, now_ms())
        written = self.ledger.write([a for a in actions if isinstance(a, Record)], time.time_ns())
        for action in actions:
            self._act(action, written)
        self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        wait_s = max(0, self.core.deadline() - now_ms()) / 1000
        self._timer = asyncio.get_running_loop().call_later(wait_s, self._tick)

    def _tick(self) -> None:
        wall_s = time.time_ns() / 1e9
        here = time.localtime(wall_s)
        self.feed(Ticked(wall_s, here.tm_hour * 60 + here.tm_min))

    def _act(self, action: AgentAction, written: Awaitable[None]) -> None:
        match action:
            case Record():
                pass  # written already
            case TellKeeper(words):
                self.words = words
                self._tell_keeper(words)
            case Tell(alarm):
                self.ledger.tell(alarm, time.time_ns() / 1e9)
            case Reply(request_id):
                queue = self._replies.get(request_id)
                if queue is not None:
                    queue.put_nowait(action)
            case _:
                self._operate(action, written)

    # ------------------------------------------------------------ operations

    def _operate(self, action: Operation, written: Awaitable[None]) -> None:
        match action:
            case KeepEpoch(op_id, name, ceiling):
                self._begin(op_id, self.ledger.keep_epoch(name, ceiling))
            case ControlService(op_id, group, service, verb, within_ms):
                driver = self._services[group, service]
                self._begin(op_id, self._control(driver, verb, within_ms, written))
            case LookNames() | UpdateNames() | VerifyNames() | ObserveNames():
                self._begin(action.op_id, self._move_names(action, written))
            case _:
                self._begin(action.op_id, self._errand(action, written))

    def _begin(self, op_id: int, work: Awaitable[dict[str, Any]]) -> None:
        assert self._tasks is not None
        self._tasks.create_task(self._operation(op_id, work))

    async def _operation(self, op_id: int, work: Awaitable[dict[str, Any]]) -> None:
        """Ends as an Outcome, whatever happens: no reply is unknown, a clear no is a no."""
        try:
            facts = await work
        except Unreachable as error:
            self.feed(Outcome(op_id, None, str(error)))
        except (Refused, Garbled) as error:
            self.feed(Outcome(op_id, False, str(error)))
        else:
            self.feed(Outcome(op_id, True, str(facts.get("detail", "")), facts))

    async def _control(
        self, driver: Service, verb: str, within_ms: int, written: Awaitable[None]
    ) -> dict[str, Any]:
        await self._intent(written)
        if verb == "status":
            running = await driver.running()
            return {"running": running, "detail": f"running: {running}"}
        verbs = {
            "start": driver.start,
            "stop": driver.stop,
            "restart": driver.restart,
            "kill": driver.kill,
        }
        return {"detail": await verbs[verb](within_ms)}

    async def _errand(self, errand: Errand, written: Awaitable[None]) -> dict[str, Any]:
        await self._intent(written)
        return await self._errands.run(errand)

    async def _move_names(
        self,
        action: LookNames | UpdateNames | VerifyNames | ObserveNames,
        written: Awaitable[None],
    ) -> dict[str, Any]:
        names = self._names[action.geo]
        match action:
            case LookNames():
                return {"epoch": await names.epoch()}
            case UpdateNames(_, _, site, epoch):
                await self._intent(written)
                return await names.update(site, epoch)
            case VerifyNames(_, _, site):
                return await names.verify(site)
            case ObserveNames(_, geo):
                return await self._observe(names, self.core.settings.geos[geo])

    async def _observe(self, names: Names, geo: GeoSettings) -> dict[str, Any]:
        epoch = await names.epoch()
        for site in geo.sites:
            servers = (await names.verify(site))["servers"]
            if servers[geo.servers[0]]["ok"]:
                return {"epoch": epoch, "site": site, "servers": servers}
        return {"epoch": epoch, "site": "", "servers": {}}

    async def _intent(self, written: Awaitable[None]) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(INTENT_WITHIN_S):
                await written

    # ------------------------------------------------------------ operators

    def ask(self) -> tuple[int, "asyncio.Queue[Reply]"]:
        """A number for a request, and where its replies come."""
        self._requests += 1
        queue: asyncio.Queue[Reply] = asyncio.Queue()
        self._replies[self._requests] = queue
        return self._requests, queue

    def done(self, request_id: int) -> None:
        """Nobody waits for it any more."""
        self._replies.pop(request_id, None)

    # ------------------------------------------------------------ life

    async def run(self, workers: list[tuple[str, Callable[[], Awaitable[None]]]]) -> None:
        """Until cancelled, or until the loop itself fails."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            self._tick()
            for name, worker in workers:
                tasks.create_task(self.supervise(name, worker))

    async def supervise(self, name: str, worker: Callable[[], Awaitable[None]]) -> None:
        """Runs a driver's task, and again when it fails: one device never stops the rest."""
        wait_s = 1.0
        while True:
            began_ms = now_ms()
            try:
                await worker()
                return
            except PortError as error:
                self.feed(SourceFailed(name, error_word(error), str(error)))
            except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
                print(f"standpipe agent: {name}: {error!r}", file=sys.stderr, flush=True)
                self.feed(SourceFailed(name, "garbled", f"{name}: {error!r}"))
            wait_s = 1.0 if now_ms() - began_ms > 60_000 else min(30.0, wait_s * 2)
            await asyncio.sleep(wait_s)
