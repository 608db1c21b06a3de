# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, IPOption
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
    told = addresses[: vrrp_wire.MOST_TOLD]
    source, destination = data.draw(texts[family]), data.draw(texts[family])
    payload = vrrp_wire.encode(
        family, vrid, priority, interval_ms, addresses, source, destination, pseudo
    )
    found = read(payload, family=family, source=source, destination=destination)
    assert isinstance(found, AdvertSeen)
    assert (found.vrid, found.priority, found.addresses) == (vrid, priority, told)
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
    kind, detail = refused(group, ttl=254, **told)
    assert kind == "advert-ttl"
    assert "TTL 254 and not 255" in detail
    assert "border" in detail
    assert isinstance(read(advert(), ttl=64), AdvertSeen)


@pytest.mark.parametrize("length", [8, 12, 16, 20])
def test_version_2_is_refused_by_name_whatever_its_length(length: int) -> None:
    kind, detail = refused((mended(advert(), 0, 0x21) + bytes(4))[:length])
    assert kind == "advert-version"
    assert f"a packet of {OURS} is VRRPv2 for virtual router 51" in detail
    assert "set version 3 there" in detail


@pytest.mark.parametrize("version", [0, 1, 4, 15])
def test_other_versions_are_refused_too(version: int) -> None:
    kind, detail = refused(mended(advert(), 0, version << 4 | 1))
    assert kind == "advert-version"
    assert f"VRRPv{version} " in detail


@pytest.mark.parametrize(
    ("at", "value", "says"),
    [
        (0, 0x32, "of VRRP type 2, where 1, an advertisement"),
        (1, 0, "virtual router 0: give it one of 1 to 255"),
        (3, 3, "cut short: 16 bytes, where its 3 addresses make 20"),
        (3, 1, "goes on after its end: 16 bytes, where its 1 addresses make 12"),
        (5, 0, "interval of 0: set 10 ms to 40.95 s"),
    ],
)
def test_a_wrong_field_is_refused_and_named(at: int, value: int, says: str) -> None:
    kind, detail = refused(mended(advert(), at, value))
    assert kind == "advert-malformed"
    assert detail.startswith(f"eth0: a packet of {OURS} ")
    assert says in detail


def test_what_has_no_whole_header_is_refused_and_named() -> None:
    for length in range(8):
        kind, detail = refused(advert()[:length])
        assert kind == "advert-malformed"
        assert f"has {length} bytes of VRRP, where the header alone has 8" in detail


def test_a_wrong_checksum_says_between_whom_it_went_wrong() -> None:
    damaged = bytearray(advert())
    damaged[9] ^= 4
    kind, detail = refused(bytes(damaged))
    assert kind == "advert-checksum"
    assert "for virtual router 51 has a checksum that fits neither with" in detail
    assert f"from {OURS} to {THEIRS}" in detail


def test_unicast_with_the_checksum_of_multicast_is_known_as_an_old_keepalived() -> None:
    kind, detail = refused(advert(destination="224.0.0.18"), destination=THEIRS)
    assert kind == "advert-checksum"
    assert "was made for 224.0.0.18, yet it was sent to 10.1.0.12: an old keepalived" in detail


@pytest.mark.parametrize("priority", [0, 1, 254, 255])
def test_leaving_and_owning_priorities_pass(priority: int) -> None:
    found = read(advert(priority=priority))
    assert isinstance(found, AdvertSeen)
    assert found.priority == priority


def test_the_interval_has_twelve_bits() -> None:
    found = read(advert(interval_ms=40_950))
    assert isinstance(found, AdvertSeen)
    assert found.interval_ms == 40_950
    assert advert(interval_ms=40_950)[4:6] == b"\x0f\xff"


def test_reserved_bits_are_sent_as_zero_and_ignored() -> None:
    assert advert()[4] >> 4 == 0
    found = read(mended(advert(), 4, 0xF0))
    assert isinstance(found, AdvertSeen)
    assert found.interval_ms == 200


@pytest.mark.parametrize(
    ("payload", "others"),
    [
        (b"\x31\x34", True),
        (b"\x21\x34", True),
        (b"\x31\x33", False),
        (b"\x21\x33", False),
        (b"\x31\x00", False),
        (b"\xff\x34", False),
        (b"\x31", False),
        (b"", False),
    ],
)
def test_what_is_for_others_is_told_from_what_is_junk(payload: bytes, others: bool) -> None:
    assert vrrp_wire.concerns_others(payload + bytes(8)[: len(payload) * 3], {51}) is others


def ipv4(**changed: Any) -> bytes:
    """With 26 bytes of padding, as Ethernet has them."""
    told = {"src": THEIRS, "dst": OURS, "ttl": 255, "proto": 112}
    return bytes(IP(**(told | changed)) / advert(addresses=())) + bytes(26)


def test_the_padding_of_short_frames_is_no_part_of_the_message() -> None:
    payload, source, destination, ttl = vrrp_wire.unwrap_ipv4(ipv4())
    assert payload == advert(addresses=())
    ends = vrrp_wire.packed(4, THEIRS), vrrp_wire.packed(4, OURS)
    assert (source, destination, ttl) == (*ends, 255)


def test_ip_options_are_no_part_of_the_message() -> None:
    with_options = ipv4(options=[IPOption(b"\x94\x04\x00\x00")])  # router alert, RFC 2113
    assert with_options[0] == 0x46
    assert vrrp_wire.unwrap_ipv4(with_options)[0] == advert(addresses=())


@pytest.mark.parametrize(
    ("packet", "payload"),
    [
        (b"", b""),
        (b"\x45", b""),
        (ipv4()[:19], b""),
        (ipv4()[:24], advert()[:3] + b"\0"),
        (b"\x40" + ipv4()[1:], b""),
        (b"\x44" + ipv4()[1:], b""),
        (b"\x4f" + ipv4()[1:], b""),
        (ipv4()[:2] + b"\0\0" + ipv4()[4:], b""),
    ],
    ids=["nothing", "a byte", "cut header", "cut", "IHL 0", "IHL 4", "IHL 15", "length 0"],
)
def test_an_ip_header_that_lies_leaves_no_message(packet: bytes, payload: bytes) -> None:
    found, source, destination, _ = vrrp_wire.unwrap_ipv4(packet)
    assert found == payload
    assert (len(source), len(destination)) == (4, 4)
    assert isinstance(read(found), PacketRefused)


@pytest.mark.parametrize("length", [0, 7, 8, 15, 17, 24])
def test_a_wrong_length_is_refused(length: int) -> None:
    assert refused((advert() + bytes(16))[:length])[0] == "advert-malformed"


def test_a_list_of_no_addresses_is_no_reason_to_be_deaf() -> None:
    found = read(advert(addresses=()))
    assert isinstance(found, AdvertSeen)
    assert found.addresses == ()


@pytest.mark.parametrize(("family", "most", "size"), [(4, 255, 4), (6, 90, 16)])
def test_a_thousand_addresses_are_listed_as_far_as_they_fit(
    family: int, most: int, size: int
) -> None:
    if family == 4:
        listed = tuple(f"10.1.{n // 200}.{1 + n % 200}" for n in range(1000))
        payload, ends = advert(addresses=listed), (OURS, THEIRS)
    else:
        listed = tuple(f"fd00::{n:x}" for n in range(1, 1001))
        payload, ends = advert_6(addresses=listed), (OURS_6, THEIRS_6)
    assert payload[3] == most
    assert payload[8:] == b"".join(vrrp_wire.packed(family, it) for it in listed[:most])
    assert len(payload) == 8 + most * size
    found = read(payload, family=family, source=ends[0], destination=ends[1])
    assert isinstance(found, AdvertSeen)
    assert found.addresses == listed[: vrrp_wire.MOST_TOLD]


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
