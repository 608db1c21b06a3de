# SPDX-License-Identifier: GPL-2.0-or-later
"""ARP (RFC 826, 5227) and neighbour discovery (RFC 4861): announcing, asking, overhearing.

Frames are sent as they were forged. What is heard passes a filter in the kernel first, so that a
flood of other frames does not wake the keeper. Neighbours that are overheard, the witnesses, are
kept by sockets that nobody waits for: small, and read now and then.
"""

import errno
import socket
import struct
import time
from array import array
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress

from agent.clock import now_ms
from agent.core import neighbour_wire
from agent.core.keeping import AddressAsked, NeighbourSeen
from agent.core.kit import Kit
from agent.core.neighbour_wire import Interest
from agent.core.witnesses import Witnesses
from agent.ports import Refused
from drivers import rtnetlink

PROTOCOLS = {4: 0x0806, 6: 0x86DD}  # ETH_P_ARP, ETH_P_IPV6
SO_ATTACH_FILTER = 26
SO_SNDBUFFORCE = 32
QUEUED_BYTES = 4 << 20  # announcements of some thousand addresses
OVERHEARD_BYTES = 8 << 10  # a few frames; what comes while it is full is lost
CONTROL_PRIORITY = 6  # TC_PRIO_CONTROL
RECEIVES_AT_ONCE = 1024
OVERHEARD_AT_ONCE = 64
GATHER_S = 0.001
WINDOW_MS = 100
FLOOD_FRAMES = 200  # heard in a window: a storm, as a loop of cables makes one
GONE = (errno.ENODEV, errno.ENXIO)
PROGRAM = struct.Struct("@HP")  # sock_fprog: count of 8-byte instructions, pointer

OVERHEAR_MS = 10_000  # the sockets of witnesses are read this often, for they keep what came first

RTM_GETNEIGH = 30
NEIGHBOUR = struct.Struct("=BxxxiHBB")  # ndmsg: family, interface index, state, flags, type
NDA_DST, NDA_LLADDR, NDA_CACHEINFO, NDA_IFINDEX = 1, 2, 3, 8
AGES = struct.Struct("=III")  # nda_cacheinfo: since confirmed, used, updated; in ticks
TICK_MS = 10  # USER_HZ, time(7)
NOT_A_NEIGHBOUR = 0x20 | 0x40  # NUD_FAILED, NUD_NOARP

Seen = list[NeighbourSeen | AddressAsked]


class Neighbour:
    """Sends a kit's frames and hears what is said of the addresses in it. Never blocks.

    In a storm of what does concern us, frames are let gather for 1 ms: to be woken by each costs
    far more than to read it. counters: "frame-unsent", one for each frame that the kernel would not
    take. clock: ms. Refused where packet sockets are not permitted.
    """

    def __init__(
        self,
        kit: Kit,
        clock: Callable[[], int] = now_ms,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._kit = kit
        self._clock = clock
        self._pause = pause
        self._window_ms = 0  # when it began
        self._window_frames = 0
        self._questions = {(it.interface, it.address): it.frame for it in kit.questions}
        self._mouths: dict[str, socket.socket] = {}
        self._ears: list[_Ear] = []
        self._crowds: dict[str, _Crowd] = {}
        self._overheard_ms = clock()
        self.counters = {"frame-unsent": 0}
        for interface in sorted(kit.interfaces):
            self._listen(interface)
        frames = [it for group in kit.groups.values() for it in group.announcements]
        for interface in {it.interface for it in frames} - {*self._mouths}:
            with suppress(OSError):  # a macvlan that is still to be made
                self._mouths[interface] = _mouth(interface)

    def filenos(self) -> list[int]:
        """Any of them is readable when there is something to receive."""
        return [ear.socket.fileno() for ear in self._ears]

    def announce(self, group: str, start: int = 0, most: int = 1 << 30) -> int:
        """Each of the group's addresses once, at most `most` of them from the one at `start`.

        Where to go on, 0 when all are announced.
        """
        frames = self._kit.groups[group].announcements
        end = min(start + most, len(frames))
        for it in frames[start:end]:
            self._send(it.interface, it.frame)
        return end if end < len(frames) else 0

    def ask(self, interface: str, address: str) -> bool:
        """Ask on the link who has an address. False: that question was not forged, or not sent."""
        frame = self._questions.get((interface, address))
        return frame is not None and self._send(interface, frame)

    def ask_witnesses(self, interface: str) -> int:
        """Ask some neighbours that were overheard for their own addresses; how many were asked.

        Their answers, and no other word of theirs, are heard as NeighbourSeen from now on.
        """
        crowd = self._crowds.get(interface)
        if crowd is None:
            return 0
        now = self._clock()
        crowd.overhear(now)
        crowd.look(now)
        for address in crowd.strange_partners():
            self.ask(interface, address)
        chosen = crowd.witnesses.chosen(now)
        for ear in self._ears:
            if ear.interface == interface:
                ear.attend(frozenset(it for it in chosen if len(it) == ear.address_bytes))
        return sum([self._send(interface, crowd.question(address)) for address in chosen])

    def receive(self) -> Seen:
        """What others said of our floating addresses, our peers' real ones and who was asked."""
        seen: Seen = []
        now = self._clock()
        if self._window_frames > FLOOD_FRAMES:
            self._pause(GATHER_S)
        if now - self._window_ms >= WINDOW_MS:
            self._window_ms, self._window_frames = now, 0
        self._window_frames += sum([ear.receive(seen, now) for ear in self._ears])
        if now - self._overheard_ms >= OVERHEAR_MS:
            self._overheard_ms = now
            for crowd in self._crowds.values():
                crowd.overhear(now)
        return seen

    def close(self) -> None:
        for mouth in self._mouths.values():
            mouth.close()
        for ear in self._ears:
            ear.socket.close()
        for crowd in self._crowds.values():
            crowd.close()

    def _listen(self, interface: str) -> None:
        """Not where there is nothing to hear, or no Ethernet: a loopback, a tunnel."""
        known = _Known(self._kit, interface)
        if not known.names or not any(known.mac):
            return
        try:
            self._mouths[interface] = _mouth(interface)
            crowd = self._crowds[interface] = _Crowd(self._kit, interface, known, self._clock())
            for family in known.families():
                self._ears.append(_Ear(interface, family, known, crowd.witnesses))
        except OSError as error:
            self.close()
            raise Refused(
                f"neighbours on {interface}: {error.strerror}; the keeper needs CAP_NET_RAW and"
                " the interface, and where that was made anew the kit must be forged again"
            ) from error

    def _send(self, interface: str, frame: bytes) -> bool:
        """Opens what was not there before: a macvlan may be made after us, or made anew."""
        try:
            if interface not in self._mouths:
                self._mouths[interface] = _mouth(interface)
            self._mouths[interface].send(frame)
        except OSError as error:  # no carrier, a full queue: it is announced and asked again
            self.counters["frame-unsent"] += 1
            if error.errno in GONE and interface in self._mouths:
                self._mouths.pop(interface).close()
            return False
        return True


class _Known:
    """Whose addresses mean what on an interface; packed. names: as text."""

    def __init__(self, kit: Kit, interface: str) -> None:
        kept = kit.keeping.groups.values()
        asked = [it for it in kit.questions if it.interface == interface]
        floating = [
            entry.address
            for group in kit.groups.values()
            for entry in group.addresses
            if entry.interface == interface
        ]
        gateways = [a for group in kept for link, a in group.gateways if link == interface]
        others = [*kit.keeping.sources, *(address for group in kept for address in group.plain)]
        self.mac = bytes.fromhex(kit.interfaces[interface][1].replace(":", ""))
        self.names = {_packed(text): text for text in [*floating, *(it.address for it in asked)]}
        self.floating = {_packed(text) for text in floating}
        self.gateways = frozenset(_packed(text) for text in gateways) - self.floating
        self.peers = {*self.names} - self.floating - self.gateways
        self.partners = {*self.names, *(_packed(text) for text in others)}
        self.sources: dict[int, bytes] = {}  # of our questions; by the length of the address
        for frame in [it.frame for it in asked]:
            own = neighbour_wire.asker(frame)
            self.sources[len(own)] = own
        for group in kit.groups.values():
            for own in [_packed(it.source) for it in group.routers if it.interface == interface]:
                self.sources[len(own)] = own

    def families(self) -> list[int]:
        return sorted({_family(address) for address in self.names})


class _Ear:
    """Hears ARP, or neighbour discovery, about some addresses on one interface."""

    def __init__(self, interface: str, family: int, known: _Known, witnesses: Witnesses) -> None:
        self.interface = interface
        self.address_bytes = 4 if family == 4 else 16
        self._family = family
        self._known = known
        self._witnesses = witnesses
        self._answerers = _of(family, known.gateways)
        self._speakers = _of(family, known.names) - self._answerers
        self._targets = _of(family, known.floating)
        self.socket = _packet_socket(interface, PROTOCOLS[family], self._filter())

    def attend(self, witnesses: frozenset[bytes]) -> None:
        """Hear the answers of these, and no more those of others before them."""
        answerers = _of(self._family, self._known.gateways) | witnesses
        if answerers != self._answerers:
            self._answerers = answerers
            _attach(self.socket, self._filter())

    def _filter(self) -> bytes:
        interest = Interest(self._speakers, self._answerers, self._targets)
        return neighbour_wire.hearing(self._family, interest)

    def receive(self, seen: Seen, now: int) -> int:
        """Each thing once, however often it was said meanwhile; how many frames there were."""
        said: set[tuple[bytes, bytes, bool]] = set()
        for frames in range(RECEIVES_AT_ONCE):
            try:
                frame = self.socket.recv(neighbour_wire.FRAME_BYTES)
            except BlockingIOError:
                return frames
            except OSError:  # ENETDOWN once when the link went: links are told of elsewhere
                continue
            it = neighbour_wire.read(frame, self._family)
            if it is None or it.mac == self._known.mac:
                continue
            if (
                it.asks_everybody
                and it.target in self._targets
                and (it.target, b"", False) not in said
            ):
                said.add((it.target, b"", False))
                seen.append(AddressAsked(self.interface, self._known.names[it.target]))
            to_us = not it.question and it.to == self._known.mac
            if self._believes(it) and (it.speaker, it.mac, to_us) not in said:
                said.add((it.speaker, it.mac, to_us))
                name = self._known.names.get(it.speaker) or _text(it.speaker)
                self._witnesses.answered(it.mac, it.speaker, now)
                seen.append(NeighbourSeen(self.interface, name, it.mac.hex(":"), to_us))
        return RECEIVES_AT_ONCE

    def _believes(self, it: neighbour_wire.Said) -> bool:
        """What a peer, or whoever has our address, says of itself; of a gateway or a witness only
        an answer to us, for that alone shows that we are heard.
        """
        if it.speaker in self._answerers:
            return not it.question and it.to == self._known.mac
        return it.speaker in self._speakers and not (it.question and self._family == 6)


class _Crowd:
    """Overhears who is on an interface, for its witnesses, and asks these."""

    def __init__(self, kit: Kit, interface: str, known: "_Known", now: int) -> None:
        self._known = known
        self._index = kit.interfaces[interface][0]
        self._overheard_ms = now
        self._looked = False
        self.witnesses = Witnesses(known.mac, known.partners, known.sources)
        self._sockets: dict[int, socket.socket] = {}
        for family in known.families():
            program = neighbour_wire.overhearing(family, known.mac)
            overheard = _packet_socket(interface, PROTOCOLS[family], program)
            self._sockets[family] = overheard
            overheard.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, OVERHEARD_BYTES)

    def overhear(self, now: int) -> None:
        """Read what was said since the last time; on a busy link it came at once then."""
        for family, overheard in self._sockets.items():
            for _ in range(OVERHEARD_AT_ONCE):
                try:
                    frame = overheard.recv(neighbour_wire.FRAME_BYTES)
                except BlockingIOError:
                    break
                except OSError:  # ENETDOWN
                    continue
                it = neighbour_wire.read(frame, family)
                if it is not None:
                    self.witnesses.overheard(it.mac, it.speaker, self._overheard_ms)
        self._overheard_ms = now

    def look(self, now: int) -> None:
        """Into the kernel's neighbour table, once."""
        if self._looked:
            return
        self._looked = True
        attribute = rtnetlink.ATTRIBUTE.pack(8, NDA_IFINDEX) + rtnetlink.NUMBER.pack(self._index)
        body = NEIGHBOUR.pack(socket.AF_UNSPEC, 0, 0, 0, 0) + attribute
        dump = rtnetlink.request(RTM_GETNEIGH, rtnetlink.NLM_F_DUMP, body, RTM_GETNEIGH)
        with suppress(OSError), rtnetlink.opened(0) as route:
            for message in rtnetlink.dumped(route, dump):
                _, _, state, _, _ = NEIGHBOUR.unpack_from(message.body)
                found = rtnetlink.attributes(message.body, NEIGHBOUR.size)
                mac, ages = found.get(NDA_LLADDR, b""), found.get(NDA_CACHEINFO, b"")
                if len(mac) == 6 and not state & NOT_A_NEIGHBOUR:
                    confirmed, _, updated = AGES.unpack_from(ages)
                    age_ms = TICK_MS * min(confirmed, updated)
                    self.witnesses.overheard(mac, found.get(NDA_DST, b""), now - age_ms)

    def strange_partners(self) -> list[str]:
        """Whose MACs are not known yet, so that under other addresses they seem to be witnesses."""
        names, asked = self._known.names, sorted(self._known.peers)
        return [names[it] for it in asked if not self.witnesses.has_met(it)]

    def question(self, address: bytes) -> bytes:
        return neighbour_wire.question(self._known.mac, self._known.sources[len(address)], address)

    def close(self) -> None:
        for overheard in self._sockets.values():
            overheard.close()


def _mouth(interface: str) -> socket.socket:
    mouth = _packet_socket(interface, 0)
    with suppress(PermissionError):
        mouth.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, QUEUED_BYTES)
    return mouth


def _packet_socket(interface: str, protocol: int, program: bytes = b"") -> socket.socket:
    """Filtered before it is bound: nothing unfiltered ever waits in it. Protocol 0 hears nothing.

    A protocol of its own also keeps what we send out of it (packet(7)).
    """
    with ExitStack() as otherwise:
        packet = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        otherwise.callback(packet.close)
        packet.setblocking(False)
        packet.setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY, CONTROL_PRIORITY)
        if program:
            _attach(packet, program)
        packet.bind((interface, protocol))
        otherwise.pop_all()
    return packet


def _attach(packet: socket.socket, program: bytes) -> None:
    """In the place of the filter that was there, with no moment between them."""
    kept = array("B", program)
    pointer, _ = kept.buffer_info()
    filtered = PROGRAM.pack(len(program) // 8, pointer)
    packet.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, filtered)


def _packed(address: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


def _text(address: bytes) -> str:
    return socket.inet_ntop(socket.AF_INET if len(address) == 4 else socket.AF_INET6, address)


def _family(address: bytes) -> int:
    return 4 if len(address) == 4 else 6


def _of(family: int, addresses: Iterable[bytes]) -> frozenset[bytes]:
    return frozenset(address for address in addresses if _family(address) == family)
