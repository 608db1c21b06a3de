# SPDX-License-Identifier: GPL-2.0-or-later
"""What nodes say to one another of what they carry: taken only if it is of the form."""

from __future__ import annotations

import json
import zlib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core import carriage
from agent.core.carriage import (
    AskNews,
    AskObjects,
    AskStatus,
    AskVersion,
    Bucket,
    Have,
    Question,
    Said,
    follow,
)

SHA = "a" * 64
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=12,
)


@pytest.mark.parametrize(
    "question",
    [
        AskNews(1000, {"sbc": 3}, {"sbc": Have(True, "", SHA, (1, 2))}),
        AskVersion("sbc", SHA, ""),
        AskObjects("sbc", ((SHA, 0), (SHA, 17))),
        AskStatus("sbc"),
    ],
)
def test_a_question_is_read_as_it_was_asked(question: Question) -> None:
    raw = json.loads(json.dumps(carriage.dump_question(question)))
    assert carriage.load_question(raw) == question


def test_news_are_read_as_they_were_told() -> None:
    said = Said(True, 3, 7, SHA, (3, 99), SHA, "why")
    assert carriage.load_said(json.loads(json.dumps(carriage.dump_said(said)))) == said


@given(ANYTHING)
def test_what_is_not_of_the_form_is_refused_in_words(raw: object) -> None:
    for read in (carriage.load_said, carriage.load_have):
        with pytest.raises(ValueError, match=r"."):
            read(raw)
    if isinstance(raw, dict):
        with pytest.raises(ValueError, match=r"."):
            carriage.load_question(raw)


@given(st.sampled_from(["news", "version", "objects", "status"]), ANYTHING, ANYTHING)
def test_a_question_of_the_right_kind_with_anything_in_it_never_breaks_the_reader(
    ask: str, one: object, other: object
) -> None:
    names = ("within_ms", "seen", "have", "group", "digest", "base", "items")
    raw = {"v": 1, "ask": ask} | dict.fromkeys(names[::2], one) | dict.fromkeys(names[1::2], other)
    with suppress(ValueError):
        assert carriage.load_question(raw)


def test_words_of_a_peer_cannot_steer_a_terminal() -> None:
    said = carriage.dump_said(Said(True, 1, 1, trouble="\x1b[2Jgone\n"))
    assert carriage.load_said(said).trouble == "?[2Jgone?"


@pytest.mark.parametrize(
    ("length", "kind"), [(0, 1), (1 << 21, 1), (4, 3), (3, 2), (300_000, 2), (1 << 31, 2)]
)
def test_a_frame_that_is_too_long_or_unknown_is_refused_by_its_head(length: int, kind: int) -> None:
    with pytest.raises(ValueError, match="a frame of"):
        carriage.frame_head(carriage.HEAD.pack(length, kind))


def test_a_version_is_packed_and_unpacked() -> None:
    assert carriage.unpacked(carriage.packed({"entries": [1, 2]})) == {"entries": [1, 2]}


def test_what_unpacks_to_far_more_than_any_version_is_refused() -> None:
    bomb = zlib.compress(b" " * (carriage.LONGEST_VERSION_BYTES + 1), 9)
    with pytest.raises(ValueError, match="unpacks to more"):
        carriage.unpacked(bomb)


@pytest.mark.parametrize("body", [b"", b"no", zlib.compress(b"[" * 100_000), zlib.compress(b"{")])
def test_what_does_not_unpack_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        carriage.unpacked(body)


# ---------------------------------------------------------------- whom to follow


def test_the_active_node_with_the_highest_epoch_is_followed() -> None:
    said = {"lon1": Said(True, 3, 1), "lon2": Said(True, 4, 1), "par1": Said(False, 9, 1)}
    assert follow(said, 4).node == "lon2"


def test_an_active_node_that_was_overtaken_is_not_followed() -> None:
    found = follow({"lon1": Said(True, 3, 1)}, 4)
    assert (found.node, found.why) == ("", "lon1 serves under epoch 3, 4 is known")


def test_nobody_is_followed_where_nobody_serves() -> None:
    assert follow({"lon1": Said(False, 3, 1)}, 0).node == ""


# ---------------------------------------------------------------- how fast


@given(st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 400_000)), min_size=1, max_size=50))
def test_never_more_than_the_rate_and_one_second_leave(steps: list[tuple[int, int]]) -> None:
    """Who waits as told sends in t seconds at most rate * (t + 1) bytes."""
    rate, now, sent = 100_000, 0, 0
    bucket = Bucket(rate)
    for pause_ms, size_bytes in steps:
        now += pause_ms
        now += bucket.wait_ms(size_bytes, now)
        sent += size_bytes
        assert sent <= rate * (now / 1000 + 1) + 1
