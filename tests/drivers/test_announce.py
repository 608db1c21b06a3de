# SPDX-License-Identifier: GPL-2.0-or-later
"""`announce_command` with a real shell: what it is told, what it leaves, how it fails."""

import asyncio
from pathlib import Path

import pytest

from agent.core import announcing
from agent.core.settings import AddressSettings, GroupSettings
from agent.ports import Refused, Unreachable
from drivers.commands import CommandService

V4 = AddressSettings("10.1.0.100", 24, 4, "eth0", 51)
V6 = AddressSettings("2001:db8::100", 64, 6, "eth0", 51)


def run(command: str, folder: Path, node: str = "lon1", within_ms: int = 5000) -> str:
    group = GroupSettings("sbc", (node,), (V4, V6), announce_command=command)
    driver = CommandService(announcing.command(group, node), folder)
    return asyncio.run(driver.start(within_ms))


def test_the_command_is_told_which_group_where_and_with_what(tmp_path: Path) -> None:
    said = tmp_path / "said"
    command = f'printf "%s\\n" "$STANDPIPE_GROUP" "$STANDPIPE_NODE" "$STANDPIPE_ADDRESSES" >{said}'
    run(command, tmp_path, node="it's $HOME")
    assert said.read_text().splitlines() == ["sbc", "it's $HOME", "10.1.0.100 2001:db8::100"]


def test_what_it_prints_is_kept_in_the_run_folder(tmp_path: Path) -> None:
    run("echo route moved", tmp_path)
    assert (tmp_path / "announce%20of%20sbc.out").read_text() == "route moved\n"


def test_a_command_that_fails_says_how_and_how_to_run_it_by_hand(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="exit 3: no such route table") as refused:
        run("echo no such route table; exit 3", tmp_path)
    assert "STANDPIPE_GROUP='sbc'" in str(refused.value)


def test_a_command_that_does_not_end_is_killed_at_its_limit(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match="did not end within 200 ms"):
        run("sleep 60", tmp_path, within_ms=200)
