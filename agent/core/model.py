# SPDX-License-Identifier: GPL-2.0-or-later
"""The words that cross the core's border: what comes in, what goes out.

Events are past tense, actions imperative. `now` beside them is integer milliseconds of a monotonic
clock that counts suspend. An operation that timed out has `ok=None`: unknown, not failed.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Health(StrEnum):
    """No answer is UNKNOWN, never DOWN."""

    UP = "up"
    DEGRADED = "degraded"
    DOWN = "down"
    UNKNOWN = "unknown"


class Severity(StrEnum):
    """ITU-T X.733 perceived severity."""

    CRITICAL = "critical"
    MAJOR = "major"
    MINOR = "minor"
    WARNING = "warning"
    CLEARED = "cleared"


@dataclass(frozen=True, slots=True)
class Reading:
    """What a driver saw of one resource.

    resource: "disk:/var", "ups:ups1:runtime". value: None is "not known". limit: the value, in the
    same unit, at which the resource is exhausted (None: it has none). A runtime falls towards its
    limit, a disk rises towards it: `rising` says which. text: a state word, or what to tell people.
    """

    resource: str
    value: float | None
    unit: str  # bytes pct s count state ratio
    limit: float | None = None
    rising: bool = True
    text: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer to "are you alive?". ok None: could not ask, which is not the service's fault."""

    ok: bool | None
    detail: str = ""
    took_ms: int = 0
    draining: bool = False  # it lives and takes no new work (SIP, HTTP 503): DEGRADED, not DOWN


@dataclass(frozen=True, slots=True)
class Proof:
    """One thing that a standby must show. ok None: it could not be looked at.

    name: settings status status-load licence unit ports room versions clock hooks rehearsal drift.
    left_ms: until it ends by itself (a licence), None: never.
    """

    name: str
    ok: bool | None
    detail: str = ""
    left_ms: int | None = None


# ---------------------------------------------------------------- events into the agent's core


@dataclass(frozen=True, slots=True)
class Sampled:
    """A watcher's round. source: "host", "ups1"."""

    source: str
    readings: tuple[Reading, ...]


@dataclass(frozen=True, slots=True)
class SourceFailed:
    """A watcher's round came to nothing. error: unreachable refused garbled."""

    source: str
    error: str
    detail: str


@dataclass(frozen=True, slots=True)
class Checked:
    """A service was asked."""

    group: str
    service: str
    check: str
    answer: Answer


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an action ended: the next round's sample. facts: what was seen when it was looked at."""

    op_id: int
    ok: bool | None
    detail: str = ""
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Died:
    """A service's main process is gone (pidfd_open(2)). status: as far as it is known, for people.

    pid: whose death this is, so that one long replaced changes nothing.
    """

    group: str
    service: str
    pid: int
    status: str = ""


@dataclass(frozen=True, slots=True)
class Lives:
    """A service's main process was found. pid: 0 where there is none."""

    group: str
    service: str
    pid: int


@dataclass(frozen=True, slots=True)
class Proved:
    """A round of looking at what a standby of `group` needs, on this node."""

    group: str
    proofs: tuple[Proof, ...]


@dataclass(frozen=True, slots=True)
class Carried:
    """What is carried for a group, as this node knows it.

    peers: the other nodes -> how their copies stand. status_age_ms: of the freshest 'current
    status' that this node holds, by the clock of the node that wrote it; None: it has none.
    status_epoch: under which it was written.
    """

    group: str
    peers: dict[str, "Copy"]
    settings_ok: bool | None = None  # ours equal the primary's; None: no primary was heard
    detail: str = ""
    status_age_ms: int | None = None
    status_epoch: int = 0


@dataclass(frozen=True, slots=True)
class Copy:
    """A peer's copy of a group's settings and status. seen_ms: when it last said so, our clock."""

    ok: bool
    detail: str
    seen_ms: int
    status_epoch: int = 0
    status_origin_ms: int = 0  # wall clock of the writer


@dataclass(frozen=True, slots=True)
class CloudSaid:
    """How the second copy of a group's settings stands. ok: up to date."""

    group: str
    ok: bool
    detail: str


@dataclass(frozen=True, slots=True)
class CertificateSaid:
    """This node's certificate, or its authority's, ends in so many days."""

    days_left: float


@dataclass(frozen=True, slots=True)
class GroupDeed:
    """What the keeper says of one group: the truth about addresses on this node.

    state: init backup active doubt giving. `orphaned`: no active node is heard of any more and this
    node would take over if it were ready. active: the node heard as active. epoch: the highest that
    it knows of; tenure: the one under which it holds the group itself, 0 if it does not.
    """

    state: str
    epoch: int = 0
    orphaned: bool = False
    active: str = ""
    rule: str = ""
    tenure: int = 0
    lease: str = ""  # "" it needs none, held, asked, refused, lost; see core.lease
    lease_until_ms: int = 0  # held: till then, on this machine's clock; 0: without an end


@dataclass(frozen=True, slots=True)
class PeerDeed:
    """What the keeper says of a peer. state: unknown alive held silent.

    groups: name -> (state, ready); of an owner, whether its services answer. wanted: group -> the
    node that the peer hands it over to, or would, were that node ready. lost_paths: indexes of its
    paths by which it is not heard, while it is by another one. able: groups that it could bring up.
    """

    state: str
    boot: str = ""
    groups: dict[str, tuple[str, bool]] = field(default_factory=dict)
    wanted: dict[str, str] = field(default_factory=dict)
    lost_paths: tuple[int, ...] = ()
    able: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class KeeperSaid:
    """The keeper's regular word, and at once at each change.

    senses: interface -> what its last look at the network there found (`core.sense`): well hears
    unanswered deaf unknown.
    """

    groups: dict[str, GroupDeed]
    peers: dict[str, PeerDeed]
    links: dict[str, bool]  # interface -> carrier
    counters: dict[str, int]  # bad packets by kind
    decisions: tuple["Decision", ...] = ()
    senses: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class KeeperLost:
    """Its beat is missing, or it was seen to die."""

    why: str


@dataclass(frozen=True, slots=True)
class Asked:
    """An operator asked for something over the CLI socket. who: "root (uid 0)"."""

    request_id: int
    verb: str  # switchover failover maintenance clear
    args: dict[str, Any]
    who: str


@dataclass(frozen=True, slots=True)
class ConfigRefused:
    """A reload was refused; the running configuration stays."""

    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ConfigAccepted:
    """The configuration on disk is the running one (again)."""

    digest: str


@dataclass(frozen=True, slots=True)
class StoreFailed:
    """The store cannot be written; protection goes on."""

    detail: str


@dataclass(frozen=True, slots=True)
class StoreMended:
    """The store can be written again."""


@dataclass(frozen=True, slots=True)
class Ticked:
    """A deadline that the core asked for has come. wall_s: for text to people only.

    local_minute: of the day, by the wall clock here, for windows that people chose; -1 not known.
    """

    wall_s: float = 0.0
    local_minute: int = -1


AgentEvent = (
    Sampled
    | SourceFailed
    | Checked
    | Died
    | Lives
    | Proved
    | Carried
    | CloudSaid
    | CertificateSaid
    | Outcome
    | KeeperSaid
    | KeeperLost
    | Asked
    | ConfigRefused
    | ConfigAccepted
    | StoreFailed
    | StoreMended
    | Ticked
)


# ---------------------------------------------------------------- decisions


@dataclass(frozen=True, slots=True)
class Decision:
    """A rule that fired: why, on which inputs, and which rules before it did not and why.

    machine: "group sbc", "peer lon2", "role sbc", "geo voice". rejected: (rule, guard that failed).
    """

    machine: str
    rule: str
    before: str
    after: str
    why: str
    inputs: dict[str, Any] = field(default_factory=dict)
    rejected: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Word:
    """What the agent tells the keeper of one group.

    ready: this node may own it. order: "" (as the rules say), "give" (hand over to `to`, or to any
    ready peer), "take" (ask the active one to hand over to us). ceiling: the highest epoch that is
    safely stored, so that the keeper may use up to it without a disk. epoch: the highest seen.
    well: the services answer, as far as is known; only an owner's matters. able: a cold standby
    could be brought up. claim: this node wants the group's lease, or to keep it. last: by what is
    stored here it owned the group last. fenced: nodes that are proven to be off.
    """

    ready: bool
    order: str = ""
    to: str = ""
    ceiling: int = 0
    epoch: int = 0
    why: str = ""
    well: bool = True
    able: bool = False
    claim: bool = False
    last: bool = False
    fenced: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Alarm:
    """An edge. alarm_id stays the same from raise to clear; severity CLEARED is the clear."""

    alarm_id: str  # "disk-filling:disk:/var"
    kind: str  # a key of alarm.KINDS
    subject: str  # "disk:/var", "group sbc", "device ups1"
    severity: Severity
    text: str
    raised_ms: int = 0
