# SPDX-License-Identifier: GPL-2.0-or-later
"""A node with everything loaded, and its surroundings: every kind of driver has done its work.

UPS polled with SNMPv3, its alarm told to the NMS as an inform and acknowledged, names updated with
a signed message and verified, services by commands and by unit, checks of every kind, store.
`python -m tests.bench.loaded FOLDER` is what the node's checks ask: HTTP, SIP, systemd on a bus.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.bench.common import AddressGroup, say
from tests.drivers.bus_lab import Systemd, message_bus_daemon
from tests.lab.cluster import Cluster
from tests.lab.netns import LabError, processes_in, wait_until
from tests.lab.patient import TCP_PORT
from tests.lab.servers import Keepalived, Names
from tests.lab.snmp import Traps, Ups
from tests.lab.world import World

NODE, STANDBY = "lon1", "lon2"
VIP, PEER_VIP = "10.1.0.100", "10.1.0.101"
HTTP_PORT, SIP_PORT = 8080, 5060
UNIT = "exchange.service"
ALARM = "ups-on-battery"
ADVERT_S = 0.2
KINDS = ("tcp", "http", "sip", "command", "process", "unit")

SERVICES = f"""[[group.vip.service]]
name = "patient"
start = @START@
stop = @STOP@
status = @STATUS@
alive = [
    {{ tcp = "127.0.0.1:{TCP_PORT}" }},
    {{ http = "http://127.0.0.1:{HTTP_PORT}/health", expect = 200 }},
    {{ sip = "udp://127.0.0.1:{SIP_PORT}" }},
    {{ command = "true" }},
    {{ process = "keepalived" }},
]
[[group.vip.service]]
unit = "{UNIT}"
alive = [{{ unit = "{UNIT}" }}]
"""
SURROUNDINGS = """[geo.voice]
sites = ["london", "paris"]
groups = {{ london = "vip", paris = "par" }}
arbiter = "manual"
zone = "example.net"
servers = ["{primary}", "{secondary}"]
tsig_file = "{key_file}"
[[geo.voice.record]]
name = "sip.example.net"
type = "A"
ttl = 5
london = ["{vip}"]
paris = ["10.2.0.100"]
[device.ups1]
address = "{ups}"
site = "london"
snmp = {{ version = "3", user = "{user}", secrets_file = "@ETC@/snmp.key" }}
feeds = ["{node}"]
[nms.main]
address = "{nms}"
snmp = {{ version = "2c", community = "public" }}
inform = true
"""


class ServiceGroup(AddressGroup):
    """With services and checks of every kind."""

    def text(self) -> str:
        return super().text() + SERVICES


class Loaded:
    """Standpipe on two nodes, and keepalived beside it; NODE is the one to measure."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.names = Names(world, records=["sip 5 IN A 10.2.0.100"])
        self.traps, self.ups = Traps(world), Ups(world)
        folder = world.folder / "asked"
        folder.mkdir()
        os.environ["DBUS_SYSTEM_BUS_ADDRESS"] = f"unix:path={folder / 'bus'}"
        node = world.node(NODE)
        for host in (node, world.node(STANDBY)):
            place = folder if host is node else host.folder
            host.start(sys.executable, "-m", "tests.bench.loaded", str(place), log="asked.log")
        wait_until((folder / "ready").exists, f"the services on {NODE} answer", 20.0)
        for name, priority in ((NODE, 200), (STANDBY, 100)):
            held = [f"{PEER_VIP}/24"]
            where = world.node(name)
            Keepalived(world, where, held, vrid=52, priority=priority, advert_s=ADVERT_S)
        self.cluster = self._cluster()
        say("surroundings are up: name servers, NMS, UPS, services, keepalived")
        self.cluster.boot(NODE, STANDBY)
        self._load()

    def _cluster(self) -> Cluster:
        more = SURROUNDINGS.format(
            primary=self.names.primary_host.address,
            secondary=self.names.secondary_host.address,
            key_file=self.names.key_file,
            vip=VIP,
            ups=self.ups.address,
            user=self.ups.user.user,
            node=NODE,
            nms=self.traps.address,
        )
        advert = f"{ADVERT_S * 1000:.0f}ms"
        groups = [
            ServiceGroup("vip", (NODE, STANDBY), f"{VIP}/24", 51, advert),
            AddressGroup("par", ("par1", "par2"), "10.2.0.100/24", 51, advert),
        ]
        cluster = Cluster(self.world, groups, more)
        user = self.ups.user
        for name in self.world.plan.nodes:
            keys = f'auth = "sha256:{user.authentication}"\npriv = "aes128:{user.privacy}"\n'
            cluster.secret(name, "snmp.key", keys)
        return cluster

    def _load(self) -> None:
        """Until every driver has had something to do."""
        cluster = self.cluster
        cluster.wait(lambda: cluster.settled(cluster.groups[0]), "vip settles", 60.0)
        if cluster.group(NODE, "vip")["state"] != "active":
            self._order("switchover", "vip", "--to", NODE)
        cluster.wait(lambda: not self.idle(), "every check has answered", 30.0)
        self._order("failover", "voice", "--to", "london", "--force")
        self.ups.on_battery(60)
        cluster.wait(lambda: cluster.alarms(NODE, ALARM), "the UPS is seen on battery", 30.0)
        cluster.wait(self._told, "the NMS hears of the UPS", 30.0)
        self.ups.on_mains()
        cluster.wait(lambda: not cluster.alarms(NODE, ALARM), "the UPS is seen on mains", 60.0)
        said = cluster.status(NODE)
        say(
            f"loaded: {len(self.checks())} checks, {len(said['resources'])} resources, "
            f"UPS {said['devices'][0]['health']}, {len(self.traps.all())} traps, store "
            f"{'ok' if said['store']['ok'] else said['store']['detail']}"
        )

    def _told(self) -> bool:
        values = [value for trap in self.traps.all() for _, value in trap.varbinds]
        return any(ALARM in value for value in values)

    def _order(self, *argv: str) -> None:
        done = self.cluster.cli(NODE, *argv)
        if done.returncode:
            raise LabError(f"standpipe {' '.join(argv)}: {done.stdout}{done.stderr}")

    def checks(self) -> list[dict[str, Any]]:
        services = self.cluster.group(NODE, "vip")["services"]
        return [check for service in services for check in service["checks"]]

    def idle(self) -> list[str]:
        """Kinds of check that have not found their service alive yet."""
        answered = {check["name"].split()[0] for check in self.checks() if check["health"] == "up"}
        named = {"http" if name.startswith("http") else name for name in answered}
        return [kind for kind in KINDS if kind not in named]

    def pids(self) -> dict[str, list[int]]:
        """Of the node's keeper, agent and supervisor, and of its keepalived."""
        keeper, agent = (self.cluster.pid(NODE, role) for role in ("keeper", "agent"))
        if keeper is None or agent is None:
            raise LabError(f"keeper or agent is gone\n{self.cluster.report(NODE)}")
        supervisor = parent_of(keeper)
        peers = [
            pid
            for pid in processes_in([self.world.node(NODE).namespace])
            if Path(f"/proc/{pid}/comm").read_text().strip() == "keepalived"
        ]
        return {
            "keeper": [keeper],
            "agent": [agent],
            "supervisor": [supervisor],
            "keepalived": sorted(peers),
        }


def parent_of(pid: int) -> int:
    """proc(5), stat."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


# What the node's checks ask


class Sip(asyncio.DatagramProtocol):
    """Answers OPTIONS (RFC 3261 section 11)."""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        kept = (b"Via", b"From", b"To", b"Call-ID", b"CSeq")
        lines = [line for line in data.split(b"\r\n") if line.partition(b":")[0] in kept]
        answer = [b"SIP/2.0 200 OK", *lines, b"Content-Length: 0", b"", b""]
        self._transport.sendto(b"\r\n".join(answer), addr)


async def _http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
    await writer.drain()
    writer.close()


async def _serve(folder: Path) -> None:
    with message_bus_daemon(folder) as address:
        systemd = Systemd()
        systemd.unit(UNIT, "active")
        running = asyncio.get_running_loop()
        await running.create_datagram_endpoint(Sip, local_addr=("127.0.0.1", SIP_PORT))
        server = await asyncio.start_server(_http, "127.0.0.1", HTTP_PORT)
        async with systemd.serving(address), server:
            (folder / "ready").touch()
            await server.serve_forever()


def main(argv: Sequence[str]) -> None:
    asyncio.run(_serve(Path(argv[0])))


if __name__ == "__main__":
    main(sys.argv[1:])
