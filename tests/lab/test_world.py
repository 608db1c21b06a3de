# SPDX-License-Identifier: GPL-2.0-or-later
"""The laboratory itself: it breaks what it says, measures what happened, leaves nothing."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab import netns
from tests.lab.measure import AddressWatch, Prober, WireWatch
from tests.lab.netns import inside, now_ms, wait_until
from tests.lab.patient import TCP_PORT, UDP_PORT
from tests.lab.plan import one_lan
from tests.lab.world import ROOT, Node, World

VIP, VIP6 = "10.1.0.100", "fd00:1::64"


def announce(node: Node, address: str) -> None:
    """An ARP request about oneself (RFC 5227 section 3)."""
    with inside(node.namespace):
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        sock.bind(("eth0", 0x0806))
    with sock:
        mac, ip = sock.getsockname()[4], socket.inet_aton(address)
        head = b"\xff" * 6 + mac + b"\x08\x06"
        sock.send(head + bytes.fromhex("0001080006040001") + mac + ip + bytes(6) + ip)


def carrier(node: Node) -> bool:
    return node.run("cat", "/sys/class/net/eth0/carrier").stdout.strip() == "1"


def hears(node: Node, other: Node, path: int = 0) -> bool:
    """A question and its answer cross, with nothing remembered by either neighbour cache."""
    for end in (node, other):
        netns.command("ip", "-n", end.namespace, "neigh", "flush", "all")
    with inside(node.namespace), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(0.3)
        sock.sendto(b"?", (other.paths[path], UDP_PORT))
        try:
            return sock.recv(64).startswith(other.name.encode())
        except TimeoutError:
            return False


# Measuring


def test_probes_follow_an_address_that_is_moved_by_hand_and_the_gap_is_measured(lan: World) -> None:
    one, two = lan.node("lon1"), lan.node("lon2")
    for node in (one, two):
        node.tell_patient("start")
    prober, watch, wire = Prober(lan, VIP), AddressWatch(lan), WireWatch(lan)
    one.hold(f"{VIP}/24")
    wait_until(lambda: prober.served_by() == "lon1", "lon1 serves the client")
    start_ms = now_ms()
    one.release(f"{VIP}/24")
    wait_until(lambda: prober.served_by(50) is None, "the client is served by nobody")
    two.hold(f"{VIP}/24")
    announce(two, VIP)
    wait_until(lambda: prober.served_by() == "lon2", "lon2 serves the client")
    end_ms = now_ms()

    probes, owned = prober.record(), watch.record()
    assert [node for _, node in probes.served_by()] == ["lon1", "lon2"]
    [(first_ms, gone_ms)] = owned.spans("lon1", VIP)
    [(taken_ms, _)] = owned.spans("lon2", VIP)
    assert first_ms < start_ms <= gone_ms < taken_ms
    outages = probes.outages(start_ms, end_ms)
    [(lost_ms, back_ms)] = [span for span in outages if span[0] < taken_ms and span[1] > gone_ms]
    assert lost_ms >= start_ms
    assert probes.outage_ms(start_ms, end_ms) >= back_ms - lost_ms > 20
    assert probes.lost(start_ms, end_ms) > 10
    assert owned.owners_seen(VIP, start_ms, end_ms) == ["lon1", "lon2"]
    assert owned.doubled_ms(VIP) == 0
    assert owned.unowned_ms(VIP, start_ms, end_ms) == pytest.approx(taken_ms - gone_ms)
    [seen] = [entry for entry in wire.record().announcements if entry.address == VIP]
    assert (seen.node, seen.interface) == ("lon2", "eth0")
    assert start_ms < seen.at_ms < end_ms


def test_two_owners_at_once_are_seen_for_as_long_as_they_last(lan: World) -> None:
    one, two = lan.node("lon1"), lan.node("lon2")
    watch = AddressWatch(lan)
    one.hold(f"{VIP}/24")
    two.hold(f"{VIP}/24")
    wait_until(lambda: watch.owners(VIP) == {"lon1", "lon2"}, "both own it")
    one.release(f"{VIP}/24")
    wait_until(lambda: watch.owners(VIP) == {"lon2"}, "one owns it")
    owned = watch.record()
    [(_, end_ms)] = owned.spans("lon1", VIP)
    [(start_ms, _)] = owned.spans("lon2", VIP)
    assert owned.doubled_ms(VIP) == pytest.approx(end_ms - start_ms)
    assert owned.owners(VIP, at_ms=start_ms) == {"lon1", "lon2"}
    assert owned.owners(VIP) == {"lon2"}


def test_addresses_held_before_the_watch_began_are_known_to_it(lan: World) -> None:
    lan.node("lon1").hold(f"{VIP6}/64")
    watch = AddressWatch(lan)
    wait_until(lambda: watch.owners(VIP6) == {"lon1"}, "the address is known")
    assert watch.owners("10.1.0.12") == {"lon2"}


def test_an_ipv6_address_is_probed_like_any_other(lan: World) -> None:
    node = lan.node("lon1")
    node.tell_patient("start")
    node.hold(f"{VIP6}/64")
    prober = Prober(lan, VIP6)
    wait_until(lambda: prober.served_by() == "lon1", "lon1 serves the client")


# Faults


def test_a_port_that_is_down_takes_the_carrier_and_a_mute_one_does_not(lan: World) -> None:
    one, two = lan.node("lon1"), lan.node("lon2")
    two.tell_patient("start")
    port = one.ports["eth0"]
    assert hears(one, two)
    port.mute()
    assert carrier(one)
    assert not hears(one, two)
    port.heal()
    assert hears(one, two)
    port.down()
    wait_until(lambda: not carrier(one), "the carrier is gone")
    port.up()
    wait_until(lambda: carrier(one) and hears(one, two), "the carrier is back")


@pytest.mark.parametrize("fault", ["silence", "deafen"])
def test_a_one_way_cut_loses_one_direction_only(lan: World, fault: str) -> None:
    one, two = lan.node("lon1"), lan.node("lon2")
    wire = WireWatch(lan)
    port = one.ports["eth0"]
    with inside(two.namespace):
        ear = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0806))
    with inside(one.namespace):
        own_ear = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0806))
    with ear, own_ear:
        for sock in (ear, own_ear):
            sock.settimeout(0.3)
        getattr(port, fault)()
        announce(one, "10.1.0.101")
        announce(two, "10.1.0.102")
        heard = {"two": _announced(ear), "one": _announced(own_ear)}
        port.heal()
        announce(one, "10.1.0.103")
        assert "10.1.0.103" in _announced(ear)
    assert ("10.1.0.101" in heard["two"]) == (fault == "deafen")
    assert ("10.1.0.102" in heard["one"]) == (fault == "silence")
    assert {"10.1.0.102", "10.1.0.103"} <= {entry.address for entry in wire.record().announcements}


def _announced(ear: socket.socket) -> set[str]:
    """Addresses in the frames that came in, until none comes for a moment."""
    heard = set()
    try:
        while True:
            frame, where = ear.recvfrom(128)
            if where[2] != socket.PACKET_OUTGOING:
                heard.add(socket.inet_ntoa(frame[28:32]))
    except TimeoutError:
        return heard


def test_a_power_cut_takes_processes_memory_and_borrowed_addresses_and_leaves_the_disk(
    lan: World,
) -> None:
    node = lan.node("lon1")
    node.tell_patient("start")
    node.start("sleep", "1000")
    node.hold(f"{VIP}/24")
    (node.state_folder / "kept").touch()
    watch = AddressWatch(lan)
    at_ms = node.power_cut()
    assert not netns.processes_in([node.namespace])
    assert node.addresses() == {address.split("/")[0] for address in node.own}
    assert not carrier(node)
    assert not list(node.run_folder.iterdir())
    assert (node.state_folder / "kept").exists()
    wait_until(lambda: not watch.owners(VIP), "the address is gone")
    [(_, gone_ms)] = watch.record().spans("lon1", VIP)
    assert gone_ms >= at_ms
    assert "not running" in node.tell_patient("status", check=False).stdout
    node.power_on()
    wait_until(lambda: carrier(node), "the carrier is back")


def test_the_patient_dies_hangs_and_refuses_as_told(lan: World) -> None:
    node, other = lan.node("lon1"), lan.node("lon2")

    def status() -> int:
        return node.tell_patient("status", check=False).returncode

    assert status() == 3
    node.tell_patient("start")
    assert status() == 0
    with inside(lan.client.namespace):
        caller = socket.socket()
    with caller:
        caller.settimeout(5)
        caller.connect((node.address, TCP_PORT))
        assert caller.recv(64) == b"ok lon1\n"
    assert hears(other, node)
    node.tell_patient("hang")
    assert status() == 0
    assert not hears(other, node)
    node.tell_patient("wake")
    assert hears(other, node)
    node.tell_patient("die")
    assert status() == 3
    node.tell_patient("refuse")
    refused = node.tell_patient("start", check=False)
    assert refused.returncode == 1
    assert "refuses to start" in refused.stderr
    node.tell_patient("allow")
    node.tell_patient("start")
    node.tell_patient("stop")
    assert status() == 3


def test_a_hung_patient_is_stopped_all_the_same(lan: World) -> None:
    node = lan.node("lon1")
    node.tell_patient("start")
    node.tell_patient("hang")
    node.tell_patient("stop")
    assert node.tell_patient("status", check=False).returncode == 3


def test_an_isolated_site_is_out_of_reach_by_every_network_but_whole_within(sites: World) -> None:
    one, two, far = sites.node("lon1"), sites.node("lon2"), sites.node("par1")
    for node in sites.nodes:
        node.tell_patient("start")
    assert all(hears(one, far, path) for path in (0, 1))
    london = sites.site("london")
    london.isolate()
    assert hears(one, two)
    assert not any(hears(*pair, path) for pair in ((one, far), (far, one)) for path in (0, 1))
    london.rejoin()
    assert all(hears(one, far, path) for path in (0, 1))


def test_a_lost_site_is_dark_while_the_other_serves_the_client_through_the_router(
    sites: World,
) -> None:
    for node in sites.nodes:
        node.tell_patient("start")
    here, there = Prober(sites, "10.1.0.11"), Prober(sites, "10.2.0.11")
    wait_until(
        lambda: (here.served_by(), there.served_by()) == ("lon1", "par1"),
        "both sites serve the client",
    )
    at_ms = sites.site("london").power_cut()
    wait_until(lambda: here.served_by() is None, "london is dark")
    assert there.served_by() == "par1"
    assert {node for _, node in there.record().served_by(at_ms)} == {"par1"}
    assert not netns.processes_in([sites.node(name).namespace for name in ("lon1", "lon2")])
    assert netns.processes_in([sites.node("par1").namespace])


# Leaving


_BUILDER = """
import signal, time
from tests.lab.plan import one_lan
from tests.lab.world import World
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell in the background has it ignored
with World.build(one_lan()) as world:
    node = world.node("lon1")
    node.tell_patient("start")
    node.start("sleep", "1000")
    print(world.prefix, world.folder, flush=True)
    time.sleep(1000)
"""


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_however_the_laboratory_ends(end: signal.Signals) -> None:
    builder = subprocess.Popen(
        [sys.executable, "-c", _BUILDER],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert builder.stdout
    with builder.stdout:
        prefix, folder = builder.stdout.readline().split()
    node = f"{prefix}lon1"
    lived = netns.processes_in([node])
    builder.send_signal(end)
    builder.wait(20)
    assert len(lived) == 2
    if end == signal.SIGKILL:
        swept = subprocess.run(
            [sys.executable, "-m", "tests.lab.netns", "--sweep", prefix],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        assert f"deleted {node}" in swept.stdout
    else:
        assert builder.returncode in (-end, 1)
    assert not list(netns.NAMES.glob(f"{prefix}*"))
    assert not Path(folder).exists()
    wait_until(
        lambda: not [pid for pid in lived if Path(f"/proc/{pid}").exists()],
        "its processes are gone",
    )


def test_a_sweep_spares_its_neighbours() -> None:
    with World.build(one_lan()) as one, World.build(one_lan()) as two:
        netns.sweep(one.prefix)
        assert not one.namespaces()
        assert len(two.namespaces()) == 4


def test_who_is_not_root_is_told_the_line_to_run() -> None:
    attempt = "import os; from tests.lab.world import World; os.seteuid(65534); World.build()"
    refused = subprocess.run(
        [sys.executable, "-c", attempt], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert refused.returncode == 1
    assert "run: sudo make test" in refused.stderr
