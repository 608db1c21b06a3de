# SPDX-License-Identifier: GPL-2.0-or-later
"""Floating addresses in the kernel: taken, refreshed and released by prebuilt netlink batches.

Two rtnetlink sockets (rtnetlink(7)): one asks, the other hears what happens to links and addresses.
"""

import errno
import os
import socket

from agent.core.kit import Batch, Kit, is_macvlan_of_ours
from drivers import rtnetlink as net
from drivers.address_news import News, Seen
from drivers.silence import silence

FINE_WHEN_PREPARING = {errno.EEXIST, errno.EAFNOSUPPORT}  # .. where there is no IPv6
FINE_WHEN_TAKING = {errno.EEXIST}
FINE_WHEN_RELEASING = {errno.EADDRNOTAVAIL, errno.ENODEV, errno.ESRCH, errno.ENOENT}

WHAT = {
    net.RTM_NEWLINK: "the macvlan for ",
    net.RTM_SETLINK: "the macvlan for ",
    net.RTM_NEWROUTE: "a route from ",
    net.RTM_DELROUTE: "a route from ",
}


class Addresses:
    """Takes, keeps, releases and watches the floating addresses of a kit."""

    def __init__(self, kit: Kit) -> None:
        self._interfaces = {index: name for name, (index, _) in kit.interfaces.items()}
        self._groups = kit.groups
        self._macvlans = kit.macvlans()
        self._prepare = {name: _Order(group.prepare) for name, group in kit.groups.items()}
        self._before = {name: _Order(group.before) for name, group in kit.groups.items()}
        self._take = {name: _Order(group.take) for name, group in kit.groups.items()}
        self._park = {name: _Order(group.park) for name, group in kit.groups.items()}
        self._release = {name: _Order(group.release) for name, group in kit.groups.items()}
        self._asking = net.opened(0)
        self._news = News(kit, {self._asking.getsockname()[0]})

    @property
    def stale(self) -> frozenset[str]:
        """Interfaces that are not what the kit was forged for (number, MAC): forge again."""
        return frozenset(self._news.stale)

    @property
    def overruns(self) -> int:
        """How often events were lost, and everything was looked at again."""
        return self._news.overruns

    def prepare(self) -> list[str]:
        """Once, before anything is taken: makes macvlans, and has interfaces keep silent.

        Removes what an older configuration left: addresses with our tag on the kit's interfaces
        and macvlans of ours that no group has. What was removed and what could not be done.
        """
        said = [fault for name in self._groups for fault in self._prepare_group(name)]
        return list(dict.fromkeys(said)) + self._tidy_addresses() + self._tidy_macvlans()

    def take(self, group: str, lifetime_s: int) -> tuple[bool, str]:
        """Set all addresses of the group, to vanish after `lifetime_s` unless refreshed.

        Carried out when it returns. False: the kernel refused at least the one that is named.
        """
        if not self._groups[group].missing:
            self._carry_out(group, self._before[group], FINE_WHEN_RELEASING)
        return self.refresh(group, lifetime_s)

    def refresh(self, group: str, lifetime_s: int) -> tuple[bool, str]:
        """Renew the lifetimes; what somebody removed meanwhile is put back."""
        missing = self._groups[group].missing
        if missing:
            return False, "; ".join(missing)
        self._take[group].patch(lifetime_s)
        done = self._carry_out(group, self._take[group], FINE_WHEN_TAKING)
        if not done[0] and self._groups[group].prepare:  # somebody removed a macvlan
            self._prepare_group(group)
            done = self._carry_out(group, self._take[group], FINE_WHEN_TAKING)
        return done

    def release(self, group: str, keep_s: int = 0) -> tuple[bool, str]:
        """Remove all addresses of the group; those that are not there are fine.

        keep_s: so long they stay on the loopback interface, where no neighbour is told of them.
        """
        parked = True, ""
        if keep_s:
            self._park[group].patch(keep_s)
            parked = self._carry_out(group, self._park[group], FINE_WHEN_TAKING)
        done = self._carry_out(group, self._release[group], FINE_WHEN_RELEASING)
        return parked if done[0] else done

    def traffic(self, interface: str) -> int:
        """Packets received there since it was made; -1 where nobody can say."""
        for message in net.dumped(self._asking, net.link_question(interface)):
            if message.kind == net.RTM_NEWLINK:
                return net.packets_received(message.body)
        return -1

    def held(self, group: str) -> bool:
        """Whether the kernel has every address of the group now."""
        wanted = {entry.address for entry in self._groups[group].addresses}
        return bool(wanted) and self.present(group) == wanted

    def present(self, group: str) -> set[str]:
        """Which addresses of the group the kernel has now."""
        entries = self._groups[group].addresses
        wanted = {net.place(entry): entry.address for entry in entries}
        found: set[str] = set()
        for index, family in sorted({(entry.index, entry.family) for entry in entries}):
            found |= {
                wanted[it.place]
                for it in self._addresses(net.FAMILIES[family], index)
                if it.place in wanted
            }
        return found

    def fileno(self) -> int:
        """Readable when there is something to receive; at first there always is."""
        return self._news.socket.fileno()

    def receive(self) -> Seen:
        """What changed; at first every interface of the kit and every floating address found."""
        return self._news.receive()

    def close(self) -> None:
        self._asking.close()
        self._news.socket.close()

    def _prepare_group(self, group: str) -> list[str]:
        ok, detail = self._carry_out(group, self._prepare[group], FINE_WHEN_PREPARING)
        said = [] if ok else [f"group {group}: {detail}"]
        for interface in self._groups[group].silent:
            said += silence(interface, self._macvlans.get(interface, 0))
        return said

    def _carry_out(self, group: str, order: "_Order", fine: set[int]) -> tuple[bool, str]:
        faults: dict[int, net.Answer] = {}
        for messages, last in order.batches:
            try:
                answers = net.asked(self._asking, messages)
            except OSError as error:
                return False, f"group {group}: netlink: {error.strerror}; look again"
            if not any(it.sequence == last for it in answers):
                return False, f"group {group}: netlink: the last message is unanswered; look again"
            for it in answers:
                if it.fault and it.fault not in fine:
                    faults.setdefault(it.sequence, it)
        if not faults:
            return True, ""
        first = next(iter(faults.values()))
        entry = self._groups[group].addresses[first.sequence - 1]
        more = f", and {len(faults) - 1} more" if len(faults) > 1 else ""
        what = WHAT.get(first.kind, "")
        return (
            False,
            f"{what}{entry.address} on {entry.interface}: {os.strerror(first.fault)}{more}",
        )

    def _addresses(self, family: int, index: int) -> list[net.AddressFound]:
        dump = net.dumped(self._asking, net.address_dump(family, index))
        return [net.address_found(it.body) for it in dump if it.kind == net.RTM_NEWADDR]

    def _tidy_addresses(self) -> list[str]:
        floating = {net.place(it) for group in self._groups.values() for it in group.addresses}
        said = []
        for it in self._addresses(socket.AF_UNSPEC, 0):
            index, address = it.place
            if it.tag == net.TAG and index in self._interfaces and it.place not in floating:
                text = f"{socket.inet_ntop(it.family, address)} on {self._interfaces[index]}"
                said += self._removed(net.address_removal(it), text)
        return said

    def _tidy_macvlans(self) -> list[str]:
        """Those without an address are set down: until they are taken nobody may hear of them."""
        carrying = {it.place[0] for it in self._addresses(socket.AF_UNSPEC, 0)}
        dump = net.dumped(self._asking, net.link_dump())
        found = [net.link_found(it.body) for it in dump if it.kind == net.RTM_NEWLINK]
        said = []
        for it in found:
            if not is_macvlan_of_ours(it.name, it.mac, it.parent):
                continue
            if it.name not in self._macvlans:
                said += self._removed(net.link_removal(it.number), f"macvlan {it.name}")
            elif it.flags & net.IFF_UP and it.number not in carrying:
                net.asked(self._asking, net.link_down(it.number))
        return said

    def _removed(self, order: bytes, what: str) -> list[str]:
        (answer,) = net.asked(self._asking, order)
        if answer.fault:
            return [f"{what} is of no group, and cannot be removed: {os.strerror(answer.fault)}"]
        return [f"{what} is of no group any more: removed"]


class _Order:
    """Batches ready to be sent, and the sequence number of each one's last message."""

    def __init__(self, batches: tuple[Batch, ...]) -> None:
        self._lifetimes = [batch.lifetimes for batch in batches]
        self._lifetime_s = -1
        self.batches = [
            (bytearray(batch.messages), [it.sequence for it in net.messages(batch.messages)][-1])
            for batch in batches
        ]

    def patch(self, lifetime_s: int) -> None:
        if lifetime_s == self._lifetime_s:
            return
        for (messages, _), places in zip(self.batches, self._lifetimes, strict=True):
            for at in places:
                net.NUMBER.pack_into(messages, at, lifetime_s)
        self._lifetime_s = lifetime_s
