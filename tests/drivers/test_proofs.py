# SPDX-License-Identifier: GPL-2.0-or-later
"""What a standby has to show: each proof on this machine, true and false."""

import asyncio
import os
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.core.model import Proof
from agent.core.settings import (
    CarriedSettings,
    CheckSettings,
    GroupSettings,
    RealtimeSettings,
    ServiceSettings,
    Standby,
)
from agent.ports import Unreachable
from drivers.proof_clock import BUILT_S, ClockProof, unsynchronised
from drivers.proof_ports import PortsProof, Seat, parse_seats, seat_of
from drivers.proof_rehearsal import RehearsalProof
from drivers.proof_room import RoomProof
from drivers.proof_status import StatusProof
from drivers.proof_unit import UnitProof
from drivers.proof_versions import VersionsProof, compare, interfaces
from drivers.proving import Prover
from tests.drivers import bus_lab
from tests.drivers.bus_lab import Systemd, message_bus_daemon

GROUP = GroupSettings("db", ("lon1", "lon2"), (), standby=Standby.COLD)


def prove(prover: Prover) -> dict[str, Proof]:
    return {proof.name: proof for proof in asyncio.run(prover.prove())}


def with_services(*services: ServiceSettings, **changes: Any) -> GroupSettings:
    return replace(GROUP, services=services, **changes)


# ---------------------------------------------------------------- what they have in common


class Sick(Prover):
    name = "room"

    def __init__(self, error: Exception, serving: Callable[[], bool] = lambda: False) -> None:
        super().__init__(GROUP, serving)
        self._error = error

    async def _proofs(self) -> list[Proof]:
        raise self._error


@pytest.mark.parametrize("error", [Unreachable("it hangs"), OSError("it hangs"), ValueError("x")])
def test_a_look_that_came_to_nothing_is_no_verdict(error: Exception) -> None:
    assert prove(Sick(error))["room"] == Proof("room", None, str(error))


def test_nothing_is_said_of_a_standby_where_it_serves() -> None:
    assert prove(Sick(OSError("x"), lambda: True)) == {}


def test_rounds_come_four_times_within_the_age_that_a_proof_may_reach() -> None:
    assert Sick(OSError()).every_ms == GROUP.proof_max_age_ms // 4


# ---------------------------------------------------------------- unit, hooks


UNIT = {"LoadState": "loaded", "UnitFileState": "disabled", "ActiveState": "inactive"}


def prove_units(folder: Path, group: GroupSettings, units: dict[str, Any]) -> dict[str, Proof]:
    systemd = Systemd()
    systemd.units |= units
    with message_bus_daemon(folder) as address:

        async def scene() -> list[Proof]:
            async with systemd.serving(address):
                return await UnitProof(group, address).prove()

        return {proof.name: proof for proof in asyncio.run(scene())}


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, ""),
        ({"CanStart": True}, ""),
        ({"LoadState": "not-found"}, "db.service is not installed"),
        ({"LoadState": "masked"}, "db.service is masked: systemctl unmask db.service"),
        ({"UnitFileState": "masked-runtime"}, "db.service is masked: systemctl unmask db.service"),
        ({"LoadState": "bad-setting"}, "db.service cannot be loaded (bad-setting)"),
        ({"CanStart": False}, "db.service refuses to be started by hand (RefuseManualStart=)"),
    ],
)
def test_a_unit_must_be_installed_and_startable(
    tmp_path: Path, changes: dict[str, Any], why: str
) -> None:
    group = with_services(ServiceSettings("db", unit="db"))
    assert prove_units(tmp_path, group, {"db.service": UNIT | changes})["unit"] == Proof(
        "unit", not why, why
    )


def test_a_bus_that_is_not_there_is_no_verdict_on_units_and_none_on_hooks(tmp_path: Path) -> None:
    group = with_services(ServiceSettings("db", unit="db"), promote="true")
    found = prove(UnitProof(group, f"unix:path={tmp_path}/none"))
    assert (found["unit"].ok, found["hooks"].ok) == (None, True)


def test_commands_must_be_there_to_be_run() -> None:
    service = ServiceSettings("db", start="/no/such/file go", stop="true", status="true")
    assert prove(UnitProof(with_services(service)))["unit"] == Proof(
        "unit", False, "service db: start: /no/such/file does not exist"
    )


def test_every_hook_must_be_there_to_be_run() -> None:
    group = replace(
        GROUP,
        promote="true",
        rehearse="no-such-rehearsal",
        realtime=RealtimeSettings(drain="no-such-drain"),
        carried=CarriedSettings(load_test="no-such-load"),
    )
    assert prove(UnitProof(group))["hooks"] == Proof(
        "hooks",
        False,
        "rehearse: no-such-rehearsal is nowhere in PATH; drain: no-such-drain is nowhere in PATH; "
        "load_test: no-such-load is nowhere in PATH",
    )


# ---------------------------------------------------------------- ports


TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:13C4 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1
   1: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 2 1
   2: 0100007F:0017 0100007F:9C40 01 00000000:00000000 00:00000000 00000000     0        0 3 1
"""
UDP6 = """\
  sl  local_address                         remote_address                        st
   0: B80D0120000000000000000001000000:13C4 00000000000000000000000000000000:0000 07
   1: 00000000000000000000000000000000:0035 00000000000000000000000000000000:0000 07
"""


def test_the_kernels_tables_are_read() -> None:
    assert parse_seats("tcp", TCP) == [Seat("tcp", "127.0.0.1", 5060), Seat("tcp", "", 22)]
    assert parse_seats("udp", UDP6) == [Seat("udp", "2001:db8::1", 5060), Seat("udp", "", 53)]


@pytest.mark.parametrize(
    ("kind", "target", "seat"),
    [
        ("tcp", "127.0.0.1:5432", Seat("tcp", "127.0.0.1", 5432)),
        ("tcp", "[::1]:5432", Seat("tcp", "::1", 5432)),
        ("http", "http://10.1.0.100/health", Seat("tcp", "10.1.0.100", 80)),
        ("http", "https://10.1.0.100:8443/", Seat("tcp", "10.1.0.100", 8443)),
        ("sip", "udp://10.1.0.100:5060", Seat("udp", "10.1.0.100", 5060)),
        ("sip", "udp://10.1.0.100", Seat("udp", "10.1.0.100", 5060)),
        ("sip", "tcp://10.1.0.100:5070", Seat("tcp", "10.1.0.100", 5070)),
        ("tcp", "db.example:5432", None),
        ("process", "postgres", None),
        ("command", "test 1:2", None),
    ],
)
def test_where_a_service_will_be_asked_is_where_it_will_sit(
    kind: str, target: str, seat: Seat | None
) -> None:
    assert seat_of(CheckSettings("c", kind, target)) == seat


@pytest.mark.parametrize(
    ("one", "other", "clash"),
    [
        (Seat("tcp", "10.0.0.1", 80), Seat("tcp", "", 80), True),
        (Seat("tcp", "10.0.0.1", 80), Seat("tcp", "10.0.0.1", 80), True),
        (Seat("tcp", "10.0.0.1", 80), Seat("tcp", "10.0.0.2", 80), False),
        (Seat("tcp", "10.0.0.1", 80), Seat("udp", "", 80), False),
        (Seat("tcp", "10.0.0.1", 80), Seat("tcp", "", 81), False),
    ],
)
def test_who_sits_on_every_address_sits_on_this_one(one: Seat, other: Seat, clash: bool) -> None:
    assert one.clashes(other) is clash


def test_a_port_that_another_program_took_is_seen_and_that_it_is_free_again() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        check = CheckSettings("c", "tcp", f"127.0.0.1:{port}")
        prover = PortsProof(with_services(ServiceSettings("db", checks=(check,))))
        bad = prove(prover)["ports"]
    assert bad == Proof(
        "ports",
        False,
        f"tcp 127.0.0.1:{port} of db is taken by another program (ss -lpn shows which)",
    )
    assert prove(prover)["ports"].ok


# ---------------------------------------------------------------- room


def vfs(free_mib: int = 1_000, total_mib: int = 10_000, inodes: int = 10**6, flag: int = 0) -> Any:
    blocks = (4096, 4096, total_mib * 256, free_mib * 256, free_mib * 256)
    return os.statvfs_result((*blocks, 10**7, inodes, inodes, flag, 255))


def room(seen: Any, available_bytes: int = 1 << 30, **changes: Any) -> Proof:
    carried = CarriedSettings(files=("/etc/",), status="/var/lib/no/such/folder/status")
    group = replace(GROUP, carried=carried, **changes)
    prover = RoomProof(
        group, Path("/"), statvfs=lambda place: seen, available=lambda: available_bytes
    )
    return prove(prover)["room"]


@pytest.mark.parametrize(
    ("seen", "why"),
    [
        (vfs(), ""),
        (vfs(free_mib=63), "/ has 63 MiB left, 64 MiB are wanted"),
        (vfs(free_mib=10, total_mib=100), ""),
        (vfs(free_mib=4, total_mib=100), "/ has 4 MiB left, 5 MiB are wanted"),
        (vfs(inodes=999), "/ has 999 inodes left"),
        (vfs(flag=os.ST_RDONLY), "/ is mounted read-only"),
    ],
)
def test_there_must_be_room_where_it_will_be_written(seen: Any, why: str) -> None:
    proof = room(seen)
    assert proof.ok is not bool(why)
    assert why in proof.detail


def test_memory_must_be_available_for_what_will_be_started() -> None:
    told = "512 MiB of memory are available, it needs 1024 MiB"
    assert room(vfs(), 512 << 20, needs_bytes=1 << 30) == Proof("room", False, told)
    assert room(vfs(), 512 << 20, needs_bytes=1 << 30, standby=Standby.HOT).ok, "it runs already"
    assert room(vfs(), 2 << 30, needs_bytes=1 << 30).ok


def test_room_is_looked_for_in_the_nearest_folder_that_is_there(tmp_path: Path) -> None:
    carried = CarriedSettings(status=str(tmp_path / "not" / "yet" / "status"))
    asked = []

    def seen(place: Path) -> Any:
        asked.append(place)
        return vfs()

    prove(RoomProof(replace(GROUP, carried=carried), tmp_path / "state", statvfs=seen))
    assert asked == [tmp_path / "state", tmp_path]


# ---------------------------------------------------------------- rehearsal


def test_a_rehearsal_is_what_its_command_ends_with() -> None:
    good = RehearsalProof(replace(GROUP, rehearse="echo 12 tables"))
    assert prove(good)["rehearsal"] == Proof("rehearsal", True, "exit 0: 12 tables")
    bad = RehearsalProof(replace(GROUP, rehearse="echo no quorum; exit 3"))
    assert prove(bad)["rehearsal"] == Proof("rehearsal", False, "exit 3: no quorum")
    none = RehearsalProof(replace(GROUP, rehearse="no-such-command-here"))
    assert prove(none)["rehearsal"].ok is False


def test_a_rehearsal_that_hangs_is_killed_and_failed() -> None:
    hung = RehearsalProof(replace(GROUP, rehearse="sleep 300", rehearse_every_ms=300))
    assert prove(hung)["rehearsal"] == Proof("rehearsal", False, "killed at its limit")


# ---------------------------------------------------------------- status-load


@pytest.fixture
def status(tmp_path: Path) -> tuple[Path, StatusProof]:
    """A copy, and a prover that counts its loads in the file "loads"."""
    copy = tmp_path / "status of now.json"
    copy.write_text("{}")
    test = f"sh -c 'echo x >>{tmp_path}/loads; grep -q {{ \"$0\"'"
    group = replace(GROUP, carried=CarriedSettings(status="/x", load_test=test))

    async def freshest() -> Path | None:
        return copy if copy.exists() else None

    return copy, StatusProof(group, freshest)


def loads(copy: Path) -> int:
    file = copy.parent / "loads"
    return len(file.read_text().splitlines()) if file.exists() else 0


def test_a_status_that_loads_is_shown_and_loaded_once_while_it_is_the_same(
    status: tuple[Path, StatusProof],
) -> None:
    copy, prover = status
    for _ in range(3):
        assert prove(prover)["status-load"] == Proof("status-load", True)
    assert loads(copy) == 1
    copy.write_text('{"calls": 1}')
    assert prove(prover)["status-load"].ok
    assert loads(copy) == 2


def test_a_status_that_does_not_load_is_said(status: tuple[Path, StatusProof]) -> None:
    copy, prover = status
    copy.write_text("half of i")
    assert prove(prover)["status-load"] == Proof("status-load", False, "exit 1")


def test_without_a_status_there_is_no_verdict(status: tuple[Path, StatusProof]) -> None:
    copy, prover = status
    copy.unlink()
    assert prove(prover)["status-load"] == Proof("status-load", None, "no status was received yet")


# ---------------------------------------------------------------- clock


def clock(offset_ms: int | None = None, wall: float = BUILT_S + 1, free: bool = False) -> Proof:
    prover = ClockProof(GROUP, lambda: offset_ms, wall=lambda: wall, free=lambda: free)
    return prove(prover)["clock"]


def test_a_sane_clock_is_good_and_one_that_runs_free_is_said() -> None:
    assert clock() == Proof("clock", True)
    assert clock(free=True) == Proof("clock", True, "not synchronised: see timedatectl")
    assert clock(offset_ms=-5_000).ok


def test_a_clock_far_from_the_active_nodes_or_years_behind_is_bad() -> None:
    assert "6.0 s behind the active node's" in clock(offset_ms=6_000).detail
    assert "6.0 s ahead of the active node's" in clock(offset_ms=-6_000).detail
    assert clock(wall=BUILT_S - 1).ok is False


def test_the_kernel_is_asked_and_nothing_is_set() -> None:
    assert unsynchronised() in (True, False)


# ---------------------------------------------------------------- versions, drift


OURS = {
    "kernel": "6.1.0-18",
    "interfaces": ["eth0", "eth1"],
    "packages": {"db": "postgresql-15 15.6-0", "web": "nginx 1:1.22.1-9"},
}


@pytest.mark.parametrize(
    ("changes", "versions", "drift"),
    [
        ({}, "", ""),
        ({"packages": {"web": "nginx 1:1.24.0-1"}}, "", "web is nginx 1:1.22.1-9 here and"),
        ({"packages": {"web": "nginx 2:2.0.0-1"}}, "web is nginx", ""),
        ({"packages": {"db": "postgresql-16 16.1-1"}}, "db is postgresql-15 15.6-0 here", ""),
        ({"packages": {"db": "/opt/db sha256:12"}}, "", "db is postgresql-15"),
        ({"kernel": "6.12.1"}, "", "the kernel is 6.1.0-18 here and 6.12.1 on lon1"),
        ({"interfaces": ["ens3"]}, "", "interfaces are eth0 eth1 here and ens3 on lon1"),
        ({"packages": {}}, "", ""),
        ({"packages": 7, "kernel": [], "interfaces": "x"}, "", ""),
    ],
)
def test_what_is_different_is_told_and_what_does_not_fit_is_bad(
    changes: dict[str, Any], versions: str, drift: str
) -> None:
    fit, told = compare(OURS, "lon1", OURS | changes)
    assert (fit.ok, told.ok) == (not versions, not drift)
    assert versions in fit.detail
    assert drift in told.detail


def test_without_an_active_node_nothing_is_compared() -> None:
    assert prove(VersionsProof(GROUP, lambda: None))["versions"].ok is None


def test_a_programs_package_and_version_are_found(tmp_path: Path) -> None:
    own = tmp_path / "server"
    own.write_text("#!/bin/sh\n")
    own.chmod(0o755)
    group = with_services(
        ServiceSettings("shell", start="/bin/bash -c x"),
        ServiceSettings("own", start=f"{own} start"),
        ServiceSettings("none", start="no-such-command-here"),
    )
    facts = asyncio.run(VersionsProof(group, lambda: None).facts())
    assert facts["packages"]["shell"].startswith("bash ")
    assert facts["packages"]["own"].startswith(f"{own} sha256:")
    assert facts["packages"]["none"] == ""
    assert facts["kernel"] == os.uname().release


def test_a_units_program_is_what_systemd_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(bus_lab.SIGNATURES, list, "a(sasbttttuii)")
    monkeypatch.setattr(bus_lab, "SERVICE_ONLY", ("ExecStart",))
    systemd = Systemd()
    start = [("/usr/bin/sleep", ["sleep", "1"], False, 0, 0, 0, 0, 0, 0, 0)]
    systemd.units["db.service"] = UNIT | {"ExecStart": start}
    group = with_services(ServiceSettings("db", unit="db"))
    with message_bus_daemon(tmp_path) as address:

        async def scene() -> dict[str, Any]:
            async with systemd.serving(address):
                return await VersionsProof(group, lambda: None, address).facts()

        facts = asyncio.run(scene())
    assert facts["packages"]["db"].startswith("coreutils ")


def test_facts_are_read_once_an_hour(tmp_path: Path) -> None:
    net = tmp_path / "net"
    (net / "eth0" / "device").mkdir(parents=True)
    (net / "lo").mkdir()
    prover = VersionsProof(GROUP, lambda: ("lon1", OURS), net=net)

    async def story() -> None:
        assert (await prover.facts())["interfaces"] == ["eth0"]
        (net / "eth1" / "device").mkdir(parents=True)
        assert (await prover.facts())["interfaces"] == ["eth0"]

    asyncio.run(story())
    assert interfaces(net) == ["eth0", "eth1"]
