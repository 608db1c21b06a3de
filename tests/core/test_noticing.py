# SPDX-License-Identifier: GPL-2.0-or-later
"""A death acts at once, a hang is killed first, and a peer takes over where a restart is felt."""

from dataclasses import replace

import pytest

from agent.core.care_rows import FELT_MS, MOVE_WITHIN_MS, STOP_AGAIN_MS
from agent.core.model import Answer, Checked, Died, Lives
from agent.core.orders import ControlService, Tell
from tests.core.agents import COLD, DOWN, KAMAILIO, NO, TCP, UP, YES, AgentPlay, ask, does, serving
from tests.core.agents import standby as backup
from tests.core.playbook import ANY, after

RESTART, KILL, STOP, STATUS = does("restart"), does("kill"), does("stop"), does("status")
TOLD = ANY(Tell)
SERVICE = "service kamailio of sbc"
AUTO = replace(KAMAILIO, on_death="auto")
SILENT = Checked("sbc", "kamailio", "tcp", Answer(False, "no answer within 1000 ms", 1000))
HUNG = (SILENT, SILENT)


def lives(pid=4711, service="kamailio"):
    return Lives("sbc", service, pid)


def died(pid=4711, service="kamailio"):
    return Died("sbc", service, pid)


def alone(**service):
    """It serves, its main process is known, and no peer could take the group."""
    play = serving(services=(replace(AUTO, **service),))
    return play.given(lives(), play.keeper("active", peer_ready=False))


def paired(**service):
    """The same with a ready peer."""
    return serving(services=(replace(AUTO, **service),)).given(lives())


def verbs(play, *events):
    return [action.verb for action in play.said(ControlService, *events)]


# ---------------------------------------------------------------- deaths


def test_a_death_is_acted_on_at_once_whatever_the_checks_say():
    play = alone()
    assert play >> YES >> died() << TOLD << RESTART << TOLD
    assert play.rules(SERVICE)[-1] == "C-DIED"
    assert play.care.detail == "main process 4711 is gone"


@pytest.mark.parametrize("event", [died(4710), died(0), died(service="other")])
def test_the_death_of_another_process_says_nothing(event):
    play = alone()
    assert play >> event
    assert play.care.well


def test_a_service_whose_main_process_died_is_down_though_its_workers_answer():
    play = alone().given(ask("maintenance", on=True), died())
    play.given(YES, YES)
    assert not play.role.serves_well(play.now)
    play.given(ask("maintenance", on=False))
    assert verbs(play, after(2000)) == ["restart"]


def test_a_service_that_systemd_started_again_by_itself_is_not_dead_any_more():
    play = alone().given(ask("maintenance", on=True), died(), lives(4712))
    assert verbs(play, ask("maintenance", on=False), after(5000)) == []
    assert play.care.well


def test_the_death_of_what_is_being_restarted_is_no_other_fault():
    play = alone().given(*DOWN)
    assert play >> died()
    play.given(play.done(), lives(4712))
    assert play.care.state == "proving"


def test_a_service_that_dies_while_it_is_proved_is_started_once_more_and_then_given_up():
    play = alone().given(died())
    play.given(play.done(), lives(4712))
    assert verbs(play, died(4712)) == ["restart"]
    play.given(play.done(), lives(4713))
    assert verbs(play, died(4713)) == []
    assert play.care.state == "spent"


# ---------------------------------------------------------------- hangs


def test_a_service_that_hangs_is_killed_before_it_is_restarted():
    play = alone()
    assert play >> SILENT
    assert play >> SILENT << TOLD << KILL << TOLD
    assert play.care.state == "felling"
    assert play >> died()
    assert play >> play.done() << RESTART << TOLD
    assert play.rules(SERVICE)[-2:] == ["C-HUNG", "C-FELLED-DONE"]


@pytest.mark.parametrize("outcome", ["failed", "unknown"])
def test_what_cannot_be_killed_is_restarted_all_the_same(outcome):
    play = alone().given(*HUNG)
    assert verbs(play, getattr(play, outcome)()) == ["restart"]


def test_wrong_answers_are_no_hang():
    assert verbs(alone(), *DOWN) == ["restart"]


def test_silence_of_what_has_no_known_main_process_is_no_hang():
    play = alone().given(lives(0))
    assert verbs(play, *HUNG) == ["restart"]


def test_a_hung_service_without_a_restart_left_is_killed_all_the_same():
    play = alone(restarts=0)
    assert verbs(play, *HUNG) == ["kill"]
    assert play.care.state == "spent"


def test_a_service_that_hangs_from_its_start_on_is_killed_before_the_next():
    play = alone().given(died())
    play.given(play.done(), lives(4712))
    assert verbs(play, *HUNG) == []
    late_ms = KAMAILIO.start_within_ms + 4000
    assert verbs(play, after(late_ms)) == ["kill"]
    assert play.rules(SERVICE)[-1] == "C-MUTE-HUNG"


def test_people_hear_of_the_hang_once_and_of_the_restart():
    kinds = [kind for kind, _ in alone().told(*HUNG)]
    assert kinds == ["service-down", "service-hung"]


# ---------------------------------------------------------------- restart here, or move first


def test_where_a_peer_is_ready_it_takes_the_group_before_the_restart():
    play = paired()
    assert verbs(play, died()) == []
    assert play.care.state == "moving"
    assert not play.word.ready
    assert verbs(play, play.keeper("backup")) == ["restart"]
    assert play.role.state == "standby", "a passing fault: nobody is quarantined for it"
    play.given(play.done(), *UP)
    assert play.care.well


def test_a_hung_service_is_killed_while_the_group_moves():
    play = paired()
    assert verbs(play, *HUNG) == ["kill"]
    assert play.care.state == "moving"
    assert verbs(play, died(), play.keeper("backup")) == ["restart"]


def test_a_group_that_nobody_takes_in_time_is_mended_in_place():
    play = paired().given(died())
    assert verbs(play, after(MOVE_WITHIN_MS - 1000)) == []
    assert verbs(play, after(2000)) == ["restart"]


def test_a_service_that_answers_again_before_the_group_has_gone_keeps_it():
    play = paired().given(*DOWN)
    assert play.care.state == "moving"
    play.given(*UP)
    assert play.care.well
    assert play.word.ready


def test_a_start_that_callers_do_not_notice_is_tried_in_place_once():
    play = paired(starts_in_ms=FELT_MS - 1)
    assert verbs(play, died()) == ["restart"]
    play.given(play.done(), lives(4712), *UP)
    assert verbs(play, died(4712)) == []
    assert play.care.state == "moving"


def test_how_long_a_start_takes_is_measured():
    play = paired(on_death="restart").given(died(), after(100))
    play.given(play.done(), lives(4712), after(150), YES, YES)
    assert play.care.starts_in_ms == 250
    assert play.care.well


def test_a_slow_start_counts_as_the_slowest_of_the_last():
    play = paired(on_death="restart")
    for pid, took_ms in ((4711, 700), (4712, 150)):
        play.given(died(pid), after(took_ms))
        play.given(play.done(), lives(pid + 1), *UP)
    assert play.care.starts_in_ms == 700


@pytest.mark.parametrize(("on_death", "state"), [("restart", "restarting"), ("move", "moving")])
def test_the_operator_may_say_which(on_death, state):
    assert paired(on_death=on_death, starts_in_ms=100).given(died()).care.state == state


def test_a_standby_restarts_its_own_service_in_place():
    play = backup(services=(AUTO,)).given(lives())
    assert verbs(play, died()) == ["restart"]


def cold(**service):
    """A cold group in service here, whose peer could bring it up."""
    play = AgentPlay("lon1", standby=COLD, services=(replace(AUTO, **service),))
    play.given(play.keeper("active", able=("sbc",)), *UP, lives(), after(1000))
    assert play.care.well
    assert play.care.peer_ready
    return play


def test_a_cold_peer_would_have_to_start_it_as_well_so_it_is_restarted_here_first():
    assert verbs(cold(), died()) == ["restart"]


def test_where_a_peer_could_serve_two_starts_that_fail_are_enough():
    play = cold(restarts=5).given(died())
    assert verbs(play, play.failed()) == ["restart"]
    play.given(play.failed())
    assert play.care.state == "spent"
    assert play.care.budget.left(play.now) == 3


def test_where_no_peer_could_serve_the_whole_budget_is_used():
    play = alone(restarts=4).given(died())
    for _ in range(3):
        assert verbs(play, play.failed()) == ["restart"]
    play.given(play.failed())
    assert play.care.state == "spent"


def test_given_up_for_a_peer_that_is_gone_then_it_is_tried_again_here():
    play = paired(restarts=5, on_death="restart").given(died())
    play.given(play.failed())
    play.given(play.failed())
    assert play.care.state == "spent"
    assert verbs(play, after(5000)) == []
    assert verbs(play, play.keeper("active", peer_ready=False), after(2000)) == ["restart"]


# ---------------------------------------------------------------- what stands on what

DB = replace(AUTO, name="db", unit="db.service", checks=(replace(TCP, name="sql"),))
APP = replace(AUTO, after=("db",))


DB_UP = (Checked("sbc", "db", "sql", Answer(True, "", 1)),) * 2


def pair():
    """kamailio stands on db; nobody else could serve."""
    play = serving(services=(APP, DB)).given(*DB_UP, after(3000), lives(10, "db"), lives())
    play.given(play.keeper("active", peer_ready=False))
    assert [care.state for care in play.role.cares] == ["well", "well"]
    return play


def db(verb):
    return ANY(ControlService, service="db", verb=verb)


def test_what_stands_on_a_sick_service_waits_until_that_is_well_and_is_not_told_of():
    play = pair()
    assert play >> died(10, "db") << TOLD << db("restart") << TOLD
    op_id = play.op_id()
    assert play >> NO >> NO
    assert play.care.well
    done = play.done()
    assert done.op_id == op_id
    assert verbs(play, done, DB_UP[0]) == []
    assert verbs(play, DB_UP[1]) == ["restart"], "db is well, kamailio still does not answer"
    assert play.care.budget.left(play.now) == 1


def test_what_answers_again_by_itself_is_let_be():
    play = pair().given(died(10, "db"))
    done = play.done()
    play.given(*DOWN, *UP, done)
    assert verbs(play, *DB_UP, after(3000)) == []


# ---------------------------------------------------------------- stops that fail


def stopping():
    """A cold service that is to end here, for another node serves."""
    play = cold()
    play.given(play.keeper("backup"))
    assert play.care.state == "stopping"
    return play


def test_a_stop_that_fails_twice_ends_in_a_kill():
    play = stopping()
    assert verbs(play, play.failed()) == []
    assert verbs(play, after(STOP_AGAIN_MS + 1000)) == ["stop"]
    assert verbs(play, play.failed()) == ["kill"]
    play.given(play.done())
    assert play.care.state == "off"


def test_what_an_earlier_agent_left_running_is_stopped_at_once():
    play = AgentPlay("lon1", standby=COLD, services=(AUTO,))
    assert verbs(play, play.keeper("backup")) == ["status"]
    assert verbs(play, play.done(running=True)) == ["stop"]
    play.given(play.done())
    assert play.care.state == "off"


def stuck():
    play = stopping()
    play.given(play.failed(), after(STOP_AGAIN_MS + 1000))
    play.given(play.failed())
    return play


def test_what_can_be_neither_stopped_nor_killed_is_paged_and_looked_at_until_it_is_gone():
    play = stuck()
    assert ("stop-failed", "critical") in play.told(play.failed("stuck in the kernel"))
    assert play.care.state == "stuck"
    assert verbs(play, after(STOP_AGAIN_MS + 1000)) == ["status"]
    assert play.told(play.done(running=True)) == []
    assert verbs(play, after(STOP_AGAIN_MS + 1000)) == ["status"]
    assert ("stop-failed", "cleared") in play.told(play.done(running=False))
    assert play.care.state == "off"


def test_an_operator_has_what_is_stuck_stopped_again():
    play = stuck()
    play.given(play.failed())
    assert "stop" in verbs(play, ask("clear", group="sbc"))


def test_killed_and_needed_after_all_it_is_started_again():
    play = stuck()
    play.given(play.keeper("active"))
    assert "start" in verbs(play, play.done())
