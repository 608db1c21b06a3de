# SPDX-License-Identifier: GPL-2.0-or-later
"""`standpipe fence`: what is sent, what wants a word more, and how its end is told."""

import argparse
import json
from pathlib import Path

import pytest

from agent.cli_fence import arguments, fence
from tests.cli.playing import agent, line


def call(run_dir: Path, *argv: str) -> int:
    parser = argparse.ArgumentParser()
    arguments(parser)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    options.run_dir = str(run_dir)
    return fence(options)


@pytest.mark.parametrize("verb", ["test", "status", "on"])
def test_each_question_is_sent_and_its_answer_shown(
    tmp_path: Path, verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with agent(tmp_path, lambda request: [line(True, "node lon2: pdu1 outlet 5 is on")]) as heard:
        assert call(tmp_path, "lon2", f"--{verb}") == 0
    assert heard == [{"v": 1, "verb": "fence", "args": {"node": "lon2", "verb": verb}}]
    assert capsys.readouterr().out == "node lon2: pdu1 outlet 5 is on\n"


def test_off_wants_a_yes_before_anything_is_sent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with agent(tmp_path, lambda request: [line(True, "off")]) as heard:
        assert call(tmp_path, "lon2", "--off") == 1
        assert heard == []
        assert call(tmp_path, "lon2", "--off", "--yes") == 0
    assert heard[0]["args"] == {"node": "lon2", "verb": "off"}
    assert "say --yes" in capsys.readouterr().err


def test_one_verb_must_be_said(tmp_path: Path) -> None:
    for argv in (["lon2"], ["lon2", "--off", "--on"]):
        with pytest.raises(SystemExit) as caught:
            call(tmp_path, *argv)
        assert caught.value.code == 2


def test_a_refusal_is_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with agent(tmp_path, lambda request: [line(False, "may not be written")]):
        assert call(tmp_path, "lon2", "--test") == 1
    assert capsys.readouterr().err == "standpipe: may not be written\n"


def test_an_end_that_is_not_known_is_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    unknown = line(False, "pdu1 outlet 5 is unknown", {"known": False})
    with agent(tmp_path, lambda request: [unknown]):
        assert call(tmp_path, "lon2", "--off", "--yes", "--json") == 3
    assert json.loads(capsys.readouterr().out)["ok"] is None


def test_an_agent_that_hangs_up_leaves_it_unknown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with agent(tmp_path, lambda request: [line(None, "switching lon2 off")]):
        assert call(tmp_path, "lon2", "--off", "--yes") == 3
    told = capsys.readouterr().err
    assert told.startswith("switching lon2 off\n")
    assert "standpipe fence lon2 --status" in told


def test_without_an_agent_nothing_has_happened(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(tmp_path, "lon2", "--off", "--yes") == 1
    assert "may have happened" not in capsys.readouterr().err
