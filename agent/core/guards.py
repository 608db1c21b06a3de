# SPDX-License-Identifier: GPL-2.0-or-later
"""What the rows of the election table look at. A guard reads and never changes anything."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from agent.core import peer as peers
from agent.core import sense
from agent.core.election import ACTIVE, BACKUP, DOUBT, GIVING, INIT, Kept
from agent.core.keeping import AdvertSeen, PeerHeard

if TYPE_CHECKING:
    from agent.core.keeper import KeeperCore

RETRY_MS = 1000  # between tries of something that was declined
OFFERS = 6
WINS = 3  # adverts that should have ended the other one's, and did not,
WINS_PLAIN = 10  # and where it cannot say by another path that it does not hear us
PUT_BACKS = 5  # removals by a foreign hand
PUT_BACKS_WITHIN_MS = 10_000
JUST_ANSWERED_MS = 60
LOST_LATELY_MS = 5_000
JUST_GIVEN_MS = 2_000  # who was handed a group does not hand it back for the same reason
DEFENCES = 12
DEFENCES_WITHIN_MS = 10_000
TIMES_KEPT = 32
UNFIT_PRIORITY = 1
OWNER_PRIORITY = 255  # RFC 9568 5.2.4


def priority_now(group: Kept) -> int:
    """The priority to advertise: an owner that is not fit ranks below everybody."""
    return group.config.priority if fit(group) else UNFIT_PRIORITY


def fit(group: Kept) -> bool:
    """Ready by the agent's word, and with the lease where it needs one.

    A keeper that was just started has not heard its agent yet, which says nothing against the node.
    """
    return (group.ready or not group.worded) and group.leased


def candidate(k: "KeeperCore") -> str:
    """The ready peer to hand over to: the one named, else the most preferred; "" if none."""
    group = k.group
    names = (group.order_to,) if group.order == "give" and group.order_to else group.config.peers
    for name in names:
        if name in k.peers and k.peers[name].stands_by(group.config.name):
            return name
    return ""


def wanted(k: "KeeperCore") -> str:
    """Whom an owner that should let go hands over to, or waits for to be ready; "" if it stays."""
    group = k.group
    if group.state == GIVING:
        return group.taker
    if group.state != ACTIVE or not (group.order == "give" or not fit(group)):
        return ""
    names = (group.order_to,) if group.order == "give" and group.order_to else group.config.peers
    alive = (name for name in names if name in k.peers and k.peers[name].state == peers.ALIVE)
    return candidate(k) or next(alive, "")


def _first_in_line(k: "KeeperCore") -> bool:
    config = k.group.config
    return not any(
        name != k.group.active and k.peers[name].stands_by(config.name)
        for name in config.peers[: config.place]
    )


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


def last_ready(k: "KeeperCore") -> str:
    """The peer that was ready when it was last heard: this node may be the deaf one."""
    name = k.group.config.name
    return next((n for n in k.group.config.peers if k.peers[n].claims(name)[1]), "")


def _sender(k: "KeeperCore") -> str:
    event = k.event
    if isinstance(event, AdvertSeen):
        return k.name_of(k.group, event.source)
    return event.node if isinstance(event, PeerHeard) else ""


def _unheard(k: "KeeperCore") -> bool:
    """The sender goes on although this node outranks it, and it hears its network: ours is mute."""
    name = _sender(k)
    if name in k.group.config.plain:
        return k.group.wins >= WINS_PLAIN
    peer = k.peers.get(name)
    return k.group.wins >= WINS and peer is not None and peer.serves(k.group.config.name)


def _peer_serves(k: "KeeperCore") -> bool:
    """A live peer says that it is active, and hears its network; not the giver of a moment ago."""
    name, group = claimant(k), k.group
    return (
        name != "" and k.peers[name].serves(group.config.name) and k.now - group.taken_ms > RETRY_MS
    )


def other_serves(k: "KeeperCore") -> bool:
    """Somebody else than the sender is active, and well: nothing must be taken from it."""
    name, giver = k.group.config.name, _sender(k)
    return k.group.active in k.group.config.plain or any(
        peer.serves(name)
        for node, peer in k.peers.items()
        if node != giver and node in k.group.config.peers
    )


def _rival_outranks(k: "KeeperCore") -> bool:
    """The peer that is back says that it is active too, and it is preferred."""
    name, config = _sender(k), k.group.config
    return name in config.peers[: config.place] and k.peers[name].claims(config.name)[0] == ACTIVE


def _outranks(k: "KeeperCore") -> bool:
    return k.group.config.priority > k.group.active_priority


def _alone(k: "KeeperCore") -> bool:
    """Whether every peer is there and says to be no owner: a stranger's claim is a stranger's."""
    group = k.group
    return all(
        k.peers[name].state == peers.ALIVE
        and k.peers[name].claims(group.config.name)[0] in (INIT, BACKUP)
        for name in group.config.peers
    )


def _link_answers(k: "KeeperCore") -> bool:
    """Whether somebody answered on each interface while the last questions were asked."""
    ears = sense.ears_of(k, k.group)
    return all(k.now - ear.answered_ms <= JUST_ANSWERED_MS for ear in ears)


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
    return peer is not None and peer.stands_by(k.group.config.name)


def may_take(group: Kept) -> bool:
    """Fit, and with an epoch left that is stored safely."""
    stored = max(group.epoch, group.epoch_seen) < group.ceiling
    return group.worded and fit(group) and stored and not group.stopping


def noted(times_ms: list[int], now: int) -> list[int]:
    """With one more, and no more than are ever counted."""
    return [*times_ms[-TIMES_KEPT:], now]


def recent(times_ms: list[int], now: int, within_ms: int) -> int:
    """How many of them are no older."""
    return sum(now - at < within_ms for at in times_ms)


GUARDS: dict[str, Callable[["KeeperCore"], bool]] = {
    "carrier": lambda k: k.group.plugged,
    "owner": lambda k: k.group.config.priority == OWNER_PRIORITY,
    "deaf": lambda k: sense.deaf(k, k.group),
    "gateway_answers": lambda k: sense.gateway_answers(k, k.group),
    "stone_deaf": lambda k: sense.stone_deaf(k, k.group),
    "found_deaf": lambda k: sense.found_deaf(k, k.group),
    "peer_answers": lambda k: sense.anybody(k, k.group),
    "link_answers": _link_answers,
    "plain_active": lambda k: k.group.active in k.group.config.plain,
    "plain_there": lambda k: bool(k.group.config.plain),
    "from_plain": lambda k: _sender(k) in k.group.config.plain,
    "to_plain": lambda k: not k.group.taker,
    "outranks": _outranks,
    "last_ready": lambda k: last_ready(k) != "",
    "peer_serves": _peer_serves,
    "other_serves": other_serves,
    "unheard": _unheard,
    "alone": _alone,
    "undefended": lambda k: recent(k.group.defended, k.now, DEFENCES_WITHIN_MS) < DEFENCES,
    "tussle": lambda k: recent(k.group.put_back, k.now, PUT_BACKS_WITHIN_MS) >= PUT_BACKS,
    "been_up": lambda k: k.group.been_up and bool(k.group.config.peers),
    "holds": lambda k: k.group.holds,
    "sender_idle": lambda k: _sender_state(k) in (INIT, BACKUP),
    "suspected": lambda k: _sender(k) == k.group.suspect,
    "offered": lambda k: _sender(k) == k.group.offered_by != "",
    "lost_lately": lambda k: 0 < k.now - k.lost_ms < LOST_LATELY_MS,
    "rival_outranks": _rival_outranks,
    "left_to_us": lambda k: (
        isinstance(k.event, PeerHeard)
        and k.event.body.get("to") == k.config.node
        and k.event.node == k.group.active
    ),
    "ready": lambda k: may_take(k.group),
    "fit": lambda k: fit(k.group),
    "leased": lambda k: k.group.leased,
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
    "just_given": lambda k: k.group.giver != "" and k.now - k.group.taken_ms < JUST_GIVEN_MS,
    "give_due": lambda k: k.now - k.group.declined_ms >= RETRY_MS,
    "ready_peer": lambda k: candidate(k) != "",
    "ready_claimer": _ready_claimer,
    "right_round": _right_round,
    "time_left": lambda k: k.now < k.group.next_advert_ms,
    "served": lambda k: isinstance(k.event, PeerHeard) and k.event.body.get("served") is True,
    "given": lambda k: k.group.given,
    "drains": lambda k: k.group.config.drain_ms > 0,
    "offers_left": lambda k: k.group.offers < OFFERS,
    "behind": lambda k: k.behind(),
    "expired": lambda k: k.now - k.group.refreshed_ms >= k.config.lifetime_s * 1000,
    "stopping": lambda k: k.group.stopping,
    "just_taken": lambda k: (
        _sender(k) == k.group.giver != ""
        and k.peers[k.group.giver].claims(k.group.config.name)[2] <= k.group.epoch
        and k.now - k.group.taken_ms < max(500, 2 * k.group.config.advert_ms)
    ),
    "from_taker": lambda k: _sender(k) == k.group.taker != "",
}
