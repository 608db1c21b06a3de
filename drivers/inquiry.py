# SPDX-License-Identifier: GPL-2.0-or-later
"""What all checks have in common: one limit on the whole question, and whose fault a failure is."""

import asyncio
import errno
import os
import socket
import time
from collections.abc import Awaitable, Callable
from functools import cache
from typing import NamedTuple
from urllib.parse import urlsplit

from agent.core.model import Answer
from agent.ports import PortError, Refused
from drivers.lane import Lane
from drivers.strain import Strain


class Verdict(NamedTuple):
    """What an answer says. ok None: asking was impossible. draining: it lives, no new work."""

    ok: bool | None
    detail: str
    draining: bool = False


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
LATE_MS = 20  # a limit noticed later than this was missed by us: the answer may lie there unread
HURRIED_MS = 5  # no more than that is usual on a host with a free processor
RESOLVED_MS = 30_000  # a name's addresses are asked for anew


@cache
def strain() -> Strain:
    """This host's, for all checks."""
    return Strain()


class CannotAsk(PortError):
    """Asking was impossible, which is not the service's fault."""


def boottime_ms() -> int:
    """Milliseconds since boot, suspend included."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


async def answer_within(
    timeout_ms: int,
    question: Callable[[], Awaitable[Verdict]],
    silence: bool | None = False,
    host: Strain | None = None,
) -> Answer:
    """Asks once. Errors and wrong answers are False, what is our own fault is None.

    silence: what it means when the limit comes first; None all the same where this host itself
    stood still meanwhile. The core knows it by its `took_ms` and lets it count for less.
    """
    host = host or strain()
    began_ms, before = boottime_ms(), host.totals_us()
    try:
        async with asyncio.timeout(timeout_ms / 1000):
            verdict = await question()
    except TimeoutError:
        took_ms = boottime_ms() - began_ms
        verdict = Verdict(silence, f"no answer within {timeout_ms} ms")
        why = excuse(host, before, took_ms, took_ms - timeout_ms)
        if why:
            verdict = Verdict(None, f"{verdict.detail}; {why}")
    except PortError as error:
        verdict = Verdict(None, str(error))
    except OSError as error:
        ok = None if error.errno in OWN_FAULTS else False
        verdict = Verdict(ok, os.strerror(error.errno) if error.errno else str(error))
    return Answer(verdict.ok, verdict.detail, boottime_ms() - began_ms, verdict.draining)


def excuse(host: Strain, before: dict[str, int], took_ms: int, late_ms: int) -> str:
    """Why silence may be this host's own doing; "" where nothing says so.

    Somebody always waits for a processor on a busy host: that counts where we had to wait as well.
    """
    if late_ms > LATE_MS:
        return f"this agent itself was {late_ms} ms late"
    waited_for = host.since(before, took_ms)
    if waited_for == "cpu" and late_ms < HURRIED_MS:
        return ""
    return f"this host itself stood still, waiting for {waited_for}" if waited_for else ""


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
    """Turns a check's host into addresses; a name server that hangs costs one thread.

    What a name stood for last is good for a while, and as long as nobody can say better.
    """

    def __init__(self, host: str, port: int, kind: socket.SocketKind) -> None:
        self.host = host
        self.port = port
        self._kind = kind
        self._lane = Lane(f"resolve {host}")
        self._known = [host] if _is_literal(host) else []
        self._literal = bool(self._known)
        self._asked_ms = 0

    async def addresses(self, within_ms: int) -> list[str]:
        """IP addresses in the order to try them. Raises CannotAsk."""
        now = boottime_ms()
        if self._literal or (self._known and now - self._asked_ms < RESOLVED_MS):
            return self._known
        self._asked_ms = now
        try:
            found = await self._lane.run(
                lambda: socket.getaddrinfo(self.host, self.port, type=self._kind), within_ms
            )
        except (OSError, PortError, ValueError) as error:
            if self._known:
                return self._known
            raise CannotAsk(f"{self.host} is not resolved: {error}") from error
        self._known = [str(info[4][0]) for info in found]
        return self._known


async def connect(resolver: Resolver, timeout_ms: int) -> socket.socket:
    """To the first address that accepts. Raises CannotAsk, or OSError as the last one said."""
    *others, last = await resolver.addresses(timeout_ms // 2)
    for address in others:
        try:
            return await _connect(address, resolver.port)
        except OSError:
            continue
    return await _connect(last, resolver.port)


async def _connect(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        await asyncio.get_running_loop().sock_connect(sock, (address, port))
    except BaseException:
        sock.close()
        raise
    return sock


def _is_literal(host: str) -> bool:
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except OSError:
            continue
        return True
    return False
