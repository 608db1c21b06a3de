# SPDX-License-Identifier: GPL-2.0-or-later
"""Name servers of one geo entry: guarded updates (RFC 2136, TSIG of RFC 8945) and looking at them.

The zone itself holds the fence: a TXT record `_sp-epoch` that every change replaces, with the exact
text that was there before as its prerequisite. Of two writers one wins, and a message that was
captured, delayed or sent by a site that has been overtaken changes nothing.
"""

import asyncio
import os
import re
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import dns.asyncquery
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdataset
import dns.rdatatype
import dns.tsig
import dns.update

from agent.core.settings import GeoSettings, RecordSettings
from agent.ports import Garbled, PortError, Refused, Unreachable

FENCE = "_sp-epoch"
FENCE_TTL_S = 5
TIMEOUT_S = 3.0
ASKED_AT_ONCE = 16  # questions to one server
TXT = re.compile(r"epoch=(\d+) site=(\S+) token=(\S+)")
ALGORITHMS = ("hmac-sha256", "hmac-sha224", "hmac-sha384", "hmac-sha512", "hmac-sha1")
KEY = re.compile(
    r'key\s+"?([^"\s{]+)"?\s*\{\s*algorithm\s+"?([\w.-]+)"?\s*;\s*secret\s+"?([\w+/=]+)"?\s*;\s*\}'
)


@dataclass(frozen=True, slots=True)
class Fence:
    """What `_sp-epoch` says. token: drawn anew for each change, so that a writer knows its own."""

    epoch: int
    site: str
    token: str

    def __str__(self) -> str:
        return f"epoch={self.epoch} site={self.site} token={self.token}"


Change = tuple[dns.name.Name, dns.rdataset.Rdataset]


class NameServers:
    """ports.Names over TCP to the primary; over UDP, as the world asks, to every server."""

    def __init__(self, settings: GeoSettings, timeout_s: float = TIMEOUT_S) -> None:
        self._geo = settings
        self._timeout_s = timeout_s
        self._zone = dns.name.from_text(settings.zone)
        self._primary = settings.servers[0]
        self._fence = dns.name.from_text(FENCE, self._zone)
        self._own: Fence | None = None  # the last one that we tried to set

    async def update(self, site: str, epoch: int) -> dict[str, Any]:
        """{"rcode", "epoch", "took_ms"} once the primary has sent the world to `site`.

        Raises Refused (bad key, not permitted, epoch overtaken), Unreachable (unknown: look again),
        Garbled.
        """
        began = monotonic()
        changes = await asyncio.to_thread(self._changes, site)
        before = await self._read()
        if self._own is None or (self._own.epoch, self._own.site) != (epoch, site):
            self._own = Fence(epoch, site, secrets.token_hex(8))
        if before != self._own:  # or else it is an earlier try of this, whose answer was lost
            self._refuse_overtaken(before, epoch)
            await self._swap(before, self._own, changes)
        took_ms = int((monotonic() - began) * 1000)
        return {"rcode": "NOERROR", "epoch": epoch, "took_ms": took_ms}

    async def epoch(self) -> int:
        """Raises Refused, Unreachable, Garbled."""
        fence = await self._read()
        return fence.epoch if fence else 0

    async def verify(self, site: str) -> dict[str, Any]:
        """{"servers": {server: {"serial", "ok", "detail"}}}; ok None: it did not say."""
        async with asyncio.TaskGroup() as tasks:
            said = {
                server: tasks.create_task(self._verify_server(server, site))
                for server in self._geo.servers
            }
        servers = {server: task.result() for server, task in said.items()}
        newest = servers[self._primary]["serial"]
        for seen in servers.values():
            if None not in (newest, seen["serial"]) and seen["serial"] != newest:
                seen["detail"] += f"; serial {seen['serial']}, the primary has {newest}"
        return {"servers": servers}

    # ------------------------------------------------------------ the primary

    def _changes(self, site: str) -> list[Change]:
        """What every record becomes. Raises Refused rather than leave one of them empty."""
        changes = []
        for record in self._geo.records:
            where = f"geo.{self._geo.name}.record {record.name} {record.type}"
            if not record.values.get(site):
                raise Refused(f"{where}: has no value for site {site}; nothing was changed")
            name = dns.name.from_text(record.name)
            if not name.is_subdomain(self._zone):
                raise Refused(f"{where}: is not in zone {self._geo.zone}; nothing was changed")
            try:
                changes.append((name, expected(record, site)))
            except (dns.exception.DNSException, ValueError) as error:
                raise Refused(f"{where}: {error}; nothing was changed") from error
        return changes

    def _refuse_overtaken(self, before: Fence | None, epoch: int) -> None:
        if before is not None and before.epoch >= epoch:
            raise Refused(
                f"dns {self._primary}: epoch overtaken: zone {self._geo.zone} is at epoch "
                f"{before.epoch} (site {before.site}), ours is {epoch}; nothing was changed"
            )

    async def _swap(self, before: Fence | None, after: Fence, changes: list[Change]) -> None:
        """One message: all of it or nothing. Raises as `update` does."""
        message = await asyncio.to_thread(self._message, before, after, changes)
        try:
            rcode = (await self._ask_primary(message)).rcode()
        except (Unreachable, Garbled) as error:
            await self._look_again(after, str(error))
            return
        if rcode in (dns.rcode.NXRRSET, dns.rcode.YXRRSET):
            await self._look_again(after, "another writer was first")
        elif rcode != dns.rcode.NOERROR:
            raise self._complaint(rcode)

    def _message(
        self, before: Fence | None, after: Fence, changes: list[Change]
    ) -> dns.update.UpdateMessage:
        message = dns.update.UpdateMessage(self._zone, keyring=self._key())
        if before is None:
            message.absent(self._fence, "TXT")
        else:
            message.present(self._fence, "TXT", f'"{before}"')
        message.replace(self._fence, FENCE_TTL_S, "TXT", f'"{after}"')
        for name, rdataset in changes:
            message.replace(name, rdataset)
        return message

    async def _look_again(self, after: Fence, why: str) -> None:
        """Did our update take effect? Raises Refused (another's did), Unreachable (not known)."""
        try:
            now = await self._read()
        except Unreachable as error:
            raise Unreachable(f"{error}; update to {after.site} unknown, look again") from error
        if now == after:
            return
        self._refuse_overtaken(now, after.epoch)
        raise Unreachable(
            f"dns {self._primary}: update of {self._geo.zone} to {after.site}: {why}; zone says "
            f"{now or 'no epoch'}, which may still change: unknown, look again"
        )

    async def _read(self) -> Fence | None:
        """The fence as the primary has it now; None where there is none yet."""
        question = dns.message.make_query(self._fence, "TXT")
        question.flags &= ~dns.flags.RD
        question.use_tsig(await asyncio.to_thread(self._key))
        answer = await self._ask_primary(question)
        rcode = answer.rcode()
        if rcode not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
            raise self._complaint(rcode)
        if not answer.flags & dns.flags.AA:
            raise self._complaint(dns.rcode.NOTAUTH)
        texts = [
            b" ".join(rdata.strings).decode("utf-8", "replace")
            for rrset in answer.answer
            if rrset.name == self._fence and rrset.rdtype == dns.rdatatype.TXT
            for rdata in rrset
        ]
        if not texts:
            return None
        match = TXT.fullmatch(texts[0])
        if match is None or len(texts) > 1:
            raise Garbled(
                f"dns {self._primary}: {self._fence} TXT says {texts}, not one 'epoch=N site=S "
                "token=T'; put back the last good one, never delete it"
            )
        return Fence(int(match[1]), match[2], match[3])

    async def _ask_primary(self, message: dns.message.Message) -> dns.message.Message:
        """One message over TCP, signed both ways."""
        address, port = address_and_port(self._primary)
        try:
            answer = await dns.asyncquery.tcp(message, address, self._timeout_s, port)
        except (dns.tsig.PeerError, dns.tsig.BadSignature, dns.tsig.BadTime) as error:
            raise self._key_complaint(error) from error
        except (dns.exception.Timeout, OSError, EOFError) as error:
            why = f"no answer ({reason(error)}); check that it is up, also over TCP"
            raise Unreachable(f"dns {self._primary}: {why}") from error
        except (dns.exception.DNSException, ValueError) as error:
            raise Garbled(f"dns {self._primary}: {error}; is it a name server?") from error
        return answer

    @property
    def _key_setting(self) -> str:
        return f"geo.{self._geo.name}.tsig_file {self._geo.tsig_file}"

    def _key_complaint(self, error: Exception) -> PortError:
        known: dict[type[Exception], str] = {
            dns.tsig.PeerBadKey: "BADKEY: it does not know our key",
            dns.tsig.PeerBadSignature: "BADSIG: the secret differs",
            dns.tsig.PeerBadTime: "BADTIME: clocks differ by more than 300 s",
            dns.tsig.BadTime: "its clock and ours differ by more than 300 s",
        }
        what = known.get(type(error), str(error))
        now = "check the clock (NTP) here and there" if "clock" in what else "compare the keys"
        return Refused(f"dns {self._primary}: NOTAUTH ({what}); {now}; {self._key_setting}")

    def _complaint(self, rcode: dns.rcode.Rcode) -> PortError:
        text = f"dns {self._primary}: {dns.rcode.to_text(rcode)} for zone {self._geo.zone}"
        if rcode == dns.rcode.REFUSED:
            return Refused(f"{text}; let the key of {self._key_setting} update it (update-policy)")
        if rcode == dns.rcode.NOTAUTH:
            return Refused(f"{text}; geo.{self._geo.name}.servers must begin with its primary")
        if rcode == dns.rcode.SERVFAIL:
            return Unreachable(f"{text}; look in its log (disk, journal), then look again")
        return Refused(f"{text}; look in its log")

    def _key(self) -> dns.tsig.Key:
        return read_key(self._key_setting, self._geo.tsig_file)

    # ------------------------------------------------------------ every server

    async def _verify_server(self, server: str, site: str) -> dict[str, Any]:
        try:
            soa = await ask(server, self._zone, "SOA", self._timeout_s)
        except PortError as error:
            ok = None if isinstance(error, Unreachable) else False
            return {"serial": None, "ok": ok, "detail": str(error)}
        gate = asyncio.Semaphore(ASKED_AT_ONCE)
        async with asyncio.TaskGroup() as tasks:
            asked = [
                tasks.create_task(self._verify_record(server, record, site, gate))
                for record in self._geo.records
            ]
        bad = [(ok, detail) for ok, detail in (task.result() for task in asked) if not ok]
        serial = next((rdata.serial for rdata in soa or ()), None)
        if serial is None:
            bad.append((False, f"dns {server}: has no SOA of {self._geo.zone}"))
        ok = None if any(ok is None for ok, _ in bad) else not bad
        detail = "; ".join(detail for _, detail in bad[:3])
        return {"serial": serial, "ok": ok, "detail": detail or f"says {site}"}

    async def _verify_record(
        self, server: str, record: RecordSettings, site: str, gate: asyncio.Semaphore
    ) -> tuple[bool | None, str]:
        try:
            async with gate:
                name = dns.name.from_text(record.name)
                said = await ask(server, name, record.type, self._timeout_s)
            wanted = expected(record, site)
        except Unreachable as error:
            return None, str(error)
        except (PortError, dns.exception.DNSException, ValueError) as error:
            return False, str(error)
        if said is not None and set(said) == set(wanted):
            return True, ""
        have = ", ".join(sorted(map(str, said))) if said else "nothing"
        want = ", ".join(sorted(map(str, wanted)))
        return False, f"dns {server}: {record.name} {record.type} is {have}, not {want}"


async def ask(
    server: str, name: dns.name.Name, kind: str, timeout_s: float
) -> dns.rdataset.Rdataset | None:
    """What an authoritative server says, over UDP (twice), or TCP where that is cut short.

    Raises Unreachable, Refused, Garbled.
    """
    address, port = address_and_port(server)
    question = dns.message.make_query(name, kind, use_edns=0, payload=1232)
    question.flags &= ~dns.flags.RD

    async def once() -> dns.message.Message:
        answer, _ = await dns.asyncquery.udp_with_fallback(
            question, address, timeout_s / 2, port, ignore_unexpected=True
        )
        return answer

    answer = await twice(once, f"dns {server}")
    rcode = answer.rcode()
    if rcode not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
        raise Refused(
            f"dns {server}: {dns.rcode.to_text(rcode)} for {name} {kind}; look in its log"
        )
    if not answer.flags & dns.flags.AA:
        raise Refused(f"dns {server}: not authoritative for {name}; is the zone loaded there?")
    wanted = dns.rdatatype.from_text(kind)
    return answer.get_rrset(answer.answer, name, dns.rdataclass.IN, wanted)


async def twice(
    once: Callable[[], Awaitable[dns.message.Message]], who: str
) -> dns.message.Message:
    for last in (False, True):
        try:
            return await once()
        except (dns.exception.Timeout, OSError, EOFError) as error:
            if last:
                raise Unreachable(
                    f"{who}: no answer ({reason(error)}); check that it is up"
                ) from error
        except (dns.exception.DNSException, ValueError) as error:
            raise Garbled(f"{who}: {error}; is it a name server?") from error
    raise AssertionError("unreachable")


def reason(error: Exception) -> str:
    errno = getattr(error, "errno", None)
    return os.strerror(errno) if errno else str(error) or type(error).__name__


def expected(record: RecordSettings, site: str) -> dns.rdataset.Rdataset:
    """A record's rdata for a site. Raises DNSException, ValueError for text that is none."""
    kind = dns.rdatatype.from_text(record.type)
    rdatas = [
        dns.rdata.from_text("IN", kind, value, dns.name.root, relativize=False)
        for value in record.values.get(site, ())
    ]
    return dns.rdataset.from_rdata_list(record.ttl_s, rdatas)


def address_and_port(server: str) -> tuple[str, int]:
    """Of "192.0.2.53", "192.0.2.53:5353", "2001:db8::53" or "[2001:db8::53]:5353"."""
    if server.startswith("["):
        address, _, port = server[1:].partition("]")
        return address, int(port.removeprefix(":") or 53)
    address, _, port = server.partition(":")
    if not port or ":" in port:
        return server, 53
    return address, int(port)


def read_key(setting: str, file: str) -> dns.tsig.Key:
    """A key in BIND's form, as tsig-keygen(8) writes it. Raises Refused. Blocking."""
    try:
        text = Path(file).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f"{setting}: {error}; make it readable to the agent") from error
    match = KEY.search(re.sub(r"^\s*(#|//).*", "", text, flags=re.M))
    if match is None:
        raise Refused(f'{setting}: has no key "NAME" {{ algorithm ...; }}; see tsig-keygen(8)')
    name, algorithm, secret = match.groups()
    if algorithm.lower().rstrip(".") not in ALGORITHMS:
        raise Refused(f"{setting}: algorithm {algorithm}; use one of {', '.join(ALGORITHMS)}")
    try:
        return dns.tsig.Key(name, secret, algorithm.lower())
    except (dns.exception.DNSException, ValueError) as error:
        raise Refused(f"{setting}: key {name}: {error}; make a new one with tsig-keygen") from error
