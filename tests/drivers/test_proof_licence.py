# SPDX-License-Identifier: GPL-2.0-or-later
"""Licences: for this host, not ended, for how long; by a command or by the file itself."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from agent.core.model import Proof
from agent.core.settings import CarriedSettings, GroupSettings
from drivers.proof_licence import Host, LicenceProof, read_licence, this_host, told_end

HOST = Host(frozenset(("lon2", "lon2.example.net")), frozenset(("52:54:00:12:34:56",)), "abc123")
NOW = datetime.now(UTC).replace(microsecond=0)
DAY_MS = 86_400_000


def day(days: int) -> str:
    return f"{NOW + timedelta(days=days):%Y-%m-%d}"


def prove(*files: Path | str, test: str = "") -> Proof:
    carried = CarriedSettings(licence=tuple(map(str, files)), licence_test=test)
    group = GroupSettings("pbx", ("lon1", "lon2"), (), carried=carried)
    (proof,) = asyncio.run(LicenceProof(group, HOST).prove())
    return proof


def licence(folder: Path, text: str, name: str = "licence.key") -> Path:
    file = folder / name
    file.write_text(text)
    return file


@pytest.mark.parametrize(
    "line",
    [
        "expires = {}",
        "Expiry: {}",
        "expiration_date: '{}'",
        '"expiresAt": "{}T00:00:00Z",',
        "valid-until {} 00:00",
        "Valid until: {}",
        "notAfter={}",
        "end_date={}",
    ],
)
def test_the_end_is_read_from_the_file(line: str) -> None:
    found = read_licence(f"product x\n{line.format('2031-05-01')}\nseats 40\n".encode(), HOST)
    assert found.end in (datetime(2031, 5, 1, tzinfo=UTC), datetime(2031, 5, 2, tzinfo=UTC))
    assert found.fault == ""


def test_a_day_ends_when_it_is_over_and_the_first_of_several_ends_counts() -> None:
    found = read_licence(b"expires = 2032-01-01\nsupport valid until 2031-05-01\n", HOST)
    assert found.end == datetime(2031, 5, 2, tzinfo=UTC)


@pytest.mark.parametrize(
    "text", [b"\x00\xff\xfe", b"seats = 40", b"expires = never", b"expires=20"]
)
def test_a_file_that_says_nothing_says_nothing(text: bytes) -> None:
    found = read_licence(text, HOST)
    assert (found.end, found.fault) == (None, "")


@pytest.mark.parametrize(
    ("line", "ours"),
    [
        ("hostname = lon2", True),
        ("Host-Name: LON2.example.net", True),
        ("hostname = lon1", False),
        ('"mac": "52-54-00-12-34-56"', True),
        ("mac address = 52:54:00:00:00:00", False),
        ("machine-id: abc123", True),
        ("machine_id=def", False),
        ("# any host", True),
    ],
)
def test_a_licence_for_another_host_is_found(line: str, ours: bool) -> None:
    fault = read_licence(f"expires = 2031-05-01\n{line}\n".encode(), HOST).fault
    assert (fault == "") is ours
    assert ours or fault.startswith("is for another host (")


def certificate(end: datetime) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "licence")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(end - timedelta(days=400))
        .not_valid_after(end)
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM)


def test_a_certificates_end_is_read(tmp_path: Path) -> None:
    end = NOW + timedelta(days=10)
    file = tmp_path / "licence.pem"
    file.write_bytes(b"some words before\n" + certificate(end) + certificate(end + timedelta(9)))
    proof = prove(file)
    assert proof.ok
    assert proof.left_ms == pytest.approx(10 * DAY_MS, abs=3_600_000)
    file.write_bytes(certificate(NOW - timedelta(days=1)))
    assert prove(file).ok is False
    file.write_bytes(certificate(end)[:200])
    assert "is no certificate that can be read" in prove(file).detail


def test_a_valid_licence_says_how_long(tmp_path: Path) -> None:
    proof = prove(licence(tmp_path, f"expires = {day(30)}\n"))
    assert (proof.ok, proof.detail) == (True, f"until {day(31)}")
    assert 29 * DAY_MS <= (proof.left_ms or 0) <= 31 * DAY_MS


def test_one_that_has_ended_is_bad(tmp_path: Path) -> None:
    proof = prove(licence(tmp_path, f"expires = {day(-3)}\n"))
    assert proof.ok is False
    assert "ended" in proof.detail
    assert (proof.left_ms or 0) < 0


def test_one_that_is_missing_or_empty_is_bad(tmp_path: Path) -> None:
    proof = prove(tmp_path / "none", licence(tmp_path, ""))
    assert proof.ok is False
    assert "none cannot be read (No such file or directory)" in proof.detail
    assert "licence.key is empty" in proof.detail


def test_the_first_to_end_counts_and_every_fault_is_told(tmp_path: Path) -> None:
    one = licence(tmp_path, f"expires = {day(30)}\n", "one")
    two = licence(tmp_path, f"expires = {day(3)}\n", "two")
    assert (prove(one, two).left_ms or 0) <= 4 * DAY_MS
    bad = licence(tmp_path, "hostname = lon1\n", "three")
    assert prove(one, two, bad).detail == f"{bad} is for another host (hostname lon1)"


def test_the_test_command_decides_and_may_tell_the_end(tmp_path: Path) -> None:
    file = licence(tmp_path, "opaque", "licence of pbx")
    assert prove(file, test="grep -q opaque").ok
    bad = prove(file, test="sh -c 'echo wrong dongle; exit 4'")
    assert (bad.ok, bad.detail) == (False, f"{file} is not valid here: exit 4: wrong dongle")
    told = prove(file, test="sh -c 'echo valid, 12 days left'")
    assert told.left_ms == pytest.approx(12 * DAY_MS, abs=3_600_000)
    missing = prove(file, test="no-such-command-here")
    assert (missing.ok, "cannot be run" in missing.detail) == (False, True)


def test_a_test_that_hangs_is_no_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drivers.proof_licence.TEST_MS", 200)
    assert prove(licence(tmp_path, "x"), test="sleep 60 #").ok is None


@pytest.mark.parametrize(
    ("text", "days"),
    [("42 days", 42), ("days_left: 7", 7), ("1 day remaining", 1), ("fine", None)],
)
def test_what_a_command_prints_may_tell_the_days(text: str, days: int | None) -> None:
    assert told_end(text, NOW) == (None if days is None else NOW + timedelta(days=days))


def test_this_host_has_a_name_and_a_card() -> None:
    host = this_host()
    assert host.names
    assert all(len(mac.split(":")) in (1, 6, 20) for mac in host.macs)
