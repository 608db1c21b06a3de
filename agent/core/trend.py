# SPDX-License-Identifier: GPL-2.0-or-later
"""Lines through samples, at every scale, and the turns that a pattern takes by itself.

Values are turned so that exhaustion lies above; times are milliseconds.
"""

import math
from array import array
from collections.abc import Sequence
from itertools import pairwise
from statistics import median
from typing import NamedTuple

POINTS = 16
TOPS = 8
HORIZON = 8.0  # never further ahead than so many times the run that was seen
SEVERAL = 3  # turns of a pattern that a window must span to see past it
Z_80 = 1.2816
SURE = 3.3  # Kendall's z of a whole window: these are looked at all the time


class Line(NamedTuple):
    """A robust line through points. Slopes a millisecond; `noise` as a standard deviation."""

    slope: float
    low: float
    high: float
    z: float
    at_end: float
    end: float
    noise: float
    span_ms: float
    rise: float


def theil_sen(times: Sequence[float], values: Sequence[float]) -> Line | None:
    """Median of all pair slopes, its 80 % rank interval (Sen 1968); None where it does not rise."""
    count = len(times)
    slopes: list[float] = []
    for i in range(count - 1):
        t, v = times[i], values[i]
        slopes += [(values[j] - v) / (times[j] - t) for j in range(i + 1, count)]
    pairs = len(slopes)
    score = sum([s > 0 for s in slopes]) - sum([s < 0 for s in slopes])
    if score <= 0:
        return None
    slopes.sort()
    slope = median(slopes)
    if slope <= 0:
        return None
    spread = math.sqrt(count * (count - 1) * (2 * count + 5) / 18)
    reach = Z_80 * spread
    low = slopes[max(0, math.floor((pairs - reach) / 2) - 1)]
    high = slopes[min(pairs - 1, math.ceil((pairs + reach) / 2))]
    end = times[-1]
    rests = [v - slope * (t - end) for t, v in zip(times, values, strict=True)]
    at_end = median(rests)
    noise = 1.4826 * median([abs(rest - at_end) for rest in rests])
    rise = max(values) - min(values)
    return Line(slope, low, high, score / spread, at_end, end, noise, end - times[0], rise)


def watched(times: Sequence[float]) -> bool:
    """No single gap makes up much of the run."""
    longest = max(b - a for a, b in pairwise(times))
    return longest <= 0.4 * (times[-1] - times[0])


def straighten(
    times: Sequence[float], values: Sequence[float], line: Line, headroom: float
) -> Line | None:
    """The line, told by its halves: both rise, or it is a step or a ramp that began or ended.

    Where the halves surely differ: a rise that slows down and ends below the limit is None, one
    that becomes steeper goes on as its second half does. headroom: from the last value to the
    limit.
    """
    half = len(times) // 2
    first = theil_sen(times[:half], values[:half])
    second = theil_sen(times[-half:], values[-half:])
    if first is None or second is None:
        return None
    if first.slope < 0.2 * line.slope or second.slope < 0.5 * line.slope:
        return None
    low, high = min(first.slope, second.slope), max(first.slope, second.slope)
    if second.high < first.low:
        shrinks = second.slope / first.slope
        if second.slope * line.span_ms / 2 * shrinks / (1 - shrinks) < headroom:
            return None
    elif second.low > first.high:
        return _bent_up(first, second, line, headroom)
    return line._replace(low=min(line.low, low), high=max(line.high, high))


def _bent_up(first: Line, second: Line, line: Line, headroom: float) -> Line:
    """Goes on as steeply as it ends.

    A ramp that has just begun keeps its slope, a curve goes on bending: the bounds hold both.
    """
    growth = (second.slope - first.slope) / (line.span_ms / 2)
    here = second.slope + growth * line.span_ms / 4  # the halves' slopes are those of their middles
    bending = (here + math.sqrt(here * here + 2 * growth * headroom)) / 2
    return second._replace(
        slope=here,
        low=min(line.slope, second.low),
        high=max(2 * bending - here, second.high),
        span_ms=line.span_ms,
        rise=line.rise,
    )


class Level:
    """The last maxima of 2**k samples, each at the time of its last sample."""

    __slots__ = ("gain", "half_value", "line", "looked", "times", "values")

    def __init__(self) -> None:
        self.times = array("d")
        self.values = array("d")
        self.half_value = math.nan
        self.gain = 0.0
        self.line: Line | None = None
        self.looked = False

    def add(self, at: float, value: float) -> None:
        values = self.values
        self.times.append(at)
        values.append(value)
        if len(values) > POINTS:
            del self.times[0], values[0]
        half = len(values) // 2
        if half:
            self.gain = (sum(values[-half:]) - sum(values[:half])) / half
        self.looked = False

    def look(self, headroom: float) -> Line | None:
        """Its line, where it is sure, straight and not too far from exhaustion to matter."""
        if self.gain * 4 * HORIZON < headroom or len(self.values) < POINTS // 2:
            return None  # a line gains half its rise from half to half; half of that is noise
        if not self.looked:
            self.looked = True
            line = theil_sen(self.times, self.values) if watched(self.times) else None
            if line is not None:
                sure = line.z >= SURE
                line = straighten(self.times, self.values, line, headroom) if sure else None
            self.line = line
        return self.line


class Turns:
    """The tops from which the value fell back by at least a threshold of its own."""

    __slots__ = (
        "ceiling",
        "falls",
        "gap_ms",
        "peak",
        "peak_ms",
        "rising",
        "times",
        "trough",
        "values",
    )

    def __init__(self, at: float, value: float) -> None:
        self.times = array("d")
        self.values = array("d")
        self.falls = array("d")
        self.rising = True
        self.peak = self.trough = value
        self.peak_ms = at
        self.ceiling = math.inf
        self.gap_ms = 0.0

    def add(self, at: float, value: float, threshold: float) -> None:
        if self.rising:
            if value > self.peak:
                self.peak = value
                self.peak_ms = at
            elif value <= self.peak - threshold:
                self.rising = False
                self.trough = value
                self._turn(threshold)
        elif value < self.trough:
            self.trough = value
        elif value >= self.trough + threshold:
            self.falls.append(self.values[-1] - self.trough)
            if len(self.falls) > TOPS:
                del self.falls[0]
            self.rising = True
            self.peak = value
            self.peak_ms = at

    def _turn(self, threshold: float) -> None:
        self.times.append(self.peak_ms)
        self.values.append(self.peak)
        if len(self.times) > TOPS:
            del self.times[0], self.values[0]
        values = self.values
        if len(values) >= 2:
            self.gap_ms = max(b - a for a, b in pairwise(self.times))
            more = median([abs(b - a) for a, b in pairwise(values)])
            self.ceiling = max(values) + 1.5 * more + threshold / 8

    def forget(self) -> None:
        del self.times[:], self.values[:], self.falls[:]
        self.ceiling = math.inf
        self.rising = True
        self.peak = self.trough

    def known(self, now: float) -> bool:
        """It came back at least once, and is not overdue for long."""
        return len(self.times) >= 2 and now - self.times[-1] <= 3 * self.gap_ms

    def explains(self, line: Line, value: float) -> bool:
        """The line is but a part of this pattern, which will turn back as it did before."""
        return (
            value <= self.ceiling
            and line.span_ms < SEVERAL * self.gap_ms
            and line.rise <= 1.3 * max(self.falls)
        )
