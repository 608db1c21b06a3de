# SPDX-License-Identifier: GPL-2.0-or-later
"""One keeper's routing: packets, carrier, words and time to the right table, and nothing else."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.election import ACTIVE, DOUBT, GIVING, INIT
from agent.core.keeper import KeeperCore
from agent.core.keeping import (
    AddressSeen,
    AskNeighbour,
    Finish,
    LinkSeen,
    PacketRefused,
    ReleaseAddresses,
    Report,
    SendAdvert,
    SendPeer,
    TakeAddresses,
    Told,
    Woken,
    WordGiven,
)
from agent.core.model import Word
from tests.core.keepers import (
    ADVERT_MS,
    ANNOUNCE,
    FLOATING6,
    NODES,
    NOT_READY,
    PLUGGED,
    PRIORITY,
    READY,
    START,
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
    keeping,
    neighbour,
    offers,
    says,
    still_gives,
    taken,
    word,
    yielded,
)
from tests.core.playbook import ANY, WAKE, Playbook, after, paused

HOLDING = (ACTIVE, DOUBT, GIVING)
FOREIGN = "10.1.0.66"


def own_beats(play, *events):
    return [a.body["g"]["sbc"] for a in play.said(SendPeer, *events) if a.kind == "beat"]


def packets(report):
    return [decision for decision in report.decisions if decision.machine == "packets"]


# ---------------------------------------------------------------- packets that are not ours


def test_a_foreign_router_in_our_virtual_router_changes_nothing():
    play = active()
    assert play >> advert(FOREIGN, 255) >> after(ADVERT_MS) << says("lon1")
    play = backup().given(after(100), advert(FOREIGN, 255), after(119))
    assert play >> after(1) << asks("lon1") << ANY(object)  # it did not count as an advert of lon1


def test_a_foreign_router_is_counted_each_time_and_reported_once():
    play = active()
    (found,) = packets(play.said(Report, advert(FOREIGN, 255))[0].said)
    assert "give one of them another vrid" in found.why
    play.given(*[advert(FOREIGN, 255)] * 4)
    report = play.report()
    assert report.counters == {"advert-foreign": 5}
    assert packets(report) == []


def test_a_virtual_router_that_is_not_ours_is_none_of_our_business():
    play = active().given(advert(FOREIGN, 255, vrid=52), advert("lon2", interface="eth1"))
    assert play.report().counters == {}
    assert play.state == "active"


def test_a_node_that_may_not_serve_the_group_is_foreign_to_it():
    play = active()
    play.core.config.sources[FOREIGN] = "par1"
    play.given(advert(FOREIGN, 255))
    assert play.state == "active"
    assert play.report().counters == {"advert-foreign": 1}


def test_a_refused_packet_is_counted_each_time_and_reported_once_for_each_source():
    play = active()
    first = PacketRefused("peer-key", "10.1.0.12", "another key")
    again = PacketRefused("peer-key", "10.1.0.13", "another key")
    play.given(first, first, again)
    report = play.report()
    assert report.counters == {"peer-key": 3}
    everything = [d for a in play.all if isinstance(a, Report) for d in packets(a.said)]
    assert [d.inputs["source"] for d in everything] == ["10.1.0.12", "10.1.0.13"]


def test_a_flood_from_many_sources_is_not_remembered_for_ever():
    play = active()
    play.given(*(PacketRefused("peer-key", f"source {n}", "x") for n in range(1000)))
    said = [d for a in play.all if isinstance(a, Report) for d in packets(a.said)]
    assert play.report().counters == {"peer-key": 1000}
    assert len(said) == 64


# ---------------------------------------------------------------- the peer link


def test_a_question_is_answered_with_its_number_even_if_it_may_be_a_replay():
    play = active()
    body = {"id": 12, "g": {"sbc": ["active", True, 1, "", True]}}
    question = heard("lon2", "ask", {"id": 12}, fresh=False)
    assert play >> question << SendPeer("lon2", "answer", body)


@pytest.mark.parametrize(
    "event",
    [
        handover("lon1", 3),
        beat("lon1", "init"),
        claim("lon1"),
        yielded("lon1"),
    ],
)
def test_nothing_else_is_believed_that_may_be_a_replay(event):
    play = backup()
    event.fresh = False
    assert play >> event
    assert play.core.peers["lon1"].claims("sbc")[0] == "active"
    event.fresh, event.role = True, "agent"
    assert play >> event


def test_a_node_that_is_not_configured_is_not_heard():
    play = backup()
    assert play >> heard("par9", "handover", {"group": "sbc", "id": 1, "epoch": 0})


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"g": None},
        {"g": []},
        {"g": {"sbc": []}},
        {"g": {"sbc": ["active", True, 1]}},
        {"g": {"sbc": [1, True, 1, ""]}},
        {"g": {"other": ["active", True, 1, ""]}},
        {"group": ["sbc"], "epoch": 1},
    ],
)
def test_a_beat_that_says_nothing_sensible_teaches_nothing(body):
    play = backup().given(heard("lon1", "beat", body))
    assert play.core.peers["lon1"].claims("sbc") == ("active", True, 4)


def test_ready_and_epoch_must_be_what_they_say_they_are():
    play = backup().given(beat("lon1", "backup", ready="yes", epoch="9"))  # type: ignore[arg-type]
    assert play.core.peers["lon1"].claims("sbc") == ("backup", False, 0)
    play.given(heard("lon1", "beat", {"g": {"sbc": ["backup", True, True, ""]}}))
    assert play.group.epoch_seen == 4


def test_a_peer_whose_beats_stop_is_asked_and_then_told_silent():
    play = active().given(beat("lon2"))
    play.given(after(3000))
    assert play.peer("lon2") == "alive"
    play.given(after(1600))
    assert play.peer("lon2") == "silent"


def by_path(path):
    event = beat("lon2")
    event.path = path
    return event


def lost_paths(play, *paths):
    """After ten seconds of beats that come by these paths only."""
    for _ in range(10):
        play.given(*map(by_path, paths), after(1000))
    return play.report().peers["lon2"].lost_paths


def test_a_path_by_which_a_peer_is_not_heard_while_it_is_by_another_is_reported():
    play = active()
    assert lost_paths(play, 0, 1) == ()
    assert lost_paths(play, 0) == (1,)
    assert lost_paths(play, 1) == (0,)
    assert lost_paths(play, 0, 1) == ()


def test_a_peer_that_is_heard_by_no_path_has_lost_none_of_them():
    play = active()
    lost_paths(play, 0, 1)
    assert lost_paths(play) == ()


def test_a_silent_peer_is_asked_again_now_and_then():
    play = active().given(after(5000))
    rounds = {a.body["id"] for a in play.said(SendPeer, after(60_000)) if a.kind == "ask"}
    assert 5 <= len(rounds) <= 13


def test_a_neighbour_answer_after_the_verdict_says_that_the_node_lives_and_has_it_asked_at_once():
    play = active().given(after(4500))
    assert play.peer("lon2") == "silent"
    assert play >> neighbour("lon2") << asks("lon2") << ANY(AskNeighbour, address="10.1.0.12")
    assert play.rules("peer lon2")[-1] == "P-LATE-SIGN"


# ---------------------------------------------------------------- its beat and its report


def test_a_beat_says_state_readiness_epoch_and_whom_it_waits_for():
    play = active()
    assert own_beats(play, after(1000)) == [["active", True, 1, "", True]]
    assert own_beats(play, word(False, well=False))[-1] == ["giving", False, 1, "lon2", True]
    play = backup().given(NOT_READY)
    assert own_beats(play, READY)[-1] == ["backup", True, 4, "", True]


def test_a_change_of_readiness_is_told_to_the_peers_at_once():
    play = backup().given(NOT_READY)
    assert own_beats(play, READY) == [["backup", True, 4, "", True]]
    assert own_beats(play, READY) == []


def test_a_standby_that_is_told_to_stop_is_not_ready_any_more():
    play = backup()
    assert own_beats(play, Told("stop"))[-1] == ["backup", False, 4, "", True]


def test_a_change_is_reported_at_once_and_else_now_and_then():
    play = backup()
    calm = [advert("lon1"), after(ADVERT_MS)] * 20
    assert len(play.said(Report, *calm)) in (5, 6, 7)
    reports = play.said(Report, UNPLUGGED)
    assert reports[0].said.groups["sbc"].state == "init"
    assert reports[0].said.links == {"eth0": False}


def test_the_active_node_is_named_in_the_report():
    assert active().report().groups["sbc"].active == "lon1"
    assert backup().report().groups["sbc"].active == "lon1"


def test_a_decision_is_reported_once_with_what_it_was_made_from():
    play = backup()
    play.until(TakeAddresses)
    decisions = [d for a in play.all if isinstance(a, Report) for d in a.said.decisions]
    burial = next(d for d in decisions if d.rule == "G-BURY")
    assert (burial.machine, burial.before, burial.after) == ("group sbc", "backup", "active")
    assert burial.inputs["ready"] is True
    assert burial.inputs["peers"] == {"lon1": "silent"}
    assert burial.inputs["since_advert_ms"] == ADVERT_MS + 20 + 75
    assert len([d for d in decisions if d.rule == "G-BURY"]) == 1


# ---------------------------------------------------------------- epochs


def test_an_epoch_rises_with_each_owner():
    play = active()
    for _ in range(3):
        held = play.group.epoch
        play.given(beat("lon2"), word(order="give"))
        play.given(taken("lon2", play.offer_id(), epoch=held + 1), READY)
        play.given(after(1001), beat("lon2", "active", epoch=held + 1))
        play.given(handover("lon2", 9, epoch=held + 1))
        assert play.group.epoch == held + 2


def test_an_epoch_never_rises_above_what_is_stored():
    play = backup().given(word(ceiling=5))
    play.given(handover("lon1", 1, epoch=4))
    play.given(still_gives(play, "lon1"))
    assert (play.state, play.group.epoch) == ("active", 5)
    play = backup().given(word(ceiling=4))
    play.given(handover("lon1", 1, epoch=4))
    play.given(still_gives(play, "lon1"))
    assert play.state == "backup"


@pytest.mark.parametrize("source", [beat("lon1", "active", epoch=50), handover("lon1", 1, 50)])
def test_an_epoch_is_above_every_one_that_was_heard(source):
    play = backup().given(source)
    if play.state != "active":
        play.until(TakeAddresses)
    assert play.group.epoch == 51


def test_the_agents_memory_of_epochs_counts_too():
    play = KeeperPlay("lon2").given(PLUGGED, word(epoch=30), WAKE)
    play.until(TakeAddresses)
    assert play.group.epoch == 31


# ---------------------------------------------------------------- the agent


def test_the_last_word_of_an_agent_holds_for_hold_and_then_a_ready_peer_gets_the_group():
    play = active()
    play.given(word())
    began = play.now
    while play.state == "active":
        play.given(after(100), beat("lon2"))
    assert 10_000 < play.now - began <= 11_200
    assert play.rules()[-1] == "G-ABANDONED"


def test_without_a_ready_peer_an_owner_without_agent_goes_on_serving():
    play = active().given(beat("lon2", ready=False))
    play.given(after(60_000))
    assert play.state == "active"


def test_a_standby_without_agent_is_not_ready_after_hold():
    play = backup()
    for _ in range(56):
        play.given(after(ADVERT_MS), advert("lon1", 200))
    assert not play.group.ready
    assert "agent stays away" in play.group.why


def test_a_keeper_that_was_just_started_gives_its_agent_the_same_time():
    play = KeeperPlay("lon1").given(address(True), PLUGGED, WAKE)
    play.given(beat("lon2"), answer("lon2", 1, "backup"))
    assert play.state == "active"
    for _ in range(18):
        play.given(after(500), beat("lon2"))
    assert play.state == "active"


def test_a_word_about_a_group_that_is_not_kept_here_is_nothing():
    assert backup() >> WordGiven({"other": Word(True)}, START)


# ---------------------------------------------------------------- addresses, time


def test_an_address_of_somebody_else_is_none_of_our_business():
    play = active()
    assert play >> AddressSeen("eth0", "10.1.0.99", False)


def test_both_families_are_kept_and_lost_together():
    play = active("lon1", ipv6=True)
    assert play >> AddressSeen("eth0", FLOATING6, False) << ANY(TakeAddresses) << ANNOUNCE


def test_an_interface_that_is_not_in_the_group_does_not_make_it_deaf():
    play = active()
    assert play >> LinkSeen("eth9", False)
    assert play.report().links == {"eth0": True, "eth9": False}


def test_a_keeper_without_groups_sleeps_and_reports():
    config = keeping("lon1")
    config.groups = {}
    core = KeeperCore(config, START)
    play = Playbook(core, START, Woken)
    reports = play.said(Report, after(4000), PLUGGED)
    assert 4 <= len(reports) <= 9


# ---------------------------------------------------------------- whatever happens

NUMBERS = st.integers(0, 6)
PEERS = st.sampled_from(("lon2", "lon3"))
STATES = st.sampled_from(("init", "backup", "active", "doubt", "giving"))
EVENTS = st.one_of(
    st.integers(0, 400).map(after),
    st.integers(0, 4000).map(after),
    st.integers(0, 3000).map(paused),
    st.builds(advert, PEERS, st.sampled_from((0, 1, 180, 200, 250))),
    st.builds(beat, PEERS, STATES, st.booleans(), NUMBERS, st.sampled_from(("", "lon1"))),
    st.builds(answer, PEERS, NUMBERS, STATES, st.booleans(), NUMBERS),
    st.builds(agent_answer, PEERS, NUMBERS),
    st.builds(neighbour, PEERS),
    st.builds(handover, PEERS, NUMBERS, NUMBERS),
    st.builds(taken, PEERS, NUMBERS, st.booleans(), NUMBERS),
    st.builds(claim, PEERS),
    st.builds(yielded, PEERS),
    st.builds(address, st.booleans()),
    st.sampled_from((PLUGGED, UNPLUGGED)),
    st.builds(
        word,
        st.booleans(),
        order=st.sampled_from(("", "give", "take")),
        to=st.sampled_from(("", "lon2", "nobody")),
        ceiling=st.integers(0, 12),
        epoch=NUMBERS,
    ),
    st.builds(PacketRefused, st.just("peer-key"), st.just("x"), st.just("x")),
    st.sampled_from((Told("stop"), Told("restart"))),
)
STORIES = st.lists(EVENTS, max_size=60).map(lambda events: [PLUGGED, READY, WAKE, *events])
PLAYS = settings(max_examples=150)


@PLAYS
@given(STORIES)
def test_whatever_happens_it_neither_fails_nor_keeps_its_shell_awake(story):
    KeeperPlay("lon1", NODES).given(*story, after(10_000))


@PLAYS
@given(STORIES)
def test_the_same_events_give_the_same_actions(story):
    one, other = (KeeperPlay("lon1", NODES).given(*story) for _ in range(2))
    assert one.all == other.all


class Watched(KeeperPlay):
    """Looks after each step at what must always be so."""

    ceiling = 100
    holding = False
    epoch = 0

    def _step(self, event):
        before, seen = self.group.state, len(self.all)
        if isinstance(event, WordGiven):
            self.ceiling = event.words["sbc"].ceiling
        super()._step(event)
        self.check(before, self.all[seen:])

    def check(self, before, actions):
        group = self.group
        for action in actions:
            if isinstance(action, TakeAddresses):
                self.holding = True
                assert action.epoch >= self.epoch, "epochs only rise"
                assert action.epoch <= max(self.ceiling, self.epoch), "no epoch that is not stored"
                self.epoch = action.epoch
            elif isinstance(action, ReleaseAddresses):
                self.holding = False
            elif isinstance(action, SendAdvert) and action.priority:
                assert self.holding, "who has no addresses says nothing"
        assert group.holds or not self.holding
        if group.state == ACTIVE:
            assert self.holding
            assert group.plugged
        elif group.state not in HOLDING:
            assert not self.holding, "who does not own lets go"
        if before not in HOLDING and group.state == ACTIVE:
            assert group.ready, "no takeover by a standby that is not ready"
        if group.state == INIT:
            assert not group.deadline(), "nothing is due where nothing can be heard"


@PLAYS
@given(STORIES)
def test_whatever_happens_the_rules_of_ownership_hold(story):
    Watched("lon1", NODES).given(*story)


def test_after_it_has_finished_it_holds_nothing():
    play = active().given(Told("stop"), after(1000))
    assert any(isinstance(action, Finish) for action in play.all)
    assert play.group.state == INIT
    assert PRIORITY[play.node] == 200
    assert offers("lon2") in play.all
