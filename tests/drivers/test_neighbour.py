# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace

import pytest
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6NDOptDstLLAddr, IPv6
from scapy.layers.l2 import ARP, Ether

from agent.core.keeping import AddressAsked, NeighbourSeen
from agent.core.kit import Kit, KitFrame
from agent.core.settings import NodeSettings
from drivers.neighbour import Neighbour
from tests.drivers.street import MACS, Street, heard, laid, many
from tests.lab.netns import wait_until

ETH_P_ALL = 3
NODES = {
    "lon1": NodeSettings("lon1", "london", ("10.1.0.11", "fd00:1::11")),
    "lon2": NodeSettings("lon2", "london", ("10.1.0.12", "fd00:1::12")),
}
OURS, THEIRS = MACS["lon1"], MACS["lon2"]
BROADCAST, ALL_NODES = "ff:ff:ff:ff:ff:ff", "33:33:00:00:00:01"


@pytest.fixture(scope="module")
def street() -> Iterator[Street]:
    with laid() as street:
        yield street


@pytest.fixture(scope="module")
def kit(street: Street) -> Kit:
    return street.forge("lon1", nodes=NODES)


@contextmanager
def opened(street: Street, kit: Kit) -> Iterator[Neighbour]:
    with street.inside("lon1"):
        neighbour = Neighbour(kit)
    try:
        yield neighbour
    finally:
        neighbour.close()


@contextmanager
def wire(street: Street, node: str) -> Iterator[socket.socket]:
    """Everything on a node's end of the cable."""
    with street.inside(node):
        packet = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    with packet:
        packet.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        packet.bind(("eth0", ETH_P_ALL))
        packet.settimeout(5)
        yield packet


def said(neighbour: Neighbour, count: int = 1) -> list[NeighbourSeen | AddressAsked]:
    return heard(neighbour.receive, neighbour.filenos(), lambda seen: len(seen) >= count)


def arp(address: str, mac: str = THEIRS, op: int = 1) -> bytes:
    return bytes(Ether(src=mac, dst=BROADCAST) / ARP(op=op, hwsrc=mac, psrc=address, pdst=address))


def advertised(address: str, mac: str = THEIRS, hop_limit: int = 255) -> bytes:
    return bytes(
        Ether(src=mac, dst=ALL_NODES)
        / IPv6(src=address, dst="ff02::1", hlim=hop_limit)
        / ICMPv6ND_NA(tgt=address, R=0, S=0, O=1)
        / ICMPv6NDOptDstLLAddr(lladdr=mac)
    )


def test_others_learn_where_the_addresses_are_now(street: Street, kit: Kit) -> None:
    for address in ("10.1.0.100", "fd00:1::100"):
        old = ("lladdr", "02:00:00:00:01:99", "nud", "stale")
        street.ip("lon2", "neigh", "replace", address, *old, "dev", "eth0")
    with opened(street, kit) as neighbour:
        assert neighbour.announce("sbc") == 0
        wait_until(
            lambda: street.ip("lon2", "neigh").count(OURS) >= 2, "both addresses are relearned"
        )
        assert neighbour.receive() == [], "our own announcements were taken for others'"


def test_a_thousand_addresses_are_announced_once_each_in_slices(street: Street) -> None:
    kit = street.forge("lon1", many(1000))
    wanted = [it.frame for it in kit.groups["big"].announcements]
    with opened(street, kit) as neighbour, wire(street, "lon2") as cable:
        at, slices = neighbour.announce("big", 0, 300), 1
        while at:
            at, slices = neighbour.announce("big", at, 300), slices + 1
        assert slices == 4
        seen: list[bytes] = []
        while len(seen) < 1000:
            frame = cable.recv(2048)
            if frame[12:14] == b"\x08\x06":
                seen.append(frame)
        assert seen == wanted
        assert neighbour.counters == {"frame-unsent": 0}


@pytest.mark.parametrize("address", ["10.1.0.12", "fd00:1::12"])
def test_a_living_node_answers_when_it_is_asked(street: Street, kit: Kit, address: str) -> None:
    with opened(street, kit) as neighbour:
        assert neighbour.ask("eth0", address)
        assert said(neighbour)[0] == NeighbourSeen("eth0", address, THEIRS)


def test_what_was_not_forged_cannot_be_asked(street: Street, kit: Kit) -> None:
    with opened(street, kit) as neighbour:
        assert not neighbour.ask("eth0", "10.1.0.13")


@pytest.mark.parametrize(
    ("frame", "address"),
    [
        (arp("10.1.0.100"), "10.1.0.100"),
        (arp("10.1.0.100", op=2), "10.1.0.100"),
        (advertised("fd00:1::100"), "fd00:1::100"),
    ],
    ids=["gratuitous request", "reply", "advertisement"],
)
def test_somebody_else_with_our_address_is_heard(
    street: Street, kit: Kit, frame: bytes, address: str
) -> None:
    with opened(street, kit) as neighbour, wire(street, "lon2") as cable:
        cable.send(frame)
        assert said(neighbour) == [NeighbourSeen("eth0", address, THEIRS, to_us=False)]


def test_what_does_not_concern_us_never_wakes_us(street: Street, kit: Kit) -> None:
    junk = [
        arp("10.1.0.77"),
        advertised("fd00:1::77"),
        advertised("fd00:1::100", hop_limit=254),
        arp("10.1.0.100")[:30],
        bytes.fromhex("ffffffffffff" + THEIRS.replace(":", "") + "86dd"),
        arp("10.1.0.77")[:12] + b"\x08\x00" + bytes(1000),
    ]
    last = arp("10.1.0.78")
    with opened(street, kit) as neighbour, wire(street, "lon1") as arrived:
        with wire(street, "lon2") as cable:
            for frame in junk * 50:
                cable.send(frame)
            cable.send(last)
        while arrived.recv(2048) != last:
            pass
        assert select.select(neighbour.filenos(), [], [], 0)[0] == []


@pytest.mark.parametrize(
    "frame",
    [
        arp("10.1.0.100")[:14] + bytes(4) + arp("10.1.0.100")[18:],
        arp("10.1.0.100")[:32],
        advertised("fd00:2::100"),
        advertised("fd00:1::100", mac=OURS),
    ],
    ids=["other hardware", "cut", "same end", "our own, come back"],
)
def test_what_passes_the_filter_is_still_judged(street: Street, kit: Kit, frame: bytes) -> None:
    with opened(street, kit) as neighbour, wire(street, "lon2") as cable:
        cable.send(frame)
        cable.send(arp("10.1.0.100"))
        cable.send(advertised("fd00:1::100"))
        assert [it.mac for it in said(neighbour, 2)] == [THEIRS, THEIRS]


def test_a_thousand_addresses_are_filtered_in_the_kernel(street: Street) -> None:
    with opened(street, street.forge("lon1", many(1000))) as neighbour:
        with wire(street, "lon2") as cable:
            cable.send(arp("10.1.99.1"))
            cable.send(arp("10.1.104.200"))
        assert said(neighbour) == [NeighbourSeen("eth0", "10.1.104.200", THEIRS, to_us=False)]


def test_two_thousand_addresses_are_let_pass_and_told_apart_by_us(street: Street) -> None:
    with opened(street, street.forge("lon1", many(2000))) as neighbour:
        with wire(street, "lon2") as cable:
            cable.send(arp("10.1.99.1"))
            cable.send(arp("10.1.109.200"))
        assert said(neighbour) == [NeighbourSeen("eth0", "10.1.109.200", THEIRS, to_us=False)]


def test_a_macvlan_that_is_made_after_us_announces_and_again_when_it_is_made_anew(
    street: Street, kit: Kit
) -> None:
    made = ("name", "sp51v4-9", "link", "eth0", "address", "00:00:5e:00:01:33", "type", "macvlan")
    frame = arp("10.1.0.100", mac="00:00:5e:00:01:33")
    group = replace(kit.groups["sbc"], announcements=(KitFrame("sp51v4-9", frame),))
    changed = replace(kit, groups={"sbc": group})
    with street.inside("lon1"), closing(Neighbour(changed)) as neighbour:
        neighbour.announce("sbc")
        assert neighbour.counters == {"frame-unsent": 1}
        for _ in range(2):
            street.ip("lon1", "link", "add", *made, "mode", "bridge")
            try:
                neighbour.announce("sbc")  # it is down, or it finds that the former one is gone
                neighbour.announce("sbc")
                street.ip("lon1", "link", "set", "sp51v4-9", "up")
                with wire(street, "lon2") as cable:
                    neighbour.announce("sbc")
                    while cable.recv(2048) != frame:
                        pass
            finally:
                street.ip("lon1", "link", "del", "sp51v4-9")


def test_an_interface_without_carrier_is_counted_not_raised(street: Street, kit: Kit) -> None:
    with opened(street, kit) as neighbour:
        street.ip("lon1", "link", "set", "eth0", "down")
        try:
            neighbour.announce("sbc")
            assert neighbour.counters == {"frame-unsent": 2}
            assert not neighbour.ask("eth0", "10.1.0.12")
            assert neighbour.receive() == []
        finally:
            street.ip("lon1", "link", "set", "eth0", "up")
