# SPDX-License-Identifier: GPL-2.0-or-later
"""One machine without our processes: power, clock, carriers, addresses that expire."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from tests.sim.agenda import Agenda

SLOWEST_EXPIRY_MS = 300  # the kernel removes an expired address up to this late (measured)
FROZEN_LOOK_MS = 250


class Clock:
    """CLOCK_BOOTTIME of one node: true time with an offset and a rate. drift_ppm within +-5000."""

    __slots__ = ("drift_ppm", "offset_ms")

    def __init__(self, offset_ms: int, drift_ppm: int) -> None:
        self.offset_ms = offset_ms
        self.drift_ppm = drift_ppm

    def read(self, true_ms: int) -> int:
        """What it shows at true_ms."""
        return self.offset_ms + true_ms + true_ms * self.drift_ppm // 1_000_000

    def when(self, local_ms: int) -> int:
        """The first true time at which it shows local_ms or more."""
        true_ms = (local_ms - self.offset_ms) * 1_000_000 // (1_000_000 + self.drift_ppm)
        while self.read(true_ms) < local_ms:
            true_ms += 1
        return true_ms


class Kernel:
    """`held`: group -> true time at which its addresses expire; None: never, nobody said when."""

    __slots__ = (
        "agenda",
        "carriers_lost",
        "changed_ms",
        "clock",
        "frozen",
        "frozen_at",
        "held",
        "misled_ms",
        "moved",
        "powered",
        "rng",
        "thawed_at",
        "unplugged_ms",
    )

    def __init__(
        self,
        agenda: Agenda,
        clock: Clock,
        paths: int,
        rng: Random,
        moved: Callable[[str, str], None],
    ) -> None:
        self.agenda = agenda
        self.clock = clock
        self.rng = rng
        self.moved = moved  # (group, how): taken released expired deleted
        self.powered = True
        self.changed_ms = 0  # when power, carrier or standing still last changed
        self.frozen = False
        self.frozen_at = 0
        self.thawed_at = 0
        self.unplugged_ms = -1  # when path 0 last lost its carrier
        self.misled_ms = -1_000_000  # when it last went on with a clock that had stood
        self.carriers_lost = [0] * paths
        self.held: dict[str, int | None] = {}

    @property
    def running(self) -> bool:
        return self.powered and not self.frozen

    def answers_on(self, path: int) -> bool:
        """Frames on this path come in and go out."""
        return self.powered and not self.frozen and not self.carriers_lost[path]

    def take(self, group: str, lifetime_s: int) -> None:
        """Add or renew. lifetime_s 0: for ever, as without IFA_CACHEINFO."""
        known = group in self.held
        watched = self.held.get(group) is not None
        if lifetime_s:
            until = self.agenda.now + lifetime_s * 1000
            self.held[group] = until
            if not watched:
                self.agenda.at(until, self.expire, group)
        else:
            self.held[group] = None
        if not known:
            self.moved(group, "taken")

    def expire(self, group: str) -> None:
        """Look whether the lifetime is over; a renewed one is looked at again when it will be."""
        until = self.held.get(group)
        if until is None:
            return
        if self.frozen:
            self.agenda.after(FROZEN_LOOK_MS, self.expire, group)
        elif self.agenda.now < until:
            self.agenda.at(until + self.rng.randrange(SLOWEST_EXPIRY_MS), self.expire, group)
        else:
            self.drop(group, "expired")

    def drop(self, group: str, how: str) -> bool:
        """Remove the group's addresses; False where they were not there."""
        if group not in self.held:
            return False
        del self.held[group]
        self.moved(group, how)
        return True

    def freeze(self) -> None:
        """The whole machine stands still, its timers too."""
        self.frozen = True
        self.frozen_at = self.changed_ms = self.agenda.now

    def thaw(self, clock_stood: bool) -> None:
        """Go on where it stood: lifetimes count jiffies, which did not; the clock may have."""
        now = self.agenda.now
        stood_ms = now - self.frozen_at
        self.frozen = False
        self.thawed_at = self.changed_ms = now
        if clock_stood:
            self.misled_ms = now
            self.clock.offset_ms -= stood_ms
        for group, until in self.held.items():
            if until is not None:
                self.held[group] = until + stood_ms

    def lose_power(self) -> None:
        """Addresses are forgotten, nothing is said to anybody."""
        self.powered = False
        self.frozen = False
        self.changed_ms = self.agenda.now
        for group in list(self.held):
            self.drop(group, "lost")

    def gain_power(self) -> None:
        self.powered = True
        self.changed_ms = self.agenda.now
