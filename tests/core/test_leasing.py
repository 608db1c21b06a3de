# SPDX-License-Identifier: GPL-2.0-or-later
"""Leases in the keeper: packets and words in; requests, addresses and reports out."""

from __future__ import annotations

from typing import Any

import pytest

from agent.core.keeper import KeeperCore
from agent.core.keeping import (
    Keeping,
    KeptPeer,
    LeaseTerms,
    PeerHeard,
    ReleaseAddresses,
    Remember,
    Report,
    SendPeer,
    StopServices,
    TakeAddresses,
    Woken,
)
from agent.core.lease_count import holder_ms
from tests.core.keepers import PLUGGED, START, KeeperPlay, beat, heard, keeping, states, word
from tests.core.playbook import WAKE, Playbook, after, paused

LEASE_MS = 2_000
TERMS = LeaseTerms(("lon1", "lon2"), ("lon1", "lon2", "wit"), LEASE_MS)
CLAIM = word(False, claim=True)


def play(terms: LeaseTerms = TERMS, memory: bytes | None = None, node: str = "lon1") -> KeeperPlay:
    """Plugged and awake, its agent has not spoken."""
    it = KeeperPlay(node)
    config = keeping(node)
    config.leases = {"sbc": terms}
    config.memory = memory
    config.peers["wit"] = KeptPeer("wit", ("10.1.0.19",), ())
    it.core = KeeperCore(config, START)
    return it.given(PLUGGED, WAKE)  # type: ignore[return-value]


def asked(it: Playbook) -> int:
    return next(
        action.body["id"]
        for action in reversed(it.all)
        if isinstance(action, SendPeer) and action.kind == "lease-ask"
    )


def vote(it: Playbook, node: str = "wit", ok: bool = True, **rest: Any) -> PeerHeard:
    return heard(node, "lease-vote", {"group": "sbc", "id": asked(it), "ok": ok, "t": 0, **rest})


def holding(it: KeeperPlay) -> KeeperPlay:
    it.given(after(3_000), CLAIM)
    it.given(vote(it))
    assert it.core.leases.by_group["sbc"].held
    return it


def serving() -> KeeperPlay:
    """With lease, services and addresses."""
    it = holding(play())
    it.given(word(claim=True))
    for _ in range(20):
        it.given(after(100), vote(it))
    assert it.state == "active"
    return it


def deed(it: KeeperPlay) -> tuple[str, int]:
    found = it.report().groups["sbc"]
    return found.lease, found.lease_until_ms


def test_who_claims_asks_every_voter_and_holds_it_with_a_majority() -> None:
    it = play().given(after(3_000))
    sent = it.said(SendPeer, CLAIM)
    assert {action.node for action in sent if action.kind == "lease-ask"} == {"lon2", "wit"}
    sent_ms = it.now
    it.given(after(50), vote(it))
    assert deed(it) == ("held", sent_ms + holder_ms(LEASE_MS))


def test_without_a_claim_nothing_is_asked_for() -> None:
    it = play()
    assert not [a for a in it.said(SendPeer, word(), after(5_000)) if a.kind.startswith("lease-")]
    assert deed(it) == ("", 0)


def test_a_group_of_the_segment_knows_no_lease() -> None:
    it = KeeperPlay("lon1").given(PLUGGED, word(claim=True), after(3_000))
    assert deed(it) == ("", 0)  # type: ignore[arg-type]
    assert not [a for a in it.all if isinstance(a, Remember | StopServices)]


def test_ready_without_the_lease_takes_nothing() -> None:
    it = play()
    assert not it.said(TakeAddresses, word(claim=True), after(10_000))
    assert it.state == "backup"
    assert it.group.orphaned


def test_ready_and_with_the_lease_it_takes() -> None:
    it = serving()
    assert [a for a in it.all if isinstance(a, TakeAddresses)]


def test_in_its_beats_it_is_ready_only_with_the_lease() -> None:
    it = play().given(word(claim=True), after(1_100))
    beats = [a.body["g"]["sbc"] for a in it.all if isinstance(a, SendPeer) and a.kind == "beat"]
    assert beats[-1][1] is False


def test_a_lease_that_nobody_renews_ends_with_addresses_and_services() -> None:
    it = serving()
    before = len(it.all)
    it.given(after(LEASE_MS))
    did = it.all[before:]
    stop = next(n for n, a in enumerate(did) if isinstance(a, StopServices))
    assert any(isinstance(a, ReleaseAddresses) for a in did[stop:])
    assert it.state == "backup"
    assert deed(it) == ("lost", 0)


def test_renewals_go_on_without_the_agent() -> None:
    it = serving()
    for _ in range(300):  # half a minute without a word
        it.given(after(100), vote(it))
    assert deed(it)[0] == "held"
    assert it.state == "active"


def test_a_pause_ends_it_before_an_answer_from_the_queue_is_read() -> None:
    it = serving()
    answer = vote(it)
    before = len(it.all)
    it.now += LEASE_MS
    it.given(answer)
    assert [a for a in it.all[before:] if isinstance(a, StopServices)]
    assert deed(it)[0] == "lost"


def test_a_short_pause_renews_it_at_once() -> None:
    it = serving()
    before = it.now
    it.given(paused(700))
    assert asked(it) >= before


def test_the_end_of_a_claim_tells_every_voter() -> None:
    it = serving()
    sent = it.said(SendPeer, word(False, claim=False, order="give", to="lon2"))
    assert {a.node for a in sent if a.kind == "lease-end"} == {"lon2", "wit"}
    assert it.state == "active"  # until the other one takes it
    assert not [a for a in it.all if isinstance(a, StopServices)]


def test_a_promise_is_remembered_before_it_is_said() -> None:
    it = play(node="lon2").given(after(3_000), word(False))
    ask = heard("lon1", "lease-ask", {"group": "sbc", "id": 7, "h": False, "t": 0})
    before = len(it.all)
    it.given(ask)
    did = [type(a) for a in it.all[before:] if isinstance(a, Remember | SendPeer)]
    assert did[:2] == [Remember, SendPeer]


def test_the_next_keeper_goes_on_with_the_lease() -> None:
    it = serving()
    memory = next(a.memory for a in reversed(it.all) if isinstance(a, Remember))
    config: Keeping = it.core.config
    config.memory = memory
    successor = KeeperCore(config, it.now + 300)
    assert successor.groups["sbc"].leased
    late = KeeperCore(config, it.now + 3_000)
    out = late.step(Woken(it.now + 3_000), it.now + 3_000)
    assert StopServices("sbc") in out
    assert not late.groups["sbc"].leased


@pytest.mark.parametrize(
    "memory", [b"", b"{", b"[1]", b'{"sbc":[1,2]}', b'{"sbc":"x"}', b"[" * 9999]
)
def test_a_memory_that_cannot_be_read_makes_it_quiet(memory: bytes) -> None:
    it = play(memory=memory, node="lon2").given(word(False))
    ask = heard("lon1", "lease-ask", {"group": "sbc", "id": 7, "h": False, "t": 0})
    (said,) = [a for a in it.said(SendPeer, ask) if a.kind == "lease-vote"]
    assert not said.body["ok"]


def test_one_that_was_heard_since_is_not_off() -> None:
    it = play().given(after(3_000), beat("lon2"), word(False, claim=True, fenced=("lon2",)))
    assert it.core.leases.by_group["sbc"].held
    other = play().given(after(3_000), beat("lon2"), word(False, fenced=("lon2",)), beat("lon2"))
    other.given(word(False, claim=True, fenced=("lon2",)))
    assert not other.core.leases.by_group["sbc"].held  # type: ignore[attr-defined]


def test_what_was_heard_since_is_known_to_the_next_keeper() -> None:
    it = play().given(after(3_000), beat("lon2"), word(False, fenced=("lon2",)))
    (kept,) = it.said(Remember, beat("lon2"))
    successor = play(memory=kept.memory)
    successor.given(after(3_000), word(False, claim=True, fenced=("lon2",)))
    assert not successor.core.leases.by_group["sbc"].held


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"group": "sbc"},
        {"group": "sbc", "id": "7"},
        {"group": "sbc", "id": True},
        {"group": "sbc", "id": -1},
        {"group": "sbc", "id": 1 << 70},
        {"group": ["sbc"], "id": 7},
        {"group": "nobody", "id": 7},
    ],
)
@pytest.mark.parametrize("kind", ["lease-ask", "lease-vote", "lease-end"])
def test_what_is_not_of_the_form_is_passed_over(kind: str, body: dict[str, Any]) -> None:
    it = play(node="lon2").given(after(3_000), word(False))
    assert not [a for a in it.said(SendPeer, heard("lon1", kind, body)) if a.kind != "beat"]


def test_a_request_says_what_it_likes_and_breaks_nothing() -> None:
    it = play(node="lon2").given(after(3_000), word(False))
    body = {"group": "sbc", "id": 7, "h": "yes", "t": "x", "off": {"lon2": "x", "y": None}}
    (said,) = [a for a in it.said(SendPeer, heard("lon1", "lease-ask", body)) if a.kind != "beat"]
    assert said.body["ok"]


def test_what_may_be_a_recording_is_not_believed() -> None:
    it = play(node="lon2").given(after(3_000), word(False))
    ask = heard("lon1", "lease-ask", {"group": "sbc", "id": 7, "h": False, "t": 0}, fresh=False)
    assert not [a for a in it.said(SendPeer, ask) if a.kind != "beat"]


def test_a_witness_serves_nothing_and_votes() -> None:
    peers = {n: KeptPeer(n, (f"10.1.0.{k}",), ()) for k, n in enumerate(("lon1", "lon2"), 11)}
    core = KeeperCore(Keeping("wit", 5, {}, peers, {}, leases={"sbc": TERMS}), START)
    core.step(Woken(START), START)
    later = START + 3_000
    ask = heard("lon1", "lease-ask", {"group": "sbc", "id": 7, "h": False, "t": 0})
    (said,) = [a for a in core.step(ask, later) if isinstance(a, SendPeer) and a.kind != "beat"]
    assert (said.node, said.kind, said.body["ok"]) == ("lon1", "lease-vote", True)
    assert core.leases.deadline() == 0


def test_what_a_peer_could_bring_up_is_in_its_beats_and_in_the_report() -> None:
    it = KeeperPlay("lon1").given(PLUGGED, word(False, able=True), after(1_100))
    beats = [a.body for a in it.all if isinstance(a, SendPeer) and a.kind == "beat"]
    assert beats[-1]["a"] == ["sbc"]
    it.given(heard("lon2", "beat", states("backup", False, 0) | {"s": [], "a": ["sbc", 7]}))
    assert it.report().peers["lon2"].able == ("sbc",)  # type: ignore[attr-defined]
    it.given(heard("lon2", "beat", states("backup", False, 0) | {"s": []}))
    assert it.report().peers["lon2"].able == ()  # type: ignore[attr-defined]


def test_reports_say_which_rule_of_the_lease_fired() -> None:
    it = serving()
    rules = [d.rule for a in it.all if isinstance(a, Report) for d in a.said.decisions]
    assert "L-CLAIM" in rules
    assert "L-HELD" in rules
