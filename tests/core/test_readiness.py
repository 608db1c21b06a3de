# SPDX-License-Identifier: GPL-2.0-or-later
"""When a standby is READY, and what is said where it is not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.model import Carried, Proof, Proved
from agent.core.readiness import DAY_MS, RULES, Readiness
from agent.core.settings import CarriedSettings, GroupSettings, ServiceSettings, Standby

CARRIED = CarriedSettings(
    files=("/etc/x/",), licence=("/etc/x/licence",), status="/var/x", load_test="x --load"
)
COLD = GroupSettings(
    "db",
    ("a", "b"),
    (),
    services=(ServiceSettings("db", unit="db.service"),),
    standby=Standby.COLD,
    carried=CARRIED,
    promote="promote",
    rehearse="rehearse",
)
HOT = GroupSettings("web", ("a", "b"), (), services=(ServiceSettings("web", unit="web"),))
LOCAL = ("status-load", "licence", "unit", "ports", "room", "hooks")


def proved(*proofs, group="db"):
    return Proved(group, proofs)


def show(readiness, now, *, but=None, rehearsal=True, carried=True, status_age_ms=500):
    """A whole round; `but`: the proofs that are not simply good."""
    special = {proof.name: proof for proof in but or ()}
    names = LOCAL + (("rehearsal",) if rehearsal else ())
    readiness.hear(proved(*(special.get(name, Proof(name, True)) for name in names)), now)
    if carried:
        readiness.hear(Carried("db", {}, True, status_age_ms=status_age_ms), now)


def ready(now=0):
    readiness = Readiness(COLD)
    show(readiness, now)
    return readiness


def test_nothing_shown_is_not_ready_and_the_first_reason_is_the_first_rule():
    assert Readiness(COLD).why(0) == "settings: not shown yet"
    assert Readiness(HOT).why(0) == "unit: not shown yet"


def test_a_whole_round_makes_it_ready():
    assert ready().why(0) == ""
    assert ready().complaints(0) == {}


def test_what_a_group_does_not_have_is_not_asked_of_it():
    readiness = Readiness(HOT)
    readiness.hear(proved(Proof("unit", True), Proof("room", True)), 0)
    assert readiness.why(0) == ""
    assert {row.name for row in readiness.table(0)} == {
        "unit",
        "room",
        "clock",
        "versions",
        "drift",
    }


@pytest.mark.parametrize("name", LOCAL)
def test_each_proof_that_fails_bars_and_says_why(name):
    readiness = ready()
    readiness.hear(proved(Proof(name, False, "broken so")), 10)
    assert readiness.why(10) == f"{name}: broken so"


@pytest.mark.parametrize("name", ["settings", "status", *LOCAL])
def test_each_proof_that_grows_old_bars(name):
    readiness = Readiness(COLD)
    show(readiness, 0)
    for now in range(5_000, 70_000, 5_000):
        names = [other for other in LOCAL if other != name]
        readiness.hear(proved(*(Proof(other, True) for other in names)), now)
        if name == "settings":
            readiness.hear(Carried("db", {}, None, status_age_ms=500), now)
        elif name != "status":
            readiness.hear(Carried("db", {}, True, status_age_ms=500), now)
        else:
            readiness.hear(Carried("db", {}, True, status_age_ms=now + 500), now)
    assert readiness.why(65_001).startswith(f"{name}: ")


def test_a_proof_lasts_as_long_as_it_is_said_and_no_longer():
    readiness = Readiness(HOT)
    readiness.hear(proved(Proof("unit", True), Proof("room", True)), 1_000)
    assert readiness.deadline(1_000) == 61_001
    assert readiness.why(61_000) == ""
    assert readiness.why(61_001) == "unit: last shown 60.0 s ago"


def test_a_look_that_came_to_nothing_is_no_verdict_but_lets_the_last_one_age():
    readiness = Readiness(HOT)
    readiness.hear(proved(Proof("unit", True), Proof("room", True)), 0)
    readiness.hear(proved(Proof("unit", None, "D-Bus hangs"), Proof("room", True)), 50_000)
    assert readiness.why(60_000) == ""
    assert readiness.why(60_001) == "unit: last shown 60.0 s ago; D-Bus hangs"


def test_what_never_could_be_looked_at_says_what_was_in_the_way():
    readiness = Readiness(HOT)
    readiness.hear(proved(Proof("unit", None, "D-Bus hangs")), 0)
    assert readiness.why(0) == "unit: D-Bus hangs"


def test_a_copy_does_not_grow_worse_by_the_death_of_the_active_node():
    readiness = Readiness(COLD)
    show(readiness, 0)
    for now in range(10_000, 600_000, 10_000):
        show(readiness, now, carried=False)
        readiness.hear(Carried("db", {}, None, status_age_ms=now + 500), now)
    assert readiness.why(590_000).startswith("settings: ")
    assert readiness.why(590_000, lost_ms=2_000) == ""


def test_a_copy_that_was_old_when_the_active_node_died_stays_old():
    readiness = Readiness(COLD)
    show(readiness, 0, status_age_ms=9_000)
    assert readiness.why(1_000) == ""
    assert readiness.why(1_001) == "status: is 10.0 s old"
    assert readiness.why(50_000, lost_ms=1_001) == "status: is 10.0 s old"


def test_a_difference_that_is_found_after_the_active_node_died_still_counts():
    readiness = ready()
    readiness.hear(Carried("db", {}, False, "/etc/x/a differs", status_age_ms=600), 100)
    assert readiness.why(100, lost_ms=50) == "settings: /etc/x/a differs"


def test_who_served_last_needs_no_active_node_to_compare_with_but_all_else():
    readiness = Readiness(COLD)
    show(readiness, 0, carried=False)
    readiness.hear(Carried("db", {}, None), 0)
    assert readiness.why(0) == "settings: no active node is heard to compare with"
    assert readiness.why(0, own=True) == ""
    readiness.hear(proved(Proof("licence", False, "is for another host")), 1)
    assert readiness.why(1, own=True) == "licence: is for another host"


def test_without_any_status_where_the_active_node_is_heard_it_is_not_ready():
    readiness = Readiness(COLD)
    show(readiness, 0, status_age_ms=None)
    assert readiness.why(0) == "status: none was received from the active node"


def test_a_rehearsal_may_be_missed_once():
    readiness = Readiness(COLD)
    show(readiness, 0)
    later = 2 * COLD.rehearse_every_ms
    show(readiness, later, rehearsal=False)
    assert readiness.why(later) == ""
    assert readiness.why(later + 1).startswith("rehearsal: last shown 2.0 h ago")


def test_incompatible_versions_bar_and_other_differences_are_told():
    readiness = ready()
    readiness.hear(proved(Proof("drift", False, "kernel 6.1 here, 6.12 there")), 0)
    assert readiness.why(0) == ""
    assert readiness.complaints(0) == {"settings-differ": "drift: kernel 6.1 here, 6.12 there"}
    readiness.hear(proved(Proof("versions", False, "db 15 here, 16 there")), 0)
    assert readiness.why(0) == "versions: db 15 here, 16 there"


def test_a_licence_that_ends_is_told_in_time_and_bars_when_it_has_ended():
    readiness = ready()
    readiness.hear(proved(Proof("licence", True, "for this host", left_ms=29 * DAY_MS)), 0)
    assert readiness.left(0) == 29
    assert readiness.why(0) == ""
    assert readiness.complaints(0) == {"licence-expiring": "licence: ends in 29.0 days"}
    readiness.hear(proved(Proof("licence", True, left_ms=1_000)), 0)
    assert readiness.deadline(0) == 1_000
    assert readiness.why(1_000) == "licence: as it should be; it has ended"
    assert (readiness.left(DAY_MS + 1_000)) == -1


def test_a_licence_with_a_long_time_to_go_says_nothing():
    readiness = ready()
    readiness.hear(proved(Proof("licence", True, left_ms=31 * DAY_MS)), 0)
    assert readiness.complaints(0) == {}


def test_alarms_name_what_is_wrong_beside_not_being_ready():
    readiness = ready()
    readiness.hear(proved(Proof("licence", False, "is for another host")), 0)
    assert readiness.complaints(0) == {
        "standby-not-ready": "licence: is for another host",
        "licence-invalid": "licence: is for another host",
    }


def test_what_was_shown_before_this_node_served_proves_nothing_after():
    readiness = ready()
    readiness.forget()
    assert readiness.why(0) == "settings: not shown yet"


def test_the_table_shows_every_proof_with_its_age():
    rows = {row.name: row for row in ready().table(3_000)}
    assert rows["status"].age_ms == 3_500
    assert rows["unit"].age_ms == 3_000
    assert rows["drift"].state == "unseen"
    assert [rule.name for rule in RULES] == list(rows)


NAMES = st.sampled_from([rule.name for rule in RULES])
STORY = st.lists(
    st.tuples(st.integers(0, 40_000), NAMES, st.sampled_from([True, False, None])), max_size=40
)


@given(STORY)
def test_ready_is_never_older_than_its_oldest_proof_allows(story):
    """Whatever is heard: READY means each proof that is asked was good within its age."""
    readiness, now = ready(), 0
    readiness.hear(Carried("db", {}, True, status_age_ms=-10_000_000), 0)  # this one stays fresh
    good = {rule.name: (True, 0) for rule in RULES}
    for pause_ms, name, ok in story:
        now += pause_ms
        readiness.hear(proved(Proof(name, ok)), now)
        if ok is not None:
            good[name] = (ok, now)
        if readiness.why(now) == "":
            for wanted in ("settings", *LOCAL):
                assert good[wanted][0]
                assert now - good[wanted][1] <= COLD.proof_max_age_ms


def test_a_node_that_served_in_good_health_is_a_standby_at_once():
    readiness = ready()
    readiness.served(3_600_000)
    assert readiness.why(3_600_000) == ""
    assert readiness.why(3_600_000 + COLD.proof_max_age_ms + 1) != ""


def test_that_it_served_gives_no_licence_a_longer_life():
    readiness = Readiness(COLD)
    show(readiness, 0, but=(Proof("licence", True, "", left_ms=2 * DAY_MS),))
    readiness.served(DAY_MS)
    assert readiness.left(DAY_MS) == 1.0
