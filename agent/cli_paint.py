# SPDX-License-Identifier: GPL-2.0-or-later
"""Colours, symbols, bars and columns: only what the terminal at hand can show."""

import os
import sys
from typing import Any, TextIO

CODES = {"red": "31", "green": "32", "yellow": "33", "violet": "35", "dim": "2", "bold": "1"}
COLOUR_OF = {
    "up": "green",
    "degraded": "yellow",
    "down": "red",
    "unknown": "violet",
    "critical": "red",
    "major": "red",
    "minor": "yellow",
    "warning": "yellow",
    "cleared": "green",
}
"""Health and severity words -> colour."""
SYMBOLS = {
    "up": ("●", "+"),
    "degraded": ("◐", "~"),
    "down": ("✗", "x"),
    "unknown": ("?", "?"),
    "full": ("█", "#"),
    "part": ("▌", "="),
    "void": ("░", "."),
    "arrow": ("→", "->"),
    "more": ("…", "..."),
}
"""Name -> with Unicode, without."""
SPARKS = "▁▂▃▄▅▆▇█"


class Paint:
    """How to draw on one stream. `width`: columns, 0 for no end of the line."""

    __slots__ = ("colour", "fancy", "width")

    def __init__(self, colour: bool, fancy: bool, width: int) -> None:
        self.colour = colour
        self.fancy = fancy
        self.width = width

    def __call__(self, text: str, colour: str) -> str:
        """The text in that colour; "" is none."""
        if not self.colour or not colour or not text:
            return text
        return f"\x1b[{CODES[colour]}m{text}\x1b[0m"

    def symbol(self, name: str) -> str:
        """Of SYMBOLS; unknown words have the question mark."""
        return SYMBOLS.get(name, SYMBOLS["unknown"])[0 if self.fancy else 1]

    def health(self, word: str) -> str:
        """A coloured dot."""
        return self(self.symbol(word), COLOUR_OF.get(word, "violet"))

    def bar(self, pct: float | None, columns: int, colour: str) -> str:
        """A share, drawn."""
        if pct is None:
            return self(self.symbol("void") * columns, "dim")
        halves = round(min(max(pct, 0.0), 100.0) / 100 * columns * 2)
        done = self.symbol("full") * (halves // 2) + self.symbol("part") * (halves % 2)
        return self(done, colour) + self(self.symbol("void") * (columns - len(done)), "dim")

    def spark(self, values: list[float]) -> str:
        """Shares over time, newest last; "" where it cannot be drawn."""
        if not self.fancy:
            return ""
        top = len(SPARKS) - 1
        return "".join(SPARKS[round(min(max(pct, 0.0), 100.0) / 100 * top)] for pct in values)

    def fit(self, line: str) -> str:
        """Cut to the width; colours do not count."""
        if not self.width:
            return line
        room, place = self.width, 0
        while place < len(line):
            if line[place] == "\x1b":
                place = line.index("m", place) + 1
                continue
            if not room:
                return line[:place] + ("\x1b[0m" if self.colour else "")
            room -= 1
            place += 1
        return line


def paint_for_stdout() -> Paint:
    """Colours on a terminal unless NO_COLOR is set (no-color.org) or TERM is dumb."""
    return _paint_for(sys.stdout)


def paint_for_stderr() -> Paint:
    """As for standard output."""
    return _paint_for(sys.stderr)


def _paint_for(stream: TextIO) -> Paint:
    tty = stream.isatty()
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    fancy = "utf" in (stream.encoding or "").lower()
    width = 0
    if tty:
        try:
            width = int(os.environ.get("COLUMNS") or os.get_terminal_size(stream.fileno()).columns)
        except (OSError, ValueError):
            width = 80
    return Paint(tty and not plain, fancy, width)


def write_lines(lines: list[str], paint: Paint) -> None:
    """On standard output, cut to the terminal; letters it cannot show become "?"."""
    text = "".join(paint.fit(line).rstrip() + "\n" for line in lines)
    encoding = sys.stdout.encoding or "ascii"
    sys.stdout.write(text.encode(encoding, "replace").decode(encoding))


def span(seconds: Any) -> str:
    """ "45s", "3m 20s", "2h 05m", "3d 4h"; "" for no number."""
    if not isinstance(seconds, int | float) or seconds != seconds:
        return ""
    whole = max(0, int(min(seconds, 1e10)))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02}s"
    if whole < 86_400:
        return f"{whole // 3600}h {whole % 3600 // 60:02}m"
    return f"{whole // 86_400}d {whole % 86_400 // 3600}h"


def amount(value: Any, unit: str) -> str:
    """A value with its unit, in five or six letters; "?" for none."""
    if not isinstance(value, int | float) or value != value:
        return "?"
    if unit == "s":
        return span(value)
    if unit == "pct":
        return f"{value:.0f}%"
    if unit == "ratio":
        return f"{value:.2f}"
    step, marks = (1024, "BKMGTP") if unit == "bytes" else (1000, " kMGTP")
    size, place = float(value), 0
    while abs(size) >= step and place < len(marks) - 1:
        size /= step
        place += 1
    digits = 0 if place == 0 or abs(size) >= 100 else 1
    return f"{size:.{digits}f}{marks[place]}".strip()


def columns(rows: list[list[str]]) -> list[list[str]]:
    """The cells padded so that each column has one width; the last stays as it is."""
    widths: dict[int, int] = {}
    for row in rows:
        for place, cell in enumerate(row[:-1]):
            widths[place] = max(widths.get(place, 0), len(cell))
    return [
        [
            cell.ljust(widths[place]) if place < len(row) - 1 else cell
            for place, cell in enumerate(row)
        ]
        for row in rows
    ]
