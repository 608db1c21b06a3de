# SPDX-License-Identifier: GPL-2.0-or-later
"""The client's end of the agent's socket: one JSON object a line, one request a connection."""

import argparse
import errno
import json
import os
import socket
import sys
from collections.abc import Callable
from typing import Any

VERSION = 1
ANSWER_LIMIT_BYTES = 64 << 20
UNKNOWN_END = 3

Progress = Callable[[str, dict[str, Any]], None]
"""Gets the text and the detail of each line before the last one."""


class Unanswered(Exception):
    """No final answer. `sent`: the request went out, so what it asked for may have happened."""

    def __init__(self, text: str, *, sent: bool) -> None:
        super().__init__(text)
        self.sent = sent


def socket_path(options: argparse.Namespace) -> str:
    """Of the agent that `--run-dir` means."""
    return os.path.join(options.run_dir, "agent.sock")


def ask(
    options: argparse.Namespace,
    verb: str,
    args: dict[str, Any],
    *,
    within_s: float,
    progress: Progress = lambda *_: None,
) -> dict[str, Any]:
    """The final answer, {"ok": bool, "text": str, "detail": {}}.

    `within_s`: the longest silence.
    Raises Unanswered, which says what to do.
    """
    path = socket_path(options)
    line = json.dumps({"v": VERSION, "verb": verb, "args": args}).encode() + b"\n"
    sent = False
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as channel:
            channel.settimeout(within_s)
            channel.connect(path)
            sent = True
            channel.sendall(line)
            return _final(channel, progress)
    except TimeoutError:
        text = f"{path}: the agent took the call and is silent for {within_s:g} s: {_hung()}"
        raise Unanswered(text, sent=sent) from None
    except OSError as error:
        raise Unanswered(f"{path}: {_why_not(error, path)}", sent=sent) from None
    except ValueError:
        text = f"{path}: the answer is not understood: is this command as old as the agent?"
        raise Unanswered(text, sent=sent) from None


def _final(channel: socket.socket, progress: Progress) -> dict[str, Any]:
    """Raises ValueError for what is no answer, ConnectionError where the end is missing."""
    buffer = bytearray()
    while len(buffer) <= ANSWER_LIMIT_BYTES:
        end = buffer.find(b"\n")
        if end < 0:
            part = channel.recv(1 << 18)
            if not part:
                raise ConnectionResetError(errno.ECONNRESET, "")
            buffer += part
            continue
        answer = json.loads(buffer[:end])
        del buffer[: end + 1]
        if not isinstance(answer, dict) or "ok" not in answer:
            raise ValueError
        text = cleaned(str(answer.get("text", "")))
        detail = answer.get("detail")
        detail = detail if isinstance(detail, dict) else {}
        if answer["ok"] is not None:
            return {"ok": answer["ok"] is True, "text": text, "detail": detail}
        progress(text, detail)
    raise ValueError


def _hung() -> str:
    return "its watchers restart it if it hangs; look again, then: journalctl -u standpipe"


def _why_not(error: OSError, path: str) -> str:
    match error.errno:
        case errno.ENOENT | errno.ECONNREFUSED:
            return (
                "no agent is running there; start it (systemctl start standpipe-agent, or "
                "standpipe run), or name its folder with --run-dir"
            )
        case errno.EACCES | errno.EPERM:
            return "this user may not; use sudo, or join its group: adduser USER standpipe"
        case errno.ECONNRESET | errno.EPIPE:
            return "the agent hung up before its last word; is it being restarted? ask again"
        case errno.EAGAIN:
            return f"the agent has too many callers at once: {_hung()}"
        case None:
            return f"{error}: {len(os.fsencode(path))} bytes; choose a shorter --run-dir"
        case _:
            return f"{error.strerror or error}; name its folder with --run-dir"


def cleaned(value: Any) -> Any:
    """Without what could steer a terminal: names and texts come from devices and peers, too."""
    if isinstance(value, str):
        return value if value.isprintable() else "".join(map(_visible, value))
    if isinstance(value, dict):
        return {cleaned(key): cleaned(item) for key, item in value.items()}
    if isinstance(value, list):
        return [cleaned(item) for item in value]
    return value


def _visible(letter: str) -> str:
    return letter if letter.isprintable() else " " if letter in "\n\t\r" else "?"


def complain(error: Unanswered) -> int:
    """Says it on standard error; the exit status."""
    sys.stderr.write(f"standpipe: {error}\n")
    return 1


def show_json(value: Any) -> None:
    """On standard output, indented, ASCII."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n")
