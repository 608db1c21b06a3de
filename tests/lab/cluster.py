# SPDX-License-Identifier: GPL-2.0-or-later
"""Standpipe on the nodes of a world: one configuration, the real processes, what they say.

cluster = Cluster(world, [Group("vip", ("lon1", "lon2"), "10.1.0.100/24")])
cluster.boot()
cluster.settle()
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import secrets
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from agent.cli_socket import Unanswered, ask
from tests.lab.netns import LabError, now_ms, processes_in
from tests.lab.patient import TCP_PORT, UDP_PORT
from tests.lab.world import ROOT, World, cut_power

STANDPIPE = str(ROOT / ".venv" / "bin" / "standpipe")
KEY = secrets.token_hex(32)
SETTLE_S = 30.0
ANSWER_S = 5.0
POLL_S = 0.05
Status = dict[str, Any]

# @ETC@ is the node's own /etc/standpipe; @START@, @STOP@, @STATUS@ are commands for its patient.
# Echo: bash reads one octet at a time, and of a datagram the rest is lost; one is enough.
SERVICE = f"""[[group.@GROUP@.service]]
name = "patient"
start = @START@
stop = @STOP@
status = @STATUS@
start_within = "5s"
stop_within = "5s"
restarts = "@RESTARTS@"
on_death = "@ON_DEATH@"
alive = [
    {{ tcp = "127.0.0.1:{TCP_PORT}", every = "200ms", timeout = "500ms", stale_after = "5s" }},
    {{ name = "echo", every = "1s", timeout = "1s", rise = 1, command = '''
       bash -c "exec 3<>/dev/udp/127.0.0.1/{UDP_PORT}; printf x >&3; read -r -t 1 -N 1 <&3"''' }},
]
"""


@dataclass(frozen=True)
class Group:
    """A hot group; durations as the configuration writes them."""

    name: str
    nodes: tuple[str, ...]
    address: str  # with its prefix length
    vrid: int = 51
    advert: str = "200ms"
    hold: str = "10s"
    probation: str = "1s"
    restarts: str = "3 in 10m"
    on_death: str = "restart"

    def text(self) -> str:
        head = f"""[group.{self.name}]
nodes = {json.dumps(self.nodes)}
standby = "hot"
failback = "manual"
advert = "{self.advert}"
hold = "{self.hold}"
probation = "{self.probation}"
[[group.{self.name}.address]]
address = "{self.address}"
interface = "eth0"
vrid = {self.vrid}
"""
        service = SERVICE.replace("@GROUP@", self.name).replace("@ON_DEATH@", self.on_death)
        return head + service.replace("@RESTARTS@", self.restarts)


PAIR = Group("vip", ("lon1", "lon2"), "10.1.0.100/24")
VIP = "10.1.0.100"


def pair(world: World, more: str = "", group: Group = PAIR) -> Cluster:
    """Two nodes on one LAN, one group, settled."""
    cluster = Cluster(world, [group], more)
    cluster.boot()
    cluster.settle()
    return cluster


def template(world: World, groups: Sequence[Group], more: str = "") -> str:
    """`standpipe.toml` of every node. more: sections beside cluster, sites, nodes and groups."""
    parts = ['[cluster]\nname = "lab"\nkey_file = "@ETC@/cluster.key"\n']
    parts += [f"[site.{site}]\n" for site in world.plan.sites]
    for node in world.nodes:
        paths = json.dumps(node.paths)
        parts.append(f'[node.{node.name}]\nsite = "{node.site}"\npaths = {paths}\n')
    return "".join([*parts, *(group.text() for group in groups), more])


class Cluster:
    """`standpipe run` on the nodes of a world, their files in folder/etc, run, state.

    disk: (mount point, size) of a tmpfs that each node has there for itself alone; it is gone with
    the node's processes.
    """

    def __init__(
        self,
        world: World,
        groups: Sequence[Group],
        more: str = "",
        disk: tuple[str, str] | None = None,
    ) -> None:
        self.world, self.groups, self.disk = world, groups, disk
        self.template = template(world, groups, more)
        self._started: dict[str, subprocess.Popen[bytes]] = {}
        for name in world.plan.nodes:
            self.etc(name).mkdir()
            self.write(name, self.template)
            self.secret(name, "cluster.key", KEY + "\n")

    # ------------------------------------------------------------ files

    def etc(self, name: str) -> Path:
        return self.world.node(name).folder / "etc"

    def write(self, name: str, text: str) -> None:
        """The node's configuration from a template; it is read at the start and by `reload`."""
        node = self.world.node(name)
        text = text.replace("@ETC@", str(self.etc(name)))
        for action in ("start", "stop", "status"):
            text = text.replace(f"@{action.upper()}@", json.dumps(node.patient(action)))
        (self.etc(name) / "standpipe.toml").write_text(text)

    def secret(self, name: str, file: str, text: str) -> None:
        """A file in `etc` for its owner alone."""
        path = self.etc(name) / file
        path.touch(mode=0o600)
        path.write_text(text)

    # ------------------------------------------------------------ processes

    def boot(self, *names: str) -> None:
        """What comes up with the power (default: everywhere): the patient, then Standpipe."""
        for name in names or self.world.plan.nodes:
            self.world.node(name).power_on()
            self.world.node(name).tell_patient("start")
        self.start(*names)

    def power_cut(self, *names: str) -> float:
        """All of them at one instant; return when, in ms."""
        return cut_power([self.world.node(name) for name in names])

    def start(self, *names: str, disk: tuple[str, str] | None = None) -> None:
        """`standpipe run` (default: everywhere). disk: instead of the cluster's, this time."""
        for name in names or self.world.plan.nodes:
            node = self.world.node(name)
            config = str(self.etc(name) / "standpipe.toml")
            argv = [STANDPIPE, "run", "--config", config, "--node", name]
            argv += ["--run-dir", str(node.run_folder), "--state-dir", str(node.state_folder)]
            mount = disk or self.disk
            if mount:
                point, size = mount
                mounting = f"mkdir -p {point} && mount -t tmpfs -o size={size} lab {point}"
                argv = ["sh", "-c", f'{mounting} && exec "$@"', "sh", *argv]
            self._started[name] = node.start(*argv, log="standpipe.log")

    def stop(self, name: str, limit_s: float = 15.0) -> int:
        """As systemd would, by SIGTERM; the exit status."""
        process = self._started.pop(name)
        process.terminate()
        return process.wait(limit_s)

    def reload(self, name: str) -> None:
        """As systemd would, by SIGHUP."""
        self._started[name].send_signal(signal.SIGHUP)

    def seen_by(self, name: str, path: str) -> Path:
        """A path as the node's Standpipe sees it, on its own mounts (proc_pid_root(5))."""
        return Path(f"/proc/{self._started[name].pid}/root{path}")

    def pid(self, name: str, role: str) -> int | None:
        """Of the "keeper" or the "agent" that runs there now."""
        for pid in processes_in([self.world.node(name).namespace]):
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                if words[1:4] == [b"-m", b"agent.cli", role.encode()]:
                    return pid
        return None

    def kill(self, name: str, role: str, number: int = signal.SIGKILL) -> int:
        """The pid that got the signal."""
        pid = self.pid(name, role)
        if pid is None:
            raise LabError(f"no {role} runs on {name}\n{self.report(name)}")
        os.kill(pid, number)
        return pid

    def replaced(self, name: str, role: str, pid: int) -> bool:
        """Whether another process than `pid` has that role now."""
        return self.pid(name, role) not in (None, pid)

    # ------------------------------------------------------------ what it says

    def status(self, name: str) -> Status:
        """As `standpipe status --json` prints it; {} while no agent answers."""
        options = argparse.Namespace(run_dir=str(self.world.node(name).run_folder))
        try:
            detail: Status = ask(options, "status", {}, within_s=ANSWER_S)["detail"]
        except Unanswered:
            return {}
        return detail

    def group(self, name: str, group: str) -> dict[str, Any]:
        """A group as that node sees it; {} while no agent answers."""
        return _group(self.status(name), group)

    def alarms(self, name: str, kind: str) -> list[dict[str, Any]]:
        """Those of a kind that stand on a node."""
        return [alarm for alarm in self.status(name).get("alarms", ()) if alarm["kind"] == kind]

    def peer(self, name: str, other: str) -> str:
        """What a node holds another one for: alive, asking, held, silent, unknown."""
        peers = self.status(name).get("peers", ())
        return next((str(peer["state"]) for peer in peers if peer["name"] == other), "")

    def running(self) -> list[str]:
        """Where `standpipe run` lives."""
        return [name for name, process in self._started.items() if process.poll() is None]

    def settled(self, group: Group) -> bool:
        """One owner; every other node that runs is backup, ready, and heard to be by the owner."""
        said = {name: self.status(name) for name in self.running() if name in group.nodes}
        seen = {name: _group(status, group.name) for name, status in said.items()}
        owners = [name for name, entry in seen.items() if entry.get("state") == "active"]
        if len(owners) != 1 or not all(entry.get("ready") for entry in seen.values()):
            return False
        heard = {
            peer["name"]: peer["groups"].get(group.name, {}) for peer in said[owners[0]]["peers"]
        }
        return all(
            seen[name]["state"] == "backup"
            and seen[name]["role"] == "standby"
            and heard[name].get("state") == "backup"
            and heard[name].get("ready")
            for name in seen
            if name not in owners
        )

    def settle(self, limit_s: float = SETTLE_S) -> None:
        """Until every group has."""
        for group in self.groups:
            self.wait(partial(self.settled, group), f"{group.name} settles", limit_s)

    def wait(self, condition: Callable[[], object], what: str, limit_s: float = 10.0) -> None:
        """As netns.wait_until, less often; what the nodes think of it is in the LabError."""
        deadline_ms = now_ms() + limit_s * 1000
        while not condition():
            if now_ms() > deadline_ms:
                raise LabError(f"waited {limit_s:g} s in vain until {what}\n{self.report()}")
            time.sleep(POLL_S)

    def roles(self, group: str = PAIR.name) -> tuple[str, str]:
        """(the node that is active, the other one)."""
        nodes = next(found.nodes for found in self.groups if found.name == group)
        active = [name for name in nodes if self.group(name, group).get("state") == "active"]
        assert len(active) == 1, self.report()
        return active[0], next(name for name in nodes if name != active[0])

    def cli(self, name: str, *argv: str) -> subprocess.CompletedProcess[str]:
        """The command line on the node: `cli("lon1", "switchover", "vip")`."""
        run_dir = str(self.world.node(name).run_folder)
        return self.world.node(name).run(STANDPIPE, "--run-dir", run_dir, *argv, check=False)

    def report(self, *names: str) -> str:
        """For whoever looks for the reason: status, last decisions and log of each node."""
        found = []
        for name in names or self._started:
            found.append(f"---- {name}")
            for verb in ("status", "explain"):
                done = self.cli(name, verb)
                found.append((done.stdout + done.stderr)[-6000:])
            found.append(self.world.node(name).log("standpipe.log")[-4000:])
        return "\n".join(found)


def _group(status: Status, group: str) -> dict[str, Any]:
    return next((entry for entry in status.get("groups", ()) if entry["name"] == group), {})
