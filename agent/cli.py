# SPDX-License-Identifier: GPL-2.0-or-later
"""`standpipe`: the command line. A client of the agent's socket; everything else is imported late.

Exit: 0 well or done, 1 in trouble or refused, 2 degraded, 3 not known how it ended, 64 wrong usage,
130 interrupted.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

DEFAULTS = {
    "config": "/etc/standpipe/standpipe.toml",
    "run_dir": "/run/standpipe",
    "state_dir": "/var/lib/standpipe",
}
DAEMONS = ("run", "keeper", "agent")
USAGE = 64  # EX_USAGE, sysexits.h: 2 means "degraded"
INTERRUPTED = 130

_Command = Callable[[str, str], argparse.ArgumentParser]
"""Adds a subcommand: name, what it is for."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(USAGE, f"{self.prog}: {message}\n")


def parser() -> argparse.ArgumentParser:
    """Global options may stand before or after the command."""
    common = _Parser(add_help=False, argument_default=argparse.SUPPRESS)
    common.add_argument("--config", metavar="FILE", help=f"default {DEFAULTS['config']}")
    common.add_argument("--node", metavar="NAME", help="which node this is; default: by host name")
    common.add_argument("--run-dir", metavar="DIR", help=f"sockets; default {DEFAULTS['run_dir']}")
    common.add_argument(
        "--state-dir", metavar="DIR", help=f"journal, epochs; default {DEFAULTS['state_dir']}"
    )
    whole = _Parser(
        prog="standpipe",
        description="Keeps hosted services on tap.",
        epilog="standpipe(1) and standpipe.toml(5) have the rest.",
        parents=[common],
        allow_abbrev=False,
    )
    whole.add_argument("--version", action="store_true", help="print the version and end")
    commands = whole.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)

    def command(name: str, help_text: str) -> argparse.ArgumentParser:
        return commands.add_parser(
            name, help=help_text, description=help_text, parents=[common], allow_abbrev=False
        )

    _looking(command)
    _orders(command)
    _daemons(command)
    return whole


def _looking(command: _Command) -> None:
    status = command("status", "how this node is; exit 0 well, 1 in trouble, 2 degraded")
    _json(status)
    status.add_argument("--watch", action="store_true", help="draw again every second")
    status.add_argument(
        "--all", action="store_true", help="every resource, also those that are well"
    )
    status.add_argument(
        "-v", "--verbose", action="store_true", help="every proof of a standby, and its age"
    )
    explain = command("explain", "why things are as they are, and what the next step needs")
    explain.add_argument("group", nargs="?", metavar="GROUP")
    _json(explain)
    journal = command("journal", "what was decided, done and seen, newest last")
    journal.add_argument("--last", type=_count, default=20, metavar="N", help="default 20")
    journal.add_argument("--verify", action="store_true", help="exit 1 unless its chain holds")
    _json(journal)


def _orders(command: _Command) -> None:
    switchover = command("switchover", "planned: hand over to a standby, or a site, that is ready")
    failover = command("failover", "unplanned: take over although not everything is in order")
    for order in (switchover, failover):
        order.add_argument("group", metavar="GROUP|GEO")
        order.add_argument("--to", metavar="NODE|SITE", help="default: the standby preferred most")
        order.add_argument("--force", action="store_true", help="also against the rules' advice")
        _json(order)
    switchover.add_argument(
        "--drain",
        dest="drain_ms",
        type=_span,
        metavar="TIME",
        help='wait so long for the last session, as in "10m"; default: as configured',
    )
    maintenance = command("maintenance", "hold everything still while people work on this node")
    maintenance.add_argument("state", choices=("on", "off"))
    maintenance.add_argument(
        "--for", dest="span_ms", type=_span, metavar="TIME", help='as in "4h"; default 2h'
    )
    _json(maintenance)
    clear = command("clear", "its fault was mended: end quarantine, count anew")
    clear.add_argument("group", nargs="?", metavar="GROUP", help="default: every group here")
    _json(clear)
    _outside(command)
    _json(command("reload", "put the configuration on disk into service"))


def _outside(command: _Command) -> None:
    """Orders whose words are in files of their own."""
    from agent import cli_carried, cli_fence

    fence = command("fence", "the switch outside a node: test, look, off, on")
    cli_fence.arguments(fence)
    _json(fence)
    settings = command("settings", "what is carried of a group: status, diff, restore")
    cli_carried.arguments(settings)
    _json(settings)


def _daemons(command: _Command) -> None:
    _joining(command)
    check = command("check", "say all that is wrong with a configuration, touching nothing")
    check.add_argument("file", nargs="?", metavar="FILE")
    _json(check)
    for name, help_text in (
        ("run", "keeper and agent in the foreground, each restarted when it fails"),
        ("keeper", "the process that owns the addresses"),
        ("agent", "the process that watches, decides and tells"),
    ):
        command(name, help_text).add_argument(
            "--watch-only",
            action="store_true",
            help="no configuration: watch this machine, move nothing",
        )


def _joining(command: _Command) -> None:
    init = command("init", "make what a first node needs: key, authority, a configuration")
    _folder(init)
    init.add_argument("--cluster", metavar="NAME", help="what the nodes are together called")
    init.add_argument(
        "--member",
        action="append",
        metavar="NAME=ADDRESS[,ADDRESS]",
        default=[],
        help="a node and its own addresses; once for each, this one too",
    )
    invite = command("invite", "print a token with which one machine may join")
    invite.add_argument("name", nargs="?", metavar="NODE", help="the only one that may use it")
    invite.add_argument(
        "--for", dest="span_ms", type=_span, metavar="TIME", help='as in "4h"; default 1h'
    )
    join = command("join", "make this machine a node, with what a node or a cloud folder has")
    join.add_argument(
        "host", nargs="?", metavar="HOST[:PORT]", help="a node; port 7413 if not said"
    )
    join.add_argument("token", nargs="?", metavar="TOKEN", help="from `standpipe invite` there")
    _folder(join)
    join.add_argument("--force", action="store_true", help="keep what is there already as .old")
    join.add_argument("--from-cloud", metavar="URL", help="where no node can be reached")
    join.add_argument("--user", default="", metavar="NAME", help="for the cloud folder")
    join.add_argument("--password-file", default="", metavar="FILE", help="for the cloud folder")
    join.add_argument("--ca-file", default="", metavar="FILE", help="its authority; default: usual")
    join.add_argument("--key", metavar="FILE", help="cluster.key, which opens what lies there")


def _folder(command: argparse.ArgumentParser) -> None:
    command.add_argument("--dir", default="/etc/standpipe", help="default /etc/standpipe")


def _json(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="for machines: see standpipe(1)")


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text[:9]) <= 100_000:
        raise argparse.ArgumentTypeError("must be 1..100000")
    return int(text)


def _span(text: str) -> int:
    from agent.config_duration import duration_ms

    try:
        span_ms = duration_ms(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if span_ms < 1000:
        raise argparse.ArgumentTypeError("must be 1s or more")
    return span_ms


def main(argv: Sequence[str] | None = None) -> int:
    """The console script. Returns the exit status."""
    whole = parser()
    try:
        options = whole.parse_args(argv)
        _settle(options)
        if options.version:
            from importlib.metadata import version

            print(f"standpipe {version('standpipe')}")
            return 0
        if options.command is None:
            whole.print_help(sys.stderr)
            return USAGE
        status = _serve(options) if options.command in DAEMONS else _client(options)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # the reader went away: nothing is left to be told to anybody
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _settle(options: argparse.Namespace) -> None:
    """What was not given: from the environment, then the defaults."""
    options.config_given = "config" in options or bool(os.environ.get("STANDPIPE_CONFIG"))
    options.node = getattr(options, "node", None)
    for name, usual in DEFAULTS.items():
        if name not in options:
            setattr(options, name, os.environ.get(f"STANDPIPE_{name.upper()}") or usual)


def _client(options: argparse.Namespace) -> int:
    match options.command:
        case "status":
            from agent.cli_status import status as answer
        case "explain":
            from agent.cli_history import explain as answer
        case "journal":
            from agent.cli_history import journal as answer
        case "init":
            from agent.cli_setup import init as answer
        case "invite":
            from agent.cli_join import invite as answer
        case "join":
            from agent.cli_join import join as answer
        case "fence":
            from agent.cli_fence import fence as answer
        case "settings":
            from agent.cli_carried import settings as answer
        case "check":
            from agent.cli_setup import check as answer
        case _:
            from agent.cli_orders import order as answer
    return answer(options)


def _serve(options: argparse.Namespace) -> int:
    """The daemons read `config`, `run_dir`, `state_dir` (Path), `node`, `watch_only`."""
    from pathlib import Path

    if not options.config_given and not os.path.lexists(options.config):
        if not options.watch_only:
            sys.stderr.write(f"standpipe: no {options.config}: this machine is only watched\n")
        options.watch_only = True
    for name in DEFAULTS:
        setattr(options, name, Path(getattr(options, name)))
    match options.command:
        case "run":
            from agent import supervisor

            return supervisor.main(options)
        case "keeper":
            from agent import keeper

            return keeper.main(options)
        case _:
            from agent import service

            return service.main(options)


if __name__ == "__main__":
    sys.exit(main())
