# SPDX-License-Identifier: GPL-2.0-or-later
"""How nodes tell one another what they carry: frames, questions, answers, and whom to follow.

A node that stands by asks, the other one answers; one question at a time on a connection. So every
answer can be dated from the moment when its question was *sent*: what a peer says is never younger
than that, whatever the network did. An answer is one JSON frame, with data frames after it where
the question wants content. Nothing is believed: ValueError says what is not of the form.
"""

import json
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agent.core.manifest import SHA256

PROTOCOL = 1
HEAD = struct.Struct("!IB")  # bytes that follow, kind
ITEM = struct.Struct("!I")  # before the bytes of a data frame: which item of the question
JSON, DATA = 1, 2
PIECE_BYTES = 256 * 1024
LONGEST = {JSON: 1 << 20, DATA: ITEM.size + PIECE_BYTES}
LONGEST_VERSION_BYTES = 96 << 20  # of JSON, unpacked
MOST_ITEMS = 4000  # of one question
BATCH_BYTES = 8 << 20  # so much is asked for at once: a status waits no longer than that takes
LONGEST_TEXT = 500
MOST_GROUPS = 1000
MOST_WITHIN_MS = 60_000
MOST = 1 << 62

Rank = tuple[int, int]


# ---------------------------------------------------------------- frames


def frame_head(head: bytes) -> tuple[int, int]:
    """(bytes that follow, kind). Raises ValueError."""
    length, kind = HEAD.unpack(head)
    if kind not in LONGEST:
        raise ValueError(f"a frame of kind {kind}")
    least = ITEM.size if kind == DATA else 2
    if not least <= length <= LONGEST[kind]:
        raise ValueError(f"a frame of {length} bytes")
    return length, kind


def json_frame(said: Mapping[str, Any]) -> bytes:
    body = json.dumps(said, separators=(",", ":")).encode()
    if len(body) > LONGEST[JSON]:
        raise ValueError(f"a frame of {len(body)} bytes; fewer groups must share a peer")
    return HEAD.pack(len(body), JSON) + body


def data_frame(item: int, piece: bytes) -> bytes:
    return HEAD.pack(ITEM.size + len(piece), DATA) + ITEM.pack(item) + piece


def read_json(body: bytes) -> dict[str, Any]:
    """Raises ValueError."""
    try:
        said = json.loads(body)
    except RecursionError:
        raise ValueError("JSON that is nested without end") from None
    if not isinstance(said, dict):
        raise ValueError("a frame that is no object")
    return said


def packed(said: Any) -> bytes:
    """A version, or what changed in one, for the wire."""
    return zlib.compress(json.dumps(said, separators=(",", ":")).encode(), 1)


def unpacked(body: bytes) -> Any:
    """Raises ValueError, also where it would unpack to more than any version is."""
    machine = zlib.decompressobj()
    try:
        whole = machine.decompress(body, LONGEST_VERSION_BYTES)
    except zlib.error as error:
        raise ValueError(f"a version that is not packed well: {error}") from error
    if machine.unconsumed_tail or not machine.eof:
        raise ValueError(f"a version that unpacks to more than {LONGEST_VERSION_BYTES} bytes")
    try:
        return json.loads(whole)
    except RecursionError:
        raise ValueError("JSON that is nested without end") from None


# ---------------------------------------------------------------- what is said


@dataclass(frozen=True, slots=True)
class Said:
    """What a node says of one group. version: digest of its settings, "" where it has none.

    stamp: changes with anything else here. status: rank and sha256 of the status that it holds.
    trouble: why its settings cannot be carried as they lie there, for people.
    """

    active: bool
    epoch: int
    stamp: int
    version: str = ""
    status: Rank | None = None
    status_sha256: str = ""
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class Have:
    """What a standby says of its own copy of one group."""

    ok: bool
    detail: str
    version: str = ""
    status: Rank | None = None


def dump_said(said: Said) -> dict[str, Any]:
    found = {name: getattr(said, name) for name in Said.__slots__}
    return found | {"status": list(said.status) if said.status else None}


def load_said(raw: Any) -> Said:
    """Raises ValueError."""
    if not isinstance(raw, dict):
        raise ValueError("news that are no object")
    return Said(
        _flag(raw, "active"),
        _number(raw.get("epoch")),
        _number(raw.get("stamp")),
        _digest(raw.get("version")),
        _rank(raw.get("status")),
        _digest(raw.get("status_sha256")),
        _text(raw.get("trouble")),
    )


def dump_have(have: Have) -> dict[str, Any]:
    found = {name: getattr(have, name) for name in Have.__slots__}
    return found | {"status": list(have.status) if have.status else None}


def load_have(raw: Any) -> Have:
    """Raises ValueError."""
    if not isinstance(raw, dict):
        raise ValueError("a report that is no object")
    return Have(
        _flag(raw, "ok"),
        _text(raw.get("detail")),
        _digest(raw.get("version")),
        _rank(raw.get("status")),
    )


# ---------------------------------------------------------------- questions


@dataclass(frozen=True, slots=True)
class AskNews:
    """Answered when something is not as in `seen` (group -> stamp), or after `within_ms`."""

    within_ms: int
    seen: dict[str, int]
    have: dict[str, Have]


@dataclass(frozen=True, slots=True)
class AskVersion:
    """base: digest of a version that the asker has, "" for none."""

    group: str
    digest: str
    base: str


@dataclass(frozen=True, slots=True)
class AskObjects:
    """items: (sha256, offset): contents from there to their end."""

    group: str
    items: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class AskStatus:
    """The freshest."""

    group: str


Question = AskNews | AskVersion | AskObjects | AskStatus


def dump_question(question: Question) -> dict[str, Any]:
    head: dict[str, Any] = {"v": PROTOCOL}
    match question:
        case AskNews(within_ms, seen, have):
            reports = {group: dump_have(one) for group, one in have.items()}
            return head | {"ask": "news", "within_ms": within_ms, "seen": seen, "have": reports}
        case AskVersion(group, digest, base):
            return head | {"ask": "version", "group": group, "digest": digest, "base": base}
        case AskObjects(group, items):
            return head | {"ask": "objects", "group": group, "items": [list(i) for i in items]}
        case AskStatus(group):
            return head | {"ask": "status", "group": group}


def load_question(raw: dict[str, Any]) -> Question:
    """Raises ValueError."""
    if raw.get("v") != PROTOCOL:
        raise ValueError(f"it speaks version {str(raw.get('v'))[:20]}, we speak {PROTOCOL}")
    match raw.get("ask"):
        case "news":
            return _load_news(raw)
        case "version":
            digest, base = _digest(raw.get("digest")), _digest(raw.get("base"))
            return AskVersion(_text(raw.get("group")), digest, base)
        case "objects":
            return AskObjects(_text(raw.get("group")), _load_items(raw.get("items")))
        case "status":
            return AskStatus(_text(raw.get("group")))
        case other:
            raise ValueError(f"asks for {str(other)[:20]!r}")


def _load_news(raw: dict[str, Any]) -> AskNews:
    seen, have = raw.get("seen"), raw.get("have")
    if not isinstance(seen, dict) or not isinstance(have, dict):
        raise ValueError("a question for news without what was seen")
    if len(seen) > MOST_GROUPS or len(have) > MOST_GROUPS:
        raise ValueError("a question for news of too many groups")
    return AskNews(
        min(MOST_WITHIN_MS, _number(raw.get("within_ms"))),
        {group: _number(stamp) for group, stamp in seen.items()},
        {group: load_have(one) for group, one in have.items()},
    )


def _load_items(raw: Any) -> tuple[tuple[str, int], ...]:
    if not isinstance(raw, list) or len(raw) > MOST_ITEMS:
        raise ValueError(f"a question for contents has at most {MOST_ITEMS} items")
    items = []
    for one in raw:
        if not isinstance(one, list) or len(one) != 2 or not _digest(one[0]):
            raise ValueError("an item is a digest and an offset")
        items.append((one[0], _number(one[1])))
    return tuple(items)


def _number(raw: Any) -> int:
    if type(raw) is not int or not 0 <= raw < MOST:
        raise ValueError("a number that is none")
    return raw


def _flag(raw: dict[str, Any], name: str) -> bool:
    if not isinstance(raw.get(name), bool):
        raise ValueError(f"{name} is not yes or no")
    return bool(raw[name])


def _text(raw: Any) -> str:
    if not isinstance(raw, str):
        raise ValueError("a text that is none")
    return "".join(c if c.isprintable() else "?" for c in raw[:LONGEST_TEXT])


def _digest(raw: Any) -> str:
    """Of hex digits, or ""."""
    if raw != "" and not (isinstance(raw, str) and SHA256.fullmatch(raw)):
        raise ValueError("a digest that is none")
    return str(raw)


def _rank(raw: Any) -> Rank | None:
    if raw is None:
        return None
    if not isinstance(raw, list) or len(raw) != 2:
        raise ValueError("a rank is an epoch and a time")
    return _number(raw[0]), _number(raw[1])


# ---------------------------------------------------------------- whom to follow, how fast


@dataclass(frozen=True, slots=True)
class Follow:
    """node: whose settings and status are the group's, "" for nobody's; why nobody's."""

    node: str
    why: str


def follow(said: Mapping[str, Said], known_epoch: int) -> Follow:
    """Of those that say that they are active the one with the highest epoch, if none is higher.

    said: of the peers that are heard. An active node with an older epoch than one that is known was
    overtaken and does not know it yet.
    """
    actives = sorted((s.epoch, node) for node, s in said.items() if s.active)
    if not actives:
        return Follow("", "no active node is heard")
    epoch, node = actives[-1]
    if epoch < known_epoch:
        return Follow("", f"{node} serves under epoch {epoch}, {known_epoch} is known")
    return Follow(node, "")


class Bucket:
    """Bytes a second, with a second's worth at once. `wait_ms` before so many more may leave."""

    def __init__(self, rate_bytes_s: int) -> None:
        self._rate = rate_bytes_s
        self._left = float(rate_bytes_s)
        self._at_ms: int | None = None

    def wait_ms(self, size_bytes: int, now: int) -> int:
        """Takes them; how long to wait before they are sent."""
        if self._at_ms is not None:
            gained = self._rate * max(0, now - self._at_ms) / 1000
            self._left = min(float(self._rate), self._left + gained)
        self._at_ms = now
        self._left -= size_bytes
        return 0 if self._left >= 0 else int(-self._left * 1000 / self._rate) + 1
