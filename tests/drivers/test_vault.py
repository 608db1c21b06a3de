# SPDX-License-Identifier: GPL-2.0-or-later
"""What is sealed cannot be read, changed, exchanged or measured by whoever keeps it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.ports import Garbled
from drivers.vault import Vault

VAULT = Vault(b"k" * 32)


@given(st.binary(max_size=200_000))
def test_what_was_sealed_comes_back(content: bytes) -> None:
    sealed = VAULT.seal("a", content)
    assert VAULT.unseal("a", sealed) == content
    assert len(sealed) == VAULT.sealed_bytes(len(content))
    assert len(sealed) % 65536 == 32  # lengths say nothing finer than 64 KiB


def test_two_seals_of_the_same_are_not_the_same() -> None:
    assert VAULT.seal("a", b"x") != VAULT.seal("a", b"x")


SEALED = VAULT.seal("a", b"secret" * 100)


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        SEALED[:3],
        SEALED[:10],
        SEALED[:-1],
        SEALED[:1000],
        SEALED + b"\0",
        SEALED[:100] + bytes([SEALED[100] ^ 1]) + SEALED[101:],
        b"SPV2" + SEALED[4:],
        bytes(len(SEALED)),
    ],
)
def test_what_was_damaged_is_not_opened(damaged: bytes) -> None:
    with pytest.raises(Garbled, match="its seal is broken"):
        VAULT.unseal("a", damaged)


def test_an_object_does_not_stand_in_for_another() -> None:
    with pytest.raises(Garbled):
        VAULT.unseal("b", SEALED)


def test_another_key_opens_nothing_and_names_nothing_alike() -> None:
    other = Vault(b"j" * 32)
    with pytest.raises(Garbled, match=r"another cluster\.key"):
        other.unseal("a", SEALED)
    assert other.name("group", "sbc") != VAULT.name("group", "sbc")


def test_names_say_nothing_and_are_never_alike() -> None:
    name = VAULT.name("group", "sbc")
    assert len(name) == 64
    assert set(name) <= set("0123456789abcdef")
    assert name == VAULT.name("group", "sbc")
    assert len({name, VAULT.name("groups", "bc"), VAULT.name("group", "sbc", "")}) == 3
