# SPDX-License-Identifier: GPL-2.0-or-later
"""What is said when there is something else than a configuration, and of the files it names."""

import os
from pathlib import Path

import pytest

from agent.config import ConfigError, load
from tests.config.writing import GOOD, problems, problems_of


def said(path: Path) -> str:
    with pytest.raises(ConfigError) as refused:
        load(path, "lon1", check_files=False)
    return str(refused.value).removeprefix(str(path))


def test_no_file(tmp_path: Path) -> None:
    assert said(tmp_path / "x.toml") == ": no such file; `standpipe init` writes one to start from"


def test_a_directory(tmp_path: Path) -> None:
    assert said(tmp_path) == f": is a directory; name the file in it, {tmp_path}/standpipe.toml"


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert said(tmp_path / "pipe") == ": is not a regular file"


@pytest.mark.parametrize("content", ["", "\n\n", "# only comments\n", "\ufeff"])
def test_a_file_that_says_nothing(tmp_path: Path, content: str) -> None:
    path = tmp_path / "standpipe.toml"
    path.write_text(content)
    assert said(path) == ": says nothing; `standpipe init` writes one to start from"


def test_ten_megabytes(tmp_path: Path) -> None:
    path = tmp_path / "standpipe.toml"
    path.write_text("#" * (10 << 20))
    assert said(path) == ": has 10.0 MiB, a configuration has some KiB; is it this file?"


def test_bytes_that_are_not_text(tmp_path: Path) -> None:
    path = tmp_path / "standpipe.toml"
    path.write_bytes(b'[cluster]\nname = "Z\xfcrich"\n')
    assert said(path) == ":2: is not UTF-8 text: byte 0xfc; save it as UTF-8"


def test_a_byte_order_mark_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "standpipe.toml"
    path.write_text("\ufeff" + GOOD)
    assert load(path, "lon1", check_files=False).node == "lon1"


def test_every_half_edited_file_is_refused_with_a_line(tmp_path: Path) -> None:
    path = tmp_path / "standpipe.toml"
    refused = 0
    for length in range(10, len(GOOD)):
        path.write_text(GOOD[:length])
        found = problems_of(path)
        assert all(problem.line for problem in found), GOOD[:length]
        refused += bool(found)
    assert refused > 0.8 * len(GOOD)  # the rest happens to be whole: it ends between two tables


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('[a]\nb = \nc = "', ":2: b =: not TOML: Invalid value, column 5"),
        ('[a]\nb = "x', ':2: b = "x: not TOML: '),
        ("[a]\nb = 1\nb = 2\n", ":3: b = 2: not TOML: Cannot overwrite a value"),
        ('x = "public"\ncommunity = "s3cret\n', ":2: not TOML: "),
        ("a = [1, 2\n\n", ":2: not TOML: Unclosed array"),
        (f"a = {'[' * 100_000}", ": is nested too deeply"),
        (f"a = {'9' * 5000}", ": not TOML: "),
    ],
)
def test_what_is_not_toml(tmp_path: Path, content: str, expected: str) -> None:
    path = tmp_path / "standpipe.toml"
    path.write_text(content)
    text = said(path)
    assert text.startswith(expected), text
    assert "s3cret" not in text


def key_problem(folder: Path, key: Path) -> str:
    change = ('name = "callcentre"', f'name = "callcentre"\nkey_file = "{key}"')
    found = problems(folder, change, check_files=True)
    return found[0].why if found else ""


def test_a_key_file_must_be_there_and_closed_to_others(tmp_path: Path) -> None:
    key = tmp_path / "cluster.key"
    assert key_problem(tmp_path, key).startswith("no such file")
    key.write_text("")
    key.chmod(0o600)
    assert key_problem(tmp_path, key).startswith("is empty")
    key.write_text("00" * 32)
    assert key_problem(tmp_path, key) == ""
    key.chmod(0o640)
    assert key_problem(tmp_path, key) == ""
    key.chmod(0o644)
    assert key_problem(tmp_path, key) == f"is open to everybody (mode 0644): chmod 0600 {key}"
    assert key_problem(tmp_path, tmp_path) == "is not a regular file"
    assert key_problem(tmp_path, Path("cluster.key")).startswith("must be a path from the root")


def test_the_usual_key_file_is_asked_for_where_there_are_nodes(tmp_path: Path) -> None:
    change = ('name = "callcentre"', 'name = "callcentre"\nkey_file = "/nowhere/cluster.key"')
    (problem,) = problems(tmp_path, change, check_files=True)
    assert problem.path == "cluster.key_file"
    assert problem.line == 3
