# SPDX-License-Identifier: GPL-2.0-or-later
"""Plans of faults: drawn whole from the seed, so that they can be shortened.

Shapes: plain (each by itself, overlapping), burst (several within seconds, then quiet), swizzle
(links cut one after another and healed in another order), isolate (one host loses every link),
single (the next fault waits until the last one is long over), storm (forty short ones of the
service network and the machines on it, one upon another).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random

from tests.sim.fault import Fault
from tests.sim.faults import APPLY
from tests.sim.town import Town

SHAPES = ("plain", "burst", "swizzle", "isolate", "single", "storm")
QUIET_START_MS = 12_000
SINGLE_GAP_MS = 75_000
STORM_FAULTS = 40
STORM_MS = (300, 6_000)
STORM_GAP_MS = 2_000
STORMY = (
    "power-cut", "port-cut", "deaf", "mute", "lossy-lan", "nic-down", "kill-keeper", "kill-agent",
    "kill-both", "freeze", "reboot", "address-deleted", "tussle", "rogue", "switch-mute",
    "gateway-dead", "plain-off", "plain-stops", "site-power", "pause-keeper",
)  # fmt: skip


class Draw:
    """Draws faults for one town: a swarm, so that each seed knows only some kinds."""

    def __init__(self, town: Town, rng: Random) -> None:
        self.town = town
        self.rng = rng
        kinds = [kind for kind in APPLY if self.possible(kind)]
        self.kinds = rng.sample(kinds, rng.randint(3, len(kinds)))
        self.longest_ms = rng.choice((3_000, 12_000, 40_000))

    def possible(self, kind: str) -> bool:
        if kind == "on-battery":
            return bool(self.town.devices)
        if kind == "gateway-dead":
            return self.town.gateways
        if kind.startswith("fence-"):
            return self.town.fences
        if kind.startswith("plain-"):
            return bool(self.town.plain)
        return kind != "dns-down" or bool(self.town.geos)

    def one(self, at_ms: int, kind: str = "") -> Fault:
        """A fault of that kind, or of one of this seed's kinds."""
        rng, town = self.rng, self.town
        kind = kind or rng.choice(self.kinds)
        node = rng.choice(list(town.nodes))
        other = rng.choice(town.peers(node))
        group = rng.choice(town.groups_of(node) or list(town.groups.values())).name
        lasts_ms = rng.randint(200, self.longest_ms)
        fault = Fault(at_ms, kind, lasts_ms, node, other, rng.randrange(town.paths), group)
        if kind == "switchover" and town.geos and rng.random() < 0.4:
            fault = replace(fault, group="voice", other=rng.choice(town.sites))
        return replace(fault, amount=self._amount(kind), lasts_ms=self._lasts_ms(kind, lasts_ms))

    def _amount(self, kind: str) -> int:
        rng = self.rng
        if kind.startswith("kill-") or kind in ("freeze", "dns-down", "rogue"):
            return rng.randrange(2)
        if kind == "switchover":
            return int(rng.random() < 0.2)
        if kind.startswith("lossy"):
            return rng.choice((2, 5, 10, 30, 60))
        if kind == "slow":
            return rng.choice((5, 20, 80, 400, 1500) if self.town.paths > 1 else (5, 20, 80, 200))
        return rng.choice((-3600, -60, 2, 3600)) if kind == "wall-step" else 0

    def _lasts_ms(self, kind: str, drawn_ms: int) -> int:
        if kind in ("power-cut", "reboot", "site-power"):  # a fast one, or one that takes its time
            return self.rng.choice((self.rng.randint(200, 1500), 10_000 + drawn_ms))
        if kind == "freeze":  # a snapshot of the whole machine takes ten seconds
            return self.rng.choice((drawn_ms, 10_000))
        if kind == "on-battery":
            return drawn_ms + self.rng.choice((0, 60_000))
        return drawn_ms


def plan(shape: str, town: Town, rng: Random, until_ms: int) -> list[Fault]:
    """The faults of one seed, all begun before until_ms."""
    draw = Draw(town, rng)
    faults = PLANS[shape](draw, rng, until_ms)
    return sorted((f for f in faults if f.at_ms < until_ms), key=lambda f: f.at_ms)


def _plain(draw: Draw, rng: Random, until_ms: int) -> list[Fault]:
    mean_ms = rng.choice((4_000, 10_000, 25_000))
    faults, at_ms = [], QUIET_START_MS
    while at_ms < until_ms:
        faults.append(draw.one(at_ms))
        at_ms += 1 + int(rng.expovariate(1 / mean_ms))
    return faults


def _burst(draw: Draw, rng: Random, until_ms: int) -> list[Fault]:
    faults, at_ms = [], QUIET_START_MS
    while at_ms < until_ms:
        width_ms = rng.choice((1, 500, 4_000))
        faults += [draw.one(at_ms + rng.randrange(width_ms)) for _ in range(rng.randint(2, 6))]
        at_ms += rng.randint(15_000, 60_000)
    return faults


def _swizzle(draw: Draw, rng: Random, until_ms: int) -> list[Fault]:
    """Both paths of each pair, cut at one pace, healed at another and in another order."""
    town = draw.town
    faults, at_ms = [], QUIET_START_MS
    ends = [(a, b, p) for a in town.nodes for b in town.peers(a) for p in range(town.paths)]
    while at_ms < until_ms:
        pace_ms = rng.choice((50, 700, 4_000))
        chosen = rng.sample(ends, rng.randint(1, len(ends)))
        healing = rng.sample(range(len(chosen)), len(chosen))
        last_ms = at_ms + pace_ms * len(chosen)
        for order, (node, other, path) in enumerate(chosen):
            begin_ms = at_ms + order * pace_ms
            end_ms = last_ms + (1 + healing[order]) * pace_ms
            faults.append(Fault(begin_ms, "one-way", end_ms - begin_ms, node, other, path))
        if rng.random() < 0.7:
            faults.append(draw.one(rng.randint(at_ms, last_ms)))
        at_ms = last_ms + pace_ms * len(chosen) + rng.randint(2_000, 30_000)
    return faults


def _isolated(draw: Draw, rng: Random, until_ms: int) -> list[Fault]:
    faults, at_ms = [], QUIET_START_MS
    while at_ms < until_ms:
        cut = draw.one(at_ms, "isolate")
        faults.append(cut)
        if rng.random() < 0.7:
            faults.append(draw.one(rng.randint(at_ms, at_ms + cut.lasts_ms + 2_000)))
        at_ms += cut.lasts_ms + rng.randint(1_000, 40_000)
    return faults


def _single(draw: Draw, rng: Random, until_ms: int) -> list[Fault]:
    faults, at_ms = [], QUIET_START_MS
    while at_ms < until_ms:
        fault = draw.one(at_ms)
        faults.append(fault)
        at_ms += fault.lasts_ms + SINGLE_GAP_MS
    return faults


def _storm(draw: Draw, rng: Random, until_ms: int) -> list[Fault]:
    faults, at_ms = [], QUIET_START_MS
    kinds = [kind for kind in STORMY if draw.possible(kind)]
    while at_ms < until_ms:
        for _ in range(STORM_FAULTS):
            fault = draw.one(at_ms, rng.choice(kinds))
            faults.append(replace(fault, path=0, lasts_ms=rng.randint(*STORM_MS)))
            at_ms += int(rng.expovariate(1 / STORM_GAP_MS))
        at_ms += rng.randint(40_000, 100_000)
    return faults


PLANS: dict[str, Callable[[Draw, Random, int], list[Fault]]] = {
    "plain": _plain,
    "burst": _burst,
    "swizzle": _swizzle,
    "isolate": _isolated,
    "single": _single,
    "storm": _storm,
}
