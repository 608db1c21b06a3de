# SPDX-License-Identifier: GPL-2.0-or-later
"""What people are told, and when: a closed list of alarms, spoken on edges and damped."""

from collections import deque
from typing import NamedTuple

from agent.core.model import Alarm, Severity

FLAP_RAISES = 4
FLAP_WINDOW_MS = 600_000
EVENT_MS = 600_000
REMEMBERED = 256  # cleared alarms whose last raises are remembered


class Kind(NamedTuple):
    """One kind of alarm. Its page for people is docs/runbook/NAME.md.

    severity: where the raiser says none. probable_cause: the name in ITU-T X.721, for security
    alarms in X.736. oid_suffix: its own arc for good, never another kind's. lasts_ms: a kind that
    reports an event clears by itself after this time; 0: it stands until it is cleared.
    """

    severity: Severity
    prose: str
    probable_cause: str
    oid_suffix: int
    lasts_ms: int = 0


# fmt: off
KINDS: dict[str, Kind] = {
    "resource-filling": Kind(Severity.WARNING, "a resource is forecast to be exhausted",
        "resourceAtOrNearingCapacity", 1),
    "resource-level": Kind(Severity.WARNING, "a resource is over its threshold",
        "thresholdCrossed", 2),
    "service-down": Kind(Severity.MAJOR, "a service does not answer, or answers wrongly",
        "applicationSubsystemFailure", 3),
    "service-restarted": Kind(Severity.WARNING, "a service was restarted",
        "softwareProgramAbnormallyTerminated", 4, EVENT_MS),
    "group-moved": Kind(Severity.MINOR, "a group is served by another node than before",
        "underlyingResourceUnavailable", 5, EVENT_MS),
    "group-without-standby": Kind(Severity.MAJOR, "no standby of a group is ready",
        "underlyingResourceUnavailable", 6),
    "group-without-owner": Kind(Severity.CRITICAL, "no node serves a group",
        "applicationSubsystemFailure", 7),
    "group-quarantined": Kind(Severity.CRITICAL, "a group is left alone until somebody has looked",
        "applicationSubsystemFailure", 8),
    "node-lost": Kind(Severity.MAJOR, "a peer is silent on every path",
        "communicationsSubsystemFailure", 9),
    "peer-path-lost": Kind(Severity.MINOR, "a peer is not heard on one of its paths",
        "lANError", 10),
    "keeper-lost": Kind(Severity.MAJOR, "this node's keeper is silent",
        "softwareProgramAbnormallyTerminated", 11),
    "agent-late": Kind(Severity.WARNING, "this node notices things too late",
        "cpuCyclesLimitExceeded", 12),
    "link-down": Kind(Severity.MAJOR, "an interface has no carrier",
        "lossOfSignal", 13),
    "ups-on-battery": Kind(Severity.MAJOR, "a UPS is on battery",
        "powerProblem", 14),
    "ups-runtime-low": Kind(Severity.CRITICAL, "a UPS will soon be empty",
        "powerProblem", 15),
    "device-unknown": Kind(Severity.WARNING, "a device does not answer, so its state is unknown",
        "communicationsSubsystemFailure", 16),
    "config-refused": Kind(Severity.WARNING, "a new configuration was refused, the old one stays",
        "configurationOrCustomizationError", 17),
    "store-failed": Kind(Severity.MAJOR, "the store cannot be written",
        "fileError", 18),
    "packet-refused": Kind(Severity.WARNING, "packets come that must not be believed",
        "authenticationFailure", 19),
    "foreign-router": Kind(Severity.MAJOR, "an unknown router is active in our virtual router",
        "unexpectedInformation", 20),
    "dns-disagrees": Kind(Severity.MAJOR, "a name server does not say what it was told",
        "corruptData", 21),
    "geo-moved": Kind(Severity.MAJOR, "the world was sent to another site",
        "underlyingResourceUnavailable", 22, EVENT_MS),
    "site-lost": Kind(Severity.CRITICAL, "every node of a site is silent",
        "communicationsSubsystemFailure", 23),
    "maintenance-forgotten": Kind(Severity.WARNING, "maintenance was not ended, its time ran out",
        "proceduralError", 24),
    "double-owner": Kind(Severity.CRITICAL, "two nodes have the same addresses",
        "duplicateInformation", 25),
    "trap-undelivered": Kind(Severity.WARNING, "an NMS does not take its traps, they are kept",
        "transmitFailure", 26),
    "address-conflict": Kind(Severity.MAJOR, "a stranger answers for an address that is ours",
        "duplicateInformation", 27),
    "address-removed": Kind(Severity.MINOR, "another program removes an address that is ours",
        "configurationOrCustomizationError", 28),
    "interface-deaf": Kind(Severity.MAJOR, "an interface hears nothing, or is not heard",
        "lANError", 29),
    "router-disagrees": Kind(Severity.WARNING, "a router of ours is not set as this node is",
        "configurationOrCustomizationError", 30),
    "announce-failed": Kind(Severity.MAJOR, "the command that announces a group failed",
        "softwareProgramError", 31),
    "standby-not-ready": Kind(Severity.MAJOR, "a standby could not take its group over",
        "underlyingResourceUnavailable", 32),
    "settings-differ": Kind(Severity.MAJOR, "a standby is not set up as the active node is",
        "versionMismatch", 33),
    "status-stale": Kind(Severity.MAJOR, "a standby's copy of the status is too old, or unusable",
        "corruptData", 34),
    "licence-expiring": Kind(Severity.WARNING, "a licence ends soon",
        "softwareError", 35),
    "licence-invalid": Kind(Severity.MAJOR, "a licence is not valid on this host",
        "softwareError", 36),
    "fence-failed": Kind(Severity.CRITICAL, "a node could not be seen to be switched off",
        "equipmentMalfunction", 37),
    "fence-unready": Kind(Severity.MAJOR, "a node could not be switched off if it had to be",
        "equipmentMalfunction", 38),
    "lease-lost": Kind(Severity.CRITICAL, "a group was stopped here, for its lease ran out",
        "underlyingResourceUnavailable", 39),
    "exclusive-blocked": Kind(Severity.CRITICAL, "a group is started nowhere, lest it run twice",
        "underlyingResourceUnavailable", 40),
    "service-hung": Kind(Severity.MAJOR, "a service was killed, for it lived and did not answer",
        "softwareProgramError", 41, EVENT_MS),
    "stop-failed": Kind(Severity.CRITICAL, "a service does not end, though it was told to",
        "softwareProgramError", 42),
    "moves-frozen": Kind(Severity.CRITICAL, "groups moved too often, and are let be",
        "thresholdCrossed", 43),
    "certificate-expiring": Kind(Severity.WARNING, "this node's certificate ends soon",
        "keyExpired", 44),
    "cloud-unreachable": Kind(Severity.WARNING, "the second copy cannot be brought up to date",
        "transmitFailure", 45),
    "hook-failed": Kind(Severity.MAJOR, "a command of a group failed",
        "softwareProgramError", 46),
}
# fmt: on

RANK = {
    Severity.CLEARED: 0,
    Severity.WARNING: 1,
    Severity.MINOR: 2,
    Severity.MAJOR: 3,
    Severity.CRITICAL: 4,
}


class _Entry:
    """What is known of one alarm_id. told: the alarm that stands; clears_ms: when it will not."""

    __slots__ = ("clear_text", "clears_ms", "raises_ms", "told")

    def __init__(self, flap_raises: int) -> None:
        self.told: Alarm | None = None
        self.raises_ms: deque[int] = deque(maxlen=flap_raises)
        self.clears_ms: int | None = None
        self.clear_text = ""


class AlarmBook:
    """The alarms that stand. An Alarm that is returned is an edge: tell it; None is nothing new.

    One alarm_id is raised at most `flap_raises` times in any `flap_window_ms`: the last one says
    "(flapping)" and stands until no raise came for that long. Getting worse is told all the same.
    """

    __slots__ = ("_entries", "_flap_raises", "_flap_window_ms")

    def __init__(
        self, flap_raises: int = FLAP_RAISES, flap_window_ms: int = FLAP_WINDOW_MS
    ) -> None:
        self._entries: dict[str, _Entry] = {}
        self._flap_raises = flap_raises
        self._flap_window_ms = flap_window_ms

    def restore(self, alarm: Alarm, now: int) -> None:
        """It stood when an earlier agent ended: it is not told again, and can be cleared."""
        entry = self._remember(alarm.alarm_id, now)
        entry.told = alarm
        lasts_ms = KINDS[alarm.kind].lasts_ms if alarm.kind in KINDS else 1
        if lasts_ms:
            entry.clears_ms = now + lasts_ms
            entry.clear_text = alarm.text

    def raise_(
        self, kind: str, subject: str, text: str, now: int, severity: Severity | None = None
    ) -> Alarm | None:
        """kind: a key of KINDS. None where it stands at that severity; the text changes silently.

        A kind that reports an event (`lasts_ms`) is told each time.
        """
        meant = KINDS[kind]
        severity = severity or meant.severity
        if severity is Severity.CLEARED:
            raise ValueError(f"alarm {kind}:{subject}: raised as cleared; use clear()")
        alarm_id = f"{kind}:{subject}"
        entry = self._entries.get(alarm_id) or self._remember(alarm_id, now)
        told = entry.told
        if told is None or RANK[severity] > RANK[told.severity]:
            edge = True
        elif self._flapping(entry, now):
            edge = False
            severity = told.severity
        else:
            edge = meant.lasts_ms > 0 or severity is not told.severity
        if edge or meant.lasts_ms or entry.clears_ms is not None:
            entry.raises_ms.append(now)
            entry.clears_ms = None
        flapping = self._flapping(entry, now)
        if meant.lasts_ms:
            entry.clears_ms = now + max(meant.lasts_ms, self._flap_window_ms if flapping else 0)
            entry.clear_text = text
        if flapping:
            text = f"{text} (flapping)"
        if told is None or edge or told.text != text:
            raised_ms = now if told is None else told.raised_ms
            entry.told = Alarm(alarm_id, kind, subject, severity, text, raised_ms)
        return entry.told if edge else None

    def clear(self, kind: str, subject: str, now: int, text: str) -> Alarm | None:
        """The clear, or None where nothing stands or it flaps: `settle` returns it when due."""
        entry = self._entries.get(f"{kind}:{subject}")
        if entry is None or entry.told is None:
            return None
        if self._flapping(entry, now):
            entry.clears_ms = entry.raises_ms[-1] + self._flap_window_ms
            entry.clear_text = text
            return None
        return self._cleared(entry, text)

    def settle(self, now: int) -> list[Alarm]:
        """The clears that are due: of events, and of alarms that flapped and are quiet now."""
        return [
            self._cleared(entry, entry.clear_text)
            for entry in self._entries.values()
            if entry.clears_ms is not None and entry.clears_ms <= now
        ]

    def deadline(self) -> int | None:
        """When `settle` has something to say."""
        return min(
            (entry.clears_ms for entry in self._entries.values() if entry.clears_ms is not None),
            default=None,
        )

    def standing(self) -> list[Alarm]:
        """Worst first, then oldest first."""
        told = [entry.told for entry in self._entries.values() if entry.told is not None]
        return sorted(told, key=lambda alarm: (-RANK[alarm.severity], alarm.raised_ms))

    def worst(self) -> Severity:
        """CLEARED where nothing stands."""
        worst = Severity.CLEARED
        for entry in self._entries.values():
            if entry.told is not None and RANK[entry.told.severity] > RANK[worst]:
                worst = entry.told.severity
        return worst

    def _flapping(self, entry: _Entry, now: int) -> bool:
        raises = entry.raises_ms
        return len(raises) == raises.maxlen and now - raises[0] < self._flap_window_ms

    def _cleared(self, entry: _Entry, text: str) -> Alarm:
        told = entry.told
        assert told is not None
        entry.told = None
        entry.clears_ms = None
        return Alarm(told.alarm_id, told.kind, told.subject, Severity.CLEARED, text, told.raised_ms)

    def _remember(self, alarm_id: str, now: int) -> _Entry:
        """A new entry; makes room among those that are cleared and quiet, however many subjects."""
        if len(self._entries) >= REMEMBERED:
            self._entries = {
                known: entry
                for known, entry in self._entries.items()
                if entry.told is not None
                or (entry.raises_ms and now - entry.raises_ms[-1] < self._flap_window_ms)
            }
        entry = self._entries[alarm_id] = _Entry(self._flap_raises)
        return entry
