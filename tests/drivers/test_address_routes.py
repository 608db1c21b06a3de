# SPDX-License-Identifier: GPL-2.0-or-later
"""Routes that come and go with a group's addresses, in the kernel."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from agent.core.settings import AddressSettings, GroupSettings, RouteSettings
from drivers.addresses import Addresses
from drivers.rtnetlink import TAG, drained, messages
from tests.drivers.street import GROUP, Street, laid
from tests.lab.netns import LabError, wait_until

ROUTE_EVENTS = 0x40 | 0x400  # RTMGRP_IPV4_ROUTE, RTMGRP_IPV6_ROUTE
PROTOCOL_AT = 5  # in rtmsg
FOUR = RouteSettings("default", 4, "eth0", "10.1.0.100", "10.1.0.12")
SIX = RouteSettings("default", 6, "eth0", "fd00:1::100", "fd00:1::12")


@pytest.fixture(scope="module")
def street() -> Iterator[Street]:
    with laid() as street:
        yield street


@contextmanager
def opened(street: Street, *routes: RouteSettings, **changed: object) -> Iterator[Addresses]:
    group: GroupSettings = replace(GROUP, routes=routes, **changed)  # type: ignore[arg-type]
    kit = street.forge("lon1", group)
    with street.inside("lon1"):
        addresses = Addresses(kit)
    try:
        yield addresses
    finally:
        addresses.release("sbc")
        addresses.close()


def way(street: Street, toward: str) -> str:
    """How the kernel would send there now, "" where it cannot."""
    try:
        return street.ip("lon1", "route", "get", toward).splitlines()[0]
    except LabError:
        return ""


@pytest.mark.parametrize(
    ("route", "far", "source"),
    [(FOUR, "192.0.2.9", "10.1.0.100"), (SIX, "2001:db8::9", "fd00:1::100")],
    ids=["IPv4", "IPv6"],
)
def test_a_route_is_there_while_the_addresses_are(
    street: Street, route: RouteSettings, far: str, source: str
) -> None:
    with opened(street, route) as addresses:
        assert way(street, far) == ""
        assert addresses.take("sbc", 30) == (True, "")
        assert f"via {route.via} dev eth0" in way(street, far)
        assert f"src {source}" in way(street, far)
        assert addresses.release("sbc") == (True, "")
        assert way(street, far) == ""
        assert addresses.release("sbc") == (True, ""), "there was nothing to remove"


def test_a_refresh_leaves_routes_alone_and_prolongs_them(street: Street) -> None:
    with opened(street, FOUR, SIX) as addresses, street.inside("lon1"):
        addresses.take("sbc", 20)
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as news:
            news.bind((0, ROUTE_EVENTS))
            for _ in range(3):
                assert addresses.refresh("sbc", 1000) == (True, "")
            assert "proto 77" in street.ip("lon1", "route"), "by now the events are all there"
            told = [it for data in drained(news) for it in messages(data)]
        assert [it for it in told if it.body[PROTOCOL_AT] == TAG] == []
        (six,) = street.ip("lon1", "-6", "route", "show", "default").splitlines()
        assert int(six.split("expires ")[1].split("sec")[0]) > 900
        assert street.ip("lon1", "-4", "route", "show", "default").count("default") == 1


def test_routes_go_with_the_addresses_of_a_keeper_that_died(street: Street) -> None:
    with opened(street, FOUR, SIX) as addresses:
        addresses.take("sbc", 1)
        assert way(street, "192.0.2.9")
        assert way(street, "2001:db8::9")
        wait_until(lambda: not way(street, "192.0.2.9"), "the IPv4 route goes")
        wait_until(lambda: not way(street, "2001:db8::9"), "the IPv6 route goes")


@pytest.mark.parametrize("six", [False, True], ids=["IPv4", "IPv6"])
def test_the_hosts_own_default_route_steps_back_and_returns(street: Street, six: bool) -> None:
    family, far = ("-6", "2001:db8::9") if six else ("-4", "192.0.2.9")
    own = "fd00:1::77" if six else "10.1.0.77"
    street.ip("lon1", family, "route", "add", "default", "via", own, "dev", "eth0")
    try:
        with opened(street, SIX if six else FOUR) as addresses:
            assert f"via {own}" in way(street, far)
            addresses.take("sbc", 30)
            addresses.refresh("sbc", 30)
            assert f"via {own}" not in way(street, far)
            assert "nexthop" not in street.ip("lon1", family, "route"), "they share the load"
            addresses.release("sbc")
            assert f"via {own}" in way(street, far)
    finally:
        street.ip("lon1", family, "route", "del", "default", "via", own)


@pytest.mark.parametrize(
    ("bits", "far"), [("10.1.0.100/32", "192.0.2.9"), ("fd00:1::100/64", "2001:db8::9")]
)
def test_a_route_whose_source_was_deleted_is_whole_again_when_that_is_put_back(
    street: Street, bits: str, far: str
) -> None:
    with opened(street, FOUR, SIX) as addresses:
        addresses.take("sbc", 30)
        street.ip("lon1", "addr", "del", bits, "dev", "eth0")
        assert f"src {bits.partition('/')[0]}" not in way(street, far)
        assert addresses.take("sbc", 30) == (True, "")
        assert f"src {bits.partition('/')[0]}" in way(street, far)


def test_a_network_a_metric_and_a_table_are_as_configured(street: Street) -> None:
    near = RouteSettings("192.0.2.0/24", 4, "eth1", "10.1.0.100", metric=5, table=1000)
    with opened(street, near) as addresses:
        assert addresses.take("sbc", 30) == (True, "")
        shown = " ".join(street.ip("lon1", "route", "show", "table", "1000").split())
        assert shown == "192.0.2.0/24 dev eth1 proto 77 scope link src 10.1.0.100 metric 5"
        addresses.release("sbc")
        assert street.ip("lon1", "route", "show", "table", "1000") == ""


def test_a_next_hop_in_the_floating_network_alone_is_on_the_link(street: Street) -> None:
    abroad = AddressSettings("192.168.77.1", 24, 4, "eth0", 61)
    route = RouteSettings("default", 4, "eth0", "192.168.77.1", "192.168.77.254")
    with opened(street, route, addresses=(abroad,)) as addresses:
        assert addresses.take("sbc", 30) == (True, "")
        assert "via 192.168.77.254 dev eth0 src 192.168.77.1" in way(street, "192.0.2.9")


def test_a_refusal_of_a_route_says_so(street: Street) -> None:
    away = RouteSettings("192.0.2.0/24", 4, "eth1", "10.1.0.100")
    street.ip("lon1", "link", "set", "eth1", "down")
    try:
        with opened(street, away) as addresses:
            assert addresses.take("sbc", 30) == (
                False,
                "a route from 10.1.0.100 on eth0: Network is down",
            )
            assert addresses.held("sbc"), "a route that is refused takes no address along"
    finally:
        street.ip("lon1", "link", "set", "eth1", "up")
