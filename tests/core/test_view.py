# SPDX-License-Identifier: GPL-2.0-or-later
"""What people are shown: a documented shape, and why things are as they are."""

import json

import pytest

from agent.core.model import ConfigRefused, Decision, KeeperLost, SourceFailed, StoreFailed
from agent.core.view import explain, health, status
from tests.core.agents import COLD, DOWN, PLAIN, UP, AgentPlay, ask, sample, serving, standby, ups
from tests.core.playbook import after

# Version 1: what scripts rely on. A key may be added with a new version only.
SHAPE = {
    "version": int,
    "node": str,
    "cluster": str,
    "site": str,
    "witness": bool,
    "up_s": int,
    "health": str,
    "watch_only": bool,
    "groups": {
        "name": str,
        "standby": str,
        "role": str,
        "state": str,
        "owner": str,
        "epoch": int,
        "ready": bool,
        "why": str,
        "addresses": list,
        "plain_peers": list,
        "services": {
            "name": str,
            "health": str,
            "restarts_left": int,
            "checks": {"name": str, "health": str, "detail": str, "age_s": (int, type(None))},
        },
    },
    "peers": {"name": str, "site": str, "state": str, "groups": dict},
    "geos": {"name": str, "site": str, "epoch": int, "arbiter": str},
    "devices": {"name": str, "health": str, "detail": str},
    "resources": {
        "resource": str,
        "value": (float, type(None)),
        "limit": (float, type(None)),
        "unit": str,
        "pct": (float, type(None)),
        "health": str,
        "eta_s": (int, type(None)),
        "eta_low_s": (int, type(None)),
        "eta_high_s": (int, type(None)),
    },
    "alarms": {
        "alarm_id": str,
        "kind": str,
        "subject": str,
        "severity": str,
        "text": str,
        "since_s": int,
    },
    "keeper": dict,
    "senses": dict,
    "store": dict,
    "maintenance": (dict, type(None)),
    "config": dict,
}


def fits(value, shape, where="status"):
    """Asserts that a value has the shape; a dict in it is the shape of each item of a list."""
    assert set(shape) <= set(value), where
    for key, kind in shape.items():
        if isinstance(kind, dict):
            assert value[key], f"{where}.{key} is empty: the test shows nothing"
            for item in value[key]:
                fits(item, kind, f"{where}.{key}")
        else:
            assert isinstance(value[key], kind), f"{where}.{key}"


def shown(play):
    return status(play.core)


def full():
    return serving().given(sample(98.0), ups(1, 1800), after(5000))


# ---------------------------------------------------------------- status


def test_status_has_the_documented_shape():
    found = shown(full())
    fits(found, SHAPE)
    assert set(found) == set(SHAPE)
    assert set(found["keeper"]) == {"state", "beat_age_ms", "counters"}
    assert set(found["store"]) == {"ok", "detail"}
    assert set(found["config"]) == {"digest", "problems"}


def test_status_survives_the_socket():
    found = shown(full())
    assert json.loads(json.dumps(found)) == found


def test_status_before_anything_was_heard_is_unknown_or_worse_never_well():
    play = AgentPlay()
    found = shown(play)
    assert found["keeper"]["state"] == "not heard yet"
    assert found["peers"] == []
    assert found["health"] != "up"
    assert shown(AgentPlay(""))["health"] == "unknown"


def test_a_group_says_who_owns_it_and_whether_this_node_could():
    (group,) = shown(standby())["groups"]
    assert (group["role"], group["state"], group["owner"]) == ("standby", "backup", "lon1")
    assert (group["ready"], group["why"], group["addresses"]) == (True, "", ["10.1.0.100/24"])
    (group,) = shown(standby(standby=COLD))["groups"]
    assert (group["ready"], group["why"]) == (False, "cold: its services are not running")


def test_a_plain_peer_that_has_the_group_is_its_owner_and_well():
    play = standby(plain_peers=(PLAIN,))
    play.given(play.keeper("backup", active=PLAIN))
    (group,) = shown(play)["groups"]
    assert (group["owner"], group["plain_peers"]) == (PLAIN, [PLAIN])
    assert str(health(play.core)) == "up"
    now = explain(play.core, "sbc")["now"]["sbc"]
    assert now["why"] == "plain peer 10.1.0.9 has it; ready to take over"
    assert now["plain_peers"] == [PLAIN]


def test_what_each_interface_hears_is_shown_and_explained():
    play = serving()
    assert shown(AgentPlay())["senses"] == explain(AgentPlay().core, "")["senses"] == {}
    play.given(play.keeper("active", senses={"eth0": "well", "eth1": "deaf"}))
    assert shown(play)["senses"] == {"eth0": "well", "eth1": "deaf"}
    assert explain(play.core, "sbc")["senses"] == {"eth0": "well", "eth1": "deaf"}


def test_a_service_says_how_it_is_and_what_is_left():
    play = serving().given(*DOWN)
    (service,) = shown(play)["groups"][0]["services"]
    assert (service["name"], service["health"], service["restarts_left"]) == ("kamailio", "down", 1)
    (check,) = service["checks"]
    assert (check["name"], check["health"], check["detail"]) == ("tcp", "down", "refused")


def test_a_check_that_never_answered_has_no_age():
    (service,) = shown(AgentPlay())["groups"][0]["services"]
    assert service["checks"][0]["age_s"] is None


def test_peers_say_what_they_serve():
    peers = {peer["name"]: peer for peer in shown(serving())["peers"]}
    assert peers["par1"]["site"] == "paris"
    assert peers["lon2"]["groups"] == {"sbc": {"state": "backup", "ready": True, "able": False}}
    assert not peers["lon2"]["witness"]


def test_a_device_is_unknown_until_it_is_heard_and_after_it_fell_silent():
    play = serving()
    assert shown(play)["devices"][0]["health"] == "unknown"
    play.given(ups(0, 3000))
    assert shown(play)["devices"] == [{"name": "ups1", "health": "up", "detail": "on mains"}]
    play.given(after(40_000))
    assert shown(play)["devices"][0]["health"] == "unknown"


def test_maintenance_says_for_how_long_and_by_whom():
    play = serving().given(ask("maintenance", on=True, for_s=60), after(15_000))
    assert shown(play)["maintenance"] == {"until_s": 45, "by": "root (uid 0)"}
    play.given(after(60_000))
    assert shown(play)["maintenance"] is None


def test_what_failed_is_shown():
    play = serving().given(
        KeeperLost("killed"), StoreFailed("disk full"), ConfigRefused(("a", "b"))
    )
    found = shown(play)
    assert found["keeper"]["state"] == "killed"
    assert found["store"] == {"ok": False, "detail": "disk full"}
    assert found["config"]["problems"] == ["a", "b"]


# ---------------------------------------------------------------- health


@pytest.mark.parametrize(
    ("events", "wanted"),
    [
        ((), "up"),
        ((ups(1, 3000),), "degraded"),
        ((ups(1, 100),), "down"),
        ((KeeperLost("x"),), "degraded"),
        ((StoreFailed("x"),), "degraded"),
        (DOWN, "degraded"),
        ((*DOWN, *UP), "up"),
        ((SourceFailed("ups1", "refused", "x"),), "up"),
        ((sample(98.0),), "down"),
    ],
)
def test_health_is_the_worst_that_stands(events, wanted):
    assert str(health(serving().given(*events).core)) == wanted


def test_a_group_that_nobody_serves_is_down_whatever_else():
    play = standby()
    assert str(health(play.core)) == "up"
    play.given(play.keeper(orphaned=True, peer="silent"))
    assert str(health(play.core)) == "down"


def test_a_move_that_went_well_is_no_trouble():
    play = standby("lon1")
    play.given(play.keeper("active"))
    assert "group-moved" in play.standing()
    assert str(health(play.core)) == "up"


# ---------------------------------------------------------------- explain


def test_explain_shows_what_was_decided_on_which_inputs_and_what_was_not():
    play = standby()
    rejected = (("G-SELF-LATE", "self_late"),)
    late = Decision("group sbc", "G-LATE", "backup", "backup", "ask", {"ready": True}, rejected)
    play.given(play.keeper(decisions=(late,)), after(3000))
    (shown,) = [d for d in explain(play.core, "sbc")["decisions"] if d["rule"] == "G-LATE"]
    assert shown == {
        "at_s_ago": 3,
        "machine": "group sbc",
        "rule": "G-LATE",
        "before": "backup",
        "after": "backup",
        "why": "ask",
        "inputs": {"ready": True},
        "rejected": [["G-SELF-LATE", "self_late"]],
    }


def test_explain_of_one_group_leaves_the_others_out_but_not_its_peers():
    play = serving()
    play.given(
        play.keeper(
            "active",
            decisions=(
                Decision("group other", "G-X", "", "", "x"),
                Decision("peer lon2", "P-SILENT", "", "", "x"),
            ),
        )
    )
    machines = {decision["machine"] for decision in explain(play.core, "sbc")["decisions"]}
    assert "group other" not in machines
    assert "peer lon2" in machines
    assert "group other" in {d["machine"] for d in explain(play.core, "")["decisions"]}


def test_explain_says_what_each_next_change_needs():
    now = explain(standby(standby=COLD).core, "sbc")["now"]["sbc"]
    assert (now["role"], now["state"]) == ("standby", "backup")
    assert now["why"] == "cold: its services are not running"
    needs = {change["rule"]: change["needs"] for change in now["next"]}
    assert needs["R-TOOK"] == ["took"]
    assert needs["R-ORPHAN"] == ["orphaned"]
    hot = explain(standby().core, "sbc")["now"]["sbc"]
    assert hot["why"] == "ready to take over"
    assert {c["rule"]: c["needs"] for c in hot["next"]}["R-ORPHAN"] == ["orphaned", "brought"]


def test_explain_of_a_group_that_is_not_here_is_empty():
    assert explain(serving().core, "pbx")["now"] == {}
