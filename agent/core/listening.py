# SPDX-License-Identifier: GPL-2.0-or-later
"""Effects of the election table: what a backup waits for, and whom it asks."""

from typing import TYPE_CHECKING

from agent.core.election import down_ms, grace_ms, skew_ms
from agent.core.guards import RETRY_MS, claimant
from agent.core.keeping import AdvertSeen, PeerHeard

if TYPE_CHECKING:
    from agent.core.keeper import KeeperCore

HEARING_MS = 300  # a deaf node listens so long before it asks again
INTERVAL_CAP_MS = 10_000  # an active node advertising 40 s must not make us wait for minutes


def listen(k: "KeeperCore") -> None:
    group = k.group
    group.active = ""
    group.active_interval_ms = group.config.advert_ms
    listen_again(k)


def listen_again(k: "KeeperCore") -> None:
    group = k.group
    interval = group.active_interval_ms
    group.late_at = k.now + interval + grace_ms(interval) if group.active else 0
    group.down_at = k.now + down_ms(group.config.priority, interval)
    group.advert_at = group.probe_at = group.defend_at = 0
    group.asked = group.turned = group.polling = False


def poll(k: "KeeperCore") -> None:
    """Where every peer answers at once, there is no need to listen for the RFC's time.

    A plain peer does not answer.
    """
    listen(k)
    k.group.polling = not k.group.config.plain
    for name in k.group.config.peers:
        k.doubt_peer(k.peers[name])


def own_at_once(k: "KeeperCore") -> None:
    listen(k)
    k.group.down_at = k.now


def follow(k: "KeeperCore") -> None:
    event, group = k.event, k.group
    assert isinstance(event, AdvertSeen)
    group.active_priority = event.priority
    longest_ms = max(INTERVAL_CAP_MS, group.config.advert_ms)
    group.active_interval_ms = min(longest_ms, max(10, event.interval_ms))
    group.last_advert_ms = k.now
    follow_node(k, k.name_of(group, event.source))


def follow_sender(k: "KeeperCore") -> None:
    assert isinstance(k.event, PeerHeard)
    follow_node(k, k.event.node)


def follow_claim(k: "KeeperCore") -> None:
    follow_node(k, claimant(k))


def follow_node(k: "KeeperCore", name: str) -> None:
    k.group.active = name
    k.group.orphaned = False
    listen_again(k)


def leaving(k: "KeeperCore") -> None:
    group = k.group
    group.active = ""
    group.late_at = 0
    group.down_at = k.now + skew_ms(group.config.priority, group.active_interval_ms)
    group.asked = True
    group.turned = group.polling = False


def wait_turn(k: "KeeperCore") -> None:
    group = k.group
    group.turned = group.asked = True
    group.polling = False
    group.late_at = 0
    group.down_at = k.now + 3 * k.config.ask_gap_ms * group.config.place


def wait_held(k: "KeeperCore") -> None:
    group = k.group
    gone_ms = k.config.lifetime_s * 1000 + 500  # the kernel there has dropped them by then
    group.late_at = 0
    group.down_at = max(group.down_at, group.last_advert_ms + gone_ms)
    if group.config.probed and not group.probe_at:
        group.probes = 0
        group.probe_at = k.now


def orphan(k: "KeeperCore") -> None:
    group = k.group
    group.orphaned = True
    retry(k, RETRY_MS)


def wait_hearing(k: "KeeperCore") -> None:
    retry(k, HEARING_MS)


def retry(k: "KeeperCore", after_ms: int) -> None:
    group = k.group
    group.late_at = 0
    group.down_at = k.now + after_ms
    group.asked = group.turned = group.polling = False


def soon(k: "KeeperCore") -> None:
    retry(k, 0)


def rfc_time(k: "KeeperCore") -> None:
    """Nothing but its adverts is known of a plain peer."""
    k.group.late_at = 0


def ask_active(k: "KeeperCore") -> None:
    k.group.late_at = 0
    k.doubt_peer(k.peers[k.group.active], k.group.config.name)


def ask_giver(k: "KeeperCore") -> None:
    k.doubt_peer(k.peers[k.group.offered_by])


def ask_sender(k: "KeeperCore") -> None:
    assert isinstance(k.event, AdvertSeen)
    k.group.suspect = k.name_of(k.group, k.event.source)
    k.doubt_peer(k.peers[k.group.suspect])


def ask_all(k: "KeeperCore") -> None:
    group = k.group
    group.asked = True
    group.late_at = 0
    group.down_at = k.now + k.config.asks * k.config.ask_gap_ms + 10
    group.polling = True
    for name in group.config.peers:
        k.doubt_peer(k.peers[name])
