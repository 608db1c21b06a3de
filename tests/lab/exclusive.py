# SPDX-License-Identifier: GPL-2.0-or-later
"""Faults in rounds against a service that must never run twice, on real packets and processes.

`python -m tests.lab.exclusive [--rounds N] [--seed N] [--only FAULT ...]`: two nodes, a witness, a
lease. Each round breaks one thing or two, mends all of it and waits until the group has settled.
Exit 1 where a copy began while another one ran, where two ran for longer than a thawed one needs to
be stopped, or where a round did not settle.
"""

from __future__ import annotations

import argparse
import random
import secrets
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from tests.bench.common import as_installed, load, say
from tests.lab.cold_cluster import NODES, WITNESS, ColdGroup
from tests.lab.cold_notebook import doubles
from tests.lab.cold_scene import Scene, scene
from tests.lab.cold_split import rejoin, split
from tests.lab.netns import LabError, now_ms
from tests.lab.world import cut_power

ROUNDS = 50
THAW_MS = 50.0
SETTLE_S = 60.0
STAYS_MS = 1500.0
LONGEST_S = 7.0
Undo = Callable[[], object]


def power(found: Scene, names: Sequence[str]) -> Undo:
    cut_power([found.world.node(name) for name in names])
    return lambda: found.cluster.boot(*names)


def freeze(found: Scene, names: Sequence[str]) -> Undo:
    for name in names:
        found.signal(name, signal.SIGSTOP)

    def thaw() -> None:
        for name in names:
            found.signal(name, signal.SIGCONT)

    return thaw


def mute(found: Scene, names: Sequence[str]) -> Undo:
    return _ports(found, names, "mute", "heal")


def silence(found: Scene, names: Sequence[str]) -> Undo:
    return _ports(found, names, "silence", "heal")


def deafen(found: Scene, names: Sequence[str]) -> Undo:
    return _ports(found, names, "deafen", "heal")


def unplug(found: Scene, names: Sequence[str]) -> Undo:
    return _ports(found, names, "down", "up")


def _ports(found: Scene, names: Sequence[str], breaks: str, mends: str) -> Undo:
    ports = [port for name in names for port in found.world.node(name).ports.values()]
    for port in ports:
        getattr(port, breaks)()

    def undo() -> None:
        for port in ports:
            getattr(port, mends)()

    return undo


def part(found: Scene, _names: Sequence[str]) -> Undo:
    split(found.world, *NODES)
    return lambda: rejoin(found.world)


def _process(role: str, number: signal.Signals) -> Callable[[Scene, Sequence[str]], Undo]:
    def fault(found: Scene, names: Sequence[str]) -> Undo:
        for name in names:
            pid = found.cluster.pid(name, role)
            if pid is not None:
                found.cluster.kill(name, role, number)
        return lambda: None

    return fault


def _ledger(action: str) -> Callable[[Scene, Sequence[str]], Undo]:
    def fault(found: Scene, names: Sequence[str]) -> Undo:
        for name in names:
            found.cluster.tell(name, action)
        return lambda: None

    return fault


def order(found: Scene, _names: Sequence[str]) -> Undo:
    """A planned move, in the middle of whatever else happens."""
    found.cluster.cli(found.active, "switchover", "ledger")
    return lambda: None


FAULTS: dict[str, Callable[[Scene, Sequence[str]], Undo]] = {
    "power": power,
    "freeze": freeze,
    "mute": mute,
    "silence": silence,
    "deafen": deafen,
    "unplug": unplug,
    "part": part,
    "kill-agent": _process("agent", signal.SIGKILL),
    "kill-keeper": _process("keeper", signal.SIGKILL),
    "hang-agent": _process("agent", signal.SIGSTOP),
    "hang-keeper": _process("keeper", signal.SIGSTOP),
    "die": _ledger("die"),
    "hang": _ledger("hang"),
    "order": order,
}
LINKS = {"mute", "silence", "deafen", "unplug", "power"}  # do not stack on the same ports


@dataclass(frozen=True)
class Round:
    """What was done, and what the referee saw. overlaps: spans of two copies, in ms."""

    text: str
    double_starts: int
    overlaps: tuple[float, ...]
    settled_ms: float | None  # None: it did not

    @property
    def well(self) -> bool:
        short = all(span <= THAW_MS for span in self.overlaps)
        return self.double_starts == 0 and short and self.settled_ms is not None


@contextmanager
def broken(found: Scene, name: str, victims: Sequence[str]) -> Iterator[None]:
    undo = FAULTS[name](found, victims)
    try:
        yield
    finally:
        undo()


def play(found: Scene, dice: random.Random, only: Sequence[str]) -> Round:
    found.again()
    first = dice.choice(only)
    victims = _victims(found, dice)
    second = dice.choice([name for name in only if name not in LINKS] or [""])
    double = dice.random() < 0.4 and second != "" and first != second
    span_s = dice.uniform(0.2, LONGEST_S)
    text = f"{first} {'+'.join(victims)} {span_s:.1f} s" + (f", {second}" if double else "")
    with broken(found, first, victims):
        found.pause(span_s / 2)
        if double and first != "power":
            with broken(found, second, (dice.choice(NODES),)):
                found.pause(span_s / 2)
        else:
            found.pause(span_s / 2)
    mended_ms = now_ms()
    settled_ms = None
    try:
        settled_ms = settle(found) - mended_ms
    except LabError as error:
        print(f"exclusive: {text}: {error}", file=sys.stderr, flush=True)
    return judged(found, text, settled_ms)


def settle(found: Scene) -> float:
    """Until the group has settled and stays so; since when, in ms."""
    deadline_ms = now_ms() + SETTLE_S * 1000
    since_ms = 0.0
    while now_ms() < deadline_ms:
        if not found.cluster.settled(found.cluster.cold):
            since_ms = 0.0
        elif not since_ms:
            since_ms = now_ms()
        elif now_ms() - since_ms > STAYS_MS:
            return since_ms
        found.pause(0.05)
    raise LabError(f"in {SETTLE_S:g} s the group did not settle\n{found.cluster.report()}")


def _victims(found: Scene, dice: random.Random) -> Sequence[str]:
    choices = [(found.active,)] * 4 + [(found.standby,), (WITNESS,), NODES, (*NODES, WITNESS)]
    return dice.choice([*choices, (found.active, WITNESS)])


def judged(found: Scene, text: str, settled_ms: float | None) -> Round:
    copies = found.cluster.notebook.copies()
    spans = doubles(copies, found.start_ms, now_ms())
    begun = {copy.began_ms for copy in copies}
    return Round(
        text,
        sum(start in begun for start, _ in spans),
        tuple(end - start for start, end in spans),
        settled_ms,
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.lab.exclusive", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS, metavar="N")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6), metavar="N")
    names = list(FAULTS)
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="FAULT")
    options = parser.parse_args()
    as_installed()
    say(f"seed {options.seed}, load average {load()}")
    dice = random.Random(options.seed)
    rounds: list[Round] = []
    while len(rounds) < options.rounds:
        rounds += played(dice, options.only, options.rounds - len(rounds), len(rounds))
    bad = [found for found in rounds if not found.well]
    starts = sum(found.double_starts for found in rounds)
    longest = max((span for found in rounds for span in found.overlaps), default=0.0)
    print(f"{len(rounds)} rounds: {starts} double starts, two copies for {longest:.0f} ms at most")
    print(f"{len(bad)} rounds were not well", flush=True)
    return 1 if bad else 0


def played(dice: random.Random, only: Sequence[str], most: int, before: int) -> list[Round]:
    """In one world, until one of them did not settle."""
    rounds: list[Round] = []
    group = ColdGroup(exclusive="lease", restarts="1000 in 10m")
    with scene(group, witness=True) as found:
        while len(rounds) < most and (not rounds or rounds[-1].settled_ms is not None):
            rounds.append(play(found, dice, only))
            say(_line(before + len(rounds), rounds[-1]))
    return rounds


def _line(number: int, found: Round) -> str:
    settled = (
        "never settled" if found.settled_ms is None else f"settled in {found.settled_ms:.0f} ms"
    )
    overlaps = (
        f", two copies {[round(span) for span in found.overlaps]} ms" if found.overlaps else ""
    )
    starts = f", {found.double_starts} DOUBLE STARTS" if found.double_starts else ""
    return f"{number}: {found.text}: {settled}{overlaps}{starts}"


if __name__ == "__main__":
    sys.exit(main())
