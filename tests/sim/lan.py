# SPDX-License-Identifier: GPL-2.0-or-later
"""Who else is on a site's service network: clients, a gateway, a stranger. And how ARP asks there.

A client keeps what it was told last; its kernel believes the first answer for a second, and any
gratuitous one at once (Linux: locktime). An entry is looked after as Linux does: when it is old,
three unicast questions, then it is forgotten and everybody is asked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from agent.core.keeping import AddressAsked, NeighbourSeen
from tests.sim.town import NEIGHBOURS

if TYPE_CHECKING:
    from tests.sim.node import Node
    from tests.sim.world import World

ENTRY_GOOD_MS = (15_000, 45_000)  # base_reachable_time of 30 s, by half more or less
ASK_GAP_MS = 1000
UNICAST_QUESTIONS = 3
LOCKTIME_MS = 1000
DEFENDED_EACH_MS = 2000  # claims more frequent than that need not be answered one by one
DAY_MS = 86_400_000

Answered = Callable[[str, bool], None]  # (name of the machine that answers, again)


class Neighbour:
    """A machine whose kernel answers for its own address. kind: as in NEIGHBOURS."""

    def __init__(self, world: World, kind: str, site: str) -> None:
        self.world = world
        self.agenda = world.agenda
        self.site = site
        self.name = f"{kind}@{site}"
        self.address = world.town.neighbour_address(kind, site)
        self.mac = f"02:00:00:01:{world.town.sites.index(site):02x}:{NEIGHBOURS[kind]:02x}"
        self.down = 0  # how many faults keep it off
        self.changed_ms = 0

    def answers_on(self, path: int) -> bool:
        return not (self.down or path)

    def answers_for(self, address: str) -> bool:
        return address == self.address

    def answer_after_ms(self, address: str) -> int:
        """How long it takes its time."""
        return 0

    def switched(self, by: int) -> None:
        """Off by 1, on again by -1."""
        self.down += by
        self.changed_ms = self.agenda.now


@dataclass(slots=True)
class Entry:
    """What a client knows of a floating address. machine: "" while it does not."""

    machine: str = ""
    updated_ms: int = -LOCKTIME_MS
    confirmed_ms: int = 0
    good_ms: int = 0
    questions: int = 0


class Client(Neighbour):
    """Everybody on a site's service network who wants something of us."""

    def __init__(self, world: World, site: str, rng: Random) -> None:
        super().__init__(world, "lan", site)
        self.rng = rng
        groups = [name for name, group in world.town.groups.items() if name.endswith(site)]
        self.entries = {group: Entry() for group in groups}

    @property
    def knows(self) -> dict[str, str]:
        return {group: entry.machine for group, entry in self.entries.items() if entry.machine}

    def begin(self) -> None:
        for group in self.entries:
            self.agenda.after(self.rng.randrange(ASK_GAP_MS), self.look, group)

    def look(self, group: str) -> None:
        """At the age of what it knows: ask its machine, or everybody."""
        entry, now = self.entries[group], self.agenda.now
        old_ms = entry.confirmed_ms + entry.good_ms
        if entry.machine and now < old_ms:
            self.agenda.at(old_ms, self.look, group)
            return
        address = self.world.town.address(group)
        asked = [entry.machine] if entry.machine else None
        if entry.questions >= UNICAST_QUESTIONS:
            self.set(group, "")
            asked = None
        entry.questions += 1
        question(self.world, self, address, 0, lambda *said: self.answered(group, *said), asked)
        self.agenda.after(ASK_GAP_MS, self.look, group)

    def answered(self, group: str, machine: str, again: bool) -> None:
        """To its own question."""
        entry = self.entries[group]
        locked = self.agenda.now - entry.updated_ms < LOCKTIME_MS
        if machine == entry.machine or not (locked and entry.machine):
            self.set(group, machine)

    def learn(self, group: str, machine: str, again: bool) -> None:
        """A gratuitous one is believed at once."""
        self.set(group, machine)

    def set(self, group: str, machine: str) -> None:
        entry, now = self.entries[group], self.agenda.now
        entry.confirmed_ms = now
        entry.questions = 0
        entry.good_ms = (
            self.rng.randint(*ENTRY_GOOD_MS) if self.world.town.client_forgets else DAY_MS
        )
        if machine != entry.machine:
            entry.machine, entry.updated_ms = machine, now
            self.world.judge.served.look(group)


class Rogue(Neighbour):
    """A stranger that takes a floating address for its own while it is there."""

    def __init__(self, world: World, site: str) -> None:
        super().__init__(world, "rogue", site)
        self.down = 1
        self.group = ""
        self.late_ms = 0
        self.gone_ms = self.flooded_ms = -DAY_MS

    def answers_for(self, address: str) -> bool:
        return bool(self.group) and address == self.world.town.address(self.group)

    def answer_after_ms(self, address: str) -> int:
        return self.late_ms

    def appear(self, group: str, late_ms: int, every_ms: int) -> None:
        """It answers so late, and says unasked so often that the address is its own."""
        self.group, self.late_ms = group, late_ms
        self.switched(-1)
        self.claim(every_ms)

    def claim(self, every_ms: int) -> None:
        if self.group:
            announce(self.world, self, self.group)
            if every_ms > DEFENDED_EACH_MS:
                self.world.judge.served.claimed(self)
            else:
                self.flooded_ms = self.agenda.now
            self.agenda.after(every_ms, self.claim, every_ms)

    def go(self) -> None:
        self.group = ""
        self.gone_ms = self.agenda.now
        self.switched(1)


def announce(world: World, machine: Node | Neighbour, group: str) -> None:
    """A gratuitous ARP, to everybody on the service network."""
    seen = NeighbourSeen("eth0", world.town.address(group), machine.mac)
    for name in world.town.groups[group].nodes:
        if name != machine.name:
            hear = world.nodes[name].keeper.hear_neighbour
            world.network.ask(machine.name, name, 0, hear, seen)
    client = world.clients[machine.site]
    world.network.ask(machine.name, client.name, 0, client.learn, group, machine.name)


def question(
    world: World,
    asker: Node | Neighbour,
    address: str,
    path: int,
    answered: Answered,
    asked: list[str] | None = None,
) -> None:
    """Who has `address`? asked: whose kernels get the question; None: it is a broadcast."""
    whose = world.whose(address)
    floating = len(whose) > 1

    def hear(name: str, again: bool) -> None:
        machine = world.machine(name)
        node = world.nodes.get(name)
        if node is not None and asker.name in world.neighbours:
            node.overheard.add(asker.name)
        if node is not None and floating and asked is None:
            node.keeper.hear_question(AddressAsked("eth0", address))
        if machine.answers_for(address):
            late_ms = machine.answer_after_ms(address)
            world.agenda.after(late_ms, answer, name) if late_ms else answer(name)

    def answer(name: str) -> None:
        world.network.ask(name, asker.name, path, answered, name)

    for name in whose if asked is None else asked:
        if name != asker.name:
            world.network.ask(asker.name, name, path, hear, name)
