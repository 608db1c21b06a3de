# SPDX-License-Identifier: GPL-2.0-or-later
"""Fencing: when a node counts as switched off from outside, and when that may be tried at all.

A node has one feed or several. It is off when every feed is seen off in one and the same look, with
no command waiting; nothing is inferred from a command that was accepted. No feed is commanded
before each of them was seen: half of a node's power gone is worse than none.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

PATIENCE_MS = 3_000  # a device that took a command has so long before it is given again
TEST_EVERY_MS = 3_600_000
TEST_AGAIN_MS = 60_000  # after one that failed
TEST_MAX_AGE_MS = 3 * TEST_EVERY_MS


class Sight(StrEnum):
    """What a device says of one feed. WAITS: a command is on its way, so it will not stay."""

    ON = "on"
    OFF = "off"
    ON_WAITS = "on, a command waits"
    OFF_WAITS = "off, a command waits"
    UNKNOWN = "unknown"


class Step(StrEnum):
    """What to do with a feed next."""

    HOLD = "hold"  # it is as wanted
    LOOK = "look"
    COMMAND = "command"
    CLEAR = "clear"  # take back what waits, then command


class Stand(StrEnum):
    """A sight, measured against what is wanted."""

    THERE = "there"
    LEAVING = "leaving"  # as wanted, but something waits
    ELSEWHERE = "elsewhere"
    COMING = "coming"  # not as wanted, but something waits
    DARK = "dark"


STANDS = {
    Sight.OFF: Stand.THERE,
    Sight.OFF_WAITS: Stand.LEAVING,
    Sight.ON: Stand.ELSEWHERE,
    Sight.ON_WAITS: Stand.COMING,
    Sight.UNKNOWN: Stand.DARK,
}
OPPOSITE = {
    Sight.OFF: Sight.ON,
    Sight.OFF_WAITS: Sight.ON_WAITS,
    Sight.ON: Sight.OFF,
    Sight.ON_WAITS: Sight.OFF_WAITS,
    Sight.UNKNOWN: Sight.UNKNOWN,
}
STEPS = {  # stand: before it was commanded, just after, and when patience is over
    Stand.THERE: (Step.HOLD, Step.HOLD, Step.HOLD),
    Stand.LEAVING: (Step.CLEAR, Step.LOOK, Step.CLEAR),
    Stand.ELSEWHERE: (Step.COMMAND, Step.LOOK, Step.COMMAND),
    Stand.COMING: (Step.CLEAR, Step.LOOK, Step.LOOK),  # a delay of the device's own, begun anew
    Stand.DARK: (Step.LOOK, Step.LOOK, Step.LOOK),  # by each command, would never end
}


@dataclass(slots=True)
class Feed:
    """One feed on its way. sight: of the present round."""

    name: str
    sight: Sight = Sight.UNKNOWN
    last: Sight = Sight.UNKNOWN  # of the last round in which it answered
    trouble: str = ""
    asked_ms: int | None = None
    refused: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """ok True: seen as wanted. False: a clear no, or a device that lies. None: not known."""

    ok: bool | None
    text: str
    lies: bool = False


class Switching:
    """A node is being switched `off` or on. The shell asks for steps and says what it sees."""

    def __init__(self, feeds: Iterable[str], off: bool, now: int, within_ms: int) -> None:
        self.feeds = {name: Feed(name) for name in feeds}
        self.deadline_ms = now + within_ms
        self._off = off

    def begin_round(self) -> None:
        """What was seen before is no evidence for this look."""
        for feed in self.feeds.values():
            feed.sight = Sight.UNKNOWN

    def hear(self, name: str, sight: Sight, trouble: str = "") -> None:
        """What a device said of a feed; UNKNOWN with what was in the way."""
        feed = self.feeds[name]
        feed.sight, feed.trouble = sight, trouble
        if sight is not Sight.UNKNOWN:
            feed.last = sight

    def asked(self, name: str, now: int) -> None:
        """It was commanded, or may have been: no answer came."""
        self.feeds[name].asked_ms = now

    def refuse(self, name: str, why: str) -> None:
        """A clear no: trying again is useless."""
        self.feeds[name].refused = why

    def step(self, name: str, now: int) -> Step:
        feed = self.feeds[name]
        before, after, later = STEPS[self._stand(feed.sight)]
        if feed.asked_ms is None:
            return before if self._all_seen() else Step.LOOK
        return later if now - feed.asked_ms >= PATIENCE_MS else after

    def over(self, now: int) -> bool:
        """Whether there is nothing left to do: as wanted, refused, or out of time."""
        refused = any(feed.refused for feed in self.feeds.values())
        return self._all_there() or refused or now >= self.deadline_ms

    def verdict(self) -> Verdict:
        """After the last round."""
        seen = ", ".join(self._told(feed) for feed in self.feeds.values())
        if any(feed.refused for feed in self.feeds.values()):
            return Verdict(False, seen)
        if self._all_there():
            return Verdict(True, seen)
        missing = [feed for feed in self.feeds.values() if self._stand(feed.sight) != Stand.THERE]
        if all(feed.asked_ms and self._stand(feed.sight) is Stand.ELSEWHERE for feed in missing):
            return Verdict(False, seen, lies=True)
        return Verdict(None, seen)

    def _stand(self, sight: Sight) -> Stand:
        return STANDS[sight if self._off else OPPOSITE[sight]]

    def _all_seen(self) -> bool:
        return all(feed.last is not Sight.UNKNOWN for feed in self.feeds.values())

    def _all_there(self) -> bool:
        return all(self._stand(feed.sight) is Stand.THERE for feed in self.feeds.values())

    def _told(self, feed: Feed) -> str:
        text = f"{feed.name} is {feed.sight}"
        why = feed.refused or feed.trouble
        if feed.sight is Sight.UNKNOWN and feed.last is not Sight.UNKNOWN:
            text += f", was {feed.last}"
        if feed.asked_ms is not None and self._stand(feed.sight) is Stand.ELSEWHERE:
            text += " although it was commanded"
        return f"{text} ({why})" if why else text


@dataclass(slots=True)
class Arm:
    """The state of one node's fence. tested_ms: of the last test that passed, None: none did."""

    tested_ms: int | None = None
    asked_ms: int | None = None
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class ArmStanding:
    """For people. state: armed disarmed. age_ms: of the last test that passed."""

    node: str
    state: str
    detail: str
    age_ms: int | None


@dataclass(slots=True)
class Arming:
    """Which nodes may be fenced without a human: only where a test has passed, and lately.

    A test that could not be made lets the last one age; one that failed disarms at once. A new
    configuration starts disarmed.
    """

    nodes: tuple[str, ...]
    valid: bool  # the configuration on disk was accepted as a whole
    _arms: dict[str, Arm] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._arms = {node: Arm() for node in self.nodes}

    def asked(self, node: str, now: int) -> None:
        """A test has begun."""
        self._arms[node].asked_ms = now

    def tested(self, node: str, ok: bool | None, detail: str, now: int) -> None:
        arm = self._arms[node]
        if ok:
            arm.tested_ms, arm.trouble = now, ""
            return
        arm.trouble = detail
        if ok is False:
            arm.tested_ms = None

    def why(self, node: str, now: int) -> str:
        """Why this node may not be fenced by itself; "" where it may."""
        arm = self._arms.get(node)
        if arm is None:
            return f"node.{node}.fence is not configured"
        if not self.valid:
            return "the configuration on disk was refused: mend it (standpipe check)"
        if arm.tested_ms is None:
            return arm.trouble or "not tested yet"
        age_ms = now - arm.tested_ms
        if age_ms > TEST_MAX_AGE_MS:
            return f"last tested {age_ms // 60_000} min ago" + (
                f": {arm.trouble}" if arm.trouble else ""
            )
        return ""

    def due(self, now: int) -> list[str]:
        """Nodes whose fence should be tested now."""
        return [node for node, arm in self._arms.items() if self._due_ms(arm, now) <= now]

    def deadline(self, now: int) -> int | None:
        """When the next test is due."""
        return min((self._due_ms(arm, now) for arm in self._arms.values()), default=None)

    def complaints(self, now: int) -> dict[str, str]:
        """Node -> what to say in the alarm fence-unready; a first test is waited for."""
        return {
            node: why
            for node, arm in self._arms.items()
            if (why := self.why(node, now)) and (arm.trouble or arm.tested_ms or not self.valid)
        }

    def table(self, now: int) -> tuple[ArmStanding, ...]:
        return tuple(
            ArmStanding(
                node,
                "disarmed" if (why := self.why(node, now)) else "armed",
                why or arm.trouble,
                None if arm.tested_ms is None else now - arm.tested_ms,
            )
            for node, arm in self._arms.items()
        )

    def _due_ms(self, arm: Arm, now: int) -> int:
        if arm.asked_ms is None:
            return now
        again = TEST_AGAIN_MS if arm.trouble or arm.tested_ms is None else TEST_EVERY_MS
        return arm.asked_ms + again
