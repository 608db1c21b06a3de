# SPDX-License-Identifier: GPL-2.0-or-later
"""Who owns a group's addresses: dialogues with one keeper, event in, actions out."""

from itertools import pairwise

import pytest

from agent.core.adverts import rank
from agent.core.election import down_ms, grace_ms, skew_ms
from agent.core.keeping import (
    Announce,
    AskNeighbour,
    Finish,
    RefreshAddresses,
    ReleaseAddresses,
    SendAdvert,
    SendPeer,
    TakeAddresses,
    Told,
)
from tests.core.keepers import (
    ADVERT_MS,
    ANNOUNCE,
    NOT_READY,
    PLUGGED,
    PRIORITY,
    READY,
    REAL,
    START,
    TAKE,
    UNPLUGGED,
    KeeperPlay,
    active,
    address,
    advert,
    agent_answer,
    answer,
    asks,
    backup,
    beat,
    claim,
    handover,
    heard,
    neighbour,
    offers,
    says,
    still_gives,
    taken,
    word,
    yielded,
)
from tests.core.playbook import ANY, WAKE, after, paused

THREE = ("lon1", "lon2", "lon3")
DOWN_MS = down_ms(PRIORITY["lon2"], ADVERT_MS)
LATE_MS = ADVERT_MS + grace_ms(ADVERT_MS)
ASKING_MS = 75
ARP_LON1 = AskNeighbour("eth0", REAL["lon1"])
ARP_LON2 = AskNeighbour("eth0", REAL["lon2"])
ARP_LON2 = AskNeighbour("eth0", REAL["lon2"])
RELEASE = ReleaseAddresses("sbc")
LINGER = after(8)
YIELDED = ANY(SendPeer, node="", kind="yielded")
GOODBYE = SendAdvert("sbc", 0)


def no_takeover(play):
    return not any(isinstance(action, TakeAddresses) for action in play.all)


# ---------------------------------------------------------------- start


def test_it_listens_first_then_asks_everybody_then_takes():
    play = KeeperPlay("lon2")
    assert play >> PLUGGED >> READY >> WAKE >> after(DOWN_MS - 1)
    assert play.state == "backup"
    assert play >> after(1) << asks("lon1") << ARP_LON1
    assert play >> after(25) << asks("lon1") << ARP_LON1
    assert play >> after(25) << asks("lon1") << ARP_LON1
    assert play >> after(24)
    assert play >> after(1) << TAKE << says("lon2") << ANNOUNCE
    assert play.state == "active"
    assert play.rules() == ["G-START", "G-ASK-ALL", "G-DOWN"]


def test_without_carrier_it_does_not_even_start():
    play = KeeperPlay("lon2")
    assert play >> READY >> after(10_000)
    assert play.state == "init"


def test_a_node_that_is_alone_in_its_group_asks_nobody():
    play = KeeperPlay("lon2", ("lon2",))
    assert play >> PLUGGED >> READY >> WAKE >> after(DOWN_MS) << TAKE << says("lon2") << ANNOUNCE


def test_an_advert_while_listening_is_followed():
    play = KeeperPlay("lon2").given(PLUGGED, READY, WAKE, after(DOWN_MS - 1))
    assert play >> advert("lon1") >> after(LATE_MS - 1)
    assert play.group.active == "lon1"


def test_a_peer_that_says_to_be_active_is_followed_though_its_adverts_are_not_heard():
    play = KeeperPlay("lon2").given(PLUGGED, READY, WAKE, beat("lon1", "active", epoch=4))
    play.given(after(DOWN_MS), answer("lon1", 1, "active"), after(100))
    assert no_takeover(play)
    assert "G-ELSEWHERE" in play.rules()
    assert play.group.active == "lon1"


def test_a_higher_priority_alone_takes_nothing_away():
    play = backup("lon1")
    assert play >> advert("lon2") >> after(ADVERT_MS) >> advert("lon2")
    assert play.state == "backup"


# ---------------------------------------------------------------- late, asked, buried


def test_adverts_in_time_are_followed_without_a_word():
    play = backup()
    for _ in range(20):
        assert play >> after(ADVERT_MS) >> advert("lon1")


def test_the_first_late_advert_asks_its_sender_at_once_in_every_way():
    play = backup()
    assert play >> after(LATE_MS - 1)
    assert play >> after(1) << asks("lon1") << ARP_LON1


def test_silence_in_two_ways_is_death_and_the_standby_takes_at_once():
    play = backup().given(after(LATE_MS))
    play.given(after(ASKING_MS - 1))
    assert no_takeover(play)
    assert play >> after(1) << TAKE << says("lon2") << ANNOUNCE
    assert play.rules()[-2:] == ["G-LATE", "G-BURY"]
    assert play.now - START < DOWN_MS + 700  # sooner than the RFC's time


def test_silence_in_the_only_way_waits_the_rfcs_time():
    play = backup(one_way=True)
    heard_at = play.now
    play.until(TakeAddresses)
    assert play.now - heard_at >= DOWN_MS
    assert "G-BURY" not in play.rules()
    assert play.rules("peer lon1")[-1] == "P-ONE-WAY"


def test_every_address_is_announced_at_once_and_twice_more_later():
    play = backup()
    play.until(TakeAddresses)
    taken_at = play.now
    announced = []
    while play.now < taken_at + 6000:
        announced += [play.now - taken_at for _ in play.said(Announce, after(ADVERT_MS))]
    assert announced[:4] == [400, 800, 1800, 2800]


def test_addresses_are_taken_before_anything_is_said_of_them():
    play = backup()
    play.until(TakeAddresses)
    taking = [a for a in play.all if isinstance(a, TakeAddresses | SendAdvert | Announce)]
    assert taking == [TakeAddresses("sbc", 3, 5), says("lon2"), ANNOUNCE]


def test_an_answer_that_it_is_active_ends_the_doubt():
    play = backup().given(after(LATE_MS))
    assert play >> answer("lon1", 1, "active", epoch=4) >> after(ASKING_MS)
    assert play.rules()[-1] == "G-UNHEARD"
    assert play.state == "backup"


def test_an_advert_ends_the_doubt_too():
    play = backup().given(after(LATE_MS))
    assert play >> advert("lon1") >> after(ASKING_MS)
    assert no_takeover(play)


def test_an_answer_to_an_earlier_question_is_not_believed():
    play = backup().given(after(LATE_MS), answer("lon1", 1, "active"), after(LATE_MS))
    assert play.asked_round("lon1") == 2
    play.given(answer("lon1", 1, "active"), after(ASKING_MS))
    assert play.state == "active"


def test_an_answer_after_the_verdict_changes_nothing():
    play = backup().given(after(LATE_MS + ASKING_MS))
    assert play >> answer("lon1", 1, "active")
    assert play.state == "active"


def test_an_answer_that_it_is_active_no_more_is_waited_on_for_the_skew_only():
    play = backup().given(after(LATE_MS))
    assert play >> answer("lon1", 1, "backup", ready=False)
    within = play.until(TakeAddresses)
    assert within <= skew_ms(PRIORITY["lon2"], ADVERT_MS)
    assert "G-LET-GO" in play.rules()


def test_a_keeper_that_is_restarted_meanwhile_is_not_replaced():
    play = backup().given(after(LATE_MS))
    play.given(answer("lon1", 1, "doubt", ready=False), after(ASKING_MS))
    assert play.rules()[-1] == "G-UNHEARD"
    assert no_takeover(play)


# ---------------------------------------------------------------- held


@pytest.mark.parametrize("sign", [agent_answer("lon1", 1), neighbour("lon1")])
def test_a_node_that_answers_while_its_keeper_is_silent_is_waited_for(sign):
    play = backup().given(after(LATE_MS), sign, after(2500))
    assert no_takeover(play)
    assert "G-HELD" in play.rules()
    assert play.peer("lon1") == "held"


def test_the_wait_ends_when_the_addresses_have_expired_by_themselves():
    play = backup()
    heard_at = play.now
    play.given(after(LATE_MS), agent_answer("lon1", 1))
    while play.state != "active":
        play.given(after(10))
        if play.core.peers["lon1"].gap_at:  # the node answers on and on
            play.given(agent_answer("lon1", play.asked_round("lon1")))
        assert play.now - heard_at < 5000
    lifetime_ms = play.core.config.lifetime_s * 1000
    assert play.now - heard_at >= lifetime_ms


def test_an_agents_answer_alone_never_says_that_the_keeper_lives():
    play = backup().given(after(LATE_MS), agent_answer("lon1", 1), after(ASKING_MS))
    assert play.rules("peer lon1")[-1] == "P-HELD"


def test_the_keeper_that_comes_back_in_time_is_followed_again():
    play = backup().given(after(LATE_MS), agent_answer("lon1", 1), after(1000))
    assert play >> beat("lon1", "active", epoch=4) << ARP_LON1
    assert play >> advert("lon1") >> after(ADVERT_MS)
    assert no_takeover(play)


# ---------------------------------------------------------------- our own pauses


def test_a_node_that_was_paused_distrusts_itself_not_the_peer():
    play = backup()
    assert play >> paused(1500)
    assert play.rules()[-1] == "G-SELF-LATE"
    assert play.state == "backup"


def test_after_a_pause_a_whole_interval_is_listened_again():
    play = backup().given(paused(1500))
    assert play >> after(LATE_MS - 1)
    assert play >> after(1) << asks("lon1") << ARP_LON1


def test_an_active_node_that_was_paused_asks_before_it_says_another_word():
    play = active()
    assert play >> paused(1000) << asks("lon2") << ARP_LON2
    assert play.state == "doubt"
    assert SendAdvert not in [type(a) for a in play.said(SendAdvert, after(60))]


def test_the_lifetime_of_the_addresses_is_renewed_while_in_doubt():
    play = active()
    assert play.said(RefreshAddresses, paused(2000))
    assert play.state == "doubt"


def test_paused_and_nobody_took_it_so_it_is_still_ours():
    play = active().given(paused(1000))
    number = play.asked_round("lon2")
    assert play >> answer("lon2", number, "backup") << TAKE << says("lon1") << ANNOUNCE
    assert play.rules()[-1] == "G-STILL-OURS"
    assert {a.epoch for a in play.all if isinstance(a, TakeAddresses)} == {1}


def test_paused_and_nobody_answers_so_it_is_still_ours():
    play = active().given(paused(1000), after(ASKING_MS))
    assert play.state == "active"


@pytest.mark.parametrize(
    "word_of_it",
    [
        lambda _: advert("lon2"),
        lambda _: advert("lon2", 250),
        lambda number: answer("lon2", number, "active", epoch=2),
    ],
)
def test_paused_and_replaced_lets_go_at_once(word_of_it):
    play = active().given(paused(1000))
    assert play >> word_of_it(play.asked_round("lon2")) << RELEASE << YIELDED
    assert play.state == "backup"
    assert play.group.active == "lon2"


def test_what_is_still_ours_is_advertised_on():
    play = active().given(paused(1000), answer("lon2", 0, "backup"), after(ASKING_MS))
    assert play.state == "active"
    assert play.until(SendAdvert) <= ADVERT_MS


def test_a_doubt_without_carrier_is_none():
    play = active().given(paused(1000))
    assert play >> UNPLUGGED << RELEASE
    assert play.state == "init"
    assert play.group.deadline() == 0


def test_the_old_answer_of_a_peer_does_not_settle_a_doubt():
    play = active().given(paused(1000))
    assert play >> answer("lon2", play.asked_round("lon2") - 1, "active")
    assert play.state == "doubt"


# ---------------------------------------------------------------- restarted keeper adopts


def adopted(node="lon1"):
    play = KeeperPlay(node).given(address(True), PLUGGED)
    assert play >> WAKE << asks("lon2") << ARP_LON2
    assert play.state == "doubt"
    return play


def test_a_restarted_keeper_adopts_its_addresses_and_finds_them_still_its_own():
    play = adopted()
    assert play >> answer("lon2", 1, "backup") << TAKE << says("lon1", 200) << ANNOUNCE
    assert play.rules() == ["G-ADOPT", "G-STILL-OURS"]


def test_a_restarted_keeper_that_has_not_heard_its_agent_yet_hands_nothing_over():
    play = adopted().given(answer("lon2", 1, "backup"))
    beats = [a.body["g"]["sbc"][3] for a in play.said(SendPeer, after(1500)) if a.kind == "beat"]
    assert beats
    assert set(beats) == {""}  # whom the group is wanted at: a cold one would start its copy


def test_a_restarted_keeper_that_was_replaced_lets_go():
    play = adopted()
    assert play >> answer("lon2", 1, "active", epoch=8) << RELEASE << YIELDED
    assert play.group.active == "lon2"


def test_adopted_addresses_are_renewed_at_once():
    play = KeeperPlay("lon1").given(address(True), PLUGGED)
    assert play.said(RefreshAddresses, WAKE, after(10))


def test_an_adopted_group_gets_a_new_epoch_with_the_agents_first_word():
    play = adopted().given(answer("lon2", 1, "backup"), word(epoch=6, ceiling=20))
    assert play.group.epoch == 7


def test_told_to_stop_in_doubt_it_lets_go():
    assert adopted() >> Told("stop") << RELEASE << Finish()


# ---------------------------------------------------------------- leaving


def test_priority_zero_is_taken_over_after_the_skew():
    play = backup()
    assert play >> advert("lon1", 0) >> beat("lon1", "init", ready=False)
    assert play.until(TakeAddresses) == skew_ms(PRIORITY["lon2"], ADVERT_MS)


def test_a_goodbye_is_not_believed_while_its_own_signed_word_says_that_it_is_active():
    play = backup().given(advert("lon1", 0), after(ADVERT_MS))
    assert "G-ELSEWHERE" in play.rules()
    assert play.state == "backup"


def test_priority_zero_of_another_is_answered_by_staying():
    assert active() >> advert("lon2", 0) << says("lon1")


def test_a_stop_without_a_ready_peer_says_goodbye_and_lets_go():
    play = active().given(beat("lon2", ready=False))
    assert play >> Told("stop") << GOODBYE << RELEASE << Finish()


def test_a_stop_with_a_ready_peer_hands_over_first():
    play = active()
    assert play >> Told("stop") << offers("lon2")
    assert play >> taken("lon2", play.offer_id())
    assert play >> LINGER << RELEASE << YIELDED << Finish()


def test_a_stop_whose_offer_is_declined_says_goodbye():
    play = active().given(Told("stop"))
    assert play >> taken("lon2", play.offer_id(), ok=False) << GOODBYE << RELEASE << Finish()


def test_a_stop_whose_offer_is_not_answered_does_not_wait_for_ever():
    play = active().given(Told("stop"))
    play.until(Finish, within_ms=1000)
    assert play.state == "init"
    assert play.core.out[-1] == Finish()


def test_a_restart_keeps_the_addresses():
    play = active()
    assert play >> Told("restart") << Finish()


# ---------------------------------------------------------------- hand-over


def test_a_hand_over_makes_before_it_breaks():
    play = active()
    assert play >> word(order="give") << offers("lon2")
    assert play >> after(39)  # silent, and still holding
    assert play >> taken("lon2", play.offer_id(), epoch=2)  # answers on their way still leave
    assert play >> LINGER << RELEASE << YIELDED
    assert play.rules()[-3:] == ["G-GIVE", "G-GIVEN", "G-PARTED"]
    assert play.group.active == "lon2"
    assert play.report().groups["sbc"].epoch == 2


def test_that_it_has_let_go_is_told_to_the_peers_at_once():
    play = active().given(word(order="give"))
    said = play.said(SendPeer, taken("lon2", play.offer_id()), LINGER)
    assert [a.body["g"]["sbc"][0] for a in said if a.kind == "beat"] == ["backup"]


def test_an_answer_to_an_earlier_offer_releases_nothing():
    play = active().given(word(order="give"))
    first = play.offer_id()
    play.given(taken("lon2", first, ok=False), after(1001), beat("lon2"), word(order="give"))
    assert play.offer_id() != first
    assert play >> taken("lon2", first)
    assert play.state == "giving"


def test_the_lifetime_is_renewed_while_it_waits_for_the_taker():
    play = active()
    while play.now - play.group.refreshed_ms < 880:
        play.given(after(1))
    assert play.state == "active"
    assert play.said(RefreshAddresses, word(order="give"), after(60))
    assert play.state == "giving"


def test_without_carrier_while_it_waits_for_the_taker_it_lets_go():
    play = active().given(word(order="give"))
    assert play >> UNPLUGGED << RELEASE
    assert (play.state, play.group.deadline()) == ("init", 0)


def test_an_offer_is_looked_at_before_it_is_taken():
    play = backup()
    assert play >> handover("lon1", 3, epoch=4) << asks("lon1") << ARP_LON1
    assert play.state == "backup"


def test_the_taker_takes_announces_and_only_then_says_so():
    play = backup().given(handover("lon1", 3, epoch=4))
    body = {"group": "sbc", "id": 3, "ok": True, "served": False, "epoch": 5}
    assert (
        play
        >> still_gives(play, "lon1")
        << TakeAddresses("sbc", 3, 5)
        << says("lon2")
        << ANNOUNCE
        << SendPeer("lon1", "taken", body)
    )


def test_an_offer_that_its_giver_has_given_up_is_not_taken():
    play = backup().given(handover("lon1", 3))
    play.given(answer("lon1", play.core.peers["lon1"].round, "active"))
    assert no_takeover(play)
    assert play.state == "backup"


def test_the_same_offer_again_is_answered_again_and_taken_once():
    play = backup().given(handover("lon1", 3))
    play.given(still_gives(play, "lon1"))
    assert play >> handover("lon1", 3) << ANY(SendPeer, node="lon1", kind="taken")


def test_the_givers_last_advert_does_not_look_like_a_conflict():
    play = backup("lon2").given(handover("lon1", 3))
    play.given(still_gives(play, "lon1"))
    assert play >> advert("lon1", 250) >> advert("lon1", 1)
    assert play.state == "active"
    play.given(after(1000), beat("lon1", "active"))
    play.given(advert("lon1", 250))
    assert play.state == "backup"


def test_a_taken_with_another_number_says_nothing_now():
    play = active().given(word(order="give"))
    assert play >> taken("lon2", play.offer_id() + 1)
    assert play.state == "giving"


def test_a_taken_from_somebody_else_says_nothing():
    play = active("lon1", THREE).given(word(order="give"))
    assert play >> taken("lon3", play.offer_id())
    assert play.state == "giving"


def test_an_offer_is_repeated_and_then_the_group_is_kept():
    play = active().given(word(order="give"))
    for _ in range(5):
        assert play >> after(40) << offers("lon2")
    assert play >> after(40) << says("lon1")
    assert play.state == "active"
    assert play.rules()[-1] == "G-KEEP"
    assert RELEASE not in play.all


def test_a_declined_offer_keeps_the_group_and_is_not_repeated_at_once():
    play = active().given(word(order="give"))
    assert play >> taken("lon2", play.offer_id(), ok=False) << says("lon1")
    assert play >> word(order="give")
    play.given(after(1000))
    assert play >> word(order="give") << offers("lon2")


@pytest.mark.parametrize(("priority", "rule"), [(190, "G-GIVEN-SEEN-2"), (250, "G-GIVEN-SEEN")])
def test_the_takers_advert_is_asked_about_for_it_may_be_old(priority, rule):
    play = active().given(word(order="give"))
    play.given(advert("lon2", priority))
    assert (play.rules()[-1], play.state) == (rule, "giving")
    number = play.core.peers["lon2"].round
    assert play >> answer("lon2", number, "active") >> LINGER << RELEASE << YIELDED
    assert play.rules()[-2:] == ["G-GIVEN-TOLD-2", "G-PARTED"]


def test_while_answers_are_on_their_way_the_takers_adverts_change_nothing():
    play = active().given(word(order="give"))
    play.given(taken("lon2", play.offer_id()))
    assert play >> advert("lon2", 250) >> after(7)
    assert play.state == "giving"


def test_a_named_taker_is_the_only_one_that_is_offered():
    play = active("lon1", THREE)
    assert play >> word(order="give", to="lon3") << offers("lon3")


def test_without_a_name_the_most_preferred_ready_peer_is_offered():
    play = active("lon1", THREE).given(beat("lon2", ready=False))
    assert play >> word(order="give") << offers("lon3")


def test_nobody_ready_to_give_to_keeps_serving():
    play = active().given(beat("lon2", ready=False))
    assert play >> word(order="give") >> NOT_READY
    assert play.state == "active"


def test_whom_it_waits_for_is_told_to_the_peers():
    play = active().given(beat("lon2", ready=False), word(order="give"))
    beats = [a for a in play.said(SendPeer, after(1000)) if a.kind == "beat"]
    assert beats[-1].body["g"]["sbc"][3] == "lon2"


def test_it_waits_for_the_peer_that_was_named_where_one_was():
    play = active("lon1", THREE)
    play.given(beat("lon2", ready=False), beat("lon3", ready=False), word(order="give", to="lon3"))
    beats = [a for a in play.said(SendPeer, after(1000)) if a.kind == "beat"]
    assert beats[-1].body["g"]["sbc"][3] == "lon3"


def test_a_sick_owner_hands_over_to_a_ready_peer():
    play = active()
    assert play >> NOT_READY << offers("lon2")
    assert play.rules()[-1] == "G-GIVE-SICK"


def test_a_node_that_is_not_ready_declines():
    play = backup().given(NOT_READY)
    refused = {"group": "sbc", "id": 3, "ok": False, "served": False, "epoch": 0}
    assert play >> handover("lon1", 3, epoch=4) << SendPeer("lon1", "taken", refused)
    assert play.state == "backup"


def test_a_node_without_carrier_declines():
    play = backup().given(UNPLUGGED)
    assert play >> handover("lon1", 3) << ANY(SendPeer, node="lon1", kind="taken")
    assert play.state == "init"


def test_a_node_told_to_take_asks_the_active_one():
    play = backup()
    assert play >> word(order="take") << SendPeer("lon1", "claim", {"group": "sbc"})
    assert play >> word(order="take")  # not with every word
    play.given(after(190), advert("lon1"))
    for _ in range(5):
        play.given(after(ADVERT_MS), advert("lon1"))
    assert play >> word(order="take") << SendPeer("lon1", "claim", {"group": "sbc"})


def test_a_claim_of_a_ready_peer_is_granted():
    play = active()
    assert play >> claim("lon2") << offers("lon2")
    assert play.rules()[-1] == "G-GIVE-CLAIM"


def test_a_claim_of_a_peer_that_is_not_ready_is_not_granted():
    play = active().given(beat("lon2", ready=False))
    assert play >> claim("lon2")
    assert play.state == "active"


# ---------------------------------------------------------------- carrier


def test_an_owner_without_carrier_lets_go_and_leaves_the_group_to_a_ready_peer():
    play = active()
    left = {"group": "sbc", "epoch": play.group.epoch, "to": "lon2"}
    assert play >> UNPLUGGED << RELEASE << SendPeer("", "yielded", left)
    assert play.state == "init"


def test_whom_an_unplugged_owner_names_takes_at_once():
    left = {"group": "sbc", "epoch": 4, "to": "lon2"}
    assert backup() >> heard("lon1", "yielded", left) << TAKE << says("lon2") << ANNOUNCE
    play = backup()
    assert play >> heard("lon1", "yielded", left | {"to": "lon3"})
    assert play.state == "backup"


def test_the_peers_hear_at_once_that_it_let_go():
    play = active()
    beats = [a for a in play.said(SendPeer, UNPLUGGED) if a.kind == "beat"]
    assert beats[-1].body["g"]["sbc"][:2] == ["init", False]


def test_a_deaf_node_never_takes_over():
    play = backup().given(UNPLUGGED, after(20_000))
    assert no_takeover(play)
    assert play.state == "init"


def test_a_deaf_node_lets_its_shell_sleep():
    for play in (backup().given(UNPLUGGED), active().given(UNPLUGGED)):
        play.given(after(20_000))
        assert play.core.deadline() > play.now


def test_carrier_that_comes_back_listens_first():
    play = active().given(UNPLUGGED, after(5000), PLUGGED, after(50))
    assert play.state == "backup"
    play.given(advert("lon2"), after(ADVERT_MS))
    assert play.group.active == "lon2"


# ---------------------------------------------------------------- conflict and heal


def test_of_two_active_nodes_the_higher_one_answers_and_announces_once():
    play = active()
    assert play >> advert("lon2") << says("lon1") << ANNOUNCE
    assert play >> advert("lon2") << says("lon1")
    assert play.state == "active"


def test_of_two_active_nodes_the_lower_one_lets_go_and_says_so():
    play = active("lon2", ("lon1", "lon2")).given(beat("lon1", "active"))
    assert play >> advert("lon1") << RELEASE << YIELDED
    assert play.state == "backup"
    assert play.group.active == "lon1"


def test_a_router_that_does_not_speak_our_link_is_believed_by_its_advert():
    play = active("lon2").given(after(6000))
    assert play.peer("lon1") == "silent"
    assert play >> advert("lon1") << RELEASE << YIELDED


def test_an_answer_that_it_is_active_without_a_higher_advert_is_no_reason_to_let_go():
    play = active("lon2").given(beat("lon1", "active", epoch=1), after(5000))
    play.given(answer("lon1", play.asked_round("lon1"), "active"))
    assert play.state == "active"


def test_an_advert_that_the_signed_word_of_its_sender_denies_is_asked_about():
    play = active().given(beat("lon2", "backup"))
    play.given(advert("lon2", 255))
    assert "G-SUSPECT" in play.rules()
    play.given(answer("lon2", play.core.peers["lon2"].round, "backup"))
    assert play.state == "active", "it was forged"


def test_an_advert_that_its_sender_confirms_when_asked_is_believed():
    play = active("lon2", ("lon1", "lon2")).given(beat("lon1", "backup"))
    play.given(advert("lon1"))
    assert play.state == "active", "its signed word is older than its advert: ask"
    play.given(answer("lon1", play.core.peers["lon1"].round, "active"))
    assert play.state == "backup"


def test_the_winner_announces_again_when_the_loser_yielded():
    assert active() >> yielded("lon2") << ANNOUNCE


def test_a_peer_that_was_silent_and_is_back_hears_the_owner_again():
    play = active()
    play.given(after(8000))
    assert play.peer("lon2") == "silent"
    assert play >> beat("lon2") << ARP_LON2 << says("lon1") << ANNOUNCE


def test_an_owner_that_is_not_fit_ranks_below_everybody():
    play = active().given(beat("lon2", "active", ready=False), NOT_READY)
    assert play >> after(ADVERT_MS) << says("lon1", 1)
    assert play >> advert("lon2", 2) << RELEASE << YIELDED


@pytest.mark.parametrize(
    ("source", "family", "wins"),
    [
        ("10.1.0.12", 4, False),
        ("fd00::12", 6, False),
        ("10.1.0.2", 4, True),  # 2 is less than 11, though its text is more
        ("fd00::2", 6, True),
    ],
)
def test_equal_priority_goes_to_the_greater_address(source, family, wins):
    play = active("lon1", ipv6=True, priorities={"lon1": 200, "lon2": 200})
    play.core.config.sources[source] = "lon2"
    play.given(beat("lon2", "active"), advert("lon2", 200, source=source, family=family))
    assert (play.state == "active") is wins


def test_addresses_rank_as_numbers_not_as_text():
    assert rank("10.1.0.2") < rank("10.1.0.11") < rank("10.2.0.1")
    assert rank("fe80::2%eth0") < rank("fe80::11") < rank("fe80:0:0:1::")
    assert rank("::") == (0,) * 8
    assert rank("1:2:3:4:5:6:7:8") == tuple(range(1, 9))


def test_an_address_that_a_foreign_hand_removed_is_put_back():
    play = active()
    assert play >> address(False) << TAKE << ANNOUNCE


def test_our_own_release_is_not_a_foreign_hand():
    play = active().given(word(order="give"))
    play.given(taken("lon2", play.offer_id()))
    assert play >> address(False)


# ---------------------------------------------------------------- not ready


def test_a_standby_that_is_not_ready_never_takes():
    play = backup().given(NOT_READY)
    play.given(after(20_000))
    assert no_takeover(play)
    assert play.group.orphaned


def test_an_orphan_that_becomes_ready_takes_after_asking_once_more():
    play = backup().given(NOT_READY, after(20_000))
    assert play >> READY >> WAKE << asks("lon1") << ARP_LON1
    assert play.until(TakeAddresses) <= ASKING_MS + 20
    assert not play.group.orphaned


def test_an_orphan_that_hears_an_owner_again_is_none():
    play = backup().given(NOT_READY, after(20_000))
    assert play.group.orphaned
    play.given(advert("lon1"))
    assert not play.group.orphaned


def test_an_orphan_that_is_told_of_an_owner_is_none():
    play = KeeperPlay("lon2").given(PLUGGED, NOT_READY, WAKE, after(20_000))
    assert play.group.orphaned
    while "G-ELSEWHERE" not in play.rules() and play.now < START + 30_000:
        play.given(answer("lon1", play.asked_round("lon1"), "active", epoch=4), after(50))
    assert "G-ELSEWHERE" in play.rules()
    assert not play.group.orphaned


def test_a_node_that_has_used_its_stored_epochs_up_is_not_ready():
    play = backup().given(word(ceiling=4), after(20_000))
    assert no_takeover(play)


# ---------------------------------------------------------------- three nodes


def test_of_three_only_the_first_in_line_takes():
    second, third = backup("lon2", THREE), backup("lon3", THREE)
    for play in (second, third):
        play.given(after(LATE_MS + ASKING_MS))
    assert (second.state, third.state) == ("active", "backup")
    assert "G-BURY-NEXT" in third.rules()
    third.given(advert("lon2"), after(ADVERT_MS))
    assert third.group.active == "lon2"


def test_the_next_in_line_takes_when_the_first_does_not():
    play = backup("lon3", THREE).given(after(LATE_MS + ASKING_MS))
    assert play.until(TakeAddresses) <= 400


def test_a_preferred_peer_that_is_not_ready_is_not_waited_for():
    play = backup("lon3", THREE).given(beat("lon2", ready=False), after(LATE_MS))
    assert play.until(TakeAddresses) == ASKING_MS


def test_the_one_before_us_that_is_gone_too_is_not_waited_for():
    play = KeeperPlay("lon3", THREE).given(PLUGGED, READY, WAKE)
    assert play.until(TakeAddresses) <= down_ms(PRIORITY["lon3"], ADVERT_MS) + 110


def test_a_preferred_peer_that_fell_silent_earlier_is_not_waited_for():
    play = backup("lon3", THREE)
    for _ in range(30):
        play.given(after(ADVERT_MS), advert("lon1"), beat("lon1", "active", epoch=4), READY)
    assert play.peer("lon2") == "silent"
    play.given(after(LATE_MS))
    assert play.until(TakeAddresses) == ASKING_MS


def test_after_a_flap_of_its_carrier_an_owner_asks_at_once_and_goes_on():
    play = active().given(UNPLUGGED, after(100))
    assert play >> PLUGGED << asks("lon2") << ARP_LON2
    assert (
        play
        >> answer("lon2", play.asked_round("lon2"), "backup")
        << TAKE
        << says("lon1")
        << ANNOUNCE
    )
    assert play.rules()[-2:] == ["G-RETURN", "G-DOWN"]


def test_after_a_flap_an_owner_that_was_replaced_follows():
    play = active().given(UNPLUGGED, after(100), PLUGGED, WAKE)
    play.given(answer("lon2", play.asked_round("lon2"), "active"), after(50), advert("lon2"))
    assert play.state == "backup"
    assert play.group.active == "lon2"


def test_after_a_flap_with_nobody_answering_it_goes_on_where_it_hears_something():
    play = active().given(UNPLUGGED, after(100), PLUGGED)
    assert play.until(TakeAddresses) == ASKING_MS


def test_after_a_flap_with_nobody_answering_and_nothing_heard_it_listens_for_the_rfcs_time():
    play = active()
    play.traffic = 0
    play.given(UNPLUGGED, after(100), PLUGGED)
    assert play.until(TakeAddresses) >= DOWN_MS - 20


def test_with_slow_adverts_addresses_are_renewed_and_announced_all_the_same():
    play = KeeperPlay("lon1", ("lon1",))
    play.group.config.advert_ms = 40_000
    play.given(PLUGGED, READY, WAKE)
    while play.state != "active":
        play.given(READY, after(100))
    lifetime_ms = play.core.config.lifetime_s * 1000
    renewed, adverts = [play.now], 0
    for _ in range(800):
        said = play.said(object, READY, after(100))
        renewed += [play.now for a in said if isinstance(a, RefreshAddresses)]
        adverts += sum(isinstance(a, SendAdvert) for a in said)
    assert max(b - a for a, b in pairwise(renewed)) <= lifetime_ms // 2
    assert adverts == 2


def test_what_a_paused_owner_finds_in_its_queue_makes_it_ask_and_announce_nothing():
    play = active()
    play.now += 5000
    assert not play.said(Announce, advert("lon2"), yielded("lon2"), beat("lon2", "active"))
    assert "G-STOOD-STILL" in play.rules()
    assert play.state == "backup"  # the advert says who has it now


def test_what_a_loser_said_is_undone_at_once_however_much_was_announced_before():
    play = active()
    for _ in range(20):
        play.given(beat("lon2"), advert("lon2"), after(250))
    assert ANNOUNCE in play.said(Announce, yielded("lon2"))


def test_an_owner_that_was_paused_does_not_hand_over_for_its_agents_silence():
    play = active().given(beat("lon2"))
    play.now += 12_000  # longer than hold; its agent's words lie in the queue
    assert not [a for a in play.said(SendPeer, beat("lon2")) if a.kind == "handover"]
    assert "G-ABANDONED" not in play.rules()
