# SPDX-License-Identifier: GPL-2.0-or-later
"""Keeps what is carried up to date in cloud folders: the active node of a group puts it there.

One stream for a group's settings and licences, one for its status, one for what a machine needs to
join. The serial that was seen last of each is kept in the state folder, so that a folder put back
to an older state shows, also after a restart.
"""

import asyncio
import hashlib
import io
import json
import os
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import BinaryIO, Protocol

from agent.core.manifest import Snapshot, Version, dump_snapshot, dump_version
from agent.core.parcels import File
from agent.core.settings import CarriedSettings, CloudSettings, Settings
from agent.depot import Deposit, Folder, Overtaken, Seal, Stream
from agent.joining import gathered
from agent.ports import Garbled, PortError, Unreachable
from agent.writing import write_whole

SEEN = "cloud-seen.json"
STATUS_EVERY_S = 30.0
LOOK_EVERY_S = 600.0  # also where nothing changed: what lies there is looked at
TOUCH_EVERY_S = 3600.0  # so often at least the head is written, and says that it is of now
AGAIN_FIRST_S, AGAIN_MOST_S = 5.0, 300.0
STATUSES_KEPT = 2
STATUS_TRIES = 5
BUNDLES_KEPT = 2


class Shelf(Protocol):
    """What is carried of one group, on this node. Blocking."""

    def current_digest(self) -> str: ...
    def current(self) -> Version | None: ...
    def status(self) -> tuple[Snapshot, int] | None: ...
    def open(self, sha256: str) -> int:
        """A descriptor. Raises OSError where it is not there any more."""
        ...

    def open_status(self, snapshot: Snapshot) -> int:
        """As `open`."""
        ...


Feed = Callable[[str, bool, str], None]
"""Group, whether its cloud folder is up to date, and why not or what is there."""


@dataclass(slots=True)
class _Keeping:
    """One group's folder, between two passes, by kind. pushed, looked: wall clock, seconds."""

    stirred: asyncio.Event = field(default_factory=asyncio.Event)
    stop: threading.Event = field(default_factory=threading.Event)
    ranks: dict[str, tuple[int, int]] = field(default_factory=dict)  # of what lies there
    pushed: dict[str, float] = field(default_factory=dict)
    looked: dict[str, float] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    failures: int = 0


class Clouding:
    """One worker for each group that has a cloud folder."""

    def __init__(
        self,
        settings: Settings,
        config_file: Path,
        state_dir: Path,
        shelves: Callable[[str], Shelf],
        vault: Seal,
        open_folder: Callable[[CloudSettings], Folder],
        active: Callable[[str], bool],
        feed: Feed,
        wall_s: Callable[[], float] = lambda: datetime.now(UTC).timestamp(),
        status_every_s: float = STATUS_EVERY_S,
        again_first_s: float = AGAIN_FIRST_S,
    ) -> None:
        self._settings = settings
        self._config_file = config_file
        self._shelves = shelves
        self._vault = vault
        self._open_folder = open_folder
        self._active = active
        self._feed = feed
        self._wall_s = wall_s
        self._status_every_s = status_every_s
        self._again_first_s = again_first_s
        self._seen = Seen(state_dir / SEEN)
        self._groups: dict[str, tuple[CarriedSettings, CloudSettings, _Keeping]] = {
            group.name: (group.carried, group.carried.cloud, _Keeping())
            for group in settings.own_groups()
            if group.carried is not None and group.carried.cloud is not None
        }

    def workers(self) -> list[tuple[str, Callable[[], Awaitable[None]]]]:
        """To be run as long as the agent runs."""
        return [(f"cloud {group}", partial(self._keep, group)) for group in self._groups]

    def notify(self, group: str) -> None:
        """Something new is on the shelf, or this node became active. On the loop's thread."""
        if group in self._groups:
            self._groups[group][2].stirred.set()

    async def _keep(self, group: str) -> None:
        _, cloud, keeping = self._groups[group]
        keeping.stop = threading.Event()
        folder: Folder | None = None
        try:
            while True:
                wait_s = LOOK_EVERY_S
                if self._active(group):
                    try:
                        if folder is None:
                            folder = await asyncio.to_thread(self._open_folder, cloud)
                        said = await asyncio.to_thread(self._pass, group, folder)
                    except PortError as error:
                        self._feed(group, False, str(error))
                        wait_s = min(self._again_first_s * 2**keeping.failures, AGAIN_MOST_S)
                        keeping.failures += 1
                    else:
                        keeping.failures = 0
                        self._feed(group, not said, said)
                await self._wait(keeping, wait_s)
        finally:
            keeping.stop.set()
            if folder is not None:
                folder.close()

    async def _wait(self, keeping: _Keeping, wait_s: float) -> None:
        """Until something is new; after a failure not before its time."""
        if keeping.failures:
            await asyncio.sleep(wait_s)
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await keeping.stirred.wait()
        keeping.stirred.clear()
        since_s = self._wall_s() - keeping.pushed.get("status", 0.0)
        if 0 <= since_s < self._status_every_s:
            await asyncio.sleep(self._status_every_s - since_s)

    def _pass(self, group: str, folder: Folder) -> str:
        """Everything that is new goes there. What was found wrong and is right again."""
        _, cloud, keeping = self._groups[group]
        shelf = self._shelves(group)
        warnings = []
        digest = shelf.current_digest()
        if digest and (digest != keeping.digests.get("settings") or self._due(keeping, "settings")):
            version = shelf.current()
            if version is not None:
                opened = partial(_opened, shelf.open)
                deposit = deposit_of(version)
                warnings.append(self._push(group, folder, "settings", deposit, opened))
                keeping.digests["settings"] = digest
        warnings.append(self._push_status(group, folder, shelf))
        if self._settings.digest != keeping.digests.get("config") or self._due(keeping, "bundle"):
            warnings.append(self._push_bundle(cloud, folder, keeping))
            keeping.digests["config"] = self._settings.digest
            keeping.looked["bundle"] = self._wall_s()
        return "; ".join(filter(None, warnings))

    def _due(self, keeping: _Keeping, kind: str) -> bool:
        return not 0 <= self._wall_s() - keeping.looked.get(kind, 0.0) < LOOK_EVERY_S

    def _push_status(self, group: str, folder: Folder, shelf: Shelf) -> str:
        held = _held_status(shelf)
        if held is None:
            return ""
        snapshot, source = held
        try:
            opened = partial(_opened, lambda _: os.dup(source))
            return self._push(group, folder, "status", deposit_of_status(snapshot), opened)
        finally:
            os.close(source)

    def _push(
        self,
        group: str,
        folder: Folder,
        kind: str,
        deposit: Deposit,
        opened: Callable[[str], BinaryIO],
    ) -> str:
        carried, cloud, keeping = self._groups[group]
        if deposit.rank < keeping.ranks.get(kind, deposit.rank):
            return ""  # it was exchanged while it was looked at
        now_s = self._wall_s()
        stream = self._stream(folder, ("group", group, kind), keeping)
        stream.rate_bytes_s = carried.rate_bytes_s
        key = f"{cloud.url} {stream.place}"
        if keeping.ranks.get(kind) == deposit.rank:
            if not self._due(keeping, kind):
                return ""
            keeping.looked[kind] = now_s
            if 0 <= now_s - keeping.pushed[kind] < TOUCH_EVERY_S and self._lies(stream, key):
                return ""
        keep = carried.versions if kind == "settings" else STATUSES_KEPT
        head, done = stream.push(
            deposit, opened, keep=keep, seen=self._seen.serial(key), at_s=now_s
        )
        self._seen.note(key, head.serial)
        keeping.ranks[kind] = deposit.rank
        keeping.pushed[kind] = keeping.looked[kind] = now_s
        return done.warning

    def _lies(self, stream: Stream, key: str) -> bool:
        """What we put there is still what lies there."""
        try:
            head = stream.head()
        except Garbled:
            return False
        return head is not None and head.serial >= self._seen.serial(key)

    def _push_bundle(self, cloud: CloudSettings, folder: Folder, keeping: _Keeping) -> str:
        """Unless a newer configuration lies there already."""
        bundle = gathered(self._settings, self._config_file)
        changed_ms = self._config_file.stat().st_mtime_ns // 1_000_000
        stream = self._stream(folder, ("bundle",), keeping)
        key = f"{cloud.url} {stream.place}"
        content = json.dumps(bundle, sort_keys=True).encode()
        digest = hashlib.sha256(content).hexdigest()
        if digest == keeping.digests.get("bundle") and self._lies(stream, key):
            return ""
        deposit = Deposit((0, changed_ms), {}, (File("bundle", digest, len(content)),))
        try:
            head, done = stream.push(
                deposit,
                lambda _: io.BytesIO(content),
                keep=BUNDLES_KEPT,
                seen=self._seen.serial(key),
                at_s=self._wall_s(),
            )
        except Overtaken:
            return ""
        self._seen.note(key, head.serial)
        keeping.digests["bundle"] = digest
        return done.warning

    def _stream(self, folder: Folder, parts: tuple[str, ...], keeping: _Keeping) -> Stream:
        def pause(seconds: float) -> None:
            if keeping.stop.wait(seconds):
                raise Unreachable("cloud: the agent is stopping; the next one goes on")

        return Stream(folder, self._vault, parts, self._settings.node, pause)


class Seen:
    """The highest serial seen of each stream, in a file. A file that is no good is begun anew."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._serials: dict[str, int] = {}
        with suppress(OSError, ValueError, AttributeError, TypeError):
            for key, serial in json.loads(file.read_bytes()).items():
                self._serials[str(key)] = int(serial)

    def serial(self, key: str) -> int:
        """0 where none was seen."""
        return self._serials.get(key, 0)

    def note(self, key: str, serial: int) -> None:
        """Raises Unreachable where it cannot be kept."""
        with self._lock:
            if serial <= self.serial(key):
                return
            self._serials[key] = serial
            try:
                write_whole(self._file, json.dumps(self._serials).encode(), 0o600)
            except OSError as error:
                raise Unreachable(
                    f"{self._file}: {error.strerror}; make it writable, with room"
                ) from error


def _held_status(shelf: Shelf) -> tuple[Snapshot, int] | None:
    """The freshest, and a descriptor: it may be exchanged at any moment, what is open stays."""
    for _ in range(STATUS_TRIES):
        held = shelf.status()
        if held is None:
            return None
        with suppress(FileNotFoundError):
            return held[0], shelf.open_status(held[0])
    return None


def _opened(descriptor: Callable[[str], int], sha256: str) -> BinaryIO:
    return os.fdopen(descriptor(sha256), "rb")


def deposit_of(version: Version) -> Deposit:
    """A version of a group's settings."""
    files = tuple(
        File(entry.path, entry.sha256, entry.size)
        for entry in version.entries.values()
        if entry.kind == "file"
    )
    return Deposit(version.rank, dump_version(version), files)


def deposit_of_status(snapshot: Snapshot) -> Deposit:
    """A group's status."""
    entry = snapshot.entry
    files = (File(entry.path, entry.sha256, entry.size),)
    return Deposit(snapshot.rank, dump_snapshot(snapshot), files)
