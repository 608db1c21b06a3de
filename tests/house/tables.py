# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/tables.md, drawn from the transition tables: `python -m tests.house.tables` writes it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from agent.core import (
    bringing,
    care,
    election,
    geo,
    lease,
    lease_moves,
    lease_rows,
    moves,
    peer,
    role,
    steps,
)
from agent.core.table import Table
from tests.house.rules import TREE

PAGE = TREE / "docs/tables.md"
HEAD = """# The transition tables

Everything that Standpipe decides by itself is a row below. The rows of a state and event are tried
from above; the first whose conditions all hold is taken, and an event takes one row. `standpipe
explain` names the rule that fired, and those before it with the condition that failed.

This page is made from the tables in `agent/core` by `python -m tests.house.tables`; a test holds
it against them.
"""


@dataclass(frozen=True)
class Machine:
    """A table, the module whose first lines explain its states, and where it may begin.

    effects: what its rows may name; two machines with the same ones share them.
    """

    table: Table[Any]
    explained: ModuleType
    title: str
    starts: tuple[str, ...]
    effects: frozenset[str]


def _machine(title: str, home: ModuleType, explained: ModuleType, *starts: str) -> Machine:
    return Machine(home.TABLE, explained, title, starts, frozenset(home.EFFECTS))


LEASE_EFFECTS = frozenset(lease_moves.EFFECTS)
MACHINES = (
    _machine("A group, as its keeper keeps it", moves, election, election.INIT),
    _machine("A peer, as a keeper sees it", peer, peer, peer.UNKNOWN),
    _machine("A group, as its agent sees it", role, role, role.STANDBY),
    _machine(
        "The way of a group into service on a node, and out of it", steps, bringing, bringing.IDLE
    ),
    Machine(
        lease_moves.VOTER,
        lease,
        "A vote for an exclusive group",
        (lease_rows.QUIET,),
        LEASE_EFFECTS,
    ),
    Machine(
        lease_moves.HOLDER,
        lease_rows,
        "A claim to an exclusive group",
        (lease_rows.IDLE,),
        LEASE_EFFECTS,
    ),
    _machine("A service", care, care, care.OFF, care.FRESH),
    _machine("A name in DNS and its sites", geo, geo, geo.IDLE),
)


def page() -> str:
    return HEAD + "".join(f"\n{section}" for section in map(_section, MACHINES))


def _section(machine: Machine) -> str:
    table = machine.table
    graph = "\n".join(_graph(machine))
    return (
        f"## {machine.title}\n\n{(machine.explained.__doc__ or '').strip()}\n\n"
        f"```mermaid\nstateDiagram-v2\n{graph}\n```\n\n{table.drawing()}"
    )


def _graph(machine: Machine) -> Iterator[str]:
    """An arrow for each pair of states, with the events that lead over it."""
    table = machine.table
    arrows: dict[tuple[str, str], list[str]] = {}
    for row in table.rows:
        for state in table.states if row.state == "*" else (row.state,):
            if row.next and row.next != state:
                events = arrows.setdefault((state, row.next), [])
                if row.event not in events:
                    events.append(row.event)
    for start in machine.starts:
        yield f"    [*] --> {start}"
    for (state, after), events in arrows.items():
        yield f"    {state} --> {after}: {', '.join(events).replace('_', ' ')}"


if __name__ == "__main__":
    PAGE.write_text(page())
    print(f"{PAGE.relative_to(TREE)}: {len(page().splitlines())} lines", file=sys.stderr)
