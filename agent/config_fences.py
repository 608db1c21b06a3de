# SPDX-License-Identifier: GPL-2.0-or-later
"""[node.NAME.fence]: how a node is switched off from outside."""

from collections.abc import Mapping
from dataclasses import replace

from agent.config_forms import management_controller, outlet
from agent.config_lines import At
from agent.config_section import Section, did_you_mean, listed
from agent.config_watches import read_snmp
from agent.core.settings import (
    DeviceSettings,
    FenceSettings,
    NodeSettings,
    OutletSettings,
    SnmpSettings,
)

KEYS_OF = {
    "pdu": ("outlets", "snmp"),
    "ipmi": ("address", "user", "password_file"),
    "command": ("off", "on", "status"),
}
"""Kind of fence -> the keys that belong to it."""
WITHIN_MS = FenceSettings("pdu").within_ms
SNMP_PORT = 161

Outlets = dict[tuple[str, str], tuple[At, str]]
"""Device and outlet -> where the file says so, and which node it feeds."""


def read_fences(
    tables: Mapping[str, Section],
    nodes: Mapping[str, NodeSettings],
    devices: Mapping[str, DeviceSettings],
) -> dict[str, NodeSettings]:
    """The nodes, each with its fence. `tables`: node -> its [node.NAME.fence]."""
    taken: Outlets = {}
    fenced = dict(nodes)
    for name, table in tables.items():
        fence = _read_fence(name, table, devices, taken)
        if fence is not None:
            fenced[name] = replace(nodes[name], fence=fence)
    return fenced


def _read_fence(
    node: str, table: Section, devices: Mapping[str, DeviceSettings], taken: Outlets
) -> FenceSettings | None:
    if "kind" not in table:
        table.note("kind", f"missing: one of {listed(KEYS_OF)}")
    kind = table.choice("kind", tuple(KEYS_OF), "pdu")
    if table.content.get("kind") != kind:
        return None
    for other, keys in KEYS_OF.items():
        for key in keys if other != kind else ():
            table.know(key)
            if key in table:
                table.note(key, f"belongs to kind {other}, this is {kind}", secret=key == "snmp")
    within_ms = table.duration("within", WITHIN_MS, 1000, 600_000)
    match kind:
        case "ipmi":
            fence = _read_ipmi(table)
        case "command":
            fence = _read_commands(table)
        case _:
            fence = FenceSettings("pdu", _read_outlets(node, table, devices, taken))
    table.close(secret=True)
    return replace(fence, within_ms=within_ms)


def _read_ipmi(table: Section) -> FenceSettings:
    needed = 'of the BMC, as in "10.1.0.61"'
    return FenceSettings(
        "ipmi",
        address=table.form("address", management_controller, "", needed=needed),
        user=table.text("user", needed="of the BMC"),
        password_file=table.secret_file("password_file", needed="the file with the BMC's password"),
    )


def _read_commands(table: Section) -> FenceSettings:
    return FenceSettings(
        "command",
        off=table.text("off", needed="the command that switches it off"),
        on=table.text("on"),
        status=table.text("status", needed="ends with 0 while it is on, with 1 once it is off"),
    )


def _read_outlets(
    node: str, table: Section, devices: Mapping[str, DeviceSettings], taken: Outlets
) -> tuple[OutletSettings, ...]:
    own_snmp = read_snmp(table, SNMP_PORT) if "snmp" in table else None
    table.know("snmp")
    entries = table.tables("outlets", inline=True)
    if not entries and table.content.get("outlets", []) == []:
        why = 'all that feed it, as in [{ device = "pdu1", outlet = "5" }]'
        table.note("outlets", ("is empty: " if "outlets" in table else "missing: ") + why)
    found = []
    for entry in entries:
        read = _read_outlet(entry, devices, own_snmp)
        if read is not None:
            found.append(read)
            key = read.device, read.outlet
            see, whose = taken.setdefault(key, (entry.at, node))
            if see != entry.at:
                same = "is in the list already" if whose == node else f"feeds node {whose} as well"
                entry.note("outlet", same, see)
    return tuple(found)


def _read_outlet(
    entry: Section, devices: Mapping[str, DeviceSettings], own_snmp: SnmpSettings | None
) -> OutletSettings | None:
    name = entry.text("device", needed="the PDU, one of [device.*]")
    number = entry.form("outlet", outlet, "", needed='as the PDU counts them, "5" or "1.5"')
    snmp = read_snmp(entry, SNMP_PORT) if "snmp" in entry else own_snmp
    entry.know("snmp")
    entry.close()
    if name and name not in devices:
        why = f"no such [device.*]: there are {listed(devices)}{did_you_mean(name, devices)}"
        entry.note("device", why)
    elif name and number:
        device = devices[name]
        return OutletSettings(name, device.address, snmp or device.snmp, number)
    return None
