# SPDX-License-Identifier: GPL-2.0-or-later
"""Standpipe beside somebody else's router in one virtual router: whichever fails, the other serves.

Everything is tried beside keepalived, in IPv4 and IPv6, by multicast and by unicast, and beside
FRR, which has no unicast; at the same time, in virtual routers of their own. T is 200 ms, our
priority 200, theirs 100, unless said.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab.netns import now_ms, wait_until
from tests.lab.plan import one_lan
from tests.lab.shared import (
    ADVERT_MS,
    FRR,
    KEEPALIVED,
    LATE_MS,
    NODES,
    OUR_PRIORITY,
    OURS,
    THEIR_PRIORITY,
    Scene,
    SharedGroup,
    skew_ms,
)
from tests.lab.world import World

BUSY_MS = 2 * ADVERT_MS  # for a machine that has other things to do
HEAL_MS = 1200
REPEATED_MS = 6200  # keepalived announces again 5 s after it took over: that would mend the heal
QUIET_MS = 5 * ADVERT_MS  # a move that did not come within this does not come


@pytest.fixture(scope="module")
def laid() -> Iterator[Scene]:
    with World.build(one_lan(NODES, second_path=False)) as world:
        yield Scene(world)


@pytest.fixture
def scene(laid: Scene) -> Iterator[Scene]:
    """Afterwards neither side may have had anything to say about the other one's packets."""
    yield laid
    assert laid.complaints() == []
    assert laid.refusals() == {}


def pause(since_ms: float, span_ms: float) -> None:
    wait_until(lambda: now_ms() >= since_ms + span_ms, "the time has passed", span_ms / 1000 + 1)


def taken_after_silence(scene: Scene, it: SharedGroup, cut_ms: float, *, by_us: bool) -> None:
    """The other one waited 3T and its skew from the last advertisement on, and hardly longer."""
    gone, taker = (scene.their(it), OURS) if by_us else (OURS, scene.their(it))
    last_ms = scene.adverts(gone, it, 0, cut_ms)[-1].at_ms
    first_ms = scene.claimed_ms(taker, it, cut_ms)
    due_ms = LATE_MS + skew_ms(OUR_PRIORITY if by_us else THEIR_PRIORITY)
    assert due_ms - 5 < first_ms - last_ms < due_ms + BUSY_MS, it.name
    assert scene.probers[it.name].record().outage_ms(cut_ms) < due_ms + BUSY_MS, it.name
    assert scene.servers(it, cut_ms)[-1:] == [taker], it.name
    assert scene.doubled_ms(it, cut_ms) == 0, it.name


def taken_after_goodbye(scene: Scene, it: SharedGroup, stop_ms: float, *, by_us: bool) -> None:
    """Within a skew from priority 0 on: one who takes it for silence needs 2T more at least."""
    giver, taker = (scene.their(it), OURS) if by_us else (OURS, scene.their(it))
    goodbye_ms = next(at.at_ms for at in scene.adverts(giver, it, stop_ms) if not at.priority)
    first_ms = scene.claimed_ms(taker, it, goodbye_ms)
    assert first_ms - goodbye_ms < BUSY_MS, it.name
    assert scene.probers[it.name].record().outage_ms(stop_ms) < BUSY_MS, it.name
    turned(scene, it, stop_ms, [giver, taker])
    assert scene.doubled_ms(it, stop_ms) < BUSY_MS, it.name


def turned(scene: Scene, it: SharedGroup, since_ms: float, servers: list[str]) -> None:
    """The client went from one to the other, once.

    With a virtual MAC it may waver: for as long as both advertise, the switch believes the last.
    """
    seen = scene.servers(it, since_ms)
    assert (seen[:1] + seen[-1:] if scene.speaker(it).uses_virtual_mac else seen) == servers, (
        it.name
    )


def undisturbed(scene: Scene, it: SharedGroup, since_ms: float, server: str) -> None:
    """With a virtual MAC a starting FRR may have the switch look its way for an instant."""
    probes = scene.probers[it.name].record()
    if scene.speaker(it).uses_virtual_mac:
        assert probes.outage_ms(since_ms) < ADVERT_MS, it.name
        assert scene.servers(it, since_ms)[-1:] == [server], it.name
    else:
        assert probes.lost(since_ms) == 0, it.name
        assert scene.servers(it, since_ms) == [server], it.name


def mended(scene: Scene, *, by_us: bool) -> None:
    """Nobody who is not there any more is asked for longer than a moment."""
    pause(scene.healed_ms, HEAL_MS)
    for it in scene.groups:
        assert scene.probers[it.name].record().outage_ms(scene.healing_ms) < HEAL_MS, it.name
        servers = [scene.their(it), OURS]
        turned(scene, it, scene.healing_ms, servers if by_us else servers[::-1])
        assert scene.doubled_ms(it, scene.healed_ms) < BUSY_MS, it.name


def test_they_take_over_when_our_power_is_cut(scene: Scene) -> None:
    scene.give_to_us()
    cut_ms = scene.cluster.power_cut(OURS)
    scene.await_them()
    for it in scene.groups:
        taken_after_silence(scene, it, cut_ms, by_us=False)


def test_we_return_beside_them_and_take_nothing_back(scene: Scene) -> None:
    scene.leave_to_them()
    scene.unplug_us()
    start_ms = now_ms()
    scene.bring_us()
    scene.await_our_readiness()
    pause(now_ms(), QUIET_MS)
    scene.await_them()
    for it in scene.groups:
        assert not scene.speaks(OURS, it, start_ms), it.name
        undisturbed(scene, it, start_ms, scene.their(it))


def test_we_take_what_they_have_when_told_and_ours_is_the_higher_priority(scene: Scene) -> None:
    scene.give_to_them()
    start_ms = now_ms()
    for it in scene.groups:
        assert scene.cluster.group(OURS, it.name)["owner"] == it.plain_peers[0]
        done = scene.cluster.cli(OURS, "switchover", it.name, "--to", OURS)
        assert done.returncode == 0, done.stderr + scene.cluster.report()
    scene.await_us()
    for it in scene.groups:
        assert scene.probers[it.name].record().outage_ms(start_ms) < BUSY_MS, it.name
        turned(scene, it, start_ms, [scene.their(it), OURS])
        assert scene.doubled_ms(it, start_ms) < BUSY_MS, it.name


def test_we_hand_over_to_them_when_told(scene: Scene) -> None:
    scene.give_to_us()
    start_ms = now_ms()
    for it in scene.groups:
        done = scene.cluster.cli(OURS, "switchover", it.name)
        assert done.returncode == 0, done.stderr + scene.cluster.report()
        assert f"now on plain peer {it.plain_peers[0]}" in done.stdout
    scene.await_them()
    for it in scene.groups:
        taken_after_goodbye(scene, it, start_ms, by_us=False)


def test_we_take_over_when_their_power_is_cut(scene: Scene) -> None:
    scene.give_to_them()
    cut_ms = scene.unplug_them()
    scene.await_us()
    for it in scene.groups:
        taken_after_silence(scene, it, cut_ms, by_us=True)


def test_they_return_beside_us_and_take_nothing_back(scene: Scene) -> None:
    scene.leave_to_us()
    scene.unplug_them()
    start_ms = now_ms()
    scene.bring_them()
    pause(now_ms(), QUIET_MS)
    scene.await_us()
    for it in scene.groups:
        assert not scene.speaks(scene.their(it), it, start_ms), it.name
        undisturbed(scene, it, start_ms, OURS)


def test_we_serve_at_once_when_a_silent_cut_is_healed_and_we_outrank_them(scene: Scene) -> None:
    scene.give_to_us()
    with scene.cut(OURS):
        pass
    scene.await_us()
    mended(scene, by_us=True)


def test_they_take_over_at_once_when_we_are_stopped(scene: Scene) -> None:
    scene.give_to_us()
    stop_ms = now_ms()
    scene.cluster.stop(OURS)
    scene.await_them()
    for it in scene.groups:
        taken_after_goodbye(scene, it, stop_ms, by_us=False)


def test_we_take_over_at_once_when_they_are_stopped(scene: Scene) -> None:
    scene.give_to_them()
    stop_ms = now_ms()
    scene.stop_them()
    scene.await_us()
    for it in scene.groups:
        taken_after_goodbye(scene, it, stop_ms, by_us=True)


def test_they_do_not_preempt_us_when_told_not_to(scene: Scene) -> None:
    scene.leave_to_us()
    start_ms = now_ms()
    scene.bring_them(priority=250, preempt=False)
    pause(now_ms(), QUIET_MS)
    scene.await_us()
    for it in scene.groups:
        assert not scene.speaks(scene.their(it), it, start_ms), it.name
        undisturbed(scene, it, start_ms, OURS)


def test_they_preempt_us_with_a_higher_priority_and_we_let_go(scene: Scene) -> None:
    scene.leave_to_us()
    start_ms = now_ms()
    scene.bring_them(priority=250)
    scene.await_them()
    moved_ms = now_ms()
    pause(moved_ms, LATE_MS)
    for it in scene.groups:
        assert not scene.speaks(OURS, it, moved_ms), it.name
        assert scene.probers[it.name].record().outage_ms(start_ms) < ADVERT_MS, it.name
        turned(scene, it, start_ms, [OURS, scene.their(it)])
        assert scene.doubled_ms(it, start_ms) < BUSY_MS, it.name


def test_we_are_told_why_not_when_theirs_is_the_higher_priority(scene: Scene) -> None:
    scene.give_to_them(priority=250)
    start_ms, it = now_ms(), scene.groups[0]
    done = scene.cluster.cli(OURS, "switchover", it.name, "--to", OURS)
    assert done.returncode == 1
    assert "lower its priority" in done.stderr
    scene.await_them()
    assert not scene.speaks(OURS, it, start_ms)
    undisturbed(scene, it, start_ms, scene.their(it))


def test_they_serve_at_once_when_a_silent_cut_is_healed_and_they_outrank_us(scene: Scene) -> None:
    scene.give_to_them(priority=250)
    with scene.cut(KEEPALIVED, FRR):
        pause(scene.listened_ms, REPEATED_MS)
    scene.await_them()
    mended(scene, by_us=False)
