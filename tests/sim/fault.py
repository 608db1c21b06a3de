# SPDX-License-Identifier: GPL-2.0-or-later
"""One thing that goes wrong: its kind, when, where, for how long."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Heal = Callable[[], None]
ON_PATHS = frozenset(
    {
        "nic-down", "partition", "one-way", "deaf", "mute", "port-cut", "lossy", "lossy-lan",
        "slow", "doubled", "switch-down", "switch-mute",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Fault:
    """at_ms, lasts_ms: true time. node, other: names; group: "" where it does not matter."""

    at_ms: int
    kind: str
    lasts_ms: int = 0
    node: str = ""
    other: str = ""
    path: int = 0
    group: str = ""
    amount: int = 0

    def __str__(self) -> str:
        parts = [self.node, self.other and f"-> {self.other}", self.group]
        where = " ".join(part for part in parts if part)
        path = f" path {self.path}" if self.kind in ON_PATHS else ""
        amount = f" amount {self.amount}" if self.amount else ""
        return f"{self.at_ms / 1000:8.3f} {self.kind} {where}{path}{amount} for {self.lasts_ms} ms"
