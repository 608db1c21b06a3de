# SPDX-License-Identifier: GPL-2.0-or-later
"""`standpipe init` and `standpipe check`."""

import json
import stat
from pathlib import Path

from tests.cli.playing import standpipe

GOOD = """\
[cluster]
name = "callcentre"
key_file = "{key}"
[site.london]
[node.lon1]
site = "london"
paths = ["10.1.0.11"]
[group.sbc]
nodes = ["lon1"]
[[group.sbc.address]]
address = "10.1.0.100/24"
interface = "eth0"
vrid = 51
"""


def good(folder: Path) -> Path:
    key = folder / "k"
    key.write_text("00" * 32)
    key.chmod(0o600)
    path = folder / "good.toml"
    path.write_text(GOOD.format(key=key))
    return path


def test_init_writes_a_key_and_a_file_that_can_be_used_at_once(tmp_path: Path) -> None:
    folder = tmp_path / "etc" / "standpipe"
    ended = standpipe("init", "--dir", folder)
    assert (ended.returncode, ended.stderr) == (0, "")
    key = folder / "cluster.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert len(bytes.fromhex(key.read_text())) == 32
    checked = standpipe("check", "--config", folder / "standpipe.toml")
    assert (checked.returncode, checked.stderr) == (0, "")
    assert "this machine is only watched" in checked.stdout


def test_the_example_in_the_written_file_is_good(tmp_path: Path) -> None:
    standpipe("init", "--dir", tmp_path)
    path = tmp_path / "standpipe.toml"
    head, example = path.read_text().split("# ----", 1)
    lines = [line.removeprefix("# ") for line in example.splitlines()[1:]]
    path.write_text(head + "\n".join(line for line in lines if not line.startswith(("#", "---"))))
    checked = standpipe("check", "--config", path)
    assert checked.returncode == 0, checked.stdout
    assert "2 nodes, 1 groups, 1 addresses" in checked.stdout


def test_init_makes_the_authority_that_belongs_to_the_key(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    standpipe("init", "--dir", first)
    second.mkdir()
    (second / "cluster.key").write_bytes((first / "cluster.key").read_bytes())
    ended = standpipe("init", "--dir", second, "--node", "other")
    assert ended.returncode == 0, ended.stderr
    assert f"{second}/cluster.key: was there, is as it was" in ended.stdout
    assert f"{second}/pki/node.crt: made, for other" in ended.stdout
    assert (first / "pki" / "ca.key").read_bytes() == (second / "pki" / "ca.key").read_bytes()
    assert stat.S_IMODE((first / "pki").stat().st_mode) == 0o700


def test_init_changes_nothing_where_everything_is_there(tmp_path: Path) -> None:
    standpipe("init", "--dir", tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    ended = standpipe("init", "--dir", tmp_path)
    assert ended.returncode == 0
    assert "made" not in ended.stdout
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_init_makes_nothing_of_a_key_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "cluster.key").write_text("precious")
    ended = standpipe("init", "--dir", tmp_path)
    assert ended.returncode == 1
    assert f"{tmp_path}/cluster.key: not hexadecimal digits" in ended.stderr
    assert (tmp_path / "cluster.key").read_text() == "precious"
    assert not (tmp_path / "pki").exists()


def test_init_says_what_is_wrong_with_a_configuration_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "standpipe.toml").write_text("[cluster]\nnam = 1\n")
    ended = standpipe("init", "--dir", tmp_path)
    assert ended.returncode == 1
    assert "did you mean name" in ended.stderr
    assert "put this right, then standpipe init again" in ended.stderr


def test_init_takes_names_and_members(tmp_path: Path) -> None:
    ended = standpipe(
        *("init", "--dir", tmp_path, "--cluster", "callcentre", "--node", "lon1"),
        *("--member", "lon1=10.1.0.11,10.9.0.11", "--member", "lon2=10.1.0.12"),
    )
    assert ended.returncode == 0, ended.stderr
    assert "node.crt: made, for lon1" in ended.stdout
    checked = standpipe("check", "--config", tmp_path / "standpipe.toml", "--node", "lon2")
    assert "callcentre, 2 nodes" in checked.stdout
    for wrong in ("lon1", "lon1=", "=10.1.0.11"):
        ended = standpipe("init", "--dir", tmp_path / "other", "--member", wrong)
        assert ended.returncode == 1
        assert "write NAME=ADDRESS" in ended.stderr
    assert not (tmp_path / "other").exists()


def test_two_keys_are_never_the_same(tmp_path: Path) -> None:
    keys = set()
    for name in ("a", "b"):
        standpipe("init", "--dir", tmp_path / name)
        keys.add((tmp_path / name / "cluster.key").read_text())
    assert len(keys) == 2


def test_init_where_no_folder_can_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ended = standpipe("init", "--dir", tmp_path / "file" / "etc")
    assert ended.returncode == 1
    assert "run as root, or --dir" in ended.stderr


def test_check_shows_all_problems_with_their_lines(tmp_path: Path) -> None:
    path = good(tmp_path)
    path.write_text(path.read_text().replace("vrid = 51", 'vird = 51\nadvert = "1s"'))
    ended = standpipe("check", path, "--node", "lon1")
    assert ended.returncode == 1
    assert [text.removeprefix(f"{path}:") for text in ended.stdout.splitlines()] == [
        "10: group.sbc.address[1].vrid: missing: the VRRP virtual router, 1..255, "
        "its own on the segment",
        "13: group.sbc.address[1].vird = 51: unknown key; did you mean vrid",
        '14: group.sbc.address[1].advert = "1s": unknown key; known here: interface, vrid, address',
    ]
    assert ended.stderr == "standpipe: 3 problems to put right\n"


def test_check_as_json(tmp_path: Path) -> None:
    path = good(tmp_path)
    fine = json.loads(standpipe("check", path, "--node", "lon1", "--json").stdout)
    assert (fine["ok"], fine["node"], fine["groups"]) == (True, "lon1", ["sbc"])
    ended = standpipe("check", path, "--node", "lon2", "--json")
    assert ended.returncode == 1
    (problem,) = json.loads(ended.stdout)["problems"]
    assert problem["file"] == str(path)
    assert "did you mean lon1" in problem["why"]


def test_a_file_that_is_named_may_be_that_of_other_machines(tmp_path: Path) -> None:
    path = good(tmp_path)
    named = standpipe("check", path)
    assert named.returncode == 0
    assert "is none of its nodes" in named.stdout
    own = standpipe("check", "--config", path)
    assert own.returncode == 1
    assert "say which with --node" in own.stdout


def test_check_looks_at_the_files_it_names(tmp_path: Path) -> None:
    path = good(tmp_path)
    (tmp_path / "k").chmod(0o644)
    ended = standpipe("check", path)
    assert ended.returncode == 1
    assert "is open to everybody" in ended.stdout


def test_check_without_a_file(tmp_path: Path) -> None:
    ended = standpipe("check", tmp_path / "none.toml")
    assert ended.returncode == 1
    assert ended.stdout.startswith(f"{tmp_path}/none.toml: no such file")


def test_check_says_what_a_good_file_cannot_do(tmp_path: Path) -> None:
    path = good(tmp_path)
    text = path.read_text().replace('["lon1"]', '["lon1", "lon2"]\nexclusive = "lease"')
    hooks = 'promote = "a"\ndemote = "b"'
    other = '[node.lon2]\nsite = "london"\npaths = ["10.1.0.12"]'
    path.write_text(
        text.replace("[[group", f"{hooks}\n[[group").replace("[group", f"{other}\n[group", 1)
    )
    ended = standpipe("check", path, "--node", "lon1")
    assert ended.returncode == 0
    assert "without a witness a lost node is not replaced by itself" in ended.stdout
    said = json.loads(standpipe("check", path, "--node", "lon1", "--json").stdout)
    assert (said["ok"], said["problems"]) == (True, [])
    assert [it["path"] for it in said["remarks"]] == ["group.sbc.exclusive"]
