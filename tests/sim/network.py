# SPDX-License-Identifier: GPL-2.0-or-later
"""Links with a direction and a path: loss, delay, duplicates, reordering, cuts, carriers.

Path 0 is the service network, which alone carries VRRP and ARP; path 1 the second one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from tests.sim.agenda import Agenda

LOSS_STILL_FAIR = 0.10  # up to this share lost, a link counts as one that works
DELAY_STILL_FAIR_MS = 50
BASE_DELAY_MS = 1


@dataclass(frozen=True, slots=True)
class Trouble:
    """What a fault does to a link. cut: nothing passes."""

    cut: bool = False
    loss: float = 0.0
    delay_ms: int = 0
    jitter_ms: int = 0
    duplicates: float = 0.0

    @property
    def fair(self) -> bool:
        """A link so troubled still counts as working."""
        slow = self.delay_ms + self.jitter_ms > DELAY_STILL_FAIR_MS
        return not (self.cut or slow or self.loss > LOSS_STILL_FAIR)


class Link:
    """One direction of one path between two nodes; troubles: by the fault that made them."""

    __slots__ = (
        "cut",
        "delay_ms",
        "duplicates",
        "fair",
        "fair_since",
        "jitter_ms",
        "loss",
        "troubles",
    )

    def __init__(self) -> None:
        self.troubles: dict[int, Trouble] = {}
        self.cut = False
        self.loss = 0.0
        self.delay_ms = BASE_DELAY_MS
        self.jitter_ms = 0
        self.duplicates = 0.0
        self.fair = True
        self.fair_since = 0

    def change(self, fault: int, trouble: Trouble | None, now: int) -> None:
        """Add the fault's trouble, or with None take it away."""
        if trouble is None:
            self.troubles.pop(fault, None)
        else:
            self.troubles[fault] = trouble
        present = self.troubles.values()
        self.cut = any(one.cut for one in present)
        self.loss = max((one.loss for one in present), default=0.0)
        self.delay_ms = BASE_DELAY_MS + max((one.delay_ms for one in present), default=0)
        self.jitter_ms = max((one.jitter_ms for one in present), default=0)
        self.duplicates = max((one.duplicates for one in present), default=0.0)
        fair = all(one.fair for one in present)
        if fair and not self.fair:
            self.fair_since = now
        self.fair = fair


class Network:
    """All links. `answers_on(name, path)`: that machine's kernel and carrier are up."""

    def __init__(
        self,
        agenda: Agenda,
        sites: dict[str, str],
        paths: int,
        rng: Random,
        answers_on: Callable[[str, int], bool],
    ) -> None:
        self.agenda = agenda
        self.sites = sites  # machine -> site
        self.paths = paths
        self.rng = rng
        self.answers_on = answers_on
        self.links: dict[tuple[str, str, int], Link] = {
            (source, target, path): Link()
            for source in sites
            for target in sites
            if source != target
            for path in range(paths)
        }
        self.sent = 0

    def send(
        self, source: str, target: str, path: int, deliver: Callable[..., None], *args: Any
    ) -> None:
        """Carry one packet. `deliver(*args, again)` on arrival; again: it is a duplicate."""
        self.sent += 1
        link = self.links[source, target, path]
        if link.cut or not self.answers_on(source, path):
            return
        agenda = self.agenda
        if not link.troubles:
            agenda.after(BASE_DELAY_MS, self.arrive, target, path, deliver, args, False)
            return
        if link.loss and self.rng.random() < link.loss:
            return
        agenda.after(self.latency_ms(link), self.arrive, target, path, deliver, args, False)
        if link.duplicates and self.rng.random() < link.duplicates:
            agenda.after(self.latency_ms(link) + 1, self.arrive, target, path, deliver, args, True)

    def latency_ms(self, link: Link) -> int:
        """Jitter reorders: each packet draws its own."""
        return link.delay_ms + (self.rng.randrange(link.jitter_ms + 1) if link.jitter_ms else 0)

    def arrive(
        self,
        target: str,
        path: int,
        deliver: Callable[..., None],
        args: tuple[Any, ...],
        again: bool,
    ) -> None:
        if self.answers_on(target, path):
            deliver(*args, again)

    def hears(self, source: str, target: str, path: int) -> bool:
        """`target` can be expected to hear `source` on this path now."""
        return (
            self.links[source, target, path].fair
            and self.answers_on(source, path)
            and self.answers_on(target, path)
        )

    def troubled(self, one: str, other: str) -> bool:
        """Anything at all is wrong with a link between the two."""
        return any(
            self.links[ends].troubles
            for path in range(self.paths)
            for ends in ((one, other, path), (other, one, path))
        )

    def fair_for_ms(self, one: str, other: str, path: int) -> int:
        """How long both directions have worked; -1 where one of them does not."""
        if not (self.hears(one, other, path) and self.hears(other, one, path)):
            return -1
        there, back = self.links[one, other, path], self.links[other, one, path]
        return self.agenda.now - max(there.fair_since, back.fair_since)
