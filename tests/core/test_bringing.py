# SPDX-License-Identifier: GPL-2.0-or-later
"""How a group comes into service on a node and goes out of it, step by step, and back."""

from dataclasses import replace

import pytest

from agent.core import steps
from agent.core.bringing import IDLE, STATES
from agent.core.model import Outcome
from agent.core.orders import (
    ControlService,
    FenceNode,
    KeepEpoch,
    PlaceStatus,
    ReadSessions,
    Reply,
    RunHook,
    ShipStatus,
)
from agent.core.settings import (
    CarriedSettings,
    Exclusive,
    FenceSettings,
    RealtimeSettings,
    ServiceSettings,
    Standby,
)
from tests.core.agents import (
    COLD,
    DOWN,
    OPERATIONS,
    UP,
    AgentPlay,
    ask,
    serving,
    settings,
    standby,
)
from tests.core.playbook import after

START, STOP, KILL = "start kamailio", "stop kamailio", "kill kamailio"
STATUS = CarriedSettings(status="/var/lib/kamailio/current-status.json")
SWITCH = ask("switchover", group="sbc")
LEASE = {"exclusive": Exclusive.LEASE, "standby": COLD}
ABLE = {"peer_ready": False, "able": ("sbc",)}
OUTLET = FenceSettings("command", off="off", status="status")


def left(play):
    return [a for a in play.all if isinstance(a, KeepEpoch) and a.name == "left:sbc"]


def did(play, *events):
    """What these events have the shell do, in its order, shortly."""
    return [_shortly(a) for a in play.said(OPERATIONS, *events) if _shortly(a)]


def _shortly(action):
    match action:
        case ControlService(_, _, service, verb, _):
            return f"{verb} {service}"
        case RunHook(_, _, hook, _, word):
            return f"{hook} {word}".strip()
        case ShipStatus(_, _, to, _, _):
            return f"ship {to}".strip()
        case PlaceStatus():
            return "place"
        case FenceNode(_, node, verb, _):
            return f"{verb} {node}"
        case ReadSessions():
            return "count"
    return ""


def refused(play):
    return [a.text for a in play.all if isinstance(a, Reply) and a.ok is False]


def stopped(play):
    """The service's stop is done."""
    return play.given(play.done())


# ---------------------------------------------------------------- the table


def test_every_state_can_be_reached_and_no_row_is_in_anothers_shadow():
    assert steps.TABLE.reachable(IDLE) == set(STATES)
    assert steps.TABLE.shadowed() == []


def test_every_step_that_waits_for_an_operation_knows_all_three_of_its_ends():
    waits = {"fencing", "placing", "promoting", "demoting", "shipping", "marking"}
    for state in waits:
        for end in ("done", "failed", "unknown"):
            assert steps.TABLE.listens(state, end), (state, end)


# ---------------------------------------------------------------- cold, with a status


def test_the_last_status_is_placed_before_the_service_is_started():
    play = standby(standby=COLD, carried=STATUS)
    assert did(play, play.keeper(orphaned=True)) == ["place"]
    assert did(play, play.done(age_ms=400, epoch=3)) == [START]
    play.given(play.done(), *UP)
    assert play.word.ready


def test_where_no_status_was_ever_carried_the_service_begins_with_its_own():
    play = standby(standby=COLD, carried=STATUS)
    play.given(play.keeper(orphaned=True))
    assert did(play, play.failed("none was ever received", none=True)) == [START]


def test_a_status_that_cannot_be_used_leaves_the_group_to_the_next_node():
    play = standby(standby=COLD, carried=STATUS)
    play.given(play.keeper(orphaned=True))
    assert did(play, play.failed("it does not load")) == []
    assert play.role.state == "quarantine"
    assert not play.word.able
    assert not play.word.ready


def test_placing_that_timed_out_is_done_again_once():
    play = standby(standby=COLD, carried=STATUS)
    play.given(play.keeper(orphaned=True))
    assert did(play, play.unknown()) == ["place"]
    play.given(play.unknown())
    assert play.role.state == "quarantine"


def test_services_wait_for_those_they_stand_on():
    database = ServiceSettings("database", unit="db.service")
    web = ServiceSettings("web", unit="web.service", after=("database",))
    play = standby(standby=COLD, services=(web, database))
    assert did(play, play.keeper(orphaned=True)) == ["start database"]
    play.given(play.done())
    assert did(play, after(2000)) == ["start web"]
    play.given(play.done(), after(2000), play.keeper("active"))
    assert did(play, play.keeper("backup")) == ["stop web"]
    assert did(play, play.done()) == ["stop database"]


def test_a_less_preferred_standby_waits_for_one_that_can_come_up_first():
    play = standby("lon2", standby=COLD)
    assert did(play, play.keeper(orphaned=True, able=("sbc",))) == []
    assert did(play, play.keeper(orphaned=True, able=())) == [START]


def test_one_that_never_comes_up_is_not_waited_for_without_end():
    play = standby("lon2", standby=COLD)
    assert did(play, play.keeper(orphaned=True, able=("sbc",)), after(39_000)) == []
    assert did(play, after(2_000)) == [START]


# ---------------------------------------------------------------- planned, cold, with a status


def leaving():
    play = serving(standby=COLD, carried=STATUS)
    play.given(play.keeper("active", **ABLE))
    return play


def test_a_planned_move_stops_ships_writes_down_and_only_then_offers():
    play = leaving()
    assert did(play, SWITCH) == [STOP]
    assert play.word.ready
    assert play.word.order == ""
    assert did(play, play.done()) == ["ship"]
    assert play.word.order == ""
    play.given(play.done(nodes={"lon2": ""}))
    assert left(play)
    assert play.word.order == ""
    play.given(Outcome(left(play)[-1].op_id, True))
    assert (play.word.order, play.word.to) == ("give", "")


def test_a_status_that_does_not_get_through_brings_the_service_back_here():
    play = leaving()
    play.given(SWITCH)
    play.given(play.done())
    assert did(play, play.done(nodes={"lon2": "disk full"})) == [START]
    assert "lon2: disk full" in refused(play)[-1]
    play.given(play.done(), *UP)
    assert play.core.roles["sbc"].way.state == "serving"
    assert play.word.ready


def test_a_peer_that_does_not_take_it_in_time_brings_it_back_here():
    play = leaving()
    play.given(SWITCH)
    play.given(play.done())
    play.given(play.done(nodes={"lon2": ""}))
    play.given(Outcome(left(play)[-1].op_id, True))
    assert did(play, after(50_000)) == [START]


def test_a_broken_service_with_a_status_is_stopped_before_it_is_offered():
    play = leaving().given(*DOWN)
    play.given(play.failed())
    play.given(play.failed())
    play.given(after(1000))
    assert play.word.ready  # not offered yet: a copy of it may still run here
    stop = [a for a in play.all if isinstance(a, ControlService)][-1]
    assert stop.verb == "stop"
    play.given(play.done())
    play.given(play.unknown())
    play.given(Outcome(left(play)[-1].op_id, True))
    assert play.word.order == "give"


def test_it_is_not_ordered_from_where_it_does_not_run():
    play = standby("lon2", standby=COLD, carried=STATUS)
    play.given(ask("switchover", group="sbc"))
    assert "goes out of service on lon1 first, in order: run this on lon1" in refused(play)[-1]


# ---------------------------------------------------------------- exclusive


def test_an_exclusive_group_is_not_started_before_the_lease_is_held():
    play = standby(**LEASE)
    assert did(play, play.keeper(orphaned=True, lease="refused")) == []
    assert play.word.claim
    assert did(play, play.keeper(orphaned=True, lease="asked")) == []
    assert did(play, play.keeper(orphaned=True, lease="held")) == [START]


def test_without_a_lease_people_are_told_what_to_do():
    play = standby(**LEASE)
    play.given(play.keeper(orphaned=True, lease="refused"), after(6000))
    assert "exclusive-blocked" in play.standing()
    assert did(play, after(60_000)) == []


def held(**kind):
    play = serving(**LEASE, **kind)
    return play.given(play.keeper("active", lease="held", **ABLE))


def test_a_lost_lease_kills_what_runs_and_is_given_up_only_when_that_is_seen():
    play = held()
    assert did(play, play.keeper("backup", lease="lost")) == [KILL, STOP]
    kill, stop = [a for a in play.all if isinstance(a, ControlService)][-2:]
    assert play.word.claim
    play.given(Outcome(kill.op_id, True))
    assert play.word.claim
    play.given(Outcome(stop.op_id, True))
    assert not play.word.claim


def test_a_kill_that_fails_is_tried_again_and_told():
    play = held()
    play.given(play.keeper("backup", lease="lost"))
    kill = [a for a in play.all if isinstance(a, ControlService)][-2]
    assert did(play, Outcome(kill.op_id, None, "timed out")) == [KILL]
    assert "stop-failed" in play.standing()


def test_a_lease_that_ends_unheard_kills_at_that_very_moment():
    play = held()
    until = play.now + 1300
    deed = play.keeper("active", lease="held", lease_until_ms=until, **ABLE)
    play.given(deed)
    assert did(play, after(1299)) == []
    assert did(play, after(1)) == [KILL, STOP]


def test_a_lease_that_is_lost_on_the_way_up_is_asked_for_again():
    play = standby(**LEASE)
    play.given(play.keeper(orphaned=True, lease="held"))
    assert did(play, play.keeper(orphaned=True, lease="lost")) == [KILL, STOP]
    assert play.role.state == "standby"
    for action in [a for a in play.all if isinstance(a, ControlService)][-2:]:
        play.given(Outcome(action.op_id, True))
    play.given(play.keeper(orphaned=True, lease="refused"), after(1000))
    assert play.role.state == "starting"
    assert play.word.claim


def test_a_planned_move_gives_the_lease_with_the_offer_and_not_before():
    play = held()
    play.given(SWITCH)
    assert play.word.claim
    stopped(play)
    assert play.word.claim
    play.given(Outcome(left(play)[-1].op_id, True))
    assert not play.word.claim
    assert play.word.order == "give"


def test_that_it_let_go_must_be_stored_before_anybody_else_may_start():
    play = held()
    play.given(SWITCH)
    stopped(play)
    assert did(play, Outcome(left(play)[-1].op_id, None, "no space")) == [START]
    assert play.word.claim
    assert play.word.order == ""
    assert "back in service here" in refused(play)[-1]


def fenced(tested=True):
    """lon2 owns it, falls silent, and can be switched off."""
    play = standby("lon1", fences={"lon2": OUTLET}, **LEASE)
    test = next(a for a in play.all if isinstance(a, FenceNode))
    assert (test.node, test.verb) == ("lon2", "test")
    play.given(Outcome(test.op_id, tested or None, "both outlets answer"))
    play.given(play.keeper("backup"))
    play.given(play.keeper(orphaned=True, peer="silent", lease="refused"))
    return play


def test_a_silent_owner_is_switched_off_before_its_group_is_started():
    play = fenced()
    assert did(play, after(5000)) == ["off lon2"]
    play.given(play.done())
    assert play.word.fenced == ("lon2",)
    held = play.keeper(orphaned=True, peer="silent", lease="held")
    assert did(play, held) == [START]


def test_a_fence_that_was_never_tested_well_is_not_used_and_people_know_before():
    play = fenced(tested=False)
    assert did(play, after(10_000)) == []
    assert "fence-unready" in play.standing()


@pytest.mark.parametrize("how", ["failed", "unknown"])
def test_one_that_is_not_seen_to_be_off_stays_an_obstacle(how):
    play = fenced()
    play.given(after(5000))
    play.given(getattr(play, how)())
    assert play.word.fenced == ()
    assert "fence-failed" in play.standing()
    assert did(play, after(5000)) == []


def test_an_operator_who_insists_says_that_the_other_one_is_off():
    play = standby("lon1", **LEASE)
    play.given(play.keeper("backup"))
    play.given(play.keeper(orphaned=True, peer="silent", lease="refused"))
    play.given(ask("failover", group="sbc", force=True))
    assert play.word.fenced == ("lon2",)


# ---------------------------------------------------------------- hot


HOT = {"promote": "promote-it", "demote": "demote-it"}


def test_a_hot_standby_is_promoted_when_it_has_the_addresses():
    play = standby("lon1", **HOT)
    assert did(play, play.keeper("active")) == ["promote"]
    play.given(play.done())
    assert did(play, play.keeper("backup")) == ["demote"]


def test_a_promotion_that_fails_twice_moves_the_group_on():
    play = standby("lon1", **HOT)
    play.given(play.keeper("active"))
    assert did(play, play.failed()) == ["promote"]
    play.given(play.failed("no licence"))
    assert "hook-failed" in play.standing()


def test_an_exclusive_hot_standby_is_promoted_before_it_has_the_addresses():
    play = standby(exclusive=Exclusive.LEASE, **HOT)
    assert not play.word.ready
    play.given(play.keeper(orphaned=True, lease="asked"))
    assert did(play, play.keeper(orphaned=True, lease="held")) == ["promote"]
    assert not play.word.ready
    play.given(play.done())
    assert play.word.ready


def test_an_agent_that_is_started_beside_a_serving_keeper_promotes_nothing():
    play = AgentPlay("lon1", **HOT).given(*UP)
    assert did(play, play.keeper("active", tenure=3)) == []
    assert play.core.roles["sbc"].way.state == "serving"


# ---------------------------------------------------------------- realtime


REAL = {
    "standby": Standby.REALTIME,
    "realtime": RealtimeSettings(
        sessions_kind="command", sessions="count", drain="drain-it", undrain="undrain-it",
        drain_first=True, ramp="ramp-it", steps_pct=(10, 50, 100), step_every_ms=10_000,
        deadline_ms=60_000,
    ),
}  # fmt: skip


def draining():
    play = serving(**REAL)
    play.given(play.keeper("active"), SWITCH)
    return play


def test_a_planned_switch_takes_no_new_work_and_waits_for_the_last_session():
    play = serving(**REAL)
    assert did(play, SWITCH) == ["drain", "count"]
    play.given(play.done(sessions=2))
    assert play.word.order == ""
    play.given(after(1000))
    play.given(play.done(sessions=0))
    assert play.word.order == "give"


def test_the_deadline_ends_the_wait():
    play = draining()
    play.given(play.done(sessions=2))
    play.given(after(61_000))
    assert play.word.order == "give"


def test_how_many_sessions_are_left_is_shown_to_who_asked():
    play = draining()
    play.given(play.done(sessions=12), after(1000))
    shown = [a.text for a in play.all if isinstance(a, Reply)][-1]
    assert "draining, 12 sessions are up" in shown


def test_an_unknown_number_of_sessions_is_not_none_left():
    play = draining()
    play.given(play.unknown(), after(30_000))
    assert play.word.order == ""


def test_after_a_move_the_load_comes_in_steps():
    play = standby("lon1", **REAL)
    assert did(play, play.keeper("active")) == ["ramp 10"]
    play.given(play.done())
    assert did(play, after(10_000)) == ["ramp 50"]
    assert did(play, after(10_000)) == ["ramp 100"]
    assert did(play, after(60_000)) == []


def giving():
    """The addresses go first, as they do where nothing else is said."""
    kind = REAL | {"realtime": replace(REAL["realtime"], drain_first=False), "demote": "demote-it"}
    play = serving(**kind)
    play.given(play.keeper("active"), SWITCH)
    assert play.word.order == "give"
    return play


def test_new_work_goes_to_the_other_node_at_once_and_the_old_sessions_end_here():
    play = giving()
    assert did(play, play.keeper("backup")) == ["drain", "count"]
    play.given(play.done(sessions=3))
    assert did(play, after(1000)) == ["count"]
    play.given(play.done(sessions=0))
    assert [a.hook for a in play.all if isinstance(a, RunHook)][-2:] == ["demote", "undrain"]


def test_old_sessions_have_their_time_and_no_more():
    play = giving()
    play.given(play.keeper("backup"))
    play.given(play.unknown(), after(61_000))
    assert [a.hook for a in play.all if isinstance(a, RunHook)][-2:] == ["demote", "undrain"]


def test_taken_back_before_the_last_session_went_it_takes_new_work_again():
    play = giving()
    play.given(play.keeper("backup"))
    play.given(play.done(sessions=3))
    assert did(play, play.keeper("active", epoch=9)) == ["undrain", "ramp 10"]


# ---------------------------------------------------------------- groups among each other


def test_a_group_waits_for_the_one_that_it_needs():
    config = settings("lon2", standby=COLD, after=("sbc-paris",))
    assert config.groups["sbc"].after == ("sbc-paris",)
    play = standby(standby=COLD, after=("sbc-paris",))
    assert did(play, play.keeper(orphaned=True, paris="silent")) == []
    assert "sbc-paris" in play.word.why
    assert did(play, play.keeper(orphaned=True)) == [START]
