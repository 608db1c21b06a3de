# SPDX-License-Identifier: GPL-2.0-or-later
"""On which line each key of a TOML file stands: what tomllib knows and does not tell.

Reads only text that tomllib has taken, so it skips values instead of judging them.
"""

import re
import tomllib
from bisect import bisect_left

At = tuple[str | int, ...]
"""A place in the file: ("group", "sbc", "address", 0, "vrid")."""

_BLANK = re.compile(r"(?:[ \t\r\n\ufeff]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_KEY = re.compile(r"""[A-Za-z0-9_-]+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'""")
_VALUE = re.compile(
    r'''"""(?:\\[\s\S]|[^\\])*?"{3,5}(?!")'''
    r"""|'''[\s\S]*?'{3,5}(?!')"""
    r"""|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'"""
    r"""|[^\[{"',\]}#\n][^,\]}#\n]*"""
)


class LineIndex:
    """`lines`: place -> line number, 1 for the first. Tables have the line of their header."""

    def __init__(self, text: str) -> None:
        self.lines: dict[At, int] = {(): 1}
        self._text = text
        self._pos = 0
        self._ends = [found.start() for found in re.finditer("\n", text)]
        self._counts: dict[At, int] = {}  # arrays of tables met so far
        self._read()

    def line(self, at: At) -> int:
        """Of the place, or of the nearest thing around it that the file spells out."""
        while at not in self.lines:
            at = at[:-1]
        return self.lines[at]

    def _read(self) -> None:
        here: At = ()
        self._skip(_BLANK)
        while self._pos < len(self._text):
            if self._text[self._pos] == "[":
                here = self._header()
            else:
                self._pair(here)
            self._skip(_BLANK)

    def _header(self) -> At:
        line = self._line()
        many = self._text.startswith("[[", self._pos)
        self._pos += 2 if many else 1
        keys = self._dotted()
        self._pos += 2 if many else 1
        at: At = ()
        for place, key in enumerate(keys):
            at = (*at, key)
            last = place == len(keys) - 1
            if many and last:
                self._counts[at] = self._counts.get(at, 0) + 1
            self.lines.setdefault(at, line)
            if at in self._counts:
                at = (*at, self._counts[at] - 1)
                self.lines.setdefault(at, line)
        if not many:
            self.lines[at] = line  # [a] may come after [a.b]
        return at

    def _pair(self, here: At) -> None:
        line = self._line()
        at = here
        for key in self._dotted():
            at = (*at, key)
            self.lines.setdefault(at, line)
        self._pos += 1  # the equals sign
        self._skip(_SPACE)
        self._value(at)

    def _dotted(self) -> list[str]:
        keys = []
        while True:
            self._skip(_SPACE)
            key = self._skip(_KEY)
            keys.append(str(tomllib.loads(f"k={key}")["k"]) if key[0] in "\"'" else key)
            self._skip(_SPACE)
            if self._text[self._pos] != ".":
                return keys
            self._pos += 1

    def _value(self, at: At) -> None:
        opening = self._text[self._pos]
        if opening not in "[{":
            self._skip(_VALUE)
            return
        closing = "]" if opening == "[" else "}"
        self._pos += 1
        self._skip(_BLANK)
        count = 0
        while self._text[self._pos] != closing:
            if opening == "[":
                self.lines[(*at, count)] = self._line()
                self._value((*at, count))
                count += 1
            else:
                self._pair(at)
            self._skip(_BLANK)
            if self._text[self._pos] == ",":
                self._pos += 1
                self._skip(_BLANK)
        self._pos += 1

    def _skip(self, form: re.Pattern[str]) -> str:
        found = form.match(self._text, self._pos)
        if found is None:
            raise ValueError(f"line {self._line()}: not as tomllib reads TOML")
        self._pos = found.end()
        return found[0]

    def _line(self) -> int:
        return bisect_left(self._ends, self._pos) + 1
