# SPDX-License-Identifier: GPL-2.0-or-later
"""Other people's VRRP routers on a node of a world: keepalived, and FRR's vrrpd with its zebra.

Both keep any number of virtual routers, VRRPv3, and write all that they notice into their logs.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_interface
from typing import Any, Protocol

from tests.lab import plan as places
from tests.lab.netns import LabError, batch, command
from tests.lab.servers import Daemon
from tests.lab.world import Node, World

MASTER, BACKUP = "master", "backup"


@dataclass(frozen=True)
class Instance:
    """A virtual router as one speaker keeps it. unicast: (own address, the other one's)."""

    name: str
    address: str  # with its prefix length
    vrid: int
    priority: int = 100
    advert_ms: int = 200
    preempt: bool = True
    unicast: tuple[str, str] | None = None

    @property
    def family(self) -> int:
        return ip_interface(self.address).version


class Speaker(Protocol):
    """A router of somebody else's."""

    node: Node
    instances: dict[str, Instance]
    keeps_addresses: bool  # for ever, whoever is active
    uses_virtual_mac: bool  # RFC 9568 section 7.3

    def start(self) -> None:
        """Return when it listens."""

    def running(self) -> bool:
        """Whether its process lives."""

    def stop(self) -> None:
        """As its service would be stopped: with a goodbye (priority 0)."""

    def change(self, **words: Any) -> None:
        """Another `priority`, say, for every instance from the next start on."""

    def state(self, name: str) -> str:
        """Of an instance: MASTER, BACKUP, "" while it does not run or has just begun."""

    def source(self, family: int) -> str:
        """Where its multicast advertisements come from."""

    def speaks_after_ms(self, name: str) -> int:
        """How long it is active before its first advertisement."""

    def complaints(self) -> list[str]:
        """What it had to say about packets that it heard, since the world began."""


def link_local(node: Node, interface: str = places.LAN) -> str:
    """The interface's own one; LabError while it has none."""
    argv = ("ip", "-j", "-6", "-n", node.namespace, "address", "show", "dev", interface)
    for link in json.loads(command(*argv)):
        for entry in link.get("addr_info", ()):
            if entry["scope"] == "link":
                return str(entry["local"])
    raise LabError(f"{interface} of {node.name} has no link-local address yet")


# keepalived


class Keepalived(Daemon):
    """keepalived with any number of instances; `unicast` ones beside multicast ones."""

    keeps_addresses = False
    uses_virtual_mac = False
    # What it writes while all is well; whatever else it writes is a complaint.
    CALM = re.compile(
        r"^\s|Starting |Running on |Command line|[Cc]onfiguration file|Opening file"
        r"|Registering |Assigned address|VRRP sockpool|setting config option max_auto_priority"
        r"|Startup complete|Stopp|CPU usage|(removing|setting) VIPs|Sending|Receive advertisement"
        r"|Entering (MASTER|BACKUP) STATE|sent 0 priority|received priority 0"
        r"|received lower priority|with (higher|lower) priority"
        r"|first IPv6 VIP address should be link local"  # about its own list (RFC 9568 5.2.9)
    )

    def __init__(self, world: World, node: Node, instances: Sequence[Instance]) -> None:
        self.node, self.instances = node, {it.name: it for it in instances}
        self._file = node.folder / "keepalived.conf"
        self._began = 0
        self.change()
        files = node.run_folder  # gone with the power, as /run is
        argv = ["keepalived", "--dont-fork", "--log-console", "--log-detail", "--vrrp"]
        argv += ["-f", str(self._file)]
        argv += ["-p", str(files / "keepalived.pid"), "-r", str(files / "vrrp.pid")]
        super().__init__(node, "keepalived", argv, self._listens)
        world.keep(self)

    def change(self, **words: Any) -> None:
        self.instances = {name: replace(it, **words) for name, it in self.instances.items()}
        blocks = ["global_defs {\n    router_id lab\n    vrrp_version 3\n}\n"]
        for it in self.instances.values():
            lines = [f"interface {places.LAN}", "state BACKUP", f"virtual_router_id {it.vrid}"]
            lines += [f"priority {it.priority}", f"advert_int {it.advert_ms / 1000:g}"]
            lines += [] if it.preempt else ["nopreempt"]
            if it.unicast:
                own, other = it.unicast
                lines += [f"unicast_src_ip {own}", f"unicast_peer {{\n {other}\n }}"]
            lines.append(f"virtual_ipaddress {{\n {it.address} dev {places.LAN}\n }}")
            blocks.append(f"vrrp_instance {it.name} {{\n" + "\n".join(lines) + "\n}\n")
        self._file.write_text("".join(blocks))
        self._file.chmod(0o600)

    def launch(self) -> None:
        self._began = len(self._log())
        super().launch()

    def running(self) -> bool:
        return not self._dead()

    def state(self, name: str) -> str:
        if self._dead():
            return ""
        entered = re.findall(rf"\({name}\) Entering (\w+) STATE", self._log()[self._began :])
        return str(entered[-1]).lower() if entered else ""

    def source(self, family: int) -> str:
        return self.node.address if family == 4 else link_local(self.node)

    def speaks_after_ms(self, name: str) -> int:
        return 0

    def complaints(self) -> list[str]:
        said = (line.partition(": ")[2] for line in self._log().splitlines())
        return [line for line in said if not self.CALM.search(line)]

    def _listens(self) -> bool:
        return all(self.state(name) for name in self.instances)

    def _log(self) -> str:
        return self.node.log("keepalived.log")


# FRR

ZEBRA, VRRPD = "/usr/lib/frr/zebra", "/usr/lib/frr/vrrpd"
FRR_USER = "frr"  # the daemons leave root behind for it, so the folder must be its own
VIRTUAL_MACS = {4: "00:00:5e:00:01:%02x", 6: "00:00:5e:00:02:%02x"}  # RFC 9568 section 7.3


class Frr:
    """FRR with any number of multicast instances, each with its address on a macvlan of its own.

    The macvlans have the addresses for ever; vrrpd has zebra switch the ones of its active routers
    on, and the others off (`protodown`). So who serves is asked of the client.
    """

    keeps_addresses = True
    uses_virtual_mac = True
    # it hears the other virtual routers of its segment as well, and says so of each packet
    COMPLAINT = re.compile(r"Datagram (?!rx|.*does not match our instance)|Bad |not large enough")

    def __init__(self, world: World, node: Node, instances: Sequence[Instance]) -> None:
        assert not any(it.unicast for it in instances), "FRR speaks multicast only"
        self.node, self.instances = node, {it.name: it for it in instances}
        self.folder = node.folder / "frr"
        self.folder.mkdir()
        shutil.chown(self.folder, FRR_USER, FRR_USER)
        self.change()
        self.zebra = self._daemon(ZEBRA, lambda: (self.folder / "zserv").exists())
        self.vrrpd = self._daemon(VRRPD, self._listens)
        # its own addresses must not be answered for by the interface below (arp_ignore: ip-sysctl)
        world.fabric.configure(node.name, {"ipv4/conf/all/arp_ignore": 1})
        world.keep(self)

    def change(self, **words: Any) -> None:
        self.instances = {name: replace(it, **words) for name, it in self.instances.items()}
        lines = ["debug vrrp", f"interface {places.LAN}"]
        for it in self.instances.values():
            kind = "ip" if it.family == 4 else "ipv6"
            lines += [f" vrrp {it.vrid} version 3", f" vrrp {it.vrid} priority {it.priority}"]
            lines.append(f" vrrp {it.vrid} advertisement-interval {it.advert_ms}")
            lines += [] if it.preempt else [f" no vrrp {it.vrid} preempt"]
            lines.append(f" vrrp {it.vrid} {kind} {it.address.split('/')[0]}")
        (self.folder / "vrrpd.conf").write_text("\n".join(lines) + "\n")
        (self.folder / "zebra.conf").write_text("")

    def _daemon(self, binary: str, answers: Callable[[], bool]) -> Daemon:
        files, name = self.folder, binary.rpartition("/")[2]
        argv = [binary, "-z", str(files / "zserv"), "--vty_socket", str(files), "-P", "0"]
        argv += ["-i", str(files / f"{name}.pid"), "-f", str(files / f"{name}.conf")]
        argv += ["--log", "stdout", "--log-level", "debug"]
        return Daemon(self.node, name, argv, answers)

    def start(self) -> None:
        for stale in (*self.folder.glob("*.vty"), *self.folder.glob("zserv*")):
            stale.unlink()  # vrrpd looks once, and again only after seconds
        self._lay_macvlans()
        for daemon in (self.zebra, self.vrrpd):
            daemon.start()

    def stop(self) -> None:
        for daemon in (self.vrrpd, self.zebra):
            daemon.stop()

    def close(self) -> None:
        for daemon in (self.vrrpd, self.zebra):
            daemon.close()

    def running(self) -> bool:
        return self.vrrpd.process is not None and self.vrrpd.process.poll() is None

    def state(self, name: str) -> str:
        """ "initialize" too."""
        if not self.running():
            return ""
        it = self.instances[name]
        argv = ["vtysh", "--vty_socket", str(self.folder), "-d", "vrrpd", "-c", "show vrrp json"]
        done = self.node.run(*argv, check=False)
        with contextlib.suppress(ValueError):  # nobody answers
            for router in json.loads(done.stdout):
                if router["vrid"] == it.vrid:
                    return str(router[f"v{it.family}"]["status"]).lower()
        return ""

    def source(self, family: int) -> str:
        return self.node.address if family == 4 else self._link_local()

    def speaks_after_ms(self, name: str) -> int:
        """The first IPv6 one fails: its macvlan is up, and vrrpd has not heard its address yet."""
        it = self.instances[name]
        return it.advert_ms if it.family == 6 else 0

    def complaints(self) -> list[str]:
        said = self.node.log("vrrpd.log").splitlines()
        return [line for line in said if self.COMPLAINT.search(line)]

    def _listens(self) -> bool:
        return all(self.state(name) in (MASTER, BACKUP) for name in self.instances)

    def _lay_macvlans(self) -> None:
        """Not live before vrrpd says so, and with the same link-local address at each boot."""
        links = json.loads(command("ip", "-j", "-n", self.node.namespace, "link"))
        there = {link["ifname"] for link in links}
        for it in self.instances.values():
            name, mac = f"vrrp{it.family}-{it.vrid}", VIRTUAL_MACS[it.family] % it.vrid
            if name in there:
                continue
            lines = [
                f"link add {name} link {places.LAN} address {mac} type macvlan mode bridge",
                f"link set {name} addrgenmode none",
                f"link set {name} protodown on",
                f"address add {it.address} dev {name}" + (" nodad" if it.family == 6 else ""),
            ]
            if it.family == 6:
                lines.append(f"address add {self._link_local()}/64 dev {name} nodad")
            batch([*lines, f"link set {name} up"], self.node.namespace)

    def _link_local(self) -> str:
        return f"fe80::{self.node.address.split('.')[-1]}"
