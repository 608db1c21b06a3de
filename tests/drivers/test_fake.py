# SPDX-License-Identifier: GPL-2.0-or-later
"""The scripted drivers, on a clock of the test's own."""

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.core.model import Alarm, Answer, Reading, Severity
from agent.ports import (
    Check,
    Garbled,
    Names,
    Refused,
    Service,
    Trapper,
    Unreachable,
    Watch,
)
from drivers.fake import (
    FakeCheck,
    FakeNames,
    FakeService,
    FakeTrapper,
    FakeWatch,
    FakeZone,
    Script,
    reading_at,
)

DISK = {"resource": "disk:/var", "unit": "bytes", "limit": 100, "points": [[0, 20], [10_000, 100]]}


class Clock:
    now_ms = 5_000_000

    def __call__(self) -> int:
        return self.now_ms

    async def sleep(self, seconds: float) -> None:
        self.now_ms += round(seconds * 1000)


def play(plot: dict[str, Any], scene: Callable[[Script, Clock], Any]) -> Any:
    clock = Clock()
    return asyncio.run(scene(Script(plot, clock=clock), clock))


def test_each_fake_stands_in_for_its_port() -> None:
    script = Script({})
    watch: Watch = FakeWatch("host", 1000, script)
    check: Check = FakeCheck("sip", script)
    service: Service = FakeService("sip", script)
    trapper: Trapper = FakeTrapper("main", script)
    names: Names = FakeNames("voice", script, FakeZone())
    assert all((watch, check, service, trapper, names))


def test_a_disk_fills_in_steps_or_in_a_straight_line() -> None:
    slide = {**DISK, "slide": True}
    assert [reading_at(DISK, at).value for at in (0, 5_000, 10_000, 99_000)] == [20, 20, 100, 100]
    assert [reading_at(slide, at).value for at in (0, 5_000, 10_000, 99_000)] == [20, 60, 100, 100]
    assert reading_at(DISK, 5_000) == Reading("disk:/var", 20, "bytes", limit=100)


def test_a_ups_goes_to_battery_and_its_runtime_falls() -> None:
    source = {
        "resource": "ups:u:source",
        "unit": "state",
        "points": [[0, 0], [5_000, 1]],
        "texts": [[0, "normal"], [5_000, "battery"]],
    }
    runtime = {
        "resource": "ups:u:runtime",
        "unit": "s",
        "limit": 0,
        "rising": False,
        "points": [[0, 600], [7_000, "unknown"]],
    }

    async def scene(script: Script, clock: Clock) -> None:
        watch = FakeWatch("u", 1000, script)
        first = [
            Reading("ups:u:source", 0, "state", text="normal"),
            Reading("ups:u:runtime", 600, "s", limit=0, rising=False),
        ]
        assert await watch.read() == first
        clock.now_ms += 7_000
        later = await watch.read()
        assert later[0] == Reading("ups:u:source", 1, "state", text="battery")
        assert later[1].value is None

    play({"watch": {"u": {"reading": [source, runtime]}}}, scene)


def test_a_watch_fails_in_each_of_the_three_ways() -> None:
    turns = [[1, "unreachable"], [2, "refuses", "bad community"], [3, "garbles"], [4, "works"]]

    async def scene(script: Script, clock: Clock) -> None:
        watch = FakeWatch("u", 1000, script)
        assert await watch.read() == []
        for error in (Unreachable, Refused, Garbled):
            clock.now_ms += 1
            with pytest.raises(error, match="u: "):
                await watch.read()
        clock.now_ms += 1
        assert await watch.read() == []

    play({"watch": {"u": {"turns": turns}}}, scene)


def test_a_service_dies_is_restarted_dies_again_and_then_will_not_start() -> None:
    turns = [[1_000, "dies"], [3_000, "dies"], [5_000, "refuses", "licence expired"]]
    plot = {"service": {"sip": {"running": True, "takes_ms": 200, "turns": turns}}}

    async def scene(script: Script, clock: Clock) -> None:
        service = FakeService("sip", script, sleep=clock.sleep)
        check = FakeCheck("sip", script, service=service)
        assert (await check.ask()).ok is True
        for _ in range(2):
            clock.now_ms += 1_500
            assert (await check.ask()).ok is False
            assert "done in 200 ms" in await service.start(10_000)
            assert (await check.ask()).ok is True
            clock.now_ms += 500
        clock.now_ms += 2_000
        with pytest.raises(Refused, match="licence expired"):
            await service.restart(10_000)
        assert await service.running() is True, "refusing to restart it does not stop it"
        assert service.asked == ["start", "start", "restart"]

    play(plot, scene)


def test_a_service_that_hangs_takes_its_whole_limit_and_leaves_things_unknown() -> None:
    plot = {"service": {"sip": {"turns": [[0, "hangs"], [2_000, "unknown"]]}}}

    async def scene(script: Script, clock: Clock) -> None:
        service = FakeService("sip", script, sleep=clock.sleep)
        began_ms = clock.now_ms
        with pytest.raises(Unreachable, match="not finished within 2000 ms"):
            await service.start(2_000)
        assert clock.now_ms == began_ms + 2_000
        assert await service.running() is None

    play(plot, scene)


def test_a_check_says_yes_no_that_it_could_not_ask_and_nothing() -> None:
    turns = [[1, "no", "refused"], [2, "cannot", "no files left"], [3, "silent"]]

    async def scene(script: Script, clock: Clock) -> list[Answer]:
        check = FakeCheck("sip", script, timeout_ms=300, sleep=clock.sleep)
        answers = []
        for _ in range(4):
            answers.append(await check.ask())
            clock.now_ms += 1
        return answers

    assert play({"check": {"sip": {"took_ms": 7, "turns": turns}}}, scene) == [
        Answer(True, "", 7),
        Answer(False, "refused", 7),
        Answer(None, "no files left", 7),
        Answer(False, "no answer within 300 ms", 300),
    ]


def test_an_nms_keeps_what_arrives_and_raises_what_does_not() -> None:
    alarm = Alarm("k:s", "k", "s", Severity.MAJOR, "text")

    async def scene(script: Script, clock: Clock) -> None:
        trapper = FakeTrapper("main", script)
        await trapper.send(alarm, 1.0)
        clock.now_ms += 10
        with pytest.raises(Unreachable, match="nms main"):
            await trapper.send(alarm, 2.0)
        clock.now_ms += 10
        with pytest.raises(Refused):
            await trapper.send(alarm, 3.0)
        assert trapper.sent == [(alarm, 1.0)]

    play({"trapper": {"main": {"turns": [[10, "unreachable"], [20, "refuses"]]}}}, scene)


def test_of_two_that_write_the_same_names_the_higher_epoch_wins() -> None:
    zone = FakeZone({"192.0.2.53": "london", "192.0.2.54": "london"}, epoch=4)

    async def scene(script: Script, clock: Clock) -> None:
        here, there = FakeNames("voice", script, zone), FakeNames("voice", script, zone)
        assert await here.update("paris", 5) == {"rcode": "NOERROR", "epoch": 5, "took_ms": 1}
        with pytest.raises(Refused, match="epoch overtaken, the zone has 5 and we 5"):
            await there.update("london", 5)
        assert await there.epoch() == 5
        servers = (await there.verify("paris"))["servers"]
        assert [server["ok"] for server in servers.values()] == [True, True]

    play({}, scene)


def test_an_update_whose_answer_is_lost_was_made_and_a_secondary_may_lag() -> None:
    zone = FakeZone({"192.0.2.53": "london", "192.0.2.54": "london"})

    async def scene(script: Script, clock: Clock) -> None:
        names = FakeNames("voice", script, zone)
        with pytest.raises(Unreachable):
            await names.update("paris", 1)
        assert zone.epoch == 1
        clock.now_ms += 10
        await names.update("london", 2)
        clock.now_ms += 10
        await names.update("paris", 3)
        servers = (await names.verify("paris"))["servers"]
        assert [server["ok"] for server in servers.values()] == [True, False]

    turns = [[0, "loses"], [10, "works"], [20, "lags"]]
    play({"names": {"voice": {"turns": turns}}}, scene)


def test_a_script_that_is_written_anew_begins_anew(tmp_path: Path) -> None:
    path, clock = tmp_path / "drill.toml", Clock()

    def write(text: str) -> None:
        path.with_suffix(".new").write_text(text)
        os.replace(path.with_suffix(".new"), path)

    async def scene() -> None:
        write('[service.sip]\nrunning = true\nturns = [[1000, "dies"]]\n')
        service = FakeService("sip", Script(path, clock=clock))
        assert await service.running() is True
        clock.now_ms += 900
        write('[service.sip]\nturns = [[1000, "dies"], [1100, "works"]]\n')
        assert await service.running() is True
        clock.now_ms += 999
        assert await service.running() is True, "its time counts from the new script's beginning"
        clock.now_ms += 1
        assert await service.running() is False
        await service.start(1000)
        write('[service.sip]\nturns = [[0, "dies"]]\n')
        assert await service.running() is False
        await service.start(1000)
        write('[service.sip]\nturns = [[0, "dies"]]\n\n')
        assert await service.running() is False

    asyncio.run(scene())


def test_a_script_may_be_json(tmp_path: Path) -> None:
    path = tmp_path / "drill.json"
    path.write_text(json.dumps({"watch": {"host": {"reading": [DISK]}}}))
    script = Script(path)
    assert script.section("watch", "host"), "known before anybody looked"
    [reading] = asyncio.run(FakeWatch("host", 1000, script).read())
    assert reading.value == 20


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[wach.host]\n", "'wach' is none of watch"),
        ("[check.sip]\nturn = []\n", "check.sip: 'turn' is none of turns"),
        ('[check.sip]\nturns = [[0, "maybe"]]\n', "check.sip: 'maybe' is none of yes"),
        ('[check.sip]\nturns = ["yes"]\n', r"turns: 'yes' is not \[at_ms"),
        ("[watch]\nturns = 3\n", "watch.turns: 3 is no table"),
        ('[[watch.h.reading]]\nresource = "r"\nunit = "s"\n', "reading: points is missing"),
        ('[[watch.h.reading]]\nresource = "r"\nunit = "s"\npoints = [1]\n', "points: 1 is not"),
        ("[watch\n", "mend it"),
    ],
)
def test_a_script_that_makes_no_sense_is_refused_and_the_place_named(
    tmp_path: Path, text: str, why: str
) -> None:
    path = tmp_path / "drill.toml"
    path.write_text("")
    script = Script(path)
    path.write_text(text)
    with pytest.raises(Refused, match=why):
        Script(path)

    async def scene() -> None:
        with pytest.raises(Refused, match=why):
            await FakeWatch("h", 1000, script).read()
        answer = await FakeCheck("sip", script).ask()
        assert answer.ok is None
        assert str(path) in answer.detail

    asyncio.run(scene())


def test_a_script_that_is_not_there_is_refused_and_one_that_goes_too(tmp_path: Path) -> None:
    path = tmp_path / "drill.toml"
    with pytest.raises(Refused, match="No such file"):
        Script(path)
    path.write_text("")
    service = FakeService("sip", Script(path))
    path.unlink()
    with pytest.raises(Refused, match="No such file"):
        asyncio.run(service.start(1000))


def test_the_drill_in_the_documentation_plays(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs/fake.md").read_text()
    path = tmp_path / "drill.toml"
    path.write_text(page.split("```toml\n")[1].split("```")[0])

    async def scene() -> None:
        clock = Clock()
        script = Script(path, clock=clock)
        host, ups = FakeWatch("host:disk", 1000, script), FakeWatch("ups1", 1000, script)
        service = FakeService("kamailio", script)
        assert [reading.value for reading in await ups.read()] == [0, 600]
        assert await service.running() is True
        clock.now_ms += 15_000
        assert [reading.value for reading in await ups.read()] == [1, 590]
        assert (await host.read())[0].value == pytest.approx(49_600_000)
        assert await service.running() is False
        with pytest.raises(Refused, match="licence expired"):
            await service.start(1000)

    asyncio.run(scene())
