# SPDX-License-Identifier: GPL-2.0-or-later
"""Members that are no nodes of ours, strangers, foreign hands, and other ways to hand over."""

import pytest

from agent.core.keeping import (
    AddressAsked,
    Announce,
    AskNeighbour,
    PeerHeard,
    ReleaseAddresses,
    Report,
    SendAdvert,
    SendPeer,
    TakeAddresses,
    Told,
)
from tests.core.keepers import (
    ADVERT_MS,
    ANNOUNCE,
    CLIENT,
    FLOATING,
    PLAIN,
    PLUGGED,
    READY,
    TAKE,
    KeeperPlay,
    active,
    address,
    advert,
    answer,
    asks,
    backup,
    beat,
    neighbour,
    offers,
    says,
    seen,
    taken,
    word,
)
from tests.core.playbook import ANY, WAKE, after, paused

WITH_PLAIN = {"plain": (PLAIN,)}
ALONE = ("lon1",)
STRANGER = "02:00:00:00:00:66"
START_WORDS = (PLUGGED, READY, WAKE)
RELEASE = ReleaseAddresses("sbc")
GOODBYE = SendAdvert("sbc", 0)


def alone_with_plain(**kind):
    """The only node of the cluster in a virtual router that it shares with another router."""
    return active("lon1", ALONE, **WITH_PLAIN, **kind)


def behind_plain(nodes=ALONE, priority=250, **kind):
    """The plain peer is active."""
    play = KeeperPlay("lon1", nodes, **WITH_PLAIN, **kind)
    return play.given(*START_WORDS, advert(PLAIN, priority))


def plays(play, seconds, event):
    for _ in range(seconds * 1000 // ADVERT_MS):
        play.given(event, READY, after(ADVERT_MS))
    return play


def last_inputs(play):
    reported = [a.said.decisions for a in play.all if isinstance(a, Report)]
    return [d for some in [*reported, play.core.decisions] for d in some][-1].inputs


# ---------------------------------------------------------------- a plain RFC peer


def test_a_plain_peer_is_followed_and_never_asked():
    play = plays(behind_plain(), 5, advert(PLAIN, 250))
    assert play.state == "backup"
    assert play.group.active == PLAIN
    assert not [a for a in play.all if isinstance(a, AskNeighbour)]
    assert not [a for a in play.all if isinstance(a, SendPeer)]


def test_a_plain_peer_that_falls_silent_is_buried_after_the_rfcs_time():
    play = behind_plain(priority=150)
    heard_at = play.now
    play.until(TakeAddresses)
    # RFC 9568 6.1: three intervals and (256 - 200) / 256 of one
    assert play.now - heard_at == 3 * ADVERT_MS + 56 * ADVERT_MS // 256


def test_the_interval_of_the_active_plain_peer_counts():
    play = behind_plain().given(advert(PLAIN, 250, interval_ms=1000))
    heard_at = play.now
    play.until(TakeAddresses)
    assert play.now - heard_at == 3 * 1000 + 56 * 1000 // 256


def test_priority_0_of_a_plain_peer_is_honoured_within_a_skew():
    play = behind_plain().given(advert(PLAIN, 0))
    assert play.until(TakeAddresses) == 56 * ADVERT_MS // 256


def test_a_plain_peer_that_outranks_gets_the_group():
    play = alone_with_plain()
    lost = play >> advert(PLAIN, 250) << RELEASE << says("lon1")  # so that it announces
    assert lost << ANY(SendPeer, kind="yielded")
    assert play.rules()[-1] == "G-LOST-PLAIN"


def test_a_plain_peer_that_ranks_below_is_answered_at_once():
    play = alone_with_plain()
    assert play >> advert(PLAIN, 100) << says("lon1") << ANNOUNCE


def test_of_equals_the_greater_address_has_it():
    play = alone_with_plain()
    assert play >> advert("10.1.0.9", 200) << says("lon1") << ANNOUNCE
    other = active("lon1", ALONE, plain=("10.1.0.12",))
    assert other.given(advert("10.1.0.12", 200)).state == "backup"


def test_it_is_preempted_only_when_the_agent_says_so():
    play = plays(behind_plain(priority=150), 5, advert(PLAIN, 150))
    assert play.state == "backup"
    assert play >> word(order="take") << TAKE << says("lon1") << ANNOUNCE
    assert play.rules()[-1] == "G-PREEMPT"


def test_one_that_outranks_is_not_preempted_whatever_the_agent_says():
    play = behind_plain(priority=250)
    assert play >> word(order="take")
    assert play.state == "backup"


def test_a_node_that_stops_tells_it_and_keeps_the_address_until_it_is_taken():
    play = alone_with_plain()
    assert play >> Told("stop") << GOODBYE
    assert play >> after(50)
    assert play >> advert(PLAIN, 100) << RELEASE << ANY(object)
    assert play.rules()[-2:] == ["G-STOP-PLAIN", "G-GIVEN-PLAIN-2"]


def test_a_node_that_stops_does_not_wait_for_ever():
    play = alone_with_plain()
    assert play >> Told("stop") << GOODBYE
    play.given(after(3 * ADVERT_MS))
    assert play.state == "init"


def test_told_to_hand_over_it_says_that_it_leaves_and_stays_where_nobody_takes():
    play = alone_with_plain()
    assert play >> word(order="give") << GOODBYE
    assert says("lon1") in play.said(SendAdvert, after(5 * ADVERT_MS // 2 + 20))
    assert play.state == "active"


def test_a_sick_owner_without_a_ready_node_leaves_it_to_the_plain_peer():
    play = active(**WITH_PLAIN).given(beat("lon2", ready=False))
    assert play >> word(False) << GOODBYE
    assert play.rules()[-1] == "G-GIVE-SICK-PLAIN"


def test_a_ready_node_comes_before_the_plain_peer():
    play = active(**WITH_PLAIN)
    assert play >> word(order="give") << offers("lon2")


def test_all_nodes_are_asked_when_a_plain_peer_has_died():
    play = behind_plain(("lon1", "lon2"), 150).given(beat("lon2"))
    play.until(SendPeer)
    while play.peer("lon2") != "asking":
        play.given(after(10))
    play.given(answer("lon2", play.asked_round("lon2"), "backup"), after(1))
    assert play.state == "active"


def test_a_router_that_is_not_listed_stays_a_stranger():
    play = alone_with_plain().given(advert("10.1.0.77", 255))
    assert play.state == "active"
    assert play.report().counters["advert-foreign"] == 1


# ---------------------------------------------------------------- odd members


@pytest.mark.parametrize(
    ("kind", "event"),
    [
        ("advert-interval", advert("lon2", interval_ms=1000)),
        ("advert-form", advert("lon2", form="plain")),
        ("advert-interval", advert("lon2", interval_ms=40_000)),
    ],
)
def test_what_is_odd_about_a_member_is_reported_and_it_is_believed(kind, event):
    play = active().given(event)
    assert play.report().counters[kind] == 1
    assert "G-WON" in play.rules()


def test_two_address_owners_are_reported():
    play = active(priorities={"lon1": 255, "lon2": 190}).given(advert("lon2", 255))
    assert play.report().counters["advert-owner"] == 1


def test_an_absurd_interval_does_not_make_a_backup_wait_for_minutes():
    play = behind_plain().given(advert(PLAIN, 250, interval_ms=40_000))
    assert play.group.down_at - play.now < 33_000


# ---------------------------------------------------------------- the address owner


def test_an_address_owner_does_not_wait_but_asks():
    owner = {"priorities": {"lon1": 255, "lon2": 190}}
    play = KeeperPlay("lon1", **owner)
    assert play >> PLUGGED >> READY >> WAKE << asks("lon2") << AskNeighbour("eth0", "10.1.0.12")
    assert play.until(TakeAddresses) <= 100


def test_an_address_owner_takes_from_a_plain_peer_at_once():
    play = KeeperPlay("lon1", ALONE, priorities={"lon1": 255}, **WITH_PLAIN).given(*START_WORDS)
    play.given(after(1000))
    assert play.state == "active"
    assert "G-OWNER" in play.rules()


# ---------------------------------------------------------------- strangers


def test_a_strangers_claim_is_answered_by_announcing():
    play = active()
    play.given(beat("lon2"))
    assert play >> seen(FLOATING, STRANGER) >> after(20) << ANNOUNCE
    assert play.rules()[-1] == "G-DEFEND"
    inputs = last_inputs(play)
    assert (inputs["address"], inputs["mac"]) == (FLOATING, STRANGER)


def test_the_defence_is_bounded():
    play = active().given(beat("lon2"))
    said = []
    for _ in range(100):
        said += play.said(Announce, beat("lon2"), seen(FLOATING, STRANGER), after(50))
    assert len(said) <= 20


def test_a_peers_own_announcement_is_no_strangers():
    play = active().given(neighbour("lon2"))
    mac = neighbour("lon2").mac
    assert play >> seen(FLOATING, mac)


def test_a_backup_does_not_defend_what_it_does_not_have():
    assert backup() >> seen(FLOATING, STRANGER)


def test_an_address_that_was_asked_for_is_announced_once_more_soon():
    play = active().given(after(2000))
    asked = AddressAsked("eth0", FLOATING)
    said = []
    for _ in range(10):
        said += play.said(Announce, asked, beat("lon2"), after(100))
    assert 1 <= len(said) <= 2


# ---------------------------------------------------------------- a foreign hand


def test_who_took_an_address_away_is_named():
    play = active()
    assert play >> address(False, "NetworkManager (pid 812)") << TAKE << ANNOUNCE
    assert last_inputs(play)["by"] == "NetworkManager (pid 812)"


def test_a_foreign_hand_that_does_it_again_and_again_gets_its_way_elsewhere():
    play = active()
    for _ in range(5):
        play.given(beat("lon2"), after(300), address(False, "dhclient (pid 9)"))
        assert play.state == "active"
    play.given(address(False, "dhclient (pid 9)"))
    assert play.state == "giving"
    assert play.rules()[-1] == "G-GIVE-TUSSLE"


def test_where_nobody_else_is_ready_it_is_put_back_every_time():
    play = active().given(beat("lon2", ready=False))
    for _ in range(20):
        assert TAKE in play.said(TakeAddresses, after(300), address(False, "x"))
    assert play.state == "active"


# ---------------------------------------------------------------- apart, drain


def test_a_group_that_must_not_be_served_twice_is_let_go_before_it_is_offered():
    play = active(apart=True)
    assert play >> word(order="give") << RELEASE << offers("lon2")
    assert play >> taken("lon2", play.offer_id()) << RELEASE
    assert play.state == "backup"


def test_it_is_taken_back_where_the_offer_is_declined():
    play = active(apart=True).given(word(order="give"))
    play >> taken("lon2", play.offer_id(), ok=False) << TAKE << says("lon1") << ANNOUNCE
    assert play
    assert play.state == "active"


def test_what_was_let_go_is_not_refreshed_while_the_offer_stands():
    play = active(apart=True).given(word(order="give"))
    assert not [a for a in play.said(object, after(150)) if type(a).__name__.startswith("Refresh")]
    play.given(after(1000))
    assert play.state == "active"
    assert TAKE in play.all[-60:]


def test_after_a_hand_over_the_addresses_stay_for_the_drain():
    play = active(drain_ms=30_500).given(word(order="give"))
    assert play >> taken("lon2", play.offer_id()) << ReleaseAddresses("sbc", 31)


def test_after_a_conflict_they_do_not():
    play = active(drain_ms=30_000).given(beat("lon2", "active"))
    assert RELEASE in play.said(ReleaseAddresses, advert("lon2", 255))


def test_a_client_is_no_stranger_to_the_address():
    assert active().given(beat("lon2")) >> seen(CLIENT, STRANGER)


# ---------------------------------------------------------------- after a pause, or for ever


def test_after_a_pause_somebody_elses_answer_shows_that_it_was_replaced():
    play = active("lon1", ALONE, **WITH_PLAIN, probed=(("eth0", FLOATING),))
    play.given(paused(4000))
    assert play.state == "doubt"
    play.given(seen(FLOATING, STRANGER))
    assert play.rules()[-1] == "G-DOUBT-TAKEN"
    assert play.state == "backup"


def test_a_plain_peer_that_never_lets_go_gets_it_in_the_end():
    play = alone_with_plain()
    for _ in range(12):
        play.given(advert(PLAIN, 100), after(20))
    assert play.rules()[-1] == "G-MUTE"


def test_beside_a_plain_peer_a_claim_is_not_answered_before_it_may_have_advertised():
    play = alone_with_plain().given(seen(FLOATING, STRANGER))
    assert not play.said(Announce, after(2 * ADVERT_MS - 1))
    assert play.said(Announce, after(2))


def test_an_address_that_goes_before_the_taker_has_it_is_put_back():
    play = active().given(word(order="give"))
    assert TAKE in play.said(TakeAddresses, address(False, "ip (pid 7)"))
    assert play.state == "giving"


def test_what_was_left_to_us_while_we_slept_is_not_taken():
    play = backup()
    play.now += 2000
    left = PeerHeard(
        "lon1", "keeper", 0, "yielded", 9, 1, True, {"group": "sbc", "epoch": 3, "to": "lon2"}
    )
    play.given(left)
    assert play.state == "backup"
