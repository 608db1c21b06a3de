# SPDX-License-Identifier: GPL-2.0-or-later
"""Effects of the election table: what an owner does to have the addresses, and to be known to."""

from typing import TYPE_CHECKING

from agent.core import listening, sense
from agent.core.guards import noted, priority_now, recent
from agent.core.keeping import (
    Announce,
    PeerHeard,
    RefreshAddresses,
    SendAdvert,
    TakeAddresses,
)
from agent.core.peer import questions

if TYPE_CHECKING:
    from agent.core.keeper import KeeperCore

REPEATS = 2  # announcements after the first one of a take-over
REPEAT_MS = 400
REFRESH_MS = 1_000  # an owner says again that it is: somebody may have said otherwise meanwhile
REFRESH_EACH_MS = 100  # and more rarely the more addresses there are
ANNOUNCE_GAP_MS = 200
AGAIN_MS = 1_000  # after somebody asked for an address
DEFEND_AFTER_MS = 20  # a new owner's own announcement comes just before its first advert
OFTEN = 7  # announcements because of events, whatever they are,
OFTEN_WITHIN_MS = 10_000  # in so long: then no more than one in each second,
UNDONE_OFTEN = 4  # but so many that undo what a loser said


def take(k: "KeeperCore") -> None:
    group = k.group
    group.epoch = max(group.epoch, group.epoch_seen) + 1
    group.epoch_seen = group.epoch
    left = isinstance(k.event, PeerHeard) and k.event.kind == "yielded"
    group.giver = group.active if left else group.offered_by
    hold(k)
    group.repeats = REPEATS


def renew_epoch(k: "KeeperCore") -> None:
    """Somebody was heard to use a later one: ours is spent."""
    group = k.group
    if group.epoch_seen > group.epoch and group.epoch_seen < group.ceiling:
        group.epoch = group.epoch_seen = group.epoch_seen + 1


def retake(k: "KeeperCore") -> None:
    k.group.giver = ""
    renew_epoch(k)
    hold(k)
    k.group.repeats = REPEATS


def hold(k: "KeeperCore") -> None:
    group = k.group
    group.holds = True
    group.orphaned = False
    group.active = k.config.node
    group.active_interval_ms = group.config.advert_ms
    group.taken_ms = group.refreshed_ms = k.now
    group.late_at = group.down_at = group.probe_at = group.wins = 0
    group.polling = group.asked_about = False
    k.out.append(TakeAddresses(group.config.name, k.config.lifetime_s, group.epoch))
    k.out.append(SendAdvert(group.config.name, priority_now(group)))
    _announce(k, urgent=True)


def say_active(k: "KeeperCore") -> None:
    _advertised(k)
    k.beat_due = True


def _advertised(k: "KeeperCore") -> None:
    """Lifetimes and announcements do not wait for the next advert where that is long to come."""
    k.group.next_advert_ms = k.now + k.group.config.advert_ms
    rest(k)


def put_back(k: "KeeperCore") -> None:
    renew_epoch(k)
    k.group.put_back = noted(k.group.put_back, k.now)
    k.group.refreshed_ms = k.now
    k.out.append(TakeAddresses(k.group.config.name, k.config.lifetime_s, k.group.epoch))
    announce_once(k)


def refresh(k: "KeeperCore") -> None:
    group = k.group
    if not group.holds:
        return  # let go already: a hand-over that breaks before it makes
    # one advert early rather than one late: the lifetime must never outlive the last advert by much
    tick_ms = min(group.config.advert_ms, k.config.refresh_ms)
    if k.now - group.refreshed_ms + tick_ms // 2 >= k.config.refresh_ms:
        group.refreshed_ms = k.now
        k.out.append(RefreshAddresses(group.config.name, k.config.lifetime_s))


def tick(k: "KeeperCore") -> None:
    """Adver_Timer (RFC 9568 6.4.3), or a part of it."""
    if k.now >= k.group.next_advert_ms:
        advertise(k)
    else:
        refresh(k)
        rest(k)
        _remind(k)


def advertise(k: "KeeperCore") -> None:
    refresh(k)
    k.out.append(SendAdvert(k.group.config.name, priority_now(k.group)))
    _advertised(k)
    _remind(k)


def _remind(k: "KeeperCore") -> None:
    """What is owed to the network, and a look at what comes from it."""
    group = k.group
    quiet_ms = k.now - group.announced_ms
    if k.now < group.hushed_until_ms or _too_often(k):
        pass
    elif group.repeats and quiet_ms >= REPEAT_MS:
        group.repeats -= 1
        _announce(k, urgent=True)
    elif group.asked_about and quiet_ms >= AGAIN_MS:
        group.asked_about = False
        _announce(k)
    elif quiet_ms >= max(REFRESH_MS, REFRESH_EACH_MS * group.size):
        _announce(k)  # a network may have been mute when it was said
    if group.config.peers:
        sense.look(k, group)


def announce_once(k: "KeeperCore") -> None:
    """Because of an event; the regular ones, said to nobody perhaps, do not stand in its way."""
    group = k.group
    if _too_often(k):
        group.defend_at = group.defend_at or group.announced_ms + REFRESH_MS
    elif k.now - group.urgent_ms < ANNOUNCE_GAP_MS:  # one burst for an event, and none is forgotten
        group.defend_at = group.defend_at or group.urgent_ms + ANNOUNCE_GAP_MS
    else:
        _announce(k, urgent=True)


def announce_now(k: "KeeperCore") -> None:
    """What a loser said to the network is undone at once, however much was said before."""
    group = k.group
    if recent(group.undone, k.now, OFTEN_WITHIN_MS) < UNDONE_OFTEN:
        group.undone = noted(group.undone, k.now)
        _announce(k, urgent=True)
    else:
        announce_once(k)


def _too_often(k: "KeeperCore") -> bool:
    group = k.group
    return (
        k.now - group.announced_ms < REFRESH_MS
        and recent(group.urgent, k.now, OFTEN_WITHIN_MS) >= OFTEN
    )


def _announce(k: "KeeperCore", urgent: bool = False) -> None:
    group = k.group
    group.announced_ms = k.now
    if urgent:
        group.urgent_ms = k.now
        group.urgent = noted(group.urgent, k.now)
    k.out.append(Announce(group.config.name))


def answer_back(k: "KeeperCore") -> None:
    """The one that ranks below should let go at our advert; it must hear it for that."""
    k.group.wins += 1
    advertise(k)
    announce_once(k)


def defend(k: "KeeperCore") -> None:
    """Bounded (RFC 5227 2.4): two that both insist would flood the network.

    A plain peer that takes over may announce up to an interval before its first advert; whoever
    spoke last to the clients must not be the one that lets go then.
    """
    group = k.group
    if group.defend_at:
        return
    group.defended = noted(group.defended, k.now)
    after_ms = 2 * group.config.advert_ms if group.config.plain else DEFEND_AFTER_MS
    group.defend_at = k.now + after_ms
    group.hushed_until_ms = group.defend_at


def rest(k: "KeeperCore") -> None:
    left_ms = k.group.next_advert_ms - k.now
    tick_ms = min(k.group.config.advert_ms, k.config.refresh_ms)
    k.group.advert_at = k.now + (min(left_ms, tick_ms) if left_ms > 0 else tick_ms)


def adopt(k: "KeeperCore") -> None:
    """The kernel has them now, and nobody knows for how long still: renew them first."""
    k.group.refreshed_ms = k.now - k.config.refresh_ms


def doubt(k: "KeeperCore") -> None:
    group = k.group
    group.advert_at = k.now
    if group.config.plain:  # whoever else has the addresses answers, whatever it speaks
        k.out += questions(group.config.probed)
    listening.ask_all(k)
