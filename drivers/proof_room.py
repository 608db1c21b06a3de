# SPDX-License-Identifier: GPL-2.0-or-later
"""Prover: disk for what is carried and stored, and memory for what will be started."""

import os
from collections.abc import Callable
from pathlib import Path

import psutil

from agent.core.model import Proof
from agent.core.settings import GroupSettings, Standby
from drivers.proving import Prover, judged, never

FREE_BYTES, FREE_PCT = 64 << 20, 5  # the smaller of both must be left
FREE_INODES = 1_000

Statvfs = Callable[[Path], os.statvfs_result]


def place_fault(place: Path, vfs: os.statvfs_result) -> str:
    """Why a file system cannot take what will be written there, "" where it can."""
    free_bytes = vfs.f_bavail * vfs.f_frsize
    wanted_bytes = min(FREE_BYTES, vfs.f_blocks * vfs.f_frsize * FREE_PCT // 100)
    if vfs.f_flag & os.ST_RDONLY:
        return f"{place} is mounted read-only"
    if free_bytes < wanted_bytes:
        return f"{place} has {free_bytes >> 20} MiB left, {wanted_bytes >> 20} MiB are wanted"
    if vfs.f_files and vfs.f_favail < min(FREE_INODES, vfs.f_files * FREE_PCT // 100):
        return f"{place} has {vfs.f_favail} inodes left"
    return ""


class RoomProof(Prover):
    """Proof "room"."""

    name = "room"

    def __init__(
        self,
        settings: GroupSettings,
        state_dir: Path,
        serving: Callable[[], bool] = never,
        *,
        statvfs: Statvfs = os.statvfs,
        available: Callable[[], int] = lambda: int(psutil.virtual_memory().available),
    ) -> None:
        super().__init__(settings, serving)
        self._state_dir = state_dir
        self._statvfs = statvfs
        self._available = available

    async def _proofs(self) -> list[Proof]:
        return [await self._look(self._judge)]

    def _judge(self) -> Proof:
        carried = self.settings.carried
        paths = [*carried.files, *carried.licence, carried.status] if carried else []
        places = dict.fromkeys([self._state_dir, *(_folder(path) for path in paths if path)])
        faults = [why for place in places if (why := place_fault(place, self._statvfs(place)))]
        needs_bytes = self.settings.needs_bytes
        if needs_bytes and self.settings.standby is Standby.COLD:
            available_bytes = self._available()
            if available_bytes < needs_bytes:
                faults.append(
                    f"{available_bytes >> 20} MiB of memory are available, it needs"
                    f" {needs_bytes >> 20} MiB"
                )
        return judged("room", faults)


def _folder(path: str) -> Path:
    """The nearest folder that is there: what is missing will be made in it."""
    folder = Path(path)
    while not folder.is_dir():
        folder = folder.parent
    return folder
