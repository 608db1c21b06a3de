# SPDX-License-Identifier: GPL-2.0-or-later
"""The example of docs/vrrp.md: both files are taken, and say the same of the virtual router."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from agent.config import load
from agent.core.settings import Settings

PAGE = Path(__file__).parents[2] / "docs" / "vrrp.md"
KEEPALIVED_HAS = "ip link add eth0 type veth peer name eth1; ip address add 10.1.0.13/24 dev eth0"


def block(kind: str) -> str:
    (found,) = re.findall(rf"^```{kind}\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return str(found)


def words(text: str, key: str) -> list[str]:
    """What keepalived.conf says of a key: the rest of its line, or its braces' content."""
    plain = re.sub(r"#.*", "", text)
    found = re.search(rf"^\s*{key}\s+(?:\{{([^}}]*)\}}|(.*))$", plain, re.MULTILINE)
    assert found is not None, key
    return (found[1] or found[2]).split()


@pytest.fixture
def ours(tmp_path: Path) -> Settings:
    path = tmp_path / "standpipe.toml"
    path.write_text(block("toml"))
    return load(path, "lon1", check_files=False)


def test_both_sides_of_the_example_are_in_one_virtual_router(ours: Settings) -> None:
    theirs, group = block("conf"), ours.groups["sbc"]
    floating = [f"{it.address}/{it.prefix_len}" for it in group.addresses]
    assert words(theirs, "virtual_ipaddress") == floating
    assert {(it.interface, str(it.vrid)) for it in group.addresses} == {
        (words(theirs, "interface")[0], words(theirs, "virtual_router_id")[0])
    }
    assert float(words(theirs, "advert_int")[0]) * 1000 == group.advert_ms
    assert words(theirs, "vrrp_version") == ["3"]


def test_both_sides_of_the_example_know_each_other(ours: Settings) -> None:
    theirs, group = block("conf"), ours.groups["sbc"]
    assert group.unicast
    assert tuple(words(theirs, "unicast_src_ip")) == group.plain_peers
    assert words(theirs, "unicast_peer") == [ours.nodes[name].paths[0] for name in group.nodes]
    assert all(it > int(words(theirs, "priority")[0]) for it in group.priorities)


@pytest.mark.skipif(not shutil.which("keepalived"), reason="needs keepalived")
def test_keepalived_takes_its_side_of_the_example(tmp_path: Path) -> None:
    path = tmp_path / "keepalived.conf"
    path.write_text(block("conf"))
    path.chmod(0o600)
    inside = f"{KEEPALIVED_HAS} && exec keepalived --config-test --use-file '{path}'"
    done = subprocess.run(
        ["unshare", "--net", "sh", "-c", inside], capture_output=True, text=True, timeout=30
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
