# SPDX-License-Identifier: GPL-2.0-or-later
"""A dialogue with a core: `assert play >> event << action << action` reads event in, actions out.

`>>` feeds at once (an event, or `after(ms)`, `paused(ms)`); `<<` says what must follow. An assert
compares all that was heard and said since the last one, in order, and fails with the difference.
`<< ANY(Type, field=value)` says what matters of an action. What `hidden` takes is left out.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

BUSY = 50  # so many wake-ups at one moment: the core never lets its shell sleep


@dataclass(frozen=True)
class Pass:
    """Time goes by: woken at each deadline. slept: not woken in between, as a paused process."""

    ms: int
    slept: bool = False


def after(ms: int) -> Pass:
    return Pass(ms)


def paused(ms: int) -> Pass:
    return Pass(ms, slept=True)


WAKE = paused(0)  # the shell wakes it now, as it does once at its start


class ANY:
    """Equal to an action of this type with these fields, whatever else it says."""

    def __init__(self, of: type, /, **fields: Any) -> None:
        self.of = of
        self.fields = fields

    def __eq__(self, other: object) -> bool:
        return isinstance(other, self.of) and all(
            getattr(other, name) == value for name, value in self.fields.items()
        )

    def __hash__(self) -> int:
        return hash(self.of)

    def __repr__(self) -> str:
        said = ", ".join(f"{name}={value!r}" for name, value in self.fields.items())
        return f"{self.of.__name__}({said}, ...)"


class Playbook:
    """woken: makes the event that wakes the core, from the time at which it was due."""

    def __init__(
        self,
        core: Any,
        now: int,
        woken: Callable[[int], Any],
        hidden: Callable[[Any], bool] = lambda _: False,
    ) -> None:
        self.core = core
        self.now = now
        self.all: list[Any] = []  # every action since the beginning, the hidden ones too
        self._woken = woken
        self._hidden = hidden
        self._told: list[Any] = []
        self._expected: list[Any] = []

    # ------------------------------------------------------------ the dialogue

    def __rshift__(self, event: Any) -> Playbook:
        self._told.append(event)
        self._expected.append(event)
        self._feed(event)
        return self

    def __lshift__(self, action: Any) -> Playbook:
        self._expected.append(action)
        return self

    def __bool__(self) -> bool:
        told, expected = self._told, self._expected
        self._told, self._expected = [], []
        if len(told) == len(expected) and all(
            wanted == said for wanted, said in zip(expected, told, strict=True)
        ):
            return True
        lines = difflib.ndiff(_lines(expected, told), _lines(told, expected))
        raise AssertionError("\n" + "\n".join(line for line in lines if line[0] != "?"))

    # ------------------------------------------------------------ without an assert

    def given(self, *events: Any) -> Playbook:
        """What went before: fed, and nothing asked about it."""
        for event in events:
            self._feed(event)
        self._told, self._expected = [], []
        return self

    def said(self, kind: type, *events: Any) -> list[Any]:
        """The actions of one type that these events bring, the hidden ones too."""
        before = len(self.all)
        self.given(*events)
        return [action for action in self.all[before:] if isinstance(action, kind)]

    def until(self, kind: type, within_ms: int = 60_000) -> int:
        """How many ms go by until an action of this type is said."""
        began, before = self.now, len(self.all)
        while not any(isinstance(action, kind) for action in self.all[before:]):
            due = max(self.core.deadline(), self.now)
            assert due - began <= within_ms, f"no {kind.__name__} within {within_ms} ms"
            self.given(after(max(1, due - self.now)))
        return self.now - began

    def _feed(self, event: Any) -> None:
        if not isinstance(event, Pass):
            self._step(event)
            return
        end = self.now + event.ms
        if event.slept:
            due, self.now = min(self.core.deadline(), end), end
            self._step(self._woken(due))
        awake = 0
        while (due := self.core.deadline()) <= end:
            awake = awake + 1 if due <= self.now else 0
            assert awake < BUSY, f"at {self.now} it asks to be woken at {due}, again and again"
            self.now = max(self.now, due)
            self._step(self._woken(due))
        self.now = end

    def _step(self, event: Any) -> None:
        for action in self.core.step(event, self.now):
            self.all.append(action)
            if not self._hidden(action):
                self._told.append(action)


def _lines(items: list[Any], others: list[Any]) -> list[str]:
    """One line an item; an ANY that matches is shown as what it matched."""
    return [
        next((repr(other) for other in others if isinstance(item, ANY) and item == other), "")
        or repr(item)
        for item in items
    ]
