# SPDX-License-Identifier: GPL-2.0-or-later
"""Options before and after the command, the environment, wrong usage, what daemons are given."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.playing import ENDING, agent, line, standpipe

STAND_IN = """
import sys, types, agent
stand_in = types.ModuleType("agent.{name}")
def main(options):
    for key in ("config", "run_dir", "state_dir", "node", "watch_only"):
        value = getattr(options, key)
        print(key, type(value).__name__, value)
    return 7
stand_in.main = main
sys.modules["agent.{name}"] = agent.{name} = stand_in
from agent.cli import main
sys.exit(main(sys.argv[1:]))
"""
STARTS = {"run": "supervisor", "keeper": "keeper", "agent": "service"}


def started(*args: str) -> tuple[int, list[str], str]:
    """Exit status, what the daemon was given, what was said."""
    name = next(STARTS[arg] for arg in args if arg in STARTS)
    code = STAND_IN.format(name=name)
    ended = subprocess.run(
        [sys.executable, "-c", code, *args], env=ENDING, capture_output=True, text=True, timeout=60
    )
    return ended.returncode, ended.stdout.splitlines(), ended.stderr


@pytest.mark.parametrize("command", list(STARTS))
def test_a_daemon_gets_its_folders_and_its_end_is_ours(tmp_path: Path, command: str) -> None:
    config = tmp_path / "x.toml"
    status, given, said = started(
        *("--run-dir", "/r", command, "--config", str(config), "--state-dir", "/s", "--node", "n")
    )
    assert (status, said) == (7, "")
    assert given == [
        f"config PosixPath {config}",
        "run_dir PosixPath /r",
        "state_dir PosixPath /s",
        "node str n",
        "watch_only bool False",
    ]


def test_without_a_configuration_the_machine_is_only_watched() -> None:
    if Path("/etc/standpipe/standpipe.toml").exists():
        pytest.fail("this machine has a Standpipe of its own: run the tests elsewhere")
    status, given, said = started("run")
    assert given[-1] == "watch_only bool True"
    assert said == "standpipe: no /etc/standpipe/standpipe.toml: this machine is only watched\n"
    assert started("run", "--watch-only")[2] == ""
    assert status == 7


def test_a_configuration_that_is_named_is_not_done_without(tmp_path: Path) -> None:
    assert started("run", "--config", str(tmp_path / "none"))[1][-1] == "watch_only bool False"


def test_global_options_stand_before_or_after_the_command(tmp_path: Path) -> None:
    with agent(tmp_path, lambda request: [line(True, "done")]) as heard:
        for args in (
            ("--run-dir", tmp_path, "clear", "sbc"),
            ("clear", "sbc", "--run-dir", tmp_path),
            ("--run-dir", "/nowhere", "clear", f"--run-dir={tmp_path}", "sbc"),
        ):
            assert standpipe(*args).returncode == 0
        env = {"STANDPIPE_RUN_DIR": str(tmp_path)}
        assert standpipe("clear", "sbc", env=env).returncode == 0
        assert standpipe("clear", "sbc", "--run-dir", "/nowhere", env=env).returncode == 1
    assert len(heard) == 4


def test_the_configuration_may_come_from_the_environment(tmp_path: Path) -> None:
    ended = standpipe("check", env={"STANDPIPE_CONFIG": str(tmp_path / "there.toml")})
    assert ended.stdout.startswith(f"{tmp_path}/there.toml: no such file")


@pytest.mark.parametrize(
    "args",
    [
        [],
        ["statuss"],
        ["status", "--jsn"],
        ["switchover"],
        ["journal", "--last", "0"],
        ["journal", "--last", "many"],
        ["maintenance", "maybe"],
    ],
)
def test_wrong_usage_is_not_taken_for_degraded(args: list[str]) -> None:
    ended = standpipe(*args)
    assert (ended.returncode, ended.stdout) == (64, "")
    assert "usage: standpipe" in ended.stderr


def test_help_and_version() -> None:
    helped = standpipe("--help")
    assert helped.returncode == 0
    for command in ("status", "switchover", "explain", "init", "check", "run", "maintenance"):
        assert command in helped.stdout
    version = standpipe("--version")
    assert version.stdout.startswith("standpipe ")
