# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import pytest

from agent.core.witnesses import ASKED, KEPT, PROVEN_MS, Witnesses

OWN, PEER = b"\x02ours!", b"\x02peer!"
PEERS_ADDRESS, ELSE = b"\x0a\x01\0\x0c", b"\x0a\x01\0\x3c"


def mac(number: int) -> bytes:
    return b"\x02mac" + number.to_bytes(2, "big")


def address(number: int) -> bytes:
    return b"\x0a\x02" + number.to_bytes(2, "big")


def crowd(*times: int) -> Witnesses:
    """One machine overheard at each of these times: number 1, 2..."""
    witnesses = Witnesses(OWN, {PEERS_ADDRESS}, {4})
    for number, at_ms in enumerate(times, 1):
        witnesses.overheard(mac(number), address(number), at_ms)
    return witnesses


def test_those_who_spoke_last_are_asked_first() -> None:
    assert crowd(10, 30, 20).chosen(40) == [address(2), address(3), address(1)]


def test_a_few_are_kept_and_fewer_asked() -> None:
    witnesses = crowd(*range(100))
    assert witnesses.chosen(200) == [address(100), address(99), address(98)]
    assert len(witnesses._machines) == KEPT > ASKED


def test_whoever_answered_is_asked_before_whoever_spoke_and_is_not_pushed_out() -> None:
    witnesses = crowd(1)
    witnesses.answered(mac(1), address(1), 2)
    for number in range(2, 50):
        witnesses.overheard(mac(number), address(number), 100 + number)
    assert witnesses.chosen(200)[0] == address(1)


def test_an_answer_of_long_ago_counts_no_more_than_a_word() -> None:
    witnesses = crowd(1)
    witnesses.answered(mac(1), address(1), 2)
    for number in range(2, 7):
        witnesses.overheard(mac(number), address(number), PROVEN_MS + number)
    assert address(1) not in witnesses.chosen(PROVEN_MS + 10)


def test_a_machine_with_many_addresses_is_one_witness() -> None:
    witnesses = crowd(1)
    witnesses.overheard(mac(1), address(70), 5)
    assert witnesses.chosen(10) == [address(1)]


def test_a_peer_is_no_witness_under_any_address() -> None:
    witnesses = Witnesses(OWN, {PEERS_ADDRESS}, {4})
    witnesses.overheard(PEER, ELSE, 1)
    assert witnesses.chosen(2) == [ELSE], "nobody could know"
    assert not witnesses.has_met(PEERS_ADDRESS)
    witnesses.answered(PEER, PEERS_ADDRESS, 3)
    assert witnesses.has_met(PEERS_ADDRESS)
    assert witnesses.chosen(4) == []
    witnesses.overheard(PEER, ELSE, 5)
    assert witnesses.chosen(6) == []


def test_a_peer_with_a_new_mac_frees_the_old_one() -> None:
    witnesses = Witnesses(OWN, {PEERS_ADDRESS}, {4})
    witnesses.overheard(PEER, PEERS_ADDRESS, 1)
    witnesses.overheard(mac(9), PEERS_ADDRESS, 2)
    witnesses.overheard(PEER, ELSE, 3)
    assert witnesses.chosen(4) == [ELSE]


@pytest.mark.parametrize(
    ("sender", "said"),
    [
        (OWN, ELSE),
        (b"\x01multi", ELSE),
        (mac(1), bytes(4)),
        (mac(1), bytes(15) + b"\1"),
        (mac(1), b""),
    ],
    ids=["ourselves", "a group", "a probe", "of a family we have no address in", "nothing"],
)
def test_not_everything_that_is_said_makes_a_witness(sender: bytes, said: bytes) -> None:
    witnesses = crowd()
    witnesses.overheard(sender, said, 1)
    assert witnesses.chosen(2) == []


def test_an_answer_for_another_address_than_was_asked_proves_nothing() -> None:
    witnesses = crowd(1, 2)
    witnesses.answered(mac(1), address(70), 50)
    assert witnesses.chosen(60) == [address(2), address(1)]
