# SPDX-License-Identifier: GPL-2.0-or-later
"""Which faults a seed brings, and each of them as steps: a generator that yields seconds to wait.

Which node is struck is drawn from the seed; "the owner" is whoever has the address by then.
"""

from __future__ import annotations

import contextlib
import heapq
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count

from tests.lab.chaos_machines import Machine, Street
from tests.lab.netns import LabError, command, now_ms

# kind -> how often it is drawn, against the others
WEIGHTS = {
    "power": 4,
    "cut": 5,
    "deaf": 4,
    "mute": 4,
    "loss": 4,
    "flap": 3,
    "kill one": 4,
    "kill all": 3,
    "freeze": 3,
    "pause": 2,
    "stop": 3,
    "both": 3,
    "deletion": 3,
    "rogue": 2,
    "flood": 2,
    "hog": 2,
}
KINDS = tuple(WEIGHTS)
PARTS = ("power", "cut", "deaf", "mute", "flap", "kill all", "freeze", "pause")  # of "both"
OWNER_SHARE = 0.6  # of the faults that strike one node strike the owner
SHORTEST_S, LONGEST_S = 0.3, 6.0
TICK_S = 0.02
SAY_EVERY = 10
Steps = Iterator[float]


@dataclass(frozen=True)
class Fault:
    """at_s: since the first. aim: index of a node, -1 the owner. paths: of a line's trouble."""

    number: int
    kind: str
    at_s: float
    length_s: float
    aim: int
    paths: tuple[int, ...]
    part: str
    seed: str

    def draw(self) -> random.Random:
        """For what is drawn while it goes on; the same for the same seed."""
        return random.Random(self.seed)


def plan(
    seed: int, faults: int, nodes: int, paths: int, only: Sequence[str] = KINDS
) -> list[Fault]:
    """The faults of a seed, in order of time."""
    draw = random.Random(seed)
    found, at_s = [], 0.0
    for number in range(1, faults + 1):
        kind = draw.choices(only, [WEIGHTS[name] for name in only])[0]
        owner = draw.random() < OWNER_SHARE
        node = draw.randrange(nodes)
        chosen = draw.choices([(0,), (1,), (0, 1)], (50, 15, 35))[0] if paths > 1 else (0,)
        length_s = draw.uniform(SHORTEST_S, LONGEST_S)
        part = draw.choice(PARTS)
        aim = -1 if owner else node
        name = f"{seed} {number}"
        found.append(Fault(number, kind, at_s, length_s, aim, chosen, part, name))
        at_s += _gap_s(draw)
    return found


def _gap_s(draw: random.Random) -> float:
    """Often none to speak of, sometimes enough for all to settle."""
    low_s, high_s = draw.choices([(0.02, 0.5), (0.5, 3.0), (4.0, 9.0)], (30, 50, 20))[0]
    return draw.uniform(low_s, high_s)


# ---------------------------------------------------------------- the steps of each kind


def power(street: Street, fault: Fault, machine: Machine) -> Steps:
    machine.power_off(fault.number)
    yield fault.length_s
    machine.power_on(fault.number)


def trouble(kind: str) -> Callable[[Street, Fault, Machine], Steps]:
    """Of a line."""

    def steps(street: Street, fault: Fault, machine: Machine) -> Steps:
        lines = [machine.lines[path] for path in fault.paths]
        pct = fault.draw().randint(5, 30)
        if kind == "loss":
            street.calendar.note(f"#{fault.number} loses {pct} %")
        for line in lines:
            line.begin(fault.number, kind, pct)
        yield fault.length_s
        for line in lines:
            line.end(fault.number)

    return steps


def flap(street: Street, fault: Fault, machine: Machine) -> Steps:
    """Carrier away and back, again and again, for at most a third of the length."""
    draw = fault.draw()
    ends_ms = now_ms() + fault.length_s * 333
    lines = [machine.lines[path] for path in fault.paths]
    while now_ms() < ends_ms:
        for line in lines:
            line.begin(fault.number, "unplugged")
        street.calendar.note(f"#{fault.number} carrier away")
        yield draw.uniform(0.02, 0.3)
        for line in lines:
            line.end(fault.number)
        street.calendar.note(f"#{fault.number} carrier back")
        yield draw.uniform(0.02, 0.3)


def kill_one(street: Street, fault: Fault, machine: Machine) -> Steps:
    killed = machine.kill_one(fault.number, fault.draw().random())
    street.calendar.note(f"#{fault.number} kills: {killed or 'none is there'}")
    if machine.down is not None:
        yield fault.length_s
        machine.start(fault.number)


def kill_all(street: Street, fault: Fault, machine: Machine) -> Steps:
    machine.kill_all(fault.number)
    yield fault.length_s
    machine.start(fault.number)


def stop(street: Street, fault: Fault, machine: Machine) -> Steps:
    machine.stop(fault.number)
    yield fault.length_s
    machine.start(fault.number)


def freeze(street: Street, fault: Fault, machine: Machine) -> Steps:
    """The processes; the kernel and the service go on."""
    machine.freeze(fault.number)
    yield fault.length_s
    machine.thaw(fault.number)


def pause(street: Street, fault: Fault, machine: Machine) -> Steps:
    """As a virtual machine is paused: frozen, and nothing of it answers on any path."""
    for line in machine.lines:
        line.begin(fault.number, "cut")
    machine.freeze(fault.number)
    yield fault.length_s
    for line in machine.lines:
        line.end(fault.number)
    machine.thaw(fault.number)


def deletion(street: Street, fault: Fault) -> Steps:
    """By a foreign hand: once, or every now and then."""
    draw = fault.draw()
    ends_ms = now_ms() + (fault.length_s * 1000 if draw.random() < 0.3 else 0)
    while True:
        for machine, interface, address in list(street.holders()):
            street.calendar.note(f"#{fault.number} deletes {address} on {machine.name}")
            with contextlib.suppress(LabError):  # it may have gone meanwhile
                where = ["ip", "-n", machine.node.namespace, "address"]
                command(*where, "del", address, "dev", interface)
        if now_ms() >= ends_ms:
            return
        yield draw.uniform(0.15, 0.8)


def rogue(street: Street, fault: Fault) -> Steps:
    street.stranger.rogue(fault.number, on=True)
    yield fault.length_s
    street.stranger.rogue(fault.number, on=False)


def flood(street: Street, fault: Fault) -> Steps:
    street.stranger.flood(fault.number, on=True)
    yield fault.length_s
    street.stranger.flood(fault.number, on=False)


def hog(street: Street, fault: Fault) -> Steps:
    hogs = street.hogs.begin(2)
    yield fault.length_s
    street.hogs.end(hogs)


STRIKES: dict[str, Callable[[Street, Fault, Machine], Steps]] = {
    "power": power,
    "cut": trouble("cut"),
    "deaf": trouble("deaf"),
    "mute": trouble("mute"),
    "loss": trouble("loss"),
    "flap": flap,
    "kill one": kill_one,
    "kill all": kill_all,
    "freeze": freeze,
    "pause": pause,
    "stop": stop,
}
COMES: dict[str, Callable[[Street, Fault], Steps]] = {
    "deletion": deletion,
    "rogue": rogue,
    "flood": flood,
    "hog": hog,
}


def struck(street: Street, fault: Fault) -> list[Machine]:
    """Whom it strikes, as things are now."""
    machines = list(street.machines.values())
    if fault.kind == "both":
        return sorted(fault.draw().sample(machines, 2), key=machines.index)
    owners = [machine for machine, _, _ in street.holders()] if fault.aim < 0 else []
    return [owners[0] if owners else machines[fault.aim]]


def begin(street: Street, fault: Fault) -> list[Steps]:
    """What goes on from now, on each machine that it strikes."""
    if fault.kind in COMES:
        return [_told(street, fault, fault.kind, COMES[fault.kind](street, fault))]
    kind = fault.part if fault.kind == "both" else fault.kind
    return [
        _told(street, fault, f"{kind} {machine.name}{_where(street, fault, kind)}", steps)
        for machine in struck(street, fault)
        for steps in [STRIKES[kind](street, fault, machine)]
    ]


def _where(street: Street, fault: Fault, kind: str) -> str:
    many = any(len(machine.lines) > 1 for machine in street.machines.values())
    if not many or kind not in ("cut", "deaf", "mute", "loss", "flap"):
        return ""
    return f" on path {' and '.join(map(str, fault.paths))}"


def _told(street: Street, fault: Fault, what: str, steps: Steps) -> Steps:
    street.calendar.note(f"#{fault.number} {what}: begins")
    yield from steps
    street.calendar.note(f"#{fault.number} {what}: over")


def play(street: Street, faults: Sequence[Fault], say: Callable[[str], None]) -> None:
    """All of them, each at its time, until everything is mended and every node runs again."""
    order = count()
    began_ms = now_ms()
    begins = iter(faults)
    coming = next(begins, None)
    going: list[tuple[float, int, Steps]] = []
    while coming or going or not all(machine.mended for machine in street.machines.values()):
        if coming and now_ms() >= began_ms + coming.at_s * 1000:
            for steps in begin(street, coming):
                heapq.heappush(going, (0.0, next(order), steps))
            if coming.number % SAY_EVERY == 0:
                say(f"{coming.number} of {len(faults)} faults")
            coming = next(begins, None)
        while going and going[0][0] <= now_ms():
            _, _, steps = heapq.heappop(going)
            wait_s = next(steps, None)
            if wait_s is not None:
                heapq.heappush(going, (now_ms() + wait_s * 1000, next(order), steps))
        for machine in street.machines.values():
            machine.tick()
        due_ms = [due for due, _, _ in going[:1]]
        due_ms += [began_ms + coming.at_s * 1000] if coming else []
        wait_ms = min([TICK_S * 1000, *(due - now_ms() for due in due_ms)])
        time.sleep(max(0.0, wait_ms) / 1000)
