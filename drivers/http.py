# SPDX-License-Identifier: GPL-2.0-or-later
"""Check: a GET is answered with the status wanted (RFC 9112)."""

import asyncio
import re
import socket
import ssl
from collections.abc import Awaitable, Callable
from functools import partial
from urllib.parse import quote, urlsplit

from agent.core.model import Answer
from agent.core.settings import CheckSettings
from agent.ports import Refused
from drivers.inquiry import Resolver, Verdict, answer_within, connect

STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5]\d\d)(?: ([^\r\n]*))?\r?\n")
UNAVAILABLE = 503  # RFC 9110 section 15.6.4: it lives, and takes no work for now
LONGEST_LINE_BYTES = 65_536


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
    if not right and status == UNAVAILABLE:
        return Verdict(True, f"{shown}: draining or overloaded", draining=True)
    return Verdict(right, shown if right else f"{shown}, wanted {expect or '2xx'}")


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
        self._tls: ssl.SSLContext | None = None
        if url.scheme == "https":
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            self._tls.check_hostname = False
            self._tls.verify_mode = ssl.CERT_NONE
        self._resolver = Resolver(
            url.hostname, port or (443 if self._tls is not None else 80), socket.SOCK_STREAM
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
        sock = await connect(self._resolver, self._timeout_ms)
        if self._tls is None:
            with sock:
                loop = asyncio.get_running_loop()
                await loop.sock_sendall(sock, self._request)
                return await self._hear(partial(loop.sock_recv, sock))
        try:
            return await self._question_by_tls(sock, self._tls)
        except ssl.SSLError as error:  # its errno is OpenSSL's, not the kernel's
            return Verdict(False, f"TLS: {error.reason or error}")

    async def _question_by_tls(self, sock: socket.socket, tls: ssl.SSLContext) -> Verdict:
        try:
            reader, writer = await asyncio.open_connection(
                sock=sock, ssl=tls, server_hostname=self._resolver.host
            )
        except BaseException:
            sock.close()
            raise
        try:
            writer.write(self._request)
            return await self._hear(reader.read)
        finally:
            writer.transport.abort()

    async def _hear(self, receive: Callable[[int], Awaitable[bytes]]) -> Verdict:
        """The first answer that is no 1xx: such a one ends with an empty line."""
        heard = b""
        interim = False
        while True:
            line, end, rest = heard.partition(b"\n")
            if not end:
                chunk = await receive(4096)
                heard += chunk
                if len(heard) > LONGEST_LINE_BYTES:
                    return Verdict(False, "not HTTP: a line without an end")
                if not chunk:
                    what = f"not HTTP: {heard[:40]!r}" if heard else "closed without an answer"
                    return Verdict(False, what)
                await asyncio.sleep(0)  # one that drips must not hold the loop
                continue
            heard = rest
            if interim:
                interim = bool(line.strip())
                continue
            found = parse_status(line + end)
            if found is None:
                return Verdict(False, f"not HTTP: {line[:40]!r}")
            if found[0] >= 200:
                return judge_status(*found, self._expect)
            interim = True
