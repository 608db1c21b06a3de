# SPDX-License-Identifier: GPL-2.0-or-later
"""Signed UDP between the nodes: one socket for each of our own paths, keeper and agent alike."""

import contextlib
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent.clock import now_ms
from agent.core import peer_session, peer_wire
from agent.core.keeping import PacketRefused, PeerHeard
from agent.core.kit import KitPeer
from agent.ports import Refused

SHORTEST_KEY_BYTES = 16
IP_FREEBIND = 15  # ip(7): an address that is not there yet does not stop us
IPV6_FREEBIND = 78
CONTROL_CLASS = 0xC0  # DSCP CS6: network control (RFC 4594 3.1)
CONTROL_PRIORITY = 6  # TC_PRIO_CONTROL
RECEIVES_AT_ONCE = 1024
HELLO_EVERY_MS = 50
MOST_GREETED = 256

Speaker = tuple[str, str]  # node, role


def read_key(path: Path) -> bytes:
    """The cluster key: hexadecimal digits, the same on every node. Refused where it is unfit."""
    advice = "make it with `standpipe init` and copy it to every node"
    try:
        key = bytes.fromhex(path.read_text().strip())
    except OSError as error:
        raise Refused(f"cluster key {path}: {error.strerror}; {advice}") from error
    except ValueError as error:
        raise Refused(f"cluster key {path}: not hexadecimal digits; {advice}") from error
    if len(key) < SHORTEST_KEY_BYTES:
        raise Refused(f"cluster key {path}: only {len(key)} bytes; {advice}")
    return key


class Peerlink:
    """Speaks for one role of this node with the other nodes' keepers and agents. Never blocks.

    boot: random, not 0. counters: "peer-unsent", one for each packet that the kernel would not
    take; "peer-too-long", one for each body that does not fit a packet.
    Refused where a port is taken.
    """

    def __init__(
        self,
        own: KitPeer,
        peers: dict[str, KitPeer],
        key: bytes,
        boot: int,
        role: str,
        clock: Callable[[], int] = now_ms,
    ) -> None:
        self._own = own
        self._peers = peers
        self._key = key
        self._boot = boot
        self._role = role
        self._clock = clock
        self._counter = 0
        self._sessions: dict[Speaker, peer_session.Session] = {}
        self._claimed: dict[Speaker, int] = {}  # the boot last heard well signed, fresh or not
        self._greeted: dict[tuple[Speaker, int], int] = {}
        self.counters = {"peer-unsent": 0, "peer-too-long": 0}
        self._sockets = [_open(path, _port(own, role)) for path in own.paths]

    def filenos(self) -> list[int]:
        """Any of them is readable when there is something to receive."""
        return [path.fileno() for path in self._sockets]

    def send(self, node: str, kind: str, body: dict[str, Any], agent_too: bool = False) -> int:
        """On every path to a node ("": to all), its keeper and perhaps its agent; how many left."""
        roles = ("keeper", "agent") if agent_too else ("keeper",)
        sent = 0
        for name in (node,) if node else tuple(self._peers):
            for role in roles:
                sent += self._tell((name, role), kind, body, self._known((name, role)))
        return sent

    def receive(self) -> list[PeerHeard | PacketRefused]:
        """All that waits, from every path; greetings are answered and kept here."""
        heard: list[PeerHeard | PacketRefused] = []
        for path, ear in enumerate(self._sockets):
            for _ in range(RECEIVES_AT_ONCE):
                try:
                    data, source = ear.recvfrom(peer_wire.LONGEST_BYTES + 1)
                except BlockingIOError:
                    break
                except OSError:  # an error of something sent before, told once
                    continue
                found = self._judge(data, source[0], path)
                if found is not None:
                    heard.append(found)
        return heard

    def close(self) -> None:
        for path in self._sockets:
            path.close()

    def _judge(self, data: bytes, source: str, path: int) -> PeerHeard | PacketRefused | None:
        packet = peer_wire.unseal(self._key, data, source)
        if isinstance(packet, PacketRefused):
            return packet
        if packet.name == self._own.name:
            return PacketRefused("peer-replayed", source, "a packet of our own came back")
        if packet.name not in self._peers:
            return PacketRefused(
                "peer-malformed",
                source,
                f"signed well by {packet.name}, which is not in the configuration here;"
                " do all nodes have the same file?",
            )
        speaker = packet.name, packet.role
        session = self._sessions.setdefault(speaker, peer_session.Session())
        before = session.boot
        verdict = session.judge(packet.boot, packet.counter, packet.echo, self._boot)
        if verdict == peer_session.REPLAYED:
            return PacketRefused(
                "peer-replayed", source, f"{packet.name}: {packet.kind} number {packet.counter}"
            )
        self._claimed[speaker] = packet.boot
        self._greet(speaker, packet.boot, adopted=session.boot != before, verdict=verdict)
        if packet.kind == "hello":
            return None
        return PeerHeard(
            packet.name,
            packet.role,
            path,
            packet.kind,
            packet.boot,
            packet.counter,
            verdict == peer_session.FRESH,
            packet.body,
        )

    def _greet(self, speaker: Speaker, boot: int, adopted: bool, verdict: str) -> None:
        """Tell who does not know our boot, or whom we have just come to know, that we know it."""
        if verdict == peer_session.FRESH and not adopted:
            return
        now = self._clock()
        if (
            not adopted
            and now - self._greeted.get((speaker, boot), -HELLO_EVERY_MS) < HELLO_EVERY_MS
        ):
            return
        self._greeted[speaker, boot] = now
        while len(self._greeted) > MOST_GREETED:
            del self._greeted[next(iter(self._greeted))]
        self._tell(speaker, "hello", {}, boot)

    def _known(self, speaker: Speaker) -> int:
        session = self._sessions.get(speaker)
        return (session.boot if session else 0) or self._claimed.get(speaker, 0)

    def _tell(self, speaker: Speaker, kind: str, body: dict[str, Any], echo: int) -> int:
        peer = self._peers[speaker[0]]
        port = _port(peer, speaker[1])
        sent = 0
        for mouth, mine, theirs in zip(self._sockets, self._own.paths, peer.paths, strict=False):
            if (":" in mine) != (":" in theirs):
                continue
            self._counter += 1
            packet = peer_wire.Sealed(
                self._role, kind, self._boot, self._counter, echo, self._own.name, body
            )
            try:
                mouth.sendto(peer_wire.seal(self._key, packet), (theirs, port))
            except OSError:  # no route, no such address of ours: other paths remain
                self.counters["peer-unsent"] += 1
            except ValueError:
                self.counters["peer-too-long"] += 1
            else:
                sent += 1
        return sent


def _port(peer: KitPeer, role: str) -> int:
    return peer.port if role == "keeper" else peer.port + 1


def _open(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    path = socket.socket(family, socket.SOCK_DGRAM)
    path.setblocking(False)
    if family == socket.AF_INET6:
        path.setsockopt(socket.IPPROTO_IPV6, IPV6_FREEBIND, 1)
        path.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, CONTROL_CLASS)
    else:
        path.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)
        path.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, CONTROL_CLASS)
    with contextlib.suppress(PermissionError):
        path.setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY, CONTROL_PRIORITY)
    try:
        path.bind((address, port))
    except OSError as error:
        path.close()
        raise Refused(
            f"peer link {address} port {port}: {error.strerror}; is another keeper or agent of"
            " this node running?"
        ) from error
    return path
