# SPDX-License-Identifier: GPL-2.0-or-later
"""A small B2BUA over UDP: two dialogs for each call, which live and die with this process.

New calls and OPTIONS come to the floating address, or to the node's own; Contact, and everything
towards the carrier, is the own one, so that calls stay here when the floating address leaves.
SIGTERM hangs up. GET on 127.0.0.1:CALLS_PORT gives {"calls": n}.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import secrets
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

T1_S, T2_S = 0.5, 4.0  # RFC 3261 section 17.1.1.1
GIVE_UP_S = 64 * T1_S  # timers B, F and H
LEG = ".b2b"  # a call's Call-ID at the carrier ends so
IP_FREEBIND = 15  # ip(7)
SPELT = {"call-id": "Call-ID", "cseq": "CSeq"}
Endpoint = tuple[str, int]


@dataclass
class Message:
    """A request or a response; `headers` in order, as (name in lower case, value)."""

    first: str
    headers: list[tuple[str, str]]
    body: str = ""

    @classmethod
    def parse(cls, packet: bytes) -> Message:
        """ValueError where that is no SIP."""
        head, _, body = packet.decode().partition("\r\n\r\n")
        first, *lines = head.split("\r\n")
        pairs = [line.partition(":") for line in lines]
        if "SIP/2.0" not in first:
            raise ValueError(f"no SIP message: {first[:40]!r}")
        return cls(first, [(name.strip().lower(), it.strip()) for name, _, it in pairs], body)

    def packet(self) -> bytes:
        kept = [(name, it) for name, it in self.headers if name != "content-length"]
        lines = [f"{SPELT.get(name, name.title())}: {it}" for name, it in kept]
        return "\r\n".join(
            [self.first, *lines, f"Content-Length: {len(self.body)}", "", self.body]
        ).encode()

    def get(self, name: str) -> str:
        return next((it for known, it in self.headers if known == name), "")

    def all(self, name: str) -> list[tuple[str, str]]:
        return [(known, it) for known, it in self.headers if known == name]

    @property
    def code(self) -> int:
        """0 of a request."""
        return int(self.first.split()[1]) if self.first.startswith("SIP/2.0") else 0

    @property
    def method(self) -> str:
        return self.get("cseq").split()[-1]

    @property
    def branch(self) -> str:
        return self.get("via").partition("branch=")[2].partition(";")[0]

    @property
    def call_id(self) -> str:
        return self.get("call-id")

    @property
    def contact(self) -> Endpoint:
        """Host and port of the Contact's URI."""
        uri = self.get("contact").partition("<")[2].partition(">")[0] or self.get("contact")
        host, _, port = uri.partition("@")[2].partition(";")[0].partition(":")
        return host, int(port or 5060)


@dataclass
class Call:
    """Both of its dialogs."""

    invite: Message
    caller: Endpoint  # where the INVITE came from, its answers go there
    door: socket.socket  # the INVITE came in by it
    tag: str = field(default_factory=lambda: secrets.token_hex(4))
    reply: bytes = b""  # the last one to the INVITE, sent again when that is repeated
    answer: Message | None = None  # the carrier's 200
    confirmed: bool = False  # the caller's ACK has come
    over: bool = False


class Server:
    """The two sockets, the calls, and every message in and out."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.own, self.carrier = endpoint(options.own), endpoint(options.carrier)
        self.floating_door = door(endpoint(options.floating))
        self.own_door = door(self.own)
        self.calls: dict[str, Call] = {}
        self.waiting: dict[str, asyncio.TimerHandle] = {}  # our unanswered requests, by branch
        self.heard = asyncio.Event()  # an answer has come
        self.handlers: dict[str, Callable[[Message, Call, socket.socket, Endpoint], None]] = {
            "ACK": self.confirmed,
            "BYE": self.hung_up,
        }

    def hear(self, sock: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                packet, source = sock.recvfrom(65_535)
                with contextlib.suppress(ValueError, IndexError):
                    message = Message.parse(packet)
                    if message.code:
                        self.answered(message)
                    else:
                        self.asked(message, sock, source)

    # ------------------------------------------------------------ requests

    def asked(self, request: Message, sock: socket.socket, source: Endpoint) -> None:
        call = self.calls.get(request.call_id.removesuffix(LEG))
        if request.method == "OPTIONS":
            self.respond(request, sock, source, 200, "OK")
        elif call is not None and request.method == "INVITE":
            self.send(sock, call.reply, source)  # repeated
        elif call is not None and request.method in self.handlers:
            self.handlers[request.method](request, call, sock, source)
        elif request.method == "INVITE" and "tag=" not in request.get("to"):
            self.invited(request, sock, source)
        elif request.method != "ACK":
            self.respond(request, sock, source, 481, "Call/Transaction Does Not Exist")

    def invited(self, request: Message, sock: socket.socket, source: Endpoint) -> None:
        call = self.calls[request.call_id] = Call(request, source, sock)
        call.reply = self.respond(request, sock, source, 100, "Trying", tag="")
        user = request.first.partition("sip:")[2].partition("@")[0]
        onward = Message(
            f"INVITE sip:{user}@{self.carrier[0]}:{self.carrier[1]} SIP/2.0",
            [
                ("from", f"<sip:b2bua@{self.own[0]}>;tag={call.tag}"),
                ("to", f"<sip:{user}@{self.carrier[0]}>"),
                ("call-id", request.call_id + LEG),
                ("cseq", "1 INVITE"),
                ("contact", self.here()),
                ("content-type", request.get("content-type")),
            ],
            request.body,
        )
        self.ask(onward, self.carrier)

    def confirmed(self, request: Message, call: Call, sock: socket.socket, _: Endpoint) -> None:
        call.confirmed = True

    def hung_up(self, request: Message, call: Call, sock: socket.socket, source: Endpoint) -> None:
        """By either side: the other one is told, once."""
        self.respond(request, sock, source, 200, "OK")
        if call.over:
            return
        if request.call_id.endswith(LEG):
            self.bye_to_caller(call)
        else:
            self.bye_to_carrier(call)
        self.end(call)

    # ------------------------------------------------------------ responses

    def answered(self, response: Message) -> None:
        timer = self.waiting.pop(response.branch, None)
        call = self.calls.get(response.call_id.removesuffix(LEG))
        if timer is not None:
            timer.cancel()
            self.heard.set()
        if call is None or response.method != "INVITE" or response.code == 100:
            return
        if response.code < 300:
            if response.code >= 200:
                call.answer = response
                self.acknowledge(call)
            if not call.over:
                self.pass_on(call, response)
        elif not call.over:
            self.acknowledge_refusal(response)
            self.pass_on(call, response)
            self.end(call)

    def pass_on(self, call: Call, response: Message) -> None:
        """To the caller; a 200 again and again, until it is acknowledged."""
        code, _, reason = response.first.partition(" ")[2].partition(" ")
        extra = [("contact", self.here())]
        if response.body:
            extra.append(("content-type", response.get("content-type")))
        again = response.code == 200 and bool(call.reply.startswith(b"SIP/2.0 200"))
        call.reply = self.respond(
            call.invite, call.door, call.caller, int(code), reason, call.tag, extra, response.body
        )
        if response.code == 200 and not again:
            self.insist(call, T1_S, 0.0)

    def insist(self, call: Call, wait_s: float, waited_s: float) -> None:
        def again() -> None:
            if call.confirmed or call.over:
                return
            if waited_s + wait_s >= GIVE_UP_S:
                self.bye_to_carrier(call)
                self.end(call)
                return
            self.send(call.door, call.reply, call.caller)
            self.insist(call, min(2 * wait_s, T2_S), waited_s + wait_s)

        asyncio.get_running_loop().call_later(wait_s, again)

    # ------------------------------------------------------------ what is sent

    def here(self) -> str:
        return f"<sip:b2bua@{self.own[0]}:{self.own[1]}>"

    def respond(
        self,
        request: Message,
        sock: socket.socket,
        to: Endpoint,
        code: int,
        reason: str,
        tag: str = "b2bua",
        extra: list[tuple[str, str]] | None = None,
        body: str = "",
    ) -> bytes:
        """The packet, sent. tag: put on To where the request has none; "" for none."""
        target = request.get("to")
        if tag and "tag=" not in target:
            target += f";tag={tag}"
        same = [(name, request.get(name)) for name in ("from", "call-id", "cseq")]
        headers = [*request.all("via"), *same, ("to", target), *(extra or [])]
        packet = Message(f"SIP/2.0 {code} {reason}", headers, body).packet()
        self.send(sock, packet, to)
        return packet

    def via(self) -> str:
        return f"SIP/2.0/UDP {self.own[0]}:{self.own[1]};branch=z9hG4bK{secrets.token_hex(8)}"

    def ask(self, request: Message, to: Endpoint) -> None:
        """From the own address, again and again until there is an answer."""
        request.headers[:0] = [("via", self.via()), ("max-forwards", "70")]
        self.repeat(request.branch, request.packet(), to, T1_S, 0.0)

    def repeat(
        self, branch: str, packet: bytes, to: Endpoint, wait_s: float, waited_s: float
    ) -> None:
        self.send(self.own_door, packet, to)
        if waited_s >= GIVE_UP_S:
            del self.waiting[branch]
            return
        self.waiting[branch] = asyncio.get_running_loop().call_later(
            wait_s, self.repeat, branch, packet, to, min(2 * wait_s, T2_S), waited_s + wait_s
        )

    def acknowledge(self, call: Call) -> None:
        """The carrier's 200, each time that it comes."""
        assert call.answer
        host, port = call.answer.contact
        headers = [("via", self.via()), ("max-forwards", "70"), *self.within(call, "1 ACK")]
        packet = Message(f"ACK sip:{host}:{port} SIP/2.0", headers).packet()
        self.send(self.own_door, packet, (host, port))

    def acknowledge_refusal(self, response: Message) -> None:
        """In the INVITE's own transaction (RFC 3261 section 17.1.1.3)."""
        same = [(name, response.get(name)) for name in ("via", "from", "to", "call-id")]
        number = response.get("cseq").split()[0]
        first = f"ACK sip:{self.carrier[0]}:{self.carrier[1]} SIP/2.0"
        packet = Message(first, [*same, ("cseq", f"{number} ACK")]).packet()
        self.send(self.own_door, packet, self.carrier)

    def within(self, call: Call, cseq: str) -> list[tuple[str, str]]:
        """Headers of a request in the carrier's dialog."""
        assert call.answer
        same = [(name, call.answer.get(name)) for name in ("from", "to", "call-id")]
        return [*same, ("cseq", cseq)]

    def bye_to_carrier(self, call: Call) -> None:
        if call.answer is not None:
            host, port = call.answer.contact
            self.ask(
                Message(f"BYE sip:{host}:{port} SIP/2.0", self.within(call, "2 BYE")), (host, port)
            )

    def bye_to_caller(self, call: Call) -> None:
        host, port = call.invite.contact
        headers = [
            ("from", f"{call.invite.get('to')};tag={call.tag}"),
            ("to", call.invite.get("from")),
            ("call-id", call.invite.call_id),
            ("cseq", "1 BYE"),
        ]
        self.ask(Message(f"BYE sip:{host}:{port} SIP/2.0", headers), (host, port))

    def end(self, call: Call) -> None:
        """Its repeated messages are still known for as long as they can come."""
        call.over = True
        asyncio.get_running_loop().call_later(GIVE_UP_S, self.calls.pop, call.invite.call_id, None)

    def send(self, sock: socket.socket, packet: bytes, to: Endpoint) -> None:
        with contextlib.suppress(OSError):  # the floating address is elsewhere, or no route: lost
            sock.sendto(packet, to)

    # ------------------------------------------------------------ its operator

    def living(self) -> list[Call]:
        return [call for call in self.calls.values() if not call.over]

    async def tell(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readline() not in (b"\r\n", b""):  # unread, it would reset the answer
            pass
        body = json.dumps({"calls": len(self.living())})
        head = f"HTTP/1.0 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
        writer.write(f"{head}\r\n\r\n{body}".encode())
        await writer.drain()
        writer.close()

    async def run(self, calls_port: int, serving: Callable[[], None]) -> None:
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        for sock in (self.floating_door, self.own_door):
            loop.add_reader(sock, self.hear, sock)
        loop.add_signal_handler(signal.SIGTERM, ended.set)
        async with await asyncio.start_server(self.tell, "127.0.0.1", calls_port):
            serving()
            await ended.wait()
            for call in self.living():
                self.bye_to_carrier(call)
                self.bye_to_caller(call)
                self.end(call)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    while self.waiting:
                        self.heard.clear()
                        await self.heard.wait()


def endpoint(text: str) -> Endpoint:
    host, _, port = text.rpartition(":")
    return host, int(port)


def door(at: Endpoint) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)
    sock.setblocking(False)
    sock.bind(at)
    return sock


def main() -> int:
    """Into the background; return when it serves."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--floating", "--own", "--carrier"):
        parser.add_argument(name, required=True, metavar="HOST:PORT")
    parser.add_argument("--calls-port", required=True, type=int)
    parser.add_argument("--pid-file", required=True, type=Path)
    options = parser.parse_args()
    ready, tell = os.pipe()
    if os.fork():
        os.close(tell)
        with os.fdopen(ready, "rb") as pipe:
            return 0 if pipe.read() == b"serves" else 1
    os.close(ready)
    os.setsid()
    server = Server(options)

    def serving() -> None:
        options.pid_file.write_text(str(os.getpid()))
        nowhere = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(nowhere, descriptor)
        os.write(tell, b"serves")
        os.close(tell)

    asyncio.run(server.run(options.calls_port, serving))
    options.pid_file.unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
