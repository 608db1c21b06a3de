# SPDX-License-Identifier: GPL-2.0-or-later
"""The transition tables are whole: no row in vain, no state without a way in and out."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest

from agent.core.table import Row, Table
from tests.house.rules import TREE, python_files
from tests.house.tables import MACHINES, PAGE, Machine, page

FIRING = {"fire", "fire_peer", "fire_care", "fire_role", "fire_geo", "everywhere"}
MACHINE = pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.table.name)


def rows_of(table: Table[Any], state: str, event: str) -> list[Row]:
    return [row for row in table.rows if row.event == event and row.state in (state, "*")]


def fireable(table: Table[Any]) -> set[str]:
    """Rules that fire under some truth of the guards, each guard taken as free."""
    found = set()
    for state, event in product(table.states, {row.event for row in table.rows}):
        rows = rows_of(table, state, event)
        names = sorted({guard.lstrip("!") for row in rows for guard in row.guards})
        for truth in product((False, True), repeat=len(names)):
            holds = dict(zip(names, truth, strict=True))
            for row in rows:
                if all(holds[g.lstrip("!")] is not g.startswith("!") for g in row.guards):
                    found.add(row.rule)
                    break
    return found


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
            yield name or (node.func.id if isinstance(node.func, ast.Name) else ""), node


def words(node: ast.AST) -> set[str]:
    return {n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and type(n.value) is str}


def core() -> list[ast.Module]:
    return [ast.parse(path.read_text()) for path in python_files(TREE, "agent/core")]


@MACHINE
def test_every_state_can_be_reached(machine: Machine) -> None:
    reached = set().union(*(machine.table.reachable(start) for start in machine.starts))
    assert reached == set(machine.table.states)


@MACHINE
def test_every_state_has_an_exit(machine: Machine) -> None:
    for state in machine.table.states:
        exits = {row.next for row in machine.table.rows if row.state in (state, "*")}
        assert exits - {"", state}, f"{machine.table.name}: nothing leads out of {state}"


@MACHINE
def test_every_row_can_fire(machine: Machine) -> None:
    assert machine.table.shadowed() == []
    assert {row.rule for row in machine.table.rows} == fireable(machine.table)


@MACHINE
def test_every_guard_and_every_effect_is_used(machine: Machine) -> None:
    rows = machine.table.rows
    assert set(machine.table.guards) == {g.lstrip("!") for row in rows for g in row.guards}
    sharing = [other.table.rows for other in MACHINES if other.effects == machine.effects]
    assert machine.effects == {e for rows in sharing for row in rows for e in row.effects}


@MACHINE
def test_rules_have_names_of_their_own_and_say_why(machine: Machine) -> None:
    names = [row.rule for row in machine.table.rows]
    assert len(names) == len(set(names))
    assert len({name.split("-")[0] for name in names}) == 1
    assert all(row.why for row in machine.table.rows)


def test_every_event_that_a_row_waits_for_is_fired_somewhere() -> None:
    said: set[str] = set()
    for tree in core():
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign | ast.FunctionDef) and "Row" not in dict(calls(node)):
                said |= words(node)
    waited = {row.event for machine in MACHINES for row in machine.table.rows}
    assert waited - said == set()


def test_every_event_that_is_fired_has_a_row_that_waits_for_it() -> None:
    waited = {row.event for machine in MACHINES for row in machine.table.rows}
    for tree in core():
        for name, call in calls(tree):
            if name in FIRING and isinstance(call.args[-1], ast.Constant):
                assert call.args[-1].value in waited


def test_a_row_that_is_in_vain_is_noticed() -> None:
    rows = (
        Row("X-YES", "here", "go", ("able",), "there", (), "x"),
        Row("X-NO", "here", "go", ("!able",), "", (), "x"),
        Row("X-NEVER", "here", "go", (), "there", (), "x"),
    )
    table: Table[None] = Table("x", ("here", "there"), rows, {"able": lambda _: True}, {})
    assert table.shadowed() == []
    assert fireable(table) == {"X-YES", "X-NO"}


def test_the_drawings_match_the_tables() -> None:
    assert PAGE.read_text() == page(), "make it again: python -m tests.house.tables"
