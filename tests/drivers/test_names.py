# SPDX-License-Identifier: GPL-2.0-or-later
"""DNS updates against BIND on loopback: who wins, who is refused, and what is known afterwards."""

import asyncio
import re
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import dns.message
import dns.query
import dns.rcode
import dns.update
import pytest

from agent.core.settings import GeoSettings, RecordSettings
from agent.ports import Garbled, Refused, Unreachable
from drivers.names import NameServers, read_key
from tests.drivers.bind import LONDON, PARIS, Named, free_port, geo_on, listening, run, update

NAPTR = '10 5 "s" "SIP+D2U" "" _sip._udp.'


@pytest.fixture(scope="module")
def primary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Named]:
    server = Named(tmp_path_factory.mktemp("primary"))
    yield server
    server.stop()


@pytest.fixture
def geo(primary: Named) -> GeoSettings:
    return geo_on(primary)


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
