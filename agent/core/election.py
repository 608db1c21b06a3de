# SPDX-License-Identifier: GPL-2.0-or-later
"""Who owns a group's addresses: VRRPv3 (RFC 9568 section 6.4) with asking before burying.

States: INIT (no carrier, or not started), BACKUP, ACTIVE as in the RFC; DOUBT: has the addresses
but was paused or restarted, and asks whether it was replaced before it sends another one; GIVING:
holds the addresses, is silent, and waits until the taker says that it has them.

Own readiness is the agent's word. Ordering is lexicographic: ready, then preferred, then address.
"""

from dataclasses import dataclass, field

from agent.core.keeping import KeptGroup
from agent.core.table import Row

INIT, BACKUP, ACTIVE, DOUBT, GIVING = "init", "backup", "active", "doubt", "giving"
STATES = (INIT, BACKUP, ACTIVE, DOUBT, GIVING)
HOLDING = (ACTIVE, DOUBT, GIVING)

ROWS = (
    # ---- start, carrier
    Row("G-ADOPT", INIT, "start", ("carrier", "holds"), DOUBT, ("adopt", "doubt"),
        "our addresses are here already: this keeper was restarted, so ask who has the group now"),
    Row("G-OWNER", INIT, "start", ("carrier", "owner"), BACKUP, ("own_at_once",),
        "priority 255: the address owner is active at once (RFC 9568 6.4.1), when it has asked"),
    Row("G-RETURN", INIT, "start", ("carrier", "been_up"), BACKUP, ("poll",),
        "the carrier is back: ask them all, and where they answer do not wait for the RFC's time"),
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
    Row("G-OWNER-BACK", BACKUP, "advert_lower", ("owner", "ready", "from_plain"), ACTIVE,
        ("take", "say_active"),
        "the address owner does not stand behind a plain peer (RFC 9568 6.4.2)"),
    Row("G-FOLLOW", BACKUP, "advert_lower", (), "", ("follow",),
        "somebody is active: follow it, preemption is the agent's to order", quiet=True),
    Row("G-FOLLOW-2", BACKUP, "advert_higher", (), "", ("follow",),
        "somebody is active", quiet=True),
    # ---- backup: late, silent, gone
    Row("G-SELF-LATE", BACKUP, "late", ("self_late",), "", ("listen_again",),
        "we were late ourselves: distrust our own silence, wait for a whole interval more"),
    Row("G-LATE-PLAIN", BACKUP, "late", ("plain_active",), "", ("rfc_time",),
        "a plain peer cannot be asked: the RFC's time decides", quiet=True),
    Row("G-LATE", BACKUP, "late", (), "", ("ask_active",),
        "the first late advert: ask its sender at once in every way"),
    Row("G-BURY-DEAF", BACKUP, "peer_silent", ("deaf",), "", ("wait_hearing",),
        "the active node is silent, and so is everything else here: this node is the deaf one"),
    Row("G-BURY", BACKUP, "peer_silent", ("ready", "first_in_line"), ACTIVE, ("take", "say_active"),
        "the active node is silent in every way, two at least, while our own carrier is fine"),
    Row("G-BURY-NEXT", BACKUP, "peer_silent", ("ready",), "", ("wait_turn",),
        "the active node is gone; a preferred ready one has its turn first"),
    Row("G-ORPHAN", BACKUP, "peer_silent", (), "", ("orphan",),
        "the active node is gone and this one is not ready: the agent is told"),
    Row("G-HELD", BACKUP, "peer_held", (), "", ("wait_held",),
        "the node answers and its keeper does not: addresses are held, nothing is broken for "
        "clients"),
    Row("G-VANISHED-DEAF", BACKUP, "vanished", ("!link_answers",), "", ("ask_active",),
        "nobody answers for the address, nor for that node's own: ask it once more"),
    Row("G-VANISHED", BACKUP, "vanished", ("ready", "first_in_line", "!deaf"), ACTIVE,
        ("take", "say_active"),
        "the node lives, its keeper does not, and nobody has the address any more"),
    Row("G-VANISHED-TURN", BACKUP, "vanished", ("ready", "!deaf"), "", ("wait_turn",),
        "nobody has the address any more; a preferred ready one has its turn first"),
    Row("G-VANISHED-ORPHAN", BACKUP, "vanished", (), "", ("orphan",),
        "nobody has the address any more and this node is not ready: the agent is told"),
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
    Row("G-DOWN-DEAF", BACKUP, "down", ("deaf",), "", ("wait_hearing",),
        "nothing at all is heard here: this node is the deaf one, and listens on"),
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
    Row("G-PREEMPT", BACKUP, "word", ("ready", "take_ordered", "plain_active", "outranks"), ACTIVE,
        ("take", "say_active"),
        "told to take the group from a plain peer that ranks below: it lets go at our advert"),
    # ---- hand-over, taker
    Row("G-OFFERED", BACKUP, "offer", ("ready", "!found_deaf", "!other_serves"), "", ("ask_giver",),
        "offered: ask whether the giver still waits, for this may have lain in a queue"),
    Row("G-OFFER-LATER", BACKUP, "peer_giving", ("ready", "offered", "!gateway_answers"), "", (),
        "our own gateway has not answered yet; the offer comes again", quiet=True),
    Row("G-TAKE-OFFER", BACKUP, "peer_giving",
        ("ready", "offered", "!found_deaf", "!other_serves"), ACTIVE,
        ("take", "confirm", "say_active"),
        "the active node hands over and waits: take, announce, then tell it"),
    Row("G-TAKE-LEFT", BACKUP, "yielded", ("ready", "!deaf", "!behind", "left_to_us"), ACTIVE,
        ("take", "say_active"),
        "the active node has lost its carrier and leaves the group to this one"),
    Row("G-DECLINE", BACKUP, "offer", (), "", ("decline",),
        "offered, but this node is not ready, is cut off, or another one serves"),
    Row("G-DECLINE-2", INIT, "offer", (), "", ("decline",),
        "offered, but this node has no carrier"),
    Row("G-HAVE-IT", ACTIVE, "offer", (), "", ("confirm",), "taken already: say so again"),
    # ---- active
    Row("G-ADVERT", ACTIVE, "advert_due", ("!self_late",), "", ("tick",),
        "Adver_Timer (RFC 9568 6.4.3)", quiet=True),
    Row("G-PAUSED", ACTIVE, "advert_due", (), DOUBT, ("doubt",),
        "this node was paused: ask whether it was replaced before it sends another advert"),
    Row("G-STOOD-STILL", ACTIVE, "stood_still", (), DOUBT, ("doubt",),
        "what comes in now was said while this node was paused: ask before answering it"),
    Row("G-SUSPECT", ACTIVE, "advert_higher", ("!just_taken", "sender_idle"), "", ("ask_sender",),
        "anybody can forge an advert, and its signed word says that it is not active: ask it"),
    Row("G-DEAF-OWNER", ACTIVE, "deaf", ("last_ready",), BACKUP, ("release", "leave", "tell_peers"),
        "every peer fell silent at once and nothing else is heard: nobody reaches this node"),
    Row("G-DEAF-LONG", ACTIVE, "deaf_long", ("lost_lately", "!peer_answers"), BACKUP,
        ("release", "leave", "tell_peers"),
        "nothing at all was heard for a while: nobody reaches this node, somebody may take it"),
    Row("G-GIVE-CUT", ACTIVE, "cut_off", ("ready_peer", "give_due", "!just_given"), GIVING,
        ("offer",),
        "this node is cut off from its network, and a ready peer is not"),
    Row("G-CUT-SERVED", ACTIVE, "cut_off", ("peer_serves",), BACKUP,
        ("release", "yield", "follow_claim", "tell_peers"),
        "this node is cut off from its network, and a peer serves already"),
    Row("G-CUT-STAY", ACTIVE, "cut_off", (), "", ("tell_peers",),
        "cut off, and no ready peer is better off: keep serving"),
    Row("G-MUTE", ACTIVE, "advert_lower", ("unheard",), BACKUP,
        ("release", "yield", "follow", "tell_peers"),
        "a peer serves and does not hear that this node outranks it: this one is mute"),
    Row("G-CONFIRMED", ACTIVE, "peer_active", ("suspected",), BACKUP,
        ("release", "yield", "follow_answer", "tell_peers"),
        "it answers that it is active, and its advert ranked higher: let go and say so"),
    Row("G-LOST-PLAIN", ACTIVE, "advert_higher", ("from_plain",), BACKUP,
        ("release", "say_rank", "yield", "follow", "tell_peers"),
        "a plain peer outranks this node (RFC 9568 6.4.3): let go, and have it answer"),
    Row("G-LOST", ACTIVE, "advert_higher", ("!just_taken",), BACKUP,
        ("release", "yield", "follow", "tell_peers"),
        "another active node outranks this one (RFC 9568 6.4.3): let go and say so"),
    Row("G-WON", ACTIVE, "advert_lower", ("!just_taken",), "", ("answer_back",),
        "another active node ranks below: answer at once and announce again"),
    Row("G-GRACE", ACTIVE, "advert_higher", (), "", (), "the giver's last advert", quiet=True),
    Row("G-GRACE-2", ACTIVE, "advert_lower", (), "", (), "the giver's last advert", quiet=True),
    Row("G-STAY", ACTIVE, "advert_zero", (), "", ("advertise",),
        "stay, and say so (RFC 9568 6.4.3)"),
    Row("G-YIELDED", ACTIVE, "yielded", (), "", ("announce_now",),
        "a peer gave up what it had: announce again at once"),
    Row("G-BACK-RIVAL", ACTIVE, "peer_back", ("rival_outranks",), "", ("advertise",),
        "a silent peer is back, active too and preferred: nothing is announced that it must undo"),
    Row("G-BACK", ACTIVE, "peer_back", (), "", ("advertise", "announce_once"),
        "a silent peer is back: whatever it told the network meanwhile, say it again"),
    Row("G-OUTDATED", ACTIVE, "epoch_behind", ("!peer_claims",), "",
        ("renew_epoch", "announce_once"),
        "a later epoch is heard of: somebody else owned it meanwhile, so say again who does now"),
    Row("G-EXPIRED", ACTIVE, "address_gone", ("expired",), DOUBT, ("doubt",),
        "its lifetime ran out because this node was paused: ask who has the group now"),
    Row("G-GIVE-TUSSLE", ACTIVE, "address_gone",
        ("tussle", "ready_peer", "give_due", "!just_given"), GIVING,
        ("put_back", "offer"),
        "a foreign hand removes the addresses again and again: hand over to a ready peer"),
    Row("G-PUT-BACK", ACTIVE, "address_gone", (), "", ("put_back",),
        "a foreign hand removed an address: put it back"),
    Row("G-DEFEND", ACTIVE, "stranger", ("alone", "undefended"), "", ("defend",),
        "a stranger says to have the address: announce again in a moment (RFC 5227 2.4)"),
    Row("G-DEFEND-2", ACTIVE, "stranger", ("undefended",), "", ("defend",),
        "somebody says to have the address, perhaps a peer: announce again", quiet=True),
    Row("G-DEFEND-NOW", ACTIVE, "defend_due", (), "", ("announce_once",),
        "still ours after a stranger's claim: announce", quiet=True),
    Row("G-DEFENDED", ACTIVE, "stranger", (), "", (),
        "announced often enough: the regular announcement goes on", quiet=True),
    Row("G-HEARING", ACTIVE, "hearing", (), "", ("announce_once",),
        "something is heard again after a silence: the network may have been mute, say it again",
        quiet=True),
    Row("G-CUT-SERVED-2", ACTIVE, "word", ("deaf", "peer_serves"), BACKUP,
        ("release", "yield", "follow_claim", "tell_peers"),
        "still cut off, and a peer serves"),
    Row("G-GIVE-CUT-2", ACTIVE, "word", ("deaf", "give_due", "ready_peer", "!just_given"), GIVING,
        ("offer",),
        "still cut off, and a ready peer is there now"),
    Row("G-GIVE", ACTIVE, "word", ("give_ordered", "give_due", "ready_peer"), GIVING, ("offer",),
        "told to hand over, and a ready peer is there"),
    Row("G-GIVE-SICK", ACTIVE, "word", ("!fit", "give_due", "ready_peer"), GIVING, ("offer",),
        "this node is no longer fit to own the group, and a ready peer is there"),
    Row("G-GIVE-PLAIN", ACTIVE, "word", ("give_ordered", "give_due", "plain_there"), GIVING,
        ("offer_plain",),
        "told to hand over, and a plain peer may take it: say that we leave"),
    Row("G-GIVE-SICK-PLAIN", ACTIVE, "word", ("!fit", "give_due", "plain_there"), GIVING,
        ("offer_plain",),
        "no longer fit to own the group, and a plain peer may take it: say that we leave"),
    Row("G-GIVE-CLAIM", ACTIVE, "claimed", ("ready_claimer",), GIVING, ("offer_claimer",),
        "a ready peer was told to take the group"),
    Row("G-ABANDONED", ACTIVE, "agent_gone", ("ready_peer", "give_due"), GIVING, ("offer",),
        "the agent stayed away longer than hold: hand over to a ready peer"),
    Row("G-GIVE-STOP", ACTIVE, "stop", ("ready_peer",), GIVING, ("offer",),
        "told to stop: hand over first"),
    Row("G-STOP-PLAIN", ACTIVE, "stop", ("plain_there",), GIVING, ("offer_plain",),
        "told to stop, and a plain peer may take it: say so and keep it until it does"),
    Row("G-STOP", ACTIVE, "stop", (), INIT, ("goodbye", "release", "disarm"),
        "told to stop and nobody is ready: say goodbye (priority 0) and let go"),
    # ---- doubt
    Row("G-DOUBT-TAKEN", DOUBT, "stranger", ("plain_there",), BACKUP, ("release", "tell_peers"),
        "somebody else answers for the address: a plain peer took it while this node was paused"),
    Row("G-REPLACED", DOUBT, "advert_higher", (), BACKUP,
        ("release", "yield", "follow", "tell_peers"),
        "replaced while it was paused: let go"),
    Row("G-REPLACED-2", DOUBT, "advert_lower", (), BACKUP,
        ("release", "yield", "follow", "tell_peers"),
        "replaced while it was paused: whoever serves goes on serving"),
    Row("G-REPLACED-3", DOUBT, "peer_active", (), BACKUP,
        ("release", "yield", "follow_answer", "tell_peers"), "a peer answers that it is active"),
    Row("G-DOUBT-DEAF", DOUBT, "down", ("stone_deaf", "!peer_answers"), BACKUP,
        ("release", "tell_peers"),
        "nobody answers and nothing at all is heard: cut off, and perhaps replaced"),
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
    Row("G-GIVEN-PLAIN", GIVING, "advert_higher", ("from_plain", "to_plain"), BACKUP,
        ("part", "follow", "tell_peers"),
        "a plain peer advertises: it has it, let go"),
    Row("G-GIVEN-PLAIN-2", GIVING, "advert_lower", ("from_plain", "to_plain"), BACKUP,
        ("part", "follow", "tell_peers"),
        "a plain peer advertises: it has it, let go"),
    Row("G-GIVEN", GIVING, "taken", ("right_round", "holds", "!drains"), "", ("linger",),
        "the taker has it: keep it for a moment, for answers that are on their way"),
    Row("G-GIVEN-NOW", GIVING, "taken", ("right_round",), BACKUP,
        ("part", "follow_taker", "tell_peers"),
        "the taker has it: let go"),
    Row("G-PARTED", GIVING, "advert_due", ("given",), BACKUP,
        ("part", "yield", "follow_taker", "tell_peers"),
        "what was on its way has left: let go, and have the taker announce once more"),
    Row("G-GIVEN-GRACE", GIVING, "advert_higher", ("from_taker", "given"), "", (),
        "the taker advertises", quiet=True),
    Row("G-OLD-TAKEN", GIVING, "taken", (), "", (),
        "an answer to an earlier offer says nothing now"),
    Row("G-GIVEN-SEEN", GIVING, "advert_higher", ("from_taker",), "", ("ask_sender",),
        "the taker advertises, now or long ago: ask it"),
    Row("G-GIVEN-SEEN-2", GIVING, "advert_lower", ("from_taker", "!given"), "", ("ask_sender",),
        "the taker advertises, now or long ago: ask it"),
    Row("G-GIVEN-TOLD", GIVING, "peer_active", ("from_taker", "given"), "", (),
        "the taker says so again", quiet=True),
    Row("G-GIVEN-TOLD-2", GIVING, "peer_active", ("from_taker", "holds", "!drains"), "",
        ("linger",),
        "the taker answers that it is active: keep it for a moment, as for its word"),
    Row("G-GIVEN-TOLD-3", GIVING, "peer_active", ("from_taker",), BACKUP,
        ("part", "follow_taker", "tell_peers"), "the taker answers that it is active: let go"),
    Row("G-LOST-2", GIVING, "advert_higher", (), BACKUP,
        ("release", "yield", "follow", "tell_peers"),
        "another active node outranks this one"),
    Row("G-DECLINED-STOP", GIVING, "declined", ("right_round", "stopping"), INIT,
        ("goodbye", "release", "disarm"),
        "the peer is not ready after all, and this node must stop"),
    Row("G-DECLINED-SERVED", GIVING, "declined", ("right_round", "found_deaf", "served"), BACKUP,
        ("release", "yield", "tell_peers"), "this node is cut off, and another one serves already"),
    Row("G-DECLINED", GIVING, "declined", ("right_round",), ACTIVE, ("keep_it",),
        "the peer is not ready after all: keep the group"),
    Row("G-PUT-BACK-2", GIVING, "address_gone", ("holds", "!given", "!expired"), "", ("put_back",),
        "a foreign hand removed an address before the taker had it: put it back"),
    Row("G-WAIT-PLAIN", GIVING, "advert_due", ("to_plain", "time_left"), "", ("refresh", "rest"),
        "a plain peer has time left to take it", quiet=True),
    Row("G-OFFER-AGAIN", GIVING, "advert_due", ("offers_left",), "", ("refresh", "offer_again"),
        "no answer yet: offer again", quiet=True),
    Row("G-STOP-ANYWAY", GIVING, "advert_due", ("stopping",), INIT,
        ("goodbye", "release", "disarm"),
        "the offer was not answered and this node must stop"),
    Row("G-KEEP", GIVING, "advert_due", (), ACTIVE, ("keep_it",),
        "the offer was not answered: keep the group, nothing is let go unless somebody has it"),
)  # fmt: skip


@dataclass(slots=True)
class Kept:
    """A group as one keeper keeps it. Times are the keeper's clock, ms; 0: not armed."""

    config: KeptGroup
    state: str = INIT
    rule: str = ""
    told: dict[str, int] = field(default_factory=dict)  # rules on record since it changed: when
    worded: bool = False  # the agent was heard since this keeper was started
    ready: bool = False
    leased: bool = True  # it needs no lease, or this node has it
    able: bool = False  # a cold standby that could be brought up
    well: bool = False
    why: str = "the agent has not spoken yet"
    order: str = ""
    order_to: str = ""
    ceiling: int = 0
    epoch: int = 0  # under which this node holds or last held the group
    epoch_seen: int = 0  # the highest anybody was heard to use
    holds: bool = False
    active: str = ""  # the node
    been_up: bool = False  # it has listened or served before, since this keeper's start
    active_interval_ms: int = 0
    active_priority: int = 0  # as it last advertised
    last_advert_ms: int = 0
    refreshed_ms: int = 0
    announced_ms: int = 0
    urgent_ms: int = 0  # announced because of an event
    urgent: list[int] = field(default_factory=list)  # when, of late
    undone: list[int] = field(default_factory=list)  # .. because a loser said otherwise
    repeats: int = 0  # announcements still owed for the last take-over
    advert_at: int = 0  # Adver_Timer, or before it where something else is due
    next_advert_ms: int = 0
    late_at: int = 0
    down_at: int = 0
    defend_at: int = 0  # when to announce, if still ours then: a stranger claimed it, or it is owed
    hushed_until_ms: int = 0  # a plain peer may be about to say that it took over
    probe_at: int = 0  # when to ask for the address itself again
    probes: int = 0  # questions since somebody last answered for it
    wins: int = 0  # adverts that outranked another active node's, since it was taken
    asked_about: bool = False  # a client asked for an address since it was last announced
    put_back: list[int] = field(default_factory=list)  # when, of late
    defended: list[int] = field(default_factory=list)  # when, of late
    asked: bool = False
    polling: bool = False  # all peers are being asked; their answers decide at once
    turned: bool = False
    orphaned: bool = False
    self_late: bool = False
    offer_id: int = 0
    offered_by: str = ""  # the peer whose offer is being looked at
    offered_id: int = 0
    offers: int = 0
    taker: str = ""
    given: bool = False  # the taker has it, and this node lets go in a moment
    suspect: str = ""  # the peer that was asked because of an advert in its name
    giver: str = ""
    claimer: str = ""
    taken_ms: int = 0
    declined_ms: int = 0
    claimed_ms: int = 0
    stopping: bool = False
    size: int = 0  # its addresses
    carrier: dict[str, bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.size = sum(len(router.addresses) for router in self.config.routers)
        self.active_interval_ms = self.config.advert_ms
        self.carrier = {router.interface: False for router in self.config.routers}

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
        if self.probe_at and (not at or self.probe_at < at):
            at = self.probe_at
        if self.defend_at and (not at or self.defend_at < at):
            at = self.defend_at
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
