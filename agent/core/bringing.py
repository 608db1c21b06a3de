# SPDX-License-Identifier: GPL-2.0-or-later
"""How a group comes into service on this node and goes out of it again, one step after the other.

A hot standby works already: addresses, then `promote`. A cold one is brought up first: the lease
where two copies must never run, the last known status, the services in their order, alive; only
then the addresses. On the way out nothing is lost: drain, stop, ship the status, write down that we
let go, and only then offer the group.

States: IDLE, CLAIMING (the lease), FENCING, PLACING (the status), STARTING, PROMOTING, FIT (may
have the addresses), SERVING, DRAINING, STOPPING, DEMOTING, SHIPPING, MARKING, GONE (nothing of it
runs here, a peer is to take it). Each step has its limit; an operation that timed out is looked at
again, never assumed; what cannot be done is undone.
"""

from agent.core.settings import Exclusive, GroupSettings, Standby
from agent.core.table import Row

IDLE, CLAIMING, FENCING, PLACING, STARTING = "idle", "claiming", "fencing", "placing", "starting"
PROMOTING, FIT, SERVING, DRAINING = "promoting", "fit", "serving", "draining"
STOPPING, DEMOTING, SHIPPING, MARKING, GONE = "stopping", "demoting", "shipping", "marking", "gone"
STATES = (
    *(IDLE, CLAIMING, FENCING, PLACING, STARTING, PROMOTING, FIT, SERVING),
    *(DRAINING, STOPPING, DEMOTING, SHIPPING, MARKING, GONE),
)
COMING = (CLAIMING, FENCING, PLACING, STARTING, PROMOTING)
LEAVING = (DRAINING, STOPPING, DEMOTING, SHIPPING, MARKING)
PLACE_WITHIN_MS = 10_000
SHIP_WITHIN_MS = 10_000  # of a planned move; a sick one does not wait so long
SHIP_SICK_MS = 2_000
MARK_WITHIN_MS = 5_000
TAKE_WITHIN_MS = 15_000  # beyond the services' own start, until a peer has the group
BLOCKED_LEASES = 2  # so many leases without one: people are told, fencing is tried
TRIES = 2

ROWS = (
    # ---- up
    Row("B-CLAIM", IDLE, "up", ("exclusive",), CLAIMING, ("claim",),
        "two copies must never run: first the lease"),
    Row("B-PLACE", IDLE, "up", ("cold", "status"), PLACING, ("place",),
        "put the last known status where the service reads it"),
    Row("B-START", IDLE, "up", ("cold",), STARTING, ("start",),
        "start the services in their order, then prove them"),
    Row("B-FIT", IDLE, "up", (), FIT, (), "its services run already"),
    Row("B-HELD-PLACE", CLAIMING, "held", ("cold", "status", "!has_addresses"), PLACING,
        ("place",), "the lease is ours: now the last known status"),
    Row("B-HELD-START", CLAIMING, "held", ("cold",), STARTING, ("start",),
        "the lease is ours: start the services"),
    Row("B-HELD-PROMOTE", CLAIMING, "held", ("promotes",), PROMOTING, ("promote",),
        "the lease is ours: have the running standby work"),
    Row("B-HELD", CLAIMING, "held", (), FIT, ("settle",), "the lease is ours"),
    Row("B-FENCE", CLAIMING, "late", ("can_fence",), FENCING, ("fence",),
        "no lease: the node that had the group is silent and may still run it; switch it off"),
    Row("B-BLOCKED", CLAIMING, "late", (), "", ("say_blocked", "claim"),
        "no lease: a copy may still run elsewhere, so none is started here"),
    Row("B-FENCED", FENCING, "done", (), CLAIMING, ("count_fenced", "claim"),
        "it is seen to be off: its promises are void"),
    Row("B-FENCE-FAILED", FENCING, "failed", (), CLAIMING, ("say_unfenced", "claim"),
        "it cannot be switched off: nothing is started here on a guess"),
    Row("B-FENCE-UNKNOWN", FENCING, "unknown", (), CLAIMING, ("say_unfenced", "claim"),
        "nobody knows whether it is off: nothing is started here on a guess"),
    Row("B-PLACED", PLACING, "done", (), STARTING, ("start",),
        "the status is in place: start the services"),
    Row("B-NO-STATUS", PLACING, "failed", ("nothing_known",), STARTING, ("start",),
        "no status was ever carried: the service begins with what is here"),
    Row("B-PLACE-FAILED", PLACING, "failed", (), IDLE, ("undo", "fail"),
        "the last known status cannot be used here: leave the group to the next node"),
    Row("B-PLACE-AGAIN", PLACING, "unknown", ("again",), "", ("place",),
        "placing the status timed out: do it again, that does no harm"),
    Row("B-PLACE-UNKNOWN", PLACING, "unknown", (), IDLE, ("undo", "fail"),
        "the status cannot be placed here"),
    Row("B-ALIVE-BACK", STARTING, "alive", ("has_addresses",), SERVING, ("settle", "say_back"),
        "the services answer again here, and the addresses are here still"),
    Row("B-ALIVE", STARTING, "alive", (), FIT, ("settle",),
        "the services answer: this node may have the addresses"),
    Row("B-PROMOTED", PROMOTING, "done", ("has_addresses",), SERVING, ("settle", "ramp"),
        "the running standby works now"),
    Row("B-PROMOTED-FIT", PROMOTING, "done", (), FIT, ("settle",),
        "the running standby works now: this node may have the addresses"),
    Row("B-PROMOTE-AGAIN", PROMOTING, "failed", ("again",), "", ("promote",), "once more"),
    Row("B-PROMOTE-AGAIN-2", PROMOTING, "unknown", ("again",), "", ("promote",),
        "it timed out, which is not a no: promoting twice does no harm"),
    Row("B-PROMOTE-BACK", PROMOTING, "failed", ("has_addresses",), SERVING,
        ("settle", "say_hook", "fail"),
        "it does not begin to work here: the group must move on"),
    Row("B-PROMOTE-BACK-2", PROMOTING, "unknown", ("has_addresses",), SERVING,
        ("settle", "say_hook"), "nobody knows whether it works: its answers will tell"),
    Row("B-PROMOTE-FAILED", PROMOTING, "failed", (), IDLE, ("undo", "fail"),
        "it does not begin to work here: leave the group to the next node"),
    Row("B-PROMOTE-UNKNOWN", PROMOTING, "unknown", (), IDLE, ("undo", "fail"),
        "nobody knows whether it works here: leave the group to the next node"),
    # ---- the addresses are here
    Row("B-SERVE-CLAIM", IDLE, "adopted", ("exclusive",), SERVING, ("keep_claim",),
        "it served before this agent was started: keep the lease"),
    Row("B-ADOPT", IDLE, "adopted", (), SERVING, (), "it served before this agent was started"),
    Row("B-TOOK-CLAIM", IDLE, "took", ("exclusive",), SERVING, ("keep_claim", "ramp"),
        "the addresses are here already: keep the lease"),
    Row("B-TOOK-PROMOTE", IDLE, "took", ("promotes",), PROMOTING, ("promote",),
        "the addresses are here: have the running standby work"),
    Row("B-TOOK", IDLE, "took", (), SERVING, ("ramp",), "the addresses are here"),
    Row("B-TOOK-PROMOTE-2", FIT, "took", ("promotes", "!exclusive"), PROMOTING, ("promote",),
        "the addresses are here: have the running standby work"),
    Row("B-TOOK-FIT", FIT, "took", (), SERVING, ("ramp",), "the addresses are here"),
    Row("B-RAMP", SERVING, "late", (), "", ("ramp",), "take a larger share of the load",
        quiet=True),
    # ---- given up on the way
    Row("B-CANCEL-FIT", FIT, "cancel", (), IDLE, ("undo",), "another node serves after all"),
    *(
        Row(f"B-CANCEL-{state.upper()}", state, "cancel", (), IDLE, ("undo",),
            "another node serves after all")
        for state in COMING
    ),
    Row("B-NO-RESTART", STARTING, "broken", (), GONE, ("stop_rest", "go"),
        "its services do not start here any more: offer the group"),
    # ---- down
    Row("B-DRAIN", SERVING, "down", ("drains", "planned"), DRAINING, ("drain",),
        "take no new work, and wait for the sessions that are up"),
    Row("B-STOP", SERVING, "down", ("stops_first",), STOPPING, ("stop",),
        "stop here first: nothing that it knows may be lost, and two copies must not run"),
    Row("B-DEMOTE", SERVING, "down", ("demotes_first", "demotes"), DEMOTING, ("demote",),
        "two copies must not work at the same time: first this one ends its work"),
    Row("B-MARK", SERVING, "down", ("demotes_first",), MARKING, ("mark",),
        "it works where the lease is: write down that we let go"),
    Row("B-GO", SERVING, "down", (), GONE, ("go",), "offer the group"),
    Row("B-DRAINED-STOP", DRAINING, "drained", ("stops_first",), STOPPING, ("stop",),
        "no session is left: stop here first"),
    Row("B-DRAINED-DEMOTE", DRAINING, "drained", ("demotes_first", "demotes"), DEMOTING,
        ("demote",), "no session is left: first this one ends its work"),
    Row("B-DRAINED-MARK", DRAINING, "drained", ("demotes_first",), MARKING, ("mark",),
        "no session is left: write down that we let go"),
    Row("B-DRAINED", DRAINING, "drained", (), GONE, ("go",), "no session is left: offer the group"),
    Row("B-DRAIN-LATE-STOP", DRAINING, "late", ("stops_first",), STOPPING, ("stop",),
        "the deadline has come: the sessions that are left end"),
    Row("B-DRAIN-LATE-DEMOTE", DRAINING, "late", ("demotes_first", "demotes"), DEMOTING,
        ("demote",), "the deadline has come: the sessions that are left end"),
    Row("B-DRAIN-LATE-MARK", DRAINING, "late", ("demotes_first",), MARKING, ("mark",),
        "the deadline has come: the sessions that are left end"),
    Row("B-DRAIN-LATE", DRAINING, "late", (), GONE, ("go",),
        "the deadline has come: the sessions that are left end"),
    Row("B-DRAIN-CANCEL", DRAINING, "cancel", (), SERVING, ("undrain", "settle"),
        "told to stay: take new work again"),
    Row("B-STOPPED-SHIP", STOPPING, "stopped", ("status",), SHIPPING, ("ship",),
        "stopped, and seen to be: send its last status"),
    Row("B-STOPPED", STOPPING, "stopped", (), MARKING, ("mark",),
        "stopped, and seen to be: write down that we let go"),
    Row("B-STOP-LATE", STOPPING, "late", ("planned",), STARTING, ("say_undone", "start"),
        "it does not stop: back into service here"),
    Row("B-STOP-STUCK", STOPPING, "late", (), "", ("kill", "stop"),
        "it does not stop: kill it, and look again"),
    Row("B-DEMOTED-SHIP", DEMOTING, "done", ("status",), SHIPPING, ("ship",),
        "it works no more: send its last status"),
    Row("B-DEMOTED", DEMOTING, "done", (), MARKING, ("mark",),
        "it works no more: write down that we let go"),
    Row("B-DEMOTE-FAILED", DEMOTING, "failed", (), PROMOTING, ("say_undone", "promote"),
        "it does not end its work: back into service here"),
    Row("B-DEMOTE-UNKNOWN", DEMOTING, "unknown", (), PROMOTING, ("say_undone", "promote"),
        "nobody knows whether it has ended its work: back into service here"),
    Row("B-SHIPPED", SHIPPING, "done", (), MARKING, ("mark",),
        "the taker has the last status: write down that we let go"),
    *(
        Row(f"B-UNSHIPPED-{event.upper()}", SHIPPING, event, ("planned", "cold"), STARTING,
            ("say_undone", "start"),
            "the taker does not have the last status: back into service here, nothing is lost")
        for event in ("failed", "unknown")
    ),
    *(
        Row(f"B-UNSHIPPED-HOT-{event.upper()}", SHIPPING, event, ("planned",), PROMOTING,
            ("say_undone", "promote"),
            "the taker does not have the last status: it works on here, nothing is lost")
        for event in ("failed", "unknown")
    ),
    *(
        Row(f"B-UNSHIPPED-SICK-{event.upper()}", SHIPPING, event, (), MARKING, ("mark",),
            "the last status did not get through: the taker goes on with the one that it has")
        for event in ("failed", "unknown")
    ),
    Row("B-MARKED", MARKING, "done", (), GONE, ("go",), "offer the group, and the lease with it"),
    *(
        Row(f"B-UNMARKED-{event.upper()}", MARKING, event, ("exclusive", "cold"), STARTING,
            ("say_undone", "start"),
            "that we let go could not be stored, and after a restart nobody would know")
        for event in ("failed", "unknown")
    ),
    *(
        Row(f"B-UNMARKED-HOT-{event.upper()}", MARKING, event, ("exclusive", "promotes"),
            PROMOTING, ("say_undone", "promote"),
            "that we let go could not be stored, and after a restart nobody would know")
        for event in ("failed", "unknown")
    ),
    *(
        Row(f"B-UNMARKED-STAY-{event.upper()}", MARKING, event, ("exclusive",), SERVING,
            ("say_undone", "settle"),
            "that we let go could not be stored, and after a restart nobody would know")
        for event in ("failed", "unknown")
    ),
    *(
        Row(f"B-UNMARKED-GO-{event.upper()}", MARKING, event, (), GONE, ("go",),
            "that we let go could not be stored; offer the group all the same")
        for event in ("failed", "unknown")
    ),
    Row("B-LEFT", GONE, "left", (), IDLE, ("rest",), "a peer has it"),
    Row("B-NOBODY-CLAIM", GONE, "late", ("fit_to_return", "exclusive"), CLAIMING,
        ("say_undone", "claim"), "nobody took it: back into service here"),
    Row("B-NOBODY-START", GONE, "late", ("fit_to_return", "stops_first"), STARTING,
        ("say_undone", "start"), "nobody took it: back into service here"),
    Row("B-NOBODY", GONE, "late", ("fit_to_return",), SERVING, ("say_undone", "undrain", "settle"),
        "nobody took it: it stays here"),
    Row("B-NOBODY-WAIT", GONE, "late", (), "", ("go",), "nobody took it yet: the offer stands",
        quiet=True),
    # ---- lost
    *(
        Row(f"B-LOST-{state.upper()}", state, "left", (), IDLE, ("fall",),
            "the addresses went without our doing: nothing of it may go on here")
        for state in (*COMING, SERVING, *LEAVING)
    ),
    *(
        Row(f"B-LEASE-{state.upper()}", state, "lease_lost", (), IDLE, ("fall", "say_lease"),
            "the lease ran out: another node may start it now, so it ends here at once")
        for state in (PLACING, STARTING, PROMOTING, FIT, SERVING, *LEAVING)
    ),
)  # fmt: skip


class Bringing:
    """The way of one group on this node. asks: what the shell has to do, in order: (verb, word).

    late_at: when the present step is late, 0: never. claims: it wants the group's lease, or to keep
    it. sessions: as last counted, None: not known. to: who is to take it, "" for any.
    """

    __slots__ = (
        "asks",
        "broken",
        "can_fence",
        "claims",
        "count_at",
        "counting",
        "drain_ms",
        "drained",
        "emptying_until",
        "failback_to",
        "fenced",
        "has_addresses",
        "late_at",
        "nothing_known",
        "now",
        "op_id",
        "planned",
        "releasing",
        "sessions",
        "settings",
        "share",
        "sick",
        "since_ms",
        "start_ms",
        "state",
        "stop_ms",
        "to",
        "tries",
        "unstill",
        "why",
    )

    def __init__(self, settings: GroupSettings) -> None:
        self.settings = settings
        self.state = IDLE
        self.now = 0
        self.since_ms = 0
        self.late_at = 0
        self.op_id = 0
        self.tries = 0
        self.asks: list[tuple[str, str]] = []
        self.claims = False
        self.releasing = False  # the lease goes as soon as nothing of it runs here
        self.unstill: set[int] = set()  # op_ids of what must have ended well before that
        self.fenced: tuple[str, ...] = ()
        self.can_fence = False
        self.nothing_known = False
        self.has_addresses = False
        self.planned = False
        self.sick = False  # it goes because of a service here
        self.broken = False  # which no restart helps
        self.to = ""
        self.sessions: int | None = None
        self.counting = 0  # op_id of a count
        self.count_at = 0
        self.drained = False  # it was told to take no new work
        self.emptying_until = 0  # old sessions may go on here so long after a move
        self.drain_ms = settings.realtime.deadline_ms if settings.realtime else 0
        self.share = 0  # place in the ramp's steps
        self.start_ms = sum(service.start_within_ms for service in settings.services)
        self.stop_ms = sum(service.stop_within_ms for service in settings.services)
        self.failback_to = ""  # the preferred node that is fit, from the role's `ready_since` on
        self.why = ""

    @property
    def cold(self) -> bool:
        return self.settings.standby is Standby.COLD

    @property
    def exclusive(self) -> bool:
        return self.settings.exclusive is not Exclusive.SEGMENT

    @property
    def status(self) -> bool:
        """Whether there is a 'current status' that must not be lost."""
        return self.settings.carried is not None and self.settings.carried.status != ""

    @property
    def stops_first(self) -> bool:
        """Whether a planned move stops the services here before they are started there."""
        return self.cold and (self.exclusive or self.status)

    @property
    def demotes_first(self) -> bool:
        return not self.cold and self.exclusive

    @property
    def brought(self) -> bool:
        """Whether this node must do something before it may have the addresses."""
        return self.cold or self.exclusive

    @property
    def steps_down(self) -> bool:
        """Whether it must do something before the group is offered."""
        return self.stops_first or self.demotes_first or self.drains_first

    @property
    def drains_first(self) -> bool:
        """Whether sessions that are up must end before the addresses go."""
        realtime = self.settings.realtime
        return realtime is not None and realtime.drain_first and realtime.drain != ""
