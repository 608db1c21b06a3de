# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import stat
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from agent.core.keeping import KeptPeer
from agent.core.kit import Batch, Kit, Link, load
from agent.core.settings import (
    AddressSettings,
    Exclusive,
    GroupSettings,
    NodeSettings,
    ServiceSettings,
    Settings,
)
from drivers.forge import forge, write
from tests.drivers.street import FLOATING, FLOATING_6, GROUP, LINKS, NODES, many, settings

CONFIG = """
[cluster]
name = "callcentre"
key_file = "{key}"
[site.london]
[node.lon1]
site = "london"
paths = ["10.77.0.11"]
[node.lon2]
site = "london"
paths = ["10.77.0.12"]
[group.sbc]
nodes = ["lon1", "lon2"]
[[group.sbc.address]]
address = "10.77.0.100/24"
interface = "lo"
vrid = 51
"""


def forged(*groups: GroupSettings, **links: Link) -> Kit:
    return forge(settings("lon1", *groups), LINKS | links)


def messages(batch: Batch, lifetime_s: int = 7) -> list[Any]:
    """The batch's messages with a lifetime patched in, decoded by pyroute2."""
    data = bytearray(batch.messages)
    for at in batch.lifetimes:
        struct.pack_into("=I", data, at, lifetime_s)
    found, at = [], 0
    while at < len(data):
        length, kind = struct.unpack_from("=IH", data, at)
        form = {16: ifinfmsg, 19: ifinfmsg, 24: rtmsg, 25: rtmsg}.get(kind, ifaddrmsg)
        message = form(data[at : at + length])
        message.decode()
        found.append(message)
        at += length
    return found


def test_addresses_are_set_for_a_time_without_a_route_or_a_say_in_sources() -> None:
    four, six = messages(forged().groups["sbc"].take[0])
    assert (four["family"], four["prefixlen"], four["index"]) == (2, 32, 2)
    assert four.get_attr("IFA_LOCAL") == four.get_attr("IFA_ADDRESS") == "10.1.0.100"
    assert four.get_attr("IFA_FLAGS") == 0x200  # IFA_F_NOPREFIXROUTE
    life = four.get_attr("IFA_CACHEINFO")
    assert (life["ifa_preferred"], life["ifa_valid"]) == (7, 7)
    assert (six["family"], six["prefixlen"]) == (10, 64)
    assert six.get_attr("IFA_FLAGS") == 0x202  # .. and IFA_F_NODAD
    life = six.get_attr("IFA_CACHEINFO")
    assert (life["ifa_preferred"], life["ifa_valid"]) == (0, 7)


def test_only_the_last_message_of_a_batch_asks_for_an_answer() -> None:
    for batches in (forged().groups["sbc"].take, forged().groups["sbc"].release):
        (batch,) = batches
        flags = [message["header"]["flags"] & 0x4 for message in messages(batch)]
        assert flags == [0, 4]
        numbers = [message["header"]["sequence_number"] for message in messages(batch)]
        assert numbers == [1, 2]


def test_thousands_of_addresses_are_few_sends_that_fit_a_socket() -> None:
    silent = replace(LINKS["eth0"], mac="")
    kept = forged(many(3000), eth0=silent).groups["big"]
    assert [len(messages(batch)) for batch in kept.take] == [2694, 306]
    assert all(len(batch.messages) <= 200 << 10 for batch in kept.take)
    assert messages(kept.take[1])[-1]["header"]["flags"] & 0x4
    assert messages(kept.take[1], 9)[-1].get_attr("IFA_CACHEINFO")["ifa_valid"] == 9
    assert kept.announcements == ()


def test_a_network_of_which_the_host_has_no_address_gets_its_route_with_the_first() -> None:
    abroad = tuple(AddressSettings(f"192.168.7.{n}", 24, 4, "eth0", 60) for n in (5, 6))
    first, route, second = messages(forged(replace(GROUP, addresses=abroad)).groups["sbc"].take[0])
    assert route.get_attr("RTA_DST") == "192.168.7.0"
    assert route.get_attr("RTA_PREFSRC") == "192.168.7.5"
    assert (route["dst_len"], route["scope"]) == (24, 253)
    assert route["header"]["sequence_number"] == first["header"]["sequence_number"] == 1
    assert second.get_attr("IFA_LOCAL") == "192.168.7.6"
    assert first["prefixlen"] == 32


def test_ipv4_is_announced_as_a_gratuitous_arp_request() -> None:
    frame = forged().groups["sbc"].announcements[0]
    assert frame.interface == "eth0"
    assert frame.frame.hex(" ") == (
        "ff ff ff ff ff ff 02 00 00 00 01 11 08 06"
        " 00 01 08 00 06 04 00 01"
        " 02 00 00 00 01 11 0a 01 00 64"
        " 00 00 00 00 00 00 0a 01 00 64"
    )


@pytest.mark.parametrize(("forwarding", "flags"), [(False, "20"), (True, "a0")])
def test_ipv6_is_announced_as_an_overriding_advertisement(forwarding: bool, flags: str) -> None:
    eth0 = replace(LINKS["eth0"], forwarding=forwarding)
    frame = forged(eth0=eth0).groups["sbc"].announcements[1].frame
    source, group = "fd000001000000000000000000000100", "ff020000000000000000000000000001"
    assert frame[:54].hex() == (
        "333300000001"
        + "020000000111"
        + "86dd"
        + "60000000"
        + "0020"
        + "3a"
        + "ff"
        + source
        + group
    )
    assert frame[54:56].hex() == "8800"
    assert frame[58:].hex() == flags + "000000" + source + "0201" + "020000000111"
    covered = frame[22:54] + (32).to_bytes(4, "big") + (58).to_bytes(4, "big") + frame[54:]
    assert int.from_bytes(covered, "big") % 0xFFFF == 0, "the ICMPv6 checksum is wrong"


def test_peers_are_asked_for_every_address_on_a_link_of_ours() -> None:
    kit = forged()
    asked = (("eth0", "10.1.0.12"), ("eth1", "10.9.0.12"))
    assert kit.keeping.peers["lon2"] == KeptPeer("lon2", ("10.1.0.12", "10.9.0.12"), asked)
    assert [(it.interface, it.address) for it in kit.questions[:2]] == list(asked)
    assert kit.questions[1].frame.hex(" ") == (
        "ff ff ff ff ff ff 02 00 00 00 09 11 08 06"
        " 00 01 08 00 06 04 00 01"
        " 02 00 00 00 09 11 0a 09 00 0b"
        " 00 00 00 00 00 00 0a 09 00 0c"
    )


def test_an_ipv6_peer_is_asked_by_neighbour_solicitation() -> None:
    nodes = {
        "lon1": NodeSettings("lon1", "london", ("fd00:1::11",)),
        "lon2": NodeSettings("lon2", "london", ("fd00:1::12",)),
    }
    kit = forge(replace(settings(), nodes=nodes), LINKS)
    question = kit.questions[0]
    assert question.frame[:14].hex() == "3333ff000012" + "020000000111" + "86dd"
    assert question.frame[38:54].hex() == "ff0200000000000000000001ff000012"
    assert question.frame[54] == 135
    assert kit.groups["sbc"].routers[1].destinations == ("fd00:1::12",)
    assert kit.groups["sbc"].routers[1].source == "fd00:1::11"


def test_adverts_go_to_the_peers_on_the_link_or_to_the_group() -> None:
    four, six = forged().groups["sbc"].routers
    assert (four.source, four.destinations) == ("10.1.0.11", ("10.1.0.12",))
    assert (six.source, six.destinations) == ("fe80::11", ("ff02::12",))
    four, _ = forged(replace(GROUP, unicast=False)).groups["sbc"].routers
    assert four.destinations == ("224.0.0.18",)


def test_a_peer_of_another_network_makes_adverts_multicast() -> None:
    far = NODES | {"lon3": NodeSettings("lon3", "london", ("10.7.0.13",))}
    group = replace(GROUP, nodes=("lon1", "lon2", "lon3"))
    kit = forge(replace(settings("lon1", group), nodes=far), LINKS)
    assert kit.groups["sbc"].routers[0].destinations == ("224.0.0.18",)


def test_a_second_address_of_another_vrid_makes_another_router() -> None:
    group = replace(GROUP, addresses=(FLOATING, replace(FLOATING, address="10.1.0.101", vrid=52)))
    kit = forged(group)
    assert [it.vrid for it in kit.groups["sbc"].routers] == [51, 52]
    assert [it.vrid for it in kit.keeping.groups["sbc"].routers] == [51, 52]


def test_the_preferred_node_has_the_higher_priority_and_peers_keep_their_order() -> None:
    first = forge(settings("lon1"), LINKS).keeping.groups["sbc"]
    second = forge(settings("lon2"), LINKS).keeping.groups["sbc"]
    assert (first.priority, first.place, first.peers) == (200, 0, ("lon2",))
    assert (second.priority, second.place, second.peers) == (190, 1, ("lon1",))


def test_a_floating_address_found_on_an_interface_is_not_taken_for_the_hosts_own() -> None:
    bare = replace(LINKS["eth0"], addresses=(("10.1.0.100", 24), ("fe80::11", 64)))
    kept = forged(eth0=bare).groups["sbc"]
    assert kept.missing == ("interface eth0 has no IPv4 address of its own",)
    assert (kept.take, kept.routers) == ((), ())


def test_a_missing_interface_is_said_and_the_rest_is_forged() -> None:
    away = replace(GROUP, name="away", addresses=(replace(FLOATING_6, interface="eth7"),))
    kit = forged(GROUP, away)
    assert kit.groups["away"].missing == ("interface eth7 is not there",)
    assert kit.groups["sbc"].missing == ()
    assert kit.interfaces["eth7"] == (0, "")
    assert kit.keeping.groups.keys() == {"sbc", "away"}


def test_priorities_are_as_configured_one_for_each_node() -> None:
    group = replace(GROUP, priorities=(255, 90))
    found = [forge(settings(node, group), LINKS).keeping.groups["sbc"] for node in NODES]
    assert [it.priority for it in found] == [255, 90]


def test_the_manner_of_a_hand_over_is_the_keepers_to_know() -> None:
    kept = forged(replace(GROUP, break_first=True, drain_ms=5000)).keeping.groups["sbc"]
    assert (kept.apart, kept.drain_ms) == (True, 5000)


@pytest.mark.parametrize(("pseudo", "form"), [(True, "pseudo"), (False, "plain")])
def test_the_checksum_form_is_the_keepers_to_compare(pseudo: bool, form: str) -> None:
    assert forged(replace(GROUP, checksum_pseudo=pseudo)).keeping.groups["sbc"].form == form


def test_plain_peers_are_sent_to_on_their_link_beside_the_nodes() -> None:
    group = replace(GROUP, plain_peers=("10.1.0.9", "10.9.0.9", "10.77.0.9"))
    kit = forged(group)
    assert kit.keeping.groups["sbc"].plain == group.plain_peers
    four, six = kit.groups["sbc"].routers
    assert four.destinations == ("10.1.0.12", "10.1.0.9"), "of another link, or of none"
    assert six.destinations == ("ff02::12",)


def test_a_link_local_plain_peer_is_sent_to_from_a_link_local_address() -> None:
    nodes = {
        "lon1": NodeSettings("lon1", "london", ("fd00:1::11",)),
        "lon2": NodeSettings("lon2", "london", ("fd00:1::12",)),
    }
    group = replace(GROUP, plain_peers=("fe80::9",))
    _, six = forge(replace(settings("lon1", group), nodes=nodes), LINKS).groups["sbc"].routers
    assert (six.source, six.destinations) == ("fe80::11", ("fd00:1::12", "fe80::9"))


def test_a_node_alone_with_a_plain_peer_sends_to_it_or_to_the_group_as_told() -> None:
    alone = replace(GROUP, nodes=("lon1",), addresses=(FLOATING,), plain_peers=("10.1.0.9",))
    assert forged(alone).groups["sbc"].routers[0].destinations == ("10.1.0.9",)
    multicast = replace(alone, unicast=False)
    assert forged(multicast).groups["sbc"].routers[0].destinations == ("224.0.0.18",)


def test_a_plain_peer_is_sent_to_even_where_a_node_has_no_path() -> None:
    group = replace(GROUP, addresses=(FLOATING_6,), plain_peers=("fd00:1::9",))
    (six,) = forged(group).groups["sbc"].routers
    assert six.destinations == ("ff02::12", "fd00:1::9")
    assert six.source == "fe80::11"


def test_gateways_and_floating_addresses_can_be_asked_for() -> None:
    group = replace(GROUP, gateways=("10.1.0.1", "10.9.0.1", "fe80::1", "10.77.0.1"))
    kit = forged(group)
    kept = kit.keeping.groups["sbc"]
    assert kept.gateways == (("eth0", "10.1.0.1"), ("eth1", "10.9.0.1"), ("eth0", "fe80::1"))
    assert kept.probed == (("eth0", "10.1.0.100"), ("eth0", "fd00:1::100"))
    frames = {it.address: it.frame for it in kit.questions}
    assert frames.keys() == {
        "10.1.0.12", "10.9.0.12", "10.1.0.1", "10.9.0.1", "fe80::1", "10.1.0.100", "fd00:1::100"
    }  # fmt: skip
    assert frames["10.1.0.100"][28:32] == bytes((10, 1, 0, 11)), "asked from an own address"
    assert frames["fe80::1"][22:38].hex() == "fe80" + "0" * 26 + "11"


def test_groups_with_one_gateway_share_the_question() -> None:
    one = replace(GROUP, gateways=("10.1.0.1",))
    two = replace(one, name="two", addresses=(replace(FLOATING, address="10.1.0.101", vrid=52),))
    asked = [it.address for it in forged(one, two).questions]
    assert sorted(asked) == sorted(set(asked))


def test_nothing_is_asked_where_there_is_no_ethernet() -> None:
    silent = replace(LINKS["eth0"], mac="")
    kept = forged(replace(GROUP, gateways=("10.1.0.1",)), eth0=silent).keeping.groups["sbc"]
    assert (kept.gateways, kept.probed) == ((), ())


@pytest.mark.parametrize(
    ("floating", "listed"),
    [
        (("fd00:1::100",), ("fe80::11", "fd00:1::100")),
        (("fd00:1::100", "fe80::100"), ("fe80::100", "fd00:1::100")),
    ],
    ids=["our own", "a floating one"],
)
def test_a_link_local_address_is_listed_first_where_that_is_wanted(
    floating: tuple[str, ...], listed: tuple[str, ...]
) -> None:
    addresses = tuple(replace(FLOATING_6, address=it) for it in floating)
    group = replace(GROUP, addresses=addresses, link_local_first=True)
    (router,) = forged(group).groups["sbc"].routers
    assert router.addresses == listed
    (router,) = forged(replace(group, link_local_first=False)).groups["sbc"].routers
    assert router.addresses == floating


VIRTUAL = replace(GROUP, virtual_mac=True)


def test_a_virtual_mac_lies_on_a_macvlan_that_is_made_down_and_silent() -> None:
    kit = forged(VIRTUAL)
    kept = kit.groups["sbc"]
    made, quiet, made_6, _ = messages(kept.prepare[0])
    assert made["header"]["flags"] == 0x601  # REQUEST, CREATE, EXCL
    assert (made["flags"], made["change"]) == (0, 0)
    assert made.get_attr("IFLA_IFNAME") == "sp51v4-2"
    assert made.get_attr("IFLA_LINK") == 2
    assert made.get_attr("IFLA_ADDRESS") == "00:00:5e:00:01:33"
    assert made_6.get_attr("IFLA_ADDRESS") == "00:00:5e:00:02:33"
    assert made["index"] == quiet["index"] == kept.addresses[0].index
    assert kit.interfaces["sp51v4-2"] == (made["index"], "00:00:5e:00:01:33")
    assert kept.addresses[0].interface == "eth0"
    assert [it.mouth for it in kept.routers] == [
        ("sp51v4-2", made["index"]),
        ("sp51v6-2", made_6["index"]),
    ]
    assert [it.interface for it in kept.announcements] == ["sp51v4-2", "sp51v6-2"]
    assert kept.announcements[0].frame[6:12].hex() == "00005e000133"
    assert kept.silent == ("eth0", "sp51v4-2", "sp51v6-2")


def test_a_virtual_mac_falls_silent_before_its_addresses_go() -> None:
    release = messages(forged(VIRTUAL).groups["sbc"].release[0])
    assert [it["header"]["type"] for it in release] == [19, 19, 21, 21]
    assert [(it["flags"], it["change"]) for it in release[:2]] == [(0, 1), (0, 1)]
    take = messages(forged(VIRTUAL).groups["sbc"].take[0])
    assert [it["header"]["type"] for it in take] == [19, 19, 20, 20]
    assert [(it["flags"], it["change"]) for it in take[:2]] == [(1, 1), (1, 1)]


def test_a_macvlan_that_is_there_keeps_its_number() -> None:
    there = {"sp51v4-2": Link("sp51v4-2", 9, "00:00:5e:00:01:33")}
    assert forged(VIRTUAL, **there).groups["sbc"].routers[0].mouth == ("sp51v4-2", 9)


def test_a_virtual_mac_needs_ethernet() -> None:
    kept = forged(VIRTUAL, eth0=replace(LINKS["eth0"], mac="")).groups["sbc"]
    assert "interface eth0 has no MAC: virtual_mac cannot be used there" in kept.missing


def test_a_kit_is_written_whole_for_its_owner_alone(tmp_path: Path) -> None:
    kit = forged()
    path = write(kit, tmp_path / "run")
    assert load(path.read_bytes()) == kit
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list((tmp_path / "run").iterdir()) == [path]


def run(config: Path, run_dir: Path) -> subprocess.CompletedProcess[str]:
    words = ["--config", str(config), "--node", "lon1", "--run-dir", str(run_dir)]
    return subprocess.run(
        [sys.executable, "-m", "drivers.forge", *words], capture_output=True, text=True, check=False
    )


def test_the_process_forges_from_a_configuration_file(tmp_path: Path) -> None:
    key = tmp_path / "cluster.key"
    key.write_text("ab" * 32)
    key.chmod(0o600)
    config = tmp_path / "standpipe.toml"
    config.write_text(CONFIG.format(key=key))
    done = run(config, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    kit = load((tmp_path / "kit.json").read_bytes())
    assert kit.groups["sbc"].addresses[0].address == "10.77.0.100"
    assert kit.groups["sbc"].announcements == ()
    assert kit.key_file == str(key)


def test_the_process_says_what_is_wrong_with_the_configuration(tmp_path: Path) -> None:
    config = tmp_path / "standpipe.toml"
    config.write_text('[node.lon1]\nsite = "nowhere"\npaths = ["10.77.0.11"]\n')
    done = run(config, tmp_path)
    assert done.returncode == 1
    assert f"{config}:2: node.lon1.site" in done.stderr
    assert not (tmp_path / "kit.json").exists()


@pytest.mark.parametrize(("advert_ms", "gap_ms"), [(1000, 25), (20, 20), (10, 10)])
def test_a_question_has_no_more_time_than_there_is_between_two_adverts(
    advert_ms: int, gap_ms: int
) -> None:
    slow = replace(GROUP, name="slow", advert_ms=1000)
    kit = forged(replace(GROUP, advert_ms=advert_ms), slow)
    assert kit.keeping.ask_gap_ms == gap_ms


def test_what_runs_of_an_exclusive_group_can_be_killed_without_the_agent() -> None:
    services = (
        ServiceSettings("db", "db.service"),
        ServiceSettings("side", start="/opt/up", stop="/opt/down now", status="/opt/is-up"),
    )
    kit = forged(replace(GROUP, services=services, exclusive=Exclusive.LEASE))
    assert kit.groups["sbc"].stops == (
        ("systemctl", "--no-block", "stop", "db.service"),
        ("systemctl", "--signal=SIGKILL", "kill", "db.service"),
        ("/bin/sh", "-c", "/opt/down now"),
    )
    assert set(kit.keeping.leases) == {"sbc"}
    assert forged(replace(GROUP, services=services)).groups["sbc"].stops == ()


def test_a_witness_gets_a_kit_of_votes_alone() -> None:
    nodes = NODES | {"wit": NodeSettings("wit", "london", ("10.1.0.19",), witness=True)}
    group = replace(GROUP, exclusive=Exclusive.LEASE)
    settings = Settings("callcentre", "/key", "wit", ("london",), nodes, {"sbc": group})
    kit = forge(settings, {"eth0": Link("eth0", 2, "02:00:00:00:00:19", (("10.1.0.19", 24),))})
    assert (kit.groups, kit.keeping.groups) == ({}, {})
    assert kit.keeping.leases["sbc"].voters == ("lon1", "lon2", "wit")
    assert set(kit.peers) == {"lon1", "lon2"}
