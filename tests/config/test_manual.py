# SPDX-License-Identifier: GPL-2.0-or-later
"""The manuals name every key that the configuration knows, and every default that it has."""

import re
from pathlib import Path

import pytest

from agent.config import ConfigError, load
from agent.core.readiness import RULES
from tests.config.writing import problems

TREE = Path(__file__).parents[2]
STRANGER = "zzzzzz = 1"
EVERYWHERE = f"""\
{STRANGER}
[cluster]
name = "x"
{STRANGER}
[site.a]
[site.b]
[node.n]
site = "a"
paths = ["10.0.0.1"]
{STRANGER}
[node.n.fence]
kind = "pdu"
outlets = [{{ device = "d", outlet = "1", {STRANGER} }}]
{STRANGER}
[node.m.fence]
kind = "ipmi"
{STRANGER}
[group.g]
nodes = ["n"]
{STRANGER}
[[group.g.address]]
address = "10.0.0.2/24"
interface = "eth0"
vrid = 1
{STRANGER}
[[group.g.route]]
{STRANGER}
[group.g.settings]
{STRANGER}
[group.g.settings.cloud]
{STRANGER}
[group.g.realtime]
{STRANGER}
[group.g.realtime.sessions]
{STRANGER}
[[group.g.service]]
unit = "x"
alive = [{{ tcp = "a:1", {STRANGER} }}]
{STRANGER}
[geo.w]
sites = ["a", "b"]
{STRANGER}
[[geo.w.record]]
{STRANGER}
[device.d]
address = "10.0.0.3"
site = "a"
snmp = {{ version = "2c", community = "x", {STRANGER} }}
{STRANGER}
[watch.disk]
{STRANGER}
[nms.m]
address = "10.0.0.4"
{STRANGER}
"""
SITE_KEYS = {"a", "b"}


def known_keys(folder: Path) -> set[str]:
    """Every key of every table, as the complaint about a stranger lists them."""
    path = folder / "standpipe.toml"
    path.write_text(EVERYWHERE)
    with pytest.raises(ConfigError) as refused:
        load(path, "n", check_files=False)
    lists = [
        found[1]
        for problem in refused.value.problems
        if (found := re.fullmatch(r"unknown key; known here: (.*)", problem.why))
    ]
    assert len(lists) == EVERYWHERE.count(STRANGER)
    return {key for text in lists for key in text.split(", ")} - SITE_KEYS


@pytest.mark.parametrize("manual", ["docs/config.md", "docs/man/standpipe.toml.5"])
def test_every_key_is_in_the_manual(tmp_path: Path, manual: str) -> None:
    text = (TREE / manual).read_text().replace("\\-", "-")
    words = set(re.findall(r"[a-z0-9_]+", text))
    assert known_keys(tmp_path) - words == set()


def test_the_sample_shows_every_key(tmp_path: Path) -> None:
    words = set(re.findall(r"[a-z0-9_]+", (TREE / "etc" / "standpipe.toml").read_text()))
    assert known_keys(tmp_path) - words == set()


def test_every_proof_of_readiness_is_in_the_manual() -> None:
    text = (TREE / "docs" / "standby.md").read_text()
    table = text[text.index("| proof | shown by |") : text.index("What is proved by comparing")]
    rows = re.findall(r"(?m)^\| `([a-z-]+)` \|", table)
    assert rows == [rule.name for rule in RULES]


def test_the_writing_of_these_tests_is_good(tmp_path: Path) -> None:
    assert problems(tmp_path) == []
