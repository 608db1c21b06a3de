# SPDX-License-Identifier: GPL-2.0-or-later
"""VRRPv3 advertisements as bytes (RFC 9568 section 5), for IPv4 and IPv6.

IPv4 checksums are sent in two forms in the field: with the pseudo-header (keepalived, FRR) and
without it (RFC 9568, Cisco, Juniper). Both are read, and which one it was is said.
"""

import struct
from collections.abc import Container
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address

from agent.core.keeping import AdvertSeen, PacketRefused

PROTOCOL = 112
GROUPS = {4: "224.0.0.18", 6: "ff02::12"}  # RFC 9568 5.1.1.2, 5.1.2.2
HOP_LIMIT = 255
MOST_ADDRESSES = {4: 255, 6: 90}  # an 8-bit count; a message must fit a frame of 1,500 bytes
MOST_TOLD = 8  # of an advert that was read: as text they cost more than all else of it
SHORTEST_CS = 1
LONGEST_CS = 4095  # 12 bits of centiseconds

_VERSION_3_ADVERTISEMENT = 0x31
_HEADER = struct.Struct("!BBBBHH")  # version and type, vrid, priority, count, interval, checksum
_IPV4_HEADER_BYTES = 20
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


def unwrap_ipv4(packet: bytes) -> tuple[bytes, bytes, bytes, int]:
    """A packet as raw(7) gives it: payload, source, destination (packed), TTL; bytes never raise.

    The header's length field ends the payload: what follows is the padding of a short Ethernet
    frame. A header that is cut or that contradicts itself leaves no payload.
    """
    start, end = (packet[0] & 15) * 4 if packet else 0, int.from_bytes(packet[2:4], "big")
    payload = packet[start:end] if start >= _IPV4_HEADER_BYTES else b""
    head = packet[:_IPV4_HEADER_BYTES].ljust(_IPV4_HEADER_BYTES, b"\0")
    return payload, head[12:16], head[16:20], head[8]


def concerns_others(payload: bytes, vrids: Container[int]) -> bool:
    """Whether it is for a virtual router that is not among ours: none of our business, however it
    is made. What is no advertisement at all is: somebody sends junk to us.
    """
    if len(payload) < 2 or payload[0] >> 4 not in (2, 3):
        return False
    return payload[1] != 0 and payload[1] not in vrids


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
    Refused: advert-malformed, advert-version, advert-ttl, advert-checksum. An unexpected list of
    addresses is no reason: it is never compared (RFC 9568 7.1), and only its beginning is told.
    """
    kind, fault = _fault(payload, family)
    if not kind and multicast and ttl != HOP_LIMIT:
        kind, fault = (
            "advert-ttl",
            (
                f"came with TTL {ttl} and not {HOP_LIMIT}: from beyond a router, or forged; drop "
                "protocol 112 at this network's border"
            ),
        )
    form = "" if kind else _checksum_form(payload, family, source, destination)
    if not kind and not form:
        kind, fault = "advert-checksum", _checksum_fault(payload, family, source, destination)
    if kind:
        return PacketRefused(kind, source, f"{interface}: a packet of {source} {fault}")
    _, vrid, priority, _, interval_cs, _ = _HEADER.unpack_from(payload)
    return AdvertSeen(
        interface,
        family,
        vrid,
        source,
        priority,
        (interval_cs & LONGEST_CS) * 10,  # the four bits above are reserved: whatever they say
        _listed(family, payload[_HEADER.size : _HEADER.size + MOST_TOLD * _ADDRESS_BYTES[family]]),
        form,
    )


def _fault(payload: bytes, family: int) -> tuple[str, str]:
    """("", "") or what is wrong with lengths and fields: kind, and the rest of a sentence."""
    malformed, length = "advert-malformed", len(payload)
    if length < _HEADER.size:
        return malformed, (
            f"has {length} bytes of VRRP, where the header alone has {_HEADER.size}: cut short on "
            "its way, or not VRRP; look at what runs there"
        )
    version_type, vrid, _, count, interval_cs, _ = _HEADER.unpack_from(payload)
    version, kind = version_type >> 4, version_type & 15
    router = f"virtual router {vrid}"
    if version != 3:
        return "advert-version", (
            f"is VRRPv{version} for {router} and only version 3 is spoken here: set version 3 "
            "there (keepalived: vrrp_version 3)"
        )
    if kind != 1:
        return malformed, (
            f"is of VRRP type {kind}, where 1, an advertisement, is all there is (RFC 9568 5.2.2): "
            "look at what runs there"
        )
    if vrid == 0:
        return malformed, "is for virtual router 0: give it one of 1 to 255 there"
    wanted = _HEADER.size + count * _ADDRESS_BYTES[family]
    if length < wanted:
        return malformed, (
            f"for {router} is cut short: {length} bytes, where its {count} addresses make {wanted};"
            " look for a small MTU or a damaged path on the way"
        )
    if length > wanted:
        return malformed, (
            f"for {router} goes on after its end: {length} bytes, where its {count} addresses make "
            f"{wanted}; turn off authentication or other extras there"
        )
    if interval_cs & LONGEST_CS == 0:
        return malformed, (
            f"for {router} tells an advertisement interval of 0: set 10 ms to 40.95 s there"
        )
    return "", ""


def _checksum_form(payload: bytes, family: int, source: str, destination: str) -> str:
    """How the checksum was made: "v6", "pseudo", "plain"; "" where it fits no form."""
    total = int.from_bytes(payload, "big")
    if (total + _pseudo_sum(family, source, destination, len(payload))) % _FOLD == 0:
        return "v6" if family == 6 else "pseudo"
    return "plain" if family == 4 and total % _FOLD == 0 else ""


def _checksum_fault(payload: bytes, family: int, source: str, destination: str) -> str:
    """What a wrong checksum was perhaps made for."""
    head = f"for virtual router {payload[1]} has a checksum that "
    if destination != GROUPS[family] and _checksum_form(payload, family, source, GROUPS[family]):
        return head + (
            f"was made for {GROUPS[family]}, yet it was sent to {destination}: an old keepalived "
            "does so; upgrade it or use multicast"
        )
    forms = "neither with the pseudo-header nor without it" if family == 4 else "not"
    return head + (
        f"fits {forms}: damaged or rewritten (NAT?) on its way from {source} to {destination}, or "
        "forged"
    )


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
