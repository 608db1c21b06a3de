# SPDX-License-Identifier: GPL-2.0-or-later
"""The keeper's core: packets, carrier, the agent's word and timers in; adverts and addresses out.

It routes each event to the peer's table and the group's table and runs what they say. Nothing here
touches the world: `step` returns actions, `deadline` says when it wants to be woken next.

Packets that were queued while the process slept must be fed before `Woken`: a timer that is late
because *we* slept says nothing about a peer.
"""

from typing import Any

from agent.core import peer as peers
from agent.core import rounds, speech
from agent.core.election import ACTIVE, BACKUP, DOUBT, HOLDING, INIT, Kept, rank
from agent.core.guards import priority_now
from agent.core.keeping import (
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
    SendPeer,
    Told,
    Woken,
    WordGiven,
)
from agent.core.model import Decision
from agent.core.moves import TABLE
from agent.core.peer import Peer, PeerContext


class KeeperCore:
    """One node's keeper. `step(event, now)`, then `deadline()`; times in ms of one clock.

    adverts_from: our own addresses that adverts leave from; the peers are told.
    """

    def __init__(self, config: Keeping, now: int, adverts_from: tuple[str, ...] = ()) -> None:
        self.adverts_from = adverts_from
        self.config: Keeping = config
        self.now: int = now
        self.out: list[KeeperAction] = []
        self.event: KeeperEvent = Woken(now)
        self.groups = {name: Kept(group) for name, group in config.groups.items()}
        self.peers: dict[str, Peer] = {name: Peer(peer) for name, peer in config.peers.items()}
        self.group: Kept = Kept(_NOBODY) if not self.groups else next(iter(self.groups.values()))
        self.links: dict[str, bool] = {}
        self.counters: dict[str, int] = {}
        self.offer_round = 0
        self.beat_due = True
        self._context = PeerContext(config.asks, config.ask_gap_ms)
        self._routers = {
            (router.interface, router.family, router.vrid): self.groups[name]
            for name, group in config.groups.items()
            for router in group.routers
        }
        self._asked = {
            address: self.peers[name]
            for name, peer in config.peers.items()
            for _, address in peer.asked
        }
        self._own: dict[str, Kept] = {
            address: self.groups[name]
            for name, group in config.groups.items()
            for router in group.routers
            for address in router.addresses
        }
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
        _HANDLERS[type(event)](self, event)
        if self.beat_due:
            speech.beat(self)
        if self._awake and (self.report_due or now >= self.report_at):
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
            if peer.gap_at and peer.gap_at < at:
                at = peer.gap_at
        return at

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
        if row.quiet or (row.rule == group.rule and group.state == before):
            return
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
        return {
            "ready": group.ready,
            "order": group.order,
            "carrier": group.plugged,
            "active": group.active,
            "since_advert_ms": self.now - group.last_advert_ms if group.last_advert_ms else None,
            "epoch": group.epoch,
            "peers": {name: self.peers[name].state for name in group.config.peers},
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
        peer.verdict = peer.verdict if row.next == peers.ASKING else row.next
        came_back = peer.away and row.next == peers.ALIVE
        peer.away = row.next in (peers.SILENT, peers.HELD) or (peer.away and not came_back)
        if came_back or (row.next != peers.ASKING and not (before == peers.ASKING and row.quiet)):
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
        if came_back:
            self.beat_due = True  # what it should know of us must not wait
            rounds.everywhere(self, peer, "peer_back")

    def doubt_peer(self, peer: Peer) -> None:
        """Open a round of asking, unless one is open."""
        self.fire_peer(peer, "doubted")

    # ------------------------------------------------------------ events

    def _advert(self, event: AdvertSeen) -> None:
        group = self._routers.get((event.interface, event.family, event.vrid))
        if group is None:
            return
        name = self.config.sources.get(event.source, "")
        if name not in group.config.peers:
            if any(self.peers[n].state == peers.UNKNOWN for n in group.config.peers):
                return  # it may be one of those: its beat will tell where its adverts come from
            why = (
                f"{event.source} advertises our virtual router {event.vrid} on {event.interface} "
                f"and is no node of group {group.config.name}: give one of them another vrid"
            )
            rounds.refused(self, PacketRefused("advert-foreign", event.source, why))
            return
        if event.priority == 0:
            self.fire(group, "advert_zero")
            return
        # RFC 9568 6.4.3: greater priority, or equal priority and greater primary address
        mine = priority_now(group) if group.state in HOLDING else group.config.priority
        beats = event.priority > mine or (
            event.priority == mine and rank(event.source) > self._rank(":" in event.source)
        )
        self.fire(group, "advert_higher" if beats else "advert_lower")
        peer = self.peers[name]
        peer.heard_ms = self.now
        if peer.gap_at and group.suspect != name:
            self.fire_peer(peer, "answered")

    def _rank(self, ipv6: bool) -> tuple[int, ...]:
        own = (a for a, name in self.config.sources.items() if name == self.config.node)
        return next((rank(a) for a in own if (":" in a) is ipv6), ())

    def _peer(self, event: PeerHeard) -> None:
        peer = self.peers.get(event.node)
        if peer is None:
            return
        if event.kind == "ask":
            body = {"id": event.body.get("id"), "g": speech.states(self)}
            self.out.append(SendPeer(event.node, "answer", body))
            return
        if event.kind == "answer":
            rounds.answered(self, peer, event)
            return
        if event.role != "keeper" or not event.fresh:
            return
        peer.heard_ms = self.now
        peer.boot = event.boot
        if event.path < len(peer.path_ms):
            peer.path_ms[event.path] = self.now
        if event.kind == "beat":
            self.learn(peer, event.body)
        self.fire_peer(peer, "heard")
        group = self.groups.get(str(event.body.get("group", "")))
        if group is not None:
            self._see_epoch(group, event.body.get("epoch"))
            self._peer_group(group, event)
        for group in self.groups.values():
            if group.state == ACTIVE and group.epoch_seen > group.epoch:
                self.fire(group, "epoch_behind")

    def _peer_group(self, group: Kept, event: PeerHeard) -> None:
        if event.kind == "claim":
            group.claimer = event.node
        elif event.kind == "handover":
            number = event.body.get("id")
            group.offered_by, group.offered_id = (
                event.node,
                number if isinstance(number, int) else 0,
            )
        elif event.kind == "taken" and not event.body.get("ok"):
            self.fire(group, "declined")
            return
        if event.kind in _GROUP_EVENTS:
            self.fire(group, _GROUP_EVENTS[event.kind])

    def learn(self, peer: Peer, body: dict[str, Any]) -> None:
        """A peer's own word of its groups; what is not of the form is passed over."""
        sources = body.get("s")
        for address in sources if isinstance(sources, list) else ():
            if isinstance(address, str):  # nobody takes another node's address by saying so
                self.config.sources.setdefault(address, peer.config.name)
        said = body.get("g")
        if not isinstance(said, dict):
            return
        for name, value in said.items():
            group = self.groups.get(name)
            if isinstance(value, list) and len(value) == 4 and isinstance(value[0], str):
                state, ready, epoch, want = value
                if group is not None:
                    self._see_epoch(group, epoch)
                new = (state, ready is True, epoch if isinstance(epoch, int) else 0)
                if peer.groups.get(name) != new or peer.wanted.get(name, "") != want:
                    peer.groups[name] = new
                    peer.wanted[name] = str(want)
                    self.report_due = True

    def _see_epoch(self, group: Kept, epoch: object) -> None:
        if isinstance(epoch, int) and not isinstance(epoch, bool) and epoch > group.epoch_seen:
            group.epoch_seen = epoch

    def _neighbour(self, event: NeighbourSeen) -> None:
        peer = self._asked.get(event.address)
        if peer is not None:
            if peer.gap_at:
                peer.node_answered = True
            elif peer.state == peers.SILENT:
                self.fire_peer(peer, "node_seen")

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

    def _address(self, event: AddressSeen) -> None:
        group = self._own.get(event.address)
        if group is None:
            return
        present = self._present[group.config.name]
        if event.present:
            present.add(event.address)
        else:
            present.discard(event.address)
        if group.state in (INIT, DOUBT):
            group.holds = bool(present)
        if event.present:
            return
        if group.state == ACTIVE and group.holds and self.now - group.taken_ms > 1:
            self.fire(group, "address_gone")

    def _word(self, event: WordGiven) -> None:
        if event.at_ms < self.now - self._hold_ms:
            return  # older than it may be: it proves nothing any more
        self.word_ms = event.at_ms
        for name, word in event.words.items():
            group = self.groups.get(name)
            if group is None:
                continue
            if (group.ready, group.well) != (word.ready, word.well):
                self.beat_due = True
            group.ready, group.well, group.why = word.ready, word.well, word.why
            group.order, group.order_to = word.order, word.to
            group.ceiling = word.ceiling
            self._see_epoch(group, word.epoch)
            if group.state in HOLDING and not group.epoch and group.epoch_seen < group.ceiling:
                group.epoch = group.epoch_seen = group.epoch_seen + 1  # adopted: a new word for it
                self.report_due = True
            self.fire(group, "word")

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
            if group.advert_at and now >= group.advert_at:
                self.fire(group, "advert_due")
            if group.late_at and now >= group.late_at:
                self.fire(group, "late")
            if group.down_at and now >= group.down_at:
                self.fire(group, "down")
        for peer in self.peers.values():
            if peer.gap_at and now >= peer.gap_at:
                rounds.gap(self, peer)
        if now >= self.beat_at:
            rounds.watch_peers(self)
            self.beat_due = True


_GROUP_EVENTS = {"handover": "offer", "taken": "taken", "yielded": "yielded", "claim": "claimed"}
_NOBODY = KeptGroup("", 100, 0, 1000, 1000, (), ())

_HANDLERS: dict[type, Any] = {
    AdvertSeen: KeeperCore._advert,
    PeerHeard: KeeperCore._peer,
    NeighbourSeen: KeeperCore._neighbour,
    LinkSeen: KeeperCore._link,
    AddressSeen: KeeperCore._address,
    WordGiven: KeeperCore._word,
    Told: KeeperCore._told,
    PacketRefused: rounds.refused,
    Woken: KeeperCore._woken,
}
