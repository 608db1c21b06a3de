# SPDX-License-Identifier: GPL-2.0-or-later
"""A service is asked, restarted within its budget, given up, and stopped where it must not run."""

import pytest

from agent.core.model import Outcome
from agent.core.orders import ControlService, Record, Tell
from agent.core.settings import ServiceSettings
from tests.core.agents import (
    COLD,
    DOWN,
    KAMAILIO,
    NO,
    SIP,
    UP,
    YES,
    AgentPlay,
    ask,
    checked,
    does,
    serving,
    standby,
)
from tests.core.playbook import ANY, after

RESTART = does("restart")
START, STOP, STATUS = does("start"), does("stop"), does("status")
TOLD = ANY(Tell)
SERVICE = "service kamailio of sbc"


def restarts(play, *events):
    return [a for a in play.said(ControlService, *events) if a.verb == "restart"]


def broken():
    """Both restarts of the budget were used up and did not help."""
    play = serving().given(*DOWN)
    play.given(play.failed())
    play.given(play.failed())
    assert play.care.state == "spent"
    return play


# ---------------------------------------------------------------- restarts


def test_a_service_that_stops_answering_is_restarted():
    play = serving()
    assert play >> NO
    assert play >> NO << TOLD << RESTART << TOLD
    assert play.told() == []


def test_one_bad_answer_is_nothing():
    play = serving()
    assert play >> NO >> YES
    assert play.care.state == "well"


def test_a_restart_is_given_the_time_that_stopping_and_starting_may_take():
    (order,) = restarts(serving(), *DOWN)
    assert order.within_ms == KAMAILIO.stop_within_ms + KAMAILIO.start_within_ms


def test_after_a_restart_only_new_answers_count():
    play = serving().given(*DOWN)
    play.given(play.done())
    assert play.care.state == "proving"
    play.given(YES)
    assert play.care.state == "proving"
    play.given(YES)
    assert play.care.state == "well"


def test_a_second_fault_within_the_window_uses_the_second_restart_and_a_third_moves_the_group():
    play = serving()
    for left in (1, 0):
        play.given(*DOWN)
        assert play.care.budget.left(play.now) == left
        play.given(play.done(), *UP)
    assert restarts(play, *DOWN) == []
    assert play.care.state == "spent"
    assert not play.word.ready
    assert play.word.why == "service kamailio is broken here"


def test_a_restart_that_fails_is_tried_again_within_the_budget_and_then_given_up():
    play = serving().given(*DOWN)
    assert len(restarts(play, play.failed())) == 1
    assert restarts(play, play.failed()) == []
    assert play.care.state == "spent"


def test_a_restart_that_does_not_help_is_known_by_its_silence():
    play = serving().given(*DOWN)
    play.given(play.done())
    proving_ms = KAMAILIO.start_within_ms + 3 * 1000
    assert restarts(play, after(proving_ms - 1000)) == []
    assert len(restarts(play, after(2000))) == 1
    play.given(play.done(), after(proving_ms + 2000))
    assert play.care.state == "spent"


@pytest.mark.parametrize("rule", ["C-RESTART-UNKNOWN"])
def test_a_restart_that_timed_out_is_not_a_failure(rule):
    play = serving().given(*DOWN)
    assert restarts(play, play.unknown()) == []
    assert play.rules(SERVICE)[-1] == rule
    assert play.care.budget.left(play.now) == 1
    play.given(*UP)
    assert play.care.state == "well"


def test_a_late_outcome_of_an_earlier_order_says_nothing():
    play = serving().given(*DOWN)
    first = play.done()
    play.given(play.failed())
    assert play.care.state == "restarting"
    assert play >> first
    assert play.care.state == "restarting"


def test_an_outcome_that_nobody_waits_for_is_not_even_written_down():
    play = serving()
    assert play.said(Record, Outcome(9999, True)) == []


def test_a_spent_service_that_answers_again_is_well():
    play = broken().given(*UP)
    assert play.care.state == "well"
    assert play.word.ready


def test_a_restart_that_time_forgave_is_used():
    play = broken()
    assert len(restarts(play, after(601_000))) == 1


def test_an_operator_gives_the_whole_budget_back():
    play = broken()
    assert len(restarts(play, ask("clear", group="sbc"))) == 1
    assert play.care.budget.left(play.now) == 1


def test_in_maintenance_nothing_is_restarted_and_people_are_told_all_the_same():
    play = serving().given(ask("maintenance", on=True))
    assert ("service-down", "major") in play.told(*DOWN)
    assert restarts(play, after(60_000)) == []
    assert len(restarts(play, ask("maintenance", on=False), after(2000))) == 1


def test_in_maintenance_nothing_is_given_up_either():
    play = serving()
    for _ in range(2):
        play.given(*DOWN)
        play.given(play.done(), *UP)
    play.given(ask("maintenance", on=True), *DOWN)
    assert play.care.state == "well"
    assert play.word.ready


def test_in_maintenance_what_was_started_is_not_restarted():
    play = serving().given(*DOWN)
    play.given(play.done(), ask("maintenance", on=True))
    assert restarts(play, after(120_000)) == []
    assert play.care.state == "proving"


def test_in_maintenance_a_forgiven_restart_waits_for_its_end():
    play = broken().given(ask("maintenance", on=True))
    assert restarts(play, after(650_000)) == []
    assert len(restarts(play, ask("maintenance", on=False), after(3000))) == 1


def test_a_service_that_was_given_up_after_good_restarts_is_tried_again_in_time():
    play = serving()
    for _ in range(2):
        play.given(*DOWN)
        play.given(play.done(), *UP)
    play.given(*DOWN)
    assert play.care.state == "spent"
    assert len(restarts(play, after(602_000))) == 1


# ---------------------------------------------------------------- the first look


def test_a_service_that_is_found_dead_is_restarted_within_the_budget():
    play = AgentPlay()
    assert len(restarts(play, *DOWN)) == 1
    assert play.care.budget.left(play.now) == 1


def test_an_agent_that_has_just_begun_waits_for_answers():
    play = AgentPlay().given(YES)
    play.given(play.keeper())
    assert not play.word.ready
    assert play.word.why == "service kamailio is fresh, unknown"
    play.given(YES)
    assert play.word.ready


def test_a_service_that_nobody_can_ask_is_unknown_not_dead():
    play = AgentPlay()
    assert restarts(play, play.keeper(), *[checked(None)] * 20) == []
    assert not play.word.ready


@pytest.mark.parametrize("checks", [(), (SIP,)])
def test_a_service_that_a_standby_has_nothing_to_ask_of_does_not_keep_it_from_being_ready(checks):
    play = standby(services=(ServiceSettings("kamailio", unit="k.service", checks=checks),))
    assert play.word.ready


@pytest.mark.parametrize("checks", [(), (SIP,)])
def test_a_cold_service_that_there_is_nothing_to_ask_of_is_well_once_it_was_started(checks):
    services = (ServiceSettings("kamailio", unit="k.service", checks=checks),)
    play = standby(services=services, standby=COLD)
    play.given(play.keeper(orphaned=True))
    play.given(play.done(), after(1000))
    assert play.word.ready
    assert restarts(play, after(120_000)) == []


# ---------------------------------------------------------------- cold: start and stop


def cold(node="lon2"):
    play = AgentPlay(node, standby=COLD)
    return play.quiet(play.keeper("backup"))


def stopping():
    """A cold service that ran here and is being stopped, for another node serves."""
    play = cold()
    play.given(play.keeper(orphaned=True))
    play.given(play.done(), *UP)
    return play.given(play.keeper("backup"))


def test_a_cold_service_is_left_alone_until_it_is_wanted():
    play = cold()
    assert play >> play.keeper() >> NO >> NO >> YES >> YES >> after(60_000)
    assert play.care.state == "off"


def test_a_cold_service_is_started_once_and_must_answer():
    play = cold()
    assert play >> play.keeper(orphaned=True) << START
    assert play >> play.keeper(orphaned=True, epoch=4)
    play.given(play.done())
    assert not play.word.ready
    play.given(*UP)
    assert play.word.ready


def test_a_start_that_fails_is_tried_again_within_the_budget():
    play = cold()
    play.given(play.keeper(orphaned=True))
    assert play >> play.failed() << START
    play.given(play.failed())
    assert "C-NO-START" in play.rules(SERVICE)
    assert play.role.state == "quarantine"


def test_answers_that_came_while_the_start_was_on_its_way_are_asked_for_again():
    play = cold()
    play.given(play.keeper(orphaned=True), *UP)
    play.given(play.unknown())
    assert play.care.state == "proving"
    assert restarts(play, *UP) == []
    assert play.care.state == "well"


def test_a_service_that_is_not_wanted_any_more_is_stopped_and_seen_to_be():
    play = stopping()
    assert play.care.state == "stopping"
    play.given(play.done())
    assert play.care.state == "off"


def test_a_stop_that_timed_out_is_looked_at_before_anything_is_decided():
    play = stopping()
    assert play >> play.unknown() << STATUS
    assert play >> play.done(running=False)
    assert play.care.state == "off"


def test_a_service_that_still_runs_after_its_stop_is_stopped_again_later():
    play = stopping()
    play.given(play.unknown())
    assert play >> play.done(running=True)
    assert play.said(ControlService, after(4000)) == []
    assert [a.verb for a in play.said(ControlService, after(3000))] == ["stop"]


def test_a_look_that_tells_nothing_is_looked_at_again():
    play = stopping()
    play.given(play.unknown())
    assert play >> play.unknown() << STATUS


def test_wanted_again_while_it_stops_it_is_started_after_that():
    play = stopping()
    assert play >> play.keeper(orphaned=True)
    assert play >> play.done() << START


def test_the_addresses_came_back_while_it_stopped_so_it_is_started_after_that():
    play = stopping()
    play.given(play.keeper("active"))
    assert play >> play.done() << START


def test_not_wanted_after_all_while_it_stops_it_stays_off():
    play = stopping()
    play.given(play.keeper(orphaned=True), play.keeper("backup"), play.done())
    assert play.care.state == "off"
