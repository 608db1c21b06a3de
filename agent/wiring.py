# SPDX-License-Identifier: GPL-2.0-or-later
"""The only place that knows the drivers: settings in, drivers out, each imported when needed."""

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.core.keeping import KeeperEvent, Keeping
from agent.core.kit import Kit, KitPeer, dump, load
from agent.places import KIT
from agent.ports import Check, Names, Service, Store, Trapper, Watch

if TYPE_CHECKING:  # the keeper has no settings: they would take a tenth of its start
    from agent.core.settings import (
        CheckSettings,
        DeviceSettings,
        GeoSettings,
        NmsSettings,
        ServiceSettings,
        Settings,
        WatchSettings,
    )
    from drivers.addresses import Addresses
    from drivers.fake import Script
    from drivers.neighbour import Neighbour
    from drivers.peerlink import Peerlink
    from drivers.snmp import Session
    from drivers.vrrp import Vrrp

SCRIPT = "STANDPIPE_SCRIPT"  # a drill: what this script names is played, docs/fake.md


@dataclass(slots=True)
class Hands:
    """The keeper's drivers. `filenos`, `receive`: of all of them; nothing blocks."""

    addresses: "Addresses"
    vrrp: "Vrrp"
    neighbour: "Neighbour"
    peerlink: "Peerlink"

    def filenos(self) -> Sequence[int]:
        """Any of them is readable when there is something to receive."""
        return (
            self.addresses.fileno(),
            *self.vrrp.filenos(),
            *self.neighbour.filenos(),
            *self.peerlink.filenos(),
        )

    def receive(self, ready: set[int]) -> list[KeeperEvent]:
        """All that waits where something is `ready`: carrier first, then adverts, then peers."""
        events: list[KeeperEvent] = []
        if self.addresses.fileno() in ready:
            events += self.addresses.receive()
        if not ready.isdisjoint(self.vrrp.filenos()):
            events += self.vrrp.receive()
        if not ready.isdisjoint(self.peerlink.filenos()):
            events += self.peerlink.receive()
        if not ready.isdisjoint(self.neighbour.filenos()):
            events += self.neighbour.receive()
        return events

    def counters(self) -> dict[str, int]:
        """What went wrong so far, by kind; "kit-stale": interfaces that are not as forged."""
        found = {"kit-stale": len(self.addresses.stale), "events-lost": self.addresses.overruns}
        for driver in (self.vrrp, self.neighbour, self.peerlink):
            found |= driver.counters
        return {kind: count for kind, count in found.items() if count}

    def close(self) -> None:
        """Every socket; addresses stay as they are."""
        for driver in (self.addresses, self.vrrp, self.neighbour, self.peerlink):
            driver.close()


def keeper_hands(kit: Kit) -> Hands:
    """The keeper's sockets. Raises OSError, PortError where the kernel refuses one."""
    from drivers.addresses import Addresses
    from drivers.neighbour import Neighbour
    from drivers.vrrp import Vrrp

    return Hands(
        Addresses(kit), Vrrp(kit), Neighbour(kit), peerlink(kit, "keeper", kit.keeping.boot)
    )


def forge_kit(settings: "Settings", run_dir: Path) -> None:
    """RUN_DIR/kit.json for this configuration; one that fits is left as it is. Raises OSError.

    The forge's libraries take three times as long to be there as all the rest.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    if settings.node:
        from drivers.links import fingerprint, read_links

        links = read_links()
        if _made_from(run_dir / KIT) == fingerprint(settings, links):
            return
        from drivers.forge import forge, write

        write(forge(settings, links), run_dir)
        return
    interfaces = {name: (index, "") for index, name in socket.if_nameindex()}
    kit = Kit(  # a node that only watches keeps nothing and hears about its links
        keeping=Keeping(settings.cluster, 0, {}, {}, {}),
        own=KitPeer(settings.cluster, (), 0),
        key_file="",
        digest=settings.digest,
        peers={},
        interfaces=interfaces,
    )
    (run_dir / KIT).write_bytes(dump(kit))


def _made_from(path: Path) -> str:
    """What the kit there was made from; "" where there is none, or none that can be used."""
    try:
        return load(path.read_bytes()).made_from
    except (OSError, ValueError):
        return ""


def peerlink(kit: Kit, role: str, boot: int) -> "Peerlink":
    """This node's end of the peer link in one role."""
    from drivers.peerlink import Peerlink, read_key

    key = read_key(Path(kit.key_file)) if kit.peers else b""
    return Peerlink(kit.own, kit.peers if key else {}, key, boot, role)


class Wiring:
    """The agent's drivers, for one configuration."""

    def __init__(self, settings: "Settings", run_dir: Path, state_dir: Path) -> None:
        self.settings = settings
        self._run_dir = run_dir
        self._state_dir = state_dir
        self._session: Session | None = None
        self._script: Script | None = None
        drill = os.environ.get(SCRIPT, "")
        if drill:
            from drivers import fake

            self._script = fake.Script(Path(drill))

    def store(self) -> Store:
        """The embedded store."""
        from drivers import store

        return store.Store(self._state_dir)

    def watches(self) -> list[tuple[str, Watch]]:
        """(source, driver) for every watcher of the host and every device."""
        found = [("host", self._host(watch)) for watch in self.settings.watches.values()]
        found += [(name, self._device(device)) for name, device in self.settings.devices.items()]
        return found

    def check(self, settings: "CheckSettings") -> Check:
        """The driver that asks one service in one way."""
        script = self._played("check", settings.name)
        if script is not None:
            from drivers.fake import FakeCheck

            return FakeCheck(settings.name, script, timeout_ms=settings.timeout_ms)
        match settings.kind:
            case "tcp":
                from drivers.tcp import TcpCheck

                return TcpCheck(settings)
            case "http":
                from drivers.http import HttpCheck

                return HttpCheck(settings)
            case "command":
                from drivers.command import CommandCheck

                return CommandCheck(settings)
            case "process":
                from drivers.process import ProcessCheck

                return ProcessCheck(settings)
            case "unit":
                from drivers.unit import UnitCheck

                return UnitCheck(settings)
            case "sip":
                from drivers.sip import SipCheck

                return SipCheck(settings)
            case other:
                raise ValueError(f"check {settings.name}: no driver for {other!r}")

    def service(self, settings: "ServiceSettings") -> Service:
        """The driver that starts and stops one service."""
        script = self._played("service", settings.name)
        if script is not None:
            from drivers.fake import FakeService

            return FakeService(settings.name, script)
        if settings.unit:
            from drivers.systemd import SystemdService

            return SystemdService(settings)
        from drivers.commands import CommandService

        return CommandService(settings, self._run_dir)

    def names(self, settings: "GeoSettings") -> Names:
        """The driver that moves names."""
        from drivers.names import NameServers

        return NameServers(settings)

    def trapper(self, settings: "NmsSettings") -> Trapper:
        """The driver that tells one NMS."""
        from drivers.traps import Trapper as SnmpTrapper

        line = self.snmp().line(f"nms.{settings.name}", settings.address, settings.snmp)
        return SnmpTrapper(settings, self.settings.node or self.settings.cluster, line)

    def _played(self, kind: str, name: str) -> "Script | None":
        if self._script is not None and self._script.section(kind, name):
            return self._script
        return None

    def _host(self, settings: "WatchSettings") -> Watch:
        script = self._played("watch", f"host:{settings.kind}")
        if script is not None:
            from drivers.fake import FakeWatch

            return FakeWatch(f"host:{settings.kind}", settings.every_ms, script)
        return _host_watch(settings)

    def _device(self, settings: "DeviceSettings") -> Watch:
        script = self._played("watch", settings.name)
        if script is not None:
            from drivers.fake import FakeWatch

            return FakeWatch(settings.name, settings.every_ms, script)
        from drivers.ups import Ups

        line = self.snmp().line(f"device.{settings.name}", settings.address, settings.snmp)
        return Ups(settings, line)

    def snmp(self) -> "Session":
        """The process's one SNMP engine."""
        if self._session is None:
            from drivers.snmp import Session

            name = f"{self.settings.cluster}.{self.settings.node}"
            self._session = Session(self._state_dir, name)
        return self._session


def _host_watch(settings: "WatchSettings") -> Watch:
    watch: Any
    match settings.kind:
        case "disk":
            from drivers.disk import DiskWatch as watch
        case "inodes":
            from drivers.disk import InodesWatch as watch
        case "memory":
            from drivers.memory import MemoryWatch as watch
        case "swap":
            from drivers.memory import SwapWatch as watch
        case "fds":
            from drivers.kernel import FdsWatch as watch
        case "pids":
            from drivers.kernel import PidsWatch as watch
        case "cpu":
            from drivers.processor import CpuWatch as watch
        case "psi":
            from drivers.pressure import PressureWatch as watch
        case other:
            raise ValueError(f"watch.{other}: no driver for it")
    made: Watch = watch(settings)
    return made
