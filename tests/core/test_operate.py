# SPDX-License-Identifier: GPL-2.0-or-later
"""What operators may ask for; each refusal says what to do next."""

import pytest

from agent.core.orders import Record, Reply, TellKeeper
from agent.core.settings import NodeSettings
from tests.core.agents import COLD, DOWN, PLAIN, YES, AgentPlay, ask, does, serving, standby
from tests.core.playbook import ANY, after

SWITCH = ask("switchover", group="sbc")
PROGRESS = ANY(Reply, request_id=1, ok=None)


def last(play, *events):
    replies = play.said(Reply, *events)
    return (replies[-1].ok, replies[-1].text)


def refusal(play, *events):
    ok, text = last(play, *events)
    assert ok is False
    return text


# ---------------------------------------------------------------- switchover, here


def test_the_active_node_is_told_to_give_and_the_end_is_seen_not_assumed():
    play = serving()
    assert play >> SWITCH << PROGRESS
    assert (play.word.order, play.word.to) == ("give", "")
    play.given(after(300))
    assert last(play, play.keeper("backup", epoch=4)) == (
        True,
        "sbc: now on lon2 (epoch 4, 300 ms)",
    )
    assert play.word.order == ""


def test_a_named_node_is_passed_on():
    play = serving().given(ask("switchover", group="sbc", to="lon2"))
    assert (play.word.order, play.word.to) == ("give", "lon2")


def test_a_move_that_is_not_seen_to_be_done_is_given_up_in_time():
    play = serving().given(SWITCH)
    text = refusal(play, after(11_000))
    assert text == "sbc: not done in 10 s, given up; it is on lon1: standpipe explain sbc"
    assert play.word.order == ""


def test_a_cold_standby_gets_the_time_that_its_services_take():
    play = serving(standby=COLD).given(SWITCH)
    assert play.said(Reply, after(30_000)) == []
    assert "not done in 40 s" in refusal(play, after(11_000))


def test_a_group_without_a_ready_peer_is_not_given_and_says_why_for_each():
    play = serving()
    play.given(play.keeper("active", peer_ready=False))
    assert refusal(play, SWITCH) == (
        "nobody can take sbc (lon2 is alive, not ready): standpipe explain sbc there"
    )
    play.given(play.keeper("active", peer="silent"))
    assert "(lon2 is silent)" in refusal(play, SWITCH)
    assert play.word.order == ""


def test_a_cold_peer_need_not_be_ready_it_will_be_brought_up():
    play = serving(standby=COLD)
    play.given(play.keeper("active", peer_ready=False, able=("sbc",)))
    assert play >> SWITCH << PROGRESS


def test_where_it_is_already_it_need_not_go():
    assert refusal(serving(), ask("switchover", group="sbc", to="lon1")) == "sbc is on lon1 already"


def test_a_node_that_may_not_serve_it_is_refused_with_those_that_may():
    text = refusal(serving(), ask("switchover", group="sbc", to="par1"))
    assert text == "sbc may run on lon1, lon2; 'par1' is none of them"


def test_a_second_order_is_refused_while_the_first_is_on_its_way():
    play = serving().given(SWITCH)
    assert "is being moved already" in refusal(play, ask("switchover", 2, group="sbc"))


# ---------------------------------------------------------------- switchover, to a site


def two_sites(node):
    """Group sbc may run on lon1, lon2 in London and on par1 in Paris."""
    play = serving() if node == "lon1" else standby(node)
    nodes = play.core.settings.nodes
    nodes["lon2"] = NodeSettings("lon2", "docklands", nodes["lon2"].paths)
    return play


def test_a_site_means_a_ready_node_there():
    play = two_sites("lon1").given(ask("switchover", group="sbc", to="docklands"))
    assert (play.word.order, play.word.to) == ("give", "lon2")
    ok, text = last(play, play.keeper("backup", epoch=4))
    assert ok is True
    assert "now on lon2" in text


def test_a_site_means_this_node_where_it_is_there():
    play = two_sites("lon2").given(ask("switchover", group="sbc", to="docklands"))
    assert play.word.order == "take"
    play = two_sites("lon1")
    assert "is on lon1 already" in refusal(play, ask("switchover", group="sbc", to="london"))


# ---------------------------------------------------------------- switchover, from elsewhere


def test_a_standby_is_told_to_take():
    play = standby()
    assert play >> SWITCH << PROGRESS
    assert play.word.order == "take"
    assert last(play, play.keeper("active", epoch=4))[0] is True


def test_a_standby_that_is_not_ready_is_refused_with_its_reason():
    play = standby().given(*DOWN)
    assert refusal(play, SWITCH) == (
        "lon2 is not ready for sbc: service kamailio is restarting, down; mend that, or insist "
        "with: standpipe failover sbc --to lon2 --force"
    )


def test_a_forced_failover_takes_all_the_same_for_a_while():
    play = standby().given(*DOWN, ask("failover", group="sbc", force=True))
    assert (play.word.ready, play.word.order) == (True, "take")
    play.given(after(61_000))
    assert not play.word.ready


def test_a_failover_without_force_says_what_it_would_break():
    text = refusal(standby(), ask("failover", group="sbc"))
    assert "add --force, or try standpipe switchover sbc" in text


def test_a_move_to_another_standby_is_asked_for_there():
    play = standby("lon1")
    play.given(play.keeper("backup", active="", peer_state="backup"))
    text = refusal(play, ask("switchover", group="sbc", to="lon2"))
    assert text == "sbc is not on lon1: run this on the active node or on lon2"


def test_a_move_to_where_it_is_already_is_refused_elsewhere_too():
    text = refusal(standby(), ask("switchover", group="sbc", to="lon1"))
    assert text == "sbc is on lon1 already"


def test_a_cold_standby_is_brought_up_first():
    play = standby(standby=COLD)
    assert play >> SWITCH << PROGRESS << does("start")
    play.given(play.done(), YES)
    ready = [a.words["sbc"] for a in play.said(TellKeeper, YES)]
    assert (ready[0].ready, ready[0].order) == (True, "take")


# ---------------------------------------------------------------- plain peers


def behind(**kind):
    """A standby that is ready, and a plain peer that has the group."""
    play = standby("lon1", plain_peers=(PLAIN,), **kind)
    return play.given(play.keeper("backup", active=PLAIN, peer_ready=False))


def alone(**kind):
    """An owner with a plain peer and no node that could take over."""
    play = serving(plain_peers=(PLAIN,), **kind)
    return play.given(play.keeper("active", peer_ready=False))


def test_a_group_is_taken_from_a_plain_peer_when_told_to():
    play = behind()
    assert play >> ask("switchover", group="sbc", to="lon1") << PROGRESS
    assert (play.word.order, play.word.to) == ("take", "")
    assert last(play, play.keeper("active", epoch=4))[0] is True


def test_a_plain_peer_that_outranks_this_node_is_for_people_to_stop():
    play = behind().given(SWITCH)
    assert refusal(play, after(4000)) == (
        "sbc: not done in 3 s, given up; it is on plain peer 10.1.0.9: the priority of lon1 is not "
        "above its own; stop that router or lower its priority, then ask again"
    )
    assert play.word.order == ""


def test_a_move_from_a_plain_peer_to_another_node_is_asked_for_there():
    text = refusal(behind(), ask("switchover", group="sbc", to="lon2"))
    assert text == "sbc is not on lon1: run this on lon2"


def test_a_plain_peer_takes_no_orders():
    play = standby("lon1", plain_peers=(PLAIN, "10.1.0.8"))
    play.given(play.keeper("backup", active=PLAIN))
    assert refusal(play, ask("switchover", group="sbc", to=PLAIN)) == (
        "sbc is on plain peer 10.1.0.9 already"
    )
    assert refusal(play, ask("switchover", group="sbc", to="10.1.0.8")) == (
        "sbc is not on lon1: its owner takes no orders"
    )


@pytest.mark.parametrize("to", [None, PLAIN])
def test_a_group_is_given_to_a_plain_peer_where_no_node_can_take_it(to):
    play = alone()
    assert play >> ask("switchover", group="sbc", to=to) << PROGRESS
    assert (play.word.order, play.word.to) == ("give", "")
    assert last(play, after(300), play.keeper("backup", active=PLAIN)) == (
        True,
        "sbc: now on plain peer 10.1.0.9 (300 ms)",
    )
    assert play.word.order == ""


def test_a_node_that_is_ready_goes_before_a_plain_peer():
    play = serving(plain_peers=(PLAIN,))
    text = refusal(play, ask("switchover", group="sbc", to=PLAIN))
    assert text == (
        "lon2 is ready and goes before a plain peer: to have it pass, say there first: "
        "standpipe maintenance on"
    )


def test_a_node_that_is_not_ready_is_no_target_only_because_a_plain_peer_is_there():
    text = refusal(alone(), ask("switchover", group="sbc", to="lon2"))
    assert text.startswith("nobody can take sbc (lon2 is alive, not ready)")


def test_a_plain_peer_that_does_not_take_it_leaves_it_where_it_is():
    play = alone().given(SWITCH)
    text = refusal(play, after(11_000))
    assert text == "sbc: not done in 10 s, given up; it is on lon1: standpipe explain sbc"
    assert play.word.order == ""


def test_a_target_that_is_none_is_refused_with_the_plain_peers_too():
    text = refusal(alone(), ask("switchover", group="sbc", to="10.1.0.77"))
    assert text == "sbc may run on lon1, lon2, 10.1.0.9; '10.1.0.77' is none of them"


# ---------------------------------------------------------------- what is not there


@pytest.mark.parametrize("name", ["pbx", "", None])
def test_an_unknown_name_is_refused_with_the_known_ones(name):
    text = refusal(serving(), ask("switchover", group=name))
    assert text.endswith("there are: sbc, voice")


def test_an_unknown_verb_is_refused():
    assert "unknown verb 'dance'" in refusal(serving(), ask("dance"))


def test_every_request_is_written_down_with_who_asked():
    play = serving()
    (record, *_) = play.said(Record, SWITCH)
    assert (record.kind, record.subject, record.text) == (
        "operator",
        "root (uid 0)",
        "switchover group=sbc",
    )


def test_what_was_not_said_is_not_written_down():
    order = ask("failover", group="sbc", to=None, force=True, on=False)
    assert serving().said(Record, order)[0].text == "failover group=sbc force=True"


def test_the_end_of_a_move_is_written_down_too():
    play = serving().given(SWITCH)
    texts = [record.text for record in play.said(Record, play.keeper("backup", epoch=4))]
    assert "sbc: now on lon2 (epoch 4, 0 ms)" in texts


# ---------------------------------------------------------------- maintenance


def test_in_maintenance_a_standby_takes_nothing_over():
    play = standby()
    ok, text = last(play, ask("maintenance", on=True, for_s=60))
    assert ok
    assert text.startswith("maintenance is on for 60 s: lon2 watches and alarms")
    assert play.word.why == "maintenance is on"


def test_in_maintenance_an_owner_goes_on_serving():
    assert serving().given(ask("maintenance", on=True)).word.ready


def test_maintenance_that_is_switched_off_tells_nobody():
    play = standby().given(ask("maintenance", on=True))
    assert last(play, ask("maintenance", on=False)) == (True, "maintenance is off")
    assert play.word.ready
    assert play.told(after(3 * 3_600_000)) == []


def test_maintenance_that_is_forgotten_ends_by_itself_and_people_are_told():
    play = standby().given(ask("maintenance", on=True, for_s=60), after(59_000))
    assert not play.word.ready
    assert play.told(after(3000)) == [("maintenance-forgotten", "warning")]
    play.given(after(1000))
    assert play.word.ready
    assert play.told(ask("maintenance", on=False)) == [("maintenance-forgotten", "cleared")]


def test_maintenance_without_a_time_lasts_two_hours():
    play = standby().given(ask("maintenance", on=True), after(7_190_000))
    assert not play.word.ready
    assert play.told(after(20_000)) == [("maintenance-forgotten", "warning")]


@pytest.mark.parametrize("for_s", ["soon", 1.5, -1, [60]])
def test_maintenance_for_a_time_that_is_none_is_refused(for_s):
    play = standby()
    assert "give a whole number" in refusal(play, ask("maintenance", on=True, for_s=for_s))
    assert play.word.ready


# ---------------------------------------------------------------- clear


def test_clear_names_what_was_cleared():
    assert last(serving(), ask("clear")) == (True, "cleared: sbc; budgets are whole again")


def test_clear_of_what_is_not_here_is_refused():
    assert refusal(serving(), ask("clear", group="pbx")) == "no group 'pbx' here; there are: sbc"


def test_a_node_that_only_watches_says_so():
    play = AgentPlay("")
    assert "there are: none" in refusal(play, ask("clear", group="sbc"))
