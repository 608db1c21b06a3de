# SPDX-License-Identifier: GPL-2.0-or-later
"""What the audience sees: a line for each thing that happens, and a table at the end.

Lines only, so that a log reads as a terminal does; colours where somebody looks at a terminal.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tests.lab.netns import now_ms

if TYPE_CHECKING:
    from tests.lab.demo_scene import Played

GREEN, RED, BOLD, DIM = "32", "31", "1", "2"


class View:
    """Prints to standard output; times count from the opening."""

    def __init__(self) -> None:
        terminal = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self._colours = terminal and "NO_COLOR" not in os.environ
        self._began_ms = now_ms()

    def opening(self, text: str) -> None:
        """The clock starts here."""
        self._began_ms = now_ms()
        self._print(text)

    def scene(self, number: int, of: int, title: str) -> None:
        self._print("")
        self._print(self._coloured(BOLD, f"[{number}/{of}] {title}"))

    def event(self, text: str, colour: str = "") -> None:
        """Something happened just now."""
        self._print(f"{(now_ms() - self._began_ms) / 1000:7.1f} s  {self._coloured(colour, text)}")

    def verdict(self, played: Played) -> None:
        if played.ok:
            self.event(f"ok: {played.story()}", GREEN)
        else:
            self.event("NOT OK", RED)
            for fault in played.faults:
                self.event(f"    {fault}", RED)

    def table(self, scenes: Sequence[Played], seconds: float) -> None:
        """The closing table."""
        rows: list[tuple[str, ...]] = [
            ("scene", "", "outage", "lost", "two owners", "owners", "alarms")
        ]
        rows += [_row(scene) for scene in scenes]
        widths = [max(len(row[column]) for row in rows) for column in range(6)]
        self._print("")
        for place, row in enumerate(rows):
            cells = [
                cell.rjust(width) if column in (2, 3, 4) else cell.ljust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=False))
            ]
            line = "  ".join([*cells, row[6]]).rstrip()
            colour = BOLD if not place else "" if scenes[place - 1].ok else RED
            self._print(self._coloured(colour, line))
        good = sum(scene.ok for scene in scenes)
        self._print("")
        self._print(f"{good} of {len(scenes)} scenes as they should be, in {seconds:.0f} s")

    def _coloured(self, colour: str, text: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if colour and self._colours else text

    def _print(self, text: str) -> None:
        print(text, flush=True)


def _row(scene: Played) -> tuple[str, ...]:
    measured = scene.measured
    kinds = list(dict.fromkeys(trap["kind"] for trap in measured.get("traps", ())))
    return (
        scene.name,
        "ok" if scene.ok else "NOT OK",
        _ms(measured.get("client_outage_ms")),
        str(measured.get("probes_lost", "-")),
        _ms(measured.get("double_owner_ms")),
        " > ".join(measured.get("owners_seen", ())) or "-",
        ", ".join(kinds),
    )


def _ms(value: Any) -> str:
    return "-" if value is None else f"{value:.0f} ms"
