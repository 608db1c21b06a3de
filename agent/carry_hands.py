# SPDX-License-Identifier: GPL-2.0-or-later
"""What carrying asks of the drivers: `wiring` makes the hands, tests make others."""

import ssl
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from agent.clock import now_ms
from agent.core.manifest import Declared, Entry

Fill = Callable[[int], None]  # writes a file's content to a descriptor


class Tree(Protocol):
    """What lies under a group's declared paths on this host. Blocking."""

    entries: dict[str, Entry]
    left_out: dict[str, str]
    unsettled: set[str]

    def look(self, only: Collection[str] | None = None) -> None: ...
    def reading(self, path: str) -> AbstractContextManager[int]:
        """A descriptor. Raises Refused, Unreachable (it is being written)."""
        ...

    def snapshot(self, path: str, into: int) -> Entry:
        """Copies a file as it was at one moment. Raises Refused, Unreachable."""
        ...


class Staging(Protocol):
    """Puts a version into its place. Blocking; raises Refused."""

    def check_room(self, entries: Iterable[Entry]) -> None: ...
    def stage(self, number: int, entry: Entry, fill: Fill) -> None: ...
    def settle(self) -> None: ...
    def place(
        self, files: Mapping[int, Entry], rest: Sequence[Entry], extra: Sequence[str]
    ) -> None: ...
    def clear(self) -> None: ...
    def sweep(self) -> None: ...


class News(Protocol):
    """folders: in which something changed; names: what, by path; lost: look everywhere."""

    @property
    def folders(self) -> frozenset[str]: ...
    @property
    def names(self) -> frozenset[str]: ...
    @property
    def lost(self) -> bool: ...


class Watch(Protocol):
    """Tells of changes in folders; `watch` gives back those that were not watched before."""

    def fileno(self) -> int: ...
    def watch(self, folders: Mapping[str, frozenset[str]]) -> list[str]: ...
    def receive(self) -> News: ...
    def close(self) -> None: ...


class Channel(Protocol):
    """A connection with `node`. Raises Unreachable, Garbled."""

    node: str

    async def say(self, said: dict[str, Any]) -> None: ...
    async def pour(self, item: int, piece: bytes) -> None: ...
    async def hear(self, within_s: float = ...) -> dict[str, Any]: ...
    async def catch(self, item: int) -> bytes: ...
    async def close(self) -> None: ...


class Listener(Protocol):
    """troubles: address -> why somebody there was turned away last."""

    troubles: dict[str, str]

    async def open(self, addresses: Sequence[str], port: int, context: ssl.SSLContext) -> None: ...
    @property
    def port(self) -> int: ...
    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Tls:
    """The node's certificates. server, client (of the node that is called): raise Refused.

    renew: looks whether the certificate is due, once an hour; True: there is a new one.
    """

    server: Callable[[], ssl.SSLContext]
    client: Callable[[str], ssl.SSLContext]
    renew: Callable[[], bool] = lambda: False


@dataclass(frozen=True, slots=True)
class Hands:
    """The drivers. command: a shell line and its limit in ms -> (did it end with 0, its words)."""

    tree: Callable[[Declared], Tree]
    staging: Callable[[Declared, str], Staging]
    watch: Callable[[], Watch]
    local_ids: Callable[[Entry], tuple[int, int]]
    replace_file: Callable[[Entry, Fill], None]
    sync: Callable[[Path], None]  # all of a folder's file system is on disk
    spare_bytes: Callable[[str], int]
    listener: Callable[[Callable[[Channel], Awaitable[None]]], Listener]
    dial: Callable[[str, Sequence[str], int, ssl.SSLContext], Awaitable[Channel]]
    command: Callable[[str, int], Awaitable[tuple[bool, str]]]


class Clock:
    """now_ms: monotonic, counts suspend; wall_ms: since 1970, for people and for ranks."""

    def now_ms(self) -> int:
        return now_ms()

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000
