# SPDX-License-Identifier: GPL-2.0-or-later
"""What is not our process: services, disks, name servers, the people who are told."""

from __future__ import annotations

from dataclasses import dataclass, field

from agent.core.model import Alarm


@dataclass(slots=True)
class Service:
    """One service on one node. Bad times are counted, so that overlapping faults end rightly."""

    cold: bool
    start_ms: int
    running: bool = True
    hanging: int = 0  # runs, does not answer, does not stop in time
    refusing: int = 0  # will not start
    begun: bool = False  # its process is there, and perhaps not ready yet
    orders: int = 0  # a later order to the service manager replaces the one under way
    bad_since: int = 0  # true time since which it does not answer, meaningful while it does not

    @property
    def alive(self) -> bool:
        return self.running and not self.hanging


@dataclass(slots=True)
class Disk:
    """Survives everything; while `full` nothing new is kept."""

    full: int = 0
    slow: int = 0
    mended_ms: int = -1  # when it last had room again; -1: it was never full
    slow_ms: int = -1  # when it was last slow
    epochs: dict[str, int] = field(default_factory=dict)
    spool: list[Alarm] = field(default_factory=list)
    standing: dict[str, Alarm] = field(default_factory=dict)

    def keep(self, alarm: Alarm) -> None:
        """One that was told: to be delivered, and to be remembered while it stands."""
        self.spool.append(alarm)
        if alarm.severity.value == "cleared":
            self.standing.pop(alarm.alarm_id, None)
        else:
            self.standing[alarm.alarm_id] = alarm


@dataclass(slots=True)
class Zone:
    """The geo's records at their primary: who wins is decided by compare-and-swap on the epoch."""

    site: str
    epoch: int = 1
    down: int = 0
    replies_lost: int = 0

    def swap(self, site: str, epoch: int) -> str:
        """The RFC 2136 answer: NOERROR, or NXRRSET where the epoch was overtaken."""
        if epoch <= self.epoch:
            return "NXRRSET"
        self.site, self.epoch = site, epoch
        return "NOERROR"


@dataclass(slots=True)
class Nms:
    """Those who are told; `standing` is what they believe to be wrong: (node, alarm_id)."""

    down: int = 0
    received: int = 0
    standing: set[tuple[str, str]] = field(default_factory=set)

    def receive(self, node: str, alarm: Alarm) -> None:
        """An inform was delivered (perhaps again)."""
        self.received += 1
        if alarm.severity.value == "cleared":
            self.standing.discard((node, alarm.alarm_id))
        else:
            self.standing.add((node, alarm.alarm_id))


@dataclass(slots=True)
class Outlet:
    """What feeds a node. Counted faults: it refuses, is slow, says "ok" long before it is off."""

    off: bool = False
    refuses: int = 0
    slow: int = 0
    lies: int = 0
