# SPDX-License-Identifier: GPL-2.0-or-later
"""Drivers that play a script: for demos, drills and tests (the format: docs/fake.md)."""

import asyncio
import json
import tomllib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from agent.core.model import Alarm, Answer, Reading
from agent.ports import Garbled, Refused, Unreachable
from drivers.inquiry import boottime_ms

WORDS = {
    "watch": ("works", "unreachable", "refuses", "garbles"),
    "check": ("yes", "no", "cannot", "silent"),
    "service": ("works", "dies", "refuses", "hangs", "unknown"),
    "trapper": ("works", "unreachable", "refuses"),
    "names": ("works", "unreachable", "refuses", "loses", "lags"),
}
KEYS = {
    "watch": ("turns", "reading"),
    "check": ("turns", "took_ms"),
    "service": ("turns", "running", "takes_ms", "lines"),
    "trapper": ("turns",),
    "names": ("turns",),
}
READING_KEYS = ("resource", "unit", "points", "limit", "rising", "slide", "texts")

Point = tuple[int, Any]
Sleep = Callable[[float], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Turn:
    """From `at_ms` on the driver behaves as `word` says."""

    at_ms: int
    word: str
    detail: str = ""


def latest(points: Iterable[Point], at_ms: int) -> Any:
    """The value of the last point that has come; None before the first."""
    value = None
    for point_ms, point_value in points:
        if point_ms <= at_ms:
            value = point_value
    return value


def between(points: list[Point], at_ms: int) -> float | None:
    """On the straight line between the points around `at_ms`; flat after the last."""
    for (from_ms, from_value), (to_ms, to_value) in pairwise(points):
        if from_ms <= at_ms < to_ms:
            share = (at_ms - from_ms) / (to_ms - from_ms)
            return float(from_value + share * (to_value - from_value))
    found = latest(points, at_ms)
    return None if found is None else float(found)


def reading_at(spec: Mapping[str, Any], at_ms: int) -> Reading:
    """One [[watch.NAME.reading]] at that time; the value "unknown" is None."""
    points = [(at, None if value == "unknown" else value) for at, value in spec["points"]]
    known = all(value is not None for _, value in points)
    value = between(points, at_ms) if spec.get("slide") and known else latest(points, at_ms)
    return Reading(
        spec["resource"],
        value,
        spec["unit"],
        limit=spec.get("limit"),
        rising=spec.get("rising", True),
        text=latest(spec.get("texts", ()), at_ms) or "",
    )


class Script:
    """What happens when. Time begins at the first look, and anew whenever its file changes.

    source: a TOML file, a JSON file (by its suffix), or the same as a mapping. It is read here and
    now; Refused where it makes no sense.
    """

    def __init__(
        self, source: Path | Mapping[str, Any], *, clock: Callable[[], int] = boottime_ms
    ) -> None:
        self._path = source if isinstance(source, Path) else None
        self._plot: Mapping[str, Any] = {} if isinstance(source, Path) else source
        self._clock = clock
        self._seen: tuple[int, int, int] | None = None
        self._began_ms: int | None = None
        self.edition = 0  # rises when the file changes
        if self._path is None:
            check_plot("script", self._plot)
        else:
            self._refresh(self._path)

    async def now_ms(self) -> int:
        """Since it began. Raises Refused where the file cannot be read or makes no sense."""
        if self._path is not None:
            await asyncio.to_thread(self._refresh, self._path)
        if self._began_ms is None:
            self._began_ms = self._clock()
        return self._clock() - self._began_ms

    def section(self, kind: str, name: str) -> Mapping[str, Any]:
        """What it says of one driver; nothing means that all is well."""
        found: Mapping[str, Any] = self._plot.get(kind, {}).get(name, {})
        return found

    def turns(self, kind: str, name: str) -> list[Turn]:
        """In order of time."""
        turns = (Turn(*row) for row in self.section(kind, name).get("turns", ()))
        return sorted(turns, key=lambda turn: turn.at_ms)

    async def turn(self, kind: str, name: str) -> Turn:
        """The one that holds now: the first word of its kind before any has come."""
        now_ms = await self.now_ms()
        come = [turn for turn in self.turns(kind, name) if turn.at_ms <= now_ms]
        return come[-1] if come else Turn(0, WORDS[kind][0])

    def _refresh(self, path: Path) -> None:
        try:
            status = path.stat()
            seen = (status.st_mtime_ns, status.st_ino, status.st_size)
            if seen == self._seen:
                return
            text = path.read_text("utf-8")
            plot = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
        except (OSError, ValueError) as error:
            raise Refused(f"script {path}: {error}; mend it or write it anew") from error
        check_plot(f"script {path}", plot)
        self._plot, self._seen, self._began_ms = plot, seen, None
        self.edition += 1


def check_plot(who: str, plot: Mapping[str, Any]) -> None:
    """Raises Refused, naming the place, for whatever docs/fake.md does not know."""
    for kind, sections in plot.items():
        _among(who, kind, KEYS)
        for name, section in _table(f"{who}: {kind}", sections).items():
            here = f"{who}: {kind}.{name}"
            for key in _table(here, section):
                _among(here, key, KEYS[kind])
            for turn in _rows(f"{here}.turns", section.get("turns", ()), (2, 3)):
                _among(here, turn[1], WORDS[kind])
            for spec in section.get("reading", ()):
                _check_reading(f"{here}.reading", _table(f"{here}.reading", spec))


def _check_reading(here: str, spec: Mapping[str, Any]) -> None:
    for key in spec:
        _among(here, key, READING_KEYS)
    for key in READING_KEYS[:3]:
        if key not in spec:
            raise Refused(f"{here}: {key} is missing")
    _rows(f"{here}.points", spec["points"], (2,))
    _rows(f"{here}.texts", spec.get("texts", ()), (2,))


def _table(here: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise Refused(f"{here}: {value!r} is no table; see docs/fake.md")
    return value


def _rows(here: str, rows: Any, lengths: tuple[int, ...]) -> list[Any]:
    """Rows of [at_ms, ...]."""
    for row in rows if isinstance(rows, list | tuple) else [rows]:
        fits = isinstance(row, list | tuple) and len(row) in lengths and isinstance(row[0], int)
        if not fits:
            raise Refused(f"{here}: {row!r} is not [at_ms, ...] as docs/fake.md has it")
    return list(rows)


def _among(who: str, word: str, known: Iterable[str]) -> None:
    if word not in known:
        raise Refused(f"{who}: {word!r} is none of {', '.join(known)}")


class FakeWatch:
    """ports.Watch that plays [watch.NAME]."""

    def __init__(self, name: str, every_ms: int, script: Script) -> None:
        self.name = name
        self.every_ms = every_ms
        self._script = script

    async def read(self) -> list[Reading]:
        turn = await self._script.turn("watch", self.name)
        who = f"{self.name}: {turn.detail or 'as its script says'}"
        match turn.word:
            case "unreachable":
                raise Unreachable(who)
            case "refuses":
                raise Refused(who)
            case "garbles":
                raise Garbled(who)
            case _:
                pass
        now_ms = await self._script.now_ms()
        specs = self._script.section("watch", self.name).get("reading", ())
        return [reading_at(spec, now_ms) for spec in specs]


class FakeService:
    """ports.Service that plays [service.NAME]. `asked`: the verbs so far, in order."""

    def __init__(self, name: str, script: Script, *, sleep: Sleep = asyncio.sleep) -> None:
        self.name = name
        self.asked: list[str] = []
        self._script = script
        self._sleep = sleep
        self._runs: bool | None = None
        self._deaths: tuple[int, int] = (0, 0)

    async def start(self, within_ms: int) -> str:
        return await self._order("start", True, within_ms)

    async def stop(self, within_ms: int) -> str:
        return await self._order("stop", False, within_ms)

    async def restart(self, within_ms: int) -> str:
        return await self._order("restart", True, within_ms)

    async def running(self) -> bool | None:
        turn = await self._catch_up()
        return None if turn.word == "unknown" else self._runs

    async def kill(self, within_ms: int) -> str:
        """At once, and whatever its turn says but "refuses"."""
        self.asked.append("kill")
        turn = await self._catch_up()
        if turn.word == "refuses":
            raise Refused(f"service {self.name}: kill: {turn.detail or 'as its script says'}")
        self._runs = False
        return f"service {self.name}: killed, within {within_ms} ms"

    async def main_pid(self) -> int:
        """None that anybody could follow."""
        return 0

    async def last_lines(self, count: int) -> list[str]:
        lines = self._script.section("service", self.name).get("lines", ())
        return [str(line) for line in lines][-count:]

    async def _order(self, verb: str, runs: bool, within_ms: int) -> str:
        self.asked.append(verb)
        turn = await self._catch_up()
        takes_ms = self._script.section("service", self.name).get("takes_ms", 0)
        if turn.word == "refuses":
            raise Refused(f"service {self.name}: {verb}: {turn.detail or 'as its script says'}")
        if turn.word == "hangs" or takes_ms > within_ms:
            await self._sleep(within_ms / 1000)
            raise Unreachable(f"service {self.name}: {verb} not finished within {within_ms} ms")
        await self._sleep(takes_ms / 1000)
        self._runs = runs
        return f"service {self.name}: {verb} done in {takes_ms} ms"

    async def _catch_up(self) -> Turn:
        """Each death comes once; a service that was started again lives on until the next."""
        turn = await self._script.turn("service", self.name)
        now_ms = await self._script.now_ms()
        turns = [turn for turn in self._script.turns("service", self.name) if turn.at_ms <= now_ms]
        if self._runs is None:
            self._runs = bool(self._script.section("service", self.name).get("running", False))
        deaths = (self._script.edition, sum(turn.word == "dies" for turn in turns))
        if deaths[1] and deaths != self._deaths:
            self._runs = False
        self._deaths = deaths
        return turn


class FakeCheck:
    """ports.Check that plays [check.NAME]. service: asked too, and "no" while that one is down."""

    def __init__(
        self,
        name: str,
        script: Script,
        *,
        timeout_ms: int = 1000,
        service: FakeService | None = None,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self.name = name
        self._script = script
        self._timeout_ms = timeout_ms
        self._service = service
        self._sleep = sleep

    async def ask(self) -> Answer:
        try:
            turn = await self._script.turn("check", self.name)
            runs = True if self._service is None else await self._service.running()
        except Refused as error:
            return Answer(None, str(error))
        took_ms = self._script.section("check", self.name).get("took_ms", 1)
        if turn.word == "silent":
            await self._sleep(self._timeout_ms / 1000)
            return Answer(False, f"no answer within {self._timeout_ms} ms", self._timeout_ms)
        if turn.word == "yes" and runs is False:
            return Answer(False, "its service does not run", took_ms)
        ok = {"yes": True, "no": False, "cannot": None}[turn.word]
        return Answer(ok, turn.detail, took_ms)


class FakeTrapper:
    """ports.Trapper that plays [trapper.NAME]. `sent`: what arrived, with its wall time."""

    def __init__(self, name: str, script: Script) -> None:
        self.name = name
        self.sent: list[tuple[Alarm, float]] = []
        self._script = script

    async def send(self, alarm: Alarm, wall_s: float) -> None:
        turn = await self._script.turn("trapper", self.name)
        if turn.word == "unreachable":
            raise Unreachable(f"nms {self.name}: {turn.detail or 'no answer'}")
        if turn.word == "refuses":
            raise Refused(f"nms {self.name}: {turn.detail or 'as its script says'}")
        self.sent.append((alarm, wall_s))


@dataclass(slots=True)
class FakeZone:
    """What the name servers hold; shared by all FakeNames that speak to them.

    servers: each address and the site that it sends the world to; the first is the primary.
    """

    servers: dict[str, str] = field(default_factory=lambda: {"192.0.2.53": ""})
    epoch: int = 0

    def move(self, site: str, epoch: int, lagging: bool) -> None:
        addresses = list(self.servers)
        for address in addresses[:1] if lagging else addresses:
            self.servers[address] = site
        self.epoch = epoch


class FakeNames:
    """ports.Names that plays [names.NAME] on a FakeZone."""

    def __init__(self, name: str, script: Script, zone: FakeZone) -> None:
        self.name = name
        self._script = script
        self._zone = zone

    async def update(self, site: str, epoch: int) -> dict[str, Any]:
        turn = await self._answering()
        if self._zone.epoch >= epoch:
            raise Refused(
                f"geo {self.name}: epoch overtaken, the zone has {self._zone.epoch} and we"
                f" {epoch}; another node moved it, look again"
            )
        self._zone.move(site, epoch, turn.word == "lags")
        if turn.word == "loses":
            raise Unreachable(f"geo {self.name}: no answer to the update; look again")
        return {"rcode": "NOERROR", "epoch": epoch, "took_ms": 1}

    async def verify(self, site: str) -> dict[str, Any]:
        await self._answering()
        return {
            "servers": {
                address: {
                    "serial": self._zone.epoch,
                    "ok": said == site,
                    "detail": f"sends to {said or 'nowhere'}",
                }
                for address, said in self._zone.servers.items()
            }
        }

    async def epoch(self) -> int:
        await self._answering()
        return self._zone.epoch

    async def _answering(self) -> Turn:
        turn = await self._script.turn("names", self.name)
        if turn.word == "unreachable":
            raise Unreachable(f"geo {self.name}: {turn.detail or 'no name server answers'}")
        if turn.word == "refuses":
            raise Refused(f"geo {self.name}: {turn.detail or 'as its script says'}")
        return turn
