# SPDX-License-Identifier: GPL-2.0-or-later
"""Standpipe as its package installs it: two cold groups, of which one may overlap."""

from __future__ import annotations

import argparse
import json
import os
import secrets
from pathlib import Path
from typing import Any

from agent.cli_socket import Unanswered, ask
from drivers.authority import issue, make_ca
from tests.bench.cold.seats import NODES, WITNESS, Seat
from tests.lab.appliances import Appliance
from tests.lab.netns import LabError, folder

CLUSTER = "bench"
KEEPER, AGENT = "standpipe-keeper.service", "standpipe-agent.service"
OVERLAP = Seat("overlap", "10.1.0.111", 61, 7061, exclusive="segment")
LEASE = Seat("lease", "10.1.0.112", 62, 7062, exclusive="lease")
LEASE_MS = 2000.0
HEAD = """[cluster]
name = "{cluster}"
key_file = "/etc/standpipe/cluster.key"
pki_dir = "/etc/standpipe/pki"
moves = "1000 in 1h"
moves_share = "100%"

[site.london]
"""
NODE = """[node.{name}]
site = "london"
paths = {paths}
{more}
"""
GROUP = """[group.{name}]
nodes = {nodes}
standby = "cold"
exclusive = "{exclusive}"
{lease}
failback = "manual"
advert = "200ms"
probation = "1s"
[[group.{name}.address]]
address = "{address}/24"
interface = "eth0"
vrid = {vrid}
[[group.{name}.service]]
unit = "{unit}"
restarts = "1000 in 10m"
alive = [{{ http = "http://127.0.0.1:{port}/", every = "200ms", timeout = "150ms", rise = 1 }}]
[group.{name}.settings]
status = "{status}"
status_max_age = "5s"
"""
RULE = """polkit.addRule(function (action, subject) {
    var units = @UNITS@;
    var verbs = ["start", "stop", "restart", "kill"];
    if (action.id == "org.freedesktop.systemd1.manage-units" && subject.user == "standpipe" &&
        units.indexOf(action.lookup("unit")) >= 0 && verbs.indexOf(action.lookup("verb")) >= 0) {
        return polkit.Result.YES;
    }
});
"""
DROP_IN = """[Service]
ReadWritePaths={folders}
CapabilityBoundingSet=CAP_CHOWN CAP_FOWNER CAP_DAC_OVERRIDE
AmbientCapabilities=CAP_CHOWN CAP_FOWNER CAP_DAC_OVERRIDE
SystemCallFilter=@chown
"""  # what an agent must be allowed that puts a status file there for its owner
PAGED = "exclusive-blocked"


class Standpipe:
    """A seats.Stack."""

    name = "standpipe"
    seats = (OVERLAP, LEASE)
    managers = (AGENT, KEEPER)

    def configure(self, appliances: dict[str, Appliance]) -> None:
        text, key = self.text(appliances), secrets.token_hex(32) + "\n"
        authority = folder(f"{next(iter(appliances.values())).node.namespace}-ca")
        make_ca(authority, CLUSTER)
        for there in appliances.values():
            owner = there.accounts["standpipe"]
            there.write("/etc/standpipe/standpipe.toml", text)
            there.write("/etc/standpipe/cluster.key", key, 0o600, owner)
            issue(authority, CLUSTER, there.name)
            for file in ("ca.crt", "ca.key", "node.crt", "node.key"):
                path = f"/etc/standpipe/pki/{file}"
                there.write(path, (authority / file).read_text(), 0o600, owner)
            Path(there.upper, "etc/standpipe/pki").chmod(0o755)
            units = json.dumps([seat.unit for seat in self.seats])
            there.write("/etc/polkit-1/rules.d/50-standpipe.rules", RULE.replace("@UNITS@", units))
            for seat in self.seats:
                place = Path(str(there.upper) + seat.folder)
                place.mkdir(parents=True)
                os.chown(place, 0, owner[1])
                place.chmod(0o2775)  # its agent may put a status there
            folders = " ".join(seat.folder for seat in self.seats)
            there.write(
                f"/etc/systemd/system/{AGENT}.d/places.conf",
                DROP_IN.format(folders=folders),
            )
            there.enable(KEEPER, AGENT)

    def text(self, appliances: dict[str, Appliance]) -> str:
        parts = [HEAD.format(cluster=CLUSTER)]
        for name, there in appliances.items():
            role = 'role = "witness"' if name == WITNESS else ""
            paths = json.dumps(there.node.paths)
            parts.append(NODE.format(name=name, paths=paths, more=role))
        for seat in self.seats:
            parts.append(
                GROUP.format(
                    name=seat.name,
                    nodes=json.dumps(NODES),
                    exclusive=seat.exclusive,
                    lease='lease = "2s"' if seat.exclusive == "lease" else "",
                    address=seat.address,
                    vrid=seat.vrid,
                    unit=seat.unit,
                    port=seat.port + 1,
                    status=seat.status,
                )
            )
        return "".join(parts)

    def status(self, appliance: Appliance) -> dict[str, Any]:
        """{} while no agent answers."""
        if not appliance.is_on:
            return {}
        options = argparse.Namespace(run_dir=f"{appliance.root}/run/standpipe")
        try:
            found: dict[str, Any] = ask(options, "status", {}, within_s=5.0)["detail"]
        except (Unanswered, OSError):
            return {}
        return found

    def group(self, seat: Seat, appliance: Appliance) -> dict[str, Any]:
        groups = self.status(appliance).get("groups", ())
        return next((entry for entry in groups if entry["name"] == seat.name), {})

    def stands_by(self, seat: Seat, appliance: Appliance) -> bool:
        said = self.group(seat, appliance)
        waits = said.get("role") == "standby" and said.get("state") == "backup"
        return waits and bool(said.get("able"))

    def move(self, seat: Seat, held: Appliance, to: Appliance) -> None:
        done = held.run("standpipe", "switchover", seat.name, "--to", to.name, check=False)
        if done.returncode:
            raise LabError(f"{seat.name} to {to.name}: {done.stdout}{done.stderr}")

    def moved(self, seat: Seat, held: Appliance) -> None:
        """Nothing is left to do."""

    def clear(self, seat: Seat, appliance: Appliance) -> None:
        appliance.run("standpipe", "clear", seat.name, check=False)

    def revive(self, appliance: Appliance) -> None:
        """systemd did."""

    def alarmed(self, seat: Seat, appliance: Appliance) -> bool:
        alarms = self.status(appliance).get("alarms", ())
        return any(
            alarm["kind"] == PAGED and seat.name in alarm["subject"].split() for alarm in alarms
        )
