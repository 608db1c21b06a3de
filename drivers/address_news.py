# SPDX-License-Identifier: GPL-2.0-or-later
"""What happens to a kit's links and floating addresses, as edges. Part of `drivers.addresses`."""

import errno
import socket

from agent.core.keeping import AddressSeen, LinkSeen
from agent.core.kit import Kit
from drivers import rtnetlink as net

RECEIVES_AT_ONCE = 1024

Seen = list[AddressSeen | LinkSeen]


class News:
    """A listening socket: events, and at the start or after an overrun two dumps.

    The dumps come by the same socket, so that they and the events stand in their true order.
    own: port numbers of sockets whose requests are our own. A macvlan of ours that is down is no
    carrier lost: only what it lies over is told of.
    """

    def __init__(self, kit: Kit, own: set[int]) -> None:
        self._interfaces = kit.interfaces
        self._told = kit.interfaces.keys() - kit.macvlans().keys()
        self._floating = {
            net.place(entry): entry for group in kit.groups.values() for entry in group.addresses
        }
        self._own = own
        self._up: dict[str, bool] = {}
        self._present: set[net.Place] = set()
        self._found: set[str | net.Place] = set()  # since the dump began
        self._dumping = 0  # RTM_GETLINK, RTM_GETADDR, 0
        self._again = False
        self.stale: set[str] = set()
        self.overruns = 0
        self.socket = net.opened(net.EVENTS)
        self._look(net.RTM_GETLINK)

    def receive(self) -> Seen:
        """What changed since the last time."""
        seen: Seen = []
        for _ in range(RECEIVES_AT_ONCE):
            try:
                data = self.socket.recv(65536)
            except BlockingIOError:
                if self._dumping or not self._again:
                    break
                self._look(net.RTM_GETLINK)  # not before all is read: a full socket takes no dump
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self.overruns += 1
                self._again = True
            else:
                for message in net.messages(data):
                    self._read(message, seen)
        return seen

    def _look(self, what: int) -> None:
        if what == net.RTM_GETLINK:
            self._found.clear()
            self._again = False
        self._dumping = what
        everything = net.address_dump(socket.AF_UNSPEC, 0)
        self.socket.send(net.link_dump() if what == net.RTM_GETLINK else everything)

    def _read(self, message: net.Message, seen: Seen) -> None:
        if message.flags & net.NLM_F_DUMP_INTR and message.sequence:
            self._again = True
        match message.kind:
            case net.RTM_NEWADDR | net.RTM_DELADDR:
                self._read_address(message, seen)
            case net.RTM_NEWLINK | net.RTM_DELLINK:
                self._read_link(message, seen)
            case net.NLMSG_DONE:
                self._end_of_dump(seen)
            case net.NLMSG_ERROR:
                self._dumping = 0
                self._again = True
            case _:
                pass

    def _end_of_dump(self, seen: Seen) -> None:
        if self._dumping == net.RTM_GETLINK:
            for interface in self._told - self._found:
                self._tell_link(interface, False, seen)
            self._look(net.RTM_GETADDR)
            return
        self._dumping = 0
        for place in self._present - self._found:
            self._tell_address(place, False, "", seen)

    def _read_address(self, message: net.Message, seen: Seen) -> None:
        place = net.address_found(message.body).place
        if place not in self._floating:
            return
        if message.kind == net.RTM_NEWADDR:
            self._found.add(place)
            self._tell_address(place, True, "", seen)
        else:
            self._found.discard(place)
            by = net.author(message.port, self._own) if place in self._present else ""
            self._tell_address(place, False, by, seen)

    def _tell_address(self, place: net.Place, present: bool, by: str, seen: Seen) -> None:
        if present != (place in self._present):
            (self._present.add if present else self._present.remove)(place)
            entry = self._floating[place]
            seen.append(AddressSeen(entry.interface, entry.address, present, by))

    def _read_link(self, message: net.Message, seen: Seen) -> None:
        link = net.link_found(message.body)
        if link.family != socket.AF_UNSPEC or link.name not in self._interfaces:
            return  # a bridge tells of its ports, with a family of its own
        self._found.add(link.name)
        if (link.number, link.mac) == self._interfaces[link.name]:
            self.stale.discard(link.name)
        else:
            self.stale.add(link.name)
        if link.name in self._told:
            self._tell_link(link.name, message.kind == net.RTM_NEWLINK and link.carries, seen)

    def _tell_link(self, interface: str, up: bool, seen: Seen) -> None:
        if self._up.get(interface) is not up:
            self._up[interface] = up
            seen.append(LinkSeen(interface, up))
