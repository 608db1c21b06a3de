# SPDX-License-Identifier: GPL-2.0-or-later
"""[watch.KIND], [device.NAME], [nms.NAME]: what is watched, and who is told."""

from collections.abc import Mapping

from agent.config_forms import host_address
from agent.config_nodes import read_site
from agent.config_section import Section, did_you_mean, listed
from agent.core.settings import (
    DeviceSettings,
    NmsSettings,
    NodeSettings,
    SnmpSettings,
    WatchSettings,
)

WATCHES = ("disk", "inodes", "memory", "swap", "fds", "cpu", "psi")
LEVELS = ("noAuthNoPriv", "authNoPriv", "authPriv")
KEYS_OF = {"2c": ("community", "community_file"), "3": ("user", "level", "secrets_file")}
"""SNMP version -> the keys that belong to it."""
DAY_MS = 86_400_000


def read_watches(root: Section) -> dict[str, WatchSettings]:
    """One for each kind: what the file says, and the defaults."""
    watches = {kind: WatchSettings(kind) for kind in WATCHES}
    for kind, table in root.named("watch", WATCHES).items():
        usual = watches[kind]
        watch = WatchSettings(
            kind=kind,
            warn_ms=table.duration("warn", usual.warn_ms, 1000, 366 * DAY_MS),
            critical_ms=table.duration("critical", usual.critical_ms, 1000, 366 * DAY_MS),
            warn_pct=table.share("warn_pct", usual.warn_pct),
            critical_pct=table.share("critical_pct", usual.critical_pct),
            switch_over_ms=table.duration("switch_over", usual.switch_over_ms, 0, 366 * DAY_MS),
            every_ms=table.duration("every", usual.every_ms, 100, DAY_MS),
            only=_read_only(table, kind),
        )
        if watch.critical_ms > watch.warn_ms:
            key = "critical" if "critical" in table else "warn"
            table.note(key, "the warning must come first: warn is the longer time")
        if watch.critical_pct < watch.warn_pct:
            key = "critical_pct" if "critical_pct" in table else "warn_pct"
            table.note(key, "the warning must come first: warn_pct is the lower level")
        table.close()
        watches[kind] = watch
    return watches


def _read_only(table: Section, kind: str) -> tuple[str, ...]:
    if kind not in ("disk", "inodes"):
        if "only" in table:
            table.value("only", list)
            table.note("only", "belongs to disk and inodes: mount points")
        return ()
    found = []
    for at, text in table.texts("only"):
        if text.startswith("/"):
            found.append(text.rstrip("/") or "/")
        else:
            table.source.note(at, 'must be a mount point, as in "/var"', text)
    return tuple(found)


def read_devices(
    root: Section, sites: tuple[str, ...], nodes: Mapping[str, NodeSettings]
) -> dict[str, DeviceSettings]:
    """The devices, as the file orders them."""
    devices = {}
    for name, table in root.named("device").items():
        feeds: dict[str, None] = {}
        for at, node in table.texts("feeds"):
            if node not in nodes:
                why = f"no such [node.*]: there are {listed(nodes)}{did_you_mean(node, nodes)}"
                table.source.note(at, why, node)
            feeds[node] = None
        every_ms = table.duration("every", 5000, 500, DAY_MS)
        usual_ms = max(30_000, 3 * every_ms)
        stale_after_ms = table.duration("stale_after", usual_ms, 1000, 7 * DAY_MS)
        if stale_after_ms < every_ms:
            table.note("stale_after", "is shorter than every: the reading is always stale")
        devices[name] = DeviceSettings(
            name=name,
            address=table.form("address", host_address, "", needed='as in "10.1.0.60"'),
            site=read_site(table, sites),
            snmp=read_snmp(table, 161),
            feeds=tuple(feeds),
            every_ms=every_ms,
            stale_after_ms=stale_after_ms,
            runtime_low_s=table.duration("runtime_low", 300_000, 0, DAY_MS) // 1000,
        )
        table.close()
    return devices


def read_nms(root: Section) -> dict[str, NmsSettings]:
    """Who is told, as the file orders them."""
    receivers = {}
    for name, table in root.named("nms").items():
        receivers[name] = NmsSettings(
            name=name,
            address=table.form("address", host_address, "", needed='as in "10.1.0.200"'),
            snmp=read_snmp(table, 162),
            inform=table.flag("inform", False),
        )
        table.close()
    return receivers


def read_snmp(owner: Section, usual_port: int) -> SnmpSettings:
    """How to speak SNMP with somebody: the key `snmp` of a table, which it needs."""
    table = owner.table("snmp")
    if table is None:
        if "snmp" not in owner:
            why = 'missing: as in { version = "2c", community = "..." }'
            owner.note("snmp", why)
        return SnmpSettings()
    version = table.choice("version", tuple(KEYS_OF), "2c")
    if "version" not in table:
        table.note("version", 'missing: "2c" or "3"')
    port = table.whole("port", usual_port, 1, 65535)
    for other, keys in KEYS_OF.items():
        for key in keys if other != version else ():
            if key in table:
                table.note(key, f"belongs to version {other}, this is {version}", secret=True)
    read = _read_version_3 if version == "3" else _read_version_2c
    snmp = read(table, port)
    for keys in KEYS_OF.values():
        for key in keys:
            table.know(key)
    table.close(secret=True)
    return snmp


def _read_version_2c(table: Section, port: int) -> SnmpSettings:
    given = [key for key in KEYS_OF["2c"] if key in table]
    if len(given) != 1:
        what = "not both" if given else "there is none"
        table.note("community", f"give a community, or a community_file: {what}", secret=True)
    if "community" in table and type(table.content["community"]) is not str:
        table.note("community", "must be text in quotes", secret=True)
        return SnmpSettings(version="2c", port=port)
    community = table.text("community")
    return SnmpSettings(
        version="2c",
        community=community,
        community_file=table.secret_file("community_file"),
        port=port,
    )


def _read_version_3(table: Section, port: int) -> SnmpSettings:
    level = table.choice("level", LEVELS, "authPriv")
    secrets_file = table.secret_file("secrets_file")
    if level != "noAuthNoPriv" and "secrets_file" not in table:
        table.note("secrets_file", f"missing: level {level} has secrets; name the file with them")
    return SnmpSettings(
        version="3",
        user=table.text("user", needed="the SNMPv3 user"),
        level=level,
        secrets_file=secrets_file,
        port=port,
    )
