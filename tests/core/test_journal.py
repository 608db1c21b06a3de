# SPDX-License-Identifier: GPL-2.0-or-later
"""The journal's chain shows where somebody or something changed it."""

import json
import math
from enum import Enum

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.journal import GENESIS, canonical, chain, verify
from agent.core.model import Health


class Shade(Enum):
    DARK = 3


def chained(records, anchor=GENESIS):
    out = []
    for record in records:
        anchor = chain(anchor, record)
        out.append({**record, "digest": anchor})
    return out


RECORDS = [{"seq": i, "kind": "decision", "text": f"line {i}"} for i in range(5)]

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
keys = st.text() | st.integers() | st.booleans() | st.none()
values = st.recursive(
    scalars | st.sampled_from([Health.UP, Shade.DARK]) | st.binary(max_size=4),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(keys, inner),
    max_leaves=6,
)


def test_a_good_chain_verifies():
    assert verify(chained(RECORDS)) is None


def test_an_empty_journal_verifies():
    assert verify([]) is None


def test_a_known_digest_stays_what_it_was():
    assert chain(GENESIS, {"b": (1, None), "a": Health.UP}) == (
        "ed9b52d77e2d6e39d3c67d0b0c3783738fd70b10158c1ca6cc8325d04bc6f3ec"
    )


@pytest.mark.parametrize("index", range(5))
def test_a_changed_record_breaks_the_chain_where_it_stands(index):
    records = chained(RECORDS)
    records[index]["text"] = "something else"
    assert verify(records) == index


def test_a_removed_record_breaks_the_chain_at_its_successor():
    records = chained(RECORDS)
    del records[2]
    assert verify(records) == 2


def test_an_inserted_or_swapped_record_breaks_the_chain():
    records = chained(RECORDS)
    assert verify([records[0], {"seq": 9, "digest": "f" * 64}, *records[1:]]) == 1
    records[1], records[2] = records[2], records[1]
    assert verify(records) == 1


def test_a_record_without_a_digest_is_broken():
    records = chained(RECORDS)
    del records[3]["digest"]
    assert verify(records) == 3


def test_a_trimmed_journal_verifies_from_its_anchor_only():
    records = chained(RECORDS)
    assert verify(records[2:], records[1]["digest"]) is None
    assert verify(records[2:]) == 0


def test_the_digest_does_not_cover_itself():
    record = chained(RECORDS[:1])[0]
    assert chain(GENESIS, record) == record["digest"]


def test_what_has_no_json_form_is_refused_with_what_to_do():
    with pytest.raises(TypeError, match=r"holds a object.*record its fields"):
        chain(GENESIS, {"detail": object()})


def test_keys_and_numbers_are_written_as_json_has_them():
    value = {None: 1, True: 1.5, 7: math.nan, 1.5: -math.inf}
    assert canonical(value) == '{"1.5":"-inf","7":"nan","null":1,"true":1.5}'


def test_sets_have_one_order():
    assert canonical({"b", "a", "c"}) == '["a","b","c"]'


@settings(max_examples=40)
@given(st.dictionaries(keys, values, max_size=4))
def test_a_record_read_back_from_json_has_the_same_digest(record):
    assert canonical(json.loads(canonical(record))) == canonical(record)


@given(st.dictionaries(st.text(), scalars, min_size=2))
def test_the_order_of_keys_does_not_matter(record):
    assert chain(GENESIS, record) == chain(GENESIS, dict(reversed(record.items())))


@settings(max_examples=50)
@given(st.lists(st.dictionaries(st.text(), scalars, max_size=3), min_size=1, max_size=6), st.data())
def test_any_single_changed_value_is_found(records, data):
    records = chained([{**record, "at": i} for i, record in enumerate(records)])
    index = data.draw(st.integers(0, len(records) - 1))
    records[index]["at"] = -1
    assert verify(records) == index
