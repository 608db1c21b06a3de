# SPDX-License-Identifier: GPL-2.0-or-later
"""Prover: every licence file is there, is for this host, and has not ended.

Told by a command of the configuration, by an X.509 certificate's dates, or by lines of the file
itself: "expires = 2027-03-31", "valid-until: 2027-03-31T12:00:00Z", "hostname = lon2",
"mac = 52:54:00:12:34:56", "machine-id = ...".
"""

import os
import re
import shlex
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from agent.core.model import Proof
from agent.core.settings import GroupSettings
from drivers.proving import Prover, wall_s
from drivers.shell import Ended, question, said

TEST_MS = 20_000
MAX_BYTES = 1 << 20  # a licence is small; more is not read
NOT_RUN = (126, 127)  # the shell found no such command, or may not run it
CERTIFICATE = b"-----BEGIN CERTIFICATE-----"
ENDS = re.compile(
    r"""(?:expir\w*|valid[\s_-]*(?:until|to|thru)|not[\s_-]*after|end[\s_-]*date)["']?\s*[:=]?\s*
    ["']?(?:on\s+|at\s+)?(\d{4}-\d\d-\d\d(?:[T\s]\d\d:\d\d(?::\d\d)?(?:Z|[+-]\d\d:?\d\d)?)?)""",
    re.IGNORECASE | re.VERBOSE,
)
DAYS = re.compile(r"\b(\d{1,5})\s*days?\b|\bdays?\w*\s*[:=]\s*(\d{1,5})\b", re.IGNORECASE)
BOUND = re.compile(
    r"""^\W*(host[\s_-]?name|mac(?:[\s_-]?address)?|machine[\s_-]?id)["']?\s*[:=]\s*["']?
    ([\w.:-]+)""",
    re.IGNORECASE | re.VERBOSE | re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class Host:
    """What a licence may be bound to."""

    names: frozenset[str]
    macs: frozenset[str]
    machine_id: str


@dataclass(frozen=True, slots=True)
class Licence:
    """What a file says. end: None where it says nothing of an end. fault: "" is none."""

    end: datetime | None = None
    fault: str = ""


def read_licence(content: bytes, host: Host) -> Licence:
    """By the rules above; a file that follows none of them says nothing."""
    if CERTIFICATE in content:
        return _read_certificate(content)
    text = content.decode("utf-8", "replace")
    ends = [end for match in ENDS.finditer(text) if (end := _moment(match[1])) is not None]
    return Licence(min(ends, default=None), _bound_fault(text, host))


def _read_certificate(content: bytes) -> Licence:
    from cryptography import x509

    try:
        certificates = x509.load_pem_x509_certificates(content)
    except ValueError as error:
        return Licence(fault=f"is no certificate that can be read ({error})")
    return Licence(min(certificate.not_valid_after_utc for certificate in certificates))


def _bound_fault(text: str, host: Host) -> str:
    """A host's name, card or id that the file names and that is not of this host."""
    for key, value in BOUND.findall(text):
        word = re.sub(r"[\s_-]", "", key.lower())
        if word == "hostname":
            ours = value.lower().partition(".")[0] in host.names or value.lower() in host.names
        elif word == "machineid":
            ours = value.lower() == host.machine_id
        else:
            ours = value.lower().replace("-", ":") in host.macs
        if not ours:
            return f"is for another host ({key} {value})"
    return ""


def _moment(text: str) -> datetime | None:
    """A day without an hour ends when it is over."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    if len(text) == 10:
        moment += timedelta(days=1)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def told_end(output: str, now: datetime) -> datetime | None:
    """From what a test command printed: a date as in a file, or "42 days", "days = 42"."""
    ends = [end for match in ENDS.finditer(output) if (end := _moment(match[1])) is not None]
    if not ends and (match := DAYS.search(output)):
        ends = [now + timedelta(days=int(match[1] or match[2]))]
    return min(ends, default=None)


def this_host() -> Host:
    """Raises OSError. Blocking."""
    name = os.uname().nodename.lower()
    net = Path("/sys/class/net")
    macs = {(net / link / "address").read_text().strip().lower() for link in os.listdir(net)}
    try:
        machine_id = Path("/etc/machine-id").read_text().strip()
    except FileNotFoundError:
        machine_id = ""
    return Host(frozenset((name, name.partition(".")[0])), frozenset(macs), machine_id)


class LicenceProof(Prover):
    """Proof "licence": of all licence files together; left_ms is of the one that ends first."""

    name = "licence"

    def __init__(self, settings: GroupSettings, host: Host | None = None) -> None:
        super().__init__(settings)
        self._host = host

    async def _proofs(self) -> list[Proof]:
        carried = self.settings.carried
        files = [Path(file) for file in carried.licence] if carried else []
        test = carried.licence_test if carried else ""
        contents = await self._look(lambda: {file: _content(file) for file in files})
        host = await self._look(this_host) if self._host is None else self._host
        now = datetime.fromtimestamp(wall_s(), UTC)
        found, unknown = {}, ""
        for file, content in contents.items():
            licence = _judge(content, host, now)
            if test and not licence.fault:
                ended = await question(f"{test} {shlex.quote(str(file))}", TEST_MS)
                if ended.code is None:
                    unknown = f"{file}: its test did not end within {TEST_MS} ms"
                licence = _tested(ended, licence, now)
            found[file] = licence
        return [_proof(found, unknown, now)]


def _judge(content: bytes | str, host: Host, now: datetime) -> Licence:
    licence = Licence(fault=content) if isinstance(content, str) else read_licence(content, host)
    if licence.end is not None and licence.end <= now and not licence.fault:
        return Licence(licence.end, f"ended {licence.end:%Y-%m-%d}")
    return licence


def _tested(ended: Ended, licence: Licence, now: datetime) -> Licence:
    if ended.code is None:
        return licence
    if ended.code in NOT_RUN:
        return Licence(licence.end, f"its test cannot be run: {said(ended)}")
    if ended.code != 0:
        return Licence(licence.end, f"is not valid here: {said(ended)}")
    ends = [end for end in (licence.end, told_end(ended.tail, now)) if end is not None]
    return Licence(min(ends, default=None))


def _proof(found: dict[Path, Licence], unknown: str, now: datetime) -> Proof:
    faults = [f"{file} {licence.fault}" for file, licence in found.items() if licence.fault]
    ends = [licence.end for licence in found.values() if licence.end is not None]
    end = min(ends, default=None)
    left_ms = None if end is None else int((end - now).total_seconds() * 1000)
    if faults:
        return Proof("licence", False, "; ".join(faults), left_ms)
    if unknown:
        return Proof("licence", None, unknown)
    return Proof("licence", True, "" if end is None else f"until {end:%Y-%m-%d}", left_ms)


def _content(file: Path) -> bytes | str:
    """Of a file, or of the first bytes of a big one; or what is wrong with it."""
    try:
        with file.open("rb") as opened:
            return opened.read(MAX_BYTES) or "is empty"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
