# SPDX-License-Identifier: GPL-2.0-or-later
"""Kinds of faults, of machines and people; those of networks beside them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tests.sim.fault import Fault, Heal
from tests.sim.link_faults import LINK_FAULTS

if TYPE_CHECKING:
    from tests.sim.world import World

# ---------------------------------------------------------------- what each kind does


def _kill_keeper(world: World, fault: Fault) -> Heal | None:
    return _kill(world, fault, ("keeper",))


def _kill_agent(world: World, fault: Fault) -> Heal | None:
    return _kill(world, fault, ("agent",))


def _kill_both(world: World, fault: Fault) -> Heal | None:
    return _kill(world, fault, ("keeper", "agent"))


def _kill(world: World, fault: Fault, roles: tuple[str, ...]) -> Heal | None:
    """amount 1: whoever should restart it does not, until the fault is over."""
    node = world.nodes[fault.node]
    if not node.kernel.running:
        return None
    for role in roles:
        node.kept_dead[role] += fault.amount
        node.kill(role)

    def heal() -> None:
        for role in roles:
            node.kept_dead[role] -= fault.amount
            if fault.amount and not node.processes[role].alive:
                node.restart_later(role)

    return heal


def _pause_keeper(world: World, fault: Fault) -> Heal | None:
    return world.nodes[fault.node].pause("keeper")


def _pause_agent(world: World, fault: Fault) -> Heal | None:
    return world.nodes[fault.node].pause("agent")


def _freeze(world: World, fault: Fault) -> Heal | None:
    """The whole machine stands still. amount 1: its clock does too."""
    node = world.nodes[fault.node]
    if not node.kernel.running:
        return None
    node.freeze()
    return lambda: node.thaw(bool(fault.amount))


def _power_cut(world: World, fault: Fault) -> Heal | None:
    node = world.nodes[fault.node]
    if not node.kernel.powered:
        return None
    node.lose_power()
    return node.gain_power


def _reboot(world: World, fault: Fault) -> Heal | None:
    node = world.nodes[fault.node]
    if not node.kernel.running or node.leaving:
        return None
    node.shut_down()

    def heal() -> None:
        node.shut_down_anyway(node.life)
        node.gain_power()

    return heal


def _upgrade(world: World, fault: Fault) -> Heal | None:
    """The keeper is told to make room for its successor."""
    world.nodes[fault.node].keeper.tell("restart")
    return None


def _site_power(world: World, fault: Fault) -> Heal | None:
    """Every machine of the site at once; all boot together."""
    nodes = [n for n in world.nodes.values() if n.site == world.nodes[fault.node].site]
    for node in nodes:
        if node.kernel.powered:
            node.lose_power()

    def heal() -> None:
        for node in nodes:
            node.gain_power()

    return heal


def _switch_down(world: World, fault: Fault) -> Heal | None:
    """The switch of a path reboots: every carrier of the site at once."""
    nodes = [n for n in world.nodes.values() if n.site == world.nodes[fault.node].site]
    for node in nodes:
        node.carrier(fault.path, 1)

    def heal() -> None:
        for node in nodes:
            node.carrier(fault.path, -1)

    return heal


def _disk_slow(world: World, fault: Fault) -> Heal | None:
    """Each fsync takes seconds."""
    disk = world.nodes[fault.node].disk
    disk.slow += 1

    def heal() -> None:
        disk.slow -= 1
        disk.slow_ms = world.agenda.now

    return heal


def _disk_full(world: World, fault: Fault) -> Heal | None:
    node = world.nodes[fault.node]

    def change(by: int) -> None:
        before = bool(node.disk.full)
        node.disk.full += by
        if bool(node.disk.full) != before:
            node.disk.mended_ms = world.agenda.now
            node.agent.store_changed()

    change(1)
    return lambda: change(-1)


def _service_dies(world: World, fault: Fault) -> Heal | None:
    node = world.nodes[fault.node]
    for group, service in node.services:
        if group == fault.group and node.kernel.running:
            node.stop_service(group, service)
    return None


def _service_hangs(world: World, fault: Fault) -> Heal | None:
    """Runs and does not answer; a restart by force mends it."""
    node = world.nodes[fault.node]
    for (group, name), service in node.services.items():
        if group == fault.group and service.running and node.kernel.running:
            if service.alive:
                service.bad_since = world.agenda.now
                world.judge.liveness.service_died(node, group, name)
            service.hanging = 1

    def heal() -> None:
        for (group, _), service in node.services.items():
            if group == fault.group:
                service.hanging = 0

    return heal


def _start_refused(world: World, fault: Fault) -> Heal | None:
    """It dies and will not start again."""
    node = world.nodes[fault.node]
    if not node.kernel.running:
        return None
    mine = [key for key in node.services if key[0] == fault.group]
    for key in mine:
        node.services[key].refusing += 1
        node.stop_service(*key)

    def heal() -> None:
        for key in mine:
            node.services[key].refusing -= 1

    return heal


def _nic_down(world: World, fault: Fault) -> Heal | None:
    node = world.nodes[fault.node]
    node.carrier(fault.path, 1)
    return lambda: node.carrier(fault.path, -1)


def _address_deleted(world: World, fault: Fault) -> Heal | None:
    """A foreign hand on the node."""
    kernel = world.nodes[fault.node].kernel
    if kernel.running:
        kernel.drop(fault.group, "deleted")
    return None


def _on_battery(world: World, fault: Fault) -> Heal | None:
    supply = world.power_supplies["ups1"]
    if not supply.on_battery:
        supply.since_ms = world.agenda.now
    supply.on_battery += 1

    def heal() -> None:
        supply.on_battery -= 1

    return heal


def _dns_down(world: World, fault: Fault) -> Heal | None:
    """amount 1: it takes updates, and its answers are lost."""
    zone = world.zones["voice"]
    zone.down += 1 - fault.amount
    zone.replies_lost += fault.amount

    def heal() -> None:
        zone.down -= 1 - fault.amount
        zone.replies_lost -= fault.amount

    return heal


def _nms_down(world: World, fault: Fault) -> Heal | None:
    world.nms.down += 1

    def heal() -> None:
        world.nms.down -= 1

    return heal


def _wall_step(world: World, fault: Fault) -> Heal | None:
    world.nodes[fault.node].wall_ahead_s += fault.amount
    return None


def _switchover(world: World, fault: Fault) -> Heal | None:
    """The operator asks, on a node of his choice; group may be a geo. amount 1: by force."""
    args = {"group": fault.group, "to": fault.other, "force": bool(fault.amount)}
    world.ask(fault.node, "failover" if fault.amount else "switchover", args)
    return None


def _maintenance(world: World, fault: Fault) -> Heal | None:
    world.ask(fault.node, "maintenance", {"on": True, "for_s": fault.lasts_ms // 1000 + 60})
    return lambda: world.ask(fault.node, "maintenance", {"on": False})


def _fence_refuses(world: World, fault: Fault) -> Heal | None:
    return _outlet(world, fault, "refuses")


def _fence_slow(world: World, fault: Fault) -> Heal | None:
    return _outlet(world, fault, "slow")


def _fence_lies(world: World, fault: Fault) -> Heal | None:
    """It says "ok" long before the node is off."""
    return _outlet(world, fault, "lies")


def _outlet(world: World, fault: Fault, how: str) -> Heal:
    outlet = world.outlets[fault.node]
    setattr(outlet, how, getattr(outlet, how) + 1)
    return lambda: setattr(outlet, how, getattr(outlet, how) - 1)


APPLY: dict[str, Callable[[World, Fault], Heal | None]] = {
    "kill-keeper": _kill_keeper,
    "kill-agent": _kill_agent,
    "kill-both": _kill_both,
    "pause-keeper": _pause_keeper,
    "pause-agent": _pause_agent,
    "freeze": _freeze,
    "power-cut": _power_cut,
    "reboot": _reboot,
    "upgrade": _upgrade,
    "site-power": _site_power,
    "switch-down": _switch_down,
    "disk-slow": _disk_slow,
    "disk-full": _disk_full,
    "service-dies": _service_dies,
    "service-hangs": _service_hangs,
    "start-refused": _start_refused,
    "nic-down": _nic_down,
    "address-deleted": _address_deleted,
    "on-battery": _on_battery,
    "dns-down": _dns_down,
    "nms-down": _nms_down,
    "wall-step": _wall_step,
    "switchover": _switchover,
    "maintenance": _maintenance,
    "fence-refuses": _fence_refuses,
    "fence-slow": _fence_slow,
    "fence-lies": _fence_lies,
    **LINK_FAULTS,
}
