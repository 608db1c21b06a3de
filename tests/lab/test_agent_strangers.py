# SPDX-License-Identifier: GPL-2.0-or-later
"""Packets that must not be believed, and neighbours that must not be disturbed."""

from __future__ import annotations

import select
import socket
import struct
from collections.abc import Callable
from functools import partial

import pytest
from scapy.layers.inet import IP
from scapy.layers.vrrp import VRRPv3

from tests.lab.cluster import VIP, Cluster, Group, pair
from tests.lab.measure import AddressWatch, WireWatch
from tests.lab.netns import inside, now_ms
from tests.lab.servers import Keepalived
from tests.lab.world import Host, World

VRRP, PEER_PORT = 112, 7411
CLIENT = "10.1.0.200"
EVERYBODY = "224.0.0.18"  # RFC 9568 section 5.1.1.2


@pytest.fixture
def cluster(lan: World) -> Cluster:
    return pair(lan)


def send(host: Host, packet: bytes, to: str, times: int = 1) -> None:
    """A whole IPv4 packet, with whatever source it says."""
    with inside(host.namespace):
        raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    with raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
        for _ in range(times):
            raw.sendto(packet, (to, 0))


def udp(payload: bytes, source: str, to: str, port: int) -> bytes:
    head = struct.pack("!HHHH", port, port, 8 + len(payload), 0)  # no checksum (RFC 768)
    return bytes(IP(src=source, dst=to, proto=17, ttl=64))[:20] + head + payload


def overheard(world: World, name: str, wanted: Callable[[bytes], bool]) -> bytes:
    """The payload of a peer packet that arrives at the node's keeper."""
    with inside(world.node(name).namespace):
        ear = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP)
    deadline_ms = now_ms() + 10_000
    with ear:
        while now_ms() < deadline_ms:
            if select.select([ear], [], [], 0.1)[0]:
                packet = ear.recv(65_535)
                head = (packet[0] & 15) * 4
                (port,) = struct.unpack_from("!H", packet, head + 2)
                if port == PEER_PORT and wanted(packet[head + 8 :]):
                    return packet[head + 8 :]
    raise AssertionError(f"no peer packet came to {name}")


def counted(cluster: Cluster, name: str, kind: str) -> int:
    counters = cluster.status(name).get("keeper", {}).get("counters", {})
    return int(counters.get(kind, 0))


def await_count(cluster: Cluster, name: str, kind: str, number: int, limit_s: float = 10) -> None:
    what = f"{name} counts {number} of {kind}"
    cluster.wait(lambda: counted(cluster, name, kind) >= number, what, limit_s)


def test_forged_and_replayed_peer_packets_are_counted_told_once_and_ignored(
    lan: World, cluster: Cluster
) -> None:
    active, standby = cluster.roles()
    ours, theirs = lan.node(active).address, lan.node(standby).address
    old = overheard(lan, active, lambda payload: payload.startswith(b"SPL1"))
    forged = old[:-1] + bytes([old[-1] ^ 1])
    owned, start_ms = AddressWatch(lan), now_ms()
    packets = {"peer-replayed": old, "peer-key": forged, "peer-malformed": b"x" * 99}
    for kind, payload in packets.items():
        before = counted(cluster, active, kind)
        send(lan.client, udp(payload, theirs, ours, PEER_PORT), ours, times=20)
        await_count(cluster, active, kind, before + 20)
        told = [alarm["subject"] for alarm in cluster.alarms(active, "packet-refused")]
        assert told.count(f"{kind} from {theirs}") == 1
    cluster.settle()
    assert cluster.roles() == (active, standby)
    assert owned.record().owners_seen(VIP, start_ms) == [active]


def advert(source: str, to: str, **fields: object) -> bytes:
    """As scapy makes it, which knows nothing of ours."""
    said = {"vrid": 51, "priority": 255, "addrlist": [VIP], "adv": 20} | fields
    return bytes(IP(src=source, dst=to, proto=VRRP, ttl=255) / VRRPv3(**said))


def test_a_foreign_router_with_our_vrid_is_told_once_and_takes_nothing(
    lan: World, cluster: Cluster
) -> None:
    active, standby = cluster.roles()
    owned, start_ms = AddressWatch(lan), now_ms()
    for name in (active, standby):
        to = lan.node(name).address
        send(lan.client, advert(CLIENT, to), to, times=10)
    for name in (active, standby):
        await_count(cluster, name, "advert-foreign", 10)
        [alarm] = cluster.alarms(name, "foreign-router")
        assert CLIENT in alarm["text"]
        assert "another vrid" in alarm["text"]
    cluster.settle()
    assert cluster.roles() == (active, standby)
    assert owned.record().owners_seen(VIP, start_ms) == [active]


def test_malformed_adverts_are_counted_told_once_and_ignored(lan: World, cluster: Cluster) -> None:
    active, standby = cluster.roles()
    owned, start_ms = AddressWatch(lan), now_ms()
    to, peer = lan.node(active).address, lan.node(standby).address
    whole, far = advert(peer, to), advert(peer, EVERYBODY)
    bad = {
        "advert-checksum": (to, whole[:26] + bytes([whole[26] ^ 1]) + whole[27:]),
        "advert-ttl": (EVERYBODY, far[:8] + b"\x40" + far[9:]),
        "advert-malformed": (to, whole[:24]),
    }
    for kind, (where, packet) in bad.items():
        send(lan.client, packet, where, times=10)
        await_count(cluster, active, kind, 10)
        told = [alarm["subject"] for alarm in cluster.alarms(active, "packet-refused")]
        assert told.count(f"{kind} from {peer}") == 1
    cluster.settle()
    assert cluster.roles() == (active, standby)
    assert owned.record().owners_seen(VIP, start_ms) == [active]


def _told(cluster: Cluster, name: str, wanted: list[str]) -> bool:
    """Counted by the keeper, told by the agent: the one may be seen before the other."""
    return sorted(a["subject"] for a in cluster.alarms(name, "packet-refused")) == wanted


def test_a_node_with_another_key_is_told_once_and_follows_the_live_owner(lan: World) -> None:
    cluster = Cluster(lan, [Group("vip", ("lon1", "lon2"), f"{VIP}/24")])
    cluster.secret("lon1", "cluster.key", "ab" * 32 + "\n")
    owned = AddressWatch(lan)
    cluster.boot("lon2")
    cluster.settle()
    start_ms = now_ms()
    cluster.boot("lon1")  # the preferred one
    for name, other in (("lon1", "lon2"), ("lon2", "lon1")):
        await_count(cluster, name, "peer-key", 6, 20)
        wanted = sorted(f"peer-key from {source}" for source in lan.node(other).paths)
        cluster.wait(partial(_told, cluster, name, wanted), f"{name} has told of {wanted}")
    seen = cluster.group("lon1", "vip")
    assert seen["state"] == "backup", cluster.report()
    assert owned.record().owners_seen(VIP, start_ms) == ["lon2"]


def test_keepalived_in_another_virtual_router_is_not_disturbed(
    lan: World, cluster: Cluster
) -> None:
    active, standby = cluster.roles()
    theirs = "10.1.0.77"
    owned, wire = AddressWatch(lan), WireWatch(lan)
    for priority, name in ((200, standby), (100, active)):
        Keepalived(lan, lan.node(name), [f"{theirs}/24"], vrid=77, priority=priority, advert_s=0.2)
    cluster.wait(lambda: owned.owners(theirs) == {standby}, "keepalived has its address")
    start_ms = now_ms()
    done = cluster.cli(active, "switchover", "vip")
    assert done.returncode == 0, done.stderr
    cluster.settle()

    def senders() -> set[str]:
        adverts = [entry for entry in wire.record().adverts if entry.at_ms > start_ms + 500]
        return {entry.node for entry in adverts if entry.vrid == 77}

    cluster.wait(senders, "keepalived advertises still")
    assert senders() == {standby}
    assert owned.record().owners_seen(theirs, start_ms) == [standby]
    for name in (active, standby):
        counters = cluster.status(name)["keeper"]["counters"]
        assert not {kind for kind in counters if kind.startswith("advert-")} - {"advert-unsent"}
