# SPDX-License-Identifier: GPL-2.0-or-later
"""What answers and levels say about health. No answer is UNKNOWN, never DOWN."""

from collections.abc import Iterable

from agent.core.model import Answer, Health
from agent.core.settings import CheckSettings

WHOLE, PART = 3, 1  # of a bad answer: what silence is worth, and what it is on a slow host
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

    Silence while this host itself was slow is worth a third of a bad answer, so that a service that
    does hang is found all the same, in three times the time. A service that drains is DEGRADED.

    health: as last judged. detail: the last answer's. heard_ms: when the service last said yes or
    no; None: never. silent: its last bad answer was no answer. eager: it is being started, so that
    its first answers are waited for.
    """

    __slots__ = (
        "_bad",
        "_good",
        "_took_ms",
        "detail",
        "eager",
        "health",
        "heard_ms",
        "settings",
        "silent",
    )

    def __init__(self, settings: CheckSettings, eager: bool = False) -> None:
        self.settings = settings
        self.health = Health.UNKNOWN
        self.detail = ""
        self.heard_ms: int | None = None
        self.silent = False
        self.eager = eager
        self._good = 0
        self._bad = 0  # in parts: WHOLE makes one bad answer
        self._took_ms = 0  # its last good answer

    def hear(self, answer: Answer, now: int) -> Health | None:
        """The new health where this answer changed it, or where it went stale unnoticed."""
        before = self.health
        self.judge(now)
        self.detail = answer.detail
        if answer.ok:
            self._hear_good(answer, now)
        else:
            silent = answer.took_ms >= self.settings.timeout_ms
            worth = WHOLE if answer.ok is False else PART if silent and self._by_network else 0
            if worth:  # else asking was impossible: that is not an answer
                self._hear_bad(worth, silent, now)
        return self.health if self.health is not before else None

    def _hear_good(self, answer: Answer, now: int) -> None:
        self.heard_ms = now
        self._took_ms = answer.took_ms
        self._good += 1
        self._bad = 0
        self.silent = False
        if self._good >= self.settings.rise:
            self.health = Health.DEGRADED if answer.draining else Health.UP
            self.eager = False

    def _hear_bad(self, worth: int, silent: bool, now: int) -> None:
        self.heard_ms = now
        self.silent = silent
        self._bad += worth
        self._good = 0
        if self._bad >= self.settings.fall * WHOLE:
            self.health = Health.DOWN

    @property
    def _by_network(self) -> bool:
        """Whether it is the service that is silent, and not who was asked about it."""
        return self.settings.kind in ("sip", "http", "tcp", "command")

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

    def ask_again_ms(self) -> int:
        """From one question to the next: sooner while answers are counted that would turn it."""
        soon_ms = min(self.settings.retry_ms, self.settings.every_ms)
        if self.eager:  # one good answer is not waited for as long as the first
            return max(1, soon_ms // (4 if self._good else 2))
        turning = self._bad if self.health is not Health.DOWN else self._good
        return soon_ms if turning else self.settings.every_ms

    def overdue_ms(self) -> int:
        """So long after a question it is asked again although the first may still be answered.

        0: never: where it is known to be down, where its good answers are slow already, and where
        asking starts a process.
        """
        limit_ms = self.settings.timeout_ms
        quick = self.settings.kind in ("sip", "http", "tcp") and self._took_ms * 3 <= limit_ms
        return limit_ms * 2 // 3 if quick and self.health is not Health.DOWN else 0


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
