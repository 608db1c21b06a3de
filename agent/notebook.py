# SPDX-License-Identifier: GPL-2.0-or-later
"""What a keeper's successor on this machine must know, in the run folder: no disk is waited for.

boot id (36 bytes) | CRC-32 u32 | length u32 | memory
"""

import os
import struct
from pathlib import Path
from zlib import crc32

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
HEAD = struct.Struct("!36sII")


class Notebook:
    """One file, written in place. `read`: None where this machine was started since."""

    def __init__(self, path: Path, boot_id: str) -> None:
        self._boot_id = boot_id.encode()
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def read(self) -> bytes | None:
        """b"" where a predecessor of this boot wrote something that cannot be read."""
        found = os.pread(self._file, os.fstat(self._file).st_size, 0)
        if len(found) < HEAD.size:
            return b"" if found else None
        boot_id, checksum, length = HEAD.unpack_from(found)
        if boot_id != self._boot_id:
            return None
        memory = found[HEAD.size : HEAD.size + length]
        return memory if crc32(memory) == checksum else b""

    def write(self, memory: bytes) -> None:
        """Raises OSError where the folder is full."""
        head = HEAD.pack(self._boot_id, crc32(memory), len(memory))
        os.pwrite(self._file, head + memory, 0)

    def close(self) -> None:
        os.close(self._file)


def boot_id() -> str:
    """Another one each time that the kernel is started (random(4))."""
    return BOOT_ID.read_text().strip()
