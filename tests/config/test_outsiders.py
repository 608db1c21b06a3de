# SPDX-License-Identifier: GPL-2.0-or-later
"""Routers that are no nodes: how the nodes rank beside them, who is a plain peer, who a gateway."""

from pathlib import Path

import pytest

from agent.core.settings import GroupSettings
from tests.config.writing import only_problem, problems, read

ADDRESS = 'address = "10.1.0.100/24"'
BOTH = (ADDRESS, 'address = ["10.1.0.100/24", "2001:db8:1::100/64"]')
SIX = (ADDRESS, 'address = "2001:db8:1::100/64"')


def group_with(folder: Path, keys: str, *changes: tuple[str, str]) -> GroupSettings:
    return read(folder, ("#group", keys), *changes).groups["sbc"]


def test_a_group_without_the_keys_has_no_router_beside_it(tmp_path: Path) -> None:
    group = group_with(tmp_path, "")
    assert (group.priorities, group.plain_peers, group.gateways) == ((), (), ())
    assert (group.break_first, group.drain_ms, group.virtual_mac) == (False, 0, False)
    assert (group.link_local_first, group.announce_command, group.routes) == (False, "", ())


@pytest.mark.parametrize("priorities", [(200, 100), (255, 1), (150, 150)])
def test_each_node_has_its_priority(tmp_path: Path, priorities: tuple[int, ...]) -> None:
    group = group_with(tmp_path, f"priorities = {list(priorities)}")
    assert group.priorities == priorities


def test_a_plain_peer_is_any_router_with_an_address_of_the_groups_families(tmp_path: Path) -> None:
    peers = 'plain_peers = ["10.1.0.9", "FE80::0:9", "2001:db8:1::9"]'
    group = group_with(tmp_path, peers, BOTH)
    assert group.plain_peers == ("10.1.0.9", "fe80::9", "2001:db8:1::9")


def test_plain_peers_do_not_care_how_a_standby_is_kept(tmp_path: Path) -> None:
    for standby in ("hot", "cold"):
        keys = f'plain_peers = ["10.1.0.9"]\nstandby = "{standby}"'
        assert group_with(tmp_path, keys).plain_peers == ("10.1.0.9",)


def test_one_gateway_or_several_of_either_family(tmp_path: Path) -> None:
    assert group_with(tmp_path, 'gateway = "10.1.0.1"').gateways == ("10.1.0.1",)
    several = group_with(tmp_path, 'gateway = ["10.1.0.1", "2001:db8:1::1"]').gateways
    assert several == ("10.1.0.1", "2001:db8:1::1")
    assert group_with(tmp_path, 'gateway = "fe80::1"', BOTH).gateways == ("fe80::1",)


def test_a_router_may_be_the_plain_peer_and_the_gateway_of_several_groups(tmp_path: Path) -> None:
    keys = 'plain_peers = ["10.1.0.9"]\ngateway = "10.1.0.1"'
    other = f'[group.web]\nnodes = ["lon2"]\n{keys}\n[[group.web.address]]\n'
    other += 'address = "10.1.0.103/24"\ninterface = "eth0"\nvrid = 52\n'
    groups = read(tmp_path, ("#group", keys), ("#end", other)).groups
    assert groups["sbc"].plain_peers == groups["web"].plain_peers == ("10.1.0.9",)
    assert groups["sbc"].gateways == groups["web"].gateways == ("10.1.0.1",)


def test_how_a_hand_over_goes(tmp_path: Path) -> None:
    keys = 'hand_over = "break-first"\ndrain = "1h"\nvirtual_mac = true\nannounce = "/opt/tell it"'
    group = group_with(tmp_path, keys)
    assert (group.break_first, group.drain_ms, group.virtual_mac) == (True, 3_600_000, True)
    assert group.announce_command == "/opt/tell it"
    assert group_with(tmp_path, 'hand_over = "overlap"').break_first is False


def test_the_link_local_address_is_listed_first_where_that_is_wanted(tmp_path: Path) -> None:
    assert group_with(tmp_path, "link_local_first = true", BOTH).link_local_first is True


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        ("priorities = 200", "16: group.sbc.priorities = 200: must be a list"),
        (
            "priorities = [200]",
            "16: group.sbc.priorities = [200]: "
            "needs one for each node, in the order of nodes: there are 2",
        ),
        ("priorities = []", "needs one for each node, in the order of nodes: there are 2"),
        ("priorities = [200, 150, 100]", "in the order of nodes: there are 2"),
        (
            "priorities = [200, 0]",
            "16: group.sbc.priorities[2] = 0: must be a whole number, 1..255",
        ),
        ("priorities = [256, 100]", "priorities[1] = 256: must be a whole number, 1..255"),
        ("priorities = [true, 1]", "priorities[1] = true: must be a whole number, 1..255"),
        ('priorities = ["200", 1]', 'priorities[1] = "200": must be a whole number, 1..255'),
        (
            "priorities = [100, 200]",
            "16: group.sbc.priorities[2] = 200: is above the 100 before it: "
            "nodes are preferred first; reorder them",
        ),
        ("priorities = [255, 255]", "priorities[2] = 255: is the address owner's, and there is"),
        ("priorities = [200, 255]", "priorities[2] = 255: is the address owner's, and there is"),
        (
            'plain_peers = "10.1.0.9"',
            '16: group.sbc.plain_peers = "10.1.0.9": must be a list; did you mean ["10.1.0.9"]',
        ),
        ("plain_peers = [9]", "16: group.sbc.plain_peers[1] = 9: must be text in quotes"),
        (
            'plain_peers = ["10.1.0.9/24"]',
            'an address without a prefix length; did you mean "10.1.0.9"',
        ),
        ('plain_peers = ["router9"]', "must be an IP address"),
        ('plain_peers = ["fe80::9%eth0"]', "leave out the %"),
        ('plain_peers = ["224.0.0.18"]', "must be a unicast address"),
        ('plain_peers = ["127.0.0.1"]', "is a loopback address; name another machine's"),
        (
            'plain_peers = ["10.1.0.9", "10.1.0.9"]',
            '16: group.sbc.plain_peers[2] = "10.1.0.9": is in the list already (line 16)',
        ),
        (
            'plain_peers = ["10.1.0.12"]',
            '16: group.sbc.plain_peers[1] = "10.1.0.12": is a path of node lon2: '
            "list routers that are no nodes; the nodes know one another (line 10)",
        ),
        ('plain_peers = ["10.2.0.11"]', "is a path of node par1: list routers that are no nodes"),
        ('plain_peers = ["10.1.0.100"]', "is an address of group sbc: list routers"),
        ('plain_peers = ["10.2.0.100"]', "is an address of group par: list routers"),
        (
            'plain_peers = ["10.1.0.9", "fe80::9"]',
            '16: group.sbc.plain_peers[2] = "fe80::9": '
            "is IPv6, and the group has no such address: they share no virtual router",
        ),
        ("gateway = 1", "16: group.sbc.gateway = 1: must be a list"),
        ('gateway = ""', "16: group.sbc.gateway"),
        ('gateway = "10.1.0.1/24"', 'did you mean "10.1.0.1"'),
        ('gateway = "::1"', "is a loopback address; name another machine's"),
        ('gateway = ["10.1.0.1", "10.1.0.1"]', 'gateway[2] = "10.1.0.1": is in the list already'),
        (
            'gateway = "10.1.0.12"',
            '16: group.sbc.gateway = "10.1.0.12": is a path of node lon2: '
            "name a router that answers while the nodes do not (line 10)",
        ),
        ('gateway = ["10.2.0.100"]', "is an address of group par: name a router that answers"),
        (
            'plain_peers = ["10.1.0.9"]\ngateway = "10.1.0.9"',
            '17: group.sbc.gateway = "10.1.0.9": is a plain peer: '
            "while it is lost no node would take over; name another router",
        ),
        (
            'gateway = "fe80::1"',
            "is on every link, and no IPv6 address of the group says on which; name another",
        ),
        (
            'hand_over = "break_first"',
            "must be one of overlap, break-first; did you mean break-first",
        ),
        ('drain = "2h"', '16: group.sbc.drain = "2h": must be 0ms..1h'),
        (
            'drain = "1.5s"',
            '"1.5s": the kernel counts lifetimes in seconds; did you mean "2s"',
        ),
        ('drain = "200ms"', 'did you mean "1s"'),
        ("drain = 5", 'a time needs its unit; did you mean "5s"'),
        ('virtual_mac = "yes"', "must be true or false"),
        ("link_local_first = true", "is about IPv6 addresses, and this group has none"),
        ('announce = ""', '16: group.sbc.announce = "": is empty; leave the key out'),
        ('announce = ["a", "b"]', "must be text in quotes"),
        ('plain_peer = ["10.1.0.9"]', "unknown key; did you mean plain_peers"),
        ('gateways = ["10.1.0.1"]', "unknown key; did you mean gateway"),
    ],
)
def test_one_mistake_is_one_line(tmp_path: Path, after: str, expected: str) -> None:
    assert expected in only_problem(tmp_path, ("#group", after))


def test_an_address_of_a_later_group_is_no_plain_peer_either(tmp_path: Path) -> None:
    line = only_problem(tmp_path, ("#group", 'plain_peers = ["10.2.0.100"]'))
    assert line.endswith("(line 28)")


def test_each_family_of_the_group_has_a_plain_peer_or_none_has(tmp_path: Path) -> None:
    half = ("#group", 'plain_peers = ["10.1.0.9"]')
    assert only_problem(tmp_path, half, BOTH) == (
        '16: group.sbc.plain_peers = ["10.1.0.9"]: none is IPv6: when one takes the group, '
        "nobody has its IPv6 addresses; add theirs, or make a group of those"
    )
    assert problems(tmp_path, ("#group", 'plain_peers = ["10.1.0.9", "fe80::9"]'), BOTH) == []
    assert problems(tmp_path, ("#group", 'plain_peers = ["fe80::9"]'), SIX) == []


def test_a_mistyped_plain_peer_is_said_once(tmp_path: Path) -> None:
    typed = ("#group", 'plain_peers = ["10.1.0.9", "fe80:9"]')
    assert "must be an IP address" in only_problem(tmp_path, typed, BOTH)


def test_a_node_that_is_mistyped_does_not_count_against_the_priorities(tmp_path: Path) -> None:
    typed = ('nodes = ["lon1", "lon2"]', 'nodes = ["lon1", "lom2"]\npriorities = [200, 100]')
    assert "no such [node.*]" in only_problem(tmp_path, typed)
