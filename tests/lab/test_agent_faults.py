# SPDX-License-Identifier: GPL-2.0-or-later
"""What goes wrong, and what two real nodes do about it: processes, services, power."""

from __future__ import annotations

import os
import signal
from dataclasses import replace

import pytest

from tests.lab.cluster import PAIR, VIP, Cluster, pair
from tests.lab.measure import AddressWatch, Prober
from tests.lab.netns import now_ms, processes_in
from tests.lab.world import World


class Client:
    """Who serves the client and who holds the address, since it began to look."""

    def __init__(self, world: World, cluster: Cluster) -> None:
        self.cluster = cluster
        self.active, self.standby = cluster.roles()
        self.owned = AddressWatch(world)
        self.prober = Prober(world, VIP)
        cluster.wait(lambda: self.prober.served_by() == self.active, "the client is served")
        self.start_ms = now_ms()

    def await_standby(self, limit_s: float = 15.0) -> None:
        what = f"{self.standby} serves the client"
        self.cluster.wait(lambda: self.prober.served_by() == self.standby, what, limit_s)

    def saw_nothing_move(self) -> bool:
        """Nor a probe lost."""
        lost = self.prober.record().lost(self.start_ms)
        owners = self.owned.record().owners_seen(VIP, self.start_ms)
        assert (lost, owners) == (0, [self.active]), self.cluster.report()
        return True


def test_the_standby_serves_after_a_power_cut_and_goes_on_when_the_other_returns(
    lan: World,
) -> None:
    cluster = pair(lan)
    client = Client(lan, cluster)
    cluster.power_cut(client.active)
    client.await_standby()
    assert client.prober.record().outage_ms(client.start_ms) < 1500
    owned = client.owned.record()
    assert owned.owners(VIP) == {client.standby}
    assert owned.doubled_ms(VIP, client.start_ms) == 0
    back_ms = now_ms()
    cluster.boot(client.active)
    cluster.settle()
    assert client.prober.record().lost(back_ms) == 0
    assert client.owned.record().owners_seen(VIP, back_ms) == [client.standby], cluster.report()


@pytest.mark.parametrize("role", ["agent", "keeper"])
def test_nothing_moves_when_a_process_is_killed(lan: World, role: str) -> None:
    cluster = pair(lan)
    client = Client(lan, cluster)
    pid = cluster.kill(client.active, role)
    cluster.wait(lambda: cluster.replaced(client.active, role, pid), f"there is a new {role}")
    cluster.settle()
    assert client.saw_nothing_move()


@pytest.mark.parametrize("role", ["agent", "keeper"])
def test_a_process_that_hangs_is_killed_by_the_other_one_and_nothing_moves(
    lan: World, role: str
) -> None:
    cluster = pair(lan)
    client = Client(lan, cluster)
    pid = cluster.kill(client.active, role, signal.SIGSTOP)
    cluster.wait(lambda: cluster.replaced(client.active, role, pid), f"there is a new {role}", 15)
    cluster.settle()
    assert client.saw_nothing_move()


def test_when_all_of_it_dies_the_kernel_drops_the_address_and_the_standby_serves(
    lan: World,
) -> None:
    cluster = pair(lan, group=replace(PAIR, hold="4s"))
    client = Client(lan, cluster)
    node = lan.node(client.active)
    patient = node.tell_patient("status").stdout.split()[-1]
    doomed = processes_in([node.namespace]) - {int(patient)}
    for number in (signal.SIGSTOP, signal.SIGKILL):  # stopped first: none sees another one die
        for pid in doomed:
            os.kill(pid, number)
    client.await_standby()
    owned = client.owned.record()
    assert owned.owners_seen(VIP, client.start_ms) == [client.active, client.standby]
    assert owned.doubled_ms(VIP, client.start_ms) == 0


def test_a_service_that_dies_once_is_restarted_where_it_is(lan: World) -> None:
    cluster = pair(lan)
    client = Client(lan, cluster)
    lan.node(client.active).tell_patient("die")
    cluster.wait(lambda: cluster.alarms(client.active, "service-restarted"), "it is told")
    cluster.wait(lambda: client.prober.served_by() == client.active, "the client is served")
    cluster.settle()
    assert client.owned.record().owners_seen(VIP, client.start_ms) == [client.active]
    [service] = cluster.group(client.active, "vip")["services"]
    assert service["restarts_left"] == 2


def test_a_service_that_dies_for_good_moves_its_group_and_is_left_to_people(lan: World) -> None:
    cluster = pair(lan)
    client = Client(lan, cluster)
    broken = lan.node(client.active)
    broken.tell_patient("refuse")
    broken.tell_patient("die")
    client.await_standby()
    cluster.wait(
        lambda: cluster.group(broken.name, "vip").get("role") == "quarantine", "it is quarantined"
    )
    assert cluster.alarms(broken.name, "group-quarantined")
    broken.tell_patient("allow")
    done = cluster.cli(broken.name, "clear", "vip")
    assert done.returncode == 0, done.stderr
    cluster.settle()
    assert cluster.roles() == (client.standby, client.active)
    assert not cluster.alarms(broken.name, "group-quarantined")
