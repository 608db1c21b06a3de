# SPDX-License-Identifier: GPL-2.0-or-later
"""Unix datagrams within one node: keeper and agent to each other, both to systemd."""

import contextlib
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

CREDENTIALS = struct.Struct("iII")  # struct ucred: pid, uid, gid (unix(7))
LONGEST_BYTES = 1 << 20


def open_box(path: Path) -> socket.socket:
    """A box for letters, for our own user alone; one that a predecessor left is replaced."""
    path.unlink(missing_ok=True)
    box = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    box.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    box.setblocking(False)
    box.bind(str(path))
    path.chmod(0o600)
    return box


def letters(box: socket.socket) -> Iterator[tuple[bytes, int, int]]:
    """All that waits: (bytes, pid, uid) by the kernel's word."""
    while True:
        try:
            data, ancillary, _, _ = box.recvmsg(LONGEST_BYTES, socket.CMSG_SPACE(CREDENTIALS.size))
        except BlockingIOError:
            return
        pid, uid, _ = CREDENTIALS.unpack(ancillary[0][2])
        yield data, pid, uid


def trusted(uid: int) -> bool:
    """Whether a letter of this user is one of our own pair's."""
    return uid in (0, os.geteuid())


def notify(state: str) -> None:
    """sd_notify(3), where systemd asked for it."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if path:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bell:
            bell.sendto(state.encode(), "\0" + path[1:] if path[0] == "@" else path)
