# SPDX-License-Identifier: GPL-2.0-or-later
"""What the rows of the election table look at. A guard reads and never changes anything."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from agent.core import peer as peers
from agent.core.election import ACTIVE, BACKUP, DOUBT, GIVING, INIT, Kept
from agent.core.keeping import AdvertSeen, PeerHeard

if TYPE_CHECKING:
    from agent.core.keeper import KeeperCore

RETRY_MS = 1000  # between tries of something that was declined
OFFERS = 6
UNFIT_PRIORITY = 1


def priority_now(group: Kept) -> int:
    """The priority to advertise: an owner that is not fit ranks below everybody."""
    return group.config.priority if group.ready else UNFIT_PRIORITY


def candidate(k: "KeeperCore") -> str:
    """The ready peer to hand over to: the one named, else the most preferred; "" if none."""
    group = k.group
    names = (group.order_to,) if group.order == "give" and group.order_to else group.config.peers
    for name in names:
        peer = k.peers.get(name)
        if peer is not None and peer.state == peers.ALIVE:
            state, ready, _ = peer.claims(group.config.name)
            if ready and state == BACKUP:
                return name
    return ""


def wanted(k: "KeeperCore") -> str:
    """Whom an owner that should let go hands over to, or waits for to be ready; "" if it stays."""
    group = k.group
    if group.state == GIVING:
        return group.taker
    if group.state != ACTIVE or not (group.order == "give" or not group.ready):
        return ""
    names = (group.order_to,) if group.order == "give" and group.order_to else group.config.peers
    alive = (name for name in names if name in k.peers and k.peers[name].state == peers.ALIVE)
    return candidate(k) or next(alive, "")


def _first_in_line(k: "KeeperCore") -> bool:
    group = k.group
    for name in group.config.peers[: group.config.place]:
        peer = k.peers[name]
        if name != group.active and peer.state == peers.ALIVE:
            state, ready, _ = peer.claims(group.config.name)
            if ready and state == BACKUP:
                return False
    return True


def claimant(k: "KeeperCore") -> str:
    """A live peer that says it holds the group; "" if none."""
    for name in k.group.config.peers:
        peer = k.peers[name]
        if peer.state == peers.ALIVE and peer.claims(k.group.config.name)[0] in (
            ACTIVE,
            DOUBT,
            GIVING,
        ):
            return name
    return ""


def _sender(k: "KeeperCore") -> str:
    event = k.event
    if isinstance(event, AdvertSeen):
        return k.config.sources.get(event.source, "")
    return event.node if isinstance(event, PeerHeard) else ""


def _sender_state(k: "KeeperCore") -> str:
    """What the sender of an advert says of the group by its signed link; "" if it says nothing."""
    peer = k.peers.get(_sender(k))
    return peer.claims(k.group.config.name)[0] if peer and peer.state == peers.ALIVE else ""


def _right_round(k: "KeeperCore") -> bool:
    event = k.event
    return (
        isinstance(event, PeerHeard)
        and event.node == k.group.taker
        and event.body.get("id") == k.group.offer_id
    )


def _ready_claimer(k: "KeeperCore") -> bool:
    peer = k.peers.get(k.group.claimer)
    if peer is None or peer.state != peers.ALIVE:
        return False
    state, ready, _ = peer.claims(k.group.config.name)
    return ready and state == BACKUP


def may_take(group: Kept) -> bool:
    """Ready by the agent's word, and with an epoch left that is stored safely."""
    stored = max(group.epoch, group.epoch_seen) < group.ceiling
    return group.ready and stored and not group.stopping


GUARDS: dict[str, Callable[["KeeperCore"], bool]] = {
    "carrier": lambda k: k.group.plugged,
    "holds": lambda k: k.group.holds,
    "sender_idle": lambda k: _sender_state(k) in (INIT, BACKUP),
    "suspected": lambda k: _sender(k) == k.group.suspect,
    "offered": lambda k: _sender(k) == k.group.offered_by != "",
    "left_to_us": lambda k: (
        isinstance(k.event, PeerHeard)
        and k.event.body.get("to") == k.config.node
        and k.event.node == k.group.active
    ),
    "ready": lambda k: may_take(k.group),
    "fit": lambda k: k.group.ready,
    "self_late": lambda k: k.group.self_late,
    "active_known": lambda k: k.group.active in k.peers,
    "can_ask": lambda k: bool(k.group.config.peers),
    "asked": lambda k: k.group.asked,
    "turned": lambda k: k.group.turned,
    "orphaned": lambda k: k.group.orphaned,
    "first_in_line": _first_in_line,
    "peer_claims": lambda k: claimant(k) != "",
    "take_ordered": lambda k: k.group.order == "take",
    "give_ordered": lambda k: k.group.order == "give",
    "claim_due": lambda k: k.now - k.group.claimed_ms >= RETRY_MS,
    "give_due": lambda k: k.now - k.group.declined_ms >= RETRY_MS,
    "ready_peer": lambda k: candidate(k) != "",
    "ready_claimer": _ready_claimer,
    "right_round": _right_round,
    "offers_left": lambda k: k.group.offers < OFFERS,
    "expired": lambda k: k.now - k.group.refreshed_ms >= k.config.lifetime_s * 1000,
    "stopping": lambda k: k.group.stopping,
    "just_taken": lambda k: (
        _sender(k) == k.group.giver != ""
        and k.now - k.group.taken_ms < max(500, 2 * k.group.config.advert_ms)
    ),
    "from_taker": lambda k: _sender(k) == k.group.taker != "",
}
