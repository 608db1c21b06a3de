# SPDX-License-Identifier: GPL-2.0-or-later
"""Disk and inode watchers."""

import asyncio
import os
import threading
from pathlib import Path

import pytest

from agent.core.model import Reading
from agent.core.settings import WatchSettings
from agent.ports import Garbled, Unreachable
from drivers.disk import (
    DiskWatch,
    InodesWatch,
    choose_mounts,
    inodes_reading,
    parse_mountinfo,
    space_reading,
)
from tests.drivers.patience import until

MOUNTINFO = r"""22 27 0:21 / /proc rw,relatime - proc proc rw
23 27 0:22 / /sys rw,relatime - sysfs sysfs rw
24 27 0:6 / /dev rw,relatime - devtmpfs devtmpfs rw,size=12334432k,nr_inodes=3083608,mode=755
25 24 0:23 / /dev/shm rw,relatime - tmpfs tmpfs rw,size=24683656k
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard,resv_strict,resuid=65534
28 27 0:25 / /opt/tools ro,nosuid,nodev,relatime - tmpfs tools ro,size=4k,mode=755
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 27 254:16 /a /srv/long/way rw,relatime shared:1 master:3 - xfs /dev/vdb rw
33 27 254:16 /b /srv rw,relatime - xfs /dev/vdb rw
34 27 0:51 / /mnt/my\040disk rw,relatime - nfs4 server:/x rw,vers=4.2
35 27 0:52 / /var/lib/x/merged rw - overlay overlay rw,lowerdir=/a
37 27 0:53 / /var/lib/nfs/rpc_pipefs rw,relatime - rpc_pipefs sunrpc rw
36 27 254:32 / /iso ro,relatime - ext4 /dev/vdc rw
"""


def vfs(**fields: int) -> os.statvfs_result:
    names = "f_bsize f_frsize f_blocks f_bfree f_bavail f_files f_ffree f_favail f_flag f_namemax"
    return os.statvfs_result([fields.get(name, 0) for name in names.split()])


def proc(folder: Path, mountinfo: str) -> Path:
    (folder / "self").mkdir()
    (folder / "self/mountinfo").write_text(mountinfo)
    return folder


def line(point: str, device: str) -> str:
    return f"27 1 {device} / {point} rw - ext4 /dev/x rw\n"


def test_each_file_system_is_looked_at_once_and_pseudo_and_read_only_ones_not() -> None:
    chosen = choose_mounts(parse_mountinfo(MOUNTINFO))
    assert sorted(chosen) == ["/", "/dev/shm", "/mnt/my disk", "/srv"]


def test_mount_points_asked_for_by_name_are_looked_at_whatever_they_are() -> None:
    chosen = choose_mounts(parse_mountinfo(MOUNTINFO), ("/opt/tools", "/srv/long/way", "/backup"))
    assert chosen["/opt/tools"] is not None
    assert chosen["/srv/long/way"] is not None
    assert chosen["/backup"] is None
    assert len(chosen) == 3


def test_a_mount_hides_what_was_mounted_there_before() -> None:
    text = line("/", "8:1") + line("/data", "8:2") + line("/data", "8:3")
    chosen = choose_mounts(parse_mountinfo(text))
    assert chosen["/data"] is not None
    assert chosen["/data"].device == "8:3"
    assert sorted(chosen) == ["/", "/data"]


def test_a_container_whose_root_is_an_overlay_still_has_a_disk() -> None:
    text = "27 1 0:99 / / rw - overlay overlay rw,lowerdir=/a\n"
    assert list(choose_mounts(parse_mountinfo(text))) == ["/"]


def test_blocks_kept_for_root_count_as_used() -> None:
    seen = vfs(f_frsize=4096, f_blocks=1000, f_bfree=100, f_bavail=50)
    assert space_reading("/", seen) == Reading("disk:/", 950 * 4096, "bytes", limit=1000 * 4096)
    full = vfs(f_frsize=4096, f_blocks=1000, f_bfree=50, f_bavail=0)
    reading = space_reading("/", full)
    assert reading is not None
    assert reading.value == reading.limit


def test_inodes_that_only_root_gets_count_as_used_and_endless_ones_have_no_reading() -> None:
    seen = vfs(f_files=100, f_ffree=30, f_favail=20)
    assert inodes_reading("/", seen) == Reading("inodes:/", 80, "count", limit=100)
    assert inodes_reading("/btrfs", vfs(f_blocks=10)) is None
    assert space_reading("/proc", vfs(f_files=10)) is None


def test_a_file_system_that_hangs_has_no_value_and_the_others_do(tmp_path: Path) -> None:
    gate, calls = threading.Event(), []

    def statvfs(point: str) -> os.statvfs_result:
        calls.append(point)
        if point == "/nfs":
            gate.wait(30)
        return vfs(f_frsize=1, f_blocks=10, f_bavail=4)

    async def scene() -> None:
        root = proc(tmp_path, line("/", "8:1") + line("/nfs", "0:50"))
        watch = DiskWatch(WatchSettings("disk"), proc=root, statvfs=statvfs, within_ms=200)
        hung = Reading("disk:/nfs", None, "bytes", text="statvfs hangs")
        for _ in range(3):
            assert await watch.read() == [Reading("disk:/", 6, "bytes", limit=10), hung]
        assert calls.count("/nfs") == 1, "one thread waits for it, not one a round"
        gate.set()
        await until(lambda: not any(lane.busy for lane in watch._lanes.values()))
        assert (await watch.read())[1].value == 6

    asyncio.run(scene())


def test_a_stale_file_system_and_one_not_mounted_say_so(tmp_path: Path) -> None:
    def statvfs(point: str) -> os.statvfs_result:
        raise OSError(116, os.strerror(116))

    settings = WatchSettings("inodes", only=("/nfs", "/gone"))
    watch = InodesWatch(settings, proc=proc(tmp_path, line("/nfs", "0:50")), statvfs=statvfs)
    assert asyncio.run(watch.read()) == [
        Reading("inodes:/nfs", None, "count", text="statvfs: Stale file handle"),
        Reading("inodes:/gone", None, "count", text="not mounted"),
    ]


def test_without_proc_the_state_is_unknown_and_nonsense_is_called_so(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match="is /proc mounted here"):
        asyncio.run(DiskWatch(WatchSettings("disk"), proc=tmp_path).read())
    with pytest.raises(Garbled, match="mountinfo line 'what'"):
        asyncio.run(DiskWatch(WatchSettings("disk"), proc=proc(tmp_path, "what\n")).read())


def test_this_host_has_a_root_disk_as_df_sees_it() -> None:
    settings = WatchSettings("disk", every_ms=1234, only=("/",))
    watch = DiskWatch(settings)
    assert (watch.name, watch.every_ms) == ("host:disk", 1234)
    [reading] = asyncio.run(watch.read())
    seen = os.statvfs("/")
    assert reading.limit == seen.f_blocks * seen.f_frsize
    assert reading.value is not None
    assert 0 < reading.value <= reading.limit
    assert all(r.value is not None for r in asyncio.run(InodesWatch(settings).read()))
