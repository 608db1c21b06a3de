# SPDX-License-Identifier: GPL-2.0-or-later
"""`standpipe settings`: the versions that a node keeps, how they differ, and one put back."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path
from typing import Any

import pytest

from agent import cli_settings
from tests.consignment import Machine, machines
from tests.drivers.patience import until


async def three_versions(folder: Path) -> Machine:
    """A node that serves and has kept three."""
    async with machines(folder, "lon1", "lon2") as (one, _):
        one.put("/etc/app.licence", "L")
        one.put("/etc/app/a.conf", "first\nsame\n")
        one.start()
        for number, text in enumerate(("first\nsame\n", "second\nsame\n", "third\nsame\n"), 1):
            one.put("/etc/app/a.conf", text)
            await until(lambda n=number: [v.number for v in one.group.shelf.versions()][-1:] == [n])  # type: ignore[misc]
        return one


def run(one: Machine, folder: Path, action: str, **more: Any) -> int:
    given = {"versions": [], "version": "", "paths": [], "force": True, "json": False}
    options = argparse.Namespace(
        action=action,
        group="sbc",
        state_dir=str(folder / "lon1-state"),
        run_dir=str(folder / "nowhere"),
        **given | more,
    )
    held = cli_settings.Held(options, one.settings, one.hands)
    return {"status": cli_settings._status, "diff": cli_settings._diff}.get(
        action, cli_settings._restore
    )(options, held)


@pytest.fixture
def node(tmp_path: Path) -> Machine:
    return asyncio.run(three_versions(tmp_path))


def test_the_versions_are_listed_and_the_one_that_counts_is_marked(
    node: Machine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(node, tmp_path, "status") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["1", "2", "*"]
    assert "by lon1  2 files" in lines[2]


def test_two_versions_differ_by_their_lines(
    node: Machine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(node, tmp_path, "diff", versions=["1", "3"]) == cli_settings.DIFFERENT
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "--- /etc/app/a.conf (version 1)"
    assert {"-first", "+third", " same"} <= set(out)
    assert run(node, tmp_path, "diff") == 0


def test_what_is_no_text_differs_by_its_digest(
    node: Machine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    node.put("/etc/app/a.conf", b"\xff\xfe")
    assert run(node, tmp_path, "diff") == cli_settings.DIFFERENT
    assert " in version 3, " in capsys.readouterr().out


def test_an_older_version_is_put_back_and_what_people_wrote_is_kept(
    node: Machine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    node.put("/etc/app/a.conf", "by hand\n")
    node.put("/etc/app/other", "stays")
    assert run(node, tmp_path, "restore", version="1", paths=["/etc/app/a.conf"]) == 0
    assert node.reads("/etc/app/a.conf") == "first\nsame\n"
    assert node.reads("/etc/app/other") == "stays"
    kept = capsys.readouterr().out.splitlines()[-1].removeprefix("what was there is in ")
    assert Path(kept).read_text() == "by hand\n"


def test_nothing_is_put_back_where_the_group_is_not_served(node: Machine, tmp_path: Path) -> None:
    with pytest.raises(cli_settings.Trouble, match="or say --force"):
        run(node, tmp_path, "restore", version="1", force=False)
    assert node.reads("/etc/app/a.conf") == "third\nsame\n"


def test_a_version_that_is_not_kept_is_said_with_those_that_are(
    node: Machine, tmp_path: Path
) -> None:
    with pytest.raises(cli_settings.Trouble, match="there are: 1, 2, 3"):
        run(node, tmp_path, "restore", version="9")
