# SPDX-License-Identifier: GPL-2.0-or-later
"""Fence: every outlet that feeds a node, over SNMP. Off is what is read back, never what was said.

The make is found by the device's identity and by which table knows the outlet; a device that tells
of one outlet in several tables must say the same in all.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Protocol

from agent.core.fencing import Sight
from agent.core.settings import FenceSettings, OutletSettings
from agent.ports import Garbled, PortError, Refused, Unreachable
from drivers.outlets import SYS_OBJECT_ID, Place, agreed, places
from drivers.switching import switch

QUESTIONS = 8  # objects in one message: more is too big for old cards


class Device(Protocol):
    """A `snmp_set.Desk`."""

    async def get(self, oids: Sequence[str]) -> Mapping[str, int | str]: ...
    async def set(self, writes: Sequence[tuple[str, int]]) -> None: ...


class Outlet:
    """One feed of the node."""

    def __init__(self, node: str, settings: OutletSettings, device: Device) -> None:
        self.name = f"{settings.device} outlet {settings.outlet}"
        self._setting = f"node.{node}.fence.outlets"
        self._outlet = settings.outlet
        self._device = device
        self._places: list[Place] = []

    @property
    def make(self) -> str:
        return self._places[0].make.name

    async def identify(self) -> None:
        """Which tables know this outlet. Raises Refused where none does."""
        told = (await self._device.get([SYS_OBJECT_ID])).get(SYS_OBJECT_ID, "")
        candidates = places(self._outlet, str(told))
        found: list[Place] = []
        for start in range(0, len(candidates), QUESTIONS):
            asked = candidates[start : start + QUESTIONS]
            answers = await self._device.get([place.oid(place.make.state) for place in asked])
            found += [place for place in asked if place.there(answers)]
        if not found:
            raise Refused(
                f"{self.name}: no table of a known make has it (sysObjectID {told or 'missing'});"
                f" check its number in {self._setting}, or fence by a command"
            )
        enterprise = found[0].make.state.split(".")[0]
        self._places = [place for place in found if place.make.state.split(".")[0] == enterprise]

    async def look(self, _within_ms: int) -> tuple[Sight, str]:
        """Where it stands now, and what is odd about that. Raises PortError."""
        if not self._places:
            await self.identify()
        asked = list(dict.fromkeys(oid for place in self._places for oid in place.questions()))
        answers: dict[str, int | str] = {}
        for start in range(0, len(asked), QUESTIONS):
            answers |= await self._device.get(asked[start : start + QUESTIONS])
        if self._places[0].is_fixed(answers):
            raise Refused(f"{self.name}: it is locked or not switchable; unlock it in the device")
        seen = [(place, sight) for place in self._places if (sight := place.sight(answers))]
        known = [(place, sight) for place, sight in seen if sight is not Sight.UNKNOWN]
        first = self._places[0].sight(answers)
        if first is Sight.UNKNOWN:
            value = answers.get(self._places[0].oid(self._places[0].make.state), "missing")
            return first, f"its state is {value}"
        sight = agreed([sight for _, sight in known])
        if sight is Sight.UNKNOWN:
            told = ", ".join(f"{sight} as {place.make.name}" for place, sight in known)
            return sight, f"the device contradicts itself: {told}"
        return sight, ""

    async def command(self, off: bool, clear: bool, _within_ms: int) -> None:
        """Raises PortError; Unreachable: it may have been done."""
        place = self._places[0]
        if clear:
            for write in place.writes(place.make.cancel):
                try:
                    await self._device.set([write])
                except Garbled:
                    continue  # it has nothing of that kind that waits
        write = place.make.turn_off if off else place.make.turn_on
        await self._device.set(place.writes([write]))

    async def prove_writing(self) -> str:
        """Takes back a command that does not wait, where the make knows such a write."""
        place = self._places[0]
        if not place.make.cancel:
            return "writing was not proved"
        try:
            await self._device.set(place.writes(place.make.cancel[:1]))
        except Garbled:
            return "writing was not proved"
        except Unreachable as error:
            raise Refused(
                f"{self.name}: it answers questions and no write; give this community or user the"
                f" right to write ({error})"
            ) from error
        return "may be written"


class PduFence:
    """ports.Fence. devices: one for each of the settings' outlets, in their order."""

    def __init__(self, node: str, settings: FenceSettings, devices: Sequence[Device]) -> None:
        self.node = node
        self._outlets = [
            Outlet(node, told, device)
            for told, device in zip(settings.outlets, devices, strict=True)
        ]

    async def off(self, within_ms: int) -> str:
        return await switch(self.node, self._outlets, True, within_ms)

    async def on(self, within_ms: int) -> str:
        return await switch(self.node, self._outlets, False, within_ms)

    async def status(self, within_ms: int) -> str:
        """Where its outlets stand, for people; only reads."""
        return await self._inspect(within_ms, prove=False)

    async def test(self, within_ms: int) -> str:
        return await self._inspect(within_ms, prove=True)

    async def _inspect(self, within_ms: int, prove: bool) -> str:
        try:
            async with asyncio.timeout(within_ms / 1000), asyncio.TaskGroup() as tasks:
                looks = [
                    tasks.create_task(self._inspect_one(outlet, prove, within_ms))
                    for outlet in self._outlets
                ]
        except TimeoutError:
            raise Unreachable(
                f"node {self.node}: its outlets did not all answer within {within_ms} ms"
            ) from None
        found = [look.result() for look in looks]
        errors = [result for result in found if isinstance(result, PortError)]
        text = f"node {self.node}: {'; '.join(map(str, found))}"
        if errors:
            raise next((Refused for it in errors if isinstance(it, Refused)), type(errors[0]))(text)
        return text

    async def _inspect_one(self, outlet: Outlet, prove: bool, within_ms: int) -> str | PortError:
        try:
            return await self._inspected(outlet, prove, within_ms)
        except PortError as error:
            return error

    async def _inspected(self, outlet: Outlet, prove: bool, within_ms: int) -> str:
        await outlet.identify()
        sight, trouble = await outlet.look(within_ms)
        if sight is Sight.UNKNOWN:
            raise Garbled(f"{outlet.name} ({outlet.make}): {trouble}; look at the device")
        told = f"{outlet.name} ({outlet.make}) is {sight}"
        if not prove:
            return told
        if sight in (Sight.ON_WAITS, Sight.OFF_WAITS):
            return f"{told}, so writing was not proved"
        return f"{told}, {await outlet.prove_writing()}"
