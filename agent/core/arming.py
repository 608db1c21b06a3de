# SPDX-License-Identifier: GPL-2.0-or-later
"""The agent's hand on `fencing`: tests that change nothing, and people told before it is needed."""

from typing import TYPE_CHECKING

from agent.core.fencing import Arming
from agent.core.model import Asked, Outcome
from agent.core.orders import FenceNode, Reply
from agent.core.settings import Exclusive, Settings

if TYPE_CHECKING:
    from agent.core.engine import AgentCore

VERBS = ("off", "on", "test", "status")
TEST_WITHIN_MS = 15_000
KIND = "fence-unready"


def arms(settings: Settings) -> Arming:
    """For every other node that this one may have to switch off."""
    nodes = {
        node: None
        for group in settings.own_groups()
        if group.exclusive is not Exclusive.SEGMENT
        for node in group.nodes
        if node != settings.node and settings.nodes[node].fence is not None
    }
    return Arming(tuple(nodes), valid=True)


def watch(core: "AgentCore") -> None:
    """Test what is due; tell what could not be switched off if it had to be."""
    arming = core.arming
    arming.valid = not core.config_problems
    for node in arming.due(core.now):
        arming.asked(node, core.now)
        core.out.append(FenceNode(core.begin("fence-test", node), node, "test", TEST_WITHIN_MS))
    complaints = arming.complaints(core.now)
    for node in arming.nodes:
        if node in complaints:
            core.raise_alarm(KIND, f"node {node}", complaints[node])
        else:
            core.clear_alarm(KIND, f"node {node}", "a test has passed")


def asked(core: "AgentCore", event: Asked) -> None:
    """An operator wants a node switched off or on, or looked at: `verb` off on test status."""
    name, verb = str(event.args.get("node") or ""), str(event.args.get("verb") or "")
    node = core.settings.nodes.get(name)
    why = ""
    if node is None:
        why = f"no node {name!r}; there are: {', '.join(core.settings.nodes) or 'none'}"
    elif node.fence is None:
        why = f"nothing can switch {name} off: write [node.{name}.fence]"
    elif verb not in VERBS:
        why = f"fence {name}: {verb!r} is none of {', '.join(VERBS)}"
    elif verb == "off" and name == core.settings.node:
        why = f"{name} is this node: ask another one, it could not see the end of it"
    if why or node is None or node.fence is None:
        core.out.append(Reply(event.request_id, False, why))
        return
    op_id = core.begin("fence", (event.request_id, name, verb))
    core.note("intent", f"node {name}", f"fence {verb}", op_id=op_id, who=event.who)
    core.out.append(Reply(event.request_id, None, f"{name}: {verb}, looking until it is seen"))
    core.out.append(FenceNode(op_id, name, verb, node.fence.within_ms))


def ended(core: "AgentCore", asked: tuple[int, str, str], event: Outcome) -> None:
    """What came of an operator's fencing. A node that is seen off holds nothing any more."""
    request_id, name, verb = asked
    known = event.ok is not None
    core.out.append(Reply(request_id, bool(event.ok), event.detail, {"known": known}))
    if verb == "off" and event.ok:
        core.clear_alarm("fence-failed", f"node {name}", "it is seen to be off")
        for role in core.roles.values():
            if name in role.settings.nodes and name not in role.way.fenced:
                role.way.fenced = (*role.way.fenced, name)
    elif verb == "on" and event.ok:
        for role in core.roles.values():
            role.way.fenced = tuple(node for node in role.way.fenced if node != name)


def tested(core: "AgentCore", node: str, event: Outcome) -> None:
    """How a test ended."""
    core.arming.tested(node, event.ok, event.detail, core.now)
