# SPDX-License-Identifier: GPL-2.0-or-later
"""Prover: the group's services could be started here, and its hooks be run.

Units as systemd has them loaded (org.freedesktop.systemd1(5)); commands by their first word.
"""

import asyncio
from typing import Any

from agent.core.model import Proof
from agent.core.settings import GroupSettings, ServiceSettings
from agent.ports import PortError, Unreachable
from drivers.bus import SYSTEM_BUS, Bus, unit_name
from drivers.executable import fault
from drivers.proving import LOOK_MS, Prover, judged

COMMANDS = ("start", "stop", "status")


def unit_fault(unit: str, properties: dict[str, Any]) -> str:
    """Why a unit could not be started; "" where nothing speaks against it."""
    load, file = properties["LoadState"], properties.get("UnitFileState", "")
    if load == "not-found":
        return f"{unit} is not installed"
    if load == "masked" or file in ("masked", "masked-runtime"):
        return f"{unit} is masked: systemctl unmask {unit}"
    if load != "loaded":
        (_, why) = properties.get("LoadError", ("", ""))
        return f"{unit} cannot be loaded ({load}{': ' + why if why else ''})"
    if properties.get("CanStart") is False:
        return f"{unit} refuses to be started by hand (RefuseManualStart=)"
    return ""


class UnitProof(Prover):
    """Proofs "unit" and "hooks"."""

    name = "unit"

    def __init__(self, settings: GroupSettings, bus: str = SYSTEM_BUS) -> None:
        super().__init__(settings)
        self._bus = bus

    async def _proofs(self) -> list[Proof]:
        hooks = judged("hooks", await self._look(lambda: hook_faults(self.settings)))
        try:
            return [hooks, await self._services()]
        except PortError as error:
            return [hooks, Proof("unit", None, str(error))]

    async def _services(self) -> Proof:
        faults: list[str] = []
        units = [service for service in self.settings.services if service.unit]
        others = [service for service in self.settings.services if not service.unit]
        if others:
            faults += await self._look(lambda: [why for it in others for why in command_faults(it)])
        if units:
            try:
                async with asyncio.timeout(LOOK_MS / 1000), Bus(self._bus) as bus:
                    for service in units:
                        unit = unit_name(service.unit)
                        why = unit_fault(unit, await bus.properties(unit))
                        faults += [why] if why else []
            except TimeoutError:
                raise Unreachable(f"systemd did not answer within {LOOK_MS} ms") from None
        return judged("unit", faults)


def command_faults(service: ServiceSettings) -> list[str]:
    told = {key: getattr(service, key) for key in COMMANDS}
    return [
        f"service {service.name}: {key}: {why}"
        for key, command in told.items()
        if command and (why := fault(command))
    ]


def hook_faults(settings: GroupSettings) -> list[str]:
    """Of every other command of the group."""
    told = {key: getattr(settings, key) for key in ("promote", "demote", "rehearse")}
    for part, keys in (
        (settings.realtime, ("drain", "undrain", "ramp")),
        (settings.carried, ("load_test", "licence_test", "apply")),
    ):
        told |= {key: getattr(part, key) for key in keys} if part else {}
    return [f"{key}: {why}" for key, command in told.items() if command and (why := fault(command))]
