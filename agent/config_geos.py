# SPDX-License-Identifier: GPL-2.0-or-later
"""[geo.NAME]: which site the world is sent to, and what DNS then says."""

from collections.abc import Mapping

from agent.config_forms import domain, record_value, server
from agent.config_lines import At
from agent.config_section import Section, did_you_mean, listed
from agent.core.settings import GeoSettings, GroupSettings, NodeSettings, RecordSettings

TYPES = ("A", "AAAA", "CNAME", "SRV", "NAPTR")
LATER_ARBITER = {
    word: 'use "manual": a person moves the world with `standpipe failover`'
    for word in ("etcd", "dns")
}


def read_geos(
    root: Section,
    sites: tuple[str, ...],
    nodes: Mapping[str, NodeSettings],
    groups: Mapping[str, GroupSettings],
) -> dict[str, GeoSettings]:
    """The geo entries, as the file orders them."""
    site_of = {name: nodes[group.nodes[0]].site for name, group in groups.items() if group.nodes}
    return {
        name: _read_geo(name, table, sites, groups, site_of)
        for name, table in root.named("geo").items()
    }


def _read_geo(
    name: str,
    table: Section,
    sites: tuple[str, ...],
    groups: Mapping[str, GroupSettings],
    site_of: Mapping[str, str],
) -> GeoSettings:
    own_sites = _read_own_sites(table, sites)
    arbiter = table.choice("arbiter", ("manual",), "manual", LATER_ARBITER)
    zone = table.form("zone", domain, "", needed="the zone that holds its names")
    geo = GeoSettings(
        name=name,
        sites=own_sites,
        groups=_read_site_groups(table, own_sites, groups, site_of),
        zone=zone,
        servers=_read_servers(table),
        tsig_file=table.secret_file("tsig_file", needed="the key that may update the zone"),
        records=_read_records(table, own_sites, zone),
        arbiter=arbiter,
    )
    table.close()
    return geo


def _read_own_sites(table: Section, sites: tuple[str, ...]) -> tuple[str, ...]:
    found: dict[str, At] = {}
    for at, site in table.texts("sites", needed="preferred first"):
        if site not in sites:
            why = f"no such [site.*]: there are {listed(sites)}{did_you_mean(site, sites)}"
            table.source.note(at, why, site)
        elif site in found:
            table.source.note(at, "is in the list already", site, found[site])
        else:
            found[site] = at
    if len(found) == 1 and len(table.content["sites"]) == 1:
        table.note("sites", "needs two sites at least, to have somewhere to go")
    return tuple(found)


def _read_site_groups(
    table: Section,
    own_sites: tuple[str, ...],
    groups: Mapping[str, GroupSettings],
    site_of: Mapping[str, str],
) -> dict[str, str]:
    chosen = table.table("groups")
    if chosen is None:
        if "groups" not in table:
            table.note("groups", 'missing: who serves where, as in { london = "sbc-london" }')
        return {}
    found = {}
    for site in own_sites:
        group = chosen.text(site, needed=f"the group that serves in {site}")
        if group and group not in groups:
            why = f"no such [group.*]: there are {listed(groups)}{did_you_mean(group, groups)}"
            chosen.note(site, why)
        elif group and site_of.get(group, site) != site:
            chosen.note(site, f"group {group} lives in {site_of[group]}, not in {site}")
        elif group:
            found[site] = group
    chosen.close()
    return found


def _read_servers(table: Section) -> tuple[str, ...]:
    found: dict[str, At] = {}
    for at, text in table.texts("servers", needed="the zone's name servers, the primary first"):
        try:
            address = server(text)
        except ValueError as error:
            table.source.note(at, str(error), text)
            continue
        if address in found:
            table.source.note(at, "is in the list already", text, found[address])
        found.setdefault(address, at)
    return tuple(found)


def _read_records(
    table: Section, own_sites: tuple[str, ...], zone: str
) -> tuple[RecordSettings, ...]:
    records: dict[tuple[str, str], RecordSettings] = {}
    places: dict[str, At] = {}
    entries = table.tables("record")
    if "record" not in table:
        table.note("record", f"missing: at least one [[geo.{table.at[-1]}.record]]")
    for entry in entries:
        record = _read_record(entry, own_sites, zone)
        alone = [kind for name, kind in records if name == record.name and record.name]
        if record.type in alone:
            entry.note("name", f"has a record of type {record.type} already", places[record.name])
        elif alone and "CNAME" in (*alone, record.type):
            entry.note("name", "a CNAME stands alone (RFC 1034, 3.6.2)", places[record.name])
        records[record.name, record.type] = record
        places.setdefault(record.name, entry.spot("name"))
    return tuple(records.values())


def _read_record(entry: Section, own_sites: tuple[str, ...], zone: str) -> RecordSettings:
    name = entry.form("name", domain, "", needed=f"a name in {zone or 'the zone'}")
    if name and zone and name != zone and not name.endswith(f".{zone}"):
        hint = "" if "." in name else f'; did you mean "{name}.{zone}"'
        entry.note("name", f"is not in the zone {zone}{hint}")
    if "type" not in entry:
        entry.note("type", f"missing: one of {listed(TYPES)}")
    kind = entry.choice("type", TYPES, "A")
    ttl_s = entry.whole("ttl", 30, 1, 86_400)
    values = {}
    for site in own_sites:
        good = []
        needed = f"what {name or 'it'} is in {site}"
        for at, text in entry.texts(site, needed=needed):
            try:
                good.append(record_value(kind, text))
            except ValueError as error:
                entry.source.note(at, str(error), text)
        if kind == "CNAME" and len(good) > 1:
            entry.note(site, "a CNAME has one value (RFC 2181, 10.1)")
        values[site] = tuple(good)
    entry.close()
    return RecordSettings(name, kind, ttl_s, values)
