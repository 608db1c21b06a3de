# SPDX-License-Identifier: GPL-2.0-or-later
"""What agents do, looked at by the judge: the journal, the names, the alarms, the answers."""

from __future__ import annotations

from collections import defaultdict, deque
from typing import TYPE_CHECKING

from agent.core.model import Alarm, Severity
from agent.core.orders import ControlService, KeepEpoch, Record, Reply, UpdateNames

if TYPE_CHECKING:
    from tests.sim.agent import AgentProcess
    from tests.sim.world import World

ANSWERED_MS = 30_000
MOST_ORDERS = 10
ORDERS_MS = 120_000


class Violation(AssertionError):
    """An invariant did not hold. rule: its short name."""

    def __init__(self, rule: str, at_ms: int, text: str) -> None:
        super().__init__(f"{at_ms / 1000:.3f} s: {rule}: {text}")
        self.rule = rule


class Deeds:
    """The agents' part of the judge. `left_ms`: (group, node) -> when it last held the group."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.agenda = world.agenda
        self.left_ms: dict[tuple[str, str], int] = {}
        self.asked: dict[int, bool] = {}
        self.zone_epoch: dict[str, int] = {}
        self.orders: defaultdict[tuple[str, str], deque[int]] = defaultdict(
            lambda: deque(maxlen=MOST_ORDERS)
        )

    def fail(self, rule: str, text: str) -> None:
        raise Violation(rule, self.agenda.now, text)

    def agent_began(self, process: AgentProcess) -> None:
        process.intents = set()

    def recorded(self, process: AgentProcess, action: Record) -> None:
        if action.kind == "intent":
            process.intents.add(action.detail["op_id"])

    def acting(
        self, process: AgentProcess, action: ControlService | KeepEpoch | UpdateNames
    ) -> None:
        """Written down before it takes effect."""
        if action.op_id not in process.intents:
            self.fail("not-journalled", f"{process.node.name} does {action} and wrote no intent")
        process.intents.discard(action.op_id)
        if isinstance(action, ControlService):
            self._restless(process.node.name, action.group)

    def _restless(self, node: str, group: str) -> None:
        """Starting and stopping a service for ever helps nobody; each fault excuses some of it."""
        orders = self.orders[node, group]
        others = [name for name in self.world.town.groups[group].nodes if name != node]
        troubled = any(self.world.network.troubled(node, other) for other in others)
        if troubled or (orders and orders[-1] < self.world.disturbed_ms):
            orders.clear()
        orders.append(self.agenda.now)
        if len(orders) == MOST_ORDERS and orders[-1] - orders[0] < ORDERS_MS:
            self.fail("restless", f"{node} gave {MOST_ORDERS} orders for {group} in {ORDERS_MS} ms")

    def names_written(self, process: AgentProcess, action: UpdateNames) -> None:
        before = self.zone_epoch.get(action.geo, 0)
        if action.epoch <= before:
            self.fail("dns-epoch", f"{action.geo}: epoch {action.epoch} after {before}")
        self.zone_epoch[action.geo] = action.epoch
        group = self.world.town.geos[action.geo].groups[action.site]
        if not self._answered(group):
            self.fail(
                "dns-to-the-dead",
                f"{process.node.name} sends {action.geo} to {action.site}, "
                f"where nobody serves {group}",
            )

    def _answered(self, group: str) -> bool:
        """Somebody serves it, or did until just now."""
        now = self.agenda.now
        for name in self.world.town.groups[group].nodes:
            node = self.world.nodes[name]
            held = group in node.kernel.held
            recently = now - self.left_ms.get((group, name), -ANSWERED_MS) < ANSWERED_MS
            for (owner, _), service in node.services.items():
                alive = service.alive or now - service.bad_since < ANSWERED_MS
                if owner == group and alive and (held or recently):
                    return True
        return False

    def alarming(self, process: AgentProcess, alarm: Alarm) -> None:
        """Raises and clears come in pairs."""
        standing = process.standing.get(alarm.alarm_id)
        if alarm.severity is Severity.CLEARED:
            if standing is None:
                self.fail("clear-unpaired", f"{process.node.name}: {alarm.alarm_id} never raised")
            del process.standing[alarm.alarm_id]
        else:
            process.standing[alarm.alarm_id] = alarm.severity

    def replied(self, process: AgentProcess, action: Reply) -> None:
        """A request ends once."""
        if action.ok is not None:
            if self.asked.get(action.request_id):
                self.fail("replied-twice", f"request {action.request_id}: {action.text}")
            self.asked[action.request_id] = True
