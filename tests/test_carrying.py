# SPDX-License-Identifier: GPL-2.0-or-later
"""Nodes on loopback carry for one another over TLS: what arrives, what is refused, what is kept."""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.carry_hands import Clock
from agent.carry_link import Link
from agent.core.carriage import Said
from agent.core.settings import CarriedSettings
from agent.ports import Refused, Unreachable
from tests.consignment import CARRIED, Machine, machines
from tests.drivers.patience import until

STRANGER = 41_234
STATUS = "/var/app/status.json"


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@asynccontextmanager
async def pair(
    folder: Path, carried: CarriedSettings = CARRIED, names: tuple[str, ...] = ("lon1", "lon2")
) -> AsyncIterator[list[Machine]]:
    """Started, with something to carry, and all equal."""
    async with machines(folder, *names, carried=carried) as found:
        found[0].put("/etc/app/a.conf", "one")
        found[0].put("/etc/app/sub/b.conf", "two")
        found[0].put("/etc/app.licence", "L")
        for machine in found:
            machine.start()
        for machine in found[1:]:
            await until(lambda m=machine: m.said and m.word.settings_ok)  # type: ignore[misc]
        yield found


def holds(machine: Machine, text: str) -> Callable[[], bool]:
    def held() -> bool:
        snapshot = machine.group.status.held
        return snapshot is not None and snapshot.entry.sha256 == sha(text)

    return held


# ---------------------------------------------------------------- settings


async def _arrives(folder: Path) -> None:
    async with machines(folder, "lon1", "lon2") as (one, two):
        one.put("/etc/app/a.conf", "one", 0o640)
        os.chown(one.file("/etc/app/a.conf"), STRANGER, STRANGER)
        one.put("/etc/app/sub/b.conf", "two")
        one.file("/etc/app/link").symlink_to("sub/b.conf")
        one.put("/etc/app.licence", "L", 0o600)
        one.put("/etc/app/own/local", "mine")
        two.put("/etc/app/own/local", "theirs")
        one.start()
        two.start()
        await until(lambda: two.said and two.word.settings_ok)
        found = two.file("/etc/app/a.conf").stat()
        assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (STRANGER, STRANGER, 0o640)
        assert found.st_mtime_ns == one.file("/etc/app/a.conf").stat().st_mtime_ns
        assert two.reads("/etc/app/sub/b.conf") == "two"
        assert os.readlink(two.file("/etc/app/link")) == "sub/b.conf"
        assert two.reads("/etc/app.licence") == "L"
        assert two.reads("/etc/app/own/local") == "theirs"
        await until(lambda: one.word.peers.get("lon2") and one.word.peers["lon2"].ok)


def test_settings_and_licences_arrive_as_they_are_and_what_is_own_stays(tmp_path: Path) -> None:
    asyncio.run(_arrives(tmp_path))


async def _changes(folder: Path) -> None:
    async with pair(folder) as (one, two):
        before = {path for path in two.group.shelf.folder.glob("objects/??/*")}
        one.put("/etc/app/a.conf", "changed")
        await until(lambda: two.reads("/etc/app/a.conf") == "changed")
        await until(lambda: two.word.settings_ok)
        fresh = {path for path in two.group.shelf.folder.glob("objects/??/*")} - before
        assert len(fresh) == 1
        one.file("/etc/app/sub/b.conf").unlink()
        one.file("/etc/app/sub").rmdir()
        one.put("/etc/app/deep/er/c.conf", "three")
        await until(lambda: two.reads("/etc/app/deep/er/c.conf") == "three")
        assert not two.file("/etc/app/sub").exists()
        await until(lambda: not list(two.root.rglob(".standpipe-*")))


def test_only_what_changed_travels_and_what_went_goes(tmp_path: Path) -> None:
    asyncio.run(_changes(tmp_path))


async def _active_is_left_alone(folder: Path) -> None:
    async with pair(folder) as (one, two):
        two.serve(2)
        one.stand_by()
        two.put("/etc/app/a.conf", "of the new one")
        await until(lambda: one.reads("/etc/app/a.conf") == "of the new one")
        one.serve(1)  # it does not know yet that it was overtaken
        one.put("/etc/app/a.conf", "of the old one")
        await until(lambda: one.group.said_now().active and one.group.files.current.number == 3)
        await asyncio.sleep(0)
        assert two.reads("/etc/app/a.conf") == "of the new one"
        assert two.word.settings_ok


def test_nothing_is_ever_overwritten_on_a_node_that_serves(tmp_path: Path) -> None:
    asyncio.run(_active_is_left_alone(tmp_path))


async def _becomes_active(folder: Path, asked: list[bool]) -> None:
    async with pair(folder) as (_, two):
        await two.stop()
        two.put("/etc/app/a.conf", "by hand")
        files, answers = two.group.files, iter(asked)
        files.look()
        with pytest.raises(Refused, match="this node serves it"):
            files.place(lambda: next(answers), "now")
        assert two.reads("/etc/app/a.conf") == "by hand"
        assert not list(two.root.rglob(".standpipe-*"))


@pytest.mark.parametrize("asked", [[True], [False, True]], ids=["before", "while it was staged"])
def test_a_node_that_comes_to_serve_keeps_what_it_serves_with(
    tmp_path: Path, asked: list[bool]
) -> None:
    asyncio.run(_becomes_active(tmp_path, asked))


async def _overtaken(folder: Path) -> None:
    async with pair(folder) as (one, two):
        two.epoch = 5
        two.carrying.poke()
        one.put("/etc/app/a.conf", "late")
        await until(lambda: two.word.settings_ok is None)
        assert two.word.detail == "lon1 serves under epoch 1, 5 is known"
        await until(lambda: two.group.said["lon1"].version != two.group.files.current.digest)
        assert two.reads("/etc/app/a.conf") == "one"


def test_a_node_that_was_overtaken_is_not_followed(tmp_path: Path) -> None:
    asyncio.run(_overtaken(tmp_path))


async def _edited(folder: Path) -> None:
    async with pair(folder) as (_, two):
        two.group.heal_after_ms = 600_000
        two.put("/etc/app/a.conf", "by hand")
        two.put("/etc/app/extra.conf", "also")
        await until(lambda: two.word.settings_ok is False and "extra.conf" in two.word.detail)
        assert two.word.detail.startswith("edited on this host: /etc/app/a.conf")
        assert two.reads("/etc/app/a.conf") == "by hand"
        two.group.heal_after_ms = 0
        two.carrying.poke()
        await until(lambda: two.word.settings_ok is True)
        assert two.reads("/etc/app/a.conf") == "one"
        assert two.reads("/etc/app/extra.conf") is None
        assert "put aside here" in two.word.detail
        aside = sorted(p.name for p in two.group.shelf.folder.glob("aside/*/etc/app/*"))
        assert aside == ["a.conf", "extra.conf"]


def test_what_people_wrote_on_a_standby_is_said_and_put_aside_before_it_goes(
    tmp_path: Path,
) -> None:
    asyncio.run(_edited(tmp_path))


async def _healed(folder: Path) -> None:
    async with pair(folder) as (one, two):
        one.put("/etc/app/a.conf", "second")
        await until(lambda: two.reads("/etc/app/a.conf") == "second" and two.word.settings_ok)
        two.put("/etc/app/a.conf", "one")
        two.file("/etc/app/sub/b.conf").unlink()
        two.file("/etc/app.licence").chmod(0o777)
        await until(lambda: two.reads("/etc/app/a.conf") == "second")
        await until(lambda: two.reads("/etc/app/sub/b.conf") == "two" and two.word.settings_ok)
        assert two.file("/etc/app.licence").stat().st_mode & 0o777 == 0o644
        assert not list(two.group.shelf.folder.glob("aside/*"))


def test_an_older_version_on_a_standby_is_mended_at_once(tmp_path: Path) -> None:
    asyncio.run(_healed(tmp_path))


async def _unmounted(folder: Path) -> None:
    async with pair(folder) as (one, two):
        one.file("/etc/app").rename(one.file("/etc/gone"))
        await until(lambda: one.word.settings_ok is False)
        assert "/etc/app: not there" in one.word.detail
        one.file("/etc/app").mkdir()
        await until(lambda: "/etc/app/: not there" in one.word.detail)
        await until(lambda: "lon1: /etc/app/: not there" in two.word.detail)
        assert two.word.settings_ok is False
        assert two.reads("/etc/app/a.conf") == "one"


def test_no_standby_follows_a_disk_that_is_not_mounted(tmp_path: Path) -> None:
    asyncio.run(_unmounted(tmp_path))


async def _left_out(folder: Path) -> None:
    async with pair(folder) as (one, two):
        one.file("/etc/app/tls").symlink_to("/etc/ssl")
        one.put("/etc/app/a.conf", "beside it")
        await until(lambda: two.reads("/etc/app/a.conf") == "beside it")
        await until(lambda: two.word.settings_ok is False)
        assert "/etc/app/tls: a link to /etc/ssl, which is not relative" in two.word.detail
        assert "/etc/app/tls" in one.word.detail


def test_what_cannot_be_carried_is_said_on_both_nodes_and_the_rest_is_carried(
    tmp_path: Path,
) -> None:
    asyncio.run(_left_out(tmp_path))


async def _applied(folder: Path) -> None:
    async with pair(folder, replace(CARRIED, apply="reload app")) as (one, two):
        assert two.commands == ["reload app"]
        two.command_ends = (False, "syntax error")
        one.put("/etc/app/a.conf", "bad")
        await until(lambda: two.word.settings_ok is False)
        assert "apply: syntax error" in two.word.detail
        two.command_ends = (True, "")
        one.put("/etc/app/a.conf", "good")
        await until(lambda: two.word.settings_ok and two.reads("/etc/app/a.conf") == "good")
        assert one.commands == []


def test_the_standby_is_told_of_new_settings_and_not_ready_where_that_fails(
    tmp_path: Path,
) -> None:
    asyncio.run(_applied(tmp_path))


async def _full(folder: Path) -> None:
    async with pair(folder) as (one, two):
        two.space = lambda path: 100
        one.put("/etc/app/a.conf", "x" * 1000)
        await until(lambda: two.word.settings_ok is False)
        assert "no room for 1000 bytes" in two.word.detail
        assert two.reads("/etc/app/a.conf") == "one"
        two.space = lambda path: 1 << 40
        one.put("/etc/app/a.conf", "y" * 2000)
        await until(lambda: two.word.settings_ok is True)
        assert two.reads("/etc/app/a.conf") == "y" * 2000


def test_a_full_disk_on_the_standby_leaves_the_old_version(tmp_path: Path) -> None:
    asyncio.run(_full(tmp_path))


async def _too_much(folder: Path) -> None:
    async with pair(folder, replace(CARRIED, max_bytes=5000)) as (one, two):
        one.put("/etc/app/a.conf", "x" * 6000)
        await until(lambda: one.word.settings_ok is False)
        assert "more than max_size = 5000" in one.word.detail
        assert two.reads("/etc/app/a.conf") == "one"


def test_more_than_the_limit_does_not_travel(tmp_path: Path) -> None:
    asyncio.run(_too_much(tmp_path))


async def _damaged(folder: Path) -> None:
    async with pair(folder) as (_, two):
        for found in two.group.shelf.folder.glob("objects/??/*"):
            found.write_text("rot")
        two.file("/etc/app/a.conf").unlink()
        await until(lambda: two.reads("/etc/app/a.conf") == "one", 30)
        await until(lambda: two.word.settings_ok)


def test_a_content_that_rotted_on_the_shelf_is_fetched_again(tmp_path: Path) -> None:
    asyncio.run(_damaged(tmp_path))


async def _kept(folder: Path) -> None:
    async with pair(folder, replace(CARRIED, versions=3)) as (one, two):
        for number in range(5):
            one.put("/etc/app/a.conf", f"text {number}")
            await until(lambda n=number: two.reads("/etc/app/a.conf") == f"text {n}")  # type: ignore[misc]
        await until(lambda: len(two.group.shelf.versions()) == 3)
        await until(lambda: len(one.group.shelf.versions()) == 3)
        assert [v.number for v in two.group.shelf.versions()] == [4, 5, 6]


def test_as_many_versions_are_kept_as_are_wanted(tmp_path: Path) -> None:
    asyncio.run(_kept(tmp_path))


# ---------------------------------------------------------------- cut in the middle


async def _resumed(folder: Path) -> None:
    content = os.urandom(3 << 20)
    async with machines(folder, "lon1", "lon2", carried=replace(CARRIED, rate_bytes_s=1 << 20)) as (
        one,
        two,
    ):
        one.put("/etc/app/big", content)
        one.put("/etc/app.licence", "L")
        one.start()
        two.start()
        parts = two.group.shelf.folder / "parts"
        digest = hashlib.sha256(content).hexdigest()
        await until(lambda: two.group.said.get("lon1"))
        await asyncio.wait([asyncio.ensure_future(two.stop())])
        part = parts / digest
        part.write_bytes(content[: 2 << 20])
        await two.restart()
        await until(lambda: two.said and two.word.settings_ok, 40)
        assert two.file("/etc/app/big").read_bytes() == content
        await until(lambda: not list(parts.iterdir()))


def test_a_transfer_that_was_cut_goes_on_where_it_was(tmp_path: Path) -> None:
    asyncio.run(_resumed(tmp_path))


async def _half_placed(folder: Path) -> None:
    async with pair(folder) as (one, two):
        await two.stop()
        one.put("/etc/app/a.conf", "new a")
        one.put("/etc/app/sub/b.conf", "new b")
        await until(
            lambda: one.group.files.current.contents().keys() >= {sha("new a"), sha("new b")}
        )
        version, shelf = one.group.files.current, two.group.shelf
        for text in ("new a", "new b"):
            part = shelf.part(sha(text))
            part.write_text(text)
            shelf.adopt(sha(text), part)
        shelf.keep(version)
        shelf.set_current(version.digest)
        token = "0123456789abcdef"
        stage = two.file(f"/etc/app/.standpipe-{token}")
        stage.mkdir()
        (stage / "0").write_text("new a")
        (stage / "1").write_text("new b")
        (stage / "0").rename(two.file("/etc/app/a.conf"))  # and here it was cut
        files = {"0": "/etc/app/a.conf", "1": "/etc/app/sub/b.conf"}
        shelf.begin_placing({"digest": version.digest, "token": token, "files": files})
        await one.stop()
        await two.restart()
        await until(lambda: two.reads("/etc/app/sub/b.conf") == "new b")
        await until(lambda: not stage.exists() and shelf.placing() is None)


def test_a_version_that_was_half_placed_is_placed_at_the_next_start(tmp_path: Path) -> None:
    asyncio.run(_half_placed(tmp_path))


# ---------------------------------------------------------------- status


async def _status(folder: Path) -> None:
    async with pair(folder) as (one, two):
        for number in range(20):
            one.put(STATUS, f"count {number}")
            await asyncio.sleep(0.01)
        await until(holds(two, "count 19"))
        await until(lambda: two.word.status_age_ms is not None and two.word.status_age_ms < 1000)
        assert two.reads(STATUS) is None
        for machine in (one, two):
            safe = machine.group.shelf.folder / "status/durable.content"
            await until(lambda s=safe: s.exists() and s.read_text() == "count 19")  # type: ignore[misc]
        one.put(STATUS, "last")
        facts = await one.carrying.ship("sbc", "lon2", 1, 5000)
        assert (two.group.shelf.folder / "status/durable.content").read_text() == "last"
        assert facts["nodes"] == {"lon2": ""}
        placed = await two.carrying.place("sbc")
        assert (two.reads(STATUS), placed["epoch"], placed["from"]) == ("last", 1, "lon1")
        assert placed["age_ms"] < 5000
        lent = await two.carrying.status_file("sbc")
        assert lent is not None
        assert lent.read_text() == "last"


def test_a_status_is_received_beside_and_placed_when_it_is_needed(tmp_path: Path) -> None:
    asyncio.run(_status(tmp_path))


async def _taken_over(folder: Path) -> None:
    async with pair(folder) as (one, two):
        one.put(STATUS, "seen by both")
        await until(holds(two, "seen by both"))
        await two.stop()
        one.put(STATUS, "seen by one")
        await until(holds(one, "seen by one"))
        await one.stop()
        one.serving = False
        two.serving, two.epoch = True, 2
        await two.restart()
        await two.carrying.place("sbc")
        assert two.reads(STATUS) == "seen by both"
        two.put(STATUS, "gone on")
        await until(holds(two, "gone on"))
        one.epoch = 2
        await one.restart()
        await until(holds(one, "gone on"))
        placed = await one.carrying.place("sbc")
        assert (one.reads(STATUS), placed["epoch"], placed["from"]) == ("gone on", 2, "lon2")


def test_who_returns_takes_the_status_of_who_went_on(tmp_path: Path) -> None:
    asyncio.run(_taken_over(tmp_path))


async def _never_older(folder: Path) -> None:
    async with pair(folder) as (one, two):
        one.put(STATUS, "old")
        await until(holds(two, "old"))
        await two.stop()
        two.group.status.held = None  # what is below is asked of a node that knows more than it has
        two.group.status.heard = (3, 1)
        with pytest.raises(Refused, match="a status of epoch 3 is known of"):
            two.group.status.place(10_000, 0, 0)
        assert two.reads(STATUS) is None


def test_a_status_older_than_one_that_is_known_is_not_placed(tmp_path: Path) -> None:
    asyncio.run(_never_older(tmp_path))


async def _own(folder: Path) -> None:
    async with pair(folder) as (one, two):
        assert (await two.carrying.place("sbc"))["from"] == ""
        one.put(STATUS, "mine")
        await until(holds(one, "mine"))
        await one.stop()
        one.file(STATUS).write_text("mine, and a second later")
        await one.restart()
        await until(lambda: one.group.status.held is not None)
        one.serving = False
        assert (await one.carrying.place("sbc"))["from"] == "lon1"
        assert one.reads(STATUS) == "mine, and a second later"


def test_who_wrote_the_status_last_keeps_what_lies_there(tmp_path: Path) -> None:
    asyncio.run(_own(tmp_path))


async def _half_written(folder: Path) -> None:
    """The service writes in place, slowly, in a thread; each status must come whole."""
    async with pair(folder) as (one, two):
        path, stop, seen = one.file(STATUS), threading.Event(), set[str]()
        path.parent.mkdir(exist_ok=True)

        def write() -> None:
            number = 0
            while not stop.is_set():
                number += 1
                with path.open("w", buffering=1) as out:
                    for _ in range(20):
                        out.write(f"{number:06d}" * 100 + "\n")
                        stop.wait(0.002)
                stop.wait(0.02)

        writer = threading.Thread(target=write)
        writer.start()
        try:
            async with asyncio.timeout(20):
                while len(seen) < 10:
                    await asyncio.sleep(0.01)
                    lent = await two.carrying.status_file("sbc")
                    if lent is not None:
                        lines = lent.read_text().splitlines()
                        assert len(lines) == 20
                        assert len(set(lines)) == 1
                        seen.add(lines[0])
        finally:
            stop.set()
            writer.join()


def test_a_status_that_is_half_written_is_read_again(tmp_path: Path) -> None:
    asyncio.run(_half_written(tmp_path))


async def _shipped_to_nobody(folder: Path) -> None:
    async with pair(folder, names=("lon1", "lon2", "par1")) as (one, two, three):
        one.put(STATUS, "last")
        await three.stop()
        facts = await one.carrying.ship("sbc", "", 1, 1500)
        assert facts["nodes"]["lon2"] == ""
        assert facts["nodes"]["par1"] != ""
        assert holds(two, "last")()


def test_a_status_that_a_node_does_not_take_is_said(tmp_path: Path) -> None:
    asyncio.run(_shipped_to_nobody(tmp_path))


async def _no_shelf(folder: Path) -> None:
    async with machines(folder, "lon1", "lon2") as (one, _):
        (folder / "lon1-state").write_text("a file where a folder should be")
        one.start()
        await until(lambda: one.trouble)
        assert "lon1-state" in one.trouble[0]
        with pytest.raises(Unreachable, match="could not be read"):
            await one.carrying.place("sbc")


def test_a_shelf_that_cannot_be_used_is_said_and_ends_nothing(tmp_path: Path) -> None:
    asyncio.run(_no_shelf(tmp_path))


# ---------------------------------------------------------------- a peer that means harm


class Scripted:
    """A connection whose other end says what a test wants. asked: the questions."""

    def __init__(self, node: str, answers: Callable[[dict[str, Any]], list[Any]]) -> None:
        self.node = node
        self.asked: list[str] = []
        self._answers = answers
        self._due: list[Any] = []

    async def say(self, said: dict[str, Any]) -> None:
        self.asked.append(said["ask"])
        self._due = self._answers(said)

    async def pour(self, item: int, piece: bytes) -> None:
        raise AssertionError("a standby sends no content")

    async def hear(self, within_s: float = 60.0) -> dict[str, Any]:
        if not self._due:
            raise Unreachable("the script is over")
        found: dict[str, Any] = self._due.pop(0)
        return found

    async def catch(self, item: int) -> bytes:
        if not self._due:
            raise Unreachable("the script is over")
        found: bytes = self._due.pop(0)
        return found

    async def close(self) -> None:
        self._due = []


def news(**more: Any) -> dict[str, Any]:
    said = {"active": True, "epoch": 1, "stamp": 1, "version": "", "status": None}
    return {"news": {"sbc": said | {"status_sha256": "", "trouble": ""} | more}}


def a_version(path: str, **more: Any) -> dict[str, Any]:
    """As a peer would send it, with the digest that fits."""
    from agent.core.manifest import Entry, digest_of

    plain = {"kind": "file", "mode": 0o644, "owner": "root", "group": "root", "uid": 0, "gid": 0}
    rest = {"size": 1, "mtime_ns": 1, "sha256": sha("x"), "target": ""}
    folder = {"path": "/etc/app"} | plain | rest | {"kind": "dir", "size": 0, "sha256": ""}
    entry = {"path": path} | plain | rest | more
    try:
        digest = digest_of({e["path"]: Entry(**e) for e in (folder, entry)})  # type: ignore[arg-type]
    except (TypeError, ValueError):
        digest = "a" * 64
    head = {"group": "sbc", "number": 9, "epoch": 1, "origin_ms": 1, "node": "lon1"}
    return head | {"left_out": [], "digest": digest, "entries": [folder, entry]}


def offers(version: dict[str, Any], *content: Any) -> Callable[[dict[str, Any]], list[Any]]:
    from agent.core.carriage import packed

    def answers(asked: dict[str, Any]) -> list[Any]:
        match asked["ask"]:
            case "news":
                return [news(version=version["digest"])]
            case "version":
                body = packed(version)
                return [{"bytes": len(body)}, body]
            case _:
                return list(content)

    return answers


HOSTILE: dict[str, Callable[[dict[str, Any]], list[Any]]] = {
    "a path outside": offers(a_version("/etc/shadow")),
    "a path that climbs": offers(a_version("/etc/app/../shadow")),
    "what is the node's own": offers(a_version("/etc/app/own")),
    "a name of ours": offers(a_version("/etc/app/.standpipe-0123456789abcdef")),
    "a file in a file": offers(a_version("/etc/app/nowhere/x")),
    "a link that leads out": offers(
        a_version("/etc/app/x", kind="link", target="../../etc", size=0, sha256="")
    ),
    "a device": offers(a_version("/etc/app/x", kind="device")),
    "a file that changes its user": offers(a_version("/etc/app/x", mode=0o4755)),
    "a NUL": offers(a_version("/etc/app/x\0y")),
    "a long name": offers(a_version("/etc/app/" + "x" * 300)),
    "a size below nothing": offers(a_version("/etc/app/x", size=-1)),
    "more than the limit": offers(a_version("/etc/app/x", size=1 << 40)),
    "more than was said": offers(a_version("/etc/app/x"), {"bytes": [1]}, b"xx"),
    "another content": offers(a_version("/etc/app/x"), {"bytes": [1]}, b"y"),
    "sizes of nothing": offers(a_version("/etc/app/x"), {"bytes": "all"}),
    "a size that is too long": offers(a_version("/etc/app/x"), {"bytes": [1 << 50]}),
    "no news": lambda asked: [{"news": 5}],
    "news that are none": lambda asked: [news(epoch="high")],
    "a rank that is none": lambda asked: [news(status=[1])],
}


async def _harmed(folder: Path, answers: Callable[[dict[str, Any]], list[Any]]) -> None:
    async with pair(folder) as (one, two):
        await one.stop()
        await until(lambda: "lon1" not in two.group.said)
        before = sorted((p, p.is_dir() or p.read_bytes()) for p in two.root.rglob("*"))
        link, script = two.carrying.links["lon1"], Scripted("lon1", answers)
        with pytest.raises(Exception, match=r"lon1|content came") as told:
            await link._talk(script)
        assert type(told.value).__name__ in ("Garbled", "Refused")
        assert sorted((p, p.is_dir() or p.read_bytes()) for p in two.root.rglob("*")) == before
        assert two.group.files.current.number == 1


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_peer_is_cut_off_and_nothing_of_it_is_written(tmp_path: Path, what: str) -> None:
    asyncio.run(_harmed(tmp_path, HOSTILE[what]))


def _bad_status(**more: Any) -> Callable[[dict[str, Any]], list[Any]]:
    entry = a_version(STATUS)["entries"][1] | more
    snapshot = {"entry": entry, "epoch": 9, "origin_ms": 9, "node": "lon1"}

    def answers(asked: dict[str, Any]) -> list[Any]:
        if asked["ask"] == "news":
            return [news(status=[9, 9], status_sha256=sha("x"))]
        return [{"status": snapshot, "durable": False}, b"yy" if more.get("size") == 2 else b"y"]

    return answers


@pytest.mark.parametrize(
    "answers",
    [
        _bad_status(path="/etc/shadow"),
        _bad_status(kind="link", target="x", size=0, sha256=""),
        _bad_status(size=1 << 40),
        _bad_status(size=2),
        _bad_status(),
    ],
    ids=["another path", "a link", "too long", "another content", "longer than said"],
)
def test_a_hostile_status_is_not_kept(
    tmp_path: Path, answers: Callable[[dict[str, Any]], list[Any]]
) -> None:
    asyncio.run(_harmed(tmp_path, answers))
    assert not list(tmp_path.glob("lon2-state/carried/sbc/status/*.content"))


def test_a_group_whose_name_is_unknown_to_a_peer_is_just_not_carried(tmp_path: Path) -> None:
    async def run() -> None:
        async with pair(tmp_path) as (one, two):
            two.group.said["lon1"] = Said(True, 1, 1)
            two.carrying.links["lon1"]._hear({"news": {}}, 0)
            assert two.group.follow().why == "no active node is heard"
            assert one.word.settings_ok

    asyncio.run(run())


async def _hosts(folder: Path) -> None:
    async with pair(folder) as (one, two):
        one.carrying.publish("sbc", {"kernel": "6.1.0", "interfaces": ["eth0"]})
        one.put(STATUS, "new")  # what is new is said at once, and the facts with it
        await until(lambda: two.carrying.server_of("sbc") is not None)
        assert two.carrying.server_of("sbc") == (
            one.name,
            {"kernel": "6.1.0", "interfaces": ["eth0"]},
        )
        assert one.carrying.server_of("sbc") is None  # it follows nobody
        offset_ms = two.carrying.offset_ms("sbc")
        assert offset_ms is not None
        assert abs(offset_ms) < 60_000  # one and the same clock, however late it is heard


def test_a_standby_hears_what_the_host_that_serves_is_like(tmp_path: Path) -> None:
    asyncio.run(_hosts(tmp_path))


class Mute:
    """A peer behind a silent cut: the connection stands, and nothing ever comes by it."""

    node = "two"

    def __init__(self) -> None:
        self.waited_s: list[float] = []

    async def say(self, said: dict[str, Any]) -> None:
        self.within_ms = said["within_ms"]

    async def hear(self, within_s: float = 3600.0) -> dict[str, Any]:
        self.waited_s.append(within_s)
        raise Unreachable("two: is heard no more")

    async def close(self) -> None:
        pass


async def _mute(folder: Path) -> None:
    async with pair(folder) as (one, _):
        peer = Mute()

        async def dial() -> Mute:
            return peer

        link = Link("two", [one.group], Clock(), dial, lambda _: 0, lambda _: None)
        running = asyncio.ensure_future(link.run())
        await until(lambda: peer.waited_s)
        running.cancel()
        assert peer.waited_s[0] <= peer.within_ms / 1000 + 2.0


def test_a_peer_that_says_nothing_is_given_up_soon_after_it_should_have(tmp_path: Path) -> None:
    asyncio.run(_mute(tmp_path))
