# SPDX-License-Identifier: GPL-2.0-or-later
"""Sending the world to another site: ordered steps, each with what must hold before it.

IDLE; LOOKING (which epoch the zone has); KEEPING (our new epoch goes to the disk before anybody
sees it); WRITING (RFC 2136 update, compare-and-swap on the zone's epoch); VERIFYING (every name
server is asked). A reply that is missing is unknown: it is looked at, never assumed.
"""

from collections.abc import Callable

from agent.core.settings import GeoSettings
from agent.core.table import Row, Table

IDLE, LOOKING, KEEPING, WRITING, VERIFYING = "idle", "looking", "keeping", "writing", "verifying"
STATES = (IDLE, LOOKING, KEEPING, WRITING, VERIFYING)
VERIFY_FOR_MS = 15_000
VERIFY_GAP_MS = 500

ROWS = (
    Row("N-LOOK", IDLE, "confirmed", ("target_answers",), LOOKING, ("look",),
        "confirmed by an operator, and the other site answers: read the zone's epoch"),
    Row("N-NOBODY", IDLE, "confirmed", (), "", ("refuse_target",),
        "never to a site that does not answer"),
    Row("N-NO-LOOK-2", LOOKING, "unknown", (), IDLE, ("fail",),
        "the primary name server does not answer"),
    Row("N-KEEP", LOOKING, "done", (), KEEPING, ("keep",),
        "store an epoch above all that were seen before anything is visible"),
    Row("N-NO-LOOK", LOOKING, "failed", (), IDLE, ("fail",),
        "the primary name server does not answer"),
    Row("N-WRITE", KEEPING, "done", ("target_answers",), WRITING, ("write",),
        "the epoch is stored and the site still answers: write"),
    Row("N-GONE", KEEPING, "done", (), IDLE, ("refuse_target",),
        "the site stopped answering meanwhile"),
    Row("N-NO-KEEP", KEEPING, "failed", (), IDLE, ("fail",),
        "an epoch that is not stored is not used"),
    Row("N-NO-KEEP-2", KEEPING, "unknown", (), IDLE, ("fail",),
        "it is not known whether the epoch is stored: it is not used"),
    Row("N-VERIFY", WRITING, "done", (), VERIFYING, ("written", "verify"),
        "the primary has it: ask every name server"),
    Row("N-DOUBT", WRITING, "unknown", (), VERIFYING, ("verify",),
        "no reply is not a no: look what the servers say"),
    Row("N-REFUSED", WRITING, "failed", (), IDLE, ("fail",), "the primary refused the update"),
    Row("N-DONE", VERIFYING, "done", ("all_agree",), IDLE, ("written", "succeed"),
        "every name server says so"),
    Row("N-AGAIN", VERIFYING, "late", (), "", ("verify",), "ask them again", quiet=True),
    Row("N-LAG", VERIFYING, "done", ("time_left",), "", ("verify_later",),
        "some name server has not got it yet", quiet=True),
    Row("N-BLIND", VERIFYING, "failed", ("time_left",), "", ("verify_later",),
        "ask them again", quiet=True),
    Row("N-BLIND-2", VERIFYING, "unknown", ("time_left",), "", ("verify_later",),
        "ask them again", quiet=True),
    Row("N-PART", VERIFYING, "done", ("is_written",), IDLE, ("succeed_partly",),
        "the primary has it, some server does not follow"),
    Row("N-PART-2", VERIFYING, "failed", ("is_written",), IDLE, ("succeed_partly",),
        "the primary took it, and nobody could be asked since"),
    Row("N-PART-3", VERIFYING, "unknown", ("is_written",), IDLE, ("succeed_partly",),
        "the primary took it, and nobody could be asked since"),
    Row("N-UNSURE", VERIFYING, "done", (), IDLE, ("leave_open",),
        "no reply to the update, and the primary does not say that it has it"),
    Row("N-UNSURE-2", VERIFYING, "failed", (), IDLE, ("leave_open",),
        "no reply to the update, and nobody could be asked"),
    Row("N-UNSURE-3", VERIFYING, "unknown", (), IDLE, ("leave_open",),
        "no reply to the update, and nobody could be asked"),
)  # fmt: skip


class Geo:
    """One name and the sites it can point to. `ask` carries a step out, returns its op_id."""

    __slots__ = (
        "agree",
        "ask",
        "began_ms",
        "detail",
        "epoch",
        "late_at",
        "now",
        "observe_at",
        "observe_op",
        "op_id",
        "reply",
        "request_id",
        "settings",
        "site",
        "site_answers",
        "state",
        "target",
        "verify_until",
        "written",
        "zone_epoch",
    )

    def __init__(
        self,
        settings: GeoSettings,
        ask: Callable[["Geo", str], int],
        reply: Callable[["Geo", bool | None, str], None],
        site_answers: Callable[[str], bool],
    ) -> None:
        self.settings = settings
        self.ask = ask
        self.reply = reply
        self.site_answers = site_answers
        self.state = IDLE
        self.site = ""  # where the name points, as last verified
        self.epoch = 0  # ours, stored
        self.zone_epoch = 0
        self.target = ""
        self.request_id = 0
        self.observe_op = 0  # the look under way; 0 once a move began, which makes it stale
        self.observe_at = 0  # when to look what the name servers say, with nothing to change
        self.op_id = 0
        self.late_at = 0
        self.verify_until = 0
        self.began_ms = 0
        self.agree = False
        self.written = False
        self.detail = ""
        self.now = 0


def _keep(geo: Geo) -> None:
    geo.epoch = max(geo.epoch, geo.zone_epoch) + 1
    geo.op_id = geo.ask(geo, "keep")


def _verify(geo: Geo) -> None:
    geo.late_at = 0
    if not geo.verify_until:
        geo.verify_until = geo.now + VERIFY_FOR_MS
    geo.op_id = geo.ask(geo, "verify")


def _verify_later(geo: Geo) -> None:
    geo.late_at = geo.now + VERIFY_GAP_MS


def _written(geo: Geo) -> None:
    geo.written = True
    geo.site = geo.target


def _refuse_target(geo: Geo) -> None:
    group = geo.settings.groups.get(geo.target, "?")
    geo.reply(
        geo,
        False,
        f"{geo.settings.name}: {geo.target} does not answer: no node is seen to serve group "
        f"{group} there. Nothing was changed. Bring {group} into service at {geo.target} first.",
    )


def _fail(geo: Geo) -> None:
    geo.reply(geo, False, f"{geo.settings.name}: {geo.detail}. The names were not moved.")


def _leave_open(geo: Geo) -> None:
    text = (
        f"{geo.settings.name}: {geo.detail}. Whether the names were moved is not known: look what "
        "the servers say, and give the same order again"
    )
    geo.reply(geo, False, text)


def _succeed(geo: Geo) -> None:
    took = geo.now - geo.began_ms
    text = (
        f"{geo.settings.name}: every name server says {geo.target} (epoch {geo.epoch}, {took} ms)"
    )
    geo.reply(geo, True, text)


def _succeed_partly(geo: Geo) -> None:
    text = f"{geo.settings.name}: the primary says {geo.target}; {geo.detail}: look at that server"
    geo.reply(geo, True, text)


def _step(verb: str) -> Callable[[Geo], None]:
    def effect(geo: Geo) -> None:
        geo.op_id = geo.ask(geo, verb)

    return effect


GUARDS: dict[str, Callable[[Geo], bool]] = {
    "target_answers": lambda geo: geo.site_answers(geo.target),
    "all_agree": lambda geo: geo.agree,
    "time_left": lambda geo: geo.now < geo.verify_until,
    "is_written": lambda geo: geo.written,
}
EFFECTS: dict[str, Callable[[Geo], None]] = {
    "look": _step("look"),
    "keep": _keep,
    "write": _step("write"),
    "verify": _verify,
    "verify_later": _verify_later,
    "written": _written,
    "refuse_target": _refuse_target,
    "fail": _fail,
    "leave_open": _leave_open,
    "succeed": _succeed,
    "succeed_partly": _succeed_partly,
}
TABLE: Table[Geo] = Table("geo", STATES, ROWS, GUARDS, EFFECTS)
