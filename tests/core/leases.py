# SPDX-License-Identifier: GPL-2.0-or-later
"""Voters of one lease on a bad network, by true time: who holds it when."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from random import Random
from typing import Any

from agent.core.keeping import LeaseTerms
from agent.core.lease import Lease
from agent.core.lease_count import STOP_MS, Ask, Vote

LEASE_MS = 2_000
PAIR = LeaseTerms(("lon1", "lon2"), ("lon1", "lon2"), LEASE_MS)
WITNESSED = LeaseTerms(("lon1", "lon2"), ("lon1", "lon2", "wit"), LEASE_MS)
THREE = LeaseTerms(("lon1", "lon2", "lon3"), ("lon1", "lon2", "lon3"), LEASE_MS, fence=True)
MOST = LeaseTerms(("lon1", "lon2", "lon3"), ("lon1", "lon2", "lon3", "wit"), LEASE_MS)


class Machine:
    """Its clock, what it remembers, whether it runs."""

    def __init__(self, name: str, terms: LeaseTerms, offset_ms: int, drift_ppm: int) -> None:
        self.name = name
        self.terms = terms
        self.offset_ms = offset_ms
        self.drift_ppm = drift_ppm
        self.boot = 0
        self.memory: Any = None
        self.fresh = True
        self.claim = False
        self.last = False
        self.off: dict[str, int] = {}
        self.lease: Lease | None = None
        self.waiting: list[Callable[[], None]] | None = None  # while it is paused

    def clock(self, true_ms: int) -> int:
        return self.offset_ms + true_ms + true_ms * self.drift_ppm // 1_000_000


class Street:
    """make: the class of the leases, so that a planted bug can be tried."""

    def __init__(self, terms: LeaseTerms, seed: int = 0, make: type[Lease] = Lease) -> None:
        self.rng = Random(seed)
        self.make = make
        self.now = 0
        self.agenda: list[tuple[int, int, Callable[[], None]]] = []
        self.planned = 0
        self.loss = 0.0
        self.delay_ms = (1, 3)
        self.copies = 0.0
        self.cut: set[tuple[str, str]] = set()
        self.machines = {
            name: Machine(name, terms, self.rng.randrange(10**6), self.rng.randint(-5000, 5000))
            for name in terms.voters
        }
        self.both_ms: list[int] = []  # true times at which two held it

    # ------------------------------------------------------------ what the world does

    def at(self, delay_ms: int, call: Callable[[], None]) -> None:
        self.planned += 1
        heappush(self.agenda, (self.now + delay_ms, self.planned, call))

    def start(self, *names: str) -> Street:
        """A keeper begins; it remembers what its predecessor on this machine did."""
        for name in names or tuple(self.machines):
            it = self.machines[name]
            it.boot += 1
            now = it.clock(self.now)
            it.lease = self.make(it.terms, name, it.boot, now, it.memory, it.fresh)
            it.waiting = None
            self.speak(it, it.lease)
            self.ring(it, it.lease)
        return self

    def kill(self, name: str) -> None:
        self.machines[name].lease = None

    def reboot(self, name: str) -> None:
        """Whatever ran there is dead, and nothing is remembered."""
        it = self.machines[name]
        it.lease, it.memory, it.fresh, it.claim, it.off = None, None, True, False, {}

    def pause(self, name: str) -> None:
        it = self.machines[name]
        it.waiting = [] if it.waiting is None else it.waiting

    def resume(self, name: str) -> None:
        """It reads what waited, then looks at the clock; what it does there is done."""
        it = self.machines[name]
        waiting, it.waiting = it.waiting or [], None
        for call in waiting:
            call()
        if it.lease is not None:
            self.ring(it, it.lease)

    def want(self, name: str, claim: bool = True, **rest: Any) -> None:
        """The agent's word. rest: last, off."""
        it = self.machines[name]
        it.claim = claim
        it.last = rest.get("last", it.last)
        it.off = rest.get("off", it.off)
        self.tell(name)

    def tell(self, name: str) -> None:
        it = self.machines[name]
        lease = it.lease
        if lease is not None:
            self.do(it, lease, lambda: lease.told(it.claim, it.last, it.off, it.clock(self.now)))

    def run(self, for_ms: int) -> Street:
        """Agents repeat their words each 250 ms, as the real ones do."""
        until = self.now + for_ms
        while self.agenda and self.agenda[0][0] <= until:
            self.now, _, call = heappop(self.agenda)
            call()
            holders = self.holders()
            if len(holders) > 1:
                self.both_ms.append(self.now)
        self.now = until
        return self

    # ------------------------------------------------------------ what comes of it

    def holders(self) -> list[str]:
        """Those that may still run it, by true time: it takes them STOP_MS to stop.

        A paused one too, until its own clock says otherwise.
        """
        found = []
        for it in self.machines.values():
            lease = it.lease
            if lease is None or not lease.held:
                continue
            until_ms = lease.until_ms
            if not until_ms or it.clock(self.now) < until_ms + STOP_MS:
                found.append(it.name)
        return found

    def lease(self, name: str) -> Lease:
        lease = self.machines[name].lease
        assert lease is not None
        return lease

    # ------------------------------------------------------------ how it does it

    def do(self, it: Machine, lease: Lease, call: Callable[[], None]) -> None:
        if it.lease is not lease:
            return
        if it.waiting is not None:
            it.waiting.append(lambda: self.do(it, lease, call))
            return
        call()
        self.speak(it, lease)

    def ring(self, it: Machine, lease: Lease) -> None:
        """Woken at its deadline, and by its agent's beat."""

        def woken() -> None:
            if it.lease is not lease or it.waiting is not None:
                return
            lease.told(it.claim, it.last, it.off, it.clock(self.now))
            lease.tick(it.clock(self.now))
            self.speak(it, lease)
            self.ring(it, lease)

        due = lease.deadline()
        wait_ms = max(1, due - it.clock(self.now)) if due else 250
        self.at(min(250, wait_ms), woken)

    def speak(self, it: Machine, lease: Lease) -> None:
        out, lease.out, lease.fired = lease.out, [], []
        it.memory = lease.memory()
        it.fresh = False
        for to, kind, body in out:
            for name in (to,) if to else tuple(n for n in self.machines if n != it.name):
                self.send(it, self.machines[name], kind, body)

    def send(self, source: Machine, target: Machine, kind: str, body: dict[str, Any]) -> None:
        boot = source.boot
        for _ in range(1 + (self.rng.random() < self.copies)):
            if (source.name, target.name) in self.cut or self.rng.random() < self.loss:
                continue
            self.at(
                self.rng.randint(*self.delay_ms),
                lambda: self.arrive(source.name, boot, target, kind, body),
            )

    def arrive(
        self, source: str, boot: int, target: Machine, kind: str, body: dict[str, Any]
    ) -> None:
        lease = target.lease
        if lease is None:
            return

        def call() -> None:
            now, number = target.clock(self.now), body["id"]
            if kind == "lease-ask":
                off = body.get("off", {})
                lease.asked(Ask(source, boot, number, body["h"], body["t"], off), now)
            elif kind == "lease-vote":
                soft, holds = body.get("s", False), body.get("h", False)
                lease.answered(Vote(source, number, body["ok"], soft, holds, body["t"]), now)
            else:
                lease.gave_up(source, boot, number, now)

        self.do(target, lease, call)
