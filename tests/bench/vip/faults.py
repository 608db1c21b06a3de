# SPDX-License-Identifier: GPL-2.0-or-later
"""Cuts, repairs and planned moves that both meet, and what each of them did."""

from __future__ import annotations

import contextlib
import math
import os
import signal
from collections.abc import Callable, Iterable
from functools import partial

from tests.bench.vip.pair import (
    ADDRESSES,
    CALM_MS,
    PEER_VIP,
    PEER_VRID,
    VIP,
    VRID,
    Pair,
    Seen,
    sleep_until,
)
from tests.lab.netns import now_ms, processes_in
from tests.lab.world import Node

REPEAT_MS = 6000  # keepalived announces again 5 s after it took over: a cut outlasts that
PATIENCE_MS = 12_000  # so long a client is waited for that a heal left in the dark
PAUSED_MS = 10_000
HEALED_MS = 6000  # so long a client is waited for after a pause
BLACK_HOLE_MS = 1000  # an outage after a repair is one when it is longer


def power_cut(pair: Pair, phase: float) -> Seen:
    """Of the preferred node, which has both addresses; then it returns."""
    active, standby = pair.roles()
    with pair.watched(active, *ADDRESSES) as eyes:
        at_ms = pair.at_phase(active, VRID, phase, lights_out(pair.world.node(active)))
        pair.moved_to(standby, eyes, *ADDRESSES)
        outage = eyes.outages_ms(at_ms, pair.until(now_ms() + CALM_MS))
    back_ms = now_ms()
    pair.cluster.boot(active)
    pair.restart_peer(active)
    sleep_until(now_ms() + 4 * pair.advert_ms)  # its Active_Down_Timer, and more
    pair.settle()
    return {"outage": outage, "moves at its return": pair.moves(back_ms, now_ms())}


def lights_out(node: Node) -> Callable[[], object]:
    """Cables are cut one by one, and the first would be told of: all is stopped before."""
    pids = processes_in([node.namespace])

    def cut() -> None:
        tell(pids, signal.SIGSTOP)
        node.power_cut()

    return cut


def silent_cut(pair: Pair, phase: float) -> Seen:
    """The preferred node is cut off in silence on every path, then it is back."""
    active, other = pair.roles()
    every_ms = pair.advert_ms
    with pair.watched(active, *ADDRESSES) as eyes:
        cut_ms = pair.at_phase(active, VRID, phase, partial(mute, pair, active))
        pair.moved_to(other, eyes, *ADDRESSES)
        sleep_until(cut_ms + math.ceil(REPEAT_MS / every_ms + 4) * every_ms)
        heal_ms = now_ms()
        carried_ms = heal(pair, active)
        pair.calm(eyes, heal_ms + PATIENCE_MS)
        end_ms = pair.until(now_ms())
        cut, healed = eyes.outages_ms(cut_ms, heal_ms), eyes.outages_ms(heal_ms, end_ms)
    doubled = pair.doubled_ms(carried_ms, end_ms)
    pair.forget_neighbours()
    pair.settle()
    return {"outage": cut, "healed: outage": healed, "healed: two owners": doubled}


def paused(pair: Pair, phase: float) -> Seen:
    """The active node as a virtual machine that is suspended: it does nothing, and hears nothing.

    Its kernel goes on, which no namespace can be spared: lifetimes of addresses run out.
    """
    active, _ = pair.roles()
    pids = processes_in([pair.world.node(active).namespace])

    def suspend() -> None:
        tell(pids, signal.SIGSTOP)
        mute(pair, active)

    with pair.watched(active, *ADDRESSES) as eyes:
        at_ms = pair.at_phase(active, VRID, phase, suspend)
        sleep_until(at_ms + PAUSED_MS)
        heal(pair, active)
        thaw_ms = now_ms()
        tell(pids, signal.SIGCONT)
        pair.calm(eyes, thaw_ms + HEALED_MS)
        end_ms = pair.until(now_ms())
        outage = eyes.outages_ms(thaw_ms, end_ms)
    settled = pair.one_owner_after_ms(thaw_ms, end_ms)
    pair.forget_neighbours()
    pair.settle()
    ours, peers = (float(ms > BLACK_HOLE_MS) for ms in outage)
    return {"black holes": (ours, peers), "outage": outage, "one owner again within": settled}


def planned(pair: Pair, phase: float) -> Seen:
    """`standpipe switchover`; SIGTERM to `standpipe run`; then, by itself, to keepalived."""
    active, other = pair.roles()
    order = partial(pair.order, active, other)
    ordered = _handed_over(pair, (active, other), VIP, phase, order)
    pair.settle()
    stopped = _handed_over(pair, (other, active), VIP, phase, partial(pair.cluster.stop, other))
    pair.cluster.start(other)
    pair.settle()
    peers = _handed_over(pair, (active, other), PEER_VIP, phase, pair.peers[active].stop)
    pair.restart_peer(active)
    return {
        f"{how}: {what}": (ours[what], peers[what])
        for how, ours in (("order", ordered), ("SIGTERM", stopped))
        for what in ours
    }


def _handed_over(
    pair: Pair, nodes: tuple[str, str], address: str, phase: float, act: Callable[[], object]
) -> dict[str, float]:
    giver, taker = nodes
    mine = ADDRESSES.index(address)
    with pair.watched(giver, address) as eyes:
        at_ms = pair.at_phase(giver, (VRID, PEER_VRID)[mine], phase, act)
        pair.moved_to(taker, eyes, address)
        end_ms = pair.until(now_ms() + CALM_MS)
        outage, lost = eyes.outages_ms(at_ms, end_ms), eyes.lost(at_ms, end_ms)
    doubled = pair.doubled_ms(at_ms, end_ms)
    found = {"outage": outage, "two owners": doubled, "probes lost": lost}
    return {what: measured[mine] for what, measured in found.items()}


def mute(pair: Pair, node: str) -> None:
    for port in pair.world.node(node).ports.values():
        port.mute()


def heal(pair: Pair, node: str) -> float:
    """When the first cable carried again, in ms."""
    carried_ms = []
    for port in pair.world.node(node).ports.values():
        port.heal()
        carried_ms.append(now_ms())
    return carried_ms[0]


def tell(pids: Iterable[int], number: signal.Signals) -> None:
    """A signal to all of them, as far as they are there."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
