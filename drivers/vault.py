# SPDX-License-Identifier: GPL-2.0-or-later
"""Seals what leaves the cluster for a place that nobody trusts: AES-256-GCM (NIST SP 800-38D).

Keys come from the cluster key by HKDF-SHA256 (RFC 5869), one for names and one for contents. An
object is sealed together with its name, so that none can stand in for another, and is as long as
the next multiple of 64 KiB. What it cannot tell is an old object from a new one of the same name.
"""

import hmac
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from agent.ports import Garbled

MAGIC = b"SPV1"
NONCE_BYTES = 12
TAG_BYTES = 16
LENGTH_BYTES = 8
ROUNDED_TO_BYTES = 1 << 16
OVERHEAD_BYTES = len(MAGIC) + NONCE_BYTES + TAG_BYTES


class Vault:
    """secret: the cluster key, as bytes."""

    def __init__(self, secret: bytes) -> None:
        self._names = _derive(secret, b"standpipe vault names 1")
        self._box = AESGCM(_derive(secret, b"standpipe vault contents 1"))

    def name(self, *parts: str) -> str:
        """What an object is called outside: 64 hexadecimal digits that say nothing of `parts`."""
        whole = b"".join(len(part.encode()).to_bytes(8) + part.encode() for part in parts)
        return hmac.digest(self._names, whole, "sha256").hex()

    def seal(self, name: str, content: bytes) -> bytes:
        """Different each time."""
        inside = len(content).to_bytes(LENGTH_BYTES) + content
        inside += bytes(-len(inside) % ROUNDED_TO_BYTES)
        nonce = os.urandom(NONCE_BYTES)
        return MAGIC + nonce + self._box.encrypt(nonce, inside, MAGIC + name.encode())

    def sealed_bytes(self, length: int) -> int:
        """How long an object with so much content is."""
        inside = LENGTH_BYTES + length
        return OVERHEAD_BYTES + inside + -inside % ROUNDED_TO_BYTES

    def unseal(self, name: str, sealed: bytes) -> bytes:
        """The content. Raises Garbled for anything but what was sealed under this name."""
        nonce = sealed[len(MAGIC) : len(MAGIC) + NONCE_BYTES]
        try:
            if not sealed.startswith(MAGIC):
                raise InvalidTag
            inside = self._box.decrypt(
                nonce, sealed[len(MAGIC) + NONCE_BYTES :], MAGIC + name.encode()
            )
        except (InvalidTag, ValueError) as error:
            raise Garbled(
                f"object {name[:16]}, {len(sealed)} bytes: its seal is broken; it was damaged or "
                "exchanged, or was sealed with another cluster.key"
            ) from error
        length = int.from_bytes(inside[:LENGTH_BYTES])
        return inside[LENGTH_BYTES : LENGTH_BYTES + length]


def _derive(secret: bytes, purpose: bytes) -> bytes:
    return HKDF(hashes.SHA256(), 32, None, purpose).derive(secret)
