# SPDX-License-Identifier: GPL-2.0-or-later
"""SNMP v2c and v3 for every driver that needs it: one pysnmp engine, one line for each receiver.

pysnmp is imported in a thread when the first question or trap is due, and its engine built there
(150 ms of CPU). A receiver has its own address, credentials and tag: shared ones make pysnmp send a
notification to everybody known by that tag, or lose the answers.
"""

import asyncio
import json
import os
import re
import tomllib
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from agent.core.settings import SnmpSettings
from agent.ports import Garbled, PortError, Refused, Unreachable

TRY_S = 1.5  # pysnmp's timers tick at 0.1 s and fire up to one tick early
AUTH = {  # secrets_file's word -> pysnmp's name (RFC 3414, RFC 7860)
    "none": "USM_AUTH_NONE",
    "md5": "USM_AUTH_HMAC96_MD5",
    "sha1": "USM_AUTH_HMAC96_SHA",
    "sha224": "USM_AUTH_HMAC128_SHA224",
    "sha256": "USM_AUTH_HMAC192_SHA256",
    "sha384": "USM_AUTH_HMAC256_SHA384",
    "sha512": "USM_AUTH_HMAC384_SHA512",
}
PRIV = {  # RFC 3826; 192 and 256 with Blumenthal's key extension, "c" with Reeder's (Cisco)
    "none": "USM_PRIV_NONE",
    "aes128": "USM_PRIV_CFB128_AES",
    "aes192": "USM_PRIV_CFB192_AES_BLUMENTHAL",
    "aes256": "USM_PRIV_CFB256_AES_BLUMENTHAL",
    "aes192c": "USM_PRIV_CFB192_AES",
    "aes256c": "USM_PRIV_CFB256_AES",
}
# errorIndication classes of pysnmp: nobody answered, and a clear no
SILENCE = {"RequestTimedOut", "EmptyResponse", "NotInTimeWindow", "UnknownEngineID"}
REFUSALS = (
    r"Unknown(User|Security|Community)Name|WrongDigest|Authentication(Failure|Error)|NoSuchContext|"
    r"Unsupported(SecurityLevel|AuthProtocol|PrivProtocol)|No(Authentication|Encryption)|"
    r"(En|De)cryptionError"
)
NO_ACCESS, AUTHORIZATION_ERROR = 6, 16  # error-status, RFC 3416 section 3


@dataclass(frozen=True, slots=True)
class Target:
    """Somebody to speak with. key: its place in the configuration, "device.ups1", for errors."""

    key: str
    address: str
    snmp: SnmpSettings
    try_s: float = TRY_S
    tries: int = 2

    def __str__(self) -> str:
        return f"{self.key} ({self.address} port {self.snmp.port})"


@dataclass(frozen=True, slots=True)
class Credentials:
    """What the files held. auth, priv: (word of AUTH or PRIV, pass phrase)."""

    community: str = field(default="", repr=False)
    user: str = ""
    auth: tuple[str, str] = field(default=("none", ""), repr=False)
    priv: tuple[str, str] = field(default=("none", ""), repr=False)


@dataclass(slots=True, eq=False)
class Engine:
    """A pysnmp engine; `users` that it knows: it can hold one secret for each name."""

    snmp: Any
    users: dict[str, Credentials] = field(default_factory=dict)


@dataclass(slots=True)
class Wire:
    """What pysnmp wants to be given for one receiver, made once and kept."""

    engine: Engine
    auth: Any
    transport: Any
    context: Any

    def arguments(self) -> tuple[Any, Any, Any, Any]:
        return self.engine.snmp, self.auth, self.transport, self.context


class Session:
    """The SNMP side of this process; for one event loop.

    state_dir holds snmp-engine.json: the engine's identity, for NMSs that must be told it
    ("createUser -e"), and its count of starts, without which no v3 trap is believed (RFC 3414).
    engine_name: unique among the agents that one NMS hears, "callcentre.lon1".
    """

    def __init__(self, state_dir: Path, engine_name: str) -> None:
        self._file = state_dir / "snmp-engine.json"
        self.engine_id = engine_id(engine_name)
        self.starts = 0
        self._starts_problem = ""
        self._engines: list[Engine] = []
        self._credentials: dict[Target, Credentials] = {}
        self._wires: dict[tuple[Target, Credentials], Wire] = {}
        self._heard: set[Target] = set()
        self._made = 0
        self._building = asyncio.Lock()

    def line(self, key: str, address: str, snmp: SnmpSettings, try_s: float = TRY_S) -> "Line":
        """key: the receiver's place in the configuration, "device.ups1"."""
        return Line(self, Target(key, address, snmp, try_s))

    def close(self) -> None:
        """Closes every socket; the session may be used again, as a newly started engine."""
        for engine in self._engines:
            engine.snmp.close_dispatcher()
        self._engines.clear()
        self._wires.clear()

    async def wire(self, target: Target) -> Wire:
        """Raises Refused for its secrets, Unreachable for its address."""
        credentials = self._credentials.get(target)
        if credentials is None:
            credentials = await asyncio.to_thread(read_credentials, target)
            self._credentials[target] = credentials
        wire = self._wires.get((target, credentials))
        if wire is None:
            async with self._building:
                engine = await self._engine_for(credentials)
            self._made += 1
            wire = await new_wire(engine, target, credentials, f"standpipe{self._made}")
            if engine not in self._engines:  # closed meanwhile
                return await self.wire(target)
            self._wires[target, credentials] = wire
        return wire

    async def speak(
        self, target: Target, wire: Wire, call: Coroutine[Any, Any, Any]
    ) -> tuple[int, Sequence[tuple[Any, Any]]]:
        """Awaits a call: (error status, rows). pysnmp's timers may rest: they go by wall clock."""
        from pysnmp.error import PySnmpError

        trouble: Any
        try:
            async with asyncio.timeout(2 * target.try_s * target.tries + 1):
                trouble, status, _, answers = await call
        except TimeoutError:
            if wire.engine in self._engines:
                self.close()
            trouble, status, answers = "nothing came", 0, ()
        except PySnmpError as error:
            read = getattr(error, "get", None)  # pysnmp's StatusInformation carries an indication
            trouble, status, answers = (read and read("errorIndication")) or error, 0, ()
        if not trouble:
            self._heard.add(target)
            return int(status), answers
        self._credentials.pop(target, None)  # read anew next time: they may have been mended
        if target in self._heard and target.snmp.version == "3":
            self._heard.discard(target)
            self.close()  # it may be back with another engine ID; pysnmp keeps the old for 300 s
        raise complaint(target, trouble)

    def cannot_trap(self, wire: Wire) -> str:
        """Why nobody would believe a v3 trap over this wire, or ""."""
        if self._starts_problem:
            return self._starts_problem
        if wire.engine not in self._engines[:1]:
            return "its user has another pass phrase elsewhere in the configuration"
        return ""

    async def _engine_for(self, credentials: Credentials) -> Engine:
        for engine in self._engines:
            if not credentials.user:
                return engine
            if engine.users.setdefault(credentials.user, credentials) == credentials:
                return engine
        if not self._engines:
            await asyncio.to_thread(self._count_start)
        built = await asyncio.to_thread(new_engine, self.engine_id, self.starts)
        engine = Engine(built, {credentials.user: credentials})
        self._engines.append(engine)
        return engine

    def _count_start(self) -> None:
        """The count must rise even where the file was lost or came back from a backup."""
        minutes = int((datetime.now(UTC) - datetime(2020, 1, 1, tzinfo=UTC)).total_seconds()) // 60
        stored = 0
        with suppress(OSError, ValueError, KeyError, TypeError):
            stored = int(json.loads(self._file.read_bytes())["starts"])
        self.starts = max(self.starts, stored, minutes) + 1
        new = self._file.with_suffix(".new")
        try:
            with new.open("w") as file:
                json.dump({"engine_id": self.engine_id.hex(), "starts": self.starts}, file)
                file.flush()
                os.fsync(file.fileno())
            new.replace(self._file)
            self._starts_problem = ""
        except OSError as error:
            self._starts_problem = f"{self._file} cannot be written ({error.strerror})"


class Line:
    """To one receiver; kept for as long as it is in the configuration."""

    def __init__(self, session: Session, target: Target) -> None:
        self._session = session
        self._target = target

    def __str__(self) -> str:
        return str(self._target)

    async def open(self) -> int:
        """How often our SNMP side has started, once it is ready. Raises Unreachable, Refused."""
        await self._session.wire(self._target)
        return self._session.starts

    async def first_rows(self, columns: Sequence[str]) -> dict[str, int | str]:
        """{OID: value} of the first row of each column, whatever its index; no row, no entry.

        One GETNEXT message; more where the agent finds it too big or fails on a column.
        Raises Unreachable, Refused, Garbled.
        """
        from pysnmp.hlapi.v3arch.asyncio import next_cmd
        from pysnmp.proto.rfc1902 import Null

        wire = await self._session.wire(self._target)
        asked = [(column, Null("")) for column in columns]
        call = next_cmd(*wire.arguments(), *asked, lookupMib=False, ignoreNonIncreasingOid=True)
        status, answers = await self._session.speak(self._target, wire, call)
        if not status:
            return first_of(columns, answers)
        if status in (NO_ACCESS, AUTHORIZATION_ERROR):
            raise Refused(f"{self}: may not be read; check its view of this community or user")
        if len(columns) == 1:
            return {}
        half = len(columns) // 2
        rows = await self.first_rows(columns[:half])
        return rows | await self.first_rows(columns[half:])

    async def notify(self, trap: str, values: Sequence[tuple[str, Any]], inform: bool) -> None:
        """Sends a trap, or an inform until it is acknowledged. values: (OID, pysnmp value).

        Raises Unreachable, Refused, Garbled. A trap that nobody took raises nothing.
        """
        from pysnmp.hlapi.v3arch.asyncio import NotificationType, ObjectIdentity, send_notification

        wire = await self._session.wire(self._target)
        if self._target.snmp.version == "3" and not inform:
            why = self._session.cannot_trap(wire)
            if why:
                raise Refused(
                    f"{self}: {why}, so a v3 trap would not be believed; use inform = true"
                )
        notification = NotificationType(ObjectIdentity(trap)).add_varbinds(*values)
        call = send_notification(*wire.arguments(), "inform" if inform else "trap", notification)
        status, _ = await self._session.speak(self._target, wire, call)
        if status:
            raise Garbled(
                f"{self}: answered the inform with error status {status}; look in its log"
            )


def new_engine(identity: bytes, starts: int) -> Any:
    """A pysnmp engine with our identity. Set afterwards: given to pysnmp it would write under /tmp.

    Blocking: 150 ms of CPU, and as much again for the first import.
    """
    from pysnmp.entity.engine import SnmpEngine
    from pysnmp.hlapi.v3arch import asyncio as _  # noqa: F401 (imported here, off the loop)

    engine = SnmpEngine()
    mibs = engine.get_mib_builder()
    own, boots = mibs.import_symbols("__SNMP-FRAMEWORK-MIB", "snmpEngineID", "snmpEngineBoots")
    own.syntax = own.syntax.clone(identity)
    engine.snmpEngineID = own.syntax
    boots.syntax = boots.syntax.clone(starts)
    mibs.load_modules("SNMP-COMMUNITY-MIB", "SNMP-TARGET-MIB", "SNMP-NOTIFICATION-MIB")
    return engine


def complaint(target: Target, trouble: Any) -> PortError:
    """The port error for an errorIndication of pysnmp."""
    name = type(trouble).__name__
    who = f"user '{target.snmp.user}'" if target.snmp.version == "3" else "the community"
    if name in SILENCE or isinstance(trouble, str):
        return Unreachable(
            f"{target}: no answer in {target.try_s * target.tries:g} s ({trouble}); "
            f"check that it is up, permits {who} from here, and {target.key}.snmp"
        )
    if re.fullmatch(REFUSALS, name):
        return Refused(
            f"{target}: {who} refused ({trouble}); check {target.key}.snmp and its secrets"
        )
    return Garbled(f"{target}: {trouble}; check that it speaks SNMP {target.snmp.version} there")


def engine_id(name: str) -> bytes:
    """An snmpEngineID (RFC 3411): the name as text, or its digest where that is too long.

    Under the enterprise number of Net-SNMP, 8072, as the MIB is: Standpipe has none of its own.
    """
    text = name.encode()
    tail = b"\x04" + text if len(text) <= 27 else b"\x05" + sha256(text).digest()[:12]
    return b"\x80\x00\x1f\x88" + tail


def first_of(columns: Sequence[str], answers: Sequence[tuple[Any, Any]]) -> dict[str, int | str]:
    """A GETNEXT's answers that lie under the column asked for, as plain values."""
    rows: dict[str, int | str] = {}
    for column, (name, value) in zip(columns, answers, strict=False):
        oid = ".".join(map(str, tuple(name)))
        if oid.startswith(column + "."):
            plain = plain_value(value)
            if plain is not None:
                rows[oid] = plain
    return rows


def plain_value(value: Any) -> int | str | None:
    """None for Null, noSuchObject, noSuchInstance and endOfMibView."""
    from pyasn1.type.univ import Integer, OctetString

    if isinstance(value, Integer):
        return int(value)
    if isinstance(value, OctetString):
        return bytes(value).decode("utf-8", "replace")
    return None


async def new_wire(engine: Engine, target: Target, credentials: Credentials, tag: str) -> Wire:
    """Raises Unreachable where the address is a name that does not resolve."""
    from pysnmp.error import PySnmpError
    from pysnmp.hlapi.v3arch import asyncio as hlapi

    family = hlapi.Udp6TransportTarget if ":" in target.address else hlapi.UdpTransportTarget
    where = (target.address, target.snmp.port)
    try:
        transport = await family.create(where, target.try_s, target.tries - 1, tag)
    except PySnmpError as error:
        raise Unreachable(f"{target}: {error}; give its address in {target.key}.address") from error
    if target.snmp.version == "3":
        (auth, phrase), (priv, secret) = credentials.auth, credentials.priv
        protocols = getattr(hlapi, AUTH[auth]), getattr(hlapi, PRIV[priv])
        who = hlapi.UsmUserData(credentials.user, phrase or None, secret or None, *protocols)
    else:
        who = hlapi.CommunityData(tag, credentials.community, mpModel=1, tag=tag)
    return Wire(engine, who, transport, hlapi.ContextData())


def read_credentials(target: Target) -> Credentials:
    """Raises Refused: the file is missing or does not say what the level asks for. Blocking."""
    snmp = target.snmp
    if snmp.version != "3":
        if not snmp.community_file:
            return Credentials(community=snmp.community)
        text = read_secret(f"{target.key}.snmp.community_file", snmp.community_file)
        return Credentials(community=text.split("\n", 1)[0].strip())
    if snmp.level == "noAuthNoPriv":
        return Credentials(user=snmp.user)
    file = f"{target.key}.snmp.secrets_file"
    try:
        secrets = tomllib.loads(read_secret(file, snmp.secrets_file))
    except tomllib.TOMLDecodeError as error:
        raise Refused(f'{file}: {error}; write lines like auth = "sha256:pass phrase"') from error
    auth = protocol_and_phrase(file, "auth", secrets, AUTH)
    if snmp.level == "authNoPriv":
        return Credentials(user=snmp.user, auth=auth)
    priv = protocol_and_phrase(file, "priv", secrets, PRIV)
    return Credentials(user=snmp.user, auth=auth, priv=priv)


def read_secret(setting: str, file: str) -> str:
    try:
        return Path(file).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f"{setting}: {error}; make it readable to the agent") from error


def protocol_and_phrase(
    file: str, key: str, secrets: dict[str, Any], known: dict[str, str]
) -> tuple[str, str]:
    protocol, _, phrase = str(secrets.get(key, "none")).partition(":")
    protocol = protocol.lower().replace("-", "")
    if protocol == "none" or protocol not in known:
        raise Refused(
            f'{file}: write {key} = "PROTOCOL:pass phrase" with one of {", ".join(known)}'
        )
    if len(phrase) < 8:
        raise Refused(f"{file}: {key}: the pass phrase is shorter than 8 characters (RFC 3414)")
    return protocol, phrase
