# SPDX-License-Identifier: GPL-2.0-or-later
"""Who else is on a link, and can be asked whether this node hears and is heard.

Not our peers and gateways, nor whoever has a floating address, under any address of theirs: these
partners are asked anyway, and fall silent with what is being found out. Addresses and MACs are
packed; times in ms.
"""

from collections.abc import Container

KEPT = 4
ASKED = 3
PROVEN_MS = 120_000  # whoever answered so lately is not pushed out by those only overheard


class Witnesses:
    """Machines, each known by its MAC, on one interface.

    own: our MAC there. partners: addresses of those that are none. sizes: of the addresses that can
    be asked for, 4 or 16 bytes.
    """

    def __init__(self, own: bytes, partners: Container[bytes], sizes: Container[int]) -> None:
        self._own = own
        self._partners = partners
        self._sizes = sizes
        self._met: dict[bytes, bytes] = {}  # a partner's address -> its MAC
        self._machines: dict[bytes, _Machine] = {}

    def overheard(self, mac: bytes, address: bytes, at_ms: int) -> None:
        """It said of itself, at that time or later, that it has the address."""
        if address in self._partners:
            self._met[address] = mac
            self._machines.pop(mac, None)
            return
        machine = self._machines.get(mac)
        if machine is not None:
            machine.heard_ms = max(machine.heard_ms, at_ms)
        elif self._is_another(mac) and any(address) and len(address) in self._sizes:
            self._machines[mac] = _Machine(address, at_ms)
            if len(self._machines) > KEPT:
                del self._machines[self._ranked(at_ms)[-1]]

    def answered(self, mac: bytes, address: bytes, now: int) -> None:
        """It was asked for the address, or is a partner of whom we heard."""
        machine = self._machines.get(mac)
        if machine is not None and machine.address == address:
            machine.heard_ms = machine.answered_ms = now
        elif address in self._partners:
            self.overheard(mac, address, now)

    def has_met(self, partner: bytes) -> bool:
        """Whether the MAC of a partner's address is known."""
        return partner in self._met

    def chosen(self, now: int) -> list[bytes]:
        """Addresses to ask for: of whoever answered lately, then of whoever spoke last."""
        return [self._machines[mac].address for mac in self._ranked(now)[:ASKED]]

    def _is_another(self, mac: bytes) -> bool:
        return mac != self._own and not mac[0] & 1 and mac not in self._met.values()

    def _ranked(self, now: int) -> list[bytes]:
        return sorted(self._machines, key=lambda mac: self._machines[mac].rank(now), reverse=True)


class _Machine:
    """One of its addresses, and when it was last heard, and last answered us."""

    def __init__(self, address: bytes, heard_ms: int) -> None:
        self.address = address
        self.heard_ms = heard_ms
        self.answered_ms: int | None = None

    def rank(self, now: int) -> tuple[bool, int]:
        proven = self.answered_ms is not None and now - self.answered_ms < PROVEN_MS
        return proven, self.heard_ms
