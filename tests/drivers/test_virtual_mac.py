# SPDX-License-Identifier: GPL-2.0-or-later
"""Virtual MACs (RFC 9568 7.3) in kernels: two nodes and a client on one switch."""

from __future__ import annotations

import os
import select
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Self

import pytest

from agent.core.keeping import AddressAsked, AddressSeen, LinkSeen, NeighbourSeen
from agent.core.kit import Kit
from agent.core.settings import GroupSettings, RouteSettings
from drivers.addresses import Addresses
from drivers.forge import forge, read_links
from drivers.neighbour import Neighbour
from tests.drivers.street import GROUP, heard, settings
from tests.lab.netns import SWITCH, Cable, Fabric, command, inside, wait_until

VIRTUAL = replace(GROUP, virtual_mac=True)
MACS = {"10.1.0.100": "00:00:5e:00:01:33", "fd00:1::100": "00:00:5e:00:02:33"}
NODES = {"lon1": "11", "lon2": "12"}
ETH_P_ALL = 3
PACKET_OUTGOING = 4
QUIET_S = 1.5  # MLD repeats a report within a second as a rule (RFC 3810 9.11)


class Lan:
    """The switch, its hosts, and each node's hands."""

    def __init__(self, fabric: Fabric) -> None:
        self.fabric = fabric

    def ip(self, host: str, *words: str) -> str:
        return command("ip", "-n", self.fabric.namespace(host), *words)

    def ready(self, host: str) -> bool:
        shown = self.ip(host, "addr")
        return "state UP" in shown and "inet6 fe80" in shown

    def forge(self, node: str, *groups: GroupSettings) -> Kit:
        with inside(self.fabric.namespace(node)):
            return forge(settings(node, *(groups or (VIRTUAL,))), read_links())

    def addresses(self, node: str, kit: Kit) -> Addresses:
        addresses = self.unprepared(node, kit)
        with inside(self.fabric.namespace(node)):
            assert addresses.prepare() == []
        return addresses

    def unprepared(self, node: str, kit: Kit) -> Addresses:
        with inside(self.fabric.namespace(node)):
            return Addresses(kit)

    def macvlans(self, node: str) -> list[str]:
        shown = self.ip(node, "-o", "link", "show", "type", "macvlan").splitlines()
        return [line.split()[1].partition("@")[0] for line in shown]

    def up(self, node: str, name: str) -> bool:
        return "UP" in self.ip(node, "-o", "link", "show", name).split("<")[1].split(">")[0]

    def local_routes(self, node: str, address: str) -> str:
        family = "-6" if ":" in address else "-4"
        return self.ip(node, family, "route", "show", "table", "local")

    def known_mac(self, address: str) -> str:
        """What the client believes, "" nothing."""
        words = self.ip("client", "neigh", "show", address).split()
        return words[words.index("lladdr") + 1] if "lladdr" in words else ""


class Node:
    """A keeper's hands for addresses and announcements, prepared."""

    def __init__(self, lan: Lan, name: str) -> None:
        self.kit = lan.forge(name)
        self.addresses = lan.addresses(name, self.kit)
        with inside(lan.fabric.namespace(name)):
            self.neighbour = Neighbour(self.kit)

    def take(self) -> None:
        assert self.addresses.take("sbc", 30) == (True, "")
        self.neighbour.announce("sbc")
        assert self.neighbour.counters["frame-unsent"] == 0

    def close(self) -> None:
        self.addresses.release("sbc")
        self.addresses.close()
        self.neighbour.close()


@pytest.fixture(scope="module")
def lan() -> Iterator[Lan]:
    if os.geteuid():
        pytest.skip("network namespaces need root; run: sudo make test")
    fabric = Fabric(f"spl{os.getpid()}-v-")
    try:
        cables = [
            Cable(host, "eth0", "lan", (f"10.1.0.{number}/16", f"fd00:1::{number}/64"))
            for host, number in (NODES | {"client": "90"}).items()
        ]
        fabric.lay([*NODES, "client"], ["lan"], cables)
        lan = Lan(fabric)
        for node in NODES:  # as some distributions have it
            fabric.configure(node, {"ipv4/conf/default/rp_filter": 1})
        for host in (*NODES, "client"):
            wait_until(partial(lan.ready, host), f"the cable of {host} carries")
        yield lan
    finally:
        fabric.close()


@pytest.fixture
def nodes(lan: Lan) -> Iterator[dict[str, Node]]:
    found = {name: Node(lan, name) for name in NODES}
    try:
        yield found
    finally:
        for node in found.values():
            node.close()


class Sniffer:
    """What comes from a node, or its virtual MACs alone, heard at its port of the switch."""

    def __init__(self, lan: Lan, node: str, *, of_virtual: bool = True) -> None:
        self._start = b"\0\0\x5e\0" if of_virtual else b""
        with inside(lan.fabric.namespace(SWITCH)):
            kind = socket.htons(ETH_P_ALL)
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, kind)
            self._socket.bind((f"{node}-eth0", ETH_P_ALL))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def frames(self, within_s: float = 0) -> list[bytes]:
        """Those that wait, or come until none comes for so long."""
        found = []
        while select.select([self._socket], [], [], within_s)[0]:
            frame, about = self._socket.recvfrom(99)
            if about[2] != PACKET_OUTGOING and frame[6:12].startswith(self._start):
                found.append(frame)
        return found


class Pings:
    """Echo requests of the client, one each few milliseconds in a thread."""

    def __init__(self, lan: Lan, address: str) -> None:
        self.sent: list[int] = []
        self.answered: set[int] = set()
        six = ":" in address
        self._request, self._reply, self._start = (128, 129, 0) if six else (8, 0, 20)
        with inside(lan.fabric.namespace("client")):
            if six:
                self._socket = socket.socket(socket.AF_INET6, socket.SOCK_RAW, 58)
            else:
                self._socket = socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)
        self._socket.connect((address, 0))
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._ends.is_set():
            self.send()
            self.receive(0.003)
            self._ends.wait(0.001)
        for _ in range(200):  # the last ones, within a second
            if len(self.answered) == len(self.sent):
                break
            self.receive(0.005)

    def send(self) -> None:
        number = len(self.sent)
        head = struct.pack("!BBHHH", self._request, 0, 0, 77, number)
        checksum = 0xFFFF - sum(struct.unpack("!4H", head)) % 0xFFFF
        self._socket.send(head[:2] + struct.pack("!H", checksum) + head[4:])
        self.sent.append(number)

    def receive(self, within_s: float) -> None:
        if select.select([self._socket], [], [], within_s)[0]:
            kind, _, _, _, number = struct.unpack_from("!BBHHH", self._socket.recv(99), self._start)
            if kind == self._reply:
                self.answered.add(number)

    def end(self) -> list[int]:
        """Which were not answered."""
        self._ends.set()
        self._thread.join()
        self._socket.close()
        return sorted(set(self.sent) - self.answered)


@contextmanager
def pings(lan: Lan, address: str) -> Iterator[Pings]:
    """Some were answered already when this begins."""
    running = Pings(lan, address)
    try:
        wait_until(lambda: len(running.answered) > 20, f"{address} answers")
        yield running
    finally:
        running.end()


def told(neighbour: Neighbour, *wanted: tuple[str, str]) -> set[tuple[str, str]]:
    """Who is said to have what, on eth0, until all of `wanted` was said."""
    found: set[tuple[str, str]] = set()

    def enough(seen: list[NeighbourSeen | AddressAsked]) -> bool:
        found.update((it.address, it.mac) for it in seen if isinstance(it, NeighbourSeen))
        return found.issuperset(wanted)

    heard(neighbour.receive, neighbour.filenos(), enough)
    return found


@pytest.mark.parametrize("address", MACS)
def test_a_client_keeps_the_virtual_mac_over_a_move_and_misses_nothing(
    lan: Lan, nodes: dict[str, Node], address: str
) -> None:
    lan.ip("client", "neigh", "flush", "dev", "eth0")
    with Sniffer(lan, "lon1") as sniffer:
        nodes["lon1"].take()
        sniffer.frames(QUIET_S)  # the kernel tells of its multicast groups by itself
    with pings(lan, address) as running:
        assert lan.known_mac(address) == MACS[address]
        assert nodes["lon2"].addresses.take("sbc", 30) == (True, "")
        # the kernel makes an IPv6 address live a moment later, and all namespaces share that lock
        wait_until(lambda: f"local {address}" in lan.local_routes("lon2", address), "it is live")
        nodes["lon2"].neighbour.announce("sbc")
        nodes["lon1"].addresses.release("sbc")
        so_far = len(running.sent)
        wait_until(lambda: len(running.answered) > so_far + 200, "the other one answers")
        assert lan.known_mac(address) == MACS[address]
        assert running.end() == []


def test_the_virtual_macs_alone_answer_for_the_addresses(nodes: dict[str, Node]) -> None:
    nodes["lon1"].take()
    neighbour = nodes["lon2"].neighbour
    own = "10.1.0.11", nodes["lon1"].kit.interfaces["eth0"][1]

    def asked(*wanted: tuple[str, str]) -> set[tuple[str, str]]:
        """All that is heard until these are; a macvlan hears broadcasts last of all."""
        for address, _ in wanted:
            assert neighbour.ask("eth0", address)
        return told(neighbour, *wanted)

    asked(own)  # the announcements are heard by then
    for address, mac in MACS.items():
        assert asked((address, mac), own) == {(address, mac), own}


def test_two_that_have_it_hear_each_other(nodes: dict[str, Node]) -> None:
    one, two = nodes.values()
    one.take()
    two.take()
    one.neighbour.receive()
    two.neighbour.announce("sbc")
    told(one.neighbour, *MACS.items())


def test_nothing_is_heard_from_the_virtual_mac_of_a_node_that_does_not_have_it(
    lan: Lan, nodes: dict[str, Node]
) -> None:
    with Sniffer(lan, "lon1") as sniffer:
        nodes["lon2"].take()
        assert sniffer.frames(QUIET_S) == [], "it is prepared, and was never active"
        nodes["lon1"].take()
        wait_until(lambda: len(sniffer.frames()) > 0, "it speaks while it is active")
        nodes["lon1"].addresses.release("sbc")
        sniffer.frames()
        assert sniffer.frames(QUIET_S) == [], "it has let go"


def test_a_macvlan_is_no_link_of_ours_and_its_addresses_are_the_parents(
    nodes: dict[str, Node],
) -> None:
    addresses = nodes["lon1"].addresses
    nodes["lon1"].take()
    wanted: list[AddressSeen | LinkSeen] = [AddressSeen("eth0", it, True) for it in MACS]
    seen = heard(
        addresses.receive, [addresses.fileno()], lambda seen: all(it in seen for it in wanted)
    )
    addresses.release("sbc")
    gone: list[AddressSeen | LinkSeen] = [AddressSeen("eth0", it, False) for it in MACS]
    seen += heard(
        addresses.receive, [addresses.fileno()], lambda seen: all(it in seen for it in gone)
    )
    assert [it for it in seen if isinstance(it, LinkSeen)] == [LinkSeen("eth0", True)]
    assert addresses.stale == frozenset()


def test_a_keeper_that_starts_again_finds_its_macvlans_as_they_are(
    lan: Lan, nodes: dict[str, Node]
) -> None:
    nodes["lon1"].take()
    again = lan.addresses("lon1", lan.forge("lon1"))
    assert again.held("sbc")
    name = nodes["lon1"].kit.groups["sbc"].routers[0].mouth[0]
    assert lan.up("lon1", name)
    for macvlan in lan.macvlans("lon1"):
        assert "fe80" not in lan.ip("lon1", "addr", "show", macvlan), "it would speak by itself"
    again.release("sbc")
    assert not lan.up("lon1", name)
    lan.ip("lon1", "link", "set", name, "up")
    again.close()
    lan.addresses("lon1", lan.forge("lon1")).close()
    assert not lan.up("lon1", name), "up, though it carries nothing"


def test_a_macvlan_that_somebody_removed_is_made_again(lan: Lan, nodes: dict[str, Node]) -> None:
    nodes["lon1"].take()
    name = nodes["lon1"].kit.groups["sbc"].routers[0].mouth[0]
    lan.ip("lon1", "link", "del", name)
    assert not nodes["lon1"].addresses.held("sbc")
    with inside(lan.fabric.namespace("lon1")):
        assert nodes["lon1"].addresses.refresh("sbc", 30) == (True, "")
        assert Path(f"/proc/sys/net/ipv4/conf/{name}/arp_ignore").read_text().strip() == "1"
    assert nodes["lon1"].addresses.held("sbc")


@pytest.mark.parametrize(
    ("source", "via", "far"),
    [("10.1.0.100", "10.1.0.90", "192.0.2.9"), ("fd00:1::100", "fd00:1::90", "2001:db8::9")],
    ids=["IPv4", "IPv6"],
)
def test_a_groups_route_is_told_to_nobody_under_another_mac(
    lan: Lan, source: str, via: str, far: str
) -> None:
    family = 6 if ":" in source else 4
    route = RouteSettings("default", family, "eth0", source, via)
    kit = lan.forge("lon1", replace(VIRTUAL, routes=(route,)))
    addresses = lan.addresses("lon1", kit)
    try:
        assert addresses.take("sbc", 30) == (True, "")
        assert addresses.refresh("sbc", 30) == (True, "")
        mouth = kit.groups["sbc"].routers[0].mouth[0] if family == 4 else "eth0"
        shown = lan.ip("lon1", "route", "get", far)
        assert f"via {via} dev {mouth}" in shown
        assert f"src {source}" in shown
        lan.ip("lon1", "neigh", "flush", "to", via)
        lan.ip("client", "neigh", "flush", "dev", "eth0")
        kind = socket.AF_INET6 if family == 6 else socket.AF_INET
        with (
            Sniffer(lan, "lon1", of_virtual=False) as sniffer,
            inside(lan.fabric.namespace("lon1")),
            socket.socket(kind, socket.SOCK_DGRAM) as there,
        ):
            there.sendto(b"x", (far, 9))
            wait_until(lambda: any(it.endswith(b"x") for it in sniffer.frames()), "it leaves")
        assert lan.known_mac(source) in ("", MACS[source])
    finally:
        addresses.release("sbc")
        addresses.close()


def test_what_an_older_configuration_left_is_removed_and_nothing_else(
    lan: Lan, nodes: dict[str, Node]
) -> None:
    parent = nodes["lon1"].kit.interfaces["eth0"][0]
    old = f"sp99v4-{parent}"
    strange = f"sp98v4-{parent}"
    for name, mac in ((old, "00:00:5e:00:01:63"), (strange, "02:00:5e:00:01:62")):
        lan.ip("lon1", "link", "add", name, "link", "eth0", "address", mac, "type", "macvlan")
    former = replace(VIRTUAL, addresses=(replace(GROUP.addresses[0], address="10.1.0.99"),))
    plain = lan.forge("lon1", replace(former, virtual_mac=False))
    before = lan.unprepared("lon1", plain)
    before.take("sbc", 30)
    before.close()
    lan.ip("lon1", "addr", "add", "10.1.0.98/32", "dev", "eth0")
    try:
        with inside(lan.fabric.namespace("lon1")):
            said = nodes["lon1"].addresses.prepare()
        assert said == [
            "10.1.0.99 on eth0 is of no group any more: removed",
            f"macvlan {old} is of no group any more: removed",
        ]
        assert strange in lan.macvlans("lon1")
        assert old not in lan.macvlans("lon1")
        shown = lan.ip("lon1", "addr", "show", "dev", "eth0")
        assert "10.1.0.98/32" in shown
        assert "10.1.0.99" not in shown
    finally:
        lan.ip("lon1", "link", "del", strange)
        lan.ip("lon1", "addr", "del", "10.1.0.98/32", "dev", "eth0")
