# SPDX-License-Identifier: GPL-2.0-or-later
"""What is carried for a group, kept in a folder that is not trusted: sealed, versioned, only grown.

Blocking. Each stream of deposits (a group's settings, a group's status) has a folder of its own
with three sorts of objects: parcels (files' contents), a manifest for each deposit, and one head
that lists the manifests and counts up with every write, so that a folder that was put back to an
older state shows. Parcels go first and the head last: whatever is cut off in between is not seen.
"""

import hashlib
import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from agent.core.parcels import PARCEL_BYTES, File, Parcel, Piece, pack, parcel_bytes, parcel_text
from agent.ports import Garbled, Refused, Unreachable

FORMAT = 1
MOST_HEAD_BYTES = 1 << 20
MOST_MANIFEST_BYTES = 128 << 20  # 100,000 entries with long paths
MOST_SEALED_MANIFEST_BYTES = 64 << 20
SEALED_ROOM_BYTES = 1 << 17  # more than what sealing adds
ZLIB_LEVEL = 6


class Folder(Protocol):
    """A place far away. Paths are "folder/name". All raise Unreachable, Refused, Garbled."""

    def read(self, path: str, most_bytes: int) -> bytes | None: ...
    def write(self, path: str, content: bytes) -> None: ...
    def names(self, folder: str) -> dict[str, int]: ...
    def make(self, folder: str) -> None: ...
    def remove(self, path: str) -> None: ...
    def close(self) -> None: ...


class Seal(Protocol):
    """Names and contents that say nothing to others."""

    def name(self, *parts: str) -> str: ...
    def seal(self, name: str, content: bytes) -> bytes: ...
    def unseal(self, name: str, sealed: bytes) -> bytes:
        """Raises Garbled."""
        ...

    def sealed_bytes(self, length: int) -> int:
        """How long an object with so much content is."""
        ...


class Overtaken(Refused):
    """What lies there is newer than what was to be put there."""


@dataclass(frozen=True, slots=True)
class Deposit:
    """One state of a stream. They follow one another by `rank`.

    document: JSON values, for whoever asked for it; files: what it needs the contents of.
    """

    rank: tuple[int, int]
    document: dict[str, Any]
    files: tuple[File, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """A deposit as the head lists it. manifest: the object's name."""

    rank: tuple[int, int]
    manifest: str


@dataclass(frozen=True, slots=True)
class Head:
    """serial: counts every write; at_s: wall clock of the last one, by node `by`."""

    serial: int
    by: str
    at_s: float
    rows: tuple[Row, ...]  # newest first


@dataclass(slots=True)
class Uploaded:
    """What a push did. warning: what was found wrong there and is right again, "" if nothing."""

    objects: int = 0
    sent_bytes: int = 0
    removed: int = 0
    warning: str = ""


@dataclass(slots=True)
class Stream:
    """One stream's folder there.

    parts: what names it ("group", "sbc", "settings"). pause(s): waits, or raises to end it.
    """

    folder: Folder
    vault: Seal
    parts: tuple[str, ...]
    node: str
    pause: Callable[[float], None] = lambda _: None
    rate_bytes_s: int = 0  # 0: as fast as it goes
    _parcels: dict[str, frozenset[str]] = field(default_factory=dict)  # manifest -> parcels' names
    _made: bool = False

    @property
    def place(self) -> str:
        """Its folder."""
        return self.vault.name("folder", *self.parts)

    @property
    def _head_name(self) -> str:
        return self.vault.name("head", *self.parts)

    def head(self) -> Head | None:
        """None: nothing is there yet. Raises Unreachable, Refused, Garbled."""
        content = self._fetch(self._head_name, MOST_HEAD_BYTES, MOST_HEAD_BYTES)
        if content is None:
            return None
        said = _json(content, "head")
        try:
            rows = tuple(
                Row((int(epoch), int(number)), str(manifest))
                for epoch, number, manifest in said["rows"]
            )
            return Head(int(said["serial"]), str(said["by"]), float(said["at_s"]), rows)
        except (KeyError, TypeError, ValueError) as error:
            raise Garbled(f"{self._who}: a head of another form: {error!r}") from error

    # ------------------------------------------------------------ there

    def push(
        self,
        deposit: Deposit,
        content: Callable[[str], BinaryIO],
        *,
        keep: int,
        seen: int,
        at_s: float,
    ) -> tuple[Head, Uploaded]:
        """Puts a deposit there; `keep` of them stay. Only what is not there already travels.

        content: of a file, by digest; seen: the highest serial seen yet. Raises Overtaken,
        Unreachable, Refused, Garbled.
        """
        done = Uploaded()
        if not self._made:
            self.folder.make(self.place)
            self._made = True
        before = self._mended_head(done, seen)
        rows = () if before is None else before.rows
        if rows and rows[0].rank > deposit.rank:
            raise Overtaken(
                f"{self._who}: {before.by if before else ''} has put a newer version there "
                f"({rows[0].rank} after {deposit.rank}); it is left as it is"
            )
        there = self.folder.names(self.place)
        parcels = pack(deposit.files)
        for parcel in parcels:
            name = self._parcel_name(parcel)
            if not self._lies(there.get(name), parcel_bytes(parcel)):
                self._put(name, b"".join(_pieces(parcel, content)), done)
        manifest = _manifest(deposit, parcels)
        name = self.vault.name("manifest", *self.parts, hashlib.sha256(manifest).hexdigest())
        if not self._lies(there.get(name), len(manifest)):
            self._put(name, manifest, done)
        self._parcels[name] = frozenset(map(self._parcel_name, parcels))
        kept = [row for row in rows if row.manifest != name and self._known(row)][: keep - 1]
        serial = max(seen, before.serial if before else 0) + 1
        after = Head(serial, self.node, at_s, (Row(deposit.rank, name), *kept))
        self._put(self._head_name, _head_content(after), done)
        self._sweep(after, there, done)
        return after, done

    def _mended_head(self, done: Uploaded, seen: int) -> Head | None:
        try:
            before = self.head()
        except Garbled as error:
            done.warning = f"{error}; it was written anew"
            return None
        if (before.serial if before else 0) < seen:
            done.warning = (
                f"{self._who}: the folder was put back to an older state, or emptied "
                f"(write {before.serial if before else 0}, seen {seen}); it was written anew"
            )
        return before

    def _put(self, name: str, content: bytes, done: Uploaded) -> None:
        sealed = self.vault.seal(name, content)
        self.folder.write(f"{self.place}/{name}", sealed)
        done.objects += 1
        done.sent_bytes += len(sealed)
        self.pause(len(sealed) / self.rate_bytes_s if self.rate_bytes_s else 0.0)

    def _lies(self, listed: int | None, length: int) -> bool:
        """Not one that was cut short. -1: the server does not say how long it is."""
        return listed is not None and listed in (-1, self.vault.sealed_bytes(length))

    def _known(self, row: Row) -> bool:
        """Whether its manifest can still be read; which parcels it needs is known then."""
        if row.manifest not in self._parcels:
            try:
                _, parcels = self._manifest_of(row)
            except Garbled:
                return False
            self._parcels[row.manifest] = frozenset(map(self._parcel_name, parcels))
        return True

    def _sweep(self, head: Head, there: dict[str, int], done: Uploaded) -> None:
        live = {self._head_name}
        for row in head.rows:
            live |= {row.manifest, *self._parcels[row.manifest]}
        for name in there.keys() - live:
            self.folder.remove(f"{self.place}/{name}")
            done.removed += 1
        self._parcels = {row.manifest: self._parcels[row.manifest] for row in head.rows}

    # ------------------------------------------------------------ and back

    def fetch(self, head: Head, into: Path, most_bytes: int, place: int = 0) -> Deposit:
        """The deposit in row `place` of the head; its contents are files in `into`, by digest.

        Nothing else is written there. Raises Garbled for all that is not as it was put there.
        """
        row = head.rows[place]
        document, parcels = self._manifest_of(row)
        total = sum(map(parcel_bytes, parcels))
        if total > most_bytes:
            raise Garbled(f"{self._who}: {total} bytes, more than {most_bytes}")
        sizes: dict[str, int] = {}
        for parcel in parcels:
            name = self._parcel_name(parcel)
            length = parcel_bytes(parcel)
            content = self._fetch(name, length, length)
            if content is None or len(content) != length:
                raise Garbled(f"{self._who}: object {name[:16]} is missing or cut short")
            _lay_out(parcel, content, into, sizes)
        for digest in sizes:
            if _digest_of(into / digest) != digest:
                raise Garbled(f"{self._who}: file {digest[:16]} is not what it was")
        files = tuple(File("", digest, size) for digest, size in sizes.items())
        return Deposit(row.rank, document, files)

    def _manifest_of(self, row: Row) -> tuple[dict[str, Any], list[Parcel]]:
        content = self._fetch(row.manifest, MOST_SEALED_MANIFEST_BYTES, MOST_MANIFEST_BYTES)
        if content is None:
            raise Garbled(f"{self._who}: the manifest {row.manifest[:16]} is gone")
        inflater = zlib.decompressobj()
        try:
            text = inflater.decompress(content, MOST_MANIFEST_BYTES)
            if inflater.unconsumed_tail or not inflater.eof:
                raise ValueError("too long")
            said = _json(text, "manifest")
            if tuple(said["rank"]) != row.rank:
                raise ValueError("it belongs to another version")
            parcels = [tuple(_piece(*piece) for piece in parcel) for parcel in said["parcels"]]
            document = said["document"]
            if not isinstance(document, dict) or any(
                parcel_bytes(parcel) > PARCEL_BYTES for parcel in parcels
            ):
                raise ValueError("it has another form")
        except (KeyError, TypeError, ValueError, zlib.error) as error:
            raise Garbled(f"{self._who}: manifest {row.manifest[:16]}: {error!r}") from error
        return document, parcels

    def _fetch(self, name: str, inside_bytes: int, most_bytes: int) -> bytes | None:
        sealed = self.folder.read(f"{self.place}/{name}", inside_bytes + SEALED_ROOM_BYTES)
        if sealed is None:
            return None
        content = self.vault.unseal(name, sealed)
        if len(content) > most_bytes:
            raise Garbled(f"{self._who}: object {name[:16]} is too long")
        return content

    def _parcel_name(self, parcel: Parcel) -> str:
        return self.vault.name("parcel", *self.parts, parcel_text(parcel))

    @property
    def _who(self) -> str:
        return f"cloud, {' '.join(self.parts)}"


def _manifest(deposit: Deposit, parcels: list[Parcel]) -> bytes:
    said = {
        "format": FORMAT,
        "rank": deposit.rank,
        "document": deposit.document,
        "parcels": [
            [[piece.sha256, piece.offset, piece.length] for piece in parcel] for parcel in parcels
        ],
    }
    text = json.dumps(said, sort_keys=True, separators=(",", ":"))
    return zlib.compress(text.encode(), ZLIB_LEVEL)


def _head_content(head: Head) -> bytes:
    said = {
        "format": FORMAT,
        "serial": head.serial,
        "by": head.by,
        "at_s": head.at_s,
        "rows": [[*row.rank, row.manifest] for row in head.rows],
    }
    return json.dumps(said).encode()


def _json(content: bytes, what: str) -> dict[str, Any]:
    try:
        said = json.loads(content)
    except ValueError as error:
        raise Garbled(f"cloud: a {what} that is no JSON: {error}") from error
    if not isinstance(said, dict) or said.get("format") != FORMAT:
        raise Garbled(f"cloud: a {what} of another format; bring all nodes to the same version")
    return said


def _piece(sha256: str, offset: int, length: int) -> Piece:
    if len(sha256) != 64 or not set(sha256) <= set("0123456789abcdef"):
        raise ValueError(f"{sha256!r} is no digest")
    if type(offset) is not int or type(length) is not int or offset < 0 or length <= 0:
        raise ValueError("a piece of no length")
    return Piece(sha256, offset, length)


def _pieces(parcel: Parcel, content: Callable[[str], BinaryIO]) -> Iterator[bytes]:
    for piece in parcel:
        try:
            with content(piece.sha256) as stream:
                stream.seek(piece.offset)
                block = stream.read(piece.length)
        except OSError as error:
            raise Unreachable(
                f"cloud: {piece.sha256[:16]} could not be read here: {error.strerror}; the next "
                "version is tried"
            ) from error
        if len(block) != piece.length:
            raise Unreachable(f"cloud: {piece.sha256[:16]} became shorter; the next is tried")
        yield block


def _lay_out(parcel: Parcel, content: bytes, into: Path, sizes: dict[str, int]) -> None:
    """Appends each piece to its file. Pieces of one file come in order."""
    start = 0
    for piece in parcel:
        if piece.offset != sizes.get(piece.sha256, 0):
            raise Garbled(f"cloud: pieces of {piece.sha256[:16]} are not in order")
        with (into / piece.sha256).open("ab" if piece.offset else "wb") as stream:
            stream.write(content[start : start + piece.length])
        start += piece.length
        sizes[piece.sha256] = piece.offset + piece.length


def _digest_of(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
