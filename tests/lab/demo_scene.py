# SPDX-License-Identifier: GPL-2.0-or-later
"""A scene's findings: what was measured, against limits that stand beside it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any


class Played:
    """One scene. measured: what build/demo.json gets; `ok` until a limit was not kept."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.measured: dict[str, Any] = {}
        self.faults: list[str] = []
        self.told: list[str] = []

    @property
    def ok(self) -> bool:
        return not self.faults

    def note(self, what: str, value: Any) -> None:
        """Measured, without a limit."""
        self.measured[what] = value

    def at_most(self, what: str, value: float | None, limit: float) -> None:
        """None: it never came, which is worse than any limit."""
        self._limited(what, value, "at_most", limit, value is not None and value <= limit)

    def at_least(self, what: str, value: float | None, limit: float) -> None:
        self._limited(what, value, "at_least", limit, value is not None and value >= limit)

    def equals(self, what: str, value: Any, wanted: Any) -> None:
        self._limited(what, value, "wanted", wanted, value == wanted)

    def contains(self, what: str, value: Collection[Any], wanted: Any) -> None:
        """What must be among what was seen."""
        self._limited(what, value, "wanted", wanted, wanted in value)

    def fault(self, text: str) -> None:
        """The scene could not be played to its end."""
        self.faults.append(text)
        self.measured["failed"] = self.faults

    def tell(self, text: str) -> None:
        """Its result in a few words, for people."""
        self.told.append(text)

    def story(self) -> str:
        return "; ".join(self.told) or self.name

    def _limited(self, what: str, value: Any, how: str, limit: Any, kept: bool) -> None:
        self.measured[what] = value
        self.measured.setdefault("limits", {})[what] = {how: limit}
        if not kept:
            self.fault(f"{what} is {value}, {how.replace('_', ' ')} {limit}")
