# SPDX-License-Identifier: GPL-2.0-or-later
"""The file itself, and everything that is found wrong with it: all at once, each with its line."""

import json
import re
import stat
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.config_lines import At, LineIndex

SIZE_LIMIT_BYTES = 4 << 20
VALUE_SHOWN = 60
NOTHING: Any = object()
"""No value to show: the key is missing, or its value is a secret."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to put right. line 0: the file as a whole. path, value: "" where there is none."""

    file: str
    line: int
    path: str
    value: str
    why: str

    def __str__(self) -> str:
        """`file:line: path = value: why`."""
        where = f"{self.file}:{self.line}" if self.line else self.file
        what = f"{self.path} = {self.value}" if self.value else self.path
        return ": ".join(part for part in (where, what, self.why) if part)


class ConfigError(Exception):
    """The configuration cannot be used; `problems` says all that is wrong with it."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


def path_text(at: At) -> str:
    """("group", "sbc", "address", 0) as "group.sbc.address[1]": people count from one."""
    text = ""
    for step in at:
        if isinstance(step, int):
            text += f"[{step + 1}]"
        else:
            plain = re.fullmatch(r"[A-Za-z0-9_-]+", step)
            text += ("." if text else "") + (step if plain else json.dumps(step))
    return text


def value_text(value: Any) -> str:
    """The value as the file would have it, cut to a length that leaves the line readable."""
    if value is NOTHING:
        return ""
    if isinstance(value, dict):
        text = "{...}" if value else "{}"
    else:
        text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= VALUE_SHOWN else text[: VALUE_SHOWN - 3] + "..."


class Source:
    """A file that was read, and the notes about it. Lines are looked up only when there are any."""

    def __init__(self, name: str, text: str, content: dict[str, Any], check_files: bool) -> None:
        self.name = name
        self.content = content
        self.check_files = check_files
        self._text = text
        self._notes: list[tuple[At, Any, str, At | None]] = []
        self._remarks: list[tuple[At, Any, str, At | None]] = []

    def note(self, at: At, why: str, value: Any = NOTHING, see: At | None = None) -> None:
        """Something is wrong at `at`; `see`: the place that it collides with."""
        self._notes.append((at, value, why, see))

    def remark(self, at: At, why: str, value: Any = NOTHING) -> None:
        """Nothing is wrong, but whoever wrote this should know what it cannot do."""
        self._remarks.append((at, value, why, None))

    def problems(self) -> list[Problem]:
        """In the order of the lines."""
        return self._told(self._notes)

    def remarks(self) -> list[Problem]:
        """In the order of the lines."""
        return self._told(self._remarks)

    def _told(self, notes: list[tuple[At, Any, str, At | None]]) -> list[Problem]:
        if not notes:
            return []
        index = LineIndex(self._text)
        found = []
        for at, value, why, see in notes:
            also = f" (line {index.line(see)})" if see is not None else ""
            found.append(
                Problem(self.name, index.line(at), path_text(at), value_text(value), why + also)
            )
        return sorted(found, key=lambda problem: problem.line)


def _file_bytes(path: Path) -> bytes:
    """Raises ConfigError for whatever is there instead of a configuration."""

    def refuse(why: str) -> ConfigError:
        return ConfigError([Problem(str(path), 0, "", "", why)])

    try:
        found = path.stat()
        if stat.S_ISDIR(found.st_mode):
            raise refuse(f"is a directory; name the file in it, {path / 'standpipe.toml'}")
        if not stat.S_ISREG(found.st_mode):
            raise refuse("is not a regular file")
        if found.st_size > SIZE_LIMIT_BYTES:
            size_mib = found.st_size / (1 << 20)
            raise refuse(f"has {size_mib:.1f} MiB, a configuration has some KiB; is it this file?")
        return path.read_bytes()
    except FileNotFoundError:
        raise refuse("no such file; `standpipe init` writes one to start from") from None
    except PermissionError:
        raise refuse("may not be read by this user; run as root") from None
    except OSError as error:
        raise refuse(f"cannot be read: {error.strerror}") from None


def read_source(path: Path, check_files: bool) -> tuple[Source, bytes]:
    """The file as TOML, and its bytes. Raises ConfigError: unreadable, no text, no TOML, empty."""
    content = _file_bytes(path)

    def refuse(line: int, why: str, value: str = "") -> ConfigError:
        return ConfigError([Problem(str(path), line, "", value, why)])

    try:
        text = content.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        byte = content[error.start]
        raise refuse(line, f"is not UTF-8 text: byte 0x{byte:02x}; save it as UTF-8") from None
    try:
        tree = tomllib.loads(text)
    except RecursionError:
        raise refuse(0, "is nested too deeply to be a configuration") from None
    except ValueError as error:
        raise _syntax_problem(str(path), text, str(error)) from None
    if not tree:
        raise refuse(0, "says nothing; `standpipe init` writes one to start from")
    return Source(str(path), text, tree, check_files), content


def _syntax_problem(name: str, text: str, said: str) -> ConfigError:
    """tomllib's message ends in "(at line 3, column 5)" or "(at end of document)"."""
    why, _, where = said.partition(" (at ")
    place = re.match(r"line ([0-9]+), column ([0-9]+)", where)
    lines = text.splitlines() or [""]
    line = int(place[1]) if place else len(lines) if where else 0
    column = f", column {place[2]}" if place else ""
    shown = lines[line - 1].strip() if 0 < line <= len(lines) else ""
    if "community" in shown:
        shown = ""  # a secret, and problems travel: journal, traps
    if len(shown) > VALUE_SHOWN:
        shown = shown[: VALUE_SHOWN - 3] + "..."
    return ConfigError([Problem(name, line, shown, "", f"not TOML: {why}{column}")])
