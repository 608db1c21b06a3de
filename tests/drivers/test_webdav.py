# SPDX-License-Identifier: GPL-2.0-or-later
"""A WebDAV folder: Debian's Apache, and a server that answers whatever a test wants."""

import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from agent.core.settings import CloudSettings
from agent.ports import Garbled, PortError, Refused, Unreachable
from drivers.webdav import WebDav, parse_listing
from tests.drivers.dav import Apache, made_certificate


@pytest.fixture(params=["Digest", "Basic"])
def apache(request: pytest.FixtureRequest) -> Iterator[Apache]:
    apache = Apache.begun(request.param)
    yield apache
    apache.end()


@pytest.fixture
def folder(apache: Apache) -> Iterator[WebDav]:
    folder = WebDav(apache.settings)
    yield folder
    folder.close()


def test_what_is_put_there_is_listed_and_comes_back(apache: Apache, folder: WebDav) -> None:
    folder.make("sbc")
    folder.make("sbc")
    folder.write("sbc/a1", b"x" * 100_000)
    folder.write("sbc/b2", b"")
    folder.write("sbc/b2", b"again")
    assert folder.names("sbc") == {"a1": 100_000, "b2": 5}
    assert folder.read("sbc/a1", 100_000) == b"x" * 100_000
    assert folder.read("sbc/none", 10) is None
    folder.remove("sbc/a1")
    folder.remove("sbc/a1")
    assert folder.names("sbc") == {"b2": 5}
    assert (apache.files / "keep" / "sbc" / "b2").read_bytes() == b"again"


def test_a_server_that_was_started_again_meanwhile_is_asked_again(
    apache: Apache, folder: WebDav
) -> None:
    folder.write("a1", b"before")
    apache.stop()
    with pytest.raises(Unreachable, match="check the network and the server"):
        folder.read("a1", 100)
    apache.start()
    assert folder.read("a1", 100) == b"before"


def test_a_wrong_password_says_where_to_put_it_right(apache: Apache, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("guess")
    folder = WebDav(replace(apache.settings, password_file=str(wrong)))
    with pytest.raises(Refused, match=r"401 .*put right user and password_file"):
        folder.write("a1", b"x")
    folder.close()
    nobody = WebDav(replace(apache.settings, user="", password_file=""))
    with pytest.raises(Refused, match="401"):
        nobody.read("a1", 100)
    nobody.close()


def test_a_server_of_an_unknown_authority_is_told_no_password(apache: Apache) -> None:
    folder = WebDav(replace(apache.settings, ca_file=""))
    with pytest.raises(Refused, match=r"its certificate is not good .*ca_file"):
        folder.read("a1", 100)


def test_a_folder_that_is_not_there_is_named(apache: Apache) -> None:
    folder = WebDav(replace(apache.settings, url=apache.settings.url + "nowhere/"))
    with pytest.raises(Refused, match="make the one that the url names"):
        folder.make("sbc")
    with pytest.raises(Refused, match=r"404|409"):
        folder.write("sbc/a", b"x")
    folder.close()


def test_a_full_server_leaves_the_old_object() -> None:
    apache = Apache.begun()
    disk = apache.files / "keep"
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m,mode=0777", "none", str(disk)], check=True
    )
    folder = WebDav(apache.settings)
    try:
        folder.write("a1", b"old")
        with pytest.raises(Refused, match=r"is full \(507\); make room there"):
            folder.write("a1", b"x" * (2 << 20))
        assert folder.read("a1", 100) == b"old"
        assert folder.names("") == {"a1": 3}
    finally:
        folder.close()
        apache.stop()
        subprocess.run(["umount", str(disk)], check=True)
        apache.end()


def test_an_object_longer_than_any_of_ours_is_not_read(apache: Apache, folder: WebDav) -> None:
    (apache.files / "keep" / "a1").write_bytes(b"x" * 1_000_000)
    with pytest.raises(Garbled, match="more than 1000 bytes"):
        folder.read("a1", 1000)
    assert folder.names("") == {"a1": 1_000_000}


# ---------------------------------------------------------------- a server that answers anything

Answer = Callable[[BaseHTTPRequestHandler], None]


@pytest.fixture
def liar(tmp_path: Path) -> Iterator[Callable[[Answer], WebDav]]:
    """Every method gets the same answer."""
    made_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.crt", tmp_path / "server.key")
    answers: list[Answer] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one_request(self) -> None:
            self.raw_requestline = self.rfile.readline(65537)
            if not self.raw_requestline or not self.parse_request():
                self.close_connection = True
                return
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            answers[0](self)
            self.wfile.flush()

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            pass

    server = Server(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    folders: list[WebDav] = []

    def begin(answer: Answer) -> WebDav:
        answers.append(answer)
        url = f"https://127.0.0.1:{server.server_port}/x/"
        folders.append(WebDav(CloudSettings(url, ca_file=str(tmp_path / "ca.crt")), timeout_s=0.5))
        return folders[-1]

    yield begin
    for folder in folders:
        folder.close()
    server.shutdown()
    thread.join()
    server.server_close()


def status(code: int, body: bytes = b"", **headers: str) -> Answer:
    def answer(to: BaseHTTPRequestHandler) -> None:
        to.send_response(code)
        for name, value in headers.items():
            to.send_header(name, value)
        to.send_header("Content-Length", str(len(body)))
        to.end_headers()
        to.wfile.write(body)

    return answer


@pytest.mark.parametrize(
    ("code", "kind", "why"),
    [
        (301, Refused, "sends us elsewhere"),
        (403, Refused, "let the user read, write and delete"),
        (405, Refused, "is it a WebDAV folder"),
        (413, Refused, "let it take 5 MiB"),
        (423, Unreachable, "has locked it; it is tried again"),
        (500, Unreachable, "look in its log"),
        (503, Unreachable, "look in its log"),
        (507, Refused, "make room there"),
        (418, Refused, "will not"),
    ],
)
def test_every_no_says_what_to_do(
    liar: Callable[[Answer], WebDav], code: int, kind: type[PortError], why: str
) -> None:
    folder = liar(status(code, b"<html>" * 1000, Location="https://elsewhere.example.net/"))
    with pytest.raises(kind, match=f"{code} to PUT a1: .*{why}"):
        folder.write("a1", b"x")
    with pytest.raises(kind, match=f"{code} to GET a1"):
        folder.read("a1", 100)


def silence(to: BaseHTTPRequestHandler) -> None:
    threading.Event().wait(2)
    to.close_connection = True


def cut_short(to: BaseHTTPRequestHandler) -> None:
    to.send_response(200)
    to.send_header("Content-Length", "100")
    to.end_headers()
    to.wfile.write(b"x" * 50)
    to.close_connection = True


def rubbish(to: BaseHTTPRequestHandler) -> None:
    to.wfile.write(b"\0\xff rubbish\r\n\r\n")
    to.close_connection = True


@pytest.mark.parametrize("answer", [silence, cut_short, rubbish])
def test_no_answer_and_half_an_answer_are_unknown(
    liar: Callable[[Answer], WebDav], answer: Answer
) -> None:
    folder = liar(answer)
    with pytest.raises(Unreachable, match="check the network and the server"):
        folder.read("a1", 1000)


BOMB = (
    b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]>'
    b'<D:multistatus xmlns:D="DAV:">&b;</D:multistatus>'
)


@pytest.mark.parametrize("body", [b"", b"no xml", b"<a", BOMB])
def test_a_listing_that_makes_no_sense_is_garbled(
    liar: Callable[[Answer], WebDav], body: bytes
) -> None:
    folder = liar(status(207, body))
    with pytest.raises(Garbled, match="its listing makes no sense"):
        folder.names("sbc")


def test_only_names_that_could_be_ours_are_taken_from_a_listing() -> None:
    hrefs = ("/x/", "/x/a1", "/x/%2e%2e", "/x/..", "/x/.hidden", "/x/b%2Fc", "/x/a%00b", "/x/d%20e")
    body = "".join(f"<response><href>{href}</href></response>" for href in hrefs)
    document = f'<multistatus xmlns="DAV:">{body}</multistatus>'
    assert parse_listing(document.encode()) == {"a1": -1, "c": -1}


@pytest.mark.parametrize(
    "url", ["http://cloud.example.net/x/", "ftp://a/", "https:///x", "nonsense"]
)
def test_only_https_is_spoken(url: str) -> None:
    with pytest.raises(Refused, match=r"must be https://host/folder/"):
        WebDav(CloudSettings(url))
