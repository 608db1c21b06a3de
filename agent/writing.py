# SPDX-License-Identifier: GPL-2.0-or-later
"""Small files that must never be seen half-written: keys, certificates, tokens, marks."""

import contextlib
import os
import pwd
from pathlib import Path

USER = "standpipe"  # that agent and keeper run as, where they were installed as a package


def write_whole(file: Path, content: bytes, mode: int) -> None:
    """All of the new content or the old one, whatever happens; on disk when it returns.

    A file that root writes belongs to the owner of the folder. Raises OSError.
    """
    new = _aside(file, content, mode)
    new.replace(file)
    _settle(file.parent)


def write_new(file: Path, content: bytes, mode: int) -> None:
    """As write_whole, but only where nothing is yet. Raises FileExistsError and other OSError."""
    new = _aside(file, content, mode)
    try:
        os.link(new, file, follow_symlinks=False)
    finally:
        new.unlink()
    _settle(file.parent)


def _aside(file: Path, content: bytes, mode: int) -> Path:
    new = file.with_name(f".{file.name}.new")
    with contextlib.suppress(FileNotFoundError):
        new.unlink()
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(new, flags, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        if os.geteuid() == 0:
            folder = file.parent.stat()
            os.fchown(descriptor, folder.st_uid, folder.st_gid)
        os.fchmod(descriptor, mode)
        stream.write(content)
        stream.flush()
        os.fsync(descriptor)
    return new


def _settle(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def entrust(path: Path) -> None:
    """Root lets the agent's user have it: a file readable, a folder with all that is in it its own.

    Nothing where there is no such user, or where this is not root.
    """
    if os.geteuid() != 0:
        return
    try:
        user = pwd.getpwnam(USER)
    except KeyError:
        return
    if path.is_dir():
        for one in (path, *path.iterdir()):
            os.chown(one, user.pw_uid, user.pw_gid, follow_symlinks=False)
    else:
        os.chown(path, -1, user.pw_gid)
        path.chmod(0o640)
