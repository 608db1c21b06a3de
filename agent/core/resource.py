# SPDX-License-Identifier: GPL-2.0-or-later
"""One resource of the host: its level and its forecast, as alarms that do not flap."""

import math
from typing import NamedTuple

from agent.core.alarm import RANK
from agent.core.forecast import NOTHING, Forecaster, Outlook
from agent.core.health import LevelHealth
from agent.core.model import Health, Reading, Severity
from agent.core.settings import WatchSettings

LEVEL_MARGIN_PCT = 5.0
STALE_ROUNDS = 3
RATES = frozenset({"cpu", "psi"})  # used anew each moment: nothing fills up
RATE_HOLD_MS = 300_000
KEEP = 1.3  # a forecast alarm stands until exhaustion is so many times its horizon away
RAISE_HOLD = 0.02  # of the time to exhaustion
CLEAR_HOLD = 0.1  # of the time that was left when it was last foreseen
CLEAR_HOLD_MAX_MS = 600_000

_LEVELS = {Health.DEGRADED: Severity.WARNING, Health.DOWN: Severity.CRITICAL}
_SPANS = ((86_400_000, "d"), (3_600_000, "h"), (60_000, "min"))


class Verdict(NamedTuple):
    """severity: the worse of filling and level, None where neither stands."""

    severity: Severity | None
    text: str
    outlook: Outlook


class Finding(NamedTuple):
    """kind: of the alarm to raise at `severity`, or to clear where that is None."""

    kind: str
    severity: Severity | None
    text: str


class _Hold:
    """A severity that changes only when the change was wanted without pause for long enough."""

    __slots__ = ("_since_ms", "_worse", "standing")

    def __init__(self) -> None:
        self.standing: Severity | None = None
        self._since_ms: int | None = None
        self._worse = False

    def settle(self, wanted: Severity | None, now: int, raise_ms: float, clear_ms: float) -> None:
        if wanted is self.standing:
            self._since_ms = None
            return
        worse = _rank(wanted) > _rank(self.standing)
        if self._since_ms is None or worse is not self._worse:
            self._since_ms = now
            self._worse = worse
        if now - self._since_ms >= (raise_ms if worse else clear_ms):
            self.standing = wanted
            self._since_ms = None


class ResourceWatch:
    """Readings of one resource, judged by its WatchSettings.

    Forecast where the reading has a limit and its kind is not in RATES; `rising` as in Reading.
    Levels are shares of the limit, so that a resource that falls to its limit has none. reading:
    the last one. outlook: as last judged. switch_over_due: groups should leave while they can;
    stays until the forecast is over.
    """

    __slots__ = (
        "_eta_ms",
        "_filling",
        "_forecaster",
        "_level",
        "_levels",
        "outlook",
        "reading",
        "settings",
        "switch_over_due",
    )

    def __init__(self, settings: WatchSettings, rising: bool = True) -> None:
        self.settings = settings
        self.reading: Reading | None = None
        self.outlook = NOTHING
        self.switch_over_due = False
        self._forecaster = None if settings.kind in RATES else Forecaster(rising)
        self._levels = LevelHealth(
            settings.warn_pct,
            settings.critical_pct,
            LEVEL_MARGIN_PCT,
            STALE_ROUNDS * settings.every_ms,
        )
        self._filling = _Hold()
        self._level = _Hold()
        self._eta_ms = 0

    def add(self, reading: Reading, now: int) -> None:
        """A round's reading. A value that is None or NaN is "not known"."""
        self.reading = reading
        value = reading.value
        if value is None or not math.isfinite(value):
            return
        pct = self.pct
        self._levels.add(-math.inf if pct is None else pct, now)
        if self._forecaster is not None and reading.limit is not None:
            self._forecaster.add(value, reading.limit, now)

    def judge(self, now: int) -> Verdict:
        """What stands now. Nothing is raised or cleared while the resource is unknown."""
        health = self._levels.judge(now)
        if self._forecaster is not None:
            self.outlook = self._forecaster.outlook(now)
        if health is not Health.UNKNOWN:
            rate_ms = 0 if self._forecaster is not None else RATE_HOLD_MS
            self._level.settle(_LEVELS.get(health), now, rate_ms, rate_ms)
            self._judge_filling(now)
        severity = max(self.filling, self.level, key=_rank)
        return Verdict(severity, self._text(), self.outlook)

    def findings(self) -> tuple[Finding, Finding]:
        """The two alarms of a resource as they stand since it was last judged."""
        text = self._text()
        return (
            Finding("resource-filling", self.filling, text),
            Finding("resource-level", self.level, text),
        )

    @property
    def filling(self) -> Severity | None:
        return self._filling.standing

    @property
    def level(self) -> Severity | None:
        return self._level.standing

    @property
    def health(self) -> Health:
        """DOWN: critical by level or forecast; DEGRADED: a warning stands."""
        if self._levels.health is Health.UNKNOWN:
            return Health.UNKNOWN
        if Severity.CRITICAL in (self.filling, self.level):
            return Health.DOWN
        return Health.UP if self.filling is self.level else Health.DEGRADED

    @property
    def pct(self) -> float | None:
        """Share of the limit in use; None where there is no limit above."""
        reading = self.reading
        if reading is None or reading.value is None or not reading.rising:
            return None
        if reading.limit is None:
            return reading.value if reading.unit == "pct" else None
        return 100.0 * reading.value / reading.limit if reading.limit > 0 else None

    def _judge_filling(self, now: int) -> None:
        eta_ms = self.outlook.eta_ms
        if eta_ms is not None:
            self._eta_ms = eta_ms
        raise_ms = RAISE_HOLD * self._eta_ms
        if raise_ms < self.settings.every_ms:
            raise_ms = 0.0  # there would be no second look in time
        clear_ms = max(self.settings.every_ms, CLEAR_HOLD * self._eta_ms)
        self._filling.settle(self._wanted(eta_ms), now, raise_ms, min(clear_ms, CLEAR_HOLD_MAX_MS))
        low_ms = self.outlook.low_ms
        if self.filling is None:
            self.switch_over_due = False
        elif low_ms is not None and low_ms < self.settings.switch_over_ms:
            self.switch_over_due = True

    def _wanted(self, eta_ms: int | None) -> Severity | None:
        if eta_ms is None:
            return None
        stands = _rank(self.filling)
        for severity, horizon_ms in (
            (Severity.CRITICAL, self.settings.critical_ms),
            (Severity.WARNING, self.settings.warn_ms),
        ):
            if eta_ms <= horizon_ms * (KEEP if stands >= RANK[severity] else 1.0):
                return severity
        return None

    def _text(self) -> str:
        """One line for people: "81 % of 64.0 MiB used, exhausted in about 12 s (9 s to 15 s)"."""
        reading, outlook = self.reading, self.outlook
        if reading is None:
            return "not read yet"
        pct = self.pct
        if reading.value is None:
            now = reading.text or "not known"
        elif pct is not None and reading.limit is not None and reading.unit not in ("pct", "ratio"):
            now = f"{pct:.0f} % of {amount(reading.limit, reading.unit)} used"
        else:
            now = amount(reading.value, reading.unit)
        if outlook.eta_ms is None or outlook.low_ms is None:
            return now
        if outlook.eta_ms == 0:
            return f"{now}, exhausted"
        bounds = f"{span(outlook.low_ms)} or later"
        if outlook.high_ms is not None:
            bounds = f"{span(outlook.low_ms)} to {span(outlook.high_ms)}"
        return f"{now}, exhausted in about {span(outlook.eta_ms)} ({bounds})"


def span(ms: int) -> str:
    """A duration for people: "45 s", "12 min", "3.5 h", "2.1 d"."""
    for unit_ms, unit in _SPANS:
        if ms >= 2 * unit_ms:
            count = ms / unit_ms
            return f"{count:.0f} {unit}" if count >= 10 else f"{count:.1f} {unit}"
    return f"{ms / 1000:.0f} s"


def amount(value: float, unit: str) -> str:
    """A value in its unit (Reading.unit) for people: "64.0 MiB", "81 %", "30 min", "812"."""
    match unit:
        case "bytes":
            size = abs(value)
            for prefix in ("B", "KiB", "MiB", "GiB"):
                if size < 1024:
                    return f"{value:.0f} B" if prefix == "B" else f"{value:.1f} {prefix}"
                value, size = value / 1024, size / 1024
            return f"{value:.1f} TiB"
        case "pct":
            return f"{value:.0f} %"
        case "s":
            return span(int(value * 1000))
        case "ratio":
            return f"{value:.2f}"
        case _:
            return f"{value:.0f}"


def _rank(severity: Severity | None) -> int:
    return 0 if severity is None else RANK[severity]
