# SPDX-License-Identifier: GPL-2.0-or-later
"""What is sent for each order, and how its end is told."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.playing import agent, line, standpipe


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
        (["clear", "sbc"], "clear", {"group": "sbc"}),
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
