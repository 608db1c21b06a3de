# SPDX-License-Identifier: GPL-2.0-or-later
"""The store on a good disk, on a full one, and after somebody or something damaged it."""

import json
import os
import resource
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.core.journal import GENESIS, verify
from agent.core.model import Alarm, Reading, Severity
from agent.ports import Refused, Unreachable
from drivers.store import Limits, Store

DISK = Alarm("disk-full:/var", "resource-level", "disk:/var", Severity.MAJOR, "97 % full", 5000)
NODE = Alarm("node-lost:lon2", "node-lost", "lon2", Severity.CRITICAL, "silent — for 3 s", 7000)
WALL_S = 1_795_000_000.25


def record(number: int, wall_s: float = WALL_S) -> dict[str, Any]:
    detail = {"number": number, "share": 0.1, "severity": Severity.MINOR, "pair": (1, None)}
    return {"wall_s": wall_s, "kind": "decision", "subject": "sbc", "text": "ü", "detail": detail}


def numbers(store: Store, last: int = 1_000_000) -> list[int]:
    return [kept["detail"]["number"] for kept in store.journal(last)]


@contextmanager
def opened(folder: Path, limits: Limits | None = None) -> Iterator[Store]:
    store = Store(folder, limits)
    try:
        yield store
    finally:
        store.close()


def bad_files(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.glob("standpipe.db.bad-*Z"))


# ---------------------------------------------------------------- a good disk


def test_journal_records_come_back_in_order_with_a_chain_that_holds(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.append([record(1), record(2)])
    with opened(tmp_path) as store:
        store.append([record(3)])
        records = store.journal(10)
        assert [kept["seq"] for kept in records] == [1, 2, 3]
        assert numbers(store, 2) == [2, 3]
        assert verify(records, GENESIS) is None
        assert verify(store.journal(2), store.journal(2)[0]["previous"]) is None
        assert store.broken() is None
        assert store.mended == ""
    assert records[0] == json.loads(json.dumps(record(1))) | {
        "seq": 1,
        "previous": GENESIS,
        "digest": records[0]["digest"],
    }


@pytest.mark.parametrize(
    "tampering",
    [
        "UPDATE journal SET record = replace(record, 'sbc', 'pbx') WHERE seq = 3",
        "DELETE FROM journal WHERE seq = 2",
        "UPDATE journal SET digest = 'x' WHERE seq = 3",
    ],
)
def test_a_journal_that_was_tampered_with_says_where(tmp_path: Path, tampering: str) -> None:
    with opened(tmp_path) as store:
        store.append([record(number) for number in range(1, 6)])
        with sqlite3.connect(tmp_path / "standpipe.db") as intruder:
            intruder.execute(tampering)
        intruder.close()
        assert store.broken() == 3


def test_standing_alarms_survive_and_cleared_ones_go(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.keep_alarm(DISK, WALL_S)
        store.keep_alarm(NODE, WALL_S + 1)
        store.keep_alarm(replace(DISK, severity=Severity.CRITICAL), WALL_S + 2)
        store.keep_alarm(replace(NODE, severity=Severity.CLEARED), WALL_S + 3)
    with opened(tmp_path) as store:
        assert store.alarms() == [(replace(DISK, severity=Severity.CRITICAL), WALL_S + 2)]


def test_notifications_wait_in_order_for_each_nms_until_they_are_taken(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        first = store.spool("main", DISK, WALL_S)
        second = store.spool("main", NODE, WALL_S + 1)
        store.spool("other", NODE, WALL_S + 1)
        store.unspool(first)
    with opened(tmp_path) as store:
        assert store.spooled("main") == [(second, NODE, WALL_S + 1)]
        assert len(store.spooled("other")) == 1
        store.unspool(second)
        assert store.spool("main", DISK, WALL_S) > second


def test_samples_come_back_oldest_first(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        for number in range(5):
            readings = [
                Reading("disk:/var", float(number), "bytes", limit=10.0),
                Reading("ups:ups1:charge", None, "pct"),
            ]
            store.keep_samples(readings, WALL_S + number)
        kept = store.samples("disk:/var", 2)
        assert kept == [(WALL_S + 3, 3.0, 10.0), (WALL_S + 4, 4.0, 10.0)]
        assert store.samples("ups:ups1:charge", 10) == []


# ---------------------------------------------------------------- bounded


def test_the_journal_is_cut_in_blocks_and_its_chain_still_holds(tmp_path: Path) -> None:
    limits = Limits(journal_bytes=20_000, journal_block=10)
    with opened(tmp_path, limits) as store:
        for number in range(1, 501):
            store.append([record(number)])
        kept = numbers(store)
        assert kept[-1] == 500
        assert kept[0] % 10 == 1
        assert 50 < len(kept) < 150  # records of some 240 bytes
        assert store.broken() is None
    with opened(tmp_path, limits) as store:
        store.append([record(501)])
        assert store.journal(1)[0]["seq"] == 501
        assert store.broken() is None


def test_old_records_are_cut_by_their_age(tmp_path: Path) -> None:
    with opened(tmp_path, Limits(journal_days=10, journal_block=5)) as store:
        store.append([record(number, WALL_S) for number in range(1, 8)])
        store.append([record(number, WALL_S + 11 * 86_400) for number in range(8, 16)])
        assert numbers(store)[0] == 6


def test_a_tampered_block_is_put_aside_instead_of_cut(tmp_path: Path) -> None:
    limits = Limits(journal_bytes=4_000, journal_block=10)
    with opened(tmp_path, limits) as store:
        store.keep_alarm(DISK, WALL_S)
        store.append([record(number) for number in range(1, 10)])
        with sqlite3.connect(tmp_path / "standpipe.db") as intruder:
            intruder.execute("UPDATE journal SET record = replace(record, 'sbc', 'pbx')")
        intruder.close()
        store.append([record(number) for number in range(10, 30)])
        assert "record 1 is not what was written" in store.mended
        assert store.alarms() == [(DISK, WALL_S)]
        store.append([record(30)])
        assert [kept["seq"] for kept in store.journal(10)] == [30]
        assert store.broken() is None
    assert len(bad_files(tmp_path)) == 1


def test_spool_and_samples_drop_their_oldest_and_the_spool_counts_it(tmp_path: Path) -> None:
    with opened(tmp_path, Limits(spool=3, samples=4)) as store:
        for number in range(6):
            store.spool("main", replace(DISK, raised_ms=number), WALL_S)
            store.keep_samples([Reading("disk:/", float(number), "bytes")], WALL_S + number)
        assert [alarm.raised_ms for _, alarm, _ in store.spooled("main")] == [3, 4, 5]
        assert store.dropped == 3
        assert [value for _, value, _ in store.samples("disk:/", 10)] == [2.0, 3.0, 4.0, 5.0]


# ---------------------------------------------------------------- damage


def filled(folder: Path) -> None:
    with opened(folder) as store:
        store.append([record(number) for number in range(1, 401)])
        store.keep_alarm(DISK, WALL_S)
        store.spool("main", NODE, WALL_S)
        store.keep_epoch("sbc", 7)


def damage(file: Path, how: str) -> None:
    content = file.read_bytes()
    half = len(content) // 2
    page = half // 4096 * 4096
    file.write_bytes(
        {
            "emptied": b"",
            "cut in half": content[:half],
            "header overwritten": b"x" * 4096 + content[4096:],
            "not a database": b"gone\n" * 1000,
            "middle overwritten": content[:page] + os.urandom(8192) + content[page + 8192 :],
        }[how]
    )


@pytest.mark.parametrize(
    "how",
    ["emptied", "cut in half", "header overwritten", "not a database", "middle overwritten"],
)
def test_a_damaged_database_is_kept_aside_and_a_new_one_works(tmp_path: Path, how: str) -> None:
    filled(tmp_path)
    damage(tmp_path / "standpipe.db", how)
    with opened(tmp_path) as store:
        store.append([record(1000)])
        assert numbers(store, 1) == [1000]
        assert store.broken() is None
        assert store.epochs() == {"sbc": 7}
        (bad,) = bad_files(tmp_path)
        assert bad in store.mended
        assert str(tmp_path / "standpipe.db") in store.mended
    with opened(tmp_path) as store:
        assert numbers(store, 1) == [1000]
        assert store.mended == ""


def test_what_can_be_read_of_a_damaged_database_is_taken_over(tmp_path: Path) -> None:
    filled(tmp_path)
    damage(tmp_path / "standpipe.db", "middle overwritten")
    with opened(tmp_path) as store:
        assert [alarm for _, alarm, _ in store.spooled("main")] == [NODE]
        assert store.alarms() == [(DISK, WALL_S)]
        store.append([record(401)])
        assert store.journal(1)[0]["seq"] == 401


def test_damage_while_it_runs_is_mended_without_losing_the_call(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.append([record(number) for number in range(1, 401)])
        store.close()
        damage(tmp_path / "standpipe.db", "header overwritten")
        store.append([record(401)])
        assert store.journal(5)[-1]["seq"] == 401
        assert "kept as" in store.mended


def test_no_more_than_three_damaged_databases_are_kept(tmp_path: Path) -> None:
    for _ in range(5):
        (tmp_path / "standpipe.db").write_text("gone\n" * 1000)
        with opened(tmp_path) as store:
            store.append([record(1)])
    assert len(bad_files(tmp_path)) == 3


def test_a_database_of_another_version_is_left_alone(tmp_path: Path) -> None:
    filled(tmp_path)
    with sqlite3.connect(tmp_path / "standpipe.db") as other:
        other.execute("PRAGMA user_version = 99")
    other.close()
    with opened(tmp_path) as store, pytest.raises(Refused, match="made by another version"):
        store.append([record(1)])
    assert bad_files(tmp_path) == []


def test_a_kill_between_two_records_loses_neither(tmp_path: Path) -> None:
    script = (
        "import os, sys; from pathlib import Path; from drivers.store import Store\n"
        f"store = Store(Path({str(tmp_path)!r}))\n"
        "store.append([{'detail': {'number': 1}}]); store.keep_epoch('sbc', 9)\n"
        "store.append([{'detail': {'number': 2}}]); os.kill(os.getpid(), 9)\n"
    )
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", script], cwd=root, check=False)
    with opened(tmp_path) as store:
        assert numbers(store) == [1, 2]
        assert store.epochs() == {"sbc": 9}
        assert store.mended == ""


# ---------------------------------------------------------------- a full disk


@contextmanager
def no_file_beyond(size_bytes: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def append_until_refused(store: Store) -> int:
    """How many records the disk took."""
    for number in range(1, 100_000):
        try:
            store.append([record(number)])
        except Unreachable as error:
            assert "is the disk full" in str(error)  # noqa: PT017 (the loop wants the number)
            return number - 1
    raise AssertionError("the disk never filled")


def proved_on_a_full_disk(store: Store) -> int:
    """A disk that fills loses nothing; returns how many records it took."""
    store.keep_epoch("sbc", 7)
    store.spool("main", DISK, WALL_S)
    taken = append_until_refused(store)
    assert taken > 10
    assert numbers(store) == list(range(1, taken + 1))
    assert store.broken() is None
    assert len(store.spooled("main")) == 1
    assert store.epochs() == {"sbc": 7}
    return taken


def test_a_file_that_may_not_grow_is_unreachable_and_loses_nothing(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        with no_file_beyond(200_000):
            taken = proved_on_a_full_disk(store)
        store.append([record(taken + 1)])
    with opened(tmp_path) as store:
        assert numbers(store) == list(range(1, taken + 2))
        assert store.mended == ""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "small", folder], check=True)
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a tmpfs takes root")
def test_a_full_disk_is_unreachable_and_mends_when_there_is_room(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 100_000)
    with opened(small_disk) as store:
        taken = proved_on_a_full_disk(store)
        with pytest.raises(Unreachable):
            store.spool("main", replace(NODE, text="x" * 20_000), WALL_S)
        fill_up(small_disk)
        with pytest.raises(Unreachable):
            store.keep_epoch("sbc", 8)
        assert store.epochs() == {"sbc": 7}
        assert json.loads((small_disk / "epochs.json").read_text()) == {"epochs": {"sbc": 7}}
        ballast.unlink()
        store.keep_epoch("sbc", 8)
        store.append([record(taken + 1)])
    with opened(small_disk) as store:
        assert numbers(store) == list(range(1, taken + 2))
        assert store.epochs() == {"sbc": 8}
        assert store.mended == ""


def fill_up(folder: Path) -> None:
    with (folder / "rest").open("wb", buffering=0) as rest, suppress(OSError):
        while rest.write(b"x" * 4096):
            pass


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a tmpfs takes root")
def test_a_disk_that_is_full_from_the_start_leaves_no_rubbish(small_disk: Path) -> None:
    fill_up(small_disk)
    with opened(small_disk) as store:
        for _ in range(3):
            with pytest.raises(Unreachable, match="is the disk full"):
                store.append([record(1)])
        (small_disk / "rest").unlink()
        store.append([record(1)])
        assert store.mended == ""
    assert bad_files(small_disk) == []


def test_a_folder_that_cannot_be_made_is_unreachable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        opened(tmp_path / "file" / "state") as store,
        pytest.raises(Unreachable, match="Not a directory"),
    ):
        store.append([record(1)])
