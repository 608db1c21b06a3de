# SPDX-License-Identifier: GPL-2.0-or-later
"""Leases by themselves: votes and claims on a bad network, by true time."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.keeping import LeaseTerms
from agent.core.lease import Lease
from agent.core.lease_count import DRIFT, Ask, Vote, enough, holder_ms, voter_ms
from agent.core.lease_moves import HOLDER, VOTER
from agent.core.lease_rows import FREE, HELD, IDLE, LOST, PROMISED, QUIET, REFUSED
from tests.core.leases import LEASE_MS, MOST, PAIR, THREE, WITNESSED, Street
from tests.core.planted import Amnesic, Forgets, FromReply, LateReply, Trusts

FIVE = LeaseTerms(tuple("abcde"), tuple("abcde"), LEASE_MS)


def settled(terms: LeaseTerms = WITNESSED) -> Street:
    """lon1 holds it, nobody is quiet any more."""
    street = Street(terms).start()
    street.run(2 * LEASE_MS)
    street.want("lon1")
    street.run(1_000)
    assert street.holders() == ["lon1"]
    return street


def waiting_ms(street: Street, node: str, most_ms: int = 10_000) -> int:
    began = street.now
    while node not in street.holders():
        assert street.now - began < most_ms, f"{node} does not get it"
        street.run(10)
    return street.now - began


# ---------------------------------------------------------------- counting


def test_a_promise_outlasts_what_a_holder_counts_on_the_slowest_clock() -> None:
    for lease_ms in (500, 2_000, 10_000, 60_000):
        slow, fast = 1 - 1 / DRIFT, 1 + 1 / DRIFT
        assert holder_ms(lease_ms) / slow < lease_ms < voter_ms(lease_ms) / fast + 1
        assert holder_ms(lease_ms) > lease_ms // 2


@pytest.mark.parametrize(
    ("terms", "firm", "soft", "off", "yes"),
    [
        (WITNESSED, {"lon1", "wit"}, set(), set(), True),
        (WITNESSED, {"lon1"}, set(), set(), False),
        (WITNESSED, {"lon1"}, {"lon2"}, set(), True),  # all that could hold it said yes
        (WITNESSED, {"lon1"}, {"wit"}, set(), False),  # one that cannot, and remembers nothing
        (WITNESSED, {"lon1"}, set(), {"lon2"}, True),
        (PAIR, {"lon1"}, set(), set(), False),
        (PAIR, set(), {"lon1", "lon2"}, set(), True),
        (PAIR, {"lon1"}, set(), {"lon2"}, True),
        (THREE, {"lon1", "lon2"}, set(), set(), True),
        (THREE, {"lon1"}, {"lon2"}, set(), False),
        (THREE, {"lon1"}, set(), {"lon2"}, False),  # lon3 may count lon2 out as well
        (THREE, {"lon1", "lon3"}, set(), {"lon2"}, True),
        (THREE, {"lon1"}, set(), {"lon2", "lon3"}, True),
        (MOST, {"lon1", "wit"}, set(), set(), False),
        (MOST, {"lon1", "wit"}, set(), {"lon2"}, True),
        (FIVE, {"a", "b"}, set(), {"d", "e"}, False),
        (FIVE, {"a", "b", "c"}, set(), {"d", "e"}, True),
    ],
)
def test_votes_are_enough_or_not(
    terms: LeaseTerms, firm: set[str], soft: set[str], off: set[str], yes: bool
) -> None:
    assert enough(terms, terms.nodes[0], firm, soft, off) is yes


@given(
    size=st.integers(2, 6),
    one=st.sets(st.integers(0, 5)),
    other=st.sets(st.integers(0, 5)),
    off_one=st.sets(st.integers(0, 5), max_size=1),
    off_other=st.sets(st.integers(0, 5), max_size=1),
)
def test_two_majorities_share_a_voter_whatever_each_believes_to_be_off(
    size: int, one: set[int], other: set[int], off_one: set[int], off_other: set[int]
) -> None:
    names = tuple("abcdef"[:size])
    terms = LeaseTerms(names, names, LEASE_MS)
    quorums = [
        ({names[i] for i in votes if i < size} | {own}, {names[i] for i in off if i < size} - {own})
        for votes, off, own in ((one, off_one, names[0]), (other, off_other, names[1]))
    ]
    (mine, gone), (theirs, lost) = quorums
    alone = {*names[1:]} <= gone or {names[0], *names[2:]} <= lost
    both = enough(terms, names[0], mine, (), gone) and enough(terms, names[1], theirs, (), lost)
    assert alone or not both or (mine - gone) & (theirs - lost)


# ---------------------------------------------------------------- claims


def test_the_first_ones_need_not_wait_where_all_that_could_hold_it_say_yes() -> None:
    for terms in (PAIR, WITNESSED, THREE, MOST):
        street = Street(terms).start()
        street.run(50)
        for node in terms.nodes:
            street.want(node)
        assert waiting_ms(street, "lon1") < 100
        assert not street.both_ms


def test_after_a_power_cut_the_other_one_has_it_when_the_lease_is_over() -> None:
    street = settled()
    street.want("lon2")
    street.reboot("lon1")
    assert LEASE_MS // 2 < waiting_ms(street, "lon2") <= LEASE_MS * 1.1


def test_a_released_lease_is_the_others_at_once() -> None:
    street = settled()
    street.want("lon2")
    street.run(3_000)
    assert street.lease("lon2").state == REFUSED
    street.want("lon1", False)
    assert waiting_ms(street, "lon2") <= LEASE_MS // 4 + 20


def test_a_holder_that_reaches_nobody_stops_before_another_one_may_start() -> None:
    street = settled()
    street.want("lon2")
    street.cut = {("lon1", name) for name in ("lon2", "wit")}
    street.run(LEASE_MS)
    assert street.lease("lon1").state == LOST
    waiting_ms(street, "lon2")
    assert not street.both_ms


def test_of_two_without_a_third_vote_the_holder_goes_on_and_the_other_does_not_start() -> None:
    street = settled(PAIR)
    street.want("lon2")
    street.cut = {("lon1", "lon2"), ("lon2", "lon1")}
    street.run(20_000)
    assert street.holders() == ["lon1"]
    assert street.lease("lon1").until_ms == 0
    assert street.lease("lon2").word == "refused"


def test_who_owned_it_last_goes_on_alone_after_both_were_cut() -> None:
    street = settled(PAIR)
    street.reboot("lon1")
    street.reboot("lon2")
    street.run(5_000)
    street.start("lon1")
    street.want("lon1", last=True)
    assert waiting_ms(street, "lon1") < LEASE_MS // 4
    street.start("lon2")
    street.want("lon2")
    street.run(10_000)
    assert street.holders() == ["lon1"]
    assert not street.both_ms


def test_who_did_not_own_it_last_does_not_go_on_alone() -> None:
    street = settled(PAIR)
    street.reboot("lon1")
    street.reboot("lon2")
    street.start("lon2")
    street.want("lon2")
    street.run(10_000)
    assert street.holders() == []


def test_who_owned_it_last_votes_for_nobody_until_it_is_stored_that_it_left() -> None:
    street = settled(PAIR)
    street.reboot("lon1")
    street.start("lon1")
    street.want("lon1", False, last=True)
    street.want("lon2")
    street.run(8_000)
    assert street.holders() == []
    street.want("lon1", False, last=False)
    waiting_ms(street, "lon2")


def test_owning_it_last_proves_nothing_where_a_node_may_have_been_fenced() -> None:
    street = Street(replace(PAIR, fence=True)).start("lon1")
    street.want("lon1", last=True)
    street.run(10_000)
    assert street.holders() == []


def test_a_fenced_holder_need_not_be_waited_for() -> None:
    street = settled(replace(PAIR, fence=True))
    boot = street.machines["lon1"].boot
    street.reboot("lon1")
    street.want("lon2", off={"lon1": boot})
    assert waiting_ms(street, "lon2") <= 10


def test_a_promise_to_a_fenced_node_is_void_and_one_to_its_next_life_is_not() -> None:
    street = settled(MOST)
    boot = street.machines["lon1"].boot
    street.reboot("lon1")
    street.want("lon2", off={"lon1": boot})
    assert waiting_ms(street, "lon2") <= 20
    other = settled(MOST)
    other.reboot("lon1")
    other.want("lon2", off={"lon1": boot + 1})
    assert waiting_ms(other, "lon2") > LEASE_MS // 2


def test_a_witness_that_was_rebooted_answers_the_holder_and_nobody_else() -> None:
    street = settled()
    street.want("lon2")
    street.cut = {("lon1", "lon2"), ("lon2", "lon1")}
    street.reboot("wit")
    street.start("wit")
    assert street.lease("wit").voting == QUIET
    street.run(10_000)
    assert street.holders() == ["lon1"]
    assert not street.both_ms


def test_an_amnesic_voter_gives_nothing_for_a_whole_lease() -> None:
    street = settled()
    street.cut = {("lon1", "wit"), ("lon1", "lon2"), ("lon2", "lon1")}
    street.reboot("wit")
    street.start("wit")
    street.want("lon2")
    assert waiting_ms(street, "lon2") >= LEASE_MS
    assert not street.both_ms


def test_a_keeper_that_was_restarted_goes_on_with_its_lease() -> None:
    street = settled()
    street.want("lon2")
    street.kill("lon1")
    street.run(300)
    street.start("lon1")
    assert street.lease("lon1").state == HELD
    street.run(10_000)
    assert street.holders() == ["lon1"]


def test_a_pause_longer_than_the_lease_ends_it_before_anything_else_is_read() -> None:
    street = settled()
    street.want("lon2")
    street.pause("lon1")
    waiting_ms(street, "lon2")
    street.run(500)
    street.resume("lon1")
    assert street.lease("lon1").state == LOST
    assert not street.both_ms


def test_two_that_both_claim_leave_it_to_the_preferred_one() -> None:
    for terms in (PAIR, WITNESSED, THREE, MOST):
        street = Street(terms).start()
        street.run(2 * LEASE_MS)
        for node in reversed(terms.nodes):
            street.want(node)
        street.run(2_000)
        assert len(street.holders()) == 1
        assert not street.both_ms


# ---------------------------------------------------------------- single packets


def voter(**rest: Any) -> Lease:
    """The witness, long awake."""
    lease = Lease(WITNESSED, "wit", 5, 0, **rest)
    lease.look(10_000)
    assert lease.voting == FREE
    return lease


def said(lease: Lease) -> list[tuple[str, str, dict[str, Any]]]:
    out, lease.out = lease.out, []
    return out


def test_a_late_answer_says_nothing() -> None:
    lease = Lease(WITNESSED, "lon1", 5, 0)
    lease.told(True, False, {}, 10_000)
    ((_, _, body),) = said(lease)
    lease.answered(Vote("wit", body["id"], True), 10_000 + LEASE_MS // 5 + 1)
    assert lease.state == REFUSED


def test_a_lease_counts_from_the_request_and_not_from_its_answer() -> None:
    lease = Lease(WITNESSED, "lon1", 5, 0)
    lease.told(True, False, {}, 10_000)
    ((_, _, body),) = said(lease)
    lease.answered(Vote("wit", body["id"], True), 10_300)
    assert lease.state == HELD
    assert lease.until_ms == 10_000 + holder_ms(LEASE_MS)


def test_the_answer_of_one_that_has_no_vote_is_not_counted() -> None:
    lease = Lease(WITNESSED, "lon1", 5, 0)
    lease.told(True, False, {}, 10_000)
    ((_, _, body),) = said(lease)
    lease.answered(Vote("lon9", body["id"], True), 10_001)
    assert lease.state != HELD


def test_an_end_that_was_overtaken_frees_nothing_that_was_asked_for_later() -> None:
    lease = voter()
    lease.asked(Ask("lon1", 7, 12), 10_000)
    lease.asked(Ask("lon1", 7, 10), 10_001)  # overtaken
    lease.gave_up("lon1", 7, 11, 10_002)
    assert lease.voting == PROMISED
    lease.gave_up("lon1", 7, 12, 10_003)
    assert lease.voting == FREE


def test_an_end_of_another_life_frees_nothing() -> None:
    lease = voter()
    lease.asked(Ask("lon1", 7, 12), 10_000)
    lease.gave_up("lon1", 6, 99, 10_001)
    assert lease.voting == PROMISED


def test_a_request_that_was_given_up_already_is_not_answered() -> None:
    lease = voter()
    lease.gave_up("lon1", 7, 12, 10_000)
    lease.asked(Ask("lon1", 7, 12), 10_001)
    assert said(lease) == []
    assert lease.voting == FREE


def test_one_that_may_not_hold_it_is_not_answered() -> None:
    lease = voter()
    lease.asked(Ask("wit2", 7, 12), 10_000)
    assert said(lease) == []


def test_of_two_holders_the_one_that_was_given_it_later_stays() -> None:
    lease = Lease(PAIR, "lon1", 5, 0)
    lease.told(True, True, {}, 10_000)
    lease.tick(10_500)
    assert lease.state == HELD
    lease.asked(Ask("lon2", 7, 12, holds=True, term=lease.term), 10_600)
    assert lease.state == HELD
    lease.asked(Ask("lon2", 7, 13, holds=True, term=lease.term + 1), 10_601)
    assert lease.state == LOST


def test_what_is_not_wanted_is_not_asked_for() -> None:
    lease = Lease(WITNESSED, "lon1", 5, 0)
    lease.told(False, False, {}, 10_000)
    lease.tick(20_000)
    assert (said(lease), lease.state, lease.deadline(), lease.word) == ([], IDLE, 0, "")


def test_no_row_is_hidden_by_one_before_it() -> None:
    assert VOTER.shadowed() == []
    assert HOLDER.shadowed() == []


# ---------------------------------------------------------------- any order, any loss


def story(
    seed: int, terms: LeaseTerms, make: type[Lease] = Lease, steps: int = 40
) -> tuple[Street, list[str]]:
    """Faults of every kind, then none: (the street, who holds it at last)."""
    rng = Random(seed)
    street = Street(terms, seed, make).start()
    street.run(rng.choice((50, 2_500)))
    names = list(terms.voters)
    for _ in range(steps):
        kind, node = rng.choice(KINDS), rng.choice(names)
        other = rng.choice([name for name in names if name != node])
        misfortune(street, kind, node, other, rng)
        street.run(rng.choice((5, 100, 700, 2_500)))
        if street.both_ms:
            return street, []
    street.cut, street.loss, street.copies, street.delay_ms = set(), 0.0, 0.0, (1, 3)
    for node in names:
        street.resume(node)
        if street.machines[node].lease is None:
            street.start(node)
    street.run(3_000)
    for node in terms.nodes:
        street.want(node)
    street.run(9_000)
    return street, street.holders()


KINDS = ("want", "want", "unwant", "kill", "reboot", "pause", "cut", "one-way", "heal", "net")


def misfortune(street: Street, kind: str, node: str, other: str, rng: Random) -> None:
    machine = street.machines[node]

    def start() -> None:
        if machine.lease is None:
            street.start(node)

    if kind in ("cut", "one-way"):
        street.cut |= {(node, other)} | ({(other, node)} if kind == "cut" else set())
    elif kind in ("want", "unwant") and node in machine.terms.nodes:
        street.want(node, kind == "want" or rng.random() < 0.6)
    elif kind == "kill":
        street.kill(node)
        street.at(rng.randint(100, 400), start)
    elif kind == "reboot":
        street.reboot(node)
        street.at(rng.randint(300, 5_000), start)
    elif kind == "pause":
        street.pause(node)
        street.at(rng.randint(50, 5_000), lambda: street.resume(node))
    elif kind == "heal":
        street.cut = set()
    elif kind == "net":
        street.loss = rng.choice((0.0, 0.0, 0.1, 0.4))
        street.copies = rng.choice((0.0, 0.3))
        street.delay_ms = rng.choice(((1, 3), (1, 3), (1, 400), (1, 2_500)))


@given(seed=st.integers(0, 10**9), terms=st.sampled_from([PAIR, WITNESSED, THREE, MOST]))
@settings(max_examples=120, deadline=None)
def test_never_two_holders_and_one_in_the_end(seed: int, terms: LeaseTerms) -> None:
    street, holders = story(seed, terms)
    assert not street.both_ms
    assert len(holders) == 1


class SoftIsFirm(Lease):
    """The yes of one that remembers nothing counts like any other."""

    def answered(self, vote: Vote, now: int) -> None:
        super().answered(replace(vote, soft=False), now)


class EndsAnything(Lease):
    """An end frees whatever its sender was promised since."""

    def gave_up(self, node: str, boot: int, number: int, now: int) -> None:
        super().gave_up(node, boot, 1 << 60, now)


SEEDS = {  # of stories that bring it out
    FromReply: 46, Amnesic: 73, LateReply: 874, Forgets: 21, Trusts: 17, SoftIsFirm: 2126,
    EndsAnything: 178,
}  # fmt: skip


@pytest.mark.parametrize("planted", SEEDS, ids=lambda it: it.__name__)
def test_a_planted_bug_makes_two_holders(planted: type[Lease]) -> None:
    seed = SEEDS[planted]
    terms = (PAIR, WITNESSED, THREE, MOST)[seed % 4]
    assert story(seed, terms, planted)[0].both_ms
    assert not story(seed, terms)[0].both_ms
