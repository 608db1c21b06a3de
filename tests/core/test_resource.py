# SPDX-License-Identifier: GPL-2.0-or-later
"""A resource's level and forecast as alarms that do not flap."""

import random

import pytest

from agent.core.forecast import NOTHING, Outlook
from agent.core.model import Health, Reading, Severity
from agent.core.resource import ResourceWatch, amount, span
from agent.core.settings import WatchSettings

CRITICAL, WARNING = Severity.CRITICAL, Severity.WARNING
SECOND, MINUTE, HOUR = 1000, 60_000, 3_600_000
GIB = 2.0**30


def disk(pct, limit=100 * GIB):
    return Reading("disk:/var", None if pct is None else pct / 100 * limit, "bytes", limit)


def play(watch, readings, every_ms=10 * SECOND, start=0):
    """The verdict after each reading."""
    verdicts = []
    for i, reading in enumerate(readings):
        watch.add(reading, start + i * every_ms)
        verdicts.append(watch.judge(start + i * every_ms))
    return verdicts


def edges(verdicts):
    """Severities in the order in which they stood."""
    out = [None]
    for verdict in verdicts:
        if verdict.severity is not out[-1]:
            out.append(verdict.severity)
    return out[1:]


def findings(watch):
    return {finding.kind: finding.severity for finding in watch.findings()}


def test_a_disk_that_is_well_has_no_alarm_and_says_how_it_is():
    watch = ResourceWatch(WatchSettings("disk"))
    verdict = play(watch, [disk(40)] * 50)[-1]
    assert verdict.severity is None
    assert verdict.text == "40 % of 100.0 GiB used"
    assert watch.health is Health.UP


def test_a_tmpfs_that_fills_in_twenty_seconds_is_critical_before_it_is_full():
    settings = WatchSettings("disk", every_ms=SECOND, warn_ms=MINUTE, critical_ms=10 * SECOND)
    watch = ResourceWatch(settings)
    verdicts = play(watch, [disk(5.0 * i, 2.0**26) for i in range(21)], SECOND)
    assert [v.severity for v in verdicts[:4]] == [None] * 4
    assert verdicts[4].severity is WARNING
    assert verdicts[4].text == "20 % of 64.0 MiB used, exhausted in about 16 s (15 s to 17 s)"
    assert next(i for i, v in enumerate(verdicts) if v.severity is CRITICAL) <= 12
    assert verdicts[20].text == "100 % of 64.0 MiB used, exhausted"


def test_forecast_and_level_are_two_alarms():
    watch = ResourceWatch(WatchSettings("disk"))
    play(watch, [disk(92)] * 20)
    assert findings(watch) == {"resource-filling": None, "resource-level": WARNING}
    watch = ResourceWatch(WatchSettings("disk"))
    play(watch, [disk(10 + i / 10) for i in range(500)])
    assert findings(watch) == {"resource-filling": CRITICAL, "resource-level": None}
    assert watch.health is Health.DOWN


def test_a_level_at_its_threshold_is_one_alarm():
    wobble = random.Random(1)
    readings = [disk(90 + wobble.uniform(-2, 2)) for _ in range(500)]
    watch = ResourceWatch(WatchSettings("disk", warn_ms=0, critical_ms=0))
    assert edges(play(watch, readings)) == [WARNING]


def test_a_forecast_at_its_horizon_is_one_alarm():
    wobble = random.Random(2)
    readings = [disk(10 + i * 0.01 + wobble.uniform(-0.3, 0.3)) for i in range(6000)]
    watch = ResourceWatch(WatchSettings("disk", critical_ms=0))
    assert edges(play(watch, readings)) == [WARNING]


def test_a_forecast_must_stand_a_while_in_proportion_to_its_length():
    watch = ResourceWatch(WatchSettings("disk", critical_ms=0))
    verdicts = play(watch, [disk(50 + i * 0.01) for i in range(1000)])
    seen = next(i for i, v in enumerate(verdicts) if v.outlook.eta_ms is not None)
    raised = next(i for i, v in enumerate(verdicts) if v.severity is WARNING)
    eta_ms = verdicts[raised].outlook.eta_ms
    assert (raised - seen) * 10 * SECOND == pytest.approx(0.02 * eta_ms, rel=0.3)


def test_a_fill_that_ends_clears_within_minutes():
    watch = ResourceWatch(WatchSettings("disk"))
    readings = [disk(20 + 0.2 * i) for i in range(200)] + [disk(60)] * 150
    verdicts = play(watch, readings)
    assert verdicts[199].severity is CRITICAL
    assert next(i for i, v in enumerate(verdicts) if i > 200 and v.severity is None) < 290


class Scripted:
    """A forecaster that foresees what it is told to."""

    def __init__(self):
        self.eta_ms = None

    def add(self, value, limit, at_ms):
        pass

    def outlook(self, now):
        return NOTHING if self.eta_ms is None else Outlook(self.eta_ms, self.eta_ms, self.eta_ms)


def foresee(watch, etas_ms, start=0, every_ms=MINUTE):
    """The severity for filling after each minute's forecast."""
    watch._forecaster = forecaster = Scripted()
    severities = []
    for i, forecaster.eta_ms in enumerate(etas_ms):
        watch.add(disk(50), start + i * every_ms)
        severities.append(watch.judge(start + i * every_ms).severity)
    return severities


def test_a_forecast_that_wavers_at_its_horizon_stands():
    watch = ResourceWatch(WatchSettings("disk"))
    etas = [23 * HOUR] * 30 + [31 * HOUR, 23 * HOUR] * 60 + [31 * HOUR] * 30
    assert set(foresee(watch, etas)[30:]) == {WARNING}
    assert foresee(watch, [32 * HOUR] * 12, start=10 * HOUR)[-1] is None


def test_a_worse_forecast_is_believed_after_two_hundredths_of_its_time():
    watch = ResourceWatch(WatchSettings("disk"))
    severities = foresee(watch, [23 * HOUR] * 40 + [3 * HOUR] * 10)
    assert severities.index(WARNING) == 28
    assert severities.index(CRITICAL) == 40 + 4


def test_a_milder_forecast_is_believed_after_a_tenth_of_the_time_that_was_left():
    watch = ResourceWatch(WatchSettings("disk"))
    severities = foresee(watch, [30 * MINUTE] * 10 + [None] * 10)
    assert severities.index(None, 10) == 10 + 3


def test_a_milder_forecast_is_believed_after_ten_minutes_at_the_latest():
    watch = ResourceWatch(WatchSettings("disk"))
    severities = foresee(watch, [23 * HOUR] * 40 + [None] * 20)
    assert severities.index(None, 40) == 40 + 10


def test_waiting_for_better_does_not_count_as_waiting_for_worse():
    watch = ResourceWatch(WatchSettings("cpu"))
    loads = [92.0] * 40 + [10.0] * 25 + [100.0] * 25
    readings = [Reading("cpu", load, "pct", 100.0) for load in loads]
    assert {verdict.severity for verdict in play(watch, readings)[40:]} == {WARNING}


def test_unknown_neither_raises_nor_clears():
    watch = ResourceWatch(WatchSettings("disk"))
    play(watch, [disk(95)] * 5)
    verdicts = play(watch, [disk(None)] * 20, start=50 * SECOND)
    assert {verdict.severity for verdict in verdicts} == {WARNING}
    assert watch.health is Health.UNKNOWN
    assert verdicts[-1].text == "not known"


def test_a_resource_that_was_never_read_is_unknown():
    watch = ResourceWatch(WatchSettings("disk"))
    assert watch.judge(HOUR).severity is None
    assert watch.health is Health.UNKNOWN


def test_what_the_driver_says_of_an_unknown_value_is_shown():
    watch = ResourceWatch(WatchSettings("disk"))
    hung = Reading("disk:/mnt", None, "bytes", text="statvfs hangs")
    assert play(watch, [hung])[-1].text == "statvfs hangs"


def test_a_busy_processor_is_an_alarm_only_when_it_stays_busy():
    def cpu(pct):
        return Reading("cpu", pct, "pct", 100.0)

    watch = ResourceWatch(WatchSettings("cpu"))
    peaks = [cpu(100.0 if i % 20 < 10 else 10.0) for i in range(500)]
    assert edges(play(watch, peaks)) == []
    assert edges(play(watch, [cpu(100.0)] * 40, start=5000 * SECOND)) == [CRITICAL]


def test_a_processor_that_gets_busier_is_not_forecast():
    watch = ResourceWatch(WatchSettings("cpu"))
    readings = [Reading("cpu", i / 4, "pct", 100.0) for i in range(300)]
    assert all(verdict.outlook.eta_ms is None for verdict in play(watch, readings))


def test_a_runtime_that_falls_has_a_forecast_and_no_share():
    watch = ResourceWatch(WatchSettings("ups"), rising=False)
    readings = [Reading("ups:ups1:runtime", 1200.0 - 10 * i, "s", 0.0, False) for i in range(20)]
    verdict = play(watch, readings)[-1]
    assert watch.pct is None
    assert verdict.severity is CRITICAL
    watch.add(Reading("ups:ups1:charge", 30.0, "pct", 20.0, False), HOUR)
    assert watch.pct is None
    assert verdict.text == "17 min, exhausted in about 17 min (16 min to 18 min)"


def test_groups_should_leave_before_exhaustion_and_not_come_and_go():
    settings = WatchSettings("disk", switch_over_ms=30 * MINUTE)
    watch = ResourceWatch(settings)
    wobble = random.Random(3)
    due = []
    for i in range(900):
        watch.add(disk(10 + 0.1 * i + wobble.uniform(-0.5, 0.5)), i * 10 * SECOND)
        watch.judge(i * 10 * SECOND)
        due.append(watch.switch_over_due)
    first = due.index(True)
    assert 500 < first < 800
    assert all(due[first:])
    play(watch, [disk(10)] * 100, start=9000 * SECOND)
    assert not watch.switch_over_due


def test_groups_stay_where_nothing_asks_them_to_leave():
    watch = ResourceWatch(WatchSettings("disk"))
    play(watch, [disk(5.0 * i) for i in range(21)], SECOND)
    assert not watch.switch_over_due


@pytest.mark.parametrize(
    ("ms", "text"),
    [(0, "0 s"), (45_000, "45 s"), (119_000, "119 s"), (120_000, "2.0 min"),
     (12 * MINUTE, "12 min"), (int(3.5 * HOUR), "3.5 h"), (49 * HOUR, "2.0 d"),
     (400 * 24 * HOUR, "400 d")],
)  # fmt: skip
def test_spans_read_well(ms, text):
    assert span(ms) == text


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [(12, "bytes", "12 B"), (2.0**26, "bytes", "64.0 MiB"), (2.0**42, "bytes", "4.0 TiB"),
     (2.0**53, "bytes", "8192.0 TiB"), (81.4, "pct", "81 %"), (1800, "s", "30 min"),
     (0.25, "ratio", "0.25"), (812, "count", "812")],
)  # fmt: skip
def test_amounts_read_well(value, unit, text):
    assert amount(value, unit) == text
