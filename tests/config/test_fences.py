# SPDX-License-Identifier: GPL-2.0-or-later
"""[node.NAME.fence] and `exclusive`: who may be switched off, and who must hold a lease."""

from pathlib import Path

import pytest

from agent.config import Problem, load
from agent.core.settings import Exclusive, FenceSettings, OutletSettings, SnmpSettings
from tests.config.writing import only_problem, problems, read, written

PDU = """[device.pdu1]
address = "10.1.0.61"
site = "london"
snmp = { version = "2c", community = "look" }
"""
LON1 = '[node.lon1]\nsite = "london"\npaths = ["10.1.0.11", "10.9.0.11"]\n'
COMMAND = 'kind = "command"\noff = "x off"\nstatus = "x status"\n'
WITNESS = '[node.wit]\nsite = "paris"\npaths = ["10.2.0.99"]\nrole = "witness"\n'


def fence(text: str) -> tuple[str, str]:
    return LON1, f"{LON1}[node.lon1.fence]\n{text}\n"


def test_an_outlet_is_written_with_the_rights_that_are_nearest_to_it(tmp_path: Path) -> None:
    text = """kind = "pdu"
outlets = [
  { device = "pdu1", outlet = "5" },
  { device = "pdu1", outlet = "2.5", snmp = { version = "2c", community = "own", port = 1161 } },
]
"""
    device = SnmpSettings("2c", community="look")
    own = SnmpSettings("2c", community="own", port=1161)
    shared = SnmpSettings("2c", community="write")
    found = read(tmp_path, fence(text), ("#end", PDU)).nodes["lon1"].fence
    assert found == FenceSettings(
        "pdu",
        outlets=(
            OutletSettings("pdu1", "10.1.0.61", device, "5"),
            OutletSettings("pdu1", "10.1.0.61", own, "2.5"),
        ),
    )
    text += 'snmp = { version = "2c", community = "write" }\nwithin = "1m"'
    found = read(tmp_path, fence(text), ("#end", PDU)).nodes["lon1"].fence
    assert found is not None
    assert [it.snmp for it in found.outlets] == [shared, own]
    assert found.within_ms == 60_000


def test_a_bmc_and_commands(tmp_path: Path) -> None:
    text = 'kind = "ipmi"\naddress = "10.1.0.71:6230"\nuser = "u"\npassword_file = "/p"'
    found = read(tmp_path, fence(text)).nodes["lon1"].fence
    assert found == FenceSettings("ipmi", address="10.1.0.71:6230", user="u", password_file="/p")
    found = read(tmp_path, fence(COMMAND + 'on = "x on"')).nodes["lon1"].fence
    assert found == FenceSettings("command", off="x off", on="x on", status="x status")
    assert read(tmp_path).nodes["lon1"].fence is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('off = "x"', "kind: missing: one of pdu, ipmi, command"),
        ('kind = "stonith"', "must be one of pdu, ipmi, command"),
        ('kind = "command"\noff = "x"', "status: missing: ends with 0 while it is on"),
        (COMMAND + 'user = "u"', "belongs to kind ipmi, this is command"),
        (COMMAND + "outlets = []", "belongs to kind pdu, this is command"),
        (COMMAND + 'within = "100ms"', "must be 1s..10m"),
        ('kind = "ipmi"\nuser = "u"\npassword_file = "/p"', "address: missing: of the BMC"),
        (
            'kind = "ipmi"\naddress = "bmc.example.net"\nuser = "u"\npassword_file = "/p"',
            "must be an IP address",
        ),
        ('kind = "pdu"', "outlets: missing: all that feed it"),
        ('kind = "pdu"\noutlets = []', "outlets = []: is empty: all that feed it"),
        (
            'kind = "pdu"\noutlets = [{ device = "pdu2", outlet = "5" }]',
            "no such [device.*]: there are pdu1; did you mean pdu1",
        ),
        ('kind = "pdu"\noutlets = [{ device = "pdu1" }]', "outlet: missing"),
        ('kind = "pdu"\noutlets = [{ device = "pdu1", outlet = 5 }]', 'did you mean "5"'),
        ('kind = "pdu"\noutlets = [{ device = "pdu1", outlet = "A5" }]', '"5" or "1.5"'),
        (
            'kind = "pdu"\noutlets = [\n{ device = "pdu1", outlet = "5" },\n'
            '{ device = "pdu1", outlet = "5" }]',
            '12: node.lon1.fence.outlets[2].outlet = "5": is in the list already (line 11)',
        ),
    ],
)
def test_one_mistake_is_one_line(tmp_path: Path, text: str, expected: str) -> None:
    found = [str(it) for it in problems(tmp_path, fence(text), ("#end", PDU))]
    assert any(expected in line for line in found), found


def test_an_outlet_feeds_one_node(tmp_path: Path) -> None:
    text = 'kind = "pdu"\noutlets = [{ device = "pdu1", outlet = "5" }]'
    other = ("[node.par1]", f"[node.lon2.fence]\n{text}\n[node.par1]")
    found = only_problem(tmp_path, fence(text), other, ("#end", PDU))
    assert "feeds node lon1 as well" in found


def remarks(folder: Path, *changes: tuple[str, str]) -> list[Problem]:
    said: list[Problem] = []
    load(written(folder, *changes), "lon1", check_files=False, remarks=said)
    return said


COLD_LEASE = ("#group", 'standby = "cold"\nexclusive = "lease"\nlease = "1s"')


def test_a_lease_with_two_votes_is_taken_and_what_it_cannot_do_is_said(tmp_path: Path) -> None:
    (remark,) = remarks(tmp_path, COLD_LEASE)
    assert str(remark).endswith(
        '17: group.sbc.exclusive = "lease": without a witness a lost node is not replaced by '
        'itself: of two votes one is no majority; add a [node.NAME] with role = "witness"'
    )


def test_with_a_witness_there_is_nothing_to_say(tmp_path: Path) -> None:
    witness = ("#end", WITNESS)
    assert remarks(tmp_path, COLD_LEASE, witness) == []
    settings = read(tmp_path, COLD_LEASE, witness)
    assert settings.nodes["wit"].witness
    assert not settings.nodes["lon1"].witness
    group = settings.groups["sbc"]
    assert (group.exclusive, group.lease_ms) == (Exclusive.LEASE, 1000)


def test_a_witness_serves_no_group(tmp_path: Path) -> None:
    listed = ('nodes = ["par1"]', 'nodes = ["par1", "wit"]')
    found = only_problem(tmp_path, listed, ("#end", WITNESS))
    assert 'nodes[2] = "wit": is a witness: it votes and serves nothing' in found


def test_a_running_standby_that_is_exclusive_needs_to_be_told_to_work(tmp_path: Path) -> None:
    lease = 'exclusive = "lease"'
    (remark,) = remarks(tmp_path, ("#group", lease), ("#end", WITNESS))
    assert "only promote and demote say which of them works" in remark.why
    hooks = f'{lease}\npromote = "x"\ndemote = "y"'
    assert remarks(tmp_path, ("#group", hooks), ("#end", WITNESS)) == []


def test_fencing_needs_a_fence_of_every_node(tmp_path: Path) -> None:
    exclusive = ("#group", 'standby = "cold"\nexclusive = "fence"')
    found = only_problem(tmp_path, exclusive, fence(COMMAND))
    assert found.endswith(
        "needs every node of the group to have [node.NAME.fence]: there is none for lon2"
    )
    both = ("[node.par1]", f"[node.lon2.fence]\n{COMMAND}[node.par1]")
    assert remarks(tmp_path, exclusive, fence(COMMAND), both) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('lease = "1s"', 'belongs to exclusive = "lease" or "fence"'),
        ('exclusive = "lease"\nlease = "400ms"', "must be 500ms..1m"),
        ('exclusive = "leese"', "must be one of segment, lease, fence; did you mean lease"),
        (
            'exclusive = "lease"\nplain_peers = ["10.1.0.9"]',
            "take the addresses without asking for a lease",
        ),
    ],
)
def test_a_mistake_about_exclusive(tmp_path: Path, text: str, expected: str) -> None:
    assert expected in only_problem(tmp_path, ("#group", text))


def test_a_role_that_nobody_knows(tmp_path: Path) -> None:
    text = ("#end", WITNESS.replace('"witness"', '"arbiter"'))
    assert "must be one of member, witness" in only_problem(tmp_path, text)
