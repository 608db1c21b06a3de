# SPDX-License-Identifier: GPL-2.0-or-later
"""What the rows of the election table do, by name, and the table itself.

Each effect takes the keeper's core, whose `group`, `event`, `now` and `out` were set for this turn,
changes the group's timers and appends actions. None sets a state: rows do.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from agent.core import giving, holding, leasing, listening
from agent.core.election import ROWS, STATES
from agent.core.guards import GUARDS
from agent.core.table import Table

if TYPE_CHECKING:
    from agent.core.keeper import KeeperCore

EFFECTS: dict[str, Callable[["KeeperCore"], None]] = {
    "listen": listening.listen,
    "poll": listening.poll,
    "own_at_once": listening.own_at_once,
    "wait_hearing": listening.wait_hearing,
    "rfc_time": listening.rfc_time,
    "answer_back": holding.answer_back,
    "defend": holding.defend,
    "linger": giving.linger,
    "part": giving.part,
    "offer_plain": giving.offer_plain,
    "listen_again": listening.listen_again,
    "follow": listening.follow,
    "follow_answer": listening.follow_sender,
    "follow_claim": listening.follow_claim,
    "follow_taker": giving.follow_taker,
    "leaving": listening.leaving,
    "wait_turn": listening.wait_turn,
    "wait_held": listening.wait_held,
    "orphan": listening.orphan,
    "soon": listening.soon,
    "ask_active": listening.ask_active,
    "ask_giver": listening.ask_giver,
    "ask_sender": listening.ask_sender,
    "ask_all": listening.ask_all,
    "take": holding.take,
    "retake": holding.retake,
    "say_active": holding.say_active,
    "put_back": holding.put_back,
    "renew_epoch": holding.renew_epoch,
    "refresh": holding.refresh,
    "tick": holding.tick,
    "advertise": holding.advertise,
    "announce_now": holding.announce_now,
    "announce_once": holding.announce_once,
    "rest": holding.rest,
    "adopt": holding.adopt,
    "doubt": holding.doubt,
    "release": giving.release,
    "yield": giving.say_yielded,
    "say_rank": giving.say_rank,
    "goodbye": giving.goodbye,
    "disarm": giving.disarm,
    "offer": giving.offer,
    "offer_claimer": giving.offer_claimer,
    "offer_again": giving.offer_again,
    "leave": giving.leave,
    "keep_it": giving.keep_it,
    "confirm": lambda k: giving.reply(k, True),
    "decline": lambda k: giving.reply(k, False),
    "claim": giving.claim,
    "tell_peers": giving.tell_peers,
}

TABLE: "Table[KeeperCore]" = Table("group", STATES, leasing.ROWS + ROWS, GUARDS, EFFECTS)
