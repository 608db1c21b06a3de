# SPDX-License-Identifier: GPL-2.0-or-later
"""The keeper's core: packets, carrier, the agent's word and timers in; adverts and addresses out.

It routes each event to the peer's table and the group's table and runs what they say. Nothing here
touches the world: `step` returns actions, `deadline` says when it wants to be woken next.

Packets that were queued while the process slept must be fed before `Woken`: a timer that is late
because *we* slept says nothing about a peer.
"""

from typing import Any

from agent.core import adverts, leasing, rounds, sense, speech
from agent.core import peer as peers
from agent.core.election import ACTIVE, BACKUP, DOUBT, GIVING, HOLDING, INIT, Kept
from agent.core.keeping import (
    AddressAsked,
    AddressSeen,
    AdvertSeen,
    Finish,
    KeeperAction,
    KeeperEvent,
    Keeping,
    KeptGroup,
    LinkSeen,
    NeighbourSeen,
    PacketRefused,
    PeerHeard,
    Told,
    TrafficSeen,
    Woken,
    WordGiven,
)
from agent.core.lease import Lease
from agent.core.model import Decision
from agent.core.moves import TABLE
from agent.core.peer import Peer, PeerContext

EARLY_MS = 100  # beats and reports may be so early: one waking does for several
STOOD_MS = 100
SAME_AGAIN_MS = 10_000  # a rule that changes no state is on record once in so long


class KeeperCore:
    """One node's keeper. `step(event, now)`, then `deadline()`; times in ms of one clock.

    adverts_from: our own addresses that adverts leave from; the peers are told.
    """

    lease = Lease

    def __init__(self, config: Keeping, now: int, adverts_from: tuple[str, ...] = ()) -> None:
        self.adverts_from = adverts_from
        self.config: Keeping = config
        self.now: int = now
        self.out: list[KeeperAction] = []
        self.event: KeeperEvent = Woken(now)
        self.groups = {name: Kept(group) for name, group in config.groups.items()}
        self.leases = leasing.begun(self)
        self.peers: dict[str, Peer] = {name: Peer(peer) for name, peer in config.peers.items()}
        self.group: Kept = Kept(_NOBODY) if not self.groups else next(iter(self.groups.values()))
        self.links: dict[str, bool] = {}
        self.counters: dict[str, int] = {}
        self.offer_round = 0
        self.beat_due = True
        self.lost_ms: int = 0  # when a peer that was there fell silent
        self._context = PeerContext(config.asks, config.ask_gap_ms)
        self.routers = {
            (router.interface, router.family, router.vrid): self.groups[name]
            for name, group in config.groups.items()
            for router in group.routers
        }
        self.asked = {
            address: self.peers[name]
            for name, peer in config.peers.items()
            for _, address in peer.asked
        }
        self.own: dict[str, Kept] = {
            address: self.groups[name]
            for name, group in config.groups.items()
            for router in group.routers
            for address in router.addresses
        }
        self.ears = sense.ears(config)
        self.arrivals = {  # (peer, path) -> the interface by which it comes
            (name, path): interface
            for name, peer in config.peers.items()
            for interface, address in peer.asked
            for path, theirs in enumerate(peer.paths)
            if theirs == address
        }
        self.macs: dict[str, str] = {}  # MAC -> the node that was seen there
        self._present: dict[str, set[str]] = {name: set() for name in self.groups}
        self.beat_at = now
        self.report_at = now
        self.report_due = True
        self.word_ms = now  # a new keeper gives its agent the same time
        self._stopping = False
        self._awake = False  # once woken: until then it is still being told what is there
        self._hold_ms = min((group.hold_ms for group in config.groups.values()), default=0)
        self.decisions: list[Decision] = []
        self.reported: dict[tuple[str, str], int] = {}

    # ------------------------------------------------------------ the two calls

    def step(self, event: KeeperEvent, now: int) -> list[KeeperAction]:
        """Take in one event; the actions are to be carried out in order."""
        self.now = now
        self.event = event
        out: list[KeeperAction] = []
        self.out = out
        if now - self.word_ms > self._hold_ms:
            rounds.watch_agent(self)
        if self.leases.by_group:
            leasing.look(self)
        if event.__class__ is not Woken and self._awake:
            rounds.notice_pause(self)
        _HANDLERS[type(event)](self, event)
        if self.beat_due:
            speech.beat(self)
        if self._awake and (self.report_due or now >= self.report_at - EARLY_MS):
            speech.report(self)
        if self._stopping and all(group.state in (INIT, BACKUP) for group in self.groups.values()):
            out.append(Finish())
        return out

    def deadline(self) -> int:
        """When to feed `Woken` next."""
        at = min(self.beat_at, self.report_at)
        for group in self.groups.values():
            due = group.deadline()
            if due and due < at:
                at = due
        for peer in self.peers.values():
            for due in (peer.gap_at, peer.call_at):
                if due and due < at:
                    at = due
        for due in (sense.deadline(self), self.leases.deadline()):
            if due and due < at:
                at = due
        return at

    def behind(self) -> bool:
        """Something was due long ago: what is fed now lay in a queue while we slept."""
        return self.now - self.deadline() > STOOD_MS

    # ------------------------------------------------------------ firing rows

    def fire(self, group: Kept, event: str) -> None:
        """One event into a group's table, with its record."""
        self.group = group
        before = group.state
        choice = TABLE.choose(before, event, self)
        row = choice.row
        if row is None:
            return
        for effect in choice.effects:
            effect(self)
        if row.next:
            group.state = row.next
        stays = group.state == before
        if row.quiet or (
            stays and self.now - group.told.get(row.rule, -SAME_AGAIN_MS) < SAME_AGAIN_MS
        ):
            return
        if not stays:
            group.told.clear()
        group.told[row.rule] = self.now
        group.rule = row.rule
        self.report_due = True
        self.decisions.append(
            Decision(
                f"group {group.config.name}",
                row.rule,
                before,
                group.state,
                row.why,
                self._inputs(group),
                tuple(choice.rejected),
            )
        )

    def _inputs(self, group: Kept) -> dict[str, Any]:
        event = self.event
        said: dict[str, Any] = {}
        if isinstance(event, AddressSeen):
            said = {"address": event.address, "by": event.by}
        elif isinstance(event, NeighbourSeen):
            said = {"address": event.address, "mac": event.mac}
        return said | {
            "ready": group.ready,
            "order": group.order,
            "carrier": group.plugged,
            "active": group.active,
            "since_advert_ms": self.now - group.last_advert_ms if group.last_advert_ms else None,
            "epoch": group.epoch,
            "peers": {name: self.peers[name].state for name in group.config.peers},
            "senses": {ear.interface: sense.word(ear) for ear in sense.ears_of(self, group)},
        }

    def fire_peer(self, peer: Peer, event: str) -> None:
        """One event into a peer's table, with its record."""
        context = self._context
        context.peer, context.now, context.out = peer, self.now, self.out
        before = peer.state
        choice = peers.TABLE.choose(before, event, context)
        row = choice.row
        if row is None:
            return
        for effect in choice.effects:
            effect(context)
        if not row.next or row.next == before:
            return
        peer.state = row.next
        verdict, peer.verdict = peer.verdict, peer.verdict if row.next == peers.ASKING else row.next
        came_back = peer.away and row.next == peers.ALIVE
        peer.away = row.next in (peers.SILENT, peers.HELD) or (peer.away and not came_back)
        again = before == peers.ASKING and (row.quiet or row.next == verdict)
        if came_back or (row.next != peers.ASKING and not again):
            self.report_due = True
            self.decisions.append(
                Decision(
                    f"peer {peer.config.name}",
                    row.rule,
                    before,
                    row.next,
                    row.why,
                    {"ways": peer.ways, "asked": peer.tries, "node": peer.node_answered},
                    tuple(choice.rejected),
                )
            )
        if row.next == peers.ALIVE and (came_back or before == peers.UNKNOWN):
            self.out += peers.questions(peer.config.asked)  # so that its MAC is known
        if came_back:
            self.beat_due = True  # what it should know of us must not wait
            rounds.everywhere(self, peer, "peer_back")

    def doubt_peer(self, peer: Peer, unheard: str = "") -> None:
        """Open a round of asking, unless one is open. unheard: a group that is not heard."""
        if not peer.gap_at:
            peer.unheard = unheard
            sense.open_rounds(self)
        self.fire_peer(peer, "doubted")

    def name_of(self, group: Kept, source: str) -> str:
        """The member of the group that advertises from `source`; "" where that is none."""
        if source in group.config.plain:
            return source
        name = self.config.sources.get(source, "")
        return name if name in group.config.peers else ""

    # ------------------------------------------------------------ events

    def _peer(self, event: PeerHeard) -> None:
        peer = self.peers.get(event.node)
        if peer is None:
            return
        if event.fresh:
            sense.spoken_to(self, event)
            leasing.spoken(self, event.node)
        if event.kind.startswith("lease-"):
            leasing.heard(self, event)
        elif event.kind == "ask":
            rounds.asked(self, event)
        elif event.kind == "answer":
            rounds.answered(self, peer, event)
        elif event.role == "keeper" and event.fresh:
            self._told_by(peer, event)

    def _told_by(self, peer: Peer, event: PeerHeard) -> None:
        peer.heard_ms = self.now
        peer.boot = event.boot
        if event.path < len(peer.path_ms):
            peer.path_ms[event.path] = self.now
        if event.kind == "beat":
            speech.learn(self, peer, event.body)
        self.fire_peer(peer, "heard")
        group = self.groups.get(str(event.body.get("group", "")))
        if group is not None:
            self.see_epoch(group, event.body.get("epoch"))
            self._peer_group(group, event)
        for group in self.groups.values():
            if group.state == ACTIVE and group.epoch_seen > group.epoch:
                self.fire(group, "epoch_behind")

    def _peer_group(self, group: Kept, event: PeerHeard) -> None:
        if event.kind == "claim":
            group.claimer = event.node
        elif event.kind == "handover":
            number = event.body.get("id")
            group.offered_by = event.node
            group.offered_id = number if isinstance(number, int) else 0
        elif event.kind == "taken" and not event.body.get("ok"):
            self.fire(group, "declined")
            return
        if event.kind in _GROUP_EVENTS:
            self.fire(group, _GROUP_EVENTS[event.kind])

    def see_epoch(self, group: Kept, epoch: object) -> None:
        if isinstance(epoch, int) and not isinstance(epoch, bool) and epoch > group.epoch_seen:
            group.epoch_seen = epoch

    def _link(self, event: LinkSeen) -> None:
        self.links[event.interface] = event.up
        self.report_due = True
        for group in self.groups.values():
            if event.interface not in group.carrier:
                continue
            before = group.plugged
            group.carrier[event.interface] = event.up
            if before and not group.plugged:
                self.fire(group, "carrier_lost")
            elif group.plugged and group.state == INIT and self._awake and not group.stopping:
                self.fire(group, "start")

    def _address(self, event: AddressSeen) -> None:
        group = self.own.get(event.address)
        if group is None:
            return
        present = self._present[group.config.name]
        (present.add if event.present else present.discard)(event.address)
        if group.state in (INIT, DOUBT):
            group.holds = bool(present)
        if event.present:
            return
        if group.state in (ACTIVE, GIVING) and group.holds and self.now - group.taken_ms > 1:
            self.fire(group, "address_gone")

    def _word(self, event: WordGiven) -> None:
        if event.at_ms < self.now - self._hold_ms:
            return  # older than it may be: it proves nothing any more
        self.word_ms = event.at_ms
        for name, word in event.words.items():
            group = self.groups.get(name)
            if group is None:
                continue
            self.beat_due = self.beat_due or speech.changes(group, word)
            group.ready, group.well, group.able = word.ready, word.well, word.able
            group.worded, group.why = True, word.why
            group.order, group.order_to = word.order, word.to
            group.ceiling = word.ceiling
            self.see_epoch(group, word.epoch)
            if group.state in HOLDING and not group.epoch and group.epoch_seen < group.ceiling:
                group.epoch = group.epoch_seen = group.epoch_seen + 1  # adopted: a new word for it
                self.report_due = True
            self.fire(group, "word")
        leasing.word(self, event.words)

    def _told(self, event: Told) -> None:
        if event.what == "restart":
            self.out.append(Finish())
            return
        self._stopping = True
        for group in self.groups.values():
            group.stopping = True
            self.fire(group, "stop")
        self.beat_due = True

    def _woken(self, event: Woken) -> None:
        now = self.now
        self._awake = True
        late = now - event.due_ms > self.config.asks * self.config.ask_gap_ms
        for group in self.groups.values():
            group.self_late = late
            if group.state == INIT:
                if group.plugged and not group.stopping:
                    self.fire(group, "start")
                continue
            rounds.due(self, group)
        leasing.due(self)
        if sense.due(self):
            rounds.settle_doubts(self)
        for peer in self.peers.values():
            if peer.gap_at and now >= peer.gap_at:
                rounds.gap(self, peer)
            if peer.call_at and now >= peer.call_at:
                rounds.call(self, peer)
        if now >= self.beat_at - EARLY_MS:
            rounds.watch_peers(self)
            sense.watch(self)
            self.beat_due = True


_GROUP_EVENTS = {"handover": "offer", "taken": "taken", "yielded": "yielded", "claim": "claimed"}
_NOBODY = KeptGroup("", 100, 0, 1000, 1000, (), ())

_HANDLERS: dict[type, Any] = {
    AdvertSeen: adverts.heard,
    PeerHeard: KeeperCore._peer,
    NeighbourSeen: adverts.neighbour,
    AddressAsked: adverts.asked,
    TrafficSeen: sense.traffic,
    LinkSeen: KeeperCore._link,
    AddressSeen: KeeperCore._address,
    WordGiven: KeeperCore._word,
    Told: KeeperCore._told,
    PacketRefused: rounds.refused,
    Woken: KeeperCore._woken,
}
