# SPDX-License-Identifier: GPL-2.0-or-later
"""Is this node's standby of a group READY? Each proof has an age, and an old one proves nothing.

A look that came to nothing changes no verdict: it lets the last one age. What is proved by
comparing with the active node is judged as of the moment when that node was last heard: the copy
does not grow worse by its death.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from agent.core.model import Carried, Proof, Proved
from agent.core.settings import GroupSettings, Standby

DAY_MS = 86_400_000
MISSED_REHEARSALS = 2  # one may be late or interrupted by a restart


class Weight(StrEnum):
    """What a proof means for READY."""

    SHOWN = "shown"  # it must have been shown, and lately
    UNLESS_BAD = "unless bad"  # only a clear no counts
    TOLD = "told"  # people are told; it keeps nobody from serving


@dataclass(frozen=True, slots=True)
class Rule:
    """A row of the table. asked: whether this group needs it. linked: shown by the active node.

    alarm: the kind under which people are told of a no, beside the standby's not being ready.
    """

    name: str
    weight: Weight
    asked: Callable[[GroupSettings], bool]
    alarm: str = ""
    linked: bool = False


def _has_settings(group: GroupSettings) -> bool:
    return bool(group.carried and (group.carried.files or group.carried.licence))


def _has_status(group: GroupSettings) -> bool:
    return bool(group.carried and group.carried.status)


def _has_hooks(group: GroupSettings) -> bool:
    realtime = group.realtime
    commands = [group.promote, group.demote]
    commands += [realtime.drain, realtime.undrain, realtime.ramp] if realtime else []
    return any(commands)


def _always(_: GroupSettings) -> bool:
    return True


RULES = (  # in the order in which the first reason is looked for
    Rule("settings", Weight.SHOWN, _has_settings, "settings-differ", linked=True),
    Rule("status", Weight.SHOWN, _has_status, "status-stale", linked=True),
    Rule(
        "status-load",
        Weight.SHOWN,
        lambda group: _has_status(group) and bool(group.carried and group.carried.load_test),
        "status-stale",
        linked=True,
    ),
    Rule(
        "licence",
        Weight.SHOWN,
        lambda group: bool(group.carried and group.carried.licence),
        "licence-invalid",
    ),
    Rule("unit", Weight.SHOWN, lambda group: bool(group.services)),
    Rule(
        "ports",
        Weight.SHOWN,
        lambda group: group.standby is Standby.COLD and bool(group.services),
    ),
    Rule("room", Weight.SHOWN, _always),
    Rule("hooks", Weight.SHOWN, _has_hooks),
    Rule("rehearsal", Weight.SHOWN, lambda group: bool(group.rehearse)),
    Rule("clock", Weight.UNLESS_BAD, _always),
    Rule("versions", Weight.UNLESS_BAD, _always, "settings-differ", linked=True),
    Rule("drift", Weight.TOLD, _always, "settings-differ"),
)


@dataclass(slots=True)
class Held:
    """The last verdict on one thing, and what the last look since found in its way."""

    proof: Proof
    at_ms: int
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class Standing:
    """How one proof stands, for people. state: good, bad, stale, unseen.

    age_ms: of the last verdict, of the status itself for "status"; None where there is none.
    """

    name: str
    state: str
    weight: str
    detail: str
    age_ms: int | None = None
    left_ms: int | None = None


class Readiness:
    """One group's proofs on this node. `hear` them, ask `why` not; "" is READY.

    lost_ms: when the active node was last heard, where it is heard no more; None while it is.
    own: nobody has newer settings or status than this node, for it served last, or nobody ever did.
    """

    def __init__(self, settings: GroupSettings) -> None:
        self._settings = settings
        self._rules = tuple(rule for rule in RULES if rule.asked(settings))
        self._held: dict[str, Held] = {}
        self._troubles: dict[str, str] = {}

    def hear(self, said: Proved | Carried, now: int) -> None:
        """Takes a prover's round, or what the carrying of settings and status says."""
        proofs = said.proofs if isinstance(said, Proved) else _carried_proofs(said)
        for proof in proofs:
            held = self._held.get(proof.name)
            if proof.ok is not None:
                age_ms = 0
                if isinstance(said, Carried) and proof.name == "status":
                    age_ms = said.status_age_ms or 0
                self._held[proof.name] = Held(proof, now - age_ms)
                self._troubles.pop(proof.name, None)
            elif held is not None:
                held.trouble = proof.detail
            else:
                self._troubles[proof.name] = proof.detail

    def served(self, now: int) -> None:
        """It served until now, which shows everything at once; from here on it grows old."""
        self._troubles.clear()
        for rule in self._rules:
            held = self._held.get(rule.name)
            left_ms = None if held is None else held.proof.left_ms
            if left_ms is not None and held is not None:
                left_ms -= now - held.at_ms
            self._held[rule.name] = Held(Proof(rule.name, True, "it served here", left_ms), now)

    def forget(self) -> None:
        """It could not serve: nothing of before is proved any more."""
        self._held.clear()
        self._troubles.clear()

    def why(self, now: int, lost_ms: int | None = None, own: bool = False) -> str:
        """The first reason why this standby is not ready, "" if it is."""
        for rule in self._rules:
            if own and rule.linked:
                continue
            stands = self._stands(rule, now, lost_ms)
            if _bars(rule, stands):
                return f"{rule.name}: {stands.detail}"
        return ""

    def left(self, now: int) -> float | None:
        """Days until the first of its licences ends, below 0 if it has; None: none ends."""
        ends = [
            held.at_ms + held.proof.left_ms
            for held in self._held.values()
            if held.proof.left_ms is not None
        ]
        return (min(ends) - now) / DAY_MS if ends else None

    def table(self, now: int, lost_ms: int | None = None) -> tuple[Standing, ...]:
        """Every proof that is asked of this group, in the order of `RULES`."""
        return tuple(self._stands(rule, now, lost_ms) for rule in self._rules)

    def complaints(self, now: int, lost_ms: int | None = None, own: bool = False) -> dict[str, str]:
        """Alarm kind -> what to say, of each that should stand now. The first text of a kind."""
        found: dict[str, str] = {}
        why = self.why(now, lost_ms, own)
        if why:
            found["standby-not-ready"] = why
        for rule in self._rules:
            stands = self._stands(rule, now, lost_ms)
            said = stands.state == "bad" or (rule.name == "status" and stands.state == "stale")
            if rule.alarm and said and not (own and rule.linked):
                found.setdefault(rule.alarm, f"{rule.name}: {stands.detail}")
        left, carried = self.left(now), self._settings.carried
        if left is not None and carried and left * DAY_MS < carried.licence_warn_ms:
            ends = f"ends in {left:.1f} days" if left > 0 else f"ended {-left:.1f} days ago"
            found["licence-expiring"] = f"licence: {ends}"
        return found

    def deadline(self, now: int) -> int | None:
        """When a proof that is good now grows stale next, or a licence ends; None: nothing does."""
        turns = [
            turn
            for rule in self._rules
            if (held := self._held.get(rule.name)) is not None and held.proof.ok
            for turn in (self._stale_ms(rule, held), _end_ms(held))
            if turn is not None and turn > now
        ]
        return min(turns, default=None)

    def _stands(self, rule: Rule, now: int, lost_ms: int | None) -> Standing:
        held = self._held.get(rule.name)
        if held is None:
            detail = self._troubles.get(rule.name) or "not shown yet"
            return Standing(rule.name, "unseen", rule.weight, detail)
        as_of_ms = now if lost_ms is None or not rule.linked else min(now, lost_ms)
        stale_ms, end_ms = self._stale_ms(rule, held), _end_ms(held)
        proof, state = held.proof, "good" if held.proof.ok else "bad"
        detail = proof.detail or ("as it should be" if proof.ok else "not as it should be")
        if end_ms is not None and end_ms <= now:
            state, detail = "bad", f"{detail}; it has ended"
        elif stale_ms is not None and as_of_ms >= stale_ms:
            since = f"last shown {_span(as_of_ms - held.at_ms)} ago"
            if rule.name == "status":
                since = f"is {_span(as_of_ms - held.at_ms)} old"
            state = "stale" if proof.ok else "bad"
            detail = "; ".join(part for part in (since, held.trouble or proof.detail) if part)
        left_ms = None if end_ms is None else end_ms - now
        return Standing(
            rule.name, state, rule.weight, detail, max(0, as_of_ms - held.at_ms), left_ms
        )

    def _stale_ms(self, rule: Rule, held: Held) -> int | None:
        """From when on the verdict proves nothing any more."""
        settings = self._settings
        if rule.weight is not Weight.SHOWN:
            return None
        if rule.name == "rehearsal":
            return held.at_ms + MISSED_REHEARSALS * settings.rehearse_every_ms + 1
        if rule.name == "status" and settings.carried:
            return held.at_ms + settings.carried.status_max_age_ms + 1
        return held.at_ms + settings.proof_max_age_ms + 1


def _bars(rule: Rule, stands: Standing) -> bool:
    match rule.weight:
        case Weight.SHOWN:
            return stands.state != "good"
        case Weight.UNLESS_BAD:
            return stands.state == "bad"
        case Weight.TOLD:
            return False


def _end_ms(held: Held) -> int | None:
    return None if held.proof.left_ms is None else held.at_ms + held.proof.left_ms


def _carried_proofs(said: Carried) -> tuple[Proof, ...]:
    """A node that hears no active one has nothing to compare with: that is no verdict."""
    detail = said.detail
    if said.status_age_ms is not None:
        status = Proof("status", True)
    elif said.settings_ok is None:
        status = Proof("status", None, detail or "no active node is heard, and no status is held")
    else:
        status = Proof("status", False, "none was received from the active node")
    if said.settings_ok is None:
        detail = detail or "no active node is heard to compare with"
    settings = Proof("settings", said.settings_ok, detail)
    return settings, status


def _span(ms: int) -> str:
    seconds = ms / 1000
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
