# SPDX-License-Identifier: GPL-2.0-or-later
"""What the shell asks of the outside world, and the three ways in which the world may fail it."""

from collections.abc import Iterable
from typing import Any, Protocol

from agent.core.model import Alarm, Answer, Proof, Reading


class PortError(Exception):
    """Says who, what, and what now, in one line."""


class Unreachable(PortError):
    """No answer: the state is unknown, not bad."""


class Refused(PortError):
    """A clear no: trying again is useless, a human must change something."""


class Garbled(PortError):
    """An answer that makes no sense."""


class Watch(Protocol):
    """Reads a host or a device."""

    name: str
    every_ms: int

    async def read(self) -> list[Reading]:
        """One round. Raises Unreachable, Refused, Garbled."""
        ...


class Check(Protocol):
    """Asks a service "are you alive?"."""

    async def ask(self) -> Answer:
        """Never raises for a dead service; ok=None where asking itself was impossible."""
        ...


class Service(Protocol):
    """Starts and stops one service. Each returns when it is done or raises.

    Raises Refused (will not, says why), Unreachable (timed out: unknown, look again).
    """

    async def start(self, within_ms: int) -> str: ...
    async def stop(self, within_ms: int) -> str: ...
    async def restart(self, within_ms: int) -> str: ...
    async def running(self) -> bool | None:
        """What the system says: True, False, None for "cannot tell"."""
        ...

    async def kill(self, within_ms: int) -> str:
        """All of its processes at once, without asking them; returns when they are gone."""
        ...

    async def main_pid(self) -> int:
        """Of its main process; 0 where there is none or nobody can say."""
        ...

    async def last_lines(self, count: int) -> list[str]:
        """What it wrote last, oldest first, for people; [] where nobody can say."""
        ...


class Names(Protocol):
    """The name servers of one geo entry."""

    async def update(self, site: str, epoch: int) -> dict[str, Any]:
        """Compare-and-swap to `site` under `epoch`; facts as UpdateNames says.

        Raises Refused (bad key, not authorised, epoch overtaken), Unreachable (outcome unknown).
        """
        ...

    async def verify(self, site: str) -> dict[str, Any]:
        """What every server says now; facts as VerifyNames says."""
        ...

    async def epoch(self) -> int:
        """The epoch in the zone, asked of the primary; 0 where there is none yet."""
        ...


class Prover(Protocol):
    """Looks at what a standby of one group needs on this host."""

    group: str
    every_ms: int

    async def prove(self) -> list[Proof]:
        """One round. Never raises: what cannot be looked at is ok=None and says why."""
        ...


class Hooks(Protocol):
    """Runs one group's commands: promote demote drain undrain ramp apply."""

    async def run(self, hook: str, word: str, within_ms: int) -> str:
        """`word`: its last argument, where not "". Raises Refused, Unreachable (unknown)."""
        ...


class Sessions(Protocol):
    """Counts the live sessions of one group on this node."""

    async def count(self, within_ms: int) -> int:
        """Raises Unreachable, Refused, Garbled."""
        ...


class Fence(Protocol):
    """Switches one node off from outside. All raise Refused, Unreachable, Garbled.

    Each returns what was seen, for people, and only when it was seen.
    """

    node: str

    async def off(self, within_ms: int) -> str: ...
    async def on(self, within_ms: int) -> str: ...
    async def status(self, within_ms: int) -> str:
        """Reads only."""
        ...

    async def test(self, within_ms: int) -> str:
        """Reads what `off` would change, with the rights that it needs; changes nothing."""
        ...


class Carrier(Protocol):
    """Carries a group's settings, licences and status to its other nodes."""

    async def ship(self, group: str, to: str, epoch: int, within_ms: int) -> dict[str, Any]:
        """Facts as ShipStatus says. Raises Unreachable, Refused."""
        ...

    async def place(self, group: str) -> dict[str, Any]:
        """Facts as PlaceStatus says; {"none": True} where none was ever carried. Raises Refused."""
        ...


class Trapper(Protocol):
    """Tells one NMS."""

    name: str

    async def send(self, alarm: Alarm, wall_s: float) -> None:
        """Returns when sent (trap) or acknowledged (inform). Raises Unreachable, Refused."""
        ...


class Store(Protocol):
    """Blocking; the shell calls it from its own thread. Raises Unreachable when it cannot write.

    mended: what had to be put aside or made anew when it was opened, "" if nothing.
    """

    mended: str

    def append(self, records: list[dict[str, Any]]) -> None: ...
    def keep_alarm(self, alarm: Alarm, wall_s: float) -> None: ...
    def alarms(self) -> list[tuple[Alarm, float]]: ...
    def spool(self, nms: str, alarm: Alarm, wall_s: float) -> int: ...
    def spooled(self, nms: str) -> list[tuple[int, Alarm, float]]: ...
    def unspool(self, spool_id: int) -> None: ...
    def keep_samples(self, readings: Iterable[Reading], wall_s: float) -> None: ...
    def resources(self) -> list[str]: ...
    def samples(self, resource: str, last: int) -> list[tuple[float, float, float | None]]: ...
    def keep_epoch(self, name: str, ceiling: int) -> None: ...
    def epochs(self) -> dict[str, int]: ...
    def journal(self, last: int) -> list[dict[str, Any]]: ...
    def close(self) -> None: ...
