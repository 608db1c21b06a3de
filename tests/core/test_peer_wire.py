# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import hmac
import json
import zlib
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core import peer_wire
from agent.core.keeping import PacketRefused
from agent.core.peer_wire import Sealed, seal, unseal

KEY, OTHER_KEY = b"k" * 32, b"o" * 32
PACKET = Sealed("keeper", "beat", 5, 6, 7, "lon1", {"groups": {"sbc": ["active", True, 3]}})
NAME_AT = 32

numbers = st.integers(0, 2**64 - 1)
bodies = st.dictionaries(
    st.text(max_size=10),
    st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.lists(st.integers()),
    max_size=8,
)


def refused(data: bytes) -> str:
    found = unseal(KEY, data, "10.1.0.12")
    assert isinstance(found, PacketRefused), found
    assert found.source == "10.1.0.12"
    return found.kind


def signed(text: bytes, flags: int = 0, role: int = 0, kind: int = 0, boot: int = 5) -> bytes:
    """A packet of somebody who has the key but writes as he likes."""
    head = peer_wire._HEADER.pack(b"SPL1", flags, role, kind, 4, boot, 6, 7)
    return head + b"lon1" + text + hmac.digest(KEY, head + b"lon1" + text, "sha256")


@given(
    role=st.sampled_from(["keeper", "agent"]),
    kind=st.sampled_from(
        [
            "beat",
            "ask",
            "answer",
            "handover",
            "taken",
            "yielded",
            "claim",
            "hello",
            "lease-ask",
            "lease-vote",
            "lease-end",
        ]
    ),
    boot=st.integers(1, 2**64 - 1),
    counter=numbers,
    echo=numbers,
    name=st.text(min_size=1, max_size=60),
    body=bodies,
)
def test_what_was_sealed_is_read_again(
    role: str, kind: str, boot: int, counter: int, echo: int, name: str, body: dict[str, Any]
) -> None:
    packet = Sealed(role, kind, boot, counter, echo, name, body)
    assert unseal(KEY, seal(KEY, packet), "") == packet


def test_another_key_is_refused_by_name() -> None:
    assert refused(seal(OTHER_KEY, PACKET)) == "peer-key"


@given(at=st.integers(0, len(seal(KEY, PACKET)) - 1), bit=st.integers(0, 7))
def test_every_flipped_bit_is_noticed(at: int, bit: int) -> None:
    data = bytearray(seal(KEY, PACKET))
    data[at] ^= 1 << bit
    assert refused(bytes(data)) in ("peer-key", "peer-malformed")


@given(cut=st.integers(0, len(seal(KEY, PACKET)) - 1))
def test_every_truncation_is_noticed(cut: int) -> None:
    assert refused(seal(KEY, PACKET)[:cut]) in ("peer-key", "peer-malformed")


@given(data=st.binary(max_size=1500))
def test_no_bytes_raise(data: bytes) -> None:
    assert refused(data) in ("peer-key", "peer-malformed")


@given(text=st.binary(max_size=200), flags=st.integers(0, 255), role=st.integers(0, 255))
def test_no_bytes_of_somebody_with_the_key_raise(text: bytes, flags: int, role: int) -> None:
    found = unseal(KEY, signed(text, flags, role), "")
    assert isinstance(found, Sealed | PacketRefused)


@pytest.mark.parametrize(
    "data",
    [
        signed(b"[1]"),
        signed(b'{"a":NaN}'),
        signed(b'{"a":' * 9 + b"1" + b"}" * 9),
        signed(b"[" * 1300),
        signed(b"{}", flags=2),
        signed(b"{}", role=2),
        signed(b"{}", kind=11),
        signed(b"{}", boot=0),
        signed(b"not deflated", flags=1),
        signed(zlib.compress(b"{}") + b"more", flags=1),
        signed(zlib.compress(json.dumps({"a": "b" * 20_000}).encode()), flags=1),
        signed(b"{}" + bytes(1400)),
    ],
    ids=lambda data: repr(data[NAME_AT:][:20]),
)
def test_what_is_signed_but_unfit_is_refused(data: bytes) -> None:
    assert refused(data) == "peer-malformed"


def test_eight_levels_are_read() -> None:
    assert isinstance(unseal(KEY, signed(b'{"a":' * 8 + b"1" + b"}" * 8), ""), Sealed)


def test_many_groups_are_deflated_into_one_packet() -> None:
    groups = {f"service-{n:03}": ["active", True, 5 + n * 7919] for n in range(150)}
    data = seal(KEY, replace(PACKET, body={"groups": groups}))
    assert len(data) <= peer_wire.LONGEST_BYTES
    found = unseal(KEY, data, "")
    assert isinstance(found, Sealed)
    assert found.body == {"groups": groups}


def test_what_does_not_fit_one_packet_is_said_by_its_sender() -> None:
    with pytest.raises(ValueError, match=r"a beat of .* bytes does not fit 1400"):
        seal(KEY, replace(PACKET, body={str(n): n**9 for n in range(400)}))
