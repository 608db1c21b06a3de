# SPDX-License-Identifier: GPL-2.0-or-later
"""The judge of chaos, each of its rules broken once; the plan of a seed; two short runs."""

from __future__ import annotations

import contextlib
import math
import socket
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from tests.lab import chaos
from tests.lab.chaos_faults import KINDS, LONGEST_S, SHORTEST_S, plan
from tests.lab.chaos_judge import (
    DOWN,
    FROZEN,
    LINE,
    ROGUE,
    STALL,
    Effect,
    Judge,
    Span,
    Story,
    Verdict,
    common,
    union,
    warmed,
    without,
)
from tests.lab.chaos_machines import Calendar, Machine
from tests.lab.chaos_machines import plan as street_plan
from tests.lab.netns import inside, wait_until
from tests.lab.patient import UDP_PORT
from tests.lab.world import World

ENDED = 60_000.0
OVER = 50_000.0


def story(
    *effects: Effect,
    outages: Sequence[Span] = (),
    owned: Mapping[str, Sequence[Span]] | None = None,
    paths: int = 1,
    left: Sequence[str] = (),
) -> Story:
    """Two nodes for a minute, one of which has the address all the time unless said otherwise."""
    kept = {"one": [(0.0, ENDED)], "two": []} if owned is None else owned
    return Story(("one", "two"), paths, 0.0, OVER, ENDED, effects, outages, kept, left)


def verdict(*effects: Effect, **more: object) -> Verdict:
    return Judge(story(*effects, **more)).verdict()  # type: ignore[arg-type]


def rules(found: Verdict) -> list[str]:
    return [violation.rule for violation in found.violations]


def stretches(found: Verdict) -> list[Span]:
    return sorted({span for span, _ in found.unexcused})


def sick(node: str, since_ms: float, until_ms: float) -> list[Effect]:
    """It could not serve then: its line is cut."""
    return [Effect(LINE, node, since_ms, until_ms)]


# Spans


def test_spans_are_joined_met_and_cut_out_at_their_edges() -> None:
    assert union([(5, 7), (1, 3), (3, 4), (6, 9), (9, 9)]) == [(1, 4), (5, 9)]
    assert common([(1, 4), (6, 9)], [(3, 7), (8, 20)]) == [(3, 4), (6, 7), (8, 9)]
    assert without((0, 10), [(2, 3), (-5, 1), (9, 40)]) == [(1, 2), (3, 9)]
    assert without((0, 10), [(-1, 11)]) == []
    assert without((0, 10), []) == [(0, 10)]


def test_time_in_which_a_process_is_frozen_does_not_warm_it() -> None:
    assert warmed(100, 50, []) == 150
    assert warmed(100, 50, [(120, 200)]) == 230
    assert warmed(100, 50, [(90, 200), (210, 300)]) == 340
    assert warmed(100, 50, [(10, 20), (150, 160)]) == 150


# Unserved


def test_a_quiet_run_breaks_no_rule() -> None:
    found = verdict()
    assert (rules(found), found.unserved_ms, found.unexcused_ms) == ([], 0.0, 0.0)


def test_a_client_left_alone_while_a_node_could_serve_is_a_violation_beyond_the_limit() -> None:
    assert rules(verdict(outages=[(10_000, 11_200)])) == []
    found = verdict(outages=[(10_000, 11_201)])
    assert rules(found) == ["unserved"]
    assert found.violations[0].span == (10_000, 11_201)
    assert found.unexcused_ms == 1201


def test_an_outage_is_excused_while_nobody_could_serve() -> None:
    hurt = [*sick("one", 9_000, 20_000), *sick("two", 9_500, 20_000)]
    assert rules(verdict(*hurt, outages=[(9_500, 21_000)])) == []
    assert stretches(verdict(*hurt, outages=[(9_500, 21_000)])) == [(20_000, 21_000)]


def test_it_must_be_one_same_node_that_could_have_served() -> None:
    hurt = [*sick("one", 10_000, 11_000), *sick("two", 11_000, 12_000)]
    found = verdict(*hurt, outages=[(10_000, 12_000)])
    assert rules(found) == []
    assert stretches(found) == [(10_000, 11_000), (11_000, 12_000)]
    longer = [*sick("one", 10_000, 11_500), *sick("two", 11_500, 12_000)]
    assert "unserved" in rules(verdict(*longer, outages=[(10_000, 12_000)]))


def test_short_stretches_add_up_and_time_that_two_nodes_could_have_saved_counts_once() -> None:
    outages = [(10_000.0 + 2000 * n, 11_000.0 + 2000 * n) for n in range(2)]
    assert rules(verdict(outages=outages)) == []
    assert verdict(outages=outages).unexcused_ms == 2000
    assert rules(verdict(outages=[*outages, (20_000, 20_100)])) == ["unserved sum"]


def test_lost_packets_of_a_lossy_line_are_no_outage() -> None:
    blinks = [(10_000.0 + 60 * n, 10_049.0 + 60 * n) for n in range(100)]
    assert verdict(outages=blinks).unexcused_ms == 0
    assert verdict(outages=[(10_000, 10_050)]).unexcused_ms == 50


@pytest.mark.parametrize(
    ("effect", "able_from"),
    [
        (Effect(LINE, "one", 5_000, 10_000), 10_000),
        (Effect(FROZEN, "one", 5_000, 10_000), 10_000),
        (Effect(DOWN, "one", 5_000, 10_000), 13_000),
        (Effect(DOWN, "one", 10_000, 10_000), 13_000),
        (Effect(ROGUE, "", 5_000, 10_000), 10_000),
        (Effect(STALL, "", 5_000, 10_000), 10_000),
    ],
)
def test_what_keeps_a_node_from_serving_and_until_when(effect: Effect, able_from: float) -> None:
    judge = Judge(story(effect))
    assert judge.could_serve("one") == [(0, effect.since_ms), (able_from, ENDED)]


def test_a_second_path_and_another_node_excuse_nobody() -> None:
    judge = Judge(story(Effect(LINE, "one", 0, ENDED, path=1), *sick("two", 0, ENDED), paths=2))
    assert judge.could_serve("one") == [(0, ENDED)]
    assert judge.could_serve("two") == []


def test_a_start_that_is_frozen_takes_as_much_longer() -> None:
    judge = Judge(story(Effect(DOWN, "one", 5_000, 10_000), Effect(FROZEN, "one", 11_000, 13_000)))
    assert judge.could_serve("one") == [(0, 5_000), (15_000, ENDED)]


# Two owners


def both(since_ms: float, until_ms: float) -> dict[str, list[Span]]:
    return {"one": [(0.0, ENDED)], "two": [(since_ms, until_ms)]}


def test_two_owners_that_hear_each_other_are_a_violation_beyond_the_limit() -> None:
    assert rules(verdict(owned=both(10_000, 10_700))) == []
    found = verdict(owned=both(10_000, 10_701))
    assert rules(found) == ["two owners"]
    assert found.violations[0].span == (10_000, 10_701)


@pytest.mark.parametrize(
    "effect",
    [
        Effect(LINE, "one", 10_000, 20_000),
        Effect(LINE, "two", 10_000, 20_000, path=1),
        Effect(FROZEN, "one", 10_000, 20_000),
        Effect(DOWN, "two", 10_000, 19_000),
    ],
)
def test_two_owners_are_excused_while_they_cannot_hear_each_other(effect: Effect) -> None:
    assert rules(verdict(effect, owned=both(10_000, 20_700), paths=2)) == []
    assert rules(verdict(effect, owned=both(10_000, 20_701), paths=2)) == ["two owners"]
    assert rules(verdict(owned=both(10_000, 20_700), paths=2)) == ["two owners"]


def test_time_in_which_the_machine_stands_still_is_nobodys_fault() -> None:
    still = Effect(STALL, "", 10_000, 14_000)
    assert rules(verdict(still, owned=both(10_000, 14_700))) == []
    assert rules(verdict(still, owned=both(10_000, 14_701))) == ["two owners"]


# The end


def test_a_client_still_without_service_after_all_was_mended_is_a_violation() -> None:
    sick_both = [*sick("one", 0, OVER), *sick("two", 0, OVER)]
    assert "end" not in rules(verdict(*sick_both, outages=[(40_000, OVER + 5_000)]))
    assert "end" in rules(verdict(*sick_both, outages=[(40_000, OVER + 5_101)]))


def test_an_address_that_nobody_or_two_have_at_the_end_is_a_violation() -> None:
    late = {"one": [(0.0, 40_000.0), (OVER + 5_101, ENDED)], "two": []}
    assert rules(verdict(owned=late)) == ["end"]
    apart = Effect(LINE, "one", 0, math.inf)
    assert rules(verdict(apart, owned=both(40_000, ENDED))) == ["end"]
    moved = {"one": [(0.0, 57_000.0)], "two": [(56_999.0, ENDED)]}
    assert rules(verdict(owned=moved)) == []


def test_a_run_on_a_machine_that_stood_still_for_long_says_nothing() -> None:
    stalls = [Effect(STALL, "", 1_000, 3_500), Effect(STALL, "", 20_000, 22_500)]
    assert rules(verdict(*stalls)) == []
    assert rules(verdict(*stalls, Effect(STALL, "", 30_000, 30_001))) == ["stood still"]


def test_what_is_left_over_is_a_violation() -> None:
    found = verdict(left=["10.1.0.100 is left on one"])
    assert rules(found) == ["left over"]
    assert found.violations[0].text == "10.1.0.100 is left on one"


# Seeds


def test_a_seed_brings_the_same_faults_each_time_and_another_seed_others() -> None:
    first = plan(7, 40, 2, 1)
    assert first == plan(7, 40, 2, 1)
    assert first != plan(8, 40, 2, 1)
    assert [fault.draw().random() for fault in first] == [
        fault.draw().random() for fault in plan(7, 40, 2, 1)
    ]


def test_faults_are_of_every_kind_overlap_and_leave_time_to_settle() -> None:
    faults = plan(1, 400, 3, 2)
    assert {fault.kind for fault in faults} == set(KINDS)
    assert all(SHORTEST_S <= fault.length_s <= LONGEST_S for fault in faults)
    gaps_s = [after.at_s - before.at_s for before, after in pairwise(faults)]
    assert min(gaps_s) < 0.5
    assert max(gaps_s) > LONGEST_S
    assert {fault.paths for fault in faults} == {(0,), (1,), (0, 1)}


# Faults, on a real switch


class Idle:
    """A candidate without any process; `launched` names the nodes in order."""

    flood_priority = 1

    def __init__(self) -> None:
        self.launched: list[str] = []
        self.is_up = True

    def launch(self, node: str) -> None:
        self.launched.append(node)

    def alive(self, node: str) -> bool:
        return False

    def up(self, node: str) -> bool:
        return self.is_up

    def terminate(self, node: str) -> None: ...

    def kill_one(self, node: str, choice: float) -> tuple[str, bool]:
        return ("" if choice == 0 else "all"), choice < 0.5

    def settled(self) -> bool:
        return True

    def decisions(self, node: str) -> list[tuple[float, str]]:
        return []

    def report(self, node: str) -> str:
        return ""


@pytest.fixture
def machine() -> Iterator[Machine]:
    with World.build(street_plan(2, 1)) as world:
        found = Machine(world.node("lon1"), Idle(), world, Calendar())
        found.node.tell_patient("start")
        yield found


def answered(machine: Machine, questions: int = 5) -> int:
    """How many questions of the client the node answers."""
    with inside(machine.world.client.namespace):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    found = 0
    with sock:
        sock.settimeout(0.05)
        for _ in range(questions):
            sock.sendto(b"?", (machine.node.address, UDP_PORT))
            with contextlib.suppress(TimeoutError):
                found += sock.recv(64).startswith(b"lon1")
    return found


def test_a_line_is_whole_again_when_the_last_of_its_troubles_is_over(machine: Machine) -> None:
    line = machine.lines[0]
    assert answered(machine) == 5
    line.begin(1, "cut")
    line.begin(2, "unplugged")
    line.end(2)
    assert answered(machine) == 0
    line.end(1)
    wait_until(lambda: answered(machine) == 5, "the cut is over")
    for kind in ("deaf", "mute"):
        line.begin(3, kind)
        line.begin(4, "loss", 10)
        line.end(4)
        assert answered(machine) == 0
        line.end(3)
        wait_until(lambda: answered(machine) == 5, f"{kind} is over")
    line.begin(5, "loss", 30)
    assert 0 < answered(machine, 100) < 100
    line.end(5)
    effects = machine.calendar.effects
    assert {effect.what for effect in effects} == {LINE}
    assert all(effect.until_ms < math.inf for effect in effects)


def test_a_node_runs_again_when_the_last_fault_that_keeps_it_down_is_over(machine: Machine) -> None:
    candidate = machine.candidate
    assert isinstance(candidate, Idle)
    machine.freeze(1)
    machine.power_off(2)
    assert not machine.frozen
    machine.stop(3)
    machine.power_on(2)
    machine.thaw(1)
    assert (candidate.launched, machine.mended) == ([], False)
    candidate.is_up = False
    machine.start(3)
    machine.tick()
    assert (candidate.launched, machine.mended) == (["lon1"], False)
    candidate.is_up = True
    machine.tick()
    assert machine.mended
    wait_until(lambda: answered(machine) == 5, "the service is back with the power")


def test_a_node_is_down_until_the_one_process_that_was_killed_is_there_again(
    machine: Machine,
) -> None:
    candidate = machine.candidate
    assert isinstance(candidate, Idle)
    assert machine.kill_one(4, 0.0) == ""
    assert machine.mended
    assert machine.calendar.effects == []
    candidate.is_up = False
    assert machine.kill_one(4, 0.1) == "all"
    machine.tick()
    assert not machine.mended
    candidate.is_up = True
    machine.tick()
    assert machine.mended
    assert machine.kill_one(5, 0.9) == "all"
    machine.tick()
    assert not machine.mended
    machine.start(5)
    machine.tick()
    assert (candidate.launched, machine.mended) == (["lon1"], True)
    assert all(effect.until_ms < math.inf for effect in machine.calendar.effects)


# Short runs, on real packets


@pytest.mark.parametrize(("seed", "nodes", "paths", "family"), [(31, 2, 1, 4), (38, 3, 2, 6)])
def test_a_short_run_breaks_no_rule(
    seed: int, nodes: int, paths: int, family: int, tmp_path: Path
) -> None:
    setting = chaos.Setting(nodes=nodes, paths=paths, family=family)
    row = chaos.chaos(setting, seed, faults=6, papers=tmp_path)
    assert not row.verdict.violations, (row.papers / "findings.txt").read_text()
    assert row.verdict.unserved_ms > 0
