# SPDX-License-Identifier: GPL-2.0-or-later
"""Calls through two real SIP servers while one of them is moved, killed, hung, cut or frozen.

Named after what goes wrong in the table of promises; what is asserted is calls, never times.
"""

from __future__ import annotations

import pytest

from tests.lab.sip_scene import (
    FROZEN,
    HOT,
    HUNG,
    KILLED,
    PLANNED,
    POWER,
    REALTIME,
    Event,
    Outcome,
    SipScene,
)

RATE, TALK_MS = 5.0, 1500.0


def through(event: Event, after_s: float, kind: str = HOT) -> Outcome:
    """Calls were up and new ones came in both halves, or nothing is proved."""
    with SipScene(kind, RATE, talk_ms=TALK_MS) as scene:
        outcome = scene.through(event, after_s)
    for felt in (outcome.fault, outcome.repair):
        assert felt.tally.standing >= RATE
        assert felt.tally.new >= RATE * after_s / 2
    return outcome


def felt(outcome: Outcome) -> dict[str, int]:
    """By callers and by the carrier, of the whole of it."""
    halves = outcome.fault.tally, outcome.repair.tally
    return {
        "standing": sum(half.standing_lost for half in halves),
        "ringing": sum(half.ringing_lost for half in halves),
        "new": sum(half.new_lost for half in halves),
        "ghosts": outcome.ghosts,
        "stale": sum(half.stale_invites for half in halves),
    }


NOTHING = {"standing": 0, "ringing": 0, "new": 0, "ghosts": 0, "stale": 0}


def repeats(outcome: Outcome) -> int:
    return outcome.fault.tally.repeats + outcome.repair.tally.repeats


def test_a_planned_switch_and_the_way_back_lose_no_call_and_no_message() -> None:
    outcome = through(PLANNED, 2.0)
    assert outcome.fault.taken_ms is not None
    assert outcome.repair.taken_ms is not None
    assert felt(outcome) == NOTHING
    assert repeats(outcome) == 0


@pytest.mark.parametrize("event", [KILLED, POWER], ids=lambda event: event.name)
def test_no_call_is_lost_where_a_server_or_its_power_goes_nor_when_it_is_back(
    event: Event,
) -> None:
    outcome = through(event, 3.0)
    assert outcome.fault.taken_ms is not None
    assert felt(outcome) == NOTHING


def test_a_hung_server_never_wakes_to_calls_that_are_served_elsewhere() -> None:
    outcome = through(HUNG, 3.0)
    assert outcome.fault.taken_ms is not None
    assert felt(outcome) == NOTHING
    assert outcome.repair.tally.repeats == 0


def test_a_node_that_was_frozen_takes_no_call_when_it_thaws() -> None:
    outcome = through(FROZEN, 3.0)
    assert outcome.fault.taken_ms is not None
    assert felt(outcome) == NOTHING
    assert outcome.repair.tally.repeats == 0


def test_calls_that_live_in_a_process_end_there_and_none_is_lost_by_a_planned_switch() -> None:
    outcome = through(PLANNED, 3.0, REALTIME)
    assert outcome.fault.taken_ms is not None
    assert outcome.repair.taken_ms is not None
    assert felt(outcome) == NOTHING
    assert repeats(outcome) == 0
