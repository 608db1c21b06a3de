# SPDX-License-Identifier: GPL-2.0-or-later
"""[group.NAME.settings]: what is carried to a standby, and what no file can have carried."""

from pathlib import Path

import pytest

from agent.core.settings import CarriedSettings, CloudSettings
from tests.config.writing import only_problem, problems, read

FILES = '[group.sbc.settings]\nfiles = ["/etc/kamailio/"]\n'


def carried(folder: Path, text: str) -> CarriedSettings | None:
    change = ("#group", f"[group.sbc.settings]\n{text}")
    return read(folder, change).groups["sbc"].carried


def said(folder: Path, text: str) -> str:
    return only_problem(folder, ("#group", f"[group.sbc.settings]\n{text}"))


def test_a_group_without_the_table_carries_nothing(tmp_path: Path) -> None:
    assert read(tmp_path).groups["sbc"].carried is None


def test_the_defaults_are_those_of_the_manual(tmp_path: Path) -> None:
    found = carried(tmp_path, 'files = ["/etc/kamailio/"]\nstatus = "/var/lib/k/now.json"')
    assert found == CarriedSettings(files=("/etc/kamailio/",), status="/var/lib/k/now.json")


def test_every_key_is_read(tmp_path: Path) -> None:
    text = """files = ["/etc/kamailio/", "/etc/default/kamailio"]
licence = ["/etc/kamailio/licence.key", "/opt/licences/"]
status = "/var/lib/kamailio/now.json"
own = ["/etc/kamailio/local.cfg", "/opt/licences/"]
status_max_age = "2s"
load_test = "/opt/k/loads"
licence_test = "/opt/k/valid"
licence_warn = "60d"
apply = "kamcmd cfg.reload"
max_size = "2GiB"
rate = "1.5MB/s"
versions = 3
cloud = { url = "https://c.example.net:8443/x", user = "u", password_file = "/p", ca_file = "/ca" }
"""
    assert carried(tmp_path, text) == CarriedSettings(
        files=("/etc/kamailio/", "/etc/default/kamailio"),
        licence=("/etc/kamailio/licence.key", "/opt/licences/"),
        status="/var/lib/kamailio/now.json",
        own=("/etc/kamailio/local.cfg", "/opt/licences/"),
        status_max_age_ms=2000,
        load_test="/opt/k/loads",
        licence_test="/opt/k/valid",
        licence_warn_ms=60 * 86_400_000,
        apply="kamcmd cfg.reload",
        max_bytes=2 << 30,
        rate_bytes_s=1_500_000,
        versions=3,
        cloud=CloudSettings("https://c.example.net:8443/x/", "u", "/p", "/ca"),
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "17: group.sbc.settings: missing"),
        ("versions = 3", "carries nothing: give it files, licence or status"),
        ('files = ["etc/x"]', 'did you mean "/etc/x"'),
        ('files = ["/etc/x/../y"]', "must not go up with .."),
        ('files = ["/etc//x"]', 'did you mean "/etc/x"'),
        ('files = ["/etc/./x/"]', 'did you mean "/etc/x/"'),
        ('files = ["/etc/x\\n"]', "must be printable"),
        (f'files = ["/{"x" * 4095}"]', "at most 4095 bytes long"),
        ('files = ["/"]', "has /etc/standpipe in it, which is never carried"),
        ('files = ["/etc/"]', "has /etc/standpipe in it, which is never carried"),
        ('files = ["/etc/standpipe/x"]', "is in /etc/standpipe, which is each node's own"),
        ('files = ["/etc/standpipe"]', "is each node's own: it is never carried"),
        ('status = "/run/x/now"', "is in /run, which is each node's own"),
        ('licence = ["/proc/version"]', "is in /proc, which is each node's own"),
        ('files = ["/dev/sda"]', "is in /dev, which is each node's own"),
        ('files = ["/sys/x/"]', "is in /sys, which is each node's own"),
        ('files = ["/keys/"]', "has /keys/cluster.key in it"),
        ('files = ["/ca/key/x"]', "is in /ca/key, which is each node's own"),
        ('files = ["/a/", "/a"]', 'files[2] = "/a": is in the list already'),
        ('files = ["/a/", "/a/b"]', 'files[2] = "/a/b": is in /a/ of files already (line 19)'),
        ('status = "/a/"', 'must be a file; did you mean "/a"'),
        ('files = ["/a/"]\nstatus = "/a/b"', "is in /a/, which is kept the same all the time"),
        ('files = ["/a/"]\nown = ["/b"]', "is in none of files and licence"),
        ('files = ["/ab/"]\nown = ["/a"]', "is in none of files and licence"),
        ('files = ["/a/"]\nown = ["/a"]', "is in files: either it is carried, or"),
        ('files = ["/a"]\nload_test = "x"', 'load_test = "x": says nothing without status'),
        ('files = ["/a"]\nlicence_warn = "9d"', "says nothing without licence"),
        ('files = ["/a"]\nmax_size = "1 gig"', "not a size"),
        ('files = ["/a"]\nmax_size = 5', 'must be text in quotes; did you mean "5"'),
        ('files = ["/a"]\nmax_size = "1023B"', "must be 1KiB..1TiB"),
        ('files = ["/a"]\nrate = "50MB"', 'not a rate: write a size a second, as in "50MB/s"'),
        ('files = ["/a"]\nrate = "1kB/s"', "must be 10kB/s..10GB/s"),
        ('files = ["/a"]\nversions = 0', "must be 1..1000"),
        ('files = ["/a"]\nfile = ["/b"]', "unknown key; did you mean files"),
    ],
)
def test_one_mistake_is_one_line(tmp_path: Path, text: str, expected: str) -> None:
    keys = 'name = "callcentre"\nkey_file = "/keys/cluster.key"\npki_dir = "/ca/key"'
    table = f"[group.sbc.settings]\n{text}"
    if not text:
        table, expected = "settings = 5", "18: group.sbc.settings = 5: must be a table"
    assert expected in only_problem(tmp_path, ('name = "callcentre"', keys), ("#group", table))


@pytest.mark.parametrize(
    ("cloud", "expected"),
    [
        ('{ user = "u" }', "url: missing"),
        ('{ url = "http://c/x/" }', "must be https"),
        ('{ url = "c/x/" }', 'must be a URL; did you mean "http://c/x/"'),
        ('{ url = "https://u:p@c/x/" }', "must be a URL"),
        ('{ url = "https://c/x?y" }', "must be a folder"),
        ('{ url = "https://c/", user = "u" }', "says nothing without password_file"),
        ('{ url = "https://c/", password_file = "/p" }', "says nothing without user"),
        ('{ url = "https://c/", ca_file = "ca" }', 'did you mean "/ca"'),
        ('"https://c/"', "must be a table"),
    ],
)
def test_a_mistake_about_the_cloud(tmp_path: Path, cloud: str, expected: str) -> None:
    text = f"{FILES}cloud = {cloud}"
    found = [str(problem) for problem in problems(tmp_path, ("#group", text))]
    assert any(expected in line for line in found), found


def test_the_password_of_the_cloud_must_be_closed_to_others(tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("x")
    password.chmod(0o644)
    text = f'{FILES}cloud = {{ url = "https://c/", user = "u", password_file = "{password}" }}'
    found = problems(tmp_path, ("#group", text), check_files=True)
    assert [it.path for it in found if "open to everybody" in it.why] == [
        "group.sbc.settings.cloud.password_file"
    ]


OTHER = """[group.web]
nodes = ["{node}"]
[[group.web.address]]
address = "{address}"
interface = "eth1"
vrid = 52
[group.web.settings]
{carries}
"""


def beside(node: str, carries: str) -> tuple[str, str]:
    address = "10.2.0.103/24" if node == "par1" else "10.1.0.103/24"
    return "#end", OTHER.format(node=node, address=address, carries=carries)


@pytest.mark.parametrize(
    "carries",
    ['files = ["/etc/kamailio/"]', 'files = ["/etc/kamailio/a/"]', 'licence = ["/etc/kamailio/k"]'],
)
def test_two_groups_of_one_node_do_not_carry_the_same(tmp_path: Path, carries: str) -> None:
    found = only_problem(tmp_path, ("#group", FILES), beside("lon2", carries))
    assert "group sbc carries /etc/kamailio/ already, on lon2 too (line 17)" in found


def test_a_tree_around_what_another_group_carries_is_the_same_too(tmp_path: Path) -> None:
    here = ("#group", FILES.replace("/etc/kamailio/", "/opt/sbc/etc/"))
    found = only_problem(tmp_path, here, beside("lon2", 'files = ["/opt/sbc/"]'))
    assert "group sbc carries /opt/sbc/etc/ already" in found


def test_other_paths_and_other_nodes_may_carry_what_they_like(tmp_path: Path) -> None:
    here = ("#group", FILES)
    assert problems(tmp_path, here, beside("lon2", 'files = ["/etc/kamailio2/"]')) == []
    assert problems(tmp_path, here, beside("par1", 'files = ["/etc/kamailio/"]')) == []
