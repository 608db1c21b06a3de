# SPDX-License-Identifier: GPL-2.0-or-later
"""Ten thousand advertisements a second from a stranger delay none of ours."""

from __future__ import annotations

import signal
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from tests.lab.cluster import PAIR, VIP, Cluster, pair
from tests.lab.measure import AddressWatch, WireWatch
from tests.lab.netns import now_ms, wait_until
from tests.lab.world import World

ADVERT_MS = 100
FLOOD_MS = 3_000


def woken(pid: int) -> int:
    """How often a process has waited for something since it was started (proc_pid_status(5))."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("voluntary_ctxt")))


def counted(cluster: Cluster, name: str, kind: str) -> int:
    counters = cluster.status(name).get("keeper", {}).get("counters", {})
    return int(counters.get(kind, 0))


@pytest.mark.parametrize(
    "senders",
    [("--source", "10.1.0.200"), ("--source", "10.1.4.1", "--sources", "5000")],
    ids=["one stranger", "thousands of forged senders"],
)
def test_a_flood_of_adverts_delays_none_of_ours_and_moves_nothing(
    lan: World, senders: tuple[str, ...]
) -> None:
    cluster = pair(lan, group=replace(PAIR, advert=f"{ADVERT_MS}ms"))
    active, standby = cluster.roles()
    owned, wire = AddressWatch(lan), WireWatch(lan)
    argv = [sys.executable, "-m", "tests.lab.flood", "--vrid", "51", *senders]
    flood = lan.client.start(*argv, log="flood.log")
    wait_until(lambda: "flooding" in lan.client.log("flood.log"), "the flood begins")
    keepers = {name: cluster.pid(name, "keeper") for name in (active, standby)}
    start_ms = now_ms()
    before = {name: woken(pid) for name, pid in keepers.items() if pid}
    wait_until(lambda: now_ms() > start_ms + FLOOD_MS, "it has lasted")
    times = {name: woken(pid) - before[name] for name, pid in keepers.items() if pid}
    end_ms = now_ms()
    for name in (active, standby):
        passed_over = counted(cluster, name, "advert-flood")
        assert passed_over > 1_000, cluster.report(name)
        assert times[name] < passed_over / 4, "each packet of the flood wakes the keeper"
    flood.send_signal(signal.SIGKILL)
    flood.wait()
    ours = [
        it.at_ms
        for it in wire.record().adverts
        if it.node == active and it.vrid == 51 and start_ms < it.at_ms < end_ms
    ]
    late = [after - before for before, after in pairwise(ours) if after - before > 2 * ADVERT_MS]
    assert len(ours) > 0.8 * (end_ms - start_ms) / ADVERT_MS
    assert not late, f"adverts came after {late} ms and not {ADVERT_MS}"
    assert owned.record().owners_seen(VIP, start_ms) == [active]
    assert cluster.roles() == (active, standby)
