# SPDX-License-Identifier: GPL-2.0-or-later
"""Outlets are switched and read back over SNMP, on PDUs that do what each make does, or do not."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from agent.core.settings import FenceSettings, OutletSettings, SnmpSettings
from agent.ports import Garbled, PortError, Refused, Unreachable
from drivers.fence_pdu import PduFence
from drivers.outlets import MAKES
from drivers.snmp import Session
from drivers.snmp_set import Desk
from tests.drivers.pdu import FAMILIES, Agent, EatonG3, Pdu
from tests.drivers.test_snmp import Snmpd, free_port, secrets, v3

WITHIN_MS = 10_000
Deed = Callable[[PduFence], Awaitable[str]]


def play(
    tmp_path: Path, pdus: list[Pdu], deed: Deed, *, community: str = "private", outlet: str = "5"
) -> str:
    """Runs a deed against these PDUs, one outlet of each feeding the node."""

    async def whole() -> str:
        session = Session(tmp_path, "callcentre.lon1")
        agents = [await Agent(pdu).open() for pdu in pdus]
        told, desks = [], []
        for place, agent in enumerate(agents, 1):
            snmp = SnmpSettings(community=community, port=agent.port)
            told.append(OutletSettings(f"pdu{place}", "127.0.0.1", snmp, outlet))
            desks.append(Desk(session, f"device.pdu{place}", "127.0.0.1", snmp, try_s=0.3))
        try:
            return await deed(PduFence("lon2", FenceSettings("pdu", tuple(told)), desks))
        finally:
            for agent in agents:
                agent.close()
            session.close()
            await asyncio.sleep(0)

    return asyncio.run(whole())


async def off(fence: PduFence) -> str:
    return await fence.off(WITHIN_MS)


async def on(fence: PduFence) -> str:
    return await fence.on(WITHIN_MS)


async def status(fence: PduFence) -> str:
    return await fence.status(WITHIN_MS)


async def probe(fence: PduFence) -> str:
    return await fence.test(WITHIN_MS)


def off_within(within_ms: int) -> Deed:
    return lambda fence: fence.off(within_ms)


# ---------------------------------------------------------------- every make


def test_every_make_of_the_table_is_played_here() -> None:
    assert {make.name for make in MAKES} == FAMILIES.keys() | {"Eaton ePDU G3"}


@pytest.mark.parametrize("make", sorted(FAMILIES))
def test_each_make_is_switched_off_and_on_in_its_own_numbers(tmp_path: Path, make: str) -> None:
    pdu = Pdu((make,))

    async def deed(fence: PduFence) -> str:
        assert await status(fence) == f"node lon2: pdu1 outlet 5 ({make}) is on"
        assert await off(fence) == "node lon2: pdu1 outlet 5 is off"
        assert pdu.outlet.state == "off"
        assert await status(fence) == f"node lon2: pdu1 outlet 5 ({make}) is off"
        return await on(fence)

    assert play(tmp_path, [pdu], deed) == "node lon2: pdu1 outlet 5 is on"
    assert pdu.outlet.state == "on"


def test_the_eaton_whose_commands_are_delays_is_switched(tmp_path: Path) -> None:
    pdu = EatonG3()
    play(tmp_path, [pdu], off)
    assert pdu.outlet.state == "off"
    assert ("534.6.6.7.6.6.1.3.0.5", 0) in pdu.writes
    play(tmp_path, [pdu], on)
    assert pdu.outlet.state == "on"


def test_an_outlet_may_be_named_with_all_parts_of_its_index(tmp_path: Path) -> None:
    pdu = Pdu(("Server Technology Sentry4",))
    assert play(tmp_path, [pdu], off, outlet="1.1.5") == "node lon2: pdu1 outlet 1.1.5 is off"


@pytest.mark.parametrize("identity", ["8072.3.2.10", "3808.1.1.3", "0"])
def test_a_device_that_names_itself_wrongly_is_known_by_its_tables(
    tmp_path: Path, identity: str
) -> None:
    pdu = Pdu(("Raritan PX2",), identity=identity)
    play(tmp_path, [pdu], off)
    assert pdu.outlet.state == "off"


def test_a_device_of_several_families_is_commanded_in_one_and_read_in_all(tmp_path: Path) -> None:
    pdu = Pdu(("APC sPDU", "APC rPDU2", "APC rPDU"), identity="318.1.3.4.6")
    assert play(tmp_path, [pdu], off) == "node lon2: pdu1 outlet 5 is off"
    assert pdu.writes == [("318.1.1.26.9.2.4.1.5.5", 2)]


def test_a_device_that_contradicts_itself_is_not_believed(tmp_path: Path) -> None:
    pdu = Pdu(("APC rPDU2", "APC rPDU"), extra={"318.1.1.12.3.5.1.1.4.5": 1})
    with pytest.raises(Unreachable, match=r"contradicts itself: off as APC rPDU2, on as APC rPDU"):
        play(tmp_path, [pdu], off_within(1500))
    with pytest.raises(Garbled, match="contradicts itself"):
        play(tmp_path, [pdu], probe)


# ---------------------------------------------------------------- only what is read back counts


def test_a_delay_of_the_device_is_waited_for(tmp_path: Path) -> None:
    pdu = Pdu(("APC rPDU2",))
    pdu.outlet.delay_s = 1.0
    play(tmp_path, [pdu], off)
    assert pdu.outlet.state == "off"
    assert len(pdu.writes) == 1


def test_a_delay_longer_than_the_limit_is_not_known_and_not_off(tmp_path: Path) -> None:
    pdu = Pdu(("APC rPDU2",))
    pdu.outlet.delay_s = 60.0
    with pytest.raises(Unreachable, match=r"is on, a command waits.*not known to be off"):
        play(tmp_path, [pdu], off_within(1200))


def test_off_with_something_pending_is_not_off(tmp_path: Path) -> None:
    pdu = Pdu(("Server Technology Sentry3",))
    pdu.faults.stuck = True
    with pytest.raises(Unreachable, match="off, a command waits"):
        play(tmp_path, [pdu], off_within(1500))
    assert pdu.outlet.state == "off"


def test_what_waits_is_taken_back_before_the_command(tmp_path: Path) -> None:
    pdu = Pdu(("APC rPDU2",))
    pdu.outlet.state, pdu.faults.stuck = "off", True  # a reboot: it would come back
    assert play(tmp_path, [pdu], off) == "node lon2: pdu1 outlet 5 is off"
    assert [value for _, value in pdu.writes] == [8, 2]


def test_a_waiting_reboot_of_an_eaton_is_taken_back(tmp_path: Path) -> None:
    pdu = EatonG3()
    pdu.outlet.state, pdu.reboot_s = "off", 30
    play(tmp_path, [pdu], off)
    assert pdu.reboot_s == -1


def test_a_device_that_takes_the_command_and_does_nothing_is_found_out(tmp_path: Path) -> None:
    pdu = Pdu(("CyberPower ePDU",))
    pdu.faults.lies = True
    with pytest.raises(Garbled, match="is on although it was commanded"):
        play(tmp_path, [pdu], off_within(1500))


def test_a_command_that_went_lost_is_given_again(tmp_path: Path) -> None:
    pdu = Pdu(("CyberPower ePDU",))
    pdu.faults.lies = True

    async def deed(fence: PduFence) -> str:
        asyncio.get_running_loop().call_later(1.0, setattr, pdu.faults, "lies", False)
        return await fence.off(WITHIN_MS)

    play(tmp_path, [pdu], deed)
    assert pdu.outlet.state == "off"


def test_a_state_that_is_in_no_list_is_unknown(tmp_path: Path) -> None:
    pdu = Pdu(("APC sPDU",))
    pdu.faults.state = 4
    with pytest.raises(Unreachable, match=r"unknown \(its state is 4\)"):
        play(tmp_path, [pdu], off_within(800))
    assert pdu.writes == []


def test_an_outlet_that_is_off_already_is_not_commanded(tmp_path: Path) -> None:
    pdu = Pdu(("APC rPDU",))
    pdu.outlet.state = "off"
    play(tmp_path, [pdu], off)
    assert pdu.writes == []


def test_lost_packets_are_asked_again(tmp_path: Path) -> None:
    pdu = Pdu(("APC rPDU2",))
    pdu.faults.deaf = 5
    play(tmp_path, [pdu], off)
    assert pdu.outlet.state == "off"


def test_silence_is_not_known_never_off(tmp_path: Path) -> None:
    pdu = Pdu(("APC rPDU2",))
    pdu.faults.deaf = 10_000
    with pytest.raises(Unreachable, match=r"is unknown .*no answer.*not known to be off"):
        play(tmp_path, [pdu], off_within(1500))


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize("status", [6, 16, 17])
def test_a_write_that_is_refused_says_what_right_is_missing(tmp_path: Path, status: int) -> None:
    pdu = Pdu(("APC rPDU2",))
    pdu.faults.refuse = status
    with pytest.raises(Refused, match=r"may not be written .*give this community or user"):
        play(tmp_path, [pdu], off)
    assert pdu.outlet.state == "on"


def test_a_community_that_may_only_read_is_found_by_the_test(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="answers questions and no write"):
        play(tmp_path, [Pdu(("APC rPDU2",))], probe, community="public")
    told = play(tmp_path, [Pdu(("Raritan PX2",))], probe, community="public")
    assert told.endswith("is on, writing was not proved")


def test_an_outlet_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"no table of a known make has it .*node\.lon2\.fence"):
        play(tmp_path, [Pdu(("APC rPDU2",))], probe, outlet="6")


def test_an_outlet_that_is_locked_is_refused(tmp_path: Path) -> None:
    pdu = EatonG3()
    pdu.switchable = 2
    with pytest.raises(Refused, match="locked or not switchable"):
        play(tmp_path, [pdu], probe)
    with pytest.raises(Refused, match="locked or not switchable"):
        play(tmp_path, [pdu], off)
    assert pdu.writes == []


# ---------------------------------------------------------------- a real agent, SNMPv3


@pytest.fixture(scope="module")
def snmpd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Snmpd]:
    """net-snmp's agent with an outlet whose command and state are one object, as an APC's sPDU."""
    server = Snmpd(tmp_path_factory.mktemp("snmpd"), {"2.1.0": 2})
    server.stop()
    with (server.folder / "snmpd.conf").open("a") as file:
        file.write("rwuser strong authPriv\n")
        file.write("override -rw .1.3.6.1.4.1.318.1.1.4.4.2.1.3.5 integer 1\n")
    config = (server.folder / "snmpd.conf").read_text().replace("rouser strong authPriv\n", "")
    (server.folder / "snmpd.conf").write_text(config)
    server.start()
    yield server
    server.stop()


def at_snmpd(snmpd: Snmpd, tmp_path: Path, user: str, auth: str, priv: str, deed: Deed) -> str:
    async def whole() -> str:
        session = Session(tmp_path, "callcentre.lon1")
        file = secrets(tmp_path, f"{auth}:auth pass 1", f"{priv}:priv pass 1")
        snmp = v3(snmpd.port, file, user)
        told = OutletSettings("pdu1", "127.0.0.1", snmp, "5")
        desk = Desk(session, "device.pdu1", "127.0.0.1", snmp, try_s=0.6)
        try:
            return await deed(PduFence("lon2", FenceSettings("pdu", (told,)), [desk]))
        finally:
            session.close()
            await asyncio.sleep(0)

    return asyncio.run(whole())


def test_a_real_agent_is_commanded_and_read_back_with_a_v3_user(
    snmpd: Snmpd, tmp_path: Path
) -> None:
    async def deed(fence: PduFence) -> str:
        assert "pdu1 outlet 5 (APC sPDU) is on, writing was not proved" in await probe(fence)
        await off(fence)
        assert (await status(fence)).endswith("is off")
        return await on(fence)

    assert at_snmpd(snmpd, tmp_path, "strong", "sha512", "aes256", deed).endswith("is on")


def test_a_real_agent_that_lets_a_user_only_read_refuses(snmpd: Snmpd, tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"may not be written \((noAccess|authorizationError)\)"):
        at_snmpd(snmpd, tmp_path, "monitor", "sha256", "aes128", off)


# ---------------------------------------------------------------- two feeds


def test_a_node_with_two_feeds_is_off_when_both_are(tmp_path: Path) -> None:
    pdus = [Pdu(("APC rPDU2",)), Pdu(("Tripp Lite PDU",))]
    pdus[1].outlet.delay_s = 0.5
    assert play(tmp_path, pdus, off) == "node lon2: pdu1 outlet 5 is off, pdu2 outlet 5 is off"
    assert [pdu.outlet.state for pdu in pdus] == ["off", "off"]


def test_half_off_is_not_off(tmp_path: Path) -> None:
    pdus = [Pdu(("APC rPDU2",)), Pdu(("Tripp Lite PDU",))]
    pdus[1].faults.lies = True
    with pytest.raises(Garbled, match=r"pdu1 outlet 5 is off, pdu2 outlet 5 is on although"):
        play(tmp_path, pdus, off_within(1500))


def test_half_off_by_a_refusal_says_which_half(tmp_path: Path) -> None:
    pdus = [Pdu(("APC rPDU2",)), Pdu(("Tripp Lite PDU",))]
    pdus[1].faults.refuse = 17
    with pytest.raises(Refused, match=r"pdu1 outlet 5 is off, pdu2 outlet 5 is on .*notWritable"):
        play(tmp_path, pdus, off)


def test_no_feed_is_switched_while_another_was_never_seen(tmp_path: Path) -> None:
    pdus = [Pdu(("APC rPDU2",)), Pdu(("Tripp Lite PDU",))]
    pdus[1].faults.deaf = 10_000
    with pytest.raises(Unreachable, match="pdu1 outlet 5 is on, pdu2 outlet 5 is unknown"):
        play(tmp_path, pdus, off_within(2500))
    assert pdus[0].writes == []


# ---------------------------------------------------------------- a test changes nothing


@pytest.mark.parametrize("make", sorted(FAMILIES))
def test_a_test_changes_nothing(tmp_path: Path, make: str) -> None:
    pdu = Pdu((make,))
    told = play(tmp_path, [pdu], probe)
    assert (pdu.outlet.state, pdu.outlet.goes) == ("on", "")
    cancels = {"cancel", "none"} & set(FAMILIES[make].commands.values())
    assert told.endswith("may be written" if cancels else "writing was not proved")


def test_a_test_tells_all_that_is_wrong_with_all_feeds(tmp_path: Path) -> None:
    pdus = [Pdu(("APC rPDU2",)), Pdu(("APC sPDU",))]
    pdus[0].faults.refuse, pdus[1].faults.state = 17, 4
    with pytest.raises(Refused, match=r"notWritable.*; .*its state is 4"):
        play(tmp_path, pdus, probe)


def test_a_test_does_not_take_back_what_waits(tmp_path: Path) -> None:
    pdu = Pdu(("APC rPDU2",))
    pdu.outlet.delay_s = 60
    pdu.outlet.order("off")
    assert "so writing was not proved" in play(tmp_path, [pdu], probe)
    assert pdu.writes == []


def test_a_device_that_is_not_there_is_unreachable(tmp_path: Path) -> None:
    async def whole() -> None:
        session = Session(tmp_path, "callcentre.lon1")
        snmp = SnmpSettings(community="private", port=free_port())
        told = OutletSettings("pdu1", "127.0.0.1", snmp, "5")
        desk = Desk(session, "device.pdu1", "127.0.0.1", snmp, try_s=0.2)
        fence = PduFence("lon2", FenceSettings("pdu", (told,)), [desk])
        try:
            await fence.test(3000)
        finally:
            session.close()
            await asyncio.sleep(0)

    with pytest.raises(PortError) as caught:
        asyncio.run(whole())
    assert type(caught.value) is Unreachable
