# SPDX-License-Identifier: GPL-2.0-or-later
"""Puts a version of settings, or a status, where a service reads it: aside first, then renamed.

New files are made in a folder of ours, .standpipe-TOKEN, in the declared tree or beside the
declared file, so on the same file system; nothing that is there is touched until all of them are on
disk. Then each is renamed into its place. That may be cut anywhere and done again: `place` ends
with the same tree. Nothing that was there before is opened to write, so that a hard link to a file
outside is broken and not written through. Blocking, for one thread.
"""

import contextlib
import ctypes
import grp
import os
import pwd
import secrets
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from agent.core.manifest import STAGE, Declared, Entry
from agent.ports import Refused
from drivers.folders import FOLDER, make_folders, opened_folder, told

LEAST_FREE_BYTES = 64 << 20
LEAST_FREE_SHARE = 0.05
FEW = 32  # so many are made durable one by one, more of them by syncfs(2)
NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

Fill = Callable[[int], None]  # writes a file's content to a descriptor

_libc = ctypes.CDLL(None, use_errno=True)


def new_token() -> str:
    return secrets.token_hex(8)


def local_ids(entry: Entry) -> tuple[int, int]:
    """The uid and gid on this host of an entry's owner: by name, else by number."""
    try:
        uid = pwd.getpwnam(entry.owner).pw_uid
    except KeyError:
        uid = entry.uid
    try:
        gid = grp.getgrnam(entry.group).gr_gid
    except KeyError:
        gid = entry.gid
    return uid, gid


def spare_bytes(path: str) -> int:
    """What may still be written to the file system of `path`, which is there."""
    room = os.statvfs(path)
    kept = max(LEAST_FREE_BYTES, int(room.f_blocks * room.f_frsize * LEAST_FREE_SHARE))
    return room.f_bavail * room.f_frsize - kept


def _there(root: str, path: str) -> str:
    """The folder below `root` that will hold `path`, or the first above it that is there."""
    while not os.path.isdir(found := root.rstrip("/") + path):
        path = os.path.dirname(path)
    return found


class Staging:
    """One version on its way. token: of an earlier one that was cut, to go on with it."""

    def __init__(self, allowed: Declared, token: str, root: str = "/") -> None:
        self._allowed = allowed
        self._root = root
        self._staged = 0
        self._name = f".standpipe-{token}"
        assert STAGE.fullmatch(self._name)

    def check_room(self, entries: Iterable[Entry]) -> None:
        """Raises Refused where they do not fit beside what is there."""
        needed: dict[int, tuple[str, int]] = {}
        for entry in entries:
            home = _there(self._root, self._home(entry.path))
            device = os.stat(home).st_dev
            _, so_far = needed.get(device, (home, 0))
            needed[device] = home, so_far + entry.size
        for home, size_bytes in needed.values():
            if size_bytes > spare_bytes(home):
                raise Refused(
                    f"{home}: no room for {size_bytes} bytes beside what must stay free; make room,"
                    " what is there stays as it is"
                )

    def stage(self, number: int, entry: Entry, fill: Fill) -> None:
        """Makes a file aside. Raises Refused."""
        try:
            with self._stage_of(entry.path, make=True) as stage:
                made = os.open(str(number), NEW, 0o600, dir_fd=stage)
                try:
                    fill(made)
                    _own(made, entry)
                    self._staged += 1
                    if self._staged <= FEW:
                        os.fsync(made)
                finally:
                    os.close(made)
        except OSError as error:
            raise Refused(f"{entry.path}: {told(entry.path, error)}") from error

    def settle(self) -> None:
        """All that was staged is on disk when it returns. Raises Refused."""
        for home in self._homes() if self._staged > FEW else ():
            self._attempt(home, partial(_sync_path, home, self._root))

    def place(
        self, files: Mapping[int, Entry], rest: Sequence[Entry], extra: Sequence[str]
    ) -> None:
        """Every file into its place, every folder and link of `rest` made, `extra` gone.

        files: number in the stage -> entry. On disk when it returns. Raises Refused.
        """
        for path in sorted(extra, reverse=True):
            self._act(path, partial(self._remove, path))
        for entry in rest:
            if entry.kind == "dir":
                self._act(entry.path, partial(self._make_folder, entry))
        for number, entry in files.items():
            self._act(entry.path, partial(self._rename, number, entry))
        for entry in rest:
            if entry.kind == "link":
                self._act(entry.path, partial(self._link, entry))
        changed = {*(e.path for e in files.values()), *(e.path for e in rest), *extra}
        folders = {os.path.dirname(path) for path in changed}
        if len(folders) <= FEW:
            for folder in folders:
                self._attempt(folder, partial(_sync_folder, folder, self._root))
        else:
            for home in self._homes():
                self._attempt(home, partial(_sync_path, home, self._root))
        self.clear()

    def clear(self) -> None:
        """Nothing of ours is left aside."""
        for home in self._homes():
            with contextlib.suppress(OSError), opened_folder(home, self._root) as folder:
                _sweep(folder, self._name)

    def sweep(self) -> None:
        """Nothing of any earlier one either."""
        for home in self._homes():
            with contextlib.suppress(OSError), opened_folder(home, self._root) as folder:
                for name in os.listdir(folder):
                    if STAGE.fullmatch(name):
                        _sweep(folder, name)

    # ------------------------------------------------------------ inside

    def _act(self, path: str, act: Callable[[], None]) -> None:
        if not self._allowed.covers(path):
            raise Refused(f"{path}: is not declared in the settings of this group")
        self._attempt(path, act)

    def _attempt(self, path: str, act: Callable[[], None]) -> None:
        try:
            act()
        except OSError as error:
            raise Refused(f"{path}: {told(path, error)}") from error

    def _home(self, path: str) -> str:
        """The folder that holds the stage for `path`."""
        root = self._allowed.root_of(path)
        if not root:
            raise Refused(f"{path}: is not declared in the settings of this group")
        return root if root in self._allowed.trees else os.path.dirname(root)

    def _homes(self) -> list[str]:
        return list(dict.fromkeys(map(self._home, self._allowed.roots)))

    @contextlib.contextmanager
    def _stage_of(self, path: str, make: bool = False) -> Iterator[int]:
        home = self._home(path)
        if make:
            make_folders(home, self._root)
        with opened_folder(home, self._root) as folder:
            if make:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(self._name, 0o700, dir_fd=folder)
            stage = os.open(self._name, FOLDER, dir_fd=folder)
            try:
                yield stage
            finally:
                os.close(stage)

    def _rename(self, number: int, entry: Entry) -> None:
        parent, name = os.path.split(entry.path)
        with opened_folder(parent, self._root) as folder:
            try:
                with self._stage_of(entry.path) as stage:
                    _clear_folder(folder, name)
                    os.rename(str(number), name, src_dir_fd=stage, dst_dir_fd=folder)
            except FileNotFoundError:  # renamed before this was cut
                os.stat(name, dir_fd=folder, follow_symlinks=False)

    def _link(self, entry: Entry) -> None:
        parent, name = os.path.split(entry.path)
        uid, gid = local_ids(entry)
        with (
            opened_folder(parent, self._root) as folder,
            self._stage_of(entry.path, make=True) as stage,
        ):
            with contextlib.suppress(FileNotFoundError):
                os.unlink("link", dir_fd=stage)
            os.symlink(entry.target, "link", dir_fd=stage)
            if (uid, gid) != (os.geteuid(), os.getegid()):
                os.chown("link", uid, gid, dir_fd=stage, follow_symlinks=False)
            _clear_folder(folder, name)
            os.rename("link", name, src_dir_fd=stage, dst_dir_fd=folder)

    def _make_folder(self, entry: Entry) -> None:
        parent, name = os.path.split(entry.path)
        with opened_folder(parent, self._root) as folder:
            with contextlib.suppress(FileNotFoundError):
                if not stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                    os.unlink(name, dir_fd=folder)
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, 0o700, dir_fd=folder)
            made = os.open(name, FOLDER, dir_fd=folder)
            try:
                _own(made, entry)
            finally:
                os.close(made)

    def _remove(self, path: str) -> None:
        """A file or link, or a folder unless it holds what is a node's own."""
        parent, name = os.path.split(path)
        with contextlib.suppress(FileNotFoundError), opened_folder(parent, self._root) as folder:
            if stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                with contextlib.suppress(OSError):
                    os.rmdir(name, dir_fd=folder)
            else:
                os.unlink(name, dir_fd=folder)


def replace_file(entry: Entry, fill: Fill, root: str = "/") -> None:
    """One file, such as the status: whole or as it was. On disk when it returns. Raises Refused."""
    parent, name = os.path.split(entry.path)
    aside = f".standpipe-{new_token()}"
    try:
        if entry.size > spare_bytes(_there(root, parent)):
            raise Refused(f"{entry.path}: no room for {entry.size} bytes; make room")
        make_folders(parent, root)
        with opened_folder(parent, root) as folder:
            try:
                made = os.open(aside, NEW, 0o600, dir_fd=folder)
                try:
                    fill(made)
                    _own(made, entry)
                    os.fsync(made)
                finally:
                    os.close(made)
                os.rename(aside, name, src_dir_fd=folder, dst_dir_fd=folder)
                os.fsync(folder)
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(aside, dir_fd=folder)
    except OSError as error:
        raise Refused(f"{entry.path}: {told(entry.path, error)}") from error


def sync_system(folder: Path) -> None:
    """All of its file system is on disk when it returns. Raises OSError."""
    _sync_path(str(folder))


def _sync_path(path: str, root: str = "/") -> None:
    with contextlib.suppress(FileNotFoundError), opened_folder(path, root) as folder:
        if _libc.syncfs(folder) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))


def _sync_folder(path: str, root: str) -> None:
    gone = contextlib.suppress(FileNotFoundError, NotADirectoryError)
    with gone, opened_folder(path, root) as folder:
        os.fsync(folder)


def _own(made: int, entry: Entry) -> None:
    uid, gid = local_ids(entry)
    now = os.fstat(made)
    if (now.st_uid, now.st_gid) != (uid, gid):
        os.fchown(made, uid, gid)
    os.fchmod(made, entry.mode)
    if entry.kind == "file":
        os.utime(made, ns=(entry.mtime_ns, entry.mtime_ns))


def _clear_folder(folder: int, name: str) -> None:
    """An empty folder makes way for a file or link of its name."""
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            os.rmdir(name, dir_fd=folder)


def _sweep(folder: int, name: str) -> None:
    """A stage of ours with the files in it, or a single file."""
    if not stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
        os.unlink(name, dir_fd=folder)
        return
    stage = os.open(name, FOLDER, dir_fd=folder)
    try:
        for left in os.listdir(stage):
            os.unlink(left, dir_fd=stage)
    finally:
        os.close(stage)
    os.rmdir(name, dir_fd=folder)
