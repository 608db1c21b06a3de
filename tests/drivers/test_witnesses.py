# SPDX-License-Identifier: GPL-2.0-or-later
"""Clients on the link: what they ask, what is overheard of them, and what they answer."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from scapy.layers.l2 import ARP, Ether

from agent.core.keeping import AddressAsked, NeighbourSeen
from agent.core.kit import Kit
from agent.core.settings import NodeSettings
from drivers.neighbour import FLOOD_FRAMES, GATHER_S, OVERHEAR_MS, WINDOW_MS, Neighbour
from tests.drivers.street import FLOATING, FLOATING_6, GROUP, MACS, Clock, Street, heard, laid
from tests.lab.netns import batch, wait_until

NODES = {
    "lon1": NodeSettings("lon1", "london", ("10.1.0.11", "fd00:1::11")),
    "lon2": NodeSettings("lon2", "london", ("10.1.0.12", "fd00:1::12")),
}
PEER_ANSWERS = [NeighbourSeen("eth0", it, MACS["lon2"]) for it in NODES["lon2"].paths]
GATEWAY = "10.1.0.1"
WITH_GATEWAY = replace(GROUP, addresses=(FLOATING, FLOATING_6), gateways=(GATEWAY,))
CLIENT_MAC = "02:00:00:00:01:50"
CLIENT = {4: "10.1.0.50", 6: "fd00:1::50"}
FAR = {4: "10.1.0.77", 6: "fd00:1::77"}  # nobody has them
FLOATS = {4: "10.1.0.100", 6: "fd00:1::100"}
BROADCAST = "ff:ff:ff:ff:ff:ff"
ETH_P_ALL = 3

Seen = list[NeighbourSeen | AddressAsked]


@pytest.fixture(scope="module")
def street() -> Iterator[Street]:
    """With a client on the same link, which is a machine of its own."""
    with laid() as street:
        client = street.namespace("client")
        batch([f"netns add {client}"])
        made = ("link", "eth0", "address", CLIENT_MAC, "type", "macvlan", "mode", "bridge")
        street.ip("lon2", "link", "add", "cl0", *made)
        street.ip("lon2", "link", "set", "cl0", "netns", client)
        for family in ("ipv4", "ipv6"):  # asks once, so that no test hears another one's client
            with street.inside("client"):
                Path("/proc/sys/net", family, "neigh/cl0/mcast_solicit").write_text("1")
        addresses = [f"addr add {CLIENT[4]}/16 dev cl0", f"addr add {CLIENT[6]}/64 dev cl0 nodad"]
        batch(["link set lo up", "link set cl0 up", *addresses], client)
        wait_until(
            lambda: street.ip("client", "addr").count("inet6 fe80") == 1, "the client is there"
        )
        yield street


@pytest.fixture(scope="module")
def kit(street: Street) -> Kit:
    return street.forge("lon1", WITH_GATEWAY, nodes=NODES)


@contextmanager
def opened(street: Street, kit: Kit, clock: Clock | None = None) -> Iterator[Neighbour]:
    """In lon1 for as long as the block lasts; its kernel remembers no neighbours."""
    street.ip("lon1", "neigh", "flush", "all")
    clock = clock or Clock()
    with street.inside("lon1"):
        neighbour = Neighbour(kit, clock, clock.pause)
        try:
            yield neighbour
        finally:
            neighbour.close()


@contextmanager
def wire(street: Street, node: str, interface: str = "eth0") -> Iterator[socket.socket]:
    """Everything on an end of the cable."""
    with street.inside(node):
        packet = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    with packet:
        packet.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        packet.bind((interface, ETH_P_ALL))
        packet.settimeout(5)
        yield packet


def speak(street: Street, family: int, to: str) -> None:
    """The client's kernel wants to send to an address, so it asks everybody who has it."""
    street.ip("client", "neigh", "flush", "all")
    with street.inside("client"):
        kind = socket.AF_INET if family == 4 else socket.AF_INET6
        with socket.socket(kind, socket.SOCK_DGRAM) as datagram:
            datagram.sendto(b"hello", (to, 9))


def arrived(cable: socket.socket, wanted: bytes) -> None:
    while cable.recv(2048) != wanted:
        pass


def said(neighbour: Neighbour, *wanted: NeighbourSeen | AddressAsked) -> Seen:
    """What is heard until all of that is; the test ends there if it never is."""
    return heard(
        neighbour.receive, neighbour.filenos(), lambda seen: all(it in seen for it in wanted)
    )


def arp(op: int, address: str, mac: str, target: str, to: str = BROADCAST) -> bytes:
    return bytes(Ether(src=mac, dst=to) / ARP(op=op, hwsrc=mac, psrc=address, pdst=target))


def meet_the_peer(neighbour: Neighbour) -> None:
    """As a round of asking does."""
    for address in NODES["lon2"].paths:
        neighbour.ask("eth0", address)
    said(neighbour, *PEER_ANSWERS)


# ---------------------------------------------------------------- questions of clients


@pytest.mark.parametrize("family", [4, 6])
def test_a_client_that_asks_everybody_for_our_address_is_heard(
    street: Street, kit: Kit, family: int
) -> None:
    with opened(street, kit) as neighbour:
        speak(street, family, FLOATS[family])
        assert set(map(str, said(neighbour, AddressAsked("eth0", FLOATS[family])))) == {
            str(AddressAsked("eth0", FLOATS[family]))
        }


def test_a_peer_that_asks_for_our_address_is_heard_as_both(street: Street, kit: Kit) -> None:
    with opened(street, kit) as neighbour, wire(street, "lon2") as cable:
        cable.send(arp(1, "10.1.0.12", MACS["lon2"], FLOATS[4]))
        asked = AddressAsked("eth0", FLOATS[4])
        assert said(neighbour, asked) == [
            asked,
            NeighbourSeen("eth0", "10.1.0.12", MACS["lon2"], to_us=False),
        ]


@pytest.mark.parametrize(
    "frame",
    [
        arp(1, CLIENT[4], CLIENT_MAC, FLOATS[4], to=MACS["lon1"]),
        arp(1, CLIENT[4], CLIENT_MAC, FAR[4]),
        arp(1, "0.0.0.0", MACS["lon1"], FLOATS[4]),
        arp(2, CLIENT[4], CLIENT_MAC, FLOATS[4]),
    ],
    ids=["unicast", "another address", "our own probe, come back", "an answer"],
)
def test_other_questions_are_not(street: Street, kit: Kit, frame: bytes) -> None:
    last = NeighbourSeen("eth0", "10.1.0.12", MACS["lon2"], to_us=False)
    with opened(street, kit) as neighbour, wire(street, "lon2") as cable:
        cable.send(frame)
        cable.send(arp(2, "10.1.0.12", MACS["lon2"], FAR[4]))
        assert said(neighbour, last) == [last]


def test_a_peers_unicast_question_is_only_a_word_of_the_peer(street: Street, kit: Kit) -> None:
    last = NeighbourSeen("eth0", "10.1.0.12", MACS["lon2"], to_us=False)
    with opened(street, kit) as neighbour, wire(street, "lon2") as cable:
        cable.send(arp(1, "10.1.0.12", MACS["lon2"], FLOATS[4], to=MACS["lon1"]))
        assert said(neighbour, last) == [last]


def test_many_questions_that_waited_are_one(street: Street, kit: Kit) -> None:
    frame = arp(1, CLIENT[4], CLIENT_MAC, FLOATS[4])
    with opened(street, kit) as neighbour, wire(street, "lon1") as came:
        with wire(street, "lon2") as cable:
            for _ in range(100):
                cable.send(frame)
            cable.send(last := arp(1, CLIENT[4], CLIENT_MAC, FAR[4]))
        arrived(came, last)
        assert neighbour.receive() == [AddressAsked("eth0", FLOATS[4])]


def test_in_a_storm_of_questions_they_are_let_gather_and_afterwards_no_more(
    street: Street, kit: Kit
) -> None:
    clock, frame = Clock(), arp(1, CLIENT[4], CLIENT_MAC, FLOATS[4])
    with opened(street, kit, clock) as neighbour, wire(street, "lon1") as came:
        with wire(street, "lon2") as cable:
            for _ in range(FLOOD_FRAMES + 1):
                cable.send(frame)
            cable.send(last := arp(1, CLIENT[4], CLIENT_MAC, FAR[4]))
        arrived(came, last)
        neighbour.receive()
        assert clock.pauses == []
        neighbour.receive()
        assert clock.pauses == [GATHER_S]
        clock.now += WINDOW_MS
        neighbour.receive()
        neighbour.receive()
        assert clock.pauses == [GATHER_S] * 2


# ---------------------------------------------------------------- gateways and witnesses


def test_a_gateway_is_heard_when_it_answers_us_and_not_when_it_asks(
    street: Street, kit: Kit
) -> None:
    with opened(street, kit) as neighbour, wire(street, "lon2") as cable:
        assert neighbour.ask("eth0", GATEWAY)
        cable.send(arp(1, GATEWAY, "02:00:00:00:01:98", FAR[4]))
        cable.send(arp(2, GATEWAY, "02:00:00:00:01:99", FAR[4], to=CLIENT_MAC))
        cable.send(arp(2, GATEWAY, CLIENT_MAC, "10.1.0.11", to=MACS["lon1"]))
        answer = NeighbourSeen("eth0", GATEWAY, CLIENT_MAC)
        assert said(neighbour, answer) == [answer]


@pytest.mark.parametrize("family", [4, 6])
def test_a_client_that_was_overheard_is_asked_and_its_answer_heard(
    street: Street, kit: Kit, family: int
) -> None:
    with opened(street, kit) as neighbour, wire(street, "lon1") as came:
        meet_the_peer(neighbour)
        assert neighbour.ask_witnesses("eth0") == 0
        speak(street, family, FAR[family])
        overheard(came, CLIENT_MAC)
        assert select.select(neighbour.filenos(), [], [], 0)[0] == [], "the keeper was woken"
        assert neighbour.ask_witnesses("eth0") == 1
        said(neighbour, NeighbourSeen("eth0", CLIENT[family], CLIENT_MAC))


def overheard(cable: socket.socket, mac: str) -> None:
    """Until something arrives of that machine that asks or tells of neighbours."""
    while True:
        frame = cable.recv(2048)
        discovery = frame[12:14] == b"\x86\xdd" and frame[20] == 58 and frame[54] in (135, 136)
        if frame[6:12].hex(":") == mac and (frame[12:14] == b"\x08\x06" or discovery):
            return


def test_a_witness_that_asks_has_not_answered(street: Street, kit: Kit) -> None:
    with opened(street, kit) as neighbour, wire(street, "lon2") as cable:
        meet_the_peer(neighbour)
        cable.send(arp(1, "10.1.0.60", "02:00:00:00:01:60", FAR[4]))
        with wire(street, "lon1") as came:
            cable.send(last := arp(1, "10.1.0.60", "02:00:00:00:01:60", "10.1.0.78"))
            arrived(came, last)
        assert neighbour.ask_witnesses("eth0") == 1
        cable.send(arp(1, "10.1.0.60", "02:00:00:00:01:98", FAR[4]))
        cable.send(arp(2, "10.1.0.60", "02:00:00:00:01:99", FAR[4], to=CLIENT_MAC))
        cable.send(arp(2, "10.1.0.60", "02:00:00:00:01:60", "10.1.0.11", to=MACS["lon1"]))
        answer = NeighbourSeen("eth0", "10.1.0.60", "02:00:00:00:01:60")
        assert said(neighbour, answer) == [answer]


def test_a_peer_under_another_address_is_asked_for_its_own_and_is_no_witness(
    street: Street, kit: Kit
) -> None:
    with opened(street, kit) as neighbour, wire(street, "lon1") as came:
        with wire(street, "lon2") as cable:
            cable.send(last := arp(1, "10.1.0.61", MACS["lon2"], FAR[4]))
        arrived(came, last)
        neighbour.ask_witnesses("eth0")
        said(neighbour, *PEER_ANSWERS)
        assert neighbour.ask_witnesses("eth0") == 0


def test_the_kernels_neighbours_are_witnesses_from_the_first(street: Street, kit: Kit) -> None:
    with opened(street, kit) as neighbour:
        for number, state in ((62, "failed"), (63, "noarp")):
            mac = ("lladdr", f"02:00:00:00:01:{number}", "nud", state)
            street.ip("lon1", "neigh", "replace", f"10.1.0.{number}", *mac, "dev", "eth0")
        mac = ("lladdr", CLIENT_MAC, "nud", "stale")
        street.ip("lon1", "neigh", "replace", CLIENT[4], *mac, "dev", "eth0")
        mac = ("lladdr", "02:00:00:00:09:64", "nud", "stale")
        street.ip("lon1", "neigh", "replace", "10.9.0.64", *mac, "dev", "eth1")
        assert neighbour.ask_witnesses("eth0") == 1
        said(neighbour, NeighbourSeen("eth0", CLIENT[4], CLIENT_MAC))
    street.ip("lon1", "neigh", "flush", "all", "nud", "all")


def test_on_a_busy_link_the_witnesses_stay_current(street: Street, kit: Kit) -> None:
    clock = Clock()
    with opened(street, kit, clock) as neighbour, wire(street, "lon1") as came:
        meet_the_peer(neighbour)
        with wire(street, "lon2") as cable:
            for number in range(500):
                mac = f"02:00:00:01:{number >> 8:02x}:{number & 255:02x}"
                cable.send(last := arp(1, f"10.1.200.{number % 250}", mac, FAR[4]))
            arrived(came, last)
            clock.now += OVERHEAR_MS
            neighbour.receive()
            cable.send(last := arp(1, "10.1.0.65", "02:00:00:00:01:65", FAR[4]))
            arrived(came, last)
            assert neighbour.ask_witnesses("eth0") == 3
            answer = arp(2, "10.1.0.65", "02:00:00:00:01:65", "10.1.0.11", to=MACS["lon1"])
            cable.send(answer)
            said(neighbour, NeighbourSeen("eth0", "10.1.0.65", "02:00:00:00:01:65"))


def test_where_nothing_concerns_us_nobody_is_asked(street: Street, kit: Kit) -> None:
    with opened(street, kit) as neighbour:
        assert neighbour.ask_witnesses("eth7") == 0


def test_without_a_carrier_nobody_was_asked(street: Street, kit: Kit) -> None:
    with opened(street, kit) as neighbour:
        mac = ("lladdr", CLIENT_MAC, "nud", "permanent")
        street.ip("lon1", "neigh", "replace", CLIENT[4], *mac, "dev", "eth0")
        neighbour._crowds["eth0"].look(0)
        street.ip("lon1", "link", "set", "eth0", "down")
        try:
            assert neighbour.ask_witnesses("eth0") == 0
        finally:
            street.ip("lon1", "link", "set", "eth0", "up")
            wait_until(lambda: street.ready("lon1"), "the cable is there again")
