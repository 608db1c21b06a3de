# SPDX-License-Identifier: GPL-2.0-or-later
"""The epochs that the store keeps: they only rise, whatever happens to one of three places."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.ports import Refused
from drivers.store import Store


@contextmanager
def opened(folder: Path) -> Iterator[Store]:
    store = Store(folder)
    try:
        yield store
    finally:
        store.close()


def test_epochs_only_rise_and_survive(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        assert store.epochs() == {}
        store.keep_epoch("sbc", 5)
        store.keep_epoch("voice", 2)
        store.keep_epoch("sbc", 3)
    with opened(tmp_path) as store:
        assert store.epochs() == {"sbc": 5, "voice": 2}


@pytest.mark.parametrize(
    "text", ["", "{", "\0" * 40, "[]", '{"epochs": {"sbc": -1}}', '{"epochs": {"sbc": "5"}}']
)
def test_a_damaged_epoch_file_is_mended_from_its_copy(tmp_path: Path, text: str) -> None:
    with opened(tmp_path) as store:
        store.keep_epoch("sbc", 5)
    (tmp_path / "epochs.json").write_text(text)
    with opened(tmp_path) as store:
        assert store.epochs() == {"sbc": 5}
        assert "epochs.json" in store.mended
    assert json.loads((tmp_path / "epochs.json").read_text()) == {"epochs": {"sbc": 5}}


@pytest.mark.parametrize("behind", ["epochs.json", "epochs.json.copy", "standpipe.db"])
def test_the_highest_of_three_places_counts(tmp_path: Path, behind: str) -> None:
    with opened(tmp_path) as store:
        store.keep_epoch("sbc", 5)
        before = (tmp_path / behind).read_bytes()
        store.close()
        store.keep_epoch("sbc", 6)
    for part in ("-wal", "-shm"):
        (tmp_path / f"standpipe.db{part}").unlink(missing_ok=True)
    (tmp_path / behind).write_bytes(before)
    with opened(tmp_path) as store:
        assert store.epochs()["sbc"] == 6


def test_a_file_and_a_copy_that_are_gone_are_made_up_for_by_the_database(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.keep_epoch("sbc", 5)
    (tmp_path / "epochs.json").write_text("torn")
    (tmp_path / "epochs.json.copy").unlink()
    with opened(tmp_path) as store:
        assert store.epochs() == {"sbc": 5}


def test_epochs_that_nobody_knows_any_more_are_refused_loudly(tmp_path: Path) -> None:
    (tmp_path / "epochs.json").write_text("torn")
    with opened(tmp_path) as store:
        with pytest.raises(Refused, match=r"epochs\.json.*above that of every peer"):
            store.epochs()
        with pytest.raises(Refused):
            store.keep_epoch("sbc", 1)
        (tmp_path / "epochs.json").write_text('{"epochs": {"sbc": 40}}')
        store.keep_epoch("sbc", 41)
        assert store.epochs() == {"sbc": 41}


def test_epochs_are_kept_while_the_database_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "standpipe.db").mkdir()
    with opened(tmp_path) as store:
        (tmp_path / "epochs.json").write_text('{"epochs": {"sbc": 1}}')
        store.keep_epoch("sbc", 2)
        assert "only in" in store.mended
    with opened(tmp_path) as store:
        assert store.epochs() == {"sbc": 2}
