# SPDX-License-Identifier: GPL-2.0-or-later
"""The keeper's kit: everything it needs, forged beforehand, so that it builds and parses nothing.

`drivers.forge` writes it as JSON (bytes in base64) where none is there that was made from the same
configuration and interfaces; the keeper reads it at its start. Interface numbers, MACs and own
addresses are as they were at forging: when an interface is made anew, forge again.
"""

import json
import re
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from typing import Any, TypeVar

from agent.core.keeping import Keeping, KeptGroup, KeptPeer, LeaseTerms, Router

VERSION = 3

MACVLAN = re.compile(r"sp(\d+)v([46])-(\d+)")

Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class Link:
    """An interface as found. addresses: (address, prefix length), floating ones too."""

    name: str
    index: int
    mac: str
    addresses: tuple[tuple[str, int], ...] = ()
    forwarding: bool = False  # IPv6: this host is a router on it (RFC 4861 4.4, flag R)


@dataclass(frozen=True, slots=True)
class Batch:
    """Netlink messages for one send; the last one alone asks for an ACK.

    lifetimes: where its 32-bit lifetimes lie, host byte order, to be patched before sending. The
    sequence number of a message is 1 + the index, in KitGroup.addresses, of what it is about.
    """

    messages: bytes
    lifetimes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class KitAddress:
    """A floating address of a group: `family` 4 or 6. index: of the interface that carries it.

    That is `interface`, or where the group has virtual MACs the macvlan over it.
    """

    interface: str
    index: int
    family: int
    address: str


@dataclass(frozen=True, slots=True)
class KitRouter:
    """A virtual router and whom its advertisements go to. source: our own address there.

    addresses: as they are listed, a link-local first where that is wanted. mouth: name and number
    of the interface that multicast leaves by: the macvlan with the virtual MAC where there is one,
    else `interface` itself.
    """

    family: int
    vrid: int
    interface: str
    index: int
    addresses: tuple[str, ...]
    source: str
    destinations: tuple[str, ...]
    mouth: tuple[str, int]


@dataclass(frozen=True, slots=True)
class KitFrame:
    """An Ethernet frame to send as it is."""

    interface: str
    frame: bytes


@dataclass(frozen=True, slots=True)
class KitGroup:
    """A group's bytes. missing: why it cannot be kept here until the kit is forged again.

    prepare: sent once when the keeper starts (macvlans, down and silent). before: what an earlier
    hand-over left, removed; sent before `take`, but not when that only refreshes. park: the
    addresses on `lo`, with a lifetime, for answers under way; sent before `release`; () without a
    drain. stops: commands that kill what runs of a group that must never run twice; else ().
    """

    addresses: tuple[KitAddress, ...]
    routers: tuple[KitRouter, ...]
    take: tuple[Batch, ...]
    release: tuple[Batch, ...]
    announcements: tuple[KitFrame, ...]
    checksum_pseudo: bool
    missing: tuple[str, ...] = ()
    prepare: tuple[Batch, ...] = ()
    before: tuple[Batch, ...] = ()
    park: tuple[Batch, ...] = ()
    silent: tuple[str, ...] = ()  # interfaces that must answer ARP for their own addresses alone
    stops: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class KitPeer:
    """Where a node listens: its keeper on `port`, its agent on the next one, on each path."""

    name: str
    paths: tuple[str, ...]
    port: int


@dataclass(frozen=True, slots=True)
class KitQuestion:
    """The frame that asks for `address`: an ARP request or a neighbour solicitation."""

    interface: str
    address: str
    frame: bytes


@dataclass(frozen=True, slots=True)
class Kit:
    """keeping.boot is 0 here: the keeper draws it. interfaces: name -> (index, MAC), as forged.

    digest: of the configuration file. own: this node itself, as its peers see it. made_from: a mark
    of all that it was forged from, "" where nobody says.
    """

    keeping: Keeping
    own: KitPeer
    key_file: str
    digest: str
    peers: dict[str, KitPeer]
    interfaces: dict[str, tuple[int, str]]
    groups: dict[str, KitGroup] = field(default_factory=dict)
    questions: tuple[KitQuestion, ...] = ()
    made_from: str = ""

    def macvlans(self) -> dict[str, int]:
        """Those that carry virtual MACs, and the family of each one's virtual router."""
        routers = (router for group in self.groups.values() for router in group.routers)
        return {it.mouth[0]: it.family for it in routers if it.mouth[0] != it.interface}


def virtual_mac(family: int, vrid: int) -> str:
    """RFC 9568 7.3."""
    return f"00:00:5e:00:{2 if family == 6 else 1:02x}:{vrid:02x}"


def macvlan_name(family: int, vrid: int, parent: int) -> str:
    """What carries a virtual MAC over the interface number `parent`, "sp51v4-2"."""
    return f"sp{vrid}v{family}-{parent}"


def is_macvlan_of_ours(name: str, mac: str, parent: int) -> bool:
    """Whether name, MAC and the interface below agree as they do in no foreign one."""
    found = MACVLAN.fullmatch(name)
    if not found:
        return False
    vrid, family, below = (int(part) for part in found.groups())
    return below == parent and mac == virtual_mac(family, vrid)


def dump(kit: Kit) -> bytes:
    """JSON, UTF-8."""
    return json.dumps({"kit": VERSION} | asdict(kit), default=_base64).encode()


def _base64(value: Any) -> str:
    if isinstance(value, bytes):
        return b2a_base64(value, newline=False).decode()
    raise TypeError(f"a kit holds no {type(value).__name__}")


def load(data: bytes) -> Kit:
    """ValueError, with what to do now, where the bytes are no kit of this version."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"the kit cannot be read ({error}): forge it again, with `standpipe run` or"
            " python -m drivers.forge"
        ) from error
    if not isinstance(value, dict) or value.get("kit") != VERSION:
        raise ValueError(
            f"this is no kit of version {VERSION}: forge it again with the installed version,"
            " with `standpipe run` or python -m drivers.forge"
        )
    try:
        return _kit(value)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"the kit is damaged ({type(error).__name__}: {error}): forge it again"
        ) from error


def _kit(value: dict[str, Any]) -> Kit:
    interfaces = {name: (int(i), str(mac)) for name, (i, mac) in value["interfaces"].items()}
    return Kit(
        keeping=_keeping(value["keeping"]),
        own=_peer(value["own"]),
        key_file=value["key_file"],
        digest=value["digest"],
        peers={name: _peer(peer) for name, peer in value["peers"].items()},
        interfaces=interfaces,
        groups={name: _group(group) for name, group in value["groups"].items()},
        questions=_all(_question, value["questions"]),
        made_from=value.get("made_from", ""),
    )


def _keeping(value: dict[str, Any]) -> Keeping:
    groups = {name: _kept_group(group) for name, group in value["groups"].items()}
    peers = {name: _kept_peer(peer) for name, peer in value["peers"].items()}
    leases = {name: _terms(terms) for name, terms in value["leases"].items()}
    sources = dict(value["sources"])
    return _made(
        Keeping, value, groups=groups, peers=peers, sources=sources, leases=leases, memory=None
    )


def _terms(value: dict[str, Any]) -> LeaseTerms:
    nodes, voters = tuple(value["nodes"]), tuple(value["voters"])
    return _made(LeaseTerms, value, nodes=nodes, voters=voters)


def _kept_group(value: dict[str, Any]) -> KeptGroup:
    routers = _all(lambda it: _made(Router, it, addresses=tuple(it["addresses"])), value["routers"])
    lists: dict[str, Any] = {name: tuple(value[name]) for name in ("peers", "plain")}
    for name in ("gateways", "probed"):
        lists[name] = tuple((str(interface), str(address)) for interface, address in value[name])
    return _made(KeptGroup, value, routers=routers, **lists)


def _kept_peer(value: dict[str, Any]) -> KeptPeer:
    asked = tuple((str(interface), str(address)) for interface, address in value["asked"])
    return _made(KeptPeer, value, paths=tuple(value["paths"]), asked=asked)


def _group(value: dict[str, Any]) -> KitGroup:
    return KitGroup(
        addresses=_all(lambda it: _made(KitAddress, it), value["addresses"]),
        routers=_all(_router, value["routers"]),
        take=_all(_batch, value["take"]),
        release=_all(_batch, value["release"]),
        announcements=_all(_frame, value["announcements"]),
        checksum_pseudo=value["checksum_pseudo"],
        missing=tuple(value["missing"]),
        prepare=_all(_batch, value["prepare"]),
        before=_all(_batch, value["before"]),
        park=_all(_batch, value["park"]),
        silent=tuple(value["silent"]),
        stops=tuple(tuple(words) for words in value["stops"]),
    )


def _router(value: dict[str, Any]) -> KitRouter:
    lists = {name: tuple(value[name]) for name in ("addresses", "destinations", "mouth")}
    return _made(KitRouter, value, **lists)


def _batch(value: dict[str, Any]) -> Batch:
    batch = Batch(_bytes(value["messages"]), tuple(value["lifetimes"]))
    if any(not 0 <= at <= len(batch.messages) - 4 for at in batch.lifetimes):
        raise ValueError("a lifetime lies outside its batch")
    return batch


def _frame(value: dict[str, Any]) -> KitFrame:
    return KitFrame(value["interface"], _bytes(value["frame"]))


def _question(value: dict[str, Any]) -> KitQuestion:
    return _made(KitQuestion, value, frame=_bytes(value["frame"]))


def _peer(value: dict[str, Any]) -> KitPeer:
    return _made(KitPeer, value, paths=tuple(value["paths"]))


def _bytes(value: str) -> bytes:
    return a2b_base64(value, strict_mode=True)


def _all(make: Callable[[dict[str, Any]], Made], values: list[dict[str, Any]]) -> tuple[Made, ...]:
    return tuple([make(value) for value in values])


def _made(kind: type[Made], value: dict[str, Any], **instead: Any) -> Made:
    """A dataclass from its own fields in `value`, some of them read otherwise."""
    names = [entry.name for entry in fields(kind)]  # type: ignore[arg-type]
    return kind(**{name: value[name] for name in names if name not in instead}, **instead)
