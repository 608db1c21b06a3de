# SPDX-License-Identifier: GPL-2.0-or-later
"""Who keeps the address of a pair of SIP servers: Standpipe, or keepalived with a check script."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from tests.lab import plan as places
from tests.lab.cluster import STANDPIPE, Cluster, Group
from tests.lab.netns import LabError, wait_until
from tests.lab.servers import Daemon
from tests.lab.sip_servers import CALLS_PORT, SIP_PORT, SipServer
from tests.lab.world import Node, World

NODES = PREFERRED, _ = "lon1", "lon2"
VIP = "10.1.0.100"
VRID = 51
GROUP = "sip"
Servers = dict[str, SipServer]


class Side(Protocol):
    """It has the address on `PREFERRED` once it is booted everywhere."""

    name: str

    def boot(self, *names: str) -> None:
        """What comes up with the power, the SIP server too; return when it listens."""

    def order(self, giver: str, taker: str) -> None:
        """A planned switch, begun."""

    def ordered(self) -> None:
        """Wait until what was ordered last, if anything, is done; LabError where it was refused."""

    def fit(self, name: str) -> None:
        """Wait until that node would take over."""

    def settle(self) -> None:
        """Until there is one owner and the other one would take over."""

    def report(self) -> str:
        """For whoever looks for the reason."""


@dataclass(frozen=True)
class SipGroup(Group):
    """A hot group of the proxy, or a realtime one of the B2BUA."""

    standby: str = "hot"

    def text(self) -> str:
        head = super().text().partition(f"[[group.{self.name}.service]]")[0]
        head = head.replace('standby = "hot"', f'standby = "{self.standby}"\ndrain = "1s"')
        realtime = REALTIME if self.standby == "realtime" else ""
        return head + realtime.replace("@GROUP@", self.name) + SERVICE.replace("@GROUP@", self.name)


# For Cluster.write below: @..@ is a command of the node's own server, in quotes.
SERVICE = f"""[[group.@GROUP@.service]]
name = "sip"
start = @SIP_START@
stop = @SIP_STOP@
status = @SIP_STATUS@
pid_file = @SIP_PID_FILE@
start_within = "5s"
stop_within = "5s"
alive = [{{ sip = "udp://@SIP_OWN@:{SIP_PORT}", every = "200ms", timeout = "100ms", fall = 3 }}]
"""
# Without a `drain` command the other node takes new calls at once, and those that are up end here.
REALTIME = f"""[group.@GROUP@.realtime]
sessions = {{ http = "http://127.0.0.1:{CALLS_PORT}/", field = "calls" }}
deadline = "30s"
"""


class Standpipe(Cluster):
    """`standpipe run` on both nodes."""

    name = "Standpipe"

    def __init__(self, world: World, servers: Servers, group: SipGroup) -> None:
        self.servers = servers
        self._order: subprocess.Popen[bytes] | None = None
        super().__init__(world, [group])

    def write(self, name: str, text: str) -> None:
        server = self.servers[name]
        words = {action: server.command(action) for action in ("start", "stop", "status")}
        words["pid_file"] = str(server.pid_file)
        for key, word in words.items():
            text = text.replace(f"@SIP_{key.upper()}@", json.dumps(word))
        super().write(name, text.replace("@SIP_OWN@", server.node.address))

    def boot(self, *names: str) -> None:
        for name in names or NODES:
            node = self.world.node(name)
            node.power_on()
            node.tell_patient("start")
            self.servers[name].tell("start")
        self.start(*names)

    def order(self, giver: str, taker: str) -> None:
        node = self.world.node(giver)
        argv = [STANDPIPE, "--run-dir", str(node.run_folder), "switchover", GROUP, "--to", taker]
        self._order = node.start(*argv, log="order.log")

    def ordered(self) -> None:
        if self._order and (status := self._order.wait(60)):
            said = "".join(node.log("order.log") for node in self.world.nodes)
            raise LabError(f"switchover ended with {status}: {said}\n{self.report()}")

    def fit(self, name: str) -> None:
        self.wait(lambda: self.group(name, GROUP).get("ready"), f"{name} is ready", 30.0)


class CheckedKeepalived(Daemon):
    """One instance, the address, and an OPTIONS check: interval 1, fall 2, as manuals have it."""

    def __init__(self, node: Node, priority: int, advert_s: float) -> None:
        check, configuration = node.state_folder / "check", node.state_folder / "keepalived.conf"
        question = node.state_folder / "options"
        own = {"@OWN@": node.address, "@PORT@": str(SIP_PORT), "@QUESTION@": str(question)}
        for path, text in ((check, CHECK), (question, QUESTION.replace("\n", "\r\n"))):
            for key, value in own.items():
                text = text.replace(key, value)
            path.write_text(text, newline="")
        check.chmod(0o755)
        configuration.write_text(f"""global_defs {{
    router_id {node.name}
    vrrp_version 3
    script_user root
}}
vrrp_script sip {{
    script "{check}"
    interval 1
    timeout 1
    fall 2
    rise 2
}}
vrrp_instance sip {{
    state BACKUP
    interface {places.LAN}
    virtual_router_id {VRID}
    priority {priority}
    advert_int {advert_s:g}
    virtual_ipaddress {{
        {VIP}/24 dev {places.LAN}
    }}
    track_script {{
        sip
    }}
}}
""")
        argv = ["keepalived", "--dont-fork", "--log-console", "--log-detail", "--vrrp"]
        argv += ["-f", str(configuration), "-p", str(node.run_folder / "keepalived.pid")]
        argv += ["-r", str(node.run_folder / "vrrp.pid")]
        super().__init__(node, "keepalived", argv, self._listens)

    def _listens(self) -> bool:
        return "BACKUP STATE" in self.host.log("keepalived.log")


# The first octets of the answer are enough.
CHECK = """#!/bin/bash
exec 3<>/dev/udp/@OWN@/@PORT@ || exit 1
cat @QUESTION@ >&3
[ "$(timeout 0.9 head -c 11 <&3)" = "SIP/2.0 200" ]
"""
QUESTION = """OPTIONS sip:@OWN@ SIP/2.0
Via: SIP/2.0/UDP @OWN@;branch=z9hG4bKcheck;rport
Max-Forwards: 70
From: <sip:check@localhost>;tag=check
To: <sip:@OWN@>
Call-ID: check
CSeq: 1 OPTIONS
Content-Length: 0

"""


class Keepaliveds:
    """keepalived on both nodes, the preferred one preempts."""

    name = "keepalived"

    def __init__(self, world: World, servers: Servers, advert_s: float = 1.0) -> None:
        self.world, self.servers = world, servers
        self.daemons = {
            node.name: world.keep(CheckedKeepalived(node, priority, advert_s))
            for node, priority in zip(world.nodes, (200, 100), strict=True)
        }
        self._taker = ""

    def boot(self, *names: str) -> None:
        for name in names or NODES:
            node = self.world.node(name)
            node.power_on()
            node.tell_patient("start")
            self.servers[name].tell("start")
            self.daemons[name].launch()

    def order(self, giver: str, taker: str) -> None:
        """Its only hand-over: it is stopped, and the other takes; started, and it takes back."""
        self._taker = taker
        if taker == PREFERRED:
            self.daemons[taker].launch()
        else:
            self.daemons[giver].stop()

    def ordered(self) -> None:
        if self._taker:
            done = f"{self._taker} has the address"
            wait_until(lambda: self._owners() == [self._taker], done, 30.0)

    def fit(self, name: str) -> None:
        """Whoever is started takes over."""

    def settle(self) -> None:
        def settled() -> bool:
            logs = [node.log("keepalived.log") for node in self.world.nodes]
            fit = all("VRRP_Script(sip) succeeded" in log for log in logs)
            return fit and self._owners() == [PREFERRED]

        try:
            wait_until(settled, "keepalived's checks succeed, and one owns", 30.0)
        except LabError as error:
            raise LabError(f"{error}\n{self.report()}") from error

    def _owners(self) -> Sequence[str]:
        return [node.name for node in self.world.nodes if VIP in node.addresses()]

    def report(self) -> str:
        return "\n".join(node.log("keepalived.log")[-2000:] for node in self.world.nodes)
