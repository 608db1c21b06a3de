# SPDX-License-Identifier: GPL-2.0-or-later
"""The keeper's process: owns the addresses, small, quick to start, no disk and no DNS on its path.

Standard library and the pure core only. One thread, one selector: whatever is readable is taken in
before any timer is looked at, so that a pause of our own never looks like a peer's death.
"""

import argparse
import contextlib
import gc
import os
import selectors
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from agent.clock import now_ms
from agent.core.keeper import KeeperCore
from agent.core.keeping import (
    AddressSeen,
    Announce,
    AskNeighbour,
    Finish,
    KeeperAction,
    KeeperEvent,
    LinkSeen,
    PacketRefused,
    RefreshAddresses,
    ReleaseAddresses,
    Remember,
    Report,
    SendAdvert,
    SendPeer,
    Sense,
    StopServices,
    TakeAddresses,
    Told,
    TrafficSeen,
    Woken,
)
from agent.core.kit import Kit, load
from agent.core.talk import dump_said, load_words
from agent.datagram import letters, notify, open_box, trusted
from agent.notebook import Notebook, boot_id
from agent.places import AGENT_SOCKET, KEEPER_SOCKET, KIT, LIFELINE, NOTEBOOK
from agent.ports import PortError
from agent.wiring import Hands, keeper_hands

AGENT_HUNG_MS = 5_000  # an agent that spoke and then says nothing for so long is killed
REAL_TIME_PRIORITY = 50
ANNOUNCED_AT_ONCE = 100  # addresses; then timers and packets are looked at before the next ones


class Keeper:
    """Feeds the core and carries out what it says."""

    def __init__(self, kit: Kit, hands: Hands, run_dir: Path) -> None:
        self._notebook = Notebook(run_dir / NOTEBOOK, boot_id())
        self._stops = {name: group.stops for name, group in kit.groups.items()}
        kit.keeping.memory = self._notebook.read()
        routers = [router for group in kit.groups.values() for router in group.routers]
        sources = tuple(sorted({router.source for router in routers}))
        self.core = KeeperCore(kit.keeping, now_ms(), sources)
        self.hands = hands
        self.run_dir = run_dir
        self.finished = False
        self._agent = str(run_dir / AGENT_SOCKET)
        self._agent_pid = 0
        self._word_ms = 0
        self._local = open_box(run_dir / KEEPER_SOCKET)
        self._told: list[str] = []
        self._announcing: dict[str, int] = {}  # group -> the address that is to be announced next
        self._wake, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_write)
        signal.signal(signal.SIGTERM, lambda *_: self._told.append("stop"))
        signal.signal(signal.SIGINT, lambda *_: self._told.append("stop"))
        signal.signal(signal.SIGUSR1, lambda *_: self._told.append("restart"))
        self._selector = selectors.DefaultSelector()
        for fileno in (*hands.filenos(), self._local.fileno(), self._wake):
            self._selector.register(fileno, selectors.EVENT_READ)
        lifeline = os.environ.get(LIFELINE, "")
        self._lifeline = int(lifeline) if lifeline.isdigit() else -1
        if self._lifeline >= 0:
            self._selector.register(self._lifeline, selectors.EVENT_READ)

    def run(self) -> None:
        """Until everything is handed over or let go."""
        for event in self._starting():
            self.feed(event)
        gc.collect()
        gc.freeze()
        notify("READY=1")
        while not self.finished:
            wait_ms = 0 if self._announcing else self.core.deadline() - now_ms()
            ready = self._selector.select(max(0, wait_ms) / 1000)
            if ready:
                self._drain({key.fd for key, _ in ready})
            now = now_ms()
            due = self.core.deadline()
            if now >= due:
                if now - due > AGENT_HUNG_MS // 5:
                    self._word_ms = now  # we were paused ourselves: its silence proves nothing
                self.feed(Woken(due))
                self._watch_agent(now)
                notify("WATCHDOG=1")
            if self._announcing:
                self._announce(*next(iter(self._announcing.items())))

    def feed(self, event: KeeperEvent) -> None:
        """One event in, its actions out."""
        for action in self.core.step(event, now_ms()):
            self._act(action)

    def _starting(self) -> Iterator[KeeperEvent]:
        """What is there already: links first, then addresses that a predecessor left."""
        seen = self.hands.addresses.receive()
        yield from (event for event in seen if isinstance(event, AddressSeen))
        yield from (event for event in seen if isinstance(event, LinkSeen))
        yield Woken(now_ms())

    def _drain(self, ready: set[int]) -> None:
        if self._wake in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(self._wake, 64)
        if self._lifeline in ready:
            self._selector.unregister(self._lifeline)
            self._lifeline = -1
            self._told.append("stop")
        while self._told:
            self.feed(Told(self._told.pop(0)))
        for event in self.hands.receive(ready):
            self.feed(event)
        if self._local.fileno() in ready:
            for event in self._words():
                self.feed(event)

    def _words(self) -> Iterator[KeeperEvent]:
        for data, pid, uid in letters(self._local):
            if not trusted(uid):
                yield PacketRefused(
                    "word-foreign", f"uid {uid}", "only our own agent may speak here"
                )
                continue
            try:
                given = load_words(data)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                yield PacketRefused("word-malformed", f"pid {pid}", str(error))
                continue
            self._agent_pid, self._word_ms = pid, now_ms()
            yield given

    def _watch_agent(self, now: int) -> None:
        if self._agent_pid and now - self._word_ms > AGENT_HUNG_MS:
            pid, self._agent_pid = self._agent_pid, 0
            say(f"the agent (pid {pid}) has said nothing for {now - self._word_ms} ms: killing it")
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)

    def _act(self, action: KeeperAction) -> None:
        hands = self.hands
        match action:
            case SendAdvert(group, priority):
                hands.vrrp.send(group, priority)
            case SendPeer(node, kind, body, agent_too):
                hands.peerlink.send(node, kind, body, agent_too)
            case RefreshAddresses(group, lifetime_s):
                self._check(group, hands.addresses.refresh(group, lifetime_s))
            case TakeAddresses(group, lifetime_s):
                self._check(group, hands.addresses.take(group, lifetime_s))
            case Announce(group):
                self._announce(group, 0)
            case ReleaseAddresses(group, keep_s):
                self._announcing.pop(group, None)
                self._check(group, hands.addresses.release(group, keep_s))
            case AskNeighbour() | Sense() | Remember() | StopServices():
                self._aside(action)
            case Report(said):
                said.counters.update(hands.counters())
                with contextlib.suppress(OSError):  # the agent is away: it will hear the next one
                    self._local.sendto(dump_said(said), self._agent)
            case Finish():
                self.finished = True

    def _aside(self, action: AskNeighbour | Sense | Remember | StopServices) -> None:
        match action:
            case Remember(memory):
                with contextlib.suppress(OSError):  # full: a successor is then quiet for a lease
                    self._notebook.write(memory)
            case StopServices(group):
                self._stop(group)
            case _:
                self._look(action)

    def _stop(self, group: str) -> None:
        """Nobody is waited for: the agent sees what came of it, where it lives."""
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        for words in self._stops.get(group, ()):
            say(f"group {group}: the lease is over: {' '.join(words)}")
            try:
                os.posix_spawnp(words[0], words, os.environ, setsid=True)
            except OSError as error:
                say(f"group {group}: {words[0]}: {error.strerror}; the agent must stop it")

    def _look(self, action: AskNeighbour | Sense) -> None:
        hands = self.hands
        if isinstance(action, AskNeighbour):
            hands.neighbour.ask(action.interface, action.address)
            return
        packets = hands.addresses.traffic(action.interface)  # before any answer can come
        asked = hands.neighbour.ask_witnesses(action.interface) if action.ask else 0
        self.feed(TrafficSeen(action.interface, packets, asked))

    def _announce(self, group: str, start: int) -> None:
        """A slice: nothing waits for the announcements of a thousand addresses."""
        following = self.hands.neighbour.announce(group, start, ANNOUNCED_AT_ONCE)
        if following:
            self._announcing[group] = following
        else:
            self._announcing.pop(group, None)

    def _check(self, group: str, result: tuple[bool, str]) -> None:
        ok, detail = result
        if not ok:
            say(f"group {group}: {detail}")
            self.feed(PacketRefused("address-refused", group, detail))

    def close(self) -> None:
        """After the last action."""
        self._local.close()
        self._notebook.close()
        self.hands.close()


def say(text: str) -> None:
    """To the supervisor's or the unit's log."""
    print(f"standpipe keeper: {text}", file=sys.stderr, flush=True)


def _hurry() -> None:
    """Real-time priority where it is permitted (sched(7)); children would not inherit it."""
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(
            0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(REAL_TIME_PRIORITY)
        )


def _await_kit(path: Path) -> Kit:
    while True:
        try:
            return load(path.read_bytes())
        except FileNotFoundError:
            time.sleep(0.05)  # the agent forges it; there is nothing to keep until then


def main(options: argparse.Namespace) -> int:
    """`standpipe keeper`."""
    run_dir: Path = options.run_dir
    _hurry()
    # CPython's own SHA-256 is as quick for packets of this size, and OpenSSL weighs 1.4 MB
    sys.modules["_hashlib"] = None  # type: ignore[assignment]
    try:
        kit = _await_kit(run_dir / KIT)
        for name, group in kit.groups.items():
            if group.missing:  # the agent says so, and has it forged again when that changes
                del kit.keeping.groups[name]
        kit.keeping.boot = int.from_bytes(os.urandom(8), "big") >> 1 | 1
        hands = keeper_hands(kit)
        for complaint in hands.addresses.prepare():
            say(complaint)
        keeper = Keeper(kit, hands, run_dir)
    except (PortError, ValueError, OSError) as error:
        say(str(error))
        return 1
    try:
        keeper.run()
    finally:
        keeper.close()
    return 0
