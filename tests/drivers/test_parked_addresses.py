# SPDX-License-Identifier: GPL-2.0-or-later
"""Addresses that stay on the loopback interface after a hand-over, for answers under way."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.core.keeping import AddressAsked, NeighbourSeen
from drivers.addresses import Addresses
from drivers.neighbour import Neighbour
from drivers.silence import silence
from tests.drivers.street import GROUP, MACS, Street, heard, laid
from tests.lab.netns import wait_until

DRAINED = replace(GROUP, drain_ms=30_000)
FAMILIES = {"10.1.0.100": socket.AF_INET, "fd00:1::100": socket.AF_INET6}
PEERS = {"10.1.0.100": "10.1.0.12", "fd00:1::100": "fd00:1::12"}


@pytest.fixture(scope="module")
def street() -> Iterator[Street]:
    with laid() as street:
        yield street


@pytest.fixture
def addresses(street: Street) -> Iterator[Addresses]:
    """Prepared, taken."""
    kit = street.forge("lon1", DRAINED)
    with street.inside("lon1"):
        addresses = Addresses(kit)
        assert addresses.prepare() == []
    assert addresses.take("sbc", 30) == (True, "")
    try:
        yield addresses
    finally:
        addresses.take("sbc", 1)
        addresses.release("sbc")
        addresses.close()


def parked(street: Street) -> list[str]:
    words = street.ip("lon1", "-o", "addr", "show", "dev", "lo", "scope", "global").split()
    return [word for word in words if word.partition("/")[0] in FAMILIES]


def test_released_addresses_stay_for_a_time_where_nobody_sees_them(
    street: Street, addresses: Addresses
) -> None:
    assert addresses.release("sbc", 20) == (True, "")
    assert not addresses.present("sbc")
    assert parked(street) == ["10.1.0.100/32", "fd00:1::100/128"]
    assert addresses.take("sbc", 30) == (True, "")
    assert addresses.held("sbc")
    assert parked(street) == []


def test_the_kernel_ends_the_time(street: Street, addresses: Addresses) -> None:
    addresses.release("sbc", 1)
    assert parked(street)
    wait_until(lambda: not parked(street), "the parked addresses go")


def test_without_a_time_nothing_is_parked(street: Street, addresses: Addresses) -> None:
    assert addresses.release("sbc") == (True, "")
    assert parked(street) == []


@pytest.mark.parametrize("address", FAMILIES)
def test_a_conversation_under_way_goes_on_from_the_parked_address(
    street: Street, addresses: Addresses, address: str
) -> None:
    with street.inside("lon1"):
        server = socket.create_server((address, 4711), family=FAMILIES[address])
    with street.inside("lon2"):
        client = socket.create_connection((address, 4711), timeout=5)
    with server, client:
        served, _ = server.accept()
        with served:
            addresses.release("sbc", 20)
            street.ip("lon1", "neigh", "flush", "dev", "eth0")
            served.sendall(b"late")
            assert client.recv(99) == b"late"
            client.sendall(b"thanks")
            assert served.recv(99) == b"thanks"


@pytest.mark.parametrize("address", FAMILIES)
def test_a_parked_address_is_neither_answered_for_nor_told_of(
    street: Street, addresses: Addresses, address: str
) -> None:
    with street.inside("lon2"):
        neighbour = Neighbour(street.forge("lon2", DRAINED))

    def said() -> list[NeighbourSeen]:
        """What is said of it until lon1 has answered for itself."""
        assert neighbour.ask("eth0", "10.1.0.11")
        heard_now: list[NeighbourSeen] = []

        def answered(seen: list[NeighbourSeen | AddressAsked]) -> bool:
            heard_now[:] = [it for it in seen if isinstance(it, NeighbourSeen)]
            return any((it.address, it.mac) == ("10.1.0.11", MACS["lon1"]) for it in heard_now)

        heard(neighbour.receive, neighbour.filenos(), answered)
        return [it for it in heard_now if it.address == address]

    try:
        assert neighbour.ask("eth0", address)
        assert said(), "while it is held it is answered for"
        addresses.release("sbc", 20)
        neighbour.receive()
        street.ip("lon1", "neigh", "flush", "dev", "eth0")
        kind = FAMILIES[address]
        with street.inside("lon1"), socket.socket(kind, socket.SOCK_DGRAM) as mouth:
            mouth.bind((address, 0))
            with street.inside("lon2"), socket.socket(kind, socket.SOCK_DGRAM) as ear:
                ear.bind((PEERS[address], 4712))
                ear.settimeout(5)
                mouth.sendto(b"late", (PEERS[address], 4712))
                assert ear.recvfrom(99)[1][0] == address
        assert neighbour.ask("eth0", address)
        assert said() == []
    finally:
        neighbour.close()


def test_what_cannot_be_silenced_is_said_with_what_to_do(tmp_path: Path) -> None:
    settings = tmp_path / "ipv4/conf/eth0"
    (settings / "arp_announce").mkdir(parents=True)
    (settings / "arp_ignore").write_text("0")
    assert list(silence("eth0", conf=tmp_path)) == [
        "eth0: arp_announce cannot be set (Is a directory);"
        " say `net/ipv4/conf/eth0/arp_announce = 2` in a file of /etc/sysctl.d"
    ]
    assert (settings / "arp_ignore").read_text() == "1"
    assert list(silence("eth7", conf=tmp_path)) == []
