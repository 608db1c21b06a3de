# SPDX-License-Identifier: GPL-2.0-or-later
"""[[group.NAME.service]] and its `alive` list: what runs, and how it is asked whether it lives."""

from collections.abc import Callable, Collection
from dataclasses import replace

from agent.config_bonds import Named, note_cycle, read_names
from agent.config_forms import (
    endpoint,
    file_path,
    process_name,
    restart_budget,
    sip_host,
    unit_name,
    web_host,
)
from agent.config_section import Section, listed
from agent.core.settings import CheckSettings, ServiceSettings, Standby

COMMANDS = ("start", "stop", "status")
ON_DEATH = ("auto", "restart", "move")
RETRY_MS = 100
STALE_AFTER_MS = 10_000
HOUR_MS = 3_600_000


def _endpoint_host(text: str) -> str:
    return endpoint(text)[0]


def _no_host(parse: Callable[[str], str]) -> Callable[[str], str]:
    def checked(text: str) -> str:
        parse(text)
        return ""

    return checked


HOST_OF: dict[str, Callable[[str], str]] = {
    "tcp": _endpoint_host,
    "http": web_host,
    "sip": sip_host,
    "command": _no_host(str),
    "process": _no_host(process_name),
    "unit": _no_host(unit_name),
}
"""Kind of check -> reads its target: the host that is asked, "" for none; ValueError says why."""


def read_services(
    group: Section, standby: Standby, floating: Collection[str]
) -> tuple[ServiceSettings, ...]:
    """`floating`: the group's own addresses."""
    services: dict[str, ServiceSettings] = {}
    places: dict[str, Section] = {}
    tables = group.tables("service")
    for place, table in enumerate(tables):
        service = _read_service(table, place, floating)
        if service.name in services:
            key = "name" if "name" in table else "unit"
            table.note(key, f"another service of this group is {service.name}; give it a name")
        if standby is Standby.COLD and not service.unit and not service.start:
            why = "a cold standby must be started: give a unit, or start, stop and status commands"
            table.source.note(table.at, why)
        services[service.name] = service
        places[service.name] = table
    after: Named = {}
    for name, table in places.items():
        after[name] = read_names(table, "after", name, services, "service of this group")
        table.close()
    note_cycle(group, after)
    return tuple(replace(it, after=tuple(after[it.name])) for it in services.values())


def _read_service(table: Section, place: int, floating: Collection[str]) -> ServiceSettings:
    unit = table.form("unit", unit_name, "")
    commands = {key: table.text(key) for key in COMMANDS}
    name = table.text("name", unit.rpartition(".")[0] or f"service-{place + 1}")
    checks = _read_checks(table, floating)
    given = [key for key in COMMANDS if key in table]
    if given and "unit" in table:
        table.note("unit", "give a unit, or start, stop and status commands, not both")
    elif given and len(given) < len(COMMANDS):
        absent = [key for key in COMMANDS if key not in table]
        why = f"missing: start, stop and status go together, there is {listed(given)}"
        table.note(absent[0], why)
    elif not given and "unit" not in table and "alive" not in table:
        why = "nothing to run and nothing to ask: give it a unit, commands, or an alive list"
        table.source.note(table.at, why)
    restarts, restarts_in_ms = table.form("restarts", restart_budget, (3, 600_000))
    pid_file = table.form("pid_file", file_path, "")
    if "pid_file" in table and "unit" in table:
        table.note("pid_file", "is for a service that is run by commands; systemd knows this one's")
    return ServiceSettings(
        name=name,
        unit=unit,
        start=commands["start"],
        stop=commands["stop"],
        status=commands["status"],
        checks=checks,
        restarts=restarts,
        restarts_in_ms=restarts_in_ms,
        start_within_ms=table.duration("start_within", 30_000, 100, HOUR_MS),
        stop_within_ms=table.duration("stop_within", 30_000, 100, HOUR_MS),
        pid_file=pid_file,
        starts_in_ms=table.duration("starts_in", 0, 1, HOUR_MS),
        on_death=table.choice("on_death", ON_DEATH, ON_DEATH[0]),
    )


def _read_checks(service: Section, floating: Collection[str]) -> tuple[CheckSettings, ...]:
    checks: dict[str, CheckSettings] = {}
    for table in service.tables("alive", inline=True):
        check = _read_check(table, floating)
        if check is None:
            continue
        if check.name in checks:
            table.source.note(table.at, f"the service is asked this already: {check.name}")
        checks[check.name] = check
    return tuple(checks.values())


def _read_check(table: Section, floating: Collection[str]) -> CheckSettings | None:
    kinds = [kind for kind in HOST_OF if kind in table]
    targets = {kind: table.text(kind) for kind in HOST_OF}
    kind = kinds[0] if kinds else ""
    host = table.form(kind, HOST_OF[kind], "") if kind else ""
    target = unit_target(targets["unit"]) if kind == "unit" else targets.get(kind, "")
    expect = table.whole("expect", 0, 100, 599)
    name = table.text("name", target if kind == "http" else f"{kind} {target}")
    every_ms = table.duration("every", 1000, 50, HOUR_MS)
    timeout_ms = table.duration("timeout", 1000, 10, HOUR_MS)
    rise = table.whole("rise", 2, 1, 100)
    fall = table.whole("fall", 3, 1, 100)
    round_ms = every_ms + timeout_ms
    stale_after_ms = table.duration(
        "stale_after", max(STALE_AFTER_MS, 3 * round_ms), 100, 24 * HOUR_MS
    )
    retry_ms = table.duration("retry", min(RETRY_MS, every_ms), 10, HOUR_MS)
    table.close()
    if len(kinds) != 1:
        why = f"asks in one way: give exactly one of {listed(HOST_OF)}"
        table.source.note(table.at, why + (f", not {' and '.join(kinds)}" if kinds else ""))
        return None
    if kind != "http" and "expect" in table:
        table.note("expect", "is the status that http wants; leave it out here")
    if retry_ms > every_ms:
        table.note("retry", "is longer than every: asking again after a bad answer comes sooner")
    if stale_after_ms < round_ms:
        table.note("stale_after", "is shorter than every + timeout: the answer is always stale")
    return CheckSettings(
        name=name,
        kind=kind,
        target=target,
        every_ms=every_ms,
        timeout_ms=timeout_ms,
        rise=rise,
        fall=fall,
        stale_after_ms=stale_after_ms,
        expect=str(expect) if expect else "",
        floating=host in floating,
        retry_ms=retry_ms,
    )


def unit_target(text: str) -> str:
    """The unit's full name; the text as it is where that is no unit (noted elsewhere)."""
    try:
        return unit_name(text)
    except ValueError:
        return text
