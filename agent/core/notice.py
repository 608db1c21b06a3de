# SPDX-License-Identifier: GPL-2.0-or-later
"""What the agent makes of what it sees: alarms for people, and threats that move groups in time.

A threat is a reason why a group should not stay on this node although it still serves well: its
power is about to end, a resource is about to. The keeper hands over only to a ready peer.
"""

from typing import TYPE_CHECKING

from agent.core.model import (
    ConfigAccepted,
    ConfigRefused,
    KeeperSaid,
    Reading,
    Sampled,
    SourceFailed,
    StoreFailed,
    StoreMended,
)
from agent.core.resource import ResourceWatch
from agent.core.role import ACTIVE, QUARANTINE, Role
from agent.core.settings import DeviceSettings

if TYPE_CHECKING:
    from agent.core.engine import AgentCore

LATE_MS = 2_000
ALONE_MS = 10_000  # an active group without a ready standby
UNOWNED_MS = 5_000
DOUBLED_MS = 2_000  # two beats: a hand-over is done by then
NMS = "nms:"  # sources that are receivers of traps
FAILS = 3  # rounds of a device that fail before people are told


class Device:
    """An SNMP device as last seen. readings: by the part of the name behind "ups:NAME:"."""

    __slots__ = ("detail", "fails", "heard_ms", "readings", "settings")

    def __init__(self, settings: DeviceSettings, now: int) -> None:
        self.settings = settings
        self.readings: dict[str, Reading] = {}
        self.heard_ms = now
        self.fails = 0
        self.detail = "not heard yet"

    def value(self, part: str) -> float | None:
        """None: not known."""
        reading = self.readings.get(part)
        return None if reading is None else reading.value


def sampled(core: "AgentCore", event: Sampled) -> None:
    """A watcher's round."""
    device = core.devices.get(event.source)
    if event.source.startswith(NMS):
        core.clear_alarm("trap-undelivered", event.source, "they are taken again")
    elif device is not None:
        device_sampled(core, device, event.readings)
    else:
        host_sampled(core, event.readings)


# ---------------------------------------------------------------- devices


def device_sampled(core: "AgentCore", device: Device, readings: tuple[Reading, ...]) -> None:
    """A UPS's round: on mains or not, and for how long still."""
    name = device.settings.name
    device.heard_ms, device.fails = core.now, 0
    device.readings = {r.resource.rsplit(":", 1)[-1]: r for r in readings}
    subject = f"device {name}"
    core.clear_alarm("device-unknown", subject, "it answers")
    source, runtime_s = device.value("source"), device.value("runtime")
    charge = device.value("charge")
    left = "unknown runtime" if runtime_s is None else f"{runtime_s:.0f} s left"
    if source == 1:
        device.detail = f"on battery, {left}"
        core.raise_alarm("ups-on-battery", subject, f"on battery, {left}, charge {charge}")
        low = runtime_s is not None and runtime_s < device.settings.runtime_low_s
        if low:
            text = f"{left}, less than {device.settings.runtime_low_s} s: feeds {_feeds(device)}"
            core.raise_alarm("ups-runtime-low", subject, text)
            _threaten(core, f"power:{name}", f"power of {name} ends: {left}", device)
    elif source == 0:
        device.detail = (
            "on mains"
            if device.readings["source"].text == "normal"
            else (device.readings["source"].text)
        )
        core.clear_alarm("ups-on-battery", subject, "on mains again")
        core.clear_alarm("ups-runtime-low", subject, "on mains again")
        _relieve(core, f"power:{name}")
    else:
        device.detail = f"source unknown, {left}"


def _feeds(device: Device) -> str:
    return ", ".join(device.settings.feeds) or "nobody that is configured"


def _threaten(core: "AgentCore", name: str, why: str, device: Device) -> None:
    if core.settings.node in device.settings.feeds:
        threaten(core, name, why)


def threaten(core: "AgentCore", name: str, why: str) -> None:
    """Groups should leave this node while they can."""
    for role in core.roles.values():
        if name not in role.threats:
            core.note("decision", f"group {role.settings.name}", f"should leave: {why}")
        role.threats[name] = why


def _relieve(core: "AgentCore", name: str) -> None:
    for role in core.roles.values():
        if role.threats.pop(name, None) is not None:
            core.note("decision", f"group {role.settings.name}", f"may stay: {name} is over")


def source_failed(core: "AgentCore", event: SourceFailed) -> None:
    """A round came to nothing: unknown, not bad. Refused is for people at once."""
    device = core.devices.get(event.source)
    if event.source.startswith(NMS):
        core.raise_alarm("trap-undelivered", event.source, f"{event.detail}; they are kept")
        return
    if device is None:
        core.note("sample", event.source, f"{event.error}: {event.detail}")
        return
    device.fails += 1
    device.detail = f"unknown: {event.detail}"
    stale = core.now - device.heard_ms >= device.settings.stale_after_ms
    if event.error == "refused" or device.fails >= FAILS or stale:
        core.raise_alarm("device-unknown", f"device {event.source}", event.detail)
    if stale:
        device.readings = {}


# ---------------------------------------------------------------- the host


def host_sampled(core: "AgentCore", readings: tuple[Reading, ...]) -> None:
    """Levels and forecasts of the host's own resources."""
    for reading in readings:
        watch = core.resources.get(reading.resource)
        if watch is None:
            kind = reading.resource.partition(":")[0]
            settings = core.settings.watches.get(kind)
            if settings is None:
                continue
            watch = core.resources[reading.resource] = ResourceWatch(settings, reading.rising)
            for at_ms, seen in core.history.pop(reading.resource, ()):
                watch.add(seen, at_ms)
        watch.add(reading, core.now)
        _judge_resource(core, reading.resource, watch)


def _judge_resource(core: "AgentCore", resource: str, watch: ResourceWatch) -> None:
    text = watch.judge(core.now).text
    for kind, severity, finding in watch.findings():
        if severity is None:
            core.clear_alarm(kind, resource, finding)
        else:
            core.raise_alarm(kind, resource, finding, severity)
    name = f"resource:{resource}"
    if watch.switch_over_due:
        threaten(core, name, f"{resource}: {text}")
    else:
        _relieve(core, name)


# ---------------------------------------------------------------- files


def config_refused(core: "AgentCore", event: ConfigRefused) -> None:
    """The old one stays."""
    core.config_problems = event.problems
    first = event.problems[0] if event.problems else "unreadable"
    more = f" (and {len(event.problems) - 1} more)" if len(event.problems) > 1 else ""
    core.raise_alarm("config-refused", "configuration", f"{first}{more}; the old one stays")


def config_accepted(core: "AgentCore", event: ConfigAccepted) -> None:
    """The file on disk is in force, or soon."""
    core.config_problems = ()
    core.note("config", "configuration", "accepted", digest=event.digest)
    core.clear_alarm("config-refused", "configuration", "the file on disk is in force")


def store_failed(core: "AgentCore", event: StoreFailed) -> None:
    """Protection goes on."""
    core.store_failed = event.detail
    core.raise_alarm("store-failed", "store", event.detail)


def store_mended(core: "AgentCore", _: StoreMended) -> None:
    """What was kept back is written now."""
    core.store_failed = ""
    core.clear_alarm("store-failed", "store", "it can be written again")
    for role in core.roles.values():
        role.store_at = 0  # an epoch that could not be reserved is not waited for any longer


# ---------------------------------------------------------------- over time


def watch_self(core: "AgentCore", late_ms: int) -> None:
    """How late this node itself is."""
    subject = f"node {core.settings.node}"
    if late_ms > LATE_MS:
        text = f"woken {late_ms} ms late: paused, or starved of processor time"
        core.raise_alarm("agent-late", subject, text)
    else:
        core.clear_alarm("agent-late", subject, "on time again")


def watch_time(core: "AgentCore") -> None:
    """What nobody reports: absence, and that what an earlier agent told is over."""
    if not core.store_failed:
        core.clear_alarm("store-failed", "store", "it can be written")
    if not core.config_problems:
        core.clear_alarm("config-refused", "configuration", "the file on disk is in force")
    for name, device in core.devices.items():
        if core.now - device.heard_ms >= device.settings.stale_after_ms and device.readings:
            device.readings = {}
            device.detail = "unknown: nothing heard"
            core.raise_alarm("device-unknown", f"device {name}", "nothing heard from it")
    if core.keeper is not None:
        for role in core.roles.values():
            _watch_group(core, core.keeper, role)
    if core.maintenance_until and core.now >= core.maintenance_until:
        core.maintenance_until = 0
        text = f"ended by itself; {core.maintenance_by} switched it on and not off"
        core.raise_alarm("maintenance-forgotten", f"node {core.settings.node}", text)


def _watch_group(core: "AgentCore", said: KeeperSaid, role: Role) -> None:
    """Nobody serves it, two do, or nobody else could: each once it has lasted."""
    group = role.settings.name
    if role.state != QUARANTINE:
        core.clear_alarm("group-quarantined", f"group {group}", "it may serve again")
    others = {
        n: p for n, p in said.peers.items() if n in role.settings.nodes and p.state == "alive"
    }
    holders = [n for n, p in others.items() if p.groups.get(group, ("", False))[0] == "active"]
    here = role.state == ACTIVE
    ready = any(p.groups.get(group, ("", False))[1] or group in p.able for p in others.values())
    alone = here and len(role.settings.nodes) > 1 and not ready
    subject = f"group {group}"
    lasting(core, "group-without-owner", subject, not core.owner(group), UNOWNED_MS,
             f"no node that is heard serves it; this one cannot: {role.word.why or 'it may soon'}",
             "it is served")  # fmt: skip
    lasting(core, "double-owner", subject, here and bool(holders), DOUBLED_MS,
             f"{core.settings.node} and {', '.join(holders)} both have its addresses",
             "one owner")  # fmt: skip
    lasting(core, "group-without-standby", subject, alone, ALONE_MS,
             "no standby is ready: the next fault takes the service down",
             "a standby is ready")  # fmt: skip


def lasting(
    core: "AgentCore",
    kind: str,
    subject: str,
    wrong: bool,
    after_ms: int,
    text: str,
    good: str,
) -> None:
    """An alarm for what is `wrong` for `after_ms` on end."""
    if not wrong:
        core.wrong_since.pop((kind, subject), None)
        core.clear_alarm(kind, subject, good)
    elif core.now - core.wrong_since.setdefault((kind, subject), core.now) >= after_ms:
        core.raise_alarm(kind, subject, text)
