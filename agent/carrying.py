# SPDX-License-Identifier: GPL-2.0-or-later
"""Carries settings, licences and status between the nodes of each group: docs/carrying.md.

Every node listens, and asks every node that it shares a group with; the one that serves a group is
followed by the others. What is known of it goes to the agent's core as `Carried`.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

from agent.carried_group import CarriedGroup
from agent.carry_door import Door
from agent.carry_hands import Channel, Clock, Hands, Listener, Tls, Watch
from agent.carry_link import Link
from agent.core.model import Carried
from agent.core.settings import Settings
from agent.ports import Unreachable

PORT_OFFSET = 2  # after the UDP of the keeper and of the agent
TICK_S = 1.0
FEED_EVERY_MS = 2_000
RENEW_EVERY_S = 3_600.0
START_WITHIN_S = 5.0

Worker = tuple[str, Callable[[], Awaitable[None]]]


class Carrying:
    """active: does this node serve the group now; epoch: the highest that is known of it.

    `poke` where either may have changed: otherwise it is seen within a second.
    """

    def __init__(
        self,
        settings: Settings,
        state_dir: Path,
        feed: Callable[[Carried], None],
        active: Callable[[str], bool],
        epoch: Callable[[str], int],
        hands: Hands,
        tls: Tls,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._feed = feed
        self._hands = hands
        self._tls = tls
        self._clock = clock
        self._changed = asyncio.Event()
        self._copies_heard = asyncio.Event()
        self._fed: dict[str, tuple[int, Carried]] = {}
        self.groups = {
            group.name: CarriedGroup(
                group,
                settings.node,
                state_dir,
                hands,
                partial(active, group.name),
                partial(epoch, group.name),
                clock,
                self._wake,
            )
            for group in settings.own_groups()
            if group.carried is not None
        }
        self._started = {name: asyncio.Event() for name in self.groups}
        self._door = Door(self.groups, clock, lambda: self._changed, self._reported)
        self.links = {node: self._link(node) for node in settings.nodes if self._sharing(node)}
        self.listener: Listener = hands.listener(self._door.serve)

    def _sharing(self, node: str) -> list[CarriedGroup]:
        if node == self._settings.node:
            return []
        return [group for group in self.groups.values() if node in group.nodes]

    def _link(self, node: str) -> Link:
        groups = self._sharing(node)
        dial = partial(self._dial, node)
        return Link(node, groups, self._clock, dial, self._hands.spare_bytes, self._told)

    async def _dial(self, node: str) -> Channel:
        peer = self._settings.nodes[node]
        context = self._tls.client(node)
        return await self._hands.dial(node, peer.paths, peer.peer_port + PORT_OFFSET, context)

    # ------------------------------------------------------------ telling

    def _wake(self) -> None:
        """Whoever waits for news looks again."""
        woken, self._changed = self._changed, asyncio.Event()
        woken.set()
        for name in self.groups:
            self._told(name)

    def _reported(self, name: str) -> None:
        """A peer said how its copy stands."""
        woken, self._copies_heard = self._copies_heard, asyncio.Event()
        woken.set()
        self._told(name)

    def _told(self, name: str) -> None:
        """Feeds the core where what it should know is not what it knows."""
        if not self._started[name].is_set():
            return
        report, now = self.groups[name].report(), self._clock.now_ms()
        at_ms, before = self._fed.get(name, (0, None))
        if before is not None and now - at_ms < FEED_EVERY_MS and _same(before, report):
            return
        self._fed[name] = now, report
        self._feed(report)

    def poke(self, group: str = "") -> None:
        """Who serves a group (any, where none is named), or under which epoch, may have changed."""
        for name, carried in self.groups.items():
            if group in ("", name):
                carried.tick()

    # ------------------------------------------------------------ orders

    async def ship(self, group: str, to: str, epoch: int, within_ms: int) -> dict[str, Any]:
        """Facts as orders.ShipStatus says. Raises Refused, Unreachable (nobody could read it)."""
        carried = self.groups.get(group)
        if carried is None:
            return {"nodes": {}, "detail": f"{group} has nothing that is carried"}
        nodes = [to] if to else [node for node in carried.nodes if node != self._settings.node]
        await self._ready(group)
        carried.shipping = True
        try:
            rank = await carried.ship(epoch)
            if rank is None:
                return {"nodes": dict.fromkeys(nodes, ""), "detail": "there is no status to ship"}
            return await self._acknowledged(carried, nodes, rank, within_ms)
        finally:
            carried.shipping = False
            carried.changed()

    async def _acknowledged(
        self, carried: CarriedGroup, nodes: list[str], rank: tuple[int, int], within_ms: int
    ) -> dict[str, Any]:
        def have(node: str) -> bool:
            copy = carried.copies.get(node)
            return copy is not None and (copy.status_epoch, copy.status_origin_ms) >= rank

        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_ms / 1000):
                while not all(map(have, nodes)):
                    await self._copies_heard.wait()
        found = {node: "" if have(node) else self._why_not(carried, node) for node in nodes}
        lost = [f"{node}: {why}" for node, why in found.items() if why]
        detail = "; ".join(lost) or f"the status of epoch {rank[0]} is on {', '.join(nodes)}"
        return {"nodes": found, "epoch": rank[0], "origin_ms": rank[1], "detail": detail}

    def _why_not(self, carried: CarriedGroup, node: str) -> str:
        link = self.links.get(node)
        if link is not None and link.trouble:
            return link.trouble
        copy = carried.copies.get(node)
        if copy is None:
            return "it has not asked for it; is its agent running?"
        return f"it did not say in time that it has it{': ' if copy.detail else ''}{copy.detail}"

    async def place(self, group: str) -> dict[str, Any]:
        """Facts as orders.PlaceStatus says. Raises Refused, Unreachable."""
        carried = self.groups.get(group)
        if carried is None:
            return {"age_ms": None, "epoch": 0, "from": "", "detail": f"{group} has no status"}
        await self._ready(group)
        return await carried.place_status()

    async def _ready(self, group: str) -> None:
        try:
            async with asyncio.timeout(START_WITHIN_S):
                await self._started[group].wait()
        except TimeoutError:
            raise Unreachable(
                f"{group}: {self.groups[group].shelf.folder} could not be read; look at that disk"
            ) from None

    async def status_file(self, group: str) -> Path | None:
        """A copy of the freshest status that a load test may read; None: there is none here.

        It stays under its name when a fresher one comes. Raises Refused.
        """
        carried = self.groups.get(group)
        if carried is None or carried.status.held is None:
            return None
        async with carried.status_lock:
            lend = partial(carried.shelf.lend_status, carried.status.held)
            return await carried.on_status(carried.guarded(lend))

    # ------------------------------------------------------------ hosts

    def publish(self, group: str, facts: dict[str, Any]) -> None:
        """What this host is like for the group: the standbys compare themselves with it."""
        if group in self.groups:
            self.groups[group].facts = facts

    def server_of(self, group: str) -> tuple[str, dict[str, Any]] | None:
        """The node that serves, and what its host is like; None while neither is known."""
        carried = self.groups.get(group)
        node = carried.follow().node if carried is not None else ""
        facts = carried.facts_of.get(node) if carried is not None else None
        return (node, facts) if facts else None

    def offset_ms(self, group: str) -> int | None:
        """How far the wall clock of the node that serves is ahead of ours."""
        carried = self.groups.get(group)
        link = self.links.get(carried.follow().node) if carried is not None else None
        return link.offset_ms if link is not None else None

    # ------------------------------------------------------------ life

    def workers(self) -> list[Worker]:
        """To be run under `Loop.supervise`; none where nothing is carried."""
        found: list[Worker] = [(f"carry {name}", partial(self._mind, name)) for name in self.groups]
        found += [(f"status {name}", partial(self._mind_status, name)) for name in self.groups]
        found += [(f"carry from {node}", link.run) for node, link in self.links.items()]
        if self.links:
            found.append(("carry listener", self._listen))
        if self.groups:
            found.append(("carry clock", self._tick))
        return found

    def close(self) -> None:
        """The threads end when what they do has ended."""
        for group in self.groups.values():
            group.close()

    async def _mind(self, name: str) -> None:
        group = self.groups[name]
        watch = self._hands.watch()
        running = asyncio.get_running_loop()
        running.add_reader(watch.fileno(), partial(_news, group, watch))
        try:
            await group.start()
            self._started[name].set()
            await group.mind_files(partial(_watch, group, watch))
        finally:
            running.remove_reader(watch.fileno())
            watch.close()

    async def _mind_status(self, name: str) -> None:
        await self._started[name].wait()
        await self.groups[name].mind_status()

    async def _tick(self) -> None:
        while True:
            for name, group in self.groups.items():
                if self._started[name].is_set():
                    group.tick()
                    self._told(name)
            await asyncio.sleep(TICK_S)

    async def _listen(self) -> None:
        """Until cancelled; a renewed certificate is shown from the next connection on."""
        own = self._settings.nodes[self._settings.node]
        try:
            while True:
                context = self._tls.server()
                await self.listener.open(own.paths, own.peer_port + PORT_OFFSET, context)
                while not await self._renewed():
                    pass
                await self.listener.close()
        finally:
            await self.listener.close()

    async def _renewed(self) -> bool:
        await asyncio.sleep(RENEW_EVERY_S)
        return await asyncio.get_running_loop().run_in_executor(None, self._tls.renew)


def _same(before: Carried, after: Carried) -> bool:
    """But for ages, which are told now and then."""
    if (before.settings_ok, before.detail) != (after.settings_ok, after.detail):
        return False
    if (before.status_age_ms is None) != (after.status_age_ms is None):
        return False
    if before.status_epoch != after.status_epoch or before.peers.keys() != after.peers.keys():
        return False
    return all(
        (old.ok, old.detail) == (after.peers[node].ok, after.peers[node].detail)
        for node, old in before.peers.items()
    )


def _news(group: CarriedGroup, watch: Watch) -> None:
    heard = watch.receive()
    if group.allowed.status and (heard.lost or group.allowed.status in heard.names):
        group.status_soon()
    folders = set(heard.folders)
    if heard.names <= {group.allowed.status}:
        folders = set()
    if heard.lost:
        group.look_soon(None)
    elif folders:
        group.look_soon(folders)


def _watch(group: CarriedGroup, watch: Watch) -> list[str]:
    """Folders of trees are watched whole, those above declared files for these alone."""
    wanted: dict[str, frozenset[str]] = {}
    for path in (*group.allowed.roots, group.allowed.status):
        if path:
            folder, _, name = path.rpartition("/")
            folder = folder or "/"
            wanted[folder] = wanted.get(folder, frozenset()) | {name}
    for path in group.files.live:
        if group.files.live[path].kind == "dir":
            wanted[path] = frozenset()
    return watch.watch(wanted)
