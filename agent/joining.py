# SPDX-License-Identifier: GPL-2.0-or-later
"""Lets a machine with a one-time token into the cluster: the end that is asked.

Over TLS, protocol "standpipe-join/1" (ALPN), in frames: four bytes of length, then JSON. At once
comes {"join": 1, "cluster", "ca"}, which is no secret: the machine compares the authority's
fingerprint with its token, dials anew, now trusting that authority alone, and asks
{"secret", "node"}. The answer is a bundle, or {"error"}.
"""

import asyncio
import base64
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agent import invites
from agent.clock import now_ms
from agent.core.settings import Settings
from agent.ports import Garbled, PortError, Refused

PROTOCOL = "standpipe-join/1"
WITHIN_S = 20.0
WRONG_COSTS_S = 1.0
AT_ONCE = 4
LENGTH_BYTES = 4
LONGEST_QUESTION_BYTES = 4096
LONGEST_BUNDLE_BYTES = 16 << 20
LONGEST_FILE_BYTES = 1 << 20
PKI_FILES = ("ca.crt", "ca.key")
NODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")

Bundle = dict[str, Any]
"""{"cluster", "folder", "config", "key", "pki": {name: content}, "secrets": {name: content},
"elsewhere": [path]}; contents in base64, names relative to `folder`, that of the configuration."""


class Joining:
    """Answers joins with what this node has. `say` hears of each that ended, for people."""

    def __init__(
        self,
        settings: Settings,
        config_file: Path,
        state_dir: Path,
        say: Callable[[str], None],
        clock: Callable[[], int] = now_ms,
        wall_s: Callable[[], float] = lambda: datetime.now(UTC).timestamp(),
        wrong_costs_s: float = WRONG_COSTS_S,
    ) -> None:
        self.settings = settings  # may be exchanged while it runs
        self._config_file = config_file
        self._state_dir = state_dir
        self._say = say
        self._clock = clock
        self._wall_s = wall_s
        self._wrong_costs_s = wrong_costs_s
        self._guesses = invites.Guesses()
        self._busy = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, to its end; it is closed. Never raises for what the other end does."""
        source = str((writer.get_extra_info("peername") or ["somebody"])[0])
        if self._busy >= AT_ONCE or self._guesses.too_many(source, self._clock()):
            _close(writer)
            return
        self._busy += 1
        try:
            async with asyncio.timeout(WITHIN_S):
                await self._converse(reader, writer, source)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, Garbled):
            pass  # whoever it was went away, or speaks something else
        except PortError as error:
            self._say(f"join from {source} failed: {error}")
        finally:
            self._busy -= 1
            _close(writer)
            with suppress(OSError, TimeoutError):  # all of it is to arrive before that
                async with asyncio.timeout(WITHIN_S):
                    await writer.wait_closed()

    async def _converse(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, source: str
    ) -> None:
        ca = await asyncio.to_thread(_read, Path(self.settings.pki_dir) / "ca.crt")
        hello = {"join": 1, "cluster": self.settings.cluster, "ca": ca.decode("ascii", "replace")}
        writer.write(frame(hello))
        await writer.drain()
        length = int.from_bytes(await reader.readexactly(LENGTH_BYTES))
        if length > LONGEST_QUESTION_BYTES:
            raise Garbled("a question of that length")
        question = unframe(await reader.readexactly(length))
        try:
            answer = await self._answer(question, source)
        except Refused as error:
            self._say(f"join from {source} refused: {error}")
            answer = {"error": str(error)}
        writer.write(frame(answer))
        await writer.drain()

    async def _answer(self, question: dict[str, Any], source: str) -> Bundle:
        node = str(question.get("node"))
        if not NODE.fullmatch(node):
            raise Refused("the name of the machine is no node's name; give --node")
        try:
            secret = bytes.fromhex(str(question.get("secret")))
        except ValueError:
            secret = b""
        invite = await asyncio.to_thread(invites.find, self._state_dir, secret, self._wall_s())
        if invite is None:
            self._guesses.note(source, self._clock())
            await asyncio.sleep(self._wrong_costs_s)
            raise Refused(
                "this token is not known here, was used, or has ended; make a new one with "
                "`standpipe invite` on this node"
            )
        if invite.node not in ("", node):
            raise Refused(f"this token is for {invite.node}, not for {node}")
        if node not in self.settings.nodes:
            raise Refused(_lines_to_add(node, source, self.settings))
        bundle = await asyncio.to_thread(gathered, self.settings, self._config_file)
        if not await asyncio.to_thread(invites.spend, self._state_dir, invite):
            raise Refused("this token was used a moment ago; make a new one")
        self._say(f"{node} joined from {source}")
        return bundle


def _close(writer: asyncio.StreamWriter) -> None:
    """Python 3.11 takes a TLS transport apart where one that is closed is closed again."""
    if not writer.is_closing():
        writer.close()


def _lines_to_add(node: str, source: str, settings: Settings) -> str:
    site = f'site = "{settings.sites[0]}"\n' if settings.sites else ""
    return (
        f"{node} is no node of {settings.cluster} yet; the token stays good. Add to the "
        "configuration of every node, then `standpipe reload` there and join again:\n"
        f'[node.{node}]\n{site}paths = ["{source}"]'
    )


def gathered(settings: Settings, config_file: Path) -> Bundle:
    """All that a new machine needs of this one. Blocking. Raises Refused."""
    config = _read(config_file)
    if hashlib.sha256(config).hexdigest() != settings.digest:
        raise Refused(
            f"{config_file} was changed and is not in service yet; `standpipe reload` on this node"
        )
    folder = Path(os.path.abspath(config_file)).parent
    secrets: dict[str, str] = {}
    elsewhere: list[str] = []
    for file in sorted(set(named_files(settings)) - {settings.key_file}):
        if Path(file).is_relative_to(folder) and ".." not in Path(file).parts:
            secrets[str(Path(file).relative_to(folder))] = _coded(_read(Path(file)))
        else:
            elsewhere.append(file)
    return {
        "cluster": settings.cluster,
        "folder": str(folder),
        "config": _coded(config),
        "key": _coded(_read(Path(settings.key_file))),
        "pki": {name: _coded(_read(Path(settings.pki_dir) / name)) for name in PKI_FILES},
        "secrets": secrets,
        "elsewhere": elsewhere,
    }


def named_files(settings: object) -> Iterator[str]:
    """Every file of secrets that the configuration names, in whatever part of it."""
    if isinstance(settings, dict):
        settings = tuple(settings.values())
    if isinstance(settings, tuple):
        for part in settings:
            yield from named_files(part)
    elif is_dataclass(settings):
        for one in fields(settings):
            value = getattr(settings, one.name)
            if one.name.endswith("_file") and one.name != "pid_file":
                if value:
                    yield value
            else:
                yield from named_files(value)


def frame(said: dict[str, Any]) -> bytes:
    """As it goes over the wire."""
    body = json.dumps(said).encode()
    return len(body).to_bytes(LENGTH_BYTES) + body


def unframe(body: bytes) -> dict[str, Any]:
    """Of a frame without its length. Raises Garbled."""
    try:
        said = json.loads(body)
    except ValueError as error:
        raise Garbled(f"join: what came is no JSON: {error}") from error
    if not isinstance(said, dict):
        raise Garbled("join: what came is no object")
    return said


def _coded(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _read(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            content = stream.read(LONGEST_FILE_BYTES + 1)
    except OSError as error:
        raise Refused(f"{file}: {error.strerror}; make it readable to the agent") from error
    if len(content) > LONGEST_FILE_BYTES:
        raise Refused(f"{file}: more than {LONGEST_FILE_BYTES} bytes; is it this file?")
    return content
