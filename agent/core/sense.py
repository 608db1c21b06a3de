# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether this node itself is cut off: what its own interfaces hear, and who answers there.

A silent peer and a deaf ear sound the same. So whenever a peer is asked, the network is asked too:
the gateways that are configured, else neighbours that were overheard and are known to answer; and
the interface is asked how much it received. With a gateway configured its answer alone counts.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.core import peer as peers
from agent.core.election import ACTIVE, INIT, Kept
from agent.core.keeping import (
    AskNeighbour,
    Keeping,
    NeighbourSeen,
    PeerHeard,
    Sense,
    TrafficSeen,
)
from agent.core.peer import Peer

if TYPE_CHECKING:
    from agent.core.keeper import KeeperCore

WELL, HEARS, UNANSWERED = "well", "hears", "unanswered"
DEAF, UNKNOWN = "deaf", "unknown"
HEARING = (WELL, HEARS, UNANSWERED)
CUT_OFF = (DEAF, UNANSWERED)

QUESTIONS = 3
SOONER_MS = 5  # than a peer's question has had its time: judged a little before the peers are
LOOK_MS = 190  # an owner looks at its traffic at most this often, with its adverts
STEADY_LOOKS = 3  # traffic in so many looks one after another: silence is remarkable at once
QUIET_MS = 1_000  # else after this: as long as from one beat of a peer to the next
SILENCE_MS = 2_000  # after such a one everything is announced again
HEARD_MS = 1_500  # what came in not longer ago shows that an interface hears
PROVE_MS = 10_000  # witnesses are asked this often in calm,
PROVEN_MS = 90_000  # and one that has not answered for so long is none
GATEWAY_QUICK_MS = 100
GATEWAY_MISSES = 4
FRESH_MS = 150
AGAIN_MS = 250  # who was found cut off looks again,
DEAF_MS = 500  # and for so long before it lets go without anybody to take over,
DEAF_GATEWAY_MS = 3_000  # so long where nobody but a gateway was asked
LOST_JUST_NOW_MS = 300


@dataclass(slots=True)
class Ear:
    """One own interface. Times are the keeper's clock, ms; 0: never, or not armed."""

    interface: str
    gateways: tuple[str, ...]
    packets: int = -1  # as last seen
    base: int = -1  # when the round opened
    moved: bool = False  # since then
    moved_ms: int = 0
    looked_ms: int = 0
    steady: int = 0
    opened_ms: int = 0
    gap_at: int = 0
    tries: int = 0
    asked: bool = False
    answered_ms: int = 0  # by anybody on this link
    proven_ms: int = 0  # by a witness
    proved_ms: int = 0  # when witnesses were last asked in calm
    gateway_ms: int = 0
    gateway_asked_ms: int = 0
    gateway_at: int = 0
    misses: int = 0
    judged: str = UNKNOWN
    since_ms: int = 0  # when that was first found
    again_at: int = 0
    suspect: bool = False  # deaf, so it seemed, and asked once more
    unheard: bool = False  # a peer said by another path that it does not hear us on this one

    @property
    def cut_off(self) -> bool:
        """Whether a gateway is configured and does not answer."""
        return self.misses >= GATEWAY_MISSES


def ears(config: Keeping) -> dict[str, Ear]:
    """One for each interface that has floating addresses."""
    gateways: dict[str, dict[str, None]] = {}
    for group in config.groups.values():
        for router in group.routers:
            gateways.setdefault(router.interface, {})
        for interface, address in group.gateways:
            gateways.setdefault(interface, {})[address] = None
    return {name: Ear(name, tuple(found)) for name, found in gateways.items()}


def ears_of(core: "KeeperCore", group: Kept) -> list[Ear]:
    return [core.ears[interface] for interface in group.carrier]


def word(ear: Ear) -> str:
    """What the present round, or the last one, has found so far."""
    if ear.gateways:
        return WELL if ear.gateway_ms >= ear.opened_ms and not ear.cut_off else DEAF
    if ear.answered_ms >= ear.opened_ms:
        return WELL
    if ear.moved:
        return UNANSWERED if ear.asked else HEARS
    return DEAF if ear.asked and ear.packets >= 0 else UNKNOWN


def deaf(core: "KeeperCore", group: Kept) -> bool:
    """Whether one of the group's interfaces seems deaf; it is looked into again and again."""
    for ear in ears_of(core, group):
        found = word(ear) if ear.gap_at and ear.tries > QUESTIONS else ear.judged
        if ear.cut_off or ear.suspect or found == DEAF:
            return True
    return False


def anybody(core: "KeeperCore", group: Kept) -> bool:
    """Whether a peer of the group answers, by whatever path."""
    return any(core.peers[name].state == peers.ALIVE for name in group.config.peers)


def stone_deaf(core: "KeeperCore", group: Kept) -> bool:
    """Deaf, and not for a silent gateway alone: neighbours were asked, and nothing came in."""
    return deaf(core, group) and any(
        ear.asked and not ear.moved and ear.answered_ms < ear.opened_ms
        for ear in ears_of(core, group)
    )


def certain(core: "KeeperCore", group: Kept) -> bool:
    """Whether each of the group's interfaces was heard something by in the present round."""
    return all(word(ear) in HEARING for ear in ears_of(core, group))


def gateway_answers(core: "KeeperCore", group: Kept) -> bool:
    """Whether those that are configured have answered just now; True where none are."""
    return all(
        not ear.gateways or core.now - ear.gateway_ms <= FRESH_MS for ear in ears_of(core, group)
    )


def found_deaf(core: "KeeperCore", group: Kept) -> bool:
    """Whether that was found twice, or a gateway does not answer."""
    return any(ear.cut_off or ear.judged == DEAF for ear in ears_of(core, group))


def hears(core: "KeeperCore", group: Kept) -> bool:
    """Whether something was heard on each of the group's interfaces, and not long ago."""
    return all(
        core.now - max(ear.moved_ms, ear.answered_ms) < HEARD_MS and not ear.cut_off
        for ear in ears_of(core, group)
    )


# ---------------------------------------------------------------- asking


def open_rounds(core: "KeeperCore", group: Kept | None = None) -> None:
    """Ask what the network is like, on every interface, or on those of one group."""
    wanted = core.ears.values() if group is None else ears_of(core, group)
    for ear in wanted:
        if not ear.gap_at:
            _open(core, ear)


def _open(core: "KeeperCore", ear: Ear) -> None:
    ear.opened_ms = core.now
    ear.base, ear.moved, ear.asked, ear.tries = -1, False, False, 0
    _ask(core, ear)


def look(core: "KeeperCore", group: Kept) -> None:
    """An owner looks whether anything still comes in."""
    for ear in ears_of(core, group):
        if core.now - ear.looked_ms >= LOOK_MS and not ear.gap_at:
            ear.looked_ms = core.now
            core.out.append(Sense(ear.interface, False))


def _ask(core: "KeeperCore", ear: Ear) -> None:
    ear.tries += 1
    ear.gap_at = core.now + core.config.ask_gap_ms - SOONER_MS
    core.out.append(Sense(ear.interface, True))
    core.out += _gateway_questions(ear)
    if ear.tries > 1:  # peers that this is not about are witnesses too
        for peer, address in _on_link(core, ear):
            if peer.state == peers.ALIVE and _plugged(peer):
                ear.asked = True
                core.out.append(AskNeighbour(ear.interface, address))


def pending(core: "KeeperCore", group: Kept) -> bool:
    """Whether one of its interfaces is being looked into and was not found to hear yet."""
    return any(
        ear.gap_at and not ear.moved and ear.answered_ms < ear.opened_ms
        for ear in ears_of(core, group)
    )


def due(core: "KeeperCore") -> bool:
    """Questions that have had their time; whether an interface was judged."""
    judged = False
    for ear in core.ears.values():
        if ear.gap_at and core.now >= ear.gap_at:
            if word(ear) in (WELL, HEARS) or ear.tries > QUESTIONS:
                _judge(core, ear)
                judged = True
            elif ear.tries < QUESTIONS:
                _ask(core, ear)
            else:
                ear.tries += 1  # one last look before the verdict
                ear.gap_at = core.now + 1
                core.out.append(Sense(ear.interface, False))
        if ear.again_at and core.now >= ear.again_at and not ear.gap_at:
            ear.again_at = 0
            _open(core, ear)
        if ear.gateway_at and core.now >= ear.gateway_at:
            _ask_gateways(core, ear)
    return judged


def deadline(core: "KeeperCore") -> int:
    """When the next question has had its time; 0: never."""
    at = 0
    for ear in core.ears.values():
        for due_ms in (ear.gap_at or ear.again_at, ear.gateway_at):
            if due_ms and (not at or due_ms < at):
                at = due_ms
    return at


def watch(core: "KeeperCore") -> None:
    """With each beat: gateways, witnesses now and then, and whoever was found cut off again."""
    for ear in core.ears.values():
        if ear.gateways and not ear.gateway_at:
            _ask_gateways(core, ear)
        if not ear.gap_at and core.now - ear.proved_ms >= PROVE_MS:
            ear.proved_ms = core.now
            core.out.append(Sense(ear.interface, True))


def _ask_gateways(core: "KeeperCore", ear: Ear) -> None:
    """Once with each beat; quickly when it did not answer."""
    before = ear.cut_off
    if ear.gateway_asked_ms > ear.gateway_ms:
        ear.misses = min(ear.misses + 1, GATEWAY_MISSES)
    quick = ear.gateway_asked_ms > ear.gateway_ms and not ear.cut_off
    ear.gateway_at = core.now + GATEWAY_QUICK_MS if quick else 0
    ear.gateway_asked_ms = core.now
    core.out += _gateway_questions(ear)
    if ear.cut_off and not before:
        _changed(core, ear, DEAF)
        _tell_groups(core, ear, "cut_off")


def _gateway_questions(ear: Ear) -> list[AskNeighbour]:
    return peers.questions((ear.interface, address) for address in ear.gateways)


# ---------------------------------------------------------------- answers


def traffic(core: "KeeperCore", event: TrafficSeen) -> None:
    """How much an interface has received; silence where there was traffic is looked into."""
    ear = core.ears.get(event.interface)
    if ear is None:
        return
    ear.looked_ms = core.now
    ear.asked = ear.asked or (event.asked > 0 and core.now - ear.proven_ms < PROVEN_MS)
    more = event.packets > ear.packets >= 0
    ear.packets = event.packets
    if ear.base < 0:
        ear.base = event.packets
    elif event.packets > ear.base:
        ear.moved = True
    if more or event.packets < 0:
        silent_ms, ear.moved_ms = core.now - ear.moved_ms, core.now
        ear.steady = min(ear.steady + 1, STEADY_LOOKS)
        if silent_ms > SILENCE_MS:
            _tell_groups(core, ear, "hearing")  # a network may have been mute, and is back
    elif not event.asked and not ear.gap_at:
        remarkable = ear.steady == STEADY_LOOKS or core.now - ear.moved_ms >= QUIET_MS
        ear.steady = 0
        if remarkable:
            _look_into(core, ear)


def _look_into(core: "KeeperCore", ear: Ear) -> None:
    """An owner's interface fell silent: ask those peers that should be there."""
    for group in core.groups.values():
        if group.state == ACTIVE and ear.interface in group.carrier:
            for name in group.config.peers:
                if core.peers[name].state == peers.ALIVE:
                    core.doubt_peer(core.peers[name])


def answered(core: "KeeperCore", event: NeighbourSeen, witness: bool) -> None:
    """Somebody on the link has answered, or was overheard: both ways work if we had asked."""
    ear = core.ears.get(event.interface)
    if ear is None:
        return
    if not event.to_us:
        heard(core, event.interface)
        return
    if event.address in ear.gateways:
        ear.gateway_ms = core.now
        ear.misses = ear.gateway_at = 0
    elif witness:
        ear.proven_ms = core.now
    ear.answered_ms = core.now
    if ear.judged == DEAF and word(ear) != DEAF:
        _changed(core, ear, word(ear))


def heard(core: "KeeperCore", interface: str) -> None:
    """An advertisement came by it: not deaf, whatever was found before."""
    ear = core.ears.get(interface)
    if ear is not None:
        ear.moved = True
        ear.moved_ms = core.now
        if ear.judged == DEAF and not ear.gateways:
            _changed(core, ear, HEARS)


def spoken_to(core: "KeeperCore", event: PeerHeard) -> None:
    """A peer's packet came by a path; an answer came because we were heard."""
    ear = core.ears.get(core.arrivals.get((event.node, event.path), ""))
    if ear is not None:
        heard(core, ear.interface)
        if event.kind == "answer":
            ear.answered_ms = core.now


def unheard(core: "KeeperCore", group: Kept) -> None:
    """A peer says by another path that it does not hear our adverts: is it us?"""
    if group.state == ACTIVE:
        open_rounds(core, group)
        for ear in ears_of(core, group):
            ear.unheard = True


def _judge(core: "KeeperCore", ear: Ear) -> None:
    """Three questions may all be lost: who was not deaf before is asked a second time."""
    ear.gap_at = 0
    found = word(ear)
    if found == UNANSWERED and not ear.unheard:
        found = HEARS  # neighbours come and go; only who is told to be mute has reason to doubt it
    if found == DEAF != ear.judged and not ear.suspect:
        ear.suspect = True
        _open(core, ear)
        return
    ear.suspect = False
    ear.again_at = core.now + AGAIN_MS if found in CUT_OFF else 0
    _changed(core, ear, found)
    if found in CUT_OFF:
        _tell_groups(core, ear, "cut_off")
        _deaf(core, ear)
    ear.unheard = False


def _deaf(core: "KeeperCore", ear: Ear) -> None:
    """Judged so after a peer was, or for long already."""
    if ear.asked and not ear.moved and core.now - core.lost_ms < LOST_JUST_NOW_MS:
        for group in core.groups.values():
            if ear.interface in group.carrier and not anybody(core, group):
                core.fire(group, "deaf")
    if core.now - max(ear.since_ms, ear.moved_ms) >= (DEAF_MS if ear.asked else DEAF_GATEWAY_MS):
        _tell_groups(core, ear, "deaf_long")


def _plugged(peer: Peer) -> bool:
    """Whether it does not say itself that it has no carrier."""
    return any(state != INIT for state, _, _ in peer.groups.values())


def _on_link(core: "KeeperCore", ear: Ear) -> list[tuple[Peer, str]]:
    """Peers, and their addresses that can be asked by this interface."""
    return [
        (peer, address)
        for peer in core.peers.values()
        for interface, address in peer.config.asked
        if interface == ear.interface
    ]


def _changed(core: "KeeperCore", ear: Ear, found: str) -> None:
    if found != ear.judged:
        before, ear.judged, ear.since_ms = ear.judged, found, core.now
        core.report_due = core.beat_due = True
        if before in CUT_OFF:
            _tell_groups(core, ear, "hearing")


def _tell_groups(core: "KeeperCore", ear: Ear, event: str) -> None:
    for group in core.groups.values():
        if ear.interface in group.carrier:
            core.fire(group, event)
