# SPDX-License-Identifier: GPL-2.0-or-later
"""`announce_command`: run beside the announcements, for networks that must be told in another way.

Once for each time that the keeper took the group here, and again where it failed, as long as it is
here. An agent that was started beside an active keeper runs it too: the one before may have died in
between, and saying the same twice does no harm.
"""

from typing import TYPE_CHECKING

from agent.core.election import ROWS
from agent.core.model import Decision, GroupDeed, Outcome
from agent.core.orders import ControlService
from agent.core.role import ACTIVE, Role
from agent.core.settings import GroupSettings, ServiceSettings

if TYPE_CHECKING:
    from agent.core.engine import AgentCore

WITHIN_MS = 30_000
WAITS_MS = (2_000, 10_000, 30_000)  # before each try after the first
TAKING = {row.rule for row in ROWS if not {"take", "retake"}.isdisjoint(row.effects)}
KIND = "announce-failed"


def command(group: GroupSettings, node: str) -> ServiceSettings:
    """The command as a service that can only be started; sh(1) is told of what by environment."""
    told = {
        "STANDPIPE_GROUP": group.name,
        "STANDPIPE_NODE": node,
        "STANDPIPE_ADDRESSES": " ".join(address.address for address in group.addresses),
    }
    exported = " ".join(f"{name}={_quoted(value)}" for name, value in told.items())
    start = f"export {exported}; {group.announce_command}"
    return ServiceSettings(called(group.name), start=start, stop="true", status="true")


def called(group: str) -> str:
    """Its name among the services of the group."""
    return f"announce of {group}"


def _quoted(value: str) -> str:
    """One word for sh(1)."""
    return "'" + value.replace("'", "'\\''") + "'"


def heard(core: "AgentCore", role: Role, deed: GroupDeed, decisions: tuple[Decision, ...]) -> None:
    """A report of the keeper's: taken, taken again, or gone."""
    announcing = role.announcing
    if role.state != ACTIVE or not role.settings.announce_command:
        announcing.tenure = None
        announcing.retry_at, announcing.again = 0, False
        core.clear_alarm(KIND, role.subject, "this node has nothing to announce any more")
        return
    if deed.state != ACTIVE:
        return  # it has the addresses, but asks or waits
    machine, before = role.subject, announcing.tenure
    announcing.tenure = deed.tenure
    taken = any(said.machine == machine and said.rule in TAKING for said in decisions)
    if taken or before is None or (before and before != deed.tenure):
        begin(core, role)


def begin(core: "AgentCore", role: Role) -> None:
    """From the first try on; while it still runs, once it has ended."""
    announcing = role.announcing
    announcing.tries = announcing.retry_at = 0
    announcing.again = announcing.op_id > 0
    if not announcing.again:
        _run(core, role)


def _run(core: "AgentCore", role: Role) -> None:
    name = role.settings.name
    op_id = role.announcing.op_id = core.begin("announce", role)
    core.note("intent", role.subject, "announce", op_id=op_id, within_ms=WITHIN_MS)
    core.out.append(ControlService(op_id, name, called(name), "start", WITHIN_MS))


def ended(core: "AgentCore", role: Role, event: Outcome) -> None:
    """How it ended. What it says matters only while the group is here, and was not taken again."""
    announcing = role.announcing
    announcing.op_id = 0
    if announcing.tenure is None:
        return
    if announcing.again:
        begin(core, role)
    elif event.ok:
        core.clear_alarm(KIND, role.subject, "it was done")
    else:
        announcing.tries += 1
        if announcing.tries <= len(WAITS_MS):
            wait_ms = WAITS_MS[announcing.tries - 1]
            announcing.retry_at = core.now + wait_ms
            then = f"tried again in {wait_ms // 1000} s"
        else:
            then = f"given up; mend it, then: standpipe clear {role.settings.name}"
        core.raise_alarm(KIND, role.subject, f"{event.detail}; {then}")


def watch(core: "AgentCore", role: Role) -> None:
    """Time goes by."""
    announcing = role.announcing
    if announcing.retry_at and core.now >= announcing.retry_at:
        announcing.retry_at = 0
        _run(core, role)


def cleared(core: "AgentCore", role: Role) -> None:
    """An operator has looked: where it was given up it is tried again."""
    announcing = role.announcing
    given_up = announcing.tries > len(WAITS_MS) and not announcing.op_id
    if announcing.tenure is not None and given_up:
        begin(core, role)
