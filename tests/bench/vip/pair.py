# SPDX-License-Identifier: GPL-2.0-or-later
"""Standpipe and keepalived on the same two nodes, and the faults that both meet."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.bench.common import AddressGroup
from tests.lab.cluster import Cluster
from tests.lab.measure import AddressWatch, Prober, WireWatch
from tests.lab.netns import LabError, command, now_ms, processes_in, wait_until
from tests.lab.servers import Keepalived
from tests.lab.world import World

NODES = ("lon1", "lon2")  # the first is preferred by both
VIP, PEER_VIP = "10.1.0.100", "10.1.0.101"
VRID, PEER_VRID = 51, 52
PRIORITIES = (200, 100)
REPEAT_MS = 6000  # keepalived announces again 5 s after it took over: a cut outlasts that
STAYS_MS = 4000  # how long nothing may move after a process was killed
CALM_MS = 1000  # what happens so long after a move belongs to it
LATE_MS = 250  # an answer that is later counts as none
Span = tuple[float, float]


@dataclass(frozen=True)
class Moved:
    """The address went from one node to the other."""

    ours_ms: float
    peer_ms: float

    def __str__(self) -> str:
        return f"client without it {self.ours_ms:.0f} ms, keepalived's {self.peer_ms:.0f} ms"


@dataclass(frozen=True)
class Stayed:
    """A process was killed."""

    lost: int
    moves: int

    def __str__(self) -> str:
        return f"{self.lost} probes lost, {self.moves} moves"


@dataclass(frozen=True)
class Healed:
    """A silent cut, and its end. doubled: two owners, from when the first cable carries again."""

    cut: Moved
    heal: Moved
    doubled_ms: float
    peer_doubled_ms: float

    def __str__(self) -> str:
        return (
            f"{self.cut}; healed: {self.heal}, "
            f"two owners {self.doubled_ms:.0f} ms, keepalived's {self.peer_doubled_ms:.0f} ms"
        )


class Eyes:
    """What the client sees of both addresses."""

    def __init__(self, world: World) -> None:
        self.probers = [Prober(world, address, late_ms=LATE_MS) for address in (VIP, PEER_VIP)]

    def served_by(self) -> list[str | None]:
        return [prober.served_by() for prober in self.probers]

    def outages_ms(self, *span: float) -> Moved:
        """The longest of each in the span, which ended long enough ago."""
        ours, peers = (prober.record().outage_ms(*span) for prober in self.probers)
        return Moved(ours, peers)

    def close(self) -> None:
        for prober in self.probers:
            prober.close()


class Pair:
    """Both at work in one world, with the same advertisement interval."""

    def __init__(self, world: World, advert_ms: int) -> None:
        self.world, self.advert_ms = world, advert_ms
        self.watch = AddressWatch(world)
        group = AddressGroup("vip", NODES, f"{VIP}/24", VRID, f"{advert_ms}ms")
        self.cluster = Cluster(world, [group])
        self.cluster.boot()
        self.peers = {
            name: Keepalived(
                world,
                world.node(name),
                [f"{PEER_VIP}/24"],
                vrid=PEER_VRID,
                priority=priority,
                advert_s=advert_ms / 1000,
                options=["nopreempt"],
            )
            for name, priority in zip(NODES, PRIORITIES, strict=True)
        }
        self.settle()

    # ------------------------------------------------------------ who has what

    def owner(self, address: str) -> str:
        """ "" where that is nobody, or two."""
        owners = self.watch.owners(address)
        return owners.pop() if len(owners) == 1 else ""

    def settle(self) -> None:
        wait_until(lambda: self.owner(PEER_VIP), "keepalived has one owner", 30.0)
        self.cluster.settle(60.0)

    def gather(self, node: str) -> None:
        """Both addresses to that node."""
        held = self.owner(VIP)
        if held != node:
            done = self.cluster.cli(held, "switchover", "vip", "--to", node)
            if done.returncode:
                raise LabError(f"switchover to {node}: {done.stdout}{done.stderr}")
            self.cluster.settle()
        held = self.owner(PEER_VIP)
        if held != node:
            self.peers[held].stop()
            wait_until(lambda: self.owner(PEER_VIP) == node, f"keepalived's is on {node}", 30.0)
            self.restart_peer(held)

    def restart_peer(self, name: str) -> None:
        """Return when it listens."""
        node, listens = self.world.node(name), "Entering BACKUP STATE"
        before = node.log("keepalived.log").count(listens)
        self.peers[name].launch()
        wait_until(
            lambda: node.log("keepalived.log").count(listens) > before, f"{name} listens", 30.0
        )

    # ------------------------------------------------------------ the client, and the moment

    @contextlib.contextmanager
    def watched(self, node: str) -> Iterator[Eyes]:
        eyes = Eyes(self.world)
        try:
            wait_until(lambda: eyes.served_by() == [node, node], f"{node} serves the client", 30.0)
            yield eyes
        finally:
            eyes.close()

    def at_phase(self, node: str, vrid: int, phase: float, fault: Callable[[], object]) -> float:
        """Do it so far into the interval after an advert of the node's; when, in ms."""
        wire = WireWatch(self.world)

        def adverts() -> list[float]:
            sent = wire.record().adverts
            return [advert.at_ms for advert in sent if (advert.node, advert.vrid) == (node, vrid)]

        wait_until(adverts, f"{node} advertises router {vrid}", 10.0)
        last_ms = adverts()[-1]
        wire.close()
        first_ms = last_ms + phase * self.advert_ms
        rounds = max(0, math.ceil((now_ms() + 20 - first_ms) / self.advert_ms))
        time.sleep(max(0.0, first_ms + rounds * self.advert_ms - now_ms()) / 1000)
        at_ms = now_ms()
        fault()
        return at_ms

    def until(self, at_ms: float) -> float:
        """Wait until the probes before that moment are decided; the moment."""
        time.sleep(max(0.0, at_ms + LATE_MS + 50 - now_ms()) / 1000)
        return at_ms

    def moved_to(self, node: str, eyes: Eyes, *addresses: str) -> None:
        wait_until(
            lambda: all(node in self.watch.owners(address) for address in addresses),
            f"{node} takes {' and '.join(addresses)}",
            30.0,
        )
        wait_until(lambda: eyes.served_by() == [node, node], f"{node} serves the client", 60.0)

    # ------------------------------------------------------------ faults

    def power_cut(self, phase: float) -> Moved:
        """Of the node that has both addresses."""
        active, standby = self._roles()
        node = self.world.node(active)
        pids = processes_in([node.namespace])

        def lights_out() -> None:
            for pid in pids:  # at once: cables are cut one by one, and the first would be told of
                os.kill(pid, signal.SIGSTOP)
            node.power_cut()

        with self.watched(active) as eyes:
            at_ms = self.at_phase(active, VRID, phase, lights_out)
            self.moved_to(standby, eyes, VIP, PEER_VIP)
            seen = eyes.outages_ms(at_ms, self.until(now_ms() + CALM_MS))
        self.cluster.boot(active)
        self.restart_peer(active)
        self.settle()
        return seen

    def planned_stop(self, phase: float) -> Moved:
        """SIGTERM to `standpipe run` of the active node; then, by itself, to its keepalived."""
        active, standby = self._roles()
        with self.watched(active) as eyes:
            at_ms = self.at_phase(active, VRID, phase, lambda: self.cluster.stop(active))
            wait_until(lambda: self.owner(VIP) == standby, f"{standby} takes {VIP}", 30.0)
            ours = eyes.outages_ms(at_ms, self.until(now_ms() + CALM_MS))
            self.cluster.start(active)
            self.settle()
            at_ms = self.at_phase(active, PEER_VRID, phase, self.peers[active].stop)
            self.moved_to(standby, eyes, PEER_VIP)
            peers = eyes.outages_ms(at_ms, self.until(now_ms() + CALM_MS))
        self.restart_peer(active)
        return Moved(ours.ours_ms, peers.peer_ms)

    def killed(self, role: str, phase: float) -> Stayed:
        """SIGKILL to the active node's keeper or agent."""
        active, _ = self._roles()
        pid = self.cluster.pid(active, role)
        if pid is None:
            raise LabError(f"no {role} runs on {active}")
        with self.watched(active) as eyes:
            at_ms = self.at_phase(active, VRID, phase, lambda: os.kill(pid, signal.SIGKILL))
            self.cluster.wait(
                lambda: self.cluster.replaced(active, role, pid), f"{active} has another {role}"
            )
            end_ms = self.until(at_ms + STAYS_MS)
            lost = eyes.probers[0].record().lost(at_ms, end_ms)
        edges = self.watch.record().edges
        moves = sum(edge.address == VIP and at_ms < edge.at_ms for edge in edges)
        self.settle()
        return Stayed(lost, moves)

    def heal(self, phase: float, patience_s: float) -> Healed:
        """The preferred node is cut off in silence on every path, then it is back.

        Its client is waited for, at most for so long; then its neighbour entry is flushed.
        """
        preferred, other = NODES
        every_ms = self.advert_ms
        self.gather(preferred)
        ports = self.world.node(preferred).ports.values()

        def mute() -> None:
            for port in ports:
                port.mute()

        with self.watched(preferred) as eyes:
            cut_ms = self.at_phase(preferred, VRID, phase, mute)
            self.moved_to(other, eyes, VIP, PEER_VIP)
            over_ms = cut_ms + math.ceil(REPEAT_MS / every_ms + 4) * every_ms
            time.sleep(max(0.0, over_ms - now_ms()) / 1000)
            heal_ms = now_ms()
            carried_ms = []
            for port in ports:
                port.heal()
                carried_ms.append(now_ms())
            self._calm(eyes, heal_ms + patience_s * 1000)
            end_ms = self.until(now_ms())
            cut, heal = eyes.outages_ms(cut_ms, heal_ms), eyes.outages_ms(heal_ms, end_ms)
        owned = self.watch.record()
        command("ip", "-n", self.world.client.namespace, "neigh", "flush", "all")
        self.settle()
        doubled = [owned.doubled_ms(address, carried_ms[0], end_ms) for address in (VIP, PEER_VIP)]
        return Healed(cut, heal, *doubled)

    def _calm(self, eyes: Eyes, end_ms: float) -> None:
        """Until both addresses have one owner that the client hears, or the end."""
        since_ms = now_ms()
        while now_ms() < end_ms and now_ms() - since_ms < 2 * CALM_MS:
            owners = [self.owner(address) for address in (VIP, PEER_VIP)]
            if not all(owners) or eyes.served_by() != owners:
                since_ms = now_ms()
            time.sleep(0.02)

    def _roles(self) -> tuple[str, str]:
        """(active, standby), the same for both addresses."""
        active = self.owner(VIP)
        self.gather(active)
        return active, next(node for node in NODES if node != active)
