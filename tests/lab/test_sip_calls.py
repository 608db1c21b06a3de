# SPDX-License-Identifier: GPL-2.0-or-later
"""The judge of calls sees what it is there to see."""

from __future__ import annotations

from tests.lab.sip_b2bua import LEG
from tests.lab.sip_calls import (
    CALLER,
    CARRIER,
    Call,
    Message,
    longest_gap_ms,
    stall_ms,
    tally,
    trace,
)

TALK_MS = 5000.0
Sent = tuple[float, str, str, str, str]  # when, end, ">" sent or "<" heard, what, CSeq

CALL: list[Sent] = [
    (0, CALLER, ">", "INVITE", "1 INVITE"),
    (1, CARRIER, "<", "INVITE", "1 INVITE"),
    (501, CARRIER, ">", "200", "1 INVITE"),
    (502, CALLER, "<", "200", "1 INVITE"),
    (5502, CALLER, ">", "BYE", "2 BYE"),
    (5503, CARRIER, "<", "BYE", "2 BYE"),
    (5504, CARRIER, ">", "200", "2 BYE"),
    (5505, CALLER, "<", "200", "2 BYE"),
]


def heard(*messages: Sent, name: str = "1", leg: str = "", branch: str = "a") -> list[Message]:
    return [
        Message(
            at_ms,
            end,
            way == ">",
            "lon1",
            what,
            name + (leg if end == CARRIER else ""),
            cseq,
            branch,
        )
        for at_ms, end, way, what, cseq in messages
    ]


def traced(*messages: Message) -> Call:
    [call] = trace(sorted(messages))
    return call


def without(*left: int) -> list[Message]:
    return heard(*(it for number, it in enumerate(CALL) if number not in left))


def test_a_call_that_goes_as_a_call_goes_is_well() -> None:
    call = traced(*heard(*CALL))
    assert (call.lost, call.ghost, call.setup_ms) == (False, False, 2)
    assert (call.again_ms, call.stale_ms, call.nodes) == ([], [], ["lon1"])


def test_both_legs_of_a_back_to_back_call_are_one_call() -> None:
    call = traced(*heard(*CALL, leg=LEG))
    assert (call.lost, call.ghost) == (False, False)


def test_a_call_without_an_answer_is_lost_and_a_ghost_where_the_carrier_has_answered() -> None:
    assert traced(*without(2, 3, 4, 5, 6, 7)).lost
    unheard = traced(*without(3, 4, 5, 6, 7))
    assert unheard.lost
    assert unheard.ghost


def test_a_call_that_cannot_be_ended_is_cut() -> None:
    assert traced(*without(5, 6, 7)).lost
    refused = traced(*without(7), *heard((5505, CALLER, "<", "481", "2 BYE")))
    assert refused.lost


def test_a_call_that_the_server_ends_too_soon_is_cut() -> None:
    early = heard((2000, CALLER, "<", "BYE", "1 BYE"), (2001, CALLER, ">", "200", "1 BYE"))
    assert traced(*without(4, 5, 6, 7), *early).lost


def test_what_an_end_sends_again_counts_and_what_it_is_sent_again_does_not() -> None:
    again = heard((500, *CALL[0][1:]), (600, *CALL[2][1:]))
    by_others = heard((700, *CALL[1][1:]), (701, *CALL[3][1:]))
    assert traced(*heard(*CALL), *again, *by_others).again_ms == [500, 600]


def test_an_invite_for_what_has_had_its_answer_is_stale() -> None:
    late = heard((9000, CARRIER, "<", "INVITE", "1 INVITE"), branch="other")
    assert traced(*heard(*CALL), *late).stale_ms == [9000]
    in_time = heard((400, CARRIER, "<", "INVITE", "1 INVITE"), branch="other")
    assert traced(*heard(*CALL), *in_time).stale_ms == []


def test_calls_are_standing_ringing_or_new_by_the_moment_of_the_fault() -> None:
    messages = heard(*CALL)
    for number, late_ms in ((2, 3000), (3, 4000)):
        shifted = [(at_ms + late_ms, *rest) for at_ms, *rest in CALL]
        messages += heard(*shifted, name=str(number))  # type: ignore[arg-type]
    found = tally(trace(sorted(messages)), 3200, 6000)
    assert (found.standing, found.ringing, found.new, found.lost) == (1, 1, 1, 0)
    assert tally(trace(sorted(messages)), 5600, 6000).standing == 2


def test_a_slow_answer_is_seen() -> None:
    slow = [*CALL[:2], (3501, *CALL[2][1:]), (3502, *CALL[3][1:])]
    ended = [(at_ms + 3000, *rest) for at_ms, *rest in CALL[4:]]
    found = tally([traced(*heard(*slow, *ended))], 0, 9000)  # type: ignore[arg-type]
    assert (found.slow, found.worst_setup_ms, found.lost) == (1, 3002, 0)


def test_the_longest_gap_lies_between_answers_and_the_edges_of_the_span() -> None:
    asked = [float(ms) for ms in range(0, 1000, 100)]
    answered = [None if 300 <= ms < 600 else ms + 1 for ms in asked]
    assert longest_gap_ms(asked, answered, 0, 900) == 400
    assert longest_gap_ms(asked, [None] * 10, 0, 900) == 900


def test_a_caller_that_stood_still_is_known_by_the_pause_between_its_calls() -> None:
    calls = [Call(str(at_ms), at_ms) for at_ms in (0.0, 50.0, 300.0, 350.0)]
    assert stall_ms(calls, 50.0, 0.0, 1000.0) == 200.0
