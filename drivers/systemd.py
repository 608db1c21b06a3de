# SPDX-License-Identifier: GPL-2.0-or-later
"""Service control by systemd over D-Bus (org.freedesktop.systemd1(5))."""

import asyncio
import os
import signal
from itertools import repeat
from pathlib import Path
from typing import Any

from agent.core.settings import ServiceSettings
from agent.ports import PortError, Refused, Unreachable
from drivers.bus import SERVICE, SYSTEM_BUS, Bus, Denied, unit_name
from drivers.inquiry import boottime_ms
from drivers.shell import plain, printed
from drivers.slaying import Held, shown

RUNNING = {  # ActiveState -> running; one that is on its way is neither
    "active": True,
    "reloading": True,
    "refreshing": True,
    "inactive": False,
    "failed": False,
}
OPEN_ENDED = {
    "canceled": "another request took its place",
    "timeout": "systemd gave the job up",
}
LOOK_MS = 2000
GONE_EVERY_S = 0.005
CGROUPS = Path("/sys/fs/cgroup")
JOURNAL_WITHIN_MS = 3000
RULE = (
    "allow it in a polkit rule for org.freedesktop.systemd1.manage-units that names this unit,"
    " and see that polkitd is installed"
)


class SystemdService:
    """ports.Service for a unit: makes a job and waits for that job's end."""

    def __init__(self, settings: ServiceSettings, bus: str = SYSTEM_BUS) -> None:
        self._unit = unit_name(settings.unit)
        self._bus = bus

    async def start(self, within_ms: int) -> str:
        return await self._order("start", "StartUnit", within_ms)

    async def stop(self, within_ms: int) -> str:
        return await self._order("stop", "StopUnit", within_ms)

    async def restart(self, within_ms: int) -> str:
        return await self._order("restart", "RestartUnit", within_ms)

    async def running(self) -> bool | None:
        try:
            async with asyncio.timeout(LOOK_MS / 1000), Bus(self._bus) as bus:
                return RUNNING.get((await bus.properties(self._unit))["ActiveState"])
        except (TimeoutError, PortError):
            return None

    async def kill(self, within_ms: int) -> str:
        """Every process of the unit, at once; one that systemd starts anew meanwhile is another."""
        began_ms = boottime_ms()
        who = f"unit {self._unit}: kill"
        try:
            async with asyncio.timeout(within_ms / 1000), Bus(self._bus) as bus:
                properties = await self._service(bus)
                pids = members(str(properties.get("ControlGroup", "")))
                pids |= {int(properties.get("MainPID", 0))} - {0}
                if not pids:
                    return f"{who}: nothing of it runs"
                with Held(pids) as held:
                    try:
                        await bus.manager("KillUnit", "ssi", self._unit, "all", signal.SIGKILL)
                    except Denied:
                        raise
                    except Refused:
                        if held.left():  # else there was nothing left to kill
                            raise
                    await _gone(held)
        except TimeoutError:
            raise Unreachable(f"{who}: not gone within {within_ms} ms; look again") from None
        except Denied as error:
            raise Refused(f"{who}: uid {os.geteuid()} may not: {error}; {RULE}") from error
        except PortError as error:
            raise type(error)(f"{who}: {error}") from error
        except OSError as error:
            raise Unreachable(f"{who}: {error.strerror}; see ulimit -n") from error
        return f"{who}: {shown(pids)} gone in {boottime_ms() - began_ms} ms"

    async def main_pid(self) -> int:
        try:
            async with asyncio.timeout(LOOK_MS / 1000), Bus(self._bus) as bus:
                return int((await self._service(bus)).get("MainPID", 0))
        except (TimeoutError, PortError):
            return 0

    async def last_lines(self, count: int) -> list[str]:
        journal = ["journalctl", f"--unit={self._unit}", f"--lines={count}"]
        lines = await printed([*journal, "--output=cat", "--no-pager"], JOURNAL_WITHIN_MS)
        return [plain(line) for line in lines][-count:]

    async def _order(self, verb: str, method: str, within_ms: int) -> str:
        began_ms = boottime_ms()
        who = f"unit {self._unit}: {verb}"
        try:
            async with asyncio.timeout(within_ms / 1000), Bus(self._bus) as bus:
                await bus.follow_jobs()
                (job,) = await bus.manager(method, "ss", self._unit, "replace")
                result = await bus.job_result(job)
                if result in OPEN_ENDED:
                    raise Unreachable(f"{result}, {OPEN_ENDED[result]}; look again")
                state = await self._judge(bus, verb, result)
        except TimeoutError:
            raise Unreachable(f"{who}: not finished within {within_ms} ms; look again") from None
        except Denied as error:
            raise Refused(f"{who}: uid {os.geteuid()} may not: {error}; {RULE}") from error
        except PortError as error:
            raise type(error)(f"{who}: {error}") from error
        return f"{who} done in {boottime_ms() - began_ms} ms, now {state}"

    async def _judge(self, bus: Bus, verb: str, result: str) -> str:
        """The unit's state after its job. Raises Refused where it is not what was asked for."""
        properties = await bus.properties(self._unit)
        state = str(properties["ActiveState"])
        log = f"see journalctl -u {self._unit}"
        if result not in ("done", "skipped"):
            raise Refused(f"job {result}{await self._why(bus)}, unit {state}; {log}")
        if verb == "stop":
            if RUNNING.get(state):
                raise Refused(f"stopped, but {state} again; a socket or another unit starts it")
            return state
        if state == "failed":
            raise Refused(f"it ran and failed{await self._why(bus)}; {log}")
        if state == "inactive" and not await self._ends_by_itself(bus, properties):
            raise Refused(
                "inactive right after its start: it ended at once, or a Condition of the unit is"
                f" not met; see systemctl status {self._unit}"
            )
        return state

    async def _ends_by_itself(self, bus: Bus, properties: dict[str, Any]) -> bool:
        """A oneshot that ran. (A unit that was unloaded since has forgotten its Conditions.)"""
        if properties.get("ConditionTimestamp") and not properties.get("ConditionResult"):
            return False
        return (await self._service(bus)).get("Type") == "oneshot"

    async def _why(self, bus: Bus) -> str:
        """What ended the unit's process."""
        result = (await self._service(bus)).get("Result", "success")
        return f" ({result})" if result != "success" else ""

    async def _service(self, bus: Bus) -> dict[str, Any]:
        """What only services have."""
        return await bus.properties(self._unit, "Service") if self._unit.endswith(SERVICE) else {}


async def _gone(held: Held) -> None:
    for _ in repeat(None):
        if not held.left():
            return
        await asyncio.sleep(GONE_EVERY_S)


def members(control_group: str) -> set[int]:
    """The processes of a unit's control group and of those below it (cgroups(7))."""
    found: set[int] = set()
    if control_group.strip("/"):
        for path in (CGROUPS / control_group.lstrip("/")).rglob("cgroup.procs"):
            try:
                found.update(int(pid) for pid in path.read_text().split())
            except (OSError, ValueError):
                continue
    return found - {0}
