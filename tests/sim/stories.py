# SPDX-License-Identifier: GPL-2.0-or-later
"""Scripted faults: each found a bug once, or shows what a planted one does. They always run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from agent.core.settings import Failback, Standby
from tests.sim.fault import Fault
from tests.sim.town import Town
from tests.sim.world import Cores, World

A, B = "a-london", "b-london"


def street(
    nodes: int = 2,
    standby: Standby = Standby.HOT,
    failback: Failback = Failback.MANUAL,
    groups: int = 1,
    paths: int = 2,
    **more: Any,
) -> Town:
    """One site. more: fields of `Town`."""
    failback_ms = 60_000 if failback is Failback.AFTER else 0
    return Town(("london",), nodes, paths, standby, failback, failback_ms, groups, **more)


def two_sites() -> Town:
    return Town(("london", "paris"), 2, 2, Standby.HOT, Failback.MANUAL, 0)


@dataclass(frozen=True, slots=True)
class Story:
    """found: what went wrong before it was mended."""

    name: str
    found: str
    faults: tuple[Fault, ...]
    town: Town = field(default_factory=street)
    minutes: float = 5.0
    seed: int = 0

    def world(self, cores: Cores | None = None) -> World:
        """Ready to run."""
        return World(self.seed, "scripted", self.minutes, cores, list(self.faults), self.town)


def late_reply(at_ms: int) -> tuple[Fault, ...]:
    """The taker's confirmation overtaken by a second offer, to a taker that hangs by then."""
    return (
        Fault(at_ms, "switchover", node="lon1", group=A),
        Fault(at_ms + 100, "switchover", node="lon2", group=A),
        Fault(at_ms + 350, "pause-keeper", 900, "lon2"),
        Fault(at_ms + 400, "switchover", node="lon1", group=A),
    )


def port_cuts(kind: str, from_ms: int) -> tuple[Fault, ...]:
    """Each node in turn, with the other one losing its power meanwhile the second time."""
    return (
        Fault(from_ms, kind, 6_000, "lon1"),
        Fault(from_ms + 20_000, kind, 6_000, "lon2"),
        Fault(from_ms + 45_000, kind, 20_000, "lon1"),
        Fault(from_ms + 50_000, "power-cut", 9_000, "lon2"),
        Fault(from_ms + 85_000, kind, 20_000, "lon2"),
        Fault(from_ms + 90_000, "power-cut", 9_000, "lon1"),
    )


def cut(node: str, other: str, path: int, at_ms: int, lasts_ms: int) -> Fault:
    return Fault(at_ms, "one-way", lasts_ms, node, other, path)


STORIES = (
    Story(
        "deaf-backup",
        "a backup without carrier kept old timers and spun",
        (Fault(30_000, "nic-down", 9_000, "lon1"), Fault(60_000, "nic-down", 9_000, "lon2")),
    ),
    Story(
        "frozen-owner",
        "the owner read of its expired address first when it went on, and took it back",
        (
            Fault(30_000, "pause-keeper", 5_500, "lon1"),
            Fault(70_000, "pause-keeper", 5_500, "lon2"),
        ),
    ),
    Story(
        "frozen-machine",
        "as above, with the whole machine and the other node as owner meanwhile",
        (Fault(30_000, "freeze", 26_000, "lon1"), Fault(90_000, "freeze", 26_000, "lon2")),
    ),
    Story(
        "short-freeze",
        "nothing: an owner that stood still for less than its lifetime asks before it speaks",
        tuple(Fault(30_000 + 40_000 * n, "freeze", 2_300, f"lon{1 + n % 2}") for n in range(4)),
    ),
    Story(
        "rivals",
        "an owner that answered a rival's every advert never came to renew its lifetime",
        (
            cut("lon2", "lon3", 1, 12_700, 9_100),
            cut("lon2", "lon1", 1, 13_400, 13_300),
            cut("lon1", "lon3", 0, 14_800, 8_400),
            cut("lon2", "lon1", 0, 16_900, 3_500),
            cut("lon2", "lon3", 0, 18_300, 7_000),
        ),
        street(nodes=3),
        seed=42,
    ),
    Story(
        "cold-keeper-killed",
        "the agent stopped the service of the owner whose keeper was restarted",
        (
            Fault(30_000, "kill-keeper", 0, "lon1"),
            Fault(30_000, "kill-keeper", 0, "lon2"),
            Fault(60_000, "kill-agent", 0, "lon1"),
            Fault(60_000, "kill-agent", 0, "lon2"),
        ),
        street(standby=Standby.COLD),
    ),
    Story(
        "cold-started-again",
        "a service that still counted as up when it was started again was never heard to be up",
        (
            Fault(30_000, "pause-keeper", 6_700, "lon1"),
            Fault(90_000, "pause-keeper", 6_700, "lon2"),
        ),
        street(standby=Standby.COLD),
    ),
    Story(
        "last-word",
        "the loser's announcement came after the winner's, whose next one was swallowed",
        (
            Fault(40_000, "isolate", 12_000, "lon1"),
            Fault(80_000, "isolate", 2_000, "lon1"),
            Fault(100_000, "isolate", 12_000, "lon2"),
            Fault(150_000, "isolate", 7_000, "lon2"),
        ),
        street(groups=2),
        seed=23,
    ),
    Story(
        "old-offer",
        "the second copy of an offer was taken after the group had moved on",
        (
            Fault(80_000, "doubled", 30_000, "lon1", "lon2"),
            Fault(80_000, "doubled", 30_000, "lon2", "lon1"),
            *(Fault(81_000 + 900 * n, "switchover", node="lon1", group=A) for n in range(30)),
            *(Fault(81_005 + 900 * n, "switchover", node="lon2", group=A) for n in range(30)),
        ),
    ),
    Story(
        "hung-taker",
        "a taker that had hung took an offer that its giver had long given up",
        tuple(
            Fault(30_000 + 15_000 * n + at_ms, kind, 900, node, group=A)
            for n in range(4)
            for at_ms, kind, node in ((0, "pause-keeper", "lon2"), (50, "switchover", "lon1"))
        ),
    ),
    Story(
        "late-reply",
        "a giver took the taker's old advert for its confirmation",
        (
            Fault(30_000, "slow", 170_000, "lon1", "lon2", 0, amount=400),
            *(fault for n in range(10) for fault in late_reply(40_000 + 15_000 * n)),
        ),
    ),
    Story(
        "switchover-undone",
        "failback took an operator's switchover back within a millisecond",
        (Fault(100_000, "switchover", node="lon1", group=A),),
        street(failback=Failback.AFTER),
    ),
    Story(
        "cold-relief",
        "a cold standby came up for a sick owner, and went down before it was handed anything",
        (
            Fault(40_000, "start-refused", 100_000, "lon1", group=A),
            Fault(145_000, "start-refused", 40_000, "lon2", group=A),
        ),
        street(standby=Standby.COLD),
        minutes=8.0,
    ),
    Story(
        "cold-switchover",
        "the standby that was being started for it went down as soon as it was ready",
        tuple(
            Fault(40_000 + 60_300 * n, "switchover", node=f"lon{1 + n % 2}", group=A)
            for n in range(4)
        ),
        street(standby=Standby.COLD, paths=1),
        minutes=7.0,
    ),
    Story(
        "stale-holds",
        "an address put back in the very moment in which the carrier went was taken for ours later",
        tuple(
            Fault(30_000 + at_ms, kind, 9_000, node, group=A)
            for at_ms, node in ((0, "lon1"), (40_000, "lon2"), (80_000, "lon1"))
            for kind in ("address-deleted", "nic-down")
        ),
    ),
    Story(
        "answered-twice",
        "one answer made a taker take and at once let go again, while the giver let go as well",
        (Fault(311_357, "freeze", 35_918, "lon1"),),
        street(groups=2, failback=Failback.AFTER),
        minutes=9.0,
        seed=3754,
    ),
    Story(
        "expired-while-away",
        "an owner in doubt renewed addresses that had expired, beside the new owner",
        (
            Fault(40_000, "pause-keeper", 4_400, "lon1"),
            Fault(40_020, "address-deleted", 0, "lon1", group=A),
            Fault(40_400, "freeze", 5_000, "lon1"),
        ),
    ),
    Story(
        "mute-lan",
        "moved by the second network while the first was mute, and never announced after",
        (
            Fault(40_000, "switch-mute", 9_000, "lon1"),
            Fault(40_100, "switchover", node="lon1", group=A),
        ),
    ),
    Story(
        "silent-port",
        "nothing: a deaf backup takes nothing, an owner whose port is silent lets go",
        port_cuts("port-cut", 30_000),
        street(advert_ms=200),
    ),
    Story(
        "isolated-backup",
        "nothing: a backup that hears nobody takes nothing, an owner says it again when it is back",
        (
            *(Fault(30_000 + 15_000 * n, "isolate", 8_000 + 317 * n, "lon2") for n in range(4)),
            Fault(100_000, "isolate", 20_000, "lon2"),
            Fault(103_000, "power-cut", 7_000, "lon1"),
        ),
        street(advert_ms=200),
    ),
    Story(
        "bad-cable",
        "nothing: one advert in ten is lost, each way, and nobody dies of it",
        (Fault(15_000, "lossy-lan", 180_000, "lon1", amount=10),),
        street(advert_ms=200),
    ),
    Story(
        "deaf-port",
        "nothing: as above, and its own frames still go out",
        port_cuts("deaf", 30_000),
        street(advert_ms=200),
    ),
    Story(
        "mute-port",
        "nothing: a mute owner lets go, a mute backup takes nothing",
        port_cuts("mute", 30_000),
        street(advert_ms=200),
    ),
    Story(
        "silent-port-alone",
        "nothing: one network only, so that nobody can say by another one what he hears",
        port_cuts("port-cut", 30_000),
        street(advert_ms=200, paths=1),
    ),
    Story(
        "stranger",
        "nothing: a stranger with the address is answered at once",
        tuple(Fault(30_000 + 30_000 * n, "rogue", 12_000, "lon1", group=A) for n in range(4)),
        street(advert_ms=200, chatter_ms=0),
    ),
    Story(
        "held-and-gone",
        "every process was killed and the address went: the peer waited for the RFC's time",
        tuple(
            fault
            for n, node in enumerate(("lon1", "lon2", "lon1", "lon2"))
            for fault in (
                Fault(30_000 + 40_000 * n, "kill-both", 9_000, node, amount=1),
                Fault(30_300 + 40_000 * n, "address-deleted", 0, node, group=A),
            )
        ),
        street(advert_ms=200),
    ),
    Story(
        "plain-on-bad-cable",
        "nothing: a lost advert of an RFC peer is no death",
        (Fault(15_000, "lossy-lan", 180_000, "lon1", amount=2),),
        street(advert_ms=200, plain=250, plain_preempts=True),
    ),
    Story(
        "plain-comes-and-goes",
        "an owner defended its address against the RFC peer that had just taken it by right",
        tuple(
            Fault(30_000 + 17_100 * n, kind, 7_000, f"lon{1 + n % 2}")
            for n, kind in enumerate(("plain-off", "plain-stops", "mute", "deaf", "isolate") * 2)
        ),
        street(advert_ms=200, plain=250, plain_preempts=True),
    ),
    Story(
        "foreign-hand",
        "nothing: what a foreign hand removes is put back at once, or moved away from it",
        (
            *(Fault(30_000 + 700 * n, "address-deleted", 0, "lon1", group=A) for n in (0, 1)),
            Fault(60_000, "tussle", 20_000, "lon1", group=A),
        ),
        street(advert_ms=200),
    ),
    Story(
        "gateway",
        "a dead gateway made the owner give to a peer that had not noticed yet, and back again",
        tuple(
            Fault(30_000 + 25_000 * n, kind, 8_000, node)
            for n, (kind, node) in enumerate(
                (
                    ("gateway-dead", "lon1"),
                    ("port-cut", "lon1"),
                    ("gateway-dead", "lon2"),
                    ("port-cut", "lon2"),
                    ("deaf", "lon1"),
                    ("mute", "lon2"),
                )
            )
        ),
        street(advert_ms=200, gateways=True),
        minutes=6.0,
    ),
    Story(
        "switch-restarts",
        "both carriers came back in one moment, both took, and neither believed the other's advert",
        tuple(
            Fault(30_000 + 40_000 * n, "switch-down", 5_000 + 12_000 * (n % 2), "lon1")
            for n in range(4)
        ),
        street(gateways=True),
    ),
    Story(
        "long-snapshot",
        "nothing: a machine that stood still for ten seconds finds that it was replaced",
        tuple(
            Fault(30_000 + 40_000 * n, "freeze", 10_000, f"lon{1 + n % 2}", amount=n // 2)
            for n in range(4)
        ),
        street(advert_ms=200),
    ),
    Story(
        "world-to-the-broken",
        "names were sent to a site whose owner had a dead service",
        (
            Fault(20_000, "start-refused", 90_000, "par1", group="a-paris"),
            Fault(20_000, "start-refused", 90_000, "par2", group="a-paris"),
            Fault(80_000, "switchover", node="par1", other="paris", group="voice"),
            Fault(80_000, "switchover", node="par2", other="paris", group="voice"),
        ),
        two_sites(),
    ),
)
