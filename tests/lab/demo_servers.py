# SPDX-License-Identifier: GPL-2.0-or-later
"""Scenes in one site: a process, a service, a disk, a server is lost; nobody has to come."""

from __future__ import annotations

import errno
import os
import time
from typing import Any

from tests.lab.demo_scene import Played
from tests.lab.demo_street import DISK_BYTES, LONDON, POLL_S, Street
from tests.lab.netns import now_ms

CUT_OUTAGE_MS = 1000.0  # three adverts of 200 ms and the asking, with room for a busy machine
RESTART_OUTAGE_MS = 3000.0
MOVE_OUTAGE_MS = 5000.0
PLANNED_OUTAGE_MS = 50.0
HANDOVER_MS = 100.0  # the taker has the addresses before the giver lets them go
BACK_MS = 10_000.0
FILL_S = 12.0
LEAD_S = 3.0


def steady(street: Street, played: Played) -> None:
    """All is well."""
    street.restore("lon1")
    start_ms = now_ms()
    street.watch_for(4.0)
    street.measure(played, start_ms, owners=["lon1"])
    played.tell("lon1 serves, not a probe is lost")


def power_cut(street: Street, played: Played) -> None:
    """The active server loses its power."""
    street.restore()
    active, standby = street.owner(), street.standby()
    start_ms = now_ms()
    cut_ms = street.cut(active)
    street.wait(lambda: street.client.served_by() == standby, f"{standby} serves the client")
    street.wait(lambda: street.told_since(cut_ms, "node-lost"), "the NMS hears of it", 20.0)
    street.measure(played, start_ms, outage_ms=CUT_OUTAGE_MS, owners=[active, standby])
    moved = [trap.node for trap in street.told_since(start_ms, "group-moved")]
    played.contains("group_moved_told_by", moved, standby)
    outage_ms = played.measured["client_outage_ms"]
    played.tell(f"{standby} serves after {outage_ms:.0f} ms")


def server_returns(street: Street, played: Played) -> None:
    """The server that fell is there again."""
    fallen = sorted(street.dark)
    street.wait(street.owner, "somebody serves")
    active = street.owner()
    start_ms = now_ms()
    back = fallen[0]
    street.view.event(f"power on: {back}")
    street.dark.discard(back)
    street.cluster.boot(back)
    roles: list[str] = []

    def standing_by() -> bool:
        seen = street.cluster.group(back, LONDON.name)
        role = str(seen.get("role", "")) + ("" if seen.get("ready") else ", not ready")
        if seen and role not in roles[-1:]:
            roles.append(role)
            street.view.event(f"{back} is in {role}: {seen.get('why') or 'could serve'}")
        return street.cluster.settled(LONDON)

    ready_ms = street.wait(standing_by, f"{back} is a ready standby", 40.0) - start_ms
    street.watch_for(2.0)
    street.measure(played, start_ms, owners=[active])
    played.contains("roles_seen", roles, "probation, not ready")
    played.equals("role_at_last", roles[-1], "standby")
    played.note("ready_after_ms", round(ready_ms))
    played.tell(f"{back} proved itself and stands by; {active} goes on serving")


def agent_killed(street: Street, played: Played) -> None:
    """kill -9 of the agent on the active server."""
    _process_killed(street, played, "agent")


def keeper_killed(street: Street, played: Played) -> None:
    """kill -9 of the keeper, which owns the addresses."""
    _process_killed(street, played, "keeper")


def _process_killed(street: Street, played: Played, role: str) -> None:
    street.restore()
    active = street.owner()
    start_ms = now_ms()
    pid = street.cluster.kill(active, role)
    street.view.event(f"{active}: the {role}, process {pid}, is killed")
    street.wait(lambda: street.cluster.replaced(active, role, pid), f"{active} has a new {role}")
    street.wait(lambda: street.cluster.settled(LONDON), f"{active} is well again", 20.0)
    back_ms = now_ms() - start_ms
    street.view.event(f"{active}: a new {role} runs and is in the picture")
    street.watch_for(2.0)
    street.measure(played, start_ms, owners=[active])
    played.at_most("back_after_ms", round(back_ms), BACK_MS)
    played.tell(f"a new {role} after {back_ms:.0f} ms; nothing moved, no probe was lost")


def service_dies_once(street: Street, played: Played) -> None:
    """The service crashes."""
    street.restore()
    active = street.owner()
    street.command(active, "clear", LONDON.name)  # the whole budget of restarts
    street.settled()
    start_ms = now_ms()
    street.world.node(active).tell_patient("die")
    street.view.event(f"{active}: the service is dead")
    street.wait(lambda: street.told_since(start_ms, "service-restarted"), "it is restarted")
    street.wait(lambda: street.client.served_by() == active, "the client is served again")
    street.settled()
    street.measure(played, start_ms, outage_ms=RESTART_OUTAGE_MS, owners=[active])
    left = _service(street, active).get("restarts_left")
    played.equals("restarts_left", left, 2)
    outage_ms = played.measured["client_outage_ms"]
    played.tell(f"restarted where it is, after {outage_ms:.0f} ms")


def service_dies_for_good(street: Street, played: Played) -> None:
    """The service crashes and does not start any more."""
    street.restore()
    active, standby = street.owner(), street.standby()
    start_ms = now_ms()
    street.world.node(active).tell_patient("refuse")
    street.world.node(active).tell_patient("die")
    street.view.event(f"{active}: the service is dead, and will not start again")
    street.wait(lambda: street.client.served_by() == standby, f"{standby} serves", 20.0)
    street.wait(lambda: street.told_since(start_ms, "group-quarantined"), "people are told")
    street.measure(
        played,
        start_ms,
        outage_ms=MOVE_OUTAGE_MS,
        owners=[active, standby],
        doubled_ms=HANDOVER_MS,
    )
    seen = street.cluster.group(active, LONDON.name)
    played.equals("role_where_it_broke", seen.get("role"), "quarantine")
    outage_ms = played.measured["client_outage_ms"]
    played.tell(f"{standby} serves after {outage_ms:.0f} ms; {active} waits for a human")


def disk_fills(street: Street, played: Played) -> None:
    """A disk of the active server fills up, and fast."""
    street.restore()
    active = street.owner()
    start_ms = now_ms()
    street.view.event(f"{active}: {DISK_BYTES >> 20} MiB of disk will be full in {FILL_S:.0f} s")
    foreseen: list[dict[str, Any]] = []
    path = street.cluster.seen_by(active, street.disk) / "fill"
    full_ms = _fill(street, path.as_posix(), active, foreseen)
    street.view.event(f"{active}: the disk is full")
    warned = street.told_since(start_ms, "resource-filling", active)
    path.unlink()
    street.measure(played, start_ms, owners=[active])
    played.note("full_after_ms", round(full_ms - start_ms))
    lead_s = round((full_ms - warned[0].at_ms) / 1000, 1) if warned else None
    played.at_least("trap_lead_s", lead_s, LEAD_S)
    if foreseen:
        said = foreseen[0]
        error_s = said["at_ms"] / 1000 + said["eta_s"] - full_ms / 1000
        played.note("first_forecast", {"eta_s": said["eta_s"], "error_s": round(error_s, 1)})
    played.tell(f"the NMS knew {lead_s} s before it was full")


def _fill(street: Street, path: str, node: str, foreseen: list[dict[str, Any]]) -> float:
    """At a steady rate until nothing fits any more; when that was, in ms."""
    block = bytes(1 << 16)
    start_ms, written = now_ms(), 0
    file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        while True:
            due = int((now_ms() - start_ms) / 1000 / FILL_S * DISK_BYTES)
            while written < due:
                written += os.write(file, block)
            street.look()
            if not foreseen and street.told_since(start_ms, "resource-filling", node):
                disk = f"disk:{street.disk}"
                resources = street.cluster.status(node).get("resources", ())
                etas = [one["eta_s"] for one in resources if one["resource"] == disk]
                foreseen += [{"at_ms": now_ms(), "eta_s": eta} for eta in etas if eta is not None]
            time.sleep(POLL_S)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        return now_ms()
    finally:
        os.close(file)


def ups_on_battery(street: Street, played: Played) -> None:
    """The mains of the active server fail, and its UPS has two minutes left."""
    street.restore("lon1")
    start_ms = now_ms()
    street.view.event("the mains fail: the UPS that feeds lon1 has 2 minutes left")
    street.ups.on_battery(minutes=2)
    moved_ms = street.wait(lambda: street.owner() == "lon2", "the group leaves lon1", 20.0)
    street.watch_for(1.0)
    dark_ms = street.cut("lon1")
    street.watch_for(2.0)
    street.measure(
        played,
        start_ms,
        outage_ms=PLANNED_OUTAGE_MS,
        owners=["lon1", "lon2"],
        doubled_ms=HANDOVER_MS,
    )
    played.at_least("moved_before_dark_ms", round(dark_ms - moved_ms), 500)
    told = {trap.kind for trap in street.told_since(start_ms)}
    played.contains("alarms_told", sorted(told), "ups-runtime-low")
    outage_ms = played.measured["client_outage_ms"]
    played.tell(f"moved while there was light; the client missed {outage_ms:.0f} ms")


def _service(street: Street, node: str) -> dict[str, Any]:
    services = street.cluster.group(node, LONDON.name).get("services", [{}])
    found: dict[str, Any] = services[0]
    return found
