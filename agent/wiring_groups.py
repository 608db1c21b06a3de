# SPDX-License-Identifier: GPL-2.0-or-later
"""As agent.wiring, for what a group needs to be kept ready, brought up and taken down."""

from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from agent.core.settings import FenceSettings, GroupSettings, Settings
from agent.errands import Errands
from agent.ports import Fence, Hooks, Prover, Service, Sessions

if TYPE_CHECKING:
    from agent.living import Mourner
    from drivers.proof_versions import Facts
    from drivers.snmp import Session

StatusCopy = Callable[[], Awaitable[Path | None]]


class Others(Protocol):
    """What the other nodes say of themselves, and sent: for what is proved by comparing."""

    def status_copy(self, group: str, /) -> StatusCopy: ...
    def offset_ms(self, group: str, /) -> int | None: ...
    def server_of(self, group: str, /) -> "tuple[str, Facts] | None": ...
    def publish(self, group: str, facts: "Facts", /) -> None: ...


class Nobody:
    """Where nothing is carried nobody says anything."""

    def status_copy(self, _group: str) -> StatusCopy:
        async def none() -> Path | None:
            return None

        return none

    def offset_ms(self, _group: str) -> int | None:
        return None

    def server_of(self, _group: str) -> "tuple[str, Facts] | None":
        return None

    def publish(self, _group: str, _facts: "Facts") -> None:
        pass


def hooks(group: GroupSettings, node: str) -> Hooks:
    """The driver that runs a group's commands."""
    from drivers.hooks import GroupHooks

    return GroupHooks(group, node)


def sessions(group: GroupSettings, snmp: Callable[[], "Session"]) -> Sessions | None:
    """The driver that counts a group's sessions; None where nobody knows of any."""
    realtime = group.realtime
    match realtime.sessions_kind if realtime else "":
        case "command":
            from drivers.sessions import CommandSessions as Counter
        case "http":
            from drivers.sessions import PageSessions as Counter  # type: ignore[assignment]
        case "oid":
            from drivers.sessions import SnmpSessions
            from drivers.snmp_set import Desk

            assert realtime is not None
            assert realtime.snmp is not None
            key = f"group.{group.name}.realtime"
            return SnmpSessions(realtime, Desk(snmp(), key, realtime.address, realtime.snmp))
        case _:
            return None
    assert realtime is not None
    return Counter(realtime)


def fence(node: str, settings: FenceSettings, snmp: Callable[[], "Session"]) -> Fence:
    """The driver that switches a node off."""
    match settings.kind:
        case "pdu":
            from drivers.fence_pdu import PduFence
            from drivers.snmp_set import Desk

            desks = [
                Desk(snmp(), f"node.{node} {outlet.device}", outlet.address, outlet.snmp)
                for outlet in settings.outlets
            ]
            return PduFence(node, settings, desks)
        case "ipmi":
            from drivers.fence_ipmi import IpmiFence

            return IpmiFence(node, settings)
        case "command":
            from drivers.fence_command import CommandFence

            return CommandFence(node, settings)
        case other:
            raise ValueError(f"node.{node}.fence: no driver for {other!r}")


async def command(line: str, within_ms: int) -> tuple[bool, str]:
    """A shell line: whether it ended with 0, and its words."""
    from drivers.shell import question, said

    try:
        ended = await question(line, within_ms)
    except OSError as error:
        return False, f"could not be run: {error.strerror}"
    return ended.code == 0, said(ended) if ended.code else ended.tail


def deaths() -> "Mourner":
    """The driver that sees processes die."""
    from drivers.deaths import Deaths

    return Deaths()


def provers(
    group: GroupSettings,
    state_dir: Path,
    serving: Callable[[], bool],
    others: Others,
) -> list[Prover]:
    """The looks that `core.readiness` asks of this group."""
    from drivers.proof_clock import ClockProof
    from drivers.proof_room import RoomProof
    from drivers.proof_unit import UnitProof
    from drivers.proof_versions import VersionsProof

    name = group.name
    found: list[Prover] = [
        UnitProof(group),
        RoomProof(group, state_dir, serving),
        ClockProof(group, partial(others.offset_ms, name)),
        VersionsProof(
            group, partial(others.server_of, name), publish=partial(others.publish, name)
        ),
    ]
    if group.standby == "cold" and group.services:
        from drivers.proof_ports import PortsProof

        found.append(PortsProof(group, serving))
    if group.carried is not None and group.carried.licence:
        from drivers.proof_licence import LicenceProof

        found.append(LicenceProof(group))
    if group.carried is not None and group.carried.load_test:
        from drivers.proof_status import StatusProof

        found.append(StatusProof(group, others.status_copy(name), serving))
    if group.rehearse:
        from drivers.proof_rehearsal import RehearsalProof

        found.append(RehearsalProof(group, serving))
    return found


class Groups:
    """What the groups of one node need done beside their services. snmp: the process's engine."""

    def __init__(self, settings: Settings, state_dir: Path, snmp: Callable[[], "Session"]) -> None:
        self._settings = settings
        self._state_dir = state_dir
        self._snmp = snmp

    def errands(
        self, services: dict[tuple[str, str], Service], resources: Callable[[], dict[str, str]]
    ) -> Errands:
        """`carrier` is for the caller to set, where anything is carried."""
        own = self._settings.own_groups()
        counters = {group.name: sessions(group, self._snmp) for group in own}
        return Errands(
            services,
            {group.name: hooks(group, self._settings.node) for group in own},
            {name: counter for name, counter in counters.items() if counter is not None},
            {
                name: fence(name, node.fence, self._snmp)
                for name, node in self._settings.nodes.items()
                if node.fence is not None
            },
            resources=resources,
        )

    def provers(
        self,
        group: GroupSettings,
        serving: Callable[[], bool],
        others: Others | None = None,
    ) -> list[Prover]:
        """The looks that the readiness of a standby is made of."""
        return provers(group, self._state_dir, serving, others or Nobody())
