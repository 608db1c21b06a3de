# SPDX-License-Identifier: GPL-2.0-or-later
"""What keeper, agent and supervisor cost at rest with everything loaded, beside keepalived.

`python -m tests.bench.memory [--idle 30]`. "PSS" is what the kernel says (/proc/PID/smaps_rollup):
a page that n processes of the whole machine share counts 1/n. Other Python processes make it
smaller, so "alone" counts again, from /proc/PID/pagemap, as if Standpipe's own three were the only
ones. MB are 10^6 bytes.
"""

from __future__ import annotations

import argparse
import os
import re
import struct
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from tests.bench.common import Row, as_installed, finish, load, say
from tests.bench.loaded import Loaded
from tests.lab.netns import LabError
from tests.lab.world import World

KEEPER_MB, BOTH_MB = 15.0, 90.0
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
TICKS = os.sysconf("SC_CLK_TCK")
PRESENT, FRAME = 1 << 63, (1 << 55) - 1  # pagemap(5)
ROLES = ("keeper", "agent", "supervisor", "keepalived")
SOURCES = (re.compile(r"^Pss: +(\d+) kB$", re.M), re.compile(r"^Rss: +(\d+) kB$", re.M))
Pids = Mapping[str, Sequence[int]]


def rollup_mb(pids: Iterable[int]) -> tuple[float, float]:
    """(PSS, RSS) of all together."""
    total = [0, 0]
    for pid in pids:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        for place, pattern in enumerate(SOURCES):
            found = pattern.search(text)
            total[place] += int(found[1]) * 1024 if found else 0
    return total[0] / 1e6, total[1] / 1e6


def frames(pid: int) -> Iterator[int]:
    """Every page frame that is mapped, once for each mapping."""
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/pagemap", "rb") as pagemap:
        for line in maps:
            first, last = (int(text, 16) // PAGE_BYTES for text in line.split()[0].split("-"))
            if first >= 1 << 47:  # vsyscall has no page map
                continue
            pagemap.seek(first * 8)
            block = pagemap.read((last - first) * 8)
            for (entry,) in struct.iter_unpack("Q", block):
                if entry & PRESENT:
                    yield entry & FRAME


def alone_mb(pids: Pids, roles: Sequence[str]) -> dict[str, float]:
    """PSS of each role if nobody but these shared with them."""
    mapped = {role: [frame for pid in pids[role] for frame in frames(pid)] for role in roles}
    users = Counter(frame for found in mapped.values() for frame in found)
    return {
        role: sum(PAGE_BYTES / users[frame] for frame in found) / 1e6
        for role, found in mapped.items()
    }


def cpu_s(pids: Iterable[int]) -> float:
    """User and system time, with that of children that have ended (proc(5), stat 14 to 17)."""
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += sum(int(text) for text in fields[11:15])
    return total / TICKS


def at_rest(pids: Pids, idle_s: float) -> dict[str, float]:
    """CPU seconds a minute of each role."""
    began_s, before = time.monotonic(), {role: cpu_s(pids[role]) for role in ROLES}
    time.sleep(idle_s)
    minutes = (time.monotonic() - began_s) / 60
    return {role: (cpu_s(pids[role]) - before[role]) / minutes for role in ROLES}


def rows_of(pids: Pids, cpu: Mapping[str, float]) -> list[Row]:
    pss = {role: rollup_mb(pids[role])[0] for role in ROLES}
    rss = {role: rollup_mb(pids[role])[1] for role in ROLES}
    alone = alone_mb(pids, ROLES[:3]) | alone_mb(pids, ROLES[3:])

    def row(name: str, found: Mapping[str, float], roles: str, limit: float | None = None) -> Row:
        ours = sum(found[role] for role in roles.split())
        return Row(f"{name}", round(ours, 1), round(found["keepalived"], 1), "MB", limit)

    rows = [
        row("keeper, PSS", pss, "keeper", KEEPER_MB),
        row("keeper, PSS alone", alone, "keeper", KEEPER_MB),
        row("keeper + agent, PSS", pss, "keeper agent", BOTH_MB),
        row("keeper + agent, PSS alone", alone, "keeper agent", BOTH_MB),
        row("supervisor, PSS", pss, "supervisor"),
        row("supervisor, PSS alone", alone, "supervisor"),
        row("all three, PSS alone", alone, "keeper agent supervisor"),
        row("keeper, RSS", rss, "keeper"),
        row("agent, RSS", rss, "agent"),
    ]
    rows += [
        Row(f"{role}, CPU at rest", round(cpu[role], 2), round(cpu["keepalived"], 2), "s/min")
        for role in ROLES[:3]
    ]
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.memory", description=__doc__)
    parser.add_argument("--idle", type=float, default=30.0, metavar="S", help="to count CPU time")
    options = parser.parse_args()
    as_installed()
    say(f"load average {load()} at the start")
    try:
        with World.build() as world:
            pids = Loaded(world).pids()
            say(f"at rest for {options.idle:g} s")
            cpu = at_rest(pids, options.idle)
            rows = rows_of(pids, cpu)
    except LabError as error:
        print(f"bench memory: {error}", file=sys.stderr)
        return 1
    remarks = [
        "keepalived is VRRP alone, two processes, adverts each 200 ms like ours",
        "RSS counts in full what is shared",
        "the agent's CPU has the commands that its checks ran in it",
    ]
    return finish("memory", rows, "keepalived", remarks)


if __name__ == "__main__":
    sys.exit(main())
