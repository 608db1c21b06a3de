# SPDX-License-Identifier: GPL-2.0-or-later
"""What the rows of `bringing` look at and do. Nothing is done here: the shell is asked to."""

from collections.abc import Callable

from agent.core.bringing import (
    BLOCKED_LEASES,
    ROWS,
    STATES,
    TAKE_WITHIN_MS,
    TRIES,
    Bringing,
)
from agent.core.table import Row, Table


def _ask(verb: str, within: Callable[[Bringing], int] = lambda _: 0) -> Callable[[Bringing], None]:
    """Have the shell do it; its outcome is an event. within: when it is late all the same."""

    def effect(it: Bringing) -> None:
        it.op_id = 0
        it.tries += 1
        it.asks.append((verb, ""))
        span_ms = within(it)
        it.late_at = it.now + span_ms if span_ms else 0

    return effect


def _claim(it: Bringing) -> None:
    it.claims, it.releasing = True, False
    it.unstill.clear()
    it.op_id = 0
    it.late_at = it.now + BLOCKED_LEASES * it.settings.lease_ms


def _keep_claim(it: Bringing) -> None:
    it.claims, it.releasing = True, False
    it.unstill.clear()


def _settle(it: Bringing) -> None:
    it.op_id = it.late_at = 0


def _say(kind: str) -> Callable[[Bringing], None]:
    def effect(it: Bringing) -> None:
        it.asks.append((kind, ""))

    return effect


def _go(it: Bringing) -> None:
    it.claims = False
    it.op_id = 0
    it.late_at = it.now + it.start_ms + TAKE_WITHIN_MS


def _undo(it: Bringing) -> None:
    """Whatever was begun here is taken back; the lease goes when that is seen to be done."""
    _settle(it)
    it.releasing = it.claims
    it.asks.append(("stop" if it.cold else "demote", ""))


def _fall(it: Bringing) -> None:
    """Nothing of it may go on: where two copies must not run, nobody is asked politely."""
    _settle(it)
    it.share = 0
    it.releasing = it.claims
    if it.exclusive:
        it.asks.append(("kill", ""))
    elif it.cold:
        it.asks.append(("stop", ""))
    else:
        it.asks += [("drain", ""), ("demote", "")]


def _rest(it: Bringing) -> None:
    """A peer has it. What went on in parallel until now, or was drained for it, ends here."""
    _settle(it)
    it.share = 0
    if it.cold and not it.stops_first:
        it.asks.append(("stop", ""))
    elif not it.cold and not it.demotes_first:
        it.asks += [("drain", ""), ("demote", "")]


def _ramp(it: Bringing) -> None:
    _settle(it)
    it.emptying_until = 0
    it.asks.append(("undrain", ""))
    realtime = it.settings.realtime
    if realtime is None or not realtime.ramp or it.share >= len(realtime.steps_pct):
        return
    it.asks.append(("ramp", str(realtime.steps_pct[it.share])))
    it.share += 1
    if it.share < len(realtime.steps_pct):
        it.late_at = it.now + realtime.step_every_ms


def _undrain(it: Bringing) -> None:
    it.asks.append(("undrain", ""))


GUARDS: dict[str, Callable[[Bringing], bool]] = {
    "exclusive": lambda it: it.exclusive,
    "cold": lambda it: it.cold,
    "status": lambda it: it.status,
    "promotes": lambda it: it.settings.promote != "",
    "has_addresses": lambda it: it.has_addresses,
    "can_fence": lambda it: it.can_fence,
    "nothing_known": lambda it: it.nothing_known,
    "again": lambda it: it.tries < TRIES,
    "drains": lambda it: it.drains_first,
    "planned": lambda it: it.planned,
    "stops_first": lambda it: it.stops_first,
    "demotes": lambda it: it.settings.demote != "",
    "demotes_first": lambda it: it.demotes_first,
    "fit_to_return": lambda it: not it.sick,
}


EFFECTS: dict[str, Callable[[Bringing], None]] = {
    "claim": _claim,
    "keep_claim": _keep_claim,
    "place": _ask("place"),
    "start": _ask("start"),
    "promote": _ask("promote"),
    "fence": _ask("fence"),
    "count_fenced": _say("fenced"),
    "say_unfenced": _say("unfenced"),
    "say_blocked": _say("blocked"),
    "say_hook": _say("hook"),
    "say_undone": _say("undone"),
    "say_back": _say("back"),
    "say_lease": _say("lease"),
    "settle": _settle,
    "ramp": _ramp,
    "drain": _ask("drain", lambda it: it.drain_ms),
    "undrain": _undrain,
    "stop": _ask("stop", lambda it: it.stop_ms + 1_000),
    "stop_rest": _ask("stop"),
    "kill": _ask("kill"),
    "demote": _ask("demote_first"),
    "ship": _ask("ship"),
    "mark": _ask("mark"),
    "go": _go,
    "undo": _undo,
    "fail": _say("fail"),
    "fall": _fall,
    "rest": _rest,
}
TABLE: Table[Bringing] = Table("group on this node", STATES, ROWS, GUARDS, EFFECTS)


def fire(it: Bringing, event: str, now: int) -> Row | None:
    """One event into the table; the row that was taken."""
    it.now = now
    choice = TABLE.choose(it.state, event, it)
    row = choice.row
    if row is None:
        return None
    if row.next and row.next != it.state:
        it.state, it.since_ms, it.tries = row.next, now, 0
    for effect in choice.effects:
        effect(it)
    return row
