# SPDX-License-Identifier: GPL-2.0-or-later
"""What people are told, and when."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.alarm import EVENT_MS, KINDS, REMEMBERED, AlarmBook
from agent.core.model import Severity

CRITICAL, MAJOR, WARNING, CLEARED = (
    Severity.CRITICAL,
    Severity.MAJOR,
    Severity.WARNING,
    Severity.CLEARED,
)
DOWN = ("service-down", "sbc/kamailio")
WINDOW = 1000


@pytest.fixture
def book():
    return AlarmBook(flap_raises=3, flap_window_ms=WINDOW)


def flap(book, times, start=0, step=10):
    """Raises and clears `times` times; all edges."""
    edges = []
    for i in range(times):
        edges.append(book.raise_(*DOWN, "no answer", start + 2 * i * step))
        edges.append(book.clear(*DOWN, start + (2 * i + 1) * step, "answers"))
    return [edge for edge in edges if edge is not None]


# ---------------------------------------------------------------- the list


def test_every_kind_has_a_name_a_severity_a_cause_and_an_arc_of_its_own():
    assert len({kind.oid_suffix for kind in KINDS.values()}) == len(KINDS)
    for name, kind in KINDS.items():
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", name)
        assert kind.severity is not CLEARED
        assert kind.prose
        assert re.fullmatch(r"[a-z]+([A-Z]+[a-z]+)*", kind.probable_cause)


def test_an_unknown_kind_is_an_error(book):
    with pytest.raises(KeyError):
        book.raise_("disk-on-fire", "x", "", 0)


def test_nothing_is_raised_as_cleared(book):
    with pytest.raises(ValueError, match="use clear"):
        book.raise_(*DOWN, "", 0, CLEARED)


# ---------------------------------------------------------------- edges


def test_an_alarm_is_told_once_when_it_comes_and_once_when_it_goes(book):
    raised = book.raise_(*DOWN, "no answer", 5)
    assert raised.alarm_id == "service-down:sbc/kamailio"
    assert (raised.severity, raised.raised_ms) == (MAJOR, 5)
    assert book.raise_(*DOWN, "no answer", 6) is None
    cleared = book.clear(*DOWN, 9, "answers")
    assert (cleared.alarm_id, cleared.severity) == (raised.alarm_id, CLEARED)
    assert (cleared.text, cleared.raised_ms) == ("answers", 5)
    assert book.clear(*DOWN, 10, "answers") is None
    assert book.standing() == []


def test_clearing_what_was_never_raised_says_nothing(book):
    assert book.clear(*DOWN, 0, "well") is None


def test_a_new_text_is_shown_but_not_told(book):
    book.raise_(*DOWN, "no answer", 0)
    assert book.raise_(*DOWN, "still no answer", 1) is None
    assert [alarm.text for alarm in book.standing()] == ["still no answer"]


def test_another_severity_is_an_edge_of_the_same_alarm(book):
    first = book.raise_(*DOWN, "slow", 0, WARNING)
    worse = book.raise_(*DOWN, "dead", 1, CRITICAL)
    milder = book.raise_(*DOWN, "slow", 2, WARNING)
    assert first.alarm_id == worse.alarm_id == milder.alarm_id
    assert [a.severity for a in (first, worse, milder)] == [WARNING, CRITICAL, WARNING]
    assert [a.raised_ms for a in (worse, milder)] == [0, 0]
    assert len(book.standing()) == 1


def test_subjects_are_told_apart(book):
    assert book.raise_("service-down", "a", "", 0)
    assert book.raise_("service-down", "b", "", 0)
    assert book.clear("service-down", "a", 1, "")
    assert [alarm.subject for alarm in book.standing()] == ["b"]


def test_the_worst_stands_first(book):
    assert book.worst() is CLEARED
    book.raise_("config-refused", "configuration", "", 1)
    book.raise_("link-down", "eth1", "", 3)
    book.raise_("link-down", "eth0", "", 2)
    book.raise_("double-owner", "10.1.0.100", "", 4)
    assert [a.subject for a in book.standing()] == ["10.1.0.100", "eth0", "eth1", "configuration"]
    assert book.worst() is CRITICAL
    book.clear("double-owner", "10.1.0.100", 5, "")
    assert book.worst() is MAJOR


# ---------------------------------------------------------------- events


def test_an_event_is_told_each_time_and_clears_by_itself(book):
    first = book.raise_("group-moved", "group sbc", "to lon2", 0)
    second = book.raise_("group-moved", "group sbc", "to lon1", 5000)
    assert (first.text, second.text) == ("to lon2", "to lon1")
    assert book.deadline() == 5000 + EVENT_MS
    assert book.settle(4999 + EVENT_MS) == []
    assert [a.severity for a in book.settle(5000 + EVENT_MS)] == [CLEARED]
    assert book.standing() == []
    assert book.deadline() is None


def test_events_that_come_too_often_are_told_a_few_times_and_then_counted_as_one(book):
    told = [book.raise_("service-restarted", "sbc", f"restart {i}", i) for i in range(10)]
    assert [alarm is not None for alarm in told] == [True] * 3 + [False] * 7
    assert book.standing()[0].text == "restart 9 (flapping)"


# ---------------------------------------------------------------- flapping


def test_the_last_of_too_many_raises_stands_and_says_that_it_flaps(book):
    edges = flap(book, 8)
    assert [edge.severity for edge in edges] == [MAJOR, CLEARED, MAJOR, CLEARED, MAJOR]
    assert edges[-1].text == "no answer (flapping)"
    assert [alarm.text for alarm in book.standing()] == ["no answer (flapping)"]


def test_it_clears_when_no_raise_came_for_a_whole_window(book):
    flap(book, 8)  # the last raise is at 140
    assert book.deadline() == 140 + WINDOW
    assert book.settle(139 + WINDOW) == []
    cleared = book.settle(140 + WINDOW)
    assert [(alarm.severity, alarm.text) for alarm in cleared] == [(CLEARED, "answers")]
    assert book.raise_(*DOWN, "no answer", 141 + WINDOW).text == "no answer"


def test_a_raise_during_the_quiet_time_is_silent_and_the_alarm_goes_on(book):
    flap(book, 8)
    assert book.raise_(*DOWN, "no answer", 900) is None
    assert book.deadline() is None
    assert book.settle(5000) == []
    assert book.clear(*DOWN, 5001, "answers").severity is CLEARED


def test_getting_worse_is_told_even_while_it_flaps_and_getting_better_is_not(book):
    flap(book, 8)
    assert book.raise_(*DOWN, "dead", 200, CRITICAL).severity is CRITICAL
    assert book.raise_(*DOWN, "slow", 210, WARNING) is None
    assert book.worst() is CRITICAL


def test_slow_changes_are_not_flapping(book):
    assert len(flap(book, 8, step=WINDOW)) == 16


def test_cleared_subjects_are_forgotten_however_many_there_were(book):
    for i in range(10 * REMEMBERED):
        book.raise_("packet-refused", f"10.0.{i >> 8}.{i & 255}", "", i * 100)
        book.clear("packet-refused", f"10.0.{i >> 8}.{i & 255}", i * 100 + 1, "")
    assert len(book._entries) <= REMEMBERED


moves = st.lists(
    st.tuples(
        st.sampled_from(["raise", "clear", "settle"]),
        st.integers(0, 500),
        st.sampled_from([WARNING, MAJOR]),
        st.sampled_from(["service-down", "group-moved"]),
    ),
    max_size=60,
)


@given(moves)
def test_raises_and_clears_are_paired_and_bounded_whatever_happens(steps):
    book = AlarmBook(flap_raises=3, flap_window_ms=WINDOW)
    now, standing, raises = 0, {}, {}
    for verb, wait, severity, kind in steps:
        now += wait
        if verb == "raise":
            edges = [book.raise_(kind, "x", "t", now, severity)]
        elif verb == "clear":
            edges = [book.clear(kind, "x", now, "t")]
        else:
            edges = book.settle(now)
        for edge in filter(None, edges):
            if edge.severity is CLEARED:
                assert standing.pop(edge.kind), "cleared what did not stand"
            elif edge.kind not in standing:
                raises.setdefault(edge.kind, []).append(now)
                standing[edge.kind] = edge.severity
            else:
                assert edge.severity is not standing[edge.kind] or KINDS[edge.kind].lasts_ms
                standing[edge.kind] = edge.severity
        told = {alarm.kind: alarm.severity for alarm in book.standing()}
        assert told == standing
        for times in raises.values():
            assert sum(at > now - WINDOW for at in times) <= 3
    for edge in book.settle(now + EVENT_MS + WINDOW):
        standing.pop(edge.kind)
    assert "group-moved" not in standing
