# SPDX-License-Identifier: GPL-2.0-or-later
"""What is sent for each order, and how its end is told."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.playing import agent, line, standpipe
from tests.cli.terminal import Terminal


@pytest.mark.parametrize(
    ("args", "verb", "sent"),
    [
        (["switchover", "sbc"], "switchover", {"group": "sbc", "force": False}),
        (
            ["switchover", "sbc", "--to", "lon2", "--force"],
            "switchover",
            {"group": "sbc", "to": "lon2", "force": True},
        ),
        (["failover", "sbc", "--force"], "failover", {"group": "sbc", "force": True}),
        (["maintenance", "on"], "maintenance", {"on": True}),
        (["maintenance", "on", "--for", "2h"], "maintenance", {"on": True, "for_s": 7200}),
        (["maintenance", "off"], "maintenance", {"on": False}),
        (
            ["switchover", "sbc", "--drain", "10m"],
            "switchover",
            {"group": "sbc", "force": False, "drain_s": 600},
        ),
        (["clear", "sbc"], "clear", {"group": "sbc"}),
        (["clear"], "clear", {}),
        (["reload"], "reload", {}),
    ],
)
def test_an_order_is_sent_and_done(
    tmp_path: Path, args: list[str], verb: str, sent: dict[str, Any]
) -> None:
    with agent(tmp_path, lambda request: [line(True, "done")]) as heard:
        ended = standpipe(*args, run_dir=tmp_path)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "done\n", "")
    assert heard == [{"v": 1, "verb": verb, "args": sent}]


def test_progress_comes_line_by_line(tmp_path: Path) -> None:
    lines = [line(None, "lon2 is ready"), line(None, "handing over"), line(True, "lon2 has sbc")]
    with agent(tmp_path, lambda request: lines):
        ended = standpipe("switchover", "sbc", run_dir=tmp_path)
    assert ended.stdout == "lon2 has sbc\n"
    told = [text.split(" s  ")[1] for text in ended.stderr.splitlines()]
    assert told == ["lon2 is ready", "handing over"]


def draining(sessions: int | None, left_s: int) -> bytes:
    text = f"sbc: draining, {sessions} sessions are up, {left_s} s at the most"
    return line(None, text, {"step": "draining", "sessions": sessions})


DRAINED = [
    line(None, "sbc: asked for, waiting to see it done"),
    *(draining(sessions, 60 - n) for n, sessions in enumerate([2, 2, 2, 1, 0])),
    line(None, "sbc: stopping", {"step": "stopping", "sessions": 0}),
    line(True, "sbc: now on lon2"),
]


def test_a_drain_is_told_at_each_new_number_of_sessions(tmp_path: Path) -> None:
    with agent(tmp_path, lambda request: DRAINED):
        ended = standpipe("switchover", "sbc", run_dir=tmp_path)
    told = [text.split(" s  ", 1)[1] for text in ended.stderr.splitlines()]
    assert told == [
        "sbc: asked for, waiting to see it done",
        "sbc: draining, 2 sessions are up, 60 s at the most",
        "sbc: draining, 1 sessions are up, 57 s at the most",
        "sbc: draining, 0 sessions are up, 56 s at the most",
        "sbc: stopping",
    ]


def test_a_drain_is_one_line_that_is_drawn_again_on_a_terminal(tmp_path: Path) -> None:
    env = {"TERM": "xterm", "COLUMNS": "100"}
    with agent(tmp_path, lambda request: DRAINED):
        terminal = Terminal("switchover", "sbc", "--run-dir", str(tmp_path), env=env)
        assert terminal.end() == 0
    asked, drained, stopping, done, rest = terminal.text.split("\r\n")
    assert asked.endswith("s  sbc: asked for, waiting to see it done")
    assert drained.count("\r") == drained.count("\x1b[K") == 5
    assert drained.endswith("draining, 0 sessions are up, 56 s at the most\x1b[K")
    assert stopping.startswith("\r")
    assert stopping.endswith("s  sbc: stopping\x1b[K")
    assert (done, rest) == ("sbc: now on lon2", "")


def test_a_refusal_in_the_midst_of_a_drain_has_a_line_of_its_own(tmp_path: Path) -> None:
    refused = line(False, "sbc: not done: the status could not be sent; back in service here")
    with agent(tmp_path, lambda request: [*DRAINED[:3], refused]):
        terminal = Terminal("switchover", "sbc", "--run-dir", str(tmp_path), env={"TERM": "xterm"})
        assert terminal.end() == 1
    assert terminal.text.split("\r\n")[2:] == [
        "standpipe: sbc: not done: the status could not be sent; back in service here",
        "why it is so: standpipe explain sbc",
        "",
    ]


def test_no_group_is_explained_where_none_was_named(tmp_path: Path) -> None:
    with agent(tmp_path, lambda request: [line(False, "no group '' here; there are: none")]):
        ended = standpipe("clear", run_dir=tmp_path)
    assert (ended.returncode, ended.stderr) == (1, "standpipe: no group '' here; there are: none\n")


def test_a_drain_of_no_time_is_wrong_usage(tmp_path: Path) -> None:
    wrong = standpipe("switchover", "sbc", "--drain", "0s", run_dir=tmp_path)
    assert wrong.returncode == 64
    assert "must be 1s or more" in wrong.stderr
    assert standpipe("failover", "sbc", "--force", "--drain", "9s").returncode == 64


def test_a_refusal_says_what_to_do_next(tmp_path: Path) -> None:
    refusal = line(False, "lon2 is not ready: probation; wait 18 s, or --force")
    with agent(tmp_path, lambda request: [refusal]):
        ended = standpipe("switchover", "sbc", run_dir=tmp_path)
        as_json = standpipe("switchover", "sbc", "--json", run_dir=tmp_path)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.splitlines() == [
        "standpipe: lon2 is not ready: probation; wait 18 s, or --force",
        "why it is so: standpipe explain sbc",
    ]
    assert as_json.returncode == 1
    assert json.loads(as_json.stdout)["ok"] is False


def test_an_end_that_is_missing_is_not_known_rather_than_failed(tmp_path: Path) -> None:
    with agent(tmp_path, lambda request: [line(None, "handing over")]):
        ended = standpipe("switchover", "sbc", run_dir=tmp_path)
        as_json = standpipe("switchover", "sbc", "--json", run_dir=tmp_path)
    assert ended.returncode == 3
    assert "It may have happened all the same: standpipe status" in ended.stderr
    assert as_json.returncode == 3
    assert json.loads(as_json.stdout)["ok"] is None


def test_an_order_to_nobody_has_not_happened(tmp_path: Path) -> None:
    ended = standpipe("switchover", "sbc", run_dir=tmp_path)
    assert ended.returncode == 1
    assert "no agent is running there" in ended.stderr
    assert "may have happened" not in ended.stderr


def test_failover_wants_to_be_forced_before_anything_is_sent(tmp_path: Path) -> None:
    with agent(tmp_path, lambda request: [line(True, "done")]) as heard:
        ended = standpipe("failover", "sbc", run_dir=tmp_path)
    assert ended.returncode == 1
    assert "say --force" in ended.stderr
    assert "standpipe switchover sbc" in ended.stderr
    assert heard == []


def test_a_time_without_maintenance_is_refused(tmp_path: Path) -> None:
    with agent(tmp_path, lambda request: [line(True, "done")]) as heard:
        assert standpipe("maintenance", "off", "--for", "2h", run_dir=tmp_path).returncode == 1
        wrong = standpipe("maintenance", "on", "--for", "2 hours", run_dir=tmp_path)
    assert wrong.returncode == 64
    assert "not a time" in wrong.stderr
    assert heard == []
