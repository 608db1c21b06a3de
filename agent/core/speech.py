# SPDX-License-Identifier: GPL-2.0-or-later
"""What a keeper says regularly, to its peers and to its agent, and learns from its peers' beats."""

from typing import TYPE_CHECKING, Any

from agent.core import leasing, sense
from agent.core.election import HOLDING, Kept
from agent.core.guards import may_take, wanted
from agent.core.keeping import Report, SendPeer
from agent.core.model import GroupDeed, KeeperSaid, PeerDeed, Word
from agent.core.peer import Peer

if TYPE_CHECKING:
    from agent.core.keeper import KeeperCore


def states(core: "KeeperCore") -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for name, group in core.groups.items():
        core.group = group
        found[name] = [
            group.state,
            group.well
            if group.state in HOLDING
            else may_take(group) and group.plugged and not sense.found_deaf(core, group),
            group.epoch if group.state in HOLDING else group.epoch_seen,
            wanted(core),
            sense.hears(core, group),
        ]
    return found


def changes(group: Kept, word: Word) -> bool:
    """Whether the agent's word makes news for the peers: they are told at once."""
    before = (group.ready, group.well, group.able, group.order, group.order_to)
    return before != (word.ready, word.well, word.able, word.order, word.to)


def beat(core: "KeeperCore") -> None:
    core.beat_due = False
    core.beat_at = core.now + core.config.beat_ms
    if core.peers:
        body = {"g": states(core), "s": list(core.adverts_from)}
        able = [name for name, group in core.groups.items() if group.able]
        if able:
            body["a"] = able
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
            *leasing.of_group(core, name),
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
            peer.able,
        )
        for name, peer in core.peers.items()
    }
    decisions, core.decisions = tuple(core.decisions), []
    core.out.append(
        Report(
            KeeperSaid(
                groups,
                known,
                dict(core.links),
                dict(core.counters),
                decisions,
                {ear.interface: ear.judged for ear in core.ears.values()},
            )
        )
    )


def learn(core: "KeeperCore", peer: Peer, body: dict[str, Any]) -> None:
    """A peer's own word of its groups; what is not of the form is passed over."""
    sources = body.get("s")
    for address in sources if isinstance(sources, list) else ():
        if isinstance(address, str):  # nobody takes another node's address by saying so
            core.config.sources.setdefault(address, peer.config.name)
    said = body.get("g")
    if not isinstance(said, dict):
        return
    if isinstance(sources, list):  # a beat; an answer does not say it
        names = body.get("a")
        able = tuple(filter(_is_text, names)) if isinstance(names, list) else ()
        core.report_due = core.report_due or able != peer.able
        peer.able = able
    for name, value in said.items():
        group = core.groups.get(name)
        if isinstance(value, list) and len(value) >= 4 and isinstance(value[0], str):
            state, ready, epoch, want = value[:4]
            peer.hears[name] = value[4] is True if len(value) > 4 else True
            if group is not None:
                core.see_epoch(group, epoch)
            new = (state, ready is True, epoch if isinstance(epoch, int) else 0)
            if peer.groups.get(name) != new or peer.wanted.get(name, "") != want:
                peer.groups[name] = new
                peer.wanted[name] = str(want)
                core.report_due = True
                if ready is True and group is not None and group.order == "give":
                    core.fire(group, "word")  # whom it is to be given to is ready at last


def _is_text(value: object) -> bool:
    return isinstance(value, str)
