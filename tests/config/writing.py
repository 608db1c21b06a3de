# SPDX-License-Identifier: GPL-2.0-or-later
"""Configurations for tests: a good one, changed line by line."""

from pathlib import Path

from agent.config import ConfigError, Problem, load
from agent.core.settings import Settings

GOOD = """\
[cluster]
name = "callcentre"
[site.london]
[site.paris]
[node.lon1]
site = "london"
paths = ["10.1.0.11", "10.9.0.11"]
[node.lon2]
site = "london"
paths = ["10.1.0.12", "10.9.0.12"]
[node.par1]
site = "paris"
paths = ["10.2.0.11"]
[group.sbc]
nodes = ["lon1", "lon2"]
#group
[[group.sbc.address]]
address = "10.1.0.100/24"
interface = "eth0"
vrid = 51
#address
[[group.sbc.service]]
unit = "kamailio.service"
#service
[group.par]
nodes = ["par1"]
[[group.par.address]]
address = "10.2.0.100/24"
interface = "eth0"
vrid = 51
#end
"""


def written(folder: Path, *changes: tuple[str, str]) -> Path:
    """GOOD with each `(before, after)` put in place, as a file."""
    text = GOOD
    for before, after in changes:
        assert text.count(before) == 1, before
        text = text.replace(before, after)
    path = folder / "standpipe.toml"
    path.write_text(text)
    return path


def read(folder: Path, *changes: tuple[str, str], node: str | None = "lon1") -> Settings:
    """What a node reads of the changed file."""
    return load(written(folder, *changes), node, check_files=False)


def problems(
    folder: Path, *changes: tuple[str, str], node: str | None = "lon1", check_files: bool = False
) -> list[Problem]:
    """What is said about the changed file; an empty list when it is taken."""
    return problems_of(written(folder, *changes), node, check_files=check_files)


def problems_of(path: Path, node: str | None = "lon1", check_files: bool = False) -> list[Problem]:
    """What is said about a file; an empty list when it is taken."""
    try:
        load(path, node, check_files=check_files)
    except ConfigError as error:
        return error.problems
    return []


def only_problem(folder: Path, *changes: tuple[str, str], **options: str) -> str:
    """The one line that is said, without the file's name: "15: group.sbc.advert = ..."."""
    found = problems(folder, *changes, **options)  # type: ignore[arg-type]
    assert len(found) == 1, found
    return str(found[0]).removeprefix(f"{folder / 'standpipe.toml'}:")
