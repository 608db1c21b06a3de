# SPDX-License-Identifier: GPL-2.0-or-later
"""Peers and agent over time: who fell silent, who is asked, what a verdict means to the groups."""

from typing import TYPE_CHECKING

from agent.core import adverts, sense, speech
from agent.core import peer as peers
from agent.core.election import ACTIVE, BACKUP, DOUBT, GIVING, HOLDING, Kept
from agent.core.keeping import PacketRefused, PeerHeard, SendPeer
from agent.core.model import Decision
from agent.core.peer import Peer

if TYPE_CHECKING:
    from agent.core.keeper import KeeperCore

SILENT_BEATS = 3.5  # so many beats missing: the peer is asked
REFUSALS_KEPT = 64  # sources that are remembered as reported
REPORT_AGAIN_MS = 600_000
REASK_MS = 5_000  # a silent peer is asked again this often
CALL_MS = 40  # and called for by ARP this often by an owner,
CALL_SLOWLY_MS = 1_000
CALL_QUICKLY_FOR_MS = 60_000  # once it is away for long


def due(core: "KeeperCore", group: Kept) -> None:
    """What a group waited for, as far as its time has come."""
    now = core.now
    if group.advert_at and now >= group.advert_at:
        core.fire(group, "advert_due")
    if group.late_at and now >= group.late_at:
        core.fire(group, "late")
    if group.down_at and now >= group.down_at:
        core.fire(group, "down")
    if group.probe_at and now >= group.probe_at:
        adverts.probe(core, group)
    if group.defend_at and now >= group.defend_at:
        group.defend_at = 0
        core.fire(group, "defend_due")


def asked(core: "KeeperCore", event: PeerHeard) -> None:
    """A peer asks: say how things are; it may say that it does not hear a group's adverts."""
    body = {"id": event.body.get("id"), "g": speech.states(core)}
    core.out.append(SendPeer(event.node, "answer", body))
    group = core.groups.get(str(event.body.get("u", "")))
    if group is not None and event.fresh and event.role == "keeper":
        sense.unheard(core, group)


def gap(core: "KeeperCore", peer: Peer) -> None:
    """A question has had its time: ask again, or come to a verdict."""
    was_away = peer.away
    core.fire_peer(peer, "gap")
    if peer.state == peers.SILENT:
        everywhere(core, peer, "peer_silent")
        if not was_away:
            _lost(core, peer)
    elif peer.state == peers.HELD:
        everywhere(core, peer, "peer_held")
    if not peer.gap_at:
        settle_doubts(core)


def _lost(core: "KeeperCore", peer: Peer) -> None:
    """It was there a moment ago: either it is gone, or this node is deaf. Call out for it."""
    core.lost_ms = peer.called_from_ms = core.now
    peer.call_at = core.now + CALL_MS
    for group in core.groups.values():
        concerned = peer.config.name in group.config.peers
        if concerned and not sense.anybody(core, group) and sense.stone_deaf(core, group):
            core.fire(group, "deaf")


def call(core: "KeeperCore", peer: Peer) -> None:
    """An owner asks on the link for a peer that is away, so that neither side misses its return.

    After a cut the kernels would look for each other in their own time, and only when they must.
    """
    if peer.state not in (peers.SILENT, peers.HELD, peers.ASKING) or not peer.away:
        peer.call_at = 0
        return
    quick = core.now - peer.called_from_ms < CALL_QUICKLY_FOR_MS
    peer.call_at = core.now + (CALL_MS if quick else CALL_SLOWLY_MS)
    if any(group.state in HOLDING for group in core.groups.values()):
        core.out += peers.questions(peer.config.asked)


def answered(core: "KeeperCore", peer: Peer, event: PeerHeard) -> None:
    """To this very round, freshly signed: the end of it, and what the groups make of it."""
    if not event.fresh or not peer.gap_at or event.body.get("id") != peer.round:
        return  # late, or an old recording: it does not answer what is asked now
    if event.role == "agent":
        peer.node_answered = True
        return
    peer.heard_ms = core.now
    speech.learn(core, peer, event.body)
    core.fire_peer(peer, "answered")
    for group in core.groups.values():
        if event.node in group.config.peers:
            _told(core, group, event.node, peer.claims(group.config.name)[0])
    settle_doubts(core)


def _told(core: "KeeperCore", group: Kept, node: str, state: str) -> None:
    """What a fresh answer means to one group."""
    if group.offered_by == node:  # it is about its offer, and about nothing else
        if state == GIVING:
            core.fire(group, "peer_giving")
        group.offered_by = group.suspect = ""
        return
    if state in (ACTIVE, GIVING) or (state == DOUBT and group.state != DOUBT):
        if node in (group.active, group.suspect) or group.state == DOUBT:
            core.fire(group, "peer_active")
    elif group.active == node:
        core.fire(group, "peer_idle")
    if group.suspect == node:
        group.suspect = ""


def everywhere(core: "KeeperCore", peer: Peer, event: str) -> None:
    """What is known of a peer, to every group that it concerns."""
    for group in core.groups.values():
        if event == "peer_back":
            if peer.config.name in group.config.peers:
                core.fire(group, event)
        elif group.active == peer.config.name and group.state == BACKUP:
            core.fire(group, event)


def settle_doubts(core: "KeeperCore") -> None:
    """A group in doubt, or that polls, knows enough once no peer of it is still being asked."""
    for group in core.groups.values():
        asking = any(core.peers[name].gap_at for name in group.config.peers)
        if asking or sense.pending(core, group):
            continue
        if group.state == DOUBT:
            core.fire(group, "down")
        elif group.state == BACKUP and group.polling and group.config.peers:
            group.polling = False
            answered = all(core.peers[n].state == peers.ALIVE for n in group.config.peers)
            if answered or sense.certain(core, group):
                group.asked = True  # each has just said how things are there, or is gone
                core.fire(group, "down")


def watch_peers(core: "KeeperCore") -> None:
    """Ask those whose beats are missing; ask the silent ones again now and then."""
    limit = int(SILENT_BEATS * core.config.beat_ms)
    for peer in core.peers.values():
        quiet = core.now - peer.heard_ms
        lost = tuple(n for n, at in enumerate(peer.path_ms) if core.now - at > 2 * limit)
        before = peer.lost_paths
        peer.lost_paths = lost if quiet <= limit and len(lost) < len(peer.path_ms) else ()
        if not set(before) <= set(peer.lost_paths):
            everywhere(core, peer, "peer_back")  # by that path nobody heard what was said meanwhile
        if peer.state == peers.ALIVE and quiet > limit:
            core.doubt_peer(peer)
        elif peer.state in (peers.HELD, peers.SILENT) and quiet > limit + REASK_MS:
            peer.heard_ms = core.now - limit  # asked again after another REASK_MS
            core.doubt_peer(peer)


def notice_pause(core: "KeeperCore") -> None:
    """Something was due long ago: what is fed now waited in a queue meanwhile."""
    if core.behind():
        for group in core.groups.values():
            if group.state == ACTIVE:
                core.fire(group, "stood_still")


def watch_agent(core: "KeeperCore") -> None:
    """Its last word holds for `hold`; after that a standby is not ready, an owner hands over.

    Not while this node was paused itself: its agent's word may lie in the queue.
    """
    if core.behind():
        return
    for group in core.groups.values():
        if core.now - core.word_ms <= group.config.hold_ms:
            continue
        if group.state == ACTIVE:
            core.fire(group, "agent_gone")
        elif group.ready or group.able:
            group.ready = group.able = False
            group.why = "its agent stays away: no proof of readiness any more"
            core.report_due = True


def refused(core: "KeeperCore", event: PacketRefused) -> None:
    """Counted; reported once for each source, and again when that is long ago."""
    core.counters[event.kind] = core.counters.get(event.kind, 0) + 1
    key = (event.kind, event.source)
    again = core.now - REPORT_AGAIN_MS
    if core.reported.get(key, again) > again:
        return
    if len(core.reported) >= REFUSALS_KEPT:
        core.reported = {k: at for k, at in core.reported.items() if at > again}
        if len(core.reported) >= REFUSALS_KEPT:
            return  # a flood from many sources: the counters say how many
    core.reported[key] = core.now
    core.report_due = True
    core.decisions.append(
        Decision("packets", event.kind, "", "", event.detail, {"source": event.source})
    )
