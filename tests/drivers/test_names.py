# SPDX-License-Identifier: GPL-2.0-or-later
"""DNS updates against BIND on loopback: who wins, who is refused, and what is known afterwards."""

import asyncio
import itertools
import re
import shutil
import signal
import socket
import subprocess
import time
from base64 import b64encode
from collections.abc import Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import dns.message
import dns.query
import dns.rcode
import dns.tsig
import pytest

from agent.core.settings import GeoSettings, RecordSettings
from agent.ports import Garbled, PortError, Refused, Unreachable
from drivers.names import Fence, NameServers, address_and_port, read_key

NAPTR = '10 5 "s" "SIP+D2U" "" _sip._udp.'
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


@pytest.fixture(scope="module")
def primary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Named]:
    server = Named(tmp_path_factory.mktemp("primary"))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def lagging(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Named]:
    """A server that never hears of a change."""
    server = Named(tmp_path_factory.mktemp("lagging"))
    yield server
    server.stop()


ZONE_NUMBERS = itertools.count()


@pytest.fixture
def geo(primary: Named) -> GeoSettings:
    """One name in a zone that no other test has touched."""
    zone = ZONES[next(ZONE_NUMBERS)]
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


def fence(primary: Named, geo: GeoSettings) -> str:
    (text,) = primary.ask(f"_sp-epoch.{geo.zone}", "TXT")
    return text


# ---------------------------------------------------------------- one writer


def test_a_zone_without_an_epoch_is_at_zero(geo: GeoSettings) -> None:
    assert run(NameServers(geo).epoch()) == 0


def test_an_update_moves_the_names_and_the_epoch_together(primary: Named, geo: GeoSettings) -> None:
    facts = update(geo, "paris", 1)
    assert (facts["rcode"], facts["epoch"]) == ("NOERROR", 1)
    assert primary.ask(f"sip.{geo.zone}", "A") == [PARIS]
    assert re.fullmatch(r'"epoch=1 site=paris token=[0-9a-f]{16}"', fence(primary, geo))
    update(geo, "london", 5)
    assert primary.ask(f"sip.{geo.zone}", "A") == [LONDON]
    assert run(NameServers(geo).epoch()) == 5


def test_every_record_of_every_type_is_replaced_whole(primary: Named, geo: GeoSettings) -> None:
    zone = geo.zone
    records = (
        RecordSettings(f"sip.{zone}", "A", 30, {"paris": (PARIS, "198.51.100.11")}),
        RecordSettings(f"v6.{zone}", "AAAA", 30, {"paris": ("2001:db8::10",)}),
        RecordSettings(f"gw.{zone}", "CNAME", 30, {"paris": (f"sip.{zone}",)}),
        RecordSettings(f"_sip._udp.{zone}", "SRV", 30, {"paris": (f"10 5 5060 sip.{zone}.",)}),
        RecordSettings(zone, "NAPTR", 300, {"paris": (f"{NAPTR}{zone}.",)}),
    )
    geo = replace(geo, records=records)
    update(geo, "paris", 1)
    assert primary.ask(f"sip.{zone}", "A") == [PARIS, "198.51.100.11"]
    assert primary.ask(f"_sip._udp.{zone}", "SRV") == [f"10 5 5060 sip.{zone}."]
    verified = run(NameServers(geo).verify("paris"))["servers"][primary.address]
    assert verified["ok"] is True


@pytest.mark.parametrize("epoch", [2, 3])
def test_an_epoch_that_is_not_higher_is_refused_and_both_are_named(
    primary: Named, geo: GeoSettings, epoch: int
) -> None:
    update(geo, "paris", 3)
    with pytest.raises(Refused, match=rf"overtaken.*at epoch 3 \(site paris\), ours is {epoch}"):
        update(geo, "london", epoch)
    assert primary.ask(f"sip.{geo.zone}", "A") == [PARIS]


def test_a_site_without_a_value_changes_nothing(primary: Named, geo: GeoSettings) -> None:
    with pytest.raises(
        Refused, match=r"geo\.voice\.record sip\..* A: has no value for site berlin"
    ):
        update(geo, "berlin", 1)
    assert primary.ask(f"_sp-epoch.{geo.zone}", "TXT") == []


def test_a_value_that_is_no_address_changes_nothing(primary: Named, geo: GeoSettings) -> None:
    record = replace(geo.records[0], values={"paris": ("not an address",)})
    with pytest.raises(Refused, match=r"geo\.voice\.record sip"):
        update(replace(geo, records=(geo.records[0], record)), "paris", 1)
    assert primary.ask(f"sip.{geo.zone}", "A") == [LONDON]


def test_a_mangled_epoch_record_stops_every_update(primary: Named, geo: GeoSettings) -> None:
    key = read_key("", geo.tsig_file)
    message = dns.update.UpdateMessage(geo.zone, keyring=key)
    message.replace("_sp-epoch", 5, "TXT", '"epoch=many"')
    assert dns.query.tcp(message, "127.0.0.1", timeout=2, port=primary.port).rcode() == 0
    with pytest.raises(Garbled, match="epoch=many"):
        update(geo, "paris", 1)


# ---------------------------------------------------------------- two writers


class Together(NameServers):
    """Sends its update only when the other one has read the zone too."""

    barrier: asyncio.Barrier

    async def _swap(self, *arguments: Any) -> None:
        await self.barrier.wait()
        await super()._swap(*arguments)


def test_of_two_racing_writers_exactly_one_wins(primary: Named, geo: GeoSettings) -> None:
    async def attempt(writer: NameServers, site: str, epoch: int) -> str:
        try:
            await writer.update(site, epoch)
        except Refused:
            return ""
        return site

    async def race() -> list[list[str]]:
        rounds = []
        writers = {"london": Together(geo), "paris": Together(geo)}
        for epoch in range(1, 11):
            barrier = asyncio.Barrier(2)
            async with asyncio.TaskGroup() as tasks:
                tries = []
                for site, writer in writers.items():
                    writer.barrier = barrier
                    tries.append(tasks.create_task(attempt(writer, site, epoch)))
            won = [task.result() for task in tries if task.result()]
            rounds.append(won)
            expected = {"london": [LONDON], "paris": [PARIS]}[won[0]]
            assert await asyncio.to_thread(primary.ask, f"sip.{geo.zone}", "A") == expected
        return rounds

    assert [len(won) for won in run(race())] == [1] * 10


# ---------------------------------------------------------------- answers that get lost

Fault = Callable[[bytes], str]


class Between:
    """A TCP relay that keeps what passes. Its fault is "", "drop" or "swallow the answer"."""

    def __init__(self, primary: Named) -> None:
        self.primary = primary
        self.port = free_port()
        self.passed: list[bytes] = []
        self.fault: Fault = lambda wire: ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        size = await reader.readexactly(2)
        wire = size + await reader.readexactly(int.from_bytes(size, "big"))
        self.passed.append(wire)
        fault = self.fault(wire)
        if fault != "drop":
            answer = await asyncio.to_thread(send_raw, self.primary, wire)
            if fault != "swallow the answer":
                writer.write(answer)
        writer.close()
        await writer.wait_closed()


def send_raw(primary: Named, wire: bytes) -> bytes:
    """Sends bytes as they are; the answer, with its length."""
    with socket.create_connection(("127.0.0.1", primary.port), timeout=5) as tcp:
        tcp.sendall(wire)
        size = tcp.recv(2, socket.MSG_WAITALL)
        return size + tcp.recv(int.from_bytes(size, "big"), socket.MSG_WAITALL)


def is_update(wire: bytes) -> bool:
    return wire[4] >> 3 & 0xF == 5  # opcode, RFC 2136


@asynccontextmanager
async def listening(serve: Any, port: int) -> Any:
    server = await asyncio.start_server(serve, "127.0.0.1", port)
    try:
        yield
    finally:
        server.close()
        await server.wait_closed()


def update_through(between: Between, geo: GeoSettings, site: str, epoch: int) -> dict[str, Any]:
    async def story() -> dict[str, Any]:
        async with listening(between.serve, between.port):
            through = replace(geo, servers=(f"127.0.0.1:{between.port}",))
            return await NameServers(through).update(site, epoch)

    facts: dict[str, Any] = run(story())
    return facts


def test_an_update_whose_answer_is_lost_is_found_to_have_won(
    primary: Named, geo: GeoSettings
) -> None:
    between = Between(primary)
    between.fault = lambda wire: "swallow the answer" if is_update(wire) else ""
    assert update_through(between, geo, "paris", 1)["rcode"] == "NOERROR"
    assert sum(map(is_update, between.passed)) == 1
    assert primary.ask(f"sip.{geo.zone}", "A") == [PARIS]


def test_an_update_that_never_arrived_is_unknown_and_says_look_again(
    primary: Named, geo: GeoSettings
) -> None:
    between = Between(primary)
    between.fault = lambda wire: "drop" if is_update(wire) else ""
    with pytest.raises(Unreachable, match=r"zone says no epoch.*unknown, look again"):
        update_through(between, geo, "paris", 1)
    assert primary.ask(f"sip.{geo.zone}", "A") == [LONDON]


def test_trying_again_after_an_unknown_outcome_is_safe(primary: Named, geo: GeoSettings) -> None:
    between = Between(primary)
    silent = [""]
    between.fault = lambda wire: silent[0]

    async def story() -> None:
        async with listening(between.serve, between.port):
            names = NameServers(replace(geo, servers=(f"127.0.0.1:{between.port}",)))

            def lose_all_from_the_update_on(wire: bytes) -> str:
                if is_update(wire):
                    silent[0] = "swallow the answer"
                return silent[0]

            between.fault = lose_all_from_the_update_on
            with pytest.raises(Unreachable, match="look again"):
                await names.update("paris", 1)
            between.fault = lambda wire: ""
            assert (await names.update("paris", 1))["rcode"] == "NOERROR"

    run(story())
    assert sum(map(is_update, between.passed)) == 1
    assert primary.ask(f"sip.{geo.zone}", "A") == [PARIS]


def test_a_captured_update_sent_again_changes_nothing(primary: Named, geo: GeoSettings) -> None:
    between = Between(primary)
    update(geo, "london", 1)
    update_through(between, geo, "paris", 2)
    (captured,) = filter(is_update, between.passed)
    update(geo, "london", 3)
    answer = dns.message.from_wire(send_raw(primary, captured)[2:], keyring=False)
    assert answer.rcode() == dns.rcode.NXRRSET
    assert primary.ask(f"sip.{geo.zone}", "A") == [LONDON]


def test_a_primary_that_is_down_is_unreachable(geo: GeoSettings) -> None:
    down = replace(geo, servers=(f"127.0.0.1:{free_port()}",))
    with pytest.raises(Unreachable, match=r"dns 127\.0\.0\.1:\d+: no answer .*refused"):
        update(down, "paris", 1)


def test_a_primary_that_hangs_is_unreachable_in_time(primary: Named, geo: GeoSettings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hung = replace(geo, servers=(f"127.0.0.1:{silent.getsockname()[1]}",))
        with pytest.raises(Unreachable, match="no answer"):
            update(hung, "paris", 1, timeout_s=0.3)


# ---------------------------------------------------------------- keys and permissions


@pytest.mark.parametrize(
    ("name", "secret", "said"),
    [
        ("writer", SECRETS["reader"], "BADSIG"),
        ("stranger", SECRETS["writer"], "BADKEY"),
    ],
)
def test_a_wrong_key_is_refused_by_the_name_of_its_setting(
    geo: GeoSettings, tmp_path: Path, name: str, secret: str, said: str
) -> None:
    file = tmp_path / "dns.key"
    file.write_text(f'key "{name}" {{ algorithm hmac-sha256; secret "{secret}"; }};')
    with pytest.raises(Refused, match=rf"NOTAUTH \({said}.*geo\.voice\.tsig_file"):
        update(replace(geo, tsig_file=str(file)), "paris", 1)


def test_a_key_without_permission_is_refused(primary: Named, geo: GeoSettings) -> None:
    reader = replace(geo, tsig_file=str(primary.folder / "reader.key"))
    with pytest.raises(Refused, match=r"REFUSED for zone.*geo\.voice\.tsig_file.*update-policy"):
        update(reader, "paris", 1)
    assert primary.ask(f"sip.{geo.zone}", "A") == [LONDON]


def test_a_server_without_the_zone_is_refused(geo: GeoSettings) -> None:
    record = replace(geo.records[0], name="sip.example.org")
    with pytest.raises(Refused, match=r"for zone example\.org"):
        update(replace(geo, zone="example.org", records=(record,)), "paris", 1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "No such file"),
        ("nothing here", "has no key"),
        ('key "k" { algorithm rot13; secret "AAAA"; };', "algorithm rot13"),
    ],
)
def test_a_key_file_that_is_none_is_refused_with_what_to_do(
    geo: GeoSettings, tmp_path: Path, text: str | None, said: str
) -> None:
    file = tmp_path / "dns.key"
    if text is not None:
        file.write_text(text)
    with pytest.raises(Refused, match=rf"geo\.voice\.tsig_file.*{said}"):
        update(replace(geo, tsig_file=str(file)), "paris", 1)


def test_comments_around_a_key_do_no_harm(tmp_path: Path) -> None:
    file = tmp_path / "dns.key"
    file.write_text(
        '# made by tsig-keygen\n// key "old" { algorithm hmac-sha1; secret "AAAA"; };\n'
        f'key writer {{ algorithm "hmac-sha512"; secret {SECRETS["writer"]}; }};\n'
    )
    key = read_key("", str(file))
    assert (str(key.name), str(key.algorithm)) == ("writer.", "hmac-sha512.")


def badtime(answer: dns.message.Message, key: dns.tsig.Key) -> None:
    """RFC 8945 section 5.2.3."""
    answer.set_rcode(dns.rcode.NOTAUTH)
    answer.use_tsig(key, tsig_error=dns.rcode.BADTIME)


def unsigned(answer: dns.message.Message, key: dns.tsig.Key) -> None:
    answer.tsig = None


def from_a_cache(answer: dns.message.Message, key: dns.tsig.Key) -> None:
    """Signed, but without AA."""


@pytest.mark.parametrize(
    ("spoil", "kind", "said"),
    [
        (badtime, Refused, r"BADTIME.*clock \(NTP\)"),
        (unsigned, Garbled, "TSIG"),
        (from_a_cache, Refused, r"geo\.voice\.servers must begin with its primary"),
    ],
)
def test_an_answer_that_must_not_be_believed_is_not(
    geo: GeoSettings, spoil: Callable[..., None], kind: type[PortError], said: str
) -> None:
    port = free_port()
    key = read_key("", geo.tsig_file)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        size = await reader.readexactly(2)
        wire = await reader.readexactly(int.from_bytes(size, "big"))
        answer = dns.message.make_response(dns.message.from_wire(wire, keyring={key.name: key}))
        spoil(answer, key)
        writer.write(answer.to_wire(prepend_length=True))
        writer.close()
        await writer.wait_closed()

    async def story() -> None:
        async with listening(serve, port):
            await NameServers(replace(geo, servers=(f"127.0.0.1:{port}",))).epoch()

    with pytest.raises(kind, match=said):
        run(story())


# ---------------------------------------------------------------- what every server says


def test_every_server_is_asked_and_each_says_for_itself(
    primary: Named, lagging: Named, geo: GeoSettings
) -> None:
    dead = f"127.0.0.1:{free_port()}"
    everybody = replace(geo, servers=(primary.address, lagging.address, dead))
    update(geo, "paris", 1)
    servers = run(NameServers(everybody, timeout_s=0.6).verify("paris"))["servers"]
    assert servers[primary.address] == {"serial": 2, "ok": True, "detail": "says paris"}
    late = servers[lagging.address]
    assert (late["serial"], late["ok"]) == (1, False)
    assert f"A is {LONDON}, not {PARIS}; serial 1, the primary has 2" in late["detail"]
    assert (servers[dead]["serial"], servers[dead]["ok"]) == (None, None)
    assert "no answer" in servers[dead]["detail"]


def test_a_server_that_has_not_loaded_the_zone_disagrees(primary: Named, geo: GeoSettings) -> None:
    record = replace(geo.records[0], name="sip.example.org")
    elsewhere = replace(geo, zone="example.org", records=(record,))
    said = run(NameServers(elsewhere).verify("london"))["servers"][primary.address]
    assert said["ok"] is False
    assert "REFUSED" in said["detail"]


def test_a_record_set_too_big_for_udp_is_verified_over_tcp(
    primary: Named, geo: GeoSettings
) -> None:
    many = tuple(f"198.51.100.{number}" for number in range(1, 99))
    record = replace(geo.records[0], values={"paris": many})
    geo = replace(geo, records=(record,))
    update(geo, "paris", 1)
    assert run(NameServers(geo).verify("paris"))["servers"][primary.address]["ok"] is True


@pytest.mark.parametrize(
    ("server", "expected"),
    [
        ("192.0.2.53", ("192.0.2.53", 53)),
        ("192.0.2.53:5353", ("192.0.2.53", 5353)),
        ("2001:db8::53", ("2001:db8::53", 53)),
        ("[2001:db8::53]:5353", ("2001:db8::53", 5353)),
        ("[2001:db8::53]", ("2001:db8::53", 53)),
    ],
)
def test_servers_are_written_with_or_without_a_port(server: str, expected: tuple[str, int]) -> None:
    assert address_and_port(server) == expected


def test_the_fence_is_one_line_of_text() -> None:
    assert str(Fence(7, "paris", "ab")) == "epoch=7 site=paris token=ab"
