# SPDX-License-Identifier: GPL-2.0-or-later
"""What a lease is reckoned with: its times, what is said of it, when votes are enough."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from agent.core.keeping import LeaseTerms

DRIFT = 200  # clocks differ by one part in so many at most
STOP_MS = 500  # to kill what runs, at most a STOP_SHARE of the lease
STOP_SHARE = 4
RENEW_SHARE = 4  # a lease is renewed so many times while it would last
TRIES_SHARE = 20  # and asked for so many times, until it is given
LATE_SHARE = 5  # an answer that took so long a part of the lease counts no more
HEALTHY_SHARE = 2  # a holder that was confirmed within this part may be believed by the quiet
ATTEMPT = 2  # leases: then others have their turn


@dataclass(slots=True)
class Promise:
    """A vote that was given. number: of the request, boot: of the keeper that sent it."""

    node: str
    boot: int
    number: int
    until_ms: int


@dataclass(slots=True)
class Ask:
    """A request, as heard. holds: it has the lease, confirmed lately. off: node -> boot that fell.

    term: of its lease; of one that does not hold it, the latest that it heard of.
    """

    node: str
    boot: int
    number: int
    holds: bool = False
    term: int = 0
    off: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Vote:
    """An answer to a request. soft: a yes of one that remembers nothing. holds: has it itself."""

    node: str
    number: int
    ok: bool
    soft: bool = False
    holds: bool = False
    term: int = 0


@dataclass(slots=True)
class Round:
    """A request and who said what to it; our own vote is in it."""

    number: int
    sent_ms: int
    firm: set[str] = field(default_factory=set)
    soft: set[str] = field(default_factory=set)
    no: set[str] = field(default_factory=set)


def holder_ms(lease_ms: int) -> int:
    """How long a holder may go on after it sent its request: it must be over by then."""
    return lease_ms - -(-lease_ms // DRIFT) - min(STOP_MS, lease_ms // STOP_SHARE)


def voter_ms(lease_ms: int) -> int:
    """How long a promise binds, from the receipt of the request."""
    return lease_ms + -(-lease_ms // DRIFT) + 1


def majority(voters: int) -> int:
    """So many of them are more than half."""
    return voters // 2 + 1


def enough(
    terms: LeaseTerms, node: str, firm: Iterable[str], soft: Iterable[str], off: Iterable[str]
) -> bool:
    """Whether these votes make `node` the holder; its own is among them.

    Where every other node that could hold the lease is off, no vote is needed. Else one that is
    off is left out of the count, never more: two majorities must have a voter in common, whatever
    each side believes to be off.
    """
    fallen = set(off) & set(terms.voters)
    others = set(terms.nodes) - {node}
    if others <= fallen:
        return True
    yes = set(firm)
    if others <= yes | set(soft):
        yes |= set(soft)
    return len(yes - fallen) >= majority(len(terms.voters) - min(1, len(fallen)))
