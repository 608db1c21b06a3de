# SPDX-License-Identifier: GPL-2.0-or-later
"""One group's settings and licences on this node's disk: looked at, made into versions, placed.

Blocking, all of it in one thread. What lies there is compared with the version that counts here;
what people wrote on a standby is put aside before it is replaced, and said.
"""

import contextlib
import os
import secrets
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from dataclasses import dataclass

from agent.carry_hands import Hands
from agent.core.difference import Difference, difference, missing_roots
from agent.core.manifest import Declared, Entry, Version, digest_of
from agent.ports import PortError, Refused, Unreachable
from agent.shelf import Shelf

RECENT = 3
NAMED = 3  # paths in a text for people
CUT_BYTES = 16  # hex digits of a stage's name


@dataclass(frozen=True, slots=True)
class Drift:
    """What lies here against the version that counts. edited: paths that somebody wrote here."""

    found: Difference
    edited: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.found)


class CarriedFiles:
    """trouble: why no version can be made of what lies here, "" where one can."""

    def __init__(
        self, group: str, node: str, allowed: Declared, shelf: Shelf, hands: Hands
    ) -> None:
        self.shelf = shelf
        self.allowed = allowed
        self.current: Version | None = None
        self.recent: dict[str, Version] = {}  # those that counted before, by digest
        self.live: dict[str, Entry] = {}
        self.left_out: dict[str, str] = {}
        self.unsettled = False
        self.trouble = ""
        self._unkept: list[Version] = []
        self._group = group
        self._node = node
        self._hands = hands
        self._tree = hands.tree(allowed)

    def start(self) -> str:
        """Ends what was cut in the middle; what was done, "" for nothing.

        Raises PortError, OSError.
        """
        self.shelf.prepare()
        self.current = self.shelf.current()
        done = ""
        said = self.shelf.placing()
        if said is not None:
            done = self._go_on(said)
            self.shelf.end_placing()
        self._hands.staging(self.allowed, secrets.token_hex(8)).sweep()
        self.look()
        return done

    def _go_on(self, said: dict[str, object]) -> str:
        version, token, files = self.current, said.get("token"), said.get("files")
        if version is None or version.digest != said.get("digest"):
            return ""
        if not isinstance(token, str) or not isinstance(files, dict):
            return ""
        numbered = {
            int(number): version.entries[path]
            for number, path in files.items()
            if path in version.entries
        }
        self._tree.look()
        extra = difference(self._tree.entries, version.entries, self._hands.local_ids).extra
        rest = [entry for entry in version.entries.values() if entry.kind != "file"]
        with contextlib.suppress(PortError):  # what is missing is drift, and mended as that
            self._hands.staging(self.allowed, token).place(numbered, rest, extra)
        return f"{self._group}: version {version.number} was half placed; it is placed now"

    # ------------------------------------------------------------ what lies here

    def look(self, only: Collection[str] | None = None) -> None:
        """Raises PortError."""
        self._tree.look(only)
        self.live = dict(self._tree.entries)
        self.left_out = dict(self._tree.left_out)
        self.unsettled = bool(self._tree.unsettled)

    def drift(self) -> Drift:
        """Against `current`; nothing where there is none."""
        if self.current is None:
            return Drift(Difference(), ())
        found = difference(self.live, self.current.entries, self._hands.local_ids)
        edited = [path for path in found.paths() if self._edited(path)]
        return Drift(found, tuple(edited))

    def _edited(self, path: str) -> bool:
        """It holds what no version that is kept here ever held."""
        live = self.live.get(path)
        if live is None or live.kind == "dir":
            return False
        return live.kind == "link" or not self.shelf.has(live.sha256)

    # ------------------------------------------------------------ a version of what lies here

    def publish(self, epoch: int, wall_ms: int, max_bytes: int) -> bool:
        """Makes what lies here the version that counts; False: it is already, or cannot be.

        Raises OSError, PortError.
        """
        before = self.current.entries if self.current else {}
        missing = missing_roots(before, self.live, self.allowed)
        size_bytes = sum(entry.size for entry in self.live.values())
        if missing:
            self.trouble = (
                f"{', '.join(missing[:NAMED])}: not there; put it back, or take it out of"
                f" [group.{self._group}.settings]"
            )
        elif size_bytes > max_bytes:
            self.trouble = f"{size_bytes} bytes in all, more than max_size = {max_bytes}"
        else:
            self.trouble = ""
        left_out = tuple(f"{path}: {why}" for path, why in sorted(self.left_out.items()))
        digest = digest_of(self.live)
        same = self.current is not None and self.current.digest == digest
        if self.trouble or self.unsettled:
            return False
        if same and self.current is not None and self.current.left_out == left_out:
            return False
        for path, entry in self.live.items():
            old = before.get(path)
            if entry.kind != "file" or (old is not None and old.sha256 == entry.sha256):
                continue
            if not self.shelf.has(entry.sha256):
                self._store(entry)
        numbers = [one.number for one in self.shelf.versions()]
        number = max([*numbers, *(one.number for one in self._unkept)], default=0) + 1
        self.count(
            Version(self._group, number, epoch, wall_ms, self._node, self.live, left_out, digest)
        )
        self.shelf.set_applied(digest)
        return True

    def _store(self, entry: Entry) -> None:
        if entry.size > self._hands.spare_bytes(str(self.shelf.folder)):
            raise Refused(f"{self.shelf.folder}: no room for {entry.path}; make room")
        part = self.shelf.part(entry.sha256)
        with part.open("wb") as into:
            found = self._tree.snapshot(entry.path, into.fileno())
        if found.sha256 != entry.sha256:
            part.unlink()
            self.unsettled = True
            raise Unreachable(f"{entry.path}: changed while it was read; it is looked at again")
        self.shelf.adopt(entry.sha256, part)

    def count(self, version: Version) -> None:
        """From now on this one counts here; `tidy` writes it down."""
        if self.current is not None:
            self.recent[self.current.digest] = self.current
            while len(self.recent) > RECENT:
                del self.recent[next(iter(self.recent))]
        self.current = version
        self._unkept.append(version)

    def tidy(self, versions: int) -> None:
        """What counts is on disk, and no more than is wanted. Raises OSError."""
        self._write_down()
        self.shelf.prune(versions)

    def _write_down(self) -> None:
        for version in self._unkept:
            self.shelf.keep(version)
            self.shelf.set_current(version.digest)
        self._unkept.clear()
        self.shelf.settle()

    # ------------------------------------------------------------ a version into its place

    def place(self, active: Callable[[], bool], when: str) -> list[str]:
        """Makes what lies here what `current` says; where what people wrote here was put aside.

        active: asked until nothing can be taken back any more. Raises PortError, OSError, and then
        what was there is as it was.
        """
        version = self.current
        if version is None or not (drift := self.drift()):
            return []
        serving = f"{self._group}: this node serves it; what it serves with is not replaced"
        if active():
            raise Refused(serving)
        aside = self._put_aside(drift.edited, when)
        token = secrets.token_hex(CUT_BYTES // 2)
        staging = self._hands.staging(self.allowed, token)
        wrong = [entry for entry in drift.found.wrong if entry.kind == "file"]
        files = dict(enumerate(wrong))
        try:
            staging.check_room(wrong)
            for number, entry in files.items():
                staging.stage(number, entry, lambda fd, e=entry: self._fill(e, fd))  # type: ignore[misc]
            staging.settle()
            if active():
                raise Refused(serving)
        except (PortError, OSError):
            staging.clear()
            raise
        rest = [entry for entry in drift.found.wrong if entry.kind != "file"]
        if len(drift.found.paths()) > 1:  # one rename is whole by itself
            paths = {str(number): entry.path for number, entry in files.items()}
            self._write_down()
            self.shelf.begin_placing({"digest": version.digest, "token": token, "files": paths})
        staging.place(files, rest, drift.found.extra)
        self.shelf.end_placing()
        changed = {os.path.dirname(path) for path in drift.found.paths()}
        self.look(changed if len(changed) < len(self.live) // 4 else None)
        return aside

    def _fill(self, entry: Entry, into: int) -> None:
        self.shelf.copy_out(entry.sha256, into)

    def _put_aside(self, paths: Collection[str], when: str) -> list[str]:
        kept = []
        for path in paths:
            if self.live[path].kind == "file":
                with self._tree.reading(path) as source:
                    kept.append(str(self.shelf.put_aside(when, path, source)))
        return kept

    # ------------------------------------------------------------ for people

    def reading(self, path: str) -> AbstractContextManager[int]:
        """A descriptor of what lies there. Raises Refused, Unreachable."""
        return self._tree.reading(path)

    def named(self, paths: Collection[str]) -> str:
        """The first few of them."""
        some = ", ".join(list(paths)[:NAMED])
        return some if len(paths) <= NAMED else f"{some} and {len(paths) - NAMED} more"
