# SPDX-License-Identifier: GPL-2.0-or-later
"""What an advertisement, and a word on the network about an address, means to the groups.

A member is a node of the group, or a plain peer: a router of the configuration that speaks RFC 9568
and nothing else. Anybody else in our virtual router is reported and never answered.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from agent.core import peer as peers
from agent.core import rounds, sense
from agent.core.election import ACTIVE, BACKUP, HOLDING, Kept
from agent.core.guards import OWNER_PRIORITY, priority_now
from agent.core.keeping import (
    AddressAsked,
    AdvertSeen,
    KeptGroup,
    NeighbourSeen,
    PacketRefused,
)
from agent.core.peer import Peer

if TYPE_CHECKING:
    from agent.core.keeper import KeeperCore

MACS_KEPT = 256
PROBES = 4  # questions for an address without an answer: nobody has it any more
PROBE_MS = 50
PROBE_AGAIN_MS = 20  # once one is unanswered
FORMS = {"pseudo": "with the pseudo-header", "plain": "without the pseudo-header (RFC 9568 5.2.8)"}


def heard(core: "KeeperCore", event: AdvertSeen) -> None:
    """An advertisement of a virtual router."""
    sense.heard(core, event.interface)
    group = core.routers.get((event.interface, event.family, event.vrid))
    if group is None:
        return
    name = core.name_of(group, event.source)
    if not name:
        _foreign(core, group, event)
        return
    _remark(core, group, event, name)
    if event.priority == 0:
        core.fire(group, "advert_zero")
        return
    # RFC 9568 6.4.3: greater priority, or equal priority and greater primary address
    mine = priority_now(group) if group.state in HOLDING else group.config.priority
    beats = event.priority > mine or (
        event.priority == mine and rank(event.source) > _own_rank(core, ":" in event.source)
    )
    core.fire(group, "advert_higher" if beats else "advert_lower")
    peer = core.peers.get(name)
    if peer is not None:
        peer.heard_ms = core.now
        if peer.gap_at and group.suspect != name:
            core.fire_peer(peer, "answered")


def _foreign(core: "KeeperCore", group: Kept, event: AdvertSeen) -> None:
    if any(core.peers[name].state == peers.UNKNOWN for name in group.config.peers):
        return  # it may be one of those: its beat will tell where its adverts come from
    why = (
        f"{event.source} advertises our virtual router {event.vrid} on {event.interface} "
        f"and is no node of group {group.config.name}: give one of them another vrid, or list it "
        "in plain_peers"
    )
    rounds.refused(core, PacketRefused("advert-foreign", event.source, why))


def _remark(core: "KeeperCore", group: Kept, event: AdvertSeen, name: str) -> None:
    """What is odd about a member's advertisement, which is believed all the same."""
    for kind, why in _oddities(group.config, event):
        where = f"{name} ({event.source}, virtual router {event.vrid} on {event.interface})"
        rounds.refused(core, PacketRefused(kind, event.source, f"{where} {why}"))


def _oddities(config: KeptGroup, event: AdvertSeen) -> Iterator[tuple[str, str]]:
    if event.interval_ms != config.advert_ms:
        yield (
            "advert-interval",
            f"advertises each {event.interval_ms} ms and this node each "
            f"{config.advert_ms} ms: a backup goes by the active one's; set them alike",
        )
    if event.priority == OWNER_PRIORITY == config.priority:
        why = "says to own the addresses (priority 255) and so does this node: one can"
        yield "advert-owner", why
    if event.form in FORMS and event.form != config.form:
        yield (
            "advert-form",
            f"makes its IPv4 checksum {FORMS[event.form]}; it may not take ours: "
            f'set checksum = "{event.form}", or the other way round there',
        )


def _own_rank(core: "KeeperCore", ipv6: bool) -> tuple[int, ...]:
    own = (a for a, name in core.config.sources.items() if name == core.config.node)
    return next((rank(a) for a in own if (":" in a) is ipv6), ())


# ---------------------------------------------------------------- ARP and ND


def neighbour(core: "KeeperCore", event: NeighbourSeen) -> None:
    """Somebody says where an address is."""
    group = core.own.get(event.address)
    if group is not None:
        _claimed(core, group, event)
        return
    peer = core.asked.get(event.address)
    sense.answered(core, event, witness=peer is None)
    if peer is not None:
        _node_seen(core, peer, event.mac)
    rounds.settle_doubts(core)


def _node_seen(core: "KeeperCore", peer: Peer, mac: str) -> None:
    """A sign of life of a peer's machine."""
    if len(core.macs) >= MACS_KEPT:
        core.macs.clear()
    core.macs[mac] = peer.config.name
    if peer.gap_at:
        peer.node_answered = True
    elif peer.state == peers.SILENT:
        core.fire_peer(peer, "node_seen")
        core.doubt_peer(peer)  # there again, and perhaps not alone


def _claimed(core: "KeeperCore", group: Kept, event: NeighbourSeen) -> None:
    """One of our floating addresses: by a member, or by a stranger."""
    group.probes = 0
    stranger = event.mac not in core.macs and not event.mac.startswith("00:00:5e:00:0")
    if stranger:
        core.fire(group, "stranger")


def asked(core: "KeeperCore", event: AddressAsked) -> None:
    """A stranger's answer may come after ours, and the last one stays: say it once more, later."""
    group = core.own.get(event.address)
    if group is not None and group.state == ACTIVE:
        group.asked_about = True


def probe(core: "KeeperCore", group: Kept) -> None:
    """The active node is there, but none of its processes: ask for the address itself."""
    if group.state != BACKUP or group.active not in core.peers:
        group.probe_at = 0
        return
    if group.probes >= PROBES:
        group.probe_at = 0
        core.fire(group, "vanished")
        return
    group.probes += 1
    group.probe_at = core.now + (PROBE_MS if group.probes == 1 else PROBE_AGAIN_MS)
    core.out += peers.questions(group.config.probed)
    core.out += peers.questions(core.peers[group.active].config.asked)


def rank(address: str) -> tuple[int, ...]:
    """An address as numbers in network order, so that two of one family compare as the RFC asks."""
    if ":" not in address:
        return tuple(int(part) for part in address.split("."))
    head, gap, tail = address.partition("%")[0].partition("::")
    left = head.split(":") if head else []
    right = tail.split(":") if tail else []
    fill = ["0"] * (8 - len(left) - len(right)) if gap else []
    return tuple(int(part, 16) for part in left + fill + right)
