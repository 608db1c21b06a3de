# SPDX-License-Identifier: GPL-2.0-or-later
"""Virtual routers that Standpipe shares with somebody else's router, and what is seen of both.

with World.build(one_lan(NODES, second_path=False)) as world:
    scene = Scene(world)
    scene.give_to_us()
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tests.lab import plan as places
from tests.lab.cluster import Cluster, Group
from tests.lab.measure import EVER, AddressWatch, Advert, Prober, WireWatch
from tests.lab.netns import LabError, now_ms, wait_until
from tests.lab.routers import BACKUP, MASTER, Frr, Instance, Keepalived, Speaker, link_local
from tests.lab.world import World, cut_power

NODES = (OURS, KEEPALIVED, FRR) = ("lon1", "lon2", "lon3")
ADVERT_MS = 200
OUR_PRIORITY, THEIR_PRIORITY = 200, 100
LATE_MS = 3 * ADVERT_MS  # before this a router that is silent is not lost (RFC 9568 6.1)
MOVE_S = 20.0  # a deadline; what it took is measured
PATIENT_MS = 1000  # a busy machine may be late to answer


def skew_ms(priority: int) -> float:
    """RFC 9568 section 6.1."""
    return (256 - priority) * ADVERT_MS / 256


@dataclass(frozen=True)
class SharedGroup(Group):
    """Addresses and no service, in a virtual router in which others take part."""

    plain_peers: tuple[str, ...] = ()
    priorities: tuple[int, ...] = ()
    multicast: bool = True
    virtual_mac: bool = False

    def text(self) -> str:
        whole = super().text().partition(f"[[group.{self.name}.service]]")[0]
        more = f"multicast = {json.dumps(self.multicast)}\n"
        more += f"virtual_mac = {json.dumps(self.virtual_mac)}\n"
        if self.plain_peers:
            more += f"plain_peers = {json.dumps(self.plain_peers)}\n"
        if self.priorities:
            more += f"priorities = {json.dumps(self.priorities)}\n"
        return whole.replace('standby = "hot"\n', 'standby = "hot"\n' + more)

    @property
    def floating(self) -> str:
        return self.address.split("/")[0]


class Some(Cluster):
    """Standpipe on some of a world's nodes; the others are nobody's, for their configuration."""

    def __init__(self, world: World, names: Sequence[str], groups: Sequence[SharedGroup]) -> None:
        super().__init__(world, groups)
        self.names = names
        parts = ['[cluster]\nname = "lab"\nkey_file = "@ETC@/cluster.key"\n']
        parts += [f"[site.{site}]\n" for site in world.plan.sites]
        for node in map(world.node, names):
            paths = json.dumps(node.paths)
            parts.append(f'[node.{node.name}]\nsite = "{node.site}"\npaths = {paths}\n')
        self.template = "".join([*parts, *(group.text() for group in groups)])
        for name in names:
            self.write(name, self.template)

    def boot(self, *names: str) -> None:
        super().boot(*(names or self.names))

    def state(self, name: str, group: str) -> str:
        """ "active", "backup", ...; "" while no agent answers, or its node is not ready."""
        seen = self.group(name, group)
        return str(seen["state"]) if seen.get("ready") else ""


def bare(addresses: Sequence[str]) -> list[str]:
    """Without prefix lengths."""
    return [address.split("/")[0] for address in addresses]


def await_link_local(world: World) -> None:
    """Every node has its own, which comes with the carrier."""

    def all_have() -> bool:
        with contextlib.suppress(LabError):
            return all(map(link_local, world.nodes))
        return False

    wait_until(all_have, "the nodes have link-local addresses")


class Scene:
    """Standpipe on one node, keepalived and FRR on the others; a virtual router for each group.

    Groups: m4, m6 with keepalived by multicast, u4, u6 by unicast; f4, f6 with FRR, by multicast
    and from virtual MACs. Ours has the higher priority.
    """

    def __init__(self, world: World) -> None:
        self.world, self.ours = world, world.node(OURS)
        await_link_local(world)
        keepalived = Keepalived(world, world.node(KEEPALIVED), self._for_keepalived())
        frr = Frr(
            world,
            world.node(FRR),
            [_instance("f4", "10.1.0.103/24", 71), _instance("f6", "fd00:1::103/64", 72)],
        )
        self.others: list[Speaker] = [keepalived, frr]
        self._speakers = {name: one for one in (keepalived, frr) for name in one.instances}
        self.groups = [
            self._group(it) for one in (keepalived, frr) for it in one.instances.values()
        ]
        self.watch, self.wire = AddressWatch(world), WireWatch(world)
        self.probers = {
            it.name: Prober(world, it.floating, late_ms=PATIENT_MS) for it in self.groups
        }
        self.cluster = Some(world, [OURS], self.groups)
        self.healing_ms = self.healed_ms = 0.0  # when the last cut began to heal, and was healed
        self.listened_ms = 0.0  # when the last of them began to
        self._words: dict[str, dict[str, Any]] = {}

    def _for_keepalived(self) -> list[Instance]:
        ends = list(zip(bare(self.world.node(KEEPALIVED).own), bare(self.ours.own), strict=True))
        return [
            _instance("m4", "10.1.0.101/24", 51),
            _instance("m6", "fd00:1::101/64", 52),
            replace(_instance("u4", "10.1.0.102/24", 61), unicast=ends[0]),
            replace(_instance("u6", "fd00:1::102/64", 62), unicast=ends[1]),
        ]

    def _group(self, instance: Instance) -> SharedGroup:
        unicast, speaker = instance.unicast, self._speakers[instance.name]
        return SharedGroup(
            instance.name,
            (OURS,),
            instance.address,
            vrid=instance.vrid,
            advert=f"{ADVERT_MS}ms",
            plain_peers=(unicast[0] if unicast else speaker.source(instance.family),),
            priorities=(OUR_PRIORITY,),
            multicast=unicast is None,
            virtual_mac=speaker.uses_virtual_mac,
        )

    # ------------------------------------------------------------ who has what

    def speaker(self, group: SharedGroup) -> Speaker:
        return self._speakers[group.name]

    def their(self, group: SharedGroup) -> str:
        """The other one's node."""
        return self.speaker(group).node.name

    def we_have(self, group: SharedGroup) -> bool:
        """We say so and hold it, they are backup or gone, and the client is served by us."""
        return (
            self.cluster.state(OURS, group.name) == "active"
            and self._held_by(group, OURS)
            and self.speaker(group).state(group.name) in (BACKUP, "")
            and self.probers[group.name].served_by() == OURS
        )

    def they_have(self, group: SharedGroup) -> bool:
        """They say so, we do not hold it, and the client is served by them."""
        return (
            self.speaker(group).state(group.name) == MASTER
            and self._held_by(group, self.their(group))
            and self.probers[group.name].served_by() == self.their(group)
        )

    def _held_by(self, group: SharedGroup, node: str) -> bool:
        """By nobody else, as far as it can be seen beside those who keep it for ever."""
        owners = self.watch.owners(group.floating)
        if self.speaker(group).keeps_addresses:
            return (OURS in owners) == (node == OURS)
        return owners == {node}

    def await_us(self) -> None:
        self._wait(self.we_have, "we have")

    def await_them(self) -> None:
        self._wait(self.they_have, "they have")

    def await_our_readiness(self) -> None:
        """Backup, and fit to take over."""
        self._wait(lambda it: self.cluster.state(OURS, it.name) == "backup", "we are backup in")

    def _wait(self, condition: Callable[[SharedGroup], bool], what: str) -> None:
        """For every group; LabError with those that are left, and what both sides think."""
        left: list[SharedGroup] = []

        def done() -> bool:
            left[:] = [it for it in self.groups if not condition(it)]
            return not left

        try:
            self.cluster.wait(done, what, MOVE_S)
        except LabError as error:
            states = {it.name: self.speaker(it).state(it.name) for it in left}
            raise LabError(f"not yet so of (they are) {states}: {error}") from error

    # ------------------------------------------------------------ to a known beginning

    def leave_to_us(self) -> None:
        """We are active in every group; whether they run is open."""
        self.bring_us()
        if not all(map(self.we_have, self.groups)):
            self.stop_them()
        self.await_us()

    def give_to_us(self) -> None:
        """We are active in every group, they backup with the lower priority, and follow us."""
        self.leave_to_us()
        self.bring_them()
        followed_ms = self.listened_ms + LATE_MS + skew_ms(THEIR_PRIORITY) + ADVERT_MS
        wait_until(lambda: now_ms() > followed_ms, "they would be active did they not believe us")
        self.await_us()

    def leave_to_them(self, priority: int = THEIR_PRIORITY) -> None:
        """They are active in every group; whether we run is open."""
        self.bring_them(priority=priority)
        if not all(map(self.they_have, self.groups)) and self.cluster.running():
            self.cluster.stop(OURS)
        self.await_them()

    def give_to_them(self, priority: int = THEIR_PRIORITY) -> None:
        """They are active in every group, we are ready to take over."""
        self.leave_to_them(priority)
        self.bring_us()
        self.await_our_readiness()
        self.await_them()

    def bring_us(self) -> None:
        if not self.cluster.running():
            self.cluster.boot()

    def bring_them(self, *, priority: int = THEIR_PRIORITY, preempt: bool = True) -> None:
        """Return when they listen; with other words than before they are started anew."""
        words: dict[str, Any] = {"priority": priority, "preempt": preempt}
        for one in self.others:
            if one.running() and words == self._words[one.node.name]:
                continue
            if one.running():
                one.stop()
            one.node.power_on()
            one.node.tell_patient("start")
            one.change(**words)
            one.start()
            self.listened_ms, self._words[one.node.name] = now_ms(), words

    def stop_them(self) -> None:
        for one in self.others:
            if one.running():
                one.stop()

    @contextlib.contextmanager
    def cut(self, *names: str) -> Iterator[None]:
        """Nothing passes their ports, which keep their carrier; at its end the others serve."""
        ports = [self.world.node(name).ports[places.LAN] for name in names]
        for port in ports:
            port.mute()
        try:
            yield
            self._wait(lambda it: self._served_outside(it, names), "the others serve")
        finally:
            self.healing_ms = now_ms()
            for port in ports:
                port.heal()
            self.healed_ms = now_ms()

    def _served_outside(self, group: SharedGroup, names: Sequence[str]) -> bool:
        return self.probers[group.name].served_by() not in (None, *names)

    def unplug_us(self) -> None:
        """Our power is cut, unless we were off already."""
        if self.cluster.running():
            self.cluster.power_cut(OURS)

    def unplug_them(self) -> float:
        """The power of those that run, at one instant; when, in ms."""
        running = [one.node for one in self.others if one.running()]
        return cut_power(running) if running else now_ms()

    # ------------------------------------------------------------ what was seen

    def claimed_ms(self, node: str, group: SharedGroup, since_ms: float) -> float:
        """When the node became active, since then: its first advertisement, which is waited for."""
        what = f"{node} advertises {group.name}"
        self.cluster.wait(lambda: self.speaks(node, group, since_ms), what)
        first = next(it for it in self.adverts(node, group, since_ms) if it.priority)
        return first.at_ms - (
            0 if node == OURS else self.speaker(group).speaks_after_ms(group.name)
        )

    def adverts(self, node: str, group: SharedGroup, *span: float) -> list[Advert]:
        """A node's in a virtual router, the goodbye too, within [start, end)."""
        start_ms, end_ms = (*span, EVER)[:2]
        return [
            it
            for it in self.wire.record().adverts
            if (it.node, it.vrid) == (node, group.vrid) and start_ms <= it.at_ms < end_ms
        ]

    def speaks(self, node: str, group: SharedGroup, *span: float) -> bool:
        """Whether it claimed the virtual router in the span."""
        return any(it.priority for it in self.adverts(node, group, *span))

    def doubled_ms(self, group: SharedGroup, since_ms: float) -> float:
        """How long both held its address; 0 beside a router that keeps it for ever."""
        if self.speaker(group).keeps_addresses:
            return 0.0
        return self.watch.record().doubled_ms(group.floating, since_ms)

    def servers(self, group: SharedGroup, since_ms: float) -> list[str]:
        """Who answered the client, one after the other."""
        return [name for _, name in self.probers[group.name].record().served_by(since_ms)]

    def refusals(self) -> dict[str, int]:
        """What our keeper would not believe, by kind; nothing while it does not run."""
        counters = self.cluster.status(OURS).get("keeper", {}).get("counters", {})
        return {
            kind: number
            for kind, number in counters.items()
            if kind.startswith("advert-") and kind != "advert-unsent" and number
        }

    def complaints(self) -> list[str]:
        """What they would not believe."""
        return [line for one in self.others for line in one.complaints()]


def _instance(name: str, address: str, vrid: int) -> Instance:
    return Instance(name, address, vrid, THEIR_PRIORITY, ADVERT_MS)
