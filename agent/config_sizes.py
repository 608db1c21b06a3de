# SPDX-License-Identifier: GPL-2.0-or-later
"""Sizes and rates as people write them: "512MiB" (1024s), "50MB" (1000s), "50MB/s"."""

import re

_UNITS = {
    **{f"{letter}iB": 1024**power for letter, power in (("T", 4), ("G", 3), ("M", 2), ("K", 1))},
    **{f"{letter}B": 1000**power for letter, power in (("T", 4), ("G", 3), ("M", 2), ("k", 1))},
    "B": 1,
}
_FORM = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)\s*([kKMGT]?i?B)")


def size_bytes(text: str) -> int:
    """Whole bytes. Raises ValueError that says how to write it."""
    found = _FORM.fullmatch(text.strip())
    unit = found[2] if found else ""
    unit = {"kiB": "KiB", "KB": "kB"}.get(unit, unit)
    if found is None or unit not in _UNITS:
        raise ValueError('not a size: a number and B, kB, MB, GB, KiB, MiB or GiB, as in "1GiB"')
    return int(float(found[1]) * _UNITS[unit])


def rate_bytes_s(text: str) -> int:
    """Bytes a second. Raises ValueError that says how to write it."""
    amount, slash, unit = text.partition("/")
    if not slash or unit.strip() != "s":
        raise ValueError('not a rate: write a size a second, as in "50MB/s"')
    return size_bytes(amount)


def size_text(size: int) -> str:
    """The shortest way to write it in the file."""
    whole = (f"{size // bytes_}{unit}" for unit, bytes_ in _UNITS.items() if size % bytes_ == 0)
    return min(whole, key=len)
