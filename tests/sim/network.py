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
RESOLVING_MS = 1000  # a kernel that looks for a MAC asks once a second
FORGOTTEN_MS = 5000  # and begins to look again after a silence of this order


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
        "clear_since",
        "cut",
        "cut_since",
        "delay_ms",
        "duplicates",
        "fair",
        "fair_since",
        "jitter_ms",
        "loss",
        "open_ms",
        "troubles",
        "unresolved_until",
    )

    def __init__(self) -> None:
        self.troubles: dict[int, Trouble] = {}
        self.cut = False
        self.cut_since = 0
        self.open_ms = 0  # how long it was not cut, up to the last time it was
        self.clear_since = 0  # meaningful while it has no troubles
        self.unresolved_until = 0  # its sender's kernel has lost the receiver's MAC
        self.loss = 0.0
        self.delay_ms = BASE_DELAY_MS
        self.jitter_ms = 0
        self.duplicates = 0.0
        self.fair = True
        self.fair_since = 0

    def change(self, fault: int, trouble: Trouble | None, now: int) -> bool:
        """Add the fault's trouble, or with None take it away; True where a long cut ended."""
        cut_for_ms = now - self.cut_since
        if trouble is None:
            self.troubles.pop(fault, None)
        else:
            self.troubles[fault] = trouble
        present = self.troubles.values()
        was_cut, self.cut = self.cut, any(one.cut for one in present)
        if self.cut and not was_cut:
            self.open_ms += now - self.cut_since
        if self.cut != was_cut:
            self.cut_since = now
        self.loss = max((one.loss for one in present), default=0.0)
        self.delay_ms = BASE_DELAY_MS + max((one.delay_ms for one in present), default=0)
        self.jitter_ms = max((one.jitter_ms for one in present), default=0)
        self.duplicates = max((one.duplicates for one in present), default=0.0)
        fair = all(one.fair for one in present)
        if fair and not self.fair:
            self.fair_since = now
        self.fair = fair
        if not self.troubles:
            self.clear_since = now
        return was_cut and not self.cut and cut_for_ms > FORGOTTEN_MS

    def heard(self, until_ms: int) -> bool:
        """Something comes through, or did until then."""
        return not self.cut or self.cut_since >= until_ms

    def passed_ms(self, now: int) -> int:
        """How long frames have come through, all in all."""
        return self.open_ms + (0 if self.cut else now - self.cut_since)


class Network:
    """All links. `answers`: a machine's way to say whether its kernel and carrier are up."""

    def __init__(
        self,
        agenda: Agenda,
        sites: dict[str, str],
        paths: int,
        rng: Random,
    ) -> None:
        self.agenda = agenda
        self.sites = sites  # machine -> site
        self.paths = paths
        self.rng = rng
        self.answers: dict[str, Callable[[int], bool]] = {}
        self.links: dict[tuple[str, str, int], Link] = {
            (source, target, path): Link()
            for source in sites
            for target in sites
            if source != target
            for path in range(paths)
        }
        self.received = {name: [0] * paths for name in sites}  # frames, since the machine was made
        self.sent = 0
        self.lost = 0  # by chance

    def send(
        self, source: str, target: str, path: int, deliver: Callable[..., None], *args: Any
    ) -> None:
        """Carry one packet. `deliver(*args, again)` on arrival; again: it is a duplicate."""
        until_ms = self.links[source, target, path].unresolved_until
        if until_ms > self.agenda.now:  # it waits in the sender's kernel
            self.agenda.at(until_ms, self.carry, source, target, path, deliver, *args)
        else:
            self.carry(source, target, path, deliver, *args)

    def carry(
        self, source: str, target: str, path: int, deliver: Callable[..., None], *args: Any
    ) -> None:
        """As `send`, for what is said to everybody: no kernel needs to know where anybody is."""
        self.sent += 1
        link = self.links[source, target, path]
        if link.cut or not self.answers[source](path):
            return
        agenda = self.agenda
        if not link.troubles:
            agenda.after(BASE_DELAY_MS, self.arrive, target, path, deliver, args, False)
            return
        if link.loss and self.rng.random() < link.loss:
            self.lost += 1
            return
        agenda.after(self.latency_ms(link), self.arrive, target, path, deliver, args, False)
        if link.duplicates and self.rng.random() < link.duplicates:
            agenda.after(self.latency_ms(link) + 1, self.arrive, target, path, deliver, args, True)

    def ask(
        self, source: str, target: str, path: int, deliver: Callable[..., None], *args: Any
    ) -> None:
        """An ARP or ND frame, after which both know each other."""
        there, back = self.links[source, target, path], self.links[target, source, path]
        if not there.cut:
            back.unresolved_until = 0  # the question itself says where its sender is
            if not back.cut:
                there.unresolved_until = 0
        self.carry(source, target, path, deliver, *args)

    def forget(self, one: str, other: str, path: int) -> None:
        """A cut that lasted: the kernels look for each other again, in their own time."""
        now = self.agenda.now
        for ends in ((one, other, path), (other, one, path)):
            self.links[ends].unresolved_until = now + self.rng.randrange(RESOLVING_MS)

    def answers_on(self, machine: str, path: int) -> bool:
        """Frames on this path come in and go out there."""
        return self.answers[machine](path)

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
        if self.answers[target](path):
            self.received[target][path] += 1
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

    def clear_for_ms(self, one: str, other: str, path: int) -> int:
        """How long nothing at all was wrong between the two; -1 where something is."""
        there, back = self.links[one, other, path], self.links[other, one, path]
        if there.troubles or back.troubles:
            return -1
        return self.agenda.now - max(there.clear_since, back.clear_since)

    def reaches(self, one: str, other: str, path: int) -> bool:
        """Frames can pass both ways now."""
        there, back = self.links[one, other, path], self.links[other, one, path]
        return not (there.cut or back.cut) and (
            self.answers_on(one, path) and self.answers_on(other, path)
        )

    def fair_for_ms(self, one: str, other: str, path: int) -> int:
        """How long both directions have worked; -1 where one of them does not."""
        if not (self.hears(one, other, path) and self.hears(other, one, path)):
            return -1
        there, back = self.links[one, other, path], self.links[other, one, path]
        return self.agenda.now - max(there.fair_since, back.fair_since)
