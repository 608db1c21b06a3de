# SPDX-License-Identifier: GPL-2.0-or-later
"""A network that must be told by command: where the group is, each time that it was taken."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

from tests.lab.cluster import PAIR, VIP, Cluster, Group, pair
from tests.lab.world import World


@dataclass(frozen=True)
class Announced(Group):
    """With an `announce` command."""

    command: str = ""

    def text(self) -> str:
        head, rest = super().text().split("\n", 1)
        return f'{head}\nannounce = """{self.command}"""\n{rest}'


def announced(lan: World, command: str) -> Cluster:
    told = {field.name: getattr(PAIR, field.name) for field in fields(PAIR)}
    return pair(lan, group=Announced(**told, command=command))


def test_the_network_is_told_by_the_node_that_has_taken_the_group(
    lan: World, tmp_path: Path
) -> None:
    said = tmp_path / "said"
    cluster = announced(
        lan, f'echo "$STANDPIPE_GROUP $STANDPIPE_NODE $STANDPIPE_ADDRESSES" >>{said}'
    )
    active, standby = cluster.roles()
    wanted = [f"vip {active} {VIP}"]
    cluster.wait(lambda: said.exists() and said.read_text().splitlines() == wanted, "it is told")
    done = cluster.cli(active, "switchover", "vip")
    assert done.returncode == 0, done.stderr + cluster.report()
    wanted.append(f"vip {standby} {VIP}")
    cluster.wait(lambda: said.read_text().splitlines() == wanted, "it is told again")
    cluster.settle()
    assert said.read_text().splitlines() == wanted


def test_a_network_that_could_not_be_told_is_an_alarm_until_it_was(
    lan: World, tmp_path: Path
) -> None:
    mended = tmp_path / "mended"
    cluster = announced(lan, f"test -e {mended} || {{ echo no such route table; exit 3; }}")
    active, standby = cluster.roles()
    cluster.wait(lambda: cluster.alarms(active, "announce-failed"), "it is an alarm")
    [alarm] = cluster.alarms(active, "announce-failed")
    assert "exit 3: no such route table" in alarm["text"]
    assert not cluster.alarms(standby, "announce-failed")
    mended.touch()
    cluster.wait(lambda: not cluster.alarms(active, "announce-failed"), "it was told", 20)
    assert cluster.roles() == (active, standby)
