# SPDX-License-Identifier: GPL-2.0-or-later
"""What answers and levels say about health. No answer is UNKNOWN, never DOWN."""

from collections.abc import Iterable

from agent.core.model import Answer, Health
from agent.core.settings import CheckSettings

_WORST_FIRST = (Health.DOWN, Health.UNKNOWN, Health.DEGRADED)


def combine(healths: Iterable[Health]) -> Health:
    """Of several checks the worst: DOWN, UNKNOWN, DEGRADED, UP. Nothing to ask: UP."""
    seen = set(healths)
    for health in _WORST_FIRST:
        if health in seen:
            return health
    return Health.UP


class CheckHealth:
    """One check's verdict: `rise` good or `fall` bad answers in a row; UNKNOWN before that.

    health: as last judged. detail: the last answer's. heard_ms: when the service last said yes or
    no; None: never.
    """

    __slots__ = ("_bad", "_good", "detail", "health", "heard_ms", "settings")

    def __init__(self, settings: CheckSettings) -> None:
        self.settings = settings
        self.health = Health.UNKNOWN
        self.detail = ""
        self.heard_ms: int | None = None
        self._good = 0
        self._bad = 0

    def hear(self, answer: Answer, now: int) -> Health | None:
        """The new health where this answer changed it, or where it went stale unnoticed."""
        before = self.health
        self.judge(now)
        self.detail = answer.detail
        if answer.ok is None:
            pass  # asking was impossible: that is not an answer
        elif answer.ok:
            self.heard_ms = now
            self._good += 1
            self._bad = 0
            if self._good >= self.settings.rise:
                self.health = Health.UP
        else:
            self.heard_ms = now
            self._bad += 1
            self._good = 0
            if self._bad >= self.settings.fall:
                self.health = Health.DOWN
        return self.health if self.health is not before else None

    def judge(self, now: int) -> Health:
        """UNKNOWN once nothing was heard for `stale_after_ms`; the counts begin anew then."""
        if self.heard_ms is not None and now - self.heard_ms >= self.settings.stale_after_ms:
            self.health = Health.UNKNOWN
            self._good = 0
            self._bad = 0
        return self.health

    def deadline(self) -> int | None:
        """When it goes stale; None while it is UNKNOWN already."""
        if self.heard_ms is None or self.health is Health.UNKNOWN:
            return None
        return self.heard_ms + self.settings.stale_after_ms


class LevelHealth:
    """A level against two thresholds: `warn` DEGRADED, `critical` DOWN.

    Each is left only when the level is `margin` on the good side of it. rising: more is worse;
    otherwise less is, and `critical` lies below `warn`. Unit: the caller's, the same for all four.
    """

    __slots__ = ("_critical", "_margin", "_sign", "_warn", "health", "known_ms", "stale_after_ms")

    def __init__(
        self,
        warn: float,
        critical: float,
        margin: float,
        stale_after_ms: int,
        rising: bool = True,
    ) -> None:
        self._sign = 1.0 if rising else -1.0
        self._warn = warn * self._sign
        self._critical = critical * self._sign
        self._margin = margin
        self.stale_after_ms = stale_after_ms
        self.health = Health.UNKNOWN
        self.known_ms: int | None = None

    def add(self, value: float | None, now: int) -> Health | None:
        """The new health where this value changed it. None and NaN are "not known"."""
        before = self.health
        self.judge(now)
        if value is not None and value == value:  # NaN differs from itself
            self.known_ms = now
            self.health = self._level(value * self._sign)
        return self.health if self.health is not before else None

    def judge(self, now: int) -> Health:
        """UNKNOWN once no value was known for `stale_after_ms`."""
        if self.known_ms is not None and now - self.known_ms >= self.stale_after_ms:
            self.health = Health.UNKNOWN
        return self.health

    def deadline(self) -> int | None:
        """When it goes stale; None while it is UNKNOWN already."""
        if self.known_ms is None or self.health is Health.UNKNOWN:
            return None
        return self.known_ms + self.stale_after_ms

    def _level(self, level: float) -> Health:
        was_down = self.health is Health.DOWN
        if level >= self._critical - (self._margin if was_down else 0.0):
            return Health.DOWN
        was_bad = was_down or self.health is Health.DEGRADED
        if level >= self._warn - (self._margin if was_bad else 0.0):
            return Health.DEGRADED
        return Health.UP
