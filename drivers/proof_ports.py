# SPDX-License-Identifier: GPL-2.0-or-later
"""Prover: nobody else sits on the ports at which a cold group's services will be asked.

The kernel's tables of sockets, proc_net(5), of this network namespace.
"""

import ipaddress
import socket
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from agent.core.model import Proof
from agent.core.settings import CheckSettings
from drivers.proving import Prover, judged

PROC_NET = Path("/proc/self/net")
LISTEN = {
    "tcp": "0A",
    "udp": "07",
}  # TCP_LISTEN; an unconnected UDP socket (include/net/tcp_states.h)
DEFAULT_PORTS = {"http": 80, "https": 443, "udp": 5060, "tcp": 5060, "tls": 5061, "sip": 5060}


@dataclass(frozen=True, slots=True)
class Seat:
    """A socket that waits. address: "" is every one."""

    protocol: str
    address: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.address}]" if ":" in self.address else self.address or "*"
        return f"{self.protocol} {host}:{self.port}"

    def clashes(self, other: "Seat") -> bool:
        same = (self.protocol, self.port) == (other.protocol, other.port)
        return same and (not self.address or not other.address or self.address == other.address)


def seat_of(check: CheckSettings) -> Seat | None:
    """Where a check asks; None where that is no port of a known number and address."""
    target = check.target if "://" in check.target else f"tcp://{check.target}"
    if check.kind not in ("tcp", "http", "sip"):
        return None
    try:
        parts = urlsplit(target)
        port = parts.port or DEFAULT_PORTS.get(parts.scheme)
        address = str(ipaddress.ip_address(parts.hostname or ""))
    except ValueError:
        return None  # a name: whose addresses it has is not asked here
    if not port:
        return None
    return Seat("udp" if parts.scheme == "udp" else "tcp", address, port)


def parse_seats(protocol: str, text: str) -> list[Seat]:
    """Of /proc/net/tcp, tcp6, udp or udp6. Raises ValueError."""
    found = []
    for line in text.splitlines()[1:]:
        fields = line.split()
        if fields[3] == LISTEN[protocol]:
            packed, _, port = fields[1].partition(":")
            found.append(Seat(protocol, _address(packed), int(port, 16)))
    return found


def _address(packed: str) -> str:
    """32-bit words in the order of the host, of which Linux has hardly any but little-endian."""
    words = bytes.fromhex(packed)
    plain = b"".join(
        int.from_bytes(words[at : at + 4], "little").to_bytes(4, "big")
        for at in range(0, len(words), 4)
    )
    address = ipaddress.ip_address(plain)
    return "" if address.is_unspecified else str(address)


class PortsProof(Prover):
    """Proof "ports". Says nothing while this node serves: then they are taken by the group."""

    name = "ports"

    async def _proofs(self) -> list[Proof]:
        taken = await self._look(seats)
        faults = []
        for service in self.settings.services:
            wanted = filter(None, map(seat_of, service.checks))
            faults += [
                f"{want} of {service.name} is taken by another program (ss -lpn shows which)"
                for want in dict.fromkeys(wanted)
                if any(want.clashes(seat) for seat in taken)
            ]
        return [judged("ports", faults)]


def seats(proc_net: Path = PROC_NET) -> list[Seat]:
    """Every socket that waits here. Blocking."""
    found: list[Seat] = []
    for protocol in ("tcp", "udp"):
        for suffix in ("", "6") if socket.has_ipv6 else ("",):
            file = proc_net / f"{protocol}{suffix}"
            if file.exists():
                found += parse_seats(protocol, file.read_text())
    return found
