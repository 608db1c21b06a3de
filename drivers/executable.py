# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether a command of the configuration could be run at all, without running it."""

import os
import shlex
from pathlib import Path

SHELL_WORDS = frozenset(
    (
        *("test", "[", "true", "false", "exit", ":", "echo", "if", "for", "while", "until", "case"),
        *("!", "exec", "cd", "export", "set", "umask", "kill", "printf", ".", "eval"),
    )
)


def fault(command: str) -> str:
    """What is wrong with the first word of a command for /bin/sh; "" where nothing is.

    Variables before it are passed over; what the shell itself knows needs no file.
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        return f"{command!r}: {error}"
    while words and "=" in words[0] and words[0].partition("=")[0].isidentifier():
        words.pop(0)
    if not words:
        return "it is empty"
    first = words[0]
    if first in SHELL_WORDS or first.startswith(("(", "{", "$")):
        return ""
    if "/" not in first:
        folders = os.environ.get("PATH", os.defpath).split(":")
        if any(_is_program(Path(folder, first)) for folder in folders):
            return ""
        return f"{first} is nowhere in PATH"
    if _is_program(Path(first)):
        return ""
    return f"{first} {'cannot be executed' if os.path.exists(first) else 'does not exist'}"


def _is_program(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)
