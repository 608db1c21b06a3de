# SPDX-License-Identifier: GPL-2.0-or-later
"""A peer is asked in every way before it is believed gone."""

import pytest

from agent.core.keeping import AskNeighbour, KeptPeer, SendPeer
from agent.core.peer import TABLE, Peer, PeerContext, agent_answer

TWO_PATHS = KeptPeer("lon2", ("a", "b"), ())
PATH_AND_ARP = KeptPeer("lon2", ("a",), (("eth0", "10.1.0.12"),))
ONE_PATH = KeptPeer("lon2", ("a",), ())


class Asked:
    """One peer in the hands of a keeper that asks three times, 30 ms apart."""

    def __init__(self, config=PATH_AND_ARP, state="alive"):
        self.context = PeerContext(3, 30)
        self.context.peer = Peer(config)
        self.peer.state = state
        self.context.now = 1000

    @property
    def peer(self):
        return self.context.peer

    def fire(self, event):
        self.context.out = []
        choice = TABLE.choose(self.peer.state, event, self.context)
        for effect in choice.effects:
            effect(self.context)
        if choice.row is not None and choice.row.next:
            self.peer.state = choice.row.next
        return self.context.out

    def ask_to_the_end(self):
        for _ in range(3):
            self.context.now += 30
            self.fire("gap")
        return self.peer.state


def test_a_doubt_asks_in_every_way_at_once():
    asked = Asked()
    assert asked.fire("doubted") == [
        SendPeer("lon2", "ask", {"id": 1}, agent_too=True),
        AskNeighbour("eth0", "10.1.0.12"),
    ]
    assert (asked.peer.state, asked.peer.gap_at) == ("asking", 1030)


def test_a_second_doubt_does_not_ask_again():
    asked = Asked()
    asked.fire("doubted")
    assert asked.fire("doubted") == []
    assert asked.peer.round == 1


def test_it_is_asked_three_times_with_one_number():
    asked = Asked()
    asked.fire("doubted")
    again = [asked.fire("gap"), asked.fire("gap")]
    assert [out[0] for out in again] == [SendPeer("lon2", "ask", {"id": 1}, agent_too=True)] * 2


@pytest.mark.parametrize("config", [TWO_PATHS, PATH_AND_ARP])
def test_silent_in_two_ways_is_silent(config):
    asked = Asked(config)
    asked.fire("doubted")
    assert asked.ask_to_the_end() == "silent"
    assert asked.peer.gap_at == 0


def test_silent_in_the_only_way_proves_nothing():
    asked = Asked(ONE_PATH)
    asked.fire("doubted")
    assert asked.ask_to_the_end() == "unknown"


def test_a_node_that_answers_without_its_keeper_is_held():
    asked = Asked()
    asked.fire("doubted")
    asked.peer.node_answered = True
    assert asked.ask_to_the_end() == "held"


def test_the_keepers_own_answer_ends_the_round_at_once():
    asked = Asked()
    asked.fire("doubted")
    asked.fire("answered")
    assert (asked.peer.state, asked.peer.gap_at) == ("alive", 0)


def test_a_word_that_is_no_answer_ends_nothing_it_may_be_old():
    asked = Asked()
    asked.fire("doubted")
    asked.fire("heard")
    assert (asked.peer.state, asked.peer.gap_at) == ("asking", 1030)


def test_a_new_round_has_a_new_number_and_forgets_the_old_answer():
    asked = Asked()
    asked.fire("doubted")
    asked.peer.node_answered = True
    asked.ask_to_the_end()
    asked.fire("doubted")
    assert (asked.peer.round, asked.peer.node_answered) == (2, False)


@pytest.mark.parametrize("state", ["unknown", "held", "silent"])
def test_its_keepers_word_brings_a_peer_back(state):
    asked = Asked(state=state)
    asked.fire("heard")
    assert asked.peer.state == "alive"


def test_a_sign_of_the_node_after_the_verdict_says_that_it_lives():
    asked = Asked(state="silent")
    asked.fire("node_seen")
    assert asked.peer.state == "held"


def test_a_peer_that_never_spoke_claims_nothing():
    assert Peer(TWO_PATHS).claims("sbc") == ("unknown", False, 0)


@pytest.mark.parametrize(("lost", "keeper"), [(True, "lost"), (False, "alive")])
def test_an_agent_answers_with_the_questions_number(lost, keeper):
    assert agent_answer({"id": 12}, lost) == {"id": 12, "keeper": keeper}
    assert agent_answer({}, lost)["id"] == 0
