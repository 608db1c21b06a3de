# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.keeping import Keeping, KeptGroup, KeptPeer, LeaseTerms, Router
from agent.core.kit import (
    Batch,
    Kit,
    KitAddress,
    KitFrame,
    KitGroup,
    KitPeer,
    KitQuestion,
    KitRouter,
    dump,
    is_macvlan_of_ours,
    load,
    macvlan_name,
    virtual_mac,
)

ROUTER = Router(4, 51, "eth0", ("10.1.0.100",))
KIT = Kit(
    keeping=Keeping(
        node="lon1",
        boot=0,
        groups={
            "sbc": KeptGroup(
                name="sbc",
                priority=200,
                place=0,
                advert_ms=200,
                hold_ms=10_000,
                routers=(ROUTER,),
                peers=("lon2",),
                plain=("10.1.0.9",),
                gateways=(("eth0", "10.1.0.1"),),
                probed=(("eth0", "10.1.0.100"),),
                apart=True,
                drain_ms=5000,
            )
        },
        peers={"lon2": KeptPeer("lon2", ("10.1.0.12",), (("eth0", "10.1.0.12"),))},
        sources={"10.1.0.12": "lon2"},
        lifetime_s=4,
        leases={"sbc": LeaseTerms(("lon1", "lon2"), ("lon1", "lon2", "wit"), 2_000, True)},
    ),
    own=KitPeer("lon1", ("10.1.0.11",), 7411),
    key_file="/etc/standpipe/cluster.key",
    digest="d1",
    peers={"lon2": KitPeer("lon2", ("10.1.0.12",), 7411)},
    interfaces={"eth0": (2, "02:00:00:00:00:11")},
    groups={
        "sbc": KitGroup(
            addresses=(KitAddress("eth0", 2, 4, "10.1.0.100"),),
            routers=(
                KitRouter(
                    family=4,
                    vrid=51,
                    interface="eth0",
                    index=2,
                    addresses=("10.1.0.100",),
                    source="10.1.0.11",
                    destinations=("10.1.0.12",),
                    mouth=("sp51v4-2", 1073742950),
                ),
            ),
            take=(Batch(bytes(range(76)), (60, 64)),),
            release=(Batch(b"gone"),),
            announcements=(KitFrame("eth0", b"\0\xff"),),
            checksum_pseudo=True,
            prepare=(Batch(b"macvlan"),),
            before=(Batch(b"not parked any more"),),
            park=(Batch(bytes(76), (60, 64)),),
            silent=("eth0", "sp51v4-2"),
            stops=(("systemctl", "stop", "sbc.service"),),
        ),
        "away": KitGroup((), (), (), (), (), True, ("interface eth7 is not there",)),
    },
    questions=(KitQuestion("eth0", "10.1.0.12", b"who-has"),),
    made_from="m1",
)


def changed(*path: str | int, to: Any) -> bytes:
    """The kit with one value changed, wherever it is."""
    whole = json.loads(dump(KIT))
    at = whole
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = to
    return json.dumps(whole).encode()


def test_what_was_dumped_is_loaded_again() -> None:
    assert load(dump(KIT)) == KIT
    assert load(dump(replace(KIT, groups={}, questions=()))).groups == {}


def test_a_kit_that_does_not_say_what_it_was_made_from_is_still_one() -> None:
    whole = json.loads(dump(KIT))
    del whole["made_from"]
    assert load(json.dumps(whole).encode()) == replace(KIT, made_from="")


@given(cut=st.integers(0, len(dump(KIT)) - 1))
def test_every_truncated_kit_says_to_forge_again(cut: int) -> None:
    with pytest.raises(ValueError, match="forge it again"):
        load(dump(KIT)[:cut])


@given(st.binary(max_size=100) | st.text(max_size=100).map(str.encode))
def test_what_is_no_kit_says_to_forge_again(data: bytes) -> None:
    with pytest.raises(ValueError, match="forge it again"):
        load(data)


@pytest.mark.parametrize(
    "data",
    [
        b"[]",
        b"{}",
        b"[" * 100_000,
        changed("kit", to=1),
        changed("keeping", to=None),
        changed("keeping", "groups", "sbc", to={}),
        changed("groups", "sbc", "take", 0, "messages", to="not base64!"),
        changed("groups", "sbc", "take", 0, "lifetimes", to=[73]),
        changed("groups", "sbc", "take", 0, "lifetimes", to=[-1]),
        changed("interfaces", to={"eth0": []}),
        changed("peers", to=[1]),
        changed("keeping", "groups", "sbc", "gateways", to=[["eth0"]]),
        changed("groups", "sbc", "park", 0, "lifetimes", to=[74]),
    ],
    ids=lambda data: repr(data[:30]),
)
def test_a_damaged_or_foreign_kit_says_to_forge_again(data: bytes) -> None:
    with pytest.raises(ValueError, match="forge it again"):
        load(data)


def test_a_kit_of_an_older_version_says_what_to_do() -> None:
    with pytest.raises(ValueError, match=r"no kit of version 3: forge it again .*standpipe run"):
        load(changed("kit", to=1))


def test_a_macvlan_is_ours_by_its_name_its_mac_and_what_it_lies_over() -> None:
    name, mac = macvlan_name(6, 51, 7), virtual_mac(6, 51)
    assert (name, mac) == ("sp51v6-7", "00:00:5e:00:02:33")
    assert is_macvlan_of_ours(name, mac, 7)
    assert not is_macvlan_of_ours(name, mac, 8)
    assert not is_macvlan_of_ours(name, virtual_mac(4, 51), 7)
    assert not is_macvlan_of_ours("sp51v6-7x", mac, 7)
    assert not is_macvlan_of_ours("vrrp6-51", mac, 7)
    assert KIT.macvlans() == {"sp51v4-2": 4}
