# SPDX-License-Identifier: GPL-2.0-or-later
"""The keeper's words: events that its sockets hand in, actions that they carry out.

These are made and read at every packet: plain slots classes, made once and not changed afterwards.
"""

from dataclasses import dataclass, field
from typing import Any

from agent.core.model import KeeperSaid, Word

# ---------------------------------------------------------------- events


@dataclass(slots=True)
class AdvertSeen:
    """A well-formed VRRPv3 advertisement for a virtual router.

    form: how its IPv4 checksum was made, "pseudo" or "plain" ("v6" for IPv6).
    """

    interface: str
    family: int
    vrid: int
    source: str
    priority: int
    interval_ms: int
    addresses: tuple[str, ...]
    form: str


@dataclass(slots=True)
class PacketRefused:
    """A packet that must not be believed: counted by `kind`, reported once for each source.

    kind: advert-malformed advert-checksum advert-ttl peer-malformed peer-key peer-replayed.
    """

    kind: str
    source: str
    detail: str


@dataclass(slots=True)
class PeerHeard:
    """A signed packet of a peer, its signature and counter already found good.

    role: keeper agent. path: index of the network it came by. kind: beat ask answer handover
    taken yielded claim lease-ask lease-vote lease-end. fresh: the sender knows our present boot, so
    that this cannot be a replay; an `ask` may be answered without, nothing else may be believed.
    body: as `kind` says.
    """

    node: str
    role: str
    path: int
    kind: str
    boot: int
    counter: int
    fresh: bool
    body: dict[str, Any]


@dataclass(slots=True)
class NeighbourSeen:
    """Somebody on `interface` says (ARP, ND) that `address` is at `mac`; not our own frames.

    address: floating, a peer's real one, a gateway's, or a witness's (`Sense`). to_us: it was sent
    to this node alone, so that ours was heard there; else it was said to everybody.
    """

    interface: str
    address: str
    mac: str
    to_us: bool = True


@dataclass(slots=True)
class AddressAsked:
    """Somebody asked everybody on `interface` (ARP, ND) who has one of our floating addresses."""

    interface: str
    address: str


@dataclass(slots=True)
class TrafficSeen:
    """packets: received on `interface` since it was made, -1 unknown. asked: how many witnesses."""

    interface: str
    packets: int
    asked: int


@dataclass(slots=True)
class LinkSeen:
    """Carrier came or went; also once for each interface at start."""

    interface: str
    up: bool


@dataclass(slots=True)
class AddressSeen:
    """The kernel says that one of our floating addresses is there, or gone.

    by: who took it away, "NetworkManager (pid 812)", "" for ourselves or where nobody can say.
    """

    interface: str
    address: str
    present: bool
    by: str = ""


@dataclass(slots=True)
class WordGiven:
    """The agent's word: its beat. Repeated words are how the keeper knows that it lives.

    at_ms: when it was last thought over, on the clock that both go by. A word that waited in a
    queue while the node was paused, or that an agent just thawed repeats, is as old as it is.
    """

    words: dict[str, Word]
    at_ms: int


@dataclass(slots=True)
class Told:
    """The supervisor or systemd: stop (hand over what we have, then end), or restart (keep it)."""

    what: str  # stop restart


@dataclass(slots=True)
class Woken:
    """The deadline has come that `deadline()` asked for. due_ms: when it was due."""

    due_ms: int


KeeperEvent = (
    AdvertSeen
    | PacketRefused
    | PeerHeard
    | NeighbourSeen
    | AddressAsked
    | TrafficSeen
    | LinkSeen
    | AddressSeen
    | WordGiven
    | Told
    | Woken
)

# ---------------------------------------------------------------- actions


@dataclass(slots=True)
class SendAdvert:
    """One advertisement for each virtual router of the group. priority 0: leaving."""

    group: str
    priority: int


@dataclass(slots=True)
class TakeAddresses:
    """All of the group's addresses in one send, with a lifetime that must be refreshed."""

    group: str
    lifetime_s: int
    epoch: int


@dataclass(slots=True)
class RefreshAddresses:
    """Renew the lifetimes."""

    group: str
    lifetime_s: int


@dataclass(slots=True)
class ReleaseAddresses:
    """Remove all of the group's addresses in one send.

    keep_s: so long they stay, silently, as sources of what is still under way; 0: not at all.
    """

    group: str
    keep_s: int = 0


@dataclass(slots=True)
class Announce:
    """Gratuitous ARP and unsolicited neighbour advertisements: each address once."""

    group: str


@dataclass(slots=True)
class SendPeer:
    """Signed, on every path to `node` ("" = all peers), to its keeper and, for `ask`, its agent."""

    node: str
    kind: str
    body: dict[str, Any] = field(default_factory=dict)
    agent_too: bool = False


@dataclass(slots=True)
class AskNeighbour:
    """ARP request or neighbour solicitation: a peer's address, a gateway's, a floating one."""

    interface: str
    address: str


@dataclass(slots=True)
class Sense:
    """Say at once, as `TrafficSeen`, how much was received on `interface`.

    ask: first ask the witnesses there, neighbours that were overheard, so that one may answer.
    """

    interface: str
    ask: bool


@dataclass(slots=True)
class Remember:
    """Before anything that follows: what the next keeper on this machine must know of leases."""

    memory: bytes


@dataclass(slots=True)
class StopServices:
    """The lease is over: kill what runs of the group, whether the agent lives or not."""

    group: str


@dataclass(slots=True)
class Report:
    """To the agent: the state of everything, and the decisions since the last report."""

    said: KeeperSaid


@dataclass(slots=True)
class Finish:
    """Everything is handed over or let go: the process may end."""


KeeperAction = (
    SendAdvert
    | TakeAddresses
    | RefreshAddresses
    | ReleaseAddresses
    | Announce
    | SendPeer
    | AskNeighbour
    | Sense
    | Remember
    | StopServices
    | Report
    | Finish
)

# ---------------------------------------------------------------- configuration


@dataclass(slots=True)
class Router:
    """One virtual router: a family's addresses of a group on one interface."""

    family: int
    vrid: int
    interface: str
    addresses: tuple[str, ...]


@dataclass(slots=True)
class KeptGroup:
    """A group as the keeper needs it. peers: the group's other nodes, preferred first.

    plain: primary addresses of routers in the same virtual router that are no nodes of ours, RFC
    peers. gateways, probed: (interface, address) that can be asked by ARP or ND; probed are
    floating ones, the first of each virtual router.
    """

    name: str
    priority: int  # 1..255, by the node's place in the group's list; 255: RFC 9568 address owner
    place: int  # of this node in the group's list, 0 is preferred
    advert_ms: int
    hold_ms: int
    routers: tuple[Router, ...]
    peers: tuple[str, ...]
    plain: tuple[str, ...] = ()
    gateways: tuple[tuple[str, str], ...] = ()
    probed: tuple[tuple[str, str], ...] = ()
    apart: bool = False  # a hand-over breaks before it makes
    drain_ms: int = 0  # the giver keeps the addresses silently so long
    form: str = "pseudo"  # how IPv4 checksums are made here, as `AdvertSeen.form`


@dataclass(slots=True)
class KeptPeer:
    """A peer. asked: (interface, address) pairs of it that can be asked by ARP or ND."""

    name: str
    paths: tuple[str, ...]
    asked: tuple[tuple[str, str], ...]


@dataclass(slots=True)
class LeaseTerms:
    """Who votes on a group that must never run twice. nodes: those that may hold it, as preferred.

    fence: a node that does not answer is switched off, and owning the group last proves nothing.
    """

    nodes: tuple[str, ...]
    voters: tuple[str, ...]
    lease_ms: int
    fence: bool = False


@dataclass(slots=True)
class Keeping:
    """Everything that the keeper's core is configured with.

    leases: by group, all that this node has a vote on. memory: what `Remember` last gave on this
    machine since it was started, drawn in by the shell; None: nothing yet.
    """

    node: str
    boot: int  # random, drawn by the shell at each start of the process
    groups: dict[str, KeptGroup]
    peers: dict[str, KeptPeer]
    sources: dict[str, str]  # a node's real address, ours too -> its name
    lifetime_s: int = 3
    refresh_ms: int = 1000
    beat_ms: int = 1000  # to the peers; at once at each change
    report_ms: int = 700  # to the agent; at once at each change
    asks: int = 3  # how often a silent peer is asked, in every way, before it is believed gone
    ask_gap_ms: int = 25
    leases: dict[str, LeaseTerms] = field(default_factory=dict)
    memory: bytes | None = None
