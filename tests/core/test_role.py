# SPDX-License-Identifier: GPL-2.0-or-later
"""The part that a node plays in a group: standby, active, on probation, in quarantine."""

from dataclasses import replace

import pytest

from agent.core.orders import ControlService, KeepEpoch, TellKeeper
from agent.core.settings import Failback, ServiceSettings
from tests.core.agents import (
    COLD,
    DOWN,
    KAMAILIO,
    NO,
    PLAIN,
    SIP,
    TCP,
    UP,
    YES,
    AgentPlay,
    ask,
    checked,
    does,
    serving,
    standby,
    ups,
)
from tests.core.playbook import ANY, after

ROLE = "role sbc"
START, STOP = does("start"), does("stop")
MEDIA = ServiceSettings("rtpengine", unit="rtpengine.service")


def marks(play, *events):
    """What is stored about owning: ("owned" or "left", epoch)."""
    kept = [a for a in play.said(KeepEpoch, *events) if not a.name.startswith("group:")]
    return [(a.name, a.ceiling) for a in kept]


def broken(**kind):
    play = serving(**kind).given(*DOWN)
    play.given(play.failed())
    return play.given(play.failed())


# ---------------------------------------------------------------- ready


def test_a_hot_standby_whose_services_answer_is_ready():
    play = standby()
    assert play.role.state == "standby"
    assert (play.word.ready, play.word.why) == (True, "")


def test_a_standby_whose_service_stops_answering_is_not_ready_any_more():
    play = standby().given(*DOWN)
    assert not play.word.ready
    assert play.word.why == "service kamailio is restarting, down"


def test_an_answer_that_grew_old_proves_nothing():
    play = standby().given(after(3_600_000))
    assert play.word.why == "service kamailio is well, unknown"


def test_a_cold_standby_is_not_ready_and_says_why():
    play = standby(standby=COLD)
    assert play.word.why == "cold: its services are not running"


def test_an_owner_whose_service_is_being_restarted_keeps_the_group():
    play = serving().given(*DOWN)
    assert play.word.ready


def test_an_owner_whose_service_is_broken_should_not_keep_it():
    assert not broken().word.ready


# ---------------------------------------------------------------- took and left


def test_the_keepers_report_makes_it_active_never_its_own_wish():
    play = standby("lon1").given(ask("switchover", group="sbc"))
    assert play.role.state == "standby"
    play.given(play.keeper("active"))
    assert play.role.state == "active"


@pytest.mark.parametrize("state", ["active", "doubt", "giving"])
def test_it_is_active_while_the_keeper_holds_the_addresses(state):
    play = AgentPlay().given(*UP)
    play.given(play.keeper(state))
    assert play.role.state == "active"


def test_that_it_owns_the_group_and_that_it_let_go_are_stored():
    play = standby("lon1")
    assert marks(play, play.keeper("active", epoch=4)) == [("owned:sbc", 4)]
    assert marks(play, play.keeper("active", epoch=4, peer_ready=False)) == []
    assert marks(play, play.keeper("backup", epoch=5)) == [("left:sbc", 5)]


def test_a_group_that_went_away_healthy_makes_it_a_standby_again():
    play = serving().given(*UP)
    play.given(play.keeper("backup"))
    assert play.role.state == "standby"
    assert play.word.ready


def test_a_move_to_this_node_is_told_once():
    play = standby("lon1")
    assert ("group-moved", "minor") in play.told(play.keeper("active", epoch=4))
    assert play.told(play.keeper("active", epoch=4, peer_ready=False)) == []


def test_an_agent_that_is_started_anew_beside_an_active_keeper_tells_of_no_move():
    play = AgentPlay().given(*UP)
    assert play.told(play.keeper("active")) == []


# ---------------------------------------------------------------- cold


def test_an_orphaned_group_is_started_proved_and_only_then_taken():
    play = standby(standby=COLD)
    assert play >> play.keeper(orphaned=True) << START
    assert (play.role.state, play.word.ready) == ("starting", False)
    play.given(play.done(), YES)
    assert not play.word.ready
    assert [a.words["sbc"].ready for a in play.said(TellKeeper, YES)] == [True]
    play.given(play.keeper("active", epoch=4))
    assert play.role.state == "active"
    assert play.rules(ROLE) == ["R-ORPHAN", "R-TOOK"]


def test_services_start_in_order_and_stop_in_reverse():
    play = standby(standby=COLD, services=(MEDIA, KAMAILIO))
    starts = [a.service for a in play.said(ControlService, play.keeper(orphaned=True))]
    assert starts == ["rtpengine", "kamailio"]
    play.given(play.keeper("active"))
    stops = [a.service for a in play.said(ControlService, play.keeper("backup"))]
    assert stops == ["kamailio", "rtpengine"]


def test_a_peer_that_would_hand_over_makes_a_cold_standby_come_up():
    play = standby("lon2", standby=COLD)
    assert play >> play.keeper("backup", wanted="lon1")
    assert play >> play.keeper("backup", wanted="lon2") << START
    assert play.rules(ROLE) == ["R-WANTED"]


def test_not_needed_after_all_it_goes_down_again():
    play = standby(standby=COLD)
    play.given(play.keeper(orphaned=True))
    assert play >> play.keeper("backup") << STOP
    assert play.role.state == "standby"


def test_while_nobody_is_heard_to_serve_a_starting_standby_goes_on_starting():
    play = standby(standby=COLD)
    play.given(play.keeper(orphaned=True))
    assert play >> play.keeper("backup", active="", peer_state="backup")
    assert play.role.state == "starting"


def test_a_cold_standby_that_does_not_start_is_quarantined():
    play = standby(standby=COLD).given()
    play.given(play.keeper(orphaned=True))
    play.given(play.failed())
    assert ("group-quarantined", "critical") in play.told(play.failed())
    assert play.role.state == "quarantine"


def test_a_cold_owner_that_lost_the_group_stops_its_services():
    play = standby(standby=COLD)
    play.given(play.keeper(orphaned=True))
    play.given(play.done(), *UP, play.keeper("active"))
    assert play >> play.keeper("backup") << STOP


def test_a_cold_owner_whose_agent_is_started_anew_looks_after_what_runs():
    play = AgentPlay(standby=COLD)
    play.given(play.keeper("active"))
    assert play.care.state == "fresh"
    assert [a.verb for a in play.said(ControlService, *DOWN)] == ["restart"]


@pytest.mark.parametrize("how", ["left", "never started"])
def test_a_cold_node_in_quarantine_runs_nothing(how):
    play = standby(standby=COLD)
    play.given(play.keeper(orphaned=True))
    if how == "left":
        play.given(play.done(), *UP, play.keeper("active"), *DOWN)
        play.given(play.failed())
        play.given(play.failed())
        assert [a.verb for a in play.said(ControlService, play.keeper("backup"))] == ["stop"]
    else:
        play.given(play.failed())
        assert [a.verb for a in play.said(ControlService, play.failed())] == ["stop"]
    assert play.role.state == "quarantine"


# ---------------------------------------------------------------- the floating address


def asked_at_the_address(play, ok):
    return play.given(checked(ok, "sip"))


BOTH = (replace(KAMAILIO, checks=(TCP, SIP)),)


def test_an_owner_is_judged_by_its_floating_address_too():
    play = serving(services=BOTH)
    assert play.care.health(play.now) == "unknown"
    asked_at_the_address(play, True)
    assert play.care.health(play.now) == "up"
    asked_at_the_address(play, False)
    assert play.care.state == "restarting"


def test_a_standby_is_not_judged_by_an_address_that_is_elsewhere():
    play = asked_at_the_address(standby(services=BOTH), False)
    assert play.care.state == "well"
    assert play.word.ready


def test_who_gave_the_address_away_is_not_judged_by_it_any_more():
    play = asked_at_the_address(serving(services=BOTH), True)
    play.given(play.keeper("backup"))
    asked_at_the_address(play, False)
    assert play.care.state == "well"
    assert play.word.ready


# ---------------------------------------------------------------- quarantine, probation


def test_a_group_that_left_because_of_a_broken_service_quarantines_the_node():
    play = broken()
    assert ("group-quarantined", "critical") in play.told(play.keeper("backup"))
    assert play.role.state == "quarantine"
    assert play.rules(ROLE)[-1] == "R-LEFT-SICK"


def test_quarantine_ends_by_an_operator_in_probation_and_then_it_is_ready():
    play = broken()
    play.given(play.keeper("backup"))
    assert ("group-quarantined", "cleared") in play.told(ask("clear", group="sbc"))
    assert play.role.state == "probation"
    play.given(play.done(), *UP)
    play.given(after(29_000))
    assert not play.word.ready
    play.given(after(3000))
    assert play.role.state == "standby"
    assert play.word.ready


def test_a_fault_during_probation_begins_it_anew():
    play = AgentPlay(epochs={"owned:sbc": 5, "left:sbc": 4}).given(*UP)
    play.given(play.keeper(), after(20_000), *DOWN)
    play.given(after(1000), play.done(), *UP, after(29_000))
    play.given(after(29_000))
    assert play.role.state == "probation"  # twice as long as the first time
    play.given(after(5000))
    assert play.role.state == "standby"


def test_a_node_that_fell_while_it_owned_the_group_comes_back_on_probation():
    play = AgentPlay(epochs={"owned:sbc": 5, "left:sbc": 4}).given(*UP)
    play.given(play.keeper(epoch=6))
    assert play.role.state == "probation"
    assert play.word.why == "in probation"
    play.given(after(32_000))
    assert play.word.ready


def test_a_node_that_let_go_before_it_fell_needs_no_probation():
    play = AgentPlay(epochs={"owned:sbc": 5, "left:sbc": 6})
    assert play.role.state == "standby"


def test_probation_does_not_keep_the_group_down_where_nobody_serves():
    play = AgentPlay(epochs={"owned:sbc": 5}).given(*UP)
    play.given(play.keeper(orphaned=True))
    assert play.role.state == "standby"
    assert play.word.ready


def test_a_quarantined_node_does_not_take_even_an_orphan():
    play = broken()
    play.given(play.keeper("backup"), *UP, play.keeper(orphaned=True))
    assert play.role.state == "quarantine"
    assert not play.word.ready


# ---------------------------------------------------------------- failback


def failback(ms=600_000, node="lon1", **kind):
    play = AgentPlay(node, failback=Failback.AFTER, failback_ms=ms, **kind).given(*UP)
    return play.given(play.keeper())


def test_the_preferred_node_takes_back_after_its_time_of_good_health():
    play = failback().given(after(598_000))
    assert play.word.order == ""
    play.given(after(4000))
    assert play.word.order == "take"


def test_a_fault_in_between_begins_the_time_anew():
    play = failback().given(after(500_000), *DOWN)
    play.given(play.done(), *UP, after(400_000))
    assert play.word.order == ""


def test_the_less_preferred_node_never_takes_back():
    assert failback(node="lon2").given(after(2_000_000)).word.order == ""


def test_nothing_is_taken_back_in_maintenance_or_without_being_told_to():
    play = failback().given(ask("maintenance", on=True, for_s=86_400), after(2_000_000))
    assert play.word.order == ""
    play = standby("lon1").given(after(2_000_000))
    assert play.word.order == ""


def plain_failback(node="lon1", *, peer_ready=True, ms=600_000):
    """A plain peer has the group; the other node is heard."""
    kind = {"failback": Failback.AFTER, "failback_ms": ms, "plain_peers": (PLAIN,)}
    play = AgentPlay(node, **kind).given(*UP)
    return play.given(play.keeper("backup", active=PLAIN, peer_ready=peer_ready))


def test_from_a_plain_peer_it_is_taken_back_after_the_same_time():
    play = plain_failback().given(after(598_000))
    assert play.word.order == ""
    play.given(after(4000))
    assert (play.word.order, play.word.to) == ("take", "")


def test_of_two_nodes_the_ready_one_that_is_preferred_takes_back_from_a_plain_peer():
    assert plain_failback("lon2").given(after(700_000)).word.order == ""
    assert plain_failback("lon2", peer_ready=False).given(after(700_000)).word.order == "take"


def test_a_router_that_is_not_of_the_group_is_nobody_to_take_back_from():
    play = failback()
    play.given(play.keeper("backup", active="10.1.0.77"), after(700_000))
    assert play.word.order == ""


def test_a_cold_standby_that_was_starting_is_not_needed_once_a_plain_peer_serves():
    play = standby("lon1", standby=COLD, plain_peers=(PLAIN,))
    play.given(play.keeper(orphaned=True))
    stops = play.said(ControlService, play.keeper("backup", active=PLAIN))
    assert [stop.verb for stop in stops] == ["stop"]
    assert play.role.state == "standby"


# ---------------------------------------------------------------- threats


def test_power_that_ends_makes_the_node_that_it_feeds_unfit():
    play = serving("lon1").given(ups(1, 120))
    assert not play.word.ready
    assert "power of ups1 ends" in play.word.why


def test_power_that_ends_elsewhere_does_not():
    assert serving("lon2").given(ups(1, 120)).word.ready


def test_a_threat_that_is_over_is_forgotten():
    play = serving("lon1").given(ups(1, 120), ups(0, 120))
    assert play.word.ready


def test_a_cold_standby_under_threat_is_not_brought_up():
    play = standby("lon1", standby=COLD).given(ups(1, 120))
    assert play >> play.keeper(orphaned=True)
    assert play.role.state == "standby"


def test_words_are_told_only_where_they_changed():
    play = standby()
    assert play.said(TellKeeper, YES, NO, YES, play.keeper(), after(60_000)) == []
    assert len(play.said(TellKeeper, *DOWN)) == 1
    assert ANY(TellKeeper) in play.all


# ---------------------------------------------------------------- a peer serves meanwhile


def moved():
    """Its service died, and the ready peer has taken the group."""
    play = serving(services=(replace(KAMAILIO, on_death="move"),)).given(*DOWN)
    assert play.care.state == "moving"
    assert play.word.why == "service kamailio is failing here"
    return play.given(play.keeper("backup"))


def test_a_group_that_moved_for_a_passing_fault_finds_a_standby_again():
    play = moved()
    assert play.role.state == "standby"
    play.given(play.done(), *UP)
    assert play.word.ready


def test_where_the_service_cannot_be_mended_after_the_move_people_must_look():
    play = moved()
    play.given(play.failed())
    assert ("group-quarantined", "critical") in play.told(play.failed())
    assert play.role.state == "quarantine"


def test_a_standby_whose_service_breaks_by_itself_is_only_not_ready():
    play = standby().given(*DOWN)
    play.given(play.failed())
    play.given(play.failed())
    assert play.role.state == "standby"
    assert not play.word.ready
