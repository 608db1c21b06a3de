# SPDX-License-Identifier: GPL-2.0-or-later
"""A seed told to people: what came in, what was decided, what was done, in order of true time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

from agent.core.keeping import (
    AddressAsked,
    AdvertSeen,
    AskNeighbour,
    NeighbourSeen,
    PeerHeard,
    RefreshAddresses,
    Report,
    SendAdvert,
    SendPeer,
    Sense,
    TrafficSeen,
    Woken,
    WordGiven,
)
from agent.core.model import Checked, KeeperSaid, Sampled, Ticked
from agent.core.orders import Record, TellKeeper
from tests.sim.process import Process

ROUTINE_EVENTS = (
    AddressAsked, AdvertSeen, Checked, KeeperSaid, NeighbourSeen, PeerHeard, Sampled, Ticked,
    TrafficSeen, Woken, WordGiven,
)  # fmt: skip
ROUTINE_ACTIONS = (AskNeighbour, RefreshAddresses, SendAdvert, Sense)
ROUTINE_KINDS = ("beat", "ask", "answer")


class Trace:
    """A witness of a world. full: routine too (beats, adverts, checks that change nothing)."""

    def __init__(
        self,
        say: Callable[[str], None],
        full: bool = False,
        from_ms: int = 0,
        to_ms: int | None = None,
    ) -> None:
        self.say = say
        self.full = full
        self.from_ms = from_ms
        self.to_ms = to_ms

    def witness(self, process: Process, now: int, event: Any, actions: list[Any]) -> None:
        """One step of one core."""
        true_ms = process.agenda.now
        if not self.wanted(true_ms):
            return
        told = [a for a in actions if self.full or not _routine_action(a)]
        if not told and not self.full and isinstance(event, ROUTINE_EVENTS):
            return
        self.line(true_ms, f"{process.node.name} {process.role:6} {_short(event)}")
        for action in told:
            self.say(f"{'':24}-> {_short(action)}")
            if isinstance(action, Report):
                for one in action.said.decisions:
                    self.say(
                        f"{'':27}{one.machine}: {one.rule} {one.before} -> {one.after}: {one.why}"
                    )

    def wanted(self, true_ms: int) -> bool:
        return self.from_ms <= true_ms and (self.to_ms is None or true_ms <= self.to_ms)

    def note(self, true_ms: int, text: str) -> None:
        """What the world does by itself."""
        if self.wanted(true_ms):
            self.line(true_ms, text)

    def line(self, true_ms: int, text: str) -> None:
        self.say(f"{true_ms / 1000:9.3f} {text}")


def _routine_action(action: Any) -> bool:
    if isinstance(action, SendPeer):
        return action.kind in ROUTINE_KINDS
    if isinstance(action, Report):
        return not action.said.decisions
    if isinstance(action, Record):  # the keeper's decisions are told where they are made
        return action.kind == "decision" and action.subject.startswith(("group", "peer"))
    return isinstance(action, ROUTINE_ACTIONS)


def _short(thing: Any) -> str:
    """Its name and the fields that say something."""
    name = type(thing).__name__
    if isinstance(thing, Report | KeeperSaid):
        said = thing.said if isinstance(thing, Report) else thing
        groups = ", ".join(f"{g} {d.state} epoch {d.epoch}" for g, d in said.groups.items())
        peers = ", ".join(f"{p} {d.state}" for p, d in said.peers.items())
        return f"{name} [{groups}] [{peers}]"
    if isinstance(thing, WordGiven | TellKeeper):
        words = ", ".join(
            f"{g} {'ready' if w.ready else 'not ready'} {w.order}{w.to} <={w.ceiling} {w.why}"
            for g, w in thing.words.items()
        )
        return f"{name} [{words}]"
    if isinstance(thing, Record):
        return f"{name} {thing.kind} {thing.subject}: {thing.text}"
    values = (f"{f.name}={getattr(thing, f.name)}" for f in fields(thing))
    return f"{name} {' '.join(value for value in values if not value.endswith('='))}"
