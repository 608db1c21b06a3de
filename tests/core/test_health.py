# SPDX-License-Identifier: GPL-2.0-or-later
"""What answers and levels say about health."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.health import CheckHealth, LevelHealth, combine
from agent.core.model import Answer, Health
from agent.core.settings import CheckSettings

UP, DEGRADED, DOWN, UNKNOWN = Health.UP, Health.DEGRADED, Health.DOWN, Health.UNKNOWN
YES, NO, CANNOT = Answer(True, "200"), Answer(False, "refused"), Answer(None, "no socket left")


def check(rise=2, fall=3, stale_after_ms=10_000):
    return CheckHealth(
        CheckSettings("web", "tcp", "x:1", rise=rise, fall=fall, stale_after_ms=stale_after_ms)
    )


def hear(health, *answers, start=0, step=1000):
    return [health.hear(answer, start + i * step) for i, answer in enumerate(answers)]


# ---------------------------------------------------------------- checks


def test_a_check_is_unknown_until_it_was_heard_often_enough():
    health = check()
    assert health.judge(0) is UNKNOWN
    assert hear(health, YES, YES) == [None, UP]


def test_the_first_bad_verdict_takes_fall_answers_too():
    health = check()
    assert hear(health, NO, NO, NO) == [None, None, DOWN]


def test_one_failure_is_forgiven_and_three_in_a_row_are_not():
    health = check()
    assert hear(health, YES, YES, NO, NO, YES, NO, NO, NO, NO) == [
        None, UP, None, None, None, None, None, DOWN, None,
    ]  # fmt: skip


def test_a_service_that_is_down_must_answer_rise_times_to_be_up():
    health = check()
    hear(health, NO, NO, NO)
    assert hear(health, YES, NO, YES, YES, start=3000) == [None, None, None, UP]


def test_an_impossible_question_neither_fails_nor_interrupts_a_row():
    health = check()
    assert hear(health, CANNOT, CANNOT, CANNOT, CANNOT) == [None] * 4
    assert hear(health, NO, CANNOT, NO, CANNOT, NO, start=4000) == [None, None, None, None, DOWN]


def test_no_answer_becomes_unknown_never_down():
    health = check()
    hear(health, YES, YES)
    assert health.judge(10_999) is UP
    assert health.judge(11_000) is UNKNOWN


def test_a_check_that_cannot_be_asked_goes_stale_as_if_silent():
    health = check()
    hear(health, YES, YES)
    edges = hear(health, *[CANNOT] * 12, start=2000)
    assert edges.index(UNKNOWN) == 9
    assert health.detail == "no socket left"


def test_after_staleness_the_rows_begin_anew():
    health = check()
    hear(health, YES, YES, NO, NO)
    assert health.hear(NO, 60_000) is UNKNOWN
    assert hear(health, NO, NO, start=61_000) == [None, DOWN]


def test_the_deadline_is_when_the_verdict_goes_stale():
    health = check()
    assert health.deadline() is None
    hear(health, YES, YES)
    assert health.deadline() == 11_000
    health.judge(11_000)
    assert health.deadline() is None


@given(
    st.integers(1, 4),
    st.integers(1, 4),
    st.lists(st.tuples(st.sampled_from([YES, NO, CANNOT]), st.integers(1, 6000)), max_size=40),
)
def test_edges_are_the_changes_of_the_verdict_and_rest_on_enough_answers(rise, fall, heard):
    health = check(rise, fall)
    now, told, row = 0, UNKNOWN, []
    for answer, wait in heard:
        now += wait
        if health.heard_ms is not None and now - health.heard_ms >= 10_000:
            row = []
        if answer.ok is not None:
            row = [*row, answer.ok] if row and row[-1] == answer.ok else [answer.ok]
        edge = health.hear(answer, now)
        assert edge is None or edge is not told
        told = edge or told
        assert health.judge(now) is told
        if edge is UP:
            assert len(row) >= rise
            assert row[-1] is True
        if edge is DOWN:
            assert len(row) >= fall
            assert row[-1] is False


# ---------------------------------------------------------------- slow hosts, drains, rhythm

SILENCE, EXCUSED = Answer(False, "no answer", 100), Answer(None, "the host stood still", 100)
DRAINS = Answer(True, "503", 1, draining=True)


def quick(kind="sip", rise=2, fall=3):
    return CheckHealth(CheckSettings("sip", kind, "x:1", every_ms=200, timeout_ms=100,
                                     rise=rise, fall=fall, retry_ms=100))  # fmt: skip


def test_silence_on_a_slow_host_counts_a_third_so_that_a_hang_is_found_in_three_times_the_time():
    health = quick()
    hear(health, YES, YES)
    assert hear(health, *[EXCUSED] * 9, start=2000, step=100) == [*[None] * 8, DOWN]
    assert health.silent


def test_silence_on_a_slow_host_and_plain_silence_are_added():
    health = quick()
    hear(health, YES, YES)
    assert hear(health, SILENCE, EXCUSED, SILENCE, EXCUSED, EXCUSED, start=2000, step=100) == [
        None, None, None, None, DOWN,
    ]  # fmt: skip


def test_one_answer_on_a_slow_host_wipes_its_silence_out():
    health = quick()
    hear(health, YES, YES, *[EXCUSED] * 8, YES, *[EXCUSED] * 8)
    assert health.health is UP


@pytest.mark.parametrize("kind", ["unit", "process"])
def test_where_somebody_else_is_asked_about_the_service_their_silence_is_not_its_own(kind):
    health = quick(kind)
    hear(health, YES, YES)
    assert hear(health, *[EXCUSED] * 30, start=2000, step=100) == [None] * 30


def test_a_refusal_is_not_silence():
    health = quick()
    hear(health, SILENCE, NO)
    assert not health.silent


def test_a_service_that_drains_is_degraded_until_it_takes_work_again():
    health = quick()
    assert hear(health, YES, YES, DRAINS, DRAINS, YES) == [None, UP, DEGRADED, None, UP]


def test_it_is_asked_sooner_while_answers_are_counted_that_would_turn_the_verdict():
    health = quick()
    assert health.ask_again_ms() == 200
    for answer, again_ms in ((YES, 200), (YES, 200), (NO, 100), (NO, 100), (NO, 200), (NO, 200)):
        health.hear(answer, 0)
        assert health.ask_again_ms() == again_ms
    health.hear(YES, 0)
    assert health.ask_again_ms() == 100


def test_a_service_that_is_being_started_is_asked_soonest_until_it_is_up():
    health = CheckHealth(quick().settings, eager=True)
    hear(health, NO, NO, NO, NO)
    assert health.ask_again_ms() == 50
    hear(health, YES, start=4000)
    assert health.ask_again_ms() == 25
    hear(health, YES, start=5000)
    assert health.ask_again_ms() == 200


def test_a_rhythm_quicker_than_the_retries_stays():
    health = CheckHealth(CheckSettings("c", "tcp", "x:1", every_ms=50, retry_ms=100))
    hear(health, NO)
    assert health.ask_again_ms() == 50


def test_only_what_answers_fast_and_is_not_down_is_asked_again_before_its_limit():
    health = quick()
    assert health.overdue_ms() == 66
    hear(health, Answer(True, "", 34))
    assert health.overdue_ms() == 0, "its good answers take that long"
    hear(health, Answer(True, "", 33))
    assert health.overdue_ms() == 66
    hear(health, NO, NO, NO)
    assert health.overdue_ms() == 0
    assert quick("command").overdue_ms() == 0


def test_a_hang_is_known_in_450_ms_where_it_is_asked_each_200_ms_with_a_limit_of_100():
    health = quick()
    health.hear(YES, 0)
    health.hear(YES, 0)
    due_ms, missed, now = 200, [], 0  # it hangs right after it was asked
    while health.health is UP:
        now = min([due_ms, *missed])
        if now == due_ms:
            missed.append(due_ms + health.settings.timeout_ms)
            due_ms += health.overdue_ms()
        else:
            missed.remove(now)
            health.hear(SILENCE, now)
    assert health.health is DOWN
    assert now <= 450


# ---------------------------------------------------------------- several


@pytest.mark.parametrize(
    ("healths", "whole"),
    [
        ([], UP),
        ([UP, UP], UP),
        ([UP, DEGRADED], DEGRADED),
        ([DEGRADED, UNKNOWN, UP], UNKNOWN),
        ([UNKNOWN, DOWN, DEGRADED], DOWN),
    ],
)
def test_the_worst_of_several_speaks_for_all(healths, whole):
    assert combine(healths) is whole


@given(st.lists(st.sampled_from(Health)), st.lists(st.sampled_from(Health)))
def test_it_does_not_matter_how_checks_are_grouped(some, others):
    assert combine(some + others) is combine([combine(some), combine(others)])


# ---------------------------------------------------------------- levels


def level(rising=True):
    if rising:
        return LevelHealth(90.0, 97.0, 5.0, 30_000)
    return LevelHealth(600.0, 300.0, 60.0, 30_000, rising=False)


def test_a_level_is_unknown_until_a_value_is_known():
    health = level()
    assert health.judge(0) is UNKNOWN
    assert health.add(None, 0) is None
    assert health.add(50.0, 1) is UP


def test_a_level_on_the_threshold_does_not_flap():
    health = level()
    health.add(80.0, 0)
    edges = [health.add(90.0 + (-1) ** i, i) for i in range(1, 20)]
    assert [edge for edge in edges if edge] == [DEGRADED]
    assert health.add(84.9, 30) is UP


def test_critical_is_left_for_warning_before_it_is_well():
    health = level()
    assert health.add(98.0, 0) is DOWN
    assert health.add(92.1, 1) is None
    assert health.add(91.9, 2) is DEGRADED
    assert health.add(84.9, 3) is UP


def test_critical_that_falls_just_below_warning_is_still_a_warning():
    health = level()
    health.add(98.0, 0)
    assert health.add(86.0, 1) is DEGRADED


def test_a_falling_level_warns_below_its_thresholds():
    health = level(rising=False)
    assert health.add(1800.0, 0) is UP
    assert health.add(600.0, 1) is DEGRADED
    assert health.add(300.0, 2) is DOWN
    assert health.add(350.0, 3) is None
    assert health.add(361.0, 4) is DEGRADED
    assert health.add(661.0, 5) is UP


@pytest.mark.parametrize("nothing", [None, math.nan])
def test_a_value_that_is_not_known_leaves_the_level_until_it_is_stale(nothing):
    health = level()
    health.add(95.0, 0)
    assert health.add(nothing, 29_999) is None
    assert health.health is DEGRADED
    assert health.add(nothing, 30_000) is UNKNOWN


def test_a_level_forgets_its_hysteresis_when_it_was_unknown():
    health = level()
    health.add(95.0, 0)
    health.judge(30_000)
    assert health.add(86.0, 30_001) is UP


def test_a_levels_deadline_is_when_it_goes_stale():
    health = level()
    assert health.deadline() is None
    health.add(50.0, 100)
    assert health.deadline() == 30_100
