# SPDX-License-Identifier: GPL-2.0-or-later
"""Which folders changed, told by the kernel (inotify(7)).

A watch is set on a folder's descriptor, opened without following a link, and not on a name that may
have become another by then. What is missed between looking at a folder and watching it is for the
caller to look at again: `watch` says which folders are new.
"""

import ctypes
import errno
import os
import struct
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from agent.core.manifest import STAGE
from agent.ports import Refused
from drivers.folders import opened_folder

IN_MODIFY, IN_ATTRIB, IN_CLOSE_WRITE = 0x2, 0x4, 0x8
IN_MOVED_FROM, IN_MOVED_TO, IN_CREATE, IN_DELETE = 0x40, 0x80, 0x100, 0x200
IN_DELETE_SELF, IN_MOVE_SELF = 0x400, 0x800
IN_Q_OVERFLOW, IN_IGNORED = 0x4000, 0x8000
IN_ONLYDIR, IN_EXCL_UNLINK = 0x0100_0000, 0x0400_0000
WANTED = (
    IN_MODIFY
    | IN_ATTRIB
    | IN_CLOSE_WRITE
    | IN_MOVED_FROM
    | IN_MOVED_TO
    | IN_CREATE
    | IN_DELETE
    | IN_DELETE_SELF
    | IN_MOVE_SELF
    | IN_ONLYDIR
    | IN_EXCL_UNLINK
)
HEAD = struct.Struct("iIII")
READ_BYTES = 256 * 1024

Names = frozenset[str]  # of these in the folder alone; empty: of all

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class News:
    """folders: in which something changed; names: what, by path; lost: look everywhere."""

    folders: frozenset[str]
    names: frozenset[str]
    lost: bool


class FolderWatch:
    """Watches a set of folders. Raises Refused where the kernel gives no watch."""

    def __init__(self, root: str = "/") -> None:
        self._root = root
        self._fd: int = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise Refused(f"inotify: {_why()}; raise fs.inotify.max_user_instances")
        self._paths: dict[int, str] = {}
        self._numbers: dict[str, int] = {}
        self._names: dict[str, Names] = {}

    def fileno(self) -> int:
        """Readable when there is news."""
        return self._fd

    def watch(self, folders: Mapping[str, Names]) -> list[str]:
        """From now on these; those that were not watched before. A folder that is away is left out.

        Raises Refused.
        """
        for path in self._numbers.keys() - folders.keys():
            number = self._numbers.pop(path)
            self._paths.pop(number, None)
            _libc.inotify_rm_watch(self._fd, number)
        self._names = dict(folders)
        fresh = []
        for path in folders:
            if path not in self._numbers and self._add(path):
                fresh.append(path)
        return fresh

    def _add(self, path: str) -> bool:
        try:
            with opened_folder(path, self._root) as folder:
                number = _libc.inotify_add_watch(
                    self._fd, f"/proc/self/fd/{folder}".encode(), WANTED
                )
                why = ctypes.get_errno()
        except OSError:
            return False
        if number < 0 and why == errno.ENOSPC:
            raise Refused(f"{path}: is not watched; raise fs.inotify.max_user_watches")
        if number < 0:
            return False
        self._numbers.pop(self._paths.get(number, ""), None)
        self._paths[number] = path
        self._numbers[path] = number
        return True

    def receive(self) -> News:
        """All that waits. Never blocks."""
        folders: set[str] = set()
        names: set[str] = set()
        lost = False
        with suppress(BlockingIOError):
            while block := os.read(self._fd, READ_BYTES):
                at = 0
                while at < len(block):
                    number, mask, _, length = HEAD.unpack_from(block, at)
                    raw = block[at + HEAD.size : at + HEAD.size + length].rstrip(b"\0")
                    at += HEAD.size + length
                    lost = lost or bool(mask & IN_Q_OVERFLOW)
                    self._heard(number, mask, os.fsdecode(raw), folders, names)
        return News(frozenset(folders), frozenset(names), lost)

    def _heard(self, number: int, mask: int, name: str, folders: set[str], names: set[str]) -> None:
        path = self._paths.get(number)
        if path is None:
            return
        if mask & (IN_IGNORED | IN_MOVE_SELF | IN_DELETE_SELF):
            del self._paths[number]
            self._numbers.pop(path, None)
            if not mask & IN_IGNORED:
                _libc.inotify_rm_watch(self._fd, number)
            folders.add(path)
            return
        wanted = self._names.get(path)
        if STAGE.fullmatch(name) or (wanted and name not in wanted):
            return
        folders.add(path)
        names.add(f"{path}/{name}" if name else path)

    def close(self) -> None:
        os.close(self._fd)


def _why() -> str:
    return os.strerror(ctypes.get_errno())
