# SPDX-License-Identifier: GPL-2.0-or-later
"""The part that this node plays in a group, as its agent decides it.

STANDBY may be ready or not (its proof says why); STARTING does what must be done before the
addresses (`bringing`); ACTIVE has them; PROBATION has come back from a fault and must be well for a
time before it counts as ready; QUARANTINE lost the group to its own broken service and waits for a
human.

The keeper owns the addresses: `took` and `left` are its reports, never this table's wishes.
"""

from collections.abc import Callable

from agent.core import steps
from agent.core.bringing import FIT, SERVING, Bringing
from agent.core.care import Care, fire
from agent.core.care_rows import SPENT
from agent.core.model import Health, Word
from agent.core.readiness import Readiness
from agent.core.settings import GroupSettings, Standby
from agent.core.table import Row, Table

STANDBY, STARTING, ACTIVE = "standby", "starting", "active"
PROBATION, QUARANTINE = "probation", "quarantine"
STATES = (STANDBY, STARTING, ACTIVE, PROBATION, QUARANTINE)
HELD = ("active", "doubt", "giving")  # what the keeper says while it has the addresses
CAN_WAIT = "resource:"  # threats by what is forecast to run out: `governor` lets them count
PROBATION_LIMIT_MS = 2 * 3_600_000

ROWS = (
    Row("R-HAVE", ACTIVE, "took", (), "", (), "it is active already", quiet=True),
    Row("R-TOOK", "*", "took", (), ACTIVE, ("serve", "mark_owned"),
        "the keeper has the addresses on this node"),
    Row("R-LEFT-SICK", ACTIVE, "left", ("broken",), QUARANTINE,
        ("stand_down", "mark_left", "fell", "forget", "page"),
        "the group went to a peer because a service here is broken: a human must look"),
    Row("R-LEFT-ILL", ACTIVE, "left", ("failing",), STANDBY,
        ("note_ill", "stand_down", "mark_left", "forget"),
        "a peer serves while a service here is mended"),
    Row("R-LEFT", ACTIVE, "left", (), STANDBY, ("stand_down", "mark_left", "show"),
        "another node has the addresses"),
    Row("R-ILL", STANDBY, "broken", ("broken", "left_ill"), QUARANTINE, ("fell", "page"),
        "the group went to a peer because of a service here, and it cannot be mended: a human must "
        "look"),
    Row("R-BROKEN", ACTIVE, "broken", (), "", (),
        "a service here is broken: the group goes as soon as a peer can take it", quiet=True),
    Row("R-ORPHAN", STANDBY, "orphaned", ("brought", "startable", "my_turn"), STARTING,
        ("bring_up",),
        "nobody serves: bring the services up here, then prove them, then the addresses"),
    Row("R-WANTED", STANDBY, "wanted", ("brought", "startable"), STARTING, ("bring_up",),
        "the active node would hand over to this one: bring the services up first"),
    Row("R-ORPHAN-PROBATION", PROBATION, "orphaned", (), STANDBY, ("end_probation",),
        "nobody serves: probation must not keep the group down"),
    Row("R-NOT-NEEDED", STARTING, "served", (), STANDBY, ("cancel", "stand_down"),
        "another node serves after all"),
    Row("R-LEASE-LOST", STARTING, "lease_lost", (), STANDBY, ("stand_down",),
        "the lease ran out before the addresses came: begin anew"),
    Row("R-NO-START", STARTING, "broken", (), QUARANTINE,
        ("cancel", "stand_down", "fell", "forget", "page"),
        "the services do not come up here: a human must look"),
    Row("R-RELAPSE", PROBATION, "relapsed", (), "", ("fell",),
        "not well for the whole of its probation: twice as long from now"),
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
    """A group on this node. `threats`: reasons why it should not stay here, by name.

    barred: why it must not be brought up here now although it could, by what other groups do.
    readiness: None where nobody looks for proofs. lost_ms: when an active node was last heard, None
    while one is. paged: the facts of its fall are to be gathered.
    """

    __slots__ = (
        "announcing",
        "barred",
        "cares",
        "ceiling",
        "cold",
        "deed_active",
        "deed_state",
        "epoch",
        "fencing",
        "force_until",
        "last_owner",
        "lease",
        "lease_until_ms",
        "left_ill",
        "let_go",
        "lost_ms",
        "maintenance",
        "marks",
        "my_turn",
        "now",
        "order",
        "order_to",
        "orphaned",
        "orphaned_ms",
        "paged",
        "proven_since",
        "readiness",
        "ready_since",
        "refused",
        "rule",
        "settings",
        "state",
        "store_at",
        "stored",
        "storing",
        "threats",
        "way",
        "why",
        "winding_down",
        "word",
    )

    def __init__(self, settings: GroupSettings, services: list[Care]) -> None:
        self.settings = settings
        self.cares = services
        self.cold = settings.standby is Standby.COLD
        self.way = Bringing(settings)
        self.state = STANDBY
        self.rule = ""
        self.now = 0
        self.deed_state = ""
        self.deed_active = ""
        self.lease = ""
        self.lease_until_ms = 0
        self.orphaned = False
        self.orphaned_ms = 0
        self.lost_ms: int | None = None
        self.my_turn = True
        self.barred = ""
        self.epoch = 0
        self.ceiling = 0  # stored safely
        self.storing = 0  # op_id of a ceiling on its way to the disk
        self.store_at = 0  # not before
        self.marks: list[str] = []  # of `stored`, to be written down
        self.stored = {"owned": 0, "left": 0, "fell": 0, "well": 0}  # none of them ever falls
        self.last_owner = ""  # the node last known to be active
        self.threats: dict[str, str] = {}
        self.left_ill = False  # the group left for a service's sake that was not well since
        self.let_go = False  # for a threat that could have waited
        self.maintenance = False
        self.order = ""
        self.order_to = ""
        self.refused = ""  # why a move that was begun was undone
        self.force_until = 0
        self.proven_since = 0
        self.ready_since = 0
        self.paged = False
        self.why = ""
        self.word = Word(False, why="the keeper was not heard yet")
        self.announcing = Announcing()
        self.readiness: Readiness | None = None
        self.winding_down = False  # services are being stopped, one after the other
        self.fencing = ""

    @property
    def subject(self) -> str:
        """As alarms and the journal name it."""
        return f"group {self.settings.name}"

    @property
    def held(self) -> bool:
        """Whether the keeper has the addresses on this node."""
        return self.deed_state in HELD

    @property
    def owned_last(self) -> bool:
        """By what is stored here: this node owned the group and never let go."""
        return self.stored["owned"] > self.stored["left"]

    def turn(self, mark: str) -> int:
        """The number to store for a mark: `owned` and `left` overtake each other, `fell` counts.

        well: as many falls as were made good by then.
        """
        stored = self.stored
        if mark == "owned":
            floor = stored["left"] + 1 if stored["left"] >= stored["owned"] else 0
            stored[mark] = max(self.epoch, stored[mark], floor)
        elif mark == "left":
            stored[mark] = max(self.epoch, stored[mark], stored["owned"])
        else:
            stored[mark] = stored["fell"] + (mark == "fell")
        return stored[mark]

    def probation_ms(self) -> int:
        """Doubled at each fall that followed one, up to two hours."""
        base_ms = self.settings.probation_ms
        doublings = min(max(0, self.stored["fell"] - self.stored["well"] - 1), 16)
        return max(base_ms, min(base_ms << doublings, PROBATION_LIMIT_MS))

    def plain_active(self) -> str:
        """The plain peer that the keeper hears as active; "" if it is none of those."""
        return self.deed_active if self.deed_active in self.settings.plain_peers else ""

    def called(self, owner: str) -> str:
        """How a node or a plain peer is named to people."""
        return f"plain peer {owner}" if owner in self.settings.plain_peers else owner

    def broken(self) -> str:
        """The service that no restart helps; "" if there is none."""
        return next((c.settings.name for c in self.cares if c.state == SPENT), "")

    def failing(self) -> str:
        """The service for whose sake a peer should serve, for now or for good; "" for none."""
        return next((c.settings.name for c in self.cares if c.wants_move), "")

    def proof(self, now: int) -> str:
        """ "" where this node may own the group, else the first reason why not."""
        if self.state == ACTIVE and self.way.steps_down and self.way.state != SERVING:
            return ""  # on its way out or back: it is offered when nothing of it runs here
        forced = now < self.force_until
        if forced and not self.way.brought:
            return ""
        if not forced:
            why = self._against()
            if why:
                return why
        if self.state == ACTIVE:
            return ""  # an ailing service is restarted in place first
        if self.way.brought and self.way.state not in (FIT, SERVING):
            return self._not_up(now)
        return self.unwell(now) or ("" if self.way.brought or forced else self.unproved(now))

    def _against(self) -> str:
        """What speaks against owning it here, whatever the services do."""
        if self.maintenance and self.state != ACTIVE:
            return "maintenance is on"
        failing = self.failing()
        if failing and not (self.state == ACTIVE and self.way.stops_first):
            return f"service {failing} is {'broken' if self.broken() else 'failing'} here"
        pressing = self.pressing()
        if pressing and not (self.state == ACTIVE and self.way.stops_first):
            return pressing
        if self.state in (PROBATION, QUARANTINE):
            return f"in {self.state}"
        return ""

    def pressing(self) -> str:
        """The first threat that counts: where the group is, those that can wait wait their turn."""
        for name, why in self.threats.items():
            if self.state != ACTIVE or self.let_go or not name.startswith(CAN_WAIT):
                return why
        return ""

    def _not_up(self, now: int) -> str:
        if self.state == STARTING:
            return f"on its way: {self.way.state}"
        why = self.startable(now)
        if why:
            return why
        return "cold: its services are not running" if self.cold else "it has no lease yet"

    def unproved(self, now: int) -> str:
        """The first proof of readiness that is missing; "" where none is."""
        if self.readiness is None:
            return ""
        return self.readiness.why(now, self.lost_ms, self.newest)

    @property
    def newest(self) -> bool:
        """Whether nobody can have newer settings or status: it served last, or nobody ever did."""
        return not self.deed_active and (self.owned_last or not self.epoch)

    def unwell(self, now: int) -> str:
        """The first service that is not known to be alive; "" if all are."""
        for care in self.cares:
            if not care.well or care.health(now) not in (Health.UP, Health.DEGRADED):
                return f"service {care.settings.name} is {care.state}, {care.health(now)}"
        return ""

    def serves_well(self, now: int) -> bool:
        """Whether every service answers, as far as is known."""
        return all(care.health(now) in (Health.UP, Health.DEGRADED) for care in self.cares)

    def startable(self, now: int) -> str:
        """ "" where a standby that must be brought up could be now, else why not."""
        if self.broken():
            return f"service {self.broken()} is broken here"
        if now < self.force_until:
            return ""
        if self.threats:
            return next(iter(self.threats.values()))
        if self.maintenance:
            return "maintenance is on"
        if self.state in (PROBATION, QUARANTINE):
            return f"in {self.state}"
        return self.barred or (self.unwell(now) if not self.cold else "") or self.unproved(now)


def _serve(role: Role) -> None:
    role.proven_since = 0
    for care in role.cares:
        care.serving = True
        fire(care, "serving", role.now)


def _bring_up(role: Role) -> None:
    steps.fire(role.way, "up", role.now)


def _cancel(role: Role) -> None:
    steps.fire(role.way, "cancel", role.now)


def _stand_down(role: Role) -> None:
    role.order = role.order_to = ""
    role.ready_since = 0  # a time of good health as standby counts for failback, from here on
    for care in role.cares:
        care.serving = False
    steps.fire(role.way, "left", role.now)


def _begin_probation(role: Role) -> None:
    role.proven_since = 0


def _end_probation(role: Role) -> None:
    role.proven_since = 0
    if role.stored["fell"] > role.stored["well"]:
        role.marks.append("well")


def _show(role: Role) -> None:
    if role.readiness is not None:
        role.readiness.served(role.now)


def _forget(role: Role) -> None:
    if role.readiness is not None:
        role.readiness.forget()


def _note_ill(role: Role) -> None:
    role.left_ill = True


def _page(role: Role) -> None:
    role.paged = True


def _mark(word: str) -> Callable[[Role], None]:
    def effect(role: Role) -> None:
        role.marks.append(word)

    return effect


GUARDS: dict[str, Callable[[Role], bool]] = {
    "brought": lambda role: role.way.brought,
    "startable": lambda role: not role.startable(role.now),
    "my_turn": lambda role: role.my_turn,
    "broken": lambda role: role.broken() != "" or role.way.broken,
    "failing": lambda role: role.failing() != "",
    "left_ill": lambda role: role.left_ill,
}
EFFECTS: dict[str, Callable[[Role], None]] = {
    "serve": _serve,
    "bring_up": _bring_up,
    "cancel": _cancel,
    "stand_down": _stand_down,
    "begin_probation": _begin_probation,
    "end_probation": _end_probation,
    "fell": _mark("fell"),
    "show": _show,
    "forget": _forget,
    "note_ill": _note_ill,
    "page": _page,
    "mark_owned": _mark("owned"),
    "mark_left": _mark("left"),
}
TABLE: Table[Role] = Table("role", STATES, ROWS, GUARDS, EFFECTS)
