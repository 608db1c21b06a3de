# SPDX-License-Identifier: GPL-2.0-or-later
"""A stranger on the LAN: answers for an address that is not its own, floods, and takes notes.

`python -m tests.lab.chaos_stranger OPTIONS`, OPTIONS in JSON; orders are lines on its input, each
answered by "ok": "rogue on", "rogue off", "flood on", "flood off". It ends with its input.
"""

from __future__ import annotations

import json
import os
import select
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

from scapy.layers.inet import IP
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6NDOptDstLLAddr, IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.layers.vrrp import IPPROTO_VRRP, VRRPv3
from scapy.packet import Packet

from tests.lab.netns import enter, now_ms

ETH_P_ARP, ETH_P_IPV6 = 0x0806, 0x86DD
NS, NA = 135, 136  # RFC 4861
SHOUTS, SHOUT_GAP_MS = 4, 60.0  # gratuitous ones when a rogue begins
LATE_MS = 40.0  # after a question, so that the owner's answer comes first
FLOOD_PER_S, FLOOD_GAP_MS = 2000.0, 10.0  # to each node
EVERYBODY = {4: ("01:00:5e:00:00:12", "224.0.0.18"), 6: ("33:33:00:00:00:12", "ff02::12")}


@dataclass(frozen=True)
class Options:
    """nodes: [[MAC, address]] of those that are flooded. notes: a file, one line a question, or
    an announcement: ms, kind, address, MAC of the sender."""

    namespace: str
    interface: str
    address: str
    own: str
    vrid: int
    priority: int
    nodes: list[list[str]]
    notes: str


class Stranger:
    def __init__(self, options: Options) -> None:
        self.options = options
        self.family = 6 if ":" in options.address else 4
        protocol = ETH_P_IPV6 if self.family == 6 else ETH_P_ARP
        self.ear = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(protocol))
        self.ear.bind((options.interface, protocol))
        self.mac = ":".join(f"{octet:02x}" for octet in self.ear.getsockname()[4])
        self.wanted = socket.inet_pton(
            socket.AF_INET6 if self.family == 6 else socket.AF_INET, options.address
        )
        self.notes = open(options.notes, "a", buffering=1)  # noqa: SIM115  # as long as it lives
        self.rogue = self.flood = False
        self.due: list[tuple[float, bytes]] = []
        self.flooded_ms = 0.0
        self.adverts = [self.advert(mac, to) for mac, to in [*options.nodes]]
        self.adverts.append(self.advert(*EVERYBODY[self.family]))

    # ------------------------------------------------------------ frames

    def advert(self, mac: str, to: str) -> bytes:
        """RFC 9568, of our virtual router, from somebody who has no part in it."""
        body = VRRPv3(
            vrid=self.options.vrid,
            priority=self.options.priority,
            adv=20,
            addrlist=[self.options.address],
        )
        if self.family == 4:
            packet: Packet = IP(src=self.options.own, dst=to, ttl=255, proto=IPPROTO_VRRP) / body
        else:
            packet = IPv6(src=self.options.own, dst=to, hlim=255, nh=IPPROTO_VRRP) / body
        return bytes(Ether(src=self.mac, dst=mac) / packet)

    def claim(self, to_mac: str = "", to: str = "") -> bytes:
        """We have the address: to everybody, or as an answer to one that asked."""
        address = self.options.address
        if self.family == 4:
            head = Ether(src=self.mac, dst=to_mac or "ff:ff:ff:ff:ff:ff")
            if to:
                body = ARP(op=2, hwsrc=self.mac, psrc=address, hwdst=to_mac, pdst=to)
            else:
                body = ARP(op=1, hwsrc=self.mac, psrc=address, pdst=address)
            return bytes(head / body)
        head = Ether(src=self.mac, dst=to_mac or "33:33:00:00:00:01")
        body = ICMPv6ND_NA(R=0, S=int(bool(to)), O=1, tgt=address)
        option = ICMPv6NDOptDstLLAddr(lladdr=self.mac)
        return bytes(head / IPv6(src=self.options.own, dst=to or "ff02::1") / body / option)

    # ------------------------------------------------------------ doing

    def order(self, text: str) -> None:
        what, switch = text.split()
        if what == "flood":
            self.flood = switch == "on"
            self.flooded_ms = now_ms()
            return
        self.rogue = switch == "on"
        shouts = [(now_ms() + n * SHOUT_GAP_MS, self.claim()) for n in range(SHOUTS)]
        self.due = shouts if self.rogue else []

    def hear(self) -> None:
        frame = self.ear.recv(2048)
        asker, mac = frame[6:12].hex(":"), frame[:6]
        if self.family == 4:
            operation, sender, target = frame[21], frame[28:32], frame[38:42]
            if self.wanted not in (sender, target):
                return
            asks = operation == 1 and sender != target
            who = socket.inet_ntoa(sender)
        else:
            if frame[20] != 58 or frame[54] not in (NS, NA) or frame[62:78] != self.wanted:
                return
            asks = frame[54] == NS
            who = socket.inet_ntop(socket.AF_INET6, frame[22:38])
        kind = "asks" if asks else "has"
        self.notes.write(f"{now_ms():.3f} {kind} {who} {asker}\n")
        if self.rogue and asks and mac[0] & 1 and asker != self.mac:
            self.due.append((now_ms() + LATE_MS, self.claim(asker, who)))

    def tick(self) -> float:
        """What is due; ms until the next that is."""
        at_ms = now_ms()
        for entry in [entry for entry in self.due if entry[0] <= at_ms]:
            self.due.remove(entry)
            self.ear.send(entry[1])
        if not self.flood:
            return min([1000.0, *(due - at_ms for due, _ in self.due)])
        rounds = min(200, int((at_ms - self.flooded_ms) * FLOOD_PER_S / 1000))
        self.flooded_ms = at_ms
        for frame in self.adverts * rounds:
            self.ear.send(frame)
        return FLOOD_GAP_MS


def main() -> None:
    options = Options(**json.loads(sys.argv[1]))
    enter(options.namespace)
    stranger = Stranger(options)
    ear = stranger.ear.fileno()
    sys.stdout.write("ok\n")
    sys.stdout.flush()
    while True:
        wait_ms = stranger.tick()
        ready, _, _ = select.select([0, ear], [], [], max(0.0, wait_ms) / 1000)
        if ear in ready:
            stranger.hear()
        if 0 in ready:
            orders = os.read(0, 4096).decode()
            if not orders:
                return
            for line in orders.splitlines():
                stranger.order(line)
                sys.stdout.write("ok\n")
                sys.stdout.flush()


def notes(path: Path) -> list[tuple[float, str]]:
    """(ms, text) of a file of notes."""
    if not path.exists():
        return []
    lines = (line.partition(" ") for line in path.read_text().splitlines())
    return [(float(at_ms), text) for at_ms, _, text in lines]


if __name__ == "__main__":
    main()
