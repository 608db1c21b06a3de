# SPDX-License-Identifier: GPL-2.0-or-later
"""What is put into a folder that nobody trusts comes back as it was, or not at all."""

import hashlib
import io
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.core.parcels import PARCEL_BYTES, File
from agent.depot import Deposit, Head, Overtaken, Stream, Uploaded
from agent.ports import Garbled, Unreachable
from drivers.vault import Vault
from tests.clouds import MemoryFolder

VAULT = Vault(b"k" * 32)
PARTS = ("group", "sbc", "settings")
MOST = 1 << 30


class Host:
    """Files by path, and what a node puts somewhere of them."""

    def __init__(self, folder: MemoryFolder, node: str = "lon1") -> None:
        self.files: dict[str, bytes] = {}
        self.stream = Stream(folder, VAULT, PARTS, node)
        self.seen = 0

    def deposit(self, number: int, epoch: int = 1) -> Deposit:
        files = tuple(
            File(path, hashlib.sha256(content).hexdigest(), len(content))
            for path, content in self.files.items()
        )
        return Deposit((epoch, number), {"number": number, "paths": list(self.files)}, files)

    def push(self, number: int, epoch: int = 1, keep: int = 3) -> Uploaded:
        by_digest = {hashlib.sha256(c).hexdigest(): c for c in self.files.values()}
        head, done = self.stream.push(
            self.deposit(number, epoch),
            lambda digest: io.BytesIO(by_digest[digest]),
            keep=keep,
            seen=self.seen,
            at_s=1000.0 + number,
        )
        self.seen = head.serial
        return done


@pytest.fixture
def folder() -> MemoryFolder:
    return MemoryFolder()


@pytest.fixture
def host(folder: MemoryFolder) -> Host:
    host = Host(folder)
    host.files = {f"/etc/app/{n}": f"{n}".encode() * 500 for n in range(200)}
    host.files["/etc/app/big"] = bytes(range(256)) * 40_000  # 10 MB: three parcels
    host.files["/etc/app/empty"] = b""
    host.files["/etc/app/same"] = host.files["/etc/app/1"]
    return host


def comes_back(folder: MemoryFolder, into: Path, place: int = 0) -> tuple[Head, Deposit]:
    stream = Stream(folder, VAULT, PARTS, "par1")
    head = stream.head()
    assert head is not None
    return head, stream.fetch(head, into, MOST, place)


def test_a_version_comes_back_on_another_node(
    folder: MemoryFolder, host: Host, tmp_path: Path
) -> None:
    host.push(1)
    head, deposit = comes_back(folder, tmp_path)
    assert (head.serial, head.by, head.at_s) == (1, "lon1", 1001.0)
    assert deposit.document == {"number": 1, "paths": list(host.files)}
    contents = {content for content in host.files.values() if content}
    assert {file.read_bytes() for file in tmp_path.iterdir()} == contents
    assert {file.sha256 for file in deposit.files} == {file.name for file in tmp_path.iterdir()}


def test_nothing_about_the_files_can_be_read_there(folder: MemoryFolder, host: Host) -> None:
    host.push(1)
    for path, content in folder.objects.items():
        assert b"etc" not in content[:4096]
        assert len(content) % 65536 == 32
        assert all(len(part) == 64 for part in path.split("/"))
        assert "sbc" not in path


def test_only_what_changed_travels_and_what_is_old_goes(
    folder: MemoryFolder, host: Host, tmp_path: Path
) -> None:
    first = host.push(1)
    host.files["/etc/app/7"] = b"changed"
    second = host.push(2)
    assert second.objects == 3  # a parcel, the manifest, the head
    assert second.sent_bytes < first.sent_bytes / 10
    host.push(3, keep=2)
    _, deposit = comes_back(folder, tmp_path)
    assert deposit.document["number"] == 3
    host.push(4, keep=1)
    assert len(folder.objects) == _least(host)


def _least(host: Host) -> int:
    """Objects of one version alone."""
    alone = MemoryFolder()
    other = Host(alone)
    other.files = host.files
    other.push(4)
    return len(alone.objects)


def test_older_versions_can_be_had(folder: MemoryFolder, host: Host, tmp_path: Path) -> None:
    host.push(1)
    host.files["/etc/app/7"] = b"changed"
    host.push(2)
    head, deposit = comes_back(folder, tmp_path, place=1)
    assert [row.rank for row in head.rows] == [(1, 2), (1, 1)]
    assert deposit.document["number"] == 1


def test_a_cut_upload_is_not_seen_and_is_gone_on_with(
    folder: MemoryFolder, host: Host, tmp_path: Path
) -> None:
    host.push(1)
    host.files = {path: content + b"!" for path, content in host.files.items() if content}
    folder.failure, folder.fail_after = Unreachable("cut"), len(folder.writes) + 3
    with pytest.raises(Unreachable, match="cut"):
        host.push(2)
    _, deposit = comes_back(folder, tmp_path)
    assert deposit.document["number"] == 1
    before = len(folder.writes)
    folder.failure = None
    fresh = _fresh_writes(host)
    host.push(2)
    assert len(folder.writes) - before == fresh - 3
    assert comes_back(folder, tmp_path)[1].document["number"] == 2


def _fresh_writes(host: Host) -> int:
    alone = MemoryFolder()
    other = Host(alone)
    other.files = host.files
    other.push(2)
    return len(alone.writes)


def test_a_node_that_was_overtaken_leaves_the_newer_version(
    folder: MemoryFolder, host: Host
) -> None:
    host.push(7, epoch=1)
    other = Host(folder, "lon2")
    other.files = {"/etc/app/1": b"new"}
    other.push(1, epoch=2)
    before = dict(folder.objects)
    with pytest.raises(Overtaken, match="lon2 has put a newer version there"):
        host.push(8, epoch=1)
    assert folder.objects == before


def test_a_folder_that_was_put_back_is_noticed_and_written_anew(
    folder: MemoryFolder, host: Host, tmp_path: Path
) -> None:
    host.push(1)
    old = dict(folder.objects)
    host.files["/etc/app/7"] = b"changed"
    host.push(2)
    folder.objects = old
    assert "was put back to an older state" in host.push(2).warning
    head, deposit = comes_back(folder, tmp_path)
    assert deposit.document["number"] == 2
    assert head.serial == 3
    assert host.push(2).warning == ""


def test_a_folder_that_was_emptied_is_filled_again(
    folder: MemoryFolder, host: Host, tmp_path: Path
) -> None:
    host.push(1)
    folder.objects = {}
    assert "emptied" in host.push(1).warning
    assert comes_back(folder, tmp_path)[1].document["number"] == 1


def cut(content: bytes) -> bytes:
    return content[:-70_000]


def flipped(content: bytes) -> bytes:
    return content[:50] + bytes([content[50] ^ 1]) + content[51:]


@pytest.mark.parametrize("damage", [cut, flipped, lambda _: b""])
def test_any_damaged_object_is_refused(
    folder: MemoryFolder, host: Host, tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    host.push(1)
    good = dict(folder.objects)
    for path in good:
        folder.objects = good | {path: damage(good[path])}
        with pytest.raises(Garbled):
            comes_back(folder, tmp_path)
    folder.objects = good
    comes_back(folder, tmp_path)


def test_objects_that_were_exchanged_are_refused(
    folder: MemoryFolder, host: Host, tmp_path: Path
) -> None:
    host.push(1)
    one, two = sorted(folder.objects)[:2]
    folder.objects[one], folder.objects[two] = folder.objects[two], folder.objects[one]
    with pytest.raises(Garbled):
        comes_back(folder, tmp_path)


def test_a_missing_parcel_is_refused_and_mended_by_the_next_push(
    folder: MemoryFolder, host: Host, tmp_path: Path
) -> None:
    host.push(1)
    parcel = next(path for path in folder.writes[:1])
    del folder.objects[parcel]
    with pytest.raises(Garbled, match="missing or cut short"):
        comes_back(folder, tmp_path)
    host.push(1)
    comes_back(folder, tmp_path)


def test_a_parcel_that_was_cut_short_there_is_put_there_again(
    folder: MemoryFolder, host: Host, tmp_path: Path
) -> None:
    host.push(1)
    parcel = folder.writes[0]
    folder.objects[parcel] = folder.objects[parcel][:-1]
    host.push(1)
    comes_back(folder, tmp_path)


def test_a_broken_head_is_written_anew_and_said(
    folder: MemoryFolder, host: Host, tmp_path: Path
) -> None:
    host.push(1)
    folder.objects[folder.writes[-1]] = b"rubbish"
    assert "its seal is broken" in host.push(1).warning
    comes_back(folder, tmp_path)


def test_a_manifest_that_swells_is_refused(
    folder: MemoryFolder, host: Host, tmp_path: Path
) -> None:
    host.push(1)
    head, _ = comes_back(folder, tmp_path)
    bomb = zlib.compress(bytes(200 << 20))
    name = head.rows[0].manifest
    folder.objects[f"{host.stream.place}/{name}"] = VAULT.seal(name, bomb)
    with pytest.raises(Garbled, match="too long"):
        comes_back(folder, tmp_path)


def test_more_than_the_limit_is_not_fetched(
    folder: MemoryFolder, host: Host, tmp_path: Path
) -> None:
    host.push(1)
    head = host.stream.head()
    assert head is not None
    with pytest.raises(Garbled, match="more than 1000"):
        host.stream.fetch(head, tmp_path, 1000)
    assert list(tmp_path.iterdir()) == []


def test_the_rate_is_kept_to(folder: MemoryFolder, host: Host) -> None:
    waits: list[float] = []
    host.stream.pause = waits.append
    host.stream.rate_bytes_s = 1_000_000
    done = host.push(1)
    assert sum(waits) == pytest.approx(done.sent_bytes / 1_000_000)
    assert max(waits) < (PARCEL_BYTES + 200_000) / 1_000_000
