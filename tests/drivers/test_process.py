# SPDX-License-Identifier: GPL-2.0-or-later
"""The process check, against real processes."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from agent.core.model import Answer
from agent.core.settings import CheckSettings
from drivers.process import ProcessCheck
from tests.drivers.patience import until

NAME = f"spt{os.getpid()}"


@contextmanager
def sleeper(folder: Path, name: str) -> Iterator[subprocess.Popen[bytes]]:
    program = folder / name
    if not program.exists():
        shutil.copy("/bin/sleep", program)
    with subprocess.Popen([program, "60"]) as process:
        try:
            yield process
        finally:
            process.kill()


def check(name: str) -> ProcessCheck:
    return ProcessCheck(CheckSettings("p", "process", name, timeout_ms=10_000))


def ask(name: str) -> Answer:
    return asyncio.run(check(name).ask())


def test_a_process_of_that_name_is_alive_and_no_other(tmp_path: Path) -> None:
    with sleeper(tmp_path, NAME) as process:
        answer = ask(NAME)
        assert (answer.ok, answer.detail) == (True, f"pid {process.pid} runs")
        assert ask(NAME[:-1]).ok is False
    assert ask(NAME).detail == f"no process {NAME}"


def test_a_long_name_is_compared_whole(tmp_path: Path) -> None:
    with sleeper(tmp_path, f"{NAME}-with-a-long-name"):
        assert ask(f"{NAME}-with-a-long-name").ok is True
        assert ask(f"{NAME}-with-a-long-name-too").ok is False


def test_a_zombie_is_not_alive(tmp_path: Path) -> None:
    with sleeper(tmp_path, NAME) as process:
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        answer = ask(NAME)
        assert (answer.ok, answer.detail) == (False, f"pid {process.pid} is a zombie")


def test_a_stopped_process_is_not_alive_until_it_goes_on(tmp_path: Path) -> None:
    async def scene() -> None:
        same = check(NAME)
        with sleeper(tmp_path, NAME) as process:
            seen = psutil.Process(process.pid)
            assert (await same.ask()).ok is True
            process.send_signal(signal.SIGSTOP)
            await until(lambda: seen.status() == psutil.STATUS_STOPPED)
            assert "stopped" in (await same.ask()).detail
            process.send_signal(signal.SIGCONT)
            await until(lambda: seen.status() != psutil.STATUS_STOPPED)
            assert (await same.ask()).ok is True

    asyncio.run(scene())


def test_its_successor_is_found_when_it_is_gone(tmp_path: Path) -> None:
    async def scene() -> None:
        same = check(NAME)
        with sleeper(tmp_path, NAME):
            assert (await same.ask()).ok is True
        assert (await same.ask()).ok is False
        with sleeper(tmp_path, NAME) as process:
            assert (await same.ask()).detail == f"pid {process.pid} runs"

    asyncio.run(scene())


def test_processes_that_are_hidden_from_us_are_not_called_dead() -> None:
    program = (
        "mount -t proc -o hidepid=2,gid=65533 proc /proc && exec setpriv --inh-caps -sys_ptrace"
        f" --bounding-set -sys_ptrace {sys.executable} -c '"
        "import asyncio\n"
        "from agent.core.settings import CheckSettings\n"
        "from drivers.process import ProcessCheck\n"
        'print(asyncio.run(ProcessCheck(CheckSettings("p", "process", "spt-none")).ask()))\''
    )
    run = subprocess.run(
        ["unshare", "--mount", "sh", "-c", program],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "ok=None" in run.stdout, run.stdout + run.stderr
    assert "hidden" in run.stdout
