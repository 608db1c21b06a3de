# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet6 import (
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
)
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet

from agent.core import neighbour_wire
from agent.core.neighbour_wire import Interest, Said

OUR_MAC, THEIR_MAC = "02:00:00:00:01:11", "02:00:00:00:01:12"
EVERYBODY = "ff:ff:ff:ff:ff:ff"
OURS, THEIRS, ASKED = "10.1.0.11", "10.1.0.12", "10.1.0.100"
OURS_6, THEIRS_6, ASKED_6 = "fe80::11", "fd00:1::12", "fd00:1::aa:bb:100"
GROUP_MAC, GROUP = "33:33:ff:bb:01:00", "ff02::1:ffbb:100"


def packed(address: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


def mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def arp(op: int = 1, source: str = THEIRS, target: str = ASKED, to: str = EVERYBODY) -> bytes:
    says = ARP(op=op, hwsrc=THEIR_MAC, psrc=source, hwdst="00:00:00:00:00:00", pdst=target)
    return bytes(Ether(src=THEIR_MAC, dst=to) / says)


def solicitation(
    source: str = THEIRS_6, to: str = GROUP_MAC, dst: str = GROUP, option: bool = True
) -> bytes:
    frame: Packet = Ether(src=THEIR_MAC, dst=to) / IPv6(src=source, dst=dst, hlim=255)
    frame = frame / ICMPv6ND_NS(tgt=ASKED_6)
    if option:
        frame = frame / ICMPv6NDOptSrcLLAddr(lladdr=THEIR_MAC)
    return bytes(frame)


def advertisement(hop_limit: int = 255, option: str = THEIR_MAC) -> bytes:
    frame: Packet = Ether(src="02:00:00:00:01:99", dst=OUR_MAC)
    frame = frame / IPv6(src=THEIRS_6, dst=OURS_6, hlim=hop_limit) / ICMPv6ND_NA(tgt=ASKED_6, S=1)
    if option:
        frame = frame / ICMPv6NDOptDstLLAddr(lladdr=option)
    return bytes(frame)


def test_a_question_for_an_ipv4_address_is_byte_for_byte_what_scapy_makes() -> None:
    ours = neighbour_wire.question(mac(OUR_MAC), packed(OURS), packed(ASKED))
    says = ARP(op=1, hwsrc=OUR_MAC, psrc=OURS, hwdst="00:00:00:00:00:00", pdst=ASKED)
    assert ours == bytes(Ether(src=OUR_MAC, dst=EVERYBODY) / says)
    assert neighbour_wire.asker(ours) == packed(OURS)


@given(ends=st.tuples(st.ip_addresses(v=6), st.ip_addresses(v=6)))
def test_a_question_for_an_ipv6_address_is_byte_for_byte_what_scapy_makes(
    ends: tuple[object, object],
) -> None:
    source, target = (str(end) for end in ends)
    ours = neighbour_wire.question(mac(OUR_MAC), packed(source), packed(target))
    last = packed(target)[-3:]
    group = socket.inet_ntop(socket.AF_INET6, packed("ff02::1:ff00:0")[:-3] + last)
    frame = (
        Ether(src=OUR_MAC, dst=f"33:33:ff:{last.hex(':')}")
        / IPv6(src=source, dst=group, hlim=255)
        / ICMPv6ND_NS(tgt=target)
        / ICMPv6NDOptSrcLLAddr(lladdr=OUR_MAC)
    )
    assert ours == bytes(frame)
    assert neighbour_wire.asker(ours) == packed(source)


def test_an_arp_request_tells_who_asks_whom() -> None:
    found = neighbour_wire.read(arp() + bytes(18), 4)
    assert found == Said(True, mac(EVERYBODY), mac(THEIR_MAC), packed(THEIRS), packed(ASKED))
    assert found.asks_everybody


def test_an_arp_reply_tells_of_its_sender_alone() -> None:
    found = neighbour_wire.read(arp(op=2, to=OUR_MAC, target=OURS), 4)
    assert found == Said(False, mac(OUR_MAC), mac(THEIR_MAC), packed(THEIRS), packed(THEIRS))
    assert not found.asks_everybody


def test_a_solicitation_tells_who_asks_whom() -> None:
    for option in (True, False):
        found = neighbour_wire.read(solicitation(option=option), 6)
        assert found == Said(
            True, mac(GROUP_MAC), mac(THEIR_MAC), packed(THEIRS_6), packed(ASKED_6)
        )
        assert found.asks_everybody


def test_an_advertisement_tells_of_its_target_and_the_mac_of_its_option() -> None:
    found = neighbour_wire.read(advertisement(), 6)
    assert found == Said(False, mac(OUR_MAC), mac(THEIR_MAC), packed(ASKED_6), packed(ASKED_6))
    bare = neighbour_wire.read(advertisement(option=""), 6)
    assert bare is not None
    assert bare.mac == mac("02:00:00:00:01:99")


@pytest.mark.parametrize(
    ("frame", "family"),
    [
        (arp(source=ASKED, target=ASKED), 4),
        (arp(to=OUR_MAC), 4),
        (solicitation(to=OUR_MAC, dst=ASKED_6), 6),
    ],
    ids=["announcement", "unicast ARP", "unicast solicitation"],
)
def test_announcements_and_unicast_questions_ask_not_everybody(frame: bytes, family: int) -> None:
    found = neighbour_wire.read(frame, family)
    assert found is not None
    assert not found.asks_everybody


def test_probes_ask_everybody_and_speak_for_nobody() -> None:
    for frame, family in ((arp(source="0.0.0.0"), 4), (solicitation(source="::"), 6)):
        found = neighbour_wire.read(frame, family)
        assert found is not None
        assert found.asks_everybody
        assert not any(found.speaker)


@pytest.mark.parametrize(
    ("frame", "family"),
    [
        (arp()[:41], 4),
        (arp()[:14] + bytes(4) + arp()[18:], 4),
        (arp(op=3), 4),
        (advertisement(hop_limit=254), 6),
        (advertisement()[:77], 6),
        (advertisement()[:54] + b"\x80" + advertisement()[55:], 6),
        (advertisement()[:20] + b"\x11" + advertisement()[21:], 6),
    ],
    ids=["cut", "other hardware", "RARP", "from afar", "cut 6", "other ICMPv6", "UDP"],
)
def test_other_frames_say_nothing(frame: bytes, family: int) -> None:
    assert neighbour_wire.read(frame, family) is None


@given(frame=st.binary(max_size=140), family=st.sampled_from([4, 6]))
def test_no_bytes_raise(frame: bytes, family: int) -> None:
    neighbour_wire.read(frame, family)


# ---------------------------------------------------------------- filters, run as the kernel does


def passes(program: bytes, frame: bytes) -> bool:
    """Classic BPF (linux/filter.h); a load from beyond the frame's end drops it."""
    lines = list(struct.iter_unpack("=HBBI", program))
    word, at = 0, 0
    sizes = {0x20: 4, 0x28: 2, 0x30: 1}
    while True:
        code, if_true, if_false, constant = lines[at]
        at += 1
        if code in sizes:
            loaded = frame[constant : constant + sizes[code]]
            if len(loaded) < sizes[code]:
                return False
            word = int.from_bytes(loaded, "big")
        elif code == 0x15:
            at += if_true if word == constant else if_false
        elif code == 0x05:
            at += constant
        else:
            assert code == 0x06, hex(code)
            return constant > 0


def interest(**given: list[str]) -> Interest:
    sets = {
        name: frozenset(packed(it) for it in given.get(name, ())) for name in Interest.__slots__
    }
    return Interest(**sets)


@pytest.mark.parametrize("count", [1, 200, 201, 400, 1_500])
def test_each_of_many_addresses_is_heard_and_no_other(count: int) -> None:
    listed = [f"10.2.{n // 250}.{n % 250}" for n in range(count)]
    program = neighbour_wire.hearing(4, interest(speakers=listed, targets=listed))
    assert len(program) // 8 <= 4_096
    for address in {listed[0], listed[count // 2], listed[-1], listed[min(199, count - 1)]}:
        assert passes(program, arp(source=address))
        assert passes(program, arp(target=address))
    assert not passes(program, arp())


def test_too_many_addresses_are_all_let_pass() -> None:
    listed = [f"10.2.{n // 250}.{n % 250}" for n in range(neighbour_wire.MOST_FILTERED + 1)]
    assert passes(neighbour_wire.hearing(4, interest(speakers=listed)), arp())
    assert passes(neighbour_wire.hearing(4, interest(targets=listed)), arp())


def test_of_those_who_must_answer_only_answers_pass() -> None:
    program = neighbour_wire.hearing(4, interest(answerers=[THEIRS]))
    assert passes(program, arp(op=2, to=OUR_MAC))
    assert not passes(program, arp())
    assert not passes(program, arp(op=2, source=ASKED))


def test_only_questions_to_everybody_about_targets_pass() -> None:
    program = neighbour_wire.hearing(4, interest(targets=[ASKED]))
    assert passes(program, arp())
    assert not passes(program, arp(to=OUR_MAC))
    assert not passes(program, arp(target=OURS))
    assert not passes(program, arp(op=2))


def test_ipv6_advertisements_of_speakers_and_questions_for_targets_pass() -> None:
    program = neighbour_wire.hearing(6, interest(speakers=[ASKED_6]))
    assert passes(program, advertisement())
    assert not passes(program, advertisement(hop_limit=254))
    assert not passes(program, solicitation())
    program = neighbour_wire.hearing(6, interest(targets=[ASKED_6], answerers=[THEIRS_6]))
    assert passes(program, solicitation())
    assert not passes(program, advertisement())
    assert not passes(program, solicitation(to=OUR_MAC, dst=ASKED_6))


@pytest.mark.parametrize("family", [4, 6])
def test_everybody_else_is_overheard(family: int) -> None:
    ours = neighbour_wire.overhearing(family, mac(OUR_MAC))
    theirs = neighbour_wire.overhearing(family, mac(THEIR_MAC))
    said = [arp(), arp(op=2)] if family == 4 else [solicitation()]
    probe = arp(source="0.0.0.0") if family == 4 else solicitation(source="::")
    assert all(passes(ours, frame) for frame in said)
    assert not any(passes(theirs, frame) for frame in said)
    assert not passes(ours, probe)
    if family == 6:
        assert passes(ours, advertisement())
        assert not passes(ours, advertisement(hop_limit=1))
