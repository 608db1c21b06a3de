# SPDX-License-Identifier: GPL-2.0-or-later
"""The world that Standpipe lives in: nodes that can lose their power, sites, and hosts around them.

with World.build(one_lan()) as world:
    at_ms = world.node("lon1").power_cut()
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, TypeVar

from tests.lab import plan as places
from tests.lab.netns import (
    NAMES,
    Fabric,
    Port,
    batch,
    command,
    folder,
    kill_in,
    lives_in,
    now_ms,
    require_root,
    set_ports,
    tidy_when_told_to_end,
    wait_until,
)
from tests.lab.plan import Plan

ROOT = Path(__file__).resolve().parents[2]
PATIENT = Path(__file__).with_name("patient.py")
_numbers = itertools.count(1)


class Closing(Protocol):
    def close(self) -> None: ...


Kept = TypeVar("Kept", bound=Closing)


class Host:
    """A machine of the laboratory: a namespace, addresses, ports on the switch, processes."""

    def __init__(self, name: str, fabric: Fabric, plan: Plan, scratch: Path) -> None:
        cables = [cable for cable in plan.cables if cable.host == name]
        self.name = name
        self.namespace = fabric.namespace(name)
        self.ports: dict[str, Port] = {cable.interface: fabric.port(cable) for cable in cables}
        self.own = [address for cable in cables for address in cable.addresses]
        self.folder = scratch / name
        self.folder.mkdir()
        self._started: list[subprocess.Popen[bytes]] = []

    @property
    def paths(self) -> list[str]:
        """The host's own IPv4 addresses, the site's LAN first."""
        return [address.split("/")[0] for address in self.own if ":" not in address]

    @property
    def address(self) -> str:
        return self.paths[0]

    def command(self, *argv: str) -> list[str]:
        """The command line that runs `argv` on this host, with the host's own /sys/class/net."""
        return ["ip", "netns", "exec", self.namespace, *argv]

    def run(
        self, *argv: str, check: bool = True, timeout_s: float = 30.0, text: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run to the end; with `check`, a non-zero exit is subprocess.CalledProcessError."""
        return subprocess.run(
            self.command(*argv),
            input=text,
            capture_output=True,
            text=True,
            check=check,
            timeout=timeout_s,
            cwd=ROOT,
        )

    def start(
        self, *argv: str, log: str = "log", env: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start in its own session and leave running; output goes to `log` in the folder."""
        with open(self.folder / log, "ab") as output:
            process = subprocess.Popen(
                self.command(*argv),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                cwd=ROOT,
                env={**os.environ, **(env or {})},
            )
        self._started.append(process)
        wait_until(
            lambda: process.poll() is not None or lives_in(process.pid, self.namespace),
            f"{argv[0]} has entered {self.namespace}",
        )
        return process

    def log(self, name: str = "log") -> str:
        path = self.folder / name
        return path.read_text(errors="replace") if path.exists() else ""

    def addresses(self) -> set[str]:
        """Every address now held, without prefix lengths, link-local ones left out."""
        links = json.loads(command("ip", "-j", "-n", self.namespace, "address"))
        return {
            entry["local"]
            for link in links
            for entry in link["addr_info"]
            if entry["scope"] in ("global", "site")
        }

    def hold(self, address: str, interface: str = places.LAN) -> None:
        """Add an address by hand, silently: nothing announces it."""
        flags = ["nodad"] if ":" in address else []
        command("ip", "-n", self.namespace, "address", "add", address, "dev", interface, *flags)

    def release(self, address: str, interface: str = places.LAN) -> None:
        command("ip", "-n", self.namespace, "address", "del", address, "dev", interface)

    def reap(self) -> None:
        """Collect those started here that have ended."""
        self._started = [process for process in self._started if process.poll() is None]

    def finish(self) -> None:
        for process in self._started:
            process.wait()


class Node(Host):
    """A server: `run_folder` is memory and dies with the power, `state_folder` is disk."""

    def __init__(self, name: str, fabric: Fabric, plan: Plan, scratch: Path) -> None:
        super().__init__(name, fabric, plan, scratch)
        self.site = plan.site_of(name)
        self.run_folder = self.folder / "run"
        self.state_folder = self.folder / "state"
        for path in (self.run_folder, self.state_folder):
            path.mkdir()

    def patient(self, action: str) -> str:
        """The shell command for this node's patient; the actions are patient.ACTIONS."""
        argv = [
            sys.executable,
            str(PATIENT),
            action,
            "--name",
            self.name,
            "--state-dir",
            str(self.run_folder),
        ]
        return shlex.join(argv)

    def tell_patient(self, action: str, *, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.run("sh", "-c", self.patient(action), check=check)

    def power_cut(self) -> float:
        """Carrier, processes, memory and borrowed addresses are gone; return when, in ms."""
        return cut_power([self])

    def power_on(self) -> None:
        """The cables carry again; whoever cut the power starts the processes."""
        set_ports(list(self.ports.values()), up=True)

    def _forget(self) -> None:
        """What a reboot forgets: borrowed addresses, made interfaces, neighbours, and /run."""
        links = json.loads(command("ip", "-j", "-n", self.namespace, "address"))
        lines = ["neigh flush all"]
        for link in links:
            if link["ifname"] not in (*self.ports, "lo"):
                lines.append(f"link del {link['ifname']}")
                continue
            held = [
                f"{entry['local']}/{entry['prefixlen']}"
                for entry in link["addr_info"]
                if entry["scope"] == "global"
            ]
            lines += [
                f"addr del {address} dev {link['ifname']}"
                for address in held
                if address not in self.own
            ]
        batch(lines, self.namespace)
        shutil.rmtree(self.run_folder)
        self.run_folder.mkdir()
        self.reap()


def cut_power(nodes: Sequence[Node]) -> float:
    """Cut all of them at one instant, with no last word from anybody; return when, in ms.

    Silent first, then every process, then the carriers: no process sees its carrier go.
    """
    ports = [port for node in nodes for port in node.ports.values()]
    at_ms = now_ms()
    for port in ports:
        port.mute()
    kill_in([node.namespace for node in nodes])
    set_ports(ports, up=False)
    for node in nodes:
        node._forget()
    return at_ms


class Site:
    """Nodes that share a building; `uplink` is the router's port there, if there is a router."""

    def __init__(self, name: str, nodes: list[Node], uplink: Port | None) -> None:
        self.name, self.nodes, self.uplink = name, nodes, uplink

    def power_cut(self) -> float:
        """The site is lost: all of its nodes at one instant; return when, in ms."""
        return cut_power(self.nodes)

    def power_on(self) -> None:
        for node in self.nodes:
            node.power_on()

    def isolate(self) -> None:
        """The nodes reach one another by the LAN, and nobody else by any network; carriers stay."""
        for port in self._ways_out():
            port.mute()

    def rejoin(self) -> None:
        for port in self._ways_out():
            port.heal()

    def _ways_out(self) -> list[Port]:
        second = [node.ports[places.SECOND] for node in self.nodes if places.SECOND in node.ports]
        return [self.uplink, *second] if self.uplink else second


class World:
    """Everything: built by `build`, gone when the `with` block ends, or the process by a signal."""

    def __init__(self, plan: Plan, prefix: str) -> None:
        self.plan = plan
        self.prefix = prefix
        self.fabric = Fabric(prefix)
        self._stack = contextlib.ExitStack()
        self._hosts: dict[str, Host] = {}

    @classmethod
    def build(cls, plan: Plan | None = None) -> Self:
        """Lay a plan (default: the two sites) on this machine; no server runs in it yet."""
        require_root()
        world = cls(plan or places.two_sites(), f"spl{os.getpid()}-{next(_numbers)}-")
        try:
            world._build()
        except BaseException:
            world.close()
            raise
        return world

    def _build(self) -> None:
        self._stack.enter_context(tidy_when_told_to_end(self.fabric.close))
        self._stack.callback(self._clear)
        self.folder = folder(self.prefix)
        self.folder.chmod(0o755)
        plan, fabric = self.plan, self.fabric
        fabric.lay(plan.hosts, plan.networks, plan.cables)
        for name in plan.hosts:
            kind = Node if name in plan.nodes else Host
            self._hosts[name] = kind(name, fabric, plan, self.folder)
        for name, hops in plan.gateways.items():
            batch([f"route add default via {hop}" for hop in hops], fabric.namespace(name))
        if places.ROUTER in plan.hosts:
            fabric.configure(places.ROUTER, {"ipv4/ip_forward": 1, "ipv6/conf/all/forwarding": 1})

    def _clear(self) -> None:
        self.fabric.close()
        for host in self._hosts.values():
            host.finish()

    def close(self) -> None:
        """Stop watchers and servers, kill what is left, delete namespaces and scratch folder."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def keep(self, thing: Kept) -> Kept:
        """Close the thing (a watcher, a server) before the world ends; return it."""
        self._stack.callback(thing.close)
        return thing

    def host(self, name: str) -> Host:
        return self._hosts[name]

    def node(self, name: str) -> Node:
        found = self._hosts[name]
        assert isinstance(found, Node), f"{name} is no node; nodes are {', '.join(self.plan.nodes)}"
        return found

    @property
    def client(self) -> Host:
        return self.host(places.CLIENT)

    @property
    def nodes(self) -> list[Node]:
        return [self.node(name) for name in self.plan.nodes]

    def site(self, name: str) -> Site:
        uplinks = [
            self.fabric.port(cable)
            for cable in self.plan.cables
            if cable.host == places.ROUTER and cable.network == name
        ]
        nodes = [self.node(node) for node in self.plan.sites[name]]
        return Site(name, nodes, uplinks[0] if uplinks else None)

    def namespaces(self) -> list[str]:
        """Those of this world that exist now."""
        return sorted(path.name for path in NAMES.glob(f"{self.prefix}*"))
