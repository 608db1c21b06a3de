# SPDX-License-Identifier: GPL-2.0-or-later
"""What the agent's core wants done: the actions that the shell carries out, in order.

An operation has an `op_id`; how it ended comes back as `model.Outcome`.
"""

from dataclasses import dataclass, field
from typing import Any

from agent.core.model import Alarm, Word


@dataclass(frozen=True, slots=True)
class TellKeeper:
    """Sent at once, and repeated by the shell as the agent's beat."""

    words: dict[str, Word]


@dataclass(frozen=True, slots=True)
class ControlService:
    """verb: start stop restart status kill."""

    op_id: int
    group: str
    service: str
    verb: str
    within_ms: int


@dataclass(frozen=True, slots=True)
class RunHook:
    """Run one of the group's commands, with `word` as its last argument where that is not "".

    hook: promote demote drain undrain ramp.
    """

    op_id: int
    group: str
    hook: str
    within_ms: int
    word: str = ""


@dataclass(frozen=True, slots=True)
class ReadSessions:
    """How many live sessions are up here? Outcome.facts: {"sessions": int}."""

    op_id: int
    group: str
    within_ms: int


@dataclass(frozen=True, slots=True)
class ShipStatus:
    """Send the group's status, as it is now, to `to` ("" = every peer), and wait for their word.

    epoch: under which it was written. Outcome.facts: {"nodes": {name: "" or why not}}.
    """

    op_id: int
    group: str
    to: str
    epoch: int
    within_ms: int


@dataclass(frozen=True, slots=True)
class PlaceStatus:
    """Put the freshest status that was received where the service reads it.

    Outcome.ok False: there is none that may be used. Outcome.facts: {"age_ms", "epoch", "from"}.
    """

    op_id: int
    group: str
    within_ms: int


@dataclass(frozen=True, slots=True)
class FenceNode:
    """Switch a node off, and see that it is. verb: off on test status; the last two only look.

    Outcome.ok True: it is seen to be off (on; fenceable). None: not known.
    """

    op_id: int
    node: str
    verb: str
    within_ms: int


@dataclass(frozen=True, slots=True)
class GatherFacts:
    """For the page to people: the last lines of the service's journal, resources, what it left.

    Outcome.facts: {"lines": [str], "resources": {name: text}}.
    """

    op_id: int
    group: str
    service: str
    within_ms: int


@dataclass(frozen=True, slots=True)
class KeepEpoch:
    """Store `ceiling` for `name` safely (fsync); a lower one than stored changes nothing.

    Outcome.ok is True only when it is on disk.
    """

    op_id: int
    name: str
    ceiling: int


@dataclass(frozen=True, slots=True)
class LookNames:
    """Ask the primary for the epoch in the zone. Outcome.facts: {"epoch": int}."""

    op_id: int
    geo: str


@dataclass(frozen=True, slots=True)
class UpdateNames:
    """Send the world to `site`: compare-and-swap on the zone's epoch (RFC 2136 prerequisites).

    Outcome.facts: {"rcode": str, "epoch": int seen afterwards, "took_ms": int}.
    """

    op_id: int
    geo: str
    site: str
    epoch: int


@dataclass(frozen=True, slots=True)
class VerifyNames:
    """Ask every name server what it says now.

    Outcome.facts: {"servers": {address: {"serial", "ok", "detail"}}}.
    """

    op_id: int
    geo: str
    site: str


@dataclass(frozen=True, slots=True)
class ObserveNames:
    """Where do the name servers send the world, with nothing to change?

    Outcome.facts: {"epoch": int, "site": str, "servers": as VerifyNames of that site}; site "" if
    what they say is no site's.
    """

    op_id: int
    geo: str


@dataclass(frozen=True, slots=True)
class Tell:
    """Store the alarm, spool its trap to every NMS, show it."""

    alarm: Alarm


@dataclass(frozen=True, slots=True)
class Record:
    """A line for the journal. kind: decision intent outcome alarm operator config keeper."""

    kind: str
    subject: str
    text: str
    detail: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reply:
    """To the operator. ok None: progress; the request ends with True or False."""

    request_id: int
    ok: bool | None
    text: str
    detail: dict[str, Any] = field(default_factory=dict)


Operation = (
    ControlService
    | RunHook
    | ReadSessions
    | ShipStatus
    | PlaceStatus
    | FenceNode
    | GatherFacts
    | KeepEpoch
    | LookNames
    | UpdateNames
    | VerifyNames
    | ObserveNames
)
"""What ends with an Outcome."""

AgentAction = Operation | TellKeeper | Tell | Record | Reply
