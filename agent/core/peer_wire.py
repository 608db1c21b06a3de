# SPDX-License-Identifier: GPL-2.0-or-later
"""Signed packets between nodes: one UDP datagram each, HMAC-SHA256 (RFC 2104) with the cluster key.

    magic "SPL1" | flags u8 | role u8 | kind u8 | length of name u8 | boot u64 | counter u64
    | echo u64 | name | body as JSON, deflated if flag 1 is set | HMAC of all before it, 32 bytes

boot: random, another one at each start of the sender. counter: rises with each packet of that boot.
echo: the receiver's boot as the sender last knew it, 0 for unknown: `peer_session` judges by these.
"""

import hmac
import json
import struct
import zlib
from dataclasses import dataclass
from typing import Any, NoReturn

from agent.core.keeping import PacketRefused

LONGEST_BYTES = 1400  # never fragmented on Ethernet, with room for a tunnel
LONGEST_BODY_BYTES = 16_384  # once inflated
DEEPEST = 8

_MAGIC = b"SPL1"
_HEADER = struct.Struct("!4sBBBBQQQ")
_SIGNATURE_BYTES = 32
_DEFLATED = 1
_WORTH_DEFLATING_BYTES = 512
_ROLES = ("keeper", "agent")
# an earlier version knows those before "lease-ask", and the rest is said about leases alone
_KINDS = (
    "beat", "ask", "answer", "handover", "taken", "yielded", "claim", "hello",
    "lease-ask", "lease-vote", "lease-end",
)  # fmt: skip


@dataclass(slots=True)
class Sealed:
    """A packet whose signature is good; whether it is fresh is not known yet. Fields as sent."""

    role: str
    kind: str
    boot: int
    counter: int
    echo: int
    name: str
    body: dict[str, Any]


def seal(key: bytes, packet: Sealed) -> bytes:
    """ValueError where it would be longer than LONGEST_BYTES, or the role or kind is unknown."""
    body = json.dumps(packet.body, separators=(",", ":")).encode()
    name = packet.name.encode()
    flags = 0
    if len(body) > _WORTH_DEFLATING_BYTES:
        flags, body = _DEFLATED, zlib.compress(body)
    role, kind = _ROLES.index(packet.role), _KINDS.index(packet.kind)
    head = _HEADER.pack(
        _MAGIC, flags, role, kind, len(name), packet.boot, packet.counter, packet.echo
    )
    sealed = b"".join((head, name, body))
    length_bytes = len(sealed) + _SIGNATURE_BYTES
    if length_bytes > LONGEST_BYTES:
        raise ValueError(
            f"a {packet.kind} of {length_bytes} bytes does not fit {LONGEST_BYTES}:"
            " say less in one packet"
        )
    return sealed + hmac.digest(key, sealed, "sha256")


def unseal(key: bytes, data: bytes, source: str) -> Sealed | PacketRefused:
    """The packet, or why it must not be believed; never raises, whatever the bytes.

    Nothing behind the fixed header is read before the signature is found good. source: for the
    refusal's text. Refused as peer-malformed or peer-key.
    """
    if len(data) < _HEADER.size + _SIGNATURE_BYTES or len(data) > LONGEST_BYTES:
        return PacketRefused("peer-malformed", source, f"{len(data)} bytes")
    if not data.startswith(_MAGIC):
        return PacketRefused("peer-malformed", source, "not a packet of this version")
    sealed = data[:-_SIGNATURE_BYTES]
    if not hmac.compare_digest(hmac.digest(key, sealed, "sha256"), data[-_SIGNATURE_BYTES:]):
        return PacketRefused("peer-key", source, "signed with another key; compare the key files")
    try:
        return _parse(sealed)
    except (ValueError, RecursionError, zlib.error) as error:
        return PacketRefused("peer-malformed", source, f"signed well, but {error}")


def _parse(sealed: bytes) -> Sealed:
    _, flags, role, kind, name_bytes, boot, counter, echo = _HEADER.unpack_from(sealed)
    name = sealed[_HEADER.size : _HEADER.size + name_bytes].decode()
    body = sealed[_HEADER.size + name_bytes :]
    if flags & ~_DEFLATED:
        raise ValueError(f"flags {flags:#x} are unknown")
    if flags & _DEFLATED:
        body = _inflate(body)
    value = json.loads(body, parse_constant=_refuse_constant)
    if not isinstance(value, dict):
        raise ValueError("its body is not an object")
    if not boot:
        raise ValueError("its boot is 0")
    _measure(value, DEEPEST)
    if role >= len(_ROLES) or kind >= len(_KINDS):
        raise ValueError(f"role {role} or kind {kind} is unknown; do both nodes run this version?")
    return Sealed(_ROLES[role], _KINDS[kind], boot, counter, echo, name, value)


def _inflate(body: bytes) -> bytes:
    inflater = zlib.decompressobj()
    inflated = inflater.decompress(body, LONGEST_BODY_BYTES)
    if not inflater.eof or inflater.unused_data:
        raise ValueError(f"its body is not one deflated text of {LONGEST_BODY_BYTES} bytes at most")
    return inflated


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


def _measure(value: Any, deeper: int) -> None:
    if isinstance(value, dict):
        inside = list(value.values())
    elif isinstance(value, list):
        inside = value
    else:
        return
    if not deeper:
        raise ValueError(f"its body is more than {DEEPEST} deep")
    for item in inside:
        _measure(item, deeper - 1)
