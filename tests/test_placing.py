# SPDX-License-Identifier: GPL-2.0-or-later
"""A bundle is put into place whole, or nothing of it; nothing outside is touched."""

import base64
import os
from pathlib import Path
from typing import Any

import pytest

from agent import placing
from agent.ports import Garbled, PortError, Refused

CONFIG = """\
[cluster]
name = "callcentre"
key_file = "/there/etc/cluster.key"
pki_dir = "/there/etc/pki"
[node.lon1]
paths = ["127.0.0.1"]
"""


def coded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def bundle(**changed: Any) -> dict[str, Any]:
    whole = {
        "cluster": "callcentre",
        "folder": "/there/etc",
        "config": coded(CONFIG),
        "key": coded("ab" * 32),
        "pki": {"ca.crt": coded("certificate"), "ca.key": coded("key")},
        "secrets": {"keys/trap.key": coded("trap")},
        "elsewhere": [],
    }
    return {name: value for name, value in (whole | changed).items() if value is not None}


def put(folder: Path, said: dict[str, Any], force: bool = False) -> list[str]:
    placed = placing.staged(said, folder)
    try:
        return placing.put(placed, force)
    finally:
        placing.discard(placed.stage)


def lying(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


WHOLE = {
    "cluster.key": "ab" * 32,
    "keys/trap.key": "trap",
    "pki/ca.crt": "certificate",
    "pki/ca.key": "key",
    "standpipe.toml": CONFIG,
}


def test_what_lay_beside_the_configuration_there_lies_beside_it_here(tmp_path: Path) -> None:
    put(tmp_path / "etc", bundle())
    assert lying(tmp_path) == {f"etc/{name}": text for name, text in WHOLE.items()}


@pytest.mark.parametrize(
    "name",
    [
        "../outside",
        "/etc/outside",
        "keys/../../outside",
        ".hidden",
        "",
        "keys//x",
        "a/b/c/d/e",
        "cluster.key",
        "standpipe.toml",
        "pki/node.key",
        "x\0y",
        "with blank",
    ],
)
def test_a_file_with_a_name_that_leads_elsewhere_places_nothing(tmp_path: Path, name: str) -> None:
    with pytest.raises(Garbled, match="which is not placed"):
        put(tmp_path / "etc", bundle(secrets={name: coded("x")}))
    assert lying(tmp_path) == {}


@pytest.mark.parametrize(
    "changed",
    [
        {"config": None},
        {"key": None},
        {"pki": None},
        {"pki": []},
        {"pki": {"ca.crt": coded("x")}},
        {"secrets": None},
        {"secrets": {"a": 5}},
        {"key": "no base64!"},
        {"config": coded("not = [toml")},
        {"config": coded("[cluster]\nnam = 1\n")},
        {"config": base64.b64encode(b"\xff\xfe").decode()},
    ],
)
def test_a_bundle_that_is_not_whole_places_nothing(tmp_path: Path, changed: dict[str, Any]) -> None:
    with pytest.raises(PortError):
        put(tmp_path / "etc", bundle(**changed))
    assert lying(tmp_path) == {}


def test_all_that_is_in_the_way_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "trap.key").write_text("mine")
    (tmp_path / "pki").mkdir()
    with pytest.raises(Refused, match=r"pki, .*keys/trap\.key there already"):
        put(tmp_path, bundle())
    assert lying(tmp_path) == {"keys/trap.key": "mine"}


def test_with_force_what_was_there_is_kept_beside_it(tmp_path: Path) -> None:
    put(tmp_path, bundle())
    put(tmp_path, bundle(key=coded("cd" * 32)), force=True)
    put(tmp_path, bundle(key=coded("ef" * 32)), force=True)
    found = lying(tmp_path)
    assert found["cluster.key"] == "ef" * 32
    assert found["cluster.key.old"] == "cd" * 32
    assert "keys/trap.key.old" not in found  # it was the same


def test_a_failure_in_the_middle_leaves_everything_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "cluster.key").write_text("mine")
    (tmp_path / "keys").write_text("a file in the place of a folder")
    before = lying(tmp_path)
    with pytest.raises(Refused, match="all is as it was before"):
        put(tmp_path, bundle(), force=True)
    assert lying(tmp_path) == before
    assert sorted(os.listdir(tmp_path)) == ["cluster.key", "keys"]


def test_a_link_in_the_way_is_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("untouched")
    folder = tmp_path / "etc"
    folder.mkdir()
    (folder / "cluster.key").symlink_to(outside)
    with pytest.raises(Refused, match="there already"):
        put(folder, bundle())
    put(folder, bundle(), force=True)
    assert outside.read_text() == "untouched"
    assert not (folder / "cluster.key").is_symlink()


def test_a_key_that_lies_there_already_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "cluster.key").write_text("ab" * 32)
    put(tmp_path, bundle())
    assert lying(tmp_path) == WHOLE
