# SPDX-License-Identifier: GPL-2.0-or-later
"""Effects of the election table: handing over, letting go, and what is said of it."""

from typing import TYPE_CHECKING

from agent.core import holding, listening
from agent.core.election import grace_ms
from agent.core.guards import OFFERS, candidate, last_ready, other_serves, priority_now
from agent.core.keeping import ReleaseAddresses, SendAdvert, SendPeer

if TYPE_CHECKING:
    from agent.core.keeper import KeeperCore

OFFER_GAP_MS = 40
LINGER_MS = 8  # a service's answer to what came before the taker's announcement


def release(k: "KeeperCore") -> None:
    let_go(k, 0)
    listening.listen(k)


def part(k: "KeeperCore") -> None:
    """As agreed: what is under way may still be answered from the address."""
    let_go(k, -(-k.group.config.drain_ms // 1000))
    listening.listen(k)


def let_go(k: "KeeperCore", keep_s: int) -> None:
    group = k.group
    group.holds = False
    group.advert_at = 0
    group.repeats = 0
    k.out.append(ReleaseAddresses(group.config.name, keep_s))


def say_yielded(k: "KeeperCore", **more: str) -> None:
    body = {"group": k.group.config.name, "epoch": k.group.epoch, **more}
    k.out.append(SendPeer("", "yielded", body))


def disarm(k: "KeeperCore") -> None:
    """Nothing is awaited where nothing can be heard."""
    group = k.group
    group.advert_at = group.late_at = group.down_at = group.probe_at = group.defend_at = 0
    group.been_up = True


def say_rank(k: "KeeperCore") -> None:
    """To a plain peer that outranks us and perhaps never knew of us: it announces when it hears."""
    k.out.append(SendAdvert(k.group.config.name, priority_now(k.group)))


def goodbye(k: "KeeperCore") -> None:
    k.out.append(SendAdvert(k.group.config.name, 0))


def offer_to(k: "KeeperCore", node: str) -> None:
    group = k.group
    k.offer_round += 1
    group.offer_id = k.offer_round
    group.offers = 0
    group.given = False
    group.taker = node
    if group.config.apart and group.holds:
        group.holds = False
        k.out.append(ReleaseAddresses(group.config.name))
    offer_again(k)


def offer(k: "KeeperCore") -> None:
    offer_to(k, candidate(k))


def offer_claimer(k: "KeeperCore") -> None:
    offer_to(k, k.group.claimer)


def offer_plain(k: "KeeperCore") -> None:
    """Say that we leave (RFC 9568 6.4.3) and keep the addresses until one of them advertises.

    It is active after its skew, an interval at most, and some say so only an interval later.
    """
    group = k.group
    group.taker = ""
    group.offers = OFFERS
    interval_ms = group.config.advert_ms
    group.next_advert_ms = k.now + 2 * interval_ms + interval_ms // 2 + grace_ms(interval_ms)
    holding.rest(k)
    goodbye(k)


def offer_again(k: "KeeperCore") -> None:
    group = k.group
    group.offers += 1
    group.advert_at = k.now + OFFER_GAP_MS
    body = {"group": group.config.name, "id": group.offer_id, "epoch": group.epoch}
    k.out.append(SendPeer(group.taker, "handover", body))


def leave(k: "KeeperCore") -> None:
    say_yielded(k, to=candidate(k) or last_ready(k))


def keep_it(k: "KeeperCore") -> None:
    k.group.declined_ms = k.now
    k.group.taker = k.group.giver = ""
    if k.group.holds:
        holding.advertise(k)
    else:
        holding.hold(k)
        holding.say_active(k)


def linger(k: "KeeperCore") -> None:
    k.group.given = True
    k.group.advert_at = k.now + LINGER_MS


def follow_taker(k: "KeeperCore") -> None:
    k.group.given = False
    listening.follow_node(k, k.group.taker)
    k.group.last_advert_ms = k.now


def reply(k: "KeeperCore", ok: bool) -> None:
    group = k.group
    body = {
        "group": group.config.name,
        "id": group.offered_id,
        "ok": ok,
        "served": not ok and other_serves(k),
        "epoch": group.epoch,
    }
    k.out.append(SendPeer(group.offered_by, "taken", body))


def claim(k: "KeeperCore") -> None:
    k.group.claimed_ms = k.now
    k.out.append(SendPeer(k.group.active, "claim", {"group": k.group.config.name}))


def tell_peers(k: "KeeperCore") -> None:
    k.beat_due = True
