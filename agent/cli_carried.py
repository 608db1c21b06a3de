# SPDX-License-Identifier: GPL-2.0-or-later
"""How `standpipe settings` is written on the command line."""

import argparse
import sys

USAGE = 64  # EX_USAGE, sysexits.h
VERSIONS = {"status": (0, 0), "diff": (0, 2), "restore": (1, 1)}
"""Action -> how many versions it takes: at least, at most."""


def arguments(command: argparse.ArgumentParser) -> None:
    """What the command line takes."""
    command.add_argument("action", choices=VERSIONS)
    command.add_argument("group", metavar="GROUP")
    command.add_argument(
        "versions",
        nargs="*",
        metavar="VERSION",
        help="diff: none, one or two, against what lies here; restore: one",
    )
    command.add_argument(
        "--path",
        dest="paths",
        action="append",
        default=[],
        metavar="PATH",
        help="restore: only this file or folder; may be given again",
    )
    command.add_argument(
        "--force", action="store_true", help="restore: also where it is not served"
    )


def settings(options: argparse.Namespace) -> int:
    """Exit 0 done, 1 refused or failed, 2 (diff) there are differences, 64 wrong usage."""
    least, most = VERSIONS[options.action]
    if not least <= len(options.versions) <= most:
        wanted = " [VERSION [VERSION]]" if least < most else " VERSION" * most
        sys.stderr.write(f"usage: standpipe settings {options.action} GROUP{wanted}\n")
        return USAGE
    if options.action != "restore" and (options.paths or options.force):
        sys.stderr.write("standpipe: --path and --force belong to `settings restore`\n")
        return USAGE
    from agent import cli_settings
    from agent.wiring_identity import carry_hands

    options.version = options.versions[0] if options.versions else ""
    return cli_settings.settings(options, lambda: carry_hands("", None, _no_command))


async def _no_command(_line: str, _within_ms: int) -> tuple[bool, str]:
    """What is restored on the node that serves has no `apply`: the others run theirs."""
    return False, ""
