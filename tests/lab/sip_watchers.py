# SPDX-License-Identifier: GPL-2.0-or-later
"""The eye on SIP: a measuring process as those of watchers.py, with their orders and answers.

It hears every SIP message at the switch ports of the two ends of the calls, and asks the floating
address OPTIONS at a steady pace.
"""

from __future__ import annotations

import contextlib
import ctypes
import socket
import struct
from collections.abc import Callable

from tests.lab import watchers
from tests.lab.netns import inside, now_ms
from tests.lab.watchers import SO_ATTACH_FILTER, SO_RCVBUFFORCE, Notes

OPTIONS_MS = 100.0
_LOAD_HALF, _LOAD_BYTE, _IF_EQUAL, _RETURN = 0x28, 0x30, 0x15, 0x06
_UDP, _IPV4 = 17, 0x0800


def _filter(port: int) -> list[tuple[int, int, int, int]]:
    """Classic BPF: IPv4 without options, UDP, from or to the port."""
    return [
        (_LOAD_HALF, 0, 0, 12),
        (_IF_EQUAL, 0, 7, _IPV4),
        (_LOAD_BYTE, 0, 0, 23),
        (_IF_EQUAL, 0, 5, _UDP),
        (_LOAD_HALF, 0, 0, 34),
        (_IF_EQUAL, 2, 0, port),
        (_LOAD_HALF, 0, 0, 36),
        (_IF_EQUAL, 0, 1, port),
        (_RETURN, 0, 0, 65_535),
        (_RETURN, 0, 0, 0),
    ]


class Sip:
    """{messages: [[ms, end, 1 sent by it or 0, MAC of the other, method or code, Call-ID, CSeq,
    branch]], asked: [ms], answered: [ms or None]}; the last two are of OPTIONS.
    """

    def __init__(
        self, switch: str, ends: dict[str, str], port: int, namespace: str, floating: str
    ) -> None:
        """switch: the namespace; ends: switch port -> name; OPTIONS are sent from `namespace`."""
        self.ends, self.target = ends, (floating, port)
        self.messages: list[Notes] = []
        self.asked: list[float] = []
        self.answered: list[float | None] = []
        code = b"".join(struct.pack("HBBI", *line) for line in _filter(port))
        buffer = ctypes.create_string_buffer(code)
        program = struct.pack("HL", len(_filter(port)), ctypes.addressof(buffer))
        with inside(switch):
            self.sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self.sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)
        self.sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 25)
        self.sock.setblocking(False)
        with inside(namespace):
            self.asker = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.asker.bind(("", 0))
        self.asker.setblocking(False)
        self.due_ms = now_ms()

    def inputs(self) -> dict[int, Callable[[float], None]]:
        return {self.sock.fileno(): self.hear, self.asker.fileno(): self.hear_answer}

    def wait_ms(self) -> float:
        return max(0.0, self.due_ms - now_ms())

    def tick(self) -> None:
        at_ms = now_ms()
        if at_ms < self.due_ms:
            return
        self.due_ms = max(self.due_ms + OPTIONS_MS, at_ms)
        self.asked.append(round(at_ms, 3))
        self.answered.append(None)
        with contextlib.suppress(OSError):  # no route and no neighbour: it is not answered
            self.asker.sendto(self.question(len(self.asked) - 1), self.target)

    def question(self, number: int) -> bytes:
        uri, mark = f"sip:{self.target[0]}:{self.target[1]}", f"options-{number}"
        return (
            f"OPTIONS {uri} SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bK{mark};rport\r\n"
            f"Max-Forwards: 70\r\nFrom: <sip:watch@lab>;tag={mark}\r\nTo: <{uri}>\r\n"
            f"Call-ID: {mark}\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
        ).encode()

    def hear_answer(self, at_ms: float) -> None:
        with contextlib.suppress(OSError):
            while True:
                first, headers = parse(self.asker.recv(65_535))
                mark = headers.get("call-id", "").removeprefix("options-")
                if first == "200" and mark.isdigit():
                    self.answered[int(mark)] = at_ms

    def hear(self, at_ms: float) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                frame, (port, _, direction, *_) = self.sock.recvfrom(65_535)
                if port in self.ends:
                    self.note(at_ms, self.ends[port], direction != socket.PACKET_OUTGOING, frame)

    def note(self, at_ms: float, end: str, sent: bool, frame: bytes) -> None:
        first, headers = parse(frame[42:])
        sequence = headers.get("cseq", "")
        if sequence and not sequence.endswith("OPTIONS"):
            other = frame[0:6] if sent else frame[6:12]
            seen = [at_ms, end, int(sent), other.hex(":"), first]
            branch = headers["via"].partition("branch=")[2].partition(";")[0]
            self.messages.append([*seen, headers["call-id"], sequence, branch])

    def latest(self) -> Notes:
        """How many calls each end has seen answered, by its name."""
        answers = [it for it in self.messages if it[4] == "200" and it[6].endswith("INVITE")]
        return {end: len({it[5] for it in answers if it[1] == end}) for end in self.ends.values()}

    def record(self) -> Notes:
        return {"messages": self.messages, "asked": self.asked, "answered": self.answered}


def parse(packet: bytes) -> tuple[str, dict[str, str]]:
    """Method or code, and the first of each header by its name in lower case."""
    head = packet.partition(b"\r\n\r\n")[0].decode("utf-8", "replace")
    first, *lines = head.split("\r\n")
    headers: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers.setdefault(name.strip().lower(), value.strip())
    words = first.split()
    if len(words) < 3:
        return "", {}
    return words[1] if words[0].startswith("SIP/") else words[0], headers


if __name__ == "__main__":
    watchers.KINDS["sip"] = Sip  # type: ignore[assignment]
    watchers.main()
