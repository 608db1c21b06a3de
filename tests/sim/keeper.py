# SPDX-License-Identifier: GPL-2.0-or-later
"""The keeper's shell in the simulator: its core's words become packets and kernel calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent.core.keeping import (
    AddressAsked,
    AddressSeen,
    AdvertSeen,
    Announce,
    AskNeighbour,
    Finish,
    LinkSeen,
    NeighbourSeen,
    PacketRefused,
    PeerHeard,
    RefreshAddresses,
    ReleaseAddresses,
    Remember,
    Report,
    SendAdvert,
    SendPeer,
    Sense,
    StopServices,
    TakeAddresses,
    Told,
    TrafficSeen,
    Woken,
    WordGiven,
)
from agent.core.model import KeeperSaid, Word
from tests.sim.lan import announce, question
from tests.sim.process import Process

if TYPE_CHECKING:
    from tests.sim.node import Node
    from tests.sim.world import World

NETLINK_MS = 1
MOST_WITNESSES = 3


class KeeperProcess(Process):
    """Owns the addresses."""

    role = "keeper"

    def __init__(self, node: Node, world: World) -> None:
        super().__init__(node, world)
        self.said: KeeperSaid | None = None
        self.words: dict[str, Word] = {}  # as its core knows them
        self.hearing: Any = None  # what it acts on now
        self.words_ms = 0  # on the node's own clock
        self.proven = False  # a witness has answered it
        self.ready_ms: dict[str, int] = {}  # group -> since when its agent calls it ready
        self.hands = {
            SendAdvert: self.send_advert,
            TakeAddresses: self.take_addresses,
            RefreshAddresses: self.refresh_addresses,
            ReleaseAddresses: self.release_addresses,
            Announce: self.announce,
            SendPeer: self.send_to_peers,
            AskNeighbour: self.ask_neighbour,
            Sense: self.sense,
            Remember: self.remember,
            StopServices: self.stop_services,
            Report: self.report,
            Finish: self.finish,
        }

    def begin(self) -> None:
        super().begin()
        node, town = self.node, self.world.town
        self.said = None
        self.words = {}
        self.ready_ms = {}
        self.proven = False
        self.world.judge.keeper_began(node)
        keeping = town.keeping(node.name, self.boot)
        keeping.memory = node.notes
        self.core = self.world.cores.keeper(keeping, self.clock.read(self.agenda.now))
        for group in list(node.kernel.held):
            self.feed(AddressSeen(town.interface(0), town.address(group), True))
        for path in range(town.paths):
            self.feed(LinkSeen(town.interface(path), not node.kernel.carriers_lost[path]))
        self.feed(Woken(self.clock.read(self.agenda.now)))

    def take_in(self, event: Any) -> None:
        if event.__class__ is WordGiven:
            self.words = event.words
            self.words_ms = event.at_ms
            now = self.agenda.now
            self.ready_ms = {
                name: self.ready_ms.get(name, now)
                for name, word in event.words.items()
                if word.ready
            }
        self.hearing = event
        super().take_in(event)

    def woken(self, due_ms: int) -> Woken:
        return Woken(due_ms)

    def listen(self, heard: PeerHeard) -> None:
        self.feed(heard)

    def refuse(self, refused: PacketRefused) -> None:
        self.feed(refused)

    # ---------------------------------------------------------------- what comes in

    def hear_advert(self, advert: AdvertSeen, again: bool) -> None:
        self.feed(advert)

    def hear_neighbour(self, neighbour: NeighbourSeen, again: bool) -> None:
        self.feed(neighbour)

    def hear_question(self, asked: AddressAsked) -> None:
        self.feed(asked)

    # ---------------------------------------------------------------- what its core wants done

    def send_advert(self, action: SendAdvert) -> None:
        node, world = self.node, self.world
        group = world.town.groups[action.group]
        router = group.addresses[0]
        advert = AdvertSeen(
            router.interface, 4, router.vrid, world.town.real_address(node.name, 0),
            action.priority, group.advert_ms, (router.address,), "pseudo",
        )  # fmt: skip
        plains = world.plain_in(action.group)
        send = world.network.carry if plains else world.network.send  # multicast, unicast
        for name in group.nodes:
            if name != node.name:
                receiver = world.nodes[name].keeper
                send(node.name, name, 0, receiver.hear_advert, advert)
        for plain in plains:
            send(node.name, plain.name, 0, plain.hear_advert, advert)

    def take_addresses(self, action: TakeAddresses) -> None:
        self.world.judge.taking(self, action)
        self.node.kernel.take(action.group, action.lifetime_s)
        self.seen_later(action.group, True)

    def refresh_addresses(self, action: RefreshAddresses) -> None:
        self.world.judge.refreshing(self, action)
        known = action.group in self.node.kernel.held
        self.node.kernel.take(action.group, action.lifetime_s)
        if not known:
            self.seen_later(action.group, True)

    def release_addresses(self, action: ReleaseAddresses) -> None:
        self.world.judge.releasing(self, action)
        if self.node.kernel.drop(action.group, "released"):
            self.seen_later(action.group, False)

    def seen_later(self, group: str, present: bool) -> None:
        """Netlink tells of our own changes too."""
        town = self.world.town
        seen = AddressSeen(town.interface(0), town.address(group), present)
        self.agenda.after(NETLINK_MS, self.feed_life, self.life, seen)

    def announce(self, action: Announce) -> None:
        """Everybody on the service network learns where the address is, the clients too."""
        self.world.judge.announcing(self.node, action.group)
        announce(self.world, self.node, action.group)

    def send_to_peers(self, action: SendPeer) -> None:
        names = [action.node] if action.node else self.world.town.peers(self.node.name)
        for name in names:
            self.send_peer(name, "keeper", action.kind, action.body)
            if action.agent_too:
                self.send_peer(name, "agent", action.kind, action.body)

    def ask_neighbour(self, action: AskNeighbour) -> None:
        """ARP: another machine's kernel answers, whatever its processes do."""
        world = self.world

        def answered(name: str, again: bool) -> None:
            self.proven = self.proven or (name in world.neighbours and not self.stopped)
            mac = world.machine(name).mac
            self.hear_neighbour(NeighbourSeen(action.interface, action.address, mac), again)

        question(world, self.node, action.address, int(action.interface[-1]), answered)

    def sense(self, action: Sense) -> None:
        """What was received is told at once, in the middle of what its core wants done."""
        path = int(action.interface[-1])
        witnesses = self.world.witnesses_of(self.node, path) if action.ask else []
        for witness in witnesses[:MOST_WITNESSES]:
            self.ask_neighbour(AskNeighbour(action.interface, witness.address))
        hearing = self.hearing
        packets = self.world.received(self.node, path)
        self.take_in(TrafficSeen(action.interface, packets, len(witnesses)))
        self.hearing = hearing

    def remember(self, action: Remember) -> None:
        """In the run folder: it survives this process, and nothing else."""
        self.node.notes = action.memory

    def stop_services(self, action: StopServices) -> None:
        self.node.end_services(action.group)

    def report(self, action: Report) -> None:
        before, self.said = self.said, action.said
        self.world.judge.reported(self, action.said, before)
        self.agenda.after(0, self.node.agent.hear_keeper, action.said, self.life)

    def finish(self, action: Finish) -> None:
        self.node.keeper_finished()

    def tell(self, what: str) -> None:
        """The supervisor's word: stop or restart."""
        self.feed(Told(what))
