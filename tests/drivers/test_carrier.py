# SPDX-License-Identifier: GPL-2.0-or-later
"""Connections between nodes: who is let in, and what ends one."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path

import pytest

from agent.core.carriage import HEAD, data_frame, json_frame
from agent.ports import Garbled, Refused, Unreachable
from drivers import authority
from drivers.carrier import Channel, Listener, dial
from tests.consignment import machines
from tests.drivers.patience import until


def pki(folder: Path, node: str, ca: Path | None = None) -> Path:
    home = folder / f"pki-{node}"
    home.mkdir()
    if ca is None:
        authority.make_ca(home, "lab")
    else:
        for part in ("ca.crt", "ca.key"):
            (home / part).write_bytes((ca / part).read_bytes())
            (home / part).chmod(0o600)
    authority.issue(home, "lab", node)
    return home


@asynccontextmanager
async def listening(home: Path, heard: list[object]) -> AsyncIterator[Listener]:
    """lon1, which notes what it hears, and how each connection ended."""

    async def serve(channel: Channel) -> None:
        try:
            while True:
                said = await channel.hear(5)
                heard.append((channel.node, said))
                await channel.say({"echo": said})
        except (Garbled, Unreachable) as error:
            heard.append(type(error))
            raise

    door = Listener(serve, None, lambda secured: authority.peer_name(secured, "lab"))
    await door.open(["127.0.0.1"], 0, authority.server_context(home, "lab"))
    try:
        yield door
    finally:
        await door.close()


async def called(door: Listener, home: Path, node: str = "lon1") -> Channel:
    context = authority.client_context(home, "lab", node)
    return await dial(node, ["127.0.0.1"], door.port, context)


def test_a_node_of_the_cluster_is_heard_under_the_name_in_its_certificate(tmp_path: Path) -> None:
    async def run() -> None:
        ours, heard = pki(tmp_path, "lon1"), list[object]()
        async with listening(ours, heard) as door:
            channel = await called(door, pki(tmp_path, "lon2", ours))
            await channel.say({"ask": "news"})
            assert await channel.hear() == {"echo": {"ask": "news"}}
            assert heard == [("lon2", {"ask": "news"})]
            await channel.close()

    asyncio.run(run())


def test_who_has_a_certificate_of_another_authority_is_turned_away(tmp_path: Path) -> None:
    async def run() -> None:
        ours, heard = pki(tmp_path, "lon1"), list[object]()
        async with listening(ours, heard) as door:

            async def ask() -> None:
                channel = await called(door, pki(tmp_path, "mallory"))
                await channel.say({"ask": "news"})
                await channel.hear(5)

            with pytest.raises((Refused, Unreachable)):
                await ask()
            assert heard == []

    asyncio.run(run())


def test_another_node_in_the_place_of_the_one_that_is_called_is_not_spoken_to(
    tmp_path: Path,
) -> None:
    async def run() -> None:
        ours = pki(tmp_path, "lon1")
        async with listening(ours, []) as door:
            with pytest.raises(Refused, match="par1"):
                await called(door, pki(tmp_path, "lon2", ours), node="par1")

    asyncio.run(run())


def test_nobody_there_is_said_with_the_address(tmp_path: Path) -> None:
    async def run() -> None:
        home = pki(tmp_path, "lon1")
        async with listening(home, []) as door:
            port = door.port
        context = authority.client_context(home, "lab", "lon1")
        with pytest.raises(Unreachable, match=rf"127\.0\.0\.1 port {port}"):
            await dial("lon1", ["127.0.0.1"], port, context)

    asyncio.run(run())


GARBAGE = {
    "noise": os.urandom(64),
    "a frame without end": HEAD.pack(1 << 31, 1),
    "an unknown kind": HEAD.pack(4, 9) + b"abcd",
    "no JSON": HEAD.pack(4, 1) + b"{{{{",
    "JSON that is no object": HEAD.pack(4, 1) + b"[12]",
    "JSON nested without end": HEAD.pack(100_000, 1) + b"[" * 100_000,
    "content where a word is due": data_frame(0, b"x"),
}


@pytest.mark.parametrize("what", GARBAGE)
def test_what_is_not_of_the_form_ends_the_connection(tmp_path: Path, what: str) -> None:
    async def run() -> None:
        ours, heard = pki(tmp_path, "lon1"), list[object]()
        async with listening(ours, heard) as door:
            channel = await called(door, pki(tmp_path, "lon2", ours))
            await channel._write(GARBAGE[what])
            with pytest.raises(Unreachable):
                await channel.hear(5)
            assert heard == [Garbled]
            assert "lon2" in door.troubles["127.0.0.1"]
            await channel.close()

    asyncio.run(run())


def test_a_frame_that_is_cut_short_is_no_frame(tmp_path: Path) -> None:
    async def run() -> None:
        ours, heard = pki(tmp_path, "lon1"), list[object]()
        async with listening(ours, heard) as door:
            channel = await called(door, pki(tmp_path, "lon2", ours))
            await channel._write(json_frame({"ask": "news"})[:-3])
            await channel.close()
            await until(lambda: heard == [Unreachable])

    asyncio.run(run())


def test_a_node_may_not_take_all_connections(tmp_path: Path) -> None:
    async def run() -> None:
        ours, heard = pki(tmp_path, "lon1"), list[object]()
        async with listening(ours, heard) as door:
            home = pki(tmp_path, "lon2", ours)
            open_ones = [await called(door, home) for _ in range(4)]
            for channel in open_ones:
                await channel.say({})
                await channel.hear(5)
            late = await called(door, home)
            with suppress(Unreachable):
                await late.say({})
            with pytest.raises(Unreachable):
                await late.hear(5)
            assert "too many" in door.troubles["127.0.0.1"]
            for channel in (*open_ones, late):
                await channel.close()

    asyncio.run(run())


SHA = "a" * 64
QUESTIONS: dict[str, dict[str, object]] = {
    "a group that is not shared": {"v": 1, "ask": "status", "group": "../../etc"},
    "a content by a path": {"v": 1, "ask": "objects", "group": "sbc", "items": [["../x", 0]]},
    "too many contents": {
        "v": 1,
        "ask": "objects",
        "group": "sbc",
        "items": [["a" * 64, 0]] * 4001,
    },
    "another protocol": {"v": 2, "ask": "news"},
    "no question": {"v": 1, "ask": "everything"},
    "news with numbers that are none": {"v": 1, "ask": "news", "within_ms": -1},
}


@pytest.mark.parametrize("what", QUESTIONS)
def test_a_node_that_asks_for_what_is_not_its_to_have_is_cut_off(tmp_path: Path, what: str) -> None:
    async def run() -> None:
        async with machines(tmp_path, "lon1", "lon2") as (one, two):
            one.put("/etc/app/a.conf", "one")
            one.put("/etc/app.licence", "L")
            one.start()
            await until(lambda: one.said and one.word.settings_ok)
            channel = await two.carrying._dial("lon1")
            try:
                await channel.say(QUESTIONS[what])
                with pytest.raises(Unreachable):
                    await channel.hear()
            finally:
                await channel.close()
            assert one.carrying.listener.troubles

    asyncio.run(run())


def test_a_certificate_that_ran_out_is_said_to_whoever_calls(tmp_path: Path) -> None:
    async def run() -> None:
        ours = tmp_path / "pki-lon1"
        ours.mkdir()
        past = authority.now() - timedelta(days=400)
        authority.make_ca(ours, "lab", past)
        authority.issue(ours, "lab", "lon1", past)
        theirs = pki(tmp_path, "lon2", ours)
        async with listening(ours, []) as door:
            with pytest.raises(Refused, match="right time"):
                await called(door, theirs)

    asyncio.run(run())


def test_a_handshake_that_never_comes_takes_nothing_from_the_others(tmp_path: Path) -> None:
    async def run() -> None:
        ours, heard = pki(tmp_path, "lon1"), list[object]()
        async with listening(ours, heard) as door:
            _, mute = await asyncio.open_connection("127.0.0.1", door.port)
            channel = await called(door, pki(tmp_path, "lon2", ours))
            await channel.say({})
            assert await channel.hear(5) == {"echo": {}}
            mute.close()
            with suppress(OSError, ssl.SSLError):
                await mute.wait_closed()
            await channel.close()

    asyncio.run(run())
