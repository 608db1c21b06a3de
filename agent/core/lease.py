# SPDX-License-Identifier: GPL-2.0-or-later
"""Who may run a group that must never run twice: a majority's promise, for a time.

A holder counts its lease from the moment at which it *sent* the request whose answers make a
majority (matched by number, and only while they are quick: LATE_SHARE), and stops STOP_MS before
it ends. A voter promises its vote to one node for longer than that, from receipt, on its own
clock; clocks may differ by 1/DRIFT. A voter whose machine was started forgets what it promised:
it is quiet for a whole lease, and answers nobody but the node that it hears is holder.

A holder's own vote is always among its majority, and it gives that to nobody while it holds. So
once *every* node that could hold a group gave its vote to one, nobody else does: then the votes of
voters that remember nothing ("soft") count as well. A node that is proven to be off holds nothing.
"""

from typing import Any

from agent.core.keeping import LeaseTerms
from agent.core.lease_count import (
    HEALTHY_SHARE,
    LATE_SHARE,
    RENEW_SHARE,
    TRIES_SHARE,
    Ask,
    Promise,
    Round,
    Vote,
    enough,
    holder_ms,
    majority,
    voter_ms,
)
from agent.core.lease_moves import HOLDER, VOTER
from agent.core.lease_rows import ASKED, HELD, IDLE, PROMISED, QUIET
from agent.core.table import Table

ROUNDS_KEPT = 8


class Lease:
    """One group's lease at one keeper: its vote and, at the group's nodes, its claim.

    Every call takes `now`; then `out` holds what to say: (node or "" for every voter, kind, body),
    and `fired` the rows that were taken. kept: what `memory` gave in an earlier life of the keeper,
    None: nothing. fresh: this machine was started since, so that nothing runs on it.
    """

    def __init__(
        self,
        terms: LeaseTerms,
        node: str,
        boot: int,
        now: int,
        kept: Any = None,
        fresh: bool = True,
    ) -> None:
        self.terms: LeaseTerms = terms
        self.node: str = node
        self.boot: int = boot
        self.now: int = now
        self.out: list[tuple[str, str, dict[str, Any]]] = []
        self.fired: list[tuple[str, str, str, str]] = []  # rule, before, after, why
        self.ask: Ask = Ask("", 0, 0)  # the request that is looked at
        self.promise: Promise | None = None
        self.quiet_until: int = now + voter_ms(terms.lease_ms)
        self.fresh: bool = fresh
        self.ended: dict[str, tuple[int, int]] = {}  # node -> (boot, number) that it gave up
        self.voting: str = QUIET
        self.state: str = IDLE
        self.slow: bool = False
        self.last: bool | None = None  # None: the agent has not spoken yet
        self.off: dict[str, int] = {}
        self.rounds: list[Round] = []
        self.number: int = 0
        self.term: int = 0
        self.seen_term: int = 0
        self.since_ms: int = 0  # from when the lease counts
        self.due_at: int = 0
        self.attempt_ms: int = 0
        if kept is not None:
            self._recall(kept)

    # ------------------------------------------------------------ what is asked of it

    @property
    def held(self) -> bool:
        """Whether this node may run the group now."""
        return self.state == HELD

    @property
    def static(self) -> bool:
        """Whether nobody could get a majority without this node's vote: it goes on alone."""
        return len(self.terms.voters) - 1 < majority(len(self.terms.voters))

    @property
    def until_ms(self) -> int:
        """When it ends unless it is renewed; 0: never, or it is not held."""
        if self.state != HELD or self.static:
            return 0
        return self.since_ms + holder_ms(self.terms.lease_ms)

    @property
    def word(self) -> str:
        """As in `model.GroupDeed.lease`; "" while it is not wanted."""
        return "" if self.state == IDLE else self.state

    def deadline(self) -> int:
        """When to call `look` next, 0: never."""
        times = [self.due_at] if self.state != IDLE else []
        if self.until_ms:
            times.append(self.until_ms)
        times += [it.sent_ms + self._late_ms + 1 for it in self.rounds if self.state != HELD]
        return min(times, default=0)

    # ------------------------------------------------------------ what happens

    def look(self, now: int) -> None:
        """Time has gone by: before anything else is taken in, and at each deadline."""
        self.now = now
        given = self.promise
        if now >= (self.quiet_until if given is None else given.until_ms):
            self._vote("expired")
        if self.state == HELD and now >= self.since_ms + holder_ms(self.terms.lease_ms):
            self._claim("lapsed")
        while self.rounds and now - self.rounds[0].sent_ms > self._late_ms:
            self._settle(self.rounds.pop(0))
        if self.state == ASKED and now - self.attempt_ms > self._late_ms:
            self._claim("short")

    def tick(self, now: int) -> None:
        """`look`, and ask where it is time."""
        self.look(now)
        if self.state != IDLE and now >= self.due_at:
            self._claim("due")
            self._tally()

    def hurry(self, now: int) -> None:
        """The process stood still: whatever is believed of the lease must be confirmed at once."""
        self.look(now)
        self.due_at = min(self.due_at, now)

    def told(self, claim: bool, last: bool, off: dict[str, int], now: int) -> None:
        """The agent's word. off: nodes that are proven to be off -> their keeper's boot then."""
        self.look(now)
        if off.keys() - self.off.keys():
            self.due_at = now
        self.last, self.off = last, dict(off)
        self._claim("claim" if claim else "unclaim")
        self._tally()

    def asked(self, ask: Ask, now: int) -> None:
        """A peer asks for this node's vote."""
        self.look(now)
        boot, number = self.ended.get(ask.node, (0, 0))
        if ask.node not in self.terms.nodes or (ask.boot == boot and ask.number <= number):
            return  # it has none to ask for, or it gave up what it asked for then
        if self.off.get(ask.node) == ask.boot:
            return  # on its way when its sender was switched off
        self.ask = ask
        self._meet(ask.node, ask.term, ask.holds)
        self._vote("asked")

    def answered(self, vote: Vote, now: int) -> None:
        """A voter's answer; where it comes late it says nothing about now."""
        self.look(now)
        found = next((it for it in self.rounds if it.number == vote.number), None)
        if found is None or vote.node not in self.terms.voters:
            return
        self._meet(vote.node, vote.term, vote.holds)
        if self.state == IDLE or found not in self.rounds:
            return
        (found.no if not vote.ok else found.soft if vote.soft else found.firm).add(vote.node)
        self._count(found)

    def gave_up(self, node: str, boot: int, number: int, now: int) -> None:
        """A peer does not want it any more, nor what it asked for up to `number`."""
        self.look(now)
        self.ended[node] = (boot, number)
        self.ask = Ask(node, boot, number)
        self._vote("ended")

    def memory(self) -> list[Any]:
        """What another life of this keeper, on the same machine, must know."""
        it = self.promise
        promise = [it.node, it.boot, it.number, it.until_ms] if it is not None else None
        since = self.since_ms if self.state == HELD else 0
        return [promise, self.quiet_until, self.number, self.seen_term, self.term, since]

    def _recall(self, kept: Any) -> None:
        promise, quiet, number, seen, term, since = kept
        self.quiet_until, self.number, self.seen_term = int(quiet), int(number), int(seen)
        self.fresh = False
        if promise is not None:
            node, boot, asked, until = promise
            self.promise = Promise(str(node), int(boot), int(asked), int(until))
        self.voting = PROMISED if self.promise is not None else QUIET
        if since:
            self.state, self.term = HELD, int(term)
            self.since_ms, self.due_at = int(since), self.now

    # ------------------------------------------------------------ the two tables

    def _vote(self, event: str) -> None:
        self.voting = self._fire(VOTER, self.voting, event)

    def _claim(self, event: str) -> None:
        self.state = self._fire(HOLDER, self.state, event)

    def _fire(self, table: "Table[Lease]", before: str, event: str) -> str:
        choice = table.choose(before, event, self)
        row = choice.row
        if row is None:
            return before
        for effect in choice.effects:
            effect(self)
        after = row.next or before
        if not row.quiet or (after != before and table is HOLDER):
            self.fired.append((row.rule, before, after, row.why))
        return after

    def _meet(self, node: str, term: int, holds: bool) -> None:
        """Somebody else says that it holds the lease: one of the two is mistaken."""
        self.seen_term = max(self.seen_term, term)
        if holds and self.state == HELD and node in self.terms.nodes:
            later = (term, -self.terms.nodes.index(node))
            if later > (self.term, -self.terms.nodes.index(self.node)):
                self._claim("usurped")

    # ------------------------------------------------------------ requests

    @property
    def _late_ms(self) -> int:
        return self.terms.lease_ms // LATE_SHARE

    @property
    def remembers(self) -> bool:
        """Whether its vote may be counted on: it knows all that it promised."""
        return self.now >= self.quiet_until

    @property
    def lone(self) -> bool:
        """Two nodes and nobody else to ask: who owned it last may go on alone."""
        return len(self.terms.voters) <= 2 and not self.terms.fence

    def request(self) -> None:
        """Ask every voter, ourselves first."""
        lease_ms, now = self.terms.lease_ms, self.now
        self.due_at = now + lease_ms // (TRIES_SHARE if self._eager() else RENEW_SHARE)
        given = self.promise
        if given is not None and given.node != self.node and not self.void(given, self.off):
            self.due_at = min(self.due_at, given.until_ms)
            return
        self.number = max(self.number + 1, now)
        self.promise = Promise(self.node, self.boot, self.number, now + voter_ms(lease_ms))
        self.voting = PROMISED
        asked = Round(self.number, now)
        sure = self.remembers or (self.lone and self.last is True)
        (asked.firm if sure else asked.soft).add(self.node)
        self.rounds = [*self.rounds[-ROUNDS_KEPT:], asked]
        healthy = self.state == HELD and now - self.since_ms <= lease_ms // HEALTHY_SHARE
        term = self.term if self.state == HELD else self.seen_term
        body: dict[str, Any] = {"id": self.number, "h": healthy, "t": term}
        if self.off:
            body["off"] = dict(self.off)
        self.out.append(("", "lease-ask", body))

    def _eager(self) -> bool:
        """Slowly where it is held for ever, and after an attempt that came to nothing."""
        lease_ms = self.terms.lease_ms
        if self.state == HELD:
            return self.now - self.since_ms < lease_ms
        return not self.slow

    def _tally(self) -> None:
        """Our own votes may be enough."""
        if self.state != IDLE and self.rounds and self.rounds[-1].sent_ms == self.now:
            self._count(self.rounds[-1])

    def _count(self, asked: Round) -> None:
        if enough(self.terms, self.node, asked.firm, asked.soft, self.off):
            self._carried(asked)

    def _settle(self, asked: Round) -> None:
        """Its answers have had their time."""
        alone = self.lone and self.last is True and not asked.no
        if self.state != IDLE and alone:
            self._carried(asked)

    def _carried(self, asked: Round) -> None:
        self.since_ms = max(self.since_ms, asked.sent_ms)
        self._claim("majority")
        self.due_at = self.since_ms + self.terms.lease_ms // RENEW_SHARE

    def void(self, given: Promise, off: dict[str, int]) -> bool:
        """Whether the one that it was given to is proven to be off since."""
        return given.node in off and off[given.node] == given.boot
