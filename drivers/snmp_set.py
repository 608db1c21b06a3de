# SPDX-License-Identifier: GPL-2.0-or-later
"""SNMP GET and SET of exact objects, for what must be commanded and read back (RFC 3416)."""

from collections.abc import Mapping, Sequence

from agent.core.settings import SnmpSettings
from agent.ports import Garbled, Refused, Unreachable
from drivers.snmp import Session, Target, plain_value

TRY_S = 1.0
TOO_BIG = 1
FORBIDDEN = {  # error-status, RFC 3416 section 3: a human must change something
    2: "noSuchName",
    4: "readOnly",
    6: "noAccess",
    11: "noCreation",
    16: "authorizationError",
    17: "notWritable",
    18: "inconsistentName",
}
UNFIT = {3: "badValue", 7: "wrongType", 8: "wrongLength", 9: "wrongEncoding", 10: "wrongValue"}
READ_NAMES = 2  # an SNMPv1 agent's word for an object that it does not have


class Desk:
    """To one device that is read and commanded. Every request is idempotent and sent twice."""

    def __init__(
        self, session: Session, key: str, address: str, snmp: SnmpSettings, try_s: float = TRY_S
    ) -> None:
        self._session = session
        self._target = Target(key, address, snmp, try_s)

    def __str__(self) -> str:
        return str(self._target)

    async def get(self, oids: Sequence[str]) -> Mapping[str, int | str]:
        """{OID: value}; what the device does not have is missing.

        Raises Unreachable, Refused, Garbled.
        """
        from pysnmp.hlapi.v3arch.asyncio import get_cmd
        from pysnmp.proto.rfc1902 import Null

        wire = await self._session.wire(self._target)
        asked = [(oid, Null("")) for oid in oids]
        call = get_cmd(*wire.arguments(), *asked, lookupMib=False)
        status, answers = await self._session.speak(self._target, wire, call)
        if status in (TOO_BIG, READ_NAMES) and len(oids) > 1:
            half = len(oids) // 2
            return {**await self.get(oids[:half]), **await self.get(oids[half:])}
        if status == READ_NAMES:
            return {}
        if status in FORBIDDEN:
            raise Refused(
                f"{self}: may not be read ({FORBIDDEN[status]}); check its view of this user"
            )
        if status:
            raise Garbled(f"{self}: a question ended with error status {status}; look in its log")
        found = {}
        for name, value in answers:
            plain = _value(value)
            if plain is not None:
                found[".".join(map(str, tuple(name)))] = plain
        return found

    async def set(self, writes: Sequence[tuple[str, int]]) -> None:
        """All at once; returns when the device says it took them, which proves nothing of outlets.

        Raises Refused, Garbled (it knows no such value), Unreachable (no answer, or busy: look).
        """
        from pysnmp.hlapi.v3arch.asyncio import set_cmd
        from pysnmp.proto.rfc1902 import Integer32

        wire = await self._session.wire(self._target)
        asked = [(oid, Integer32(value)) for oid, value in writes]
        call = set_cmd(*wire.arguments(), *asked, lookupMib=False)
        status, _ = await self._session.speak(self._target, wire, call)
        told = ", ".join(f"{oid} = {value}" for oid, value in writes)
        if status in FORBIDDEN:
            raise Refused(
                f"{self}: may not be written ({FORBIDDEN[status]}); give this community or user"
                f" the right to write {told}"
            )
        if status in UNFIT:
            raise Garbled(f"{self}: does not take {told} ({UNFIT[status]})")
        if status:
            raise Unreachable(f"{self}: could not do {told} (error status {status}); look again")


def _value(value: object) -> int | str | None:
    from pyasn1.type.univ import ObjectIdentifier

    if isinstance(value, ObjectIdentifier):
        return ".".join(map(str, tuple(value)))
    return plain_value(value)
