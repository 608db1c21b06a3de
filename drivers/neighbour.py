# SPDX-License-Identifier: GPL-2.0-or-later
"""ARP (RFC 826, 5227) and neighbour discovery (RFC 4861): announcing, asking, overhearing.

Frames are sent as they were forged. What is heard passes a filter in the kernel first, so that a
flood of other frames does not wake the keeper.
"""

import socket
import struct
from array import array
from contextlib import ExitStack, suppress

from agent.core.keeping import NeighbourSeen
from agent.core.kit import Kit
from agent.ports import Refused

ETH_P_ARP = 0x0806
ETH_P_IPV6 = 0x86DD
SO_ATTACH_FILTER = 26
SO_SNDBUFFORCE = 32
QUEUED_BYTES = 4 << 20  # announcements of some thousand addresses
CONTROL_PRIORITY = 6  # TC_PRIO_CONTROL
RECEIVES_AT_ONCE = 1024
SEEN_BYTES = 128

# Where things lie in an Ethernet frame
ARP_FORMAT = slice(14, 20)  # hardware and protocol types and sizes
ARP_ETHERNET_IPV4 = bytes.fromhex("000108000604")
ARP_SENDER_MAC = slice(22, 28)
ARP_SENDER_AT = 28
ARP_FRAME_BYTES = 42
IPV6_NEXT_HEADER_AT = 20
IPV6_HOP_LIMIT_AT = 21
ICMPV6_TYPE_AT = 54
NA_TARGET_AT = 62
NA_OPTIONS_AT = 78
ICMPV6 = 58
NEIGHBOUR_ADVERTISEMENT = 136
TARGET_LINK_ADDRESS = 2

# Classic BPF (linux/bpf_common.h): code, jump if true, jump if false, constant
INSTRUCTION = struct.Struct("=HBBI")
PROGRAM = struct.Struct("@HP")  # sock_fprog: count, pointer
LOAD_BYTE = 0x30
LOAD_WORD = 0x20
JUMP_EQUAL = 0x15
RETURN = 0x06
MOST_FILTERED = 1500  # two instructions each, of 4,096 that the kernel allows


class Neighbour:
    """Sends a kit's frames and hears what is said of the addresses in it. Never blocks.

    counters: "frame-unsent", one for each frame that the kernel would not take.
    Refused where packet sockets are not permitted.
    """

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self._questions = {(it.interface, it.address): it.frame for it in kit.questions}
        self._mouths: dict[str, socket.socket] = {}
        self._ears: list[_Ear] = []
        self.counters = {"frame-unsent": 0}
        interfaces = {it.interface for it in kit.questions}
        for group in kit.groups.values():
            interfaces |= {it.interface for it in group.announcements}
        for interface in sorted(interfaces):
            self._open(interface)

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
        """Ask on the link who has a peer's real address. False: that question was not forged."""
        frame = self._questions.get((interface, address))
        return frame is not None and self._send(interface, frame)

    def receive(self) -> list[NeighbourSeen]:
        """What others said of our floating addresses and our peers' real ones."""
        seen: list[NeighbourSeen] = []
        for ear in self._ears:
            ear.receive(seen)
        return seen

    def close(self) -> None:
        for mouth in self._mouths.values():
            mouth.close()
        for ear in self._ears:
            ear.socket.close()

    def _open(self, interface: str) -> None:
        wanted = {
            (entry.family, entry.address)
            for group in self._kit.groups.values()
            for entry in group.addresses
            if entry.interface == interface
        }
        wanted |= {
            (6 if ":" in it.address else 4, it.address)
            for it in self._kit.questions
            if it.interface == interface
        }
        mac = bytes.fromhex(self._kit.interfaces[interface][1].replace(":", ""))
        try:
            self._mouths[interface] = _packet_socket(interface, 0)
            with suppress(PermissionError):
                self._mouths[interface].setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, QUEUED_BYTES)
            for family in sorted({family for family, _ in wanted}):
                addresses = sorted(address for its, address in wanted if its == family)
                self._ears.append(_Ear(interface, family, addresses, mac))
        except OSError as error:
            self.close()
            raise Refused(
                f"neighbours on {interface}: {error.strerror}; the keeper needs CAP_NET_RAW and"
                " the interface, and where that was made anew the kit must be forged again"
            ) from error

    def _send(self, interface: str, frame: bytes) -> bool:
        try:
            self._mouths[interface].send(frame)
        except OSError:  # no carrier, a full queue: it is announced and asked again
            self.counters["frame-unsent"] += 1
            return False
        return True


class _Ear:
    """Hears ARP, or neighbour advertisements, about some addresses on one interface."""

    def __init__(self, interface: str, family: int, addresses: list[str], mac: bytes) -> None:
        self._interface = interface
        self._own_mac = mac
        self._read = _arp_sender if family == 4 else _advertised
        kind = socket.AF_INET if family == 4 else socket.AF_INET6
        self._names = {socket.inet_pton(kind, address): address for address in addresses}
        words = sorted({int.from_bytes(address[-4:], "big") for address in self._names})
        program = _arp_filter(words) if family == 4 else _advertisement_filter(words)
        protocol = ETH_P_ARP if family == 4 else ETH_P_IPV6
        self.socket = _packet_socket(interface, protocol, program)

    def receive(self, seen: list[NeighbourSeen]) -> None:
        for _ in range(RECEIVES_AT_ONCE):
            try:
                frame = self.socket.recv(SEEN_BYTES)
            except BlockingIOError:
                return
            except OSError:  # ENETDOWN once when the link went: links are told of elsewhere
                continue
            address, mac = self._read(frame)
            name = self._names.get(address)
            if name and mac != self._own_mac:
                seen.append(NeighbourSeen(self._interface, name, mac.hex(":")))


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
            kept = array("B", program)
            pointer, _ = kept.buffer_info()
            filtered = PROGRAM.pack(len(program) // INSTRUCTION.size, pointer)
            packet.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, filtered)
        packet.bind((interface, protocol))
        otherwise.pop_all()
    return packet


def _arp_filter(words: list[int]) -> bytes:
    """Passes ARP whose sender's IPv4 address is one of `words`."""
    return _among([], ARP_SENDER_AT, words)


def _advertisement_filter(words: list[int]) -> bytes:
    """Passes neighbour advertisements of hop limit 255 whose target ends with one of `words`."""
    checks = [
        (IPV6_NEXT_HEADER_AT, ICMPV6),
        (IPV6_HOP_LIMIT_AT, 255),
        (ICMPV6_TYPE_AT, NEIGHBOUR_ADVERTISEMENT),
    ]
    return _among(checks, NA_TARGET_AT + 12, words)


def _among(checks: list[tuple[int, int]], at: int, words: list[int]) -> bytes:
    """Bytes that must be equal, then a word that must be among some; too many are all let pass."""
    lines: list[tuple[int, int, int, int]] = []
    for place, value in checks:
        lines += [(LOAD_BYTE, 0, 0, place), (JUMP_EQUAL, 1, 0, value), (RETURN, 0, 0, 0)]
    lines.append((LOAD_WORD, 0, 0, at))
    if len(words) > MOST_FILTERED:
        lines.append((RETURN, 0, 0, SEEN_BYTES))
    for word in words[:MOST_FILTERED]:
        lines += [(JUMP_EQUAL, 0, 1, word), (RETURN, 0, 0, SEEN_BYTES)]
    lines.append((RETURN, 0, 0, 0))
    return b"".join([INSTRUCTION.pack(*line) for line in lines])


def _arp_sender(frame: bytes) -> tuple[bytes, bytes]:
    if frame[ARP_FORMAT] != ARP_ETHERNET_IPV4 or len(frame) < ARP_FRAME_BYTES:
        return b"", b""
    return frame[ARP_SENDER_AT : ARP_SENDER_AT + 4], frame[ARP_SENDER_MAC]


def _advertised(frame: bytes) -> tuple[bytes, bytes]:
    """Target address, and its link-layer address: the option of RFC 4861 4.6.1, else the sender."""
    at = NA_OPTIONS_AT
    if frame[at : at + 2] == bytes((TARGET_LINK_ADDRESS, 1)):
        return frame[NA_TARGET_AT:at], frame[at + 2 : at + 8]
    return frame[NA_TARGET_AT:at], frame[6:12]
