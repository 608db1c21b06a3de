# SPDX-License-Identifier: GPL-2.0-or-later
"""`standpipe init` and `standpipe check`: before there is an agent to ask."""

import argparse
import os
import secrets
import sys
from pathlib import Path

from agent.cli_socket import show_json
from agent.config import ConfigError, Problem, load
from agent.core.settings import Settings

KEY_BYTES = 32
TEMPLATE = """\
# {path}: one file, the same on every node. standpipe.toml(5) has every key.
# As it is, this machine is only watched. Change it, then: standpipe check

[cluster]
name = "{cluster}"
key_file = "{key}"

[watch.disk]                          # full within a day: say so; within four hours: loudly
warn = "24h"
critical = "4h"

# ---- Two nodes, one address that moves between them, one service. Take away the "# ".
#
# [site.here]
#
# [node.{node}]
# site = "here"
# paths = ["10.1.0.11"]               # its own addresses, on two networks if there are two
# [node.other]
# site = "here"
# paths = ["10.1.0.12"]
#
# [group.web]
# nodes = ["{node}", "other"]         # preferred first
# standby = "hot"                     # hot: runs already; cold: is started on takeover
# failback = "manual"                 # manual | never | "10m" of good health
# [[group.web.address]]
# address = "10.1.0.100/24"
# interface = "eth0"
# vrid = 51                           # 1..255, its own on the segment
# [[group.web.service]]
# unit = "nginx.service"
# alive = [{{ tcp = "127.0.0.1:80" }}]
# restarts = "3 in 10m"               # then the group moves
#
# ---- Who is told.
#
# [nms.main]
# address = "10.1.0.200"
# snmp = {{ version = "2c", community = "public" }}
# inform = true
"""


def init(options: argparse.Namespace) -> int:
    """Writes cluster.key (0600) and standpipe.toml; nothing where either is there already."""
    folder = Path(options.dir).absolute()
    key, config = folder / "cluster.key", folder / "standpipe.toml"
    there = [str(path) for path in (key, config) if os.path.lexists(path)]
    if there:
        sys.stderr.write(
            f"standpipe: {' and '.join(there)} there already, nothing is written. A new node gets "
            f"copies of both files from a node that has them; to begin anew, move them away\n"
        )
        return 1
    node = os.uname().nodename.partition(".")[0] or "this"
    text = TEMPLATE.format(path=config, key=key, cluster=f"{node}-cluster", node=node)
    try:
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        _write_new(key, secrets.token_hex(KEY_BYTES) + "\n", 0o600)
        _write_new(config, text, 0o644)
    except OSError as error:
        sys.stderr.write(f"standpipe: {error.filename}: {error.strerror}; run as root, or --dir\n")
        return 1
    sys.stdout.write(
        f"{key}: the cluster's secret, for every node of it and nobody else\n"
        f"{config}: change it, copy both files to the other nodes, then: standpipe check\n"
    )
    return 0


def _write_new(path: Path, text: str, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w") as stream:
        os.fchmod(descriptor, mode)
        stream.write(text)
        stream.flush()
        os.fsync(descriptor)


def check(options: argparse.Namespace) -> int:
    """Exit 1 where there is anything to put right.

    A FILE that is named may belong to other machines; the configuration of this one may not.
    """
    path = Path(options.file or options.config)
    settings: Settings | None = None
    problems: list[Problem] = []
    try:
        settings = load(path, options.node, any_node=options.file is not None)
    except ConfigError as error:
        problems = error.problems
    if options.json:
        _show_json(path, settings, problems)
    elif settings is None:
        sys.stdout.write("".join(f"{problem}\n" for problem in problems))
        count = len(problems)
        sys.stderr.write(f"standpipe: {count} problem{'s' if count > 1 else ''} to put right\n")
    else:
        sys.stdout.write(f"{path}: good: {_summary(settings)}\n")
    return 1 if problems else 0


def _summary(settings: Settings) -> str:
    if not settings.nodes:
        return "no nodes, this machine is only watched"
    own = ", ".join(group.name for group in settings.own_groups()) or "no group"
    who = f"node {settings.node}, which may serve {own}"
    if not settings.node:
        who = f"this machine ({os.uname().nodename}) is none of its nodes"
    return (
        f"{settings.cluster}, {len(settings.nodes)} nodes, {len(settings.groups)} groups, "
        f"{sum(len(group.addresses) for group in settings.groups.values())} addresses; {who}"
    )


def _show_json(path: Path, settings: Settings | None, problems: list[Problem]) -> None:
    show_json(
        {
            "version": 1,
            "file": str(path),
            "ok": not problems,
            "digest": settings.digest if settings else None,
            "node": settings.node if settings else None,
            "groups": [group.name for group in settings.own_groups()] if settings else [],
            "problems": [
                {name: getattr(problem, name) for name in ("file", "line", "path", "value", "why")}
                for problem in problems
            ],
        }
    )
