# SPDX-License-Identifier: GPL-2.0-or-later
"""`standpipe init` and `standpipe check`: before there is an agent to ask."""

import argparse
import os
import secrets
import sys
from dataclasses import asdict
from pathlib import Path

from agent.cli_socket import show_json
from agent.config import ConfigError, Problem, load
from agent.core.settings import Settings

KEY_BYTES = 32
SECRET = 0o600
TEMPLATE = """\
# {path}: one file, the same on every node. standpipe.toml(5) has every key.
# As it is, this machine is only watched. Change it, then: standpipe check

[cluster]
name = "{cluster}"
key_file = "{key}"
pki_dir = "{pki}"

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
    """Makes what is missing of cluster.key, standpipe.toml, pki; what is there stays as it is."""
    from agent.ports import PortError

    folder = Path(options.dir).absolute()
    key, config = folder / "cluster.key", folder / "standpipe.toml"
    try:
        text = _first_configuration(options, key, config)
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        lines = [
            _made(key, f"{secrets.token_hex(KEY_BYTES)}\n", SECRET, "the cluster's secret"),
            _made(config, text, 0o644, "change it, then: standpipe check"),
            *_identity(config, key, options.node),
        ]
    except ConfigError as error:
        sys.stderr.write(f"{error}\nstandpipe: put this right, then standpipe init again\n")
        return 1
    except PortError as error:
        sys.stderr.write(f"standpipe: {error}\n")
        return 1
    except OSError as error:
        sys.stderr.write(f"standpipe: {error.filename}: {error.strerror}; run as root, or --dir\n")
        return 1
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.write("for each further node: standpipe invite here, standpipe join there\n")
    return 0


def _first_configuration(options: argparse.Namespace, key: Path, config: Path) -> str:
    """Raises Refused for members that make no sense."""
    node = os.uname().nodename.partition(".")[0] or "this"
    cluster = options.cluster or f"{node}-cluster"
    pki = config.parent / "pki"
    text = TEMPLATE.format(path=config, key=key, pki=pki, cluster=cluster, node=node)
    if not options.member:
        return text
    from agent.ports import Refused

    tables = ["", "[site.here]"]
    for member in options.member:
        name, equals, addresses = member.partition("=")
        if not equals or not name or not addresses:
            raise Refused(f'--member {member}: write NAME=ADDRESS, as in "lon1=10.1.0.11"')
        paths = ", ".join(f'"{address.strip()}"' for address in addresses.split(","))
        tables += [f"[node.{name}]", 'site = "here"', f"paths = [{paths}]"]
    return text.replace("\n# ----", "\n".join(tables) + "\n\n# ----", 1)


def _made(path: Path, text: str, mode: int, what: str) -> str:
    from agent.writing import entrust, write_new

    if os.path.lexists(path):
        return f"{path}: was there, is as it was"
    write_new(path, text.encode(), mode)
    if mode == SECRET:
        entrust(path)
    return f"{path}: made; {what}"


def _identity(config: Path, key: Path, node: str | None) -> list[str]:
    """The authority that belongs to the key, and this machine's certificate. Raises Refused."""
    from agent.wiring_identity import authority, read_key
    from agent.writing import entrust

    settings = load(config, None, check_files=False, any_node=True)
    pki = Path(settings.pki_dir)
    name = node or settings.node or os.uname().nodename.partition(".")[0] or "this"
    lines = []
    if os.path.lexists(pki / "ca.crt"):
        lines.append(f"{pki}: was there, its authority is as it was")
    else:
        secret = read_key(Path(settings.key_file) if settings.key_file else key)
        authority.make_ca(pki, settings.cluster, secret=secret)
        lines.append(f"{pki}: made; the authority that belongs to the key")
    if authority.renew_if_due(pki, settings.cluster, name):
        lines.append(f"{pki / 'node.crt'}: made, for {name}")
    entrust(pki)
    return lines


def check(options: argparse.Namespace) -> int:
    """Exit 1 where there is anything to put right. What is only to be known comes first.

    A FILE that is named may belong to other machines; the configuration of this one may not.
    """
    path = Path(options.file or options.config)
    settings: Settings | None = None
    problems: list[Problem] = []
    remarks: list[Problem] = []
    try:
        settings = load(path, options.node, any_node=options.file is not None, remarks=remarks)
    except ConfigError as error:
        problems = error.problems
    if options.json:
        _show_json(path, settings, problems, remarks)
    elif settings is None:
        sys.stdout.write("".join(f"{problem}\n" for problem in problems))
        count = len(problems)
        sys.stderr.write(f"standpipe: {count} problem{'s' if count > 1 else ''} to put right\n")
    else:
        sys.stdout.write("".join(f"{remark}\n" for remark in remarks))
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


def _show_json(
    path: Path, settings: Settings | None, problems: list[Problem], remarks: list[Problem]
) -> None:
    show_json(
        {
            "version": 1,
            "file": str(path),
            "ok": not problems,
            "digest": settings.digest if settings else None,
            "node": settings.node if settings else None,
            "groups": [group.name for group in settings.own_groups()] if settings else [],
            "problems": [asdict(problem) for problem in problems],
            "remarks": [asdict(remark) for remark in remarks],
        }
    )
