# SPDX-License-Identifier: GPL-2.0-or-later
"""The outlets of switched PDUs: where each make is commanded and read back, and in which numbers.

1 means on for some and off for others, and the number that commands is often not the one that is
read: every make has its own row and shares no enumeration. Sources: POWERNET-MIB, EATON-EPDU-MIB,
PDU2-MIB, Sentry3-MIB, Sentry4-MIB, CPS-MIB, TRIPPLITE-PRODUCTS.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from agent.core.fencing import Sight

ENTERPRISES = "1.3.6.1.4.1."
SYS_OBJECT_ID = "1.3.6.1.2.1.1.2.0"

Answers = Mapping[str, int | str]


@dataclass(frozen=True, slots=True)
class Pending:
    """A column that tells whether a command waits: in `busy`, or not in `idle`."""

    oid: str
    busy: tuple[int, ...] = ()
    idle: tuple[int, ...] = ()

    def waits(self, value: int) -> bool:
        return value in self.busy or (bool(self.idle) and value not in self.idle)


@dataclass(frozen=True, slots=True)
class Make:
    """One family of PDUs. OIDs are below ENTERPRISES, "{}" is the outlet's index.

    whole: the index where only the outlet's number was given. command, turn_on: (OID, value) that
    switch off and on. cancel: writes that take back what waits and otherwise change nothing, so
    that they prove the right to write. fixed: (OID, values) that say the outlet is not switchable.
    """

    name: str
    whole: str
    state: str
    on: tuple[int, ...]
    off: tuple[int, ...]
    turn_off: tuple[str, int]
    turn_on: tuple[str, int]
    pending: tuple[Pending, ...] = ()
    waits: tuple[tuple[int, Sight], ...] = ()
    cancel: tuple[tuple[str, int], ...] = ()
    fixed: tuple[str, tuple[int, ...]] | None = None


ON_WAITS, OFF_WAITS = Sight.ON_WAITS, Sight.OFF_WAITS
MAKES = (  # where a device serves several families the first that knows the outlet is commanded
    Make(
        "APC rPDU2", "{}", "318.1.1.26.9.2.3.1.5.{}", on=(2,), off=(1,),
        turn_off=("318.1.1.26.9.2.4.1.5.{}", 2), turn_on=("318.1.1.26.9.2.4.1.5.{}", 1),
        pending=(Pending("318.1.1.26.9.2.3.1.6.{}", idle=(2,)),),
        cancel=(("318.1.1.26.9.2.4.1.5.{}", 8),),
    ),
    Make(
        "APC rPDU", "{}", "318.1.1.12.3.5.1.1.4.{}", on=(1,), off=(2,),
        turn_off=("318.1.1.12.3.3.1.1.4.{}", 2), turn_on=("318.1.1.12.3.3.1.1.4.{}", 1),
        pending=(Pending("318.1.1.12.3.5.1.1.5.{}", idle=(2,)),),
        cancel=(("318.1.1.12.3.3.1.1.4.{}", 7),),
    ),
    Make(
        "APC sPDU", "{}", "318.1.1.4.4.2.1.3.{}", on=(1,), off=(2,),
        turn_off=("318.1.1.4.4.2.1.3.{}", 2), turn_on=("318.1.1.4.4.2.1.3.{}", 1),
    ),
    Make(
        "APC MasterSwitch Plus", "1.1.{}", "318.1.1.6.7.1.1.5.{}", on=(1,), off=(2,),
        turn_off=("318.1.1.6.5.1.1.5.{}", 3), turn_on=("318.1.1.6.5.1.1.5.{}", 1),
    ),
    Make(
        "APC UPS outlet group", "{}", "318.1.1.1.12.1.2.1.3.{}", on=(1,), off=(2,),
        turn_off=("318.1.1.1.12.3.2.1.3.{}", 2), turn_on=("318.1.1.1.12.3.2.1.3.{}", 1),
    ),
    Make(  # the value that is written is a delay in seconds; read, -1 is "nothing waits"
        "Eaton ePDU G3", "0.{}", "534.6.6.7.6.6.1.2.{}", on=(1,), off=(0,),
        turn_off=("534.6.6.7.6.6.1.3.{}", 0), turn_on=("534.6.6.7.6.6.1.4.{}", 0),
        pending=tuple(Pending(f"534.6.6.7.6.6.1.{c}.{{}}", idle=(-1,)) for c in (3, 4, 5)),
        waits=((2, ON_WAITS), (3, OFF_WAITS)),
        cancel=tuple((f"534.6.6.7.6.6.1.{column}.{{}}", -1) for column in (3, 4, 5)),
        fixed=("534.6.6.7.6.6.1.9.{}", (2,)),
    ),
    Make(
        "Eaton managed ePDU", "{}", "534.6.6.6.1.2.2.1.3.{}", on=(1,), off=(0,),
        turn_off=("534.6.6.6.1.2.2.1.3.{}", 0), turn_on=("534.6.6.6.1.2.2.1.3.{}", 1),
    ),
    Make(
        "Eaton switched ePDU", "{}", "20677.2.6.3.{}.0", on=(1,), off=(2,),
        turn_off=("20677.2.6.2.{}.0", 2), turn_on=("20677.2.6.2.{}.0", 1),
    ),
    Make(
        "Raritan PX2", "1.{}", "13742.6.4.1.2.1.3.{}", on=(7,), off=(8,),
        turn_off=("13742.6.4.1.2.1.2.{}", 0), turn_on=("13742.6.4.1.2.1.2.{}", 1),
    ),
    Make(  # outletControlState: reboot 8, shutdown 9, pendOn 10, pendOff 11; locked 6 and 7
        "Server Technology Sentry3", "1.1.{}", "1718.3.2.3.1.5.{}", on=(1,), off=(0,),
        turn_off=("1718.3.2.3.1.11.{}", 2), turn_on=("1718.3.2.3.1.11.{}", 1),
        pending=(Pending("1718.3.2.3.1.10.{}", busy=(8, 9, 10, 11)),),
        waits=((2, OFF_WAITS), (3, ON_WAITS)),
        fixed=("1718.3.2.3.1.10.{}", (6, 7)),
    ),
    Make(  # st4OutletControlState: pendOn 8, pendOff 9, reboot 12, shutdown 13, by events 18, 19
        "Server Technology Sentry4", "1.1.{}", "1718.4.1.8.3.1.1.{}", on=(1,), off=(2,),
        turn_off=("1718.4.1.8.5.1.2.{}", 2), turn_on=("1718.4.1.8.5.1.2.{}", 1),
        pending=(Pending("1718.4.1.8.5.1.1.{}", busy=(8, 9, 12, 13, 18, 19)),),
        cancel=(("1718.4.1.8.5.1.2.{}", 0),),
        fixed=("1718.4.1.8.5.1.1.{}", (1, 14, 15)),
    ),
    Make(
        "CyberPower ePDU", "{}", "3808.1.1.3.3.5.1.1.4.{}", on=(1,), off=(2,),
        turn_off=("3808.1.1.3.3.3.1.1.4.{}", 2), turn_on=("3808.1.1.3.3.3.1.1.4.{}", 1),
    ),
    Make(
        "Tripp Lite PDU", "1.{}", "850.1.1.3.2.3.3.1.1.4.{}", on=(2,), off=(1,),
        turn_off=("850.1.1.3.2.3.3.1.1.6.{}", 1), turn_on=("850.1.1.3.2.3.3.1.1.6.{}", 2),
    ),
    Make(
        "Liebert MPH", "{}", "476.1.42.3.8.50.20.1.95.{}", on=(2,), off=(1,),
        turn_off=("476.1.42.3.8.50.20.1.100.{}", 0), turn_on=("476.1.42.3.8.50.20.1.100.{}", 1),
    ),
    Make(
        "IBM iPDU", "{}", "2.6.223.8.2.2.1.11.{}", on=(1,), off=(0,),
        turn_off=("2.6.223.8.2.2.1.11.{}", 0), turn_on=("2.6.223.8.2.2.1.11.{}", 1),
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Place:
    """One outlet of one make, with its whole index, "5" or "1.1.5"."""

    make: Make
    index: str

    def oid(self, column: str) -> str:
        return ENTERPRISES + column.format(self.index)

    def writes(self, pairs: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
        return [(self.oid(column), value) for column, value in pairs]

    def questions(self) -> list[str]:
        """Everything that must be read to know where this outlet stands."""
        columns = [self.make.state, *(column.oid for column in self.make.pending)]
        columns += [self.make.fixed[0]] if self.make.fixed else []
        return list(dict.fromkeys(self.oid(column) for column in columns))

    def sight(self, answers: Answers) -> Sight:
        """What the device says of it; a state that is in no list, or none, is UNKNOWN."""
        make, value = self.make, answers.get(self.oid(self.make.state))
        waiting = dict(make.waits)
        if isinstance(value, int) and value in waiting:
            return waiting[value]
        pending = False
        for column in make.pending:
            told = answers.get(self.oid(column.oid))
            if isinstance(told, int):
                pending = pending or column.waits(told)
        if value in make.on:
            return Sight.ON_WAITS if pending else Sight.ON
        if value in make.off:
            return Sight.OFF_WAITS if pending else Sight.OFF
        return Sight.UNKNOWN

    def is_fixed(self, answers: Answers) -> bool:
        """Whether the device says that nobody may switch this outlet."""
        fixed = self.make.fixed
        return fixed is not None and answers.get(self.oid(fixed[0])) in fixed[1]

    def there(self, answers: Answers) -> bool:
        return isinstance(answers.get(self.oid(self.make.state)), int)


def places(outlet: str, identity: str) -> list[Place]:
    """Where an outlet could be: the makes of the device's own enterprise first, as MAKES orders.

    outlet: "5", or with all parts of the make's index, "1.1.5". identity: sysObjectID, which may
    be generic or another maker's; so the others are asked too.
    """
    found = []
    for make in MAKES:
        parts = outlet.count(".")
        if parts == make.whole.count("."):
            found.append(Place(make, outlet))
        elif parts == 0:
            found.append(Place(make, make.whole.format(outlet)))
    own = [place for place in found if _is_of(identity, place.make)]
    return own + [place for place in found if place not in own]


def _is_of(identity: str, make: Make) -> bool:
    enterprise = ENTERPRISES + make.state.split(".")[0]
    return f"{identity}.".startswith(f"{enterprise}.")


def agreed(sights: Sequence[Sight]) -> Sight:
    """Of the families in which one device tells of one outlet: where they differ, UNKNOWN."""
    first = sights[0]
    return first if all(sight is first for sight in sights) else Sight.UNKNOWN
