# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

from pathlib import Path

from agent.notebook import Notebook, boot_id

BOOT, NEXT_BOOT = "a" * 36, "b" * 36


def reread(path: Path, boot: str = BOOT) -> bytes | None:
    book = Notebook(path, boot)
    try:
        return book.read()
    finally:
        book.close()


def written(path: Path, *memories: bytes) -> Path:
    book = Notebook(path, BOOT)
    for memory in memories:
        book.write(memory)
    book.close()
    return path


def test_the_next_process_of_this_boot_reads_what_was_written_last(tmp_path: Path) -> None:
    assert reread(written(tmp_path / "notes", b"a long one", b"short")) == b"short"


def test_nothing_is_known_where_nothing_was_written(tmp_path: Path) -> None:
    assert reread(tmp_path / "notes") is None


def test_after_a_boot_nothing_is_known(tmp_path: Path) -> None:
    assert reread(written(tmp_path / "notes", b"promised"), NEXT_BOOT) is None


def test_what_was_torn_is_told_from_what_was_never_written(tmp_path: Path) -> None:
    path = written(tmp_path / "notes", b"promised to lon1")
    whole = path.read_bytes()
    for torn in (whole[:-1], whole[:10], whole[:-1] + b"2"):
        path.write_bytes(torn)
        assert reread(path) == b""


def test_it_is_for_our_own_eyes(tmp_path: Path) -> None:
    assert written(tmp_path / "notes", b"x").stat().st_mode & 0o777 == 0o600


def test_a_boot_has_a_name_of_36_letters() -> None:
    assert len(boot_id()) == 36
