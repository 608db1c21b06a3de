# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from pyroute2 import IPRoute

from agent.core.keeping import AddressSeen, LinkSeen
from agent.core.kit import Kit
from agent.core.settings import AddressSettings, GroupSettings
from drivers.addresses import Addresses
from tests.drivers.street import FLOATING, GROUP, Street, heard, laid, many
from tests.lab.netns import LabError, wait_until


@pytest.fixture(scope="module")
def street() -> Iterator[Street]:
    with laid() as street:
        yield street


@pytest.fixture
def kit(street: Street) -> Kit:
    return street.forge("lon1")


@pytest.fixture
def addresses(street: Street, kit: Kit) -> Iterator[Addresses]:
    """Its first news are read."""
    with opened(street, kit) as addresses:
        wait(addresses, LinkSeen("eth0", True))
        yield addresses


@contextmanager
def opened(street: Street, kit: Kit) -> Iterator[Addresses]:
    """Opened in lon1; what it left is taken away."""
    with street.inside("lon1"):
        addresses = Addresses(kit)
    try:
        yield addresses
    finally:
        for group in kit.groups:
            addresses.release(group)
        addresses.close()


def wait(addresses: Addresses, *wanted: AddressSeen | LinkSeen) -> None:
    heard(
        addresses.receive,
        [addresses.fileno()],
        lambda seen: all(it in seen for it in wanted),
    )


def gone(addresses: Addresses, address: str) -> AddressSeen:
    """The word that it is not there any more."""
    found: list[AddressSeen] = []

    def told(seen: list[AddressSeen | LinkSeen]) -> bool:
        found[:] = [it for it in seen if isinstance(it, AddressSeen) and not it.present]
        return any(it.address == address for it in found)

    heard(addresses.receive, [addresses.fileno()], told)
    return next(it for it in found if it.address == address)


def both(present: bool) -> list[AddressSeen | LinkSeen]:
    return [AddressSeen("eth0", it.address, present) for it in GROUP.addresses]


def test_a_group_is_taken_and_released_whole(addresses: Addresses) -> None:
    assert not addresses.held("sbc")
    assert addresses.take("sbc", 30) == (True, "")
    assert addresses.held("sbc")
    wait(addresses, *both(True))
    assert addresses.release("sbc") == (True, "")
    assert not addresses.held("sbc")
    wait(addresses, *both(False))


def test_releasing_what_is_not_there_and_taking_what_is_are_fine(addresses: Addresses) -> None:
    assert addresses.release("sbc") == (True, "")
    assert addresses.take("sbc", 30) == (True, "")
    assert addresses.take("sbc", 30) == (True, "")
    assert addresses.held("sbc")


def test_the_kernel_drops_the_addresses_of_a_keeper_that_died(addresses: Addresses) -> None:
    addresses.take("sbc", 1)
    wait(addresses, *both(True))
    wait(addresses, *both(False))
    assert addresses.present("sbc") == set()


def test_a_refresh_prolongs_the_life_and_is_no_news(street: Street, addresses: Addresses) -> None:
    addresses.take("sbc", 2)
    wait(addresses, *both(True))
    addresses.refresh("sbc", 1000)
    shown = street.ip("lon1", "addr", "show", "dev", "eth0")
    assert sum(int(left) > 900 for left in re.findall(r"valid_lft (\d+)sec", shown)) == 2
    assert addresses.receive() == []


def test_a_refresh_puts_back_what_somebody_removed(street: Street, addresses: Addresses) -> None:
    addresses.take("sbc", 30)
    street.ip("lon1", "addr", "del", "10.1.0.100/32", "dev", "eth0")
    gone(addresses, "10.1.0.100")
    assert addresses.present("sbc") == {"fd00:1::100"}
    assert addresses.refresh("sbc", 30) == (True, "")
    wait(addresses, AddressSeen("eth0", "10.1.0.100", True))


def test_who_took_an_address_away_is_named(street: Street, addresses: Addresses) -> None:
    addresses.take("sbc", 30)
    words = ["ip", "-n", street.namespace("lon1"), "-batch", "-"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, text=True) as other:
        assert other.stdin
        other.stdin.write("addr del 10.1.0.100/32 dev eth0\n")
        other.stdin.flush()
        assert gone(addresses, "10.1.0.100").by == f"ip (pid {other.pid})"


def test_who_has_a_second_socket_is_not_guessed_at(street: Street, addresses: Addresses) -> None:
    addresses.take("sbc", 30)
    with street.inside("lon1"), IPRoute() as other:  # its pid is our socket's port already
        (index,) = other.link_lookup(ifname="eth0")
        other.addr("del", index=index, address="10.1.0.100", prefixlen=32)
        assert re.fullmatch(r"netlink port \d+", gone(addresses, "10.1.0.100").by)


def test_who_is_gone_by_now_is_named_by_its_pid(street: Street, addresses: Addresses) -> None:
    addresses.take("sbc", 30)
    street.ip("lon1", "addr", "del", "10.1.0.100/32", "dev", "eth0")
    assert re.fullmatch(r"pid \d+, gone by now", gone(addresses, "10.1.0.100").by)


def test_neither_we_nor_the_kernel_are_named(addresses: Addresses) -> None:
    addresses.take("sbc", 30)
    addresses.release("sbc")
    assert gone(addresses, "10.1.0.100").by == ""
    addresses.take("sbc", 1)
    assert gone(addresses, "10.1.0.100").by == ""


def test_what_an_interface_received_is_counted(street: Street, addresses: Addresses) -> None:
    before = addresses.traffic("eth0")
    with street.inside("lon2"), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.sendto(b"x", ("10.1.0.11", 9))
    wait_until(lambda: addresses.traffic("eth0") > before, "the packet is counted")
    assert before >= 0
    assert addresses.traffic("eth7") == -1


def test_a_permanent_address_left_by_somebody_is_adopted_with_a_life(
    street: Street, addresses: Addresses
) -> None:
    street.ip("lon1", "addr", "add", "10.1.0.100/32", "dev", "eth0")
    addresses.take("sbc", 30)
    assert "10.1.0.100/32 scope global dynamic" in street.ip("lon1", "-4", "addr", "show", "eth0")


def test_what_somebody_set_with_another_prefix_is_released_too(
    street: Street, addresses: Addresses
) -> None:
    street.ip("lon1", "addr", "add", "10.1.0.100/16", "dev", "eth0")
    assert addresses.release("sbc") == (True, "")
    assert addresses.present("sbc") == set()


def test_addresses_found_at_the_start_are_told(street: Street, kit: Kit) -> None:
    street.ip("lon1", "addr", "add", "10.1.0.100/32", "dev", "eth0")
    with opened(street, kit) as addresses:
        wait(addresses, AddressSeen("eth0", "10.1.0.100", True))


def test_the_hosts_own_address_and_source_stay_as_they_were(
    street: Street, addresses: Addresses
) -> None:
    def source(toward: str) -> str:
        return street.ip("lon1", "route", "get", toward).split(" src ")[1].split()[0]

    assert source("10.1.0.12") == "10.1.0.11"
    addresses.take("sbc", 30)
    street.ip("lon1", "addr", "del", "10.1.0.11/16", "dev", "eth0")
    assert addresses.held("sbc"), "an own address that went took floating ones along"
    street.ip("lon1", "addr", "add", "10.1.0.11/16", "dev", "eth0")
    assert source("10.1.0.12") == "10.1.0.11"
    assert source("fd00:1::12") == "fd00:1::11"
    addresses.release("sbc")
    assert source("10.1.0.12") == "10.1.0.11"


def test_releasing_one_group_leaves_the_others_of_its_network(street: Street) -> None:
    def abroad(name: str, host: int, vrid: int) -> GroupSettings:
        address = AddressSettings(f"192.168.77.{host}", 24, 4, "eth0", vrid)
        return replace(GROUP, name=name, addresses=(address,))

    kit = street.forge("lon1", abroad("one", 1, 61), abroad("two", 2, 62))
    with opened(street, kit) as addresses:
        assert addresses.take("one", 30) == (True, "")
        assert addresses.take("two", 30) == (True, "")
        assert "dev eth0 src 192.168.77.1" in street.ip("lon1", "route", "get", "192.168.77.9")
        assert addresses.release("one") == (True, "")
        assert addresses.held("two")
        assert "dev eth0 src 192.168.77.2" in street.ip("lon1", "route", "get", "192.168.77.9")
        addresses.release("two")
        assert "192.168.77" not in street.ip("lon1", "route")


def test_ipv6_of_a_foreign_network_brings_its_route(street: Street) -> None:
    def reachable() -> bool:
        try:
            return "dev eth0" in street.ip("lon1", "-6", "route", "get", "fd00:7::9")
        except LabError:
            return False

    address = AddressSettings("fd00:7::100", 64, 6, "eth0", 61)
    with opened(street, street.forge("lon1", replace(GROUP, addresses=(address,)))) as addresses:
        assert addresses.take("sbc", 1) == (True, "")
        assert reachable()
        addresses.release("sbc")
        wait_until(lambda: not reachable(), "its route expires")


def test_a_thousand_addresses_are_set_and_removed(street: Street) -> None:
    with opened(street, street.forge("lon1", many(1000))) as addresses:
        assert addresses.take("big", 30) == (True, "")
        assert addresses.held("big")
        assert addresses.release("big") == (True, "")
        assert addresses.present("big") == set()
        assert addresses.release("big") == (True, ""), "a thousand refusals were not all read"


@pytest.mark.parametrize("settled", [True, False], ids=["later", "during the first look"])
def test_lost_events_are_made_good_by_looking_again(street: Street, settled: bool) -> None:
    present: dict[str, bool] = {}

    def all_present(seen: list[AddressSeen | LinkSeen]) -> bool:
        present.update({it.address: it.present for it in seen if isinstance(it, AddressSeen)})
        return sum(present.values()) == 1000

    with opened(street, street.forge("lon1", many(1000))) as addresses:
        if settled:
            wait(addresses, LinkSeen("eth0", True))
            addresses.take("big", 30)
            heard(addresses.receive, [addresses.fileno()], all_present)
            assert addresses.overruns == 0
        for _ in range(8):  # more events than the socket keeps
            addresses.release("big")
            addresses.take("big", 30)
        addresses.release("big")
        street.ip("lon1", "addr", "add", "10.1.100.1/32", "dev", "eth0")

        def one_present(seen: list[AddressSeen | LinkSeen]) -> bool:
            all_present(seen)
            return present == dict.fromkeys(present, False) | {"10.1.100.1": True}

        heard(addresses.receive, [addresses.fileno()], one_present)
        assert addresses.overruns > 0


def test_a_refusal_names_the_address_and_the_reason(street: Street, kit: Kit) -> None:
    gone = replace(
        kit,
        groups={"sbc": street.forge("lon1", replace(GROUP, addresses=(FLOATING,))).groups["sbc"]},
    )
    order = gone.groups["sbc"].take[0]
    wrong = order.messages[:20] + (9999).to_bytes(4, "little") + order.messages[24:]
    group = replace(gone.groups["sbc"], take=(replace(order, messages=wrong),))
    with opened(street, replace(gone, groups={"sbc": group})) as addresses:
        assert addresses.take("sbc", 3) == (False, "10.1.0.100 on eth0: No such device")


def test_a_group_on_a_missing_interface_cannot_be_taken(street: Street) -> None:
    away = replace(GROUP, addresses=(replace(FLOATING, interface="eth7"),))
    with opened(street, street.forge("lon1", away)) as addresses:
        wait(addresses, LinkSeen("eth7", False))
        assert addresses.take("sbc", 3) == (False, "interface eth7 is not there")


def test_carrier_that_comes_and_goes_is_told(street: Street, addresses: Addresses) -> None:
    street.ip("lon2", "link", "set", "eth0", "down")
    wait(addresses, LinkSeen("eth0", False))
    street.ip("lon2", "link", "set", "eth0", "up")
    wait(addresses, LinkSeen("eth0", True))


def test_an_interface_that_changed_asks_for_a_new_kit(street: Street, kit: Kit) -> None:
    with opened(street, kit) as addresses:
        assert addresses.stale == frozenset()
        mac = kit.interfaces["eth0"][1]
        street.ip("lon1", "link", "set", "eth0", "address", "02:00:00:00:07:07")
        heard(addresses.receive, [addresses.fileno()], lambda _: addresses.stale == {"eth0"})
        street.ip("lon1", "link", "set", "eth0", "address", mac)
        heard(addresses.receive, [addresses.fileno()], lambda _: not addresses.stale)
