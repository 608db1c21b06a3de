# SPDX-License-Identifier: GPL-2.0-or-later
"""A pair of SIP servers under load, an event that befalls one of them, and what callers felt.

with SipScene(HOT, rate=20.0) as scene:
    felt = scene.through(HUNG)
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from types import TracebackType
from typing import Self

from tests.lab.measure import AddressWatch, Prober
from tests.lab.netns import LabError, now_ms, processes_in, wait_until
from tests.lab.sip_calls import RING_MS, TALK_MS, Call, Tally, longest_gap_ms, stall_ms, tally
from tests.lab.sip_load import Load, SipWatch, sip_plan
from tests.lab.sip_servers import CARRIER_PORT, B2bua, Kamailio, SipServer
from tests.lab.sip_sides import GROUP, NODES, VIP, VRID, Keepaliveds, Side, SipGroup, Standpipe
from tests.lab.world import Node, World

HOT, REALTIME, KEEPALIVED = "hot", "realtime", "keepalived"
MEDIA_MS = 20.0  # from one packet of speech to the next
LATE_MS = 250.0  # speech that is later is not played
HANG_UP_S = 10.0  # so long is waited for the last calls to end


@dataclass(frozen=True)
class Felt:
    """Of one event, from its moment to the next one's. taken_ms: None where nobody took it."""

    tally: Tally
    taken_ms: float | None  # until the other node had the address
    doubled_ms: float
    media_gap_ms: float
    options_gap_ms: float
    stall_ms: float  # the measuring machine's own


@dataclass(frozen=True)
class Outcome:
    """ghosts: calls of the whole run that are answered at the carrier, and nobody ended them."""

    fault: Felt
    repair: Felt
    ghosts: int
    calls: list[Call]


def _nothing(scene: SipScene) -> None:
    pass


@dataclass(frozen=True)
class Event:
    """What befalls the active node, and what is done about it after a while, once `until` is so."""

    name: str
    fault: Callable[[SipScene], None]
    repair: Callable[[SipScene], None]
    after_s: float = 8.0
    until: Callable[[SipScene], None] = _nothing


class SipScene:
    """Servers, whoever keeps their address, and everything that measures; no calls yet."""

    def __init__(
        self,
        kind: str,
        rate: float,
        *,
        talk_ms: float = TALK_MS,
        advert_s: float = 1.0,
        b2bua: bool = False,
    ) -> None:
        """kind: HOT or REALTIME for Standpipe, KEEPALIVED; advert_s: keepalived's.

        b2bua: with keepalived, for a comparison; REALTIME always has it.
        """
        self._stack = contextlib.ExitStack()
        self.world = self._stack.enter_context(World.build(sip_plan()))
        try:
            self._build(kind, advert_s, b2bua or kind == REALTIME)
            self.load = Load(self.world, VIP, rate, talk_ms, follow=b2bua or kind == REALTIME)
        except BaseException:
            self.close()
            raise

    def _build(self, kind: str, advert_s: float, b2bua: bool) -> None:
        world, make = self.world, B2bua if b2bua else Kamailio
        carrier = f"{world.host('carrier').address}:{CARRIER_PORT}"
        for name in NODES:
            world.fabric.configure(name, {"ipv4/ip_nonlocal_bind": 1})
        self.servers: dict[str, SipServer] = {
            node.name: make(node, VIP, carrier) for node in world.nodes
        }
        self.side: Side
        if kind == KEEPALIVED:
            self.side = Keepaliveds(world, self.servers, advert_s)
        else:
            group = SipGroup(GROUP, NODES, f"{VIP}/24", vrid=VRID, standby=kind)
            self.side = Standpipe(world, self.servers, group)
        self.owned = AddressWatch(world)
        self.side.boot()
        self.side.settle()
        self.watch = SipWatch(world, VIP)
        self.media = Prober(world, VIP, interval_ms=MEDIA_MS, late_ms=LATE_MS)
        self.active, self.standby = self._roles()
        self.frozen: set[int] = set()

    def _roles(self) -> tuple[str, str]:
        owners = self.owned.owners(VIP)
        if len(owners) != 1:
            raise LabError(f"{VIP} is held by {owners}\n{self.side.report()}")
        active = owners.pop()
        return active, next(name for name in NODES if name != active)

    def node(self) -> Node:
        return self.world.node(self.active)

    def server(self) -> SipServer:
        """The active node's."""
        return self.servers[self.active]

    def through(self, event: Event, after_s: float = 0.0) -> Outcome:
        """The event once as many calls stand as ever do, its repair `after_s` later (by default
        the event's own), and so long again until the last call begins.
        """
        self.load.start()
        after_s = after_s or event.after_s
        enough = int(self.load.rate * (self.load.talk_ms + 2 * RING_MS) / 1000)
        wait_until(lambda: self.watch.answered() >= enough, f"{enough} calls are answered", 30.0)
        moments = []
        for before, act in ((_nothing, event.fault), (event.until, event.repair)):
            before(self)
            moments.append(now_ms())
            act(self)
            _sleep_until(moments[-1] + after_s * 1000)
        moments.append(now_ms())
        self.load.hush()
        self.load.wait(HANG_UP_S)
        self.side.ordered()
        calls, asked, answered = self.watch.record(self.load.talk_ms)
        felt = [
            self._felt(calls, asked, answered, since_ms, until_ms)
            for since_ms, until_ms in pairwise(moments)
        ]
        return Outcome(felt[0], felt[1], sum(call.ghost for call in calls), calls)

    def _felt(
        self,
        calls: list[Call],
        asked: list[float],
        answered: list[float | None],
        at_ms: float,
        end_ms: float,
    ) -> Felt:
        owned, media = self.owned.record(), self.media.record()
        gained = [
            edge.at_ms - at_ms
            for edge in owned.edges
            if edge.address == VIP and edge.gained and at_ms <= edge.at_ms < end_ms
        ]
        heard = [None if node is None else 0.0 for node in media.by]
        stalls = [
            media.stall_ms(at_ms, end_ms) - MEDIA_MS,
            stall_ms(calls, self.load.every_ms, at_ms, end_ms),
        ]
        return Felt(
            tally(calls, at_ms, end_ms),
            gained[0] if gained else None,
            owned.doubled_ms(VIP, at_ms, end_ms),
            longest_gap_ms(media.sent_ms, heard, at_ms, end_ms),
            longest_gap_ms(asked, answered, at_ms, end_ms),
            max(stalls),
        )

    def close(self) -> None:
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


# ------------------------------------------------------------ what befalls


def _switch(scene: SipScene) -> None:
    scene.side.order(scene.active, scene.standby)


def _switched(scene: SipScene) -> None:
    """It went well, and could be undone."""
    scene.side.ordered()
    scene.side.fit(scene.active)


def _switch_back(scene: SipScene) -> None:
    scene.side.order(scene.standby, scene.active)


def _kill(scene: SipScene) -> None:
    """Every process of the server at once, as out of memory does."""
    scene.server().signal(scene.server().pids(), signal.SIGKILL)


def _start_again(scene: SipScene) -> None:
    scene.server().tell("start")


def _hang(scene: SipScene) -> None:
    scene.frozen = scene.server().pids()
    scene.server().signal(scene.frozen, signal.SIGSTOP)


def _wake(scene: SipScene) -> None:
    scene.server().signal(scene.frozen & scene.server().pids(), signal.SIGCONT)


def _cut_power(scene: SipScene) -> None:
    """All stops before the first cable goes: nobody has a last word over another one."""
    _tell(processes_in([scene.node().namespace]), signal.SIGSTOP)
    scene.node().power_cut()


def _boot(scene: SipScene) -> None:
    scene.side.boot(scene.active)


def _freeze(scene: SipScene) -> None:
    """As a virtual machine that is suspended: it does nothing, and hears nothing."""
    scene.frozen = processes_in([scene.node().namespace])
    _tell(scene.frozen, signal.SIGSTOP)
    for port in scene.node().ports.values():
        port.mute()


def _thaw(scene: SipScene) -> None:
    for port in scene.node().ports.values():
        port.heal()
    _tell(scene.frozen, signal.SIGCONT)


def _tell(pids: set[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _sleep_until(at_ms: float) -> None:
    time.sleep(max(0.0, at_ms - now_ms()) / 1000)


STEADY = Event("steady", _nothing, _nothing, 5.0)
PLANNED = Event("planned switch", _switch, _switch_back, until=_switched)
KILLED = Event("service killed", _kill, _start_again)
HUNG = Event("service hung", _hang, _wake, 10.0)
POWER = Event("power cut", _cut_power, _boot)
FROZEN = Event("node frozen", _freeze, _thaw, 10.0)
EVENTS = (STEADY, PLANNED, KILLED, HUNG, POWER, FROZEN)
