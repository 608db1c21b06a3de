# SPDX-License-Identifier: GPL-2.0-or-later
"""How a transition table is read."""

import pytest

from agent.core.table import Row, Table

STATES = ("shut", "open", "broken")
ROWS = (
    Row("D-KEY", "shut", "push", ("locked", "key"), "open", ("unlock",), "the key turns"),
    Row("D-FORCE", "shut", "push", ("locked",), "", ("count",), "it does not give"),
    Row("D-OPEN", "shut", "push", (), "open", (), "it was not locked"),
    Row("D-SHUT", "open", "push", ("!windy",), "shut", (), "it falls shut"),
    Row("D-KICK", "*", "kick", (), "broken", (), "no door stands that"),
)


class Door:
    def __init__(self, **facts):
        self.facts = facts
        self.did = []


def table(rows=ROWS):
    guards = {name: lambda door, n=name: door.facts.get(n, False) for name in NAMES}
    effects = {name: lambda door, n=name: door.did.append(n) for name in ("unlock", "count")}
    return Table("door", STATES, rows, guards, effects)


NAMES = ("locked", "key", "windy")


def push(state="shut", event="push", **facts):
    door = Door(**facts)
    choice = table().choose(state, event, door)
    for effect in choice.effects:
        effect(door)
    return choice.row and choice.row.rule, choice.rejected, door.did


def test_the_first_row_whose_guards_all_hold_is_taken():
    assert push(locked=True, key=True) == ("D-KEY", [], ["unlock"])


def test_rows_before_it_are_named_with_the_guard_that_failed():
    assert push(locked=True) == ("D-FORCE", [("D-KEY", "key")], ["count"])
    assert push() == ("D-OPEN", [("D-KEY", "locked"), ("D-FORCE", "locked")], [])


def test_choosing_does_nothing_by_itself():
    door = Door(locked=True, key=True)
    table().choose("shut", "push", door)
    assert door.did == []


def test_a_guard_with_an_exclamation_mark_must_not_hold():
    assert push("open")[0] == "D-SHUT"
    assert push("open", windy=True)[:2] == (None, [("D-SHUT", "!windy")])


def test_an_event_that_nobody_waits_for_takes_no_row():
    assert push("broken") == (None, [], [])
    assert not table().listens("broken", "push")


def test_a_star_is_every_state():
    assert {push(state, "kick")[0] for state in STATES} == {"D-KICK"}
    assert all(table().listens(state, "kick") for state in STATES)


def test_a_guard_or_effect_that_nobody_wrote_is_an_error_at_once():
    with pytest.raises(KeyError, match="rusty"):
        table((Row("D-X", "shut", "push", ("!rusty",), "", (), "x"),))
    with pytest.raises(KeyError, match="sing"):
        table((Row("D-X", "shut", "push", (), "", ("sing",), "x"),))


def test_the_outlook_is_what_leaves_a_state_and_what_it_still_needs():
    outlook = table().outlook("shut", Door(locked=True))
    assert [(row.rule, needs) for row, needs in outlook] == [
        ("D-KEY", ["key"]),
        ("D-OPEN", []),
        ("D-KICK", []),
    ]


def test_reachable_follows_rows_and_stars():
    assert table().reachable("shut") == {"shut", "open", "broken"}
    assert table(ROWS[:4]).reachable("shut") == {"shut", "open"}
    assert table(ROWS[4:]).reachable("shut") == {"shut", "broken"}


def test_a_row_behind_one_that_asks_for_less_is_shadowed():
    late = Row("D-LATE", "shut", "push", ("key", "locked"), "", (), "never")
    assert table().shadowed() == []
    assert table((*ROWS, late)).shadowed() == ["D-LATE"]


def test_a_star_row_is_not_shadowed_while_one_state_is_left_for_it():
    rows = (Row("D-ONE", "shut", "kick", (), "", (), "x"), ROWS[4])
    assert table(rows).shadowed() == []
    rows = tuple(Row(f"D-{state}", state, "kick", (), "", (), "x") for state in STATES)
    assert table((*rows, ROWS[4])).shadowed() == ["D-KICK"]


def test_the_drawing_has_a_line_for_each_row_in_order():
    lines = table().drawing().splitlines()
    assert len(lines) == 2 + len(ROWS)
    assert lines[2] == "| D-KEY | shut | push | locked, key | open | unlock | the key turns |"
    assert lines[5] == "| D-SHUT | open | push | not windy | shut | - | it falls shut |"
    assert "| always | stays |" not in lines[3]
    assert "| D-FORCE | shut | push | locked | stays | count |" in lines[3]
