# SPDX-License-Identifier: GPL-2.0-or-later
"""The agent's process: everything but the addresses; it builds the loop, its watchers and doors.

It holds no capabilities, for it parses what comes from devices, name servers and services.
"""

import argparse
import asyncio
import contextlib
import gc
import os
import random
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.clock import now_ms
from agent.config import ConfigError
from agent.console import Console
from agent.core import announcing
from agent.core.engine import AgentCore
from agent.core.keeping import PacketRefused, WordGiven
from agent.core.kit import Kit
from agent.core.model import (
    Alarm,
    ConfigAccepted,
    ConfigRefused,
    KeeperLost,
    Reading,
    Sampled,
    SourceFailed,
    Word,
)
from agent.core.peer import agent_answer
from agent.core.role import ACTIVE, STARTING
from agent.core.settings import Settings
from agent.core.talk import dump_words, load_said
from agent.datagram import letters, notify, open_box, trusted
from agent.errands import Errands
from agent.eyes import Eyes
from agent.forging import Forging
from agent.ledger import Ledger
from agent.living import Tended
from agent.loop import Loop, error_word
from agent.places import AGENT_SOCKET, KEEPER_SOCKET, LIFELINE
from agent.ports import PortError, Service, Watch
from agent.prepare import read_settings
from agent.wiring import Wiring, peerlink
from agent.wiring_groups import Groups, deaths

if TYPE_CHECKING:  # what it needs is loaded where there is something to carry
    from agent.freight import Freight

WORD_EVERY_MS = 1_000  # at once where something changes
WORDS_A_HOLD = 4  # and so often within the shortest `hold`: one that is lost proves nothing
KEEPER_HUNG_MS = 1_400  # its report comes every 700 ms; its addresses outlive that by as much
PAUSED_MS = 200
HISTORY_SAMPLES = 2000  # of each resource
KEEP_SAMPLES_MS = 60_000
Worker = tuple[str, Callable[[], Awaitable[None]]]
RELOADED = 0  # the supervisor starts it again at once


class Agent:
    """One node's agent. `run` returns the exit code."""

    def __init__(self, options: argparse.Namespace, settings: Settings) -> None:
        self.options = options
        self.settings = settings
        self.run_dir: Path = options.run_dir
        self.wiring = Wiring(settings, options.run_dir, options.state_dir)
        self.groups = Groups(settings, options.state_dir, self.wiring.snmp)
        self.ledger = Ledger(self.wiring.store(), list(settings.nms))
        epochs, trouble = self._epochs()
        self.core = AgentCore(
            settings, epochs, now_ms(), self._history(), self._standing(), proofs=True
        )
        for role in self.core.roles.values():
            if trouble:
                role.threats["epochs"] = trouble
        self.tended = {
            (group.name, service.name): Tended(self.wiring.service(service))
            for group in settings.own_groups()
            for service in group.services
        }
        services: dict[tuple[str, str], Service] = dict(self.tended)
        for group in settings.own_groups():
            if group.announce_command:
                told = announcing.command(group, settings.node)
                services[group.name, told.name] = self.wiring.service(told)
        names = {name: self.wiring.names(geo) for name, geo in settings.geos.items()}
        errands = self.groups.errands(services, self._resources)
        self.loop = Loop(self.core, self.ledger, services, names, self.tell_keeper, errands)
        self.ledger.trouble = self.loop.feed
        self.freight = self._freight(errands)
        self._stands: dict[str, tuple[str, int]] = {}
        self._keeper_pid = 0
        self._keeper_ms = 0
        self._keeper_lost = False
        self._local = open_box(self.run_dir / AGENT_SOCKET)
        self._stop = asyncio.Event()
        self._failed = False
        self.forging = Forging(options, settings.digest, self._mind_gaps)

    def _freight(self, errands: Errands) -> "Freight | None":
        """Where there is somebody to carry to."""
        if len(self.settings.nodes) < 2 or not self.settings.node:
            return None
        from agent.freight import Freight
        from agent.wiring_groups import command

        options = self.options
        freight = Freight(
            self.settings,
            options.config,
            options.state_dir,
            self.loop.feed,
            self._serves,
            lambda group: self.core.roles[group].epoch,
            command,
        )
        errands.carrier = freight.carrying
        return freight

    def _serves(self, group: str) -> bool:
        """What lies on this node is the group's: nothing may be put in its place."""
        role = self.core.roles[group]
        return role.state == ACTIVE or (role.state == STARTING and role.way.state != "placing")

    # ------------------------------------------------------------ what an earlier life left

    def _epochs(self) -> tuple[dict[str, int], str]:
        """What the store holds; or nothing, and why this node must then not own anything."""
        try:
            return self.ledger.store.epochs(), ""
        except PortError as error:
            print(f"standpipe agent: {error}", file=sys.stderr, flush=True)
            return {}, str(error)

    def _standing(self) -> list[Alarm]:
        """Alarms that an earlier life raised and nobody has cleared, on this boot's clock."""
        began_s = time.time_ns() / 1e9 - now_ms() / 1000
        try:
            told = self.ledger.store.alarms()
        except PortError:
            return []  # the store says so itself when it is written
        return [replace(alarm, raised_ms=int((wall_s - began_s) * 1000)) for alarm, wall_s in told]

    def _history(self) -> dict[str, list[tuple[int, Reading]]]:
        store, began_s = self.ledger.store, time.time_ns() / 1e9 - now_ms() / 1000
        try:
            return {
                name: [
                    (int((wall_s - began_s) * 1000), Reading(name, value, "", limit))
                    for wall_s, value, limit in store.samples(name, HISTORY_SAMPLES)
                ]
                for name in store.resources()
            }
        except PortError:
            return {}  # the store says so itself when it is written

    # ------------------------------------------------------------ the keeper

    def tell_keeper(self, words: dict[str, Word]) -> None:
        """At once, and again with each beat."""
        with contextlib.suppress(OSError):  # it is away, or its queue is full: the next beat tells
            given = WordGiven(words, self.core.words_ms)
            self._local.sendto(dump_words(given), str(self.run_dir / KEEPER_SOCKET))

    def _hear_keeper(self) -> None:
        for data, pid, uid in letters(self._local):
            if not trusted(uid):
                continue
            self._keeper_pid, self._keeper_ms = pid, now_ms()
            self._keeper_lost = False
            said = load_said(data)
            self.loop.feed(said)
            self._poke_freight()
            if said.counters.get("kit-stale"):
                self.forging.renew(self._keeper_pid)

    def _poke_freight(self) -> None:
        """Who serves what, and under which epoch, decides who carries to whom."""
        if self.freight is None:
            return
        for name, role in self.core.roles.items():
            stands = (role.state, role.epoch)
            if self._stands.get(name) != stands:
                self._stands[name] = stands
                self.freight.poke(name)

    async def _beat(self) -> None:
        """Our own word, and an eye on the keeper's: hung is worse than dead, so it is killed."""
        holds = [group.hold_ms for group in self.settings.own_groups()]
        every_ms = min([WORD_EVERY_MS, *(hold_ms // WORDS_A_HOLD for hold_ms in holds)])
        word_ms = due_ms = now_ms()
        while True:
            now = now_ms()
            if now >= word_ms:
                self.tell_keeper(self.loop.words)
                notify("WATCHDOG=1")
                word_ms = now + every_ms
            if self._keeper_ms and now - due_ms > PAUSED_MS:
                self._keeper_ms = now  # we were paused ourselves: its silence proves nothing
            self._watch_keeper(now)
            due_ms = word_ms
            if self._keeper_ms and not self._keeper_lost:
                due_ms = min(due_ms, self._keeper_ms + self._patience_ms() + 1)
            await asyncio.sleep(max(0, due_ms - now_ms()) / 1000)

    def _patience_ms(self) -> int:
        """How long the keeper may be silent. It reports each renewal of a lease, and a new keeper
        must be there before that ends."""
        leases = [
            role.settings.lease_ms
            for role in self.core.roles.values()
            if role.lease == "held" and role.lease_until_ms
        ]
        return min([KEEPER_HUNG_MS, *(lease_ms * 3 // 8 for lease_ms in leases)])

    def _watch_keeper(self, now: int) -> None:
        quiet_ms = now - self._keeper_ms
        if not self._keeper_ms or self._keeper_lost or quiet_ms <= self._patience_ms():
            return
        self._keeper_lost = True
        self.loop.feed(KeeperLost(f"nothing heard from it for {quiet_ms} ms: killed"))
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(self._keeper_pid, signal.SIGKILL)

    def _answer_peers(self, kit: Kit) -> Callable[[], None]:
        """A peer that misses our keeper asks us: the node is here."""
        link = peerlink(kit, "agent", random.getrandbits(63) | 1)

        def answer() -> None:
            for heard in link.receive():
                if isinstance(heard, PacketRefused):
                    self.loop.feed(heard)
                elif heard.kind == "ask":
                    link.send(heard.node, "answer", agent_answer(heard.body, self._keeper_lost))

        running = asyncio.get_running_loop()
        for fileno in link.filenos():
            running.add_reader(fileno, answer)
        return link.close

    # ------------------------------------------------------------ watchers

    async def _watch(self, source: str, watch: Watch) -> None:
        """Read it for ever, jittered, so that a hundred devices are not asked at one moment."""
        await asyncio.sleep(random.random() * min(1.0, watch.every_ms / 1000))
        kept_ms = 0
        while True:
            began_ms = now_ms()
            try:
                readings = await watch.read()
            except PortError as error:
                self.loop.feed(SourceFailed(source, error_word(error), str(error)))
            else:
                self.loop.feed(Sampled(source, tuple(readings)))
                if source == "host" and began_ms - kept_ms >= KEEP_SAMPLES_MS:
                    kept_ms = began_ms
                    limited = [reading for reading in readings if reading.limit is not None]
                    await self.ledger.keep_samples(limited, time.time_ns() / 1e9)
            await asyncio.sleep(max(0.05, (began_ms + watch.every_ms - now_ms()) / 1000))

    def _resources(self) -> dict[str, str]:
        """How everything stood, for a page to people."""
        now = now_ms()
        return {name: watch.judge(now).text for name, watch in self.core.resources.items()}

    def _undelivered(self, nms: str, why: str) -> None:
        if why:
            self.loop.feed(SourceFailed(f"nms:{nms}", "unreachable", why))
        else:
            self.loop.feed(Sampled(f"nms:{nms}", ()))

    def _workers(self) -> list[Worker]:
        found: list[Worker] = [
            ("beat", self._beat),
            ("store", self.ledger.retry),
        ]
        for source, watch in self.wiring.watches():
            found.append((source, partial(self._watch, source, watch)))
        eyes = Eyes(self.loop, self.wiring, self.groups, self.tended)
        found += eyes.workers(deaths(), self.freight)
        if self.freight is not None:
            found += self.freight.workers()
        for name, nms in self.settings.nms.items():
            trapper = self.wiring.trapper(nms)
            undelivered = partial(self._undelivered, name)
            worker = partial(self.ledger.deliver, trapper, undelivered)
            found.append((f"nms:{name}", worker))
        return found

    # ------------------------------------------------------------ configuration

    def reload(self) -> None:
        """SIGHUP: look at the file; what is wrong with it changes nothing."""
        if not self.options.watch_only:
            self.forging.reload(self._reloaded)

    def _reloaded(self, event: ConfigAccepted | ConfigRefused) -> None:
        self.loop.feed(event)
        if isinstance(event, ConfigRefused) or event.digest == self.settings.digest:
            return
        if self._keeper_pid:
            os.kill(self._keeper_pid, signal.SIGUSR1)  # it keeps what it has and reads the new kit
        self._stop.set()

    def _mind_gaps(self, kit: Kit) -> None:
        """A group whose interfaces were not all there at forging cannot be kept here."""
        for name, group in kit.groups.items():
            threats = self.core.roles[name].threats
            if group.missing:
                threats["kit"] = "; ".join(group.missing)
            else:
                threats.pop("kit", None)

    # ------------------------------------------------------------ life

    async def run(self, problems: tuple[str, ...]) -> int:
        """Until told to stop, or until the loop itself fails: then the process ends with 1."""
        running = asyncio.get_running_loop()
        running.set_exception_handler(self._fail)
        running.add_signal_handler(signal.SIGHUP, self.reload)
        for number in (signal.SIGTERM, signal.SIGINT):
            running.add_signal_handler(number, self._stop.set)
        lifeline = os.environ.get(LIFELINE, "")
        if lifeline.isdigit():
            running.add_reader(int(lifeline), self._stop.set)
        kit = await self.forging.kit()
        self._mind_gaps(kit)
        work = asyncio.ensure_future(self.loop.run(self._workers()))
        await asyncio.sleep(0)  # from here on the loop takes events
        if problems:
            self.loop.feed(ConfigRefused(problems))
        running.add_reader(self._local.fileno(), self._hear_keeper)
        console = Console(self.loop, self.run_dir, self.reload)
        await console.open()
        closers = [console.close]
        if kit.peers:
            closers.append(self._answer_peers(kit))
        gc.collect()
        gc.freeze()
        notify("READY=1")
        stopping = asyncio.ensure_future(self._stop.wait())
        await asyncio.wait({work, stopping}, return_when=asyncio.FIRST_COMPLETED)
        failed = self._failed or work.done()
        work.cancel()
        stopping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work
        for close in closers:
            close()
        if self.freight is not None:
            self.freight.close()
        self.ledger.close()
        return 1 if failed else RELOADED

    def _fail(self, running: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Something in the loop itself broke: end, and be started again from what is stored."""
        running.default_exception_handler(context)
        self._failed = True
        self._stop.set()


def main(options: argparse.Namespace) -> int:
    """`standpipe agent`."""
    try:
        settings, problems = read_settings(options)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 1

    async def live() -> int:
        return await Agent(options, settings).run(problems)

    try:
        return asyncio.run(live())
    except (PortError, OSError, ValueError) as error:
        print(f"standpipe agent: {error}", file=sys.stderr)
        return 1
