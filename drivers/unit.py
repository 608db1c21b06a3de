# SPDX-License-Identifier: GPL-2.0-or-later
"""Check: systemd holds a unit active."""

from typing import Any

from agent.core.model import Answer
from agent.core.settings import CheckSettings
from drivers.bus import SYSTEM_BUS, Bus, unit_name
from drivers.inquiry import Verdict, answer_within

ALIVE = frozenset(("active", "reloading", "refreshing"))


def judge_unit(properties: dict[str, Any]) -> Verdict:
    """A unit that is not there is as dead as one that failed; one that starts is not alive yet."""
    if properties["LoadState"] == "not-found":
        return Verdict(False, "there is no such unit")
    state = properties["ActiveState"]
    return Verdict(state in ALIVE, f"{state} ({properties['SubState']})")


class UnitCheck:
    """Target: a unit's name. Asks nothing that needs an authorisation."""

    def __init__(self, settings: CheckSettings, bus: str = SYSTEM_BUS) -> None:
        self._unit = unit_name(settings.target)
        self._timeout_ms = settings.timeout_ms
        self._bus = bus

    async def ask(self) -> Answer:
        return await answer_within(self._timeout_ms, self._question, silence=None)

    async def _question(self) -> Verdict:
        async with Bus(self._bus) as bus:
            return judge_unit(await bus.properties(self._unit))
