# SPDX-License-Identifier: GPL-2.0-or-later
"""What the rows of a lease look at and do, by name, and the two tables themselves."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from agent.core.lease_count import ATTEMPT, RENEW_SHARE, TRIES_SHARE, Promise, voter_ms
from agent.core.lease_rows import (
    FREE,
    HELD,
    HOLDER_ROWS,
    HOLDER_STATES,
    IDLE,
    LOST,
    QUIET,
    VOTER_ROWS,
    VOTER_STATES,
)
from agent.core.table import Table

if TYPE_CHECKING:
    from agent.core.lease import Lease


def _promise(it: "Lease") -> None:
    """A request that was overtaken does not take the place of a later one, which may count."""
    ask, before = it.ask, it.promise
    number = ask.number
    if before is not None and (before.node, before.boot) == (ask.node, ask.boot):
        number = max(number, before.number)
    it.promise = Promise(ask.node, ask.boot, number, it.now + voter_ms(it.terms.lease_ms))


def _answer(it: "Lease", ok: bool, soft: bool = False) -> None:
    body: dict[str, Any] = {"id": it.ask.number, "ok": ok, "t": it.seen_term}
    if soft:
        body["s"] = True
    if it.state == HELD:
        body |= {"h": True, "t": it.term}
    it.out.append((it.ask.node, "lease-vote", body))


def _forget(it: "Lease") -> None:
    it.promise = None


def _withdraw(it: "Lease") -> None:
    """Our own attempt: answers to it count no more, so that our vote and all others are free."""
    it.rounds = []
    it.out.append(("", "lease-end", {"id": it.number}))
    it.due_at = it.now + it.terms.lease_ms // RENEW_SHARE


def _begin(it: "Lease") -> None:
    it.attempt_ms = it.now
    it.slow = False


def _end(it: "Lease") -> None:
    """Tell every voter: what was promised to us is free."""
    it.rounds = []
    it.since_ms = 0
    it.out.append(("", "lease-end", {"id": it.number}))


def _free(it: "Lease") -> None:
    """Our own vote, where it is our own."""
    if it.promise is not None and it.promise.node == it.node:
        it.promise = None
        it.voting = FREE if it.remembers else QUIET


def _rest(it: "Lease") -> None:
    """The less preferred, the longer, so that not all try again at one moment."""
    it.due_at = it.now + it.terms.lease_ms * (1 + it.terms.nodes.index(it.node)) // 2
    it.attempt_ms = it.due_at
    it.slow = True


def _new_term(it: "Lease") -> None:
    it.term = it.seen_term = it.seen_term + 1


def _lose(it: "Lease") -> None:
    it.rounds = []
    it.since_ms = 0
    it.attempt_ms = it.now
    it.slow = False
    it.due_at = it.now + it.terms.lease_ms // TRIES_SHARE


def _attempting(it: "Lease") -> bool:
    """It wants the lease and has not had it, so that nothing runs here under it."""
    return it.state != IDLE and it.state not in (HELD, LOST)


def _goes_first(it: "Lease") -> bool:
    nodes = it.terms.nodes
    return it.node not in nodes or nodes.index(it.ask.node) < nodes.index(it.node)


VOTER_GUARDS: dict[str, Callable[["Lease"], bool]] = {
    "holds": lambda it: it.state == HELD,
    "owned_last": lambda it: it.lone and it.last is not False and it.node in it.terms.nodes,
    "to_asker": lambda it: it.promise is not None and it.promise.node == it.ask.node,
    "to_fallen": lambda it: it.promise is not None and it.void(it.promise, it.ask.off | it.off),
    "to_ourselves": lambda it: it.promise is not None and it.promise.node == it.node,
    "attempting": _attempting,
    "goes_first": _goes_first,
    "asker_holds": lambda it: it.ask.holds,
    "blank": lambda it: it.fresh and it.node in it.terms.nodes and it.state not in (HELD, LOST),
    "remembers": lambda it: it.remembers,
    "that_one": lambda it: (
        it.promise is not None
        and (it.promise.node, it.promise.boot) == (it.ask.node, it.ask.boot)
        and it.promise.number <= it.ask.number
    ),
}
HOLDER_GUARDS: dict[str, Callable[["Lease"], bool]] = {
    "static": lambda it: it.static,
    "wanted": lambda it: it.state != IDLE,
    "attempt_over": lambda it: it.now - it.attempt_ms >= ATTEMPT * it.terms.lease_ms,
}
EFFECTS: dict[str, Callable[["Lease"], None]] = {
    "promise": _promise,
    "grant": lambda it: _answer(it, True),
    "grant_softly": lambda it: _answer(it, True, soft=True),
    "refuse": lambda it: _answer(it, False),
    "forget": _forget,
    "withdraw": _withdraw,
    "begin": _begin,
    "ask": lambda it: it.request(),
    "end": _end,
    "free": _free,
    "rest": _rest,
    "new_term": _new_term,
    "lose": _lose,
}
VOTER: "Table[Lease]" = Table("vote", VOTER_STATES, VOTER_ROWS, VOTER_GUARDS, EFFECTS)
HOLDER: "Table[Lease]" = Table("lease", HOLDER_STATES, HOLDER_ROWS, HOLDER_GUARDS, EFFECTS)
