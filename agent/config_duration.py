# SPDX-License-Identifier: GPL-2.0-or-later
"""Durations as people write them: "200ms", "10s", "1.5h", "2d"."""

import re

UNITS_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_FORM = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)\s*(ms|s|m|h|d)")


def duration_ms(text: str) -> int:
    """Whole milliseconds. Raises ValueError that says how to write it."""
    found = _FORM.fullmatch(text.strip())
    if found is None:
        raise ValueError('not a time: write a number and ms, s, m, h or d, as in "10s"')
    span_ms = float(found[1]) * UNITS_MS[found[2]]
    if not span_ms.is_integer():
        raise ValueError("finer than a millisecond")
    return int(span_ms)


def duration_text(span_ms: int) -> str:
    """The shortest way to write it in the file."""
    for unit in ("d", "h", "m", "s"):
        if span_ms and span_ms % UNITS_MS[unit] == 0:
            return f"{span_ms // UNITS_MS[unit]}{unit}"
    return f"{span_ms}ms"
