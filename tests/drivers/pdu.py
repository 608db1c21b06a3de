# SPDX-License-Identifier: GPL-2.0-or-later
"""Switched PDUs on loopback: SNMPv2c agents in which command, delay, pending and state belong
together, as each make's MIB says; and which can refuse, lie, stall and forget.

The numbers here are written down a second time, from the MIBs, so that a slip in the driver's own
table does not go with one here.
"""

import asyncio
import socket
import time
from dataclasses import dataclass, field
from typing import Any

from pyasn1.codec.ber import decoder, encoder
from pysnmp.proto import api

V2C = api.PROTOCOL_MODULES[api.SNMP_VERSION_2C]
IDENTITY = "1.3.6.1.2.1.1.2.0"
ENTERPRISES = "1.3.6.1.4.1."
NOT_WRITABLE, WRONG_VALUE = 17, 10


@dataclass
class Family:
    """The objects of one make for the outlet with index `at`. commands: value -> on off cancel."""

    identity: str
    at: str
    state: str
    shown: dict[str, int]
    command: str
    commands: dict[int, str]
    pending: str = ""
    pending_shown: tuple[int, int] = (0, 0)  # while one waits, while none does


FAMILIES = {
    "APC rPDU2": Family(
        "318.1.3.4.6", "5", "318.1.1.26.9.2.3.1.5", {"off": 1, "on": 2},
        "318.1.1.26.9.2.4.1.5", {1: "on", 2: "off", 8: "cancel"},
        "318.1.1.26.9.2.3.1.6", (1, 2),
    ),
    "APC rPDU": Family(
        "318.1.3.4.5", "5", "318.1.1.12.3.5.1.1.4", {"on": 1, "off": 2},
        "318.1.1.12.3.3.1.1.4", {1: "on", 2: "off", 7: "cancel"},
        "318.1.1.12.3.5.1.1.5", (1, 2),
    ),
    "APC sPDU": Family(
        "318.1.3.4.5", "5", "318.1.1.4.4.2.1.3", {"on": 1, "off": 2},
        "318.1.1.4.4.2.1.3", {1: "on", 2: "off"},
    ),
    "APC MasterSwitch Plus": Family(
        "318.1.3.4.4", "1.1.5", "318.1.1.6.7.1.1.5", {"on": 1, "off": 2},
        "318.1.1.6.5.1.1.5", {1: "on", 3: "off"},
    ),
    "APC UPS outlet group": Family(
        "318.1.3.27", "5", "318.1.1.1.12.1.2.1.3", {"on": 1, "off": 2},
        "318.1.1.1.12.3.2.1.3", {1: "on", 2: "off"},
    ),
    "Eaton managed ePDU": Family(
        "534.6.6.6", "5", "534.6.6.6.1.2.2.1.3", {"off": 0, "on": 1},
        "534.6.6.6.1.2.2.1.3", {0: "off", 1: "on"},
    ),
    "Eaton switched ePDU": Family(
        "20677.1", "5.0", "20677.2.6.3", {"on": 1, "off": 2},
        "20677.2.6.2", {1: "on", 2: "off"},
    ),
    "Raritan PX2": Family(
        "13742.6", "1.5", "13742.6.4.1.2.1.3", {"on": 7, "off": 8},
        "13742.6.4.1.2.1.2", {0: "off", 1: "on"},
    ),
    "Server Technology Sentry3": Family(
        "1718.3", "1.1.5", "1718.3.2.3.1.5", {"off": 0, "on": 1},
        "1718.3.2.3.1.11", {1: "on", 2: "off"}, "1718.3.2.3.1.10", (11, 5),
    ),
    "Server Technology Sentry4": Family(
        "1718.4", "1.1.5", "1718.4.1.8.3.1.1", {"on": 1, "off": 2},
        "1718.4.1.8.5.1.2", {0: "none", 1: "on", 2: "off"}, "1718.4.1.8.5.1.1", (9, 11),
    ),
    "CyberPower ePDU": Family(
        "3808.1.1.3", "5", "3808.1.1.3.3.5.1.1.4", {"on": 1, "off": 2},
        "3808.1.1.3.3.3.1.1.4", {1: "on", 2: "off"},
    ),
    "Tripp Lite PDU": Family(
        "850.1.1.1", "1.5", "850.1.1.3.2.3.3.1.1.4", {"off": 1, "on": 2},
        "850.1.1.3.2.3.3.1.1.6", {1: "off", 2: "on"},
    ),
    "Liebert MPH": Family(
        "476.1.42", "5", "476.1.42.3.8.50.20.1.95", {"off": 1, "on": 2},
        "476.1.42.3.8.50.20.1.100", {0: "off", 1: "on"},
    ),
    "IBM iPDU": Family(
        "2.6.223", "5", "2.6.223.8.2.2.1.11", {"off": 0, "on": 1},
        "2.6.223.8.2.2.1.11", {0: "off", 1: "on"},
    ),
}  # fmt: skip


@dataclass
class Outlet:
    """What is really so. A command takes `delay_s`; until then it waits."""

    state: str = "on"
    delay_s: float = 0.0
    goes: str = ""
    at_s: float = 0.0

    def order(self, goes: str) -> None:
        self.goes, self.at_s = goes, time.monotonic() + self.delay_s

    def settle(self) -> None:
        if self.goes and time.monotonic() >= self.at_s:
            self.state, self.goes = self.goes, ""


@dataclass
class Faults:
    """deaf: how many requests to lose. mute_writes: SETs are lost, as with a read-only community.

    refuse: error status of every write. lies: takes commands and does nothing. state: shown
    whatever is so. stuck: something waits for ever.
    """

    deaf: int = 0
    mute_writes: bool = False
    refuse: int = 0
    lies: bool = False
    state: int | None = None
    stuck: bool = False


@dataclass
class Pdu:
    """One device with one outlet, which it may show in several families."""

    makes: tuple[str, ...]
    outlet: Outlet = field(default_factory=Outlet)
    faults: Faults = field(default_factory=Faults)
    identity: str = ""
    extra: dict[str, int] = field(default_factory=dict)  # shown whatever is so
    writes: list[tuple[str, int]] = field(default_factory=list)

    def rows(self) -> dict[str, int]:
        self.outlet.settle()
        rows: dict[str, int] = {}
        for name in self.makes:
            family = FAMILIES[name]
            shown = family.shown[self.outlet.state]
            if self.faults.state is not None:
                shown = self.faults.state
            if family.command != family.state:
                rows[f"{family.command}.{family.at}"] = 0
            rows[f"{family.state}.{family.at}"] = shown
            if family.pending:
                waits = bool(self.outlet.goes) or self.faults.stuck
                rows[f"{family.pending}.{family.at}"] = family.pending_shown[not waits]
        return rows | self.extra

    def write(self, oid: str, value: int) -> int:
        """The error status."""
        self.outlet.settle()
        self.writes.append((oid, value))
        if self.faults.refuse:
            return self.faults.refuse
        for name in self.makes:
            family = FAMILIES[name]
            if oid == f"{family.command}.{family.at}":
                return self.obey(family.commands.get(value, ""))
        return NOT_WRITABLE

    def obey(self, command: str) -> int:
        if not command:
            return WRONG_VALUE
        if command == "cancel":
            self.outlet.goes = ""
            self.faults.stuck = False
        elif command != "none" and not self.faults.lies:
            self.outlet.order(command)
        return 0

    def named(self) -> str:
        return ENTERPRISES + (self.identity or FAMILIES[self.makes[0]].identity)


class EatonG3(Pdu):
    """Three columns; what is written is a delay in seconds, -1 takes a waiting command back."""

    BASE, AT = "534.6.6.7.6.6.1", "0.5"

    def __init__(self) -> None:
        super().__init__((), identity="534.6.6.7")
        self.reboot_s = -1  # a reboot that somebody asked for, and that waits
        self.switchable = 1

    def rows(self) -> dict[str, int]:
        self.outlet.settle()
        waits = {"": {"off": 0, "on": 1}, "off": {"on": 2, "off": 0}, "on": {"off": 3, "on": 1}}
        rows = {
            2: waits[self.outlet.goes][self.outlet.state],
            3: 1 if self.outlet.goes == "off" else -1,
            4: 1 if self.outlet.goes == "on" else -1,
            5: self.reboot_s,
            9: self.switchable,
        }
        return {f"{self.BASE}.{column}.{self.AT}": value for column, value in rows.items()}

    def write(self, oid: str, value: int) -> int:
        self.outlet.settle()
        self.writes.append((oid, value))
        column = int(oid.removeprefix(self.BASE + ".").split(".")[0])
        if self.faults.refuse or column not in (3, 4, 5):
            return self.faults.refuse or NOT_WRITABLE
        if column == 5:
            self.reboot_s = value
        elif value == -1:
            self.outlet.goes = ""
        else:
            self.outlet.order("off" if column == 3 else "on")
        return 0


class Agent(asyncio.DatagramProtocol):
    """Answers GET and SET with community "private", GET alone with "public"."""

    def __init__(self, pdu: Pdu) -> None:
        self.pdu = pdu
        self.port = 0
        self.heard = 0

    async def open(self) -> "Agent":
        loop = asyncio.get_running_loop()
        self.transport, _ = await loop.create_datagram_endpoint(
            lambda: self, ("127.0.0.1", 0), family=socket.AF_INET
        )
        self.port = self.transport.get_extra_info("sockname")[1]
        return self

    def close(self) -> None:
        self.transport.close()

    def datagram_received(self, data: bytes, address: Any) -> None:
        self.heard += 1
        message, _ = decoder.decode(data, asn1Spec=V2C.Message())
        request = V2C.apiMessage.get_pdu(message)
        writing = request.isSameTypeWith(V2C.SetRequestPDU())
        faults, community = self.pdu.faults, str(V2C.apiMessage.get_community(message))
        if faults.deaf:
            faults.deaf -= 1
            return
        if writing and (faults.mute_writes or community != "private"):
            return
        reply = V2C.apiMessage.get_response(message)
        answer = V2C.apiMessage.get_pdu(reply)
        asked = V2C.apiPDU.get_varbinds(request)
        if writing:
            self.take(answer, asked)
        else:
            V2C.apiPDU.set_varbinds(answer, self.shown(asked))
        self.transport.sendto(encoder.encode(reply), address)

    def shown(self, asked: Any) -> list[tuple[Any, Any]]:
        rows = {ENTERPRISES + oid: value for oid, value in self.pdu.rows().items()}
        found = []
        for oid, _ in asked:
            name = str(oid)
            if name == IDENTITY:
                value = V2C.ObjectIdentifier(self.pdu.named())
            elif name in rows:
                value = V2C.Integer(rows[name])
            else:
                value = V2C.NoSuchInstance("")
            found.append((oid, value))
        return found

    def take(self, answer: Any, asked: Any) -> None:
        for oid, value in asked:
            status = self.pdu.write(str(oid).removeprefix(ENTERPRISES), int(value))
            if status:
                V2C.apiPDU.set_error_status(answer, status)
                V2C.apiPDU.set_error_index(answer, 1)
        V2C.apiPDU.set_varbinds(answer, asked)
