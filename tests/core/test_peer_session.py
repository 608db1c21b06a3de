# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.core.peer_session import FRESH, MOST_RETIRED, REPLAYED, STALE, WINDOW, Session

OURS = 77  # our own boot
OLD, NEW, NEWER = 11, 12, 13  # the peer's


def known(boot: int = NEW, counter: int = 1) -> Session:
    session = Session()
    assert session.judge(boot, counter, OURS, OURS) == FRESH
    return session


def test_a_packet_that_names_our_boot_is_fresh_once() -> None:
    session = known()
    assert session.boot == NEW
    assert session.judge(NEW, 1, OURS, OURS) == REPLAYED
    assert session.judge(NEW, 2, OURS, OURS) == FRESH


def test_a_packet_for_another_boot_of_ours_is_stale_and_teaches_nothing() -> None:
    session = Session()
    assert session.judge(NEW, 1, 76, OURS) == STALE
    assert session.judge(NEW, 1, 0, OURS) == STALE
    assert session.boot == 0


def test_a_stale_packet_of_another_boot_does_not_end_the_present_one() -> None:
    session = known()
    assert session.judge(OLD, 1, 76, OURS) == STALE
    assert session.judge(NEW, 2, OURS, OURS) == FRESH


def test_a_boot_that_was_followed_by_another_never_comes_back() -> None:
    session = known(OLD)
    assert session.judge(NEW, 1, OURS, OURS) == FRESH
    assert session.judge(OLD, 99, OURS, OURS) == REPLAYED
    assert session.judge(OLD, 99, 0, OURS) == REPLAYED
    assert session.boot == NEW


def test_packets_may_overtake_one_another_within_the_window() -> None:
    session = known(counter=100)
    assert session.judge(NEW, 101 - WINDOW, OURS, OURS) == FRESH
    assert session.judge(NEW, 100 - WINDOW, OURS, OURS) == REPLAYED
    assert session.judge(NEW, 101 - WINDOW, OURS, OURS) == REPLAYED


def test_a_leap_forgets_only_what_is_behind_the_window() -> None:
    session = known(counter=1)
    assert session.judge(NEW, 1_000_000, OURS, OURS) == FRESH
    assert session.judge(NEW, 1, OURS, OURS) == REPLAYED
    assert session.judge(NEW, 999_999, OURS, OURS) == FRESH


def test_a_stale_packet_of_the_present_boot_counts_as_heard() -> None:
    session = known()
    assert session.judge(NEW, 2, 0, OURS) == STALE
    assert session.judge(NEW, 2, 0, OURS) == REPLAYED


def test_memory_of_retired_boots_is_bounded() -> None:
    session = Session()
    for boot in range(1, MOST_RETIRED + 100):
        assert session.judge(boot, 1, OURS, OURS) == FRESH
    assert len(session._retired) == MOST_RETIRED


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 200), st.sampled_from([0, OURS]))))
def test_no_packet_is_fresh_twice(packets: list[tuple[int, int, int]]) -> None:
    session = Session()
    fresh = [it for it in packets if session.judge(*it, OURS) == FRESH]
    assert len(fresh) == len(set(fresh))


@given(st.permutations(range(1, WINDOW + 1)))
def test_whatever_their_order_all_packets_of_a_window_are_believed(order: list[int]) -> None:
    session = Session()
    assert all(session.judge(NEW, counter, OURS, OURS) == FRESH for counter in order)
