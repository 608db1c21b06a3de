# SPDX-License-Identifier: GPL-2.0-or-later
"""How many live sessions a group has on this node: from a command, a JSON page, or SNMP."""

import asyncio
import json
import socket
from collections.abc import Mapping, Sequence
from typing import Any, Protocol
from urllib.parse import urlsplit

from agent.core.settings import RealtimeSettings
from agent.ports import Garbled, Refused, Unreachable
from drivers.inquiry import CannotAsk, Resolver
from drivers.shell import question, said

PAGE_BYTES = 1 << 20


class Desk(Protocol):
    """What this driver asks of whoever speaks SNMP."""

    async def get(self, oids: Sequence[str]) -> Mapping[str, int | str]: ...


def parse_count(text: str, who: str) -> int:
    """The whole number that `text` is. Raises Garbled."""
    words = text.split()
    if len(words) != 1 or not (words[0].isascii() and words[0].isdigit()):
        raise Garbled(f"{who}: {text[:60]!r} is no number of sessions")
    return int(words[0])


def parse_page(page: bytes, field: str, who: str) -> int:
    """The number at `field`, "calls.active", of a JSON page. Raises Garbled."""
    try:
        found: Any = json.loads(page)
        for step in field.split(".") if field else ():
            found = found[int(step)] if isinstance(found, list) else found[step]
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise Garbled(f"{who}: no {field or 'number'} in its answer: {error!r}") from error
    if isinstance(found, bool) or not isinstance(found, int | str):
        raise Garbled(f"{who}: {field} is {found!r}, no number of sessions")
    return parse_count(str(found), who)


class CommandSessions:
    """ports.Sessions: the command prints the number."""

    def __init__(self, settings: RealtimeSettings) -> None:
        self._command = settings.sessions

    async def count(self, within_ms: int) -> int:
        who = "sessions command"
        try:
            ended = await question(self._command, within_ms)
        except OSError as error:
            raise Unreachable(f"{who}: could not be run: {error.strerror}") from error
        if ended.code is None:
            raise Unreachable(f"{who}: no answer within {within_ms} ms")
        if ended.code != 0:
            raise Refused(f"{who}: {said(ended)}; run by hand: {self._command}")
        return parse_count(ended.tail, who)


class PageSessions:
    """ports.Sessions: a field of a JSON page, http://host:port/path."""

    def __init__(self, settings: RealtimeSettings) -> None:
        url = urlsplit(settings.sessions)
        if url.scheme != "http" or not url.hostname:
            raise Refused(f"sessions {settings.sessions!r}: write http://host:port/path")
        self._url, self._field = settings.sessions, settings.field
        self._resolver = Resolver(url.hostname, url.port or 80, socket.SOCK_STREAM)
        path = (url.path or "/") + (f"?{url.query}" if url.query else "")
        self._request = (
            f"GET {path} HTTP/1.0\r\nHost: {url.netloc}\r\nUser-Agent: standpipe\r\n"
            "Accept: application/json\r\n\r\n"
        ).encode("ascii", "replace")

    async def count(self, within_ms: int) -> int:
        who = f"sessions {self._url}"
        try:
            async with asyncio.timeout(within_ms / 1000):
                address = (await self._resolver.addresses(within_ms))[0]
                reader, writer = await asyncio.open_connection(address, self._resolver.port)
                try:
                    writer.write(self._request)
                    answer = await reader.read(PAGE_BYTES)
                    while chunk := await reader.read(PAGE_BYTES):
                        answer += chunk
                        if len(answer) > PAGE_BYTES:
                            raise Garbled(f"{who}: more than {PAGE_BYTES} bytes of answer")
                finally:
                    writer.transport.abort()
        except TimeoutError:
            raise Unreachable(f"{who}: no answer within {within_ms} ms") from None
        except (OSError, CannotAsk) as error:
            raise Unreachable(f"{who}: {error}") from error
        head, _, page = answer.partition(b"\r\n\r\n")
        status = head.split(b" ", 2)[1:2]
        if status != [b"200"]:
            raise Garbled(f"{who}: answered {head.splitlines()[:1]!r}, wanted 200")
        return parse_page(page, self._field, who)


class SnmpSessions:
    """ports.Sessions: one object of an SNMP agent."""

    def __init__(self, settings: RealtimeSettings, desk: Desk) -> None:
        self._oid, self._desk = settings.sessions.lstrip("."), desk

    async def count(self, within_ms: int) -> int:
        try:
            async with asyncio.timeout(within_ms / 1000):
                found = await self._desk.get((self._oid,))
        except TimeoutError:
            raise Unreachable(f"{self._desk}: no answer within {within_ms} ms") from None
        if self._oid not in found:
            raise Garbled(f"{self._desk}: it has no {self._oid}")
        return parse_count(str(found[self._oid]), f"{self._desk}: {self._oid}")
