# SPDX-License-Identifier: GPL-2.0-or-later
"""`standpipe.toml` read into Settings: every problem at once, with its line and its remedy."""

import hashlib
import os
from pathlib import Path

from agent.config_carried import PathClaims
from agent.config_fences import read_fences
from agent.config_geos import read_geos
from agent.config_groups import Claims, read_groups
from agent.config_nodes import read_cluster, read_nodes, read_sites
from agent.config_section import Section, did_you_mean, listed
from agent.config_source import ConfigError, Problem, Source, read_source
from agent.config_watches import WATCHES, read_devices, read_nms, read_watches
from agent.core.settings import NodeSettings, Settings, WatchSettings

__all__ = ["ConfigError", "Problem", "load", "watch_only"]

LATER_TRUNK = "watch the carrier with a sip check in `alive` of a service"


def load(
    path: Path,
    node: str | None,
    *,
    check_files: bool = True,
    any_node: bool = False,
    remarks: list[Problem] | None = None,
) -> Settings:
    """The file as `node` reads it; None: the node that has this machine's host name.

    `check_files`: the files of secrets that it names must be there and closed to others.
    `any_node`: a machine that is none of its nodes may read it too; Settings.node is then "".
    `remarks`: gets what is not wrong, but should be known.
    A file without nodes only watches, and Settings.node is "". Raises ConfigError.
    """
    source, content = read_source(path, check_files)
    root = Section(source, (), source.content)
    sites = read_sites(root)
    cluster = read_cluster(root, needed="node" in root or "group" in root)
    claims = Claims(PathClaims((cluster.key_file, cluster.pki_dir)))
    fences: dict[str, Section] = {}
    nodes = read_nodes(root, sites, cluster.peer_port, claims.addresses, fences)
    devices = read_devices(root, sites, nodes)
    nodes = read_fences(fences, nodes, devices)
    groups = read_groups(root, nodes, claims)
    root.later("trunk", LATER_TRUNK)
    settings = Settings(
        cluster=cluster.name,
        key_file=cluster.key_file,
        node=_own_name(source, node, nodes, any_node),
        sites=sites,
        nodes=nodes,
        groups=groups,
        geos=read_geos(root, sites, nodes, groups),
        devices=devices,
        watches=read_watches(root),
        nms=read_nms(root),
        pki_dir=cluster.pki_dir,
        moves=cluster.moves[0],
        moves_in_ms=cluster.moves[1],
        moves_share_pct=cluster.moves_share_pct,
        digest=hashlib.sha256(content).hexdigest(),
    )
    root.close()
    problems = source.problems()
    if problems:
        raise ConfigError(problems)
    if remarks is not None:
        remarks += source.remarks()
    return settings


def watch_only(hostname: str) -> Settings:
    """For a machine without a configuration: its own resources, and nothing that could be moved."""
    return Settings(
        cluster=hostname,
        key_file="",
        node="",
        watches={kind: WatchSettings(kind) for kind in WATCHES},
    )


def _own_name(
    source: Source, node: str | None, nodes: dict[str, NodeSettings], any_node: bool
) -> str:
    hostname = os.uname().nodename
    for name in (hostname, hostname.partition(".")[0]) if node is None else (node,):
        if name in nodes:
            return name
    if node is not None:
        why = f"no such [node.*]: there are {listed(nodes)}{did_you_mean(node, nodes)}"
        source.note(("node",), f"--node {node}: {why}")
    elif nodes and not any_node:
        why = f"this machine is called {hostname}, and there are {listed(nodes)}"
        source.note(("node",), f"{why}: say which with --node, or add [node.{hostname}]")
    return ""
