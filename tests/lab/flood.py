# SPDX-License-Identifier: GPL-2.0-or-later
"""Floods a LAN with advertisements: `python -m tests.lab.flood --vrid 51 --source 10.1.0.200`.

It says "flooding" when it begins, and runs until it is killed.
"""

from __future__ import annotations

import argparse
import ipaddress
import socket
import time

from scapy.layers.inet import IP
from scapy.layers.vrrp import VRRPv3

VRRP = 112
BEAT_S = 0.01


def packets(vrids: list[int], source: str, sources: int, to: str) -> list[bytes]:
    """One of each sender and virtual router; the addresses of the senders follow one another."""
    first = ipaddress.ip_address(source)
    return [
        bytes(
            IP(src=str(first + number), dst=to, proto=VRRP, ttl=255)
            / VRRPv3(vrid=vrid, priority=254, addrlist=["10.1.0.99"], adv=10)
        )
        for number in range(sources)
        for vrid in vrids
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--interface", default="eth0")
    parser.add_argument("--to", default="224.0.0.18")
    parser.add_argument("--vrid", type=int, nargs="+", required=True)
    parser.add_argument("--source", required=True)
    parser.add_argument("--sources", type=int, default=1)
    parser.add_argument("--rate", type=int, default=10_000, help="packets a second")
    options = parser.parse_args()
    ready = packets(options.vrid, options.source, options.sources, options.to)
    whither = (options.to, 0)
    sent = 0
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, options.interface.encode())
        print("flooding", flush=True)
        start_s = time.monotonic()
        while True:
            due = int((time.monotonic() - start_s) * options.rate)
            if due - sent > options.rate:
                sent = due - options.rate  # the machine cannot: no more than a second is made up
            for number in range(sent, due):
                raw.sendto(ready[number % len(ready)], whither)
            sent = max(sent, due)
            time.sleep(BEAT_S)


if __name__ == "__main__":
    main()
