# SPDX-License-Identifier: GPL-2.0-or-later
"""The checks that speak to a server: tcp and http, against real ones on loopback."""

import asyncio
import errno
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from agent.core.model import Answer
from agent.core.settings import CheckSettings
from agent.ports import Refused
from drivers.http import HttpCheck, judge_status, parse_status
from drivers.inquiry import CannotAsk, Resolver, Verdict, answer_within, connect, endpoint, excuse
from drivers.lane import Lane
from drivers.strain import Strain
from drivers.tcp import TcpCheck

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
LONG_MS = 10_000


def settings(kind: str, target: str, timeout_ms: int = LONG_MS, expect: str = "") -> CheckSettings:
    return CheckSettings("c", kind, target, timeout_ms=timeout_ms, expect=expect)


def unanswered(answer: Answer, timeout_ms: int) -> bool:
    """None instead of False where this host was slow itself."""
    return not answer.ok and answer.detail.startswith(f"no answer within {timeout_ms} ms")


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def served(serve: Serve, ask: Callable[[int], Awaitable[Answer]], **tls: ssl.SSLContext) -> Answer:
    """Runs `ask(port)` against a server that serves each connection so."""

    async def scene() -> Answer:
        connections: list[asyncio.StreamWriter] = []

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connections.append(writer)
            await serve(reader, writer)

        server = await asyncio.start_server(connected, "127.0.0.1", 0, **tls)
        async with server:
            answer = await ask(server.sockets[0].getsockname()[1])
        for writer in connections:
            writer.transport.abort()
        return answer

    return asyncio.run(scene())


def saying(text: bytes, asked: list[bytes] | None = None) -> Serve:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if asked is not None:
            asked.append(head)
        writer.write(text)
        writer.close()

    return serve


async def greeting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Speaks first, as SSH and SMTP do."""
    writer.write(b"220 no TLS here\r\n")


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Accepts and says nothing, as a server does that hangs."""


def http(response: bytes, path: str = "/", expect: str = "", timeout_ms: int = LONG_MS) -> Answer:
    return served(
        saying(response),
        lambda port: HttpCheck(
            settings("http", f"http://127.0.0.1:{port}{path}", timeout_ms, expect)
        ).ask(),
    )


# ---------------------------------------------------------------- tcp


def test_a_server_that_accepts_is_alive_and_a_closed_port_is_not() -> None:
    answer = served(silent, lambda port: TcpCheck(settings("tcp", f"127.0.0.1:{port}")).ask())
    assert answer.ok is True
    answer = asyncio.run(TcpCheck(settings("tcp", f"127.0.0.1:{closed_port()}")).ask())
    assert (answer.ok, answer.detail) == (False, "Connection refused")


@pytest.mark.parametrize("addresses", [["127.0.0.1", "127.9.9.9"], ["127.9.9.9", "127.0.0.1"]])
def test_a_name_is_tried_at_each_of_its_addresses(addresses: list[str]) -> None:
    class Names(Resolver):
        async def addresses(self, within_ms: int) -> list[str]:
            return addresses

    async def ask(port: int) -> Answer:
        (await connect(Names("sbc", port, socket.SOCK_STREAM), LONG_MS)).close()
        return Answer(True)

    assert served(silent, ask).ok is True


def test_a_name_is_resolved() -> None:
    answer = served(silent, lambda port: TcpCheck(settings("tcp", f"localhost:{port}")).ask())
    assert answer.ok is True


def test_a_server_whose_queue_is_full_gets_no_more_than_its_time() -> None:
    with socket.socket() as server, socket.socket() as first, socket.socket() as second:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for client in (first, second):
            client.setblocking(False)
            client.connect_ex(server.getsockname())
        target = f"127.0.0.1:{server.getsockname()[1]}"
        answer = asyncio.run(TcpCheck(settings("tcp", target, timeout_ms=200)).ask())
    assert unanswered(answer, 200)
    assert answer.took_ms >= 200


@pytest.mark.parametrize(
    "target", ["127.0.0.1", "127.0.0.1:x", ":80", "::1:80", "h:99999", "h/x:1"]
)
def test_a_target_that_is_no_place_is_refused_at_once(target: str) -> None:
    with pytest.raises(Refused, match="check c: target"):
        TcpCheck(settings("tcp", target))


def test_an_ipv6_place_stands_in_brackets() -> None:
    assert endpoint("c", "[2001:db8::1]:5060") == ("2001:db8::1", 5060)
    assert endpoint("c", "host", 5060) == ("host", 5060)


# ---------------------------------------------------------------- whose fault


def raising(error: BaseException) -> Answer:
    async def question() -> Verdict:
        raise error

    return asyncio.run(answer_within(1000, question))


def test_what_is_this_machines_own_fault_is_not_held_against_the_service() -> None:
    for number in (errno.EMFILE, errno.ENOBUFS, errno.ENETUNREACH, errno.EADDRNOTAVAIL):
        assert raising(OSError(number, "x")).ok is None
    for number in (errno.ECONNREFUSED, errno.ECONNRESET, errno.EHOSTUNREACH, errno.ETIMEDOUT):
        assert raising(OSError(number, "x")).ok is False
    assert raising(CannotAsk("no bus")) == Answer(None, "no bus", 0)


def test_running_out_of_files_is_not_held_against_the_service() -> None:
    program = (
        "import asyncio, resource, sys\n"
        "from agent.core.settings import CheckSettings\n"
        "from drivers.tcp import TcpCheck\n"
        "async def main():\n"
        "    resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))\n"
        "    print((await TcpCheck(CheckSettings('c', 'tcp', sys.argv[1])).ask()).ok)\n"
        "asyncio.run(main())\n"
    )
    with socket.create_server(("127.0.0.1", 0)) as server:
        target = f"127.0.0.1:{server.getsockname()[1]}"
        run = subprocess.run(
            [sys.executable, "-c", program, target],
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert run.stdout.strip() == "None", run.stderr


def test_an_agent_that_was_late_itself_blames_nobody() -> None:
    async def question() -> Verdict:
        threading.Event().wait(0.2)  # the loop stands still, as when the machine was paused
        await asyncio.sleep(60)
        return Verdict(True, "")

    answer = asyncio.run(answer_within(50, question))
    assert answer.ok is None
    assert "late" in answer.detail


async def never() -> Verdict:
    await asyncio.sleep(60)
    return Verdict(True, "")


def pressure(folder: Path, **stood_us: int) -> Strain:
    for name, line in (("cpu", "some"), ("io", "full"), ("memory", "full")):
        total_us = stood_us.get(name, 7)
        (folder / name).write_text(f"{line} avg10=0.00 avg60=0.00 avg300=0.00 total={total_us}\n")
    return Strain(folder)


@pytest.mark.parametrize(("stood_ms", "waited_for"), [(0, ""), (150, ""), (190, "cpu")])
def test_a_host_that_stood_still_most_of_the_time_says_for_what(
    tmp_path: Path, stood_ms: int, waited_for: str
) -> None:
    host = pressure(tmp_path, cpu=5_000_000)
    before = host.totals_us()
    pressure(tmp_path, cpu=5_000_000 + stood_ms * 1000)
    assert host.since(before, 200) == waited_for


def test_a_busy_processor_is_an_excuse_only_where_we_had_to_wait_for_it_as_well(
    tmp_path: Path,
) -> None:
    host = pressure(tmp_path)
    before = host.totals_us()
    pressure(tmp_path, cpu=99_000_000)
    assert excuse(host, before, 100, 2) == ""
    assert "waiting for cpu" in excuse(host, before, 106, 6)
    assert "was 30 ms late" in excuse(host, host.totals_us(), 130, 30)


def test_silence_while_the_whole_host_stood_still_is_not_held_against_the_service(
    tmp_path: Path,
) -> None:
    host = pressure(tmp_path)

    async def question() -> Verdict:
        pressure(tmp_path, io=99_000_000)
        return await never()

    assert asyncio.run(answer_within(100, question, host=host)).ok is None


def test_a_kernel_that_does_not_count_its_pressure_excuses_nobody(tmp_path: Path) -> None:
    assert Strain(tmp_path / "absent").since({}, 200) == ""
    (tmp_path / "cpu").write_text("nonsense\n")
    assert Strain(tmp_path).totals_us() == {}


def test_a_name_server_that_hangs_is_not_held_against_the_service() -> None:
    gate = threading.Event()

    async def scene() -> Answer:
        check = TcpCheck(settings("tcp", "sbc.example.net:5060", timeout_ms=200))
        check._resolver._lane = Hanging("resolve sbc.example.net", gate)
        return await check.ask()

    answer = asyncio.run(scene())
    gate.set()
    assert answer.ok is None
    assert "sbc.example.net is not resolved" in answer.detail


class Hanging(Lane):
    """A lane on which every call hangs."""

    def __init__(self, name: str, gate: threading.Event) -> None:
        super().__init__(name)
        self._gate = gate

    async def run(self, work, within_ms):  # type: ignore[no-untyped-def]
        return await super().run(self._gate.wait, within_ms)


def test_a_name_that_does_not_resolve_is_not_held_against_the_service() -> None:
    async def scene() -> None:
        with pytest.raises(CannotAsk, match=r"nowhere\.invalid is not resolved"):
            await Resolver("nowhere.invalid", 80, socket.SOCK_STREAM).addresses(LONG_MS)

    asyncio.run(scene())


# ---------------------------------------------------------------- http


def test_a_status_of_the_right_kind_is_alive_and_any_other_is_not() -> None:
    assert http(b"HTTP/1.1 204 No Content\r\n\r\n").ok is True
    answer = http(b"HTTP/1.1 500 Internal Server Error\r\n\r\n")
    assert (answer.ok, answer.detail) == (False, "500 Internal Server Error, wanted 2xx")
    assert http(b"HTTP/1.0 401 No\r\n\r\n", expect="401").ok is True
    assert http(b"HTTP/1.1 204 No Content\r\n\r\n", expect="200").ok is False


def test_a_server_that_drains_lives_unless_that_is_what_was_wanted() -> None:
    answer = http(b"HTTP/1.1 503 Service Unavailable\r\n\r\n")
    assert (answer.ok, answer.draining) == (True, True)
    assert answer.detail == "503 Service Unavailable: draining or overloaded"
    wanted = http(b"HTTP/1.1 503 Service Unavailable\r\n\r\n", expect="503")
    assert (wanted.ok, wanted.draining) == (True, False)


def test_a_redirect_is_an_answer_and_is_not_followed() -> None:
    elsewhere = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n"
    assert http(elsewhere).ok is False
    assert http(elsewhere, expect="302").ok is True


def test_an_interim_answer_is_passed_over() -> None:
    assert http(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\n").ok is True


@pytest.mark.parametrize(
    ("response", "detail"),
    [
        (b"", "closed without an answer"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "not HTTP: b'SSH-2.0-OpenSSH_9.2"),
        (b"HTTP/1.1 2000 OK\r\n", "not HTTP"),
        (b"x" * 100_000, "not HTTP: a line without an end"),
        (b"HTTP/1.1 200 OK", "not HTTP"),
    ],
)
def test_what_is_no_http_is_not_alive(response: bytes, detail: str) -> None:
    answer = http(response)
    assert answer.ok is False
    assert answer.detail.startswith(detail)


def test_a_server_that_accepts_and_hangs_is_not_alive() -> None:
    answer = served(
        silent,
        lambda port: HttpCheck(settings("http", f"http://127.0.0.1:{port}/", 200)).ask(),
    )
    assert unanswered(answer, 200)


def test_a_server_that_drips_gets_its_whole_time_once() -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not writer.is_closing():
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            await asyncio.sleep(0.02)

    answer = served(
        drip, lambda port: HttpCheck(settings("http", f"http://127.0.0.1:{port}/", 300)).ask()
    )
    assert unanswered(answer, 300)


def test_the_request_names_its_host_and_cannot_be_broken_out_of() -> None:
    asked: list[bytes] = []
    answer = served(
        saying(b"HTTP/1.1 200 OK\r\n\r\n", asked),
        lambda port: HttpCheck(
            settings("http", f"http://127.0.0.1:{port}/a b%20c?q=ä&x#frag")
        ).ask(),
    )
    assert answer.ok is True
    lines = asked[0].split(b"\r\n")
    assert lines[0] == b"GET /a%20b%20c?q=%C3%A4&x HTTP/1.1"
    assert lines[1].startswith(b"Host: 127.0.0.1:")


def test_a_server_with_a_certificate_of_its_own_is_asked(tmp_path: Path) -> None:
    pem = tmp_path / "server.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-subj", "/CN=x", "-keyout", pem, "-out", tmp_path / "cert.pem"),
        ],
        check=True,
        capture_output=True,
        timeout=60,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", pem)

    def ask(port: int) -> Awaitable[Answer]:
        return HttpCheck(settings("http", f"https://127.0.0.1:{port}/")).ask()

    assert served(saying(b"HTTP/1.1 200 OK\r\n\r\n"), ask, ssl=context).ok is True
    answer = served(greeting, ask)
    assert answer.ok is False
    assert answer.detail.startswith("TLS: ")


@pytest.mark.parametrize("target", ["ftp://h/", "http:///x", "http://u:p@h/", "http://h:x/", "h"])
def test_a_url_that_cannot_be_asked_is_refused_at_once(target: str) -> None:
    with pytest.raises(Refused, match="write http://host:port/path"):
        HttpCheck(settings("http", target))


def test_a_status_line_may_lack_its_reason() -> None:
    assert parse_status(b"HTTP/1.1 200\r\n") == (200, "")
    assert parse_status(b"HTTP/2 200\r\n") is None
    assert judge_status(200, "", "") == Verdict(True, "200")
