# SPDX-License-Identifier: GPL-2.0-or-later
"""The active node keeps what is carried up to date in a folder far away."""

import asyncio
import hashlib
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from agent import clouding
from agent.cloud_source import fetched_bundle, fetched_status, fetched_version, fresh_head
from agent.clouding import Clouding
from agent.core.manifest import Entry, Snapshot, Version
from agent.core.settings import CarriedSettings, CloudSettings, GroupSettings, Settings
from agent.depot import Stream
from agent.ports import Garbled, Refused, Unreachable
from drivers import authority
from drivers.vault import Vault
from tests.clouds import MemoryFolder

VAULT = Vault(b"k" * 32)
CLOUD = CloudSettings("https://cloud.example.net/standpipe/")
CARRIED = CarriedSettings(
    files=("/etc/app/",), status="/var/lib/app/status.json", versions=3, cloud=CLOUD
)


class FakeShelf:
    """What the carrying keeps, in memory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.version: Version | None = None
        self.snapshot: Snapshot | None = None
        self.loads = 0

    def put(self, number: int, **files: bytes) -> None:
        entries = {"/etc/app": Entry("/etc/app", "dir", 0o755, "root", "root", 0, 0)}
        for name, content in files.items():
            path = f"/etc/app/{name}"
            entries[path] = self._entry(path, content)
        self.version = Version("sbc", number, 1, 1000 + number, "lon1", entries)

    def write(self, content: bytes, origin_ms: int) -> None:
        self.snapshot = Snapshot(self._entry(CARRIED.status, content), 1, origin_ms, "lon1")

    def _entry(self, path: str, content: bytes) -> Entry:
        digest = hashlib.sha256(content).hexdigest()
        (self.folder / digest).write_bytes(content)
        return Entry(path, "file", 0o640, "root", "root", 0, 0, len(content), 5, digest)

    def current_digest(self) -> str:
        return self.version.digest if self.version else ""

    def current(self) -> Version | None:
        self.loads += 1
        return self.version

    def status(self) -> tuple[Snapshot, int] | None:
        return (self.snapshot, 0) if self.snapshot else None

    def open(self, sha256: str) -> int:
        return os.open(self.folder / sha256, os.O_RDONLY)

    def open_status(self, snapshot: Snapshot) -> int:
        return self.open(snapshot.entry.sha256)


class Node:
    """One node with everything that Clouding needs; `said` is what it fed."""

    def __init__(self, folder: Path, far: MemoryFolder) -> None:
        self.far = far
        self.wall_s = 1_000_000.0
        self.is_active = True
        self.said: list[tuple[bool, str]] = []
        self.fed = asyncio.Event()
        self.state = folder / "state"
        self.state.mkdir()
        (folder / "objects").mkdir()
        self.shelf = FakeShelf(folder / "objects")
        pki = folder / "pki"
        authority.make_ca(pki, "callcentre", secret=b"k" * 32)
        key = folder / "cluster.key"
        key.write_text((b"k" * 32).hex())
        self.config = folder / "standpipe.toml"
        self.config.write_text("# as it is\n")
        group = GroupSettings("sbc", ("lon1", "lon2"), (), carried=CARRIED)
        self.settings = Settings(
            "callcentre",
            str(key),
            "lon1",
            groups={"sbc": group},
            pki_dir=str(pki),
            digest=hashlib.sha256(self.config.read_bytes()).hexdigest(),
        )
        self.clouding = self.begun()

    def begun(self) -> Clouding:
        return Clouding(
            self.settings,
            self.config,
            self.state,
            lambda group: self.shelf,
            VAULT,
            lambda settings: self.far,
            lambda group: self.is_active,
            self._feed,
            lambda: self.wall_s,
            status_every_s=0.0,
            again_first_s=0.01,
        )

    def _feed(self, group: str, ok: bool, detail: str) -> None:
        assert group == "sbc"
        self.said.append((ok, detail))
        self.fed.set()

    def passes(self) -> str:
        """One pass, as its worker makes them."""
        return self.clouding._pass("sbc", self.far)

    def stream(self, *parts: str) -> Stream:
        return Stream(self.far, VAULT, parts, "par1")


@pytest.fixture
def node(tmp_path: Path) -> Node:
    node = Node(tmp_path, MemoryFolder())
    node.shelf.put(1, a=b"one", b=b"two", empty=b"")
    node.shelf.write(b'{"counts": 1}', 5000)
    return node


def test_settings_status_and_what_a_machine_needs_come_back_elsewhere(
    node: Node, tmp_path: Path
) -> None:
    assert node.passes() == ""
    into = tmp_path / "into"
    into.mkdir()
    stream = node.stream("group", "sbc", "settings")
    version = fetched_version(stream, fresh_head(stream, 0), into, CARRIED)
    assert version == node.shelf.version
    assert (into / version.entries["/etc/app/b"].sha256).read_bytes() == b"two"
    assert (into / version.entries["/etc/app/empty"].sha256).read_bytes() == b""
    stream = node.stream("group", "sbc", "status")
    snapshot = fetched_status(stream, fresh_head(stream, 0), into, CARRIED)
    assert snapshot == node.shelf.snapshot
    assert (into / snapshot.entry.sha256).read_bytes() == b'{"counts": 1}'
    stream = node.stream("bundle")
    bundle = fetched_bundle(stream, fresh_head(stream, 0), into)
    assert bundle["cluster"] == "callcentre"
    assert set(bundle["pki"]) == {"ca.crt", "ca.key"}


def test_nothing_new_costs_nothing(node: Node) -> None:
    node.passes()
    before, loads, reads = list(node.far.writes), node.shelf.loads, node.far.reads
    node.wall_s += 60
    assert node.passes() == ""
    assert (node.far.writes, node.shelf.loads, node.far.reads) == (before, loads, reads)


def test_the_heads_are_written_at_least_hourly_so_that_they_are_known_to_be_of_now(
    node: Node,
) -> None:
    node.passes()
    node.wall_s += clouding.TOUCH_EVERY_S + 1
    node.passes()
    head = node.stream("group", "sbc", "settings").head()
    assert head is not None
    assert (head.serial, head.at_s) == (2, node.wall_s)


def test_what_is_new_travels(node: Node, tmp_path: Path) -> None:
    node.passes()
    node.shelf.put(2, a=b"changed", b=b"two")
    node.shelf.write(b'{"counts": 2}', 6000)
    node.passes()
    into = tmp_path / "into"
    into.mkdir()
    for kind, wanted in (("settings", (1, 2)), ("status", (1, 6000))):
        head = fresh_head(node.stream("group", "sbc", kind), 0)
        assert head.rows[0].rank == wanted


def test_a_folder_that_was_put_back_is_said_once_and_is_right_again(node: Node) -> None:
    node.passes()
    old = dict(node.far.objects)
    node.shelf.put(2, a=b"changed")
    node.passes()
    node.far.objects = old
    node.wall_s += clouding.LOOK_EVERY_S + 1
    assert "was put back to an older state" in node.passes()
    assert node.passes() == ""
    assert fresh_head(node.stream("group", "sbc", "settings"), 0).rows[0].rank == (1, 2)


def test_what_was_seen_outlives_the_agent(node: Node) -> None:
    node.passes()
    node.shelf.put(2, a=b"changed")
    old = dict(node.far.objects)
    node.passes()
    node.far.objects = old
    node.clouding = node.begun()
    assert "was put back" in node.passes()
    assert stat.S_IMODE((node.state / clouding.SEEN).stat().st_mode) == 0o600


def test_a_reader_that_saw_newer_takes_nothing_older(node: Node) -> None:
    node.passes()
    stream = node.stream("group", "sbc", "settings")
    with pytest.raises(Refused, match=r"put back to an older state \(write 1, seen 5\)"):
        fresh_head(stream, 5)
    with pytest.raises(Refused, match="is the url right, and the key"):
        fresh_head(node.stream("group", "other", "settings"), 0)


@pytest.mark.parametrize(
    "paths",
    [("/etc/other/",), ("/etc/app/a/",), ()],
)
def test_what_is_not_declared_here_is_not_taken(
    node: Node, tmp_path: Path, paths: tuple[str, ...]
) -> None:
    node.passes()
    into = tmp_path / "into"
    into.mkdir()
    stream = node.stream("group", "sbc", "settings")
    with pytest.raises(Garbled, match=r"not declared|is declared as"):
        fetched_version(stream, fresh_head(stream, 0), into, replace(CARRIED, files=paths))


def test_a_newer_configuration_of_another_node_stays(node: Node) -> None:
    node.passes()
    config = node.config
    config.write_text("# newer\n")
    os.utime(config, (2_000_000_000, 2_000_000_000))
    newer = replace(node.settings, digest=hashlib.sha256(config.read_bytes()).hexdigest())
    older = node.settings
    node.settings = newer
    node.clouding = node.begun()
    node.passes()
    config.write_text("# as it is\n")
    os.utime(config, (1_000_000_000, 1_000_000_000))
    node.settings = older
    node.clouding = node.begun()
    assert node.passes() == ""
    head = fresh_head(node.stream("bundle"), 0)
    assert head.rows[0].rank == (0, 2_000_000_000_000)


async def until(holds: Callable[[], bool], node: Node) -> None:
    async with asyncio.timeout(20):
        while not holds():
            node.fed.clear()
            await node.fed.wait()


def test_the_worker_says_when_the_folder_is_lost_and_when_it_is_back(
    node: Node,
) -> None:

    async def story() -> None:
        node.far.failure, node.far.fail_after = Unreachable("no route"), 0
        ((name, worker),) = node.clouding.workers()
        assert name == "cloud sbc"
        task = asyncio.ensure_future(worker())
        await until(lambda: node.said[-1:] == [(False, "no route")], node)
        node.far.failure = None
        await until(lambda: node.said[-1:] == [(True, "")], node)
        node.shelf.put(2, a=b"changed")
        count = len(node.said)
        node.clouding.notify("sbc")
        node.clouding.notify("another")
        await until(lambda: len(node.said) > count, node)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    asyncio.run(story())
    assert fresh_head(node.stream("group", "sbc", "settings"), 0).rows[0].rank == (1, 2)
    assert node.far.closed


def test_a_standby_puts_nothing_there(node: Node) -> None:
    async def story() -> None:
        node.is_active = False
        ((_, worker),) = node.clouding.workers()
        task = asyncio.ensure_future(worker())
        for _ in range(10):
            await asyncio.sleep(0)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    asyncio.run(story())
    assert (node.far.writes, node.said) == ([], [])


def test_a_status_that_is_exchanged_meanwhile_is_sent_whole(node: Node, tmp_path: Path) -> None:
    shelf = node.shelf
    first = shelf.snapshot
    assert first is not None
    plain_open = shelf.open_status

    def open_status(snapshot: Snapshot) -> int:
        if snapshot == first:
            (shelf.folder / first.entry.sha256).unlink(missing_ok=True)
            shelf.write(b'{"counts": 2}', 6000)
        return plain_open(snapshot)

    shelf.open_status = open_status  # type: ignore[method-assign]
    assert node.passes() == ""
    assert fresh_head(node.stream("group", "sbc", "status"), 0).rows[0].rank == (1, 6000)
