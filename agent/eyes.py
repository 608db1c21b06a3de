# SPDX-License-Identifier: GPL-2.0-or-later
"""Who watches the groups of this node: every check of every service, deaths, and the proofs that a
standby could serve."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from agent.clock import now_ms
from agent.core.care import Care
from agent.core.model import Answer, Checked, Proved
from agent.core.role import ACTIVE, STARTING, Role
from agent.core.settings import CheckSettings
from agent.living import Asker, Mourner, Tended, watch_life
from agent.loop import Loop
from agent.ports import Prover
from agent.wiring import Wiring
from agent.wiring_groups import Groups, Others

Worker = tuple[str, Callable[[], Awaitable[None]]]


class Eyes:
    """tended: the services, by (group, service). `workers` are run under `Loop.supervise`."""

    def __init__(
        self, loop: Loop, wiring: Wiring, groups: Groups, tended: dict[tuple[str, str], Tended]
    ) -> None:
        self._loop = loop
        self._wiring = wiring
        self._groups = groups
        self._tended = tended

    def workers(self, mourner: Mourner, others: Others | None) -> list[Worker]:
        """others: what the other nodes say of themselves, where anybody is there to say it."""
        found: list[Worker] = []
        for role in self._loop.core.roles.values():
            for care in role.cares:
                found += self._of_service(care, mourner)
            found += self._of_standby(role, others)
        return found

    def _of_service(self, care: Care, mourner: Mourner) -> list[Worker]:
        group, service = care.group, care.settings
        tended = self._tended[group, service.name]
        found: list[Worker] = []
        for check in service.checks:
            asker = Asker(
                self._wiring.check(check),
                lambda name=check.name: care.checks[name],  # type: ignore[misc]
                partial(self._hear, care, check.name),
                partial(self._concerns_us, group, check),
                tended,
            )
            found.append((f"check {check.name}", asker.run))
        if service.unit or service.pid_file:
            life = partial(watch_life, group, service.name, tended, mourner, self._loop.feed)
            found.append((f"life {service.name}", life))
        return found

    def _hear(self, care: Care, check: str, answer: Answer) -> None:
        self._loop.feed(Checked(care.group, care.settings.name, check, answer))

    def _concerns_us(self, group: str, settings: CheckSettings) -> bool:
        """The floating address answers for the active node: a standby that asks there learns
        nothing of itself."""
        core = self._loop.core
        return not settings.floating or core.owner(group) == core.settings.node

    def _of_standby(self, role: Role, others: Others | None) -> list[Worker]:
        serving = partial(_busy, role)
        provers = self._groups.provers(role.settings, serving, others)
        name = f"proof of {role.settings.name}"
        return [(name, partial(self._prove, prover)) for prover in provers]

    async def _prove(self, prover: Prover) -> None:
        while True:
            began_ms = now_ms()
            proofs = tuple(await prover.prove())
            if proofs:
                self._loop.feed(Proved(prover.group, proofs))
            await asyncio.sleep(max(0.05, (began_ms + prover.every_ms - now_ms()) / 1000))


def _busy(role: Role) -> bool:
    return role.state in (ACTIVE, STARTING)
