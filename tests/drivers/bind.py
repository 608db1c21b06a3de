# SPDX-License-Identifier: GPL-2.0-or-later
"""A BIND primary on loopback for the tests of names, and how they use it."""

import asyncio
import itertools
import shutil
import signal
import socket
import subprocess
import time
from base64 import b64encode
from collections.abc import Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import dns.exception
import dns.message
import dns.query

from agent.core.settings import GeoSettings, RecordSettings
from drivers.names import NameServers

NAMED = shutil.which("named", path="/usr/sbin:/usr/bin") or "/usr/sbin/named"
SECRETS = {
    "writer": b64encode(b"\xff" * 32).decode(),  # full of "//", which also begins a comment
    "reader": b64encode(b"a key that may only look, 32 byte").decode(),
}
LONDON, PARIS = "192.0.2.10", "198.51.100.10"
ZONES = [f"zone{number}.example" for number in range(40)]


class Named:
    """A BIND primary on a free loopback port, from a generated configuration."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.folder = folder
        self.untouched = itertools.count()
        lines = [
            f'options {{ directory "{folder}"; pid-file none; session-keyfile none; recursion no;',
            f"  listen-on port {self.port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }}; notify no;",
            "  dnssec-validation no; allow-transfer { none; }; }; controls { };",
        ]
        for name, secret in SECRETS.items():
            lines.append(f'key "{name}" {{ algorithm hmac-sha256; secret "{secret}"; }};')
            (folder / f"{name}.key").write_text(lines[-1].replace("; ", ";\n\t"))
        for zone in ZONES:
            (folder / zone).write_text(
                "$TTL 30\n@ SOA ns hostmaster 1 3600 900 604800 10\n@ NS ns\n"
                f"ns A 127.0.0.1\nsip A {LONDON}\n"
            )
            lines.append(
                f'zone "{zone}" {{ type primary; file "{zone}"; '
                'allow-update { key "writer"; }; };'
            )
        (folder / "named.conf").write_text("\n".join(lines) + "\n")
        with (folder / "named.log").open("wb") as log:
            self.process = subprocess.Popen(
                [NAMED, "-g", "-c", str(folder / "named.conf"), "-n", "1", "-4"], stderr=log
            )
        deadline = time.monotonic() + 20
        while not self.answers():
            assert self.process.poll() is None, (folder / "named.log").read_text()
            assert time.monotonic() < deadline, "named does not answer"
            time.sleep(0.02)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def answers(self) -> bool:
        try:
            return self.ask(ZONES[-1], "SOA") != []
        except (OSError, dns.exception.Timeout):
            return False

    def ask(self, name: str, kind: str) -> list[str]:
        """What it says, as text, by a plain blocking question."""
        question = dns.message.make_query(name, kind)
        answer = dns.query.tcp(question, "127.0.0.1", timeout=2, port=self.port)
        return sorted(str(rdata) for rrset in answer.answer for rdata in rrset)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def free_port() -> int:
    """Free for UDP and TCP."""
    while True:
        with (
            socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
        ):
            tcp.bind(("127.0.0.1", 0))
            port = int(tcp.getsockname()[1])
            try:
                udp.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def geo_on(primary: Named) -> GeoSettings:
    """One name in a zone of this server that no other test has touched."""
    zone = ZONES[next(primary.untouched)]
    sip = RecordSettings(f"sip.{zone}", "A", 30, {"london": (LONDON,), "paris": (PARIS,)})
    return GeoSettings(
        name="voice",
        sites=("london", "paris"),
        groups={},
        zone=zone,
        servers=(primary.address,),
        tsig_file=str(primary.folder / "writer.key"),
        records=(sip,),
    )


def run(story: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(story)


def update(geo: GeoSettings, site: str, epoch: int, timeout_s: float = 3.0) -> dict[str, Any]:
    facts: dict[str, Any] = run(NameServers(geo, timeout_s).update(site, epoch))
    return facts


@asynccontextmanager
async def listening(serve: Any, port: int) -> Any:
    server = await asyncio.start_server(serve, "127.0.0.1", port)
    try:
        yield
    finally:
        server.close()
        await server.wait_closed()
