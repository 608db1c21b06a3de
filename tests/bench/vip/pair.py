# SPDX-License-Identifier: GPL-2.0-or-later
"""Standpipe and keepalived at work on the same two nodes, and a client that asks both."""

from __future__ import annotations

import bisect
import contextlib
import math
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

from tests.bench.common import AddressGroup, say
from tests.lab.cluster import Cluster
from tests.lab.measure import AddressWatch, Ownership, Prober, Probes, WireWatch
from tests.lab.netns import LabError, command, now_ms, processes_in, wait_until
from tests.lab.plan import one_lan
from tests.lab.servers import Keepalived
from tests.lab.world import PATIENT, World

NODES = ("lon1", "lon2")  # the first is preferred by both
ADDRESSES = VIP, PEER_VIP = "10.1.0.100", "10.1.0.101"
VRID, PEER_VRID = 51, 52
PRIORITIES = (200, 100)
CALM_MS = 1000  # what happens so long after a move belongs to it
LATE_MS = 250  # an answer that is later counts as none
STILL_MS = 100  # a longer pause between two probes is the machine's
Both = tuple[float, float]  # Standpipe's and keepalived's
Seen = dict[str, tuple[float, float | None]]  # what one fault did; None: keepalived has no such


class Eyes:
    """What the client sees of both addresses."""

    def __init__(self, world: World) -> None:
        self.probers = {address: Prober(world, address, late_ms=LATE_MS) for address in ADDRESSES}

    def serves(self, node: str, *addresses: str) -> bool:
        return all(self.probers[address].served_by() == node for address in addresses)

    def outages_ms(self, start_ms: float, end_ms: float) -> Both:
        """The longest of each in the span, which ended long enough ago."""
        return both(lambda address: outage_ms(self.probers[address].record(), start_ms, end_ms))

    def lost(self, start_ms: float, end_ms: float) -> Both:
        """Probes."""
        return both(lambda address: self.probers[address].record().lost(start_ms, end_ms))

    def stood_still(self) -> None:
        """Say so where the client could not ask all the time."""
        for prober in self.probers.values():
            ms = prober.record().stall_ms()
            if ms >= STILL_MS:
                say(f"the client's machine stood still for {ms:.0f} ms: that is not counted")
                return

    def close(self) -> None:
        for prober in self.probers.values():
            prober.close()


def both(measured: Callable[[str], float]) -> Both:
    """Of Standpipe's address and of keepalived's."""
    return measured(VIP), measured(PEER_VIP)


class Pair:
    """Both at work in one world, with the same advertisement interval."""

    def __init__(self, world: World, advert_ms: int) -> None:
        self.world, self.advert_ms = world, advert_ms
        self.watch = AddressWatch(world)
        every = f"{advert_ms}ms"
        self.cluster = Cluster(world, [AddressGroup("vip", NODES, f"{VIP}/24", VRID, every)])
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

    def roles(self) -> tuple[str, str]:
        """(active, standby), the same for both addresses: the preferred node is the active one."""
        self.gather(NODES[0])
        return NODES

    def gather(self, node: str) -> None:
        """Both addresses to that node."""
        held = self.owner(VIP)
        if held != node:
            self.order(held, node)
            self.cluster.settle()
        held = self.owner(PEER_VIP)
        if held != node:
            self.peers[held].stop()
            wait_until(lambda: self.owner(PEER_VIP) == node, f"keepalived's is on {node}", 30.0)
            self.restart_peer(held)

    def order(self, held: str, node: str) -> None:
        """`standpipe switchover`, on the node that has it."""
        done = self.cluster.cli(held, "switchover", "vip", "--to", node)
        if done.returncode:
            said = done.stdout + done.stderr
            raise LabError(f"switchover to {node}: {said}{self.cluster.report()}")

    def restart_peer(self, name: str) -> None:
        """Return when it listens."""
        node, listens = self.world.node(name), "Entering BACKUP STATE"
        before = node.log("keepalived.log").count(listens)
        self.peers[name].launch()
        wait_until(
            lambda: node.log("keepalived.log").count(listens) > before, f"{name} listens", 30.0
        )

    def pids(self, name: str) -> set[int]:
        """Of both on the node; the service that the client asks is left out."""
        found = set()
        for pid in processes_in([self.world.node(name).namespace]):
            with contextlib.suppress(FileNotFoundError):
                if PATIENT.name.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes():
                    found.add(pid)
        return found

    # ------------------------------------------------------------ the client, and the moment

    @contextlib.contextmanager
    def watched(self, node: str, *addresses: str) -> Iterator[Eyes]:
        """Once the node serves the client at these addresses."""
        eyes = Eyes(self.world)
        try:
            self.serves(eyes, node, *addresses)
            yield eyes
            eyes.stood_still()
        finally:
            eyes.close()

    def at_phase(self, node: str, vrid: int, phase: float, fault: Callable[[], object]) -> float:
        """As the function."""
        return at_phase(self.world, self.advert_ms, (node, vrid), phase, fault)

    def until(self, at_ms: float) -> float:
        """Wait until the probes before that moment are decided; the moment."""
        sleep_until(at_ms + LATE_MS + 50)
        return at_ms

    def moved_to(self, node: str, eyes: Eyes, *addresses: str) -> None:
        wait_until(
            lambda: all(node in self.watch.owners(address) for address in addresses),
            f"{node} takes {' and '.join(addresses)}",
            30.0,
        )
        self.serves(eyes, node, *addresses)

    def serves(self, eyes: Eyes, node: str, *addresses: str) -> None:
        where = " and ".join(addresses)
        wait_until(lambda: eyes.serves(node, *addresses), f"{node} serves {where}", 60.0)

    def calm(self, eyes: Eyes, end_ms: float) -> None:
        """Until both addresses have one owner that the client hears, or the end."""
        since_ms = now_ms()
        while now_ms() < end_ms and now_ms() - since_ms < 2 * CALM_MS:
            if not all(eyes.serves(self.owner(address), address) for address in ADDRESSES):
                since_ms = now_ms()
            time.sleep(0.02)

    def forget_neighbours(self) -> None:
        """The client's, so that no black hole of this run lasts into the next."""
        command("ip", "-n", self.world.client.namespace, "neigh", "flush", "all")

    # ------------------------------------------------------------ owners in a span

    def doubled_ms(self, start_ms: float, end_ms: float) -> Both:
        """How long each address had two owners."""
        owned = self.watch.record()
        return both(lambda address: owned.doubled_ms(address, start_ms, end_ms))

    def moves(self, start_ms: float, end_ms: float) -> Both:
        """How often a node gained or lost each address."""
        edges = self.watch.record().edges
        return both(
            lambda address: sum(
                edge.address == address and start_ms < edge.at_ms < end_ms for edge in edges
            )
        )

    def one_owner_after_ms(self, start_ms: float, end_ms: float) -> Both:
        """How long it took until each had one owner, and kept to one."""
        owned = self.watch.record()
        return both(lambda address: _unsettled_ms(owned, address, start_ms, end_ms))


class Bed:
    """A pair in its world, built when it is first needed, and again after `close`."""

    def __init__(self, advert_ms: int) -> None:
        self.advert_ms = advert_ms
        self._pair: Pair | None = None
        self._stack = contextlib.ExitStack()

    @property
    def pair(self) -> Pair:
        if self._pair is None:
            world = self._stack.enter_context(World.build(one_lan()))
            self._pair = Pair(world, self.advert_ms)
            say(f"adverts each {self.advert_ms} ms: both are at work")
        return self._pair

    def close(self) -> None:
        self._pair = None
        self._stack.close()


def outage_ms(probes: Probes, start_ms: float, end_ms: float) -> float:
    """The longest, without the time in which nobody asked because the client's machine stood still.

    What comes then is read too late, and counts as lost.
    """
    longest_ms = 0.0
    for since_ms, until_ms in probes.outages(start_ms, end_ms):
        first = bisect.bisect_left(probes.sent_ms, since_ms)
        last = bisect.bisect_right(probes.sent_ms, until_ms)
        pauses = (after - before for before, after in pairwise(probes.sent_ms[first:last]))
        still_ms = sum(pause for pause in pauses if pause >= STILL_MS)
        longest_ms = max(longest_ms, until_ms - since_ms - still_ms)
    return longest_ms


def _unsettled_ms(owned: Ownership, address: str, start_ms: float, end_ms: float) -> float:
    edges = [edge.at_ms for edge in owned.edges if edge.address == address]
    moments = [start_ms, *(at_ms for at_ms in edges if start_ms < at_ms < end_ms), end_ms]
    last_ms = start_ms
    for at_ms, next_ms in pairwise(moments):
        if len(owned.owners(address, at_ms)) != 1:
            last_ms = next_ms
    return last_ms - start_ms


def at_phase(
    world: World,
    advert_ms: int,
    sender: tuple[str, int],
    phase: float,
    fault: Callable[[], object],
) -> float:
    """Do it so far into the interval after an advert of that node and router; when, in ms."""
    wire = WireWatch(world)

    def adverts() -> list[float]:
        sent = wire.record().adverts
        return [advert.at_ms for advert in sent if (advert.node, advert.vrid) == sender]

    wait_until(adverts, f"{sender[0]} advertises router {sender[1]}", 10.0)
    last_ms = adverts()[-1]
    wire.close()
    first_ms = last_ms + phase * advert_ms
    rounds = max(0, math.ceil((now_ms() + 20 - first_ms) / advert_ms))
    sleep_until(first_ms + rounds * advert_ms)
    at_ms = now_ms()
    fault()
    return at_ms


def sleep_until(at_ms: float) -> None:
    time.sleep(max(0.0, at_ms - now_ms()) / 1000)
