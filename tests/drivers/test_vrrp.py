# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

from agent.core import vrrp_wire
from agent.core.keeping import AdvertSeen, PacketRefused
from agent.core.settings import GroupSettings
from agent.ports import Refused
from drivers.vrrp import Vrrp
from tests.drivers.street import FLOATING, FLOATING_6, GROUP, MACS, Street, heard, laid

VIRTUAL_MACS = {4: "00:00:5e:00:01:33", 6: "00:00:5e:00:02:33"}  # RFC 9568 7.3, router 51
ETH_P_ALL = 3
FOUR = replace(GROUP, addresses=(FLOATING,))
SIX = replace(GROUP, addresses=(FLOATING_6,))


@pytest.fixture(scope="module")
def street() -> Iterator[Street]:
    with laid() as street:
        yield street


@contextmanager
def opened(street: Street, node: str, *groups: GroupSettings) -> Iterator[Vrrp]:
    kit = street.forge(node, *groups)
    with street.inside(node):
        vrrp = Vrrp(kit)
    try:
        yield vrrp
    finally:
        vrrp.close()


@contextmanager
def both(street: Street, *groups: GroupSettings) -> Iterator[tuple[Vrrp, Vrrp]]:
    with opened(street, "lon1", *groups) as first, opened(street, "lon2", *groups) as second:
        yield first, second


def heard_by(vrrp: Vrrp, count: int = 1) -> list[AdvertSeen | PacketRefused]:
    return heard(vrrp.receive, vrrp.filenos(), lambda seen: len(seen) >= count)


@contextmanager
def wire(street: Street, node: str) -> Iterator[socket.socket]:
    """Everything on a node's end of the cable."""
    with street.inside(node):
        packet = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    with packet:
        packet.bind(("eth0", ETH_P_ALL))
        packet.settimeout(5)
        yield packet


@contextmanager
def stranger(street: Street, family: int) -> Iterator[socket.socket]:
    """A raw socket on lon2 that sends what it likes."""
    kind = socket.AF_INET if family == 4 else socket.AF_INET6
    with street.inside("lon2"):
        raw = socket.socket(kind, socket.SOCK_RAW, vrrp_wire.PROTOCOL)
    with raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
        yield raw


@pytest.mark.parametrize("unicast", [True, False])
def test_an_ipv4_advert_arrives_and_is_not_heard_by_its_sender(
    street: Street, unicast: bool
) -> None:
    with both(street, replace(FOUR, unicast=unicast)) as (first, second):
        assert first.send("sbc", 200) == 1
        assert heard_by(second) == [
            AdvertSeen("eth0", 4, 51, "10.1.0.11", 200, 200, ("10.1.0.100",), "pseudo")
        ]
        assert first.receive() == []


def test_an_ipv6_advert_arrives_from_the_link_local_address(street: Street) -> None:
    with both(street, SIX) as (first, second):
        assert first.send("sbc", 0) == 1
        (found,) = heard_by(second)
        source = "fe80::ff:fe00:111"
        assert found == AdvertSeen("eth0", 6, 51, source, 0, 200, ("fd00:1::100",), "v6")
        assert first.receive() == []


def test_the_plain_checksum_is_sent_when_it_is_asked_for(street: Street) -> None:
    with both(street, replace(FOUR, checksum_pseudo=False)) as (first, second):
        first.send("sbc", 200)
        (found,) = heard_by(second)
        assert isinstance(found, AdvertSeen)
        assert found.form == "plain"


def test_one_send_serves_all_routers_of_a_group(street: Street) -> None:
    with both(street, GROUP) as (first, second):
        assert first.send("sbc", 200) == 2
        assert {it.family for it in heard_by(second, 2) if isinstance(it, AdvertSeen)} == {4, 6}


def test_a_queue_of_old_adverts_is_drained_at_once(street: Street) -> None:
    with both(street, FOUR) as (first, second):
        for _ in range(100):
            first.send("sbc", 200)
        assert len(heard_by(second, 100)) == 100
        assert second.receive() == []


def test_the_source_is_the_hosts_own_whatever_its_routes_prefer(street: Street) -> None:
    street.ip("lon1", "addr", "add", "10.1.0.111/32", "dev", "eth0")
    street.ip("lon1", "route", "add", "10.1.0.12/32", "dev", "eth0", "src", "10.1.0.111")
    with both(street, FOUR) as (first, second):
        first.send("sbc", 200)
        (found,) = heard_by(second)
    street.ip("lon1", "addr", "del", "10.1.0.111/32", "dev", "eth0")
    assert found.source == "10.1.0.11"


def test_forged_multicast_from_beyond_a_router_is_refused(street: Street) -> None:
    group = vrrp_wire.GROUPS[4]
    advert = vrrp_wire.encode(4, 51, 255, 200, ("10.1.0.100",), "10.1.0.12", group, True)
    with opened(street, "lon1", FOUR) as vrrp, stranger(street, 4) as raw:
        raw.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 254)
        raw.sendto(advert, (group, 0))
        (found,) = heard_by(vrrp)
        assert isinstance(found, PacketRefused)
        assert (found.kind, found.source) == ("advert-ttl", "10.1.0.12")
        assert "TTL 254" in found.detail


def test_ipv6_multicast_is_asked_for_its_hop_limit_too(street: Street) -> None:
    group, source = vrrp_wire.GROUPS[6], "fe80::ff:fe00:112"
    advert = vrrp_wire.encode(6, 51, 255, 200, ("fd00:1::100",), source, group, True)
    with opened(street, "lon1", SIX) as vrrp, stranger(street, 6) as raw:
        raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 64)
        raw.sendto(advert, (group, 0))
        (found,) = heard_by(vrrp)
        assert isinstance(found, PacketRefused)
        assert (found.kind, found.source) == ("advert-ttl", source)
        assert "TTL 64" in found.detail


def test_unicast_over_ipv6_with_a_hop_limit_of_64_is_heard(street: Street) -> None:
    ours, theirs = "fd00:1::11", "fd00:1::12"
    advert = vrrp_wire.encode(6, 51, 100, 200, ("fd00:1::100",), theirs, ours, True)
    with opened(street, "lon1", SIX) as vrrp, stranger(street, 6) as raw:
        raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, 64)
        raw.sendto(advert, (ours, 0))
        (found,) = heard_by(vrrp)
        assert isinstance(found, AdvertSeen)
        assert found.source == theirs


def test_an_advert_of_our_own_that_comes_back_is_not_heard(street: Street) -> None:
    group, ours, theirs = vrrp_wire.GROUPS[6], "fe80::ff:fe00:111", "fe80::ff:fe00:112"

    def frame(source: str) -> bytes:
        advert = vrrp_wire.encode(6, 51, 200, 200, ("fd00:1::100",), source, group, True)
        packet = IPv6(src=source, dst=group, hlim=255, nh=vrrp_wire.PROTOCOL)
        return bytes(Ether(src=MACS["lon2"], dst="33:33:00:00:00:12") / packet / advert)

    with street.inside("lon2"):
        cable = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    with cable, opened(street, "lon1", SIX) as vrrp:
        cable.bind(("eth0", 0))
        cable.send(frame(ours))
        cable.send(frame(theirs))
        assert [it.source for it in heard_by(vrrp)] == [theirs]


@pytest.mark.parametrize("junk", [b"", b"\x21\x33\xc8\x01", bytes(1400), b"\xff" * 64])
def test_junk_is_counted_and_the_next_advert_is_heard(street: Street, junk: bytes) -> None:
    with both(street, FOUR) as (first, second), stranger(street, 4) as raw:
        raw.sendto(junk, ("10.1.0.11", 0))
        (found,) = heard_by(first)
        assert isinstance(found, PacketRefused)
        second.send("sbc", 190)
        assert isinstance(heard_by(first)[0], AdvertSeen)


def test_an_interface_without_carrier_is_counted_not_raised(street: Street) -> None:
    with opened(street, "lon1", FOUR) as vrrp:
        street.ip("lon1", "link", "set", "eth0", "down")
        try:
            assert vrrp.send("sbc", 200) == 0
            assert vrrp.counters["advert-unsent"] == 1
            assert vrrp.receive() == []
        finally:
            street.ip("lon1", "link", "set", "eth0", "up")


def test_an_interface_that_went_since_the_forging_is_refused_with_advice(street: Street) -> None:
    kit = street.forge("lon1", FOUR)
    (router,) = kit.groups["sbc"].routers
    gone = replace(kit.groups["sbc"], routers=(replace(router, interface="eth7"),))
    with street.inside("lon1"), pytest.raises(Refused, match="the kit must be forged again"):
        Vrrp(replace(kit, groups={"sbc": gone}))


# ---------------------------------------------------------------- a virtual MAC


@contextmanager
def macvlan(street: Street, family: int) -> Iterator[tuple[str, int]]:
    """As the kit has one made on lon1: its name and number; down, and without addresses."""
    name, index = f"sp51-{family}", 5100 + family
    made = ("name", name, "index", str(index), "link", "eth0", "address", VIRTUAL_MACS[family])
    street.ip("lon1", "link", "add", *made, "type", "macvlan", "mode", "bridge")
    street.ip("lon1", "link", "set", name, "addrgenmode", "none")
    try:
        yield name, index
    finally:
        street.ip("lon1", "link", "del", name)


@contextmanager
def with_mouth(street: Street, group: GroupSettings, mouth: tuple[str, int]) -> Iterator[Vrrp]:
    """Opened before the macvlan need be there, and for as long as the block lasts in lon1."""
    kit = street.forge("lon1", group)
    kept = kit.groups["sbc"]
    routers = tuple(replace(router, mouth=mouth) for router in kept.routers)
    with street.inside("lon1"):
        vrrp = Vrrp(replace(kit, groups={"sbc": replace(kept, routers=routers)}))
        try:
            yield vrrp
        finally:
            vrrp.close()


def sender_macs(cable: socket.socket, count: int) -> list[str]:
    """Who sent the next VRRP frames that arrive."""
    found: list[str] = []
    while len(found) < count:
        frame, (_, _, kind, _, _) = cable.recvfrom(2048)
        four = frame[12:14] == b"\x08\x00" and frame[23] == vrrp_wire.PROTOCOL
        six = frame[12:14] == b"\x86\xdd" and frame[20] == vrrp_wire.PROTOCOL
        if kind != socket.PACKET_OUTGOING and (four or six):
            found.append(frame[6:12].hex(":"))
    return found


@pytest.mark.parametrize("family", [4, 6])
def test_multicast_leaves_from_the_virtual_mac_and_in_our_own_name(
    street: Street, family: int
) -> None:
    group = replace(FOUR if family == 4 else SIX, unicast=False)
    source = {4: "10.1.0.11", 6: "fe80::ff:fe00:111"}[family]
    with macvlan(street, family) as mouth, opened(street, "lon2", group) as second:
        street.ip("lon1", "link", "set", mouth[0], "up")
        with wire(street, "lon2") as cable, with_mouth(street, group, mouth) as first:
            assert first.send("sbc", 200) == 1
            assert sender_macs(cable, 1) == [VIRTUAL_MACS[family]]
            (found,) = heard_by(second)
            assert isinstance(found, AdvertSeen)
            assert found.source == source
            assert first.receive() == []


def test_unicast_leaves_by_the_interface_itself(street: Street) -> None:
    with macvlan(street, 4) as mouth, wire(street, "lon2") as cable:
        street.ip("lon1", "link", "set", mouth[0], "up")
        with with_mouth(street, replace(FOUR, unicast=True), mouth) as first:
            assert first.send("sbc", 200) == 1
            assert sender_macs(cable, 1) == [MACS["lon1"]]


def test_a_goodbye_leaves_before_the_virtual_mac_goes_down_and_nothing_afterwards(
    street: Street,
) -> None:
    group = replace(FOUR, unicast=False)
    with macvlan(street, 4) as mouth, opened(street, "lon2", group) as second:
        street.ip("lon1", "link", "set", mouth[0], "up")
        with with_mouth(street, group, mouth) as first:
            assert first.send("sbc", 200) == 1
            assert first.send("sbc", 0) == 1
            street.ip("lon1", "link", "set", mouth[0], "down")
            assert first.send("sbc", 200) == 0
            assert first.counters["advert-unsent"] == 1
            street.ip("lon1", "link", "set", mouth[0], "up")
            assert first.send("sbc", 190) == 1
        seen = [it.priority for it in heard_by(second, 3) if isinstance(it, AdvertSeen)]
        assert seen == [200, 0, 190]


@pytest.mark.parametrize("family", [4, 6])
def test_a_macvlan_that_is_made_later_or_anew_is_found(street: Street, family: int) -> None:
    group = replace(FOUR if family == 4 else SIX, unicast=False)
    with with_mouth(street, group, (f"sp51-{family}", 5100 + family)) as first:
        assert first.send("sbc", 200) == 0
        for _ in range(2):
            with macvlan(street, family) as mouth:
                street.ip("lon1", "link", "set", mouth[0], "up")
                assert first.send("sbc", 200) == 1
            assert first.send("sbc", 200) == 0
