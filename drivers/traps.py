# SPDX-License-Identifier: GPL-2.0-or-later
"""Alarms as SNMP notifications of STANDPIPE-MIB (packaging/mibs), as traps or informs.

Each kind of alarm has its own notification, sent when it is raised and again, with severity
cleared, when it ends. No enterprise number is assigned yet: everything lies in Net-SNMP's playpen.
"""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from agent.core.alarm import KINDS
from agent.core.model import Alarm, Severity
from agent.core.settings import NmsSettings

STANDPIPE_MIB = "1.3.6.1.4.1.8072.9999.9999.7411"  # netSnmpPlaypen 7411
NOTIFICATIONS = f"{STANDPIPE_MIB}.0"
OTHER_ALARM = 1000  # the notification of a kind that the MIB does not name
OBJECTS = {  # what every notification carries, in this order; column n is STANDPIPE_MIB.1.n.0
    "standpipeAlarmId": 1,
    "standpipeAlarmKind": 2,
    "standpipeAlarmSubject": 3,
    "standpipeAlarmSeverity": 4,
    "standpipeAlarmText": 5,
    "standpipeAlarmNode": 6,
    "standpipeAlarmTime": 7,
    "standpipeAlarmSequence": 8,
    "standpipeAgentStarts": 9,
}
SEVERITIES = {  # ItuPerceivedSeverity, RFC 3877: X.733 in SNMP's numbers
    Severity.CLEARED: 1,
    Severity.CRITICAL: 3,
    Severity.MAJOR: 4,
    Severity.MINOR: 5,
    Severity.WARNING: 6,
}
TEXT_BYTES = 255  # SnmpAdminString, RFC 3411


class Line(Protocol):
    """What this driver asks of drivers.snmp.Line."""

    async def open(self) -> int: ...

    async def notify(self, trap: str, values: Sequence[tuple[str, Any]], inform: bool) -> None: ...


class Trapper:
    """ports.Trapper for one NMS. node: the name of the node that speaks."""

    def __init__(self, settings: NmsSettings, node: str, line: Line) -> None:
        self.name = settings.name
        self._inform = settings.inform
        self._node = node
        self._line = line
        self._sequence = 0
        self._unsent: tuple[Alarm, float] | None = None
        self._turn = asyncio.Lock()

    async def send(self, alarm: Alarm, wall_s: float) -> None:
        """Returns when sent (trap) or acknowledged (inform). wall_s: when it was raised or cleared.

        The same alarm tried again keeps its sequence number, so that a receiver knows a repeat.
        Raises Unreachable, Refused, Garbled.
        """
        async with self._turn:
            starts = await self._line.open()
            if self._unsent != (alarm, wall_s):
                self._sequence += 1
                self._unsent = (alarm, wall_s)
            values = notification_values(alarm, wall_s, self._node, self._sequence, starts)
            await self._line.notify(notification_oid(alarm.kind), values, self._inform)
            self._unsent = None


def notification_oid(kind: str) -> str:
    """The notification's OID. Its last arc never changes its meaning (agent.core.alarm.Kind)."""
    arc = KINDS[kind].oid_suffix if kind in KINDS else OTHER_ALARM
    return f"{NOTIFICATIONS}.{arc}"


def notification_values(
    alarm: Alarm, wall_s: float, node: str, sequence: int, starts: int
) -> list[tuple[str, Any]]:
    """(OID, pysnmp value) in the order of OBJECTS."""
    from pysnmp.proto.rfc1902 import Integer32, OctetString, Unsigned32

    values = (
        OctetString(clipped(alarm.alarm_id)),
        OctetString(clipped(alarm.kind)),
        OctetString(clipped(alarm.subject)),
        Integer32(SEVERITIES[alarm.severity]),
        OctetString(clipped(alarm.text)),
        OctetString(clipped(node)),
        OctetString(date_and_time(wall_s)),
        Unsigned32(sequence),
        Unsigned32(starts),
    )
    oids = (f"{STANDPIPE_MIB}.1.{column}.0" for column in OBJECTS.values())
    return list(zip(oids, values, strict=True))


def clipped(text: str) -> bytes:
    """At most TEXT_BYTES of UTF-8, never half a character."""
    whole = text.encode("utf-8", "replace")
    if len(whole) <= TEXT_BYTES:
        return whole
    return whole[: TEXT_BYTES - 3].decode("utf-8", "ignore").encode() + b"..."


def date_and_time(wall_s: float) -> bytes:
    """DateAndTime (RFC 2579) in UTC, 11 octets, to a tenth of a second."""
    at = datetime.fromtimestamp(wall_s, UTC)
    clock = (at.month, at.day, at.hour, at.minute, at.second, at.microsecond // 100_000)
    return at.year.to_bytes(2, "big") + bytes(clock) + b"+\0\0"
