# SPDX-License-Identifier: GPL-2.0-or-later
"""ARP (RFC 826, 5227) and neighbour discovery (RFC 4861) as Ethernet frames: read, asked, filtered.

The filters are programs for the kernel (linux/filter.h, classic BPF): what does not concern us is
not handed over, however much of it there is.
"""

import struct
from dataclasses import dataclass
from typing import NamedTuple

FRAME_BYTES = 128  # what is worth reading of a frame
MOST_FILTERED = 1_500  # of each list, of which two can be long: of 4,096 lines (BPF_MAXINSNS)

REQUEST, REPLY = 1, 2  # RFC 826, ar$op
SOLICITATION, ADVERTISEMENT = 135, 136  # RFC 4861 4.3, 4.4
EVERYBODY = b"\xff" * 6
NOBODY_4, NOBODY_6 = bytes(4), bytes(16)

_ARP_FORMAT = slice(14, 20)  # hardware and protocol types and sizes
_ETHERNET_IPV4 = bytes.fromhex("000108000604")
_ARP_OPERATION_AT = 20
_ARP_SENDER_MAC = slice(22, 28)
_ARP_SENDER = slice(28, 32)
_ARP_TARGET = slice(38, 42)
_ARP_BYTES = 42

_IPV6_NEXT_HEADER_AT = 20
_IPV6_HOP_LIMIT_AT = 21
_IPV6_SOURCE = slice(22, 38)
_IPV6_DESTINATION_AT = 38
_ICMPV6_AT = 54
_ND_TARGET = slice(62, 78)
_ND_OPTION = slice(78, 86)
_ICMPV6 = 58
_HOP_LIMIT = 255  # RFC 4861 7.1: nothing from beyond a router
_SOURCE_LINK_ADDRESS, _TARGET_LINK_ADDRESS = 1, 2
_SOLICITED_NODE = bytes.fromhex("ff0200000000000000000001ff")  # RFC 4291 2.7.1
_LINK_LOCAL_GROUPS = 0xFF020000  # ff02::/32


class Said(NamedTuple):
    """A frame: `speaker` is at `mac`, and `question`s who is at `target`.

    An answer's target is the speaker. to: the frame's destination. IP addresses packed; the speaker
    is all zeros in a probe (RFC 5227 1.1, RFC 4862 5.4.2).
    """

    question: bool
    to: bytes
    mac: bytes
    speaker: bytes
    target: bytes

    @property
    def asks_everybody(self) -> bool:
        """Not a unicast question, nor one that is an announcement (RFC 5227 3)."""
        return self.question and bool(self.to[0] & 1) and self.speaker != self.target


def read(frame: bytes, family: int) -> Said | None:
    """None where it is no whole frame of that family; bytes never raise."""
    return _read_arp(frame) if family == 4 else _read_discovery(frame)


def _read_arp(frame: bytes) -> Said | None:
    if len(frame) < _ARP_BYTES or frame[_ARP_FORMAT] != _ETHERNET_IPV4:
        return None
    operation = int.from_bytes(frame[_ARP_OPERATION_AT : _ARP_OPERATION_AT + 2], "big")
    if operation not in (REQUEST, REPLY):
        return None
    speaker = frame[_ARP_SENDER]
    target = frame[_ARP_TARGET] if operation == REQUEST else speaker
    return Said(operation == REQUEST, frame[:6], frame[_ARP_SENDER_MAC], speaker, target)


def _read_discovery(frame: bytes) -> Said | None:
    """The MAC is that of the link-layer address option (RFC 4861 4.6.1), else the sender's."""
    target = frame[_ND_TARGET]
    if len(target) < 16 or frame[_IPV6_NEXT_HEADER_AT] != _ICMPV6:
        return None
    kind = frame[_ICMPV6_AT]
    if kind not in (SOLICITATION, ADVERTISEMENT) or frame[_IPV6_HOP_LIMIT_AT] != _HOP_LIMIT:
        return None
    question = kind == SOLICITATION
    option, mac = frame[_ND_OPTION], frame[6:12]
    wanted = _SOURCE_LINK_ADDRESS if question else _TARGET_LINK_ADDRESS
    if len(option) == 8 and option[0] == wanted and option[1] == 1:
        mac = option[2:]
    return Said(question, frame[:6], mac, frame[_IPV6_SOURCE] if question else target, target)


# ---------------------------------------------------------------- questions


def question(mac: bytes, source: bytes, target: bytes) -> bytes:
    """An ARP request to everybody, or a neighbour solicitation to the target's group (7.2.2)."""
    if len(target) == 4:
        head = EVERYBODY + mac + b"\x08\x06" + _ETHERNET_IPV4
        return head + REQUEST.to_bytes(2, "big") + mac + source + bytes(6) + target
    group = _SOLICITED_NODE + target[-3:]
    body = bytes([SOLICITATION, 0, 0, 0, 0, 0, 0, 0]) + target
    body += bytes([_SOURCE_LINK_ADDRESS, 1]) + mac
    pseudo = source + group + len(body).to_bytes(4, "big") + _ICMPV6.to_bytes(4, "big")
    total = int.from_bytes(pseudo + body, "big") % 0xFFFF  # RFC 8200 8.1
    body = body[:2] + (0xFFFF - total).to_bytes(2, "big") + body[4:]
    head = b"\x33\x33" + group[-4:] + mac + b"\x86\xdd"
    length = len(body).to_bytes(2, "big")
    return head + b"\x60\0\0\0" + length + bytes([_ICMPV6, _HOP_LIMIT]) + source + group + body


def asker(frame: bytes) -> bytes:
    """Whom such a question is from."""
    return frame[_ARP_SENDER] if frame[12:14] == b"\x08\x06" else frame[_IPV6_SOURCE]


# ---------------------------------------------------------------- filters

_INSTRUCTION = struct.Struct("=HBBI")  # code, jump if true, jump if false, constant
_LOAD_WORD = 0x20
_LOAD_HALF = 0x28
_LOAD_BYTE = 0x30
_JUMP = 0x05
_JUMP_EQUAL = 0x15
_RETURN = 0x06
_LONGEST_JUMP = 200  # 255 at most; two more instructions stand behind each run

Line = tuple[int, int, int, int]
_PASS: Line = (_RETURN, 0, 0, FRAME_BYTES)
_DROP: Line = (_RETURN, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Interest:
    """Packed addresses: speakers are heard whenever they say where they are, answerers when they
    answer, and of targets it is heard that everybody is asked for them.
    """

    speakers: frozenset[bytes]
    answerers: frozenset[bytes]
    targets: frozenset[bytes]


def hearing(family: int, interest: Interest) -> bytes:
    """Passes what concerns the interest. IPv6 speaks of itself in answers alone.

    Of IPv6 addresses the last four bytes are compared: whoever reads must still look.
    """
    targets = _one_of(_words(interest.targets))
    if family == 4:
        sender = (_LOAD_WORD, 0, 0, _ARP_SENDER.start)
        replies = [sender, *_one_of(_words(interest.answerers)), _DROP]
        lines = [
            sender,
            *_one_of(_words(interest.speakers)),
            (_LOAD_HALF, 0, 0, _ARP_OPERATION_AT),
            (_JUMP_EQUAL, 1, 0, REPLY),
            (_JUMP, 0, 0, len(replies)),
            *replies,
            *_must(_LOAD_HALF, _ARP_OPERATION_AT, REQUEST),
            *_must(_LOAD_WORD, 0, 0xFFFFFFFF),
            (_LOAD_WORD, 0, 0, _ARP_TARGET.start),
            *targets,
        ]
        return _program(lines)
    speakers = _one_of(_words(interest.speakers | interest.answerers))
    advertised = [(_LOAD_WORD, 0, 0, _ND_TARGET.stop - 4), *speakers, _DROP]
    lines = [
        *_discovery(),
        (_JUMP_EQUAL, 1, 0, ADVERTISEMENT),
        (_JUMP, 0, 0, len(advertised)),
        *advertised,
        *_must(_LOAD_BYTE, _ICMPV6_AT, SOLICITATION),
        *_must(_LOAD_WORD, _IPV6_DESTINATION_AT, _LINK_LOCAL_GROUPS),
        (_LOAD_WORD, 0, 0, _ND_TARGET.stop - 4),
        *targets,
    ]
    return _program(lines)


def overhearing(family: int, mac: bytes) -> bytes:
    """Passes everything that others say of themselves in ARP or ND; `mac` is our own."""
    ours = int.from_bytes(mac[:4], "big"), int.from_bytes(mac[4:], "big")
    at = _ARP_SENDER_MAC.start if family == 4 else 6
    lines: list[Line] = [] if family == 4 else _discovery()
    lines += [
        (_LOAD_WORD, 0, 0, at),
        (_JUMP_EQUAL, 0, 3, ours[0]),
        (_LOAD_HALF, 0, 0, at + 4),
        (_JUMP_EQUAL, 0, 1, ours[1]),
        _DROP,
    ]
    if family == 4:
        return _program([*lines, *_not_zero(_ARP_SENDER.start), _PASS])
    lines += _not_zero(_IPV6_SOURCE.start)
    lines += [(_LOAD_BYTE, 0, 0, _ICMPV6_AT), (_JUMP_EQUAL, 0, 1, SOLICITATION), _PASS]
    return _program([*lines, (_JUMP_EQUAL, 0, 1, ADVERTISEMENT), _PASS])


def _program(lines: list[Line]) -> bytes:
    return b"".join([_INSTRUCTION.pack(*line) for line in [*lines, _DROP]])


def _words(addresses: frozenset[bytes]) -> list[int]:
    return sorted({int.from_bytes(address[-4:], "big") for address in addresses})


def _must(load: int, at: int, value: int) -> list[Line]:
    return [(load, 0, 0, at), (_JUMP_EQUAL, 1, 0, value), _DROP]


def _not_zero(at: int) -> list[Line]:
    return [(_LOAD_WORD, 0, 0, at), (_JUMP_EQUAL, 0, 1, 0), _DROP]


def _discovery() -> list[Line]:
    """ICMPv6 from this very link; leaves its type loaded."""
    checks = _must(_LOAD_BYTE, _IPV6_NEXT_HEADER_AT, _ICMPV6)
    checks += _must(_LOAD_BYTE, _IPV6_HOP_LIMIT_AT, _HOP_LIMIT)
    return [*checks, (_LOAD_BYTE, 0, 0, _ICMPV6_AT)]


def _one_of(words: list[int]) -> list[Line]:
    """Pass where the loaded word is one of these, else go on; too many are all let pass."""
    if len(words) > MOST_FILTERED:
        return [_PASS]
    lines: list[Line] = []
    for start in range(0, len(words), _LONGEST_JUMP):
        run = words[start : start + _LONGEST_JUMP]
        lines += [(_JUMP_EQUAL, len(run) - number, 0, word) for number, word in enumerate(run)]
        lines += [(_JUMP, 0, 0, 1), _PASS]
    return lines
