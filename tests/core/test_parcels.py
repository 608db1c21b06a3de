# SPDX-License-Identifier: GPL-2.0-or-later
"""How files are put together into parcels."""

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from agent.core.parcels import PARCEL_BYTES, File, pack, parcel_bytes, parcel_text

SIZES = st.one_of(
    st.integers(0, 100_000), st.integers(PARCEL_BYTES - 2, PARCEL_BYTES * 3 + 2), st.just(0)
)


def digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


FILES = st.dictionaries(st.text(min_size=1, max_size=8), SIZES, max_size=60).map(
    lambda sizes: [
        File(f"/etc/{name}", digest(f"{name}{size}"), size) for name, size in sizes.items()
    ]
)


@given(FILES)
def test_every_byte_is_packed_once_and_in_order(files: list[File]) -> None:
    reached: dict[str, int] = {}
    for parcel in pack(files):
        assert 0 < parcel_bytes(parcel) <= PARCEL_BYTES
        for piece in parcel:
            assert piece.offset == reached.get(piece.sha256, 0)
            reached[piece.sha256] = piece.offset + piece.length
    assert reached == {file.sha256: file.size for file in files if file.size}


@given(FILES)
def test_the_order_in_which_files_are_named_makes_no_difference(files: list[File]) -> None:
    assert pack(files) == pack(reversed(files))


def tree(changed: int = -1) -> list[File]:
    return [
        File(f"/etc/app/{n:05}", digest(f"{n} {'new' if n == changed else 'old'}"), 2000)
        for n in range(10_000)
    ]


def test_one_changed_file_of_ten_thousand_changes_one_parcel() -> None:
    before = {parcel_text(parcel) for parcel in pack(tree())}
    after = {parcel_text(parcel) for parcel in pack(tree(changed=5000))}
    assert len(after - before) == 1
    assert 150 < len(before) < 600


def test_one_file_more_or_less_changes_few_parcels() -> None:
    files = tree()
    before = {parcel_text(parcel) for parcel in pack(files)}
    assert len({parcel_text(parcel) for parcel in pack(files[:5000] + files[5001:])} - before) <= 2


def test_a_file_larger_than_a_parcel_is_cut_into_several() -> None:
    parcels = pack([File("/log", "a" * 64, 10 * PARCEL_BYTES + 5)])
    assert [parcel_bytes(parcel) for parcel in parcels] == [PARCEL_BYTES] * 10 + [5]


def test_a_name_that_is_no_utf_8_is_packed() -> None:
    assert pack([File("/etc/\udcff", "a" * 64, 5)])
