# SPDX-License-Identifier: GPL-2.0-or-later
"""The agent's shell: what the core says is written down, done, and its end is the next event."""

import asyncio
from dataclasses import replace

import pytest

from agent.clock import now_ms
from agent.core.engine import AgentCore
from agent.core.model import Alarm, Outcome, Severity, SourceFailed, Ticked, Word
from agent.core.orders import (
    ControlService,
    KeepEpoch,
    LookNames,
    Record,
    Reply,
    Tell,
    TellKeeper,
    UpdateNames,
    VerifyNames,
)
from agent.ledger import Ledger
from agent.loop import Loop, error_word
from agent.ports import Garbled, PortError, Refused, Unreachable
from tests.core.agents import DOWN, UP, ask, settings
from tests.drivers.patience import until
from tests.test_ledger import MemoryStore

START = ControlService(1, "sbc", "kamailio", "start", 5000)


class ScriptedCore:
    """Says what it was told to say, and keeps what it hears. Wakes up every `every_ms`."""

    def __init__(self, script=(), every_ms=10_000):
        self.script = dict(script)  # type of event -> actions, once
        self.every_ms = every_ms
        self.heard = []
        self._due = now_ms() + every_ms

    def step(self, event, now):
        self.heard.append(event)
        if isinstance(event, Ticked):
            self._due = now + self.every_ms
        said = self.script.pop(type(event), [])
        if isinstance(said, Exception):
            raise said
        return said

    def deadline(self):
        return self._due

    def outcomes(self):
        return [event for event in self.heard if isinstance(event, Outcome)]


class Attentive(AgentCore):
    """The real core, and what it hears."""

    def __init__(self):
        super().__init__(settings(), {}, now_ms())
        self.heard = []

    def step(self, event, now):
        self.heard.append(event)
        return super().step(event, now)


class Daemon:
    """ports.Service. Does what it is told, or raises `error`; notes it in `diary`."""

    def __init__(self, diary):
        self.diary = diary
        self.error = None
        self.alive = True

    async def _do(self, verb, within_ms):
        self.diary.append((verb, within_ms))
        if self.error is not None:
            raise self.error
        return f"{verb} done"

    async def start(self, within_ms):
        return await self._do("start", within_ms)

    async def stop(self, within_ms):
        return await self._do("stop", within_ms)

    async def restart(self, within_ms):
        return await self._do("restart", within_ms)

    async def kill(self, within_ms):
        return await self._do("kill", within_ms)

    async def running(self):
        return self.alive

    async def main_pid(self):
        return 0

    async def last_lines(self, count):
        return ["the last words"][:count]


class Zone:
    """ports.Names."""

    def __init__(self, diary):
        self.diary = diary

    async def epoch(self):
        return 4

    async def update(self, site, epoch):
        self.diary.append(("update", site, epoch))
        return {"rcode": "NOERROR", "epoch": epoch, "took_ms": 1}

    async def verify(self, site):
        return {"servers": {"192.0.2.53": {"serial": 1, "ok": True, "detail": site}}}


class DiaryStore(MemoryStore):
    """Notes in the diary what went to the disk, and when that was."""

    def __init__(self, diary):
        super().__init__()
        self.diary = diary

    def append(self, records):
        super().append(records)
        self.diary += [("written", record["text"]) for record in records]


class Rig:
    """A loop with a service, a zone and a store in memory; `diary`: what happened, in order."""

    def __init__(self, core):
        self.diary = []
        self.core = core
        self.store = DiaryStore(self.diary)
        self.ledger = Ledger(self.store, ["main"])
        self.daemon = Daemon(self.diary)
        self.words = []
        names = {"voice": Zone(self.diary)}
        self.loop = Loop(
            core, self.ledger, {("sbc", "kamailio"): self.daemon}, names, self.words.append
        )


async def idle():
    await asyncio.Event().wait()


def played(scenario, core=None, workers=()):
    """Runs a scenario beside the loop, which ends with it."""

    async def run():
        rig = Rig(core or ScriptedCore())
        try:
            async with asyncio.TaskGroup() as tasks:
                life = tasks.create_task(rig.loop.run([("idle", idle), *workers]))
                await until(lambda: rig.core.heard)
                await scenario(rig)
                life.cancel()
        finally:
            rig.store.gate.set()
            rig.store.failing = set()
            await rig.ledger.write([], 0)
            rig.ledger.close()

    asyncio.run(run())


# ---------------------------------------------------------------- the four beats


def test_it_wakes_the_core_when_the_core_wants_to_be_woken_and_again():
    core = ScriptedCore(every_ms=20)

    async def scenario(rig):
        await until(lambda: sum(isinstance(e, Ticked) for e in core.heard) >= 4)

    played(scenario, core)


def test_a_tick_carries_the_wall_clock_for_people():
    core = ScriptedCore()

    async def scenario(rig):
        assert core.heard[0].wall_s > 1.7e9

    played(scenario, core)


def test_what_is_written_down_is_on_disk_before_it_is_done():
    core = ScriptedCore({Outcome: [Record("intent", "service", "start it", {"op_id": 1}), START]})

    async def scenario(rig):
        rig.loop.feed(Outcome(0, True))
        await until(lambda: ("start", 5000) in rig.diary)
        assert rig.diary == [("written", "start it"), ("start", 5000)]

    played(scenario, core)


def test_names_are_written_down_before_they_are_changed_too():
    update = UpdateNames(1, "voice", "paris", 5)
    core = ScriptedCore({Outcome: [Record("intent", "geo voice", "write", {"op_id": 1}), update]})

    async def scenario(rig):
        rig.loop.feed(Outcome(0, True))
        await until(lambda: len(rig.diary) == 2)
        assert rig.diary == [("written", "write"), ("update", "paris", 5)]

    played(scenario, core)


@pytest.mark.parametrize("disk", ["hangs", "is full"])
def test_a_disk_that_hangs_or_is_full_does_not_stop_protection(disk):
    core = ScriptedCore({Outcome: [Record("intent", "service", "start it", {"op_id": 1}), START]})

    async def scenario(rig):
        if disk == "hangs":
            rig.store.gate.clear()
        else:
            rig.store.failing = {"all"}
        rig.loop.feed(Outcome(0, True))
        await until(lambda: ("start", 5000) in rig.diary)
        assert ("written", "start it") not in rig.diary

    played(scenario, core)


def test_words_go_to_the_keeper_at_once_and_are_remembered_for_its_beat():
    words = {"sbc": Word(True)}
    core = ScriptedCore({Outcome: [TellKeeper(words)]})

    async def scenario(rig):
        rig.loop.feed(Outcome(0, True))
        assert rig.words == [words]
        assert rig.loop.words == words

    played(scenario, core)


def test_an_alarm_is_kept_and_its_trap_spooled():
    alarm = Alarm("link-down:eth0", "link-down", "eth0", Severity.MAJOR, "carrier lost")
    core = ScriptedCore({Outcome: [Tell(alarm)]})

    async def scenario(rig):
        rig.loop.feed(Outcome(0, True))
        await until(lambda: rig.store.traps)
        assert rig.store.alarms == [alarm]

    played(scenario, core)


# ---------------------------------------------------------------- outcomes


@pytest.mark.parametrize(
    ("error", "ok"),
    [
        (None, True),
        (Unreachable("kamailio: no answer in 5 s"), None),
        (Refused("kamailio: no such unit; install it"), False),
        (Garbled("kamailio: says nonsense"), False),
    ],
)
def test_no_reply_is_unknown_and_a_clear_no_is_a_no(error, ok):
    core = ScriptedCore({Outcome: [START]})

    async def scenario(rig):
        rig.daemon.error = error
        rig.loop.feed(Outcome(0, True))
        await until(lambda: len(core.outcomes()) == 2)
        outcome = core.outcomes()[-1]
        assert (outcome.op_id, outcome.ok) == (1, ok)
        assert outcome.detail == (str(error) if error else "start done")

    played(scenario, core)


@pytest.mark.parametrize(
    ("action", "facts"),
    [
        (replace(START, verb="stop"), {"detail": "stop done"}),
        (replace(START, verb="restart"), {"detail": "restart done"}),
        (replace(START, verb="status"), {"running": True, "detail": "running: True"}),
        (LookNames(1, "voice"), {"epoch": 4}),
        (UpdateNames(1, "voice", "paris", 5), {"rcode": "NOERROR", "epoch": 5, "took_ms": 1}),
        (
            VerifyNames(1, "voice", "paris"),
            {"servers": {"192.0.2.53": {"serial": 1, "ok": True, "detail": "paris"}}},
        ),
        (KeepEpoch(1, "geo:voice", 5), {"detail": "geo:voice 5 is on disk"}),
    ],
)
def test_an_outcome_carries_what_was_seen(action, facts):
    core = ScriptedCore({Outcome: [action]})

    async def scenario(rig):
        rig.loop.feed(Outcome(0, True))
        await until(lambda: len(core.outcomes()) == 2)
        assert core.outcomes()[-1] == Outcome(1, True, facts.get("detail", ""), facts)

    played(scenario, core)


def test_an_epoch_that_could_not_be_stored_is_unknown_to_the_core():
    core = ScriptedCore({Outcome: [KeepEpoch(1, "group:sbc", 16)]})

    async def scenario(rig):
        rig.store.failing = {"keep_epoch"}
        rig.loop.feed(Outcome(0, True))
        await until(lambda: len(core.outcomes()) == 2)
        assert core.outcomes()[-1].ok is None

    played(scenario, core)


def test_a_slow_operation_keeps_nobody_waiting():
    core = ScriptedCore({Outcome: [KeepEpoch(1, "group:sbc", 16), replace(START, op_id=2)]})

    async def scenario(rig):
        rig.store.gate.clear()
        rig.loop.feed(Outcome(0, True))
        await until(lambda: [o.op_id for o in core.outcomes()] == [0, 2])
        rig.store.gate.set()
        await until(lambda: [o.op_id for o in core.outcomes()] == [0, 2, 1])

    played(scenario, core)


# ---------------------------------------------------------------- operators


def test_a_reply_goes_to_who_asked_and_to_nobody_else():
    async def scenario(rig):
        first, first_replies = rig.loop.ask()
        second, second_replies = rig.loop.ask()
        rig.core.script[Outcome] = [Reply(second, None, "working"), Reply(second, True, "done")]
        rig.loop.feed(Outcome(0, True))
        assert [second_replies.get_nowait().text for _ in range(2)] == ["working", "done"]
        assert first_replies.empty()
        assert first != second

    played(scenario)


def test_a_reply_to_somebody_who_hung_up_is_dropped():
    async def scenario(rig):
        number, replies = rig.loop.ask()
        rig.loop.done(number)
        rig.core.script[Outcome] = [Reply(number, True, "done")]
        rig.loop.feed(Outcome(0, True))
        assert replies.empty()

    played(scenario)


# ---------------------------------------------------------------- workers


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (Unreachable("ups1: no answer"), "unreachable"),
        (Refused("ups1: wrong key"), "refused"),
        (Garbled("ups1: nonsense"), "garbled"),
        (ValueError("nonsense"), "garbled"),
        (OSError("no such device"), "garbled"),
    ],
)
def test_a_worker_that_fails_is_an_event_and_the_rest_goes_on(error, word, capsys):
    rounds = []

    async def broken():
        raise error

    async def good():
        while True:
            rounds.append(1)
            await asyncio.sleep(0.01)

    async def scenario(rig):
        await until(lambda: any(isinstance(e, SourceFailed) for e in rig.core.heard))
        before = len(rounds)
        await until(lambda: len(rounds) > before + 3)
        (failed,) = [e for e in rig.core.heard if isinstance(e, SourceFailed)]
        assert (failed.source, failed.error) == ("ups1", word)

    played(scenario, workers=[("ups1", broken), ("ups2", good)])
    foreseen = isinstance(error, PortError)
    assert (repr(error) in capsys.readouterr().err) is not foreseen  # a bug is told in the log too


def test_a_worker_that_failed_is_begun_again():
    begun = []

    async def broken():
        begun.append(now_ms())
        raise Unreachable("ups1: no answer")

    async def scenario(rig):
        await until(lambda: len(begun) == 2)
        assert begun[1] - begun[0] >= 1000

    played(scenario, workers=[("ups1", broken)])


def test_a_fault_that_nobody_foresaw_ends_the_loop_so_that_its_watchers_act():
    async def broken():
        raise RuntimeError("a bug")

    async def scenario(rig):
        await asyncio.sleep(5)

    with pytest.raises(ExceptionGroup) as caught:
        played(scenario, workers=[("ups1", broken)])
    assert caught.group_contains(RuntimeError, match="a bug")


@pytest.mark.parametrize(
    ("error", "word"),
    [(Unreachable(""), "unreachable"), (Refused(""), "refused"), (Garbled(""), "garbled")],
)
def test_an_error_has_one_word(error, word):
    assert error_word(error) == word


# ---------------------------------------------------------------- with the real core


def test_a_service_that_dies_is_restarted_and_the_journal_tells_it_in_order():
    async def scenario(rig):
        for event in (*UP, *DOWN):
            rig.loop.feed(event)
        await until(lambda: rig.core.roles["sbc"].cares[0].state == "proving")
        restart = rig.diary.index(("restart", 60_000))
        assert ("written", "restart") in rig.diary[:restart]
        texts = [text for what, text, *_ in rig.diary if what == "written"]
        assert any(text.startswith("C-DOWN: well -> restarting") for text in texts)

    played(scenario, Attentive())


def test_an_operator_is_answered_through_the_real_core():
    async def scenario(rig):
        number, replies = rig.loop.ask()
        rig.loop.feed(ask("dance", number))
        assert "unknown verb" in replies.get_nowait().text
        await until(lambda: rig.store.ceilings == {"group:sbc": 16})

    played(scenario, Attentive())
