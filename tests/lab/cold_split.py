# SPDX-License-Identifier: GPL-2.0-or-later
"""Nodes that no longer hear one another while everybody else hears both."""

from __future__ import annotations

import itertools

from tests.lab.netns import Port, command
from tests.lab.world import World

TABLE = "bridge split"


def split(world: World, one: str, other: str) -> None:
    """Nothing passes between the two, on any network; carriers stay."""
    pairs = itertools.product(_ports(world, one), _ports(world, other))
    rules = "\n".join(
        f"iifname {a} oifname {b} drop\niifname {b} oifname {a} drop" for a, b in pairs
    )
    chain = f"chain cut {{ type filter hook forward priority 0; policy accept;\n{rules}\n}}"
    _load(world, f"table {TABLE} {{\n{chain}\n}}")


def rejoin(world: World) -> None:
    """All splits are undone."""
    _load(world, "")


def _ports(world: World, node: str) -> list[str]:
    return [port.name for port in world.node(node).ports.values()]


def _load(world: World, table: str) -> None:
    ports: list[Port] = list(world.nodes[0].ports.values())
    text = f"table {TABLE}\ndelete table {TABLE}\n{table}\n"
    command("ip", "netns", "exec", ports[0].switch, "nft", "-f", "-", text=text)
