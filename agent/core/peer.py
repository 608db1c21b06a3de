# SPDX-License-Identifier: GPL-2.0-or-later
"""What is known of a peer, and how it is asked before it is buried.

A round of asking goes out in every way there is: the peer link on each path, to its keeper and to
its agent, and ARP or ND for its real addresses. Answers carry the round's number; an answer to an
earlier round says nothing about now. The verdict comes at once with the keeper's own answer, else
when the last question has had its time.
"""

from collections.abc import Callable, Iterable
from typing import Any

from agent.core.keeping import AskNeighbour, KeeperAction, KeptPeer, SendPeer
from agent.core.table import Row, Table

UNKNOWN, ALIVE, ASKING, HELD, SILENT = "unknown", "alive", "asking", "held", "silent"
STATES = (UNKNOWN, ALIVE, ASKING, HELD, SILENT)

ROWS = (
    Row(
        "P-WAIT", ASKING, "heard", (), "", (), "only an answer answers: this may be old", quiet=True
    ),
    Row("P-ALIVE", "*", "heard", (), ALIVE, (), "its keeper speaks to us", quiet=True),
    Row("P-ANSWER", "*", "answered", (), ALIVE, ("close_round",), "its keeper answers", quiet=True),
    Row(
        "P-ASK",
        "*",
        "doubted",
        ("!round_open",),
        ASKING,
        ("open_round",),
        "something is late: ask it in every way there is before believing anything",
    ),
    Row(
        "P-ASK-ON", "*", "doubted", ("round_open",), "", (), "it is being asked already", quiet=True
    ),
    Row(
        "P-AGAIN",
        ASKING,
        "gap",
        ("asks_left",),
        "",
        ("ask",),
        "no answer yet: ask again",
        quiet=True,
    ),
    Row(
        "P-HELD",
        ASKING,
        "gap",
        ("node_answered",),
        HELD,
        ("close_round",),
        "the node answers and its keeper does not: it is being restarted, its addresses are held",
    ),
    Row(
        "P-ONE-WAY",
        ASKING,
        "gap",
        ("!two_ways",),
        UNKNOWN,
        ("close_round",),
        "silent in the only way there is to ask: nothing is proved, the RFC's time decides",
    ),
    Row(
        "P-SILENT",
        ASKING,
        "gap",
        (),
        SILENT,
        ("close_round",),
        "silent in every way, two at least",
    ),
    Row(
        "P-LATE-SIGN", SILENT, "node_seen", (), HELD, (), "its node gives a sign of life after all"
    ),
)


class Peer:
    """A peer as one keeper sees it. Times are the keeper's clock, ms; 0: never."""

    __slots__ = (
        "able",
        "away",
        "boot",
        "call_at",
        "called_from_ms",
        "config",
        "gap_at",
        "groups",
        "heard_ms",
        "hears",
        "lost_paths",
        "node_answered",
        "path_ms",
        "round",
        "state",
        "tries",
        "unheard",
        "verdict",
        "wanted",
    )

    def __init__(self, config: KeptPeer) -> None:
        self.config = config
        self.state = UNKNOWN
        self.verdict = UNKNOWN  # the last state but ASKING, which judges nothing yet
        self.away = False  # silent or held since it was last alive
        self.boot = 0
        self.groups: dict[str, tuple[str, bool, int]] = {}  # group -> state, ready, epoch
        self.able: tuple[str, ...] = ()  # groups that it could bring up
        self.wanted: dict[str, str] = {}  # group -> whom it would hand it over to
        self.hears: dict[str, bool] = {}  # group -> whether it hears its network
        self.unheard = ""  # the group whose adverts are missing: it is told when it is asked
        self.call_at = 0  # when to call out for it again, while it is away
        self.called_from_ms = 0
        self.heard_ms = 0
        self.path_ms = [0] * len(config.paths)  # when it was last heard on each
        self.lost_paths: tuple[int, ...] = ()
        self.round = 0  # the number of the last round of asking; 0: none yet
        self.gap_at = 0  # when the present question has had its time; 0: no round is open
        self.tries = 0
        self.node_answered = False

    @property
    def ways(self) -> int:
        """In how many independent ways it can be asked."""
        return len(self.config.paths) + len(self.config.asked)

    def claims(self, group: str) -> tuple[str, bool, int]:
        """(state, ready, epoch) of `group` there, as last heard."""
        return self.groups.get(group, ("unknown", False, 0))

    def stands_by(self, group: str) -> bool:
        """Alive, and a ready backup by its own word."""
        state, ready, _ = self.claims(group)
        return self.state == ALIVE and ready and state == "backup"

    def serves(self, group: str) -> bool:
        """Alive, active by its own word, and it hears its network."""
        claimed = self.claims(group)[0]
        return self.state == ALIVE and claimed == "active" and self.hears.get(group, False)


class PeerContext:
    """What the rows of one keeper's peers work on: set before each event."""

    __slots__ = ("asks", "gap_ms", "next_round", "now", "out", "peer")

    def __init__(self, asks: int, gap_ms: int) -> None:
        self.asks = asks
        self.gap_ms = gap_ms
        self.next_round = 0
        self.now = 0
        self.out: list[KeeperAction] = []
        self.peer: Peer


def _open_round(c: PeerContext) -> None:
    c.next_round += 1
    c.peer.round = c.next_round
    c.peer.tries = 0
    c.peer.node_answered = False
    _ask(c)


def _ask(c: PeerContext) -> None:
    peer = c.peer
    peer.tries += 1
    peer.gap_at = c.now + c.gap_ms
    body: dict[str, Any] = {"id": peer.round}
    if peer.unheard:
        body["u"] = peer.unheard
    c.out.append(SendPeer(peer.config.name, "ask", body, agent_too=True))
    c.out += questions(peer.config.asked)


def _close_round(c: PeerContext) -> None:
    c.peer.gap_at = 0


GUARDS: dict[str, Callable[[PeerContext], bool]] = {
    "round_open": lambda c: c.peer.gap_at > 0,
    "asks_left": lambda c: c.peer.tries < c.asks,
    "node_answered": lambda c: c.peer.node_answered,
    "two_ways": lambda c: c.peer.ways >= 2,
}
EFFECTS: dict[str, Callable[[PeerContext], None]] = {
    "open_round": _open_round,
    "ask": _ask,
    "close_round": _close_round,
}
TABLE: Table[PeerContext] = Table("peer", STATES, ROWS, GUARDS, EFFECTS)


def questions(asked: Iterable[tuple[str, str]]) -> list[AskNeighbour]:
    """One for each (interface, address)."""
    return [AskNeighbour(interface, address) for interface, address in asked]


def agent_answer(ask: dict[str, Any], keeper_lost: bool) -> dict[str, Any]:
    """What an agent answers to a peer's `ask` beside its keeper: "the node is here"."""
    return {"id": ask.get("id", 0), "keeper": "lost" if keeper_lost else "alive"}
