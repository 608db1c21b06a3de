# SPDX-License-Identifier: GPL-2.0-or-later
"""The other people's routers among themselves: what holds here holds without Standpipe."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from scapy.layers.inet import IP
from scapy.layers.vrrp import VRRPv3

from tests.lab.measure import Prober
from tests.lab.netns import inside, wait_until
from tests.lab.plan import one_lan
from tests.lab.routers import BACKUP, MASTER, Frr, Instance, Keepalived, Speaker
from tests.lab.shared import await_link_local
from tests.lab.world import World

Kind = type[Keepalived] | type[Frr]
EVERYBODY = "224.0.0.18"  # RFC 9568 section 5.1.1.2
FOUR, SIX = Instance("m4", "10.1.0.101/24", 51), Instance("m6", "fd00:1::101/64", 52)


@pytest.fixture
def world() -> Iterator[World]:
    with World.build(one_lan(second_path=False)) as world:
        for node in world.nodes:
            node.tell_patient("start")
        await_link_local(world)
        yield world


def test_they_serve_in_turn_and_have_nothing_to_complain_of(world: World) -> None:
    one: Speaker = Keepalived(world, world.nodes[0], [FOUR, SIX])
    two: Speaker = Frr(world, world.nodes[1], [FOUR, SIX])
    eyes = {it.name: Prober(world, it.address.split("/")[0]) for it in (FOUR, SIX)}

    def serves(active: Speaker, backup: Speaker, *idle: str) -> bool:
        return all(
            active.state(name) == MASTER
            and backup.state(name) in (BACKUP, *idle)
            and eye.served_by() == active.node.name
            for name, eye in eyes.items()
        )

    one.change(priority=200)
    one.start()
    two.start()
    wait_until(lambda: serves(one, two), "the first serves")
    one.stop()
    wait_until(lambda: serves(two, one, ""), "the second serves after a goodbye")
    one.start()
    wait_until(lambda: serves(one, two), "the first has preempted")
    one.node.power_cut()
    wait_until(lambda: serves(two, one, ""), "the second serves after a power cut")
    assert one.complaints() == two.complaints() == []


@pytest.mark.parametrize("kind", [Keepalived, Frr])
def test_they_complain_of_a_wrong_checksum(world: World, kind: Kind) -> None:
    router = kind(world, world.nodes[1], [FOUR])
    router.start()
    advert = VRRPv3(vrid=FOUR.vrid, priority=200, addrlist=["10.1.0.101"], adv=20, chksum=0x1234)
    packet = bytes(IP(src=world.nodes[0].address, dst=EVERYBODY, proto=112, ttl=255) / advert)
    with inside(world.nodes[0].namespace):
        raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    with raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
        raw.sendto(packet, (EVERYBODY, 0))
    wait_until(router.complaints, "it has complained")
    assert all("checksum" in line for line in router.complaints())
