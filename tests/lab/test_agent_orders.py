# SPDX-License-Identifier: GPL-2.0-or-later
"""What people ask of two real nodes: moves, maintenance, another configuration."""

from __future__ import annotations

import pytest

from tests.lab.cluster import VIP, Cluster, pair
from tests.lab.measure import AddressWatch, Prober
from tests.lab.netns import now_ms
from tests.lab.world import World


@pytest.fixture
def cluster(lan: World) -> Cluster:
    return pair(lan)


def test_a_switchover_is_not_felt_by_the_client(lan: World, cluster: Cluster) -> None:
    active, standby = cluster.roles()
    prober, owned = Prober(lan, VIP), AddressWatch(lan)
    cluster.wait(lambda: prober.served_by() == active, "the client is served")
    start_ms = now_ms()
    done = cluster.cli(active, "switchover", "vip")
    assert done.returncode == 0, done.stderr + cluster.report()
    assert f"now on {standby}" in done.stdout
    cluster.wait(lambda: prober.served_by() == standby, f"{standby} serves the client")
    back = cluster.cli(active, "switchover", "vip")  # taken back from the node that gave it
    assert back.returncode == 0, back.stderr + cluster.report()
    cluster.wait(lambda: prober.served_by() == active, f"{active} serves the client")
    assert prober.record().outage_ms(start_ms) < 250
    assert owned.record().unowned_ms(VIP, start_ms) == 0


def test_a_standby_that_is_not_ready_is_refused_with_the_reason(cluster: Cluster) -> None:
    active, standby = cluster.roles()
    assert cluster.cli(standby, "maintenance", "on", "--for", "1m").returncode == 0
    cluster.wait(
        lambda: (
            not cluster.group(standby, "vip").get("ready")
            and "not ready" in cluster.cli(active, "status").stdout
        ),
        f"{active} knows that {standby} is not ready",
    )
    given = cluster.cli(active, "switchover", "vip")
    taken = cluster.cli(standby, "switchover", "vip")
    assert (given.returncode, taken.returncode) == (1, 1)
    assert f"{standby} is alive, not ready" in given.stderr
    assert "maintenance is on" in taken.stderr
    assert cluster.roles() == (active, standby)


def test_in_maintenance_a_dead_service_is_let_be_and_mended_afterwards(
    lan: World, cluster: Cluster
) -> None:
    active, _ = cluster.roles()
    assert cluster.cli(active, "maintenance", "on", "--for", "1m").returncode == 0
    lan.node(active).tell_patient("die")
    cluster.wait(lambda: cluster.alarms(active, "service-down"), "its death is told")
    assert not cluster.alarms(active, "service-restarted")
    [service] = cluster.group(active, "vip")["services"]
    assert (service["state"], service["restarts_left"]) == ("well", 3)
    assert cluster.status(active)["maintenance"]
    assert cluster.cli(active, "maintenance", "off").returncode == 0
    cluster.wait(lambda: cluster.alarms(active, "service-restarted"), "it is restarted")
    cluster.settle()


def test_a_bad_configuration_is_refused_and_the_running_one_stays(
    lan: World, cluster: Cluster
) -> None:
    active, standby = cluster.roles()
    owned, start_ms = AddressWatch(lan), now_ms()
    cluster.wait(lambda: owned.owners(VIP), "its owner is seen")
    good = cluster.template
    half = good[: good.index("[[group.vip.service]]") + len("[[group.vip.ser")]
    bad = {
        "empty": ("", "says nothing"),
        "half-edited": (half, "standpipe.toml:"),
        "broken": (good.replace('advert = "200ms"', 'advert = "soon"'), "group.vip.advert"),
    }
    digest = cluster.status(active)["config"]["digest"]
    for text, why in bad.values():
        cluster.write(active, text)
        cluster.reload(active)
        cluster.wait(lambda: cluster.alarms(active, "config-refused"), "the file is refused")
        config = cluster.status(active)["config"]
        assert config["digest"] == digest
        assert why in " ".join(config["problems"]), config
        cluster.write(active, good)
        cluster.reload(active)
        cluster.wait(lambda: not cluster.alarms(active, "config-refused"), "all is well again")
    assert owned.record().owners_seen(VIP, start_ms) == [active]
    assert cluster.roles() == (active, standby)


def test_a_good_configuration_goes_into_service_and_nothing_moves(
    lan: World, cluster: Cluster
) -> None:
    active, standby = cluster.roles()
    prober = Prober(lan, VIP)
    cluster.wait(lambda: prober.served_by() == active, "the client is served")
    start_ms, digest = now_ms(), cluster.status(active)["config"]["digest"]
    fresh = cluster.template.replace('restarts = "3 in 10m"', 'restarts = "7 in 1h"')
    for name in (standby, active):
        cluster.write(name, fresh)
        cluster.reload(name)

    def in_force() -> bool:
        status = cluster.status(active)
        left = [s["restarts_left"] for g in status.get("groups", ()) for s in g["services"]]
        return bool(status) and status["config"]["digest"] != digest and left == [7]

    cluster.wait(in_force, "the new configuration is in force")
    cluster.settle()
    assert cluster.roles() == (active, standby)
    assert prober.record().lost(start_ms) == 0
