# SPDX-License-Identifier: GPL-2.0-or-later
"""The measuring processes: each watches one thing and keeps notes in memory until asked.

Started by measure.py as `python -m tests.lab.watchers KIND OPTIONS`, OPTIONS in JSON. They write
one JSON value a line: first "ready", then an answer for each line read, "latest" or "record"; they
end with their input. None lives in a node's namespace: no power cut reaches them.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import select
import socket
import struct
import sys
from collections.abc import Callable
from typing import Any

import dns.exception
import dns.message
import dns.query
import dns.rcode

from tests.lab.netns import enter, inside, now_ms

SO_ATTACH_FILTER, SO_RCVBUFFORCE = 26, 33  # asm-generic/socket.h
Notes = Any  # what json takes


class Prober:
    """{sent: [ms], by: [index into names, or -1], names}, a datagram each interval; [ms, name]."""

    def __init__(self, namespace: str, address: str, port: int, interval_ms: float, late_ms: float):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with inside(namespace):
            self.sock = socket.socket(family, socket.SOCK_DGRAM)
        self.sock.setblocking(False)
        self.target = (socket.inet_ntop(family, socket.inet_pton(family, address)), port)
        self.interval_ms, self.late_ms = interval_ms, late_ms
        self.sent: list[float] = []
        self.by: list[int] = []
        self.names: list[str] = []
        self.latest_answer: Notes = None
        self.due_ms = now_ms()

    def inputs(self) -> dict[int, Callable[[float], None]]:
        return {self.sock.fileno(): self.hear}

    def wait_ms(self) -> float:
        return max(0.0, self.due_ms - now_ms())

    def tick(self) -> None:
        at_ms = now_ms()
        if at_ms < self.due_ms:
            return
        self.due_ms = max(
            self.due_ms + self.interval_ms, at_ms
        )  # no burst to catch up after a stall
        self.sent.append(round(at_ms, 3))
        self.by.append(-1)
        with contextlib.suppress(OSError):  # no route and no neighbour are outages like any other
            self.sock.sendto(struct.pack("!I", len(self.sent) - 1), self.target)

    def hear(self, at_ms: float) -> None:
        with contextlib.suppress(OSError):
            while True:
                answer, source = self.sock.recvfrom(256)
                if source[0] != self.target[0]:
                    continue
                name, number = answer[:-5].decode(), struct.unpack("!I", answer[-4:])[0]
                if name not in self.names:
                    self.names.append(name)
                if at_ms - self.sent[number] <= self.late_ms:
                    self.by[number] = self.names.index(name)
                    self.latest_answer = [at_ms, name]

    def latest(self) -> Notes:
        return self.latest_answer

    def record(self) -> Notes:
        """Probes that may still be answered in time are left out."""
        decided = len(self.sent)
        while (
            decided
            and self.by[decided - 1] < 0
            and now_ms() - self.sent[decided - 1] < self.late_ms
        ):
            decided -= 1
        return {"sent": self.sent[:decided], "by": self.by[:decided], "names": self.names}


RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22  # rtnetlink(7)
IFA_ADDRESS, IFA_LOCAL = 1, 2
RTMGRP_ADDRESSES = 0x10 | 0x100  # RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR
NLM_F_REQUEST_DUMP = 0x1 | 0x300


class Addresses:
    """[[ms, node, address, 1 gained or 0 lost]]; what is held at the start was gained then."""

    def __init__(self, namespaces: dict[str, str]):
        """`namespaces` maps a node to the name of its namespace."""
        self.edges: list[Notes] = []
        self.held: dict[tuple[str, str], set[int]] = {}
        self.sockets: dict[str, socket.socket] = {}
        for node, namespace in namespaces.items():
            with inside(namespace):
                sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
            sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 24)
            sock.bind((0, RTMGRP_ADDRESSES))
            sock.send(struct.pack("IHHIIB3x", 20, RTM_GETADDR, NLM_F_REQUEST_DUMP, 1, 0, 0))
            self.sockets[node] = sock

    def inputs(self) -> dict[int, Callable[[float], None]]:
        return {sock.fileno(): self._reader(node, sock) for node, sock in self.sockets.items()}

    def _reader(self, node: str, sock: socket.socket) -> Callable[[float], None]:
        return lambda at_ms: self.hear(at_ms, node, sock.recv(1 << 17))

    def wait_ms(self) -> float:
        return 1000.0

    def tick(self) -> None:
        """It has nothing to do by the clock."""

    def hear(self, at_ms: float, node: str, messages: bytes) -> None:
        offset = 0
        while offset + 16 <= len(messages):
            length, kind = struct.unpack_from("IH", messages, offset)
            if kind in (RTM_NEWADDR, RTM_DELADDR):
                self._note(at_ms, node, kind, messages[offset + 16 : offset + length])
            offset += max(16, length + 3 & ~3)

    def _note(self, at_ms: float, node: str, kind: int, message: bytes) -> None:
        (index,) = struct.unpack_from("I", message, 4)  # ifa_index
        attributes: dict[int, bytes] = {}
        offset = 8
        while offset + 4 <= len(message):
            size, what = struct.unpack_from("HH", message, offset)
            attributes[what] = message[offset + 4 : offset + size]
            offset += max(4, size + 3 & ~3)
        packed = attributes.get(IFA_LOCAL) or attributes[IFA_ADDRESS]
        address = socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed)
        where = self.held.setdefault((node, address), set())
        before = bool(where)
        if kind == RTM_NEWADDR:
            where.add(index)
        else:
            where.discard(index)
        if before != bool(where):  # a renewed lifetime is announced as well, and is no edge
            self.edges.append([at_ms, node, address, int(not before)])

    def latest(self) -> Notes:
        return [[node, address] for (node, address), where in self.held.items() if where]

    def record(self) -> Notes:
        return self.edges


# classic BPF: ARP; IPv4 and IPv6 with protocol 112 (VRRP); ICMPv6 neighbour advertisements (136)
_LOAD_HALF, _LOAD_BYTE, _IF_EQUAL, _RETURN = 0x28, 0x30, 0x15, 0x06
_WIRE_FILTER = [
    (_LOAD_HALF, 0, 0, 12),
    (_IF_EQUAL, 8, 0, 0x0806),
    (_IF_EQUAL, 0, 2, 0x0800),
    (_LOAD_BYTE, 0, 0, 23),
    (_IF_EQUAL, 5, 6, 112),
    (_IF_EQUAL, 0, 5, 0x86DD),
    (_LOAD_BYTE, 0, 0, 20),
    (_IF_EQUAL, 2, 0, 112),
    (_LOAD_BYTE, 0, 0, 54),
    (_IF_EQUAL, 0, 1, 136),
    (_RETURN, 0, 0, 256),
    (_RETURN, 0, 0, 0),
]


class Wire:
    """{announcements: [[ms, node, interface, address, MAC]],
    adverts: [[ms, node, interface, vrid, priority, MAC]]}.

    Frames are seen as they enter the switch, also where a muted port then drops them.
    """

    def __init__(self, namespace: str, ports: dict[str, tuple[str, str]]):
        """`namespace` is the switch's; `ports` maps a port to its node and the interface there."""
        self.ports = ports
        self.announcements: list[Notes] = []
        self.adverts: list[Notes] = []
        with inside(namespace):
            self.sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        code = ctypes.create_string_buffer(
            b"".join(struct.pack("HBBI", *line) for line in _WIRE_FILTER)
        )
        program = struct.pack("HL", len(_WIRE_FILTER), ctypes.addressof(code))
        self.sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)
        self.sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 24)

    def inputs(self) -> dict[int, Callable[[float], None]]:
        return {self.sock.fileno(): self.hear}

    def wait_ms(self) -> float:
        return 1000.0

    def tick(self) -> None:
        """It has nothing to do by the clock."""

    def hear(self, at_ms: float) -> None:
        frame, (port, _, direction, *_) = self.sock.recvfrom(256)
        if port not in self.ports or direction == socket.PACKET_OUTGOING:
            return
        seen = [at_ms, *self.ports[port]]
        mac = frame[6:12].hex(":")
        protocol = frame[12:14]
        if protocol == b"\x08\x06":
            sender, target = frame[28:32], frame[38:42]
            if (
                sender == target
            ):  # a reply or a request about oneself announces (RFC 5227 section 3)
                self.announcements.append([*seen, socket.inet_ntoa(sender), mac])
        elif protocol == b"\x08\x00":
            advert = frame[14 + (frame[14] & 15) * 4 :]
            self.adverts.append([*seen, advert[1], advert[2], mac])
        elif frame[20] == 112:
            self.adverts.append([*seen, frame[55], frame[56], mac])
        elif frame[20] == 58:
            self.announcements.append([*seen, socket.inet_ntop(socket.AF_INET6, frame[62:78]), mac])

    def latest(self) -> Notes:
        return {"announcements": self.announcements[-1:], "adverts": self.adverts[-1:]}

    def record(self) -> Notes:
        return {"announcements": self.announcements, "adverts": self.adverts}


class Name:
    """[[ms, answer]] at each change: sorted rdata texts, or one text in capitals for an error."""

    def __init__(self, namespace: str, resolver: str, name: str, kind: str, interval_ms: float):
        enter(namespace)
        self.resolver, self.name, self.kind, self.interval_ms = resolver, name, kind, interval_ms
        self.changes: list[Notes] = []
        self.due_ms = now_ms()

    def inputs(self) -> dict[int, Callable[[float], None]]:
        return {}

    def wait_ms(self) -> float:
        return max(0.0, self.due_ms - now_ms())

    def tick(self) -> None:
        if now_ms() < self.due_ms:
            return
        self.due_ms = max(self.due_ms + self.interval_ms, now_ms())
        answer = self.ask()
        if not self.changes or self.changes[-1][1] != answer:
            self.changes.append([round(now_ms(), 3), answer])

    def ask(self) -> list[str]:
        question = dns.message.make_query(self.name, self.kind)
        try:
            reply = dns.query.udp(question, self.resolver, timeout=1.0)
        except dns.exception.Timeout:
            return ["TIMEOUT"]
        except OSError as error:
            return [errno.errorcode.get(error.errno or 0, "EIO")]
        if reply.rcode() != dns.rcode.NOERROR:
            return [dns.rcode.to_text(reply.rcode())]
        return sorted(rdata.to_text() for rrset in reply.answer for rdata in rrset)

    def latest(self) -> Notes:
        return self.changes[-1] if self.changes else None

    def record(self) -> Notes:
        return self.changes


KINDS: dict[str, Callable[..., Prober | Addresses | Wire | Name]] = {
    "prober": Prober,
    "addresses": Addresses,
    "wire": Wire,
    "name": Name,
}


def say(value: Notes) -> None:
    sys.stdout.write(json.dumps(value, separators=(",", ":")) + "\n")
    sys.stdout.flush()


def main() -> None:
    kind, options = sys.argv[1:]
    with contextlib.suppress(PermissionError):  # a busy machine must not blur the times
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    watcher = KINDS[kind](**json.loads(options))
    inputs = watcher.inputs()
    say("ready")
    while True:
        watcher.tick()
        ready, _, _ = select.select([0, *inputs], [], [], watcher.wait_ms() / 1000)
        at_ms = round(now_ms(), 3)  # one moment for all that came together: it has no known order
        for descriptor in ready:
            if descriptor != 0:
                inputs[descriptor](at_ms)
        if 0 in ready:
            orders = os.read(0, 4096)
            if not orders:
                return
            for order in orders.split():
                say(watcher.record() if order == b"record" else watcher.latest())


if __name__ == "__main__":
    main()
