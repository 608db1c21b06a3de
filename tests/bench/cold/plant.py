# SPDX-License-Identifier: GPL-2.0-or-later
"""The appliances, who protects the ledgers on them, and what a client and the referee saw."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tests.bench.cold.seats import NODES, WITNESS, Seat, Stack, binds
from tests.bench.common import say
from tests.bench.vip.pair import outage_ms, sleep_until
from tests.lab.appliances import Appliance, base_image, build, with_package
from tests.lab.cold_notebook import Notebook
from tests.lab.measure import AddressWatch, Prober
from tests.lab.netns import LabError, command, now_ms
from tests.lab.world import ROOT, World

PROBE_MS, LATE_MS = 10.0, 250
CALM_MS = 1500.0  # what happens so long after a move belongs to it
SETTLE_S = 90.0
LIVE = ("agent", "drivers")  # of the tree, instead of the package's
SITE = "/usr/lib/standpipe/site"
Seen = dict[tuple[str, str], float]  # (what, seat's name) -> how much of it


class Eyes:
    """What the client sees of every seat."""

    def __init__(self, world: World, seats: Sequence[Seat]) -> None:
        self._probers = {
            seat.name: Prober(
                world, seat.address, port=seat.port, interval_ms=PROBE_MS, late_ms=LATE_MS
            )
            for seat in seats
        }

    def server(self, seat: Seat) -> str:
        """ "" where nobody serves it."""
        return self._probers[seat.name].served_by(LATE_MS) or ""

    def outage_ms(self, seat: Seat, start_ms: float, end_ms: float) -> float:
        return outage_ms(self._probers[seat.name].record(), start_ms, end_ms)

    def first_served_ms(self, seat: Seat, start_ms: float, end_ms: float) -> float:
        """How long after the start somebody answered; all of the span where nobody did."""
        served = self._probers[seat.name].record().served_by(start_ms, end_ms)
        return (served[0][0] if served else end_ms) - start_ms

    def close(self) -> None:
        for prober in self._probers.values():
            prober.close()


class Plant:
    """Two appliances, a witness, stacks at work on them."""

    def __init__(
        self,
        world: World,
        stacks: Sequence[Stack],
        package: Path,
        *,
        live: bool,
        ballast_bytes: int,
    ) -> None:
        self.world, self.stacks = world, stacks
        self.seats = [seat for stack in stacks for seat in stack.seats]
        notebooks = world.folder / "notebooks"
        self.notebooks = {seat.name: Notebook(notebooks / seat.name) for seat in self.seats}
        seen = binds(notebooks)
        if live:
            seen += [f"--bind-ro={ROOT}/{part}:{SITE}/{part}" for part in LIVE]
        layers = with_package(base_image(), package)
        self.appliances = build(world, layers, (*NODES, WITNESS), seen)
        for node in NODES:
            for seat in self.seats:
                unit = f"/etc/systemd/system/{seat.unit}"
                self.appliances[node].write(unit, seat.unit_text(node, ballast_bytes))
        for stack in stacks:
            stack.configure(self.appliances)
        self.watch = AddressWatch(world)
        began_ms = now_ms()
        self.boot(*self.appliances)
        self.settle()
        say(f"the appliances serve {(now_ms() - began_ms) / 1000:.1f} s after their power came on")

    @property
    def witness(self) -> Appliance:
        return self.appliances[WITNESS]

    def boot(self, *names: str) -> None:
        for name in names:
            self.appliances[name].boot()
        for name in names:
            self.appliances[name].wait()

    def stack(self, seat: Seat) -> Stack:
        return next(stack for stack in self.stacks if seat in stack.seats)

    # ------------------------------------------------------------ who serves

    def owner(self, seat: Seat) -> str:
        """The node that has the address and alone runs the ledger; "" where that is nobody."""
        held = self.watch.owners(seat.address)
        return next(iter(held)) if held == self.notebooks[seat.name].running() and held else ""

    def settled(self, seat: Seat) -> bool:
        owner = self.owner(seat)
        others = [self.appliances[node] for node in NODES if node != owner]
        stack = self.stack(seat)
        return owner != "" and all(stack.stands_by(seat, other) for other in others if other.is_on)

    def settle(self, limit_s: float = SETTLE_S) -> None:
        for seat in self.seats:
            self.wait(lambda seat=seat: self.settled(seat), f"{seat.name} settles", limit_s)

    def gather(self, node: str = NODES[0]) -> Appliance:
        """Every seat to that node."""
        self.settle()
        for seat in self.seats:
            held = self.owner(seat)
            if held != node:
                self.move(seat, held, node)
        self.settle()
        return self.appliances[node]

    def move(self, seat: Seat, held: str, to: str) -> None:
        """Planned, to its end."""
        stack = self.stack(seat)
        stack.move(seat, self.appliances[held], self.appliances[to])
        address = seat.address
        self.wait(lambda: self.watch.owners(address) == {to}, f"{address} is on {to}", 30.0)
        stack.moved(seat, self.appliances[held])
        self.wait(lambda: self.owner(seat) == to, f"{seat.name} is on {to} alone", 30.0)

    def wait(self, condition: Callable[[], object], what: str, limit_s: float) -> None:
        """As netns.wait_until, less often; what the nodes say is in the LabError."""
        deadline_ms = now_ms() + limit_s * 1000
        while not condition():
            if now_ms() > deadline_ms:
                raise LabError(f"waited {limit_s:g} s in vain until {what}\n{self.report()}")
            time.sleep(0.05)

    def report(self) -> str:
        said = []
        for name, there in self.appliances.items():
            if there.is_on:
                units = [unit for stack in self.stacks for unit in stack.managers]
                said.append(f"---- {name}\n{there.journal(*units)[-5000:]}")
                for verb in ("status", "explain"):
                    said.append(there.run("standpipe", verb, check=False).stdout[-3000:])
        return "\n".join(said)

    # ------------------------------------------------------------ the client

    @contextlib.contextmanager
    def watched(self) -> Iterator[Eyes]:
        """Once every seat is served; what an earlier heal left in the client's ARP is forgotten."""
        command("ip", "-n", self.world.client.namespace, "neigh", "flush", "all")
        eyes = Eyes(self.world, self.seats)
        try:
            for seat in self.seats:
                self.wait(lambda seat=seat: eyes.server(seat), f"{seat.name} is served", 20.0)
            yield eyes
        finally:
            eyes.close()

    def until(self, at_ms: float) -> float:
        """Wait until the probes before that moment are decided; the moment."""
        sleep_until(at_ms + LATE_MS + 50)
        return at_ms

    def served(self, eyes: Eyes, limit_s: float, seats: Sequence[Seat] = ()) -> float:
        """Wait until all are served, or the limit; then a calm moment; when that was over."""
        chosen = seats or self.seats
        deadline_ms = now_ms() + limit_s * 1000
        while now_ms() < deadline_ms and not all(map(eyes.server, chosen)):
            time.sleep(0.02)
        return self.until(now_ms() + CALM_MS)

    def saw(self, eyes: Eyes, when: str, start_ms: float, end_ms: float) -> Seen:
        """Outage, two copies, moves and lost counts of every seat in a span."""
        found: Seen = {}
        for seat in self.seats:
            book = self.notebooks[seat.name]
            found[f"{when}outage", seat.name] = eyes.outage_ms(seat, start_ms, end_ms)
            found[f"{when}two copies", seat.name] = book.doubled_ms(start_ms, end_ms)
            found[f"{when}status lost", seat.name] = book.lost(start_ms, end_ms)
            found[f"{when}starts", seat.name] = sum(
                book.starts(node, start_ms, end_ms) for node in NODES
            )
        return found
