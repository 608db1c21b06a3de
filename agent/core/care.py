# SPDX-License-Identifier: GPL-2.0-or-later
"""How one service is looked after: asked, restarted within its budget, given up, stopped.

States: OFF (must not run here: a cold standby), FRESH (the agent has just begun to ask), STARTING,
PROVING (started, not yet heard to be alive), WELL, RESTARTING, SPENT (the restarts did not help),
STOPPING.
"""

from collections.abc import Callable

from agent.core.budget import Budget
from agent.core.health import CheckHealth, combine
from agent.core.model import Health
from agent.core.settings import ServiceSettings
from agent.core.table import Row, Table

OFF, FRESH, STARTING, PROVING = "off", "fresh", "starting", "proving"
WELL, RESTARTING, SPENT, STOPPING = "well", "restarting", "spent", "stopping"
STATES = (OFF, FRESH, STARTING, PROVING, WELL, RESTARTING, SPENT, STOPPING)
STOP_AGAIN_MS = 5_000

ROWS = (
    Row("C-WANTED", OFF, "wanted", (), STARTING, ("start",), "this node is to serve: start it"),
    Row("C-SERVES", OFF, "serving", (), FRESH, (),
        "this node has the addresses, so the service is meant to run: an earlier agent started it"),
    Row("C-STARTED", STARTING, "done", (), PROVING, ("prove",), "started: now it must answer"),
    Row("C-START-UNKNOWN", STARTING, "unknown", (), PROVING, ("prove",),
        "the start timed out, which is not a no: its answers will tell"),
    Row("C-START-AGAIN", STARTING, "failed", ("budget",), "", ("spend", "start"), "try once more"),
    Row("C-NO-START", STARTING, "failed", (), SPENT, ("rest",), "it will not start here"),
    Row("C-ALIVE", PROVING, "up", (), WELL, ("settle",), "it answers"),
    Row("C-UNASKED", PROVING, "late", ("nothing_to_ask",), WELL, ("settle",),
        "there is nothing to ask of it here"),
    Row("C-MUTE", PROVING, "late", ("may_act", "budget"), RESTARTING, ("spend", "restart"),
        "started, but it does not answer: restart it"),
    Row("C-MUTE-SPENT", PROVING, "late", ("may_act",), SPENT, ("rest",),
        "started again and again, and it does not answer"),
    Row("C-MUTE-LET", PROVING, "late", (), "", ("prove",),
        "maintenance: nothing is done by itself"),
    Row("C-FRESH-UP", FRESH, "up", (), WELL, ("settle",), "it answers"),
    Row("C-FRESH-DOWN", FRESH, "down", ("may_act", "budget"), RESTARTING, ("spend", "restart"),
        "it does not answer: restart it"),
    Row("C-FRESH-SPENT", FRESH, "down", ("may_act",), SPENT, ("rest",), "no restart is left"),
    Row("C-FRESH-LET", FRESH, "down", (), WELL, (), "maintenance: it is only watched"),
    Row("C-DOWN", WELL, "down", ("may_act", "budget"), RESTARTING, ("spend", "restart"),
        "it stopped answering, perhaps a passing fault: restart it"),
    Row("C-DOWN-SPENT", WELL, "down", ("may_act",), SPENT, ("rest",),
        "it stopped answering and no restart is left: it is not a passing fault"),
    Row("C-DOWN-LET", WELL, "down", (), "", (), "maintenance: it is only watched"),
    Row("C-RESTARTED", RESTARTING, "done", (), PROVING, ("prove",),
        "restarted: now it must answer"),
    Row("C-RESTART-UNKNOWN", RESTARTING, "unknown", (), PROVING, ("prove",),
        "the restart timed out, which is not a no: its answers will tell"),
    Row("C-RESTART-AGAIN", RESTARTING, "failed", ("budget",), "", ("spend", "restart"),
        "the restart failed: once more"),
    Row("C-RESTART-SPENT", RESTARTING, "failed", (), SPENT, ("rest",), "the restarts do not help"),
    Row("C-BACK", SPENT, "up", (), WELL, ("settle",), "it answers again, by whatever hand"),
    Row("C-FORGIVEN", SPENT, "late", ("may_act", "budget"), RESTARTING, ("spend", "restart"),
        "a restart was forgiven by time: use it"),
    Row("C-STILL-SPENT", SPENT, "late", (), "", ("rest",), "no restart is left yet", quiet=True),
    Row("C-CLEARED", SPENT, "cleared", (), RESTARTING, ("spend", "restart"),
        "an operator has looked: the whole budget is there again"),
    Row("C-STOPPED-WANTED", STOPPING, "done", ("needed",), STARTING, ("start",),
        "stopped, and needed here after all: start it again"),
    Row("C-STOPPED", STOPPING, "done", (), OFF, ("settle",), "stopped, and seen to be"),
    Row("C-STOP-LOOK", STOPPING, "unknown", (), "", ("look",),
        "the stop timed out: look whether it runs before deciding"),
    Row("C-STOP-AGAIN", STOPPING, "failed", (), "", ("stop_later",),
        "the stop failed: it has an owner"),
    Row("C-STOP-NOW", STOPPING, "late", (), "", ("stop",), "try to stop it again"),
    Row("C-STOP-WANTED", STOPPING, "wanted", (), "", ("need",),
        "needed here after all: let it end first"),
    Row("C-STOP-SERVES", STOPPING, "serving", (), "", ("need",),
        "this node has the addresses again: let the stop end first"),
    Row("C-UNWANTED-OFF", OFF, "unwanted", (), "", (), "it does not run here", quiet=True),
    Row("C-UNWANTED-ON", STOPPING, "unwanted", (), "", ("need_not",),
        "it is being stopped", quiet=True),
    Row("C-UNWANTED", "*", "unwanted", (), STOPPING, ("need_not", "stop"),
        "another node serves: a cold standby does not run"),
)  # fmt: skip

Order = Callable[["Care", str, int], int]


class Care:
    """One service on this node. `order` carries out a verb and returns its op_id."""

    __slots__ = (
        "budget",
        "checks",
        "detail",
        "group",
        "late_at",
        "may_act",
        "needed",
        "now",
        "op_id",
        "order",
        "serving",
        "settings",
        "state",
    )

    def __init__(self, group: str, settings: ServiceSettings, order: Order, standby: str) -> None:
        self.group = group
        self.settings = settings
        self.order = order
        self.checks = {check.name: CheckHealth(check) for check in settings.checks}
        self.budget = Budget(settings.restarts, settings.restarts_in_ms)
        self.state = OFF if standby == "cold" else FRESH
        self.may_act = True
        self.serving = False  # this node is active: answers at the floating address are its own
        self.needed = False  # once it has stopped
        self.op_id = 0
        self.late_at = 0
        self.now = 0
        self.detail = ""

    def health(self, now: int) -> Health:
        """Of the checks that this node can be judged by; DOWN while it is not supposed to run."""
        if self.state in (OFF, STOPPING):
            return Health.DOWN
        return combine(check.judge(now) for check in self.asked())

    def asked(self) -> list[CheckHealth]:
        """Its checks that this node can be judged by."""
        return [c for c in self.checks.values() if self.serving or not c.settings.floating]

    @property
    def well(self) -> bool:
        """Heard to be alive, and nothing is being done to it."""
        return self.state == WELL


def _act(verb: str, within: Callable[[ServiceSettings], int]) -> Callable[[Care], None]:
    def effect(care: Care) -> None:
        care.late_at = 0
        care.op_id = care.order(care, verb, within(care.settings))

    return effect


def _prove(care: Care) -> None:
    """Only answers from now on count."""
    care.checks = {name: CheckHealth(check.settings) for name, check in care.checks.items()}
    asked = care.asked()
    slowest = max((c.settings.every_ms * (c.settings.rise + 1) for c in asked), default=0)
    care.op_id = 0
    care.late_at = care.now + (care.settings.start_within_ms + slowest if asked else 0)


def _rest(care: Care) -> None:
    care.op_id = 0
    care.late_at = max(care.budget.deadline() or 0, care.now + 1000)


def _settle(care: Care) -> None:
    care.op_id = care.late_at = 0


def _stop_later(care: Care) -> None:
    care.op_id = 0
    care.late_at = care.now + STOP_AGAIN_MS


def _need(needed: bool) -> Callable[[Care], None]:
    def effect(care: Care) -> None:
        care.needed = needed

    return effect


def _spend(care: Care) -> None:
    care.budget.take(care.now)


GUARDS: dict[str, Callable[[Care], bool]] = {
    "may_act": lambda care: care.may_act,
    "needed": lambda care: care.needed,
    "nothing_to_ask": lambda care: not care.asked(),
    "budget": lambda care: care.budget.left(care.now) > 0,
}
EFFECTS: dict[str, Callable[[Care], None]] = {
    "start": _act("start", lambda s: s.start_within_ms),
    "restart": _act("restart", lambda s: s.stop_within_ms + s.start_within_ms),
    "stop": _act("stop", lambda s: s.stop_within_ms),
    "look": _act("status", lambda s: s.stop_within_ms),
    "prove": _prove,
    "rest": _rest,
    "settle": _settle,
    "spend": _spend,
    "need": _need(True),
    "need_not": _need(False),
    "stop_later": _stop_later,
}
TABLE: Table[Care] = Table("service", STATES, ROWS, GUARDS, EFFECTS)
