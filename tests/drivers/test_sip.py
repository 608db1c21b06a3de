# SPDX-License-Identifier: GPL-2.0-or-later
"""The SIP check, against a real UDP server on loopback."""

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.model import Answer
from agent.core.settings import CheckSettings
from drivers.sip import Response, SipCheck, build_options, judge_response, parse_response

Reply = Callable[[bytes, int], list[bytes]]


class Server(asyncio.DatagramProtocol):
    """Answers each packet with what `reply(packet, how many so far)` gives."""

    def __init__(self, reply: Reply) -> None:
        self.packets: list[bytes] = []
        self._reply = reply

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.packets.append(data)
        for answer in self._reply(data, len(self.packets)):
            self._transport.sendto(answer, addr)


def ask(
    reply: Reply, timeout_ms: int = 10_000, host: str = "127.0.0.1"
) -> tuple[Answer, list[bytes]]:
    async def scene() -> tuple[Answer, list[bytes]]:
        loop = asyncio.get_running_loop()
        transport, server = await loop.create_datagram_endpoint(
            lambda: Server(reply), local_addr=(host, 0)
        )
        port = transport.get_extra_info("sockname")[1]
        place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        check = SipCheck(CheckSettings("sip", "sip", f"udp://{place}", timeout_ms=timeout_ms))
        answer = await check.ask()
        transport.close()
        return answer, server.packets

    return asyncio.run(scene())


def response(request: bytes, status: str, *, more: str = "") -> bytes:
    kept = [
        line
        for line in request.decode().split("\r\n")
        if line.split(":")[0] in ("Via", "From", "To", "Call-ID", "CSeq")
    ]
    return "\r\n".join([f"SIP/2.0 {status}", *kept, more, "Content-Length: 0", "", ""]).encode()


def answered(status: str, more: str = "X: y") -> Answer:
    return ask(lambda request, _: [response(request, status, more=more)])[0]


@pytest.mark.parametrize("status", ["200 OK", "404 Not Found", "405 Method Not Allowed"])
def test_any_answer_of_its_own_says_that_it_is_alive(status: str) -> None:
    answer = answered(status)
    assert (answer.ok, answer.detail) == (True, status)


@pytest.mark.parametrize(
    ("status", "alive"),
    [
        *((302, True), (401, True), (480, True), (486, True), (501, True), (603, True)),
        *((408, False), (500, False), (504, False), (513, False), (599, False)),
    ],
)
def test_each_final_response_has_its_meaning(status: int, alive: bool) -> None:
    verdict = judge_response(Response(status, "", "", "", ""))
    assert (verdict.ok, verdict.draining) == (alive, False)


def test_a_server_that_drains_lives_and_says_for_how_long() -> None:
    answer = answered("503 Service Unavailable", "Retry-After: 300")
    assert (answer.ok, answer.draining) == (True, True)
    assert answer.detail == "503 Service Unavailable: draining or overloaded, retry after 300"


def test_a_closed_port_is_noticed_at_once() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    check = SipCheck(CheckSettings("sip", "sip", f"127.0.0.1:{port}", timeout_ms=10_000))
    answer = asyncio.run(check.ask())
    assert (answer.ok, answer.detail) == (False, "Connection refused")


def test_a_silent_server_is_asked_again_and_then_given_up() -> None:
    answer, packets = ask(lambda *_: [], timeout_ms=700)
    assert not answer.ok
    assert answer.detail.startswith("no answer within 700 ms")
    assert len(packets) == 2
    assert len(set(packets)) == 1, "a repeat is the same request, byte for byte"


def test_a_limit_shorter_than_the_first_repeat_is_one_packet() -> None:
    answer, packets = ask(lambda *_: [], timeout_ms=100)
    assert (bool(answer.ok), answer.took_ms >= 100, len(packets)) == (False, True, 1)


def test_a_port_that_closes_between_the_repeats_is_noticed_before_the_limit() -> None:
    async def scene() -> Answer:
        loop = asyncio.get_running_loop()

        def close(*_: object) -> list[bytes]:
            transport.close()
            return []

        transport, _ = await loop.create_datagram_endpoint(
            lambda: Server(close), local_addr=("127.0.0.1", 0)
        )
        port = transport.get_extra_info("sockname")[1]
        check = SipCheck(CheckSettings("s", "sip", f"127.0.0.1:{port}", timeout_ms=60_000))
        return await check.ask()

    answer = asyncio.run(scene())
    assert (answer.ok, answer.detail) == (False, "Connection refused")


def test_a_lost_request_costs_a_repeat_and_no_more() -> None:
    answer, packets = ask(lambda request, n: [response(request, "200 OK")] if n > 1 else [])
    assert answer.ok is True
    assert len(packets) == 2


def test_a_provisional_answer_is_waited_out() -> None:
    def reply(request: bytes, _: int) -> list[bytes]:
        return [response(request, "100 Trying"), response(request, "500 No")]

    assert ask(reply)[0].detail.startswith("500")


def test_an_answer_to_somebody_else_is_not_believed() -> None:
    def reply(request: bytes, _: int) -> list[bytes]:
        late = response(request, "200 OK").replace(b"branch=z9hG4bK", b"branch=z9hG4bKx")
        other = response(request, "200 OK").replace(b"Call-ID: ", b"Call-ID: x")
        return [b"", b"\xff" * 99, late, other, request]

    assert not ask(reply, timeout_ms=300)[0].ok


def test_short_header_names_and_other_vias_below_ours_are_read() -> None:
    def reply(request: bytes, _: int) -> list[bytes]:
        full = response(request, "200 OK").replace(b"Call-ID:", b"i :").replace(b"Via:", b"v:")
        return [full.replace(b"\r\nFrom", b"\r\nVia: SIP/2.0/UDP p;branch=z9hG4bKp\r\nFrom")]

    assert ask(reply)[0].ok is True


def test_ipv6_stands_in_brackets_everywhere() -> None:
    answer, [packet] = ask(lambda request, _: [response(request, "200 OK")], host="::1")
    assert answer.ok is True
    assert packet.startswith(b"OPTIONS sip:[::1]:")
    assert b"Via: SIP/2.0/UDP [::1]:" in packet


def test_the_request_has_what_a_request_must_have() -> None:
    request = build_options("sbc", 5060, ("10.1.0.11", 40000), "z9hG4bK1", "c1").decode()
    lines = request.split("\r\n")
    assert lines[0] == "OPTIONS sip:sbc:5060 SIP/2.0"
    names = {line.split(":")[0] for line in lines[1:-2]}
    # section 8.1.1, and Contact and Accept of section 11.1
    assert {"To", "From", "CSeq", "Call-ID", "Max-Forwards", "Via", "Contact", "Accept"} <= names
    assert request.endswith("\r\n\r\n")
    assert ";tag=" not in next(line for line in lines if line.startswith("To:"))


@given(st.binary(max_size=200) | st.binary(max_size=100).map(lambda tail: b"SIP/2.0 200" + tail))
def test_no_packet_breaks_the_parser(packet: bytes) -> None:
    parse_response(packet)
