# SPDX-License-Identifier: GPL-2.0-or-later
"""`announce_command`: once for each taking, again where it fails, never for another node."""

import pytest

from agent.core import announcing
from agent.core.model import Decision, Outcome
from agent.core.orders import ControlService, Tell
from tests.core.agents import CLEARED, UP, AgentPlay, ask, standby
from tests.core.playbook import after

NAME = announcing.called("sbc")
KIND = announcing.KIND


def play_of(**kind):
    return standby("lon1", announce_command="tell-cloud", **kind)


def runs(play, *events):
    """The commands that these events begin."""
    return [a for a in play.said(ControlService, *events) if a.service == NAME]


def took(play, tenure=4, rule="G-DOWN"):
    said = (Decision("group sbc", rule, "backup", "active", "as the table says"),)
    return play.keeper("active", tenure=tenure, epoch=tenure, decisions=said)


def failing(play, times):
    """So many tries that fail, each as soon as it is due."""
    for _ in range(times):
        play.given(play.failed("exit 1: no such route table"), after(31_000))
    return play


def told(play, *events):
    return [a.alarm for a in play.said(Tell, *events) if a.alarm.kind == KIND]


# ---------------------------------------------------------------- when it runs


def test_it_runs_once_when_the_keeper_has_taken_the_group():
    play = play_of()
    (run,) = runs(play, took(play))
    assert (run.group, run.verb, run.within_ms) == ("sbc", "start", 30_000)
    again = [play.keeper("active", tenure=4, epoch=4, peer_ready=ready) for ready in (False, True)]
    assert runs(play, play.done(), *again, after(60_000)) == []


def test_it_does_not_run_where_none_is_configured():
    play = standby("lon1")
    assert play.said(ControlService, took(play), after(60_000)) == []


def test_it_does_not_run_on_a_standby():
    play = play_of()
    elsewhere = Decision("group other", "G-DOWN", "backup", "active", "x")
    assert runs(play, play.keeper("backup", decisions=(elsewhere,)), after(60_000)) == []


@pytest.mark.parametrize("state", ["doubt", "giving"])
def test_a_keeper_that_is_not_sure_announces_nothing(state):
    play = play_of()
    assert runs(play, play.keeper(state, tenure=4)) == []
    assert len(runs(play, took(play))) == 1


@pytest.mark.parametrize("rule", sorted(announcing.TAKING))
def test_it_runs_again_when_the_group_was_taken_again(rule):
    play = play_of()
    play.given(took(play))
    play.given(play.done())
    assert len(runs(play, took(play, rule=rule))) == 1


def test_it_runs_again_under_a_later_epoch():
    play = play_of()
    play.given(took(play))
    play.given(play.done())
    assert len(runs(play, play.keeper("active", tenure=5, epoch=5))) == 1


def test_an_epoch_that_is_stored_late_is_no_second_taking():
    play = play_of()
    play.given(took(play, tenure=0))
    play.given(play.done())
    assert runs(play, play.keeper("active", tenure=5, epoch=5)) == []


def test_rules_that_take_nothing_announce_nothing():
    play = play_of()
    play.given(took(play))
    play.given(play.done())
    assert runs(play, took(play, rule="G-ADVERT"), took(play, rule="G-PUT-BACK")) == []


def test_an_agent_that_is_started_beside_an_active_keeper_runs_it():
    play = AgentPlay("lon1", announce_command="tell-cloud").given(*UP)
    assert len(runs(play, play.keeper("active", tenure=4))) == 1


def test_it_runs_again_after_the_group_was_away():
    play = play_of()
    play.given(took(play))
    play.given(play.done(), play.keeper("backup", epoch=5))
    assert len(runs(play, took(play, tenure=6))) == 1


def test_what_was_taken_while_it_ran_is_announced_when_it_has_ended():
    play = play_of()
    play.given(took(play))
    assert runs(play, took(play, tenure=6)) == []
    assert len(runs(play, play.done())) == 1
    assert runs(play, play.done(), after(60_000)) == []


def test_the_taking_rules_are_those_of_the_keepers_table():
    assert {"G-DOWN", "G-BURY", "G-TAKE-OFFER", "G-STILL-OURS"} <= announcing.TAKING
    assert "G-PUT-BACK" not in announcing.TAKING


# ---------------------------------------------------------------- when it fails


def test_a_failure_is_told_and_tried_again_three_times_ever_later():
    play = play_of()
    play.given(took(play))
    (alarm,) = told(play, play.failed("exit 1: no such route table"))
    assert alarm.subject == "group sbc"
    assert alarm.text == "exit 1: no such route table; tried again in 2 s"
    waits = []
    for _ in range(3):
        waits.append(play.until(ControlService))
        assert told(play, play.failed()) == []
    assert [round(ms / 1000) for ms in waits] == [2, 10, 30]
    assert runs(play, after(600_000)) == []
    (alarm,) = [alarm for alarm in play.core.alarms.standing() if alarm.kind == KIND]
    assert alarm.text.endswith("given up; mend it, then: standpipe clear sbc")


def test_a_command_that_did_not_end_in_time_has_failed():
    play = play_of()
    play.given(took(play))
    assert len(told(play, play.unknown("did not end within 30000 ms"))) == 1
    assert len(runs(play, after(3000))) == 1


def test_a_try_that_succeeds_is_told():
    play = play_of()
    play.given(took(play))
    failing(play, 2)
    (alarm,) = told(play, play.done())
    assert str(alarm.severity) == CLEARED
    assert runs(play, after(600_000)) == []


def test_it_is_not_tried_again_once_another_node_has_the_group():
    play = play_of()
    play.given(took(play))
    play.given(play.failed())
    (alarm,) = told(play, play.keeper("backup", epoch=5))
    assert str(alarm.severity) == CLEARED
    assert runs(play, after(600_000)) == []


def test_how_it_ended_after_the_group_had_left_is_nobodys_concern():
    play = play_of()
    play.given(took(play), play.keeper("backup", epoch=5))
    assert told(play, play.failed(), after(600_000)) == []


def test_an_answer_of_a_run_before_the_group_came_back_begins_the_next_one():
    play = play_of()
    play.given(took(play), play.keeper("backup", epoch=5))
    assert runs(play, took(play, tenure=6)) == []
    (run,) = runs(play, play.failed())
    assert told(play, Outcome(run.op_id, True)) == []
    assert KIND not in play.standing()


def test_an_operator_that_has_looked_has_it_tried_again():
    play = play_of()
    play.given(took(play))
    failing(play, 4)
    assert len(runs(play, ask("clear", group="sbc"))) == 1
    assert [str(alarm.severity) for alarm in told(play, play.done())] == [CLEARED]
    assert runs(play, ask("clear", group="sbc")) == []


# ---------------------------------------------------------------- what is run


def test_the_command_is_told_of_what_by_environment_whatever_the_names_hold():
    play = AgentPlay("lon1", announce_command="tell-cloud --now")
    told = announcing.command(play.role.settings, "it's lon1")
    assert told.start == (
        "export STANDPIPE_GROUP='sbc' STANDPIPE_NODE='it'\\''s lon1' "
        "STANDPIPE_ADDRESSES='10.1.0.100'; tell-cloud --now"
    )
