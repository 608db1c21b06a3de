# SPDX-License-Identifier: GPL-2.0-or-later
"""Scenes between sites: one is lost, a person decides, the name moves; it returns, and waits."""

from __future__ import annotations

from tests.lab.demo_scene import Played
from tests.lab.demo_street import LONDON, LONDON_VIP, PARIS_VIP, Street
from tests.lab.netns import now_ms

NOTICED_MS = 10_000.0
NAME_MOVED_MS = 10_000.0
REACHED_MS = 12_000.0


def site_lost(street: Street, played: Played) -> None:
    """London is gone, all of it."""
    street.restore()
    active = street.owner()
    paris = street.prober_of_paris()
    start_ms = now_ms()
    lost_ms = street.cut(*LONDON.nodes)
    street.wait(lambda: street.cluster.alarms("par1", "site-lost"), "par1 says site-lost", 20.0)
    noticed_ms = now_ms() - lost_ms
    street.wait(lambda: street.told_since(lost_ms, "site-lost"), "the NMS hears of it")
    street.watch_for(2.0)  # nobody confirmed anything: nothing may move
    unmoved = street.resolved.answer()
    refused, why = street.command("par1", "switchover", "voice", "--to", "paris")
    order_ms = now_ms()
    status, said = street.command("par1", "failover", "voice", "--to", "paris", "--force")
    street.wait(lambda: street.resolved.answer() == (PARIS_VIP,), "the name moves", 20.0)
    street.wait(paris.served_by, "the client reaches Paris")
    street.watch_for(1.0)
    street.measure(played, start_ms, outage_ms=None, owners=[active])
    played.at_most("noticed_after_ms", round(noticed_ms), NOTICED_MS)
    played.equals("name_before_the_order", list(unmoved), [LONDON_VIP])
    played.equals("unconfirmed_refused", refused, 1)
    played.note("unconfirmed_answer", why)
    played.equals("order_exit_status", status, 0)
    played.note("order_answer", said)
    named_ms = street.resolved.record().first([PARIS_VIP], order_ms)
    moved_ms = None if named_ms is None else round(named_ms - order_ms)
    played.at_most("name_moved_after_ms", moved_ms, NAME_MOVED_MS)
    _reached(street, played, order_ms, named_ms)
    played.tell(f"the name moved {moved_ms} ms after the operator's word, not before")


def _reached(street: Street, played: Played, order_ms: float, named_ms: float | None) -> None:
    """A client that follows the name: from the order to its first answer out of Paris."""
    probes = street.prober_of_paris().record()
    served = probes.served_by(named_ms) if named_ms is not None else []
    reached_ms = round(served[0][0] - order_ms) if served else None
    played.at_most("client_in_paris_after_ms", reached_ms, REACHED_MS)
    played.equals(
        "paris_served_by", [name for _, name in served], [*street.owned.owners(PARIS_VIP)]
    )


def site_returns(street: Street, played: Played) -> None:
    """London has power again."""
    start_ms = now_ms()
    back = sorted(street.dark)
    street.view.event(f"power on: {', '.join(back)}")
    street.dark.clear()
    street.cluster.boot(*back)
    street.settled()
    served_ms = now_ms() - start_ms
    street.watch_for(3.0)
    unmoved = street.answers(start_ms)
    owner = street.owner()
    order_ms = now_ms()
    status, _ = street.command(owner, "switchover", "voice", "--to", "london")
    street.wait(lambda: street.resolved.answer() == (LONDON_VIP,), "the name moves back", 20.0)
    named_ms = street.resolved.record().first([LONDON_VIP], order_ms)
    street.measure(played, start_ms, owners=[owner])
    played.note("london_ready_after_ms", round(served_ms))
    played.equals("name_until_the_order", unmoved, [{"after_ms": 0, "answer": [PARIS_VIP]}])
    played.equals("order_exit_status", status, 0)
    moved_ms = None if named_ms is None else round(named_ms - order_ms)
    played.at_most("name_moved_after_ms", moved_ms, NAME_MOVED_MS)
    played.tell(f"{owner} serves London again; the name came back when it was told to, not before")
