# SPDX-License-Identifier: GPL-2.0-or-later
"""Two nodes of Standpipe and a keepalived in one virtual router; and a router that is unknown."""

from __future__ import annotations

from tests.lab.measure import AddressWatch, Prober, WireWatch
from tests.lab.netns import now_ms, wait_until
from tests.lab.plan import one_lan
from tests.lab.routers import BACKUP, MASTER, Instance, Keepalived
from tests.lab.shared import ADVERT_MS, LATE_MS, MOVE_S, PATIENT_MS, SharedGroup, Some
from tests.lab.world import World

VRID, VIP, PREFIX = 51, "10.1.0.100", "/24"
PAIR, THIRD = ("lon1", "lon2"), "lon3"
FOREIGN_VIP = "10.1.0.77"


class Street:
    """PAIR is Standpipe's (200, 190), THIRD keepalived's (100); all by multicast."""

    def __init__(self, world: World) -> None:
        self.world = world
        peer = world.node(THIRD)
        group = SharedGroup(
            "vip",
            PAIR,
            VIP + PREFIX,
            VRID,
            f"{ADVERT_MS}ms",
            plain_peers=(peer.address,),
            priorities=(200, 190),
        )
        self.watch, self.wire = AddressWatch(world), WireWatch(world)
        self.prober = Prober(world, VIP, late_ms=PATIENT_MS)
        self.cluster = Some(world, PAIR, [group])
        self.cluster.boot()
        self.cluster.settle()
        peer.tell_patient("start")
        self.third = Keepalived(world, peer, [Instance("vip", VIP + PREFIX, VRID, 100, ADVERT_MS)])
        self.third.start()

    def serves(self, name: str) -> bool:
        return self.watch.owners(VIP) == {name} and self.prober.served_by() == name

    def await_server(self, name: str) -> None:
        self.cluster.wait(lambda: self.serves(name), f"{name} serves, alone", MOVE_S)


def test_ours_go_before_keepalived_and_keepalived_before_nobody() -> None:
    with World.build(one_lan((*PAIR, THIRD), second_path=False)) as world:
        street = Street(world)
        first, second = street.cluster.roles("vip")
        street.await_server(first)
        start_ms = now_ms()
        street.cluster.power_cut(first)
        street.await_server(second)
        wait_until(lambda: now_ms() > start_ms + 2 * LATE_MS, "keepalived would have taken it")
        assert street.watch.record().owners_seen(VIP, start_ms) == [first, second]
        assert street.third.state("vip") == BACKUP
        street.cluster.power_cut(second)
        street.await_server(THIRD)
        back_ms = now_ms()
        street.cluster.boot(first)
        street.cluster.wait(
            lambda: street.cluster.state(first, "vip") == "backup", f"{first} is ready again"
        )
        assert street.cluster.group(first, "vip")["owner"] == world.node(THIRD).address
        assert street.watch.record().owners_seen(VIP, back_ms) == [THIRD]
        assert street.prober.record().lost(back_ms) == 0
        told = street.cluster.cli(first, "switchover", "vip", "--to", first)
        assert told.returncode == 0, told.stderr + street.cluster.report()
        street.await_server(first)
        assert street.third.state("vip") == BACKUP
        assert street.prober.record().outage_ms(back_ms) < LATE_MS
        assert street.third.complaints() == []


def test_a_router_that_is_not_listed_is_told_of_and_changes_nothing() -> None:
    with World.build(one_lan(second_path=False)) as world:
        foreign = world.node("lon2")
        group = SharedGroup("vip", ("lon1",), VIP + PREFIX, VRID, f"{ADVERT_MS}ms")
        watch, wire, prober = (
            AddressWatch(world),
            WireWatch(world),
            Prober(world, VIP, late_ms=PATIENT_MS),
        )
        cluster = Some(world, ["lon1"], [group])
        cluster.boot()
        cluster.settle()
        cluster.wait(lambda: prober.served_by() == "lon1", "the client is served")
        start_ms = now_ms()
        theirs = Instance("other", FOREIGN_VIP + PREFIX, VRID, 250, ADVERT_MS)
        router = Keepalived(world, foreign, [theirs])
        router.start()
        cluster.wait(lambda: router.state("other") == MASTER, "it is active for its own address")
        cluster.wait(lambda: cluster.alarms("lon1", "foreign-router"), "it is told of")
        heard_ms = now_ms()
        wait_until(lambda: now_ms() > heard_ms + 2 * LATE_MS, "it has been heard for a while")
        [alarm] = cluster.alarms("lon1", "foreign-router")
        assert foreign.address in alarm["text"]
        assert cluster.state("lon1", "vip") == "active"
        assert watch.record().owners_seen(VIP, start_ms) == ["lon1"]
        assert prober.record().lost(start_ms) == 0
        ours = [it for it in wire.record().adverts if it.node == "lon1" and it.at_ms > start_ms]
        assert len(ours) <= (now_ms() - start_ms) / ADVERT_MS + 2  # as ever: none is an answer
