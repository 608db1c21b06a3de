# SPDX-License-Identifier: GPL-2.0-or-later
"""A settled cold cluster with its client and its referee, and faults done to it."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass

from tests.lab.cold_cluster import VIP, ColdCluster, ColdGroup, cold_plan
from tests.lab.measure import AddressWatch, Prober
from tests.lab.netns import now_ms, processes_in
from tests.lab.patient_cold import PORT
from tests.lab.world import World

LATE_MS = 250.0


@dataclass
class Scene:
    """active and standby: as they were at the beginning."""

    world: World
    cluster: ColdCluster
    prober: Prober
    owned: AddressWatch
    active: str
    standby: str
    start_ms: float

    def again(self) -> None:
        """From here on only what comes now counts."""
        self.active, self.standby = self.cluster.roles(self.cluster.cold.name)
        self.start_ms = now_ms()

    def again_alone(self, active: str) -> None:
        """As again, while the other node is away."""
        self.active, self.standby = active, self.active
        self.start_ms = now_ms()

    def serves(self, node: str, limit_s: float = 20.0) -> None:
        """Until the client is served by that node, which alone runs the ledger."""
        self.cluster.await_running(node, limit_s)
        what = f"{node} serves the client"
        self.cluster.wait(lambda: self.prober.served_by(LATE_MS) == node, what, limit_s)

    def served(self, limit_s: float = 20.0) -> None:
        """Until the client is, by whomever."""
        self.cluster.wait(lambda: self.prober.served_by(LATE_MS), "the client is served", limit_s)

    def await_copy(self, limit_s: float = 20.0) -> None:
        """Until a copy has been started since."""
        names = (self.active, self.standby)
        self.cluster.wait(lambda: self.starts(*names), "another copy starts", limit_s)

    def refusals(self, name: str) -> int:
        """How often the ledger refused to start there."""
        path = self.world.node(name).run_folder / "refuse"
        return path.read_text().count("\n")

    def pause(self, span_s: float) -> None:
        """Time in which something is not to happen."""
        time.sleep(span_s)

    def signal(self, name: str, number: signal.Signals) -> None:
        """To every process of a node."""
        for pid in processes_in([self.world.node(name).namespace]):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    # ------------------------------------------------------------ since start_ms

    def two_copies_ms(self) -> float:
        return self.cluster.notebook.doubled_ms(self.start_ms, now_ms())

    def lost(self) -> int:
        """Counts."""
        return self.cluster.notebook.lost(self.start_ms, now_ms())

    def starts(self, *names: str) -> int:
        book = self.cluster.notebook
        return sum(book.starts(name, self.start_ms, now_ms()) for name in names)

    def outage_ms(self) -> float:
        return self.prober.record().outage_ms(self.start_ms)

    def owners(self) -> list[str]:
        return self.owned.record().owners_seen(VIP, self.start_ms)

    def nothing_moved(self) -> bool:
        """The same copy served all the time, at the same place."""
        starts = self.starts(self.active, self.standby)
        assert (starts, self.owners()) == (0, [self.active]), self.cluster.report()
        assert self.outage_ms() == 0, self.cluster.report()
        return True


@contextlib.contextmanager
def scene(group: ColdGroup, *, witness: bool = False, more: str = "") -> Iterator[Scene]:
    """Settled, and the client served."""
    with World.build(cold_plan(witness=witness)) as world:
        cluster = ColdCluster(world, group, more)
        cluster.boot()
        cluster.settle()
        active, standby = cluster.roles(group.name)
        prober = Prober(world, VIP, port=PORT, interval_ms=5.0, late_ms=LATE_MS)
        found = Scene(world, cluster, prober, AddressWatch(world), active, standby, 0.0)
        found.serves(active)
        found.again()
        yield found
