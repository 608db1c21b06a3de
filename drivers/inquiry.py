# SPDX-License-Identifier: GPL-2.0-or-later
"""What all checks have in common: one limit on the whole question, and whose fault a failure is."""

import asyncio
import errno
import os
import socket
import time
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from agent.core.model import Answer
from agent.ports import PortError, Refused
from drivers.lane import Lane

Verdict = tuple[bool | None, str]

# What these say is true of this machine and says nothing of the service.
OWN_FAULTS = frozenset(
    (
        errno.EACCES,
        errno.EADDRNOTAVAIL,
        errno.EAFNOSUPPORT,
        errno.EAGAIN,
        errno.EMFILE,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.ENFILE,
        errno.ENOBUFS,
        errno.ENOMEM,
        errno.EPERM,
    )
)
LATE_MS = 500  # a limit noticed later than this was missed by us: the answer may lie there unread


class CannotAsk(PortError):
    """Asking was impossible, which is not the service's fault."""


def boottime_ms() -> int:
    """Milliseconds since boot, suspend included."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


async def answer_within(
    timeout_ms: int, question: Callable[[], Awaitable[Verdict]], silence: bool | None = False
) -> Answer:
    """Asks once. Errors and wrong answers are False, what is our own fault is None.

    silence: what it means when the limit comes first.
    """
    began_ms = boottime_ms()
    ok: bool | None
    try:
        async with asyncio.timeout(timeout_ms / 1000):
            ok, detail = await question()
    except TimeoutError:
        late_ms = boottime_ms() - began_ms - timeout_ms
        ok, detail = silence, f"no answer within {timeout_ms} ms"
        if late_ms > LATE_MS:
            ok, detail = None, f"this agent itself was {late_ms} ms late; asked again next time"
    except PortError as error:
        ok, detail = None, str(error)
    except OSError as error:
        ok = None if error.errno in OWN_FAULTS else False
        detail = os.strerror(error.errno) if error.errno else str(error)
    return Answer(ok, detail, boottime_ms() - began_ms)


def endpoint(what: str, target: str, default_port: int | None = None) -> tuple[str, int]:
    """(host, port) of "host:port" or "[2001:db8::1]:port". Raises Refused."""
    try:
        parts = urlsplit(f"//{target}")
        host, port = parts.hostname, parts.port or default_port
    except ValueError as error:
        raise Refused(f"{what}: target {target!r}: {error}; write host:port") from error
    if not host or not port or parts.path or parts.username is not None:
        raise Refused(f"{what}: target {target!r} is no host:port; an IPv6 address stands in [ ]")
    return host, port


class Resolver:
    """Turns a check's host into addresses; a name server that hangs costs one thread."""

    def __init__(self, host: str, port: int, kind: socket.SocketKind) -> None:
        self.host = host
        self.port = port
        self._kind = kind
        self._lane = Lane(f"resolve {host}")

    async def addresses(self, within_ms: int) -> list[str]:
        """IP addresses in the order to try them. Raises CannotAsk."""
        if _is_literal(self.host):
            return [self.host]
        try:
            found = await self._lane.run(
                lambda: socket.getaddrinfo(self.host, self.port, type=self._kind), within_ms
            )
        except (OSError, PortError, ValueError) as error:
            raise CannotAsk(f"{self.host} is not resolved: {error}") from error
        return [str(info[4][0]) for info in found]


async def connect(
    resolver: Resolver, timeout_ms: int, **tls: object
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """To the first address that accepts. Raises CannotAsk, or OSError as the last one said."""
    *others, last = await resolver.addresses(timeout_ms // 2)
    for address in others:
        try:
            return await asyncio.open_connection(address, resolver.port, **tls)  # type: ignore[arg-type]
        except OSError:
            continue
    return await asyncio.open_connection(last, resolver.port, **tls)  # type: ignore[arg-type]


def _is_literal(host: str) -> bool:
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except OSError:
            continue
        return True
    return False
