# SPDX-License-Identifier: GPL-2.0-or-later
"""The cluster's own certificate authority, and the TLS 1.3 that its certificates allow (RFC 8446).

A folder holds ca.crt, ca.key, node.crt, node.key: ECDSA P-256, keys with mode 0600. A node is who
its certificate's only DNS name says, NODE.CLUSTER; whether it still belongs to the cluster the
configuration says: compare peer_name() with Settings.nodes. Every node holds ca.key, so that any
one of them admits and renews.
"""

import contextlib
import hashlib
import re
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from agent.ports import Refused
from agent.writing import write_new, write_whole

CARRY = "standpipe-carry/1"  # ALPN (RFC 7301): between nodes, both with certificates
JOIN = "standpipe-join/1"  # from a machine that has none yet
CA_DAYS = 20 * 365
NODE_DAYS = 90
RENEWED_AFTER_DAYS = 60
SKEW = timedelta(hours=1)  # a clock may be behind ours by so much and still take a new certificate
CA_SKEW = timedelta(days=1)
DAY_S = 86_400
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # SP 800-186
LONGEST_COMMON_NAME = 64  # RFC 5280, ub-common-name

ADVICE = "make it with `standpipe init` on the first node, `standpipe join` on the others"

_FOREIGN = re.compile(r"[^A-Za-z0-9_-]+")


def now() -> datetime:
    """The wall clock: certificates have no other."""
    return datetime.now(UTC)


def dns_name(node: str, cluster: str) -> str:
    """The name in a node's certificate; in the cluster's what fits no DNS label becomes "-"."""
    return f"{node}.{_FOREIGN.sub('-', cluster) or 'cluster'}"


def make_ca(
    folder: Path, cluster: str, at: datetime | None = None, secret: bytes | None = None
) -> None:
    """An authority in a folder that has none; the folder is made. Raises Refused.

    secret: the cluster key, of which its key is derived: two nodes with the same cluster key make
    the same authority, each for itself. None: one that is like no other.
    """
    at = at or now()
    key = ec.generate_private_key(ec.SECP256R1()) if secret is None else _derived(secret)
    name = x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, f"Standpipe {cluster}"[:LONGEST_COMMON_NAME])]
    )
    usage = _usage(key_cert_sign=True, crl_sign=True)
    certificate = (
        _draft(
            name, name, key.public_key(), key.public_key(), at - CA_SKEW, at + timedelta(CA_DAYS)
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .sign(key, hashes.SHA256())
    )
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_new(folder / "ca.key", _key_pem(key), 0o600)
        write_new(folder / "ca.crt", _pem(certificate), 0o644)
    except FileExistsError as error:
        raise Refused(
            f"authority {folder}: there is one already, nothing is overwritten; to begin anew move "
            "the folder away"
        ) from error
    except OSError as error:
        raise _unwritable(folder, error) from error


def issue(folder: Path, cluster: str, node: str, at: datetime | None = None) -> None:
    """A new node.key and node.crt for `node`, in place of those there. Raises Refused."""
    at = at or now()
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _certify(folder, cluster, node, key.public_key(), at)
    try:
        write_whole(folder / "node.key", _key_pem(key), 0o600)
        write_whole(folder / "node.crt", _pem(certificate), 0o644)
    except OSError as error:
        raise _unwritable(folder, error) from error


def renew_if_due(folder: Path, cluster: str, node: str, at: datetime | None = None) -> bool:
    """Whether node.crt was made anew: it was old, missing, for another name, key or CA.

    The key stays, so one rename does it; contexts in use take it up with reload(). Raises Refused.
    """
    at = at or now()
    key_file = folder / "node.key"
    if not key_file.exists():
        issue(folder, cluster, node, at)
        return True
    key = _read_key(key_file)
    ca = _read_certificate(folder / "ca.crt")
    with contextlib.suppress(Refused):
        present = _read_certificate(folder / "node.crt")
        if not _due(present, ca, key, dns_name(node, cluster), at):
            return False
    certificate = _certify(folder, cluster, node, key.public_key(), at)
    try:
        write_whole(folder / "node.crt", _pem(certificate), 0o644)
    except OSError as error:
        raise _unwritable(folder, error) from error
    return True


def days_left(folder: Path, at: datetime | None = None) -> float:
    """Until the first of node.crt and ca.crt ends; below 0: it has. Raises Refused."""
    at = at or now()
    ends = min(
        _read_certificate(folder / name).not_valid_after_utc for name in ("node.crt", "ca.crt")
    )
    return (ends - at).total_seconds() / DAY_S


def fingerprint(certificate_pem: bytes) -> bytes:
    """SHA-256 of its public key (SubjectPublicKeyInfo, as in RFC 7469). Raises Refused.

    Not of the certificate, of which each node may have made its own for the same key.
    """
    public = _parse(certificate_pem, "certificate").public_key()
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return hashlib.sha256(public.public_bytes(serialization.Encoding.DER, form)).digest()


def server_context(folder: Path, cluster: str) -> ssl.SSLContext:
    """For the side that listens. Raises Refused.

    A handshake for CARRY fails without a node's certificate; one for JOIN needs none; one without
    either protocol fails. The caller reads selected_alpn_protocol().
    """
    context = _context(ssl.PROTOCOL_TLS_SERVER, folder)
    context.verify_mode = (
        ssl.CERT_OPTIONAL
    )  # the protocol, known only later, says whether it must be
    context.num_tickets = 0  # every connection shows its certificate
    context.set_alpn_protocols([CARRY, JOIN])

    class Listening(ssl.SSLObject):
        def do_handshake(self) -> None:
            super().do_handshake()
            protocol = self.selected_alpn_protocol()
            if protocol == CARRY:
                peer_name(self, cluster)
            elif protocol != JOIN:
                raise ssl.SSLError(f"no {CARRY} and no {JOIN} asked for")

    context.sslobject_class = Listening
    return context


def client_context(folder: Path, cluster: str, node: str) -> ssl.SSLContext:
    """For a connection to `node`: the handshake fails where another one answers. Raises Refused."""
    context = _context(ssl.PROTOCOL_TLS_CLIENT, folder)
    context.check_hostname = False  # addresses are dialled; whose they are is looked at below
    context.set_alpn_protocols([CARRY])

    class Dialling(ssl.SSLObject):
        def do_handshake(self) -> None:
            super().do_handshake()
            found = peer_name(self, cluster)
            if found != node:
                raise ssl.SSLCertVerificationError(f"{found} answers in the place of {node}")
            if self.selected_alpn_protocol() != CARRY:
                raise ssl.SSLError(f"{node} does not speak {CARRY}")

    context.sslobject_class = Dialling
    return context


def joining_context(ca_pem: bytes | None) -> ssl.SSLContext:
    """For a machine that joins. None: whoever answers may say what its authority is, no more.

    Else the other end must be a node of that authority. Raises Refused.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.set_alpn_protocols([JOIN])
    if ca_pem is None:
        context.verify_mode = ssl.CERT_NONE
        return context
    _parse(ca_pem, "certificate of the authority")
    context.load_verify_locations(cadata=ca_pem.decode("ascii"))
    return context


def reload(context: ssl.SSLContext, folder: Path) -> None:
    """From now on its new connections show the node.crt that lies there. Raises Refused."""
    try:
        context.load_cert_chain(folder / "node.crt", folder / "node.key")
    except (OSError, ssl.SSLError) as error:
        raise _unusable(folder, error) from error


def peer_name(connection: ssl.SSLObject | ssl.SSLSocket, cluster: str) -> str:
    """The node at the other end. Raises ssl.SSLCertVerificationError: it shows none of ours."""
    shown: dict[str, Any] = connection.getpeercert() or {}
    names = [value for kind, value in shown.get("subjectAltName", ()) if kind == "DNS"]
    suffix = dns_name("", cluster)
    if len(names) != 1 or not names[0].endswith(suffix) or names[0] == suffix:
        whom = ", ".join(names) or "nobody"
        raise ssl.SSLCertVerificationError(
            f"its certificate names {whom}, not a node of cluster {cluster}"
        )
    name: str = names[0].removesuffix(suffix)
    return name


def _context(side: int, folder: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(side)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_verify_locations(folder / "ca.crt")
    except (OSError, ssl.SSLError) as error:
        raise _unusable(folder, error) from error
    reload(context, folder)
    return context


def _certify(
    folder: Path, cluster: str, node: str, key: ec.EllipticCurvePublicKey, at: datetime
) -> x509.Certificate:
    ca = _read_certificate(folder / "ca.crt")
    ca_key = _read_key(folder / "ca.key")
    if ca.public_key() != ca_key.public_key():
        raise Refused(
            f"authority {folder}: ca.key is not the key of ca.crt; copy both from another node"
        )
    if at < ca.not_valid_before_utc:
        raise Refused(
            f"authority {folder}: the clock says {at:%Y-%m-%d}, before the authority was made "
            f"({ca.not_valid_before_utc:%Y-%m-%d}); set the clock, then try again"
        )
    if at >= ca.not_valid_after_utc:
        raise Refused(
            f"authority {folder}: ended on {ca.not_valid_after_utc:%Y-%m-%d}; begin a new one with "
            "`standpipe init` and let every node join again"
        )
    name = dns_name(node, cluster)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, node[:LONGEST_COMMON_NAME])])
    until = min(at + timedelta(NODE_DAYS), ca.not_valid_after_utc)
    purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    return (
        _draft(subject, ca.subject, key, ca_key.public_key(), at - SKEW, until)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(ca_key, hashes.SHA256())
    )


def _draft(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    issuer_key: ec.EllipticCurvePublicKey,
    begins: datetime,
    ends: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False
        )
    )


def _usage(**wanted: bool) -> x509.KeyUsage:
    """What a key is for: nothing but what is `wanted` (RFC 5280 4.2.1.3)."""
    every = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    )
    return x509.KeyUsage(**{use: wanted.get(use, False) for use in every})


def _due(
    present: x509.Certificate,
    ca: x509.Certificate,
    key: ec.EllipticCurvePrivateKey,
    name: str,
    at: datetime,
) -> bool:
    age = at - (present.not_valid_before_utc + SKEW)
    if (
        not timedelta(0) <= age < timedelta(RENEWED_AFTER_DAYS)
    ):  # also one of a clock since set back
        return True
    try:
        present.verify_directly_issued_by(ca)
        names = present.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (InvalidSignature, ValueError, TypeError, x509.ExtensionNotFound):
        return True
    return present.public_key() != key.public_key() or names.get_values_for_type(x509.DNSName) != [
        name
    ]


def _derived(secret: bytes) -> ec.EllipticCurvePrivateKey:
    """FIPS 186-5 A.2.1: from 64 bits more than the order has, so that no key is likelier."""
    wide = HKDF(hashes.SHA256(), 40, None, b"standpipe authority 1").derive(secret)
    return ec.derive_private_key(int.from_bytes(wide) % (P256_ORDER - 1) + 1, ec.SECP256R1())


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _read_certificate(file: Path) -> x509.Certificate:
    return _parse(_read(file), str(file))


def _parse(pem: bytes, what: str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError as error:
        raise Refused(f"{what}: is no certificate ({error}); {ADVICE}") from error


def _read_key(file: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(_read(file), None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise Refused(f"{file}: is no private key ({error}); {ADVICE}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise Refused(f"{file}: is no elliptic curve key; {ADVICE}")
    return key


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise Refused(f"{file}: {error.strerror}; {ADVICE}") from error


def _unusable(folder: Path, error: OSError) -> Refused:
    return Refused(f"authority {folder}: {error.strerror or error}; {ADVICE}")


def _unwritable(folder: Path, error: OSError) -> Refused:
    what = error.filename or folder
    return Refused(f"authority {folder}: {what}: {error.strerror}; make it writable, with room")
