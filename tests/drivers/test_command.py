# SPDX-License-Identifier: GPL-2.0-or-later
"""The command check, and service control by commands, with real shells."""

import asyncio
import os
import shlex
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from agent.core.model import Answer
from agent.core.settings import CheckSettings, ServiceSettings
from agent.ports import Refused, Unreachable
from drivers.command import CommandCheck
from drivers.commands import CommandService
from drivers.shell import TRIM_BYTES, shown
from tests.drivers.patience import until

LONG_MS = 20_000

# A daemon as they are: it leaves its session, keeps its output, and writes to it for ever.
DAEMON = """
import os, sys, time
if os.fork():
    os._exit(0)
os.setsid()
with open(sys.argv[1], "w") as file:
    file.write(str(os.getpid()))
while True:
    print("x" * 4000, flush=True)
    time.sleep(0.01)
"""


def ask(command: str, timeout_ms: int = LONG_MS) -> Answer:
    return asyncio.run(
        CommandCheck(CheckSettings("c", "command", command, timeout_ms=timeout_ms)).ask()
    )


def service(
    folder: Path, start: str = "true", stop: str = "true", status: str = "true"
) -> CommandService:
    settings = ServiceSettings("sip/1", start=start, stop=stop, status=status)
    return CommandService(settings, folder)


def children() -> list[psutil.Process]:
    """Shells and sleepers; the servers of other tests are none of ours."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if process.name() in ("sh", "sleep", "yes"):
                found.append(process)
    return found


def lives(pid_file: Path) -> bool:
    pid = int(pid_file.read_text())
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def written(pid_file: Path) -> Callable[[], bool]:
    return lambda: pid_file.exists() and pid_file.read_text().strip() != ""


# ---------------------------------------------------------------- the check


def test_a_command_that_ends_with_0_says_alive_and_any_other_end_does_not() -> None:
    assert ask("echo all is well | grep well").ok is True
    answer = ask("echo one; echo no such licence >&2; exit 3")
    assert (answer.ok, answer.detail) == (False, "exit 3: one no such licence")
    answer = ask("kill -KILL $$")
    assert (answer.ok, answer.detail) == (False, "killed by signal 9")


def test_a_command_that_is_not_there_says_nothing_of_the_service() -> None:
    assert ask("/no/such/check").ok is None


def test_a_command_that_hangs_is_killed_with_all_its_children(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    answer = ask(f"sleep 61 & echo $! > {pids}; echo waiting; sleep 62", timeout_ms=300)
    assert (answer.ok, answer.detail) == (False, "killed at its limit: waiting")
    assert answer.took_ms < 10_000
    asyncio.run(until(lambda: not lives(pids) and not children()))


def test_a_command_that_ends_leaves_no_child_behind(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    assert ask(f"sleep 63 & echo $! > {pids}").ok is True
    asyncio.run(until(lambda: not lives(pids)))
    assert children() == []


def test_a_check_that_is_cancelled_takes_its_command_with_it() -> None:
    async def scene() -> None:
        check = CommandCheck(CheckSettings("c", "command", "sleep 64", timeout_ms=LONG_MS))
        async with asyncio.TaskGroup() as group:
            task = group.create_task(check.ask())
            await until(children)
            task.cancel()
        await until(lambda: not children())

    asyncio.run(scene())


def test_a_command_that_prints_without_end_costs_neither_memory_nor_the_limit() -> None:
    answer = ask("yes 0123456789", timeout_ms=300)
    assert answer.ok is False
    assert len(answer.detail) < 400
    assert "0123456789" in answer.detail


def test_a_command_without_input_does_not_wait_for_it_and_speaks_not_for_the_agent() -> None:
    os.environ["NOTIFY_SOCKET"] = "/run/none"
    try:
        assert ask('test -z "$(cat)$NOTIFY_SOCKET" -a "$(pwd)" = /').ok is True
    finally:
        del os.environ["NOTIFY_SOCKET"]


def test_what_a_command_prints_cannot_play_tricks_on_a_terminal() -> None:
    assert shown(b"\x1b[2Jred\x00\r\nline\xff two\n") == "[2Jred line\ufffd two"


# ---------------------------------------------------------------- service control


def test_a_service_starts_stops_and_says_whether_it_runs(tmp_path: Path) -> None:
    flag = tmp_path / "runs"
    it = service(tmp_path, f"touch {flag}", f"rm {flag}", f"test -e {flag}")

    async def scene() -> None:
        assert await it.running() is False
        assert "start done in" in await it.start(LONG_MS)
        assert await it.running() is True
        await it.stop(LONG_MS)
        assert await it.running() is False
        await it.restart(LONG_MS)  # its stop is refused, and nothing runs: that is no matter
        assert await it.running() is True

    asyncio.run(scene())


def test_a_start_that_fails_is_refused_with_what_it_printed(tmp_path: Path) -> None:
    it = service(tmp_path, start="echo old licence; echo expired >&2; exit 5")
    with pytest.raises(Refused, match=r"service sip/1: start command: exit 5: old licence expired"):
        asyncio.run(it.start(LONG_MS))
    with pytest.raises(Refused, match=r": exit 5: old licence expired; run by hand"):
        asyncio.run(it.start(LONG_MS))


def test_a_start_that_hangs_is_killed_and_its_outcome_unknown(tmp_path: Path) -> None:
    it = service(tmp_path, start="echo almost; sleep 65 & sleep 66")
    with pytest.raises(Unreachable, match=r"did not end within 300 ms and was killed: almost"):
        asyncio.run(it.start(300))
    asyncio.run(until(lambda: not children()))


def test_a_stop_that_is_refused_while_it_runs_stops_the_restart(tmp_path: Path) -> None:
    it = service(tmp_path, start=f"touch {tmp_path}/started", stop="exit 1", status="true")
    with pytest.raises(Refused, match="stop command: exit 1"):
        asyncio.run(it.restart(LONG_MS))
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize("status", ["/no/such/command", "kill -KILL $$", "sleep 67"])
def test_a_status_that_cannot_tell_is_neither_yes_nor_no(tmp_path: Path, status: str) -> None:
    settings = ServiceSettings("x", start="true", stop="true", status=status)
    it = CommandService(settings, tmp_path, status_within_ms=300)
    assert asyncio.run(it.running()) is None
    asyncio.run(until(lambda: not children()))


def test_a_daemon_that_keeps_its_output_open_holds_nobody_up_and_lives_on(tmp_path: Path) -> None:
    pid_file, output = tmp_path / "pid", tmp_path / "sip%2F1.out"
    command = f"{sys.executable} -c {shlex.quote(DAEMON)} {pid_file}"
    it = service(tmp_path, start=command)

    async def scene() -> None:
        assert "start done" in await it.start(LONG_MS)
        await until(written(pid_file))
        size = output.stat().st_size
        await until(lambda: output.stat().st_size > size)
        await until(lambda: output.stat().st_size > TRIM_BYTES)
        await it.running()
        assert output.stat().st_size < TRIM_BYTES, "what it prints is kept short"
        assert lives(pid_file)

    try:
        asyncio.run(scene())
        assert lives(pid_file), "it outlives the loop that started it"
    finally:
        os.kill(int(pid_file.read_text()), signal.SIGKILL)


def test_a_daemon_that_stays_in_the_group_of_its_start_command_lives_on(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    asyncio.run(service(tmp_path, start=f"sleep 68 & echo $! > {pid_file}").start(LONG_MS))
    try:
        assert lives(pid_file)
    finally:
        os.kill(int(pid_file.read_text()), signal.SIGKILL)
    asyncio.run(until(lambda: not lives(pid_file)))


def test_a_start_whose_asker_goes_away_is_left_to_finish(tmp_path: Path) -> None:
    go, done = tmp_path / "go", tmp_path / "done"
    it = service(tmp_path, start=f"until test -e {go}; do sleep 0.02; done; touch {done}")

    async def scene() -> None:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(it.start(LONG_MS))
            await until(children)
            task.cancel()
        go.touch()
        await until(lambda: done.exists() and not children())

    asyncio.run(scene())


def test_a_service_starts_even_where_its_output_cannot_be_kept(tmp_path: Path) -> None:
    it = service(tmp_path / "gone", start=f"touch {tmp_path}/started")
    asyncio.run(it.start(LONG_MS))
    assert (tmp_path / "started").exists()


def test_a_link_in_place_of_the_output_is_not_followed(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("kept")
    (tmp_path / "sip%2F1.out").symlink_to(precious)
    asyncio.run(service(tmp_path, start="echo overwritten").start(LONG_MS))
    assert precious.read_text() == "kept"
    precious.write_text("kept" * TRIM_BYTES)
    asyncio.run(service(tmp_path).running())
    assert precious.stat().st_size == 4 * TRIM_BYTES
