# SPDX-License-Identifier: GPL-2.0-or-later
"""The connections by which settings, licences and status travel: TCP and TLS 1.3 (RFC 8446).

Each end shows a certificate of the cluster's authority. Frames as agent.core.carriage says; what is
not of the form ends the connection as Garbled, and nothing of it was believed.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from agent.core.carriage import DATA, HEAD, ITEM, data_frame, frame_head, json_frame, read_json
from agent.ports import Garbled, Refused, Unreachable

CARRY_PROTOCOL = "standpipe-carry/1"  # ALPN (RFC 7301)
JOIN_PROTOCOL = "standpipe-join/1"
HANDSHAKE_S = 10.0
DIAL_S = 3.0
SILENCE_S = 75.0  # longer than any question for news may wait
STALLED_S = 30.0
BUFFER_BYTES = 1 << 20
MOST_CONNECTIONS = 64
MOST_OF_A_PEER = 4
IP_FREEBIND = 15  # ip(7): an address that is not there yet does not stop us
IPV6_FREEBIND = 78

NameOf = Callable[[ssl.SSLObject], str]
Join = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Channel:
    """One connection. node: the peer, by its certificate. For one task at a time."""

    def __init__(
        self, node: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.node = node
        self._reader = reader
        self._writer = writer

    async def say(self, said: dict[str, Any]) -> None:
        """One JSON frame. Raises Unreachable, Garbled (it does not fit)."""
        try:
            frame = json_frame(said)
        except ValueError as error:
            raise Garbled(f"{self.node}: {error}") from error
        await self._write(frame)

    async def pour(self, item: int, piece: bytes) -> None:
        """One data frame. Raises Unreachable."""
        await self._write(data_frame(item, piece))

    async def _write(self, frame: bytes) -> None:
        try:
            self._writer.write(frame)
            async with asyncio.timeout(STALLED_S):
                await self._writer.drain()
        except (OSError, TimeoutError) as error:
            raise Unreachable(f"{self.node}: takes nothing more: {_why(error)}") from error

    async def hear(self, within_s: float = SILENCE_S) -> dict[str, Any]:
        """The JSON frame that comes now. Raises Unreachable, Garbled."""
        kind, body = await self._read(within_s)
        if kind == DATA:
            raise Garbled(f"{self.node}: sent content where a word was due")
        try:
            return read_json(body)
        except ValueError as error:
            raise Garbled(f"{self.node}: sent {error}") from error

    async def catch(self, item: int, within_s: float = STALLED_S) -> bytes:
        """The content of the data frame that comes now, of this item. Raises as `hear`."""
        kind, body = await self._read(within_s)
        if kind != DATA:
            raise Garbled(f"{self.node}: sent a word where content was due")
        (found,) = ITEM.unpack_from(body)
        if found != item or len(body) == ITEM.size:
            raise Garbled(f"{self.node}: sent content out of order")
        return body[ITEM.size :]

    async def _read(self, within_s: float) -> tuple[int, bytes]:
        try:
            async with asyncio.timeout(within_s):
                length, kind = frame_head(await self._reader.readexactly(HEAD.size))
                return kind, await self._reader.readexactly(length)
        except ValueError as error:
            raise Garbled(f"{self.node}: sent {error}") from error
        except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
            raise Unreachable(f"{self.node}: is heard no more: {_why(error)}") from error

    async def close(self) -> None:
        """At once."""
        transport = self._writer.transport
        transport.abort()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()


class Listener:
    """Takes connections on every path of this node. `troubles`: peer address -> last refusal."""

    def __init__(
        self, serve: Callable[[Channel], Awaitable[None]], join: Join | None, name_of: NameOf
    ) -> None:
        self.troubles: dict[str, str] = {}
        self._serve = serve
        self._join = join
        self._name_of = name_of
        self._servers: list[asyncio.Server] = []
        self._open: dict[asyncio.StreamWriter, str] = {}

    async def open(self, addresses: Sequence[str], port: int, context: ssl.SSLContext) -> None:
        """Raises Refused where a port is taken."""
        for address in addresses:
            door = _bound(address, port)
            self._servers.append(
                await asyncio.start_server(
                    self._take,
                    sock=door,
                    ssl=context,
                    ssl_handshake_timeout=HANDSHAKE_S,
                    limit=BUFFER_BYTES,
                )
            )

    @property
    def port(self) -> int:
        """Of the first address."""
        return int(self._servers[0].sockets[0].getsockname()[1])

    async def close(self) -> None:
        """No new connections, and none of the old ones."""
        for server in self._servers:
            server.close()
        for writer in list(self._open):
            writer.transport.abort()

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        source = str((writer.get_extra_info("peername") or ("?",))[0])
        secured: ssl.SSLObject = writer.get_extra_info("ssl_object")
        protocol = secured.selected_alpn_protocol()
        try:
            if len(self._open) >= MOST_CONNECTIONS:
                raise Refused("too many connections")
            if protocol == JOIN_PROTOCOL and self._join is not None:
                self._open[writer] = ""
                await self._join(reader, writer)
                return
            if protocol != CARRY_PROTOCOL:
                raise Refused("does not say that it carries for this cluster")
            node = self._name_of(secured)
            if sum(name == node for name in self._open.values()) >= MOST_OF_A_PEER:
                raise Refused(f"{node} has too many connections")
            self._open[writer] = node
            await self._serve(Channel(node, reader, writer))
        except (Refused, Garbled, ssl.SSLError) as error:
            self.troubles[source] = str(error)[:300]
            while len(self.troubles) > MOST_CONNECTIONS:
                del self.troubles[next(iter(self.troubles))]
        except (Unreachable, OSError):
            pass  # it went; it will call again
        finally:
            self._open.pop(writer, None)
            writer.transport.abort()


async def dial(node: str, addresses: Sequence[str], port: int, context: ssl.SSLContext) -> Channel:
    """To a node, by the first of its paths that answers. Raises Unreachable, Refused."""
    why = "it has no path"
    for address in addresses:
        try:
            async with asyncio.timeout(DIAL_S):
                reader, writer = await asyncio.open_connection(
                    address, port, ssl=context, limit=BUFFER_BYTES
                )
        except ssl.SSLError as error:
            said = getattr(error, "verify_message", "") or getattr(error, "reason", "")
            why = str(said or error)
            raise Refused(
                f"{node} at {address} port {port}: {why}; do both nodes have"
                " certificates of one authority, and the right time?"
            ) from error
        except (OSError, TimeoutError) as error:
            why = f"{address} port {port}: {_why(error)}"
        else:
            return Channel(node, reader, writer)
    raise Unreachable(f"{node}: {why}; is its agent running?")


def _bound(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    door = socket.socket(family, socket.SOCK_STREAM)
    door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        door.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        door.setsockopt(socket.IPPROTO_IPV6, IPV6_FREEBIND, 1)
    else:
        door.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)
    try:
        door.bind((address, port))
    except OSError as error:
        door.close()
        raise Refused(
            f"{address} port {port}: {error.strerror}; is another agent of this node running?"
        ) from error
    return door


def _why(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, asyncio.IncompleteReadError):
        return "it hung up"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
