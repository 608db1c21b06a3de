# SPDX-License-Identifier: GPL-2.0-or-later
"""What both cost while nothing happens."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable
from pathlib import Path

from tests.bench.vip.pair import Pair, Seen
from tests.lab.netns import LabError

ROLES = ("keeper", "agent")
IDLE_S = 60.0


def idle(pair: Pair, _phase: float) -> Seen:
    """CPU seconds a minute on the active node, and on the standby; keepalived's there."""
    active, standby = pair.roles()
    found: dict[tuple[str, str], Iterable[int]] = {}
    for what, node in (("active", active), ("standby", standby)):
        for role in ROLES:
            pid = pair.cluster.pid(node, role)
            if pid is None:
                raise LabError(f"no {role} runs on {node}\n{pair.cluster.report(node)}")
            found[role, what] = [pid]
        found["keepalived", what] = [pid for pid in pair.pids(node) if _named(pid, "keepalived")]
    began_s, before = time.monotonic(), {key: cpu_s(pids) for key, pids in found.items()}
    time.sleep(IDLE_S)
    for (role, _), pids in found.items():
        if not all(Path(f"/proc/{pid}").exists() for pid in pids):
            raise LabError(f"a {role} ended while nothing happened\n{pair.cluster.report()}")
    minutes = (time.monotonic() - began_s) / 60
    spent = {key: (cpu_s(pids) - before[key]) / minutes for key, pids in found.items()}
    return {
        f"{role}, {what}": (spent[role, what], spent["keepalived", what])
        for role, what in found
        if role in ROLES
    }


def _named(pid: int, name: str) -> bool:
    return Path(f"/proc/{pid}/comm").read_text().strip() == name


def cpu_s(pids: Iterable[int]) -> float:
    """On a processor, by the scheduler's own count (proc(5), /proc/PID/task/TID/schedstat)."""
    total_ns = 0
    for pid in pids:
        for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            with contextlib.suppress(FileNotFoundError):
                total_ns += int(path.read_text().split()[0])
    return total_ns / 1e9
