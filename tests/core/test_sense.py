# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether a keeper knows that it is the one that is cut off."""

from itertools import pairwise

import pytest

from agent.core.keeping import Announce, AskNeighbour, ReleaseAddresses, SendPeer, TakeAddresses
from tests.core.keepers import (
    ADVERT_MS,
    CLIENT,
    FLOATING,
    GATEWAY,
    READY,
    REAL,
    active,
    address,
    advert,
    agent_answer,
    answer,
    asks,
    backup,
    beat,
    handover,
    heard,
    neighbour,
    offers,
    says,
    seen,
    states,
    still_gives,
    word,
)
from tests.core.playbook import ANY, after, paused

ARP_GATEWAY = AskNeighbour("eth0", GATEWAY)
WITH_GATEWAY = {"gateways": (("eth0", GATEWAY),), "answering": (GATEWAY,)}
PROBED = {"probed": (("eth0", FLOATING),)}
YIELDED = ANY(SendPeer, kind="yielded", body={"group": "sbc", "epoch": 1, "to": "lon2"})


def knows_a_witness(play):
    """One that has answered a while ago; it is asked again whenever a peer is."""
    play.witnesses = 1
    return play.given(seen(CLIENT))


def goes_deaf(play):
    play.traffic = 0
    return play


def on(play, second, event=None):
    """Alive and well for some seconds; `event` with each advertisement."""
    for _ in range(second * 1000 // ADVERT_MS):
        play.given(*([event] if event else []), beat("lon2"), after(ADVERT_MS))
    return play


# ---------------------------------------------------------------- backup


def test_a_backup_that_hears_nothing_at_all_does_not_take_over():
    play = goes_deaf(knows_a_witness(backup()))
    play.given(after(20_000))
    assert not play.said(TakeAddresses, after(1))
    assert "G-BURY-DEAF" in play.rules()
    assert play.report().senses == {"eth0": "deaf"}


def test_a_backup_with_nobody_to_ask_takes_over_as_ever():
    play = goes_deaf(backup())
    assert play.until(TakeAddresses) < 400
    assert play.report().senses == {"eth0": "unknown"}


def test_a_witness_that_never_answered_proves_nothing():
    play = goes_deaf(backup())
    play.witnesses = 3
    assert play.until(TakeAddresses) < 400


def test_a_backup_whose_witness_answers_takes_over():
    play = goes_deaf(knows_a_witness(backup())).given(after(ADVERT_MS + 20))
    play.given(seen(CLIENT))
    assert play.until(TakeAddresses) < 200
    assert play.report().senses == {"eth0": "well"}


def test_traffic_alone_shows_that_it_is_not_deaf():
    assert knows_a_witness(backup()).until(TakeAddresses) < 400


def test_a_deaf_backup_that_hears_again_takes_over_within_its_next_question():
    play = goes_deaf(knows_a_witness(backup())).given(after(5000))
    play.traffic = 1
    assert play.until(TakeAddresses) < 500


def test_a_deaf_backup_that_hears_the_owner_again_follows_it():
    play = goes_deaf(knows_a_witness(backup())).given(after(5000))
    play.given(advert("lon1"), answer("lon1", play.core.peers["lon1"].round))
    assert play.report().senses == {"eth0": "hears"}
    for _ in range(20):
        play.given(advert("lon1"), after(ADVERT_MS))
    assert play.state == "backup"


def test_a_deaf_standby_says_that_it_is_not_ready():
    play = goes_deaf(knows_a_witness(backup())).given(after(1000))
    said = [a.body["g"]["sbc"] for a in play.said(SendPeer, after(1000)) if a.kind == "beat"]
    assert said
    assert not said[-1][1]


# ---------------------------------------------------------------- owner


def test_an_owner_that_falls_deaf_lets_go_and_says_to_whom():
    play = on(knows_a_witness(active()), 2)
    goes_deaf(play)
    play.until(ReleaseAddresses, within_ms=700)
    assert any(action == YIELDED for action in play.all)
    assert "G-DEAF-OWNER" in play.rules()
    assert play.state == "backup"


def test_an_owner_whose_peer_dies_goes_on_while_clients_are_heard():
    play = on(knows_a_witness(active()), 2)
    assert not play.said(ReleaseAddresses, after(30_000))
    assert play.peer("lon2") == "silent"


def test_an_owner_that_was_alone_already_keeps_serving_on_a_quiet_network():
    play = knows_a_witness(active()).given(after(10_000))
    goes_deaf(play)
    assert not play.said(ReleaseAddresses, after(30_000))


def test_one_that_let_go_takes_again_at_the_first_sound_when_nobody_else_has():
    play = goes_deaf(on(knows_a_witness(active()), 2)).given(after(5000))
    assert play.state == "backup"
    play.traffic = 1
    play.given(READY)
    assert play.until(TakeAddresses) < 600


def test_an_owner_that_was_paused_and_hears_nothing_lets_go():
    play = goes_deaf(on(knows_a_witness(active()), 2))
    play.given(paused(4000), after(200))
    assert play.rules()[-1] == "G-DOUBT-DEAF"
    assert play.state == "backup"


def test_silence_after_steady_traffic_has_the_peers_asked_at_once():
    play = on(active(), 2)
    goes_deaf(play)
    assert play >> after(ADVERT_MS) << says("lon1") << asks("lon2") << ARP_LON2


ARP_LON2 = AskNeighbour("eth0", REAL["lon2"])


def test_an_owner_that_a_peer_does_not_hear_and_nobody_answers_hands_over():
    """It is mute: it hears the others, by two networks, and none of them hears it on this one."""
    play = on(knows_a_witness(active()), 2)
    play.given(heard("lon2", "ask", {"id": 5, "u": "sbc"}), after(20), beat("lon2"))
    assert offers("lon2") in play.said(SendPeer, after(60))
    assert play.rules()[-1] == "G-GIVE-CUT"


def test_an_owner_that_is_not_heard_by_a_deaf_peer_stays():
    play = on(knows_a_witness(active()), 2).given(beat("lon2", ready=False))
    play.given(heard("lon2", "ask", {"id": 5, "u": "sbc"}), after(1000))
    assert play.state == "active"


def test_an_owner_whose_witness_answers_stays_when_a_peer_does_not_hear_it():
    play = on(knows_a_witness(active()), 2)
    play.given(heard("lon2", "ask", {"id": 5, "u": "sbc"}), seen(CLIENT), after(80))
    assert play.state == "active"
    assert play.report().senses == {"eth0": "well"}


def test_a_replayed_complaint_starts_nothing():
    play = on(knows_a_witness(active()), 2)
    play.given(heard("lon2", "ask", {"id": 5, "u": "sbc"}, fresh=False), after(80), beat("lon2"))
    assert play.state == "active"


def test_a_mute_owner_lets_go_to_a_peer_that_serves_and_hears():
    play = on(active(), 2)
    play.given(heard("lon2", "beat", {"g": {"sbc": ["active", True, 2, "", True]}}))
    for _ in range(3):
        play.given(advert("lon2"), after(20))
        assert play.state == "active"
    play.given(advert("lon2"))
    assert play.state == "backup"
    assert play.rules()[-1] == "G-MUTE"


def test_an_owner_never_lets_go_to_a_lesser_one_that_hears_nothing():
    play = on(active(), 2)
    play.given(heard("lon2", "beat", {"g": {"sbc": ["active", True, 2, "", False]}}))
    for _ in range(20):
        play.given(advert("lon2"), after(20))
    assert play.state == "active"


def test_the_question_about_missing_adverts_says_which_group():
    play = backup()
    asked = play.said(SendPeer, after(ADVERT_MS + 20))
    assert [a.body.get("u") for a in asked if a.kind == "ask"] == ["sbc"]


# ---------------------------------------------------------------- gateway


def test_a_backup_whose_gateway_is_silent_never_takes_over():
    play = backup(**WITH_GATEWAY)
    play.answering.clear()
    play.given(after(20_000))
    assert not any(isinstance(action, TakeAddresses) for action in play.all)
    assert play.report().senses == {"eth0": "deaf"}


def test_a_backup_whose_gateway_answers_takes_over_at_once():
    assert backup(**WITH_GATEWAY).until(TakeAddresses) < 400


def test_an_owner_that_loses_its_gateway_hands_over_to_one_that_has_it():
    play = on(active(**WITH_GATEWAY), 2)
    play.answering.clear()
    began = play.now
    while play.state == "active":
        play.given(after(100), beat("lon2"))
        assert play.now - began < 2500
    assert play.state == "giving"
    assert play.rules()[-1] == "G-GIVE-CUT"


def test_an_owner_that_loses_its_gateway_serves_on_where_nobody_is_better_off():
    play = active(**WITH_GATEWAY)
    play.answering.clear()
    for _ in range(200):
        play.given(beat("lon2", ready=False), after(100))
    assert play.state == "active"
    assert "G-CUT-STAY" in play.rules()
    assert play >> beat("lon2") >> word() << offers("lon2")


def test_a_gateway_is_asked_each_second_and_quickly_once_it_misses():
    play = active(**WITH_GATEWAY)
    play.answering.clear()
    asked = []
    began = play.now
    while play.now < began + 3000:
        asked += [play.now - began for a in play.said(AskNeighbour, after(10)) if a == ARP_GATEWAY]
    assert any(later - sooner <= 110 for sooner, later in pairwise(asked))


# ---------------------------------------------------------------- nobody has the address


def held(**kind):
    """The active node's kernel answers, and none of its processes."""
    play = backup(**PROBED, **kind).given(after(ADVERT_MS + 20))
    while play.peer("lon1") != "held":
        play.given(neighbour("lon1"), after(10))
    return play


def test_an_address_that_nobody_answers_for_is_taken():
    play = held()
    began = play.now
    while play.now < began + 1000:  # the kernel over there still has it
        play.given(neighbour("lon1"), seen(FLOATING), after(50))
    assert play.state == "backup"
    vanished = play.now
    while play.state == "backup":
        play.given(neighbour("lon1"), after(10))
        assert play.now - vanished < 500
    assert play.rules()[-1] == "G-VANISHED"


def test_an_address_is_not_taken_while_nothing_answers_at_all():
    play = held()
    play.given(after(600))
    assert "G-VANISHED-DEAF" in play.rules()
    assert "G-VANISHED" not in play.rules()


def test_a_standby_that_is_not_ready_says_that_the_group_is_orphaned():
    play = held().given(word(False))
    while not play.group.orphaned:
        play.given(neighbour("lon1"), after(10))
    assert "G-VANISHED-ORPHAN" in play.rules()


def test_a_keeper_that_is_restarted_ends_the_questions():
    play = held().given(advert("lon1"))
    assert not [a for a in play.said(AskNeighbour, after(150)) if a.address == FLOATING]


def test_an_agent_that_answers_alone_does_not_hide_that_the_address_is_gone():
    play = held()
    began = play.now
    play.given(agent_answer("lon1", play.asked_round("lon1")))
    while play.state == "backup":
        play.given(neighbour("lon1"), after(10))
        assert play.now < began + 1000


# ---------------------------------------------------------------- a peer that is away


def test_an_owner_calls_for_a_silent_peer_so_that_its_return_is_noticed():
    play = active().given(after(5000))
    assert play.peer("lon2") == "silent"
    calls = [a for a in play.said(AskNeighbour, after(1000)) if a == ARP_LON2]
    assert len(calls) >= 9
    later = play.given(after(70_000)).said(AskNeighbour, after(5000))
    assert len([a for a in later if a == ARP_LON2]) <= 10


def test_a_backup_calls_for_nobody():
    play = backup(nodes=("lon1", "lon2", "lon3")).given(after(100))
    for _ in range(60):
        play.given(advert("lon1"), beat("lon1", "active"), after(ADVERT_MS))
    assert play.peer("lon3") == "silent"
    calls = []
    for _ in range(10):
        calls += play.said(AskNeighbour, advert("lon1"), beat("lon1", "active"), after(ADVERT_MS))
    assert len(calls) <= 6  # the round that is repeated now and then


@pytest.mark.parametrize("state", ["active", "backup"])
def test_a_beat_says_whether_its_network_is_heard(state):
    play = on(active(), 2) if state == "active" else backup()
    [said] = [a.body["g"]["sbc"] for a in play.said(SendPeer, after(1000)) if a.kind == "beat"][:1]
    assert said[4] is True


# ---------------------------------------------------------------- cut off, and others are not


def test_a_cut_off_owner_leaves_it_to_a_peer_that_serves_already():
    play = on(knows_a_witness(active()), 2)
    play.given(heard("lon2", "beat", {"g": {"sbc": ["active", True, 1, "", True]}}))
    play.given(heard("lon2", "ask", {"id": 5, "u": "sbc"}), after(80))
    assert play.rules()[-1] == "G-CUT-SERVED"
    assert (play.state, play.group.active) == ("backup", "lon2")


def test_who_was_just_given_a_group_does_not_hand_it_back_for_being_cut_off():
    play = knows_a_witness(backup()).given(handover("lon1", 3))
    play.given(still_gives(play, "lon1"))
    assert play.state == "active"
    play.given(beat("lon1"))
    goes_deaf(play)
    for _ in range(10):
        play.given(beat("lon1"), after(ADVERT_MS))
    assert "G-GIVE-CUT" not in play.rules()


def test_a_deaf_owner_whose_peer_was_never_ready_lets_go_after_a_while():
    play = knows_a_witness(active())
    for _ in range(20):
        play.given(beat("lon2", ready=False), after(ADVERT_MS))
    goes_deaf(play).given(after(3000))
    assert "G-DEAF-LONG" in play.rules()
    assert "G-DEAF-OWNER" not in play.rules()
    assert play.state == "backup"


def test_an_offer_is_taken_only_once_the_own_gateway_answers():
    play = backup(**WITH_GATEWAY)
    play.answering.clear()
    play.given(after(500), advert("lon1"), handover("lon1", 3), still_gives(play, "lon1"))
    assert play.state == "backup"
    play.given(seen(GATEWAY), handover("lon1", 3))
    play.given(still_gives(play, "lon1"))
    assert play.state == "active"


def test_nothing_is_taken_from_one_that_serves_well_because_another_offers_it():
    play = backup("lon3", ("lon1", "lon2", "lon3"))
    play.given(heard("lon2", "beat", {"g": {"sbc": ["active", True, 5, "", True]}}))
    play.given(handover("lon1", 3))
    assert play.state == "backup"
    assert play.rules()[-1] == "G-DECLINE"


def test_a_peer_that_is_back_active_and_preferred_is_not_talked_over():
    play = active("lon2").given(after(6000))
    back = heard("lon1", "beat", {"g": {"sbc": ["active", True, 9, "", True]}})
    said = play.said(Announce, back)
    assert "G-BACK-RIVAL" in play.rules()
    assert not said


def test_an_address_that_was_removed_while_the_node_was_paused_is_asked_about():
    play = active()
    play.now += 1000
    play.given(address(False, "ip (pid 5)"))
    assert play.state == "doubt"
    assert play.rules()[-1] == "G-STOOD-STILL"


def test_a_gateway_alone_that_is_silent_makes_nobody_let_go_at_once():
    play = on(active(**WITH_GATEWAY), 2)
    play.answering.clear()
    goes_deaf(play)
    assert not play.said(ReleaseAddresses, after(2000))


def test_announcements_stay_bounded_whatever_happens():
    play = active().given(after(3000))
    said = []
    for _ in range(200):
        said += play.said(
            Announce, beat("lon2"), heard("lon2", "yielded", {"group": "sbc"}), after(50)
        )
    assert len(said) <= 20


def test_a_cut_off_owner_lets_go_when_it_hears_that_another_one_serves():
    play = on(knows_a_witness(active()), 2)
    goes_deaf(play)
    while play.state == "active":
        said = {"id": play.core.peers["lon2"].round, **states("backup", True, 0)}
        play.given(heard("lon2", "answer", said, path=1), after(5))
    assert play.state == "giving"
    said = {"group": "sbc", "id": play.offer_id(), "ok": False, "served": True, "epoch": 1}
    play.given(heard("lon2", "taken", said, path=1))
    assert play.rules()[-1] == "G-DECLINED-SERVED"
    assert play.state == "backup"
