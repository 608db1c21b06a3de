# SPDX-License-Identifier: GPL-2.0-or-later
"""A standby on another continent: Apache's mod_dav, what an agent put there, and a new machine."""

import hashlib
import os
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.clouding import Clouding
from agent.config import load
from agent.core.manifest import Entry, Snapshot, Version, declared
from agent.core.settings import CarriedSettings
from agent.ports import Refused, Unreachable
from agent.shelf import Shelf
from drivers import authority
from drivers.peerlink import read_key
from drivers.tree import Tree
from drivers.vault import Vault
from drivers.webdav import WebDav
from tests.cli.playing import standpipe
from tests.drivers.dav import PASSWORD, USER, Apache

CONFIG = """\
[cluster]
name = "callcentre"
key_file = "{there}/cluster.key"
pki_dir = "{there}/pki"
[site.here]
[node.lon1]
site = "here"
paths = ["127.0.0.1"]
[node.par1]
site = "here"
paths = ["127.0.0.2"]
[group.sbc]
nodes = ["lon1", "par1"]
standby = "cold"
[[group.sbc.address]]
address = "10.0.0.50/24"
interface = "eth0"
vrid = 51
[[group.sbc.service]]
start = "true"
stop = "true"
status = "true"
[group.sbc.settings]
files = ["{live}/etc/"]
licence = ["{live}/licence.key"]
status = "{live}/status.json"
[group.sbc.settings.cloud]
url = "{url}"
user = "standpipe"
password_file = "{there}/cloud.key"
ca_file = "{ca}"
"""


class Scene:
    """A first node with a cloud folder. What it carries lies in `live`, here and there alike."""

    def __init__(self, root: Path, apache: Apache) -> None:
        self.apache = apache
        self.live = root / "live"
        (self.live / "etc" / "sub").mkdir(parents=True)
        for number in range(50):
            (self.live / "etc" / "sub" / f"{number}").write_text(f"setting {number}\n" * 100)
        (self.live / "etc" / "big").write_bytes(os.urandom(6_000_000))
        (self.live / "etc" / "link").symlink_to("sub/1")
        (self.live / "licence.key").write_text("licence\n")
        (self.live / "licence.key").chmod(0o640)
        os.chown(self.live / "licence.key", 0, 8)
        (self.live / "status.json").write_text('{"counts": 7}')
        there = root / "first"
        there.mkdir()
        self.key = there / "cluster.key"
        for name, text in (("cluster.key", "ab" * 32), ("cloud.key", PASSWORD)):
            (there / name).write_text(text)
            (there / name).chmod(0o600)
        self.config = there / "standpipe.toml"
        settings = apache.settings
        self.config.write_text(
            CONFIG.format(there=there, live=self.live, url=settings.url, ca=settings.ca_file)
        )
        self.settings = load(self.config, "lon1")
        authority.make_ca(there / "pki", "callcentre", secret=read_key(self.key))
        self.state = root / "state"
        self.state.mkdir()
        carried = self.settings.groups["sbc"].carried
        assert carried is not None
        self.carried: CarriedSettings = carried
        self.shelf = Shelf(self.state, "sbc", declared(self.carried))
        self.number = 0
        self.clouding = self.begun()

    def begun(self) -> Clouding:
        return Clouding(
            self.settings,
            self.config,
            self.state,
            lambda group: self.shelf,
            Vault(read_key(self.key)),
            WebDav,
            lambda group: True,
            lambda group, ok, detail: None,
        )

    def publish(self) -> None:
        """What lies there now onto the shelf."""
        self.number += 1
        tree = Tree(declared(self.carried))
        tree.look()
        entries = dict(sorted(tree.entries.items()))
        for entry in entries.values():
            if entry.kind == "file":
                self._adopt(entry)
        version = Version("sbc", self.number, 3, int(time.time_ns() // 10**6), "lon1", entries)
        self.shelf.keep(version)
        self.shelf.set_current(version.digest)
        file = self.live / "status.json"
        if file.exists():
            content = file.read_bytes()
            digest = hashlib.sha256(content).hexdigest()
            entry = Entry(str(file), "file", 0o600, "root", "root", 0, 0, len(content), 1, digest)
            with self.shelf.incoming() as part:
                part.write_bytes(content)
                snapshot = Snapshot(entry, 3, self.number, "lon1")
                self.shelf.keep_status(snapshot, part, 0)

    def _adopt(self, entry: Entry) -> None:
        part = self.shelf.part(entry.sha256)
        part.write_bytes(Path(entry.path).read_bytes())
        self.shelf.adopt(entry.sha256, part)

    def upload(self) -> str:
        folder = WebDav(self.apache.settings)
        try:
            return self.clouding._pass("sbc", folder)
        finally:
            folder.close()

    def objects(self) -> list[Path]:
        return [path for path in (self.apache.files / "keep").rglob("*") if path.is_file()]

    def join(
        self, root: Path, *arguments: str, node: str = "par1"
    ) -> "subprocess.CompletedProcess[str]":
        """On a machine that has nothing but the key, a password and the folder's address."""
        cloud = self.apache.settings
        return standpipe(
            *("join", "--from-cloud", cloud.url, "--user", USER, "--ca-file", cloud.ca_file),
            *("--password-file", cloud.password_file, "--key", self.key, "--node", node),
            *("--dir", root / "etc", "--state-dir", root / "state", *arguments),
        )


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    apache = Apache.begun()
    try:
        scene = Scene(tmp_path, apache)
        scene.publish()
        yield scene
    finally:
        apache.end()


def lying(folder: Path) -> dict[str, object]:
    """Everything that counts of a tree."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        told = path.lstat()
        content: object = None
        if path.is_symlink():
            content = os.readlink(path)
        elif path.is_file():
            content = path.read_bytes()
        found[str(path)] = (stat.S_IMODE(told.st_mode), told.st_uid, told.st_gid, content)
    return found


def wiped(live: Path) -> None:
    """As on a machine that never had it; the parent folder is there."""
    subprocess.run(["rm", "-rf", str(live)], check=True)
    live.mkdir()


def test_a_machine_with_nothing_but_the_key_becomes_a_standby(scene: Scene, tmp_path: Path) -> None:
    assert scene.upload() == ""
    before = lying(scene.live)
    wiped(scene.live)
    second = tmp_path / "second"
    second.mkdir()
    ended = scene.join(second)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    after = lying(scene.live)
    status = str(scene.live / "status.json")
    assert after == {path: told for path, told in before.items() if path != status}
    assert (second / "etc" / "standpipe.toml").read_bytes() == scene.config.read_bytes()
    assert (second / "etc" / "cluster.key").read_text() == "ab" * 32
    assert (second / "etc" / "cloud.key").read_text() == PASSWORD
    shelf = Shelf(second / "state", "sbc", declared(scene.carried))
    held = shelf.status()
    assert held is not None
    assert os.read(shelf.open_status(held[0]), 100) == b'{"counts": 7}'
    assert "last written by lon1" in ended.stdout
    assert "group sbc: 52 files, 1 of them licences, of 20" in ended.stdout
    assert "from lon1; status of" in ended.stdout
    assert [path.name for path in (second / "state").iterdir() if path.name[0] == "."] == []


def test_a_group_lost_its_folder_and_the_machine_says_so(scene: Scene, tmp_path: Path) -> None:
    scene.upload()
    vault = Vault(read_key(scene.key))
    folder = vault.name("folder", "group", "sbc", "status")
    subprocess.run(["rm", "-r", str(scene.apache.files / "keep" / folder)], check=True)
    wiped(scene.live)
    ended = scene.join(tmp_path / "second")
    assert ended.returncode == 1
    assert "nothing lies there for group sbc status" in ended.stderr
    assert (scene.live / "licence.key").read_text() == "licence\n"


def test_what_a_hand_wrote_on_the_new_machine_is_kept_aside(scene: Scene, tmp_path: Path) -> None:
    scene.upload()
    (scene.live / "etc" / "sub" / "1").write_text("by hand")
    ended = scene.join(tmp_path / "second")
    assert ended.returncode == 0, ended.stderr
    assert (scene.live / "etc" / "sub" / "1").read_text() == "setting 1\n" * 100
    assert "1 of this host kept in" in ended.stdout
    (kept,) = (tmp_path / "second" / "state" / "carried" / "sbc" / "aside").rglob("1")
    assert kept.read_text() == "by hand"


def test_another_key_gets_nothing(scene: Scene, tmp_path: Path) -> None:
    scene.upload()
    scene.key.write_text("cd" * 32)
    ended = scene.join(tmp_path / "second")
    assert ended.returncode == 1
    assert "is the url right, and the key?" in ended.stderr
    assert not (tmp_path / "second" / "etc").exists()


def test_the_second_upload_costs_only_what_changed(scene: Scene) -> None:
    scene.upload()
    before = {path.name for path in scene.objects()}
    (scene.live / "etc" / "sub" / "7").write_text("changed")
    scene.publish()
    scene.upload()
    assert len({path.name for path in scene.objects()} - before) <= 3


def damaged(path: Path, how: str) -> None:
    content = path.read_bytes()
    match how:
        case "cut":
            path.write_bytes(content[: len(content) // 2])
        case "flipped":
            path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        case "empty":
            path.write_bytes(b"")


@pytest.mark.parametrize("how", ["cut", "flipped", "empty"])
def test_objects_that_were_damaged_there_place_nothing(
    scene: Scene, tmp_path: Path, how: str
) -> None:
    scene.upload()
    wiped(scene.live)
    vault = Vault(read_key(scene.key))
    folder = scene.apache.files / "keep" / vault.name("folder", "group", "sbc", "settings")
    largest = max(folder.iterdir(), key=lambda path: path.stat().st_size)
    damaged(largest, how)
    ended = scene.join(tmp_path / "second")
    assert ended.returncode == 1
    assert "its seal is broken" in ended.stderr
    assert lying(scene.live) == {}


def test_a_folder_that_was_put_back_is_refused_by_whoever_saw_it_newer(
    scene: Scene, tmp_path: Path
) -> None:
    scene.upload()
    old = {path: path.read_bytes() for path in scene.objects()}
    (scene.live / "etc" / "sub" / "7").write_text("changed")
    scene.publish()
    scene.upload()
    second = tmp_path / "second"
    assert scene.join(second).returncode == 0
    for path in scene.objects():
        path.unlink()
    for path, content in old.items():
        path.write_bytes(content)
    ended = scene.join(second, "--force")
    assert ended.returncode == 1
    assert "the folder was put back to an older state" in ended.stderr
    assert (scene.live / "etc" / "sub" / "7").read_text() == "changed"
    scene.clouding = scene.begun()
    assert "was put back to an older state" in scene.upload()


def test_a_server_killed_in_the_middle_of_an_upload_is_gone_on_with(scene: Scene) -> None:
    (scene.live / "etc" / "big2").write_bytes(os.urandom(30_000_000))
    scene.publish()
    folder = WebDav(scene.apache.settings)
    plain_write = folder.write
    count = 0

    def write(path: str, content: bytes) -> None:
        nonlocal count
        count += 1
        if count == 4:
            scene.apache.stop(signal.SIGKILL)
        plain_write(path, content)

    folder.write = write  # type: ignore[method-assign]
    with pytest.raises(Unreachable):
        scene.clouding._pass("sbc", folder)
    folder.close()
    scene.apache.start()
    there = {path.name for path in scene.objects() if not path.name.startswith("new-")}
    assert 3 <= len(there) < 10
    before = {path: path.stat().st_mtime_ns for path in scene.objects()}
    scene.upload()
    for path, changed_ns in before.items():
        if not path.name.startswith("new-"):
            assert path.stat().st_mtime_ns == changed_ns
    assert not [path for path in scene.objects() if path.name.startswith("new-")]


def test_a_full_server_is_said_and_the_older_version_stays(scene: Scene, tmp_path: Path) -> None:
    disk = scene.apache.files / "keep"
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m,mode=0777", "none", str(disk)], check=True
    )
    try:
        scene.upload()
        (scene.live / "etc" / "sub" / "7").write_bytes(os.urandom(3_000_000))
        (scene.live / "etc" / "more").write_bytes(os.urandom(3_000_000))
        scene.publish()
        with pytest.raises(Refused, match=r"is full \(507\); make room there"):
            scene.upload()
        assert scene.join(tmp_path / "second").returncode == 0
        assert (scene.live / "etc" / "sub" / "7").read_text() == "setting 7\n" * 100
    finally:
        scene.apache.stop()
        subprocess.run(["umount", str(disk)], check=True)


def test_paths_that_the_configuration_does_not_declare_are_never_written(
    scene: Scene, tmp_path: Path
) -> None:
    """Whoever has the key and the folder, but not the configuration, cannot write elsewhere."""
    outside = tmp_path / "outside"
    carried = CarriedSettings(files=(f"{outside}/",))
    outside.mkdir()
    (outside / "evil").write_text("evil")
    tree = Tree(declared(carried))
    tree.look()
    scene.upload()
    for entry in tree.entries.values():
        if entry.kind == "file":
            scene._adopt(entry)
    wicked = Version("sbc", 99, 9, 1, "lon1", dict(sorted(tree.entries.items())))

    class WickedShelf(Shelf):
        def current(self) -> Version | None:
            return wicked

        def current_digest(self) -> str:
            return wicked.digest

    scene.shelf = WickedShelf(scene.state, "sbc", declared(scene.carried))
    scene.upload()
    (outside / "evil").unlink()
    ended = scene.join(tmp_path / "second")
    assert ended.returncode == 1
    assert "is not declared in the settings of this group here" in ended.stderr
    assert list(outside.iterdir()) == []


def test_nothing_of_the_names_or_contents_is_seen_there(scene: Scene) -> None:
    scene.upload()
    whole = b"".join(path.read_bytes() for path in scene.objects())
    words = (b"setting 1", b"licence", b"counts", b"callcentre", str(scene.live).encode())
    for word in words:
        assert word not in whole
    assert all(len(path.name) == 64 and len(path.parent.name) == 64 for path in scene.objects())
