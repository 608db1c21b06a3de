# SPDX-License-Identifier: GPL-2.0-or-later
"""Floods of advertisements cost little and hide nobody: the sieve alone, and on real packets."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from scapy.layers.inet import IP

from agent.core import vrrp_wire
from agent.core.keeping import AdvertSeen, PacketRefused
from drivers.vrrp import FLOOD_MS, GATHER_S, RECEIVES_AT_ONCE, Sieve, Vrrp
from tests.drivers.street import FLOATING, GROUP, Clock, Street, heard, laid
from tests.lab.netns import wait_until

FOUR = replace(GROUP, addresses=(FLOATING,), unicast=True)
OURS, PEER, STRANGER = "10.1.0.11", "10.1.0.12", "10.1.0.200"
SECOND = 1_000


def let(sieve: Sieve, source: str, times: range, vrid: int = 51) -> int:
    """How many of a sender's advertisements at these moments are read."""
    return sum(sieve.lets(source, vrid, now) for now in times)


# ---------------------------------------------------------------- the sieve alone


def test_an_honest_sender_at_the_shortest_interval_is_always_read() -> None:
    assert let(Sieve(), PEER, range(0, 60 * SECOND, 10)) == 6_000


def test_ten_seconds_of_the_shortest_interval_may_come_at_once_after_a_freeze() -> None:
    sieve = Sieve()
    assert sum(sieve.lets(PEER, 51, 100) for _ in range(1_000)) == 1_000


def test_of_a_flooding_sender_two_hundred_a_second_are_read() -> None:
    sieve, minute = Sieve(), range(60 * SECOND)
    read = sum(sieve.lets(STRANGER, 51, now) for now in minute for _ in range(10))
    assert 200 * 60 <= read <= 200 * 60 + 1_100


def test_a_flooding_sender_takes_nothing_from_another_one_nor_from_another_router() -> None:
    sieve, read = Sieve(), 0
    for now in range(20 * SECOND):
        let(sieve, STRANGER, range(now, now + 1), 51)
        if now % 10 == 0:
            read += sieve.lets(PEER, 51, now) + sieve.lets(STRANGER, 52, now)
    assert read == 2 * 2_000


def test_forged_senders_without_number_share_a_thousand_a_second() -> None:
    sieve = Sieve()
    read = sum(sieve.lets(f"s{now}-{n}", 51, now) for now in range(10 * SECOND) for n in range(10))
    assert 10 * SECOND <= read <= 13 * SECOND


def test_forged_senders_do_not_push_out_those_that_were_there_before() -> None:
    sieve = Sieve()
    assert let(sieve, PEER, range(0, 20 * SECOND, 200)) == 100
    read = 0
    for now in range(20 * SECOND, 40 * SECOND):
        for number in range(10):
            sieve.lets(f"s{now}-{number}", 51, now)
        if now % 200 == 0:
            read += sieve.lets(PEER, 51, now)
    assert read == 100


def test_a_sender_that_comes_after_a_flood_finds_room_and_stays() -> None:
    sieve = Sieve()
    for number in range(2 * Sieve.SENDERS):
        sieve.lets(f"s{number}", 51, 0)
    assert let(sieve, PEER, range(SECOND, 20 * SECOND, 200)) == 95
    read = 0
    for now in range(20 * SECOND, 30 * SECOND):
        for number in range(10):
            sieve.lets(f"s{now}-{number}", 51, now)
        if now % 200 == 0:
            read += sieve.lets(PEER, 51, now)
    assert read == 50


def test_no_flood_makes_the_sieve_remember_more_than_a_few_hundred_senders() -> None:
    sieve = Sieve()
    for now in range(30 * SECOND):
        sieve.lets(f"s{now}", 51, now)
        sieve.lets(f"old{now % 400}", 51, now)  # these stay for long
    assert len(sieve._senders) <= Sieve.SENDERS


# ---------------------------------------------------------------- on real packets


@pytest.fixture(scope="module")
def street() -> Iterator[Street]:
    with laid() as street:
        yield street


@contextmanager
def listening(street: Street) -> Iterator[tuple[Vrrp, Clock]]:
    clock, kit = Clock(), street.forge("lon1", FOUR)
    with street.inside("lon1"):
        vrrp = Vrrp(kit, clock, clock.pause)
    try:
        yield vrrp, clock
    finally:
        vrrp.close()


@contextmanager
def sender(street: Street) -> Iterator[socket.socket]:
    """Of whole IPv4 packets, from whatever source they say (raw(7))."""
    with street.inside("lon2"):
        raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    with raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
        yield raw


def packet(source: str, vrid: int = 51, version: int = 3) -> bytes:
    body = vrrp_wire.encode(4, vrid, 254, 200, ("10.1.0.100",), source, OURS, True)
    body = bytes([version << 4 | 1]) + body[1:]
    return bytes(IP(src=source, dst=OURS, ttl=255, proto=vrrp_wire.PROTOCOL) / body)


MARK = packet("10.1.0.99")[:24]  # cut short: refused, so that it is seen


def fill(raw: socket.socket, packets: list[bytes]) -> None:
    for it in packets:
        raw.sendto(it, (OURS, 0))


def drained(vrrp: Vrrp) -> list[AdvertSeen | PacketRefused]:
    """All that waits, until a mark that is sent last has come."""
    return heard(
        vrrp.receive,
        vrrp.filenos(),
        lambda seen: any(isinstance(it, PacketRefused) for it in seen),
    )


def test_a_peer_is_read_through_a_flood_and_the_rest_is_only_counted(street: Street) -> None:
    with listening(street) as (vrrp, clock), sender(street) as raw:
        peers = 0
        for _ in range(10):
            fill(raw, [packet(STRANGER)] * 500 + [packet(PEER), MARK])
            seen = drained(vrrp)
            clock.now += 100
            peers += sum(isinstance(it, AdvertSeen) and it.source == PEER for it in seen)
        assert peers == 10
        assert vrrp.counters["advert-flood"] >= 10 * 500 - 1_250


def test_in_a_flood_packets_are_let_gather_and_afterwards_no_more(street: Street) -> None:
    with listening(street) as (vrrp, clock), sender(street) as raw:
        fill(raw, [packet(STRANGER)] * 900 + [MARK])
        drained(vrrp)
        assert clock.pauses == [], "nothing was passed over: no flood"
        fill(raw, [packet(STRANGER)] * 900 + [MARK])
        drained(vrrp)
        vrrp.receive()
        assert set(clock.pauses) == {GATHER_S}
        clock.now += FLOOD_MS
        clock.pauses.clear()
        vrrp.receive()
        assert clock.pauses == []


def test_what_a_freeze_left_in_the_queue_is_all_read_before_receive_returns(
    street: Street,
) -> None:
    with listening(street) as (vrrp, _), sender(street) as raw:
        both = [packet(PEER), packet("10.1.0.13")] * 500  # five seconds, 10 ms, two peers
        fill(raw, [*both, MARK])
        ear = vrrp._ears[4, "eth0"].socket
        wait_until(lambda: waiting(ear), "the queue is there")
        seen = vrrp.receive()
        assert len(seen) == len(both) + 1
        assert len(both) < RECEIVES_AT_ONCE


def waiting(ear: socket.socket) -> bool:
    try:
        return bool(ear.recv(64, socket.MSG_PEEK))
    except BlockingIOError:
        return False


@pytest.mark.parametrize("version", [2, 3])
def test_others_virtual_routers_are_passed_over_in_silence(street: Street, version: int) -> None:
    with listening(street) as (vrrp, _), sender(street) as raw:
        fill(raw, [packet(STRANGER, vrid=77, version=version)] * 50 + [MARK])
        assert [type(it) for it in drained(vrrp)] == [PacketRefused]
        assert vrrp.counters["advert-flood"] == 0


def test_version_2_in_our_own_virtual_router_is_told(street: Street) -> None:
    with listening(street) as (vrrp, _), sender(street) as raw:
        raw.sendto(packet(STRANGER, version=2), (OURS, 0))
        (found,) = drained(vrrp)
        assert isinstance(found, PacketRefused)
        assert found.kind == "advert-version"
