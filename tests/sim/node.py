# SPDX-License-Identifier: GPL-2.0-or-later
"""A server: its machine, its disk, its services, the two processes and who restarts them."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING

from agent.core.keeping import AddressSeen, LinkSeen
from tests.sim.keeper import NETLINK_MS, KeeperProcess
from tests.sim.kernel import Clock, Kernel
from tests.sim.outside import Disk, Service
from tests.sim.process import Process

if TYPE_CHECKING:
    from agent.core.settings import GroupSettings
    from tests.sim.world import World

Heal = Callable[[], None]

RESTART_MS = (150, 300)
WATCHDOG_MS = 6000  # a process that does not move for so long is killed
STOP_WITHIN_MS = 5000
BOOT_MS = (1000, 3000)
KILL_MS = 20
FOREIGN_HAND = "NetworkManager (pid 812)"


class Node:
    """Everything of one name."""

    def __init__(self, name: str, site: str, world: World, rng: Random) -> None:
        self.name = name
        self.site = site
        self.world = world
        self.agenda = world.agenda
        self.rng = rng
        self.life = 0  # counts boots of the machine
        clock = Clock(rng.randrange(10_000, 100_000_000), rng.randint(-5000, 5000))
        self.kernel = Kernel(world.agenda, clock, world.town.paths, rng, self.address_moved)
        self.wall_ahead_s = 0
        self.disk = Disk()
        self.services: dict[tuple[str, str], Service] = {}
        self.kept_dead = {"keeper": 0, "agent": 0}  # how many faults keep it from being restarted
        self.leaving = False
        self.notes: bytes | None = None  # of its keepers, on this machine since it was started
        self.overheard: set[str] = set()  # neighbours that its kernel knows
        self.passed_ms = 0  # of its neighbours' chatter, when it was switched on
        self.keeper = KeeperProcess(self, world)
        self.agent = world.agent_of(self)
        self.processes: dict[str, Process] = {"keeper": self.keeper, "agent": self.agent}
        for group in world.town.groups_of(name):
            self._install(group)

    def _install(self, group: GroupSettings) -> None:
        cold = group.standby.value == "cold"
        for service in group.services:
            installed = Service(cold, self.rng.randint(300, 1500), running=not cold)
            self.services[group.name, service.name] = installed

    @property
    def mac(self) -> str:
        return self.world.town.mac(self.name)

    @property
    def down(self) -> int:
        return 0 if self.kernel.powered else 1

    def answers_for(self, address: str) -> bool:
        """Its kernel, to ARP: for its own addresses and the floating ones that it holds."""
        town = self.world.town
        if any(town.address(group) == address for group in self.kernel.held):
            return True
        return any(town.real_address(self.name, path) == address for path in range(town.paths))

    def answer_after_ms(self, address: str) -> int:
        return 0

    # ---------------------------------------------------------------- power

    def switch_on(self) -> None:
        """The machine has booted: services that start by themselves, then the supervisor's pair."""
        self.life += 1
        self.leaving = False
        for service in self.services.values():
            service.running = not service.cold and not service.refusing
            service.bad_since = self.agenda.now
        self.begin("keeper")
        self.begin("agent")

    def lose_power(self) -> None:
        """Everything that is not on disk is gone."""
        self.life += 1
        self.notes = None
        for process in self.processes.values():
            process.end()
        for service in self.services.values():
            if service.alive:
                service.bad_since = self.agenda.now
            service.running = service.begun = False
            service.orders += 1
        self.kernel.lose_power()
        self.world.judge.looked_different()

    def gain_power(self) -> None:
        if not self.kernel.powered and not self.world.outlets[self.name].off:
            self.kernel.gain_power()
            self.overheard = set()
            self.passed_ms = self.world.chatter_link(self).passed_ms(self.agenda.now)
            self.agenda.after(self.rng.randint(*BOOT_MS), self.booted, self.life)
            self.world.judge.looked_different()

    def booted(self, life: int) -> None:
        if life == self.life and self.kernel.frozen:
            self.agenda.after(BOOT_MS[0], self.booted, life)
        elif life == self.life:
            self.switch_on()

    def shut_down(self) -> None:
        """Orderly: the keeper hands over first, then it ends, with a bound."""
        self.leaving = True
        self.keeper.tell("stop")
        self.agenda.after(STOP_WITHIN_MS, self.shut_down_anyway, self.life)

    def shut_down_anyway(self, life: int) -> None:
        if life == self.life and self.leaving:
            self.lose_power()

    def keeper_finished(self) -> None:
        """Its process ends; where the machine is not going down it is started again."""
        self.keeper.end()
        if self.leaving:
            self.agenda.after(0, self.shut_down_anyway, self.life)
        else:
            self.restart_later("keeper")

    def freeze(self) -> None:
        self.kernel.freeze()
        for process in self.processes.values():
            process.stop()
        self.world.judge.looked_different()

    def thaw(self, clock_stood: bool) -> None:
        """A machine whose power was cut meanwhile has nothing to thaw."""
        if not self.kernel.frozen:
            return
        self.kernel.thaw(clock_stood)
        for process in self.processes.values():
            if process.alive:
                process.go_on()
        self.world.judge.looked_different()

    # ---------------------------------------------------------------- the supervisor

    def begin(self, role: str) -> None:
        if not self.kept_dead[role] and self.kernel.powered and not self.leaving:
            self.processes[role].begin()
            self.world.judge.looked_different()

    def kill(self, role: str) -> None:
        """It dies at once; the supervisor starts it again if nothing keeps it dead."""
        process = self.processes[role]
        if not process.alive:
            return
        process.end()
        self.world.judge.process_died(self)
        self.restart_later(role)

    def restart_later(self, role: str) -> None:
        self.agenda.after(self.rng.randint(*RESTART_MS), self.restart, role, self.life)

    def restart(self, role: str, life: int) -> None:
        if life != self.life or self.processes[role].alive:
            return
        if self.kernel.frozen:
            self.restart_later(role)
        else:
            self.begin(role)

    def pause(self, role: str) -> Heal | None:
        """SIGSTOP; its watchdog kills it when it takes too long."""
        process = self.processes[role]
        life = process.life
        if not process.alive or not self.kernel.running:
            return None
        process.stop()
        self.agenda.after(WATCHDOG_MS, self.bark, role, life)
        self.world.judge.looked_different()
        return lambda: self.resume(role, life)

    def bark(self, role: str, life: int) -> None:
        process = self.processes[role]
        if process.life == life and process.stopped and self.kernel.running:
            self.kill(role)

    def resume(self, role: str, life: int) -> None:
        process = self.processes[role]
        if process.life == life and process.alive:
            process.go_on()
            self.world.judge.looked_different()

    # ---------------------------------------------------------------- kernel events

    def address_moved(self, group: str, how: str) -> None:
        """The kernel's table changed."""
        self.world.judge.held_changed(self, group, how)
        if how in ("expired", "deleted"):
            by = FOREIGN_HAND if how == "deleted" else ""
            self._tell_keeper(AddressSeen("eth0", self.world.town.address(group), False, by))
        if how == "deleted":
            self.world.judge.served.deleted(self, group)

    def carrier(self, path: int, lost: int) -> None:
        """lost: +1 or -1."""
        before = self.kernel.carriers_lost[path]
        self.kernel.carriers_lost[path] = after = before + lost
        self.kernel.changed_ms = self.agenda.now
        if lost > 0 and not path:
            self.kernel.unplugged_ms = self.agenda.now
        if bool(before) != bool(after) and self.kernel.powered:
            self._tell_keeper(LinkSeen(self.world.town.interface(path), not after))
        self.world.judge.looked_different()

    def _tell_keeper(self, event: AddressSeen | LinkSeen) -> None:
        self.agenda.after(NETLINK_MS, self.keeper.feed_life, self.keeper.life, event)

    def reaches_world(self) -> bool:
        """DNS and NMS lie behind the service network of the site."""
        client = self.world.clients[self.site].name
        if self.world.town.gateways and self.world.gateways[self.site].down:
            return False
        return self.world.network.hears(self.name, client, 0)

    # ---------------------------------------------------------------- services

    def control(self, group: str, name: str, verb: str) -> tuple[bool, str]:
        """What the service manager says when it is done. verb: start stop restart."""
        service = self.services[group, name]
        if verb != "start":
            self.stop_service(group, name)
        if verb == "stop":
            return True, "stopped"
        if service.refusing:
            return False, "start refused: licence not valid"
        service.running = service.begun = True
        service.hanging = 0
        return True, "started"

    def end_services(self, group: str) -> None:
        """A keeper that lost a lease has them killed."""
        self.agenda.after(KILL_MS, self._ended, self.life, group)

    def _ended(self, life: int, group: str) -> None:
        for owner, name in self.services if life == self.life else ():
            if owner == group:
                self.services[owner, name].orders += 1
                self.stop_service(owner, name)

    def stop_service(self, group: str, name: str) -> None:
        service = self.services[group, name]
        was_alive = service.alive
        if was_alive:
            service.bad_since = self.agenda.now
        service.running = service.begun = False
        service.hanging = 0
        if was_alive:
            self.world.judge.liveness.service_died(self, group, name)
