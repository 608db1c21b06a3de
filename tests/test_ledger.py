# SPDX-License-Identifier: GPL-2.0-or-later
"""What is kept survives a store that fails: in order, once, and people are told on the edges."""

import asyncio
import threading

import pytest

from agent import ledger as ledgers
from agent.core.model import Alarm, Reading, Severity, StoreFailed, StoreMended
from agent.core.orders import Record
from agent.ledger import Ledger
from agent.ports import Unreachable
from tests.drivers.patience import until

WALL_NS = 1_700_000_000_000_000_000
WALL_S = 1.7e9


class MemoryStore:
    """ports.Store in memory. failing: which calls find the disk full. gate: blocks while clear."""

    def __init__(self):
        self.records, self.alarms, self.traps, self.ceilings = [], [], {}, {}
        self.readings = []
        self.failing = set()
        self.gate = threading.Event()
        self.gate.set()
        self.mended = ""
        self.closed = False
        self.threads = set()

    def _enter(self, call):
        self.threads.add(threading.current_thread().name)
        self.gate.wait(10)
        if call in self.failing or "all" in self.failing:
            raise Unreachable("store: no space left on device; make room")

    def append(self, records):
        self._enter("append")
        self.records += [record["text"] for record in records]

    def keep_alarm(self, alarm, wall_s):
        self._enter("keep_alarm")
        self.alarms.append(alarm)

    def spool(self, nms, alarm, wall_s):
        self._enter("spool")
        spool_id = len(self.traps) + 1
        self.traps[spool_id] = (nms, alarm, wall_s)
        return spool_id

    def spooled(self, nms):
        self._enter("spooled")
        return [(n, alarm, at) for n, (to, alarm, at) in self.traps.items() if to == nms]

    def unspool(self, spool_id):
        self._enter("unspool")
        del self.traps[spool_id]

    def keep_samples(self, readings, wall_s):
        self._enter("keep_samples")
        self.readings += readings

    def keep_epoch(self, name, ceiling):
        self._enter("keep_epoch")
        self.ceilings[name] = max(ceiling, self.ceilings.get(name, 0))

    def close(self):
        self.closed = True


class ListeningNms:
    """ports.Trapper. deaf: it takes nothing."""

    def __init__(self, name="main"):
        self.name = name
        self.deaf = False
        self.heard = []

    async def send(self, alarm, wall_s):
        if self.deaf:
            raise Unreachable(f"nms {self.name}: no answer")
        self.heard.append(alarm.subject)


def record(text):
    return Record("decision", "group sbc", text)


def alarm(subject):
    return Alarm(f"link-down:{subject}", "link-down", subject, Severity.MAJOR, "carrier lost", 5)


def kept(scenario, nms=()):
    """Runs a scenario with a ledger on a store in memory."""

    async def run():
        store = MemoryStore()
        ledger = Ledger(store, list(nms))
        troubles = []
        ledger.trouble = troubles.append
        try:
            async with asyncio.TaskGroup() as tasks:
                running = []

                def start(work):
                    running.append(tasks.create_task(work))

                await scenario(ledger, store, troubles, start)
                for task in running:
                    task.cancel()
        finally:
            store.gate.set()
            store.failing = set()
            await ledger.write([], 0)
            ledger.close()
        assert store.closed

    asyncio.run(run())


# ---------------------------------------------------------------- journal


def test_lines_are_on_disk_in_order_when_the_awaitable_ends():
    async def scenario(ledger, store, troubles, start):
        await ledger.write([record("1"), record("2")], WALL_NS)
        assert store.records == ["1", "2"]
        ledger.write([record("3")], WALL_NS)
        await ledger.write([record("4")], WALL_NS)
        assert store.records == ["1", "2", "3", "4"]
        assert troubles == []

    kept(scenario)


def test_the_store_is_only_ever_touched_by_its_own_thread():
    async def scenario(ledger, store, troubles, start):
        await ledger.write([record("1")], WALL_NS)
        ledger.tell(alarm("eth0"), WALL_S)
        await ledger.keep_epoch("group:sbc", 16)
        assert len(store.threads) == 1
        assert threading.current_thread().name not in store.threads

    kept(scenario)


def test_lines_that_come_while_the_disk_is_slow_follow_in_order():
    async def scenario(ledger, store, troubles, start):
        store.gate.clear()
        first = ledger.write([record("1")], WALL_NS)
        await asyncio.sleep(0.01)
        second = ledger.write([record("2")], WALL_NS)
        assert store.records == []
        store.gate.set()
        await first
        await second
        assert store.records == ["1", "2"]

    kept(scenario)


# ---------------------------------------------------------------- a store that fails


def test_what_the_store_would_not_take_goes_in_when_it_can_in_order_and_once():
    async def scenario(ledger, store, troubles, start):
        await ledger.write([record("1")], WALL_NS)
        store.failing = {"all"}
        await ledger.write([record("2")], WALL_NS)
        await ledger.write([record("3"), record("4")], WALL_NS)
        assert store.records == ["1"]
        store.failing = set()
        await ledger.write([record("5")], WALL_NS)
        assert store.records == ["1", "2", "3", "4", "5"]

    kept(scenario)


def test_trouble_is_told_on_its_two_edges_only():
    async def scenario(ledger, store, troubles, start):
        store.failing = {"all"}
        for text in "123":
            await ledger.write([record(text)], WALL_NS)
        store.failing = set()
        for text in "45":
            await ledger.write([record(text)], WALL_NS)
        assert troubles == [
            StoreFailed("store: no space left on device; make room"),
            StoreMended(),
        ]

    kept(scenario)


def test_what_people_are_told_of_the_trouble_is_kept_too():
    async def scenario(ledger, store, troubles, start):
        ledger.trouble = lambda event: ledger.write([record(type(event).__name__)], WALL_NS)
        store.failing = {"all"}
        await ledger.write([record("1")], WALL_NS)
        store.failing = set()
        await ledger.write([record("2")], WALL_NS)
        assert store.records == ["1", "StoreFailed", "2", "StoreMended"]

    kept(scenario)


@pytest.mark.parametrize("call", ["append", "keep_alarm", "spool"])
def test_a_failure_in_the_middle_loses_nothing_and_repeats_nothing(call):
    async def scenario(ledger, store, troubles, start):
        store.failing = {call}
        ledger.write([record("1")], WALL_NS)
        ledger.tell(alarm("eth0"), WALL_S)
        ledger.tell(alarm("eth1"), WALL_S)
        await ledger.write([record("2")], WALL_NS)
        store.failing = set()
        await ledger.write([record("3")], WALL_NS)
        assert store.records == ["1", "2", "3"]
        assert [a.subject for a in store.alarms] == ["eth0", "eth1"]
        spooled = [(nms, a.subject) for nms, a, _ in store.traps.values()]
        assert spooled == [("main", "eth0"), ("spare", "eth0"), ("main", "eth1"), ("spare", "eth1")]

    kept(scenario, nms=("main", "spare"))


def test_it_tries_again_by_itself(monkeypatch):
    monkeypatch.setattr(ledgers, "RETRY_S", 0.01)

    async def scenario(ledger, store, troubles, start):
        start(ledger.retry())
        store.failing = {"all"}
        await ledger.write([record("1")], WALL_NS)
        await asyncio.sleep(0.05)
        store.failing = set()
        await until(lambda: store.records == ["1"])
        await until(lambda: len(troubles) == 2)

    kept(scenario)


def test_what_waits_for_the_store_is_bounded_and_the_newest_is_kept():
    async def scenario(ledger, store, troubles, start):
        store.failing = {"all"}
        for n in range(ledgers.HELD_RECORDS + 50):
            ledger.write([record(str(n))], WALL_NS)
        await ledger.write([], WALL_NS)
        store.failing = set()
        await ledger.write([record("last")], WALL_NS)
        assert len(store.records) <= ledgers.HELD_RECORDS + 1
        assert store.records[-2:] == [str(ledgers.HELD_RECORDS + 49), "last"]

    kept(scenario)


def test_a_store_that_was_mended_at_its_opening_says_so_once():
    async def scenario(ledger, store, troubles, start):
        store.mended = "the journal was damaged: put aside as standpipe.db.bad"
        for text in "12":
            await ledger.write([record(text)], WALL_NS)
        assert troubles == [StoreFailed(store.mended), StoreMended()]

    kept(scenario)


def test_an_epoch_that_is_not_on_disk_is_never_said_to_be():
    async def scenario(ledger, store, troubles, start):
        facts = await ledger.keep_epoch("group:sbc", 16)
        assert store.ceilings == {"group:sbc": 16}
        assert facts == {"detail": "group:sbc 16 is on disk"}
        store.failing = {"keep_epoch"}
        with pytest.raises(Unreachable):
            await ledger.keep_epoch("group:sbc", 32)

    kept(scenario)


def test_samples_that_the_store_does_not_take_are_just_missing():
    async def scenario(ledger, store, troubles, start):
        reading = Reading("disk:/var", 1.0, "bytes", 2.0)
        store.failing = {"keep_samples"}
        await ledger.keep_samples([reading], WALL_S)
        store.failing = set()
        await ledger.keep_samples([reading], WALL_S)
        assert store.readings == [reading]
        assert troubles == []

    kept(scenario)


# ---------------------------------------------------------------- traps


def test_a_trap_is_kept_until_it_was_sent():
    async def scenario(ledger, store, troubles, start):
        nms, said = ListeningNms(), []
        nms.deaf = True
        start(ledger.deliver(nms, said.append))
        ledger.tell(alarm("eth0"), WALL_S)
        await until(lambda: said)
        assert said[0] == "nms main: no answer"
        assert len(store.traps) == 1
        nms.deaf = False
        await until(lambda: store.traps == {})
        assert nms.heard == ["eth0"]
        assert said[-1] == ""

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ledgers, "UNDELIVERED_S", 0.01)
        kept(scenario, nms=["main"])


def test_traps_are_sent_oldest_first():
    async def scenario(ledger, store, troubles, start):
        nms = ListeningNms()
        for n in range(5):
            ledger.tell(alarm(f"eth{n}"), WALL_S)
        start(ledger.deliver(nms, lambda _: None))
        await until(lambda: len(nms.heard) == 5)
        ledger.tell(alarm("eth5"), WALL_S)
        await until(lambda: len(nms.heard) == 6)
        assert nms.heard == [f"eth{n}" for n in range(6)]
        await until(lambda: store.traps == {})

    kept(scenario, nms=["main"])


def test_what_an_earlier_life_left_is_sent_at_the_start():
    async def scenario(ledger, store, troubles, start):
        store.spool("main", alarm("eth0"), WALL_S)
        nms = ListeningNms()
        start(ledger.deliver(nms, lambda _: None))
        await until(lambda: nms.heard == ["eth0"])

    kept(scenario, nms=["main"])


def test_an_nms_that_takes_nothing_does_not_keep_the_other_waiting():
    async def scenario(ledger, store, troubles, start):
        deaf, good = ListeningNms("main"), ListeningNms("spare")
        deaf.deaf = True
        for nms in (deaf, good):
            start(ledger.deliver(nms, lambda _: None))
        ledger.tell(alarm("eth0"), WALL_S)
        await until(lambda: good.heard == ["eth0"])
        await until(lambda: [nms for nms, _, _ in store.traps.values()] == ["main"])

    kept(scenario, nms=["main", "spare"])


def test_a_trap_of_a_store_that_failed_is_sent_once_it_can_be_spooled():
    async def scenario(ledger, store, troubles, start):
        nms = ListeningNms()
        store.failing = {"append", "keep_alarm", "spool"}
        start(ledger.deliver(nms, lambda _: None))
        ledger.tell(alarm("eth0"), WALL_S)
        await until(lambda: troubles)
        assert nms.heard == []
        store.failing = set()
        await ledger.write([record("1")], WALL_NS)
        await until(lambda: nms.heard == ["eth0"])

    kept(scenario, nms=["main"])
