# SPDX-License-Identifier: GPL-2.0-or-later
"""Whatever a run leaves behind, the guard removes, however the run ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.guard import alive
from tests.house.rules import TREE

# A daemon in its own session and namespace, a link outside, and then what the parameter says.
LEAVES_THINGS = """
import os, subprocess, sys
space = f"spl{{os.getpid()}}-left"
subprocess.run(["ip", "netns", "add", space], check=True)
subprocess.run(["ip", "link", "add", f"spl{{os.getpid()}}-l", "type", "bridge"], check=True)
daemon = "import os,sys,time;os.fork() and os._exit(0);os.setsid();" \
    "open(sys.argv[1],'w').write(str(os.getpid()));time.sleep(600)"
inside = ["ip", "netns", "exec", space, sys.executable, "-c", daemon, {pid_file!r}]
subprocess.run(inside, check=True)
{then}
"""


def wait_until(holds: Callable[[], object], what: str) -> None:
    deadline_s = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline_s, f"not within 30 s: {what}"
        time.sleep(0.01)


def start(tmp_path: Path, then: str, *options: str) -> tuple[subprocess.Popen[str], Path]:
    assert os.geteuid() == 0, "network namespaces need root; run: sudo make test"
    pid_file = tmp_path / "daemon.pid"
    (tmp_path / "leaver.py").write_text(LEAVES_THINGS.format(pid_file=str(pid_file), then=then))
    guard = subprocess.Popen(
        [sys.executable, "-m", "tests.guard", *options, "leaver"],
        cwd=TREE,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        stderr=subprocess.PIPE,
        text=True,
    )
    return guard, pid_file


def daemon_pid(pid_file: Path) -> int:
    wait_until(lambda: pid_file.exists() and pid_file.read_text(), "the daemon is there")
    return int(pid_file.read_text())


def ours(run_pid: int) -> list[str]:
    names = os.listdir("/run/netns") + os.listdir("/sys/class/net")
    return [n for n in names if n.startswith(f"spl{run_pid}-")]


def child_of(guard: subprocess.Popen[str]) -> int:
    return int(Path(f"/proc/{guard.pid}/task/{guard.pid}/children").read_text().split()[0])


def test_a_run_that_ends_by_itself_keeps_its_status_and_leaves_nothing(tmp_path: Path) -> None:
    guard, pid_file = start(tmp_path, "sys.exit(3)")
    _, said = guard.communicate(timeout=60)
    assert guard.returncode == 3
    assert not alive(daemon_pid(pid_file))
    assert "the run left these behind" in said
    assert "netns spl" in said
    assert "link spl" in said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_interrupted_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    guard, pid_file = start(tmp_path, "import time; time.sleep(600)")
    daemon, run = daemon_pid(pid_file), child_of(guard)
    assert ours(run)
    guard.send_signal(number)
    guard.communicate(timeout=60)
    assert guard.returncode == 128 + number
    assert not alive(daemon)
    assert not ours(run)


def test_a_run_that_takes_too_long_is_stopped(tmp_path: Path) -> None:
    guard, pid_file = start(tmp_path, "import time; time.sleep(600)", "--within", "2")
    daemon = daemon_pid(pid_file)
    _, said = guard.communicate(timeout=60)
    assert guard.returncode == 124
    assert "not done within 2 s" in said
    assert not alive(daemon)


def test_what_a_killed_guard_left_is_removed_by_the_next_run(tmp_path: Path) -> None:
    guard, pid_file = start(tmp_path, "import time; time.sleep(600)")
    daemon, run = daemon_pid(pid_file), child_of(guard)
    guard.kill()
    guard.wait(timeout=60)
    assert guard.stderr is not None
    guard.stderr.close()  # the daemon still has the other end
    wait_until(lambda: not alive(run), "the run dies with its guard")
    assert alive(daemon)
    subprocess.run([sys.executable, "-m", "tests.guard", "this"], cwd=TREE, capture_output=True)
    wait_until(lambda: not alive(daemon), "the daemon is gone")
    assert not ours(run)
