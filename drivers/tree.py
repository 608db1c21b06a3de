# SPDX-License-Identifier: GPL-2.0-or-later
"""The declared files of one group on this host, looked at and read without following any link.

A file is opened by O_PATH first and read only once it is seen to be a plain file: opening a device
or a FIFO has effects. It is read as it was at one moment, or not at all. Blocking, for one thread.
"""

import contextlib
import errno
import fcntl
import grp
import hashlib
import os
import pwd
import signal
import stat
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from agent.core.manifest import (
    FILE_MODE,
    FOLDER_MODE,
    MOST_ENTRIES,
    MOST_LEFT_OUT,
    STAGE,
    Declared,
    Entry,
    link_trouble,
    path_trouble,
)
from agent.ports import PortError, Refused, Unreachable
from drivers.folders import FOLDER, Descriptor, opened_folder, told

PIECE_BYTES = 256 * 1024
DEEPEST = 64
READ_AGAIN = 10
READ_AGAIN_S = 0.01
QUIET_NS = 100_000_000  # a file that somebody keeps open is whole once it lay still so long ...
UNASKED_NS = 30_000_000  # ... and where nobody may say whether somebody does
TICK_NS = 50_000_000  # two changes within this may leave the same time behind

Stamp = tuple[int, ...]


class Unsettled(Unreachable):
    """Somebody is writing it."""


class Tree:
    """What lies under the declared paths.

    root: what stands for /. entries: as of the last `look`. left_out: what is there and cannot be
    carried, and why. unsettled: what was being written.
    """

    def __init__(self, allowed: Declared, root: str = "/") -> None:
        self.allowed = allowed
        self._root = root
        self.entries: dict[str, Entry] = {}
        self.left_out: dict[str, str] = {}
        self.unsettled: set[str] = set()
        self._stamps: dict[str, Stamp] = {}
        self._names: dict[tuple[str, int], str] = {}

    # ------------------------------------------------------------ looking

    def look(self, only: Collection[str] | None = None) -> None:
        """Reads what changed, in the folders `only` or everywhere. Raises Refused."""
        self._names.clear()
        if only is None:
            self.left_out.clear()
            before, self.entries = self.entries, {}
            self.unsettled.clear()
            for root in self.allowed.roots:
                self._look_at(root, before)
            return
        for path in sorted(only):
            self._look_again(path)

    def _look_again(self, path: str) -> None:
        """One folder: what is in it, and all of what is new below it."""
        for root in self.allowed.roots:
            if path == os.path.dirname(root):
                old = {
                    p: e for p, e in self.entries.items() if p == root or p.startswith(root + "/")
                }
                self.entries = {p: e for p, e in self.entries.items() if p not in old}
                self._look_at(root, old)
        found = self.entries.get(path)
        if found is None or found.kind != "dir" or not self.allowed.covers(path):
            return
        try:
            with opened_folder(path, self._root) as folder:
                depth = path.count("/") - self.allowed.root_of(path).count("/")
                self._list(folder, path, depth, self.entries, new_only=True)
        except OSError:
            self._forget(path)  # it went; its parent will tell

    def _look_at(self, root: str, before: dict[str, Entry]) -> None:
        parent, name = os.path.split(root)
        try:
            with opened_folder(parent, self._root) as folder:
                self._visit(folder, name, root, 0, before)
        except FileNotFoundError:
            return
        except OSError as error:
            self._leave_out(root, told(root, error))

    def _list(
        self, folder: int, path: str, depth: int, before: dict[str, Entry], new_only: bool = False
    ) -> None:
        names = [name for name in os.listdir(folder) if not STAGE.fullmatch(name)]
        if new_only:
            start = path + "/"
            below = [p[len(start) :] for p in self.entries if p.startswith(start)]
            for name in {part for part in below if "/" not in part}.difference(names):
                self._forget(start + name)
            for old in [p for p in self.left_out if os.path.dirname(p) == path]:
                del self.left_out[old]
        for name in names:
            self._visit(folder, name, f"{path}/{name}", depth + 1, before, new_only)

    def _visit(
        self,
        folder: int,
        name: str,
        path: str,
        depth: int,
        before: dict[str, Entry],
        new_only: bool = False,
    ) -> None:
        """One name, whatever it is; what is wrong with it is no fault of the others."""
        if not self.allowed.covers(path):
            return
        why = path_trouble(path)
        if depth > DEEPEST:
            why = f"lies more than {DEEPEST} folders deep"
        if len(self.entries) >= MOST_ENTRIES:
            why = f"more than {MOST_ENTRIES} files"
        if why:
            self._leave_out(path, why)
            return
        try:
            self._one(folder, name, path, depth, before, new_only)
        except FileNotFoundError:
            self._forget(path)
        except Unsettled:
            self.unsettled.add(path)
            if path in before:
                self.entries[path] = before[path]
        except OSError as error:
            self._forget(path)
            self._leave_out(path, told(path, error))

    def _one(
        self,
        folder: int,
        name: str,
        path: str,
        depth: int,
        before: dict[str, Entry],
        new_only: bool,
    ) -> None:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        known = self.entries.get(path)
        if path in self.allowed.roots and stat.S_ISDIR(found.st_mode) != (
            path in self.allowed.trees
        ):
            self._leave_out(
                path, "a folder has a / at the end of its path in the settings, a file none"
            )
            return
        if stat.S_ISDIR(found.st_mode):
            self.entries[path] = self._entry(path, "dir", found)
            if new_only and known is not None and known.kind == "dir":
                return
            with contextlib.closing(Descriptor(os.open(name, FOLDER, dir_fd=folder))) as below:
                self._list(below.number, path, depth, before)
            return
        if known is not None and known.kind == "dir":
            self._forget(path)
        if stat.S_ISLNK(found.st_mode):
            self._link(folder, name, path, found)
        elif stat.S_ISREG(found.st_mode):
            self._file(folder, name, path, found, before)
        else:
            self._forget(path)
            self._leave_out(path, "is no file, folder or link")

    def _link(self, folder: int, name: str, path: str, found: os.stat_result) -> None:
        target = os.readlink(name, dir_fd=folder)
        trouble = link_trouble(path, target, self.allowed.root_of(path))
        if trouble:
            self._forget(path)
            self._leave_out(path, trouble)
        else:
            self.entries[path] = self._entry(path, "link", found, target=target)

    def _file(
        self, folder: int, name: str, path: str, found: os.stat_result, before: dict[str, Entry]
    ) -> None:
        known = before.get(path)
        if known is not None and known.kind == "file" and self._stamps.get(path) == _stamp(found):
            self.entries[path] = known
            return
        self._stamps.pop(path, None)
        with _plain_file(folder, name) as source:
            found, sha256 = whole(path, source)
        self.unsettled.discard(path)
        self.entries[path] = self._entry(path, "file", found, sha256=sha256)
        if time.time_ns() - max(found.st_mtime_ns, found.st_ctime_ns) > TICK_NS:
            self._stamps[path] = _stamp(found)

    def _entry(
        self, path: str, kind: str, found: os.stat_result, sha256: str = "", target: str = ""
    ) -> Entry:
        most = FOLDER_MODE if kind == "dir" else FILE_MODE
        return Entry(
            path,
            kind,
            stat.S_IMODE(found.st_mode) & most,
            self._name("u", found.st_uid),
            self._name("g", found.st_gid),
            found.st_uid,
            found.st_gid,
            found.st_size if kind == "file" else 0,
            max(0, found.st_mtime_ns),
            sha256,
            target,
        )

    def _name(self, kind: str, number: int) -> str:
        """A user's or group's; what has none keeps its number."""
        if (kind, number) not in self._names:
            try:
                name = pwd.getpwuid(number).pw_name if kind == "u" else grp.getgrgid(number).gr_name
            except KeyError:
                name = str(number)
            self._names[kind, number] = name
        return self._names[kind, number]

    def _forget(self, path: str) -> None:
        """It is not there any more, nor what was below it."""
        was = self.entries.pop(path, None)
        if was is not None and was.kind == "dir":
            for old in [p for p in self.entries if p.startswith(path + "/")]:
                del self.entries[old]
        self.unsettled.discard(path)

    def _leave_out(self, path: str, why: str) -> None:
        if len(self.left_out) < MOST_LEFT_OUT:
            self.left_out[path] = why

    # ------------------------------------------------------------ reading

    @contextmanager
    def reading(self, path: str) -> Iterator[int]:
        """A descriptor of a plain file under a declared path. Raises Refused, Unreachable."""
        if path_trouble(path) or not (self.allowed.covers(path) or path == self.allowed.status):
            raise Refused(f"{path}: is not declared in the settings of this group")
        parent, name = os.path.split(path)
        try:
            with opened_folder(parent, self._root) as folder, _plain_file(folder, name) as source:
                yield source
        except OSError as error:
            raise _refused(path, error) from error

    def snapshot(self, path: str, into: int) -> Entry:
        """Copies a file to the descriptor `into` as it was at one moment, and says what it was.

        Raises Unsettled where it is being written, Refused.
        """
        with self.reading(path) as source:
            found, sha256 = whole(path, source, into)
        return self._entry(path, "file", found, sha256=sha256)


@contextmanager
def _plain_file(folder: int, name: str) -> Iterator[int]:
    flags = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
    with contextlib.closing(Descriptor(os.open(name, flags, dir_fd=folder))) as seen:
        if not stat.S_ISREG(os.fstat(seen.number).st_mode):
            raise Unsettled(f"{name}: was swapped for something else while it was read")
        again = os.open(f"/proc/self/fd/{seen.number}", os.O_RDONLY | os.O_CLOEXEC)
        with contextlib.closing(Descriptor(again)) as source:
            yield source.number


def whole(path: str, source: int, into: int | None = None) -> tuple[os.stat_result, str]:
    """Reads (and copies) a file as it was at one moment: its stat and its hex sha256.

    Raises Unsettled where somebody was writing each time.
    """
    for attempt in range(READ_AGAIN):
        if attempt:
            time.sleep(READ_AGAIN_S)
        before = os.fstat(source)
        if not _at_rest(source, before):
            continue
        sha256 = _digest(source, into)
        after = os.fstat(source)
        if _stamp(before) == _stamp(after) and _at_rest(source, after):
            return after, sha256
    raise Unsettled(f"{path}: is being written")


def _digest(source: int, into: int | None) -> str:
    os.lseek(source, 0, os.SEEK_SET)
    if into is not None:
        os.lseek(into, 0, os.SEEK_SET)
        os.ftruncate(into, 0)
    digest = hashlib.sha256()
    while piece := os.read(source, PIECE_BYTES):
        digest.update(piece)
        if into is not None:
            write_all(into, piece)
    return digest.hexdigest()


def write_all(into: int, piece: bytes) -> None:
    """Raises OSError."""
    view = memoryview(piece)
    while view:
        view = view[os.write(into, view) :]


def _at_rest(source: int, found: os.stat_result) -> bool:
    """Nobody has it open to write: then a read lease is given (fcntl(2), F_SETLEASE).

    It is given back at once, so that no writer ever waits. Where it is not ours to ask, or somebody
    keeps the file open for ever, it is at rest when it was not touched for a while.
    """
    try:
        fcntl.fcntl(source, fcntl.F_SETSIG, signal.SIGURG)  # ignored by default, unlike SIGIO
        fcntl.fcntl(source, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(source, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        quiet_ns = QUIET_NS if error.errno == errno.EAGAIN else UNASKED_NS
        return time.time_ns() - found.st_mtime_ns > quiet_ns
    return True


def _stamp(found: os.stat_result) -> Stamp:
    return (
        found.st_dev,
        found.st_ino,
        found.st_size,
        found.st_mtime_ns,
        found.st_ctime_ns,
        found.st_mode,
        found.st_uid,
        found.st_gid,
    )


def _refused(path: str, error: OSError) -> PortError:
    return Refused(f"{path}: {told(path, error)}")
