# SPDX-License-Identifier: GPL-2.0-or-later
"""Leases in the keeper: what peers say of them, what the agent wants, what groups make of it."""

import json
from typing import TYPE_CHECKING, Any

from agent.core.election import ACTIVE, BACKUP, DOUBT, GIVING
from agent.core.keeping import Keeping, PeerHeard, Remember, SendPeer, StopServices
from agent.core.lease import Lease
from agent.core.lease_count import Ask, Vote
from agent.core.lease_rows import LOST
from agent.core.model import Decision, Word
from agent.core.table import Row

if TYPE_CHECKING:
    from agent.core.keeper import KeeperCore

SAME_AGAIN_MS = 10_000  # a row that changes nothing is on record once in so long
SPOKE = ""  # in the memory, where groups have their names
MOST_FALLEN = 16  # nodes that a request may say to be off

ROWS = (
    Row("G-LEASE-LOST", ACTIVE, "lease_lost", (), BACKUP, ("release", "yield", "tell_peers"),
        "the lease is over: another node may run the group in a moment, so let the addresses go"),
    Row("G-LEASE-LOST-2", DOUBT, "lease_lost", (), BACKUP, ("release", "yield", "tell_peers"),
        "the lease is over"),
    Row("G-LEASE-LOST-3", GIVING, "lease_lost", (), BACKUP, ("release", "yield", "tell_peers"),
        "the lease is over; the offer stands"),
    Row("G-DOUBT-NO-LEASE", DOUBT, "down", ("!leased",), BACKUP, ("release", "tell_peers"),
        "this keeper was restarted and knows of no lease: nothing is held without one"),
)  # fmt: skip


class Leases:
    """All leases that this node has a vote on, by group."""

    __slots__ = ("by_group", "fallen", "spoke", "told", "told_until", "written")

    def __init__(self, config: Keeping, now: int, kind: type[Lease] = Lease) -> None:
        kept, fresh = _recalled(config.memory)
        self.by_group = {
            name: _made(kind, config, name, now, kept.get(name), fresh) for name in config.leases
        }
        self.fallen: dict[str, int] = {}  # node that is proven to be off -> its keeper's boot then
        spoke = kept.get(SPOKE)
        self.spoke = (
            set(filter(_is_text, spoke)) if isinstance(spoke, list) else set[str]()
        )  # of those that are said to be off: they were heard since
        self.told: dict[tuple[str, str], int] = {}  # (group, rule) -> when it was on record
        self.told_until: dict[str, int] = {}
        self.written = b""

    def deadline(self) -> int:
        """When to look next, 0: never."""
        due = (lease.deadline() for lease in self.by_group.values())
        return min((at for at in due if at), default=0)


def _recalled(memory: bytes | None) -> tuple[dict[str, Any], bool]:
    """What was kept by group, and whether this machine was started since.

    What cannot be read is nothing; it only proves that a keeper ran here.
    """
    if memory is None:
        return {}, True
    try:
        value = json.loads(memory)
    except (ValueError, RecursionError):
        return {}, False
    return (value if isinstance(value, dict) else {}), False


def _made(kind: type[Lease], config: Keeping, name: str, now: int, kept: Any, fresh: bool) -> Lease:
    terms = config.leases[name]
    try:
        return kind(terms, config.node, config.boot, now, kept, fresh)
    except (ValueError, TypeError):  # written by another version
        return kind(terms, config.node, config.boot, now, None, False)


def begun(core: "KeeperCore") -> Leases:
    """A keeper's, with what its predecessor left; its groups are told."""
    leases = Leases(core.config, core.now, core.lease)
    for name, lease in leases.by_group.items():
        if name in core.groups:
            core.groups[name].leased = lease.held
    return leases


# ---------------------------------------------------------------- what comes in


def look(core: "KeeperCore") -> None:
    """Before anything else is taken in: what is over by the clock is over."""
    behind = core.behind()
    for name, lease in core.leases.by_group.items():
        if behind:
            lease.hurry(core.now)
        else:
            lease.look(core.now)
        _settle(core, name, lease)


def due(core: "KeeperCore") -> None:
    """The deadline has come; also once, when the keeper has begun."""
    for name, lease in core.leases.by_group.items():
        lease.tick(core.now)
        _settle(core, name, lease)


def word(core: "KeeperCore", words: dict[str, Word]) -> None:
    """The agent's word: what it wants, what it owned last, who is off."""
    leases = core.leases
    said_off = {node for one in words.values() for node in one.fenced if node in core.peers}
    for node in said_off - leases.fallen.keys() - leases.spoke:
        leases.fallen[node] = core.peers[node].boot
    leases.spoke &= said_off
    for node in leases.fallen.keys() - said_off:
        del leases.fallen[node]
    for name, lease in leases.by_group.items():
        if name in words:
            one = words[name]
            off = {node: boot for node, boot in leases.fallen.items() if node in one.fenced}
            lease.told(one.claim, one.last, off, core.now)
            lease.tick(core.now)
            _settle(core, name, lease)


def spoken(core: "KeeperCore", node: str) -> None:
    """A node that speaks is not off, whatever was proven before."""
    if node in core.leases.fallen:
        del core.leases.fallen[node]
        core.leases.spoke.add(node)
        _remember(core)


def heard(core: "KeeperCore", event: PeerHeard) -> None:
    """A packet about a lease; what is not of the form, or may be a recording, is passed over."""
    name = str(event.body.get("group", ""))
    lease = core.leases.by_group.get(name)
    number = _count(event.body.get("id"))
    if lease is None or not event.fresh or event.role != "keeper" or not number:
        return
    if event.kind == "lease-ask":
        lease.asked(_asked(event, number), core.now)
    elif event.kind == "lease-vote":
        lease.answered(_voted(event, number), core.now)
    else:
        lease.gave_up(event.node, event.boot, number, core.now)
    _settle(core, name, lease)


def _asked(event: PeerHeard, number: int) -> Ask:
    body = event.body
    off = body.get("off")
    fallen = list(off.items())[:MOST_FALLEN] if isinstance(off, dict) else []
    return Ask(
        event.node,
        event.boot,
        number,
        body.get("h") is True,
        _count(body.get("t")),
        {node: boot for node, boot in fallen if _count(boot) and node != event.node},
    )


def _voted(event: PeerHeard, number: int) -> Vote:
    body = event.body
    ok, soft, holds = (body.get(key) is True for key in ("ok", "s", "h"))
    return Vote(event.node, number, ok, soft, holds, _count(body.get("t")))


def _count(value: object) -> int:
    """A number above 0, as it was sent; else 0."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 1 << 63:
        return 0
    return value


# ---------------------------------------------------------------- what comes of it


def _settle(core: "KeeperCore", name: str, lease: Lease) -> None:
    """What the lease says goes out, what it became is the group's."""
    fired, lease.fired = lease.fired, []
    out, lease.out = lease.out, []
    if fired or out:
        _remember(core)
    for node, kind, body in out:
        voters = (node,) if node else tuple(v for v in lease.terms.voters if v in core.peers)
        core.out += [SendPeer(voter, kind, {"group": name, **body}) for voter in voters]
    for rule, before, after, why in fired:
        _record(core, name, lease, Decision(f"lease {name}", rule, before, after, why))
        if after == LOST and before != LOST:
            core.out.append(StopServices(name))
    if lease.until_ms != core.leases.told_until.get(name, 0):
        core.leases.told_until[name] = lease.until_ms
        core.report_due = True  # the agent's patience with this keeper is counted from it
    group = core.groups.get(name)
    if group is None or group.leased == lease.held:
        return
    group.leased = lease.held
    core.report_due = core.beat_due = True
    if any(after == LOST for _, _, after, _ in fired):
        core.fire(group, "lease_lost")
    else:
        core.fire(group, "word")


def _record(core: "KeeperCore", name: str, lease: Lease, decision: Decision) -> None:
    told = core.leases.told
    key = (name, decision.rule)
    if decision.before == decision.after and core.now - told.get(key, -SAME_AGAIN_MS) < (
        SAME_AGAIN_MS
    ):
        return
    told[key] = core.now
    asker = {"asker": lease.ask.node} if decision.rule.startswith("V-") else {}
    core.decisions.append(
        Decision(
            decision.machine,
            decision.rule,
            decision.before,
            decision.after,
            decision.why,
            {"term": lease.seen_term, **asker},
        )
    )
    core.report_due = True


def _remember(core: "KeeperCore") -> None:
    kept = {name: lease.memory() for name, lease in core.leases.by_group.items()}
    if core.leases.spoke:
        kept[SPOKE] = sorted(core.leases.spoke)
    memory = json.dumps(kept, separators=(",", ":")).encode()
    if memory != core.leases.written:
        core.leases.written = memory
        core.out.append(Remember(memory))


def of_group(core: "KeeperCore", name: str) -> tuple[str, int]:
    """For the agent: how the lease stands, and until when it is good without a new word."""
    lease = core.leases.by_group.get(name)
    return (lease.word, lease.until_ms) if lease is not None else ("", 0)


def _is_text(value: object) -> bool:
    return isinstance(value, str)
