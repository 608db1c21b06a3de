# SPDX-License-Identifier: GPL-2.0-or-later
"""How many sessions are up: from a command, a page, an SNMP object."""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence

import pytest

from agent.core.settings import RealtimeSettings
from agent.ports import Garbled, PortError, Refused, Unreachable
from drivers.sessions import CommandSessions, PageSessions, SnmpSessions


def command(line: str, within_ms: int = 5000) -> int:
    return asyncio.run(CommandSessions(RealtimeSettings(sessions=line)).count(within_ms))


def page(answer: bytes, field: str = "calls.active", within_ms: int = 5000) -> int:
    """What a server on loopback that says `answer` makes of it."""

    async def play() -> int:
        ended = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            with contextlib.suppress(ConnectionError):
                await writer.drain()
            if not answer:
                await reader.read()  # until the asker gives up
            writer.close()
            ended.set()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        settings = RealtimeSettings(sessions=f"http://127.0.0.1:{port}/stat", field=field)
        try:
            return await PageSessions(settings).count(within_ms)
        finally:
            server.close()
            await ended.wait()

    return asyncio.run(play())


def ok(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n" + body


def test_a_command_prints_the_number() -> None:
    assert command("echo ' 12 '") == 12


@pytest.mark.parametrize("line", ["echo twelve", "echo -3", "true", "echo 1 2"])
def test_a_command_that_prints_rubbish_is_not_believed(line: str) -> None:
    with pytest.raises(Garbled):
        command(line)


def test_a_command_that_fails_or_hangs_says_nothing_of_sessions() -> None:
    with pytest.raises(Refused):
        command("echo 0; exit 1")
    with pytest.raises(Unreachable):
        command("sleep 60; echo 0", within_ms=200)


def test_a_field_of_a_page() -> None:
    assert page(ok(b'{"calls": {"active": 7}}')) == 7
    assert page(ok(b'[{"n": "3"}]'), field="0.n") == 3
    assert page(ok(b"42"), field="") == 42


@pytest.mark.parametrize(
    "answer",
    [
        ok(b'{"calls": {}}'),
        ok(b'{"calls": {"active": true}}'),
        ok(b"<html>"),
        ok(b"[" * 100_000),
        b"HTTP/1.1 503 Busy\r\n\r\n{}",
        b"\x00",
        ok(b"x" * 3_000_000),
    ],
)
def test_a_page_that_makes_no_sense_is_not_believed(answer: bytes) -> None:
    with pytest.raises(PortError):
        page(answer)


def test_a_page_that_does_not_come_is_unknown() -> None:
    with pytest.raises(Unreachable):
        page(b"", within_ms=200)


class Agent:
    def __init__(self, rows: Mapping[str, int | str]) -> None:
        self.rows = rows

    async def get(self, oids: Sequence[str]) -> Mapping[str, int | str]:
        return {oid: self.rows[oid] for oid in oids if oid in self.rows}


def test_an_object_of_an_snmp_agent() -> None:
    settings = RealtimeSettings(sessions=".1.3.6.1.4.1.9.10.19.1.1.4.0")
    full = SnmpSessions(settings, Agent({"1.3.6.1.4.1.9.10.19.1.1.4.0": 30}))
    assert asyncio.run(full.count(1000)) == 30
    with pytest.raises(Garbled, match="it has no"):
        asyncio.run(SnmpSessions(settings, Agent({})).count(1000))
