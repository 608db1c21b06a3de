# SPDX-License-Identifier: GPL-2.0-or-later
"""A UPS that speaks the standard UPS-MIB (RFC 1628), read in one message."""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Protocol

from agent.core.model import Reading
from agent.core.settings import DeviceSettings
from agent.ports import Garbled

UPS_MIB = "1.3.6.1.2.1.33.1"
BATTERY_STATUS = f"{UPS_MIB}.2.1"  # upsBatteryStatus
SECONDS_ON_BATTERY = f"{UPS_MIB}.2.2"  # upsSecondsOnBattery, 0 on mains
MINUTES_LEFT = f"{UPS_MIB}.2.3"  # upsEstimatedMinutesRemaining
CHARGE = f"{UPS_MIB}.2.4"  # upsEstimatedChargeRemaining, percent
INPUT_VOLTAGE = f"{UPS_MIB}.3.3.1.3"  # upsInputVoltage, RMS volts, of the first line
OUTPUT_SOURCE = f"{UPS_MIB}.4.1"  # upsOutputSource
LOAD = f"{UPS_MIB}.4.4.1.5"  # upsOutputPercentLoad, of the first line
ALARMS = f"{UPS_MIB}.6.1"  # upsAlarmsPresent
COLUMNS = (
    BATTERY_STATUS,
    SECONDS_ON_BATTERY,
    MINUTES_LEFT,
    CHARGE,
    INPUT_VOLTAGE,
    OUTPUT_SOURCE,
    LOAD,
    ALARMS,
)

BATTERY_WORDS = {2: "normal", 3: "low", 4: "depleted"}
ON_BATTERY = 5
SOURCE_WORDS = {
    1: "other",
    2: "none",
    3: "normal",
    4: "bypass",
    ON_BATTERY: "battery",
    6: "booster",
    7: "reducer",
}
UNKNOWN_NUMBERS = {999, 65535, 2**31 - 1, 2**32 - 1}  # what devices send for "not known"
WEEK_MINUTES = 7 * 24 * 60
GONE_VOLTS = 50  # no public supply is that low: the input is gone
LOW_CHARGE_PCT = 20  # below it a runtime of 0 may be meant
FALL_PCT, FALL_MS = 2, 600_000  # so much in so short a time is a discharge, not self-discharge


class Line(Protocol):
    """What this driver asks of drivers.snmp.Line."""

    async def first_rows(self, columns: Sequence[str]) -> dict[str, int | str]: ...


class Ups:
    """ports.Watch for one UPS."""

    def __init__(self, settings: DeviceSettings, line: Line) -> None:
        self.name = settings.name
        self.every_ms = settings.every_ms
        self._line = line
        self._charges: deque[float] = deque(maxlen=max(2, FALL_MS // settings.every_ms))

    async def read(self) -> list[Reading]:
        """Raises Unreachable, Refused, Garbled."""
        rows = await self._line.first_rows(COLUMNS)
        if not rows:
            raise Garbled(
                f"{self._line}: answers, but has no row of UPS-MIB ({UPS_MIB}); "
                "check that it is a UPS, and the view that it gives us"
            )
        readings = parse_ups(self.name, rows, max(self._charges, default=None))
        charge = readings[1].value
        if charge is not None:
            self._charges.append(charge)
        return readings


def parse_ups(
    name: str, rows: Mapping[str, int | str], highest_charge: float | None = None
) -> list[Reading]:
    """Readings ups:NAME:runtime, :charge, :load, :source, :battery, :alarms, in this order.

    rows: {OID: value} of any walk; the first row of a column counts. highest_charge: in percent, of
    the last ten minutes. What no UPS can mean is None, and `text` says what it said. Source is 1 on
    battery, else 0; battery is 1 while low or depleted, else 0.
    """
    status = BATTERY_WORDS.get(_number(rows, BATTERY_STATUS) or 0, "unknown")
    charge, load = _within(_number(rows, CHARGE), 100), _number(rows, LOAD)
    if charge == 0 and status == "normal":
        charge = None
    source = _source(name, rows, status, _falls(highest_charge, charge))
    full = status == "normal" and (charge is None or charge >= LOW_CHARGE_PCT)
    return [
        _runtime(name, _number(rows, MINUTES_LEFT), full and source.value != 1),
        _reading(name, "charge", charge, "pct", _number(rows, CHARGE)),
        _reading(name, "load", _within(load, 200), "pct", load, 100),
        source,
        Reading(
            f"ups:{name}:battery",
            None if status == "unknown" else float(status != "normal"),
            "state",
            text=status,
        ),
        _reading(name, "alarms", _within(_number(rows, ALARMS), 998), "count", None),
    ]


def _runtime(name: str, minutes: int | None, full_on_mains: bool) -> Reading:
    resource, text = f"ups:{name}:runtime", ""
    believed = _within(minutes, WEEK_MINUTES)
    if minutes is not None and believed is None:
        text = f"says {minutes} minutes: not believed"
    if believed == 0 and full_on_mains:
        believed, text = None, "says 0 minutes on mains with a good battery: not believed"
    value = None if believed is None else believed * 60.0
    return Reading(resource, value, "s", limit=0.0, rising=False, text=text)


def _source(name: str, rows: Mapping[str, int | str], status: str, draining: bool) -> Reading:
    """On battery takes two signs; one is not enough to know. A low battery alone is charging."""
    source = _number(rows, OUTPUT_SOURCE)
    seconds = _within(_number(rows, SECONDS_ON_BATTERY), 2**31 - 2)
    volts = _number(rows, INPUT_VOLTAGE)
    signs = []
    if source == ON_BATTERY:
        signs.append("its source is battery")
    if seconds:
        signs.append(f"{seconds:g} s on battery")
    if volts is not None and 0 <= volts < GONE_VOLTS:
        signs.append(f"input at {volts} V")
    direct = len(signs)
    if draining or status in ("low", "depleted"):
        signs.append("charge falling" if draining else f"battery {status}")
    word = SOURCE_WORDS.get(source or 0, "unknown")
    if len(signs) >= 2 and direct:
        value, text = 1.0, "battery"
    elif direct:
        value, text = None, f"{word}; only one sign of being on battery: {signs[0]}"
    elif word in ("unknown", "other") and seconds is None:
        value, text = None, word
    else:
        value, text = 0.0, word
    return Reading(f"ups:{name}:source", value, "state", text=text)


def _reading(
    name: str,
    what: str,
    value: float | None,
    unit: str,
    said: int | None,
    limit: float | None = None,
) -> Reading:
    text = f"says {said}: not believed" if value is None and said is not None else ""
    return Reading(f"ups:{name}:{what}", value, unit, limit=limit, text=text)


def _number(rows: Mapping[str, int | str], column: str) -> int | None:
    """The first row of a column, also where the device sends digits as text."""
    value = next((value for oid, value in rows.items() if oid.startswith(column + ".")), None)
    if isinstance(value, str):
        digits = value.strip().removesuffix("%").strip()
        return int(digits) if digits.isascii() and digits.isdigit() else None
    return value


def _within(value: int | None, most: int) -> float | None:
    if value is None or value in UNKNOWN_NUMBERS or not 0 <= value <= most:
        return None
    return float(value)


def _falls(highest: float | None, now: float | None) -> bool:
    return highest is not None and now is not None and highest - now >= FALL_PCT
