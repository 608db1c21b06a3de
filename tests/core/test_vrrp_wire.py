# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6
from scapy.layers.vrrp import VRRPv3

from agent.core import vrrp_wire
from agent.core.keeping import AdvertSeen, PacketRefused

OURS, THEIRS = "10.1.0.11", "10.1.0.12"
OURS_6, THEIRS_6 = "fe80::11", "fd00::12"
FLOATING = ("10.1.0.100", "10.1.0.101")
FLOATING_6 = ("fd00::100", "fd00::101")

texts = {
    4: st.ip_addresses(v=4).map(str),
    6: st.ip_addresses(v=6).map(str),
}


def advert(**changed: Any) -> bytes:
    fields: dict[str, Any] = {
        "family": 4,
        "vrid": 51,
        "priority": 200,
        "interval_ms": 200,
        "addresses": FLOATING,
        "source": OURS,
        "destination": THEIRS,
        "pseudo": True,
    }
    return vrrp_wire.encode(**(fields | changed))


def advert_6(**changed: Any) -> bytes:
    ends: dict[str, Any] = {
        "family": 6,
        "addresses": FLOATING_6,
        "source": OURS_6,
        "destination": THEIRS_6,
    }
    return advert(**(ends | changed))


def read(payload: bytes, **changed: Any) -> AdvertSeen | PacketRefused:
    told: dict[str, Any] = {
        "family": 4,
        "source": OURS,
        "destination": THEIRS,
        "ttl": 255,
        "multicast": False,
    }
    return vrrp_wire.decode(payload, interface="eth0", **(told | changed))


def refused(payload: bytes, **changed: Any) -> tuple[str, str]:
    found = read(payload, **changed)
    assert isinstance(found, PacketRefused), found
    return found.kind, found.detail


def mended(payload: bytes, at: int, value: int) -> bytes:
    """A byte changed and the plain checksum made good again, so that only the field is wrong."""
    changed = bytearray(payload)
    changed[at] = value
    changed[6:8] = b"\0\0"
    total = int.from_bytes(changed, "big") % 0xFFFF
    changed[6:8] = ((0xFFFF - total) % 0xFFFF).to_bytes(2, "big")
    return bytes(changed)


@given(
    vrid=st.integers(1, 255),
    priority=st.integers(0, 255),
    interval_cs=st.integers(1, 4095),
    ends=st.tuples(texts[4], texts[4]),
    addresses=st.lists(texts[4], min_size=1, max_size=30),
)
def test_ipv4_is_byte_for_byte_what_scapy_makes(
    vrid: int, priority: int, interval_cs: int, ends: tuple[str, str], addresses: list[str]
) -> None:
    whole = IP(src=ends[0], dst=ends[1], ttl=255) / VRRPv3(
        vrid=vrid, priority=priority, adv=interval_cs, addrlist=addresses
    )
    ours = vrrp_wire.encode(
        4, vrid, priority, interval_cs * 10, tuple(addresses), *ends, pseudo=True
    )
    assert ours == bytes(whole)[20:]


@given(
    vrid=st.integers(1, 255),
    priority=st.integers(0, 255),
    ends=st.tuples(texts[6], texts[6]),
    addresses=st.lists(texts[6], min_size=1, max_size=30),
)
def test_ipv6_is_byte_for_byte_what_scapy_makes(
    vrid: int, priority: int, ends: tuple[str, str], addresses: list[str]
) -> None:
    whole = IPv6(src=ends[0], dst=ends[1], hlim=255) / VRRPv3(
        vrid=vrid, priority=priority, adv=100, addrlist=addresses
    )
    ours = vrrp_wire.encode(6, vrid, priority, 1000, tuple(addresses), *ends, pseudo=False)
    assert ours == bytes(whole)[40:]


@given(
    family=st.sampled_from([4, 6]),
    vrid=st.integers(1, 255),
    priority=st.integers(0, 255),
    interval_ms=st.integers(10, 40_950),
    pseudo=st.booleans(),
    data=st.data(),
)
def test_what_was_written_is_read_again(
    family: int, vrid: int, priority: int, interval_ms: int, pseudo: bool, data: st.DataObject
) -> None:
    most = vrrp_wire.MOST_ADDRESSES[family]
    addresses = tuple(data.draw(st.lists(texts[family], max_size=most)))
    source, destination = data.draw(texts[family]), data.draw(texts[family])
    payload = vrrp_wire.encode(
        family, vrid, priority, interval_ms, addresses, source, destination, pseudo
    )
    found = read(payload, family=family, source=source, destination=destination)
    assert isinstance(found, AdvertSeen)
    assert (found.vrid, found.priority, found.addresses) == (vrid, priority, addresses)
    assert abs(found.interval_ms - interval_ms) <= 5


def test_both_ipv4_checksums_are_read_and_named() -> None:
    assert read(advert(pseudo=True)).form == "pseudo"  # type: ignore[union-attr]
    assert read(advert(pseudo=False)).form == "plain"  # type: ignore[union-attr]


def test_ipv6_has_one_checksum_whatever_is_asked() -> None:
    assert advert_6(pseudo=True) == advert_6(pseudo=False)
    found = read(advert_6(), family=6, source=OURS_6, destination=THEIRS_6)
    assert isinstance(found, AdvertSeen)
    assert found.form == "v6"


def test_ipv6_without_its_pseudo_header_is_refused() -> None:
    plain = mended(advert_6(), 1, 51)
    found = refused(plain, family=6, source=OURS_6, destination=THEIRS_6)
    assert found[0] == "advert-checksum"


def test_a_checksum_made_for_other_ends_is_refused() -> None:
    assert refused(advert(), destination="10.1.0.13")[0] == "advert-checksum"
    found = refused(advert_6(), family=6, source=OURS_6, destination="fd00::13")
    assert found[0] == "advert-checksum"


@pytest.mark.parametrize(
    ("interval_ms", "read_ms"), [(1, 10), (14, 10), (15, 20), (200, 200), (60_000, 40_950)]
)
def test_the_interval_is_rounded_to_centiseconds(interval_ms: int, read_ms: int) -> None:
    found = read(advert(interval_ms=interval_ms))
    assert isinstance(found, AdvertSeen)
    assert found.interval_ms == read_ms


def test_only_multicast_is_asked_for_a_ttl_of_255() -> None:
    group = advert(destination="224.0.0.18")
    told = {"destination": "224.0.0.18", "multicast": True}
    assert isinstance(read(group, **told), AdvertSeen)
    assert refused(group, ttl=254, **told) == ("advert-ttl", "eth0: TTL 254, not 255")
    assert isinstance(read(advert(), ttl=64), AdvertSeen)


def test_version_2_is_refused_by_name() -> None:
    kind, detail = refused(mended(advert(), 0, 0x21))
    assert (kind, detail) == (
        "advert-malformed",
        "eth0: VRRP version 2; only version 3 is spoken here",
    )


@pytest.mark.parametrize(
    ("at", "value", "says"),
    [
        (0, 0x32, "type 2"),
        (1, 0, "virtual router 0"),
        (3, 3, "16 bytes, where 3 addresses make 20"),
        (5, 0, "interval of 0"),
    ],
)
def test_a_wrong_field_is_refused_and_named(at: int, value: int, says: str) -> None:
    kind, detail = refused(mended(advert(), at, value))
    assert kind == "advert-malformed"
    assert says in detail


def test_reserved_bits_are_ignored() -> None:
    found = read(mended(advert(), 4, 0xF0))
    assert isinstance(found, AdvertSeen)
    assert found.interval_ms == 200


@pytest.mark.parametrize("length", [0, 7, 8, 15, 17, 24])
def test_a_wrong_length_is_refused(length: int) -> None:
    assert refused((advert() + bytes(16))[:length])[0] == "advert-malformed"


def test_a_list_of_no_addresses_is_no_reason_to_be_deaf() -> None:
    found = read(advert(addresses=()))
    assert isinstance(found, AdvertSeen)
    assert found.addresses == ()


@pytest.mark.parametrize(("family", "most"), [(4, 255), (6, 90)])
def test_a_thousand_addresses_are_listed_as_far_as_they_fit(family: int, most: int) -> None:
    if family == 4:
        listed = tuple(f"10.1.{n // 200}.{1 + n % 200}" for n in range(1000))
        found = read(advert(addresses=listed))
    else:
        listed = tuple(f"fd00::{n:x}" for n in range(1, 1001))
        found = read(advert_6(addresses=listed), family=6, source=OURS_6, destination=THEIRS_6)
    assert isinstance(found, AdvertSeen)
    assert found.addresses == listed[:most]


@given(payload=st.binary(max_size=400), family=st.sampled_from([4, 6]), multicast=st.booleans())
def test_no_bytes_raise(payload: bytes, family: int, multicast: bool) -> None:
    ends = (OURS, THEIRS) if family == 4 else (OURS_6, THEIRS_6)
    found = read(payload, family=family, source=ends[0], destination=ends[1], multicast=multicast)
    assert isinstance(found, AdvertSeen | PacketRefused)


@given(at=st.integers(0, 15), bit=st.integers(0, 7))
def test_every_flipped_bit_is_noticed(at: int, bit: int) -> None:
    payload = bytearray(advert())
    payload[at] ^= 1 << bit
    assert isinstance(read(bytes(payload)), PacketRefused)
