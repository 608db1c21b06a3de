# SPDX-License-Identifier: GPL-2.0-or-later
"""A thousand addresses in one virtual router, lost with the power of their node.

Each of the two in a world of its own, one after the other: in one kernel they would wait for each
other, and hear of each other's addresses.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator

from tests.bench.common import AddressGroup
from tests.bench.vip.faults import lights_out
from tests.bench.vip.pair import (
    CALM_MS,
    LATE_MS,
    NODES,
    PRIORITIES,
    VIP,
    VRID,
    Bed,
    Seen,
    at_phase,
    outage_ms,
    sleep_until,
)
from tests.lab.cluster import Cluster
from tests.lab.measure import AddressWatch, Prober, WireWatch
from tests.lab.netns import LabError, now_ms, wait_until
from tests.lab.plan import one_lan
from tests.lab.servers import Keepalived
from tests.lab.world import World

COUNT = 1000
OTHERS = [f"10.1.{4 + n // 250}.{1 + n % 250}" for n in range(COUNT - 1)]
ALL = {VIP, *OTHERS}
LOGS = ("standpipe", "keepalived")


class Crowd(AddressGroup):
    """The address that the client asks, and all the others."""

    def text(self) -> str:
        one = f'address = "{self.address}"'
        every = [self.address, *(f"{other}/32" for other in OTHERS)]
        return super().text().replace(one, f"address = {json.dumps(every)}")


class Terse(Keepalived):
    """Without a line in its log for each announcement: that takes longer than announcing."""

    def launch(self) -> None:
        self.argv = [word for word in self.argv if word != "--log-detail"]
        super().launch()


def power_cut(bed: Bed, phase: float) -> Seen:
    """From the first address that the other node adds to the last one's first announcement."""
    bed.close()  # nobody else is at work meanwhile
    advert_ms = bed.advert_ms
    with _standpipe(advert_ms) as world:
        announced, outage = _cut(world, advert_ms, phase)
    with _keepalived(advert_ms) as world:
        their_announced, their_outage = _cut(world, advert_ms, phase)
    return {
        "last one announced after the first was added": (announced, their_announced),
        "outage": (outage, their_outage),
    }


@contextlib.contextmanager
def _standpipe(advert_ms: int) -> Iterator[World]:
    with World.build(one_lan()) as world:
        cluster = Cluster(world, [Crowd("vip", NODES, f"{VIP}/24", VRID, f"{advert_ms}ms")])
        cluster.boot()
        cluster.settle()
        active, other = cluster.roles()
        if active != NODES[0]:
            cluster.cli(active, "switchover", "vip", "--to", other)
            cluster.settle()
        yield world


@contextlib.contextmanager
def _keepalived(advert_ms: int) -> Iterator[World]:
    """Its other addresses do not fit into one advert, and need not be in it."""
    excluded = ["virtual_ipaddress_excluded {", *(f"{one}/32 dev eth0" for one in OTHERS), "}"]
    with World.build(one_lan()) as world:
        watch = AddressWatch(world)
        for name, priority in zip(NODES, PRIORITIES, strict=True):
            node = world.node(name)
            node.tell_patient("start")
            Terse(
                world,
                node,
                [f"{VIP}/24"],
                vrid=VRID,
                priority=priority,
                advert_s=advert_ms / 1000,
                options=["nopreempt", *excluded],
            )
            wait_until(lambda: watch.owners(OTHERS[-1]) == {NODES[0]}, "keepalived has all", 30.0)
        sleep_until(now_ms() + advert_ms)
        yield world


def _cut(world: World, advert_ms: int, phase: float) -> tuple[float, float]:
    """(announced, outage)."""
    active, standby = NODES
    watch, wire = AddressWatch(world), WireWatch(world)
    prober = Prober(world, VIP, late_ms=LATE_MS)
    try:
        wait_until(lambda: prober.served_by() == active, f"{active} serves {VIP}", 10.0)
    except LabError as error:
        logs = [node.log(f"{name}.log")[-2000:] for node in world.nodes for name in LOGS]
        raise LabError(f"{error}; it is on {watch.owners(VIP)}\n" + "\n".join(logs)) from error
    at_ms = at_phase(world, advert_ms, (active, VRID), phase, lights_out(world.node(active)))
    wait_until(lambda: prober.served_by() == standby, f"{standby} serves {VIP}", 30.0)
    end_ms = now_ms() + CALM_MS
    sleep_until(end_ms + LATE_MS)
    first: dict[str, float] = {}
    for entry in wire.record().announcements:
        if entry.node == standby and entry.address in ALL and entry.at_ms > at_ms:
            first.setdefault(entry.address, entry.at_ms)
    if len(first) < COUNT:
        raise LabError(f"{standby} announced {len(first)} of {COUNT} addresses")
    edges = watch.record().edges
    added_ms = min(
        edge.at_ms for edge in edges if edge.node == standby and edge.gained and edge.at_ms > at_ms
    )
    return max(first.values()) - added_ms, outage_ms(prober.record(), at_ms, end_ms)
