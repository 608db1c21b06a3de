# SPDX-License-Identifier: GPL-2.0-or-later
"""What the agent tells the keeper of each group: ready or why not, an order, how many epochs."""

from typing import TYPE_CHECKING

from agent.core.bringing import GONE
from agent.core.model import Word
from agent.core.orders import KeepEpoch, TellKeeper
from agent.core.role import ACTIVE, STANDBY, STARTING, Role
from agent.core.settings import Failback

if TYPE_CHECKING:
    from agent.core.engine import AgentCore

RESERVE = 16  # epochs stored ahead, so that the keeper may use one without a disk
STORE_AGAIN_MS = 5_000  # after the store failed


def speak(core: "AgentCore") -> None:
    """Tell the keeper where something changed, and keep enough epochs stored ahead.

    Not before the keeper was heard: an agent that was just started does not know yet what is served
    here, and the keeper goes on with the last word.
    """
    changed = False
    core.words_ms = core.now
    for name, role in core.roles.items():
        _reserve(core, name, role)
        if core.keeper is None:
            continue
        word = _word(core, role)
        if word != role.word:
            role.word = word
            changed = True
            if word.ready != core.words.get(name, Word(False)).ready:
                text = "ready to own" if word.ready else f"not ready: {word.why}"
                core.note("decision", f"group {name}", text)
        core.words[name] = word
    if changed:
        core.out.append(TellKeeper(dict(core.words)))


def _word(core: "AgentCore", role: Role) -> Word:
    why = role.proof(core.now)
    ready = not why
    if not ready:
        role.ready_since = 0
    elif not role.ready_since:
        role.ready_since = core.now
    order, to = role.order, role.order_to
    if role.way.state == GONE and role.state == ACTIVE:
        order, to = "give", role.way.to
    elif not order and _failback_due(core, role):
        order = "take"
    well = role.serves_well(core.now)
    able = role.way.brought and role.state == STANDBY and not role.startable(core.now)
    return Word(
        ready,
        order,
        to,
        role.ceiling,
        role.epoch,
        why,
        well,
        able or (role.way.brought and role.state == STARTING),
        role.way.claims,
        role.owned_last,
        role.way.fenced,
    )


def _failback_due(core: "AgentCore", role: Role) -> bool:
    settings = role.settings
    if settings.failback is not Failback.AFTER or role.state != STANDBY or core.maintained():
        return False
    if role.way.stops_first or not core.window_open(role):
        return False
    if not role.ready_since or core.now - role.ready_since < settings.failback_ms:
        return False
    if role.plain_active():  # whether this node outranks it is for the keeper to see
        return not _preferred(core, role)
    if role.deed_active not in settings.nodes:
        return False
    return settings.nodes.index(core.settings.node) < settings.nodes.index(role.deed_active)


def _preferred(core: "AgentCore", role: Role) -> bool:
    """Whether a node that is ready goes before this one."""
    settings = role.settings
    before = settings.nodes[: settings.nodes.index(core.settings.node)]
    peers = core.keeper.peers if core.keeper is not None else {}
    return any(
        name in before and peer.state == "alive" and peer.groups.get(settings.name, ("", False))[1]
        for name, peer in peers.items()
    )


def _reserve(core: "AgentCore", name: str, role: Role) -> None:
    if role.storing or role.ceiling - role.epoch >= RESERVE // 2 or core.now < role.store_at:
        return
    ceiling = role.epoch + RESERVE
    role.storing = core.begin("ceiling", (role, ceiling))
    core.note("intent", f"group {name}", f"reserve epochs to {ceiling}", op_id=role.storing)
    core.out.append(KeepEpoch(role.storing, f"group:{name}", ceiling))
