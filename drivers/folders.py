# SPDX-License-Identifier: GPL-2.0-or-later
"""Folders by descriptor, no link on the way, and what to say of an error there.

Every path is walked from / with O_NOFOLLOW (open(2), path_resolution(7)), so that whoever may write
in a declared folder cannot lead a reader or a writer out of it, not even by swapping a folder for a
link in the middle.
"""

import contextlib
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
STEP = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Descriptor:
    """Closed once, whatever it became meanwhile."""

    def __init__(self, number: int) -> None:
        self.number = number

    def become(self, number: int) -> None:
        os.close(self.number)
        self.number = number

    def close(self) -> None:
        os.close(self.number)


@contextmanager
def opened_folder(path: str, root: str = "/") -> Iterator[int]:
    """A descriptor to list a folder by, no link on the way from `root`. Raises OSError."""
    with contextlib.closing(Descriptor(os.open(root, STEP))) as at:
        for name in [part for part in path.split("/") if part]:
            at.become(os.open(name, STEP, dir_fd=at.number))
        with contextlib.closing(Descriptor(os.open(".", FOLDER, dir_fd=at.number))) as folder:
            yield folder.number


def make_folders(path: str, root: str = "/") -> None:
    """What is missing of it, from the root down. Raises OSError."""
    try:
        with opened_folder(path, root):
            return
    except FileNotFoundError:
        parent, name = os.path.split(path)
        make_folders(parent, root)
        with opened_folder(parent, root) as folder, contextlib.suppress(FileExistsError):
            os.mkdir(name, 0o755, dir_fd=folder)


def told(path: str, error: OSError) -> str:
    """What to say of an error, and what to do now."""
    match error.errno:
        case errno.ELOOP | errno.ENOTDIR:
            return "a link or a file stands where a folder should; name the real path"
        case errno.EPERM | errno.EACCES:
            return f"{error.strerror}; the agent's user must be allowed to read and replace it"
        case errno.ENOSPC | errno.EDQUOT:
            return f"{error.strerror}; make room, what was there is untouched"
        case _:
            return f"{error.strerror or error}; look at {os.path.dirname(path)}"
