# SPDX-License-Identifier: GPL-2.0-or-later
"""What the clients get: a group is served where the machine that they look for it at has it.

A node *could serve* since the latest of: its machine, its carriers and its disk changed; both
processes ran for a while (they listen first); its agent called it ready, or it has the addresses;
nothing at all is wrong, either way, between it and the clients, and the gateway where one is set.
"""

from __future__ import annotations

from collections import defaultdict, deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.sim.invariants import Judge
    from tests.sim.lan import Rogue
    from tests.sim.node import Node
    from tests.sim.plain import PlainRouter

LOOK_AGAIN_MS = 200
STARTED_MS = 3_000
RESERVED_MS = 9_000  # no epoch is left after a full disk until some were stored again
ROGUE_GONE_MS = 1_000
MOVED_MS = 300
PUT_BACK_MS = 200
DEFENDED_MS = 400
HEARD_MS = 60
TURBULENT_MS = 10_000
BACKS_KEPT = 3
BACK_SAID_MS = 50
JUST_SAID_MS = 250
GIVES_UP_MS = 1_000
READ_MS = 500
ASKED_MS = 200  # who takes by itself has asked before, for about 100 ms
NEVER_MS = 1 << 60


def could_take_ms(advert_ms: int) -> int:
    """Three intervals and the skew (RFC 9568), and the time for asking: 1.2 s at 200 ms."""
    return 4 * advert_ms + 400


def lets_go_ms(advert_ms: int) -> int:
    """How long a cut off owner may keep what others could serve: 1.5 s at 200 ms."""
    return 5 * advert_ms + 500


class Served:
    """The judge's eye on the service network. `unserved`: group -> since when."""

    def __init__(self, judge: Judge) -> None:
        self.judge = judge
        self.world = judge.world
        self.agenda = judge.agenda
        self.unserved: dict[str, int] = {}
        self.watched: set[str] = set()
        self.cut_off_ms: dict[str, int] = {}  # group -> when an owner of it was last seen cut off
        self.kept_ms: dict[tuple[str, str], int] = {}  # (group, node) -> when last kept back
        self.excused_ms: dict[str, int] = {}  # group -> when a stretch was last nobody's fault
        self.backs: defaultdict[tuple[str, str], deque[int]] = defaultdict(
            lambda: deque([-TURBULENT_MS] * BACKS_KEPT, BACKS_KEPT)  # when peers came back last
        )
        self.worst_ms = 0
        advert_ms = self.world.town.advert_ms
        self.take_ms = could_take_ms(advert_ms)
        self.let_go_ms = lets_go_ms(advert_ms)

    # ---------------------------------------------------------------- served or not

    def look(self, group: str) -> None:
        """Something changed that may decide whether clients reach the group."""
        now, since = self.agenda.now, self.unserved.get(group)
        if self.is_served(group):
            if since is not None:
                self.judge_stretch(group, since)
                del self.unserved[group]
        elif since is None:
            self.unserved[group] = now
            if group not in self.watched:
                self.watched.add(group)
                self.agenda.after(LOOK_AGAIN_MS, self.look_again, group)

    def look_again(self, group: str) -> None:
        self.look(group)
        since = self.unserved.get(group)
        if since is None:
            self.watched.discard(group)
        else:
            self.judge_stretch(group, since)
            self.agenda.after(LOOK_AGAIN_MS, self.look_again, group)

    def is_served(self, group: str) -> bool:
        client = self.world.client_of(group)
        name = client.entries[group].machine
        if not name or not self.world.network.reaches(client.name, name, 0):
            return False
        return self.world.machine(name).answers_for(self.world.town.address(group))

    def judge_stretch(self, group: str, since: int) -> None:
        """Was there one node that could have served all along?"""
        now = self.agenda.now
        if self.stranger_near(group) or self.plain_has(group):
            self.excused_ms[group] = now
            return
        since = max(since, self.excused_ms.get(group, 0))
        if self.cut_off_owners(group):
            self.cut_off_ms[group] = now
        known_first = self.cut_off_ms.get(group, -1) >= since  # it has to find out that it is
        bound = self.let_go_ms + MOVED_MS if known_first else self.take_ms
        for name in self.world.town.groups[group].nodes:
            able = self.able_since(self.world.nodes[name], group)
            if self.kept_back(group, name):
                self.kept_ms[group, name] = now
            waited_ms = now - max(since, able, self.kept_ms.get((group, name), 0))
            if waited_ms > bound:
                knows = self.world.client_of(group).entries[group].machine or "nobody"
                holders = [node.name for node in self.judge.holders(group)]
                self.judge.fail(
                    "unserved-long",
                    f"clients had no {group} for {now - since} ms, {name} could serve for "
                    f"{waited_ms} ms of it (bound {bound} ms); they look at {knows}, "
                    f"{holders} hold it",
                )
            if waited_ms > self.worst_ms:
                self.worst_ms = waited_ms

    def stranger_near(self, group: str) -> bool:
        rogue = self.world.rogues[self.world.client_of(group).site]
        return bool(rogue.group) or self.agenda.now - rogue.gone_ms < ROGUE_GONE_MS + self.take_ms

    def plain_has(self, group: str) -> bool:
        """An RFC peer, which announces as it likes; we must not have spoken when we heard it."""
        looks_at = self.world.client_of(group).entries[group].machine
        times = self.judge.announced[group, looks_at]
        for plain in self.world.plain_in(group):
            if plain.holds:
                node = self.world.nodes.get(looks_at)
                return not (
                    node
                    and self.heard_since(plain, node) < plain.active_ms
                    and times
                    and times[-1] >= plain.active_ms
                )
        return False

    def heard_since(self, plain: PlainRouter, node: Node) -> int:
        """Since when the node has heard every advert of a plain peer."""
        link = self.world.network.links[plain.name, node.name, 0]
        if link.cut or not node.keeper.running:
            return NEVER_MS
        return max(link.cut_since, node.keeper.well_since, node.kernel.changed_ms)

    def cut_off_owners(self, group: str) -> list[Node]:
        """Those that have it and are not reached by the clients."""
        return [node for node in self.judge.holders(group) if not self.reached(node)]

    def kept_back(self, group: str, name: str) -> bool:
        """It hears an owner that is cut off from the clients and cannot know of this node."""
        network = self.world.network
        return any(
            owner.name != name
            and any(not network.links[owner.name, name, p].cut for p in range(network.paths))
            and self.well_peer_since(owner, group, self.cut_ms(owner)) == NEVER_MS
            for owner in self.cut_off_owners(group)
        )

    def cut_ms(self, node: Node) -> int:
        """Since when the clients do not reach it, or are not reached; NEVER_MS: they are."""
        client = self.world.clients[node.site].name
        links = self.world.network.links
        both = (links[node.name, client, 0], links[client, node.name, 0])
        return min((link.cut_since for link in both if link.cut), default=NEVER_MS)

    # ---------------------------------------------------------------- who could

    def reached(self, node: Node) -> bool:
        """By the clients of its site, both ways."""
        return self.world.network.reaches(node.name, self.world.clients[node.site].name, 0)

    def just_cut_off(self, node: Node) -> bool:
        """It is, or was when it last had time to find out."""
        return not self.reached(node) or 0 <= self.agenda.now - self.healed_ms(node) < ASKED_MS

    def healed_ms(self, node: Node) -> int:
        """When it was last cut off from the clients, or reached again; -TURBULENT_MS: never."""
        client = self.world.clients[node.site].name
        links = self.world.network.links
        ends = ((node.name, client, 0), (client, node.name, 0))
        return max(links[end].cut_since or -TURBULENT_MS for end in ends)

    def able_since(self, node: Node, group: str) -> int:
        """Since when the node could serve the group; NEVER_MS where it cannot now."""
        kernel, keeper = node.kernel, node.keeper
        if not kernel.running or kernel.carriers_lost[0] or node.leaving:
            return NEVER_MS
        if node.disk.full or node.disk.slow:
            return NEVER_MS
        since = max(kernel.changed_ms, kernel.misled_ms)
        mended_ms = max(node.disk.mended_ms, node.disk.slow_ms)
        if mended_ms >= 0:
            since = max(since, mended_ms + RESERVED_MS)
        for process in node.processes.values():
            if not process.running:
                return NEVER_MS
            since = max(since, process.well_since + STARTED_MS + self.take_ms)
        since = max(since, self.known_since(node, group))
        held = self.judge.taken_ms[group, node.name] if group in kernel.held else NEVER_MS
        since = max(since, min(keeper.ready_ms.get(group, NEVER_MS), held))
        for name in self.world.reached_by(node.site):
            clear_ms = self.world.network.clear_for_ms(node.name, name, 0)
            if clear_ms < 0 or self.world.machine(name).down:
                return NEVER_MS
            since = max(since, self.agenda.now - clear_ms, self.world.machine(name).changed_ms)
        return since

    def known_since(self, node: Node, group: str) -> int:
        """Since when it can tell that it is not the deaf one: by others than a silent peer."""
        if self.world.town.gateways or node.keeper.proven:
            return 0
        since = 0
        for name in self.world.town.groups[group].nodes:
            other = self.world.nodes[name].kernel
            if name != node.name and other.running:
                if not self.world.network.reaches(name, node.name, 0):
                    return NEVER_MS
                link = self.world.network.links[name, node.name, 0]
                since = max(since, link.cut_since, other.changed_ms)
        return since

    def well_peer_since(self, node: Node, group: str, cut_ms: int) -> int:
        """Since when another one could have served that it hears, or heard until then."""
        network, found = self.world.network, NEVER_MS
        for name in self.partners(group, node):
            links = [network.links[name, node.name, path] for path in range(network.paths)]
            able = self.able_since(self.world.nodes[name], group)
            known = [link.fair_since for link in links if not link.cut]
            if able < cut_ms and any(link.heard(cut_ms) for link in links):
                known.append(able)
            found = min(found, max(able, min(known, default=NEVER_MS)))
        return found

    # ---------------------------------------------------------------- owners that are cut off

    def looked_different(self) -> None:
        """A link, a machine or a process changed."""
        for group in self.world.town.groups:
            self.look(group)
            for node in self.cut_off_owners(group):
                self.cut_off_ms[group] = self.agenda.now
                self.agenda.after(self.let_go_ms + 1, self.still_held, group, node.name)

    def still_held(self, group: str, name: str) -> None:
        """A deaf or mute owner lets go, where a well peer is ready for it."""
        node, now = self.world.nodes[name], self.agenda.now
        keeper = node.keeper
        if group not in node.kernel.held or not keeper.running or self.reached(node):
            return
        if not (self.world.town.gateways or keeper.proven):
            return  # it cannot know
        cut_ms = self.cut_ms(node)
        since = max(
            cut_ms,
            self.judge.taken_ms[group, name],
            node.kernel.changed_ms,
            keeper.well_since + STARTED_MS,
            self.well_peer_since(node, group, cut_ms),
        )
        if now - since > self.let_go_ms:
            self.judge.fail(
                "cut-off-owner",
                f"{name} has {group}, is cut off for {now - since} ms and a peer is ready "
                f"(bound {self.let_go_ms} ms)",
            )
        if since < NEVER_MS:
            self.agenda.at(since + self.let_go_ms + 1, self.still_held, group, name)

    def deaf_for_ms(self, node: Node) -> int:
        """How long nothing at all has come in on the service network; -1 where something may."""
        links = [
            link
            for (_, target, path), link in self.world.network.links.items()
            if target == node.name and path == 0
        ]
        if not all(link.cut for link in links):
            return -1
        return self.agenda.now - max(link.cut_since for link in links)

    def taking(self, node: Node, group: str) -> None:
        """A deaf node never takes over when it could know."""
        town = self.world.town
        if not (town.gateways or node.keeper.proven) or self.judge.forced(group):
            return
        deaf_ms = self.deaf_for_ms(node)
        ran_ms = self.agenda.now - max(node.keeper.well_since, node.kernel.changed_ms)
        peers = [self.world.nodes[name] for name in self.partners(group, node)]
        given = any(self.judge.said(peer, group) == "giving" for peer in peers)
        known_ms = 2 * town.advert_ms + READ_MS if given else ASKED_MS
        if deaf_ms > known_ms and ran_ms > 2 * town.advert_ms + READ_MS:
            self.judge.fail(
                "deaf-taker", f"{node.name} takes {group} and has heard nothing for {deaf_ms} ms"
            )

    # ---------------------------------------------------------------- strangers, foreign hands

    def claimed(self, rogue: Rogue) -> None:
        """A stranger took the address for its own: the owner says at once that it is not so."""
        holders = self.judge.holders(rogue.group)
        if len(holders) != 1 or self.plain_has(rogue.group):
            return
        owner, now = holders[0], self.agenda.now
        clear_ms = self.world.network.clear_for_ms(rogue.name, owner.name, 0)
        known = self.able_since(owner, rogue.group) < now and clear_ms > 0
        if known and self.judge.said(owner, rogue.group) == "active":
            plain_ms = 2 * self.world.town.advert_ms if self.world.town.plain else 0
            self.agenda.after(
                DEFENDED_MS + plain_ms, self.undefended, rogue, rogue.group, owner, now
            )

    def undefended(self, rogue: Rogue, group: str, owner: Node, claimed_ms: int) -> None:
        entry = self.world.client_of(group).entries[group]
        misled = entry.machine == rogue.name and entry.updated_ms <= claimed_ms + HEARD_MS
        able = self.able_since(owner, group) < claimed_ms and group in owner.kernel.held
        paths = range(self.world.network.paths)
        for other in self.partners(group, owner):
            calm_ms = [self.world.network.clear_for_ms(owner.name, other, path) for path in paths]
            able = able and min(calm_ms) > TURBULENT_MS
        if misled and able and not self.turbulent(owner, group):
            self.judge.fail(
                "undefended", f"a stranger claims {group} and {owner.name} says nothing against it"
            )

    def turbulent(self, node: Node, group: str) -> bool:
        """So much went wrong of late that an owner may have announced as often as it may."""
        deleted_ms = self.judge.deleted_ms.get((group, node.name), -TURBULENT_MS)
        many_ms = max(self.world.edges[0], self.backs[group, node.name][0])
        flooded_ms = self.world.rogues[node.site].flooded_ms
        own_ms = max(self.healed_ms(node), self.judge.taken_ms.get((group, node.name), 0))
        if any(
            self.world.network.troubled(node.name, other) for other in self.partners(group, node)
        ):
            return True
        return self.agenda.now - max(many_ms, deleted_ms, flooded_ms, own_ms) < TURBULENT_MS

    def partners(self, group: str, node: Node) -> list[str]:
        return [name for name in self.world.town.groups[group].nodes if name != node.name]

    def is_back(self, node: Node, group: str) -> None:
        """A silent peer is heard again: an owner announces, or has just done so."""
        self.backs[group, node.name].append(self.agenda.now)
        self.agenda.after(BACK_SAID_MS, self.unannounced, node, group, self.agenda.now)

    def unannounced(self, node: Node, group: str, back_ms: int) -> None:
        keeper, times = node.keeper, self.judge.announced[group, node.name]
        ran = max(keeper.well_since, node.kernel.changed_ms) < back_ms
        owns = self.judge.said(node, group) == "active" and group in node.kernel.held
        since = self.judge.taken_ms.get((group, node.name), 0)
        silent = not times or times[-1] < back_ms - JUST_SAID_MS
        able = keeper.running and ran and owns and since < back_ms and self.reached(node)
        if able and silent and not self.turbulent(node, group):
            self.judge.fail(
                "back-unannounced", f"a peer is back and {node.name} announced no {group}"
            )

    def deleted(self, node: Node, group: str) -> None:
        """An address that was removed by somebody else is put back at once, or goes elsewhere."""
        self.agenda.after(PUT_BACK_MS, self.not_put_back, node, group, self.agenda.now)

    def not_put_back(self, node: Node, group: str, since: int) -> None:
        keeper = node.keeper
        ran = max(keeper.well_since + STARTED_MS, node.kernel.changed_ms) < since
        well = keeper.running and node.kernel.running and ran
        gone = group not in node.kernel.held and self.judge.left_ms[group, node.name] == since
        if well and gone and self.judge.said(node, group) == "active":
            self.judge.fail("not-put-back", f"{node.name} lost {group} and left it so")
