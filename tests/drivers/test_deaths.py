# SPDX-License-Identifier: GPL-2.0-or-later
"""Deaths by pidfd, and killing for good: real processes, stopped ones too."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from agent.core.settings import ServiceSettings
from agent.ports import Refused, Unreachable
from drivers.commands import CommandService, read_pid_file
from drivers.deaths import Deaths
from drivers.slaying import Held, family, slay
from tests.drivers.patience import until

# A server with two workers, one of them in a session of its own; it writes its pid last.
SERVER = """
import os, sys, time
os.setsid()
workers = []
for own in (False, True):
    ready, told = os.pipe()
    pid = os.fork()
    if pid == 0:
        if own:
            os.setsid()
        os.write(told, b"x")
        time.sleep(600)
    os.read(ready, 1)
    workers.append(pid)
with open(sys.argv[1] + "+", "w") as file:
    file.write("\\n".join(map(str, [os.getpid(), *workers])))
os.rename(sys.argv[1] + "+", sys.argv[1])
time.sleep(600)
"""


@contextmanager
def server(folder: Path) -> Iterator[list[int]]:
    """Main and workers. What is left of them at the end is killed."""
    pid_file = folder / "pid"
    process = subprocess.Popen([sys.executable, "-c", SERVER, str(pid_file)])
    try:
        asyncio.run(until(pid_file.exists))
        yield [int(line) for line in pid_file.read_text().split()]
    finally:
        for line in pid_file.read_text().split():
            with suppress(ProcessLookupError):
                os.kill(int(line), signal.SIGKILL)
        process.wait()


@contextmanager
def sleeper() -> Iterator["subprocess.Popen[bytes]"]:
    process = subprocess.Popen(["sleep", "600"], start_new_session=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def seen(process: "subprocess.Popen[bytes]", state: int) -> None:
    """Waits until it is in that state, and does not reap it."""
    os.waitid(os.P_PID, process.pid, state | os.WNOWAIT)


def dead(pids: list[int]) -> bool:
    with Held(pids) as held:
        return not held.left()


def commands(folder: Path, pid_file: str) -> CommandService:
    settings = ServiceSettings("sip", start="true", stop="true", status="true", pid_file=pid_file)
    return CommandService(settings, folder)


# ---------------------------------------------------------------- deaths


def test_a_death_is_told_once_and_nobody_has_asked() -> None:
    async def scene(process: "subprocess.Popen[bytes]") -> list[str]:
        told: list[str] = []
        deaths = Deaths()
        assert deaths.follow("sbc", "sip", process.pid, lambda: told.append("dead"))
        assert told == []
        process.kill()
        await until(lambda: told)
        await asyncio.sleep(0)
        return told

    with sleeper() as process:
        assert asyncio.run(scene(process)) == ["dead"]


def test_a_process_that_is_dead_already_is_not_followed() -> None:
    async def scene(pid: int) -> bool:
        return Deaths().follow("sbc", "sip", pid, lambda: None)

    with sleeper() as process:
        process.kill()
        seen(process, os.WEXITED)
        assert asyncio.run(scene(process.pid)) is False, "a zombie"
    assert asyncio.run(scene(process.pid)) is False, "nobody"


def test_the_death_of_one_that_is_followed_no_more_is_not_told() -> None:
    async def scene(first: "subprocess.Popen[bytes]", second: "subprocess.Popen[bytes]") -> None:
        told: list[str] = []
        deaths = Deaths()
        deaths.follow("sbc", "sip", first.pid, lambda: told.append("first"))
        deaths.follow("sbc", "sip", second.pid, lambda: told.append("second"))
        first.kill()
        seen(first, os.WEXITED)
        second.kill()
        await until(lambda: told)
        assert told == ["second"]
        deaths.forget("sbc", "sip")

    with sleeper() as first, sleeper() as second:
        asyncio.run(scene(first, second))


def test_a_stopped_process_is_not_dead() -> None:
    async def scene(process: "subprocess.Popen[bytes]") -> None:
        told: list[str] = []
        deaths = Deaths()
        deaths.follow("sbc", "sip", process.pid, lambda: told.append("dead"))
        os.kill(process.pid, signal.SIGSTOP)
        seen(process, os.WSTOPPED)
        await asyncio.sleep(0)
        assert told == []
        deaths.forget("sbc", "sip")

    with sleeper() as process:
        asyncio.run(scene(process))


def test_without_descriptors_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(_: int) -> int:
        raise OSError(24, "Too many open files")

    async def scene() -> None:
        monkeypatch.setattr(os, "pidfd_open", none_left)
        with pytest.raises(Unreachable, match="see ulimit -n"):
            Deaths().follow("sbc", "sip", 1, lambda: None)

    asyncio.run(scene())


# ---------------------------------------------------------------- killing


@pytest.mark.parametrize("stopped", [False, True])
def test_a_killed_service_is_gone_with_its_workers(tmp_path: Path, stopped: bool) -> None:
    with server(tmp_path) as pids:
        it = commands(tmp_path, str(tmp_path / "pid"))
        assert asyncio.run(it.main_pid()) == pids[0]
        if stopped:
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
        said = asyncio.run(it.kill(5000))
        assert said == "service sip: kill: 3 processes, gone"
        assert dead(pids)
        assert asyncio.run(it.main_pid()) == 0


def test_what_a_dead_main_process_left_behind_is_killed_as_well(tmp_path: Path) -> None:
    with server(tmp_path) as pids:
        it = commands(tmp_path, str(tmp_path / "pid"))
        assert asyncio.run(it.main_pid()) == pids[0]
        os.kill(pids[0], signal.SIGKILL)
        asyncio.run(until(lambda: dead(pids[:1])))
        assert asyncio.run(it.main_pid()) == 0
        asyncio.run(it.kill(5000))
        assert dead(pids[:2])


def test_only_the_family_is_killed(tmp_path: Path) -> None:
    with server(tmp_path) as pids, sleeper() as bystander:
        assert family(pids[0]) == set(pids)
        slay(pids[0], 5000)
        assert bystander.poll() is None


def test_without_a_pid_file_nothing_is_killed_and_it_says_what_is_wanted(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="give it a pid_file"):
        asyncio.run(commands(tmp_path, "").kill(1000))
    with pytest.raises(Refused, match="its main process is not known"):
        asyncio.run(commands(tmp_path, str(tmp_path / "none")).kill(1000))


@pytest.mark.parametrize("text", ["", "x", "-4", "0", "1", "999999999", "\x00\xff", "2 3" * 99])
def test_a_pid_file_that_makes_no_sense_names_nobody(tmp_path: Path, text: str) -> None:
    (tmp_path / "pid").write_text(text)
    assert read_pid_file(str(tmp_path / "pid")) == 0


def test_a_process_that_is_younger_than_the_file_is_another_one(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    with sleeper() as process:
        pid_file.write_text(f"{process.pid}\n")
        assert read_pid_file(str(pid_file)) == process.pid
        long_ago_s = pid_file.stat().st_mtime - 60
        os.utime(pid_file, (long_ago_s, long_ago_s))
        assert read_pid_file(str(pid_file)) == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a file away")
def test_a_pid_file_names_no_process_of_somebody_else(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    with sleeper() as process:
        pid_file.write_text(f"{process.pid}\n")
        os.chown(pid_file, 65534, 65534)
        assert read_pid_file(str(pid_file)) == 0


def test_the_last_lines_are_those_that_it_printed_last(tmp_path: Path) -> None:
    it = commands(tmp_path, "")
    assert asyncio.run(it.last_lines(3)) == []
    (tmp_path / "sip.out").write_bytes(b"x" * 200_000 + b"\none\n\x1b[2Jtwo\nthree")
    assert asyncio.run(it.last_lines(3)) == ["one", "[2Jtwo", "three"]
