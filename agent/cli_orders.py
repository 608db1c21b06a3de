# SPDX-License-Identifier: GPL-2.0-or-later
"""`switchover`, `failover`, `maintenance`, `clear`, `reload`: what people ask the agent to do.

Exit 0 done, 1 refused or failed, 3 not known how it ended.
"""

import argparse
import sys
import time
from typing import Any

from agent.cli_socket import UNKNOWN_END, Unanswered, ask, show_json

SILENCE_S = 600.0  # a cold start is long; an agent that hangs is ended by its keeper, and seen here


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
    began = time.monotonic()

    def progress(text: str) -> None:
        sys.stderr.write(f"{time.monotonic() - began:8.2f} s  {text}\n")
        sys.stderr.flush()

    try:
        answer = ask(options, options.command, args, within_s=SILENCE_S, progress=progress)
    except Unanswered as error:
        end = " It may have happened all the same: standpipe status" if error.sent else ""
        _end(options, None if error.sent else False, f"{error}.{end}" if end else str(error))
        return UNKNOWN_END if error.sent else 1
    except KeyboardInterrupt:
        sys.stderr.write("standpipe: the agent goes on with it: standpipe status\n")
        raise
    return _end(options, answer["ok"], answer["text"], answer["detail"])


def _args(options: argparse.Namespace) -> dict[str, Any]:
    match options.command:
        case "maintenance":
            args: dict[str, Any] = {"on": options.state == "on"}
            if options.span_ms is not None:
                args["for_s"] = options.span_ms // 1000
            return args
        case "clear":
            return {"group": options.group}
        case "reload":
            return {}
        case _:
            args = {"group": options.group, "force": options.force}
            if options.to:
                args["to"] = options.to
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
        if detail is not None and "group" in options:
            sys.stderr.write(f"why it is so: standpipe explain {options.group}\n")
    return 0 if ok else 1
