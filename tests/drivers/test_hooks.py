# SPDX-License-Identifier: GPL-2.0-or-later
"""Commands of a group: what they are told, and what becomes of those that misbehave."""

import asyncio
from pathlib import Path

import pytest

from agent.core.settings import GroupSettings, RealtimeSettings
from agent.ports import Refused, Unreachable
from drivers.hooks import GroupHooks
from tests.drivers.patience import until


def gone(pid: Path) -> None:
    path = Path(f"/proc/{pid.read_text().strip()}")
    asyncio.run(until(lambda: not path.exists()))


def run(hook: str, word: str = "", within_ms: int = 5000, **keys: str) -> str:
    realtime = RealtimeSettings(**{k: v for k, v in keys.items() if k in ("drain", "ramp")})
    ours = {k: v for k, v in keys.items() if k in ("promote", "demote")}
    group = GroupSettings("it's", ("a",), (), realtime=realtime, **ours)
    return asyncio.run(GroupHooks(group, "lon1").run(hook, word, within_ms))


def test_a_hook_is_told_of_what_and_with_what(tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    script = tmp_path / "ramp"
    script.write_text(
        f'#!/bin/sh\necho "$STANDPIPE_GROUP $STANDPIPE_NODE $STANDPIPE_JITTER_MS $1" >{seen}\n'
    )
    script.chmod(0o755)
    run("ramp", "25", ramp=str(script))
    assert seen.read_text() == "it's lon1 5000 25\n"


def test_one_that_fails_says_so_and_what_to_run() -> None:
    with pytest.raises(Refused, match=r"promote: .*3.*no licence.*run by hand"):
        run("promote", promote="echo no licence; exit 3")


def test_one_that_hangs_is_killed_with_its_children_and_nobody_knows(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    with pytest.raises(Unreachable, match="did not end within 300 ms"):
        run("drain", within_ms=300, drain=f"sleep 600 & echo $! >{pid}; echo rubbish; wait")
    gone(pid)


def test_one_that_leaves_children_behind_does_not_keep_them(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    run("demote", demote=f"sleep 600 >/dev/null 2>&1 & echo $! >{pid}")
    gone(pid)


def test_one_that_prints_without_end_is_let_run_out() -> None:
    assert "done" in run("promote", promote="head -c 3000000 /dev/urandom")


def test_one_that_is_not_configured_is_refused() -> None:
    with pytest.raises(Refused, match="no such command"):
        run("promote")
