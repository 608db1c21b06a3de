# SPDX-License-Identifier: GPL-2.0-or-later
"""A node is fenced by commands: only the status command proves, and nobody is left behind."""

import asyncio
from pathlib import Path

import pytest

from agent.core.settings import FenceSettings
from agent.ports import Garbled, Refused, Unreachable
from drivers.executable import fault
from drivers.fence_command import CommandFence
from tests.drivers.patience import until


def fence(folder: Path, **changes: str) -> CommandFence:
    """A node whose power is a file: it is on while the file is there."""
    power = folder / "power"
    told = {
        "off": f"rm -f {power}",
        "on": f"touch {power}",
        "status": f"test -e {power} || exit 2",
    } | changes
    return CommandFence("lon2", FenceSettings("command", **told))


@pytest.fixture(autouse=True)
def powered(tmp_path: Path) -> Path:
    power = tmp_path / "power"
    power.touch()
    return power


def off(tmp_path: Path, within_ms: int = 5_000, **changes: str) -> str:
    return asyncio.run(fence(tmp_path, **changes).off(within_ms))


def test_off_is_what_the_status_says_after_the_command(tmp_path: Path, powered: Path) -> None:
    assert off(tmp_path) == "node lon2: its power is off"
    assert not powered.exists()
    on = asyncio.run(fence(tmp_path).on(5_000))
    assert on == "node lon2: its power is on"


def test_a_command_that_succeeds_and_does_nothing_is_not_off(tmp_path: Path) -> None:
    with pytest.raises(Garbled, match="is on although it was commanded"):
        off(tmp_path, 1_000, off="true")


def test_a_command_that_takes_time_to_take_effect_is_waited_for(
    tmp_path: Path, powered: Path
) -> None:
    async def story() -> str:
        loop = asyncio.get_running_loop()
        loop.call_later(0.7, powered.unlink)
        return await fence(tmp_path, off="true").off(5_000)

    assert asyncio.run(story()).endswith("is off")


def test_a_command_that_fails_is_refused_even_where_the_status_fails_likewise(
    tmp_path: Path,
) -> None:
    """A script that dies of its own fault ends with 1 too, which must not read as "off"."""
    with pytest.raises(Refused, match=r"node\.lon2\.fence\.off: exit 1: no such host"):
        off(tmp_path, off="echo no such host; exit 1", status="exit 2")


def test_the_command_is_run_even_where_the_status_says_off_already(
    tmp_path: Path, powered: Path
) -> None:
    off(tmp_path, status="exit 2")
    assert not powered.exists()


@pytest.mark.parametrize("code", [1, 3, 255])
def test_a_status_of_any_other_code_is_not_known(tmp_path: Path, code: int) -> None:
    with pytest.raises(Unreachable, match="not known to be off"):
        off(tmp_path, 800, status=f"exit {code}")


def test_a_status_that_hangs_is_not_known(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match="not known to be off"):
        off(tmp_path, 800, status="sleep 60")


def test_a_status_command_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"node\.lon2\.fence\.status: exit 127"):
        off(tmp_path, status="no-such-command-here")


def test_a_command_that_hangs_is_killed_and_the_status_asked(tmp_path: Path, powered: Path) -> None:
    told = off(tmp_path, 1_500, off=f"rm {powered}; sleep 60")
    assert told == "node lon2: its power is off"


def test_the_command_knows_which_node_it_is_for(tmp_path: Path) -> None:
    off(tmp_path, off=f'echo "$STANDPIPE_NODE" >{tmp_path}/name; rm {tmp_path}/power')
    assert (tmp_path / "name").read_text() == "lon2\n"


def test_a_child_in_a_session_of_its_own_is_not_left_behind(tmp_path: Path) -> None:
    child = tmp_path / "child"
    command = (
        f"setsid sh -c 'echo $$ >{child}; exec sleep 300' & while ! test -s {child}; do :; done"
    )

    async def story() -> None:
        await fence(tmp_path, off=f"{command}; rm {tmp_path}/power").off(5_000)
        pid = int(child.read_text())
        await until(lambda: not alive(pid))

    asyncio.run(story())


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_test_runs_the_status_alone(tmp_path: Path, powered: Path) -> None:
    told = asyncio.run(fence(tmp_path).test(5_000))
    assert told == ("node lon2: its power is on; `off` can be executed, and was not")
    assert powered.exists()


def test_a_test_finds_a_command_that_cannot_be_executed(tmp_path: Path) -> None:
    script = tmp_path / "off.sh"
    script.write_text("#!/bin/sh\n")
    with pytest.raises(Refused, match=r"fence\.off: .*off\.sh cannot be executed"):
        asyncio.run(fence(tmp_path, off=str(script)).test(5_000))


def test_a_node_without_on_is_switched_on_by_hand(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="switch it on by hand"):
        asyncio.run(fence(tmp_path, on="").on(1_000))


@pytest.mark.parametrize("command", ["true", "test -e x", "A=1 sh -c x", "/bin/sh", "if a; then b"])
def test_commands_that_could_be_run(command: str) -> None:
    assert fault(command) == ""


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("", "empty"),
        ("/no/such/file x", "does not exist"),
        ("/etc x", "cannot be executed"),
        ("no-such-command-here", "nowhere in PATH"),
        ("echo 'half", "No closing quotation"),
    ],
)
def test_commands_that_could_not_be_run(command: str, why: str) -> None:
    assert why in fault(command)
