# SPDX-License-Identifier: GPL-2.0-or-later
"""Cores with a planted bug each: the simulator must catch every one, or it proves nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from agent.core.engine import AgentCore
from agent.core.keeper import KeeperCore
from agent.core.keeping import (
    AddressSeen,
    AdvertSeen,
    Announce,
    Keeping,
    PeerHeard,
    RefreshAddresses,
    ReleaseAddresses,
    SendAdvert,
    TakeAddresses,
    TrafficSeen,
    Woken,
    WordGiven,
)
from agent.core.model import Outcome, Severity
from agent.core.orders import KeepEpoch, Record, Tell
from tests.sim.stories import STORIES
from tests.sim.world import Cores, World

SEEDS_TRIED = 60
MINUTES = 5


class NoLifetime(KeeperCore):
    """Addresses are given to the kernel for ever."""

    def step(self, event: Any, now: int) -> list[Any]:
        return [
            replace(action, lifetime_s=0)
            if isinstance(action, TakeAddresses | RefreshAddresses)
            else action
            for action in super().step(event, now)
        ]


class NoAsking(KeeperCore):
    """A late advert is a death: nobody's answer is waited for."""

    def __init__(self, config: Keeping, now: int) -> None:
        super().__init__(replace(config, asks=1, ask_gap_ms=0), now)


class LateReplyBelieved(KeeperCore):
    """An answer to an earlier offer or question counts as one to the present."""

    def step(self, event: Any, now: int) -> list[Any]:
        if isinstance(event, PeerHeard) and event.kind in ("taken", "answer"):
            group = self.groups.get(str(event.body.get("group", "")))
            peer = self.peers[event.node]
            number = peer.round if event.kind == "answer" or group is None else group.offer_id
            event = replace(event, fresh=True, body={**event.body, "id": number})
        return super().step(event, now)


class StandbyNotReady(KeeperCore):
    """It takes "not ready" for "ready"."""

    def step(self, event: Any, now: int) -> list[Any]:
        if isinstance(event, WordGiven):
            words = {name: replace(word, ready=True) for name, word in event.words.items()}
            event = replace(event, words=words)
        return super().step(event, now)


class NeverYields(KeeperCore):
    """An owner is deaf to rivals."""

    def step(self, event: Any, now: int) -> list[Any]:
        if isinstance(event, AdvertSeen) and any(g.state == "active" for g in self.groups.values()):
            event = Woken(now)
        return super().step(event, now)


class LetsGoFirst(KeeperCore):
    """What is about to be handed over is let go before anybody has it."""

    def step(self, event: Any, now: int) -> list[Any]:
        actions = super().step(event, now)
        giving = [name for name, group in self.groups.items() if group.state == "giving"]
        return actions + [ReleaseAddresses(name) for name in giving]


class TrustsItself(KeeperCore):
    """It does not notice that it stood still."""

    def step(self, event: Any, now: int) -> list[Any]:
        return super().step(Woken(now) if isinstance(event, Woken) else event, now)


class QuietWinner(KeeperCore):
    """It announces when it takes, and never again."""

    def step(self, event: Any, now: int) -> list[Any]:
        actions = super().step(event, now)
        if any(isinstance(action, TakeAddresses) for action in actions):
            return actions
        return [action for action in actions if not isinstance(action, Announce)]


class SenseIgnored(KeeperCore):
    """Whatever it hears of its own network, it believes in its ears."""

    def step(self, event: Any, now: int) -> list[Any]:
        if isinstance(event, TrafficSeen):
            event = replace(event, packets=-1, asked=0)
        return super().step(event, now)


class CutOffStays(KeeperCore):
    """An owner that nobody reaches any more keeps what it has."""

    def fire(self, group: Any, event: str) -> None:
        if event not in ("deaf", "cut_off") and not (event == "word" and group.state == "active"):
            super().fire(group, event)


class NoDefence(KeeperCore):
    """A stranger may say what he wants."""

    def fire(self, group: Any, event: str) -> None:
        if event != "stranger":
            super().fire(group, event)


class NoProbing(KeeperCore):
    """While a peer's machine answers it waits for the RFC's time and asks for no address."""

    def step(self, event: Any, now: int) -> list[Any]:
        actions = super().step(event, now)
        for group in self.groups.values():
            group.probe_at = 0
        return actions


class PlainAsked(KeeperCore):
    """An RFC peer whose advert is late is given as long as one that can be asked."""

    def step(self, event: Any, now: int) -> list[Any]:
        if isinstance(event, Woken):
            for group in self.groups.values():
                if group.active in group.config.plain and 0 < group.late_at <= now:
                    group.late_at, group.down_at = 0, now
        return super().step(event, now)


class NoPutBack(KeeperCore):
    """What a foreign hand removed stays away until it is renewed."""

    def step(self, event: Any, now: int) -> list[Any]:
        if isinstance(event, AddressSeen) and event.by:
            event = Woken(now)
        return super().step(event, now)


class PeerBackIgnored(KeeperCore):
    """It does not say again who owns, when somebody is back who may have said otherwise."""

    def fire(self, group: Any, event: str) -> None:
        if event != "peer_back":
            super().fire(group, event)


class Shouts(KeeperCore):
    """Each advert is announced as well."""

    def step(self, event: Any, now: int) -> list[Any]:
        out = []
        for action in super().step(event, now):
            out.append(action)
            if isinstance(action, SendAdvert):
                out.append(Announce(action.group))
        return out


class EpochNotKept(AgentCore):
    """It uses epochs that never reached the disk."""

    def step(self, event: Any, now: int) -> list[Any]:
        out, todo = [], super().step(event, now)
        while todo:
            action = todo.pop(0)
            if isinstance(action, KeepEpoch):
                todo += super().step(Outcome(action.op_id, True, "stored"), now)
            else:
                out.append(action)
        return out


class NoIntents(AgentCore):
    """It acts and writes nothing down before."""

    def step(self, event: Any, now: int) -> list[Any]:
        return [
            action
            for action in super().step(event, now)
            if not (isinstance(action, Record) and action.kind == "intent")
        ]


class BlindNames(AgentCore):
    """It believes that every site answers."""

    def site_answers(self, site: str) -> bool:
        return True


class ClearsTwice(AgentCore):
    """Every clear is told twice."""

    def step(self, event: Any, now: int) -> list[Any]:
        out = []
        for action in super().step(event, now):
            out.append(action)
            if isinstance(action, Tell) and action.alarm.severity is Severity.CLEARED:
                out.append(action)
        return out


@dataclass(frozen=True, slots=True)
class Mutant:
    """story: the scripted faults that bring it out where chance is slow. rules: any may break."""

    cores: Cores
    rules: frozenset[str]
    story: str = ""

    def hunt(self) -> tuple[str, str]:
        """(the rule that it breaks, "" for none; the rule that the real core breaks there)."""
        for story in STORIES:
            if story.name == self.story:
                return story.world(self.cores).run().rule, story.world().run().rule
        for seed in range(SEEDS_TRIED):
            caught = World(seed, minutes=MINUTES, cores=self.cores).run().rule
            if caught:
                return caught, World(seed, minutes=MINUTES).run().rule
        return "", ""


def _mutant(*rules: str, story: str = "", **cores: type) -> Mutant:
    return Mutant(Cores(**cores), frozenset(rules), story)


MUTANTS = {
    "no lifetime": _mutant("no-lifetime", keeper=NoLifetime),
    "takeover without asking": _mutant(
        "taken-from-the-well", "flap", "unserved-long", keeper=NoAsking, story="bad-cable"
    ),
    "epoch not kept": _mutant("epoch-not-kept", "epoch-reused", agent=EpochNotKept),
    "late reply believed": _mutant("let-go", keeper=LateReplyBelieved, story="late-reply"),
    "standby not ready": _mutant("not-ready", keeper=StandbyNotReady),
    "never yields": _mutant("two-owners", "taken-from-the-well", keeper=NeverYields),
    "lets go first": _mutant("let-go", "taken-from-the-well", keeper=LetsGoFirst),
    "trusts itself": _mutant("flap", keeper=TrustsItself, story="short-freeze"),
    "quiet winner": _mutant(
        "back-unannounced", "undefended", "client-misled", "unserved-long", keeper=QuietWinner
    ),
    "sense ignored": _mutant("deaf-taker", keeper=SenseIgnored, story="isolated-backup"),
    "cut off and stays": _mutant("cut-off-owner", keeper=CutOffStays, story="silent-port"),
    "no defence": _mutant("undefended", keeper=NoDefence, story="stranger"),
    "no probing": _mutant("unserved-long", keeper=NoProbing, story="held-and-gone"),
    "plain peer asked": _mutant(
        "taken-from-the-well", keeper=PlainAsked, story="plain-on-bad-cable"
    ),
    "no putting back": _mutant("not-put-back", keeper=NoPutBack, story="foreign-hand"),
    "peer back ignored": _mutant(
        "back-unannounced", keeper=PeerBackIgnored, story="isolated-backup"
    ),
    "shouts": _mutant("announcement-storm", keeper=Shouts, story="foreign-hand"),
    "no intents": _mutant("not-journalled", agent=NoIntents),
    "blind names": _mutant("dns-to-the-dead", agent=BlindNames, story="world-to-the-broken"),
    "clears twice": _mutant("clear-unpaired", agent=ClearsTwice),
}
