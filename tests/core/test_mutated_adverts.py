# SPDX-License-Identifier: GPL-2.0-or-later
"""A million damaged and forged packets by the whole way in: none raises, none is misread.

`python -m tests.core.test_mutated_adverts --count 10000000` goes on for as long as one likes.
"""

from __future__ import annotations

import argparse
import random
import re
import socket
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6
from scapy.layers.vrrp import VRRP, VRRPv3

from agent.core import vrrp_wire
from agent.core.keeping import AdvertSeen, PacketRefused

EXAMPLES, BATCH = 2_000, 500  # a million
KINDS = {"advert-malformed", "advert-version", "advert-ttl", "advert-checksum"}
FORMS = {4: ("pseudo", "plain"), 6: ("v6",)}
EDGES = (0, 1, 15, 16, 127, 128, 255)
PRINTABLE = re.compile(r"[ -~]{20,400}")


@dataclass(frozen=True)
class Arrived:
    """What the kernel hands over: of IPv4 the whole packet, of IPv6 its payload."""

    family: int
    packet: bytes
    source: str
    destination: str


def _bases() -> list[Arrived]:
    """As others make them: both families, both checksums, lists of every length, both versions."""
    found = []
    for count in (0, 1, 2, 20, 255):
        fours, sixes = [f"10.2.0.{n}" for n in range(count)], [f"fd00::{n:x}" for n in range(count)]
        for to in ("224.0.0.18", "10.1.0.11"):
            head = IP(src="10.1.0.12", dst=to, ttl=255, proto=vrrp_wire.PROTOCOL)
            body = VRRPv3(vrid=51, priority=200, adv=20, addrlist=fours)
            found.append(Arrived(4, bytes(head / body), "10.1.0.12", to))
            plain = vrrp_wire.encode(4, 51, 0, 40_950, tuple(fours), "10.1.0.12", to, False)
            found.append(Arrived(4, bytes(head / plain), "10.1.0.12", to))
        for to in ("ff02::12", "fe80::11"):
            head = IPv6(src="fe80::12", dst=to, hlim=255, nh=vrrp_wire.PROTOCOL)
            whole = bytes(head / VRRPv3(vrid=51, priority=255, adv=20, addrlist=sixes))
            found.append(Arrived(6, whole[40:], "fe80::12", to))
    old = VRRP(version=2, vrid=51, priority=200, addrlist=["10.2.0.1"])
    whole = bytes(IP(src="10.1.0.12", dst="224.0.0.18", ttl=255) / old)
    return [*found, Arrived(4, whole, "10.1.0.12", "224.0.0.18")]


BASES = _bases()


def _below(uniform: Callable[[], float], end: int) -> int:
    """As randrange, four times as quick."""
    return int(uniform() * end)


def mutate(draw: random.Random, base: Arrived) -> Arrived:
    """Bits, bytes, lengths; every other time the checksum is made good again, to come deeper."""
    data = bytearray(base.packet)
    below = partial(_below, draw.random)
    for _ in range(1 + below(4)):
        match below(6):
            case 0 if data:
                data[below(len(data))] ^= 1 << below(8)
            case 1 if data:
                data[below(len(data))] = below(256)
            case 2 if data:  # the fields, where most is decided
                start = (data[0] & 15) * 4 if base.family == 4 else 0
                at = (below(20) if below(5) == 0 else start) + below(8)
                data[min(at, len(data) - 1)] = EDGES[below(len(EDGES))]
            case 3:
                del data[below(len(data) + 1) :]
            case 4:
                data += draw.randbytes(below(64))
            case _ if data:
                start = below(len(data))
                del data[start : start + 1 + below(8)]
    if below(2):
        _mend(data, base)
    return Arrived(base.family, bytes(data), base.source, base.destination)


def _mend(data: bytearray, base: Arrived) -> None:
    """The sum over the VRRP message without a pseudo-header for IPv4, with it for IPv6."""
    start = (data[0] & 15) * 4 if data and base.family == 4 else 0
    message = data[start:]
    if len(message) < 8:
        return
    message[6:8] = b"\0\0"
    total = int.from_bytes(message, "big")
    if base.family == 6:
        ends = vrrp_wire.packed(6, base.source) + vrrp_wire.packed(6, base.destination)
        total += int.from_bytes(ends, "big") + vrrp_wire.PROTOCOL + len(message)
    data[start + 6 : start + 8] = (0xFFFF - total % 0xFFFF).to_bytes(2, "big")


def arrive(it: Arrived, ttl: int) -> AdvertSeen | PacketRefused | None:
    """The way that the driver goes; None where it is for a virtual router of others."""
    payload, source, destination = it.packet, it.source, it.destination
    if it.family == 4:
        payload, sender, receiver, ttl = vrrp_wire.unwrap_ipv4(it.packet)
        source, destination = socket.inet_ntoa(sender), socket.inet_ntoa(receiver)
    if vrrp_wire.concerns_others(payload, {51}):
        return None
    multicast = destination == vrrp_wire.GROUPS[it.family]
    return vrrp_wire.decode(payload, it.family, source, destination, ttl, "eth0", multicast)


def insane(it: Arrived, found: AdvertSeen | PacketRefused | None) -> str:
    """What no packet at all may lead to; "" where it is well."""
    if isinstance(found, PacketRefused):
        if found.kind not in KINDS:
            return f"kind {found.kind}"
        return "" if PRINTABLE.fullmatch(found.detail) else f"text {found.detail!r}"
    if found is None:
        return ""
    size = 4 if it.family == 4 else 16
    listed = [vrrp_wire.packed(it.family, address) for address in found.addresses]
    fields = {
        "vrid": found.vrid == 51,
        "family": found.family == it.family,
        "priority": 0 <= found.priority <= 255,
        "interval": found.interval_ms in range(10, 40_951, 10),
        "form": found.form in FORMS[it.family],
        "addresses": all(len(address) == size for address in listed) and len(listed) <= 8,
        "content": b"".join(listed) in it.packet,
    }
    return ", ".join(name for name, well in fields.items() if not well)


def batch(seed: int, count: int, base: Arrived, tally: Counter[str]) -> None:
    """So many mutations of one packet; fails with the packet that led to nonsense."""
    draw = random.Random(seed)
    for _ in range(count):
        it = mutate(draw, base)
        found = arrive(it, 255 if _below(draw.random, 3) else 64)
        wrong = insane(it, found)
        assert not wrong, f"{wrong}: {it} became {found}"
        tally[found.kind if isinstance(found, PacketRefused) else type(found).__name__] += 1


def test_every_base_is_believed_as_it_is_but_for_version_2() -> None:
    *spoken, old = BASES
    assert all(isinstance(arrive(base, 255), AdvertSeen) for base in spoken)
    refused = arrive(old, 255)
    assert isinstance(refused, PacketRefused)
    assert refused.kind == "advert-version"


def test_a_million_mutated_packets_lead_to_no_exception_and_no_nonsense() -> None:
    tally: Counter[str] = Counter()

    @settings(max_examples=EXAMPLES)
    @given(seed=st.integers(0, 2**32), base=st.sampled_from(BASES))
    def many(seed: int, base: Arrived) -> None:
        batch(seed, BATCH, base, tally)

    many()
    assert sum(tally.values()) >= EXAMPLES * BATCH
    assert set(tally) == {*KINDS, "AdvertSeen", "NoneType"}, tally
    assert min(tally.values()) > EXAMPLES, f"some ways are hardly gone: {tally}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=EXAMPLES * BATCH)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    tally: Counter[str] = Counter()
    start_s = time.monotonic()
    for number in range(max(1, options.count // BATCH)):
        base = BASES[number % len(BASES)]
        batch(options.seed + number, BATCH, base, tally)
    total, spent_s = sum(tally.values()), time.monotonic() - start_s
    print(f"{total} packets in {spent_s:.1f} s from seed {options.seed}: {dict(tally)}")


if __name__ == "__main__":
    main()
