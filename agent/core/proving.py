# SPDX-License-Identifier: GPL-2.0-or-later
"""The agent's hand on `readiness`: proofs in, and people told before a standby is needed."""

from typing import TYPE_CHECKING

from agent.core import notice
from agent.core.model import Carried, CertificateSaid, CloudSaid, Proved
from agent.core.role import STANDBY, STARTING, Role

if TYPE_CHECKING:
    from agent.core.engine import AgentCore

GRACE_MS = 15_000
CERTIFICATE_DAYS = 14  # it is renewed when 30 are left
KINDS = {
    "standby-not-ready": "it is ready",
    "settings-differ": "they are the same as on the active node",
    "status-stale": "it is fresh",
    "licence-expiring": "there is time again",
    "licence-invalid": "it is valid here",
}


def proved(core: "AgentCore", event: Proved | Carried) -> bool:
    """A round of looking, or what the carrying says."""
    role = core.roles.get(event.group)
    if role is None or role.readiness is None:
        return False
    role.readiness.hear(event, core.now)
    return True


def watch(core: "AgentCore", role: Role) -> None:
    """Whatever keeps this standby from being ready is told, once it has lasted."""
    if role.readiness is None:
        return
    found = role.readiness.complaints(core.now, role.lost_ms, role.newest)
    if role.state not in (STANDBY, STARTING):
        found = {kind: text for kind, text in found.items() if kind.startswith("licence")}
    elif not found.get("standby-not-ready"):
        why = role.startable(core.now) if role.way.brought else role.proof(core.now)
        if why and not role.maintenance:
            found["standby-not-ready"] = why
    subject = f"group {role.settings.name} on {core.settings.node}"
    for kind, good in KINDS.items():
        notice.lasting(core, kind, subject, kind in found, GRACE_MS, found.get(kind, ""), good)


def cloud_said(core: "AgentCore", event: CloudSaid) -> bool:
    """The second copy is up to date, or cannot be brought there."""
    subject = f"group {event.group} on {core.settings.node}"
    if event.ok:
        core.clear_alarm("cloud-unreachable", subject, event.detail or "it is up to date")
    else:
        core.raise_alarm("cloud-unreachable", subject, event.detail)
    return False


def certificate_said(core: "AgentCore", event: CertificateSaid) -> bool:
    """It renews itself in time; where it did not, somebody must look."""
    subject = f"node {core.settings.node}"
    if event.days_left >= CERTIFICATE_DAYS:
        core.clear_alarm("certificate-expiring", subject, f"good for {event.days_left:.0f} days")
    else:
        text = f"ends in {event.days_left:.1f} days, and was not renewed: see standpipe journal"
        core.raise_alarm("certificate-expiring", subject, text)
    return False
