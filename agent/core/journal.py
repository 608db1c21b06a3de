# SPDX-License-Identifier: GPL-2.0-or-later
"""The journal's chain: each record's digest covers its own text and the digest before it.

A changed, removed, added or reordered record breaks the chain where it happened. Records cut off at
the end do not: whoever keeps the last digest somewhere else sees that too.
"""

import json
import math
from collections.abc import Iterable, Mapping, Set
from enum import Enum
from hashlib import sha256
from typing import Any

GENESIS = "0" * 64  # stands before the first record
DIGEST = "digest"  # the key under which a record holds its own; not part of what it covers


def canonical(value: Any) -> str:
    """The one JSON text of a value: the same before it is stored and after it is read back.

    Enum: its value; tuple: list; set: sorted list; bytes: hex; NaN and infinities: their names.
    Raises TypeError for anything else that JSON has no word for.
    """
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"))


def chain(previous: str, record: Mapping[str, Any]) -> str:
    """The record's digest: SHA-256, in hex, of the digest before it and its canonical JSON."""
    covered = {key: value for key, value in record.items() if key != DIGEST}
    return sha256((previous + canonical(covered)).encode()).hexdigest()


def verify(records: Iterable[Mapping[str, Any]], anchor: str = GENESIS) -> int | None:
    """Index of the first record whose "digest" is wrong or missing; None: all are good.

    anchor: the digest before the first of these records.
    """
    for index, record in enumerate(records):
        digest = chain(anchor, record)
        if record.get(DIGEST) != digest:
            return index
        anchor = digest
    return None


def _plain(value: Any) -> Any:
    kind = type(value)
    if kind is str or kind is int or value is None or kind is bool:
        return value
    if kind is float:
        return value if math.isfinite(value) else str(value)
    return _plain_other(value)


def _plain_other(value: Any) -> Any:
    match value:
        case Enum():
            return _plain(value.value)
        case Mapping():
            return {_key(key): _plain(item) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
        case Set():
            return sorted((_plain(item) for item in value), key=canonical)
        case bytes():
            return value.hex()
        case _:
            raise TypeError(
                f"journal: a record holds a {type(value).__name__} ({value!r:.60}), which has no "
                "JSON form; record its fields"
            )


def _key(key: Any) -> str:
    if type(key) is str:
        return key
    plain = _plain(key)
    return plain if isinstance(plain, str) else json.dumps(plain)
