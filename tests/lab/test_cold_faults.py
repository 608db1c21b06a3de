# SPDX-License-Identifier: GPL-2.0-or-later
"""A cold standby on real packets and processes: what goes wrong, and what the two nodes do."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from tests.lab.cold_cluster import ColdGroup
from tests.lab.cold_scene import Scene, scene

SECOND_OF_COUNTS = 10


@pytest.fixture
def cold() -> Iterator[Scene]:
    with scene(ColdGroup()) as found:
        yield found


def test_a_server_loses_power_and_the_cold_standby_starts_with_its_status(cold: Scene) -> None:
    cold.pause(2.0)
    cold.cluster.power_cut(cold.active)
    cold.serves(cold.standby)
    assert cold.two_copies_ms() == 0
    assert cold.lost() <= SECOND_OF_COUNTS
    assert cold.outage_ms() < 5000


def test_the_failed_primary_comes_back_as_standby_and_nothing_moves(cold: Scene) -> None:
    cold.cluster.power_cut(cold.active)
    cold.serves(cold.standby)
    back = cold.active
    cold.again_alone(cold.standby)
    cold.cluster.boot(back)
    cold.cluster.settle()
    assert cold.starts(back) == 0
    assert cold.outage_ms() == 0


def test_a_service_dies_and_is_started_again_before_its_checks_could_tell(cold: Scene) -> None:
    cold.cluster.tell(cold.active, "die")
    cold.await_copy()
    cold.served()
    assert cold.two_copies_ms() == 0
    assert cold.lost() <= 1


def test_a_service_hangs_and_never_wakes_to_serve_stale_answers(cold: Scene) -> None:
    cold.cluster.tell(cold.active, "hang")
    cold.await_copy()
    cold.served()
    cold.cluster.tell(cold.active, "wake")
    cold.pause(1.0)
    assert cold.two_copies_ms() == 0
    assert len(cold.cluster.notebook.running()) == 1


def test_a_service_that_does_not_start_again_moves_after_two_tries_at_most(cold: Scene) -> None:
    cold.cluster.tell(cold.active, "refuse")
    cold.cluster.tell(cold.active, "die")
    cold.serves(cold.standby)
    assert cold.refusals(cold.active) <= 2
    role = cold.cluster.group(cold.active, "ledger").get("role")
    assert role == "quarantine", cold.cluster.report()
    cold.cluster.tell(cold.active, "allow")
    assert cold.cluster.cli(cold.active, "clear", "ledger").returncode == 0
    cold.cluster.settle()
    assert cold.cluster.notebook.running() == {cold.standby}


def test_a_planned_move_loses_no_status_and_never_runs_two_copies(cold: Scene) -> None:
    for _ in range(3):
        cold.pause(1.0)
        done = cold.cluster.cli(cold.active, "switchover", "ledger", "--to", cold.standby)
        assert done.returncode == 0, done.stdout + done.stderr + cold.cluster.report()
        cold.serves(cold.standby)
        assert cold.two_copies_ms() == 0
        assert cold.lost() == 0
        cold.cluster.settle()
        cold.again()


@pytest.mark.parametrize("role", ["agent", "keeper"])
def test_the_agent_or_the_keeper_is_killed_and_the_service_stays(cold: Scene, role: str) -> None:
    pid = cold.cluster.kill(cold.active, role)
    cold.cluster.wait(
        lambda: cold.cluster.replaced(cold.active, role, pid), f"there is a new {role}"
    )
    cold.cluster.settle()
    assert cold.nothing_moved()


@pytest.mark.parametrize("role", ["agent", "keeper"])
def test_the_agent_or_the_keeper_hangs_and_the_service_stays(cold: Scene, role: str) -> None:
    pid = cold.cluster.kill(cold.active, role, signal.SIGSTOP)
    cold.cluster.wait(
        lambda: cold.cluster.replaced(cold.active, role, pid), f"there is a new {role}", 15
    )
    cold.cluster.settle()
    assert cold.nothing_moved()


def test_a_black_start_of_both_brings_the_service_up_once(cold: Scene) -> None:
    cold.pause(1.0)
    cold.cluster.power_cut(cold.active, cold.standby)
    cold.pause(0.5)
    cold.cluster.boot(cold.active, cold.standby)
    cold.cluster.settle()
    assert cold.two_copies_ms() == 0
    assert cold.starts(cold.active, cold.standby) == 1
