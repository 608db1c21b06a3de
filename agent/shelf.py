# SPDX-License-Identifier: GPL-2.0-or-later
"""The versions of one group's settings and its freshest status, as this node holds them.

In STATE_DIR/carried/GROUP, for root or the agent alone (0700): `objects/` holds every content once,
under its sha256; `versions/` which of them lie where in each version; `current` the one that counts
here; `placing` one whose placing began; `status/` the received status; `aside/` what people wrote
on this host and was replaced. Nothing there is a hard link to anything outside. Blocking. OSError
where the disk does not let it, and then what was there before still counts.
"""

import contextlib
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.core.manifest import (
    SHA256,
    Declared,
    Snapshot,
    Version,
    dump_snapshot,
    dump_version,
    load_snapshot,
    load_version,
)
from agent.ports import Garbled
from agent.writing import write_whole

PIECE_BYTES = 256 * 1024
FEW_OBJECTS = 32  # so many are made durable one by one
ASIDE_KEPT = 20
WHOLE_BYTES = 1 << 62


@dataclass(frozen=True, slots=True)
class Shelved:
    """A version that is kept, without what is in it."""

    epoch: int
    number: int
    digest: str
    name: str

    @property
    def rank(self) -> tuple[int, int]:
        return self.epoch, self.number


class Shelf:
    """sync: makes all of a folder's file system durable (syncfs(2))."""

    def __init__(
        self,
        state_dir: Path,
        group: str,
        allowed: Declared,
        sync: Callable[[Path], None] = lambda _: os.sync(),
    ) -> None:
        self.folder = state_dir / "carried" / group
        self._allowed = allowed
        self._sync = sync
        self._added: list[Path] = []
        self._swept = False

    def prepare(self) -> None:
        """Makes the folders, and clears what was received in part. Raises OSError."""
        for name in ("objects", "parts", "versions", "status", "aside"):
            self._home(name)
        self.folder.chmod(0o700)
        for left in (self.folder / "status").glob("part-*"):
            left.unlink()

    def _home(self, name: str) -> Path:
        """One of its folders, made where it is missing."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self.folder / name).mkdir(mode=0o700, exist_ok=True)
        return self.folder / name

    # ------------------------------------------------------------ contents

    def _object(self, sha256: str) -> Path:
        if not SHA256.fullmatch(sha256):
            raise Garbled(f"{sha256[:80]!r} is no digest")
        return self.folder / "objects" / sha256[:2] / sha256[2:]

    def has(self, sha256: str) -> bool:
        return self._object(sha256).exists()

    def size(self, sha256: str) -> int:
        """0 where it is not there."""
        try:
            return self._object(sha256).stat().st_size
        except FileNotFoundError:
            return 0

    def open(self, sha256: str) -> int:
        """A descriptor to read it by. Raises OSError."""
        return os.open(self._object(sha256), os.O_RDONLY | os.O_CLOEXEC)

    def part(self, sha256: str) -> Path:
        """Where a content that is on its way grows; what a cut left there is gone on with."""
        self._object(sha256)
        return self._home("parts") / sha256

    def adopt(self, sha256: str, part: Path) -> None:
        """A grown part becomes an object. Raises Garbled: it is not what it should be."""
        digest = hashlib.sha256()
        with part.open("rb") as source:
            while piece := source.read(PIECE_BYTES):
                digest.update(piece)
        if digest.hexdigest() != sha256:
            part.unlink()
            raise Garbled(f"{self.folder.name}: a content came that is not what its digest says")
        home = self._object(sha256)
        self._home("objects")
        home.parent.mkdir(mode=0o700, exist_ok=True)
        part.replace(home)
        self._added.append(home)

    def copy_out(self, sha256: str, into: int) -> None:
        """Raises Garbled where it was lost or damaged here: it is to be fetched again."""
        digest = hashlib.sha256()
        try:
            source = self.open(sha256)
        except FileNotFoundError:
            raise Garbled(f"{self.folder}: a content is missing; it is fetched again") from None
        try:
            while piece := os.read(source, PIECE_BYTES):
                digest.update(piece)
                view = memoryview(piece)
                while view:
                    view = view[os.write(into, view) :]
        finally:
            os.close(source)
        if digest.hexdigest() != sha256:
            self._object(sha256).unlink(missing_ok=True)
            raise Garbled(f"{self.folder}: a content was damaged on this disk; it is fetched again")

    # ------------------------------------------------------------ versions

    def versions(self) -> list[Shelved]:
        """Oldest first."""
        found = []
        for path in (self.folder / "versions").glob("*.json"):
            epoch, number, digest = path.stem.split("-")
            found.append(Shelved(int(epoch), int(number), digest, path.name))
        return sorted(found, key=lambda one: (one.rank, one.digest))

    def find(self, digest: str) -> Shelved | None:
        """The newest with these settings."""
        same = [one for one in self.versions() if one.digest == digest]
        return same[-1] if same else None

    def load(self, one: Shelved) -> Version:
        """Raises ValueError, OSError: it was damaged, or other paths are declared now."""
        raw = (self.folder / "versions" / one.name).read_bytes()
        return load_version(json.loads(raw), self._allowed, WHOLE_BYTES)

    def keep(self, version: Version) -> None:
        """With its contents, which are on the shelf already. `settle` makes it durable."""
        self._home("versions")
        name = f"{version.epoch:012d}-{version.number:08d}-{version.digest}"
        for suffix, text in (
            ("held", "\n".join(version.contents())),
            ("json", json.dumps(dump_version(version))),
        ):
            home = self.folder / "versions" / f"{name}.{suffix}"
            self._write(f"versions/{name}.{suffix}", text)
            self._added.append(home)

    def settle(self) -> None:
        """All that was kept is on disk when it returns."""
        if len(self._added) > FEW_OBJECTS:
            self._sync(self.folder)
        else:
            added = [path for path in self._added if path.exists()]
            for path in (*added, *{path.parent for path in added}):
                _settle(path)
        self._added.clear()

    def prune(self, most: int) -> None:
        """Only the newest, and what counts here, stay, and what they hold."""
        kept = self.versions()
        current = self.current_digest()
        old = [one for one in kept[: max(0, len(kept) - most)] if one.digest != current]
        if not old and self._swept:
            return
        gone = {sha256 for one in old for sha256 in self._held(one)}
        for one in old:
            for suffix in (".json", ".held"):
                (self.folder / "versions" / one.name).with_suffix(suffix).unlink(missing_ok=True)
        if not self._swept:  # what an earlier life left as well
            self._swept = True
            gone = {path.parent.name + path.name for path in self.folder.glob("objects/??/*")}
        for one in self.versions():
            gone.difference_update(self._held(one))
        for sha256 in gone:
            self._object(sha256).unlink(missing_ok=True)

    def _held(self, one: Shelved) -> list[str]:
        try:
            return (self.folder / "versions" / one.name).with_suffix(".held").read_text().split()
        except FileNotFoundError:
            return []

    def drop_parts(self) -> None:
        for path in (self.folder / "parts").iterdir():
            path.unlink(missing_ok=True)

    def current_digest(self) -> str:
        """Of the version that counts on this node, "" for none."""
        try:
            text = (self.folder / "current").read_text()
        except FileNotFoundError:
            return ""
        return text if SHA256.fullmatch(text) else ""

    def current(self) -> Version | None:
        """None: there is none that can be used."""
        one = self.find(self.current_digest())
        with contextlib.suppress(ValueError, OSError):
            return self.load(one) if one else None
        return None

    def set_current(self, digest: str) -> None:
        self._write("current", digest)

    def applied(self) -> str:
        """Digest of the settings that the services here were told of last."""
        try:
            return (self.folder / "applied").read_text()
        except FileNotFoundError:
            return ""

    def set_applied(self, digest: str) -> None:
        self._write("applied", digest)

    def _write(self, name: str, text: str) -> None:
        """Whole or as before; what a power cut took is made again."""
        aside = self.folder / f"{name}.new"
        aside.write_text(text)
        aside.replace(self.folder / name)

    # ------------------------------------------------------------ placing

    def begin_placing(self, said: dict[str, Any]) -> None:
        """From here on a cut is mended by doing it again. said: JSON values."""
        write_whole(self.folder / "placing", json.dumps(said).encode(), 0o600)

    def placing(self) -> dict[str, Any] | None:
        """What was begun and not ended."""
        try:
            said = json.loads((self.folder / "placing").read_bytes())
        except (FileNotFoundError, ValueError):
            return None
        return said if isinstance(said, dict) else None

    def end_placing(self) -> None:
        (self.folder / "placing").unlink(missing_ok=True)

    def put_aside(self, when: str, path: str, source: int) -> Path:
        """Keeps what people wrote on this host before it is replaced; the oldest go."""
        home = self._home("aside") / when
        kept = home / path.lstrip("/")
        kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with kept.open("wb") as into, open(source, "rb", closefd=False) as old:
            shutil.copyfileobj(old, into, PIECE_BYTES)
            into.flush()
            os.fsync(into.fileno())
        for old_home in sorted((self.folder / "aside").iterdir())[:-ASIDE_KEPT]:
            shutil.rmtree(old_home, ignore_errors=True)
        return kept

    # ------------------------------------------------------------ status

    @contextmanager
    def incoming(self) -> Iterator[Path]:
        """A file for a status that is being received; gone unless it was kept."""
        part = self._home("status") / f"part-{secrets.token_hex(8)}"
        try:
            yield part
        finally:
            part.unlink(missing_ok=True)

    def keep_status(self, snapshot: Snapshot, part: Path, vouched_wall_ms: int) -> None:
        """Takes the place of the freshest. `settle_status` makes it durable."""
        folder = self.folder / "status"
        content = folder / self._content(snapshot)
        part.replace(content)
        self._write("status/fresh.json", _noted(snapshot, vouched_wall_ms))
        for path in folder.glob("*.content"):
            if path != content and path.name != "durable.content":
                path.unlink()

    def settle_status(self, snapshot: Snapshot, vouched_wall_ms: int) -> None:
        """On disk when it returns, even where a fresher one comes meanwhile. OSError if it went.

        In any thread, but only once at a time.
        """
        folder = self.folder / "status"
        settling = folder / "settling"
        settling.unlink(missing_ok=True)
        os.link(folder / self._content(snapshot), settling)
        _settle(settling)
        settling.replace(folder / "durable.content")
        write_whole(folder / "durable.json", _noted(snapshot, vouched_wall_ms).encode(), 0o600)

    def status(self) -> tuple[Snapshot, int] | None:
        """The freshest that is whole, and when it was the writer's latest by our wall clock, ms."""
        for name in ("fresh", "durable"):
            said = self._noted(name)
            if said is None:
                continue
            content = self._content(said[0]) if name == "fresh" else "durable.content"
            with contextlib.suppress(OSError):
                whole = (self.folder / "status" / content).read_bytes()
                if hashlib.sha256(whole).hexdigest() == said[0].entry.sha256:
                    if name == "durable":  # from here on it is the freshest
                        (self.folder / "status" / self._content(said[0])).write_bytes(whole)
                    return said
        return None

    @staticmethod
    def _content(snapshot: Snapshot) -> str:
        return f"{snapshot.entry.sha256}.content"

    def noted_status(self) -> Snapshot | None:
        """The freshest that was ever received or written, whole or not."""
        found = [said[0] for name in ("fresh", "durable") if (said := self._noted(name))]
        return max(found, key=lambda snapshot: snapshot.rank, default=None)

    def open_status(self, snapshot: Snapshot) -> int:
        """A descriptor to read it by. Raises OSError."""
        path = self.folder / "status" / self._content(snapshot)
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def lend_status(self, snapshot: Snapshot) -> Path:
        """The content under a name that stays when a fresher one comes. Raises OSError."""
        folder = self.folder / "status"
        (folder / "trial.new").unlink(missing_ok=True)
        os.link(folder / self._content(snapshot), folder / "trial.new")
        (folder / "trial.new").replace(folder / "trial")
        return folder / "trial"

    def _noted(self, name: str) -> tuple[Snapshot, int] | None:
        try:
            said = json.loads((self.folder / "status" / f"{name}.json").read_bytes())
            snapshot = load_snapshot(said["snapshot"], self._allowed, WHOLE_BYTES)
            return snapshot, int(said["vouched_wall_ms"])
        except (OSError, ValueError, LookupError, TypeError):
            return None


def _noted(snapshot: Snapshot, vouched_wall_ms: int) -> str:
    return json.dumps({"snapshot": dump_snapshot(snapshot), "vouched_wall_ms": vouched_wall_ms})


def _settle(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
