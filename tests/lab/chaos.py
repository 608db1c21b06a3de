# SPDX-License-Identifier: GPL-2.0-or-later
"""Overlapping random faults on real packets, and a judge: `make chaos SEED=n`.

`python -m tests.lab.chaos [--seed N] [--runs R] [--nodes 2|3] [--paths 1|2] [--family 4|6]
[--advert MS] [--faults N] [--only KIND ...] [--candidate standpipe|keepalived]`;
`--loss-hour MINUTES` instead: steady loss, and every change of owner is a false one.
chaos_judge.py says what is asked. Each run's papers are in build/chaos. Exit 1 where a rule is
broken.
"""

from __future__ import annotations

import argparse
import datetime
import math
import secrets
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from tests.bench.common import as_installed, load, say
from tests.lab.chaos_candidates import CANDIDATES, VIP, Candidate, processes
from tests.lab.chaos_faults import KINDS, play
from tests.lab.chaos_faults import plan as faults_of
from tests.lab.chaos_judge import (
    AFTER_MS,
    LOST_MS,
    STALL,
    Effect,
    Judge,
    Span,
    Story,
    Verdict,
    Violation,
    length,
)
from tests.lab.chaos_machines import Calendar, Hogs, Machine, Stranger, Street, mac_address, plan
from tests.lab.chaos_stranger import notes
from tests.lab.measure import AddressWatch, Ownership, Prober, Probes
from tests.lab.netns import LabError, now_ms, wait_until
from tests.lab.world import ROOT, World

PAPERS = ROOT / "build" / "chaos"
PROBE_MS, LATE_MS = 2.0, 100.0
CALM_MS = 3000.0  # watched after AFTER_MS
SETTLE_S = 60.0
STOP_S = 20.0
LOSS_PCT = 5
BEFORE_MS, AROUND_MS = 6000.0, 1500.0  # of a violation, in what is printed of it
WORST_SHOWN = 5
ASKED_AGAIN_MS = 500.0  # a question repeated so soon is shown once
STALLED_MS = 100.0  # without a probe: its process comes first on this machine, so nothing ran


@dataclass(frozen=True)
class Setting:
    """What a run is made of."""

    candidate: str = "standpipe"
    nodes: int = 2
    paths: int = 1
    family: int = 4
    advert_ms: int = 200

    @property
    def name(self) -> str:
        return f"{self.candidate}-{self.nodes}n{self.paths}p{self.family}"

    def __str__(self) -> str:
        ways = "one path" if self.paths == 1 else "two paths"
        return (
            f"{self.candidate}, {self.nodes} nodes, {ways}, IPv{self.family}, T {self.advert_ms} ms"
        )


@dataclass(frozen=True)
class Row:
    """A run, judged."""

    seed: int
    faults: int
    story: Story
    verdict: Verdict
    moves: int
    stall_ms: float
    papers: Path


class Run:
    """A world with a candidate at work in it."""

    def __init__(self, setting: Setting, world: World, probe_ms: float = PROBE_MS) -> None:
        self.setting, self.world = setting, world
        self.address = VIP[setting.family]
        self.calendar = Calendar()
        for node in world.nodes:
            node.tell_patient("start")
        kind = CANDIDATES[setting.candidate]
        self.candidate: Candidate = kind(world, setting.family, setting.advert_ms)
        self.watch = AddressWatch(world)
        self.prober = Prober(world, self.address, interval_ms=probe_ms, late_ms=LATE_MS)
        machines = {
            node.name: Machine(node, self.candidate, world, self.calendar) for node in world.nodes
        }
        stranger = Stranger(world, setting.family, self.candidate.flood_priority, self.calendar)
        hogs = Hogs(world)
        self.street = Street(world, machines, stranger, hogs, self.calendar, self.address)
        for name in world.plan.nodes:
            self.candidate.launch(name)
        try:
            wait_until(self.ready, f"{setting.candidate} has settled and serves", SETTLE_S)
        except LabError as error:
            reports = "\n".join(map(self.candidate.report, world.plan.nodes))
            raise LabError(f"{error}\n{reports}") from error
        self.began_ms = now_ms()
        self.wall_s = datetime.datetime.now(datetime.UTC).timestamp() - self.began_ms / 1000

    def ready(self) -> bool:
        owners = self.watch.owners(self.address)
        return len(owners) == 1 and self.candidate.settled() and self.prober.served_by() in owners

    def stop(self) -> list[str]:
        """Tell all to stop; what is left of them then."""
        for name in self.street.machines:
            self.candidate.terminate(name)
        left: dict[str, list[str]] = {}

        def gone() -> bool:
            for name in self.street.machines:
                self.candidate.alive(name)  # it is reaped by that
                running = processes(self.world, name)
                left[name] = [f"{len(running)} processes are left on {name}"] if running else []
                if self.address in self.world.node(name).addresses():
                    left[name].append(f"{self.address} is left on {name}")
            return not any(left.values())

        try:
            wait_until(gone, "all have ended", STOP_S)
        except LabError:
            return [text for texts in left.values() for text in texts]
        return []

    # ------------------------------------------------------------ papers

    def decided(self) -> list[tuple[float, str]]:
        return [
            (wall_s * 1000 - self.wall_s * 1000, f"{name}: {text}")
            for name in self.street.machines
            for wall_s, text in self.candidate.decisions(name)
        ]

    def timeline(
        self, outages: Sequence[Span], owned: Ownership, stalls: Sequence[Effect] = ()
    ) -> list[tuple[float, str]]:
        """Everything that is known, in order of time."""
        macs = {mac_address(machine.node): name for name, machine in self.street.machines.items()}
        found = [(at_ms, f"FAULT   {text}") for at_ms, text in self.calendar.notes]
        found += [
            (effect.since_ms, f"STALL   no probe for {effect.until_ms - effect.since_ms:.0f} ms")
            for effect in stalls
        ]
        found += [
            (edge.at_ms, f"OWNER   {edge.node} {'has' if edge.gained else 'has lost'} the address")
            for edge in owned.edges
            if edge.address == self.address
        ]
        last_ms: dict[str, float] = {}
        for at_ms, text in notes(self.street.stranger.notes):
            words = text.split()
            often = words[0] == "asks" and at_ms - last_ms.get(text, -math.inf) < ASKED_AGAIN_MS
            last_ms[text] = at_ms
            if often:
                continue
            found.append(
                (at_ms, f"  lan   {' '.join(words[:-1])} ({macs.get(words[-1], words[-1])})")
            )
        for since_ms, until_ms in outages:
            if until_ms - since_ms < LOST_MS:
                continue
            found.append((since_ms, "CLIENT  unserved"))
            found.append((until_ms, f"CLIENT  served again after {until_ms - since_ms:.0f} ms"))
        found += [(at_ms, f"  says  {text}") for at_ms, text in self.decided()]
        return sorted((at_ms, text) for at_ms, text in found if at_ms >= self.began_ms - 1)

    def write(self, folder: Path, texts: dict[str, str]) -> None:
        """The papers of this run; those of the last one of that name are gone."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name, text in texts.items():
            (folder / name).write_text(text)
        for host in self.world.nodes:
            for path in host.folder.glob("*.log"):
                shutil.copy(path, folder / f"{host.name}-{path.name}")


def lines(timeline: Sequence[tuple[float, str]], began_ms: float, *spans: Span) -> list[str]:
    """For people: seconds since the start of the chaos; all of it, or what is in the spans."""
    return [
        f"{(at_ms - began_ms) / 1000:9.3f}  {text}"
        for at_ms, text in timeline
        if not spans or any(since <= at_ms <= until for since, until in spans)
    ]


def said(violation: Violation, began_ms: float) -> str:
    since, until = ((at_ms - began_ms) / 1000 for at_ms in violation.span)
    return f"{violation.rule}: {violation.text} ({since:.3f} to {until:.3f} s)"


def watched(run: Run) -> tuple[Probes, Ownership]:
    """Wait until all probes are decided."""
    ends_ms = now_ms()
    time.sleep((LATE_MS + 50) / 1000)
    probes = run.prober.record()
    kept = [index for index, sent in enumerate(probes.sent_ms) if sent <= ends_ms]
    return Probes(
        [probes.sent_ms[i] for i in kept], [probes.by[i] for i in kept]
    ), run.watch.record()


def chaos(
    setting: Setting,
    seed: int,
    faults: int,
    only: Sequence[str] = KINDS,
    papers: Path = PAPERS,
) -> Row:
    """One run: build, break, judge, write."""
    with World.build(plan(setting.nodes, setting.paths)) as world:
        run = Run(setting, world)
        say(f"seed {seed}: {setting}; {faults} faults")
        calendar = faults_of(seed, faults, setting.nodes, setting.paths, only)
        play(run.street, calendar, lambda text: say(f"seed {seed}: {text}"))
        over_ms = now_ms()
        run.calendar.note("all is mended")
        time.sleep((AFTER_MS + CALM_MS) / 1000)
        probes, owned = watched(run)
        ended_ms = probes.sent_ms[-1]
        outages = probes.outages(run.began_ms, ended_ms)
        stalls = [Effect(STALL, "", since, until) for since, until in stalled(probes)]
        timeline = run.timeline(outages, owned, stalls)
        reports = {f"{name}.txt": run.candidate.report(name) for name in run.street.machines}
        left = run.stop()
        names = list(run.street.machines)
        story = Story(
            nodes=names,
            paths=setting.paths,
            began_ms=run.began_ms,
            over_ms=over_ms,
            ended_ms=ended_ms,
            effects=[*run.calendar.effects, *stalls],
            outages=outages,
            owned={name: owned.spans(name, run.address, run.began_ms, ended_ms) for name in names},
            left=[*run.calendar.overdue, *left],
        )
        verdict = Judge(story).verdict()
        folder = papers / f"{setting.name}-{seed}"
        row = Row(
            seed, faults, story, verdict, moves(owned, run), probes.stall_ms(run.began_ms), folder
        )
        told = "\n".join(findings(row, timeline)) + "\n"
        whole = "\n".join(lines(timeline, run.began_ms)) + "\n"
        run.write(folder, {"timeline.txt": whole, "findings.txt": told, **reports})
        print(told, flush=True)
        return row


def stalled(probes: Probes) -> list[Span]:
    """When the measuring machine stood still."""
    return [span for span in pairwise(probes.sent_ms) if length(span) > STALLED_MS]


def moves(owned: Ownership, run: Run) -> int:
    """How often a node came to have the address after the start."""
    gained = [e for e in owned.edges if e.gained and e.address == run.address]
    return sum(edge.at_ms > run.began_ms for edge in gained)


def findings(row: Row, timeline: Sequence[tuple[float, str]]) -> list[str]:
    """The violations with what went on around them, and the longest stretches."""
    began_ms = row.story.began_ms
    found = []
    for violation in row.verdict.violations:
        found += ["", f"== seed {row.seed}: {said(violation, began_ms)}"]
        if violation.rule == "unserved sum":
            continue  # its stretches are below
        since, until = violation.span
        near = (since - BEFORE_MS, min(until, since + BEFORE_MS) + AROUND_MS)
        found += lines(timeline, began_ms, near)
    found += ["", f"seed {row.seed}: longest without excuse:"]
    for span, who in row.verdict.unexcused[:WORST_SHOWN]:
        found.append(
            f"{(span[0] - began_ms) / 1000:9.3f}  {length(span):.0f} ms, {who} could serve"
        )
    found.append(f"seed {row.seed}: longest with two owners that hear each other:")
    for span, who in row.verdict.doubled[:WORST_SHOWN]:
        found.append(f"{(span[0] - began_ms) / 1000:9.3f}  {length(span):.0f} ms, {who}")
    return found


def table(setting: Setting, rows: Sequence[Row]) -> list[str]:
    """One line a run. Milliseconds."""
    head = ("seed", "faults", "s", "unserved", "unexcused", "longest", "two owners", "longest")
    cells: list[tuple[str, ...]] = [(*head, "moves", "stall", "verdict")]
    for row in rows:
        verdict = row.verdict
        lasted_s = (row.story.ended_ms - row.story.began_ms) / 1000
        rules = sorted({violation.rule for violation in verdict.violations})
        numbers = [
            verdict.unserved_ms,
            verdict.unexcused_ms,
            max((length(span) for span, _ in verdict.unexcused), default=0.0),
            sum(length(span) for span, _ in verdict.doubled),
            max((length(span) for span, _ in verdict.doubled), default=0.0),
        ]
        cells.append(
            (
                *(str(row.seed), str(row.faults), f"{lasted_s:.0f}"),
                *(f"{number:.0f}" for number in numbers),
                *(str(row.moves), f"{row.stall_ms:.0f}", ", ".join(rules) or "ok"),
            )
        )
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    told = ["  ".join(c.rjust(w) for c, w in zip(line, widths, strict=True)) for line in cells]
    return [f"{setting}; load {load()}", *told]


def loss_hour(setting: Setting, minutes: float) -> int:
    """Each node's frames are lost by the switch at LOSS_PCT; false take-overs, exit status."""
    with World.build(plan(setting.nodes, setting.paths)) as world:
        run = Run(setting, world, probe_ms=10.0)
        say(f"{setting}: {LOSS_PCT} % of what each node sends is lost, for {minutes:g} minutes")
        for machine in run.street.machines.values():
            for line in machine.lines:
                line.begin(0, "sent loss", LOSS_PCT)
        run.began_ms = now_ms()
        for minute in range(1, int(minutes) + 1):
            time.sleep(max(0.0, run.began_ms + minute * 60_000 - now_ms()) / 1000)
            if minute % 5 == 0 or minute == int(minutes):
                say(f"minute {minute}: {moves(run.watch.record(), run)} changes of owner")
        time.sleep(max(0.0, run.began_ms + minutes * 60_000 - now_ms()) / 1000)
        probes, owned = watched(run)
        timeline = run.timeline([], owned)
        changes = moves(owned, run)
        longest_ms = probes.outage_ms(run.began_ms)
        whole = "\n".join(lines(timeline, run.began_ms)) + "\n"
        folder = PAPERS / f"{setting.name}-loss"
        run.write(folder, {"timeline.txt": whole})
        print(f"{setting}: {minutes:g} minutes, {LOSS_PCT} % lost: {changes} changes of owner,")
        print(f"client unserved for at most {longest_ms:.0f} ms; see {folder.relative_to(ROOT)}")
        return int(changes > 0)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.lab.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, help="of the first run; default: any")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--nodes", type=int, choices=(2, 3), default=2)
    parser.add_argument("--paths", type=int, choices=(1, 2), default=1)
    parser.add_argument("--family", type=int, choices=(4, 6), default=4)
    parser.add_argument("--advert", type=int, default=200, metavar="MS")
    parser.add_argument("--faults", type=int, default=40)
    parser.add_argument("--only", nargs="+", choices=KINDS, default=KINDS, metavar="KIND")
    parser.add_argument("--candidate", choices=sorted(CANDIDATES), default="standpipe")
    parser.add_argument("--loss-hour", type=float, metavar="MINUTES")
    chosen = parser.parse_args(argv)
    as_installed()
    setting = Setting(chosen.candidate, chosen.nodes, chosen.paths, chosen.family, chosen.advert)
    seed = secrets.randbelow(100_000) if chosen.seed is None else chosen.seed
    rows = []
    try:
        if chosen.loss_hour:
            return loss_hour(setting, chosen.loss_hour)
        for number in range(seed, seed + chosen.runs):
            rows.append(chaos(setting, number, chosen.faults, chosen.only))
    except LabError as error:
        print(f"chaos: {error}", file=sys.stderr)
        return 1
    print("\n".join(table(setting, rows)))
    print(f"papers: {', '.join(str(row.papers.relative_to(ROOT)) for row in rows)}")
    return int(any(row.verdict.violations for row in rows))


if __name__ == "__main__":
    sys.exit(main())
