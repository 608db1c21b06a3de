# SPDX-License-Identifier: GPL-2.0-or-later
"""What a kit is forged from, as the kernel tells it; and that a kit which fits is kept."""

from __future__ import annotations

import itertools
import os
import struct
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pyroute2 import IPRoute

from agent.core.kit import KitGroup, Link, dump, load, virtual_mac
from agent.core.kit_plan import MACVLAN_INDEX
from agent.core.settings import Settings
from agent.places import KIT
from agent.wiring import forge_kit
from drivers import rtnetlink as net
from drivers.addresses import Addresses
from drivers.forge import forge
from drivers.links import fingerprint, links_in, read_links, settled
from drivers.rtnetlink import TAG
from tests.drivers.street import FLOATING, GROUP, LINKS, settings
from tests.lab.netns import batch, command, inside, sweep

TREE = Path(__file__).resolve().parents[2]
VIRTUAL = replace(GROUP, virtual_mac=True)
MACVLAN = Link("sp51v4-2", MACVLAN_INDEX | 2 << 9 | 51 << 1, virtual_mac(4, 51))
CONFIG = """
[cluster]
name = "callcentre"
key_file = "{key}"
[site.london]
[node.lon1]
site = "london"
paths = ["10.1.0.11"]
[node.lon2]
site = "london"
paths = ["10.1.0.12"]
[group.sbc]
nodes = ["lon1", "lon2"]
[[group.sbc.address]]
address = "10.1.0.100/16"
interface = "eth0"
vrid = 51
"""
_numbers = itertools.count(1)


class Host:
    """eth0 (10.1.0.11/16, fd00:1::11/64), its other end eth1, lo; nothing comes by itself later."""

    def __init__(self, prefix: str) -> None:
        self.name = f"{prefix}lon1"
        batch([f"netns add {self.name}"])
        batch(
            [
                "link add eth0 type veth peer name eth1",
                "link set eth0 address 02:00:00:00:01:11 addrgenmode none",
                "link set eth1 address 02:00:00:00:01:12 addrgenmode none",
                "addr add 10.1.0.11/16 dev eth0",
                "addr add fd00:1::11/64 dev eth0 nodad",
                "addr add fe80::11/64 dev eth0 nodad",
                "link set lo up",
                "link set eth0 up",
                "link set eth1 up",
            ],
            self.name,
        )

    def ip(self, words: str) -> None:
        command("ip", "-n", self.name, *words.split())

    def inside(self) -> AbstractContextManager[None]:
        return inside(self.name)


@pytest.fixture
def host() -> Iterator[Host]:
    if os.geteuid():
        pytest.skip("network namespaces need root; run: sudo make test")
    prefix = f"spl{os.getpid()}-f{next(_numbers)}-"
    try:
        yield Host(prefix)
    finally:
        sweep(prefix)


def take(host: Host, whole: Settings) -> None:
    """Its keeper prepares the group, and has its addresses for a minute."""
    with host.inside():
        addresses = Addresses(forge(whole, read_links()))
    try:
        with host.inside():
            assert addresses.prepare() == []
        assert addresses.take("sbc", 60) == (True, "")
    finally:
        addresses.close()


def as_pyroute2_reads() -> dict[str, tuple[int, str, tuple[tuple[str, int], ...]]]:
    """Number, MAC and addresses of each interface, those with our tag left out."""
    with IPRoute() as route:
        found = [
            (it["index"], it.get_attr("IFA_LOCAL") or it.get_attr("IFA_ADDRESS"), it["prefixlen"])
            for it in route.get_addr()
            if it.get_attr("IFA_PROTO") != TAG
        ]
        return {
            it.get_attr("IFLA_IFNAME"): (
                it["index"],
                it.get_attr("IFLA_ADDRESS") or "",
                tuple((address, bits) for index, address, bits in found if index == it["index"]),
            )
            for it in route.get_links()
        }


def test_links_are_read_as_pyroute2_reads_them(host: Host) -> None:
    batch(
        [
            "addr add 10.1.0.99/16 dev eth0",
            "addr add 192.0.2.1 peer 192.0.2.2/32 dev eth0",
            "addr add fd00:9::1 peer fd00:9::2/128 dev eth1 nodad",
            "link add link eth0 name sp51v4-2 type macvlan mode bridge",
        ],
        host.name,
    )
    take(host, settings())
    with host.inside():
        Path("/proc/sys/net/ipv6/conf/eth1/forwarding").write_text("1")
        links, wanted = read_links(), as_pyroute2_reads()
    found = {it.name: (it.index, it.mac, it.addresses) for it in links.values()}
    assert list(found.items()) == list(wanted.items()), "which is the first one may matter, too"
    assert found.keys() == links.keys() == {"lo", "eth0", "eth1", "sp51v4-2"}
    assert {address for address, _ in links["eth0"].addresses} == {
        "10.1.0.11", "10.1.0.99", "192.0.2.1", "fd00:1::11", "fe80::11"
    }  # fmt: skip
    assert links["eth1"].addresses == (("fd00:9::1", 128),)
    assert [it.name for it in links.values() if it.forwarding] == ["eth1"]


def test_addresses_that_are_not_of_ip_are_passed_over() -> None:
    mctp, loopback = 45, struct.pack("=HH4s", 8, net.IFLA_IFNAME, b"lo")
    address = struct.pack("=HH4s", 8, net.IFA_LOCAL, bytes((127, 0, 0, 1)))
    bodies = [
        (net.RTM_NEWLINK, net.LINK.pack(0, 772, 1, 0, 0) + loopback),
        (net.RTM_NEWADDR, net.ADDRESS.pack(mctp, 0, 0, 0, 1) + address),
        (net.RTM_NEWADDR, net.ADDRESS.pack(2, 8, 0, 0, 1) + address),
    ]
    told = [net.Message(kind, net.NLM_F_MULTI, 0, 0, body) for kind, body in bodies]
    assert links_in(told)["lo"].addresses == (("127.0.0.1", 8),)


class Disturbed:
    """A kernel whose dumps say that something changed meanwhile, so many times."""

    def __init__(self, times: int) -> None:
        self.asked = 0
        self._times = times
        self._waiting: deque[bytes] = deque()

    def send(self, question: bytes) -> None:
        self.asked += 1
        flags = net.NLM_F_MULTI | (net.NLM_F_DUMP_INTR if self.asked <= self._times else 0)
        kinds = ((net.RTM_NEWLINK, flags), (net.NLMSG_DONE, net.NLM_F_MULTI))
        for kind, told in kinds:
            self._waiting.append(net.HEADER.pack(net.HEADER.size, kind, told, 0, 0))

    def recv(self, most: int, flags: int = 0) -> bytes:
        if not self._waiting:
            raise BlockingIOError
        return self._waiting.popleft()


@pytest.mark.parametrize(("times", "asked"), [(0, 2), (1, 4), (4, 6), (99, 10)])
def test_what_changed_while_it_was_read_is_read_again_but_not_for_ever(
    times: int, asked: int
) -> None:
    kernel: Any = Disturbed(times)
    assert len(settled(kernel)) == 2
    assert kernel.asked == asked


def mark(whole: Settings | None = None, **links: Link) -> str:
    return fingerprint(whole or settings(), LINKS | links)


@pytest.mark.parametrize(
    "changed",
    [
        lambda: mark(replace(settings(), digest="d2")),
        lambda: mark(settings("lon2")),
        lambda: mark(eth2=Link("eth2", 4, "02:00:00:00:02:11")),
        lambda: mark(eth0=replace(LINKS["eth0"], index=9)),
        lambda: mark(eth0=replace(LINKS["eth0"], mac="02:00:00:00:02:11")),
        lambda: mark(eth0=replace(LINKS["eth0"], forwarding=True)),
        lambda: mark(eth0=replace(LINKS["eth0"], addresses=LINKS["eth0"].addresses[1:])),
        lambda: mark(eth0=replace(LINKS["eth0"], addresses=LINKS["eth0"].addresses[::-1])),
        lambda: mark(macvlan=replace(MACVLAN, index=2 << 9 | 51 << 1)),
        lambda: mark(macvlan=replace(MACVLAN, index=MACVLAN.index + 2)),
        lambda: mark(macvlan=replace(MACVLAN, mac="02:00:00:00:02:11")),
        lambda: mark(macvlan=replace(MACVLAN, name="sp51v4-3")),
    ],
    ids=[
        "configuration",
        "node",
        "another link",
        "number",
        "MAC",
        "forwarding",
        "addresses",
        "their order: the first one is spoken from",
        "a macvlan with a number of the kernel's choice",
        "a macvlan with the number of another one",
        "a macvlan with another MAC",
        "a macvlan over another link",
    ],
)
def test_whatever_the_kit_is_made_from_makes_a_difference(changed: Callable[[], str]) -> None:
    assert changed() != mark()
    assert changed() == changed()


def test_what_the_keeper_adds_makes_no_difference() -> None:
    assert mark(macvlan=MACVLAN) == mark()
    assert (
        mark(six=Link("sp7v6-3", MACVLAN_INDEX | 3 << 9 | 7 << 1 | 1, virtual_mac(6, 7))) == mark()
    )
    own = LINKS["eth0"].addresses
    held = replace(LINKS["eth0"], addresses=((FLOATING.address, 32), *own))
    assert mark(eth0=held) == mark(), "kernels before 5.18 know no tag"
    assert fingerprint(settings(), dict(reversed(LINKS.items()))) == mark()


def test_another_version_of_standpipe_makes_a_difference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = mark()
    monkeypatch.syspath_prepend(str(tmp_path / "nowhere"))
    assert mark() == before
    (tmp_path / "standpipe-99.1.dist-info").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    assert mark() != before


def identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_ino, found.st_mtime_ns


def again(host: Host, whole: Settings, run_dir: Path) -> bool:
    """Whether it is forged again."""
    path = run_dir / KIT
    before = identity(path)
    with host.inside():
        forge_kit(whole, run_dir)
        links = read_links()
    assert load(path.read_bytes()).made_from == fingerprint(whole, links)
    return identity(path) != before


@pytest.fixture
def kept(host: Host, tmp_path: Path) -> Path:
    """A folder with the kit of that host."""
    with host.inside():
        forge_kit(settings(), tmp_path)
    return tmp_path


def test_a_kit_that_fits_is_kept(host: Host, kept: Path) -> None:
    assert not again(host, settings(), kept)
    take(host, settings())
    assert not again(host, settings(), kept), "it holds the addresses itself"


@pytest.mark.parametrize(
    "words",
    [
        "addr add 10.1.0.99/16 dev eth0",
        "addr del 10.1.0.11/16 dev eth0",
        "link set eth0 address 02:00:00:00:02:11",
        "link set eth1 name eth7",
        "link del eth0",
    ],
)
def test_where_a_link_changed_it_is_forged_again(host: Host, kept: Path, words: str) -> None:
    host.ip(words)
    assert again(host, settings(), kept)
    assert not again(host, settings(), kept)


def test_for_another_configuration_or_node_it_is_forged_again(host: Host, kept: Path) -> None:
    changed = replace(settings("lon1", replace(GROUP, advert_ms=100)), digest="d2")
    assert again(host, changed, kept)
    assert load((kept / KIT).read_bytes()).keeping.groups["sbc"].advert_ms == 100
    assert again(host, replace(changed, node="lon2"), kept)
    assert load((kept / KIT).read_bytes()).own.name == "lon2"


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:-20],
        lambda data: bytes(len(data)),
        lambda data: data.replace(b'"kit": ', b'"kit": 1'),
        lambda data: data.replace(b'"made_from"', b'"made_of"'),
        lambda data: data.replace(b'"mouth"', b'"nose"'),
    ],
    ids=["empty", "cut", "zeros", "another version", "unmarked", "a part missing"],
)
def test_a_damaged_kit_is_forged_again(
    host: Host, kept: Path, damage: Callable[[bytes], bytes]
) -> None:
    path = kept / KIT
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    assert again(host, settings(), kept)
    assert path.read_bytes() == whole


def test_macvlans_that_were_made_meanwhile_leave_the_kit_as_it_is(
    host: Host, tmp_path: Path
) -> None:
    whole = settings("lon1", VIRTUAL)
    with host.inside():
        forge_kit(whole, tmp_path)
        before = read_links().keys()
    take(host, whole)
    with host.inside():
        macvlans = read_links().keys() - before
    assert len(macvlans) == 2
    assert not again(host, whole, tmp_path)
    name = next(iter(macvlans))
    host.ip(f"link set {name} down")
    host.ip(f"link set {name} address 02:00:00:00:02:11")
    assert again(host, whole, tmp_path), "no macvlan of ours any more"


def test_a_kit_that_is_kept_is_as_if_it_were_forged_now(host: Host, kept: Path) -> None:
    kit = load((kept / KIT).read_bytes())
    with host.inside():
        assert kit == load(dump(forge(settings(), read_links())))
    assert isinstance(kit.groups["sbc"], KitGroup)
    assert kit.groups["sbc"].missing == ()


def prepared(host: Host, folder: Path) -> str:
    """Everything that `agent.prepare` imports in a fresh interpreter on that host."""
    places = ["--run-dir", str(folder), "--state-dir", str(folder)]
    argv = [sys.executable, "-X", "importtime", "-m", "agent.prepare", *places, "--node", "lon1"]
    with host.inside():
        done = subprocess.run(
            [*argv, "--config", str(folder / "c.toml")],
            cwd=TREE,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stderr


def test_without_need_the_forge_and_its_libraries_are_not_even_imported(
    host: Host, tmp_path: Path
) -> None:
    key = tmp_path / "cluster.key"
    key.write_text("ab" * 32)
    key.chmod(0o600)
    config = tmp_path / "c.toml"
    config.write_text(CONFIG.format(key=key))
    libraries = ("scapy.", "pyroute2.", "drivers.forge")
    imported = prepared(host, tmp_path)
    assert [name for name in libraries if name not in imported] == []
    before = identity(tmp_path / KIT)
    imported = prepared(host, tmp_path)
    assert "drivers.links" in imported
    assert [name for name in libraries if name in imported] == []
    assert identity(tmp_path / KIT) == before
    config.write_text(CONFIG.format(key=key) + "# even this: its mark is of its bytes\n")
    assert "drivers.forge" in prepared(host, tmp_path)
    assert identity(tmp_path / KIT) != before
