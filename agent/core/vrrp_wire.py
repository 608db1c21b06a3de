# SPDX-License-Identifier: GPL-2.0-or-later
"""VRRPv3 advertisements as bytes (RFC 9568 section 5), for IPv4 and IPv6.

IPv4 checksums are sent in two forms in the field: with the pseudo-header (keepalived, FRR) and
without it (RFC 9568, Cisco, Juniper). Both are read, and which one it was is said.
"""

import struct
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address

from agent.core.keeping import AdvertSeen, PacketRefused

PROTOCOL = 112
GROUPS = {4: "224.0.0.18", 6: "ff02::12"}  # RFC 9568 5.1.1.2, 5.1.2.2
HOP_LIMIT = 255
MOST_ADDRESSES = {4: 255, 6: 90}  # an 8-bit count; a message must fit a frame of 1,500 bytes
SHORTEST_CS = 1
LONGEST_CS = 4095  # 12 bits of centiseconds

_VERSION_3_ADVERTISEMENT = 0x31
_HEADER = struct.Struct("!BBBBHH")  # version and type, vrid, priority, count, interval, checksum
_ADDRESS_BYTES = {4: 4, 6: 16}
_FOLD = 0xFFFF  # ones' complement sums are sums modulo 65,535


def encode(
    family: int,
    vrid: int,
    priority: int,
    interval_ms: int,
    addresses: tuple[str, ...],
    source: str,
    destination: str,
    pseudo: bool,
) -> bytes:
    """The VRRP message alone, without an IP header; the interval is rounded to centiseconds.

    pseudo: IPv4 only, whether the checksum covers the pseudo-header; IPv6 always does (RFC 8200
    8.1). Lists `addresses` in order, as many as fit. ValueError on an address of another family.
    """
    listed = addresses[: MOST_ADDRESSES[family]]
    interval_cs = min(max((interval_ms + 5) // 10, SHORTEST_CS), LONGEST_CS)
    body = b"".join([packed(family, address) for address in listed])
    head = _HEADER.pack(_VERSION_3_ADVERTISEMENT, vrid, priority, len(listed), interval_cs, 0)
    total = int.from_bytes(head + body, "big")
    if pseudo or family == 6:
        total += _pseudo_sum(family, source, destination, len(head) + len(body))
    checksum = (_FOLD - total % _FOLD) % _FOLD
    return head[:6] + checksum.to_bytes(2, "big") + body


def decode(
    payload: bytes,
    family: int,
    source: str,
    destination: str,
    ttl: int,
    interface: str,
    multicast: bool,
) -> AdvertSeen | PacketRefused:
    """What the payload of an IP packet says, or why it must not be believed; bytes never raise.

    payload: as long as the IP header says, without the padding of short Ethernet frames. ttl: 255
    is asked of multicast only, since unicast advertisements of keepalived carry 64 over IPv6.
    """
    fault = _fault(payload, family)
    if fault:
        return PacketRefused("advert-malformed", source, f"{interface}: {fault}")
    if multicast and ttl != HOP_LIMIT:
        return PacketRefused("advert-ttl", source, f"{interface}: TTL {ttl}, not {HOP_LIMIT}")
    form = _checksum_form(payload, family, source, destination)
    if not form:
        return PacketRefused(
            "advert-checksum", source, f"{interface}: checksum wrong in every form"
        )
    _, vrid, priority, _, interval_cs, _ = _HEADER.unpack_from(payload)
    return AdvertSeen(
        interface,
        family,
        vrid,
        source,
        priority,
        (interval_cs & LONGEST_CS) * 10,
        _listed(family, payload[_HEADER.size :]),
        form,
    )


def _fault(payload: bytes, family: int) -> str:
    """What is wrong with the fields. An unexpected address list is not: it is never compared."""
    if len(payload) < _HEADER.size:
        return f"{len(payload)} bytes are no VRRP message"
    version_type, vrid, _, count, interval_cs, _ = _HEADER.unpack_from(payload)
    if version_type >> 4 != 3:
        return f"VRRP version {version_type >> 4}; only version 3 is spoken here"
    if version_type & 15 != 1:
        return f"VRRP type {version_type & 15} is not an advertisement"
    wanted = _HEADER.size + count * _ADDRESS_BYTES[family]
    if len(payload) != wanted:
        return f"{len(payload)} bytes, where {count} addresses make {wanted}"
    if vrid == 0:
        return "virtual router 0"
    if interval_cs & LONGEST_CS == 0:
        return "an advertisement interval of 0"
    return ""


def _checksum_form(payload: bytes, family: int, source: str, destination: str) -> str:
    """How the checksum was made: "v6", "pseudo", "plain"; "" where it fits no form."""
    total = int.from_bytes(payload, "big")
    if (total + _pseudo_sum(family, source, destination, len(payload))) % _FOLD == 0:
        return "v6" if family == 6 else "pseudo"
    return "plain" if family == 4 and total % _FOLD == 0 else ""


def _pseudo_sum(family: int, source: str, destination: str, length_bytes: int) -> int:
    ends = int.from_bytes(packed(family, source) + packed(family, destination), "big")
    return ends + PROTOCOL + length_bytes


@lru_cache(maxsize=4096)
def packed(family: int, address: str) -> bytes:
    """Network order. ValueError where the text is no address of this family."""
    return (IPv4Address(address) if family == 4 else IPv6Address(address)).packed


@lru_cache(maxsize=256)
def _listed(family: int, body: bytes) -> tuple[str, ...]:
    size = _ADDRESS_BYTES[family]
    make = IPv4Address if family == 4 else IPv6Address
    return tuple(str(make(body[at : at + size])) for at in range(0, len(body), size))
