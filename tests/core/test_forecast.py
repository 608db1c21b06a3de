# SPDX-License-Identifier: GPL-2.0-or-later
"""When a resource will be exhausted, or that this cannot be told."""

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.forecast import LEVELS, NOTHING, Forecaster, Outlook
from agent.core.trend import HORIZON, POINTS, TOPS, straighten, theil_sen

SECOND, MINUTE, HOUR, DAY = 1000, 60_000, 3_600_000, 86_400_000
MIB = 2.0**20


def feed(forecaster, values, limit=100.0, every_ms=10 * SECOND, start=0):
    """All outlooks, each asked right after its sample."""
    outlooks = []
    for i, value in enumerate(values):
        at = start + i * every_ms
        forecaster.add(value, limit, at)
        outlooks.append(forecaster.outlook(at))
    return outlooks


def warned(outlooks):
    return [i for i, outlook in enumerate(outlooks) if outlook.eta_ms is not None]


def noise(seed, count, spread=1.0):
    source = random.Random(seed)
    return [source.gauss(0.0, spread) for _ in range(count)]


# ---------------------------------------------------------------- fills


def test_a_tmpfs_filled_in_twenty_seconds_is_foreseen_after_five_samples():
    filled = [min(64.0, 3.2 * i) * MIB for i in range(20)]
    outlooks = feed(Forecaster(), filled, limit=64 * MIB, every_ms=SECOND)
    assert warned(outlooks)[0] == 4
    assert outlooks[4].eta_ms == pytest.approx(16_000, rel=0.02)


@pytest.mark.parametrize("before_s", [3, 30, 300, 3000])
def test_a_sudden_fill_is_foreseen_within_six_samples_however_long_it_was_quiet(before_s):
    quiet, fill = [1.0] * before_s, [1.0 + 4.95 * i for i in range(1, 20)]
    outlooks = feed(Forecaster(), quiet + fill, every_ms=SECOND)
    first = warned(outlooks)[0]
    assert before_s <= first <= before_s + 6
    left_s = (99.0 - 4.95 * (first - before_s + 1)) / 4.95
    assert outlooks[first].eta_ms == pytest.approx(left_s * 1000, rel=0.1)


def test_a_slow_fill_is_foreseen_days_ahead_with_bounds_that_hold():
    per_sample = 50.0 / (5 * 1440)  # half the disk in five days
    values = [40 + per_sample * i + wobble for i, wobble in enumerate(noise(1, 3 * 1440, 0.2))]
    last = feed(Forecaster(), values, every_ms=MINUTE)[-1]
    left_ms = (100.0 - 40.0) / per_sample * MINUTE - 3 * DAY
    assert last.eta_ms == pytest.approx(left_ms, rel=0.05)
    assert last.low_ms < left_ms < last.high_ms
    assert last.slope_per_s == pytest.approx(per_sample / 60, rel=0.05)
    assert last.basis_span_ms > DAY


def test_a_fill_that_grows_faster_is_not_taken_for_a_slow_one():
    values = [10.0 + 90.0 * (i / 1000) ** 2.5 for i in range(900)]
    last = feed(Forecaster(), values)[-1]
    assert last.eta_ms == pytest.approx(100 * 10 * SECOND, rel=0.3)
    assert last.low_ms < 100 * 10 * SECOND < last.high_ms


def test_a_ups_that_runs_down_is_foreseen():
    mains, battery = [1800.0] * 100, [1800.0 - 5.0 * i for i in range(60)]
    outlooks = feed(Forecaster(rising=False), mains + battery, limit=0.0, every_ms=5 * SECOND)
    assert 100 < warned(outlooks)[0] <= 100 + 360 / HORIZON
    assert outlooks[-1].eta_ms == pytest.approx(1505.0 * SECOND, rel=0.1)
    assert outlooks[-1].slope_per_s == pytest.approx(-1.0, rel=0.1)


def test_a_runtime_told_in_whole_minutes_is_a_slope_too():
    values = [60.0 * math.ceil((1200 - 5 * i) / 60) for i in range(120)]
    last = feed(Forecaster(rising=False), values, limit=0.0, every_ms=5 * SECOND)[-1]
    assert last.eta_ms == pytest.approx(605 * SECOND, rel=0.25)


# ---------------------------------------------------------------- silence


@pytest.mark.parametrize("level", [50.0, 90.0])
def test_a_flat_noisy_disk_is_silent(level):
    values = [level + wobble for wobble in noise(2, 5000)]
    assert warned(feed(Forecaster(), values, every_ms=MINUTE)) == []


def test_a_flat_disk_is_silent():
    assert warned(feed(Forecaster(), [97.0] * 1000)) == []


def test_a_rotation_that_was_seen_twice_is_silent_from_then_on():
    period = 180
    values = [60.0 + 35.0 * (i % period) / period for i in range(12 * period)]
    late = [i for i in warned(feed(Forecaster(), values, every_ms=MINUTE)) if i > 2 * period]
    assert late == []


def test_a_rotation_that_is_missed_is_foreseen_once_its_usual_top_is_passed():
    period = 180
    values = [40.0 + 30.0 * (i % period) / period for i in range(6 * period)]
    values += [70.0 + 30.0 * i / period for i in range(period)]
    outlooks = feed(Forecaster(), values, every_ms=MINUTE)
    late = [i for i in warned(outlooks) if i > 2 * period]
    assert 6 * period < late[0] < 6.15 * period
    assert outlooks[-1].eta_ms == pytest.approx(MINUTE, rel=0.3)


def test_tops_that_rise_are_foreseen_through_the_rotations():
    period = 60
    values = [30.0 + 15.0 * (i % period) / period + i / 60 for i in range(40 * period)]
    outlook = feed(Forecaster(), values, every_ms=MINUTE)[-1]
    left = (100.0 - values[-1]) * 60 * MINUTE
    assert outlook.eta_ms == pytest.approx(left, rel=0.15)


def test_one_step_is_not_a_slope():
    values = [30.0 + wobble for wobble in noise(3, 500, 0.1)]
    values += [70.0 + wobble for wobble in noise(4, 500, 0.1)]
    assert warned(feed(Forecaster(), values)) == []


def test_what_was_before_a_step_is_not_part_of_the_run_after_it():
    values = [20.0] * 500 + [60.0 + 0.02 * i for i in range(600)]
    last = feed(Forecaster(), values)[-1]
    assert last.eta_ms == pytest.approx((100 - 71.98) / 0.02 * 10 * SECOND, rel=0.01)
    assert HOUR < last.basis_span_ms < 6000 * SECOND
    growth = [20.0 + 0.01 * i for i in range(3000)] + [65.0 + 0.01 * i for i in range(1000)]
    after = [outlook for outlook in feed(Forecaster(), growth)[3000:] if outlook.eta_ms]
    assert len(after) > 400
    for outlook in after:
        assert outlook.slope_per_s == pytest.approx(0.001, rel=0.01)


def test_a_fill_that_starts_during_a_slow_growth_is_not_hidden_by_it():
    values = [40.0 + 0.002 * i for i in range(5000)]
    values += [50.0 + 0.5 * i for i in range(1, 30)]
    outlooks = feed(Forecaster(), values)
    assert outlooks[4999].eta_ms > 2 * DAY
    left_ms = (100 - 55.5) / 0.5 * 10 * SECOND
    assert outlooks[5010].eta_ms == pytest.approx(left_ms, rel=0.3)
    assert outlooks[5010].low_ms < left_ms <= outlooks[5010].high_ms


def test_a_ramp_that_stops_is_forgotten_in_minutes():
    values = [20.0] * 300 + [20.0 + 0.5 * i for i in range(100)] + [70.0] * 300
    outlooks = feed(Forecaster(), values)
    assert warned(outlooks[300:400])
    assert warned(outlooks[490:]) == []


def test_room_that_was_made_ends_the_forecast_at_once():
    values = [10.0 + 0.1 * i + wobble for i, wobble in enumerate(noise(8, 800, 0.3))]
    outlooks = feed(Forecaster(), values + [20.0] * 50)
    assert outlooks[799].eta_ms is not None
    assert warned(outlooks[800:]) == []


def test_a_rise_that_levels_off_below_the_limit_is_silent_once_that_shows():
    values = [20.0 + 60.0 * (1 - math.exp(-i / 200)) for i in range(2000)]
    assert warned(feed(Forecaster(), values)[400:]) == []


def test_nothing_is_foreseen_further_than_a_multiple_of_what_was_seen():
    outlooks = feed(Forecaster(), [10.0 + 0.01 * i for i in range(2000)])
    first = warned(outlooks)[0]
    for outlook in outlooks[first:]:
        assert outlook.eta_ms <= HORIZON * outlook.basis_span_ms


# ---------------------------------------------------------------- full, grown, gaps


def test_full_is_exhausted_not_solved():
    values = [float(i) for i in range(101)] + [100.0] * 50
    outlooks = feed(Forecaster(), values)
    assert all(outlook == Outlook(0, 0, 0) for outlook in outlooks[100:])


def test_empty_is_exhausted_for_what_falls():
    forecaster = Forecaster(rising=False)
    forecaster.add(0.0, 0.0, 0)
    assert forecaster.outlook(0).eta_ms == 0


def test_a_disk_that_was_enlarged_is_judged_anew():
    forecaster = Forecaster()
    assert feed(forecaster, [float(i) for i in range(90)])[-1].eta_ms is not None
    forecaster.add(90.0, 200.0, 900 * SECOND)
    assert forecaster.outlook(900 * SECOND) == NOTHING


def test_a_limit_that_wobbles_is_the_same_disk():
    forecaster = Forecaster()
    for i in range(90):
        forecaster.add(float(i), 100.0 + 0.001 * (i % 3), i * SECOND)
    assert forecaster.outlook(89 * SECOND).eta_ms == pytest.approx(11 * SECOND, rel=0.05)


def test_a_gap_is_no_rise():
    forecaster = Forecaster()
    feed(forecaster, [50.0 + wobble for wobble in noise(5, 500, 0.2)])
    later = [52.0 + wobble for wobble in noise(6, 100, 0.2)]
    assert warned(feed(forecaster, later, start=3 * DAY)) == []


def test_after_a_gap_nothing_is_claimed_until_somebody_looked():
    forecaster = Forecaster()
    assert feed(forecaster, [float(i) for i in range(90)])[-1].eta_ms == pytest.approx(
        110_000, 0.02
    )
    assert forecaster.outlook(90 * 10 * SECOND).eta_ms == pytest.approx(100_000, 0.02)
    assert forecaster.outlook(DAY) == NOTHING


def test_bounds_that_have_passed_are_now_not_before():
    forecaster = Forecaster()
    wobbly = [20 + i + wobble for i, wobble in enumerate(noise(9, 40, 2.0))]
    last = feed(forecaster, wobbly)[-1]
    assert last.low_ms < last.eta_ms - 1000
    later = forecaster.outlook(390 * SECOND + last.eta_ms - 1000)
    assert (later.eta_ms, later.low_ms) == (1000, 0)


def test_time_that_goes_back_begins_anew():
    forecaster = Forecaster()
    feed(forecaster, [float(i) for i in range(90)], start=DAY)
    again = [10.0 + 0.2 * i + wobble for i, wobble in enumerate(noise(10, 300))]
    assert feed(forecaster, again) == feed(Forecaster(), again)


def test_the_same_moment_twice_and_values_that_are_none_change_nothing():
    once, twice = Forecaster(), Forecaster()
    for i in range(20):
        once.add(float(i), 100.0, i * SECOND)
        twice.add(float(i), 100.0, i * SECOND)
        twice.add(i + 0.5, 100.0, i * SECOND)
        twice.add(math.nan, 100.0, i * SECOND + 1)
        twice.add(math.inf, 100.0, i * SECOND + 2)
    assert once.outlook(20_000) == twice.outlook(20_000) != NOTHING


def test_memory_is_fixed():
    forecaster = Forecaster()
    feed(forecaster, [50.0 + wobble for wobble in noise(7, 40_000)])
    assert len(forecaster._levels) <= LEVELS
    assert all(len(level.values) <= POINTS for level in forecaster._levels)
    assert all(len(turns.values) <= TOPS for turns in forecaster._turns)


samples = st.lists(
    st.tuples(
        st.floats(-1e12, 1e12) | st.floats(0, 100) | st.sampled_from([0.0, 100.0, math.nan]),
        st.integers(-5, 5) | st.integers(0, 10_000_000),
    ),
    max_size=80,
)


@settings(max_examples=60)
@given(samples, st.floats(-1e12, 1e12) | st.just(100.0), st.booleans())
def test_whatever_comes_the_bounds_hold_the_estimate_and_none_is_negative(given_, limit, rising):
    forecaster = Forecaster(rising)
    now = 0
    for value, wait in given_:
        now += wait
        forecaster.add(value, limit, now)
        outlook = forecaster.outlook(now)
        if outlook.eta_ms is not None:
            assert 0 <= outlook.low_ms <= outlook.eta_ms
            assert outlook.high_ms is None or outlook.eta_ms <= outlook.high_ms


@settings(max_examples=40)
@given(st.floats(0.01, 10.0), st.floats(0.0, 50.0), st.integers(100, DAY))
def test_a_straight_line_reaches_the_limit_when_it_does(per_sample, start, every_ms):
    forecaster = Forecaster()
    count = min(int((100.0 - start) / per_sample * 0.8), 400)
    if count < 10 or (100.0 - start) / per_sample > HORIZON * count / 2:
        return
    outlook = feed(forecaster, [start + per_sample * i for i in range(count)], every_ms=every_ms)[
        -1
    ]
    left_ms = (100.0 - start - per_sample * (count - 1)) / per_sample * every_ms
    assert outlook.eta_ms == pytest.approx(left_ms, rel=0.02, abs=2)
    assert outlook.low_ms <= left_ms <= outlook.high_ms + 1


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.floats(1.0, 1e9))
def test_rising_and_falling_are_mirror_images(seed, scale):
    values = [50 + i / 10 + wobble for i, wobble in enumerate(noise(seed, 60))]
    up, down = Forecaster(), Forecaster(rising=False)
    for i, value in enumerate(values):
        up.add(value * scale, 100.0 * scale, i * SECOND)
        down.add(-value * scale, -100.0 * scale, i * SECOND)
    one, other = up.outlook(59_000), down.outlook(59_000)
    assert one._replace(slope_per_s=0.0) == other._replace(slope_per_s=0.0)
    assert one.slope_per_s == -other.slope_per_s


def test_a_line_is_found_through_outliers():
    values = [2.0 * i for i in range(16)]
    values[3], values[9] = 500.0, -500.0
    line = theil_sen([float(i) for i in range(16)], values)
    assert line.slope == pytest.approx(2.0)
    assert line.low <= 2.0 <= line.high


@pytest.mark.parametrize(
    ("values", "is_line"),
    [
        ([float(i) for i in range(16)], True),
        ([0.0] * 9 + [float(i) for i in range(1, 8)], False),  # has only begun
        ([float(i) for i in range(8)] + [8.0] * 8, False),  # has ended
        ([0.0] * 8 + [9.0] * 8, False),  # a step
    ],
)
def test_a_line_has_two_halves_that_rise(values, is_line):
    times = [float(i) for i in range(16)]
    line = theil_sen(times, values)
    assert line is not None
    assert (straighten(times, values, line, 100.0) is not None) is is_line


def test_what_does_not_rise_has_no_line():
    assert theil_sen([0.0, 1.0, 2.0], [1.0, 1.0, 1.0]) is None
    assert theil_sen([0.0, 1.0, 2.0], [3.0, 2.0, 1.0]) is None
