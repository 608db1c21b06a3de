# SPDX-License-Identifier: GPL-2.0-or-later
"""[[group.NAME.route]]: what is read of a route, and what is said about a bad one."""

from pathlib import Path

import pytest

from agent.core.settings import RouteSettings
from tests.config.writing import only_problem, problems, read

ROUTE = "[[group.sbc.route]]\n"
MORE = """
[[group.sbc.address]]
address = ["fe80::100/64", "2001:db8:1::100/64"]
interface = "eth0"
vrid = 51
[[group.sbc.address]]
address = "10.3.0.100/24"
interface = "eth1"
vrid = 53
"""


def routes(folder: Path, *keys: str, more: str = "") -> tuple[RouteSettings, ...]:
    text = more + "".join(f"{ROUTE}{it}\n" for it in keys)
    return read(folder, ("#address", text)).groups["sbc"].routes


def mistake(folder: Path, keys: str, more: str = "") -> str:
    return only_problem(folder, ("#address", f"{more}{ROUTE}{keys}"))


def test_a_route_goes_over_the_groups_interface_from_its_first_address(tmp_path: Path) -> None:
    (route,) = routes(tmp_path, 'to = "192.0.2.0/24"\nvia = "10.1.0.1"')
    assert route == RouteSettings("192.0.2.0/24", 4, "eth0", "10.1.0.100", "10.1.0.1", 0, 254)


def test_every_key_of_a_route_is_read(tmp_path: Path) -> None:
    keys = 'to = "default"\nvia = "10.3.0.1"\ninterface = "eth1"\nsource = "10.3.0.100"\n'
    (route,) = routes(tmp_path, keys + "metric = 50\ntable = 1000", more=MORE)
    assert route == RouteSettings("default", 4, "eth1", "10.3.0.100", "10.3.0.1", 50, 1000)


@pytest.mark.parametrize(
    ("keys", "family", "source", "interface"),
    [
        ('to = "default"', 4, "10.1.0.100", "eth0"),
        ('to = "default"\nvia = "fe80::1"', 6, "2001:db8:1::100", "eth0"),
        ('to = "default"\nsource = "fe80::100"', 6, "fe80::100", "eth0"),
        ('to = "default"\nsource = "10.3.0.100"', 4, "10.3.0.100", "eth1"),
        ('to = "default"\ninterface = "eth1"', 4, "10.3.0.100", "eth1"),
        ('to = "0.0.0.0/0"\ninterface = "eth0"', 4, "10.1.0.100", "eth0"),
        ('to = "::/0"', 6, "2001:db8:1::100", "eth0"),
        ('to = "2001:DB8:2::/48"\nvia = "2001:db8:1::1"', 6, "2001:db8:1::100", "eth0"),
        ('to = "192.0.2.7/32"\ninterface = "eth0"\nsource = "10.3.0.100"', 4, "10.3.0.100", "eth0"),
    ],
)
def test_what_is_left_out_follows_from_the_rest(
    tmp_path: Path, keys: str, family: int, source: str, interface: str
) -> None:
    if keys == 'to = "default"':
        (route,) = routes(tmp_path, keys)
    else:
        (route,) = routes(tmp_path, keys, more=MORE)
    assert (route.family, route.source, route.interface) == (family, source, interface)


def test_a_default_route_has_one_spelling(tmp_path: Path) -> None:
    found = routes(
        tmp_path,
        'to = "0.0.0.0/0"\ninterface = "eth0"',
        'to = "::/0"',
        'to = "2001:DB8:2:0::/64"',
        more=MORE,
    )
    assert [it.to for it in found] == ["default", "default", "2001:db8:2::/64"]


def test_the_first_address_is_the_one_that_the_file_has_first(tmp_path: Path) -> None:
    two = ('"10.1.0.100/24"', '["10.1.0.200/24", "10.1.0.100/24"]')
    route = ("#address", f'{ROUTE}to = "default"')
    (found,) = read(tmp_path, route, two).groups["sbc"].routes
    assert found.source == "10.1.0.200"


def test_a_link_local_address_is_the_source_where_there_is_no_other(tmp_path: Path) -> None:
    more = MORE.replace(', "2001:db8:1::100/64"', "")
    (route,) = routes(tmp_path, 'to = "::/0"\nvia = "fe80::1"', more=more)
    assert route.source == "fe80::100"


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ("", '21: group.sbc.route[1].to: missing: "default" or a network, as in'),
        ('to = "192.0.2.0"', 'needs its prefix length; did you mean "192.0.2.0/32"'),
        ('to = "192.0.2.1/24"', 'is an address in a network; did you mean "192.0.2.0/24"'),
        ('to = "192.0.2.0/33"', 'must be "default" or a network, as in "192.0.2.0/24"'),
        ('to = "defualt"', 'must be "default" or a network, as in "192.0.2.0/24"'),
        (
            'to = "2001:db8::/32"',
            '22: group.sbc.route[1].to = "2001:db8::/32": '
            "is IPv6, and the group has no IPv6 address to be its source",
        ),
        (
            'to = "2001:db8::/32"\ninterface = "eth0"',
            "is IPv6, and the group has no IPv6 address to be its source",
        ),
        (
            'to = "default"\nvia = "2001:db8::1"',
            "is IPv6, and the group has no IPv6 address to be its source",
        ),
        (
            'to = "192.0.2.0/24"\nvia = "fe80::1"',
            '23: group.sbc.route[1].via = "fe80::1": must be IPv4, as the route is',
        ),
        ('to = "default"\nvia = "10.1.0.1/24"', 'did you mean "10.1.0.1"'),
        ('to = "default"\nvia = "127.0.0.1"', "is a loopback address; name another machine's"),
        (
            'to = "default"\nvia = "10.1.0.100"',
            "is an address of group sbc: a next hop is another machine (line 18)",
        ),
        (
            'to = "default"\nvia = "10.1.0.12"',
            "is a path of node lon2: a next hop is another machine (line 10)",
        ),
        (
            'to = "default"\ninterface = "eth7"',
            'route[1].interface = "eth7": no address of this group is there: there are eth0; '
            "did you mean eth0",
        ),
        ('to = "default"\ninterface = "eth 0"', "must be an interface, 1..15 letters"),
        (
            'to = "default"\nsource = "10.1.0.101"',
            'source = "10.1.0.101": must be one of the group\'s IPv4 addresses: '
            "there are 10.1.0.100",
        ),
        ('to = "default"\nsource = "10.1.0.100/24"', 'did you mean "10.1.0.100"'),
        ('to = "default"\nmetric = -1', "must be 0..4294967295"),
        ('to = "default"\ntable = 0', "must be 1..4294967295"),
        ('to = "default"\ntable = "main"', "must be a whole number"),
        ('to = "default"\ntable = 255', "is the kernel's own; leave it out for the main table"),
        ('to = "default"\ngateway = "10.1.0.1"', "unknown key; known here: to, via, source"),
    ],
)
def test_one_mistake_is_one_line(tmp_path: Path, keys: str, expected: str) -> None:
    assert expected in mistake(tmp_path, keys)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ('to = "default"', "route[1].interface: missing: one of eth0, eth1"),
        (
            'to = "::/0"\ninterface = "eth1"',
            'interface = "eth1": the group has no IPv6 address there; '
            "name one of its others in source",
        ),
        (
            'to = "192.0.2.0/24"\nsource = "fe80::100"\ninterface = "eth0"',
            "must be one of the group's IPv4 addresses: there are 10.1.0.100, 10.3.0.100",
        ),
    ],
)
def test_one_mistake_of_a_group_on_two_interfaces_is_one_line(
    tmp_path: Path, keys: str, expected: str
) -> None:
    assert expected in mistake(tmp_path, keys, MORE)


def test_a_route_must_be_an_array_of_tables(tmp_path: Path) -> None:
    line = only_problem(tmp_path, ("#group", 'route = "default"'))
    assert line == (
        '16: group.sbc.route = "default": must be an array of tables: [[group.sbc.route]]'
    )


def test_of_many_addresses_a_message_shows_a_few(tmp_path: Path) -> None:
    many = ", ".join(f'"10.1.0.{n}/24"' for n in range(100, 200))
    route = ("#address", f'{ROUTE}to = "default"\nsource = "10.1.0.9"')
    line = only_problem(tmp_path, route, ('"10.1.0.100/24"', f"[{many}]"))
    assert line.endswith("there are 10.1.0.100, 10.1.0.101, 10.1.0.102, ...")


def test_a_route_is_there_once(tmp_path: Path) -> None:
    twice = f'{ROUTE}to = "default"\n{ROUTE}to = "0.0.0.0/0"\nvia = "10.1.0.1"\n'
    assert only_problem(tmp_path, ("#address", twice)) == (
        '24: group.sbc.route[2].to = "0.0.0.0/0": '
        "group sbc has this route on lon1; give one of them another metric (line 21)"
    )
    for other in ("metric = 1", "table = 10"):
        assert problems(tmp_path, ("#address", f"{twice}{other}")) == []


def test_over_ipv6_no_metric_and_1000_are_one(tmp_path: Path) -> None:
    twice = f'{ROUTE}to = "::/0"\n{ROUTE}to = "::/0"\nmetric = 1000\n'
    assert "has this route on lon1" in only_problem(tmp_path, ("#address", MORE + twice))
    four = twice.replace("::/0", "192.0.2.0/24").replace("metric", 'interface = "eth0"\nmetric')
    four = four.replace(f'24"\n{ROUTE}', f'24"\ninterface = "eth0"\n{ROUTE}')
    assert problems(tmp_path, ("#address", MORE + four)) == []


def test_two_groups_of_one_node_cannot_have_the_same_route(tmp_path: Path) -> None:
    route = f'{ROUTE}to = "default"\n'
    web = """[group.web]
nodes = ["lon2"]
[[group.web.address]]
address = "10.1.0.103/24"
interface = "eth0"
vrid = 52
"""
    ours, theirs = ("#address", route), ("#end", web + route.replace("sbc", "web"))
    line = only_problem(tmp_path, ours, theirs)
    assert "group sbc has this route on lon2; give one of them another metric (line 21)" in line
    apart = ('nodes = ["lon1", "lon2"]', 'nodes = ["lon1"]')
    assert problems(tmp_path, ours, theirs, apart) == []
