# SPDX-License-Identifier: GPL-2.0-or-later
"""A process around a real core: fed by packets and timers, killed, paused, restarted.

A paused process keeps what arrives; when it goes on it reads all of that, then looks at the clock,
as the real shells do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent.core.keeping import PacketRefused, PeerHeard

if TYPE_CHECKING:
    from tests.sim.node import Node
    from tests.sim.world import World

MOST_RINGS = 50  # in one millisecond
SOCKET_HOLDS = 256  # packets that wait for a paused process; the rest is dropped


class Process:
    """What keeper and agent have in common. role: keeper agent."""

    role = ""

    def __init__(self, node: Node, world: World) -> None:
        self.node = node
        self.world = world
        self.agenda = world.agenda
        self.clock = node.kernel.clock
        self.alive = False
        self.stopped = 0  # how many faults hold it still
        self.life = 0
        self.boot = 0
        self.stopped_ms = 0
        self.well_since = 0
        self.armed_ms = 0  # true time of the planned ring, 0: none
        self.due_ms: int | None = None  # the core's deadline after its last step
        self.rung_ms = 0
        self.rung = 0  # how often it was woken at rung_ms
        self.inbox: list[Any] = []
        self.known: dict[tuple[str, str], int] = {}  # (node, role) -> boot last heard of it
        self.core: Any = None
        self.hands: dict[type, Any] = {}

    @property
    def running(self) -> bool:
        return self.alive and not self.stopped

    def begin(self) -> None:
        """A new life: a new boot, an empty memory."""
        self.life += 1
        self.alive = True
        self.stopped = 0
        self.boot = self.world.boots.getrandbits(48) | 1
        self.known = {}
        self.inbox = []
        self.armed_ms = 0
        self.well_since = self.agenda.now

    def end(self) -> None:
        """Killed, or its machine lost power."""
        self.alive = False
        self.core = None
        self.inbox = []

    def stop(self) -> None:
        """SIGSTOP, or its machine stands still."""
        if not self.stopped:
            self.stopped_ms = self.agenda.now
        self.stopped += 1

    def go_on(self) -> None:
        """Read everything that waits, then look at the clock."""
        self.stopped -= 1
        if self.stopped or not self.alive:
            return
        self.well_since = self.agenda.now
        waiting, self.inbox = self.inbox, []
        life = self.life
        for event in waiting:
            self.feed_life(life, event)
        self.agenda.after(0, self.look, life)

    def look(self, life: int) -> None:
        """At the clock, once everything was read."""
        if life == self.life and self.running:
            self.armed_ms = 0
            self.arm()

    def feed(self, event: Any) -> None:
        """Something arrived for this process."""
        if not self.alive:
            return
        if self.stopped:
            if len(self.inbox) < SOCKET_HOLDS:
                self.inbox.append(event)
            return
        self.take_in(event)

    def feed_life(self, life: int, event: Any) -> None:
        """Something arrived that only the life which asked for it can receive."""
        if life == self.life:
            self.feed(event)

    def take_in(self, event: Any) -> None:
        """One step of the core, and what it wants done."""
        now = self.clock.read(self.agenda.now)
        actions = self.core.step(event, now)
        world = self.world
        world.events += 1
        if world.witness is not None:
            world.witness(self, now, event, actions)
        hands = self.hands
        for action in actions:
            hands[action.__class__](action)
        if self.alive:
            self.due_ms = self.core.deadline()
            self.arm()

    def arm(self) -> None:
        """Plan a ring for the core's deadline, unless one is planned that is early enough."""
        deadline = self.due_ms
        if deadline is None:
            return
        armed = self.armed_ms
        if armed and self.clock.read(armed) <= deadline:
            return
        self.armed_ms = when = max(self.clock.when(deadline), self.agenda.now)
        self.agenda.at(when, self.ring, self.life, when)

    def ring(self, life: int, planned_ms: int) -> None:
        if life != self.life or planned_ms != self.armed_ms or not self.alive:
            return
        self.armed_ms = 0
        if self.stopped:
            return
        self.rung = self.rung + 1 if self.rung_ms == planned_ms else 0
        self.rung_ms = planned_ms
        if self.rung > MOST_RINGS:
            self.world.judge.fail(
                "spins", f"{self.node.name} {self.role} wants to be woken for ever"
            )
        deadline = self.due_ms
        if deadline is not None and deadline <= self.clock.read(self.agenda.now):
            self.take_in(self.woken(deadline))
        else:
            self.arm()

    def woken(self, due_ms: int) -> Any:
        """The event that says that the deadline has come."""
        raise NotImplementedError

    # ---------------------------------------------------------------- the peer link

    def send_peer(self, target: str, role: str, kind: str, body: dict[str, Any]) -> None:
        """One signed packet on every path, to the process of that role."""
        node = self.node
        echo = self.known.get((target, role), 0)
        receiver = self.world.nodes[target].processes[role]
        for path in range(self.world.network.paths):
            self.world.network.send(
                node.name, target, path, receiver.hear, node.name, self.role, path, kind, self.boot,
                echo, body,
            )  # fmt: skip

    def hear(
        self,
        source: str,
        role: str,
        path: int,
        kind: str,
        boot: int,
        echo: int,
        body: dict[str, Any],
        again: bool,
    ) -> None:
        """The session's part: fresh is what echoes our present boot, a second copy is refused."""
        if not self.alive:
            return
        if again:
            self.refuse(PacketRefused("peer-replayed", source, "this packet was here before"))
            return
        if not self.stopped:
            self.known[source, role] = boot
            if echo != self.boot and kind != "hello":
                self.greet(source, role, path)
        if kind != "hello":
            self.listen(PeerHeard(source, role, path, kind, boot, 0, echo == self.boot, body))

    def greet(self, target: str, role: str, path: int) -> None:
        """Tell a peer that does not know it what our boot is."""
        receiver = self.world.nodes[target].processes[role]
        echo = self.known.get((target, role), 0)
        self.world.network.send(
            self.node.name, target, path, receiver.hear, self.node.name, self.role, path, "hello",
            self.boot, echo, {},
        )  # fmt: skip

    def listen(self, heard: PeerHeard) -> None:
        """A packet of the peer link for the core."""
        raise NotImplementedError

    def refuse(self, refused: PacketRefused) -> None:
        """A packet that must not be believed."""
        raise NotImplementedError
