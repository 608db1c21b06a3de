# SPDX-License-Identifier: GPL-2.0-or-later
"""Faults of the networks, and of those who share them with us."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tests.sim.fault import Fault, Heal
from tests.sim.network import Trouble

if TYPE_CHECKING:
    from tests.sim.world import World

ROGUE_LATE_MS = 1_300
ROGUE_CLAIMS_MS = (3_500, 150)  # by amount: now and then, or a flood
TUSSLE_MS = 700


def _switch_mute(world: World, fault: Fault) -> Heal | None:
    """Carriers stay and nothing is forwarded, as while spanning tree learns."""
    site = world.nodes[fault.node].site
    ends = [
        (source, target, path)
        for source, target, path in world.network.links
        if path == fault.path and site in (world.network.sites[source], world.network.sites[target])
    ]
    return _trouble(world, ends, Trouble(cut=True))


def _isolate(world: World, fault: Fault) -> Heal | None:
    ends = [(fault.node, other, path) for other, path in _everywhere(world, fault.node)]
    return _trouble(world, [*ends, *_reversed(ends)], Trouble(cut=True))


def _partition(world: World, fault: Fault) -> Heal | None:
    ends = [(fault.node, fault.other, fault.path)]
    return _trouble(world, [*ends, *_reversed(ends)], Trouble(cut=True))


def _one_way(world: World, fault: Fault) -> Heal | None:
    return _trouble(world, [(fault.node, fault.other, fault.path)], Trouble(cut=True))


def _deaf(world: World, fault: Fault) -> Heal | None:
    """Sends on that path and hears nothing on it."""
    ends = [(o, fault.node, p) for o, p in _everywhere(world, fault.node) if p == fault.path]
    return _trouble(world, ends, Trouble(cut=True))


def _mute(world: World, fault: Fault) -> Heal | None:
    """Hears everything on that path and is heard by nobody there."""
    ends = [(fault.node, o, p) for o, p in _everywhere(world, fault.node) if p == fault.path]
    return _trouble(world, ends, Trouble(cut=True))


def _port_cut(world: World, fault: Fault) -> Heal | None:
    """The switch's port goes silent both ways, and the carrier stays."""
    ends = [(fault.node, o, p) for o, p in _everywhere(world, fault.node) if p == fault.path]
    return _trouble(world, [*ends, *_reversed(ends)], Trouble(cut=True))


def _lossy(world: World, fault: Fault) -> Heal | None:
    ends = [(fault.node, fault.other, fault.path)]
    return _trouble(world, [*ends, *_reversed(ends)], Trouble(loss=fault.amount / 100))


def _lossy_lan(world: World, fault: Fault) -> Heal | None:
    """A bad cable: the node's frames to and from everybody there."""
    ends = [(fault.node, o, p) for o, p in _everywhere(world, fault.node) if p == fault.path]
    return _trouble(world, [*ends, *_reversed(ends)], Trouble(loss=fault.amount / 100))


def _slow(world: World, fault: Fault) -> Heal | None:
    """Late and out of order."""
    ends = [(fault.node, fault.other, fault.path)]
    trouble = Trouble(delay_ms=fault.amount, jitter_ms=fault.amount)
    return _trouble(world, [*ends, *_reversed(ends)], trouble)


def _doubled(world: World, fault: Fault) -> Heal | None:
    ends = [(fault.node, fault.other, fault.path)]
    return _trouble(world, ends, Trouble(duplicates=0.5, jitter_ms=20))


def _everywhere(world: World, node: str) -> list[tuple[str, int]]:
    """Every other end of a link of the node, machines that are none of ours too."""
    return [(other, path) for source, other, path in world.network.links if source == node]


def _reversed(ends: list[tuple[str, str, int]]) -> list[tuple[str, str, int]]:
    return [(target, source, path) for source, target, path in ends]


def _trouble(world: World, ends: list[tuple[str, str, int]], trouble: Trouble) -> Heal:
    network = world.network
    number = world.next_fault()

    def change(what: Trouble | None) -> None:
        for end in ends:
            if network.links[end].change(number, what, world.agenda.now):
                network.forget(*end)
        world.judge.looked_different()

    change(trouble)
    return lambda: change(None)


def _rogue(world: World, fault: Fault) -> Heal | None:
    """A stranger answers for the address, late, and says that it is its own. amount 1: a flood."""
    rogue = world.rogues[world.nodes[fault.node].site]
    if rogue.group:
        return None
    rogue.appear(fault.group, ROGUE_LATE_MS, ROGUE_CLAIMS_MS[fault.amount])
    return rogue.go


def _tussle(world: World, fault: Fault) -> Heal | None:
    """A foreign hand removes the address again and again."""
    kernel = world.nodes[fault.node].kernel
    ends_ms = world.agenda.now + fault.lasts_ms

    def remove() -> None:
        if world.agenda.now < ends_ms:
            if kernel.running:
                kernel.drop(fault.group, "deleted")
            world.agenda.after(TUSSLE_MS, remove)

    remove()
    return None


def _gateway_dead(world: World, fault: Fault) -> Heal | None:
    gateway = world.gateways[world.nodes[fault.node].site]
    gateway.switched(1)
    return lambda: gateway.switched(-1)


def _plain_off(world: World, fault: Fault) -> Heal | None:
    """The RFC peer loses its power."""
    plain = world.plains[world.nodes[fault.node].site]
    plain.power(False)
    return lambda: plain.power(True)


def _plain_stops(world: World, fault: Fault) -> Heal | None:
    plain = world.plains[world.nodes[fault.node].site]
    plain.stop()
    return plain.start


LINK_FAULTS: dict[str, Callable[[World, Fault], Heal | None]] = {
    "switch-mute": _switch_mute,
    "isolate": _isolate,
    "partition": _partition,
    "one-way": _one_way,
    "deaf": _deaf,
    "mute": _mute,
    "port-cut": _port_cut,
    "lossy": _lossy,
    "lossy-lan": _lossy_lan,
    "slow": _slow,
    "doubled": _doubled,
    "rogue": _rogue,
    "tussle": _tussle,
    "gateway-dead": _gateway_dead,
    "plain-off": _plain_off,
    "plain-stops": _plain_stops,
}
