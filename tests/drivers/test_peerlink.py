# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.core.keeping import PacketRefused, PeerHeard
from agent.core.kit import KitPeer
from agent.core.peer_wire import Sealed, seal
from agent.ports import Refused
from drivers.peerlink import Peerlink, read_key
from tests.drivers.street import Street, heard, laid

KEY = b"k" * 32
PORT = 7411
PEERS = {
    "lon1": KitPeer("lon1", ("10.1.0.11", "10.9.0.11"), PORT),
    "lon2": KitPeer("lon2", ("10.1.0.12", "10.9.0.12"), PORT),
}
BOOTS = {("lon1", "keeper"): 101, ("lon2", "keeper"): 201, ("lon2", "agent"): 202}


@pytest.fixture(scope="module")
def street() -> Iterator[Street]:
    with laid() as street:
        yield street


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now_ms = 1_000_000

    def __call__(self) -> int:
        return self.now_ms


@contextmanager
def opened(
    street: Street, node: str, role: str = "keeper", boot: int = 0, key: bytes = KEY, **more: Any
) -> Iterator[Peerlink]:
    others = {name: peer for name, peer in PEERS.items() if name != node}
    with street.inside(node):
        link = Peerlink(PEERS[node], others, key, boot or BOOTS[node, role], role, **more)
    try:
        yield link
    finally:
        link.close()


def told(link: Peerlink, count: int = 1) -> list[PeerHeard | PacketRefused]:
    return heard(link.receive, link.filenos(), lambda seen: len(seen) >= count)


def believed(sender: Peerlink, receiver: Peerlink, to: str) -> list[PeerHeard]:
    """Beats on every path until they are believed; the sender hears what comes back meanwhile."""
    fresh: list[PeerHeard] = []

    def receive() -> list[PeerHeard | PacketRefused]:
        seen = receiver.receive()
        fresh.extend(it for it in seen if isinstance(it, PeerHeard) and it.fresh)
        if not fresh:
            sender.receive()
            sender.send(to, "beat", {})
        return seen

    heard(receive, [*receiver.filenos(), *sender.filenos()], lambda _: fresh)
    receiver.receive()
    return fresh


def acquainted(first: Peerlink, second: Peerlink) -> None:
    """Until each believes the other."""
    first.send("lon2", "ask", {})
    believed(first, second, "lon2")
    believed(second, first, "lon1")


@contextmanager
def recorder(street: Street, address: str, port: int = PORT) -> Iterator[socket.socket]:
    """Somebody on lon2 who takes what is sent to an address there."""
    with street.inside("lon2"):
        ear = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        ear.bind((address, port))
    with ear:
        ear.settimeout(5)
        yield ear


def inject(street: Street, data: bytes, port: int = PORT) -> None:
    with street.inside("lon2"), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mouth:
        mouth.sendto(data, ("10.1.0.11", port))


def packet(kind: str = "beat", **changed: Any) -> bytes:
    fields: dict[str, Any] = {
        "role": "keeper",
        "kind": kind,
        "boot": 201,
        "counter": 1,
        "echo": 101,
        "name": "lon2",
        "body": {},
    }
    return seal(KEY, Sealed(**(fields | changed)))


def test_a_message_comes_by_every_path_with_its_body(street: Street) -> None:
    with opened(street, "lon1") as first, opened(street, "lon2") as second:
        acquainted(first, second)
        assert first.send("lon2", "beat", {"groups": {"sbc": ["active", True, 3]}}) == 2
        found = told(second, 2)
        assert [it.path for it in found if isinstance(it, PeerHeard)] == [0, 1]
        assert {it.kind for it in found if isinstance(it, PeerHeard)} == {"beat"}
        assert found[0].body == {"groups": {"sbc": ["active", True, 3]}}  # type: ignore[union-attr]


def test_strangers_believe_each_other_after_one_greeting(street: Street) -> None:
    with opened(street, "lon1") as first, opened(street, "lon2") as second:
        first.send("", "ask", {"id": 1})
        found = told(second, 2)
        assert [(it.kind, it.fresh) for it in found if isinstance(it, PeerHeard)] == [
            ("ask", False),
            ("ask", False),
        ]
        assert believed(first, second, "lon2")
        assert believed(second, first, "lon1")


def test_a_peer_that_starts_anew_is_believed_again_and_its_past_is_not(street: Street) -> None:
    with opened(street, "lon1") as first:
        with opened(street, "lon2") as second:
            acquainted(first, second)
        with opened(street, "lon2", boot=203) as again:
            acquainted(first, again)
        inject(street, packet(counter=9999))
        (found,) = told(first)
        assert isinstance(found, PacketRefused)
        assert (found.kind, found.source) == ("peer-replayed", "10.1.0.12")


def test_a_recorded_packet_is_refused_when_it_is_sent_again(street: Street) -> None:
    with opened(street, "lon1") as first:
        inject(street, packet(counter=7))
        assert [it.fresh for it in told(first) if isinstance(it, PeerHeard)] == [True]
        inject(street, packet(counter=7))
        assert told(first) == [PacketRefused("peer-replayed", "10.1.0.12", "lon2: beat number 7")]


def test_a_recording_from_our_former_life_is_not_believed(street: Street) -> None:
    with opened(street, "lon1") as first:
        inject(street, packet("handover", echo=100))
        (found,) = told(first)
        assert isinstance(found, PeerHeard)
        assert not found.fresh


def test_another_key_is_refused(street: Street) -> None:
    with opened(street, "lon1") as first, opened(street, "lon2", key=b"o" * 32) as second:
        second.send("lon1", "beat", {})
        assert [it.kind for it in told(first, 2) if isinstance(it, PacketRefused)] == [
            "peer-key",
            "peer-key",
        ]


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", "peer-malformed"),
        (b"x" * 1400, "peer-malformed"),
        (b"SPL1" + bytes(80), "peer-key"),
        (packet(name="lon1"), "peer-replayed"),
        (packet(name="lon9"), "peer-malformed"),
    ],
    ids=["empty", "junk", "forged", "our own come back", "a stranger with the key"],
)
def test_what_must_not_be_believed_is_told_with_its_kind(
    street: Street, data: bytes, kind: str
) -> None:
    with opened(street, "lon1") as first:
        inject(street, data)
        (found,) = told(first)
        assert isinstance(found, PacketRefused)
        assert found.kind == kind


def test_an_agent_is_asked_beside_its_keeper_and_answers_it(street: Street) -> None:
    with opened(street, "lon1") as first, opened(street, "lon2", "agent") as agent:
        first.send("lon2", "ask", {"id": 1}, agent_too=True)
        assert [it.kind for it in told(agent, 2) if isinstance(it, PeerHeard)] == ["ask", "ask"]
        agent.send("lon1", "answer", {"id": 1})
        found = [it for it in told(first, 2) if isinstance(it, PeerHeard)]
        assert {(it.node, it.role, it.kind) for it in found} == {("lon2", "agent", "answer")}
        assert all(it.fresh for it in found), "an answer by a newcomer is believed at once"


def test_greetings_are_bounded_however_many_stale_packets_come(street: Street) -> None:
    clock = Clock()
    with (
        opened(street, "lon1", clock=clock) as first,
        recorder(street, "10.1.0.12") as ear,
        recorder(street, "10.9.0.12"),
    ):
        for counter in range(1, 51):
            inject(street, packet(echo=0, counter=counter))
        told(first, 50)
        clock.now_ms += 50
        inject(street, packet(echo=0, counter=51))
        told(first)
        ear.recv(2048)
        ear.recv(2048)
        ear.setblocking(False)
        with pytest.raises(BlockingIOError):
            ear.recv(2048)


def test_a_path_that_is_down_or_not_there_is_counted_and_the_other_serves(street: Street) -> None:
    street.ip("lon1", "link", "set", "eth1", "down")
    try:
        with opened(street, "lon1") as first, opened(street, "lon2") as second:
            assert first.send("lon2", "ask", {}) == 1
            assert first.counters["peer-unsent"] == 1
            assert [it.path for it in told(second) if isinstance(it, PeerHeard)] == [0]
    finally:
        street.ip("lon1", "link", "set", "eth1", "up")
    absent = KitPeer("lon1", ("10.1.0.11", "10.99.0.11"), PORT)
    with street.inside("lon1"):
        Peerlink(absent, {}, KEY, 1, "keeper").close()


def test_a_body_that_fits_no_packet_is_counted_not_raised(street: Street) -> None:
    with opened(street, "lon1") as first:
        assert first.send("lon2", "beat", {str(n): n**9 for n in range(400)}) == 0
        assert first.counters["peer-too-long"] == 2


def test_a_second_keeper_of_the_same_node_is_refused(street: Street) -> None:
    with (
        opened(street, "lon1"),
        pytest.raises(Refused, match="is another keeper or agent of this node running"),
        opened(street, "lon1"),
    ):
        pass


def test_a_key_is_hexadecimal_digits(tmp_path: Path) -> None:
    path = tmp_path / "cluster.key"
    path.write_text("6b" * 32 + "\n")
    assert read_key(path) == KEY


@pytest.mark.parametrize("text", [None, "", "secret", "6b" * 15])
def test_an_unfit_key_is_refused_with_advice(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "cluster.key"
    if text is not None:
        path.write_text(text)
    with pytest.raises(Refused, match="standpipe init"):
        read_key(path)
