# SPDX-License-Identifier: GPL-2.0-or-later
"""[group.NAME.realtime]: sessions that cannot be mirrored, and load that comes back in steps."""

from dataclasses import replace
from typing import Any

from agent.config_forms import field_name, host_address, object_id, web_host
from agent.config_section import Section, listed
from agent.config_watches import read_snmp
from agent.core.settings import RealtimeSettings, Standby

KEYS_OF = {"command": (), "http": ("field",), "oid": ("snmp", "address")}
"""How sessions are counted -> the keys that belong to it."""
WHOLE_PCT = 100
SNMP_PORT = 161
HOUR_MS = 3_600_000


def read_realtime(group: Section, standby: Standby) -> RealtimeSettings | None:
    """The table that a realtime standby needs, and no other has."""
    table = group.table("realtime")
    if table is None:
        if standby is Standby.REALTIME and "realtime" not in group:
            why = "missing: how sessions are counted, drained and ramped; without that it is hot"
            group.note("realtime", why)
        return None
    if standby is not Standby.REALTIME and group.content.get("standby", standby) == standby:
        why = f'belongs to standby = "realtime", this is {standby.value}'
        table.source.note(table.at, why)
    usual = RealtimeSettings()
    realtime = replace(
        _read_sessions(table),
        drain=table.text("drain"),
        undrain=table.text("undrain"),
        drain_first=table.flag("drain_first", False),
        deadline_ms=table.duration("deadline", usual.deadline_ms, 0, 24 * HOUR_MS),
        ramp=table.text("ramp"),
        steps_pct=_read_steps(table) or usual.steps_pct,
        step_every_ms=table.duration("step_every", usual.step_every_ms, 100, HOUR_MS),
        jitter_ms=table.duration("jitter", usual.jitter_ms, 0, HOUR_MS),
    )
    table.only_with("drain", "undrain")
    table.only_with("ramp", "steps", "step_every", "jitter")
    if "drain" in table and "undrain" not in table:
        table.note("undrain", "missing: what makes it take new work again after drain")
    if not any(key in table for key in ("sessions", "drain", "ramp")):
        table.source.note(table.at, "says nothing: give it sessions, drain and undrain, or ramp")
    table.close()
    return realtime


def _read_sessions(table: Section) -> RealtimeSettings:
    """Only what is about counting them."""
    if type(table.content.get("sessions")) is not dict:
        command = table.text("sessions")
        return RealtimeSettings("command" if command else "", command)
    entry = table.table("sessions")
    assert entry is not None
    kinds = [kind for kind in KEYS_OF if kind in entry]
    for kind, keys in KEYS_OF.items():
        for key in (kind, *keys):
            entry.know(key)
        for key in keys if kinds and kind not in kinds else ():
            if key in entry:
                entry.note(key, f"belongs to {kind}, this is {kinds[0]}", secret=key == "snmp")
    entry.close(secret=True)
    if len(kinds) == 1:
        return _read_way(entry, kinds[0])
    why = f"are counted in one way: give exactly one of {listed(KEYS_OF)}"
    entry.source.note(entry.at, why + (f", not {' and '.join(kinds)}" if kinds else ""))
    return RealtimeSettings()


def _read_way(entry: Section, kind: str) -> RealtimeSettings:
    if kind == "http":
        entry.form("http", web_host, "")
        needed = 'where the number is in the JSON, as in "calls.active"'
        field = entry.form("field", field_name, "", needed=needed)
        return RealtimeSettings("http", entry.text("http"), field)
    if kind == "oid":
        oid = entry.form("oid", object_id, "")
        address = entry.form("address", host_address, RealtimeSettings().address)
        return RealtimeSettings("oid", oid, snmp=read_snmp(entry, SNMP_PORT), address=address)
    return RealtimeSettings("command", entry.text("command"))


def _read_steps(table: Section) -> tuple[int, ...]:
    found: list[Any] = table.value("steps", list) or []
    for place, step in enumerate(found):
        if type(step) is not int or not 1 <= step <= WHOLE_PCT:
            why = f"must be a whole number of percent, 1..{WHOLE_PCT}"
        elif place and step <= found[place - 1]:
            why = f"must be above the {found[place - 1]} before it"
        else:
            continue
        table.source.note(table.spot("steps", place), why, step)
        return ()
    if "steps" in table and found[-1:] != [WHOLE_PCT] and type(table.content["steps"]) is list:
        table.note("steps", f"must end with {WHOLE_PCT}: all of the load")
        return ()
    return tuple(found)
