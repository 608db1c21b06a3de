# SPDX-License-Identifier: GPL-2.0-or-later
"""One service as it is looked after: what the rows of `care_rows` look at and do."""

from collections import deque
from collections.abc import Callable

from agent.core.budget import Budget
from agent.core.care_rows import (
    ENDING,
    FELT_MS,
    FRESH,
    KILL_WITHIN_MS,
    MOVE_WITHIN_MS,
    MOVING,
    OFF,
    REST_MS,
    ROWS,
    SPENT,
    STATES,
    STOP_AGAIN_MS,
    STOPS,
    TRIES,
    WELL,
)
from agent.core.health import CheckHealth, combine
from agent.core.model import Health
from agent.core.settings import ServiceSettings
from agent.core.table import Row, Table

Order = Callable[["Care", str, int], int]


class Care:
    """One service on this node. `order` carries out a verb and returns its op_id.

    serving: this node is active, so that answers at the floating address are its own. peer_ready:
    another node serves the group or could take it now. grounded: the services that it is started
    after are well. alone: two copies of it must never run. pid: of its main process, 0 where nobody
    knows. dead: that one was seen to die.
    tries: starts since it was last well. starts_ms: what its last starts took. needed: start it
    once it has stopped.
    """

    __slots__ = (
        "alone",
        "began_ms",
        "budget",
        "checks",
        "cold",
        "dead",
        "detail",
        "forgiven_at",
        "grounded",
        "group",
        "late_at",
        "may_act",
        "needed",
        "now",
        "op_id",
        "order",
        "peer_ready",
        "pid",
        "serving",
        "settings",
        "starts_ms",
        "state",
        "stops",
        "tries",
    )

    def __init__(self, group: str, settings: ServiceSettings, order: Order, standby: str) -> None:
        self.group = group
        self.settings = settings
        self.order = order
        self.checks = {check.name: CheckHealth(check) for check in settings.checks}
        self.budget = Budget(settings.restarts, settings.restarts_in_ms)
        self.cold = standby == "cold"
        self.state = OFF if self.cold else FRESH
        self.may_act = True
        self.serving = False
        self.peer_ready = False
        self.grounded = True
        self.needed = False
        self.alone = False
        self.pid = 0
        self.dead = False
        self.op_id = 0
        self.late_at = 0
        self.began_ms = 0  # the order that is being proved; 0: its start was measured, or was none
        self.forgiven_at = 0
        self.tries = 0
        self.stops = 0  # times that it was told to, since it was last seen to be off or well
        self.starts_ms: deque[int] = deque(maxlen=3)
        self.now = 0
        self.detail = ""

    def health(self, now: int) -> Health:
        """Of the checks that this node can be judged by; DOWN while it is not supposed to run."""
        if self.dead or self.state in ENDING:
            return Health.DOWN
        return combine(check.judge(now) for check in self.asked())

    def asked(self) -> list[CheckHealth]:
        """Its checks that this node can be judged by."""
        return [c for c in self.checks.values() if self.serving or not c.settings.floating]

    @property
    def subject(self) -> str:
        """As alarms and the journal name it."""
        return f"service {self.settings.name} of {self.group}"

    @property
    def well(self) -> bool:
        """Heard to be alive, and nothing is being done to it."""
        return self.state == WELL

    @property
    def wants_move(self) -> bool:
        """Whether the group should be served by a peer: for now (MOVING), or for good (SPENT)."""
        return self.state in (MOVING, SPENT)

    @property
    def hangs(self) -> bool:
        """Its main process lives, and a check that went unanswered says that it does not serve."""
        unanswered = any(c.silent and c.health is not Health.UP for c in self.asked())
        return self.pid != 0 and not self.dead and unanswered

    @property
    def starts_in_ms(self) -> int:
        """How long until it answers after a restart was ordered; 0: nobody knows."""
        return self.settings.starts_in_ms or max(self.starts_ms, default=0)

    def move_first(self) -> bool:
        """Whether a peer should take the group before this service is restarted.

        A cold peer would have to start it as well: nothing is gained, unless that is wanted.
        """
        if not self.serving or not self.peer_ready or self.settings.on_death == "restart":
            return False
        if self.settings.on_death == "move":
            return True
        first = self.budget.left(self.now) == self.budget.n
        return not self.cold and not (first and 0 < self.starts_in_ms < FELT_MS)

    def again(self) -> bool:
        """Whether one more start may help: where a peer could serve instead, not many in a row."""
        if self.budget.left(self.now) == 0:
            return False
        forgiven = 0 < self.forgiven_at <= self.now
        return self.tries < TRIES or not self.peer_ready or forgiven


def _begin(verb: str, within: Callable[[ServiceSettings], int]) -> Callable[[Care], None]:
    def effect(care: Care) -> None:
        for check in care.checks.values():
            check.eager = True
        care.late_at = care.pid = 0
        care.dead = False
        care.began_ms = care.now
        care.stops = 0
        care.tries += 1
        care.op_id = care.order(care, verb, within(care.settings))

    return effect


def _order(verb: str, within: Callable[[ServiceSettings], int]) -> Callable[[Care], None]:
    def effect(care: Care) -> None:
        care.late_at = 0
        care.op_id = care.order(care, verb, within(care.settings))

    return effect


def _stop(care: Care) -> None:
    care.stops += 1
    care.late_at = 0
    care.op_id = care.order(care, "stop", care.settings.stop_within_ms)


def _kill_aside(care: Care) -> None:
    """Nothing waits for it: what is ordered next is carried out after it."""
    care.order(care, "kill", KILL_WITHIN_MS)


def _leave(care: Care) -> None:
    care.op_id = 0
    care.late_at = care.now + MOVE_WITHIN_MS


def _prove(care: Care) -> None:
    """Only answers from now on count, and the first are waited for."""
    care.checks = {name: CheckHealth(c.settings, eager=True) for name, c in care.checks.items()}
    asked = care.asked()
    slowest = max((c.settings.every_ms * (c.settings.rise + 1) for c in asked), default=0)
    care.op_id = 0
    care.late_at = care.now + (care.settings.start_within_ms + slowest if asked else 0)


def _rest(care: Care) -> None:
    care.op_id = 0
    care.forgiven_at = care.budget.deadline() or 0
    care.late_at = care.now + REST_MS


def _rest_on(care: Care) -> None:
    care.late_at = care.now + REST_MS


def _settle(care: Care) -> None:
    care.op_id = care.late_at = care.began_ms = care.forgiven_at = 0
    care.tries = care.stops = 0


def _wait(care: Care) -> None:
    care.op_id = 0
    care.late_at = care.now + STOP_AGAIN_MS


def _need(needed: bool) -> Callable[[Care], None]:
    def effect(care: Care) -> None:
        care.needed = needed

    return effect


def _spend(care: Care) -> None:
    care.budget.take(care.now)


def _anew(care: Care) -> None:
    care.tries = 0


GUARDS: dict[str, Callable[[Care], bool]] = {
    "may_act": lambda care: care.may_act,
    "alone": lambda care: care.alone,
    "needed": lambda care: care.needed,
    "nothing_to_ask": lambda care: not care.asked(),
    "budget": lambda care: care.budget.left(care.now) > 0,
    "again": Care.again,
    "move_first": Care.move_first,
    "grounded": lambda care: care.grounded,
    "hangs": lambda care: care.hangs,
    "asked_enough": lambda care: care.stops >= STOPS,
}
EFFECTS: dict[str, Callable[[Care], None]] = {
    "start": _begin("start", lambda s: s.start_within_ms),
    "restart": _begin("restart", lambda s: s.stop_within_ms + s.start_within_ms),
    "stop": _stop,
    "look": _order("status", lambda s: s.stop_within_ms),
    "kill": _order("kill", lambda _: KILL_WITHIN_MS),
    "kill_aside": _kill_aside,
    "leave": _leave,
    "prove": _prove,
    "rest": _rest,
    "rest_on": _rest_on,
    "settle": _settle,
    "spend": _spend,
    "anew": _anew,
    "need": _need(True),
    "need_not": _need(False),
    "stop_later": _wait,
    "look_later": _wait,
}
TABLE: Table[Care] = Table("service", STATES, ROWS, GUARDS, EFFECTS)


def fire(care: Care, event: str, now: int) -> Row | None:
    """One event into a service's table; the row that was taken."""
    care.now = now
    choice = TABLE.choose(care.state, event, care)
    if choice.row is None:
        return None
    before = care.state
    if choice.row.next:
        care.state = choice.row.next
    for effect in choice.effects:
        effect(care)
    told = not choice.row.quiet and (care.state != before or choice.row.effects)
    return choice.row if told else None
