# SPDX-License-Identifier: GPL-2.0-or-later
"""What became of every call, from the SIP messages at the caller's and the carrier's switch port.

Times are milliseconds of CLOCK_MONOTONIC.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from tests.lab.sip_b2bua import LEG

CALLER, CARRIER = "caller", "carrier"
RING_MS, TALK_MS = 500.0, 5000.0  # as long as callers ring and, unless told otherwise, talk
CUT_MS = 500.0  # a call that ends so much before its time was cut
SLOW_MS = 1000.0  # a set-up that is so much longer than the ringing is felt


class Message(NamedTuple):
    """At a switch port. sent: by that end; node: the other end of the frame, "" for unknown."""

    at_ms: float
    end: str
    sent: bool
    node: str
    what: str  # method, or code as text
    call_id: str
    cseq: str
    branch: str


@dataclass
class Call:
    """None is what did not happen. `again_ms`: when an end repeated a request, or its 200."""

    key: str
    invited_ms: float
    answered_ms: float | None = None  # the caller has a 200
    refused_ms: float | None = None
    bye_ms: float | None = None  # the caller, or the carrier, hangs up
    ended_ms: float | None = None  # and hears that this is well
    carrier_answered_ms: float | None = None
    carrier_left_ms: float | None = None  # the carrier was told, or told us, that it is over
    nodes: list[str] = field(default_factory=list)  # who brought its messages to the caller
    talk_ms: float = TALK_MS
    again_ms: list[float] = field(default_factory=list)
    stale_ms: list[float] = field(default_factory=list)  # an INVITE came for what had its answer

    @property
    def setup_ms(self) -> float | None:
        """Without the ringing."""
        return None if self.answered_ms is None else self.answered_ms - self.invited_ms - RING_MS

    @property
    def lost(self) -> bool:
        """Never answered, or cut: it could not be ended as a call is."""
        return self.answered_ms is None or self.ended_ms is None

    @property
    def ghost(self) -> bool:
        """Answered at the carrier, and to the end nobody told it that the call is over."""
        return self.carrier_answered_ms is not None and self.carrier_left_ms is None


def trace(messages: Iterable[Message], talk_ms: float = TALK_MS) -> list[Call]:
    """In the order in which they began; the messages must be in the order of time."""
    calls: dict[str, Call] = {}
    seen: set[tuple[str, ...]] = set()
    for message in messages:
        key = message.call_id.removesuffix(LEG)
        if key not in calls:
            if (message.end, message.what, message.sent) != (CALLER, "INVITE", True):
                continue
            calls[key] = Call(key, message.at_ms, talk_ms=talk_ms)
        call = calls[key]
        mark = (message.end, str(message.sent), *message[4:])
        if mark not in seen:
            _note(call, message)
        elif message.sent and _is_own(message):
            call.again_ms.append(message.at_ms)
        seen.add(mark)
    return list(calls.values())


def _is_own(message: Message) -> bool:
    """What an end sends again by its own timer: requests but ACK, the 200 to an INVITE."""
    if message.what.isdigit():
        return message.what == "200" and message.cseq.endswith("INVITE")
    return message.what != "ACK"


def _note(call: Call, message: Message) -> None:
    """The first of its kind."""
    method, code = message.cseq.split()[-1], message.what
    at_caller = message.end == CALLER
    if at_caller and not message.sent and message.node not in call.nodes:
        call.nodes.append(message.node)
    if code == "INVITE" and not at_caller and not message.sent:
        decided = [call.answered_ms, call.refused_ms, call.carrier_answered_ms]
        if any(at_ms is not None for at_ms in decided):
            call.stale_ms.append(message.at_ms)
    elif code == "BYE":
        if at_caller:
            call.bye_ms = call.bye_ms or message.at_ms
        else:
            call.carrier_left_ms = call.carrier_left_ms or message.at_ms
    elif code.isdigit() and int(code) >= 200:
        _note_final(call, message, method, int(code), at_caller)


def _note_final(call: Call, message: Message, method: str, code: int, at_caller: bool) -> None:
    well = code < 300
    if method == "INVITE" and at_caller and not message.sent:
        if well:
            call.answered_ms = call.answered_ms or message.at_ms
        else:
            call.refused_ms = call.refused_ms or message.at_ms
    elif method == "INVITE" and not at_caller and message.sent and well:
        call.carrier_answered_ms = call.carrier_answered_ms or message.at_ms
    elif method == "BYE" and at_caller and well and _of_full_length(call):
        call.ended_ms = call.ended_ms or message.at_ms


def _of_full_length(call: Call) -> bool:
    """A BYE that came while there was still talking cut the call."""
    assert call.bye_ms is not None, "a BYE is answered that was never seen"
    return call.answered_ms is not None and call.bye_ms - call.answered_ms > call.talk_ms - CUT_MS


@dataclass(frozen=True)
class Tally:
    """What callers felt of one event, and of the time after it."""

    standing: int
    standing_lost: int
    ringing: int
    ringing_lost: int
    new: int
    new_lost: int
    slow: int
    worst_setup_ms: float
    repeats: int
    stale_invites: int

    @property
    def lost(self) -> int:
        return self.standing_lost + self.ringing_lost + self.new_lost


def tally(calls: Sequence[Call], at_ms: float, end_ms: float) -> Tally:
    """Of the span. Standing: answered before, not yet hung up; ringing: begun and not answered."""
    new = [call for call in calls if at_ms <= call.invited_ms < end_ms]
    before = [call for call in calls if call.invited_ms < at_ms and not _over(call, at_ms)]
    standing = [it for it in before if it.answered_ms is not None and it.answered_ms < at_ms]
    ringing = [it for it in before if it.answered_ms is None or it.answered_ms >= at_ms]
    setups = [it.setup_ms for it in (*ringing, *new) if it.setup_ms is not None]
    return Tally(
        len(standing),
        sum(call.lost for call in standing),
        len(ringing),
        sum(call.lost for call in ringing),
        len(new),
        sum(call.lost for call in new),
        sum(ms > SLOW_MS for ms in setups),
        max(setups, default=0.0),
        sum(at_ms <= when < end_ms for call in calls for when in call.again_ms),
        sum(at_ms <= when < end_ms for call in calls for when in call.stale_ms),
    )


def _over(call: Call, at_ms: float) -> bool:
    """Before the event: refused, hung up, or given up long since."""
    if call.answered_ms is None:
        return call.refused_ms is not None and call.refused_ms < at_ms
    return call.bye_ms is not None and call.bye_ms < at_ms


def stall_ms(calls: Sequence[Call], every_ms: float, at_ms: float, end_ms: float) -> float:
    """How much later than its time the caller began a call: its own machine stood still."""
    begun = [call.invited_ms for call in calls if at_ms <= call.invited_ms < end_ms]
    return max((after - before - every_ms for before, after in pairwise(begun)), default=0.0)


def longest_gap_ms(
    asked: Sequence[float], answered: Sequence[float | None], at_ms: float, end_ms: float
) -> float:
    """From one question that was answered to the next such, or the end of the span."""
    good = [
        when
        for when, answer in zip(asked, answered, strict=True)
        if answer is not None and at_ms <= when < end_ms
    ]
    moments = [at_ms, *good, min(end_ms, asked[-1] if asked else end_ms)]
    return max((after - before for before, after in pairwise(moments)), default=0.0)
