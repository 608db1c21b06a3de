# SPDX-License-Identifier: GPL-2.0-or-later
"""A service that must never run twice: the lease of two nodes and a witness, or of two alone."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from tests.lab.cold_cluster import WITNESS, ColdGroup
from tests.lab.cold_scene import Scene, scene
from tests.lab.cold_split import rejoin, split

LEASE_S = 2.0
THAW_MS = 250.0  # on a busy machine; the bench asks for 50


@pytest.fixture
def trio() -> Iterator[Scene]:
    """Two nodes and a witness."""
    with scene(ColdGroup(exclusive="lease"), witness=True) as found:
        yield found


@pytest.fixture
def duo() -> Iterator[Scene]:
    """Two nodes alone."""
    with scene(ColdGroup(exclusive="lease")) as found:
        yield found


def test_a_server_loses_power_and_the_exclusive_service_starts_once_its_lease_is_over(
    trio: Scene,
) -> None:
    trio.pause(2.0)
    trio.cluster.power_cut(trio.active)
    trio.serves(trio.standby)
    assert trio.two_copies_ms() == 0
    assert trio.lost() <= 10
    assert trio.outage_ms() >= LEASE_S * 500


def test_a_silent_cut_ends_the_exclusive_service_before_it_starts_elsewhere(trio: Scene) -> None:
    ports = trio.world.node(trio.active).ports.values()
    for port in ports:
        port.mute()
    trio.serves(trio.standby)
    assert trio.two_copies_ms() == 0
    cut = trio.active
    trio.again_alone(trio.standby)
    for port in ports:
        port.heal()
    trio.cluster.settle()
    assert trio.starts(cut, trio.active) == 0
    assert trio.two_copies_ms() == 0


def test_a_split_that_the_witness_sees_both_sides_of_changes_nothing(trio: Scene) -> None:
    split(trio.world, trio.active, trio.standby)
    trio.pause(6.0)
    assert trio.nothing_moved()
    rejoin(trio.world)
    trio.cluster.settle()
    assert trio.nothing_moved()


def test_a_split_without_a_third_vote_starts_nothing_twice_and_says_so(trio: Scene) -> None:
    trio.cluster.power_cut(WITNESS)
    trio.pause(1.0)
    trio.again()
    split(trio.world, trio.active, trio.standby)
    trio.cluster.wait(
        lambda: trio.cluster.alarms(trio.standby, "exclusive-blocked"),
        f"{trio.standby} says that it may not start it",
        8.0,
    )
    trio.pause(4.0)
    assert trio.two_copies_ms() == 0
    assert trio.starts(trio.standby) == 0


def test_a_split_of_two_that_have_no_witness_leaves_the_owner_serving(duo: Scene) -> None:
    split(duo.world, duo.active, duo.standby)
    duo.cluster.wait(
        lambda: duo.cluster.alarms(duo.standby, "exclusive-blocked"),
        f"{duo.standby} says that it may not start it",
        8.0,
    )
    duo.pause(4.0)
    assert duo.nothing_moved()
    rejoin(duo.world)
    duo.cluster.settle()
    assert duo.nothing_moved()


def test_a_frozen_server_that_thaws_stops_what_runs_elsewhere_by_now(trio: Scene) -> None:
    trio.signal(trio.active, signal.SIGSTOP)
    trio.serves(trio.standby)
    trio.pause(1.0)
    trio.signal(trio.active, signal.SIGCONT)
    trio.cluster.settle()
    assert trio.cluster.notebook.running() == {trio.standby}
    assert trio.two_copies_ms() <= THAW_MS


def test_a_planned_move_of_an_exclusive_service_loses_nothing(trio: Scene) -> None:
    trio.pause(1.0)
    done = trio.cluster.cli(trio.active, "switchover", "ledger", "--to", trio.standby)
    assert done.returncode == 0, done.stdout + done.stderr + trio.cluster.report()
    trio.serves(trio.standby)
    assert (trio.two_copies_ms(), trio.lost()) == (0, 0)


@pytest.mark.parametrize("role", ["agent", "keeper"])
def test_the_agent_or_the_keeper_hangs_and_the_exclusive_service_stays(
    trio: Scene, role: str
) -> None:
    pid = trio.cluster.kill(trio.active, role, signal.SIGSTOP)
    trio.cluster.wait(
        lambda: trio.cluster.replaced(trio.active, role, pid), f"there is a new {role}", 15
    )
    trio.cluster.settle()
    assert trio.nothing_moved()


def test_both_lose_power_and_the_standby_returns_alone_to_a_witness(trio: Scene) -> None:
    trio.pause(1.0)
    trio.cluster.power_cut(trio.active, trio.standby)
    trio.pause(0.5)
    trio.cluster.boot(trio.standby)
    trio.serves(trio.standby)
    assert trio.two_copies_ms() == 0


def test_both_lose_power_and_only_the_one_that_owned_last_serves_alone(duo: Scene) -> None:
    duo.pause(1.0)
    duo.cluster.power_cut(duo.active, duo.standby)
    duo.pause(0.5)
    duo.cluster.boot(duo.standby)
    duo.pause(5.0)
    assert duo.starts(duo.standby) == 0
    duo.cluster.power_cut(duo.standby)
    duo.cluster.boot(duo.active)
    duo.serves(duo.active)
    assert duo.two_copies_ms() == 0
