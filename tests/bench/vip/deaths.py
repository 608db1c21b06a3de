# SPDX-License-Identifier: GPL-2.0-or-later
"""Processes that are killed, hung or frozen while host and service live, and what that did."""

from __future__ import annotations

import os
import signal
import time
from functools import partial
from pathlib import Path

from tests.bench.vip.faults import tell
from tests.bench.vip.pair import ADDRESSES, NODES, VIP, VRID, Both, Pair, Seen, both, sleep_until
from tests.lab.measure import WireWatch
from tests.lab.netns import LabError, now_ms

STAYS_MS = 3000  # how long nothing may move after a process was killed, or goes on
GROWN_S = 10.5  # a process that lived so long is started again without waiting
FROZEN_MS = 5000
THAWED_MS = 3000  # announcements so long after a thaw are its doing
GONE_MS = 6000  # how long two owners are watched where nobody restarts anything


def killed(role: str, pair: Pair, phase: float) -> Seen:
    """SIGKILL to the active node's keeper or agent."""
    active = _turn(pair)
    pid = _pid(pair, active, role)
    with pair.watched(active, VIP) as eyes:
        at_ms = pair.at_phase(active, VRID, phase, partial(os.kill, pid, signal.SIGKILL))
        pair.cluster.wait(
            lambda: pair.cluster.replaced(active, role, pid), f"{active} has another {role}"
        )
        end_ms = pair.until(at_ms + STAYS_MS)
        lost = eyes.lost(at_ms, end_ms)
    return _stayed(pair, lost, at_ms, end_ms)


def hung(role: str, pair: Pair, phase: float) -> Seen:
    """SIGSTOP to the active node's keeper or agent; SIGCONT after five seconds, if it still is."""
    active = _turn(pair)
    pid = _pid(pair, active, role)
    with pair.watched(active, VIP) as eyes:
        at_ms = pair.at_phase(active, VRID, phase, partial(os.kill, pid, signal.SIGSTOP))
        sleep_until(at_ms + FROZEN_MS)
        tell([pid], signal.SIGCONT)
        end_ms = pair.until(at_ms + FROZEN_MS + STAYS_MS)
        lost = eyes.lost(at_ms, end_ms)
    return _stayed(pair, lost, at_ms, end_ms)


def _turn(pair: Pair) -> str:
    """Standpipe's address to the other node, which has it now; keepalived's stays."""
    held = pair.owner(VIP)
    taker = next(node for node in NODES if node != held)
    pair.order(held, taker)
    pair.settle()
    return taker


def _pid(pair: Pair, node: str, role: str) -> int:
    """Once it has lived so long that it is started again at once: deaths in a row wait."""
    pid = pair.cluster.pid(node, role)
    if pid is None:
        raise LabError(f"no {role} runs on {node}\n{pair.cluster.report(node)}")
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    began_s = int(fields[19]) / os.sysconf("SC_CLK_TCK")  # proc(5), starttime
    time.sleep(max(0.0, began_s + GROWN_S - time.clock_gettime(time.CLOCK_BOOTTIME)))
    return pid


def _stayed(pair: Pair, lost: Both, at_ms: float, end_ms: float) -> Seen:
    """keepalived has no such two processes."""
    doubled, moves = pair.doubled_ms(at_ms, end_ms), pair.moves(at_ms, end_ms)
    pair.settle()
    found = {"probes lost": lost, "two owners": doubled, "moves": moves}
    return {what: (ours, None) for what, (ours, _) in found.items()}


def all_killed(pair: Pair, phase: float) -> Seen:
    """Every process of both on the node that has the addresses; nobody restarts one meanwhile."""
    active, other = pair.roles()
    pids = pair.pids(active)

    def kill() -> None:
        tell(pids, signal.SIGSTOP)  # no child says goodbye for its parent
        tell(pids, signal.SIGKILL)

    with pair.watched(active, *ADDRESSES) as eyes:
        at_ms = pair.at_phase(active, VRID, phase, kill)
        pair.moved_to(other, eyes, *ADDRESSES)
        end_ms = pair.until(at_ms + GONE_MS)
        outage = eyes.outages_ms(at_ms, end_ms)
    doubled = pair.doubled_ms(at_ms, end_ms)
    pair.peers[active].close()  # reaped: it does not start while its old process id is there
    pair.restart_peer(active)  # it first removes what it finds of its own
    pair.cluster.start(active)
    pair.settle()
    return {"outage": outage, "two owners": doubled}


def frozen(pair: Pair, phase: float) -> Seen:
    """SIGSTOP to every process of both, five seconds long; announcements after the thaw."""
    active, _ = pair.roles()
    pids = pair.pids(active)
    with pair.watched(active, *ADDRESSES) as eyes:
        at_ms = pair.at_phase(active, VRID, phase, partial(tell, pids, signal.SIGSTOP))
        sleep_until(at_ms + FROZEN_MS - 500)
        wire = WireWatch(pair.world)
        sleep_until(at_ms + FROZEN_MS)
        thaw_ms = now_ms()
        tell(pids, signal.SIGCONT)
        end_ms = pair.until(thaw_ms + THAWED_MS)
        said = [entry for entry in wire.record().announcements if entry.at_ms >= thaw_ms]
        wire.close()
        outage = eyes.outages_ms(at_ms, end_ms)
    doubled = pair.doubled_ms(at_ms, end_ms)
    pair.forget_neighbours()
    pair.settle()
    announced = both(lambda address: sum(entry.address == address for entry in said))
    return {"announcements after the thaw": announced, "outage": outage, "two owners": doubled}
