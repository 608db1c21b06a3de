# SPDX-License-Identifier: GPL-2.0-or-later
"""What the rows of the election table do.

Each effect takes the keeper's core, whose `group`, `event`, `now` and `out` were set for this turn,
changes the group's timers and appends actions. None sets a state: rows do.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from agent.core.election import ROWS, STATES, down_ms, grace_ms, skew_ms
from agent.core.guards import GUARDS, RETRY_MS, candidate, claimant, priority_now
from agent.core.keeping import (
    AdvertSeen,
    Announce,
    PeerHeard,
    RefreshAddresses,
    ReleaseAddresses,
    SendAdvert,
    SendPeer,
    TakeAddresses,
)
from agent.core.table import Table

if TYPE_CHECKING:
    from agent.core.keeper import KeeperCore

OFFER_GAP_MS = 40
REPEATS = 2  # announcements after the first one of a take-over
REPEAT_MS = 400
REFRESH_MS = 30_000  # an owner says again that it is, at least this rarely
REFRESH_EACH_MS = 100  # and more rarely the more addresses there are
ANNOUNCE_GAP_MS = 200
INTERVAL_CAP_MS = 10_000  # an active node advertising 40 s must not make us wait for minutes


# ---------------------------------------------------------------- listening


def _listen(k: "KeeperCore") -> None:
    group = k.group
    group.active = ""
    group.active_interval_ms = group.config.advert_ms
    _listen_again(k)


def _listen_again(k: "KeeperCore") -> None:
    group = k.group
    interval = group.active_interval_ms
    group.late_at = k.now + interval + grace_ms(interval) if group.active else 0
    group.down_at = k.now + down_ms(group.config.priority, interval)
    group.advert_at = 0
    group.asked = group.turned = False


def _follow(k: "KeeperCore") -> None:
    event, group = k.event, k.group
    assert isinstance(event, AdvertSeen)
    group.active = k.config.sources[event.source]
    group.active_interval_ms = min(INTERVAL_CAP_MS, max(10, event.interval_ms))
    group.last_advert_ms = k.now
    group.orphaned = False
    _listen_again(k)


def _follow_sender(k: "KeeperCore") -> None:
    assert isinstance(k.event, PeerHeard)
    k.group.active = k.event.node
    k.group.orphaned = False
    _listen_again(k)


def _follow_claim(k: "KeeperCore") -> None:
    k.group.active = claimant(k)
    k.group.orphaned = False
    _listen_again(k)


def _leaving(k: "KeeperCore") -> None:
    group = k.group
    group.active = ""
    group.late_at = 0
    group.down_at = k.now + skew_ms(group.config.priority, group.active_interval_ms)
    group.asked = True
    group.turned = False


def _wait_turn(k: "KeeperCore") -> None:
    group = k.group
    group.turned = group.asked = True
    group.late_at = 0
    group.down_at = k.now + 3 * k.config.ask_gap_ms * group.config.place


def _wait_held(k: "KeeperCore") -> None:
    group = k.group
    gone_ms = k.config.lifetime_s * 1000 + 500  # the kernel there has dropped them by then
    group.late_at = 0
    group.down_at = max(group.down_at, group.last_advert_ms + gone_ms)


def _orphan(k: "KeeperCore") -> None:
    group = k.group
    group.orphaned = True
    group.late_at = 0
    group.down_at = k.now + RETRY_MS
    group.asked = group.turned = False


def _soon(k: "KeeperCore") -> None:
    k.group.down_at = k.now
    k.group.asked = k.group.turned = False


def _ask_active(k: "KeeperCore") -> None:
    k.group.late_at = 0
    k.doubt_peer(k.peers[k.group.active])


def _ask_giver(k: "KeeperCore") -> None:
    k.doubt_peer(k.peers[k.group.offered_by])


def _ask_sender(k: "KeeperCore") -> None:
    assert isinstance(k.event, AdvertSeen)
    k.group.suspect = k.config.sources[k.event.source]
    k.doubt_peer(k.peers[k.group.suspect])


def _ask_all(k: "KeeperCore") -> None:
    group = k.group
    group.asked = True
    group.late_at = 0
    group.down_at = k.now + k.config.asks * k.config.ask_gap_ms + 10
    for name in group.config.peers:
        k.doubt_peer(k.peers[name])


# ---------------------------------------------------------------- holding


def _take(k: "KeeperCore") -> None:
    group = k.group
    group.epoch = max(group.epoch, group.epoch_seen) + 1
    group.epoch_seen = group.epoch
    group.giver = k.event.node if isinstance(k.event, PeerHeard) else ""
    _hold(k)
    group.repeats = REPEATS


def _renew_epoch(k: "KeeperCore") -> None:
    """Somebody was heard to use a later one: ours is spent."""
    group = k.group
    if group.epoch_seen > group.epoch and group.epoch_seen < group.ceiling:
        group.epoch = group.epoch_seen = group.epoch_seen + 1


def _retake(k: "KeeperCore") -> None:
    k.group.giver = ""
    _renew_epoch(k)
    _hold(k)
    k.group.repeats = REPEATS


def _hold(k: "KeeperCore") -> None:
    group = k.group
    group.holds = True
    group.orphaned = False
    group.active = k.config.node
    group.active_interval_ms = group.config.advert_ms
    group.taken_ms = group.refreshed_ms = group.announced_ms = k.now
    group.late_at = group.down_at = 0
    k.out.append(TakeAddresses(group.config.name, k.config.lifetime_s, group.epoch))
    k.out.append(SendAdvert(group.config.name, priority_now(group)))
    k.out.append(Announce(group.config.name))


def _say_active(k: "KeeperCore") -> None:
    k.group.advert_at = k.now + k.group.config.advert_ms
    k.beat_due = True


def _put_back(k: "KeeperCore") -> None:
    _renew_epoch(k)
    k.group.refreshed_ms = k.now
    k.out.append(TakeAddresses(k.group.config.name, k.config.lifetime_s, k.group.epoch))
    _announce_once(k)


def _refresh(k: "KeeperCore") -> None:
    group = k.group
    # one advert early rather than one late: the lifetime must never outlive the last advert by much
    if k.now - group.refreshed_ms + group.config.advert_ms // 2 >= k.config.refresh_ms:
        group.refreshed_ms = k.now
        k.out.append(RefreshAddresses(group.config.name, k.config.lifetime_s))


def _advertise(k: "KeeperCore") -> None:
    group = k.group
    _refresh(k)
    k.out.append(SendAdvert(group.config.name, priority_now(group)))
    group.advert_at = k.now + group.config.advert_ms
    quiet_ms = k.now - group.announced_ms
    if group.repeats and quiet_ms >= REPEAT_MS:
        group.repeats -= 1
        _announce_once(k)
    elif quiet_ms >= max(REFRESH_MS, REFRESH_EACH_MS * group.size):
        _announce_once(k)  # a network may have been mute when it was said


def _announce_once(k: "KeeperCore") -> None:
    group = k.group
    if k.now - group.announced_ms >= ANNOUNCE_GAP_MS:
        group.announced_ms = k.now
        k.out.append(Announce(group.config.name))
    else:
        group.repeats = max(group.repeats, 1)  # one burst for an event, and none is forgotten


def _rest(k: "KeeperCore") -> None:
    k.group.advert_at = k.now + min(k.group.config.advert_ms, k.config.refresh_ms)


def _adopt(k: "KeeperCore") -> None:
    """The kernel has them now, and nobody knows for how long still: renew them first."""
    k.group.refreshed_ms = k.now - k.config.refresh_ms


def _doubt(k: "KeeperCore") -> None:
    group = k.group
    group.advert_at = k.now
    _ask_all(k)


# ---------------------------------------------------------------- letting go


def _release(k: "KeeperCore") -> None:
    group = k.group
    group.holds = False
    group.advert_at = 0
    group.repeats = 0
    k.out.append(ReleaseAddresses(group.config.name))
    _listen(k)


def _yield(k: "KeeperCore") -> None:
    k.out.append(SendPeer("", "yielded", {"group": k.group.config.name, "epoch": k.group.epoch}))


def _disarm(k: "KeeperCore") -> None:
    """Nothing is awaited where nothing can be heard."""
    k.group.advert_at = k.group.late_at = k.group.down_at = 0


def _goodbye(k: "KeeperCore") -> None:
    k.out.append(SendAdvert(k.group.config.name, 0))


def _offer_to(k: "KeeperCore", node: str) -> None:
    group = k.group
    k.offer_round += 1
    group.offer_id = k.offer_round
    group.offers = 0
    group.taker = node
    _offer_again(k)


def _offer(k: "KeeperCore") -> None:
    _offer_to(k, candidate(k))


def _offer_claimer(k: "KeeperCore") -> None:
    _offer_to(k, k.group.claimer)


def _offer_again(k: "KeeperCore") -> None:
    group = k.group
    group.offers += 1
    group.advert_at = k.now + OFFER_GAP_MS
    body = {"group": group.config.name, "id": group.offer_id, "epoch": group.epoch}
    k.out.append(SendPeer(group.taker, "handover", body))


def _leave(k: "KeeperCore") -> None:
    body = {"group": k.group.config.name, "epoch": k.group.epoch, "to": candidate(k)}
    k.out.append(SendPeer("", "yielded", body))


def _keep_it(k: "KeeperCore") -> None:
    k.group.declined_ms = k.now
    k.group.taker = ""
    _advertise(k)


def _follow_taker(k: "KeeperCore") -> None:
    _follow_sender(k)
    k.group.last_advert_ms = k.now


def _reply(k: "KeeperCore", ok: bool) -> None:
    group = k.group
    body = {
        "group": group.config.name,
        "id": group.offered_id,
        "ok": ok,
        "epoch": group.epoch,
    }
    k.out.append(SendPeer(group.offered_by, "taken", body))


def _claim(k: "KeeperCore") -> None:
    k.group.claimed_ms = k.now
    k.out.append(SendPeer(k.group.active, "claim", {"group": k.group.config.name}))


def _tell_peers(k: "KeeperCore") -> None:
    k.beat_due = True


EFFECTS: dict[str, Callable[["KeeperCore"], None]] = {
    "listen": _listen,
    "listen_again": _listen_again,
    "follow": _follow,
    "follow_answer": _follow_sender,
    "follow_claim": _follow_claim,
    "follow_taker": _follow_taker,
    "leaving": _leaving,
    "wait_turn": _wait_turn,
    "wait_held": _wait_held,
    "orphan": _orphan,
    "soon": _soon,
    "ask_active": _ask_active,
    "ask_giver": _ask_giver,
    "ask_sender": _ask_sender,
    "ask_all": _ask_all,
    "take": _take,
    "retake": _retake,
    "say_active": _say_active,
    "put_back": _put_back,
    "renew_epoch": _renew_epoch,
    "refresh": _refresh,
    "advertise": _advertise,
    "announce_once": _announce_once,
    "rest": _rest,
    "adopt": _adopt,
    "doubt": _doubt,
    "release": _release,
    "yield": _yield,
    "goodbye": _goodbye,
    "disarm": _disarm,
    "offer": _offer,
    "offer_claimer": _offer_claimer,
    "offer_again": _offer_again,
    "leave": _leave,
    "keep_it": _keep_it,
    "confirm": lambda k: _reply(k, True),
    "decline": lambda k: _reply(k, False),
    "claim": _claim,
    "tell_peers": _tell_peers,
}

TABLE: "Table[KeeperCore]" = Table("group", STATES, ROWS, GUARDS, EFFECTS)
