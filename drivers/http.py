# SPDX-License-Identifier: GPL-2.0-or-later
"""Check: a GET is answered with the status wanted (RFC 9112)."""

import asyncio
import re
import socket
import ssl
from urllib.parse import quote, urlsplit

from agent.core.model import Answer
from agent.core.settings import CheckSettings
from agent.ports import Refused
from drivers.inquiry import Resolver, Verdict, answer_within, connect

STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5]\d\d)(?: ([^\r\n]*))?\r?\n")


def parse_status(line: bytes) -> tuple[int, str] | None:
    """(200, "OK") of a status line; None where it is none."""
    match = STATUS_LINE.fullmatch(line)
    if match is None:
        return None
    return int(match[1]), (match[2] or b"").decode("latin-1").strip()


def judge_status(status: int, reason: str, expect: str) -> Verdict:
    """`expect` "": any 2xx. A redirect is an answer like any other: it is never followed."""
    right = str(status) == expect if expect else 200 <= status <= 299
    shown = f"{status} {reason}".strip()
    return right, shown if right else f"{shown}, wanted {expect or '2xx'}"


class HttpCheck:
    """Target "http://host:port/path" or "https://...".

    A certificate is not judged: a check asks whether its own service lives, often by address.
    """

    def __init__(self, settings: CheckSettings) -> None:
        what = f"check {settings.name}: target {settings.target!r}"
        try:
            url = urlsplit(settings.target)
            port = url.port
        except ValueError as error:
            raise Refused(f"{what}: {error}; write http://host:port/path") from error
        if url.scheme not in ("http", "https") or not url.hostname or url.username is not None:
            raise Refused(f"{what}: write http://host:port/path or https://host:port/path")
        self._timeout_ms = settings.timeout_ms
        self._expect = settings.expect
        self._tls: dict[str, object] = {}
        if url.scheme == "https":
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            self._tls = {"ssl": context, "server_hostname": url.hostname}
        self._resolver = Resolver(
            url.hostname, port or (443 if self._tls else 80), socket.SOCK_STREAM
        )
        path = quote(url.path or "/", safe="/%:@!$&'()*+,;=~")
        query = "?" + quote(url.query, safe="/%:@!$&'()*+,;=~?") if url.query else ""
        self._request = (
            f"GET {path}{query} HTTP/1.1\r\nHost: {url.netloc}\r\nUser-Agent: standpipe\r\n"
            "Accept: */*\r\nConnection: close\r\n\r\n"
        ).encode("ascii", "replace")

    async def ask(self) -> Answer:
        return await answer_within(self._timeout_ms, self._question)

    async def _question(self) -> Verdict:
        try:
            reader, writer = await connect(self._resolver, self._timeout_ms, **self._tls)
        except ssl.SSLError as error:  # its errno is OpenSSL's, not the kernel's
            return False, f"TLS: {error.reason or error}"
        try:
            writer.write(self._request)
            return await self._hear(reader)
        except ssl.SSLError as error:
            return False, f"TLS: {error.reason or error}"
        finally:
            writer.transport.abort()

    async def _hear(self, reader: asyncio.StreamReader) -> Verdict:
        try:
            while True:
                line = await reader.readline()
                found = parse_status(line)
                if found is None:
                    return False, f"not HTTP: {line[:40]!r}" if line else "closed without an answer"
                if found[0] >= 200:
                    return judge_status(*found, self._expect)
                while (await reader.readline()).strip():  # 1xx: the real answer follows its headers
                    pass
        except ValueError:  # a line beyond the reader's limit
            return False, "not HTTP: a line without an end"
