# SPDX-License-Identifier: GPL-2.0-or-later
"""When a node counts as switched off, what is commanded when, and what may be fenced at all."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.fencing import (
    OPPOSITE,
    PATIENCE_MS,
    STANDS,
    STEPS,
    TEST_AGAIN_MS,
    TEST_EVERY_MS,
    TEST_MAX_AGE_MS,
    Arming,
    Sight,
    Step,
    Switching,
)

ON, OFF, UNKNOWN = Sight.ON, Sight.OFF, Sight.UNKNOWN
ON_WAITS, OFF_WAITS = Sight.ON_WAITS, Sight.OFF_WAITS
BEFORE = {
    ON: Step.COMMAND, OFF: Step.HOLD, ON_WAITS: Step.CLEAR, OFF_WAITS: Step.CLEAR,
    UNKNOWN: Step.LOOK,
}  # fmt: skip
AFTER = {
    ON: Step.LOOK, OFF: Step.HOLD, ON_WAITS: Step.LOOK, OFF_WAITS: Step.LOOK, UNKNOWN: Step.LOOK
}  # fmt: skip
LATER = {
    ON: Step.COMMAND, OFF: Step.HOLD, ON_WAITS: Step.LOOK, OFF_WAITS: Step.CLEAR,
    UNKNOWN: Step.LOOK,
}  # fmt: skip


def switching(*feeds, off=True):
    return Switching(feeds or ("a",), off, 0, 10_000)


def look(it, **sights):
    it.begin_round()
    for name, sight in sights.items():
        it.hear(name, sight)


def test_the_table_is_whole():
    assert STANDS.keys() == OPPOSITE.keys() == set(Sight)
    assert STEPS.keys() == set(STANDS.values())


@pytest.mark.parametrize("sight", Sight)
def test_what_is_done_with_a_feed_before_and_after_it_was_commanded(sight):
    it = switching()
    look(it, a=sight)
    assert it.step("a", 0) is BEFORE[sight]
    it.asked("a", 0)
    assert it.step("a", PATIENCE_MS - 1) is AFTER[sight]
    assert it.step("a", PATIENCE_MS) is LATER[sight]


@pytest.mark.parametrize("sight", Sight)
def test_on_is_the_mirror_of_off(sight):
    off, on = switching(), switching(off=False)
    look(off, a=sight)
    look(on, a=OPPOSITE[sight])
    assert off.step("a", 0) is on.step("a", 0)
    assert off.over(0) is on.over(0)


def test_off_is_only_what_every_feed_shows_in_one_look():
    it = switching("a", "b")
    look(it, a=OFF, b=ON)
    assert not it.over(0)
    look(it, a=UNKNOWN, b=OFF)
    assert not it.over(0)
    look(it, a=OFF, b=OFF)
    assert it.over(0)
    assert it.verdict().ok


def test_a_feed_that_did_not_answer_in_this_look_is_not_off_because_it_was():
    it = switching("a", "b")
    look(it, a=OFF, b=ON)
    it.begin_round()
    it.hear("b", OFF)
    assert not it.over(0)
    assert it.verdict().ok is None
    assert it.verdict().text == "a is unknown, was off, b is off"


def test_no_feed_is_commanded_before_each_was_seen():
    it = switching("a", "b")
    look(it, a=ON, b=UNKNOWN)
    assert it.step("a", 0) is Step.LOOK
    look(it, a=ON, b=OFF)
    assert it.step("a", 0) is Step.COMMAND
    look(it, a=ON, b=UNKNOWN)  # it was seen once, which is enough
    assert it.step("a", 0) is Step.COMMAND


def test_out_of_time_with_something_unknown_is_not_known():
    it = switching("a", "b")
    look(it, a=OFF, b=UNKNOWN)
    assert it.over(10_000)
    assert it.verdict().ok is None


def test_out_of_time_with_something_on_its_way_is_not_known():
    it = switching()
    it.asked("a", 1)
    look(it, a=ON_WAITS)
    assert it.verdict().ok is None


def test_out_of_time_and_on_although_it_took_the_command_is_a_lie():
    it = switching("a", "b")
    it.asked("a", 1)
    it.asked("b", 1)
    look(it, a=ON, b=OFF)
    verdict = it.verdict()
    assert (verdict.ok, verdict.lies) == (False, True)
    assert verdict.text == "a is on although it was commanded, b is off"


def test_a_refusal_ends_it_even_where_it_looks_off():
    it = switching()
    look(it, a=OFF)
    it.refuse("a", "its command failed")
    assert it.over(0)
    assert it.verdict().ok is False
    assert it.verdict().text == "a is off (its command failed)"


SIGHTS = st.lists(st.dictionaries(st.sampled_from("ab"), st.sampled_from(Sight)), max_size=20)


@given(SIGHTS)
def test_whatever_devices_say_off_is_off_everywhere_in_the_last_look(rounds):
    it = switching("a", "b")
    for now, sights in enumerate(rounds):
        look(it, **sights)
        for name in "ab":
            if it.step(name, now) in (Step.COMMAND, Step.CLEAR):
                it.asked(name, now)
        wanted = sights.get("a") is OFF and sights.get("b") is OFF
        assert bool(it.verdict().ok) is wanted


# ---------------------------------------------------------------- armed, or not


def arming(*nodes, valid=True):
    return Arming(nodes or ("lon2",), valid)


def test_nothing_is_armed_before_it_was_tested():
    it = arming()
    assert it.why("lon2", 0) == "not tested yet"
    assert it.due(0) == ["lon2"]
    assert it.complaints(0) == {}, "the first test is waited for"
    it.tested("lon2", True, "all well", 0)
    assert it.why("lon2", 0) == ""


def test_a_node_without_a_fence_is_not_armed():
    assert arming().why("par1", 0) == "node.par1.fence is not configured"


def test_a_configuration_that_was_refused_disarms():
    it = arming(valid=False)
    it.tested("lon2", True, "", 0)
    assert "configuration on disk was refused" in it.why("lon2", 0)
    assert it.complaints(0).keys() == {"lon2"}


def test_a_test_that_failed_disarms_at_once():
    it = arming()
    it.tested("lon2", True, "", 0)
    it.tested("lon2", False, "may not be written", 10)
    assert it.why("lon2", 10) == "may not be written"
    assert it.complaints(10) == {"lon2": "may not be written"}


def test_a_test_that_could_not_be_made_lets_the_last_one_age():
    it = arming()
    it.tested("lon2", True, "", 0)
    it.tested("lon2", None, "no answer", 10)
    assert it.why("lon2", TEST_MAX_AGE_MS) == ""
    assert it.why("lon2", TEST_MAX_AGE_MS + 1) == "last tested 180 min ago: no answer"
    assert it.table(10)[0].detail == "no answer"


def test_tests_are_due_by_the_hour_and_sooner_after_a_failure():
    it = arming("lon2", "par1")
    for node in it.due(0):
        it.asked(node, 0)
        it.tested(node, True, "", 0)
    assert it.due(TEST_EVERY_MS - 1) == []
    assert it.deadline(0) == TEST_EVERY_MS
    it.tested("par1", False, "no", 0)
    assert it.due(TEST_AGAIN_MS) == ["par1"]
    assert it.deadline(0) == TEST_AGAIN_MS


def test_a_test_under_way_is_not_due_again():
    it = arming()
    it.asked("lon2", 0)
    assert it.due(1) == []


def test_the_table_shows_the_age_of_the_last_test_that_passed():
    it = arming("lon2", "par1")
    it.tested("lon2", True, "", 1_000)
    states = [(row.node, row.state, row.age_ms) for row in it.table(3_000)]
    assert states == [("lon2", "armed", 2_000), ("par1", "disarmed", None)]
