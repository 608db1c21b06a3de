# SPDX-License-Identifier: GPL-2.0-or-later
"""What is said about each mistake: where, what, and what would be right."""

from pathlib import Path

import pytest

from tests.config.writing import only_problem, problems

ADDRESS = 'address = "10.1.0.100/24"'
GEO = """[geo.voice]
sites = ["london", "paris"]
groups = { london = "sbc", paris = "par" }
zone = "example.net"
servers = ["192.0.2.53", "192.0.2.54:5353", "[2001:db8::53]:53", "2001:db8::54"]
tsig_file = "/etc/standpipe/dns.key"
[[geo.voice.record]]
name = "sip.example.net"
type = "A"
ttl = 30
london = ["192.0.2.10"]
paris = ["198.51.100.10"]
"""
UPS = """[device.ups1]
address = "10.1.0.60"
site = "london"
snmp = { version = "2c", community = "s3cret" }
"""


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (
            "#group",
            'adverts = "200ms"',
            '16: group.sbc.adverts = "200ms": unknown key; did you mean advert',
        ),
        ("#group", 'advert = "9ms"', '16: group.sbc.advert = "9ms": must be 10ms..40s'),
        ("#group", 'advert = "41s"', '16: group.sbc.advert = "41s": must be 10ms..40s'),
        (
            "#group",
            "advert = 200",
            '16: group.sbc.advert = 200: a time needs its unit; did you mean "200s"',
        ),
        (
            "#group",
            'advert = "10 seconds"',
            '"10 seconds": not a time: write a number and ms, s, m, h or d, as in "10s"',
        ),
        ("#group", 'advert = "15ms"', 'did you mean "20ms"'),
        (
            "#group",
            'standby = "hott"',
            '16: group.sbc.standby = "hott": must be one of hot, cold, realtime; did you mean hot',
        ),
        (
            "#group",
            'failback = "always"',
            'must be manual, never, or a time of good health, as in "10m"',
        ),
        ("#group", 'failback = "100ms"', "must be 1s..7d of good health"),
        ("#group", 'multicast = "yes"', '16: group.sbc.multicast = "yes": must be true or false'),
        ("#group", "standby = true", "16: group.sbc.standby = true: must be text in quotes"),
        (
            'nodes = ["lon1", "lon2"]',
            'nodes = ["lon1", "lom2"]',
            'nodes[2] = "lom2": no such [node.*]: there are lon1, lon2, par1; did you mean lon2',
        ),
        (
            'nodes = ["lon1", "lon2"]',
            'nodes = ["lon1", "lon1"]',
            "is in the list already (line 15)",
        ),
        (
            'nodes = ["lon1", "lon2"]',
            "nodes = []",
            "15: group.sbc.nodes = []: is empty: who may own it, preferred first",
        ),
        (
            'nodes = ["lon1", "lon2"]',
            "",
            "14: group.sbc.nodes: missing: who may own it, preferred first",
        ),
        (
            'nodes = ["lon1", "lon2"]',
            'nodes = "lon1"',
            '15: group.sbc.nodes = "lon1": must be a list; did you mean ["lon1"]',
        ),
        (
            'nodes = ["lon1", "lon2"]',
            "nodes = [1]",
            "15: group.sbc.nodes[1] = 1: must be text in quotes",
        ),
        (
            ADDRESS,
            'address = "10.1.0.100"',
            '18: group.sbc.address[1].address = "10.1.0.100": needs its prefix length',
        ),
        (ADDRESS, 'address = "10.1.0.256/24"', "must be an IP address"),
        (ADDRESS, 'address = "10.1.0.100/33"', "the prefix length must be 0..32"),
        (ADDRESS, 'address = "fe80::1%eth0/64"', "leave out the %"),
        (ADDRESS, 'address = "224.0.0.1/24"', "must be a unicast address"),
        (ADDRESS, 'address = "10.1.0.255/24"', "is the broadcast address of its network"),
        (ADDRESS, 'address = "10.1.0.11/24"', "is a path of node lon1 already (line 7)"),
        (ADDRESS, "address = []", "18: group.sbc.address[1].address = []: is empty"),
        ("#service", 'alive = [{ tcp = "127.0.0.1" }]', "the port must be 1..65535"),
        (
            "#service",
            'alive = [{ tcp = "::1:5060" }]',
            'an IPv6 address goes in brackets: "[2001:db8::1]:5060"',
        ),
        ("#service", 'alive = [{ tcp = "a:1", unit = "b" }]', "not tcp and unit"),
        (
            "#service",
            'alive = [{ tcp = "a:1" }, { tcp = "a:1" }]',
            "24: group.sbc.service[1].alive[2]: the service is asked this already: tcp a:1",
        ),
        ("#service", 'alive = [{ tcp = "a:1", expect = 200 }]', "is the status that http wants"),
        ("#service", 'alive = [{ http = "http://a/", expect = 99 }]', "must be 100..599"),
        (
            "#service",
            'alive = [{ http = "127.0.0.1:80/x" }]',
            'did you mean "http://127.0.0.1:80/x"',
        ),
        ("#service", 'alive = [{ sip = "127.0.0.1:5060" }]', 'did you mean "udp://127.0.0.1:5060"'),
        (
            "#service",
            'alive = [{ sip = "tls://127.0.0.1:5060" }]',
            "not in this version: use udp://",
        ),
        ("#service", 'alive = [{ process = "/usr/bin/x" }]', 'did you mean "x"'),
        (
            "#service",
            'alive = [{ tcp = "a:1", every = "1m", stale_after = "1m" }]',
            "is shorter than every + timeout",
        ),
        ("#service", 'alive = { tcp = "a:1" }', "must be a list of { ... }"),
        ("#service", 'restarts = "3 times in 10m"', 'must be as in "3 in 10m"'),
        ("#service", 'start = "x"', "give a unit, or start, stop and status commands, not both"),
        (
            'unit = "kamailio.service"',
            'start = "x"\nstop = "y"',
            "missing: start, stop and status go together, there is start, stop",
        ),
        ('unit = "kamailio.service"', "", "nothing to run and nothing to ask"),
        (
            "#service",
            '[[group.sbc.service]]\nunit = "kamailio"',
            "another service of this group is kamailio; give it a name",
        ),
        (
            "[site.paris]",
            "[site.paris]\ntown = 1",
            "5: site.paris.town = 1: unknown key; known here: none",
        ),
        (
            "[site.paris]",
            "[site.paris]\n[site.ttl]",
            "this name is taken by a key of [[geo.NAME.record]]",
        ),
        (
            'site = "paris"',
            'site = "pariss"',
            '"pariss": no such [site.*]: there are london, paris; did you mean paris',
        ),
        ('["10.2.0.11"]', '["10.1.0.11"]', "is a path of node lon1 already (line 7)"),
        (
            '["10.2.0.11"]',
            '["10.2.0.11/24"]',
            'an address without a prefix length; did you mean "10.2.0.11"',
        ),
        ('["10.2.0.11"]', '["par1.example.net"]', "must be an IP address"),
        ('name = "callcentre"', 'name = "x"\npeer_port = 65535', "must be 1..65533"),
        ('[cluster]\nname = "callcentre"', "", "1: cluster: missing: write [cluster]"),
        (
            "#end",
            "[trunk.bt]\ngateway = 'gw1'",
            "not in this version: watch the carrier with a sip check",
        ),
        (
            "#end",
            "[watch.disc]",
            "no such watch: there are disk, inodes, memory, swap, fds, cpu, psi; did you mean disk",
        ),
        ("#end", "[watch.disk]\nwarn_pct = 101", "must be above 0 and at most 100 percent"),
        ("#end", "[watch.disk]\nwarn_pct = nan", "must be above 0 and at most 100 percent"),
        ("#end", '[watch.disk]\nwarn_pct = "90%"', "must be a number of percent, as in 90"),
        (
            "#end",
            "[watch.disk]\nwarn_pct = 98",
            "the warning must come first: warn_pct is the lower level",
        ),
        (
            "#end",
            '[watch.disk]\nwarn = "1h"',
            "the warning must come first: warn is the longer time",
        ),
        ("#end", '[watch.cpu]\nonly = ["/"]', "belongs to disk and inodes"),
        ("#end", '[watch.disk]\nonly = ["var"]', 'must be a mount point, as in "/var"'),
        ("#end", "[gruop.x]", "gruop = {...}: unknown key; did you mean group"),
        ("#end", "[device]\nx = 1", "belongs into a table [device.NAME]"),
        ("#end", '[device."a b"]\nx = 1', "a name has 1..63 letters"),
    ],
)
def test_one_mistake_is_one_line(tmp_path: Path, before: str, after: str, expected: str) -> None:
    assert expected in only_problem(tmp_path, (before, after))


def lines(folder: Path, *changes: tuple[str, str]) -> list[str]:
    return [str(problem).partition("standpipe.toml:")[2] for problem in problems(folder, *changes)]


def test_an_address_belongs_to_one_group(tmp_path: Path) -> None:
    assert lines(tmp_path, (ADDRESS, 'address = "10.2.0.100/24"')) == [
        '28: group.par.address[1].address = "10.2.0.100/24": '
        "is an address of group sbc already (line 18)"
    ]


def test_a_check_of_no_known_kind_has_two_lines(tmp_path: Path) -> None:
    assert lines(tmp_path, ("#service", 'alive = [{ tpc = "a:1" }]')) == [
        '24: group.sbc.service[1].alive[1].tpc = "a:1": unknown key; did you mean tcp',
        "24: group.sbc.service[1].alive[1]: asks in one way: "
        "give exactly one of tcp, http, sip, command, process, unit",
    ]


def test_two_groups_at_one_site_need_two_router_numbers(tmp_path: Path) -> None:
    group = """[group.web]
nodes = ["lon2"]
[[group.web.address]]
address = "10.1.0.103/24"
interface = "eth0"
vrid = 51
"""
    assert lines(tmp_path, ("#end", group)) == [
        "36: group.web.address[1].vrid = 51: is the virtual router of group sbc for IPv4 on eth0; "
        "free there: 52 (line 20)"
    ]
    for fine in (("vrid = 51\n", "vrid = 52\n"), ("eth0", "eth1"), ("10.1.0.103/24", "fd00::9/64")):
        assert lines(tmp_path, ("#end", group.replace(*fine))) == []


def test_a_group_needs_an_address(tmp_path: Path) -> None:
    assert only_problem(tmp_path, ("#end", '[group.web]\nnodes = ["lon2"]')) == (
        "31: group.web.address: missing: at least one [[group.web.address]]"
    )


def test_a_group_lives_in_one_site(tmp_path: Path) -> None:
    found = lines(tmp_path, ('nodes = ["lon1", "lon2"]', 'nodes = ["lon1", "par1"]'))
    assert found[0].startswith('15: group.sbc.nodes = ["lon1", "par1"]: in sites london, paris: ')


def test_a_cold_standby_must_be_startable(tmp_path: Path) -> None:
    cold = ("#group", 'standby = "cold"')
    asked = ('unit = "kamailio.service"', 'alive = [{ tcp = "127.0.0.1:1" }]')
    assert "a cold standby must be started" in only_problem(tmp_path, cold, asked)
    assert problems(tmp_path, cold) == problems(tmp_path, asked) == []


def test_a_good_geo_entry_is_taken(tmp_path: Path) -> None:
    assert lines(tmp_path, ("#end", GEO)) == []


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ('"paris"]', '"pari"]', "no such [site.*]: there are london, paris; did you mean paris"),
        ('sites = ["london", "paris"]', 'sites = ["london"]', "needs two sites at least"),
        (
            'paris = "par"',
            'paris = "pa"',
            "no such [group.*]: there are sbc, par; did you mean par",
        ),
        ('paris = "par"', 'paris = "sbc"', "group sbc lives in london, not in paris"),
        (', paris = "par"', "", "geo.voice.groups.paris: missing: the group that serves in paris"),
        ("zone =", "zones =", "geo.voice.zone: missing: the zone that holds its names"),
        ('"192.0.2.53"', '"ns1.example.net"', "must be an IP address"),
        ('"192.0.2.53"', '"192.0.2.54:5353"', "is in the list already"),
        ('"192.0.2.53"', '"192.0.2.53:x"', "the port must be 1..65535"),
        ("tsig_file =", "tsig =", "geo.voice.tsig_file: missing: the key that may update"),
        ("zone =", 'arbiter = "etcd"\nzone =', 'not in this version: use "manual"'),
        ('name = "sip.example.net"', 'name = "sip"', 'did you mean "sip.example.net"'),
        ('name = "sip.example.net"', 'name = "sip.example.org"', "is not in the zone example.net"),
        ('type = "A"', 'type = "MX"', "must be one of A, AAAA, CNAME, SRV, NAPTR"),
        ('type = "A"', 'type = "AAAA"', "is IPv4: it belongs into a record of type A"),
        ('type = "A"', 'type = "SRV"', "must be priority weight port target"),
        ('type = "A"', 'type = "NAPTR"', "must be order, preference, flags"),
        ("ttl = 30", "ttl = 0", "must be 1..86400"),
        ('paris = ["198.51.100.10"]', "paris = []", "is empty: what sip.example.net is in paris"),
        (
            'paris = ["198.51.100.10"]',
            'parris = ["198.51.100.10"]',
            "missing: what sip.example.net",
        ),
    ],
)
def test_a_mistake_in_a_geo_entry(tmp_path: Path, before: str, after: str, expected: str) -> None:
    assert GEO.count(before) == 1
    found = lines(tmp_path, ("#end", GEO.replace(before, after)))
    assert any(expected in line for line in found), found


def test_names_with_two_kinds_of_record(tmp_path: Path) -> None:
    record = GEO[GEO.index("[[geo.voice.record]]") :]
    again = lines(tmp_path, ("#end", GEO + record))
    assert again == [
        '44: geo.voice.record[2].name = "sip.example.net": has a record of type A already (line 38)'
    ]
    alias = record.replace('"A"', '"CNAME"').replace("192.0.2.10", "a.example.net")
    beside = lines(tmp_path, ("#end", GEO + alias.replace("198.51.100.10", "b.example.net")))
    assert len(beside) == 1
    assert "a CNAME stands alone" in beside[0]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("10.1.0.60", "ups1.example.net", "must be an IP address"),
        ('version = "2c"', "version = 2", 'must be text in quotes; did you mean "2"'),
        ('version = "2c"', 'version = "2"', "must be one of 2c, 3; did you mean 2c"),
        ('version = "2c"', 'version = "3"', "community: belongs to version 2c, this is 3"),
        (', community = "s3cret"', "", "give a community, or a community_file: there is none"),
        ("s3cret", 's3cret", community_file = "/x', "community_file: not both"),
        ("community", "comunity", "comunity"),
        ('"s3cret"', "5", "community: must be text in quotes"),
        ("snmp = ", "smnp = ", 'snmp: missing: as in { version = "2c"'),
        ('site = "london"', "", "site: missing: one of london, paris"),
        (
            'site = "london"',
            'site = "london"\nfeeds = ["lon3"]',
            "no such [node.*]: there are lon1",
        ),
        (
            'site = "london"',
            'site = "london"\nevery = "1m"\nstale_after = "30s"',
            "is shorter than",
        ),
    ],
)
def test_a_mistake_in_a_device(tmp_path: Path, before: str, after: str, expected: str) -> None:
    found = lines(tmp_path, ("#end", UPS.replace(before, after)))
    assert any(expected in line for line in found), found
    assert not any("s3cret" in line for line in found), found


def test_version_3_needs_a_user_and_a_file_of_secrets(tmp_path: Path) -> None:
    found = lines(tmp_path, ("#end", UPS.replace('"2c", community = "s3cret"', '"3"')))
    assert [line.partition(": ")[2] for line in found] == [
        "device.ups1.snmp.secrets_file: missing: level authPriv has secrets; "
        "name the file with them",
        "device.ups1.snmp.user: missing: the SNMPv3 user",
    ]


def test_all_mistakes_are_said_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    found = problems(
        tmp_path,
        ('name = "callcentre"', 'nam = "callcentre"'),
        ('["10.2.0.11"]', '["10.2.0"]'),
        ("#address", 'vird = "x"'),
        ("#end", "[watch.cpus]"),
    )
    assert [problem.line for problem in found] == sorted(problem.line for problem in found)
    assert {problem.path for problem in found} == {
        "cluster.name",
        "cluster.nam",
        "node.par1.paths[1]",
        "group.sbc.address[1].vird",
        "watch.cpus",
    }
