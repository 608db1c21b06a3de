# SPDX-License-Identifier: GPL-2.0-or-later
"""The agent's hand on the names' table: steps out, outcomes in, and what people are told of it."""

from typing import TYPE_CHECKING

from agent.core import geo as geos
from agent.core.geo import Geo
from agent.core.model import Decision, Outcome
from agent.core.orders import KeepEpoch, LookNames, ObserveNames, Reply, UpdateNames, VerifyNames

if TYPE_CHECKING:
    from agent.core.engine import AgentCore

OBSERVE_EVERY_MS = 60_000


def outcome(core: "AgentCore", geo: Geo, event: Outcome) -> None:
    """What a step brought, into the table."""
    if geo.op_id != event.op_id:
        return
    geo.detail = event.detail
    geo.zone_epoch = max(geo.zone_epoch, int(event.facts.get("epoch", 0)))
    servers = event.facts.get("servers")
    if servers is not None:
        bad = [name for name, said in servers.items() if not said["ok"]]
        geo.agree = not bad
        primary = geo.settings.servers[0]
        geo.written = geo.written or bool(servers.get(primary, {}).get("ok"))
        if bad:
            geo.detail = f"{', '.join(bad)} does not say so yet"
    fire_geo(core, geo, "done" if event.ok else "unknown" if event.ok is None else "failed")


def observe(core: "AgentCore") -> None:
    """Now and then, where nothing is being moved: what do the name servers say by themselves?"""
    for name, geo in core.geos.items():
        if geo.state == geos.IDLE and core.now >= geo.observe_at:
            geo.observe_at = core.now + OBSERVE_EVERY_MS
            geo.observe_op = core.begin("observed", geo)
            core.out.append(ObserveNames(geo.observe_op, name))


def observed(core: "AgentCore", geo: Geo, event: Outcome) -> None:
    """Is it one of our sites, and do all servers say so?"""
    servers = event.facts.get("servers")
    if servers is None or event.op_id != geo.observe_op:
        return
    geo.zone_epoch = max(geo.zone_epoch, int(event.facts.get("epoch", 0)))
    geo.site = str(event.facts.get("site", ""))
    bad = ", ".join(name for name, said in servers.items() if said["ok"] is False)
    subject = f"geo {geo.settings.name}"
    if bad:
        core.raise_alarm("dns-disagrees", subject, f"{bad} does not say {geo.site}")
    else:
        core.clear_alarm("dns-disagrees", subject, f"all that answer say {geo.site}")


def fire_geo(core: "AgentCore", geo: Geo, event: str) -> None:
    """One event into a name's table, with its record."""
    geo.now = core.now
    before = geo.state
    choice = geos.TABLE.choose(before, event, geo)
    row = choice.row
    if row is None:
        return
    if row.next:
        geo.state = row.next
    for effect in choice.effects:
        effect(geo)
    if not row.quiet:
        core.decided(
            Decision(
                f"geo {geo.settings.name}",
                row.rule,
                before,
                geo.state,
                row.why,
                {"target": geo.target, "epoch": geo.epoch, "zone_epoch": geo.zone_epoch},
                tuple(choice.rejected),
            )
        )
    subject = f"geo {geo.settings.name}"
    if "succeed" in row.effects:
        core.raise_alarm("geo-moved", subject, f"now at {geo.target}")
        core.clear_alarm("dns-disagrees", subject, "all servers agree")
    elif "succeed_partly" in row.effects:
        core.raise_alarm("geo-moved", subject, f"now at {geo.target}")
        core.raise_alarm("dns-disagrees", subject, geo.detail)


def ask(core: "AgentCore", geo: Geo, verb: str) -> int:
    """Carry a step out; its op_id."""
    op_id = core.begin("geo", geo)
    name = geo.settings.name
    text = f"{verb} {geo.target} epoch {geo.epoch}"
    core.note("intent", f"geo {name}", text, op_id=op_id)
    if verb == "look":
        core.out.append(LookNames(op_id, name))
    elif verb == "keep":
        core.out.append(KeepEpoch(op_id, f"geo:{name}", geo.epoch))
    elif verb == "write":
        core.out.append(UpdateNames(op_id, name, geo.target, geo.epoch))
    else:
        core.out.append(VerifyNames(op_id, name, geo.target))
    return op_id


def reply(core: "AgentCore", geo: Geo, ok: bool | None, text: str) -> None:
    """To the operator who asked for it."""
    core.out.append(Reply(geo.request_id, ok, text))
