# SPDX-License-Identifier: GPL-2.0-or-later
"""Alarms to net-snmp's snmptrapd on loopback, and the MIB that says what they mean."""

import asyncio
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.core.alarm import KINDS
from agent.core.model import Alarm, Severity
from agent.core.settings import NmsSettings, SnmpSettings
from agent.ports import Refused, Unreachable
from drivers.snmp import Session, engine_id
from drivers.traps import (
    NOTIFICATIONS,
    OBJECTS,
    OTHER_ALARM,
    SEVERITIES,
    STANDPIPE_MIB,
    TEXT_BYTES,
    Trapper,
    clipped,
    date_and_time,
    notification_oid,
)

MIB_FILE = Path(__file__).parents[2] / "packaging/mibs/STANDPIPE-MIB.txt"
ENGINE = "callcentre.lon1"
RAISED = Alarm(
    "node-lost:lon2", "node-lost", "lon2", Severity.MAJOR, "lon2 is silent — on every path", 1000
)
CLEARED = replace(RAISED, severity=Severity.CLEARED, text="lon2 is back")
WALL_S = 1_795_000_000.25  # 2026-11-18 14:26:40.2 UTC


# ---------------------------------------------------------------- what is said


def test_every_kind_of_alarm_has_a_notification_of_its_own() -> None:
    oids = {notification_oid(kind) for kind in KINDS}
    assert len(oids) == len(KINDS)
    assert f"{NOTIFICATIONS}.{OTHER_ALARM}" not in oids


def test_a_kind_from_another_version_still_has_a_notification() -> None:
    assert notification_oid("not-invented-yet") == f"{NOTIFICATIONS}.{OTHER_ALARM}"


def test_long_text_is_cut_between_characters() -> None:
    text = clipped("x" + "ü" * 200)
    assert len(text) <= TEXT_BYTES
    assert text.decode() == "x" + "ü" * 125 + "..."


def test_time_is_rfc_2579_in_utc() -> None:
    assert date_and_time(WALL_S).hex(" ") == "07 ea 0b 12 0b 06 28 02 2b 00 00"


# ---------------------------------------------------------------- what the MIB says

# The names that STANDPIPE-MIB imports from IETF modules, which Debian may not ship.
IETF = {
    "SNMPv2-SMI": """org OBJECT IDENTIFIER ::= { iso 3 }
        dod OBJECT IDENTIFIER ::= { org 6 }
        internet OBJECT IDENTIFIER ::= { dod 1 }
        private OBJECT IDENTIFIER ::= { internet 4 }
        enterprises OBJECT IDENTIFIER ::= { private 1 }
        snmpV2 OBJECT IDENTIFIER ::= { internet 6 }
        snmpModules OBJECT IDENTIFIER ::= { snmpV2 3 }""",
    "SNMPv2-CONF": "",
    "SNMPv2-TC": """DateAndTime ::= TEXTUAL-CONVENTION
        DISPLAY-HINT "2d-1d-1d,1d:1d:1d.1d,1a1d:1d" STATUS current DESCRIPTION "RFC 2579"
        SYNTAX OCTET STRING (SIZE (8 | 11))""",
    "SNMP-FRAMEWORK-MIB": """SnmpAdminString ::= TEXTUAL-CONVENTION
        DISPLAY-HINT "255t" STATUS current DESCRIPTION "RFC 3411"
        SYNTAX OCTET STRING (SIZE (0..255))""",
    "NET-SNMP-MIB": """IMPORTS enterprises FROM SNMPv2-SMI;
        netSnmp OBJECT IDENTIFIER ::= { enterprises 8072 }
        netSnmpExperimental OBJECT IDENTIFIER ::= { netSnmp 9999 }
        netSnmpPlaypen OBJECT IDENTIFIER ::= { netSnmpExperimental 9999 }""",
}


@pytest.fixture(scope="module")
def mibs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mibs")
    for name, text in IETF.items():
        (folder / f"{name}.txt").write_text(f"{name} DEFINITIONS ::= BEGIN\n{text}\nEND\n")
    (folder / "STANDPIPE-MIB.txt").write_text(MIB_FILE.read_text())
    return folder


def snmptranslate(mibs: Path, *options: str) -> str:
    """What it prints. A complaint about the module fails the test."""
    command = ["snmptranslate", f"-M{mibs}", "-mSTANDPIPE-MIB", "-Pew", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def camel(kind: str) -> str:
    return "standpipe" + "".join(word.capitalize() for word in kind.split("-"))


def test_the_mib_names_every_kind_and_every_value_that_is_sent(mibs: Path) -> None:
    listed = dict(re.findall(r'"(\S+)"\s+"(\S+)"', snmptranslate(mibs, "-Tz")))
    expected = {camel(kind): notification_oid(kind) for kind in KINDS}
    expected["standpipeOtherAlarm"] = f"{NOTIFICATIONS}.{OTHER_ALARM}"
    expected |= {name: f"{STANDPIPE_MIB}.1.{column}" for name, column in OBJECTS.items()}
    prefixes = (f"{NOTIFICATIONS}.", f"{STANDPIPE_MIB}.1.")
    assert {name: oid for name, oid in listed.items() if oid.startswith(prefixes)} == expected


def test_the_mib_numbers_severities_as_they_are_sent(mibs: Path) -> None:
    text = snmptranslate(mibs, "-Td", "STANDPIPE-MIB::standpipeAlarmSeverity")
    numbers = {word: int(number) for word, number in re.findall(r"(\w+)\((\d+)\)", text)}
    sent = {str(severity): number for severity, number in SEVERITIES.items()}
    assert {word: number for word, number in numbers.items() if word in sent} == sent


def test_every_notification_of_the_mib_carries_every_value_in_order(mibs: Path) -> None:
    for kind in KINDS:
        text = snmptranslate(mibs, "-Td", f"STANDPIPE-MIB::{camel(kind)}")
        carried = re.search(r"OBJECTS\s*\{([^}]*)\}", text)
        assert carried is not None
        assert re.findall(r"\w+", carried[1]) == list(OBJECTS)


# ---------------------------------------------------------------- a real NMS: snmptrapd


class Nms:
    """net-snmp's snmptrapd on a free loopback port."""

    def __init__(self, folder: Path, listen: str = "udp:127.0.0.1") -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.log = folder / "traps.log"
        secret = 'SHA-256 "auth pass 1" AES "priv pass 1"'
        (folder / "snmptrapd.conf").write_text(
            "authCommunity log public\n"
            f"createUser -e 0x{engine_id(ENGINE).hex()} traps {secret}\n"
            f"createUser traps {secret}\n"
            "authUser log traps authPriv\n"
        )
        self.process = subprocess.Popen(
            [
                "/usr/sbin/snmptrapd",
                "-f",
                "-On",
                f"-Lf{self.log}",
                "-F%v\n",
                f"{listen}:{self.port}",
            ],
            env={
                "SNMPCONFPATH": str(folder),
                "SNMP_PERSISTENT_DIR": str(folder),
                "MIBS": "",
                "PATH": os.environ["PATH"],
            },
            stderr=subprocess.DEVNULL,
        )
        wait_until(lambda: self.log.exists() and "NET-SNMP version" in self.log.read_text())

    def received(self) -> list[dict[str, str]]:
        """Each notification: the names of OBJECTS -> text, "trap" -> the OID of its kind."""
        traps = []
        for record in self.log.read_text().split(".1.3.6.1.2.1.1.3.0 = ")[1:]:
            if not record.endswith("\n"):
                continue
            pairs = record.replace("\n", "").split("\t")[1:]
            values = dict(pair.split(" = ", 1) for pair in pairs)
            named = {"trap": values[".1.3.6.1.6.3.1.1.4.1.0"].removeprefix("OID: .")}
            for name, column in OBJECTS.items():
                named[name] = plain(values[f".{STANDPIPE_MIB}.1.{column}.0"])
            traps.append(named)
        return traps

    def wait_for(self, count: int) -> list[dict[str, str]]:
        wait_until(lambda: len(self.received()) >= count)
        return self.received()

    def stop(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def plain(logged: str) -> str:
    """A value without its type; snmptrapd logs in hex what is not ASCII."""
    kind, _, text = logged.partition(": ")
    if kind == "Hex-STRING" and len(text) > 40:
        return bytes.fromhex(text).decode()
    return text.strip().strip('"')


def wait_until(met: Callable[[], bool], within_s: float = 10) -> None:
    deadline = time.monotonic() + within_s
    while not met():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def nms(tmp_path: Path) -> Iterator[Nms]:
    server = Nms(tmp_path)
    yield server
    server.stop()


def tell(state_dir: Path, story: Callable[[Session], Awaitable[None]]) -> None:
    async def whole() -> None:
        session = Session(state_dir, ENGINE)
        try:
            await story(session)
        finally:
            session.close()
            await asyncio.sleep(0)  # lets pysnmp's timer see that it is cancelled

    asyncio.run(whole())


def trapper(session: Session, snmp: SnmpSettings, inform: bool) -> Trapper:
    settings = NmsSettings("main", "127.0.0.1", snmp, inform)
    return Trapper(settings, "lon1", session.line("nms.main", settings.address, snmp, 0.6))


def v2c(nms: Nms) -> SnmpSettings:
    return SnmpSettings(community="public", port=nms.port)


def v3(port: int, folder: Path, phrase: str = "auth pass 1") -> SnmpSettings:
    file = folder / "trap.key"
    file.write_text(f'auth = "sha256:{phrase}"\npriv = "aes128:priv pass 1"\n')
    return SnmpSettings("3", user="traps", level="authPriv", secrets_file=str(file), port=port)


@pytest.mark.parametrize("version", ["2c", "3"])
@pytest.mark.parametrize("inform", [False, True])
def test_a_raise_and_its_clear_arrive_whole(
    nms: Nms, tmp_path: Path, version: str, inform: bool
) -> None:
    snmp = v2c(nms) if version == "2c" else v3(nms.port, tmp_path)

    async def story(session: Session) -> None:
        sender = trapper(session, snmp, inform)
        await sender.send(RAISED, WALL_S)
        await sender.send(CLEARED, WALL_S + 60)

    tell(tmp_path, story)
    raised, cleared = nms.wait_for(2)
    starts = raised.pop("standpipeAgentStarts")
    assert int(starts) > 0
    assert raised == {
        "trap": f"{NOTIFICATIONS}.{KINDS['node-lost'].oid_suffix}",
        "standpipeAlarmId": "node-lost:lon2",
        "standpipeAlarmKind": "node-lost",
        "standpipeAlarmSubject": "lon2",
        "standpipeAlarmSeverity": "4",
        "standpipeAlarmText": RAISED.text,
        "standpipeAlarmNode": "lon1",
        "standpipeAlarmTime": "07 EA 0B 12 0B 06 28 02 2B 00 00",
        "standpipeAlarmSequence": "1",
    }
    assert cleared["trap"] == raised["trap"]
    assert cleared["standpipeAlarmId"] == raised["standpipeAlarmId"]
    assert (cleared["standpipeAlarmSeverity"], cleared["standpipeAlarmSequence"]) == ("1", "2")


def test_v3_traps_are_believed_after_a_restart(nms: Nms, tmp_path: Path) -> None:
    snmp = v3(nms.port, tmp_path)
    for _ in range(2):
        tell(tmp_path, lambda session: trapper(session, snmp, False).send(RAISED, WALL_S))
    first, second = nms.wait_for(2)
    assert int(second["standpipeAgentStarts"]) == int(first["standpipeAgentStarts"]) + 1


def test_a_v3_trap_says_who_we_are_and_how_often_we_started(tmp_path: Path) -> None:
    (tmp_path / "snmp-engine.json").write_text('{"starts": 2000000000}')
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.settimeout(10)
        receiver.bind(("127.0.0.1", 0))
        snmp = v3(receiver.getsockname()[1], tmp_path)
        tell(tmp_path, lambda session: trapper(session, snmp, False).send(RAISED, WALL_S))
        datagram = receiver.recv(65535)
    _, _, after = datagram.partition(engine_id(ENGINE))
    assert after[:2] == b"\x02\x04"  # msgAuthoritativeEngineBoots, an INTEGER of four octets
    assert int.from_bytes(after[2:6], "big") == 2_000_000_001


def test_two_receivers_get_one_notification_each(nms: Nms, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = Nms(tmp_path / "other")

    async def story(session: Session) -> None:
        senders = [
            trapper(session, snmp, True) for snmp in (v2c(nms), v2c(other), v3(nms.port, tmp_path))
        ]
        for sender in senders * 2:
            await sender.send(RAISED, WALL_S)

    try:
        tell(tmp_path, story)
        assert (len(nms.wait_for(4)), len(other.wait_for(2))) == (4, 2)
    finally:
        other.stop()


def test_an_inform_that_nobody_acknowledges_is_unreachable_and_keeps_its_number(
    nms: Nms, tmp_path: Path
) -> None:
    async def story(session: Session) -> None:
        sender = trapper(session, v2c(nms), True)
        await sender.send(RAISED, WALL_S)
        nms.process.send_signal(signal.SIGSTOP)
        with pytest.raises(Unreachable, match=r"nms\.main.*no answer"):
            await sender.send(CLEARED, WALL_S)
        nms.process.send_signal(signal.SIGCONT)
        await sender.send(CLEARED, WALL_S)

    tell(tmp_path, story)
    sequences = [trap["standpipeAlarmSequence"] for trap in nms.wait_for(2)]
    assert sequences[0] == "1"
    assert set(sequences[1:]) == {"2"}


def test_an_inform_with_a_wrong_pass_phrase_is_refused(nms: Nms, tmp_path: Path) -> None:
    snmp = v3(nms.port, tmp_path, "auth pass 2")
    with pytest.raises(Refused, match=r"'traps' refused.*nms\.main\.snmp"):
        tell(tmp_path, lambda session: trapper(session, snmp, True).send(RAISED, WALL_S))


def test_a_v3_trap_without_a_place_to_count_starts_is_refused_an_inform_is_not(
    nms: Nms, tmp_path: Path
) -> None:
    nowhere = tmp_path / "nowhere"

    async def story(session: Session) -> None:
        with pytest.raises(Refused, match=r"snmp-engine\.json cannot be written.*inform = true"):
            await trapper(session, v3(nms.port, tmp_path), False).send(RAISED, WALL_S)
        await trapper(session, v3(nms.port, tmp_path), True).send(RAISED, WALL_S)

    tell(nowhere, story)
    assert len(nms.wait_for(1)) == 1
