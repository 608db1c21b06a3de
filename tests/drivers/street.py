# SPDX-License-Identifier: GPL-2.0-or-later
"""Two nodes on two cables, each in a network namespace, and the kits forged for them."""

from __future__ import annotations

import itertools
import os
import select
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest

from agent.core.kit import Kit, Link
from agent.core.settings import AddressSettings, GroupSettings, NodeSettings, Settings
from drivers.forge import forge, read_links
from tests.lab.netns import batch, command, inside, sweep, wait_until

Seen = TypeVar("Seen")

FLOATING = AddressSettings("10.1.0.100", 24, 4, "eth0", 51)
FLOATING_6 = AddressSettings("fd00:1::100", 64, 6, "eth0", 51)
GROUP = GroupSettings("sbc", ("lon1", "lon2"), (FLOATING, FLOATING_6))
NODES = {
    "lon1": NodeSettings("lon1", "london", ("10.1.0.11", "10.9.0.11")),
    "lon2": NodeSettings("lon2", "london", ("10.1.0.12", "10.9.0.12")),
}
MACS = {"lon1": "02:00:00:00:01:11", "lon2": "02:00:00:00:01:12"}
LINKS = {
    "eth0": Link(
        "eth0", 2, MACS["lon1"], (("10.1.0.11", 16), ("fd00:1::11", 64), ("fe80::11", 64))
    ),
    "eth1": Link("eth1", 3, "02:00:00:00:09:11", (("10.9.0.11", 24),)),
}
PATIENCE_S = 5.0
_numbers = itertools.count(1)


def settings(node: str = "lon1", *groups: GroupSettings, **changed: Any) -> Settings:
    kept = {group.name: group for group in groups or (GROUP,)}
    whole = Settings("callcentre", "/etc/standpipe/cluster.key", node, ("london",), NODES, kept)
    return replace(whole, digest="d1", **changed)


def many(count: int, name: str = "big") -> GroupSettings:
    """A group of that many IPv4 addresses of the nodes' own network 10.1.0.0/16."""
    return replace(
        GROUP,
        name=name,
        addresses=tuple(
            AddressSettings(f"10.1.{100 + n // 200}.{1 + n % 200}", 16, 4, "eth0", 52)
            for n in range(count)
        ),
    )


class Street:
    """eth0 (10.1.0.0/16, fd00:1::/64) and eth1 (10.9.0.0/24) between lon1 and lon2."""

    def __init__(self) -> None:
        self.prefix = f"spl{os.getpid()}-k{next(_numbers)}-"
        a, b = self.namespace("lon1"), self.namespace("lon2")
        batch([f"netns add {a}", f"netns add {b}"])
        for space in (a, b):
            with inside(space):
                Path("/proc/sys/net/ipv6/conf/default/accept_dad").write_text("0")
        wires = [f"link add {it} type veth peer name {it} netns {b}" for it in ("eth0", "eth1")]
        batch(wires, a)
        for number, space in (("11", a), ("12", b)):
            batch(
                [
                    "link set lo up",
                    f"link set eth0 address 02:00:00:00:01:{number}",
                    f"link set eth1 address 02:00:00:00:09:{number}",
                    f"addr add 10.1.0.{number}/16 dev eth0",
                    f"addr add fd00:1::{number}/64 dev eth0 nodad",
                    f"addr add 10.9.0.{number}/24 dev eth1",
                    "link set eth0 up",
                    "link set eth1 up",
                ],
                space,
            )
        for node in ("lon1", "lon2"):
            wait_until(partial(self.ready, node), f"the cables of {node} are ready")

    def ready(self, node: str) -> bool:
        """The kernel tells of a new carrier up to a second late, and IPv6 begins after that."""
        shown = self.ip(node, "addr")
        return shown.count("state UP") == 2 and shown.count("inet6 fe80") == 2

    def namespace(self, node: str) -> str:
        return self.prefix + node

    def ip(self, node: str, *words: str) -> str:
        return command("ip", "-n", self.namespace(node), *words)

    def forge(self, node: str, *groups: GroupSettings, **changed: Any) -> Kit:
        with inside(self.namespace(node)):
            return forge(settings(node, *groups, **changed), read_links())

    def inside(self, node: str) -> Any:
        return inside(self.namespace(node))

    def close(self) -> None:
        sweep(self.prefix)


class Clock:
    """Time as the test sets it, and the pauses that were asked for."""

    def __init__(self) -> None:
        self.now = 1_000_000
        self.pauses: list[float] = []

    def __call__(self) -> int:
        return self.now

    def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)


@contextmanager
def laid() -> Iterator[Street]:
    """A street; only root can lay one."""
    if os.geteuid():
        pytest.skip("network namespaces need root; run: sudo make test")
    street = Street()
    try:
        yield street
    finally:
        street.close()


def heard(
    receive: Callable[[], list[Seen]],
    filenos: list[int],
    enough: Callable[[list[Seen]], object],
    patience_s: float = PATIENCE_S,
) -> list[Seen]:
    """What is received until it is enough; fails with what there was when patience ends."""
    seen: list[Seen] = []
    deadline_s = time.monotonic() + patience_s
    while not enough(seen):
        left_s = deadline_s - time.monotonic()
        assert left_s > 0, f"not enough within {patience_s} s: {len(seen)}, at last {seen[-9:]}"
        select.select(filenos, [], [], left_s)
        seen += receive()
    return seen
