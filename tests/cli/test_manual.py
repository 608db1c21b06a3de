# SPDX-License-Identifier: GPL-2.0-or-later
"""The manuals name every command, option and key."""

import re
from pathlib import Path
from typing import Any

from tests.cli.playing import STATUS, standpipe

TREE = Path(__file__).parents[2]


def keys(value: Any) -> set[str]:
    """Every key of the sample status, but for names of groups and of bad packets."""
    if isinstance(value, list):
        return set().union(*map(keys, value)) if value else set()
    if not isinstance(value, dict):
        return set()
    return set(value).union(*map(keys, value.values()))


def test_every_key_of_status_is_documented() -> None:
    words = set(re.findall(r"[a-z_]+", (TREE / "docs" / "cli.md").read_text()))
    assert keys(STATUS) - {"sbc-london", "dialer", "peer-key"} - words == set()


def test_every_command_and_option_is_in_the_manual_page() -> None:
    page = (TREE / "docs" / "man" / "standpipe.1").read_text().replace("\\-", "-")
    commands = re.findall(r"^    ([a-z]+) ", standpipe("--help").stdout, re.MULTILINE)
    assert len(commands) == 17
    for command in commands:
        assert re.search(rf"^\.BR {command} ", page, re.MULTILINE), command
        for option in re.findall(r"--[a-z-]+", standpipe(command, "--help").stdout):
            assert option in page or option == "--help", (command, option)
