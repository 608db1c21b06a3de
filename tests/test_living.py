# SPDX-License-Identifier: GPL-2.0-or-later
"""Services are asked in their own rhythm, a hang is known in time, and a death is told at once."""

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from agent.core.health import CheckHealth
from agent.core.model import Answer, Died, Health, Lives
from agent.core.settings import CheckSettings, ServiceSettings
from agent.living import Asker, Tended, gather, watch_life
from drivers.commands import CommandService
from drivers.deaths import Deaths
from tests.drivers.patience import until

YES, NO = Answer(True, "200"), Answer(False, "refused")


class Scripted:
    """ports.Service of which a test says everything."""

    def __init__(self) -> None:
        self.pid = 0
        self.asked: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def start(self, within_ms: int) -> str:
        self.asked.append("start")
        return "started"

    async def stop(self, within_ms: int) -> str:
        self.asked.append("stop")
        return "stopped"

    async def restart(self, within_ms: int) -> str:
        self.asked.append("restart")
        return "restarted"

    async def kill(self, within_ms: int) -> str:
        self.asked.append("kill")
        await self.gate.wait()
        self.asked.append("killed")
        return "killed"

    async def running(self) -> bool | None:
        return None

    async def main_pid(self) -> int:
        return self.pid

    async def last_lines(self, count: int) -> list[str]:
        return ["one", "two"][-count:]


class Answering:
    """ports.Check: `answer` at once, or hangs for its whole limit where that is None."""

    def __init__(self, answer: Answer | None, timeout_ms: int = 100) -> None:
        self.answer = answer
        self.begun_ms: list[float] = []
        self._timeout_ms = timeout_ms

    async def ask(self) -> Answer:
        self.begun_ms.append(time.monotonic() * 1000)
        if self.answer is not None:
            return self.answer
        await asyncio.sleep(self._timeout_ms / 1000)
        return Answer(False, "no answer", self._timeout_ms)


def settings(every_ms: int = 200, kind: str = "sip") -> CheckSettings:
    return CheckSettings("c", kind, "x:1", every_ms=every_ms, timeout_ms=100, rise=1, fall=3)


class Scene:
    """A check under way; `heard` are its answers."""

    def __init__(self, check: Answering, asked: CheckSettings, concerns_us: bool = True) -> None:
        self.check = check
        self.health = CheckHealth(asked)
        self.heard: list[Answer] = []
        self.tended = Tended(Scripted())
        self.asker = Asker(check, lambda: self.health, self._hear, lambda: concerns_us, self.tended)

    def _hear(self, answer: Answer) -> None:
        self.heard.append(answer)
        self.health.hear(answer, int(time.monotonic() * 1000))

    async def during(self, play: Callable[[], Awaitable[None]]) -> None:
        task = asyncio.ensure_future(self.asker.run())
        try:
            await play()
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


# ---------------------------------------------------------------- asking


def test_a_hang_is_known_after_few_questions_that_overlap() -> None:
    async def scene() -> None:
        it = Scene(Answering(YES), settings())

        async def play() -> None:
            await until(lambda: it.health.health is Health.UP)
            it.check.answer = None
            before = len(it.check.begun_ms)
            await until(lambda: it.health.health is Health.DOWN)
            assert len(it.check.begun_ms) - before <= 5
            first, second, third = it.check.begun_ms[before : before + 3]
            assert second - first < 100, "asked again before the limit of the first"
            assert third - second < 100
            assert [answer.ok for answer in it.heard[-3:]] == [False] * 3

        await it.during(play)

    asyncio.run(scene())


def test_a_service_that_is_down_is_asked_in_its_plain_rhythm() -> None:
    async def scene() -> None:
        it = Scene(Answering(NO), settings(every_ms=60_000))

        async def play() -> None:
            await until(lambda: it.health.health is Health.DOWN)
            for _ in range(10):
                await asyncio.sleep(0)
            assert len(it.heard) == 3

        await it.during(play)

    asyncio.run(scene())


def test_a_check_that_starts_processes_is_never_asked_twice_at_once() -> None:
    async def scene() -> None:
        check = Answering(None)
        it = Scene(check, settings(kind="command"))

        async def play() -> None:
            await until(lambda: len(it.heard) == 2)
            assert len(check.begun_ms) <= 3
            assert check.begun_ms[1] - check.begun_ms[0] >= 99

        await it.during(play)

    asyncio.run(scene())


def test_what_was_asked_before_a_good_answer_is_moot() -> None:
    async def scene() -> None:
        it = Scene(Answering(None, timeout_ms=60_000), settings())

        async def play() -> None:
            await until(lambda: len(it.check.begun_ms) == 2)
            it.check.answer = YES
            await until(lambda: it.heard)
            assert it.heard == [YES]

        await it.during(play)

    asyncio.run(scene())


def test_whoever_starts_a_service_has_it_asked_at_once() -> None:
    async def scene() -> None:
        it = Scene(Answering(YES), settings(every_ms=60_000))

        async def play() -> None:
            await until(lambda: len(it.heard) == 1)
            await it.tended.restart(1000)
            await until(lambda: len(it.heard) >= 2)

        await it.during(play)

    asyncio.run(scene())


def test_what_concerns_us_not_is_not_asked() -> None:
    async def scene() -> None:
        it = Scene(Answering(YES), settings(every_ms=10), concerns_us=False)

        async def play() -> None:
            await it.tended.start(1000)
            await asyncio.sleep(0.05)

        await it.during(play)
        assert it.check.begun_ms == []

    asyncio.run(scene())


# ---------------------------------------------------------------- orders


def test_a_restart_waits_for_the_kill_before_it() -> None:
    async def scene() -> list[str]:
        driver = Scripted()
        tended = Tended(driver)
        driver.gate.clear()
        killing = asyncio.ensure_future(tended.kill(1000))
        await until(lambda: driver.asked == ["kill"])
        restarting = asyncio.ensure_future(tended.restart(1000))
        await asyncio.sleep(0)
        driver.gate.set()
        await killing
        await restarting
        return driver.asked

    assert asyncio.run(scene()) == ["kill", "killed", "restart"]


# ---------------------------------------------------------------- lives and deaths


@contextmanager
def sleeper() -> Iterator["subprocess.Popen[bytes]"]:
    process = subprocess.Popen(["sleep", "600"])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def watched(
    tended: Tended, play: Callable[[list[Lives | Died]], Awaitable[None]]
) -> list[Lives | Died]:
    told: list[Lives | Died] = []
    task = asyncio.ensure_future(watch_life("sbc", "sip", tended, Deaths(), told.append))
    try:
        await play(told)
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    return told


def test_a_main_process_is_found_and_its_death_told_without_any_check() -> None:
    async def scene(process: "subprocess.Popen[bytes]") -> list[Lives | Died]:
        driver = Scripted()

        async def play(told: list[Lives | Died]) -> None:
            driver.pid = process.pid
            await until(lambda: told)
            began_ms = time.monotonic() * 1000
            process.kill()
            await until(lambda: len(told) == 2)
            print(f"death told after {time.monotonic() * 1000 - began_ms:.1f} ms")

        return await watched(Tended(driver), play)

    with sleeper() as process:
        assert asyncio.run(scene(process)) == [
            Lives("sbc", "sip", process.pid),
            Died("sbc", "sip", process.pid),
        ]


def test_a_main_process_that_handed_over_before_it_ended_did_not_die() -> None:
    async def scene(old: "subprocess.Popen[bytes]", new: "subprocess.Popen[bytes]") -> None:
        driver = Scripted()
        driver.pid = old.pid

        async def play(told: list[Lives | Died]) -> None:
            await until(lambda: told)
            driver.pid = new.pid
            old.kill()
            await until(lambda: len(told) == 2)
            assert told[1] == Lives("sbc", "sip", new.pid)

        await watched(Tended(driver), play)

    with sleeper() as old, sleeper() as new:
        asyncio.run(scene(old, new))


def test_a_restarted_service_has_another_main_process() -> None:
    async def scene(old: "subprocess.Popen[bytes]", new: "subprocess.Popen[bytes]") -> None:
        driver = Scripted()
        driver.pid = old.pid
        tended = Tended(driver)

        async def play(told: list[Lives | Died]) -> None:
            await until(lambda: told)
            driver.pid = new.pid
            await tended.restart(1000)
            await until(lambda: len(told) == 2)
            assert told[1] == Lives("sbc", "sip", new.pid)

        await watched(tended, play)

    with sleeper() as old, sleeper() as new:
        asyncio.run(scene(old, new))


def test_a_service_that_hangs_is_killed_though_its_stop_never_ends(tmp_path: Path) -> None:
    async def scene(process: "subprocess.Popen[bytes]") -> None:
        hangs = f"until test -e {tmp_path}/go; do sleep 0.02; done"
        settings = ServiceSettings(
            "sip", start="true", stop=hangs, status="true", pid_file=str(tmp_path / "pid")
        )
        tended = Tended(CommandService(settings, tmp_path))
        stopping = asyncio.ensure_future(tended.stop(60_000))
        await tended.kill(5000)
        assert not stopping.done()
        (tmp_path / "go").touch()
        await stopping

    with sleeper() as process:
        (tmp_path / "pid").write_text(str(process.pid))
        os.kill(process.pid, signal.SIGSTOP)
        asyncio.run(scene(process))
        assert process.wait() == -signal.SIGKILL


# ---------------------------------------------------------------- facts


@pytest.mark.parametrize("resources", [{}, {"disk:/var": "full in 3 h"}])
def test_the_page_has_the_last_lines_and_what_was_short(resources: dict[str, str]) -> None:
    facts = asyncio.run(gather(Scripted(), resources))
    assert facts["lines"] == ["one", "two"]
    assert resources.items() <= facts["resources"].items()
    assert len(facts["resources"]["load"].split()) == 3
