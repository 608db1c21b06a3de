# SPDX-License-Identifier: GPL-2.0-or-later
"""Transition tables as data, and the few lines that interpret them.

A table is a list of rows {rule, state, event, guards, next, effects, why}. The first row of a state
and event whose guards all hold is taken; one event fires one row. Everything that people read about
a machine (`explain`, the drawings in docs, the reachability test) is made from its rows.

Rules for editors: add a row, never a branch in an effect that changes the state; a guard reads and
never changes; "!name" is the guard's negation; "*" is every state; keep `why` a sentence that an
operator understands at three in the morning.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Context = TypeVar("Context")


@dataclass(frozen=True, slots=True)
class Row:
    """One rule. next "": the state stays. quiet: too frequent to be worth a decision record."""

    rule: str
    state: str
    event: str
    guards: tuple[str, ...]
    next: str
    effects: tuple[str, ...]
    why: str
    quiet: bool = False


class Table(Generic[Context]):
    """Rows bound to their guards and effects. Raises KeyError for a name that nobody wrote."""

    def __init__(
        self,
        name: str,
        states: Sequence[str],
        rows: Sequence[Row],
        guards: Mapping[str, Callable[[Context], bool]],
        effects: Mapping[str, Callable[[Context], None]],
    ) -> None:
        self.name = name
        self.states = tuple(states)
        self.rows = tuple(rows)
        self.guards = guards
        self._index: dict[tuple[str, str], list[_Bound[Context]]] = {}
        for row in rows:
            bound = _Bound(
                row,
                tuple((g, guards[g.lstrip("!")], not g.startswith("!")) for g in row.guards),
                tuple(effects[e] for e in row.effects),
            )
            for state in self.states if row.state == "*" else (row.state,):
                self._index.setdefault((state, row.event), []).append(bound)

    def choose(self, state: str, event: str, context: Context) -> "Choice[Context]":
        """The row to take, if any, and the rows before it with the guard that failed."""
        rejected: list[tuple[str, str]] = []
        for bound in self._index.get((state, event), ()):
            for name, guard, wanted in bound.guards:
                if guard(context) is not wanted:
                    rejected.append((bound.row.rule, name))
                    break
            else:
                return Choice(bound.row, bound.effects, rejected)
        return Choice(None, (), rejected)

    def listens(self, state: str, event: str) -> bool:
        """Whether any row of this state waits for this event."""
        return (state, event) in self._index

    def outlook(self, state: str, context: Context) -> list[tuple[Row, list[str]]]:
        """Every row that leaves `state`, with the guards that do not hold now."""
        return [
            (bound.row, [n for n, guard, wanted in bound.guards if guard(context) is not wanted])
            for (where, _), rows in self._index.items()
            if where == state
            for bound in rows
            if bound.row.next not in ("", state)
        ]

    def reachable(self, start: str) -> set[str]:
        """States that rows lead to from `start`."""
        seen, todo = {start}, [start]
        while todo:
            state = todo.pop()
            for row in self.rows:
                if row.state in (state, "*") and row.next and row.next not in seen:
                    seen.add(row.next)
                    todo.append(row.next)
        return seen

    def shadowed(self) -> list[str]:
        """Rules that can never fire: in each of their states an earlier row asks for less."""
        alive, dead = set(), []
        for rows in self._index.values():
            for place, bound in enumerate(rows):
                mine = set(bound.row.guards)
                if not any(set(earlier.row.guards) <= mine for earlier in rows[:place]):
                    alive.add(bound.row.rule)
                else:
                    dead.append(bound.row.rule)
        return sorted(set(dead) - alive)

    def drawing(self) -> str:
        """The table as Markdown, for docs: one line a row, in the order in which they are tried."""
        lines = [
            "| rule | state | event | if | then | does | why |",
            "|---|---|---|---|---|---|---|",
        ]
        for row in self.rows:
            guards = ", ".join(g.replace("!", "not ") for g in row.guards) or "always"
            lines.append(
                f"| {row.rule} | {row.state} | {row.event} | {guards.replace('_', ' ')} "
                f"| {row.next or 'stays'} | {', '.join(row.effects).replace('_', ' ') or '-'} "
                f"| {row.why} |"
            )
        return "\n".join(lines) + "\n"


@dataclass(frozen=True, slots=True)
class _Bound(Generic[Context]):
    row: Row
    guards: tuple[tuple[str, Callable[[Context], bool], bool], ...]
    effects: tuple[Callable[[Context], None], ...]


@dataclass(slots=True)
class Choice(Generic[Context]):
    """What `choose` found."""

    row: Row | None
    effects: tuple[Callable[[Context], None], ...]
    rejected: list[tuple[str, str]]
