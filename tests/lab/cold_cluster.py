# SPDX-License-Identifier: GPL-2.0-or-later
"""Standpipe with a cold group on the nodes of a world, a referee, and a third node that votes.

with World.build(cold_plan(witness=True)) as world:
    cluster = ColdCluster(world, ColdGroup(exclusive="lease"))
    cluster.boot()
    cluster.settle()
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from drivers.authority import issue, make_ca
from tests.lab.cluster import STANDPIPE, Cluster, Group, Status
from tests.lab.cold_notebook import Notebook
from tests.lab.patient_cold import PID_FILE, PORT, Nature, arguments
from tests.lab.plan import Plan, one_lan
from tests.lab.world import ROOT, World

NODES = ("lon1", "lon2")
WITNESS = "wit1"
VIP = "10.1.0.110"
START_UP_S = 0.3
MOVES = 'moves = "1000 in 1h"\n'  # no test breaks so little that the usual limit would be met

SERVICE = """[[group.@NAME@.service]]
name = "ledger"
start = @COLD start@
stop = @COLD stop@
status = @COLD status@
pid_file = "@RUN@/{pid_file}"
start_within = "{start_within}"
stop_within = "5s"
restarts = "{restarts}"
alive = [{{ http = "http://127.0.0.1:{port}/", every = "200ms", timeout = "150ms", rise = 1 }}]
[group.@NAME@.settings]
status = "@DISK@/ledger.status"
status_max_age = "5s"
"""


def cold_plan(*, witness: bool = False) -> Plan:
    """Two nodes on one LAN with two paths, and a third that only votes."""
    return one_lan((*NODES, WITNESS) if witness else NODES)


@dataclass(frozen=True)
class ColdGroup(Group):
    """A cold group with one service, the ledger."""

    name: str = "ledger"
    nodes: tuple[str, ...] = NODES
    address: str = f"{VIP}/24"
    vrid: int = 61
    exclusive: str = "segment"
    lease: str = "2s"
    start_up_s: float = START_UP_S
    ballast_bytes: int = 10_000
    more: str = ""  # keys of the group
    extra: dict[str, str] = field(default_factory=dict)  # text in SERVICE -> what stands instead

    def text(self) -> str:
        head = f"""[group.{self.name}]
nodes = {json.dumps(self.nodes)}
standby = "cold"
exclusive = "{self.exclusive}"
{f'lease = "{self.lease}"' if self.exclusive == "lease" else ""}
failback = "manual"
advert = "{self.advert}"
hold = "{self.hold}"
probation = "{self.probation}"
{self.more}
[[group.{self.name}.address]]
address = "{self.address}"
interface = "eth0"
vrid = {self.vrid}
"""
        service = SERVICE.format(
            pid_file=PID_FILE,
            start_within=f"{self.start_up_s + 5:g}s",
            restarts=self.restarts,
            port=PORT + 1,
        )
        for old, new in self.extra.items():
            service = service.replace(old, new)
        return head + service.replace("@NAME@", self.name)


class ColdCluster(Cluster):
    """`standpipe run` on two nodes and perhaps a witness; the service's disk is each node's own.

    All nodes have it at the same path, as machines of their own would: a bind mount that only what
    was started by the node's Standpipe sees.
    """

    def __init__(self, world: World, group: ColdGroup, more: str = "") -> None:
        self.cold = group
        self.disk_point = world.folder / "disk"
        self.disk_point.mkdir()
        self.notebook = Notebook(world.folder / "notebook")
        for node in world.nodes:
            (node.state_folder / "disk").mkdir()
        super().__init__(world, [group], more)
        if WITNESS in world.plan.nodes:
            plain, voting = f"[node.{WITNESS}]\n", f'[node.{WITNESS}]\nrole = "witness"\n'
            self.template = self.template.replace(plain, voting)
        self.template = self.template.replace(
            "[cluster]\n", f'[cluster]\npki_dir = "@ETC@/pki"\n{MOVES}', 1
        )
        self._admit()
        for name in world.plan.nodes:
            self.write(name, self.template)

    def _admit(self) -> None:
        """Certificates for every node, from one authority."""
        first = self.etc(self.world.plan.nodes[0]) / "pki"
        first.mkdir(mode=0o700)
        make_ca(first, "lab")
        for name in self.world.plan.nodes:
            there = self.etc(name) / "pki"
            if there != first:
                there.mkdir(mode=0o700)
                for file in ("ca.crt", "ca.key"):
                    (there / file).touch(mode=0o600)
                    (there / file).write_bytes((first / file).read_bytes())
            issue(there, "lab", name)

    def nature(self) -> Nature:
        return Nature(
            self.disk_point / "ledger.status",
            self.notebook.folder,
            PORT,
            self.cold.start_up_s,
            ballast_bytes=self.cold.ballast_bytes,
        )

    def patient(self, name: str, action: str) -> str:
        """The shell command that does it to the node's ledger."""
        argv = [sys.executable, "-m", "tests.lab.patient_cold", action]
        folder = str(self.world.node(name).run_folder)
        argv += arguments(name, folder, self.nature())
        return f"PYTHONPATH={ROOT} PYTHONDONTWRITEBYTECODE=1 {shlex.join(argv)}"

    def tell(self, name: str, action: str) -> subprocess.CompletedProcess[str]:
        """die, hang, wake, refuse or allow."""
        return self.world.node(name).run("sh", "-c", self.patient(name, action), check=False)

    def status_file(self, name: str) -> Path:
        """On the node's own disk."""
        return self.world.node(name).state_folder / "disk" / "ledger.status"

    def write(self, name: str, text: str) -> None:
        text = text.replace("@RUN@", str(self.world.node(name).run_folder))
        text = text.replace("@DISK@", str(self.disk_point))
        text = re.sub(r"@COLD (\w+)@", lambda found: json.dumps(self.patient(name, found[1])), text)
        super().write(name, text)

    def boot(self, *names: str) -> None:
        """A cold patient starts when it is told to."""
        for name in names or self.world.plan.nodes:
            self.world.node(name).power_on()
        self.start(*names)

    def start(self, *names: str, disk: tuple[str, str] | None = None) -> None:
        for name in names or self.world.plan.nodes:
            node = self.world.node(name)
            config = str(self.etc(name) / "standpipe.toml")
            argv = [STANDPIPE, "run", "--config", config, "--node", name]
            argv += ["--run-dir", str(node.run_folder), "--state-dir", str(node.state_folder)]
            own = node.state_folder / "disk"
            mounting = f'mount --bind {own} {self.disk_point} && exec "$@"'
            self._started[name] = node.start("sh", "-c", mounting, "sh", *argv, log="standpipe.log")

    # ------------------------------------------------------------ who serves

    def settled(self, group: Group) -> bool:
        """One owner, whose ledger runs; every other node that runs could bring it up."""
        said = {name: self.status(name) for name in self.running() if name in group.nodes}
        seen = {name: _group(status, group.name) for name, status in said.items()}
        owners = [name for name, entry in seen.items() if entry.get("state") == "active"]
        if len(owners) != 1 or self.notebook.running() != set(owners):
            return False
        return all(
            (entry.get("role"), entry.get("state"), entry.get("able"))
            == ("standby", "backup", True)
            for name, entry in seen.items()
            if name not in owners
        )

    def settle(self, limit_s: float = 40.0) -> None:
        super().settle(limit_s)

    def await_running(self, name: str, limit_s: float = 20.0) -> None:
        """Until that node alone runs the ledger."""
        what = f"only {name} runs the ledger"
        self.wait(lambda: self.notebook.running() == {name}, what, limit_s)


def _group(status: Status, group: str) -> dict[str, object]:
    return next((entry for entry in status.get("groups", ()) if entry["name"] == group), {})
