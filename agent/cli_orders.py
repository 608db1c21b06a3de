# SPDX-License-Identifier: GPL-2.0-or-later
"""`switchover`, `failover`, `maintenance`, `clear`, `reload`: what people ask the agent to do.

Exit 0 done, 1 refused or failed, 3 not known how it ended.
"""

import argparse
import os
import sys
import time
from typing import Any

from agent.cli_paint import paint_for_stderr
from agent.cli_socket import UNKNOWN_END, Unanswered, ask, show_json

SILENCE_S = 600.0  # a cold start is long; an agent that hangs is ended by its keeper, and seen here


class _Shown:
    """Progress on standard error. A step that lasts has one line, drawn again on a terminal and
    told at each new number of sessions elsewhere."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._live = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._step = ""
        self._sessions: Any = None
        self._open = False  # a line is drawn, and not ended

    def tell(self, text: str, detail: dict[str, Any]) -> None:
        """`detail`: of its `step`, and of `sessions` that are up; {} for what is no step."""
        step, sessions = str(detail.get("step") or ""), detail.get("sessions")
        same = step != "" and step == self._step
        if same and sessions == self._sessions and not self._live:
            return
        self._step, self._sessions = step, sessions
        line = f"{time.monotonic() - self._began:8.2f} s  {text}"
        if not same:
            self.end_line()
        if self._live and step:
            line = paint_for_stderr().fit(line)
            sys.stderr.write(f"\r{line}\x1b[K")
            self._open = True
        else:
            sys.stderr.write(f"{line}\n")
        sys.stderr.flush()

    def end_line(self) -> None:
        """What comes next has a line of its own."""
        if self._open:
            sys.stderr.write("\n")
            self._open = False


def order(options: argparse.Namespace) -> int:
    """Progress goes to standard error as it comes, the end to standard output."""
    args = _args(options)
    if options.command == "failover" and not options.force:
        return _end(
            options,
            False,
            f"failover takes {options.group} without asking whether that is safe: say --force; "
            f"where both nodes are well, `standpipe switchover {options.group}` does it cleanly",
        )
    if options.command == "maintenance" and options.state == "off" and options.span_ms is not None:
        return _end(options, False, "--for belongs to `maintenance on`")
    shown = _Shown()
    try:
        answer = ask(options, options.command, args, within_s=SILENCE_S, progress=shown.tell)
    except Unanswered as error:
        shown.end_line()
        end = " It may have happened all the same: standpipe status" if error.sent else ""
        _end(options, None if error.sent else False, f"{error}.{end}" if end else str(error))
        return UNKNOWN_END if error.sent else 1
    except KeyboardInterrupt:
        shown.end_line()
        sys.stderr.write("standpipe: the agent goes on with it: standpipe status\n")
        raise
    shown.end_line()
    return _end(options, answer["ok"], answer["text"], answer["detail"])


def _args(options: argparse.Namespace) -> dict[str, Any]:
    match options.command:
        case "maintenance":
            args: dict[str, Any] = {"on": options.state == "on"}
            if options.span_ms is not None:
                args["for_s"] = options.span_ms // 1000
            return args
        case "clear":
            return {"group": options.group} if options.group else {}
        case "reload":
            return {}
        case _:
            args = {"group": options.group, "force": options.force}
            if options.to:
                args["to"] = options.to
            if getattr(options, "drain_ms", None) is not None:
                args["drain_s"] = options.drain_ms // 1000
            return args


def _end(
    options: argparse.Namespace, ok: bool | None, text: str, detail: dict[str, Any] | None = None
) -> int:
    if options.json:
        show_json({"version": 1, "ok": ok, "text": text, "detail": detail or {}})
    elif ok:
        sys.stdout.write(f"{text}\n")
    else:
        sys.stderr.write(f"standpipe: {text}\n")
        if detail is not None and getattr(options, "group", None):
            sys.stderr.write(f"why it is so: standpipe explain {options.group}\n")
    return 0 if ok else 1
