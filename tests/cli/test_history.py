# SPDX-License-Identifier: GPL-2.0-or-later
"""`standpipe explain` and `standpipe journal`."""

import json
from pathlib import Path
from typing import Any

from tests.cli.playing import agent, line, proof, standpipe

EXPLAINED: dict[str, Any] = {
    "decisions": [
        {
            "at_s_ago": 192.0,
            "machine": "role sbc",
            "rule": "take-orphaned",
            "before": "standby",
            "after": "active",
            "why": "no active node is heard and this node is ready",
            "inputs": {"ready": True, "epoch": 17, "peers": ["lon2"]},
            "rejected": [["stay-put", "peer_alive"], ["wait-held", "!silent"]],
        }
    ],
    "now": {
        "sbc": {
            "role": "active",
            "state": "active",
            "why": "owner since epoch 17",
            "next": [
                {
                    "rule": "give",
                    "event": "asked",
                    "next": "standby",
                    "needs": ["peer_ready", "!held"],
                    "why": "somebody else is to serve",
                },
                {"rule": "quarantine", "needs": []},
            ],
        }
    },
}
JOURNAL: dict[str, Any] = {
    "records": [
        {
            "seq": 41,
            "wall_s": 1_700_000_000.25,
            "kind": "decision",
            "subject": "role sbc",
            "text": "standby to active",
            "detail": {},
            "digest": "aa",
        },
        {
            "seq": 42,
            "wall_s": None,
            "kind": "alarm",
            "subject": "node lon2",
            "text": "silent\x1b[2J",
            "detail": {},
            "digest": "bb",
        },
    ],
    "chain_ok": True,
}


def test_explain_tells_the_rule_its_inputs_and_what_was_rejected(tmp_path: Path) -> None:
    with agent(tmp_path, lambda request: [line(True, "", EXPLAINED)]) as heard:
        ended = standpipe("explain", "sbc", run_dir=tmp_path)
    assert heard[0]["args"] == {"group": "sbc"}
    assert (
        ended.stdout
        == """\
  3m 12s ago  role sbc: standby → active
              because no active node is heard and this node is ready  (rule take-orphaned)
              saw ready=true, epoch=17, peers=["lon2"]
              not stay-put: needs peer alive
              not wait-held: needs not silent

group sbc is active, active: owner since epoch 17
  what would change that:
    give        → standby  on asked  still needs peer ready, not held  somebody else is to serve
    quarantine                       has all it needs
"""
    )


def test_explain_shows_plain_peers_and_what_each_interface_hears(tmp_path: Path) -> None:
    now = {"sbc": EXPLAINED["now"]["sbc"] | {"plain_peers": ["10.1.0.9", "10.1.0.8"]}}
    detail = EXPLAINED | {"now": now, "senses": {"eth0": "unanswered", "eth1": "odd"}}
    with agent(tmp_path, lambda request: [line(True, "", detail)]):
        lines = standpipe("explain", run_dir=tmp_path).stdout.splitlines()
    assert "  plain peers, known by their adverts alone: 10.1.0.9, 10.1.0.8" in lines
    assert lines[-2:] == [
        "link eth0 is unanswered: frames come in, but nobody who is asked answers",
        "link eth1 is odd: ?",
    ]


def test_explain_of_everything_and_of_nothing(tmp_path: Path) -> None:
    with agent(tmp_path, lambda request: [line(True, "", {"decisions": [], "now": {}})]) as heard:
        ended = standpipe("explain", run_dir=tmp_path)
    assert heard[0]["args"] == {}
    assert ended.stdout == "no decision yet: nothing had to change\n"


def test_explain_of_an_unknown_group_is_refused(tmp_path: Path) -> None:
    refusal = line(False, "no such group: there are sbc, dialer; did you mean sbc")
    with agent(tmp_path, lambda request: [refusal]):
        ended = standpipe("explain", "sbx", run_dir=tmp_path)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "did you mean sbc" in ended.stderr


def test_journal_is_a_line_a_record(tmp_path: Path) -> None:
    with agent(tmp_path, lambda request: [line(True, "", JOURNAL)]) as heard:
        ended = standpipe("journal", "--last", "2", run_dir=tmp_path, env={"TZ": "UTC"})
    assert heard[0]["args"] == {"last": 2}
    assert ended.stdout.splitlines() == [
        "41  2023-11-14 22:13:20+0000  decision  role sbc   standby to active",
        "42  ?                         alarm     node lon2  silent?[2J",
    ]


def test_journal_verify_says_whether_the_chain_holds(tmp_path: Path) -> None:
    with agent(tmp_path, lambda request: [line(True, "", JOURNAL)]):
        good = standpipe("journal", "--verify", run_dir=tmp_path)
        as_json = standpipe("journal", "--json", run_dir=tmp_path)
    assert good.returncode == 0
    assert good.stdout.endswith("chain holds: 2 records read, none changed\n")
    assert json.loads(as_json.stdout) == JOURNAL


def test_a_broken_chain_is_never_silent(tmp_path: Path) -> None:
    with agent(tmp_path, lambda request: [line(True, "", JOURNAL | {"chain_ok": False})]):
        seen = standpipe("journal", run_dir=tmp_path)
        verified = standpipe("journal", "--verify", run_dir=tmp_path)
    assert (seen.returncode, verified.returncode) == (0, 1)
    for ended in (seen, verified):
        assert "the chain of the journal is broken" in ended.stderr


def test_explain_shows_the_step_the_proofs_and_the_maintenance(tmp_path: Path) -> None:
    now = EXPLAINED["now"]["sbc"] | {"step": "draining", "proofs": [proof("unit", "good", 3, "")]}
    detail = EXPLAINED | {"now": {"sbc": now}, "maintenance": {"until_s": 600, "by": "eva"}}
    with agent(tmp_path, lambda request: [line(True, "", detail)]):
        lines = standpipe("explain", "sbc", run_dir=tmp_path).stdout.splitlines()
    assert lines[0] == "MAINTENANCE for 10m 00s more, by eva"
    assert "group sbc is active, active, draining: owner since epoch 17" in lines
    at = lines.index("  what is proved of this standby:")
    assert lines[at + 1] == "    ● unit  good  3s ago"


def test_explain_says_nothing_of_a_step_that_is_none(tmp_path: Path) -> None:
    detail = EXPLAINED | {"now": {"sbc": EXPLAINED["now"]["sbc"] | {"step": "serving"}}}
    with agent(tmp_path, lambda request: [line(True, "", detail)]):
        shown = standpipe("explain", "sbc", run_dir=tmp_path).stdout
    assert "group sbc is active, active: owner since epoch 17" in shown
    assert "MAINTENANCE" not in shown


def test_explain_names_an_event_once_not_also_as_something_missing(tmp_path: Path) -> None:
    row = {"rule": "R-TOOK", "event": "took", "next": "active", "why": "the addresses are here"}
    rows = [row | {"needs": ["took"]}, row | {"needs": ["took", "startable"]}]
    detail = EXPLAINED | {"now": {"sbc": EXPLAINED["now"]["sbc"] | {"next": rows}}}
    with agent(tmp_path, lambda request: [line(True, "", detail)]):
        lines = standpipe("explain", "sbc", run_dir=tmp_path).stdout.splitlines()
    needs = [text.split("on took")[1].split("the addresses")[0].strip() for text in lines[-2:]]
    assert needs == ["", "still needs startable"]
