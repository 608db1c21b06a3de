# SPDX-License-Identifier: GPL-2.0-or-later
"""What is carried for a group, written down: entries of files, versions of settings, a status.

Everything here may come from a peer, so nothing is believed: `load_version` and `load_snapshot`
take JSON values and raise ValueError, in words for people, for all that is not of the form, not
below a declared path, or beyond a limit. Names that are no UTF-8 are strings with surrogates, as
os.fsdecode makes them.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from agent.core.settings import CarriedSettings

MOST_ENTRIES = 100_000
LONGEST_PATH_BYTES = 4095  # PATH_MAX without its NUL
LONGEST_NAME_BYTES = 255
LONGEST_OWNER = 64
MOST_LEFT_OUT = 100
STAGE = re.compile(r"\.standpipe-[0-9a-f]{16}")  # ours beside what it will replace; never carried
SHA256 = re.compile(r"[0-9a-f]{64}")
FILE_MODE, FOLDER_MODE = 0o777, 0o3777  # who may become another user by a file is not carried
KINDS = ("file", "dir", "link")


@dataclass(frozen=True, slots=True)
class Entry:
    """A file, folder or link. owner, group: by name, where the writer knows one, else digits.

    size, sha256 (hex): of a file's content; target: what a link says. mode: its low bits.
    """

    path: str
    kind: str
    mode: int
    owner: str
    group: str
    uid: int
    gid: int
    size: int = 0
    mtime_ns: int = 0
    sha256: str = ""
    target: str = ""

    def line(self) -> bytes:
        """What counts when two are compared: not when it was written, nor a user's number."""
        said = [self.path, self.kind, self.mode, self.owner, self.group, self.sha256, self.target]
        return json.dumps(said).encode() + b"\n"

    def said(self) -> dict[str, Any]:
        """JSON values."""
        return {name: getattr(self, name) for name in _ENTRY}


Entries = Mapping[str, Entry]


@dataclass(frozen=True, slots=True)
class Version:
    """One state of a group's settings and licences. They follow one another by `rank`.

    node: who made it; origin_ms: when, by that node's wall clock. left_out: what lies there and is
    not carried, and why.
    """

    group: str
    number: int
    epoch: int
    origin_ms: int
    node: str
    entries: Entries
    left_out: tuple[str, ...] = ()
    digest: str = field(default="")

    def __post_init__(self) -> None:
        if not self.digest:
            object.__setattr__(self, "digest", digest_of(self.entries))

    @property
    def rank(self) -> tuple[int, int]:
        return self.epoch, self.number

    @property
    def total_bytes(self) -> int:
        return sum(entry.size for entry in self.entries.values())

    def contents(self) -> dict[str, int]:
        """sha256 -> size of everything that its files hold."""
        return {e.sha256: e.size for e in self.entries.values() if e.kind == "file"}


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A group's status file as it was once: under which epoch and when, by the writer's clock."""

    entry: Entry
    epoch: int
    origin_ms: int
    node: str

    @property
    def rank(self) -> tuple[int, int]:
        return self.epoch, self.origin_ms


@dataclass(frozen=True, slots=True)
class Declared:
    """The only paths that are read or written on behalf of a peer."""

    roots: tuple[str, ...]  # of settings and licences, without a / at the end
    trees: frozenset[str]  # those of `roots` that are folders
    own: tuple[str, ...] = ()  # never carried, with all below them
    status: str = ""

    def root_of(self, path: str) -> str:
        """The declared path that `path` is, or is below; "" where there is none."""
        for root in self.roots:
            if path == root or (root in self.trees and path.startswith(root + "/")):
                return root
        return ""

    def owned(self, path: str) -> bool:
        """It belongs to each node itself: `own`, the status inside a tree, what we stage."""
        kept = (*self.own, self.status) if self.status else self.own
        if any(path == one or path.startswith(one + "/") for one in kept):
            return True
        return STAGE.fullmatch(path.rpartition("/")[2]) is not None

    def covers(self, path: str) -> bool:
        return bool(self.root_of(path)) and not self.owned(path)


def declared(carried: CarriedSettings) -> Declared:
    """The settings' paths in the form in which they are compared."""
    paths = (*carried.files, *carried.licence)
    return Declared(
        tuple(dict.fromkeys(path.rstrip("/") for path in paths)),
        frozenset(path.rstrip("/") for path in paths if path.endswith("/")),
        tuple(path.rstrip("/") for path in carried.own),
        carried.status,
    )


def digest_of(entries: Entries) -> str:
    """Of a whole version: hex sha256 over its entries in the order of their paths."""
    whole = hashlib.sha256()
    for path in sorted(entries):
        whole.update(entries[path].line())
    return whole.hexdigest()


def path_trouble(path: object) -> str:
    """Why this is no path that may be carried, "" if it is."""
    if not isinstance(path, str) or not path.startswith("/") or "\0" in path:
        return "not an absolute path"
    try:
        coded = path.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return "not a file name"
    if len(coded) > LONGEST_PATH_BYTES:
        return f"longer than {LONGEST_PATH_BYTES} bytes"
    for name in path[1:].split("/"):
        if name in ("", ".", ".."):
            return "has an empty part, . or .."
        if len(name.encode("utf-8", "surrogateescape")) > LONGEST_NAME_BYTES:
            return f"has a name longer than {LONGEST_NAME_BYTES} bytes"
    return ""


def link_trouble(path: str, target: str, root: str) -> str:
    """Why a link may not be carried: only those that are relative and stay below `root` may.

    Parts that go up stand before all others, so that what the kernel follows is what is read here.
    """
    if not target or "\0" in target or target.startswith("/"):
        return f"a link to {target or 'nothing'}, which is not relative"
    parts = [part for part in target.split("/") if part not in ("", ".")]
    ups = next((i for i, part in enumerate(parts) if part != ".."), len(parts))
    if ".." in parts[ups:]:
        return f"a link to {target}, which goes down and up again"
    inside = path.rpartition("/")[0][len(root) :].count("/")
    if path == root or ups > inside:
        return f"a link to {target}, which leads out of {root}"
    return ""


# ---------------------------------------------------------------- JSON


def dump_version(version: Version, whole: bool = True) -> dict[str, Any]:
    """JSON values: {group, number, epoch, origin_ms, node, left_out, digest, entries: [{...}]}.

    whole False: without entries.
    """
    said = {name: getattr(version, name) for name in Version.__slots__ if name != "entries"}
    said["left_out"] = list(version.left_out)
    if not whole:
        return said
    return said | {"entries": [entry.said() for entry in version.entries.values()]}


def load_version(said: Any, allowed: Declared, max_bytes: int) -> Version:
    """Raises ValueError."""
    raw = said.get("entries") if isinstance(said, dict) else None
    if not isinstance(raw, list) or len(raw) > MOST_ENTRIES:
        raise ValueError(f"a version has a list of at most {MOST_ENTRIES} entries")
    entries: dict[str, Entry] = {}
    for one in raw:
        entry = load_entry(one)
        if entry.path in entries:
            raise ValueError(f"{entry.path}: is in it twice")
        entries[entry.path] = entry
    return _version(said, entries, allowed, max_bytes)


def _version(
    said: dict[str, Any], entries: dict[str, Entry], allowed: Declared, max_bytes: int
) -> Version:
    head = _fields(said, "a version", _VERSION)
    check_entries(entries, allowed, max_bytes)
    left_out = said.get("left_out")
    if not isinstance(left_out, list) or len(left_out) > MOST_LEFT_OUT:
        raise ValueError("left_out is not a short list")
    version = Version(**head, entries=entries, left_out=tuple(str(t)[:500] for t in left_out))
    if said.get("digest") != version.digest:
        raise ValueError(f"version {version.number}: its digest does not match what it holds")
    return version


def check_entries(entries: Entries, allowed: Declared, max_bytes: int) -> None:
    """Each below a declared path, in folders that are folders, all together within the limit."""
    total = 0
    for path, entry in entries.items():
        root = allowed.root_of(path)
        if not root or allowed.owned(path):
            raise ValueError(f"{path}: is not declared in the settings of this group here")
        if path == root:
            wanted = "dir" if root in allowed.trees else "file"
            if entry.kind != wanted:
                raise ValueError(f"{path}: is declared as a {wanted} and came as a {entry.kind}")
        else:
            above = entries.get(path.rpartition("/")[0])
            if above is None or above.kind != "dir":
                raise ValueError(f"{path}: what it lies in is no folder")
        if entry.kind == "link" and (trouble := link_trouble(path, entry.target, root)):
            raise ValueError(f"{path}: {trouble}")
        total += entry.size
    if total > max_bytes:
        raise ValueError(f"{total} bytes in all, more than max_size = {max_bytes}")


def load_entry(said: Any) -> Entry:
    """Raises ValueError."""
    entry = Entry(**_fields(said, "an entry", _ENTRY))
    if trouble := path_trouble(entry.path):
        raise ValueError(f"{entry.path[:200]!r}: {trouble}")
    if entry.kind not in KINDS:
        raise ValueError(f"{entry.path}: is a {entry.kind[:20]!r}, which is not carried")
    most = FOLDER_MODE if entry.kind == "dir" else FILE_MODE
    if entry.mode & ~most:
        raise ValueError(f"{entry.path}: mode {entry.mode:o} is not carried")
    if not all(_good_name(name) for name in (entry.owner, entry.group)):
        raise ValueError(f"{entry.path}: its owner has no name")
    if entry.kind == "file":
        if not SHA256.fullmatch(entry.sha256) or entry.target:
            raise ValueError(f"{entry.path}: a file has a digest and no target")
    elif entry.size or entry.sha256 or bool(entry.target) != (entry.kind == "link"):
        raise ValueError(f"{entry.path}: a {entry.kind} has no content")
    return entry


def _good_name(name: str) -> bool:
    return 0 < len(name) <= LONGEST_OWNER and name.isprintable() and "/" not in name


def dump_snapshot(snapshot: Snapshot) -> dict[str, Any]:
    """JSON values."""
    head = {name: getattr(snapshot, name) for name in _SNAPSHOT}
    return head | {"entry": snapshot.entry.said()}


def load_snapshot(said: Any, allowed: Declared, max_bytes: int) -> Snapshot:
    """Raises ValueError."""
    head = _fields(said, "a status", _SNAPSHOT)
    entry = load_entry(said.get("entry"))
    if entry.path != allowed.status or entry.kind != "file":
        raise ValueError(f"{entry.path}: is not the status file of this group here")
    if entry.size > max_bytes:
        raise ValueError(f"{entry.path}: {entry.size} bytes, more than max_size = {max_bytes}")
    return Snapshot(entry=entry, **head)


MOST = 1 << 62
_VERSION: dict[str, type] = {
    "group": str,
    "number": int,
    "epoch": int,
    "origin_ms": int,
    "node": str,
}
_SNAPSHOT: dict[str, type] = {"epoch": int, "origin_ms": int, "node": str}
_ENTRY: dict[str, type] = {name: int for name in ("mode", "uid", "gid", "size", "mtime_ns")} | {
    name: str for name in ("path", "kind", "owner", "group", "sha256", "target")
}


def _fields(said: Any, what: str, kinds: Mapping[str, type]) -> dict[str, Any]:
    if not isinstance(said, dict):
        raise ValueError(f"{what} is not an object")
    found: dict[str, Any] = {}
    for name, kind in kinds.items():
        value = said.get(name)
        if type(value) is not kind or (isinstance(value, int) and not 0 <= value < MOST):
            raise ValueError(f"{what} has no good {name}")
        found[name] = value
    return found


# ---------------------------------------------------------------- what changed


def delta(old: Entries, new: Entries) -> dict[str, Any]:
    """JSON values that make `old` into `new`: {"gone": [path], "entries": [{...}]}."""
    return {
        "gone": [path for path in old if path not in new],
        "entries": [entry.said() for path, entry in new.items() if old.get(path) != entry],
    }


def patched(old: Version, said: Any, allowed: Declared, max_bytes: int) -> Version:
    """What a dumped version without entries, with a `delta` in their place, makes of `old`.

    Raises ValueError.
    """
    change = said.get("change") if isinstance(said, dict) else None
    gone = change.get("gone") if isinstance(change, dict) else None
    fresh = change.get("entries") if isinstance(change, dict) else None
    if not isinstance(gone, list) or not isinstance(fresh, list):
        raise ValueError("a change of a version is {gone, entries}")
    if len(fresh) > MOST_ENTRIES or not all(isinstance(path, str) for path in gone):
        raise ValueError("a change of a version is too long, or loses what has no path")
    lost = set(gone)
    entries = {path: entry for path, entry in old.entries.items() if path not in lost}
    for one in fresh:
        entry = load_entry(one)
        entries[entry.path] = entry
    if len(entries) > MOST_ENTRIES:
        raise ValueError(f"a version has at most {MOST_ENTRIES} entries")
    return _version(said, entries, allowed, max_bytes)
