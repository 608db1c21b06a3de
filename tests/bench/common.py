# SPDX-License-Identifier: GPL-2.0-or-later
"""What the measurements share: rows beside a peer's, a table, build/bench-NAME.json, progress."""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from tests.lab.cluster import Group
from tests.lab.world import ROOT

_began_s = time.monotonic()


class AddressGroup(Group):
    """Addresses and no service, which is all that keepalived has."""

    def text(self) -> str:
        return super().text().partition(f"[[group.{self.name}.service]]")[0]


@dataclass(frozen=True)
class Row:
    """One measured thing; None where there is nobody to compare with, or nothing to keep to."""

    name: str
    ours: float | None
    peer: float | None
    unit: str
    limit: float | None = None

    @property
    def ok(self) -> bool:
        """Ours is within its limit; what has no limit is well."""
        return self.limit is None or (self.ours is not None and self.ours <= self.limit)


def say(text: str) -> None:
    """Progress, with the seconds since the start."""
    print(f"{time.monotonic() - _began_s:6.1f} s  {text}", flush=True)


def load() -> float:
    """Load average of the last minute (getloadavg(3)); above the number of cores others wait."""
    return round(os.getloadavg()[0], 2)


def as_installed() -> None:
    """What we start finds byte code and a buffered output, as on a machine of its own."""
    for name in ("PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED", "PYTHONPYCACHEPREFIX"):
        os.environ.pop(name, None)


def p95(values: Sequence[float]) -> float:
    """The 95th percentile; of 20 values, between the two largest."""
    return statistics.quantiles(values, n=20, method="inclusive")[-1]


def finish(name: str, rows: Sequence[Row], peer: str, remarks: Sequence[str] = ()) -> int:
    """Print the table, write build/bench-NAME.json; the exit status, 1 where a limit is missed."""
    rows = [*rows, Row("load average at the end", load(), None, f"of {os.cpu_count()} cores")]
    table = [("", "Standpipe", peer, "unit", "limit", "")]
    table += [
        (
            row.name,
            _number(row.ours),
            _number(row.peer),
            row.unit,
            _number(row.limit),
            "" if row.limit is None else "ok" if row.ok else "MISSED",
        )
        for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    print(flush=True)
    for cells in table:
        first = cells[0].ljust(widths[0])
        numbers = [cells[1].rjust(widths[1]), cells[2].rjust(widths[2])]
        rest = [cells[3].ljust(widths[3]), cells[4].rjust(widths[4]), cells[5]]
        print("  ".join([first, *numbers, *rest]).rstrip())
    for remark in remarks:
        print(f"- {remark}")
    path = ROOT / "build" / f"bench-{name}.json"
    path.parent.mkdir(exist_ok=True)
    found = [{**asdict(row), "ok": row.ok} for row in rows]
    path.write_text(json.dumps(found, indent=1) + "\n")
    print(f"written to {path.relative_to(ROOT)}", flush=True)
    return 0 if all(row.ok for row in rows) else 1


def _number(value: float | None) -> str:
    """Three digits that matter."""
    if value is None:
        return "-"
    whole = abs(value) >= 100 or value == int(value)
    return f"{value:.0f}" if whole else f"{value:.3g}"
