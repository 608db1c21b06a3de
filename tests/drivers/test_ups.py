# SPDX-License-Identifier: GPL-2.0-or-later
"""UPS-MIB: what recorded devices say, and what is believed of it."""

import asyncio
from collections.abc import Sequence

import pytest

from agent.core.model import Reading
from agent.core.settings import DeviceSettings, SnmpSettings
from agent.ports import Garbled
from drivers.ups import COLUMNS, UPS_MIB, Ups, parse_ups

# Rows of public walks of real devices, below UPS_MIB.
RECORDED: dict[str, dict[str, int | str]] = {
    "eaton 5PX": {
        "2.1.0": 2, "2.2.0": 0, "2.3.0": 43, "2.4.0": 100, "2.5.0": 810,
        "3.3.1.3.1": 229, "4.1.0": 3, "4.4.1.5.1": 59,
    },
    "source says battery for ever": {
        "2.1.0": 2, "2.2.0": 0, "2.3.0": 6000, "2.4.0": 100, "2.5.0": 513,
        "3.3.1.3.1": 238, "4.1.0": 5, "4.4.1.5.1": 25, "6.1.0": 0,
    },
    "load is an empty string": {
        "2.1.0": 2, "2.2.0": 0, "2.3.0": 1902, "2.4.0": 100, "3.3.1.3.1": 1222, "4.1.0": 3,
        "4.4.1.5.1": "",
    },
    "tables end in .0": {
        "2.1.0": 2, "2.2.0": 0, "2.3.0": 848, "2.4.0": 100, "3.3.1.3.1.0": 224, "4.1.0": 3,
        "4.4.1.5.1.0": 17, "6.1.0": 0,
    },
    "neither charge nor seconds": {"2.1.0": 2, "2.3.0": 59, "4.1.0": 3, "4.4.1.5.1": 28},
    "hardly anything": {"2.1.0": 2, "2.3.0": 52, "3.3.1.3.1": 227, "4.1.0": 3},
}  # fmt: skip
ON_BATTERY: dict[str, int | str] = {
    "2.1.0": 2, "2.2.0": 40, "2.3.0": 12, "2.4.0": 95, "3.3.1.3.1": 0, "4.1.0": 5, "4.4.1.5.1": 30,
    "6.1.0": 1,
}  # fmt: skip
ON_MAINS = RECORDED["eaton 5PX"]


def parsed(
    rows: dict[str, int | str], highest: float | None = None, **changes: int | str | None
) -> dict[str, Reading]:
    """Readings by their last word; a change "_2_3" is the row 2.3.0, None takes it away."""
    named = {key[1:].replace("_", ".") + ".0": value for key, value in changes.items()}
    walk = {f"{UPS_MIB}.{oid}": value for oid, value in (rows | named).items() if value is not None}
    readings = parse_ups("ups1", walk, highest)
    assert all(reading.resource.startswith("ups:ups1:") for reading in readings)
    return {reading.resource.rsplit(":", 1)[1]: reading for reading in readings}


def numbers(readings: dict[str, Reading]) -> tuple[float | None, ...]:
    return tuple(
        readings[word].value for word in ("runtime", "charge", "load", "source", "battery")
    )


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        ("eaton 5PX", (2580.0, 100.0, 59.0, 0.0, 0.0)),
        ("source says battery for ever", (360000.0, 100.0, 25.0, None, 0.0)),
        ("load is an empty string", (114120.0, 100.0, None, 0.0, 0.0)),
        ("tables end in .0", (50880.0, 100.0, 17.0, 0.0, 0.0)),
        ("neither charge nor seconds", (3540.0, None, 28.0, 0.0, 0.0)),
        ("hardly anything", (3120.0, None, None, 0.0, 0.0)),
    ],
)
def test_recorded_devices_are_read_as_they_meant_it(
    device: str, expected: tuple[float | None, ...]
) -> None:
    assert numbers(parsed(RECORDED[device])) == expected


def test_runtime_falls_towards_nothing_in_seconds() -> None:
    runtime = parsed(ON_BATTERY)["runtime"]
    assert runtime == Reading("ups:ups1:runtime", 720.0, "s", limit=0.0, rising=False)


def test_a_ups_on_battery_says_so_in_one_word() -> None:
    source = parsed(ON_BATTERY)["source"]
    assert (source.value, source.text, source.unit) == (1.0, "battery", "state")


@pytest.mark.parametrize(
    ("source", "word"), [(2, "none"), (3, "normal"), (4, "bypass"), (6, "booster"), (7, "reducer")]
)
def test_every_other_source_is_not_battery(source: int, word: str) -> None:
    reading = parsed(ON_MAINS, _4_1=source)["source"]
    assert (reading.value, reading.text) == (0.0, word)


@pytest.mark.parametrize("minutes", [4294967295, 2147483647, 65535, 999, -1, 20000])
def test_a_runtime_that_no_battery_has_is_not_known(minutes: int) -> None:
    runtime = parsed(ON_MAINS, _2_3=minutes)["runtime"]
    assert runtime.value is None
    assert str(minutes) in runtime.text


def test_no_runtime_at_all_is_believed_only_where_it_can_be_true() -> None:
    assert parsed(ON_MAINS, _2_3=0)["runtime"].value is None
    assert parsed(ON_BATTERY, _2_3=0)["runtime"].value == 0.0
    assert parsed(ON_MAINS, _2_3=0, _2_4=5)["runtime"].value == 0.0
    assert parsed(ON_MAINS, _2_3=0, _2_1=3)["runtime"].value == 0.0


@pytest.mark.parametrize("charge", [-1, 101, 255, 65535, 4294967295, 0])
def test_a_charge_that_cannot_be_is_not_known(charge: int) -> None:
    assert parsed(ON_MAINS, _2_4=charge)["charge"].value is None


def test_an_empty_battery_that_says_so_is_empty() -> None:
    assert parsed(ON_BATTERY, _2_4=0, _2_1=4)["charge"].value == 0.0


def test_digits_sent_as_text_are_numbers() -> None:
    assert parsed(ON_MAINS, _2_4="98%")["charge"].value == 98.0


def test_a_missing_row_is_not_known_rather_than_zero() -> None:
    readings = parsed({"2.1.0": 2})
    assert numbers(readings) == (None, None, None, None, 0.0)
    assert readings["source"].text == "unknown"


@pytest.mark.parametrize(
    "sign", [{"_4_1": 5}, {"_2_2": 30}, {"3.3.1.3.1": 0}, {"_4_1": 5, "_2_2": 65535}]
)
def test_one_sign_alone_is_not_enough_to_be_on_battery(sign: dict[str, int]) -> None:
    rows = ON_MAINS | {key: value for key, value in sign.items() if not key.startswith("_")}
    source = parsed(rows, **{key: value for key, value in sign.items() if key.startswith("_")})
    assert source["source"].value is None
    assert "only one sign" in source["source"].text


@pytest.mark.parametrize(
    ("highest", "more"),
    [(None, {"_2_2": 30}), (None, {"_2_1": 3}), (None, {"_2_1": 4}), (100.0, {"_2_4": 98})],
)
def test_a_second_sign_makes_it_sure(highest: float | None, more: dict[str, int]) -> None:
    assert parsed(ON_MAINS, highest, _4_1=5, **more)["source"].value == 1.0


def test_self_discharge_is_no_second_sign() -> None:
    assert parsed(ON_MAINS, 100.0, _4_1=5, _2_4=99)["source"].value is None


def test_a_low_battery_on_mains_is_one_that_charges() -> None:
    readings = parsed(ON_MAINS, _2_1=3, _2_4=20)
    assert (readings["source"].value, readings["battery"].value) == (0.0, 1.0)


class ScriptedLine:
    """Answers one set of rows a round."""

    def __init__(self, *rounds: dict[str, int | str]) -> None:
        self.rounds = list(rounds)

    async def first_rows(self, columns: Sequence[str]) -> dict[str, int | str]:
        assert columns == COLUMNS
        return {f"{UPS_MIB}.{oid}": value for oid, value in self.rounds.pop(0).items()}


def device(snmp: SnmpSettings, every_ms: int = 5000) -> DeviceSettings:
    return DeviceSettings("ups1", "127.0.0.1", "london", snmp, every_ms=every_ms)


def test_charge_falling_within_minutes_confirms_the_source() -> None:
    rounds = [ON_MAINS | {"4.1.0": 5, "2.4.0": charge} for charge in (100, 99, 98)]
    ups = Ups(device(SnmpSettings()), ScriptedLine(*rounds))
    seen = [asyncio.run(ups.read())[3].value for _ in rounds]
    assert seen == [None, None, 1.0]


def test_a_device_without_ups_mib_is_garbled_not_healthy() -> None:
    with pytest.raises(Garbled, match="no row of UPS-MIB"):
        asyncio.run(Ups(device(SnmpSettings()), ScriptedLine({})).read())
