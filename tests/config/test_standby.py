# SPDX-License-Identifier: GPL-2.0-or-later
"""How a standby is kept and brought into service: realtime, hooks, order, proofs, blast radius."""

from pathlib import Path

import pytest

from agent.core.settings import GroupSettings, RealtimeSettings, ServiceSettings, SnmpSettings
from tests.config.writing import only_problem, problems, read

WEB = """[group.web]
nodes = ["lon2"]
[[group.web.address]]
address = "10.1.0.103/24"
interface = "eth1"
vrid = 52
"""
DB = WEB.replace("web", "db").replace(".103", ".104").replace("52", "53")
COMMANDS = 'start = "a"\nstop = "b"\nstatus = "c"\n'


def realtime(folder: Path, text: str) -> RealtimeSettings | None:
    change = ("#group", f'standby = "realtime"\n[group.sbc.realtime]\n{text}')
    return read(folder, change).groups["sbc"].realtime


def group(folder: Path, text: str) -> GroupSettings:
    return read(folder, ("#group", text)).groups["sbc"]


def service(folder: Path, text: str) -> ServiceSettings:
    changes = ('unit = "kamailio.service"', COMMANDS), ("#service", text)
    return read(folder, *changes).groups["sbc"].services[0]


def test_every_key_of_realtime_is_read(tmp_path: Path) -> None:
    text = """sessions = "/opt/k/calls"
drain = "/opt/k/drain"
undrain = "/opt/k/undrain"
deadline = "1h"
ramp = "/opt/k/ramp"
steps = [5, 100]
step_every = "30s"
jitter = "1s"
"""
    assert realtime(tmp_path, text) == RealtimeSettings(
        sessions_kind="command",
        sessions="/opt/k/calls",
        drain="/opt/k/drain",
        undrain="/opt/k/undrain",
        deadline_ms=3_600_000,
        ramp="/opt/k/ramp",
        steps_pct=(5, 100),
        step_every_ms=30_000,
        jitter_ms=1000,
    )


def test_sessions_are_counted_in_three_ways(tmp_path: Path) -> None:
    assert realtime(tmp_path, 'sessions = { command = "x" }') == RealtimeSettings("command", "x")
    web = 'sessions = { http = "http://127.0.0.1:80/calls", field = "calls.active" }'
    assert realtime(tmp_path, web) == RealtimeSettings(
        "http", "http://127.0.0.1:80/calls", "calls.active"
    )
    snmp = 'snmp = { version = "2c", community = "c" }'
    assert realtime(tmp_path, f'sessions = {{ oid = ".1.3.6.1.4.9.0", {snmp} }}') == (
        RealtimeSettings("oid", "1.3.6.1.4.9.0", snmp=SnmpSettings("2c", community="c"))
    )
    found = realtime(tmp_path, f'sessions = {{ oid = "1.3.6", address = "10.1.0.7", {snmp} }}')
    assert found is not None
    assert found.address == "10.1.0.7"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "says nothing: give it sessions, drain and undrain, or ramp"),
        ('drain = "x"', "undrain: missing: what makes it take new work again"),
        ('ramp = "x"\nundrain = "x"', "says nothing without drain"),
        ('sessions = "x"\nsteps = [100]', "says nothing without ramp"),
        ('sessions = "x"\njitter = "1s"', "says nothing without ramp"),
        ('ramp = "x"\nsteps = [10, 50]', "must end with 100: all of the load"),
        ('ramp = "x"\nsteps = []', "must end with 100: all of the load"),
        ('ramp = "x"\nsteps = [50, 10, 100]', "steps[2] = 10: must be above the 50 before it"),
        ('ramp = "x"\nsteps = [10, 101]', "steps[2] = 101: must be a whole number of percent"),
        ('ramp = "x"\nsteps = ["10%"]', "must be a whole number of percent"),
        ('ramp = "x"\nsteps = 10', "must be a list"),
        ("sessions = 5", "must be text in quotes"),
        ("sessions = {}", "are counted in one way: give exactly one of command, http, oid"),
        ('sessions = { command = "x", http = "http://a/" }', "not command and http"),
        ('sessions = { command = "x", field = "a" }', "belongs to http, this is command"),
        ('sessions = { http = "http://a/" }', "field: missing"),
        ('sessions = { http = "a/", field = "a" }', 'did you mean "http://a/"'),
        ('sessions = { http = "http://a/", field = "a..b" }', "must be names with dots"),
        ('sessions = { oid = "1.3.6.1" }', "snmp: missing"),
        ('sessions = { oid = "sysUpTime", snmp = { version = "2c", community = "c" } }', "an OID"),
        ('sessions = { command = "x", feild = "a" }', "unknown key; did you mean field"),
    ],
)
def test_a_mistake_about_realtime(tmp_path: Path, text: str, expected: str) -> None:
    change = ("#group", f'standby = "realtime"\n[group.sbc.realtime]\n{text}')
    assert expected in only_problem(tmp_path, change)


def test_realtime_needs_its_table_and_no_other_kind_has_it(tmp_path: Path) -> None:
    found = only_problem(tmp_path, ("#group", 'standby = "realtime"'))
    assert found.startswith("14: group.sbc.realtime: missing: how sessions are counted")
    found = only_problem(tmp_path, ("#group", '[group.sbc.realtime]\nsessions = "x"'))
    assert found == '16: group.sbc.realtime: belongs to standby = "realtime", this is hot'
    misspelt = 'standby = "realtme"\n[group.sbc.realtime]\nsessions = "x"'
    assert "did you mean realtime" in only_problem(tmp_path, ("#group", misspelt))


def test_every_other_key_of_a_group_is_read(tmp_path: Path) -> None:
    found = group(
        tmp_path,
        """promote = "/opt/k/promote"
demote = "/opt/k/demote"
hook_within = "3s"
rehearse = "/opt/k/rehearse"
rehearse_every = "1d"
proof_max_age = "30s"
needs_memory = "512MiB"
failback = "10m"
failback_window = "22:00-04:30"
""",
    )
    assert (found.promote, found.demote) == ("/opt/k/promote", "/opt/k/demote")
    assert (found.hook_within_ms, found.rehearse) == (3000, "/opt/k/rehearse")
    assert (found.rehearse_every_ms, found.proof_max_age_ms) == (86_400_000, 30_000)
    assert found.needs_bytes == 512 << 20
    assert found.failback_window == (1320, 270)


def test_the_defaults_are_those_of_the_core(tmp_path: Path) -> None:
    found, usual = group(tmp_path, ""), GroupSettings("x", (), ())
    for name in (
        *("exclusive", "lease_ms", "carried", "realtime", "promote", "demote", "hook_within_ms"),
        *("after", "apart", "rehearse", "rehearse_every_ms", "proof_max_age_ms", "needs_bytes"),
        "failback_window",
    ):
        assert getattr(found, name) == getattr(usual, name), name
    theirs = service(tmp_path, "")
    for name in ("after", "pid_file", "starts_in_ms", "on_death"):
        assert getattr(theirs, name) == getattr(ServiceSettings("x"), name), name
    settings, cluster = read(tmp_path), (6, 3_600_000, 50, "/etc/standpipe/pki")
    assert cluster == (
        *(settings.moves, settings.moves_in_ms, settings.moves_share_pct),
        settings.pki_dir,
    )


def test_a_window_may_end_at_midnight(tmp_path: Path) -> None:
    found = group(tmp_path, 'failback = "1m"\nfailback_window = "22:00-24:00"')
    assert found.failback_window == (1320, 0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('failback_window = "02:00-04:00"', "is for a failback that happens by itself"),
        ('failback = "1m"\nfailback_window = "2-4"', "must be two times of the day"),
        ('failback = "1m"\nfailback_window = "02:00-25:00"', "must be two times of the day"),
        ('failback = "1m"\nfailback_window = "02:00-02:00"', "begins and ends at the same time"),
        ('rehearse_every = "1h"', "says nothing without rehearse"),
        ('rehearse = "x"\nrehearse_every = "1s"', "must be 1m..30d"),
        ('hook_within = "1s"', "says nothing without promote"),
        ('standby = "cold"\npromote = "x"', "is for a standby that runs"),
        ('needs_memory = "lots"', "not a size"),
        ('after = ["sbc"]', 'after[1] = "sbc": is itself'),
        ('after = ["pra"]', "no such [group.*]: there are sbc, par; did you mean par"),
        ('after = ["par", "par"]', "is in the list already"),
        ('apart = ["sbc"]', "is itself"),
        (
            'after = ["par"]\napart = ["par"]',
            '17: group.sbc.apart[1] = "par": is in after as well: that one may be on another node '
            "anyway; decide for one (line 16)",
        ),
    ],
)
def test_a_mistake_in_a_group(tmp_path: Path, text: str, expected: str) -> None:
    assert expected in only_problem(tmp_path, ("#group", text))


def test_groups_are_apart_both_ways(tmp_path: Path) -> None:
    web = WEB.replace('["lon2"]', '["lon2"]\napart = ["sbc"]\nafter = ["par"]')
    groups = read(tmp_path, ("#end", web), ("#group", "apart = []")).groups
    assert (groups["sbc"].apart, groups["web"].apart) == (("web",), ("sbc",))
    assert groups["web"].after == ("par",)
    assert groups["sbc"].after == ()


def test_two_groups_of_one_node_cannot_keep_apart(tmp_path: Path) -> None:
    web = WEB.replace('["lon2"]', '["lon2"]\napart = ["db"]')
    found = only_problem(tmp_path, ("#end", web + DB))
    assert "both have lon2 alone, so one could never serve" in found


def test_groups_that_wait_for_one_another_are_refused(tmp_path: Path) -> None:
    web = WEB.replace('["lon2"]', '["lon2"]\nafter = ["sbc"]')
    db = DB.replace('["lon2"]', '["lon2"]\nafter = ["web"]')
    ring = only_problem(tmp_path, ("#group", 'after = ["db"]'), ("#end", web + db))
    assert "nothing of this can start: " in ring
    assert ring.count(" after ") == 3
    assert problems(tmp_path, ("#end", web + db)) == []


def test_every_key_of_a_service_is_read(tmp_path: Path) -> None:
    text = """pid_file = "/run/k.pid"
starts_in = "350ms"
on_death = "move"
after = ["db"]
alive = [{ tcp = "127.0.0.1:1", every = "200ms", retry = "20ms" }, { tcp = "a:2", every = "50ms" }]
[[group.sbc.service]]
unit = "db"
"""
    found = service(tmp_path, text)
    assert (found.pid_file, found.starts_in_ms, found.on_death) == ("/run/k.pid", 350, "move")
    assert found.after == ("db",)
    assert [check.retry_ms for check in found.checks] == [20, 50]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('pid_file = "/run/k.pid"', "is for a service that is run by commands"),
        ('on_death = "reboot"', "must be one of auto, restart, move"),
        ('starts_in = "0s"', "must be 1ms..1h"),
        ('after = ["kamailio"]', "is itself"),
        ('after = ["kamalio"]', "no such service of this group: there are kamailio"),
        ('alive = [{ tcp = "a:1", retry = "2s" }]', "is longer than every"),
        (
            'after = ["db"]\n[[group.sbc.service]]\nunit = "db"\nafter = ["kamailio"]',
            "nothing of this can start: ",
        ),
    ],
)
def test_a_mistake_in_a_service(tmp_path: Path, text: str, expected: str) -> None:
    assert expected in only_problem(tmp_path, ("#service", text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('moves = "0 in 1h"', "must let one move happen"),
        ('moves = "6"', "must be as in"),
        ('moves_share = "0%"', 'must be 1% to 100%, as in "50%"'),
        ("moves_share = 50", 'did you mean "50"'),
        ('pki_dir = "pki"', 'did you mean "/pki"'),
    ],
)
def test_a_mistake_in_the_cluster(tmp_path: Path, text: str, expected: str) -> None:
    change = ('name = "callcentre"', f'name = "callcentre"\n{text}')
    assert expected in only_problem(tmp_path, change)


def test_every_other_key_of_the_cluster_is_read(tmp_path: Path) -> None:
    keys = 'name = "x"\nmoves = "2 in 1d"\nmoves_share = "25%"\npki_dir = "/srv/pki/"'
    settings = read(tmp_path, ('name = "callcentre"', keys))
    assert (settings.moves, settings.moves_in_ms) == (2, 86_400_000)
    assert (settings.moves_share_pct, settings.pki_dir) == (25, "/srv/pki")
