# SPDX-License-Identifier: GPL-2.0-or-later
"""Who owns a group's addresses: VRRPv3 (RFC 9568 section 6.4) with asking before burying.

States: INIT (no carrier, or not started), BACKUP, ACTIVE as in the RFC; DOUBT: has the addresses
but was paused or restarted, and asks whether it was replaced before it sends another one; GIVING:
holds the addresses, is silent, and waits until the taker says that it has them.

Own readiness is the agent's word. Ordering is lexicographic: ready, then preferred, then address.
"""

from agent.core.keeping import KeptGroup
from agent.core.table import Row

INIT, BACKUP, ACTIVE, DOUBT, GIVING = "init", "backup", "active", "doubt", "giving"
STATES = (INIT, BACKUP, ACTIVE, DOUBT, GIVING)
HOLDING = (ACTIVE, DOUBT, GIVING)

ROWS = (
    # ---- start, carrier
    Row("G-ADOPT", INIT, "start", ("carrier", "holds"), DOUBT, ("adopt", "doubt"),
        "our addresses are here already: this keeper was restarted, so ask who has the group now"),
    Row("G-START", INIT, "start", ("carrier",), BACKUP, ("listen",),
        "listen first (RFC 9568 6.4.1)"),
    Row("G-UNPLUGGED", ACTIVE, "carrier_lost", (), INIT,
        ("release", "leave", "tell_peers", "disarm"),
        "our own carrier is gone: nobody reaches us, let go and say so on every other path"),
    Row("G-UNPLUGGED-2", DOUBT, "carrier_lost", (), INIT,
        ("release", "tell_peers", "disarm"),
        "our own carrier is gone"),
    Row("G-UNPLUGGED-3", GIVING, "carrier_lost", (), INIT,
        ("release", "tell_peers", "disarm"),
        "our own carrier is gone; the offer stands"),
    Row("G-DEAF", BACKUP, "carrier_lost", (), INIT, ("disarm",),
        "deaf: never take over without carrier"),
    # ---- backup: adverts
    Row("G-ZERO", BACKUP, "advert_zero", (), "", ("leaving",),
        "the active one leaves: take over after the skew (RFC 9568 6.4.2)"),
    Row("G-FOLLOW", BACKUP, "advert_lower", (), "", ("follow",),
        "somebody is active: follow it, preemption is the agent's to order", quiet=True),
    Row("G-FOLLOW-2", BACKUP, "advert_higher", (), "", ("follow",),
        "somebody is active", quiet=True),
    # ---- backup: late, silent, gone
    Row("G-SELF-LATE", BACKUP, "late", ("self_late",), "", ("listen_again",),
        "we were late ourselves: distrust our own silence, wait for a whole interval more"),
    Row("G-LATE", BACKUP, "late", (), "", ("ask_active",),
        "the first late advert: ask its sender at once in every way"),
    Row("G-BURY", BACKUP, "peer_silent", ("ready", "first_in_line"), ACTIVE, ("take", "say_active"),
        "the active node is silent in every way, two at least, while our own carrier is fine"),
    Row("G-BURY-NEXT", BACKUP, "peer_silent", ("ready",), "", ("wait_turn",),
        "the active node is gone; a preferred ready one has its turn first"),
    Row("G-ORPHAN", BACKUP, "peer_silent", (), "", ("orphan",),
        "the active node is gone and this one is not ready: the agent is told"),
    Row("G-HELD", BACKUP, "peer_held", (), "", ("wait_held",),
        "the node answers and its keeper does not: addresses are held, nothing is broken for "
        "clients"),
    Row("G-LET-GO", BACKUP, "peer_idle", (), "", ("leaving",),
        "the node that was active says that it is not any more"),
    Row("G-UNHEARD", BACKUP, "peer_active", (), "", ("follow_answer",),
        "it answers that it is active: its adverts were lost, the node was not"),
    Row("G-SELF-LATE-2", BACKUP, "down", ("self_late",), "", ("listen_again",),
        "we were late ourselves: listen again"),
    Row("G-ASK-ALL", BACKUP, "down", ("can_ask", "!asked"), "", ("ask_all",),
        "no active node is heard: ask every peer of the group before taking it"),
    Row("G-ELSEWHERE", BACKUP, "down", ("peer_claims",), "", ("follow_claim",),
        "a peer says that it is active, though its adverts are not heard here"),
    Row("G-ORPHAN-2", BACKUP, "down", ("!ready",), "", ("orphan",),
        "nobody is active and this node is not ready: the agent is told"),
    Row("G-TURN", BACKUP, "down", ("!first_in_line", "!turned"), "", ("wait_turn",),
        "nobody is active; a preferred ready peer has its turn first"),
    Row("G-DOWN", BACKUP, "down", (), ACTIVE, ("take", "say_active"),
        "Active_Down_Timer ran out (RFC 9568 6.4.2) and nobody says to be active"),
    Row("G-READY", BACKUP, "word", ("orphaned", "ready"), "", ("soon",),
        "ready at last, and nobody is active"),
    Row("G-CLAIM", BACKUP, "word", ("ready", "take_ordered", "active_known", "claim_due"), "",
        ("claim",), "told to take the group: ask the active node to hand it over"),
    # ---- hand-over, taker
    Row("G-OFFERED", BACKUP, "offer", ("ready",), "", ("ask_giver",),
        "offered: ask whether the giver still waits, for this may have lain in a queue"),
    Row("G-TAKE-OFFER", BACKUP, "peer_giving", ("ready", "offered"), ACTIVE,
        ("take", "confirm", "say_active"),
        "the active node hands over and waits: take, announce, then tell it"),
    Row("G-TAKE-LEFT", BACKUP, "yielded", ("ready", "left_to_us"), ACTIVE, ("take", "say_active"),
        "the active node has lost its carrier and leaves the group to this one"),
    Row("G-DECLINE", BACKUP, "offer", (), "", ("decline",), "offered, but this node is not ready"),
    Row("G-DECLINE-2", INIT, "offer", (), "", ("decline",),
        "offered, but this node has no carrier"),
    Row("G-HAVE-IT", ACTIVE, "offer", (), "", ("confirm",), "taken already: say so again"),
    # ---- active
    Row("G-ADVERT", ACTIVE, "advert_due", ("!self_late",), "", ("advertise",),
        "Adver_Timer (RFC 9568 6.4.3)", quiet=True),
    Row("G-PAUSED", ACTIVE, "advert_due", (), DOUBT, ("doubt",),
        "this node was paused: ask whether it was replaced before it sends another advert"),
    Row("G-SUSPECT", ACTIVE, "advert_higher", ("!just_taken", "sender_idle"), "", ("ask_sender",),
        "anybody can forge an advert, and its signed word says that it is not active: ask it"),
    Row("G-CONFIRMED", ACTIVE, "peer_active", ("suspected",), BACKUP,
        ("release", "yield", "follow_answer", "tell_peers"),
        "it answers that it is active, and its advert ranked higher: let go and say so"),
    Row("G-LOST", ACTIVE, "advert_higher", ("!just_taken",), BACKUP,
        ("release", "yield", "follow", "tell_peers"),
        "another active node outranks this one (RFC 9568 6.4.3): let go and say so"),
    Row("G-WON", ACTIVE, "advert_lower", ("!just_taken",), "", ("advertise", "announce_once"),
        "another active node ranks below: answer at once and announce again"),
    Row("G-GRACE", ACTIVE, "advert_higher", (), "", (), "the giver's last advert", quiet=True),
    Row("G-GRACE-2", ACTIVE, "advert_lower", (), "", (), "the giver's last advert", quiet=True),
    Row("G-STAY", ACTIVE, "advert_zero", (), "", ("advertise",),
        "stay, and say so (RFC 9568 6.4.3)"),
    Row("G-YIELDED", ACTIVE, "yielded", (), "", ("announce_once",),
        "a peer gave up what it had: announce again at once"),
    Row("G-BACK", ACTIVE, "peer_back", (), "", ("advertise", "announce_once"),
        "a silent peer is back: whatever it told the network meanwhile, say it again"),
    Row("G-OUTDATED", ACTIVE, "epoch_behind", ("!peer_claims",), "",
        ("renew_epoch", "announce_once"),
        "a later epoch is heard of: somebody else owned it meanwhile, so say again who does now"),
    Row("G-EXPIRED", ACTIVE, "address_gone", ("expired",), DOUBT, ("doubt",),
        "its lifetime ran out because this node was paused: ask who has the group now"),
    Row("G-PUT-BACK", ACTIVE, "address_gone", (), "", ("put_back",),
        "a foreign hand removed an address: put it back"),
    Row("G-GIVE", ACTIVE, "word", ("give_ordered", "give_due", "ready_peer"), GIVING, ("offer",),
        "told to hand over, and a ready peer is there"),
    Row("G-GIVE-SICK", ACTIVE, "word", ("!fit", "give_due", "ready_peer"), GIVING, ("offer",),
        "this node is no longer fit to own the group, and a ready peer is there"),
    Row("G-GIVE-CLAIM", ACTIVE, "claimed", ("ready_claimer",), GIVING, ("offer_claimer",),
        "a ready peer was told to take the group"),
    Row("G-ABANDONED", ACTIVE, "agent_gone", ("ready_peer", "give_due"), GIVING, ("offer",),
        "the agent stayed away longer than hold: hand over to a ready peer"),
    Row("G-GIVE-STOP", ACTIVE, "stop", ("ready_peer",), GIVING, ("offer",),
        "told to stop: hand over first"),
    Row("G-STOP", ACTIVE, "stop", (), INIT, ("goodbye", "release", "disarm"),
        "told to stop and nobody is ready: say goodbye (priority 0) and let go"),
    # ---- doubt
    Row("G-REPLACED", DOUBT, "advert_higher", (), BACKUP,
        ("release", "yield", "follow", "tell_peers"),
        "replaced while it was paused: let go"),
    Row("G-REPLACED-2", DOUBT, "advert_lower", (), BACKUP,
        ("release", "yield", "follow", "tell_peers"),
        "replaced while it was paused: whoever serves goes on serving"),
    Row("G-REPLACED-3", DOUBT, "peer_active", (), BACKUP,
        ("release", "yield", "follow_answer", "tell_peers"), "a peer answers that it is active"),
    Row("G-STILL-OURS", DOUBT, "down", (), ACTIVE, ("retake", "say_active"),
        "everybody was asked and nobody says to be active: it is still ours"),
    Row("G-DOUBT-STOP", DOUBT, "stop", (), INIT, ("release", "disarm"), "told to stop"),
    Row("G-DOUBT-LOST", DOUBT, "advert_due", ("!holds",), "", ("rest",),
        "nothing is held any more: nothing is renewed before everybody was asked", quiet=True),
    Row("G-DOUBT-OLD", DOUBT, "advert_due", ("expired",), "", ("rest",),
        "what was held has expired: nothing is renewed before everybody was asked", quiet=True),
    Row("G-DOUBT-HOLD", DOUBT, "advert_due", (), "", ("refresh", "rest"),
        "keep the addresses while asking", quiet=True),
    # ---- giving
    Row("G-GIVEN", GIVING, "taken", ("right_round",), BACKUP,
        ("release", "follow_taker", "tell_peers"),
        "the taker has it: let go"),
    Row("G-OLD-TAKEN", GIVING, "taken", (), "", (),
        "an answer to an earlier offer says nothing now"),
    Row("G-GIVEN-SEEN", GIVING, "advert_higher", ("from_taker",), "", ("ask_sender",),
        "the taker advertises, now or long ago: ask it"),
    Row("G-GIVEN-SEEN-2", GIVING, "advert_lower", ("from_taker",), "", ("ask_sender",),
        "the taker advertises, now or long ago: ask it"),
    Row("G-GIVEN-TOLD", GIVING, "peer_active", ("from_taker",), BACKUP,
        ("release", "follow_taker", "tell_peers"), "the taker answers that it is active: let go"),
    Row("G-LOST-2", GIVING, "advert_higher", (), BACKUP,
        ("release", "yield", "follow", "tell_peers"),
        "another active node outranks this one"),
    Row("G-DECLINED-STOP", GIVING, "declined", ("right_round", "stopping"), INIT,
        ("goodbye", "release", "disarm"),
        "the peer is not ready after all, and this node must stop"),
    Row("G-DECLINED", GIVING, "declined", ("right_round",), ACTIVE, ("keep_it",),
        "the peer is not ready after all: keep the group"),
    Row("G-OFFER-AGAIN", GIVING, "advert_due", ("offers_left",), "", ("refresh", "offer_again"),
        "no answer yet: offer again", quiet=True),
    Row("G-STOP-ANYWAY", GIVING, "advert_due", ("stopping",), INIT,
        ("goodbye", "release", "disarm"),
        "the offer was not answered and this node must stop"),
    Row("G-KEEP", GIVING, "advert_due", (), ACTIVE, ("keep_it",),
        "the offer was not answered: keep the group, nothing is let go unless somebody has it"),
)  # fmt: skip


class Kept:
    """A group as one keeper keeps it. Times are the keeper's clock, ms; 0: not armed."""

    __slots__ = (
        "active",
        "active_interval_ms",
        "advert_at",
        "announced_ms",
        "asked",
        "carrier",
        "ceiling",
        "claimed_ms",
        "claimer",
        "config",
        "declined_ms",
        "down_at",
        "epoch",
        "epoch_seen",
        "giver",
        "holds",
        "last_advert_ms",
        "late_at",
        "offer_id",
        "offered_by",
        "offered_id",
        "offers",
        "order",
        "order_to",
        "orphaned",
        "ready",
        "refreshed_ms",
        "repeats",
        "rule",
        "self_late",
        "size",
        "state",
        "stopping",
        "suspect",
        "taken_ms",
        "taker",
        "turned",
        "well",
        "why",
    )

    def __init__(self, config: KeptGroup) -> None:
        self.config = config
        self.size = sum(len(router.addresses) for router in config.routers)
        self.state = INIT
        self.rule = ""
        self.ready = False
        self.well = False
        self.why = "the agent has not spoken yet"
        self.order = ""
        self.order_to = ""
        self.ceiling = 0
        self.epoch = 0  # under which this node holds or last held the group
        self.epoch_seen = 0  # the highest anybody was heard to use
        self.carrier: dict[str, bool] = {router.interface: False for router in config.routers}
        self.holds = False
        self.active = ""  # the node
        self.active_interval_ms = config.advert_ms
        self.last_advert_ms = 0
        self.refreshed_ms = 0
        self.announced_ms = 0
        self.repeats = 0  # announcements still owed for the last take-over
        self.advert_at = 0
        self.late_at = 0
        self.down_at = 0
        self.asked = False
        self.turned = False
        self.orphaned = False
        self.self_late = False
        self.offer_id = 0
        self.offered_by = ""  # the peer whose offer is being looked at
        self.offered_id = 0
        self.offers = 0
        self.taker = ""
        self.suspect = ""  # the peer that was asked because of an advert in its name
        self.giver = ""
        self.claimer = ""
        self.taken_ms = 0
        self.declined_ms = 0
        self.claimed_ms = 0
        self.stopping = False

    @property
    def plugged(self) -> bool:
        """Whether every interface of the group has carrier."""
        return all(self.carrier.values())

    def deadline(self) -> int:
        """The next time at which something is due, 0: never."""
        at = self.advert_at
        if self.late_at and (not at or self.late_at < at):
            at = self.late_at
        if self.down_at and (not at or self.down_at < at):
            at = self.down_at
        return at


def skew_ms(priority: int, interval_ms: int) -> int:
    """Skew_Time (RFC 9568 section 6.1), by the active node's interval; divided last."""
    return (256 - priority) * interval_ms // 256


def down_ms(priority: int, interval_ms: int) -> int:
    """Active_Down_Interval: three intervals and the skew."""
    return 3 * interval_ms + skew_ms(priority, interval_ms)


def grace_ms(interval_ms: int) -> int:
    """How late an advert must be to count as late: a scheduler's jitter is not a death."""
    return max(15, interval_ms // 10)


def rank(address: str) -> tuple[int, ...]:
    """An address as numbers in network order, so that two of one family compare as the RFC asks."""
    if ":" not in address:
        return tuple(int(part) for part in address.split("."))
    head, gap, tail = address.partition("%")[0].partition("::")
    left = head.split(":") if head else []
    right = tail.split(":") if tail else []
    fill = ["0"] * (8 - len(left) - len(right)) if gap else []
    return tuple(int(part, 16) for part in left + fill + right)
