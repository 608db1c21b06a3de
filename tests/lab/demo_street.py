# SPDX-License-Identifier: GPL-2.0-or-later
"""The demo's stage: two sites, name servers, an NMS, a UPS, Standpipe on four nodes, watchers."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from drivers.traps import OBJECTS, STANDPIPE_MIB
from tests.lab.cluster import Cluster, Group
from tests.lab.demo_scene import Played
from tests.lab.demo_view import DIM, View
from tests.lab.measure import AddressWatch, NameWatch, Prober, Probes
from tests.lab.netns import LabError, now_ms
from tests.lab.servers import Names
from tests.lab.snmp import Secrets, Trap, Traps, Ups
from tests.lab.world import World

LONDON = Group("sbc-london", ("lon1", "lon2"), "10.1.0.100/24", probation="3s")
PARIS = Group("sbc-paris", ("par1", "par2"), "10.2.0.100/24", probation="3s")
LONDON_VIP, PARIS_VIP = "10.1.0.100", "10.2.0.100"
NAME, ZONE = "sip.example.net", "example.net"
DISK_BYTES = 64 << 20
LOOK_S = 0.1
POLL_S = 0.03
RESTORE_S = 25.0
SEVERITIES = {"1": "cleared", "3": "critical", "4": "major", "5": "minor", "6": "warning"}

MORE = """[geo.voice]
sites = ["london", "paris"]
groups = {{ london = "sbc-london", paris = "sbc-paris" }}
arbiter = "manual"
zone = "{zone}"
servers = ["{primary}", "{secondary}"]
tsig_file = "{tsig}"
[[geo.voice.record]]
name = "{name}"
type = "A"
ttl = 1
london = ["10.1.0.100"]
paris = ["10.2.0.100"]
[device.ups1]
address = "{ups}"
site = "london"
snmp = {{ version = "3", user = "{monitor}", level = "authPriv", secrets_file = "@ETC@/snmp.key" }}
feeds = ["lon1"]
every = "1s"
stale_after = "10s"
runtime_low = "5m"
[watch.disk]
only = ["{disk}"]
every = "200ms"
warn = "1m"
critical = "5s"
[watch.inodes]
only = ["{disk}"]
[nms.main]
address = "{nms}"
snmp = {{ version = "3", user = "{traps}", level = "authPriv", secrets_file = "@ETC@/trap.key" }}
inform = true
"""


class NotRestored(LabError):
    """The street is not well again, so no further scene can be played."""


@dataclass(frozen=True)
class Told:
    """An alarm as the NMS received it."""

    at_ms: float
    node: str
    kind: str
    subject: str
    severity: str
    text: str


def told(trap: Trap) -> Told:
    """Standpipe's notification (drivers.traps.OBJECTS)."""

    def value(name: str) -> str:
        return (trap.value(f".{STANDPIPE_MIB}.1.{OBJECTS[name]}.0") or "").strip('"')

    severity = value("standpipeAlarmSeverity")
    return Told(
        trap.at_ms,
        value("standpipeAlarmNode"),
        value("standpipeAlarmKind"),
        value("standpipeAlarmSubject"),
        SEVERITIES.get(severity, severity),
        value("standpipeAlarmText"),
    )


class Street:
    """Everything runs when it is made; the world's end ends it."""

    def __init__(self, world: World, view: View) -> None:
        self.world, self.view = world, view
        self.names = Names(world, zone=ZONE, records=["sip 1 IN A 10.1.0.100"], max_cache_ttl_s=1)
        self.nms, self.ups = Traps(world), Ups(world)
        self.disk = str(world.folder / "disk")
        self.cluster = self._cluster()
        self.owned = AddressWatch(world)
        self.resolved = NameWatch(world, NAME)
        self.cluster.boot()
        self.client = Prober(world, LONDON_VIP)
        self.dark: set[str] = set()
        self._paris: Prober | None = None
        self._seen: dict[str, Any] = {}
        self._traps_shown = 0
        self._look_due_ms = 0.0

    def _cluster(self) -> Cluster:
        text = MORE.format(
            zone=ZONE,
            primary=self.names.primary_host.address,
            secondary=self.names.secondary_host.address,
            tsig=self.names.key_file,
            name=NAME,
            ups=self.ups.address,
            monitor=self.ups.user.user,
            disk=self.disk,
            nms=self.nms.address,
            traps=self.nms.user.user,
        )
        disk = (self.disk, f"{DISK_BYTES >> 20}m")
        cluster = Cluster(self.world, [LONDON, PARIS], text, disk)
        for node in self.world.nodes:
            cluster.secret(node.name, "snmp.key", _secrets(self.ups.user))
            cluster.secret(node.name, "trap.key", _secrets(self.nms.user))
        return cluster

    # ------------------------------------------------------------ time passes

    def wait(self, condition: Callable[[], object], what: str, limit_s: float = 10.0) -> float:
        """Until it holds, while the audience is shown what happens; when that was, in ms."""
        deadline_ms = now_ms() + limit_s * 1000
        while not condition():
            if now_ms() > deadline_ms:
                raise LabError(f"waited {limit_s:g} s in vain until {what}")
            self.look()
            time.sleep(POLL_S)
        return now_ms()

    def watch_for(self, span_s: float) -> None:
        """Let some time pass."""
        until_ms = now_ms() + span_s * 1000
        while now_ms() < until_ms:
            self.look()
            time.sleep(POLL_S)

    def look(self) -> None:
        """Say what changed since the last look."""
        if now_ms() < self._look_due_ms:
            return
        self._look_due_ms = now_ms() + LOOK_S * 1000
        self._show("London's address is on", sorted(self.owned.owners(LONDON_VIP)))
        self._show("Paris' address is on", sorted(self.owned.owners(PARIS_VIP)))
        self._show("the client is served by", [self.client.served_by() or "nobody"])
        self._show(f"the resolver says that {NAME} is", list(self.resolved.answer()))
        for trap in self.nms.all()[self._traps_shown :]:
            self._traps_shown += 1
            news = told(trap)
            line = f"NMS: {news.node}: {news.severity} {news.kind}, {news.subject}: {news.text}"
            self.view.event(line, DIM)

    def _show(self, what: str, seen: list[str]) -> None:
        if self._seen.get(what) != seen:
            self._seen[what] = seen
            self.view.event(f"{what} {' and '.join(seen) or 'no node'}")

    # ------------------------------------------------------------ the state of things

    def owner(self) -> str:
        """Who holds London's address now, by netlink; "" where that is nobody or several."""
        held = self.owned.owners(LONDON_VIP)
        return held.pop() if len(held) == 1 else ""

    def standby(self) -> str:
        """The other London node."""
        return next(name for name in LONDON.nodes if name != self.owner())

    def restore(self, active: str = "") -> None:
        """All nodes powered, mended, ready; London on `active`. What the next scene starts from.

        Raises NotRestored.
        """
        try:
            self._mend()
            if active and self.owner() != active:
                self.command(self.owner(), "switchover", LONDON.name, "--to", active)
                self.settled()
        except LabError as error:
            raise NotRestored(f"cannot begin: {error}") from error
        self.watch_for(0.5)  # what is still on its way to the NMS belongs to what was

    def _mend(self) -> None:
        self.ups.on_mains()
        dark, self.dark = sorted(self.dark), set()
        if dark:
            self.view.event(f"power on: {', '.join(dark)}", DIM)
            self.cluster.boot(*dark)
        for name in (*LONDON.nodes, *PARIS.nodes):
            self.world.node(name).tell_patient("allow")
        for name in LONDON.nodes:
            if self.cluster.group(name, LONDON.name).get("role") == "quarantine":
                self.command(name, "clear", LONDON.name)
        self.settled()

    def settled(self) -> None:
        """Until both groups have an owner and a ready standby."""
        for group in self.cluster.groups:
            settled = partial(self.cluster.settled, group)
            self.wait(settled, f"{group.name} settles", RESTORE_S)
        self.wait(lambda: self.client.served_by(), "the client is served")

    def command(self, node: str, *argv: str) -> tuple[int, str]:
        """An operator's command on a node, shown; its exit status and last word."""
        self.view.event(f"{node}# standpipe {' '.join(argv)}")
        done = self.cluster.cli(node, *argv)
        word = (done.stderr + done.stdout).strip().splitlines()
        for line in word:
            self.view.event(f"      {line}", DIM)
        return done.returncode, " ".join(word)

    def cut(self, *names: str) -> float:
        """The lights go out; when, in ms."""
        self.view.event(f"power cut: {', '.join(names)}")
        self.dark |= set(names)
        return self.cluster.power_cut(*names)

    def prober_of_paris(self) -> Prober:
        """The client's eye on Paris' address, from the first call on."""
        if self._paris is None:
            self._paris = Prober(self.world, PARIS_VIP)
            self.wait(self._paris.served_by, "Paris serves the client, should it ask there")
        return self._paris

    # ------------------------------------------------------------ what was measured

    def told_since(self, start_ms: float, kind: str = "", node: str = "") -> list[Told]:
        """Alarms that reached the NMS since a moment, clears left out."""
        return [
            news
            for news in (told(trap) for trap in self.nms.all() if trap.at_ms >= start_ms)
            if news.severity != "cleared" and kind in ("", news.kind) and node in ("", news.node)
        ]

    def measure(
        self,
        played: Played,
        start_ms: float,
        *,
        outage_ms: float | None = 0.0,
        owners: list[str],
        doubled_ms: float = 0.0,
    ) -> None:
        """The client's outage, London's owners, names and traps since a moment; the limits.

        outage_ms None: there is no limit, for a person is waited for.
        """
        self.watch_for(0.5)  # the last probe's answer is due within late_ms
        end_ms = now_ms()
        probes, owned = self.followed(start_ms, end_ms), self.owned.record()
        outage = round(probes.outage_ms(), 1)
        if outage_ms is None:
            played.note("client_outage_ms", outage)
        else:
            played.at_most("client_outage_ms", outage, outage_ms)
        if outage_ms == 0.0:
            played.at_most("probes_lost", probes.lost(), 0)
        else:
            played.note("probes_lost", probes.lost())
        played.note("probe_gap_ms", round(probes.stall_ms(), 1))
        played.note("served_by", [name for _, name in probes.served_by()])
        played.equals("owners_seen", owned.owners_seen(LONDON_VIP, start_ms, end_ms), owners)
        doubled = owned.doubled_ms(LONDON_VIP, start_ms, end_ms)
        played.at_most("double_owner_ms", round(doubled, 1), doubled_ms)
        played.note("dns_answers", self.answers(start_ms))
        played.note(
            "traps",
            [
                {
                    "after_ms": round(trap.at_ms - start_ms),
                    "node": trap.node,
                    "kind": trap.kind,
                    "subject": trap.subject,
                    "severity": trap.severity,
                    "text": trap.text,
                }
                for trap in map(told, self.nms.all())
                if trap.at_ms >= start_ms
            ],
        )

    def followed(self, start_ms: float, end_ms: float) -> Probes:
        """The probes of a client that asks where the name points to, as the resolver says it."""
        sent: list[float] = []
        by: list[str | None] = []
        changes = [(at_ms, answer) for at_ms, answer in self.resolved.record().changes if answer]
        ends = [*(at_ms for at_ms, _ in changes[1:]), end_ms]
        records: dict[tuple[str, ...], Probes] = {(LONDON_VIP,): self.client.record()}
        if self._paris is not None:
            records[(PARIS_VIP,)] = self._paris.record()
        for (since_ms, answer), until_ms in zip(changes, ends, strict=True):
            probes = records.get(answer, Probes([], []))
            for at_ms, name in zip(probes.sent_ms, probes.by, strict=True):
                if max(since_ms, start_ms) <= at_ms < min(until_ms, end_ms):
                    sent.append(at_ms)
                    by.append(name)
        return Probes(sent, by)

    def answers(self, start_ms: float) -> list[dict[str, Any]]:
        """What the resolver said: at the start (after_ms 0), and at each change."""
        before: tuple[str, ...] = ()
        found: list[dict[str, Any]] = []
        for at_ms, answer in self.resolved.record().changes:
            if at_ms <= start_ms:
                before = answer
            else:
                found.append({"after_ms": round(at_ms - start_ms), "answer": list(answer)})
        return [{"after_ms": 0, "answer": list(before)}, *found]


def _secrets(user: Secrets) -> str:
    return f'auth = "sha256:{user.authentication}"\npriv = "aes128:{user.privacy}"\n'
