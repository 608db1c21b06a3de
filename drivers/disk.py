# SPDX-License-Identifier: GPL-2.0-or-later
"""Space and inodes of every file system, each once (proc_pid_mountinfo(5), statvfs(3)).

What only root could still use counts as used: a service that writes as itself fails there. Nothing
but statvfs touches a file system, so that only that call can hang, and it hangs in its own thread.
"""

import asyncio
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from agent.core.model import Reading
from agent.core.settings import WatchSettings
from drivers.host import LOOK_MS, PROC, HostWatch
from drivers.lane import Hung, Lane

PSEUDO_NAMES = """
    autofs binfmt_misc bpf cgroup cgroup2 configfs debugfs devpts devtmpfs efivarfs fusectl
    fuse.gvfsd-fuse fuse.lxcfs fuse.portal hugetlbfs mqueue nfsd nsfs proc pstore ramfs
    rpc_pipefs securityfs selinuxfs smackfs sysfs tracefs
"""
PSEUDO = frozenset(PSEUDO_NAMES.split())
PRIVATE = (  # the kernel's, systemd's, and those of containers, whose space is counted elsewhere
    *("/proc/", "/sys/", "/dev/", "/run/credentials/", "/snap/"),
    *("/var/lib/docker/", "/var/lib/containers/", "/var/lib/kubelet/"),
)
KEPT = ("/dev/shm",)
ESCAPE = re.compile(r"\\([0-7]{3})")

Statvfs = Callable[[str], os.statvfs_result]


@dataclass(frozen=True, slots=True)
class Mount:
    """A line of mountinfo. device: "major:minor", the same for all bind mounts of a file system."""

    point: str
    device: str
    fstype: str
    read_only: bool


def parse_mountinfo(text: str) -> list[Mount]:
    """In the order of mounting. Raises ValueError on a line that is none."""
    mounts = []
    for line in text.splitlines():
        left, _, right = line.partition(" - ")
        fields, tail = left.split(" "), right.split(" ")
        if len(fields) < 6 or len(tail) < 3:
            raise ValueError(f"mountinfo line {line!r}")
        point = ESCAPE.sub(lambda match: chr(int(match[1], 8)), fields[4])
        options = (*fields[5].split(","), *tail[2].split(","))
        mounts.append(Mount(point, fields[2], tail[0], "ro" in options))
    return mounts


def choose_mounts(mounts: list[Mount], only: tuple[str, ...] = ()) -> dict[str, Mount | None]:
    """Mount point -> what to look at. `only`: these and no others, None where not mounted.

    A later mount hides an earlier one at the same point; of a file system mounted more than once
    the shortest writable point is taken.
    """
    visible = {mount.point: mount for mount in mounts}
    if only:
        return {point: visible.get(point) for point in only}
    by_device: dict[str, Mount] = {}
    for mount in sorted(visible.values(), key=lambda mount: (len(mount.point), mount.point)):
        if not _left_out(mount):
            by_device.setdefault(mount.device, mount)
    return {mount.point: mount for mount in by_device.values()}


def _left_out(mount: Mount) -> bool:
    """An overlay's space is its host's, unless it is all that there is: the root of a container."""
    if mount.read_only or mount.fstype in PSEUDO:
        return True
    if mount.fstype == "overlay" and mount.point != "/":
        return True
    return mount.point not in KEPT and f"{mount.point}/".startswith(PRIVATE)


def space_reading(point: str, vfs: os.statvfs_result) -> Reading | None:
    """None for a file system without blocks: it cannot fill."""
    if not vfs.f_blocks:
        return None
    free = min(max(vfs.f_bavail, 0), vfs.f_blocks)
    used_bytes = (vfs.f_blocks - free) * vfs.f_frsize
    return Reading(f"disk:{point}", used_bytes, "bytes", limit=vfs.f_blocks * vfs.f_frsize)


def inodes_reading(point: str, vfs: os.statvfs_result) -> Reading | None:
    """None for a file system that makes inodes as it goes (btrfs, some NFS)."""
    if not vfs.f_files:
        return None
    used = vfs.f_files - min(max(vfs.f_favail, 0), vfs.f_files)
    return Reading(f"inodes:{point}", used, "count", limit=vfs.f_files)


class FileSystemWatch(HostWatch):
    """One statvfs for each file system and round, all at once, each with its own limit."""

    resource = ""
    unit = ""

    def __init__(
        self,
        settings: WatchSettings,
        *,
        proc: Path = PROC,
        statvfs: Statvfs = os.statvfs,
        within_ms: int = LOOK_MS,
    ) -> None:
        super().__init__(settings)
        self._only = settings.only
        self._mountinfo = proc / "self" / "mountinfo"
        self._statvfs = statvfs
        self._within_ms = within_ms
        self._lanes: dict[str, Lane] = {}

    async def read(self) -> list[Reading]:
        chosen = await self._look(self._choose)
        self._lanes = {
            point: lane for point, lane in self._lanes.items() if point in chosen or lane.busy
        }
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._one(point, chosen[point])) for point in chosen]
        return [reading for task in tasks if (reading := task.result()) is not None]

    def _choose(self) -> dict[str, Mount | None]:
        text = self._mountinfo.read_text("utf-8", "backslashreplace")
        return choose_mounts(parse_mountinfo(text), self._only)

    async def _one(self, point: str, mount: Mount | None) -> Reading | None:
        if mount is None:
            return self._unknown(point, "not mounted")
        lane = self._lanes.setdefault(point, Lane(f"statvfs {point}"))
        try:
            vfs = await lane.run(lambda: self._statvfs(point), self._within_ms)
        except Hung:
            return self._unknown(point, "statvfs hangs")
        except OSError as error:
            return self._unknown(point, f"statvfs: {error.strerror}")
        return self._reading(point, vfs)

    def _unknown(self, point: str, text: str) -> Reading:
        return Reading(f"{self.resource}:{point}", None, self.unit, text=text)

    def _reading(self, point: str, vfs: os.statvfs_result) -> Reading | None:
        raise NotImplementedError


class DiskWatch(FileSystemWatch):
    """Kind "disk": "disk:/var" in bytes."""

    resource, unit = "disk", "bytes"

    def _reading(self, point: str, vfs: os.statvfs_result) -> Reading | None:
        return space_reading(point, vfs)


class InodesWatch(FileSystemWatch):
    """Kind "inodes": "inodes:/var", a count."""

    resource, unit = "inodes", "count"

    def _reading(self, point: str, vfs: os.statvfs_result) -> Reading | None:
        return inodes_reading(point, vfs)
