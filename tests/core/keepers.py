# SPDX-License-Identifier: GPL-2.0-or-later
"""Keepers for dialogues: nodes lon1, lon2, lon3 of group sbc, preferred in this order."""

from __future__ import annotations

from typing import Any

from agent.core.election import Kept
from agent.core.keeper import KeeperCore
from agent.core.keeping import (
    AddressSeen,
    AdvertSeen,
    Announce,
    AskNeighbour,
    Keeping,
    KeptGroup,
    KeptPeer,
    LinkSeen,
    NeighbourSeen,
    PeerHeard,
    RefreshAddresses,
    Report,
    Router,
    SendAdvert,
    SendPeer,
    Sense,
    TakeAddresses,
    TrafficSeen,
    Woken,
    WordGiven,
)
from agent.core.model import KeeperSaid, Word
from tests.core.playbook import ANY, WAKE, Playbook, after

NODES = ("lon1", "lon2", "lon3")
REAL = {"lon1": "10.1.0.11", "lon2": "10.1.0.12", "lon3": "10.1.0.13"}
REAL6 = {"lon1": "fd00::11", "lon2": "fd00::12", "lon3": "fd00::13"}
FLOATING = "10.1.0.100"
FLOATING6 = "fd00::100"
GATEWAY = "10.1.0.1"
PLAIN = "10.1.0.9"
CLIENT = "10.1.0.50"
PRIORITY = {"lon1": 200, "lon2": 190, "lon3": 180}
ADVERT_MS = 200
JUST_NOW = -1  # a word that is given the moment at which it is fed
START = 1_000_000  # a machine that was up for a while: 0 means "never" to a keeper


def keeping(
    node: str,
    nodes: tuple[str, ...] = ("lon1", "lon2"),
    *,
    one_way: bool = False,
    priorities: dict[str, int] = PRIORITY,
    ipv6: bool = False,
    hold_ms: int = 10_000,
    **rest: Any,
) -> Keeping:
    """one_way: a single path and nothing to ask by ARP. ipv6: the group has such an address too.

    rest: further fields of the group.
    """
    peers = tuple(name for name in nodes if name != node)
    routers = [Router(4, 51, "eth0", (FLOATING,))]
    if ipv6:
        routers.append(Router(6, 51, "eth0", (FLOATING6,)))
    group = KeptGroup(
        "sbc",
        priorities[node],
        nodes.index(node),
        ADVERT_MS,
        hold_ms,
        tuple(routers),
        peers,
        **rest,
    )
    sources = {REAL[name]: name for name in nodes} | {REAL6[name]: name for name in nodes}
    asked = {name: () if one_way else (("eth0", REAL[name]),) for name in peers}
    paths = {
        name: (REAL[name],) if one_way else (REAL[name], f"10.9.0.{n}")
        for n, name in enumerate(peers)
    }
    return Keeping(
        node,
        7,
        {"sbc": group},
        {name: KeptPeer(name, paths[name], asked[name]) for name in peers},
        sources,
    )


class KeeperPlay(Playbook):
    """A keeper on `node`. Reports, beats, refreshed lifetimes and looks around are not shown.

    traffic: packets that come in between two looks at an interface. witnesses: how many were
    overheard there; asked for, they answer nothing unless the test says so.
    """

    core: KeeperCore

    def __init__(
        self,
        node: str,
        nodes: tuple[str, ...] = ("lon1", "lon2"),
        answering: tuple[str, ...] = (),
        **kind: Any,
    ) -> None:
        core = KeeperCore(keeping(node, nodes, **kind), START)
        super().__init__(core, START, Woken, _routine)
        self.node = node
        self.answering = set(answering)  # addresses that answer ARP
        self.traffic = 1
        self.witnesses = 0
        self._packets = 0

    def _step(self, event: Any) -> None:
        if isinstance(event, WordGiven) and event.at_ms == JUST_NOW:
            event = WordGiven(event.words, self.now)
        before = len(self.all)
        super()._step(event)
        for action in self.all[before:]:
            if isinstance(action, Sense):
                self._packets += self.traffic
                asked = self.witnesses if action.ask else 0
                self._step(TrafficSeen(action.interface, self._packets, asked))
            elif isinstance(action, AskNeighbour) and action.address in self.answering:
                self._step(seen(action.address))

    @property
    def state(self) -> str:
        return self.group.state

    @property
    def group(self) -> Kept:
        return self.core.groups["sbc"]

    def peer(self, node: str) -> str:
        """The state of a peer."""
        return self.core.peers[node].state

    def report(self) -> KeeperSaid:
        """Its next regular report."""
        self.core.report_due = True
        return self.said(Report, WAKE)[-1].said

    def rules(self, machine: str = "group sbc") -> list[str]:
        """Those that were taken since the beginning and are worth a record."""
        reported = [a.said.decisions for a in self.all if isinstance(a, Report)]
        decisions = [d for some in reported for d in some] + self.core.decisions
        return [decision.rule for decision in decisions if decision.machine == machine]

    def asked_round(self, node: str) -> int:
        """The number of the last question to a peer."""
        return next(
            action.body["id"]
            for action in reversed(self.all)
            if isinstance(action, SendPeer) and (action.node, action.kind) == (node, "ask")
        )

    def offer_id(self) -> int:
        return next(
            action.body["id"]
            for action in reversed(self.all)
            if isinstance(action, SendPeer) and action.kind == "handover"
        )


def _routine(action: Any) -> bool:
    if isinstance(action, SendPeer):
        return action.kind == "beat"
    return isinstance(action, Report | RefreshAddresses | Sense)


def backup(
    node: str = "lon2", nodes: tuple[str, ...] = ("lon1", "lon2"), **kind: Any
) -> KeeperPlay:
    """Ready, and the first of the others is active and was heard just now."""
    play = KeeperPlay(node, nodes, **kind)
    play.given(PLUGGED, READY, WAKE)
    peers = [name for name in nodes if name != node]
    play.given(*(beat(name) for name in peers[1:]))
    return play.given(beat(peers[0], "active", epoch=4), advert(peers[0]))


def active(
    node: str = "lon1", nodes: tuple[str, ...] = ("lon1", "lon2"), **kind: Any
) -> KeeperPlay:
    """Holds the group for a while already, announced; the others are ready standbys."""
    play = KeeperPlay(node, nodes, **kind)
    play.given(PLUGGED, READY, WAKE)
    play.until(TakeAddresses)
    play.given(after(2000))
    for name in nodes:
        if name != node:
            play.given(beat(name))
    play.given(after(400))
    assert play.state == "active"
    return play


# ---------------------------------------------------------------- what comes in

PLUGGED = LinkSeen("eth0", True)
UNPLUGGED = LinkSeen("eth0", False)


def word(ready: bool = True, at_ms: int = JUST_NOW, **rest: Any) -> WordGiven:
    said: dict[str, Any] = {"ceiling": 100, "why": "" if ready else "not proved"}
    return WordGiven({"sbc": Word(ready, **(said | rest))}, at_ms)


READY = word()
NOT_READY = word(False)


def advert(node: str, priority: int | None = None, **rest: Any) -> AdvertSeen:
    said: dict[str, Any] = {
        "interface": "eth0",
        "family": 4,
        "vrid": 51,
        "source": REAL.get(node, node),
        "priority": PRIORITY[node] if priority is None else priority,
        "interval_ms": ADVERT_MS,
        "addresses": (FLOATING,),
        "form": "pseudo",
    }
    return AdvertSeen(**(said | rest))


def heard(node: str, kind: str, body: dict[str, Any], **rest: Any) -> PeerHeard:
    said: dict[str, Any] = {"role": "keeper", "path": 0, "boot": 9, "counter": 1, "fresh": True}
    return PeerHeard(node=node, kind=kind, body=body, **(said | rest))


def states(state: str, ready: bool, epoch: int, wanted: str = "") -> dict[str, Any]:
    return {"g": {"sbc": [state, ready, epoch, wanted]}}


def beat(
    node: str, state: str = "backup", ready: bool = True, epoch: int = 0, wanted: str = ""
) -> PeerHeard:
    return heard(node, "beat", states(state, ready, epoch, wanted))


def answer(
    node: str, number: int, state: str = "active", ready: bool = True, epoch: int = 0
) -> PeerHeard:
    return heard(node, "answer", {"id": number, **states(state, ready, epoch)})


def agent_answer(node: str, number: int) -> PeerHeard:
    """Its agent answers beside its keeper: the node is here."""
    return heard(node, "answer", {"id": number, "keeper": "lost"}, role="agent")


def neighbour(node: str) -> NeighbourSeen:
    return NeighbourSeen("eth0", REAL[node], "02:00:00:00:00:11")


def seen(address: str, mac: str = "02:00:00:00:00:99") -> NeighbourSeen:
    """Whoever has that address says so."""
    return NeighbourSeen("eth0", address, mac)


def address(present: bool, by: str = "") -> AddressSeen:
    return AddressSeen("eth0", FLOATING, present, by)


def handover(node: str, number: int = 1, epoch: int = 4) -> PeerHeard:
    return heard(node, "handover", {"group": "sbc", "id": number, "epoch": epoch})


def taken(node: str, number: int, ok: bool = True, epoch: int = 0) -> PeerHeard:
    return heard(node, "taken", {"group": "sbc", "id": number, "ok": ok, "epoch": epoch})


def still_gives(play: KeeperPlay, node: str) -> PeerHeard:
    """The giver's fresh answer to what it is being asked: it waits for the taker."""
    return answer(node, play.core.peers[node].round, "giving")


def claim(node: str) -> PeerHeard:
    return heard(node, "claim", {"group": "sbc"})


def yielded(node: str) -> PeerHeard:
    return heard(node, "yielded", {"group": "sbc", "epoch": 3})


# ---------------------------------------------------------------- what goes out

TAKE = ANY(TakeAddresses, group="sbc")
ANNOUNCE = Announce("sbc")


def says(node: str, priority: int | None = None) -> SendAdvert:
    """An advertisement of this node."""
    return SendAdvert("sbc", PRIORITY[node] if priority is None else priority)


def asks(node: str) -> ANY:
    """On every path, its keeper and its agent."""
    return ANY(SendPeer, node=node, kind="ask", agent_too=True)


def offers(node: str) -> ANY:
    return ANY(SendPeer, node=node, kind="handover")
