# SPDX-License-Identifier: GPL-2.0-or-later
"""The referee sees two copies, pauses and lost counts, and the cold patient keeps its status."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.cold_notebook import PAUSE_NS, Copy, Notebook, Page, Span, doubles
from tests.lab.netns import now_ms, wait_until
from tests.lab.patient_cold import Nature, Unreadable, arguments, load, save
from tests.lab.world import ROOT

PORT = 7931


class Bench:
    """A patient of each name, on this machine alone."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.notebook = Notebook(folder / "notebook")

    def tell(self, name: str, action: str, port: int = PORT) -> int:
        place = self.folder / name
        nature = Nature(
            self.folder / f"{name}.status", self.notebook.folder, port, 0.1, ballast_bytes=1000
        )
        place.mkdir(exist_ok=True)
        argv = [sys.executable, "-m", "tests.lab.patient_cold", action]
        argv += arguments(name, str(place), nature)
        return subprocess.run(argv, cwd=ROOT, capture_output=True, check=False).returncode

    def counted(self, name: str) -> int:
        return load(self.folder / f"{name}.status")


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    found = Bench(tmp_path)
    yield found
    for name in ("a", "b"):
        found.tell(name, "die")


def test_two_copies_on_two_nodes_are_seen_for_as_long_as_both_run(bench: Bench) -> None:
    start_ms = now_ms()
    assert bench.tell("a", "start") == 0
    assert bench.tell("b", "start", PORT + 10) == 0
    wait_until(lambda: bench.notebook.running() == {"a", "b"}, "both beat")
    assert bench.tell("a", "stop") == 0
    wait_until(lambda: bench.notebook.running() == {"b"}, "one beats")
    first = bench.notebook.doubled_ms(start_ms, now_ms())
    assert 0 < first < now_ms() - start_ms
    time.sleep(0.1)
    assert bench.notebook.doubled_ms(start_ms, now_ms()) == first


def test_a_frozen_copy_does_not_run_until_it_is_thawed(bench: Bench) -> None:
    assert bench.tell("a", "start") == 0
    assert bench.tell("a", "hang") == 0
    wait_until(lambda: not bench.notebook.running(), "it beats no more")
    assert bench.tell("b", "start", PORT + 10) == 0
    assert bench.notebook.doubled_ms(0, now_ms()) == 0
    assert bench.tell("a", "wake") == 0
    wait_until(lambda: bench.notebook.doubled_ms(0, now_ms()) > 0, "both run")
    spans = bench.notebook.copies()[0].spans
    assert len(spans) == 2
    assert spans[1].start_ms - spans[0].end_ms > PAUSE_NS / 1e6


def test_a_stop_saves_the_last_count_and_a_start_finds_it(bench: Bench) -> None:
    assert bench.tell("a", "start") == 0
    wait_until(lambda: bench.counted("a") >= 3, "it counts")
    assert bench.tell("a", "stop") == 0
    counted, start_ms = bench.counted("a"), now_ms()
    assert bench.tell("a", "start") == 0
    assert bench.notebook.copies()[-1].loaded == counted
    assert bench.notebook.lost(start_ms, now_ms()) == 0


def test_what_a_new_copy_did_not_find_is_lost(bench: Bench) -> None:
    assert bench.tell("a", "start") == 0
    wait_until(lambda: bench.counted("a") >= 3, "it counts")
    start_ms = now_ms()
    assert bench.tell("a", "die") == 0
    assert bench.tell("b", "start", PORT + 10) == 0
    assert bench.notebook.lost(start_ms, now_ms()) >= 3


def test_a_broken_status_file_is_not_started_with(bench: Bench) -> None:
    path = bench.folder / "a.status"
    save(path, 7, 1000)
    assert load(path) == 7
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(Unreadable):
        load(path)
    assert bench.tell("a", "start") != 0


def test_each_refused_start_is_counted(bench: Bench) -> None:
    (bench.folder / "a").mkdir()
    bench.tell("a", "refuse")
    assert bench.tell("a", "start") != 0
    assert bench.tell("a", "serve") != 0
    assert (bench.folder / "a" / "refuse").read_text().count("\n") == 2


def test_copies_of_one_node_are_no_double() -> None:
    span = (Span(0.0, 10.0, 0, 1),)
    mine, again, other = Copy("a", span, 0), Copy("a", span, 0), Copy("b", span, 0)
    assert doubles([mine, again], 0, 10) == []
    assert doubles([mine, other], 2, 8) == [(2, 8)]


def test_a_page_counts_from_its_first_beat(tmp_path: Path) -> None:
    book = Notebook(tmp_path / "book")
    page = Page(book.folder, "a")
    page.load(4)
    page.beat(5)
    (copy,) = book.copies()
    assert (copy.node, copy.loaded, copy.spans[0].end_count) == ("a", 4, 5)
