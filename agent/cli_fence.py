# SPDX-License-Identifier: GPL-2.0-or-later
"""`standpipe fence`: what people ask of the switch outside a node: its state, a test, off, on.

Exit 0 seen as asked, 1 refused or failed, 3 not known how it ended.
"""

import argparse
import sys
from typing import Any

from agent.cli_socket import UNKNOWN_END, Unanswered, ask, show_json

SILENCE_S = 300.0  # [node.N.fence] within, at most, and as much again for a look before it
VERBS = ("test", "status", "off", "on")


def arguments(command: argparse.ArgumentParser) -> None:
    """What the command line takes."""
    command.add_argument("node", metavar="NODE")
    verb = command.add_mutually_exclusive_group(required=True)
    verb.add_argument(
        "--test", dest="verb", action="store_const", const="test",
        help="read what --off would change, with the rights that it needs; changes nothing",
    )  # fmt: skip
    verb.add_argument(
        "--status", dest="verb", action="store_const", const="status", help="is it on? only reads"
    )
    verb.add_argument(
        "--off", dest="verb", action="store_const", const="off", help="switch its power off; --yes"
    )
    verb.add_argument(
        "--on", dest="verb", action="store_const", const="on", help="give it power again"
    )
    command.add_argument("--yes", action="store_true", help="with --off: its services die")


def fence(options: argparse.Namespace) -> int:
    """Progress goes to standard error as it comes, the end to standard output."""
    if options.verb == "off" and not options.yes:
        return _end(
            options,
            False,
            f"this cuts the power of {options.node} and everything on it: say --yes; "
            f"`standpipe fence {options.node} --test` changes nothing",
        )
    args = {"node": options.node, "verb": options.verb}
    try:
        answer = ask(options, "fence", args, within_s=SILENCE_S, progress=_progress)
    except Unanswered as error:
        if not error.sent:
            return _end(options, False, str(error))
        look = f"It may have happened all the same: standpipe fence {options.node} --status"
        _end(options, None, f"{error}. {look}")
        return UNKNOWN_END
    known = answer["detail"].get("known", True)
    ended = _end(options, answer["ok"] if known else None, answer["text"], answer["detail"])
    return ended if known or answer["ok"] else UNKNOWN_END


def _progress(text: str, _detail: dict[str, Any]) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def _end(
    options: argparse.Namespace, ok: bool | None, text: str, detail: dict[str, Any] | None = None
) -> int:
    if options.json:
        show_json({"version": 1, "ok": ok, "text": text, "detail": detail or {}})
    elif ok:
        sys.stdout.write(f"{text}\n")
    else:
        sys.stderr.write(f"standpipe: {text}\n")
    return 0 if ok else 1
