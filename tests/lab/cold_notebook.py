# SPDX-License-Identifier: GPL-2.0-or-later
"""The referee of services that must never run twice: a notebook in which each copy beats.

A running copy writes the moment of its last beat into a page of its own, every few milliseconds, by
memory mapping: no fault of a network, no queue and no other process stands between. A copy that was
frozen notices it at its next beat and begins a new span, so a span is time in which the copy ran.
All moments are CLOCK_MONOTONIC, which every namespace of a machine shares.
"""

from __future__ import annotations

import bisect
import mmap
import os
import struct
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

BEAT_S = 0.005
PAUSE_NS = 60_000_000  # a copy that did not beat for longer did not run
_HEAD = struct.Struct("qqq")  # spans, moment when it had loaded its status, what it loaded
_SPAN = struct.Struct("qqqq")  # first beat, last beat, count at each
_SPANS = 2000
_SUFFIX = ".beats"
RECENT_MS = 1000.0


@dataclass(frozen=True)
class Span:
    """Time in ms in which a copy ran, and how far it had counted."""

    start_ms: float
    end_ms: float
    start_count: int
    end_count: int


@dataclass(frozen=True)
class Copy:
    """One process of the service. loaded: the count that it found in its status file."""

    node: str
    spans: tuple[Span, ...]
    loaded: int

    @property
    def began_ms(self) -> float:
        return self.spans[0].start_ms

    @property
    def ended_ms(self) -> float:
        return self.spans[-1].end_ms


class Page:
    """Where one copy beats, for as long as its process lives."""

    def __init__(self, notebook: Path, node: str) -> None:
        self._now = time.monotonic_ns()
        size = _HEAD.size + _SPANS * _SPAN.size
        path = notebook / f"{node}@{self._now}"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        os.ftruncate(descriptor, size)
        self._page = mmap.mmap(descriptor, size)
        os.close(descriptor)
        self._spans = 0
        self._begin(0)
        os.rename(path, path.with_name(path.name + _SUFFIX))  # from here on it is counted

    def _begin(self, count: int) -> None:
        at = _HEAD.size + min(self._spans, _SPANS - 1) * _SPAN.size
        _SPAN.pack_into(self._page, at, self._now, self._now, count, count)
        self._spans += 1
        struct.pack_into("q", self._page, 0, min(self._spans, _SPANS))

    def load(self, count: int) -> None:
        """It has read its status."""
        _HEAD.pack_into(self._page, 0, min(self._spans, _SPANS), time.monotonic_ns(), count)

    def beat(self, count: int) -> None:
        now = time.monotonic_ns()
        paused, self._now = now - self._now > PAUSE_NS, now
        if paused:
            self._begin(count)
            return
        at = _HEAD.size + (min(self._spans, _SPANS) - 1) * _SPAN.size
        struct.pack_into("q", self._page, at + 8, now)
        struct.pack_into("q", self._page, at + 24, count)


class Notebook:
    """What all copies of a service wrote, on every node."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o777)

    def copies(self) -> list[Copy]:
        """In the order in which they began."""
        found = []
        for path in self.folder.glob(f"*{_SUFFIX}"):
            page = path.read_bytes()
            count, _, loaded = _HEAD.unpack_from(page)
            spans = tuple(
                Span(start / 1e6, end / 1e6, first, last)
                for start, end, first, last in (
                    _SPAN.unpack_from(page, _HEAD.size + index * _SPAN.size)
                    for index in range(count)
                )
            )
            found.append(Copy(path.name.partition("@")[0], spans, loaded))
        return sorted(found, key=lambda copy: copy.began_ms)

    def doubled_ms(self, start_ms: float, end_ms: float) -> float:
        """How long copies on two nodes ran at once in the span, in all."""
        return sum(end - start for start, end in doubles(self.copies(), start_ms, end_ms))

    def starts(self, node: str, start_ms: float, end_ms: float) -> int:
        """How many copies began on the node in the span."""
        return sum(c.node == node and start_ms <= c.began_ms < end_ms for c in self.copies())

    def running(self) -> set[str]:
        """Nodes on which a copy has just beaten."""
        fresh_ms = (time.monotonic_ns() - PAUSE_NS) / 1e6
        return {copy.node for copy in self.copies() if copy.ended_ms >= fresh_ms}

    def lost(self, start_ms: float, end_ms: float) -> int:
        """Counts that a copy which began in the span did not find, of those that ran before it.

        Before it: within the span, or in the second before the span.
        """
        copies = [c for c in self.copies() if c.ended_ms >= start_ms - RECENT_MS]
        worst = 0
        for copy in copies:
            if start_ms <= copy.began_ms < end_ms:
                highest = max(
                    (_count(o, copy.began_ms) for o in copies if o is not copy), default=0
                )
                worst = max(worst, highest - copy.loaded)
        return worst


def _count(copy: Copy, at_ms: float) -> int:
    """How far it had counted when another one began; 0 where it had not begun itself."""
    index = bisect.bisect_right([span.start_ms for span in copy.spans], at_ms)
    return copy.spans[index - 1].end_count if index else 0


def doubles(
    copies: Iterable[Copy], start_ms: float, end_ms: float
) -> Sequence[tuple[float, float]]:
    """Times within the span in which copies on two nodes ran at once."""
    found = []
    for one, other in combinations(copies, 2):
        if one.node == other.node:
            continue
        for mine in one.spans:
            for theirs in other.spans:
                start = max(mine.start_ms, theirs.start_ms, start_ms)
                end = min(mine.end_ms, theirs.end_ms, end_ms)
                if end > start:
                    found.append((start, end))
    return sorted(found)
