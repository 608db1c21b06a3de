# SPDX-License-Identifier: GPL-2.0-or-later
"""What lies in a cloud folder, taken from there: all of it good, or nothing.

Blocking. What comes is checked as if a stranger had sent it: its seal, its digests, and that each
path is one that the configuration declares.
"""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from agent.core.manifest import Snapshot, Version, declared, load_snapshot, load_version
from agent.core.settings import CarriedSettings
from agent.depot import Head, Stream
from agent.joining import LONGEST_BUNDLE_BYTES, Bundle
from agent.ports import Garbled, Refused


def fetched_version(stream: Stream, head: Head, into: Path, carried: CarriedSettings) -> Version:
    """The newest; its contents are files in `into`, by digest. Raises Unreachable, Garbled."""
    deposit = stream.fetch(head, into, carried.max_bytes)
    return _loaded(
        partial(load_version, deposit.document, declared(carried), carried.max_bytes), into
    )


def fetched_status(stream: Stream, head: Head, into: Path, carried: CarriedSettings) -> Snapshot:
    """As fetched_version, for the status. Raises Unreachable, Garbled."""
    deposit = stream.fetch(head, into, carried.max_bytes)
    try:
        snapshot = load_snapshot(deposit.document, declared(carried), carried.max_bytes)
    except ValueError as error:
        raise Garbled(f"cloud: {error}") from error
    _need(into, {snapshot.entry.sha256: snapshot.entry.size})
    return snapshot


def fetched_bundle(stream: Stream, head: Head, into: Path) -> Bundle:
    """What a machine needs to join. Raises Unreachable, Garbled."""
    deposit = stream.fetch(head, into, LONGEST_BUNDLE_BYTES)
    if len(deposit.files) != 1:
        raise Garbled("cloud: what is needed to join does not lie there in one piece")
    file = into / deposit.files[0].sha256
    bundle: Any = json.loads(file.read_bytes())
    file.unlink()
    if not isinstance(bundle, dict):
        raise Garbled("cloud: what is needed to join has another form")
    return bundle


def fresh_head(stream: Stream, seen: int) -> Head:
    """The head, unless it is older than one seen. Raises Refused, Unreachable, Garbled."""
    head = stream.head()
    where = " ".join(stream.parts)
    if head is None or not head.rows:
        raise Refused(f"cloud: nothing lies there for {where}; is the url right, and the key?")
    if head.serial < seen:
        raise Refused(
            f"cloud, {where}: the folder was put back to an older state (write {head.serial}, "
            f"seen {seen}); nothing is taken from it until a node of the cluster has written again"
        )
    return head


def _loaded(load: Callable[[], Version], into: Path) -> Version:
    try:
        version = load()
    except ValueError as error:
        raise Garbled(f"cloud: {error}") from error
    _need(into, version.contents())
    return version


def _need(into: Path, contents: dict[str, int]) -> None:
    """Every content is there, and as long as it should be. Empty ones are made."""
    for digest, size in contents.items():
        file = into / digest
        if not size:
            file.touch()
        if not file.is_file() or file.stat().st_size != size:
            raise Garbled(f"cloud: file {digest[:16]} is missing")
