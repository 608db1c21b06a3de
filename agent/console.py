# SPDX-License-Identifier: GPL-2.0-or-later
"""The agent's door for operators: a Unix socket, one JSON object a line (docs/cli.md)."""

import asyncio
import contextlib
import json
import pwd
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent.core.journal import verify
from agent.core.model import Asked
from agent.core.orders import Reply
from agent.core.view import explain, status
from agent.loop import Loop
from agent.places import CONSOLE_SOCKET
from agent.ports import PortError

REQUEST_BYTES = 65_536
ASK_WITHIN_S = 10.0  # to say what is wanted
JOURNAL_LAST = 50
MOVERS = ("switchover", "failover", "maintenance", "clear", "fence")


class Console:
    """Answers who is in the socket's group; who asked is written down with what was asked."""

    def __init__(self, loop: Loop, run_dir: Path, reload: Callable[[], None]) -> None:
        self._loop = loop
        self._path = run_dir / CONSOLE_SOCKET
        self._reload = reload
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Raises OSError where the folder does not allow it."""
        self._path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(
            self._serve, str(self._path), limit=REQUEST_BYTES
        )
        self._path.chmod(0o660)

    def close(self) -> None:
        """No new requests."""
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, TimeoutError):
            try:
                async with asyncio.timeout(ASK_WITHIN_S):
                    line = await reader.readline()
                await self._answer(line, writer)
            except ValueError as error:  # too long, no JSON, or not of the form
                await _say(writer, False, f"not understood: {error}; see docs/cli.md", {})
            finally:
                writer.close()

    async def _answer(self, line: bytes, writer: asyncio.StreamWriter) -> None:
        request = json.loads(line)
        if not isinstance(request, dict) or not isinstance(request.get("args", {}), dict):
            raise ValueError('a request is {"v": 1, "verb": "...", "args": {}}')
        verb, args = request.get("verb"), request.get("args", {})
        core = self._loop.core
        if verb == "status":
            await _say(writer, True, "", status(core))
        elif verb == "explain":
            await _say(writer, True, "", explain(core, str(args.get("group") or "")))
        elif verb == "journal":
            await self._journal(writer, int(args.get("last") or JOURNAL_LAST))
        elif verb == "reload":
            self._reload()
            await _say(writer, True, "the configuration is being read", {})
        elif verb in MOVERS:
            await self._move(str(verb), args, writer)
        else:
            raise ValueError(f"no verb {verb!r}")

    async def _journal(self, writer: asyncio.StreamWriter, last: int) -> None:
        ledger = self._loop.ledger
        try:
            records = await ledger.run(lambda: ledger.store.journal(last))
        except PortError as error:
            await _say(writer, False, str(error), {})
            return
        anchor = records[0]["previous"] if records else ""
        chain_ok = verify(records, anchor) is None if records else True
        await _say(writer, True, "", {"records": records, "chain_ok": chain_ok})

    async def _move(self, verb: str, args: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        number, replies = self._loop.ask()
        try:
            self._loop.feed(Asked(number, verb, args, _who(writer)))
            while True:
                reply: Reply = await replies.get()
                await _say(writer, reply.ok, reply.text, reply.detail)
                if reply.ok is not None:
                    return
        finally:
            self._loop.done(number)


async def _say(
    writer: asyncio.StreamWriter, ok: bool | None, text: str, detail: dict[str, Any]
) -> None:
    line = {"ok": ok, "text": text, "detail": detail}
    writer.write(json.dumps(line, default=str).encode() + b"\n")
    await writer.drain()


def _who(writer: asyncio.StreamWriter) -> str:
    """ "root (uid 0, pid 123)", by the kernel's word (SO_PEERCRED, unix(7))."""
    end: socket.socket = writer.get_extra_info("socket")
    pid, uid, _ = struct.unpack("iII", end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = "somebody"
    return f"{name} (uid {uid}, pid {pid})"
