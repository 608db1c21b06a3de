# SPDX-License-Identifier: GPL-2.0-or-later
"""True time and what will happen in it: a heap of calls, in order of time, then of planning."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any


class Agenda:
    """`now` is true time, integer ms since the world began."""

    __slots__ = ("heap", "now", "planned")

    def __init__(self) -> None:
        self.now = 0
        self.planned = 0
        self.heap: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []

    def at(self, when_ms: int, call: Callable[..., None], *args: Any) -> None:
        """Plan a call; one that is already due happens after everything planned for now."""
        self.planned += 1
        heappush(self.heap, (when_ms if when_ms > self.now else self.now, self.planned, call, args))

    def after(self, delay_ms: int, call: Callable[..., None], *args: Any) -> None:
        self.planned += 1
        heappush(self.heap, (self.now + delay_ms, self.planned, call, args))

    def run(self, until_ms: int) -> None:
        """Let everything happen that is due before until_ms, and come to stand there."""
        heap = self.heap
        while heap and heap[0][0] < until_ms:
            self.now, _, call, args = heappop(heap)
            call(*args)
        self.now = until_ms
