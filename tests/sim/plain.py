# SPDX-License-Identifier: GPL-2.0-or-later
"""A router that speaks RFC 9568 and nothing else: in a group's virtual router, no node of ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from agent.core.keeping import AdvertSeen
from tests.sim.lan import Neighbour, announce

if TYPE_CHECKING:
    from tests.sim.world import World

START_MS = 2000
ANNOUNCED_AGAIN_MS = 5000  # as keepalived does


class PlainRouter(Neighbour):
    """Section 6.4 of the RFC, for one group. active_ms: since when it owns it, -1: it does not."""

    def __init__(self, world: World, site: str) -> None:
        super().__init__(world, "plain", site)
        self.group = world.town.groups[f"a-{site}"]
        self.priority = world.town.plain
        self.preempts = world.town.plain_preempts
        self.interval_ms = self.group.advert_ms
        self.active_ms = -1
        self.life = 0  # counts what makes planned calls stale: starts, stops, changes of state
        self.timer = 0

    @property
    def holds(self) -> bool:
        return self.active_ms >= 0 and not self.down

    def answers_for(self, address: str) -> bool:
        floating = self.world.town.address(self.group.name)
        return address == self.address or (address == floating and self.active_ms >= 0)

    # ---------------------------------------------------------------- its life

    def begin(self) -> None:
        """Backup first (6.4.1)."""
        self.life += 1
        self.interval_ms = self.group.advert_ms
        self.arm_down(3 * self.interval_ms + self.skew_ms())

    def power(self, on: bool) -> None:
        self.switched(-1 if on else 1)
        self.become(-1)
        self.timer += 1
        if on and not self.down:
            self.agenda.after(START_MS, self.started, self.life)

    def started(self, life: int) -> None:
        if life == self.life and not self.down:
            self.begin()

    def stop(self) -> None:
        """Orderly: priority 0, then the address goes."""
        if self.holds:
            self.advertise(0)
        self.become(-1)
        self.timer += 1

    def start(self) -> None:
        self.started(self.life)

    # ---------------------------------------------------------------- timers

    def skew_ms(self) -> int:
        return (256 - self.priority) * self.interval_ms // 256

    def arm_down(self, after_ms: int) -> None:
        self.arm(after_ms, self.down_due)

    def arm(self, after_ms: int, call: Callable[[int], None]) -> None:
        """One timer: a later one replaces it."""
        self.timer += 1
        self.agenda.after(after_ms, call, self.timer)

    def down_due(self, timer: int) -> None:
        """Active_Down_Timer (6.4.2)."""
        if timer == self.timer and not self.down:
            self.become(self.agenda.now)
            announce(self.world, self, self.group.name)
            self.agenda.after(ANNOUNCED_AGAIN_MS, self.announce_again, self.life)
            self.advert_due(self.timer)

    def announce_again(self, life: int) -> None:
        if life == self.life and self.holds:
            announce(self.world, self, self.group.name)

    def advert_due(self, timer: int) -> None:
        """Adver_Timer (6.4.3)."""
        if timer == self.timer and self.holds:
            self.advertise(self.priority)
            self.arm(self.group.advert_ms, self.advert_due)

    def advertise(self, priority: int) -> None:
        group = self.group
        router = group.addresses[0]
        advert = AdvertSeen(
            router.interface, 4, router.vrid, self.address, priority, group.advert_ms,
            (router.address,), "pseudo",
        )  # fmt: skip
        for name in group.nodes:
            self.world.network.carry(
                self.name, name, 0, self.world.nodes[name].keeper.hear_advert, advert
            )

    def become(self, active_ms: int) -> None:
        changed = (active_ms >= 0) != (self.active_ms >= 0)
        self.active_ms = active_ms
        self.life += 1
        if changed:
            self.world.judge.plain_changed(self)

    # ---------------------------------------------------------------- adverts

    def hear_advert(self, advert: AdvertSeen, again: bool) -> None:
        if self.down:
            return
        if self.active_ms >= 0:
            self._while_active(advert)
        elif not advert.priority:
            self.arm_down(self.skew_ms())
        elif not self.preempts or advert.priority >= self.priority:
            self._follow(advert)

    def _while_active(self, advert: AdvertSeen) -> None:
        """6.4.3; of equals the higher address wins, and it is the lowest on its network."""
        if not advert.priority or advert.priority < self.priority:
            self.advertise(self.priority)
            self.arm(self.group.advert_ms, self.advert_due)
        else:
            self.become(-1)
            self._follow(advert)

    def _follow(self, advert: AdvertSeen) -> None:
        self.interval_ms = advert.interval_ms
        self.arm_down(3 * self.interval_ms + self.skew_ms())
