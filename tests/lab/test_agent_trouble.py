# SPDX-License-Identifier: GPL-2.0-or-later
"""Devices that say nothing and disks that fail: told, and protection goes on."""

from __future__ import annotations

import os
from functools import partial

from tests.lab.cluster import PAIR, VIP, Cluster, pair
from tests.lab.measure import AddressWatch
from tests.lab.world import World

SILENT = """[device.ups1]
address = "10.1.0.99"
site = "london"
snmp = { version = "2c", community = "public" }
feeds = ["lon1", "lon2"]
every = "500ms"
stale_after = "2s"
"""


def take_over_works(lan: World, cluster: Cluster) -> bool:
    """Told by pulling the plug."""
    active, standby = cluster.roles()
    owned = AddressWatch(lan)
    cluster.power_cut(active)
    cluster.wait(lambda: owned.owners(VIP) == {standby}, f"{standby} takes over", 5)
    return True


def test_a_silent_device_is_unknown_and_moves_nothing(lan: World) -> None:
    cluster = pair(lan, SILENT)
    active, standby = cluster.roles()
    for name in (active, standby):
        cluster.wait(partial(cluster.alarms, name, "device-unknown"), "it is told", 20)
        [device] = cluster.status(name)["devices"]
        assert device["health"] == "unknown"
    cluster.settle()
    assert cluster.roles() == (active, standby)


def fill(path: str) -> None:
    """Until nothing fits any more."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        for size in (1 << 16, 1):
            try:
                while os.write(file, bytes(size)):
                    pass
            except OSError:
                continue
    finally:
        os.close(file)


def test_a_full_disk_does_not_stop_protection(lan: World) -> None:
    cluster = Cluster(lan, [PAIR])
    for node in lan.nodes:
        node.tell_patient("start")
        cluster.start(node.name, disk=(str(node.state_folder), "4m"))
    cluster.settle()
    for node in lan.nodes:
        fill(str(cluster.seen_by(node.name, f"{node.state_folder}/fill")))
    active, standby = cluster.roles()
    for name in (active, standby):
        cluster.cli(name, "maintenance", "off")  # something to write down
        cluster.wait(partial(cluster.alarms, name, "store-failed"), "it is told", 20)
        assert not cluster.status(name)["store"]["ok"]
    cluster.settle()
    assert cluster.roles() == (active, standby)
    assert take_over_works(lan, cluster)


def test_a_corrupt_store_is_put_aside_and_the_node_stands_by_again(lan: World) -> None:
    cluster = pair(lan)
    active, standby = cluster.roles()
    cluster.stop(standby)
    state = lan.node(standby).state_folder
    for file in ("standpipe.db", "epochs.json"):
        (state / file).write_bytes(b"this is not what was written here" * 99)
    cluster.start(standby)
    cluster.settle()
    assert cluster.roles() == (active, standby)
    assert cluster.status(standby)["store"]["ok"]
    assert [path for path in state.iterdir() if "standpipe.db" in path.name and "bad" in path.name]
    assert take_over_works(lan, cluster)
