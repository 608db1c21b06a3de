# SPDX-License-Identifier: GPL-2.0-or-later
"""A small agent for cold groups that must never run twice: it claims, starts, stops and gives.

It keeps to what a lease asks of an agent: it wants the lease until its services were seen to be
stopped, kills them at the lease's end whether the keeper says so or not, and never forgets to store
that it let a group go before another node may have it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from agent.core.model import Asked, Checked, GroupDeed, KeeperSaid, Outcome, Ticked, Word
from agent.core.orders import ControlService, FenceNode, KeepEpoch, Record, TellKeeper
from agent.core.settings import Exclusive, GroupSettings, Settings

HELD = ("active", "doubt", "giving")
LOOKING, IDLE, CLAIMING, STARTING = "looking", "idle", "claiming", "starting"
SERVING, STOPPING, LEAVING = "serving", "stopping", "leaving"
RUNNING = (STARTING, SERVING)
TICK_MS = 250
RESERVE = 16
START_WITHIN_MS = 20_000
CLAIM_FOR_MS = 4_000
SICK_FOR_MS = 10_000
FENCE_AGAIN_MS = 3_000
GIVE_WITHIN_MS = 15_000
NO_WORD_MS = 600
WITHIN_MS = 30_000


@dataclass
class Part:
    """A group on this node."""

    settings: GroupSettings
    ceiling: int
    epoch: int
    owned: int
    left: int
    state: str = LOOKING
    since_ms: int = 0
    running: bool | None = None  # None: not looked at yet
    alive: bool = False
    until_ms: int = 0
    unheld_ms: int = 0  # since when the keeper says no lease, while it runs
    to: str = ""
    given: bool = False
    had: bool = False
    sick_until: int = 0
    fence_at: int = 0
    fenced: set[str] = field(default_factory=set)
    ops: dict[str, int] = field(default_factory=dict)  # what is under way -> its number

    @property
    def last(self) -> bool:
        return self.owned > self.left


class ScriptedAgent:
    """`step(event, now)`, `deadline()`, as the real core."""

    def __init__(
        self, settings: Settings, epochs: dict[str, int], now: int, history: Any = None,
        standing: Any = (),
    ) -> None:  # fmt: skip
        self.settings = settings
        self.now = now
        self.words_ms = now
        self.said: KeeperSaid | None = None
        self.told: dict[str, Word] = {}
        self.out: list[Any] = []
        self.numbers: dict[int, tuple[str, Part, Any]] = {}
        self.next = 0
        self.tick_at = now
        self.parts = {
            it.name: Part(it, *(epochs.get(f"{key}:{it.name}", 0) for key in KEYS))
            for it in settings.own_groups()
        }

    def deadline(self) -> int:
        ends = [it.until_ms for it in self.parts.values() if it.state in RUNNING and it.until_ms]
        return min([self.tick_at, *ends])

    def step(self, event: Any, now: int) -> list[Any]:
        self.now = self.words_ms = now
        self.out = []
        if isinstance(event, KeeperSaid):
            self.said = event
            for part in self.parts.values():
                self._hear(part, event.groups.get(part.settings.name))
        elif isinstance(event, Outcome):
            self._outcome(event)
        elif isinstance(event, Asked):
            self._asked(event.verb, event.args)
        elif isinstance(event, Checked):
            self.parts[event.group].alive = event.answer.ok is True
        elif isinstance(event, Ticked):
            self.tick_at = now + TICK_MS
            for part in self.parts.values():
                if part.state in RUNNING and part.until_ms and now >= part.until_ms:
                    self._stop(part)
        for part in self.parts.values():
            self._reserve(part)
            THINK[part.state](self, part)
        self._speak()
        return self.out

    def _asked(self, verb: str, args: dict[str, Any]) -> None:
        """An operator at its socket."""
        part = self.parts.get(args.get("group", ""))
        if verb == "switchover" and part is not None and part.state == SERVING:
            to = args["to"]
            if to in part.settings.nodes and to != self.settings.node and self._alive(to):
                part.to = to
                self._become(part, LEAVING)
                self._control(part, "stop")

    # ------------------------------------------------------------ what is heard

    def _hear(self, part: Part, deed: GroupDeed | None) -> None:
        if deed is None:
            return
        part.epoch = max(part.epoch, deed.epoch)
        if deed.lease == "held":
            part.until_ms, part.unheld_ms = deed.lease_until_ms, 0
        elif not part.unheld_ms:
            part.unheld_ms = self.now
        if deed.tenure:
            part.had = True
            if deed.tenure > part.owned:
                part.owned = deed.tenure  # at once: whoever asks us now must be refused
                self._keep(part, "owned", deed.tenure)
        self.peers_back(part)
        if part.state not in RUNNING:
            return
        gone = part.unheld_ms and not part.until_ms and self.now - part.unheld_ms > NO_WORD_MS
        if deed.lease == "lost" or gone:
            self._stop(part)

    def peers_back(self, part: Part) -> None:
        part.fenced = {node for node in part.fenced if not self._alive(node)}

    def _outcome(self, event: Outcome) -> None:
        what, part, detail = self.numbers.pop(event.op_id, ("", None, None))
        if part is None:
            return
        if part.ops.get(what) == event.op_id:
            del part.ops[what]
        OUTCOMES[what](self, part, detail, event)

    def _stored(self, part: Part, detail: Any, event: Outcome) -> None:
        key, value = detail
        if not event.ok:
            return
        if key == "group":
            part.ceiling = max(part.ceiling, value)
        elif key == "left":
            part.left = max(part.left, value)

    def _controlled(self, part: Part, verb: str, event: Outcome) -> None:
        if verb == "status":
            part.running = event.facts.get("running", part.running)
        elif verb in ("stop", "kill") and event.ok:
            part.running = part.alive = False
        elif verb == "start" and event.ok:
            part.running = True
        elif verb == "start" and part.state == STARTING:
            part.sick_until = self.now + SICK_FOR_MS
            self._stop(part)

    def _fenced(self, part: Part, node: str, event: Outcome) -> None:
        if event.ok:
            part.fenced.add(node)

    # ------------------------------------------------------------ what is thought, by state

    def _looking(self, part: Part) -> None:
        """A new agent: does it run here, and may it?"""
        deed = self._deed(part)
        if part.running is None and "control" not in part.ops:
            self._control(part, "status")
        if deed is None or part.running is None:
            return
        if not part.running:
            self._become(part, IDLE)
        elif self._holds(deed):
            self._become(part, SERVING)
        else:
            self._stop(part)

    def _idle(self, part: Part) -> None:
        deed = self._deed(part)
        part.until_ms = 0
        if deed is None or self.now < part.sick_until:
            if part.last and deed is not None and not deed.tenure:
                self._keep_left(part)
            return
        if part.last and deed.active not in ("", self.settings.node) and not deed.orphaned:
            self._keep_left(part)
        if deed.orphaned or self._wanted(part) or deed.tenure:
            self._become(part, CLAIMING)

    def _claiming(self, part: Part) -> None:
        deed = self._deed(part)
        if deed is None:
            return
        if self._holds(deed):
            self._become(part, STARTING)
            part.alive = False
            self._control(part, "start")
        elif self.now - part.since_ms > CLAIM_FOR_MS and not (deed.orphaned or self._wanted(part)):
            self._become(part, IDLE)
        elif deed.lease == "refused" and self.now >= part.fence_at:
            self._fence(part)

    def _fence(self, part: Part) -> None:
        nodes, said = self.settings.nodes, self.said
        for node in part.settings.nodes:
            silent = said is not None and node in said.peers and said.peers[node].state == "silent"
            if silent and nodes[node].fence is not None and node not in part.fenced:
                part.fence_at = self.now + FENCE_AGAIN_MS
                op_id = self._begin("fence", part, node)
                self.out.append(FenceNode(op_id, node, "off", WITHIN_MS))

    def _starting(self, part: Part) -> None:
        deed = self._deed(part)
        if deed is not None and deed.state in HELD and part.alive:
            self._become(part, SERVING)
        elif self.now - part.since_ms > START_WITHIN_MS:
            part.sick_until = self.now + SICK_FOR_MS
            self._stop(part)

    def _serving(self, part: Part) -> None:
        deed = self._deed(part)
        if deed is not None and part.had and deed.state not in HELD:
            self._stop(part)  # the addresses went elsewhere, and so does the rest
        elif part.running is False or (not part.alive and self.now - part.since_ms > WITHIN_MS):
            self._stop(part)

    def _stopping(self, part: Part) -> None:
        if part.running is False:
            part.had = False
            self._become(part, IDLE)
        elif "control" not in part.ops:
            self._control(part, "kill")

    def _leaving(self, part: Part) -> None:
        """Stopped, stored, then released and given: in this order."""
        deed = self._deed(part)
        if part.running is not False:
            if "control" not in part.ops:
                self._control(part, "kill")
        elif part.last:
            self._keep_left(part)
        elif not part.given:
            part.given = True
            part.since_ms = self.now
        elif deed is not None and (
            deed.state not in HELD or self.now - part.since_ms > GIVE_WITHIN_MS
        ):
            part.given = part.had = False
            part.to = ""
            self._become(part, IDLE)

    # ------------------------------------------------------------ what is done

    def _become(self, part: Part, state: str) -> None:
        part.state, part.since_ms = state, self.now

    def _stop(self, part: Part) -> None:
        self._become(part, STOPPING)
        self._control(part, "kill")

    def _deed(self, part: Part) -> GroupDeed | None:
        return self.said.groups.get(part.settings.name) if self.said is not None else None

    def _holds(self, deed: GroupDeed) -> bool:
        """A keeper that died said so until its end, and then nobody did."""
        until_ms = deed.lease_until_ms
        return deed.lease == "held" and (not until_ms or self.now < until_ms)

    def _alive(self, node: str) -> bool:
        return (
            self.said is not None
            and node in self.said.peers
            and self.said.peers[node].state == "alive"
        )

    def _wanted(self, part: Part) -> bool:
        said, me = self.said, self.settings.node
        return said is not None and any(
            peer.state == "alive" and peer.wanted.get(part.settings.name) == me
            for peer in said.peers.values()
        )

    def _begin(self, what: str, part: Part, detail: Any) -> int:
        self.next += 1
        self.numbers[self.next] = (what, part, detail)
        part.ops[what] = self.next
        where = f"group {part.settings.name}"
        self.out.append(Record("intent", where, f"{what} {detail}", {"op_id": self.next}))
        return self.next

    def _control(self, part: Part, verb: str) -> None:
        if verb not in ("status", "start"):
            part.running = None
        service = part.settings.services[0].name
        op_id = self._begin("control", part, verb)
        self.out.append(ControlService(op_id, part.settings.name, service, verb, WITHIN_MS))

    def _keep(self, part: Part, key: str, value: int) -> None:
        op_id = self._begin(f"keep {key}", part, (key, value))
        self.out.append(KeepEpoch(op_id, f"{key}:{part.settings.name}", value))

    def _keep_left(self, part: Part) -> None:
        if "keep left" not in part.ops:
            self._keep(part, "left", max(part.epoch, part.owned))

    def _reserve(self, part: Part) -> None:
        if part.ceiling - part.epoch < RESERVE // 2 and "keep group" not in part.ops:
            self._keep(part, "group", part.epoch + RESERVE)

    def _speak(self) -> None:
        if self.said is None:
            return
        words = {name: self._word(part) for name, part in self.parts.items()}
        if any(part.state == LOOKING for part in self.parts.values()):
            return  # the keeper goes on with the last word
        if words != self.told:
            self.told = words
            self.out.append(TellKeeper(dict(words)))

    def _word(self, part: Part) -> Word:
        given = part.state == LEAVING and part.given
        claim = part.state in (CLAIMING, STARTING, SERVING, STOPPING, LEAVING) and not given
        ready = part.state in RUNNING and part.alive and part.running is True
        able = part.state == IDLE and self.now >= part.sick_until
        last = part.last and self.settings.groups[part.settings.name].exclusive is Exclusive.LEASE
        return Word(
            ready, "give" if given else "", part.to, part.ceiling, part.epoch, part.state,
            part.alive, able, claim, last, tuple(sorted(part.fenced)),
        )  # fmt: skip


KEYS = ("group", "group", "owned", "left")
THINK = {
    LOOKING: ScriptedAgent._looking,
    IDLE: ScriptedAgent._idle,
    CLAIMING: ScriptedAgent._claiming,
    STARTING: ScriptedAgent._starting,
    SERVING: ScriptedAgent._serving,
    STOPPING: ScriptedAgent._stopping,
    LEAVING: ScriptedAgent._leaving,
}
OUTCOMES = {
    "control": ScriptedAgent._controlled,
    "fence": ScriptedAgent._fenced,
    "keep group": ScriptedAgent._stored,
    "keep owned": ScriptedAgent._stored,
    "keep left": ScriptedAgent._stored,
}
