# SPDX-License-Identifier: GPL-2.0-or-later
"""Name servers that say no, are not to be believed, or say something else than the primary."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import dns.message
import dns.rcode
import dns.tsig
import pytest

from agent.core.settings import GeoSettings
from agent.ports import Garbled, PortError, Refused
from drivers.names import Fence, NameServers, address_and_port, read_key
from tests.drivers.bind import (
    LONDON,
    PARIS,
    SECRETS,
    Named,
    free_port,
    geo_on,
    listening,
    run,
    update,
)


@pytest.fixture(scope="module")
def primary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Named]:
    server = Named(tmp_path_factory.mktemp("primary"))
    yield server
    server.stop()


@pytest.fixture
def geo(primary: Named) -> GeoSettings:
    return geo_on(primary)


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


@pytest.fixture(scope="module")
def lagging(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Named]:
    """A server that never hears of a change."""
    server = Named(tmp_path_factory.mktemp("lagging"))
    yield server
    server.stop()


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
