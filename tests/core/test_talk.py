# SPDX-License-Identifier: GPL-2.0-or-later
"""Keeper and agent of one node understand each other."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.keeping import WordGiven
from agent.core.model import Decision, GroupDeed, KeeperSaid, PeerDeed, Word
from agent.core.talk import dump_said, dump_words, load_said, load_words

TEXT = st.text(max_size=20)
EPOCH = st.integers(0, 1 << 62)
WORDS = st.builds(Word, st.booleans(), TEXT, TEXT, EPOCH, EPOCH, TEXT)
GIVEN = st.builds(WordGiven, st.dictionaries(TEXT, WORDS, max_size=3), EPOCH)
PAIRS = st.tuples(TEXT, st.booleans())
DECISIONS = st.builds(
    Decision,
    TEXT,
    TEXT,
    TEXT,
    TEXT,
    TEXT,
    st.dictionaries(TEXT, st.one_of(st.none(), st.booleans(), EPOCH, TEXT), max_size=3),
    st.lists(st.tuples(TEXT, TEXT), max_size=3).map(tuple),
)
SAID = st.builds(
    KeeperSaid,
    st.dictionaries(TEXT, st.builds(GroupDeed, TEXT, EPOCH, st.booleans(), TEXT, TEXT), max_size=3),
    st.dictionaries(
        TEXT,
        st.builds(
            PeerDeed,
            TEXT,
            TEXT,
            st.dictionaries(TEXT, PAIRS, max_size=2),
            st.dictionaries(TEXT, TEXT, max_size=2),
        ),
        max_size=3,
    ),
    st.dictionaries(TEXT, st.booleans(), max_size=3),
    st.dictionaries(TEXT, EPOCH, max_size=3),
    st.lists(DECISIONS, max_size=3).map(tuple),
)


@given(GIVEN)
def test_words_arrive_as_they_were_sent(given_words):
    assert load_words(dump_words(given_words)) == given_words


@given(SAID)
def test_a_report_arrives_as_it_was_sent(said):
    assert load_said(dump_said(said)) == said


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"\xff",
        b"5",
        b"[]",
        b"{}",
        b'{"words": {}}',
        b'{"at_ms": 1, "words": {"sbc": 5}}',
    ],
)
def test_what_is_no_word_is_refused_with_a_plain_error(data):
    with pytest.raises((ValueError, KeyError, TypeError)):
        load_words(data)


def test_a_word_is_one_datagram_of_json():
    data = dump_words(WordGiven({"sbc": Word(True, ceiling=16)}, 5))
    assert json.loads(data)["words"]["sbc"]["ceiling"] == 16
