# SPDX-License-Identifier: GPL-2.0-or-later
"""What a node reads of a good file."""

import hashlib
import os
import re
from pathlib import Path

import pytest

from agent.config import ConfigError, load, watch_only
from agent.core.settings import Failback, Standby, WatchSettings
from tests.config.writing import problems, read, written

SAMPLE = Path(__file__).parents[2] / "etc" / "standpipe.toml"


def test_the_sample_is_taken_by_each_of_its_nodes() -> None:
    for node in ("lon1", "lon2", "par1"):
        assert load(SAMPLE, node, check_files=False).node == node
    settings = load(SAMPLE, "par2", check_files=False)
    assert settings.geos["voice"].groups == {"london": "sbc-london", "paris": "sbc-paris"}
    assert [group.name for group in settings.own_groups()] == ["sbc-paris"]
    assert settings.digest == hashlib.sha256(SAMPLE.read_bytes()).hexdigest()


def test_what_the_sample_has_behind_marks_is_taken_as_well(tmp_path: Path) -> None:
    other = '# sessions = "'  # its key is there twice: to show two ways
    whole, count = re.subn(rf"(?m)^(?!{other})# (?=[a-z_]+ = )", "", SAMPLE.read_text())
    path = tmp_path / "standpipe.toml"
    path.write_text(whole)
    group = load(path, "lon1", check_files=False).groups["sbc-london"]
    assert count > 20
    assert (group.priorities, group.plain_peers) == ((200, 190), ("10.1.0.9", "fe80::9"))
    assert (group.drain_ms, group.routes[0].source) == (10_000, "10.1.0.101")


def test_one_address_or_many(tmp_path: Path) -> None:
    many = 'address = ["10.1.0.100/24", "2001:DB8::0:100/64"]'
    group = read(tmp_path, ('address = "10.1.0.100/24"', many)).groups["sbc"]
    assert [(a.address, a.prefix_len, a.family, a.vrid) for a in group.addresses] == [
        ("10.1.0.100", 24, 4, 51),
        ("2001:db8::100", 64, 6, 51),
    ]


def test_a_group_has_the_defaults_that_the_manual_gives(tmp_path: Path) -> None:
    group = read(tmp_path).groups["sbc"]
    assert (group.standby, group.failback, group.advert_ms) == (Standby.HOT, Failback.MANUAL, 200)
    assert (group.hold_ms, group.unicast, group.checksum_pseudo) == (10_000, True, True)
    service = group.services[0]
    assert (service.name, service.restarts, service.restarts_in_ms) == ("kamailio", 3, 600_000)


def test_every_key_of_a_group_is_read(tmp_path: Path) -> None:
    keys = """standby = "cold"
failback = "1.5h"
advert = "40s"
hold = "500ms"
probation = "0s"
multicast = true
checksum = "plain"
exclusive = "segment"
"""
    group = read(tmp_path, ("#group\n", keys)).groups["sbc"]
    assert (group.standby, group.failback) == (Standby.COLD, Failback.AFTER)
    assert (group.failback_ms, group.advert_ms, group.hold_ms) == (5_400_000, 40_000, 500)
    assert (group.probation_ms, group.unicast, group.checksum_pseudo) == (0, False, False)


def test_only_checks_of_the_groups_own_addresses_are_floating(tmp_path: Path) -> None:
    alive = """alive = [
  { tcp = "10.1.0.100:5060" }, { tcp = "127.0.0.1:5060" }, { sip = "udp://10.1.0.100" },
  { http = "http://10.1.0.100:80/x" },
  { http = "https://[2001:DB8::1]/", expect = 204 }, { tcp = "10.2.0.100:1" },
  { command = "curl 10.1.0.100" }, { unit = "kamailio" }, { process = "kamailio" },
]
[[group.sbc.address]]
address = "2001:db8::1/64"
interface = "eth0"
vrid = 52
"""
    checks = read(tmp_path, ("#service\n", alive)).groups["sbc"].services[0].checks
    assert [check.floating for check in checks] == [
        *(True, False, True, True, True, False),
        *(False, False, False),
    ]
    assert [check.kind for check in checks[-3:]] == ["command", "unit", "process"]
    assert checks[-2].target == "kamailio.service"
    assert [check.expect for check in checks[3:5]] == ["", "204"]


def test_a_slow_check_is_not_stale_between_two_answers(tmp_path: Path) -> None:
    alive = 'alive = [{ tcp = "127.0.0.1:1", every = "1m", timeout = "5s" }]'
    check = read(tmp_path, ("#service", alive)).groups["sbc"].services[0].checks[0]
    assert check.stale_after_ms == 195_000


def test_every_kind_of_watch_is_there_and_the_file_changes_its_own(tmp_path: Path) -> None:
    watch = '[watch.disk]\nwarn = "2d"\nswitch_over = "30m"\nonly = ["/var/"]\nwarn_pct = 80.5'
    watches = read(tmp_path, ("#end", watch)).watches
    assert set(watches) == {"disk", "inodes", "memory", "swap", "fds", "cpu", "psi"}
    assert watches["disk"].warn_ms == 172_800_000
    assert watches["disk"].switch_over_ms == 1_800_000
    assert (watches["disk"].only, watches["disk"].warn_pct) == (("/var",), 80.5)
    assert watches["memory"] == WatchSettings("memory")


def test_snmp_of_devices_and_receivers(tmp_path: Path) -> None:
    tables = """[device.ups1]
address = "10.1.0.60"
site = "london"
snmp = { version = "3", user = "monitor", level = "authNoPriv", secrets_file = "/x" }
feeds = ["lon1"]
runtime_low = "10m"
[nms.main]
address = "10.1.0.200"
snmp = { version = "2c", community = "public" }
"""
    settings = read(tmp_path, ("#end", tables))
    device = settings.devices["ups1"]
    assert (device.snmp.user, device.snmp.level, device.snmp.port) == ("monitor", "authNoPriv", 161)
    assert (device.feeds, device.runtime_low_s) == (("lon1",), 600)
    assert settings.nms["main"].snmp.port == 162
    assert settings.nms["main"].snmp.community == "public"


def test_a_machine_finds_itself_by_its_host_name(tmp_path: Path) -> None:
    full = os.uname().nodename
    for name in {full, full.partition(".")[0]}:
        path = written(tmp_path, ("[node.lon1]", f'[node."{name}"]'), ('"lon1", ', ""))
        assert load(path, None, check_files=False).node == name


def test_a_machine_that_is_no_node_is_told_so_unless_any_will_do(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, node=None)
    assert "this machine is called" in problem.why
    assert "say which with --node" in problem.why
    settings = load(tmp_path / "standpipe.toml", None, check_files=False, any_node=True)
    assert settings.node == ""


def test_a_file_without_nodes_only_watches(tmp_path: Path) -> None:
    path = tmp_path / "standpipe.toml"
    path.write_text('[cluster]\nname = "x"\n[watch.disk]\nwarn = "48h"\n')
    settings = load(path, None)
    assert (settings.node, settings.groups) == ("", {})
    with pytest.raises(ConfigError, match=r"no such \[node"):
        load(path, "lon1")


def test_without_a_file_the_machine_is_watched() -> None:
    settings = watch_only("web7")
    assert (settings.node, settings.groups) == ("", {})
    assert len(settings.watches) == 7


def test_the_same_router_number_at_two_sites_is_fine(tmp_path: Path) -> None:
    assert problems(tmp_path) == []


def test_a_thousand_addresses_are_read(tmp_path: Path) -> None:
    many = ", ".join(f'"10.{n // 250}.7.{n % 250 + 1}/8"' for n in range(1000))
    group = read(tmp_path, ('"10.1.0.100/24"', f"[{many}]")).groups["sbc"]
    assert len(group.addresses) == 1000
