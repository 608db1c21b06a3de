# SPDX-License-Identifier: GPL-2.0-or-later
"""Memory, swap, processor, kernel table and pressure watchers."""

import asyncio
from collections import namedtuple
from pathlib import Path

import psutil
import pytest

from agent.core.model import Reading
from agent.core.settings import WatchSettings
from agent.ports import Garbled, Refused, Unreachable
from drivers.kernel import FdsWatch, PidsWatch, parse_file_nr, parse_tasks
from drivers.memory import MemoryWatch, SwapWatch, memory_readings, swap_readings
from drivers.pressure import PressureWatch, parse_pressure
from drivers.processor import CpuWatch, busy_pct

Memory = namedtuple("Memory", "total available free")
Swap = namedtuple("Swap", "total used")
Times = namedtuple("Times", "user system idle iowait steal guest guest_nice")

PRESSURE = """some avg10=0.36 avg60=12.50 avg300=0.31 total=5782556
full avg10=0.36 avg60=2.50 avg300=0.29 total=5588741
"""


def settings(kind: str) -> WatchSettings:
    return WatchSettings(kind, every_ms=1000)


def test_caches_are_not_used_memory() -> None:
    seen = Memory(total=1000, available=800, free=100)
    assert memory_readings(seen) == [Reading("memory", 200, "bytes", limit=1000)]


def test_a_host_without_swap_has_nothing_to_say_of_it() -> None:
    assert swap_readings(Swap(total=0, used=0)) == []
    assert swap_readings(Swap(total=100, used=40)) == [Reading("swap", 40, "bytes", limit=100)]


def test_waiting_for_a_disk_is_idle_and_stolen_time_is_not() -> None:
    before = Times(0, 0, 0, 0, 0, 0, 0)
    assert busy_pct(before, Times(10, 10, 60, 20, 0, 0, 0)) == pytest.approx(20.0)
    assert busy_pct(before, Times(0, 0, 50, 0, 50, 0, 0)) == pytest.approx(50.0)


def test_guest_time_is_not_counted_twice() -> None:
    assert busy_pct(Times(0, 0, 0, 0, 0, 0, 0), Times(50, 0, 50, 0, 0, 50, 0)) == 50.0


def test_a_share_never_leaves_its_bounds_when_the_kernel_counts_backwards() -> None:
    before = Times(0, 0, 10, 10, 0, 0, 0)
    assert busy_pct(before, Times(20, 0, 10, 5, 0, 0, 0)) == 100.0
    assert busy_pct(before, before) is None


def test_a_processor_is_known_from_the_second_round_on() -> None:
    rounds = iter([Times(0, 0, 0, 0, 0, 0, 0), Times(30, 0, 70, 0, 0, 0, 0)])

    async def scene() -> None:
        watch = CpuWatch(settings("cpu"), fetch=lambda: next(rounds))
        [first] = await watch.read()
        assert first.value is None
        assert first.text
        [second] = await watch.read()
        assert second == Reading("cpu", pytest.approx(30.0), "pct", limit=100.0)

    asyncio.run(scene())


def test_open_files_are_measured_against_the_kernels_limit() -> None:
    assert parse_file_nr("593\t0\t2466165\n") == [Reading("fds", 593, "count", limit=2466165)]
    assert parse_file_nr("593\t93\t9223372036854775807\n") == [Reading("fds", 500, "count")]


def test_tasks_are_measured_against_the_lower_limit() -> None:
    assert parse_tasks("0.07 0.07 0.04 1/93 10920\n", "32768\n", "192729\n") == [
        Reading("pids", 93, "count", limit=32768)
    ]
    [reading] = parse_tasks("0.07 0.07 0.04 1/93 10920\n", "4194304\n", "127000\n")
    assert reading.limit == 127000


def test_pressure_is_the_last_minutes_share() -> None:
    assert parse_pressure(PRESSURE, "some") == pytest.approx(0.125)
    assert parse_pressure(PRESSURE, "full") == pytest.approx(0.025)


def test_a_busy_processor_and_a_full_stop_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "pressure").mkdir()
    for name in ("cpu", "memory", "io"):
        (tmp_path / "pressure" / name).write_text(PRESSURE)
    assert asyncio.run(PressureWatch(settings("psi"), proc=tmp_path).read()) == [
        Reading("psi:cpu", 0.125, "ratio", limit=1.0),
        Reading("psi:memory", 0.025, "ratio", limit=1.0),
        Reading("psi:io", 0.025, "ratio", limit=1.0),
    ]


def test_a_kernel_without_pressure_is_no_failure(tmp_path: Path) -> None:
    assert asyncio.run(PressureWatch(settings("psi"), proc=tmp_path).read()) == []


def test_what_cannot_be_read_and_what_makes_no_sense_are_different_errors(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match="host:fds"):
        asyncio.run(FdsWatch(settings("fds"), proc=tmp_path).read())
    (tmp_path / "sys/fs").mkdir(parents=True)
    (tmp_path / "sys/fs/file-nr").write_text("many\n")
    with pytest.raises(Garbled, match="host:fds"):
        asyncio.run(FdsWatch(settings("fds"), proc=tmp_path).read())


def test_what_may_not_be_read_is_for_a_human() -> None:
    def fetch() -> None:
        raise PermissionError(13, "Permission denied", "/proc/meminfo")

    with pytest.raises(Refused, match="/proc/meminfo: not permitted"):
        asyncio.run(MemoryWatch(settings("memory"), fetch=fetch).read())


def test_this_host_is_seen_as_psutil_sees_it() -> None:
    [memory] = asyncio.run(MemoryWatch(settings("memory")).read())
    assert memory.limit == psutil.virtual_memory().total
    assert memory.value is not None
    assert 0 < memory.value < memory.limit
    swap = asyncio.run(SwapWatch(settings("swap")).read())
    assert [reading.limit for reading in swap] == [psutil.swap_memory().total][: len(swap)]
    [fds] = asyncio.run(FdsWatch(settings("fds")).read())
    [pids] = asyncio.run(PidsWatch(settings("pids")).read())
    assert fds.value is not None
    assert pids.value is not None
    assert fds.value > 0
    assert pids.value > 0
