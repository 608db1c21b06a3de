# SPDX-License-Identifier: GPL-2.0-or-later
"""keepalived with a cold service: VRRPv3, a notify script that starts the unit, a check script.

Both nodes are BACKUP with nopreempt, so that nothing moves back by itself.
"""

from __future__ import annotations

from tests.bench.cold.seats import NODES, Seat
from tests.lab.appliances import Appliance
from tests.lab.netns import wait_until

STATE = "/run/keepalived-state"
CONFIGURATION = """global_defs {{
    router_id {node}
    vrrp_version 3
    script_user root
    enable_script_security
}}
vrrp_script ledger {{
    script "/etc/keepalived/check"
    interval 1
    timeout 1
    fall 1
    rise 1
}}
vrrp_instance ledger {{
    state BACKUP
    nopreempt
    interface eth0
    virtual_router_id {vrid}
    priority {priority}
    advert_int 0.2
    virtual_ipaddress {{
        {address}/24 dev eth0
    }}
    track_script {{
        ledger
    }}
    notify /etc/keepalived/notify
}}
"""
NOTIFY = """#!/bin/sh
echo "$3" >{state}
case "$3" in
MASTER) systemctl start --no-block {unit} ;;
*) systemctl stop --no-block {unit} ;;
esac
"""
CHECK = """#!/bin/sh
[ "$(cat {state} 2>/dev/null)" = MASTER ] || exit 0
case "$(systemctl is-active {unit})" in
activating | deactivating | inactive) exit 0 ;;
active) exec curl -sf -m 1 -o /dev/null http://127.0.0.1:{port}/ ;;
esac
exit 1
"""


class Keepalived:
    """A seats.Stack."""

    name = "keepalived"
    managers = ("keepalived.service",)

    def __init__(self) -> None:
        restart = "Restart=on-failure\nRestartSec=0.1\nStartLimitIntervalSec=0"
        self.seat = Seat("keepalived", "10.1.0.113", 63, 7063, more=restart.rpartition("\n")[0])
        self.seats = (self.seat,)

    def configure(self, appliances: dict[str, Appliance]) -> None:
        for node, priority in zip(NODES, (200, 100), strict=True):
            seat, there = self.seat, appliances[node]
            text = CONFIGURATION.format(
                node=node, vrid=seat.vrid, priority=priority, address=seat.address
            )
            there.write("/etc/keepalived/keepalived.conf", text)
            words = {"state": STATE, "unit": seat.unit, "port": seat.port + 1}
            there.write("/etc/keepalived/notify", NOTIFY.format(**words), 0o755)
            there.write("/etc/keepalived/check", CHECK.format(**words), 0o755)
            there.enable("keepalived.service")

    def stands_by(self, seat: Seat, appliance: Appliance) -> bool:
        return _state(appliance) == "BACKUP" and appliance.pid_of(self.managers[0]) != 0

    def move(self, seat: Seat, held: Appliance, to: Appliance) -> None:
        held.run("systemctl", "stop", self.managers[0])

    def moved(self, seat: Seat, held: Appliance) -> None:
        held.run("rm", "-f", STATE)
        held.run("systemctl", "start", self.managers[0])
        wait_until(lambda: self.stands_by(seat, held), "keepalived stands by", 20.0)

    def clear(self, seat: Seat, appliance: Appliance) -> None:
        appliance.run("systemctl", "reset-failed", seat.unit, check=False)

    def revive(self, appliance: Appliance) -> None:
        if not appliance.pid_of(self.managers[0]):
            appliance.run("systemctl", "restart", self.managers[0])

    def alarmed(self, seat: Seat, appliance: Appliance) -> bool:
        return False


def _state(appliance: Appliance) -> str:
    return appliance.run("cat", STATE, check=False).stdout.strip()
