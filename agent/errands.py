# SPDX-License-Identifier: GPL-2.0-or-later
"""Operations of a group that are neither its services' nor its names': hooks, counts, status,
fencing, and the facts for a page."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from agent.core.orders import (
    FenceNode,
    GatherFacts,
    PlaceStatus,
    ReadSessions,
    RunHook,
    ShipStatus,
)
from agent.living import gather
from agent.ports import Carrier, Fence, Hooks, Refused, Service, Sessions, Unreachable

Errand = RunHook | ReadSessions | ShipStatus | PlaceStatus | FenceNode | GatherFacts


@dataclass(slots=True)
class Errands:
    """Who does what. services: by (group, service). resources: name -> how it stood, for people."""

    services: dict[tuple[str, str], Service]
    hooks: dict[str, Hooks] = field(default_factory=dict)
    sessions: dict[str, Sessions] = field(default_factory=dict)
    fences: dict[str, Fence] = field(default_factory=dict)
    carrier: Carrier | None = None
    resources: Callable[[], dict[str, str]] = dict

    async def run(self, errand: Errand) -> dict[str, Any]:
        """The outcome's facts. Raises Unreachable (nobody knows), Refused, Garbled."""
        match errand:
            case RunHook(_, group, hook, within_ms, word):
                return {"detail": await self.hooks[group].run(hook, word, within_ms)}
            case ReadSessions(_, group, within_ms):
                return {"sessions": await self.sessions[group].count(within_ms)}
            case ShipStatus(_, group, to, epoch, within_ms):
                return await self._carrying(group).ship(group, to, epoch, within_ms)
            case PlaceStatus(_, group, within_ms):
                return await self._place(group, within_ms)
            case FenceNode(_, node, verb, within_ms):
                return {"detail": await self._fence(node, verb, within_ms)}
            case GatherFacts(_, group, service, within_ms):
                return await self._gather(group, service, within_ms)

    def _carrying(self, group: str) -> Carrier:
        if self.carrier is None:
            raise Refused(f"group {group}: nothing is carried on this node; see standpipe check")
        return self.carrier

    async def _place(self, group: str, within_ms: int) -> dict[str, Any]:
        try:
            async with asyncio.timeout(within_ms / 1000):
                return await self._carrying(group).place(group)
        except TimeoutError:
            raise Unreachable(
                f"group {group}: its status was not placed in {within_ms} ms"
            ) from None

    async def _fence(self, node: str, verb: str, within_ms: int) -> str:
        fence = self.fences.get(node)
        if fence is None:
            raise Refused(f"node {node}: nothing can switch it off; see [node.{node}.fence]")
        verbs = {
            "off": fence.off,
            "on": fence.on,
            "test": fence.test,
            "status": fence.status,
        }
        return await verbs[verb](within_ms)

    async def _gather(self, group: str, service: str, within_ms: int) -> dict[str, Any]:
        """What can be had in the time; a page with less is better than none."""
        resources = self.resources()
        try:
            async with asyncio.timeout(within_ms / 1000):
                return await gather(self.services[group, service], resources)
        except TimeoutError:
            return {"lines": ["(its last lines could not be read)"], "resources": resources}
