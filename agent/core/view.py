# SPDX-License-Identifier: GPL-2.0-or-later
"""What people are shown: the whole state as plain values, and why it is so. Shapes: docs/cli.md."""

from typing import TYPE_CHECKING, Any

from agent.core import role as roles
from agent.core import steps
from agent.core.alarm import KINDS
from agent.core.care import Care
from agent.core.model import Health, Severity
from agent.core.readiness import Standing
from agent.core.resource import ResourceWatch
from agent.core.role import ACTIVE, PROBATION, Role

if TYPE_CHECKING:
    from agent.core.engine import AgentCore

VERSION = 1
SHOWN_DECISIONS = 40


def status(core: "AgentCore") -> dict[str, Any]:
    """Version 1 of the shape that `standpipe status --json` prints."""
    settings, now = core.settings, core.now
    node = settings.nodes.get(settings.node)
    said = core.keeper
    return {
        "version": VERSION,
        "node": settings.node,
        "cluster": settings.cluster,
        "site": node.site if node else "",
        "witness": bool(node and node.witness),
        "up_s": (now - core.began_ms) // 1000,
        "health": str(health(core)),
        "watch_only": not core.roles and not core.geos,
        "groups": [_group(core, role) for role in core.roles.values()],
        "peers": [
            {
                "name": name,
                "site": settings.nodes[name].site,
                "state": peer.state,
                "witness": settings.nodes[name].witness,
                "groups": {
                    group: {"state": state, "ready": ready, "able": group in peer.able}
                    for group, (state, ready) in peer.groups.items()
                },
            }
            for name, peer in (said.peers.items() if said else ())
        ],
        "geos": [
            {
                "name": name,
                "site": geo.site,
                "epoch": max(geo.epoch, geo.zone_epoch),
                "arbiter": geo.settings.arbiter,
            }
            for name, geo in core.geos.items()
        ],
        "devices": [
            {
                "name": name,
                "health": str(Health.UP if device.readings else Health.UNKNOWN),
                "detail": device.detail,
            }
            for name, device in core.devices.items()
        ],
        "resources": [_resource(name, watch) for name, watch in core.resources.items()],
        "alarms": [
            {
                "alarm_id": alarm.alarm_id,
                "kind": alarm.kind,
                "subject": alarm.subject,
                "severity": str(alarm.severity),
                "text": alarm.text,
                "since_s": (now - alarm.raised_ms) // 1000,
            }
            for alarm in core.alarms.standing()
        ],
        "keeper": {
            "state": core.keeper_lost or ("alive" if said else "not heard yet"),
            "beat_age_ms": now - core.keeper_ms,
            "counters": dict(said.counters) if said else {},
        },
        "senses": dict(said.senses) if said else {},
        "store": {"ok": not core.store_failed, "detail": core.store_failed},
        "maintenance": _maintenance(core),
        "config": {"digest": settings.digest, "problems": list(core.config_problems)},
    }


def health(core: "AgentCore") -> Health:
    """Of the whole node: DOWN where a group that should be served here or anywhere is not."""
    standing = {a.severity for a in core.alarms.standing() if not KINDS[a.kind].lasts_ms}
    unowned = any(not core.owner(name) for name in core.roles)
    if unowned or Severity.CRITICAL in standing:
        return Health.DOWN
    if not standing.isdisjoint((Severity.MAJOR, Severity.MINOR)) or core.keeper_lost:
        return Health.DEGRADED
    return Health.UP if core.keeper is not None else Health.UNKNOWN


def _group(core: "AgentCore", role: Role) -> dict[str, Any]:
    settings = role.settings
    return {
        "name": settings.name,
        "standby": str(settings.standby),
        "role": role.state,
        "state": role.deed_state,
        "owner": core.owner(settings.name),
        "epoch": role.epoch,
        "ready": role.word.ready,
        "why": role.word.why,
        "addresses": [f"{a.address}/{a.prefix_len}" for a in settings.addresses],
        "plain_peers": list(settings.plain_peers),
        "services": [_service(care, core.now) for care in role.cares],
        "exclusive": str(settings.exclusive),
        "lease": role.lease,
        "step": role.way.state,
        "able": role.word.able,
        "sessions": role.way.sessions,
        "probation_s": _probation_s(role, core.now) if role.state == PROBATION else None,
        "proofs": [_proof(stands) for stands in _proofs(core, role)],
    }


def _probation_s(role: Role, now: int) -> int:
    """What is left of it, if the node stays well."""
    proven_ms = now - role.proven_since if role.proven_since else 0
    return max(0, role.probation_ms() - proven_ms) // 1000


def _proofs(core: "AgentCore", role: Role) -> tuple[Standing, ...]:
    """What is proved of this standby; nothing of the node that serves."""
    if role.readiness is None or role.state == ACTIVE:
        return ()
    return role.readiness.table(core.now, role.lost_ms)


def _proof(stands: Standing) -> dict[str, Any]:
    return {
        "name": stands.name,
        "state": stands.state,
        "weight": str(stands.weight),
        "detail": stands.detail,
        "age_s": None if stands.age_ms is None else stands.age_ms // 1000,
        "left_s": None if stands.left_ms is None else stands.left_ms // 1000,
    }


def _service(care: Care, now: int) -> dict[str, Any]:
    return {
        "name": care.settings.name,
        "state": care.state,
        "health": str(care.health(now)),
        "restarts_left": care.budget.left(now),
        "checks": [
            {
                "name": name,
                "health": str(check.judge(now)),
                "detail": check.detail,
                "age_s": None if check.heard_ms is None else (now - check.heard_ms) // 1000,
            }
            for name, check in care.checks.items()
            if care.serving or not check.settings.floating
        ],
    }


def _resource(name: str, watch: ResourceWatch) -> dict[str, Any]:
    reading = watch.reading
    assert reading is not None  # a watch is made for its first reading
    outlook = watch.outlook
    value, limit = reading.value, reading.limit
    pct = None if watch.pct is None else round(watch.pct, 1)

    def seconds(ms: int | None) -> int | None:
        return None if ms is None else ms // 1000

    return {
        "resource": name,
        "value": value,
        "limit": limit,
        "unit": reading.unit,
        "pct": pct,
        "health": str(watch.health),
        "eta_s": seconds(outlook.eta_ms),
        "eta_low_s": seconds(outlook.low_ms),
        "eta_high_s": seconds(outlook.high_ms),
    }


def explain(core: "AgentCore", group: str) -> dict[str, Any]:
    """The last decisions (of one group, or all), and what each group's next change needs."""
    chosen = [
        (at, decision)
        for at, decision in core.decisions
        if not group or group in decision.machine.split() or decision.machine.startswith("peer ")
    ]
    return {
        "decisions": [
            {
                "at_s_ago": (core.now - at) // 1000,
                "machine": decision.machine,
                "rule": decision.rule,
                "before": decision.before,
                "after": decision.after,
                "why": decision.why,
                "inputs": decision.inputs,
                "rejected": [list(pair) for pair in decision.rejected],
            }
            for at, decision in chosen[-SHOWN_DECISIONS:]
        ],
        "now": {
            name: _outlook(core, role) for name, role in core.roles.items() if group in ("", name)
        },
        "maintenance": _maintenance(core),
        "senses": dict(core.keeper.senses) if core.keeper is not None else {},
    }


def _maintenance(core: "AgentCore") -> dict[str, Any] | None:
    if not core.maintained():
        return None
    return {"until_s": (core.maintenance_until - core.now) // 1000, "by": core.maintenance_by}


def _outlook(core: "AgentCore", role: Role) -> dict[str, Any]:
    why = role.word.why or ("serving" if role.state == ACTIVE else "ready to take over")
    if role.plain_active():
        why = f"{role.called(role.deed_active)} has it; {why}"
    return {
        "role": role.state,
        "state": role.deed_state,
        "why": why,
        "plain_peers": list(role.settings.plain_peers),
        "next": [
            {
                "rule": row.rule,
                "event": row.event,
                "next": row.next,
                "needs": [row.event, *needs],
                "why": row.why,
            }
            for row, needs in [
                *roles.TABLE.outlook(role.state, role),
                *steps.TABLE.outlook(role.way.state, role.way),
            ]
        ],
        "step": role.way.state,
        "proofs": [_proof(stands) for stands in _proofs(core, role)],
    }
