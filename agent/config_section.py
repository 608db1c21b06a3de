# SPDX-License-Identifier: GPL-2.0-or-later
"""A table of the file, read key by key: each getter notes what is wrong and goes on with a default.

What was asked for is what is known: `close` notes every other key.
"""

import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

from agent.config_duration import duration_ms, duration_text
from agent.config_lines import At
from agent.config_sizes import rate_bytes_s, size_bytes, size_text
from agent.config_source import NOTHING, Source

T = TypeVar("T")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_WORDS = {
    str: "text in quotes",
    int: "a whole number",
    bool: "true or false",
    list: "a list",
    dict: "a table",
}


def did_you_mean(word: str, known: Collection[str]) -> str:
    """ "; did you mean X", or "" when nothing is near."""
    from difflib import get_close_matches

    near = get_close_matches(word.lower(), list(known), n=1, cutoff=0.6)
    return f"; did you mean {near[0]}" if near else ""


def listed(names: Collection[str]) -> str:
    """Names for people; "none" when there are none."""
    return ", ".join(names) if names else "none"


class Section:
    """`content` is the table at `at` in `source`."""

    __slots__ = ("_asked", "at", "content", "source")

    def __init__(self, source: Source, at: At, content: dict[str, Any]) -> None:
        self.source = source
        self.at = at
        self.content = content
        self._asked: dict[str, None] = {}

    def __contains__(self, key: str) -> bool:
        return key in self.content

    def spot(self, *steps: str | int) -> At:
        """The place of something in this table."""
        return (*self.at, *steps)

    def note(self, key: str, why: str, see: At | None = None, *, secret: bool = False) -> None:
        """The value of `key` is wrong, or the key is missing."""
        value = NOTHING if secret else self.content.get(key, NOTHING)
        self.source.note(self.spot(key), why, value, see)

    def remark(self, key: str, why: str) -> None:
        """What the value of `key` cannot do."""
        self.source.remark(self.spot(key), why, self.content.get(key, NOTHING))

    def only_with(self, key: str, *keys: str) -> None:
        """Notes each of `keys` that is there while `key`, which gives it a meaning, is not."""
        for other in keys:
            if other in self.content and key not in self.content:
                self.note(other, f"says nothing without {key}; give that too, or leave this out")

    def need(self, key: str, why: str) -> bool:
        """Notes a missing key. Whether it is there."""
        if key not in self.content:
            self.note(key, f"missing: {why}")
        return key in self.content

    def know(self, key: str) -> None:
        """A key that belongs here, whether or not anybody asks for it."""
        self._asked[key] = None

    def later(self, key: str, instead: str) -> None:
        """A key of a coming version: noted when it is there."""
        if key in self.content:
            self._asked[key] = None
            self.note(key, f"not in this version: {instead}")

    def value(self, key: str, kind: type[T]) -> T | None:
        """The value when it is there and of that kind. A bool is no whole number."""
        self._asked[key] = None
        found = self.content.get(key)
        if found is None or type(found) is kind:
            return found
        why = f"must be {_WORDS[kind]}"
        if kind is str and type(found) in (int, float):
            why += f'; did you mean "{found}"'
        elif kind is list and type(found) is str:
            why += f'; did you mean ["{found}"]'
        self.note(key, why)
        return None

    def text(self, key: str, default: str = "", *, needed: str = "") -> str:
        """Not empty when it is there. `needed`: why it must be."""
        found = self.value(key, str)
        if needed and not self.need(key, needed):
            return default
        if found is not None and not found.strip():
            self.note(key, "is empty" + (f": {needed}" if needed else "; leave the key out"))
            return default
        return default if found is None else found

    def form(self, key: str, parse: Callable[[str], T], default: T, *, needed: str = "") -> T:
        """Text that `parse` reads, or refuses with a ValueError that says why."""
        found = self.text(key, needed=needed)
        if not found:
            return default
        try:
            return parse(found)
        except ValueError as error:
            self.note(key, str(error))
            return default

    def whole(self, key: str, default: int, low: int, high: int) -> int:
        """A whole number of low..high."""
        found = self.value(key, int)
        if found is None:
            return default
        if not low <= found <= high:
            self.note(key, f"must be {low}..{high}")
            return default
        return found

    def size(self, key: str, default_bytes: int, low_bytes: int, high_bytes: int) -> int:
        """Bytes of low_bytes..high_bytes, from "512MiB", "50MB"."""
        return self._amount(key, size_bytes, default_bytes, (low_bytes, high_bytes))

    def rate(self, key: str, default_bytes_s: int, low_bytes_s: int, high_bytes_s: int) -> int:
        """Bytes a second, from "50MB/s"."""
        return self._amount(key, rate_bytes_s, default_bytes_s, (low_bytes_s, high_bytes_s))

    def _amount(
        self, key: str, parse: Callable[[str], int], default: int, span: tuple[int, int]
    ) -> int:
        found = self.form(key, parse, default)
        if key in self.content and not span[0] <= found <= span[1]:
            per_s = "/s" if parse is rate_bytes_s else ""
            low, high = (f"{size_text(limit)}{per_s}" for limit in span)
            self.note(key, f"must be {low}..{high}")
            return default
        return found

    def flag(self, key: str, default: bool) -> bool:
        """true or false."""
        found = self.value(key, bool)
        return default if found is None else found

    def share(self, key: str, default: float) -> float:
        """Percent: a number above 0, at most 100."""
        self._asked[key] = None
        found = self.content.get(key, default)
        if type(found) not in (int, float):
            self.note(key, "must be a number of percent, as in 90")
        elif not 0 < found <= 100:
            self.note(key, "must be above 0 and at most 100 percent")
        else:
            return float(found)
        return default

    def duration(self, key: str, default_ms: int, low_ms: int, high_ms: int) -> int:
        """Milliseconds of low_ms..high_ms, from "200ms", "10s", "24h"."""
        self._asked[key] = None
        found = self.content.get(key)
        if type(found) in (int, float):
            self.note(key, f'a time needs its unit; did you mean "{found}s"')
            return default_ms
        span_ms = self.form(key, duration_ms, default_ms)
        if key in self.content and not low_ms <= span_ms <= high_ms:
            self.note(key, f"must be {duration_text(low_ms)}..{duration_text(high_ms)}")
            return default_ms
        return span_ms

    def choice(
        self, key: str, known: Collection[str], default: str, later: Mapping[str, str] | None = None
    ) -> str:
        """One of `known`; `later`: words of a coming version and what to use instead."""
        found = self.text(key, default)
        if found in known:
            return found
        if later and found in later:
            self.note(key, f"not in this version: {later[found]}")
        else:
            self.note(key, f"must be one of {listed(known)}{did_you_mean(found, known)}")
        return default

    def texts(self, key: str, *, needed: str = "", one: bool = False) -> list[tuple[At, str]]:
        """A list of texts, each with its place. `one`: a single text stands for a list of one."""
        if needed and not self.need(key, needed):
            return []
        if one and type(self.content.get(key)) is str:
            found = self.text(key)
            return [(self.spot(key), found)] if found else []
        items: list[Any] = self.value(key, list) or []
        if needed and self.content[key] == []:
            self.note(key, f"is empty: {needed}")
        texts = []
        for place, item in enumerate(items):
            if type(item) is str and item.strip():
                texts.append((self.spot(key, place), item))
            else:
                self.source.note(self.spot(key, place), "must be text in quotes", item)
        return texts

    def secret_file(self, key: str, default: str = "", *, needed: str = "") -> str:
        """A file with a secret: there, regular, closed to others (where files are looked at)."""
        found = self.text(key, default, needed=needed)
        if found and self.source.check_files:
            why = secret_file_fault(found)
            if why:
                self.source.note(self.spot(key), why, found)
        return found

    def tables(self, key: str, *, inline: bool = False) -> list["Section"]:
        """An array of tables, `[[...]]`; `inline`: written as a list of { ... }."""
        self._asked[key] = None
        found = self.content.get(key, [])
        names = ".".join(self._names(key))
        shape = "a list of { ... }" if inline else f"an array of tables: [[{names}]]"
        if type(found) is not list:
            self.note(key, f"must be {shape}")
            return []
        tables = []
        for place, item in enumerate(found):
            if type(item) is dict:
                tables.append(Section(self.source, self.spot(key, place), item))
            else:
                self.source.note(self.spot(key, place), f"must be in {shape}", item)
        return tables

    def table(self, key: str) -> "Section | None":
        """A table inside this one."""
        found = self.value(key, dict)
        return None if found is None else Section(self.source, self.spot(key), found)

    def named(self, key: str, known: Collection[str] = ()) -> dict[str, "Section"]:
        """Tables by name, `[key.NAME]`. `known`: the only names there are."""
        tables = {}
        for name, item in (self.value(key, dict) or {}).items():
            at = self.spot(key, name)
            if type(item) is not dict:
                self.source.note(at, f"belongs into a table [{key}.NAME]", item)
            elif known and name not in known:
                why = f"no such {key}: there are {listed(known)}{did_you_mean(name, known)}"
                self.source.note(at, why)
            elif not _NAME.fullmatch(name):
                self.source.note(at, "a name has 1..63 letters, digits, '_', '.', '-'")
            else:
                tables[name] = Section(self.source, at, item)
        return tables

    def close(self, *, secret: bool = False) -> None:
        """Notes the keys that nobody asked for. `secret`: one may be a secret, mistyped."""
        for key, value in self.content.items():
            if key in self._asked:
                continue
            why = "unknown key" + (
                did_you_mean(key, self._asked) or f"; known here: {listed(self._asked)}"
            )
            self.source.note(self.spot(key), why, NOTHING if secret else value)

    def _names(self, key: str) -> list[str]:
        return [step for step in self.spot(key) if isinstance(step, str)]


def secret_file_fault(name: str) -> str:
    """What is wrong with a file of secrets; "" when nothing is."""
    import stat

    path = Path(name)
    if not path.is_absolute():
        return "must be a path from the root, as in /etc/standpipe/cluster.key"
    try:
        found = path.stat()
    except FileNotFoundError:
        return "no such file: put the secret there, chmod 0600"
    except OSError as error:
        return f"cannot be looked at: {error.strerror}; run as root"
    if not stat.S_ISREG(found.st_mode):
        return "is not a regular file"
    if found.st_mode & 0o007:
        return f"is open to everybody (mode {stat.S_IMODE(found.st_mode):04o}): chmod 0600 {name}"
    if not found.st_size:
        return "is empty: put the secret there"
    return ""
