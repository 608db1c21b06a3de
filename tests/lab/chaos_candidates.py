# SPDX-License-Identifier: GPL-2.0-or-later
"""Who keeps the address in the chaos: Standpipe, or keepalived for a yardstick."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
from pathlib import Path
from typing import Protocol

from tests.bench.common import AddressGroup
from tests.lab.cluster import Cluster
from tests.lab.netns import lives_in, processes_in, wait_until
from tests.lab.servers import Keepalived
from tests.lab.world import World

VIP = {4: "10.1.0.100", 6: "fd00:1::64"}
PREFIX_LEN = {4: 24, 6: 64}
VRID = 51
PRIORITIES = (200, 150, 100)
RECORDS = 5000


class Candidate(Protocol):
    """Its processes on each node; none of these calls waits for any."""

    flood_priority: int  # of a stranger's adverts

    def launch(self, node: str) -> None: ...

    def alive(self, node: str) -> bool:
        """Whether its first process lives."""

    def up(self, node: str) -> bool:
        """Whether all its processes are there."""

    def terminate(self, node: str) -> None:
        """Told to stop in order."""

    def kill_one(self, node: str, choice: float) -> tuple[str, bool]:
        """Which was killed, "" for none, and whether another one starts it again."""

    def settled(self) -> bool: ...

    def decisions(self, node: str) -> list[tuple[float, str]]:
        """(wall time in s, text) of what it says that it decided, if it can say so by time."""

    def report(self, node: str) -> str: ...


def processes(world: World, node: str) -> set[int]:
    """The candidate's on that node: all but the patient, which stands for the service."""
    found = processes_in([world.node(node).namespace])
    return {pid for pid in found if not any(b"patient.py" in word for word in words(pid))}


def words(pid: int) -> list[bytes]:
    """The command line, [] for one that has ended."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return []


def kill(world: World, node: str, pid: int) -> None:
    """Return when it is gone."""
    os.kill(pid, signal.SIGKILL)
    namespace = world.node(node).namespace
    wait_until(lambda: not lives_in(pid, namespace), f"{pid} on {node} is gone")


class Standpipe:
    """One hot group with an address and no service."""

    flood_priority = 250

    def __init__(self, world: World, family: int, advert_ms: int) -> None:
        self.world = world
        nodes = tuple(world.plan.nodes)
        address = f"{VIP[family]}/{PREFIX_LEN[family]}"
        self.group = AddressGroup("vip", nodes, address, VRID, f"{advert_ms}ms")
        self.cluster = Cluster(world, [self.group])

    def launch(self, node: str) -> None:
        self.cluster.start(node)

    def alive(self, node: str) -> bool:
        return node in self.cluster.running()

    def up(self, node: str) -> bool:
        return None not in (self.cluster.pid(node, "keeper"), self.cluster.pid(node, "agent"))

    def terminate(self, node: str) -> None:
        for pid in processes(self.world, node):
            if words(pid)[2:3] == [b"run"]:
                os.kill(pid, signal.SIGTERM)

    def kill_one(self, node: str, choice: float) -> tuple[str, bool]:
        role = "keeper" if choice < 0.5 else "agent"
        pid = self.cluster.pid(node, role)
        if pid is None:
            return "", True
        kill(self.world, node, pid)
        return role, True

    def settled(self) -> bool:
        return self.cluster.settled(self.group)

    def decisions(self, node: str) -> list[tuple[float, str]]:
        done = self.cluster.cli(node, "journal", "--json", "--last", str(RECORDS))
        if done.returncode or not done.stdout:
            return []
        records = json.loads(done.stdout)["records"]
        return [
            (record["wall_s"], f"{record['kind']} {record['subject']}: {record['text']}{seen}")
            for record in records
            if record["kind"] != "intent"
            for seen in [_seen(record["detail"])]
        ]

    def report(self, node: str) -> str:
        return self.cluster.report(node)


def _seen(detail: dict[str, object]) -> str:
    inputs = detail.get("inputs")
    if not isinstance(inputs, dict) or not inputs:
        return ""
    return " (" + ", ".join(f"{name}={value}" for name, value in inputs.items()) + ")"


class KeepalivedNodes:
    """keepalived with its own way of taking nothing back, and no other option."""

    flood_priority = 1  # it believes whoever outranks it, which is what VRRP says

    def __init__(self, world: World, family: int, advert_ms: int) -> None:
        self.world = world
        address = f"{VIP[family]}/{PREFIX_LEN[family]}"
        self.servers = {
            name: Keepalived(
                world,
                world.node(name),
                [address],
                vrid=VRID,
                priority=priority,
                advert_s=advert_ms / 1000,
                options=["nopreempt"],
            )
            for name, priority in zip(world.plan.nodes, PRIORITIES, strict=False)
        }

    def launch(self, node: str) -> None:
        if self.alive(node):
            return
        for file in self.world.node(node).state_folder.glob("*.pid"):
            file.unlink()  # on a machine of its own no other process would have the number
        self.servers[node].launch()

    def alive(self, node: str) -> bool:
        process = self.servers[node].process
        return process is not None and process.poll() is None

    def up(self, node: str) -> bool:
        return len(processes(self.world, node)) > 1

    def terminate(self, node: str) -> None:
        process = self.servers[node].process
        if process is not None and process.poll() is None:
            process.terminate()

    def kill_one(self, node: str, choice: float) -> tuple[str, bool]:
        process = self.servers[node].process
        if process is None or process.poll() is not None:
            return "", True
        if choice < 0.5:
            process.kill()  # its child is told of it and leaves in order
            return "parent", False
        children = processes(self.world, node) - {process.pid}
        for pid in children:
            kill(self.world, node, pid)
        return ("child" if children else ""), True

    def settled(self) -> bool:
        return sum("Entering MASTER STATE" in self._log(name) for name in self.servers) == 1

    def decisions(self, node: str) -> list[tuple[float, str]]:
        """Its log has whole seconds only: it is kept beside."""
        return []

    def report(self, node: str) -> str:
        return "\n".join(re.findall(r".*STATE.*", self._log(node))[-20:])

    def _log(self, node: str) -> str:
        return self.world.node(node).log("keepalived.log")


CANDIDATES: dict[str, type[Standpipe] | type[KeepalivedNodes]] = {
    "standpipe": Standpipe,
    "keepalived": KeepalivedNodes,
}
