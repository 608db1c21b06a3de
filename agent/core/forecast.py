# SPDX-License-Identifier: GPL-2.0-or-later
"""When a resource will be exhausted, with bounds, or that this cannot be told.

Memory is fixed: level k of a pyramid holds the last maxima of 2**k samples, so that it sees seconds
and weeks. Each level is a window for a robust line; the longest window whose line is straight and
explains the present speaks. A pattern that turned back by itself twice is known: below its usual
top only what it does not explain speaks.
"""

import math
from collections import deque
from statistics import median
from typing import NamedTuple

from agent.core.trend import HORIZON, POINTS, Level, Line, Turns, theil_sen, watched

RUN = 6  # samples of the shortest window
RUN_AT_START = 5
RUN_SURE = 2.4  # Kendall's z: five in a row, each above the last
LEVELS = 16
SCALES = 8  # of turns: a half, a quarter ... of the widest headroom
CAPACITY_CHANGE = 0.01
STEP = 0.05  # of the widest headroom, in one sample: not a slope
STEP_RATIO = 8.0
STEP_SAMPLES = 7
DOUBT = 0.08  # no straight line is known better than this


class Outlook(NamedTuple):
    """eta: until exhaustion, low..high an 80 % interval for it; all None where nothing is foreseen.

    high_ms None beside an eta: it may also never come. basis_span_ms: the run that this rests on.
    slope_per_s: of the value as it was given, in its own unit.
    """

    eta_ms: int | None = None
    low_ms: int | None = None
    high_ms: int | None = None
    slope_per_s: float = 0.0
    basis_span_ms: int = 0


NOTHING = Outlook()


class _Foreseen(NamedTuple):
    """A line carried on to the limit. Times as the samples'."""

    at: float
    low: float
    high: float
    line: Line


class Forecaster:
    """One resource's samples, and when they will reach the limit.

    rising: exhaustion is above (a disk fills); otherwise below (a runtime falls to its limit).
    """

    __slots__ = (
        "_cap",
        "_cap_then",
        "_changes",
        "_foreseen",
        "_high",
        "_last",
        "_last_ms",
        "_levels",
        "_sign",
        "_stale",
        "_step",
        "_turns",
        "_widest",
    )

    def __init__(self, rising: bool = True) -> None:
        self._sign = 1.0 if rising else -1.0
        self._last_ms = -math.inf
        self._begin(0.0)

    def _begin(self, cap: float) -> None:
        self._cap = self._cap_then = cap
        self._last = self._high = -math.inf
        self._widest = 0.0
        self._step = 0.0
        self._levels: list[Level] = []
        self._turns: list[Turns] = []
        self._changes: deque[float] = deque(maxlen=STEP_SAMPLES)
        self._foreseen: _Foreseen | None = None
        self._stale = False

    def add(self, value: float, limit: float, at_ms: int) -> None:
        """A sample. Begins anew where the limit changed or time went back; NaN is left out."""
        if not (math.isfinite(value) and math.isfinite(limit)) or at_ms == self._last_ms:
            return
        v = value * self._sign
        cap = limit * self._sign
        size = max(abs(self._cap_then), self._widest)
        if at_ms < self._last_ms or abs(cap - self._cap_then) > CAPACITY_CHANGE * size:
            self._begin(cap)
        self._cap = cap
        self._widest = max(self._widest, cap - v)
        if not self._turns:
            self._turns = [Turns(at_ms, v) for _ in range(SCALES)]
        elif self._is_step(v):
            self._levels = []
            self._changes.clear()
        threshold = self._widest
        for turns in self._turns if threshold > 0 else ():
            threshold /= 2
            turns.add(at_ms, v, threshold)
        self._high = max(self._high, v)
        if self._high - v > STEP * self._widest:
            self._fallen(at_ms, v)
        self._last = v
        self._last_ms = at_ms
        self._stale = True
        self._pile(at_ms, v)

    def outlook(self, now: int) -> Outlook:
        """What is foreseen at `now`, not before the last sample. Full is eta 0."""
        if self._stale:
            self._stale = False
            self._foreseen = self._foresee()
        if self._turns and self._last >= self._cap:
            return Outlook(0, 0, 0)
        seen = self._foreseen
        if seen is None or now >= seen.at:
            return NOTHING  # it should be full by now, and nobody looked: that is not knowledge
        return Outlook(
            int(seen.at - now),
            max(0, int(seen.low - now)),
            None if math.isinf(seen.high) else int(seen.high - now),
            seen.line.slope * self._sign * 1000.0,
            int(seen.line.span_ms),
        )

    def _is_step(self, v: float) -> bool:
        """One jump into new territory, unlike its neighbours and unlike the jump before it."""
        change = v - self._last
        changes = self._changes
        usual = median(changes) if len(changes) == changes.maxlen else math.inf
        changes.append(abs(change))
        if change < STEP * self._widest or change < STEP_RATIO * usual:
            return False
        if v <= max(turns.peak for turns in self._turns):
            return False
        before, self._step = self._step, change
        return not before / 3 < change < before * 3

    def _fallen(self, at: float, v: float) -> None:
        """Fell deeper than its patterns do: what it did up there is over."""
        fall = self._high - v
        usual = max(
            (max(turns.falls) for turns in self._turns if turns.known(at)),
            default=0.0,
        )
        if fall > 1.5 * usual:
            self._high = v
            self._levels = []
            for turns in self._turns:
                if turns.falls and max(turns.falls) < fall / 2:
                    turns.forget()

    def _pile(self, at: float, v: float) -> None:
        """Into level 0; each second time on as the greater of two, level by level."""
        for k in range(LEVELS):
            if k == len(self._levels):
                self._levels.append(Level())
            level = self._levels[k]
            level.add(at, v)
            if math.isnan(level.half_value):
                level.half_value = v
                return
            v = max(v, level.half_value)
            level.half_value = math.nan

    def _foresee(self) -> _Foreseen | None:
        """The longest window that speaks."""
        now, v = self._last_ms, self._last
        headroom = self._cap - v
        if headroom <= 0:
            return None
        known = [turns for turns in self._turns if turns.known(now)]
        lines = [self._run(headroom)]
        for level in self._levels:
            line = level.look(headroom)
            if line is not None:
                ahead = line.at_end + line.slope * (now - line.end)
                if v - ahead <= 3 * line.noise + line.slope * line.span_ms / (POINTS - 1):
                    lines.append(line)
        best = None
        for line in lines:
            if line is not None and not any(turns.explains(line, v) for turns in known):
                best = self._longer(best, line)
        return best

    def _run(self, headroom: float) -> Line | None:
        """Through the last few samples: a fill that has only begun."""
        level = self._levels[0]
        count = min(len(level.values), RUN)
        times, values = level.times[-count:], level.values[-count:]
        if count < RUN_AT_START or (values[-1] - values[0]) * 2 * HORIZON < headroom:
            return None
        line = theil_sen(times, values) if watched(times) else None
        return line if line is not None and line.z >= RUN_SURE else None

    def _longer(self, best: _Foreseen | None, line: Line) -> _Foreseen | None:
        """This line's crossing, where it rests on more than `best` and is not too far ahead.

        A line with more noise than what is left cannot put off what a shorter one sees.
        """
        if best is not None and best.line.span_ms >= line.span_ms:
            return best
        now, slope = self._last_ms, line.slope
        here = max(line.at_end + slope * (now - line.end), self._last - line.noise)
        headroom = self._cap - here if here < self._cap else self._cap - self._last
        if headroom > slope * HORIZON * line.span_ms:
            return best
        at = now + headroom / slope
        if best is not None and line.noise > headroom and best.at < at:
            return best
        soonest = max(line.high, slope * (1 + DOUBT))
        latest = min(line.low, slope * (1 - DOUBT))
        low = max(0.0, headroom - line.noise) / soonest
        high = (headroom + line.noise) / latest if latest > 0 else math.inf
        return _Foreseen(at, now + low, now + high, line)
