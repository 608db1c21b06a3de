# SPDX-License-Identifier: GPL-2.0-or-later
"""The part that this node plays in a group, as its agent decides it.

STANDBY may be ready or not (its proof says why); STARTING brings a cold standby's services up;
ACTIVE has the addresses; PROBATION has come back from a fault and must be well for a time before it
counts as ready; QUARANTINE lost the group to its own broken service and waits for a human.

The keeper owns the addresses: `took` and `left` are its reports, never this table's wishes.
"""

from collections.abc import Callable

from agent.core import care as cares
from agent.core.care import Care
from agent.core.model import Health, Word
from agent.core.settings import GroupSettings, Standby
from agent.core.table import Row, Table

STANDBY, STARTING, ACTIVE = "standby", "starting", "active"
PROBATION, QUARANTINE = "probation", "quarantine"
STATES = (STANDBY, STARTING, ACTIVE, PROBATION, QUARANTINE)

ROWS = (
    Row("R-HAVE", ACTIVE, "took", (), "", (), "it is active already", quiet=True),
    Row("R-TOOK", "*", "took", (), ACTIVE, ("serve", "mark_owned"),
        "the keeper has the addresses on this node"),
    Row("R-LEFT-SICK", ACTIVE, "left", ("broken",), QUARANTINE, ("stand_down", "mark_left"),
        "the group went to a peer because a service here is broken: a human must look"),
    Row("R-LEFT", ACTIVE, "left", (), STANDBY, ("stand_down", "mark_left"),
        "another node has the addresses"),
    Row("R-ORPHAN-COLD", STANDBY, "orphaned", ("cold", "startable"), STARTING, ("bring_up",),
        "nobody serves: start the services here, then prove them, then the addresses"),
    Row("R-WANTED-COLD", STANDBY, "wanted", ("cold", "startable"), STARTING, ("bring_up",),
        "the active node would hand over to this one: start the services first"),
    Row("R-ORPHAN-PROBATION", PROBATION, "orphaned", (), STANDBY, ("end_probation",),
        "nobody serves: probation must not keep the group down"),
    Row("R-NOT-NEEDED", STARTING, "served", (), STANDBY, ("stand_down",),
        "another node serves after all"),
    Row("R-NO-START", STARTING, "broken", (), QUARANTINE, ("stand_down",),
        "the services do not start here: a human must look"),
    Row("R-PROVEN", PROBATION, "proven", (), STANDBY, ("end_probation",),
        "well for the whole of its probation"),
    Row("R-CLEARED", QUARANTINE, "cleared", (), PROBATION, ("begin_probation",),
        "an operator has looked: prove itself, then stand by"),
)  # fmt: skip


class Announcing:
    """How far `announce_command` is. tenure: the last one that it was run for, None: none yet."""

    __slots__ = ("again", "op_id", "retry_at", "tenure", "tries")

    def __init__(self) -> None:
        self.tenure: int | None = None
        self.op_id = 0  # 0: it is not running
        self.tries = 0  # that failed
        self.retry_at = 0
        self.again = False  # once what runs now has ended


class Role:
    """A group on this node. `threats`: reasons why it should not stay here, by name."""

    __slots__ = (
        "announcing",
        "cares",
        "ceiling",
        "cold",
        "deed_active",
        "deed_state",
        "epoch",
        "force_until",
        "last_owner",
        "maintenance",
        "marks",
        "now",
        "order",
        "order_to",
        "orphaned",
        "proven_since",
        "ready_since",
        "rule",
        "settings",
        "state",
        "store_at",
        "storing",
        "threats",
        "why",
        "word",
    )

    def __init__(self, settings: GroupSettings, services: list[Care]) -> None:
        self.settings = settings
        self.cares = services
        self.cold = settings.standby is Standby.COLD
        self.state = STANDBY
        self.rule = ""
        self.now = 0
        self.deed_state = ""
        self.deed_active = ""
        self.orphaned = False
        self.epoch = 0
        self.ceiling = 0  # stored safely
        self.storing = 0  # op_id of a ceiling on its way to the disk
        self.store_at = 0  # not before
        self.marks: list[str] = []  # "owned" or "left", to be stored
        self.last_owner = ""  # the node last known to be active
        self.threats: dict[str, str] = {}
        self.maintenance = False
        self.order = ""
        self.order_to = ""
        self.force_until = 0
        self.proven_since = 0
        self.ready_since = 0
        self.why = ""
        self.word = Word(False, why="the keeper was not heard yet")
        self.announcing = Announcing()

    def plain_active(self) -> str:
        """The plain peer that the keeper hears as active; "" if it is none of those."""
        return self.deed_active if self.deed_active in self.settings.plain_peers else ""

    def called(self, owner: str) -> str:
        """How a node or a plain peer is named to people."""
        return f"plain peer {owner}" if owner in self.settings.plain_peers else owner

    def broken(self) -> str:
        """The service that no restart helps; "" if there is none."""
        return next((c.settings.name for c in self.cares if c.state == cares.SPENT), "")

    def proof(self, now: int) -> str:
        """ "" where this node may own the group, else the first reason why not."""
        if now < self.force_until:
            return self._unwell(now) if self.cold and self.state != ACTIVE else ""
        if self.maintenance and self.state != ACTIVE:
            return "maintenance is on"
        broken = self.broken()
        if broken:
            return f"service {broken} is broken here"
        if self.threats:
            return next(iter(self.threats.values()))
        if self.state in (PROBATION, QUARANTINE):
            return f"in {self.state}"
        if self.state == ACTIVE:
            return ""  # an ailing service is restarted in place first
        if self.cold and self.state == STANDBY:
            return "cold: its services are not running"
        return self._unwell(now)

    def _unwell(self, now: int) -> str:
        for care in self.cares:
            if not care.well or care.health(now) not in (Health.UP, Health.DEGRADED):
                return f"service {care.settings.name} is {care.state}, {care.health(now)}"
        return ""

    def serves_well(self, now: int) -> bool:
        """Whether every service answers, as far as is known."""
        return all(care.health(now) in (Health.UP, Health.DEGRADED) for care in self.cares)

    def startable(self, now: int) -> str:
        """ "" where a cold standby could be brought up now, else why not."""
        if self.broken():
            return f"service {self.broken()} is broken here"
        if self.threats:
            return next(iter(self.threats.values()))
        return "maintenance is on" if self.maintenance and now >= self.force_until else ""


def _serve(role: Role) -> None:
    role.proven_since = 0
    for care in role.cares:
        care.serving = True
        fire(care, "serving", role.now)


def _bring_up(role: Role) -> None:
    for care in role.cares:
        fire(care, "wanted", role.now)


def _stand_down(role: Role) -> None:
    role.order = role.order_to = ""
    role.ready_since = 0  # a time of good health as standby counts for failback, from here on
    for care in reversed(role.cares):
        care.serving = False
        if role.cold:
            fire(care, "unwanted", role.now)


def _begin_probation(role: Role) -> None:
    role.proven_since = 0


def _mark(word: str) -> Callable[[Role], None]:
    def effect(role: Role) -> None:
        role.marks.append(word)

    return effect


GUARDS: dict[str, Callable[[Role], bool]] = {
    "cold": lambda role: role.cold,
    "startable": lambda role: not role.startable(role.now),
    "broken": lambda role: role.broken() != "",
}
EFFECTS: dict[str, Callable[[Role], None]] = {
    "serve": _serve,
    "bring_up": _bring_up,
    "stand_down": _stand_down,
    "begin_probation": _begin_probation,
    "end_probation": _begin_probation,
    "mark_owned": _mark("owned"),
    "mark_left": _mark("left"),
}
TABLE: Table[Role] = Table("role", STATES, ROWS, GUARDS, EFFECTS)


def fire(care: Care, event: str, now: int) -> Row | None:
    """One event into a service's table; the row that was taken."""
    care.now = now
    choice = cares.TABLE.choose(care.state, event, care)
    if choice.row is None:
        return None
    before = care.state
    if choice.row.next:
        care.state = choice.row.next
    for effect in choice.effects:
        effect(care)
    told = not choice.row.quiet and (care.state != before or choice.row.effects)
    return choice.row if told else None
