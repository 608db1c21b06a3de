# SPDX-License-Identifier: GPL-2.0-or-later
"""Declared files are read and replaced, and nothing else is, whoever plays with the folders."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from agent.core.manifest import Declared, Entry
from agent.ports import PortError, Refused, Unreachable
from drivers.inotify import FolderWatch
from drivers.staging import Staging, local_ids, new_token, replace_file
from drivers.tree import Tree

APP = Declared(
    ("/etc/app", "/etc/app.licence"), frozenset({"/etc/app"}), ("/etc/app/own",), "/var/status"
)
STRANGER = 41_234  # a uid and gid that nobody has


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "etc/app/sub").mkdir(parents=True)
    (tmp_path / "etc/app/a.conf").write_text("one")
    (tmp_path / "etc/app/sub/b.conf").write_text("two")
    (tmp_path / "etc/app.licence").write_text("L")
    (tmp_path / "etc/secret").write_text("secret")
    return tmp_path


def looked(root: Path, allowed: Declared = APP) -> Tree:
    tree = Tree(allowed, str(root))
    tree.look()
    return tree


def filler(content: bytes) -> Callable[[int], None]:
    def fill(into: int) -> None:
        os.write(into, content)

    return fill


def entry(path: str, content: bytes = b"", kind: str = "file", **more: object) -> Entry:
    said = {"mode": 0o640, "owner": "root", "group": "root", "uid": 0, "gid": 0} | more
    if kind == "file":
        said |= {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    return Entry(path=path, kind=kind, **said)  # type: ignore[arg-type]


def place(root: Path, files: dict[str, bytes], *rest: Entry, extra: tuple[str, ...] = ()) -> None:
    hands = Staging(APP, new_token(), str(root))
    entries = {number: entry(path, content) for number, (path, content) in enumerate(files.items())}
    for number, one in entries.items():
        hands.stage(number, one, filler(files[one.path]))
    hands.settle()
    hands.place(entries, rest, extra)


# ---------------------------------------------------------------- looking


def test_what_is_declared_is_seen_and_nothing_else(root: Path) -> None:
    (root / "etc/app/own").mkdir()
    (root / "etc/app/own/local").write_text("mine")
    tree = looked(root)
    assert set(tree.entries) == {
        "/etc/app",
        "/etc/app/a.conf",
        "/etc/app/sub",
        "/etc/app/sub/b.conf",
        "/etc/app.licence",
    }
    seen = tree.entries["/etc/app/a.conf"]
    assert (seen.size, seen.sha256) == (3, hashlib.sha256(b"one").hexdigest())


def test_who_owns_a_file_is_seen_by_name_or_by_number(root: Path) -> None:
    os.chown(root / "etc/app/a.conf", STRANGER, STRANGER)
    tree = looked(root)
    assert tree.entries["/etc/app/a.conf"].owner == str(STRANGER)
    assert tree.entries["/etc/app/sub/b.conf"].owner == "root"


def test_a_file_that_makes_its_user_another_one_loses_that(root: Path) -> None:
    (root / "etc/app/a.conf").chmod(0o4755)
    assert looked(root).entries["/etc/app/a.conf"].mode == 0o755


@pytest.mark.parametrize("target", ["/etc/secret", "../secret", "sub/../../secret", "../../x"])
def test_a_link_that_leads_out_is_left_out_and_said(root: Path, target: str) -> None:
    (root / "etc/app/link").symlink_to(target)
    tree = looked(root)
    assert "/etc/app/link" not in tree.entries
    assert "link" in tree.left_out["/etc/app/link"]


def test_a_link_that_stays_inside_is_carried_as_a_link(root: Path) -> None:
    (root / "etc/app/sub/link").symlink_to("../a.conf")
    assert looked(root).entries["/etc/app/sub/link"].target == "../a.conf"


def test_a_socket_a_fifo_and_a_device_are_left_out_unopened(root: Path) -> None:
    os.mkfifo(root / "etc/app/fifo")
    os.mknod(root / "etc/app/device", 0o600 | 0o020000, os.makedev(1, 3))
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(str(root / "etc/app/door"))
        tree = looked(root)
    assert set(tree.left_out) == {"/etc/app/fifo", "/etc/app/device", "/etc/app/door"}


def test_a_link_on_the_way_to_a_declared_path_is_not_followed(root: Path) -> None:
    (root / "etc").rename(root / "real")
    (root / "etc").symlink_to("real")
    tree = looked(root)
    assert tree.entries == {}
    assert "name the real path" in tree.left_out["/etc/app"]


def test_only_what_changed_is_read_again(root: Path) -> None:
    tree = looked(root)
    time.sleep(0.06)  # so that the time of the change says that it is over
    tree.look()
    old = os.stat(root / "etc/app/a.conf")
    before = tree.entries["/etc/app/a.conf"]
    tree.look()
    assert tree.entries["/etc/app/a.conf"] is before
    (root / "etc/app/a.conf").write_text("new")
    os.utime(root / "etc/app/a.conf", ns=(old.st_atime_ns, old.st_mtime_ns))
    tree.look({"/etc/app"})
    assert tree.entries["/etc/app/a.conf"].sha256 == hashlib.sha256(b"new").hexdigest()


def test_a_look_at_one_folder_finds_what_went_and_what_is_new_below_it(root: Path) -> None:
    tree = looked(root)
    (root / "etc/app/a.conf").unlink()
    (root / "etc/app/fresh/deep").mkdir(parents=True)
    (root / "etc/app/fresh/deep/c").write_text("three")
    (root / "etc/app/sub").rename(root / "etc/app/moved")
    tree.look({"/etc/app"})
    assert {"/etc/app/fresh/deep/c", "/etc/app/moved/b.conf"} <= set(tree.entries)
    assert not {"/etc/app/a.conf", "/etc/app/sub", "/etc/app/sub/b.conf"} & set(tree.entries)


def test_a_declared_file_that_is_a_folder_is_said(root: Path) -> None:
    (root / "etc/app.licence").unlink()
    (root / "etc/app.licence").mkdir()
    assert "folder" in looked(root).left_out["/etc/app.licence"]


# ---------------------------------------------------------------- reading


@pytest.mark.parametrize("path", ["/etc/secret", "/etc/app/../secret", "/etc/app/own/x", "etc/app"])
def test_what_is_not_declared_is_not_read(root: Path, path: str) -> None:
    with pytest.raises(Refused), looked(root).reading(path):
        pass


def test_a_file_that_is_being_written_is_not_read(root: Path) -> None:
    tree = Tree(APP, str(root))
    (root / "var").mkdir()
    with (root / "var/status").open("w") as writer, (root / "copy").open("wb") as copy:
        writer.write("half")
        writer.flush()
        stop = threading.Event()

        def go_on() -> None:
            while not stop.wait(0.005):
                writer.write("x")
                writer.flush()

        busy = threading.Thread(target=go_on)
        busy.start()
        with pytest.raises(Unreachable):
            tree.snapshot("/var/status", copy.fileno())
        stop.set()
        busy.join()
    with (root / "copy").open("wb") as copy:
        assert tree.snapshot("/var/status", copy.fileno()).size == (root / "copy").stat().st_size


def test_a_folder_that_is_swapped_for_a_link_never_leads_out(root: Path) -> None:
    """Somebody who may write in the tree swaps a folder for a link to the secret's, for ever."""
    secrets_folder = root / "hidden"
    secrets_folder.mkdir()
    (secrets_folder / "b.conf").write_text("secret")
    real, link, name = root / "etc/app/sub", root / "etc/app/.link", root / "etc/app/.real"
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            link.symlink_to(secrets_folder)
            real.rename(name)
            link.rename(real)
            real.unlink()
            name.rename(real)

    racer = threading.Thread(target=swap)
    racer.start()
    leaked, written, looks = 0, 0, 0
    secret = hashlib.sha256(b"secret").hexdigest()
    until_s = time.monotonic() + 3
    try:
        while time.monotonic() < until_s:
            looks += 1
            tree = looked(root)
            leaked += any(found.sha256 == secret for found in tree.entries.values())
            with suppress(PortError), tree.reading("/etc/app/sub/b.conf") as source:
                leaked += os.read(source, 10) == b"secret"
            with suppress(PortError):
                place(root, {"/etc/app/sub/b.conf": b"two"})
            written += (secrets_folder / "b.conf").read_text() != "secret"
    finally:
        stop.set()
        racer.join()
    assert looks > 10
    assert (leaked, written) == (0, 0)


# ---------------------------------------------------------------- replacing


def test_files_folders_and_links_are_put_in_their_place(root: Path) -> None:
    place(
        root,
        {"/etc/app/a.conf": b"new", "/etc/app/deep/c.conf": b"three"},
        entry("/etc/app/deep", kind="dir", mode=0o2750, uid=STRANGER, owner=str(STRANGER)),
        entry("/etc/app/link", kind="link", target="a.conf", mode=0o777),
        extra=("/etc/app/sub", "/etc/app/sub/b.conf"),
    )
    assert (root / "etc/app/a.conf").read_text() == "new"
    assert (root / "etc/app/deep/c.conf").stat().st_mode & 0o777 == 0o640
    deep = (root / "etc/app/deep").stat()
    assert (deep.st_uid, deep.st_mode & 0o7777) == (STRANGER, 0o2750)
    assert os.readlink(root / "etc/app/link") == "a.conf"
    assert sorted(os.listdir(root / "etc/app")) == ["a.conf", "deep", "link"]


def test_a_folder_makes_way_for_a_file_and_a_file_for_a_folder(root: Path) -> None:
    place(
        root,
        {"/etc/app/sub": b"file now", "/etc/app/a.conf/inside": b"x"},
        entry("/etc/app/a.conf", kind="dir", mode=0o755),
        extra=("/etc/app/sub/b.conf",),
    )
    assert (root / "etc/app/sub").read_text() == "file now"
    assert (root / "etc/app/a.conf/inside").read_text() == "x"


def test_a_hard_link_to_something_else_is_broken_and_not_written_through(root: Path) -> None:
    (root / "etc/app/a.conf").unlink()
    os.link(root / "etc/secret", root / "etc/app/a.conf")
    place(root, {"/etc/app/a.conf": b"new"})
    assert (root / "etc/secret").read_text() == "secret"
    assert (root / "etc/app/a.conf").read_text() == "new"


def test_a_link_in_the_place_of_a_file_is_replaced_and_not_followed(root: Path) -> None:
    (root / "etc/app/a.conf").unlink()
    (root / "etc/app/a.conf").symlink_to(root / "etc/secret")
    place(root, {"/etc/app/a.conf": b"new"})
    assert (root / "etc/secret").read_text() == "secret"
    assert not (root / "etc/app/a.conf").is_symlink()


def test_nothing_outside_the_declared_paths_is_written(root: Path) -> None:
    with pytest.raises(Refused, match="not declared"):
        place(root, {"/etc/secret": b"mine"})
    for entry_or_path in (entry("/etc/shadow.d", kind="dir"), entry("/etc/app/own", kind="dir")):
        with pytest.raises(Refused, match="not declared"):
            place(root, {}, entry_or_path)
    with pytest.raises(Refused, match="not declared"):
        place(root, {}, extra=("/etc/secret",))
    assert (root / "etc/secret").read_text() == "secret"


def test_what_belongs_to_the_node_survives_the_removal_of_its_folder(root: Path) -> None:
    allowed = Declared(("/etc/app",), frozenset({"/etc/app"}), ("/etc/app/sub/own",))
    (root / "etc/app/sub/own").write_text("mine")
    hands = Staging(allowed, new_token(), str(root))
    hands.place({}, (), ("/etc/app/sub", "/etc/app/sub/b.conf"))
    assert sorted(os.listdir(root / "etc/app/sub")) == ["own"]


def test_placing_that_was_cut_is_done_again_with_the_same_end(root: Path) -> None:
    token = new_token()
    files = {0: entry("/etc/app/a.conf", b"A"), 1: entry("/etc/app/sub/b.conf", b"B")}
    first = Staging(APP, token, str(root))
    for number, one in files.items():
        first.stage(number, one, filler(one.path[-6:].encode()))
    (root / f"etc/app/.standpipe-{token}/0").rename(root / "etc/app/a.conf")
    Staging(APP, token, str(root)).place(files, (), ())
    assert (root / "etc/app/a.conf").read_text() == "a.conf"
    assert (root / "etc/app/sub/b.conf").read_text() == "b.conf"
    assert not list((root / "etc/app").glob(".standpipe-*"))


def test_what_was_left_aside_is_swept_away_and_never_seen(root: Path) -> None:
    hands = Staging(APP, new_token(), str(root))
    hands.stage(0, entry("/etc/app/a.conf", b"A"), filler(b"A"))
    assert len(looked(root).entries) == 5
    Staging(APP, new_token(), str(root)).sweep()
    assert not list((root / "etc/app").glob(".standpipe-*"))


def test_a_disk_that_is_full_is_refused_before_anything_is_touched(root: Path) -> None:
    huge = replace(entry("/etc/app/a.conf", b"new"), size=1 << 60)
    with pytest.raises(Refused, match=f"no room for {1 << 60} bytes"):
        Staging(APP, new_token(), str(root)).check_room([huge])
    with pytest.raises(Refused, match="no room"):
        replace_file(replace(huge, path="/var/status"), filler(b"new"), str(root))


def test_the_owner_goes_by_name_and_by_number_where_nobody_has_the_name() -> None:
    assert local_ids(entry("/x", owner="root", uid=77)) == (0, 0)
    assert local_ids(entry("/x", owner="nobody-has-this", uid=77)) == (77, 0)


def test_a_status_is_replaced_whole_with_owner_mode_and_time(root: Path) -> None:
    (root / "var").mkdir()
    (root / "var/status").write_text("old")
    said = entry("/var/status", b"new", uid=STRANGER, owner=str(STRANGER), mtime_ns=10**18)
    replace_file(said, filler(b"new"), str(root))
    found = (root / "var/status").stat()
    assert (root / "var/status").read_text() == "new"
    assert (found.st_uid, found.st_mode & 0o777, found.st_mtime_ns) == (STRANGER, 0o640, 10**18)
    assert os.listdir(root / "var") == ["status"]


def test_a_status_whose_filling_fails_leaves_the_old_one(root: Path) -> None:
    (root / "var").mkdir()
    (root / "var/status").write_text("old")

    def fails(into: int) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(Refused, match="make room"):
        replace_file(entry("/var/status", b"new"), fails, str(root))
    assert (root / "var/status").read_text() == "old"
    assert os.listdir(root / "var") == ["status"]


# ---------------------------------------------------------------- being told


def test_changes_are_told_by_folder_and_by_name(root: Path) -> None:
    watch = FolderWatch(str(root))
    everything = {"/etc/app": frozenset[str](), "/etc": frozenset({"app.licence"})}
    assert sorted(watch.watch(everything)) == ["/etc", "/etc/app"]
    assert watch.watch(everything) == []
    (root / "etc/app/a.conf").write_text("x")
    (root / "etc/other").write_text("x")
    (root / "etc/app/.standpipe-0123456789abcdef").mkdir()
    news = watch.receive()
    assert (news.folders, news.names) == ({"/etc/app"}, {"/etc/app/a.conf"})
    (root / "etc/app.licence").write_text("x")
    assert watch.receive().names == {"/etc/app.licence"}
    watch.close()


def test_a_folder_that_was_replaced_is_watched_again(root: Path) -> None:
    watch = FolderWatch(str(root))
    folders = {"/etc/app/sub": frozenset[str]()}
    watch.watch(folders)
    (root / "etc/app/sub").rename(root / "old")
    (root / "etc/app/sub").mkdir()
    assert watch.receive().folders == {"/etc/app/sub"}
    assert watch.watch(folders) == ["/etc/app/sub"]
    (root / "old/b.conf").write_text("x")
    assert watch.receive().folders == set()
    (root / "etc/app/sub/c.conf").write_text("x")
    assert watch.receive().folders == {"/etc/app/sub"}
    watch.close()
