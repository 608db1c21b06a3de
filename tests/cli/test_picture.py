# SPDX-License-Identifier: GPL-2.0-or-later
"""What a real core says is documented, and drawn."""

import json
import re
from pathlib import Path
from typing import Any

from agent.cli_history import explanation
from agent.cli_paint import Paint
from agent.cli_status import picture
from agent.core.model import Proof, Proved
from agent.core.readiness import Readiness
from agent.core.settings import CarriedSettings, Exclusive
from agent.core.view import explain, status
from tests.core.agents import COLD, AgentPlay, ask, serving, standby
from tests.core.playbook import after

TREE = Path(__file__).parents[2]
PLAIN = Paint(False, True, 0)
CARRIED = CarriedSettings(("/etc/dialer.conf",), status="/var/lib/dialer/status")


def proving() -> AgentPlay:
    """A cold standby of an exclusive group that proved its settings and nothing else."""
    play = standby(standby=COLD, exclusive=Exclusive.LEASE, carried=CARRIED)
    play.role.readiness = Readiness(play.role.settings)
    play.given(Proved("sbc", (Proof("settings", True, ""), Proof("room", False, "4 MB are free"))))
    play.given(after(1000))
    return play


def said(play: AgentPlay) -> dict[str, Any]:
    """As it comes over the socket."""
    found: dict[str, Any] = json.loads(json.dumps(status(play.core)))
    return found


def keys(value: Any) -> set[str]:
    if isinstance(value, list):
        return set().union(*map(keys, value)) if value else set()
    return set(value).union(*map(keys, value.values())) if isinstance(value, dict) else set()


def test_every_key_that_an_agent_says_is_documented() -> None:
    words = set(re.findall(r"[a-z_]+", (TREE / "docs" / "cli.md").read_text()))
    names = {"sbc", "sbc-paris"}
    for play in (serving(), proving()):
        assert keys(said(play)) - names - words == set()
        told = json.loads(json.dumps(explain(play.core, "sbc")))
        told["decisions"] = [decision | {"inputs": {}} for decision in told["decisions"]]
        assert keys(told) - names - words == set()


def test_a_standby_is_drawn_with_what_is_missing_and_all_of_it_on_demand() -> None:
    short, long = (picture(said(proving()), PLAIN, verbose=on) for on in (False, True))
    assert any(re.match(r"  ✗ room +bad +1s ago  4 MB are free", text) for text in short)
    assert any(re.match(r"  \? unit +unseen", text) for text in short)
    assert not any("settings" in text or "drift" in text for text in short)
    assert any(re.match(r"  ● settings +good +1s ago", text) for text in long)


def test_the_node_that_serves_has_nothing_to_prove() -> None:
    play = serving(carried=CARRIED)
    play.role.readiness = Readiness(play.role.settings)
    assert said(play)["groups"][0]["proofs"] == []


def test_explain_shows_the_proofs_with_their_age() -> None:
    detail = json.loads(json.dumps(explain(proving().core, "sbc")))
    lines = explanation(detail, PLAIN)
    at = lines.index("  what is proved of this standby:")
    assert re.match(r"    ● settings +good +1s ago", lines[at + 1])


def test_a_cold_service_that_does_not_run_is_no_fault() -> None:
    assert "  ○ kamailio off" in picture(said(proving()), PLAIN)


def test_the_way_is_explained_only_while_the_group_is_on_it() -> None:
    play = proving()
    resting = explanation(json.loads(json.dumps(explain(play.core, "sbc"))), PLAIN)
    play.role.way.state = "claiming"
    claiming = explanation(json.loads(json.dumps(explain(play.core, "sbc"))), PLAIN)
    assert not any("B-" in text for text in resting)
    assert any("B-HELD-START" in text for text in claiming)
    assert any(text.startswith("group sbc is standby, backup, claiming: ") for text in claiming)


def test_maintenance_heads_both_the_status_and_the_explanation() -> None:
    play = serving()
    play.given(ask("maintenance", on=True, for_s=600), after(5000))
    head = "MAINTENANCE for 9m 55s more, by root (uid 0)"
    assert picture(said(play), PLAIN)[0].endswith(head)
    assert explanation(json.loads(json.dumps(explain(play.core, ""))), PLAIN)[0] == head
