# SPDX-License-Identifier: GPL-2.0-or-later
"""How often something may be tried."""

from hypothesis import given
from hypothesis import strategies as st

from agent.core.budget import Budget


def test_three_in_ten_minutes_are_three_and_no_more():
    budget = Budget(3, 600_000)
    assert [budget.take(at) for at in (0, 1, 2, 3)] == [True, True, True, False]
    assert budget.left(3) == 0


def test_failures_are_forgiven_one_by_one_not_all_at_once():
    budget = Budget(2, 1000)
    budget.take(0)
    budget.take(400)
    assert [budget.left(at) for at in (999, 1000, 1399, 1400)] == [0, 1, 1, 2]


def test_the_deadline_is_when_the_oldest_take_comes_back():
    budget = Budget(2, 1000)
    assert budget.deadline() is None
    budget.take(7)
    budget.take(500)
    assert budget.deadline() == 1007


def test_a_refused_take_costs_nothing():
    budget = Budget(1, 1000)
    budget.take(0)
    assert not budget.take(900)
    assert budget.take(1000)


def test_an_empty_budget_never_gives():
    assert not Budget(0, 1000).take(5)


def test_clearing_gives_the_whole_budget_back():
    budget = Budget(2, 1000)
    budget.take(0)
    budget.take(0)
    budget.clear()
    assert budget.left(0) == 2


@given(
    n=st.integers(0, 5),
    window_ms=st.integers(1, 1000),
    waits=st.lists(st.integers(0, 400), max_size=60),
)
def test_no_window_ever_holds_more_takes_than_the_budget(n, window_ms, waits):
    budget = Budget(n, window_ms)
    now, taken = 0, []
    for wait in waits:
        now += wait
        before = budget.left(now)
        if budget.take(now):
            taken.append(now)
            assert budget.left(now) == before - 1
        else:
            assert before == 0
        assert sum(now - window_ms < at for at in taken) <= n
