# SPDX-License-Identifier: GPL-2.0-or-later
"""What a keeper says regularly: its beat to the peers, its report to the agent."""

from typing import TYPE_CHECKING, Any

from agent.core.election import HOLDING
from agent.core.guards import may_take, wanted
from agent.core.keeping import Report, SendPeer
from agent.core.model import GroupDeed, KeeperSaid, PeerDeed

if TYPE_CHECKING:
    from agent.core.keeper import KeeperCore


def states(core: "KeeperCore") -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for name, group in core.groups.items():
        core.group = group
        found[name] = [
            group.state,
            group.well if group.state in HOLDING else may_take(group) and group.plugged,
            group.epoch if group.state in HOLDING else group.epoch_seen,
            wanted(core),
        ]
    return found


def beat(core: "KeeperCore") -> None:
    core.beat_due = False
    core.beat_at = core.now + core.config.beat_ms
    if core.peers:
        body = {"g": states(core), "s": list(core.adverts_from)}
        core.out.append(SendPeer("", "beat", body))


def report(core: "KeeperCore") -> None:
    core.report_due = False
    core.report_at = core.now + core.config.report_ms
    groups = {
        name: GroupDeed(
            group.state,
            max(group.epoch, group.epoch_seen),
            group.orphaned,
            group.active,
            group.rule,
            group.epoch if group.state in HOLDING else 0,
        )
        for name, group in core.groups.items()
    }
    known = {
        name: PeerDeed(
            peer.verdict,
            str(peer.boot),
            {g: (v[0], v[1]) for g, v in peer.groups.items()},
            dict(peer.wanted),
            peer.lost_paths,
        )
        for name, peer in core.peers.items()
    }
    decisions, core.decisions = tuple(core.decisions), []
    core.out.append(
        Report(KeeperSaid(groups, known, dict(core.links), dict(core.counters), decisions))
    )
