# SPDX-License-Identifier: GPL-2.0-or-later
"""systemd over a real message bus: the unit check, and service control by units."""

import asyncio
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest

from agent.core.model import Answer
from agent.core.settings import CheckSettings, ServiceSettings
from agent.ports import PortError, Refused, Unreachable
from drivers.bus import unit_name
from drivers.systemd import SystemdService, members
from drivers.unit import UnitCheck
from tests.drivers.bus_lab import Systemd, message_bus_daemon

T = TypeVar("T")

LONG_MS = 20_000
SIP = "sip.service"


@pytest.fixture
def bus(tmp_path: Path) -> Iterator[str]:
    with message_bus_daemon(tmp_path) as address:
        yield address


def play(bus: str, systemd: Systemd, ask: Callable[[], Awaitable[T]]) -> T:
    async def scene() -> T:
        async with systemd.serving(bus):
            return await ask()

    return asyncio.run(scene())


def check(bus: str, unit: str = SIP, timeout_ms: int = LONG_MS) -> UnitCheck:
    return UnitCheck(CheckSettings("u", "unit", unit, timeout_ms=timeout_ms), bus)


def service(bus: str, unit: str = SIP) -> SystemdService:
    return SystemdService(ServiceSettings("sip", unit=unit), bus)


def refused(bus: str, systemd: Systemd, verb: str = "start", within_ms: int = LONG_MS) -> PortError:
    async def ask() -> PortError:
        with pytest.raises(PortError) as caught:
            await getattr(service(bus), verb)(within_ms)
        return caught.value

    return play(bus, systemd, ask)


# ---------------------------------------------------------------- the check


@pytest.mark.parametrize(
    ("state", "alive"),
    [
        *(("active", True), ("reloading", True), ("refreshing", True)),
        *(("inactive", False), ("failed", False), ("activating", False), ("deactivating", False)),
    ],
)
def test_only_an_active_unit_is_alive(bus: str, state: str, alive: bool) -> None:
    systemd = Systemd()
    systemd.unit(SIP, state, SubState="x")
    answer = play(bus, systemd, check(bus).ask)
    assert (answer.ok, answer.detail) == (alive, f"{state} (x)")


def test_a_unit_that_is_not_there_is_not_alive(bus: str) -> None:
    answer = play(bus, Systemd(), check(bus).ask)
    assert (answer.ok, answer.detail) == (False, "there is no such unit")


def test_without_a_bus_or_without_systemd_on_it_nobody_can_ask(bus: str, tmp_path: Path) -> None:
    async def ask() -> Answer:
        return await check(bus).ask()

    assert asyncio.run(ask()).ok is None
    answer = asyncio.run(check(f"unix:path={tmp_path}/none").ask())
    assert answer.ok is None
    assert "is dbus running here?" in answer.detail
    assert asyncio.run(check("nonsense").ask()).ok is None


def test_a_bus_that_hangs_is_not_held_against_the_service(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{tmp_path}/hung")
        server.listen(1)
        answer = asyncio.run(check(f"unix:path={tmp_path}/hung", timeout_ms=200).ask())
        assert (answer.ok, answer.detail) == (None, "no answer within 200 ms")


@pytest.mark.parametrize("greeting", [b"", b"REJECTED EXTERNAL\r\n", b"OK 1\r\nnonsense" * 99])
def test_a_bus_that_turns_us_away_or_babbles_is_not_held_against_the_service(
    tmp_path: Path, greeting: bytes
) -> None:
    def babble(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(greeting)

    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{tmp_path}/odd")
        server.listen(1)
        thread = threading.Thread(target=babble, args=(server,))
        thread.start()
        answer = asyncio.run(check(f"unix:path={tmp_path}/odd").ask())
        thread.join()
    assert answer.ok is None
    assert answer.detail.startswith("D-Bus ")


def test_a_name_without_a_suffix_is_a_service() -> None:
    assert unit_name("kamailio") == "kamailio.service"
    assert unit_name("rtp@1.2") == "rtp@1.2.service"
    assert unit_name("sip.socket") == "sip.socket"


# ---------------------------------------------------------------- service control


def test_a_unit_is_started_restarted_and_stopped(bus: str) -> None:
    systemd = Systemd()
    systemd.unit(SIP)

    async def ask() -> None:
        it = service(bus, "sip")
        assert await it.running() is False
        assert "now active" in await it.start(LONG_MS)
        assert await it.running() is True
        assert "now active" in await it.restart(LONG_MS)
        assert "now inactive" in await it.stop(LONG_MS)
        assert await it.running() is False

    play(bus, systemd, ask)
    assert systemd.asked == [("StartUnit", SIP), ("RestartUnit", SIP), ("StopUnit", SIP)]


def test_a_unit_on_its_way_neither_runs_nor_does_not(bus: str) -> None:
    systemd = Systemd()
    systemd.unit(SIP, "deactivating")
    assert play(bus, systemd, service(bus).running) is None


def test_without_systemd_nobody_knows_whether_it_runs(bus: str) -> None:
    assert asyncio.run(service(bus).running()) is None
    with pytest.raises(Unreachable, match=r"unit sip.service: start: systemd: ServiceUnknown"):
        asyncio.run(service(bus).start(LONG_MS))


def test_a_job_that_does_not_end_leaves_its_outcome_unknown(bus: str) -> None:
    systemd = Systemd()
    systemd.unit(SIP)
    systemd.results[SIP] = "silent"
    error = refused(bus, systemd, within_ms=300)
    assert isinstance(error, Unreachable)
    assert str(error) == f"unit {SIP}: start: not finished within 300 ms; look again"


@pytest.mark.parametrize("result", ["canceled", "timeout"])
def test_a_job_that_was_given_up_leaves_its_outcome_unknown(bus: str, result: str) -> None:
    systemd = Systemd()
    systemd.unit(SIP)
    systemd.results[SIP] = result
    assert isinstance(refused(bus, systemd), Unreachable)


def test_a_unit_that_fails_says_how_and_where_to_look(bus: str) -> None:
    systemd = Systemd()
    systemd.unit(SIP, Result="exit-code")
    systemd.results[SIP], systemd.after[SIP] = "failed", "failed"
    error = refused(bus, systemd)
    assert isinstance(error, Refused)
    assert "job failed (exit-code), unit failed; see journalctl -u sip.service" in str(error)


def test_a_unit_that_fails_right_after_its_start_is_not_called_started(bus: str) -> None:
    systemd = Systemd()
    systemd.unit(SIP, Result="core-dump")
    systemd.after[SIP] = "failed"
    assert "it ran and failed (core-dump)" in str(refused(bus, systemd))


@pytest.mark.parametrize(
    "properties",
    [
        {"Type": "simple"},
        {"Type": "simple", "ConditionResult": False},
        {"Type": "oneshot", "ConditionResult": False},
    ],
)
def test_a_unit_that_does_not_stay_or_never_began_is_not_called_started(
    bus: str, properties: dict[str, Any]
) -> None:
    systemd = Systemd()
    systemd.unit(SIP, **properties)
    systemd.after[SIP] = "inactive"
    assert "it ended at once, or a Condition of the unit is not met" in str(refused(bus, systemd))


def test_a_unit_that_is_active_again_after_its_stop_is_not_called_stopped(bus: str) -> None:
    systemd = Systemd()
    systemd.unit(SIP, "active")
    systemd.after[SIP] = "active"
    assert "stopped, but active again" in str(refused(bus, systemd, "stop"))


@pytest.mark.parametrize(
    "properties", [{}, {"ConditionResult": False, "ConditionTimestamp": 0}], ids=["", "unloaded"]
)
def test_a_unit_that_runs_once_and_ends_is_well(bus: str, properties: dict[str, Any]) -> None:
    systemd = Systemd()
    systemd.unit(SIP, Type="oneshot", **properties)
    systemd.after[SIP] = "inactive"
    assert "now inactive" in play(bus, systemd, lambda: service(bus).start(LONG_MS))


def test_a_unit_that_is_not_there_is_refused(bus: str) -> None:
    error = refused(bus, Systemd())
    assert isinstance(error, Refused)
    assert "NoSuchUnit" in str(error)


@pytest.mark.parametrize("name", ["InteractiveAuthorizationRequired", "AccessDenied"])
def test_a_missing_authorisation_says_which_rule_is_wanted(bus: str, name: str) -> None:
    systemd = Systemd()
    systemd.unit(SIP)
    systemd.results[SIP] = f"error org.freedesktop.DBus.Error.{name}"
    error = refused(bus, systemd)
    assert isinstance(error, Refused)
    assert f"uid {os.geteuid()} may not: {name}" in str(error)
    assert "polkit rule for org.freedesktop.systemd1.manage-units" in str(error)


def test_a_bus_that_forbids_the_call_is_refused_the_same_way(tmp_path: Path) -> None:
    systemd = Systemd()
    systemd.unit(SIP)
    with message_bus_daemon(tmp_path, "StartUnit") as address:
        assert "polkit rule" in str(refused(address, systemd))
    assert systemd.asked == []


@pytest.mark.parametrize("name", ["NoReply", "Timeout", "Disconnected"])
def test_an_error_that_leaves_open_what_was_done_is_unknown(bus: str, name: str) -> None:
    systemd = Systemd()
    systemd.unit(SIP)
    systemd.results[SIP] = f"error org.freedesktop.DBus.Error.{name}"
    assert isinstance(refused(bus, systemd), Unreachable)


# ---------------------------------------------------------------- killing


@contextmanager
def main_process() -> Iterator["subprocess.Popen[bytes]"]:
    process = subprocess.Popen(["sleep", "600"])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_a_unit_is_killed_though_it_is_stopped_and_seen_to_be_gone(bus: str) -> None:
    systemd = Systemd()
    with main_process() as process:
        systemd.unit(SIP, "active", MainPID=process.pid)
        os.kill(process.pid, signal.SIGSTOP)
        assert play(bus, systemd, service(bus).main_pid) == process.pid
        said = play(bus, systemd, lambda: service(bus).kill(LONG_MS))
        assert said.startswith(f"unit {SIP}: kill: pid {process.pid} gone in ")
        assert process.wait() == -signal.SIGKILL
    assert systemd.asked == [("KillUnit", SIP)]


def test_a_unit_of_which_nothing_runs_needs_no_killing(bus: str) -> None:
    systemd = Systemd()
    systemd.unit(SIP, MainPID=0)
    assert "nothing of it runs" in play(bus, systemd, lambda: service(bus).kill(LONG_MS))
    assert systemd.asked == []


def test_a_kill_that_does_not_help_within_its_limit_is_unknown(bus: str) -> None:
    systemd = Systemd()
    with main_process() as process:
        systemd.unit(SIP, "active", MainPID=process.pid)
        systemd.results[SIP] = "silent"
        error = refused(bus, systemd, "kill", 300)
    assert isinstance(error, Unreachable)
    assert "not gone within 300 ms" in str(error)


def test_a_kill_that_is_not_allowed_says_which_rule_is_wanted(bus: str) -> None:
    systemd = Systemd()
    with main_process() as process:
        systemd.unit(SIP, "active", MainPID=process.pid)
        systemd.results[SIP] = "error org.freedesktop.DBus.Error.AccessDenied"
        error = refused(bus, systemd, "kill")
    assert isinstance(error, Refused)
    assert "polkit rule" in str(error)


def test_without_systemd_nobody_knows_its_main_process_nor_what_it_said(bus: str) -> None:
    assert asyncio.run(service(bus).main_pid()) == 0
    assert asyncio.run(service(bus, "no-such-unit-here.service").last_lines(3)) == []


def test_a_control_group_has_the_processes_of_all_below_it() -> None:
    mine = Path("/proc/self/cgroup").read_text().rpartition("::")[2].strip()
    found = members(mine)
    assert found == set() if mine.strip("/") == "" else os.getpid() in found
    assert members("") == members("/") == members("/no/such.slice") == set()
