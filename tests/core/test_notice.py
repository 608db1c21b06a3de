# SPDX-License-Identifier: GPL-2.0-or-later
"""What is seen becomes alarms for people, raised and cleared in pairs, and threats to groups."""

import pytest

from agent.core.engine import AgentCore
from agent.core.model import Decision, KeeperLost, Reading, Sampled, SourceFailed
from agent.core.orders import Record, Tell
from agent.core.settings import DeviceSettings, SnmpSettings
from tests.core.agents import (
    CLEARED,
    COLD,
    DOWN,
    PLAIN,
    UP,
    AgentPlay,
    sample,
    serving,
    settings,
    standby,
    ups,
)
from tests.core.playbook import after, paused


def alarms(play, *events):
    return [action.alarm for action in play.said(Tell, *events)]


def foreign(source="10.1.0.66", rule="advert-foreign"):
    return Decision("packets", rule, "", "", f"{source} does what it must not", {"source": source})


def decided(rule, group="sbc", **inputs):
    return Decision(f"group {group}", rule, "active", "active", "as the table says", inputs)


def defended(mac="aa:bb:cc:00:00:66"):
    return (decided("G-DEFEND", address="10.1.0.100", mac=mac),)


def put_back(rule="G-PUT-BACK", by="NetworkManager (pid 812)"):
    return (decided(rule, address="10.1.0.100", by=by),)


# ---------------------------------------------------------------- pairs

PAIRS = {
    "service-down": (lambda p: DOWN, lambda p: (*UP,)),
    "node-lost": (
        lambda p: [p.keeper("active", peer="silent")],
        lambda p: [p.keeper("active")],
    ),
    "site-lost": (
        lambda p: [p.keeper("active", paris="silent")],
        lambda p: [p.keeper("active")],
    ),
    "link-down": (
        lambda p: [p.keeper("active", link=False)],
        lambda p: [p.keeper("active")],
    ),
    "keeper-lost": (
        lambda p: [KeeperLost("nothing heard from it for 1000 ms: killed")],
        lambda p: [p.keeper("active")],
    ),
    "group-without-standby": (
        lambda p: [p.keeper("active", peer_ready=False), after(12_000)],
        lambda p: [p.keeper("active"), after(1000)],
    ),
    "group-without-owner": (
        lambda p: [p.keeper("backup", active="", peer_state="backup"), after(7000)],
        lambda p: [p.keeper("active"), after(1000)],
    ),
    "double-owner": (
        lambda p: [p.keeper("active", peer_state="active"), after(4000)],
        lambda p: [p.keeper("active"), after(1000)],
    ),
    "peer-path-lost": (
        lambda p: [p.keeper("active", lost_paths=(1,)), after(1000)],
        lambda p: [p.keeper("active"), after(1000)],
    ),
    "agent-late": (lambda p: [paused(10_000)], lambda p: [after(2000)]),
    "ups-on-battery": (lambda p: [ups(1, 3000)], lambda p: [ups(0, 3000)]),
    "ups-runtime-low": (lambda p: [ups(1, 100)], lambda p: [ups(0, 100)]),
    "device-unknown": (
        lambda p: [SourceFailed("ups1", "unreachable", "no answer")] * 3,
        lambda p: [ups(0, 3000)],
    ),
    "trap-undelivered": (
        lambda p: [SourceFailed("nms:main", "unreachable", "no answer")],
        lambda p: [Sampled("nms:main", ())],
    ),
    "foreign-router": (
        lambda p: [p.keeper("active", counters={"advert-foreign": 1}, decisions=(foreign(),))],
        lambda p: [after(602_000)],
    ),
    "packet-refused": (
        lambda p: [
            p.keeper("active", counters={"peer-key": 1}, decisions=(foreign(rule="peer-key"),))
        ],
        lambda p: [after(602_000)],
    ),
    "resource-level": (lambda p: [sample(98.0)], lambda p: [sample(10.0)]),
    "router-disagrees": (
        lambda p: [
            p.keeper(
                "active",
                counters={"advert-interval": 1},
                decisions=(foreign(rule="advert-interval"),),
            )
        ],
        lambda p: [after(602_000)],
    ),
    "address-conflict": (
        lambda p: [p.keeper("active", decisions=defended())],
        lambda p: [after(61_000)],
    ),
    "address-removed": (
        lambda p: [p.keeper("active", decisions=put_back())],
        lambda p: [after(601_000)],
    ),
    "interface-deaf": (
        lambda p: [p.keeper("active", senses={"eth0": "deaf"}), after(4000)],
        lambda p: [p.keeper("active", senses={"eth0": "well"}), after(1000)],
    ),
}


@pytest.mark.parametrize("kind", PAIRS)
def test_an_alarm_is_raised_once_and_cleared_once_under_one_name(kind):
    begin, end = PAIRS[kind]
    play = serving()
    told = alarms(play, *begin(play), *begin(play), *end(play), *end(play))
    mine = [alarm for alarm in told if alarm.kind == kind]
    assert [str(alarm.severity) == CLEARED for alarm in mine] == [False, True]
    assert mine[0].alarm_id == mine[1].alarm_id
    assert kind not in play.standing()


@pytest.mark.parametrize("kind", PAIRS)
def test_every_edge_is_in_the_journal_before_it_is_told(kind):
    begin, end = PAIRS[kind]
    play = serving()
    play.given(*begin(play), *end(play))
    for place, action in enumerate(play.all):
        if isinstance(action, Tell):
            record = play.all[place - 1]
            assert isinstance(record, Record)
            assert record.detail["id"] == action.alarm.alarm_id


# ---------------------------------------------------------------- UPS


def test_battery_is_told_with_what_is_left():
    (alarm,) = alarms(serving(), ups(1, 1800))
    assert (alarm.kind, alarm.subject) == ("ups-on-battery", "device ups1")
    assert "1800 s left" in alarm.text


def test_little_runtime_on_battery_is_a_threat_to_the_nodes_that_it_feeds():
    play = serving("lon1")
    assert ("ups-runtime-low", "critical") in play.told(ups(1, 299))
    assert not play.word.ready
    play = serving("lon2")
    assert ("ups-runtime-low", "critical") in play.told(ups(1, 299))
    assert play.word.ready


def test_enough_runtime_or_little_of_it_on_mains_is_no_threat():
    assert serving().given(ups(1, 301)).word.ready
    assert serving().given(ups(0, 10)).word.ready


def test_a_runtime_that_nobody_knows_is_no_threat():
    play = serving().given(ups(1, None))
    assert play.word.ready
    assert play.core.devices["ups1"].detail == "on battery, unknown runtime"


def test_a_ups_whose_source_is_unknown_clears_nothing():
    play = serving().given(ups(1, 100))
    assert play.told(ups(None, None)) == []
    assert not play.word.ready


def test_a_ups_that_falls_silent_on_battery_stays_a_threat():
    play = serving().given(ups(1, 100), after(120_000))
    assert not play.word.ready
    assert {"ups-on-battery", "ups-runtime-low", "device-unknown"} <= play.standing()


# ---------------------------------------------------------------- devices


def test_one_lost_round_is_nothing_three_are_an_alarm():
    play = serving()
    lost = SourceFailed("ups1", "unreachable", "ups1 10.1.0.60: no answer in 1 s")
    assert play.told(lost, lost) == []
    assert play.told(lost) == [("device-unknown", "warning")]


def test_a_clear_no_is_told_at_once():
    refused = SourceFailed("ups1", "refused", "ups1: wrong digest; check snmp.secrets_file")
    assert serving().told(refused) == [("device-unknown", "warning")]


def test_a_device_that_nobody_hears_of_becomes_unknown_by_itself():
    play = serving().given(ups(0, 3000))
    assert play.told(after(29_000)) == []
    assert play.told(after(3000)) == [("device-unknown", "warning")]
    assert play.core.devices["ups1"].readings == {}


def test_a_source_that_is_no_device_is_only_written_down():
    play = serving()
    (record,) = play.said(Record, SourceFailed("host", "garbled", "host: no such file"))
    assert (record.kind, record.text) == ("sample", "garbled: host: no such file")


# ---------------------------------------------------------------- the host


def filling(play, seconds, per_s=1000.0, start=0.0, limit=1_000_000.0):
    told = []
    for second in range(0, seconds, 10):
        told += play.told(sample(start + per_s * second, limit=limit), after(10_000))
    return told


def test_a_disk_that_fills_up_is_told_ahead_and_moves_the_group_in_time():
    play = serving()
    told = filling(play, 400)
    assert told[0][0] == "resource-filling"
    assert "resource-level" not in play.standing()
    assert not play.word.ready
    assert play.word.why.startswith("disk:/var: ")
    assert "exhausted in about" in play.word.why


def test_a_disk_without_switch_over_is_only_told():
    play = serving()
    watch = play.core.settings.watches["disk"]
    play.core.settings.watches["disk"] = type(watch)("disk")
    filling(play, 400)
    assert "resource-filling" in play.standing()
    assert play.word.ready


def test_a_full_disk_is_told_whatever_the_forecast():
    assert serving().told(sample(98.0)) == [("resource-level", "critical")]


def test_a_resource_that_nobody_wants_watched_is_not():
    play = serving()
    assert play.told(sample(99.0, "inodes:/var")) == []
    assert play.core.resources == {}


def test_a_value_that_is_not_known_tells_nothing():
    assert serving().told(*[sample(None)] * 20) == []


# ---------------------------------------------------------------- peers, links


def test_a_peer_that_is_asked_or_held_is_not_lost():
    play = serving()
    for state in ("asking", "held", "unknown", "alive"):
        assert play.told(play.keeper("active", peer=state)) == []


def test_a_lost_site_says_what_to_do():
    play = serving()
    told = alarms(play, play.keeper("active", paris="silent"))
    (site,) = [alarm for alarm in told if alarm.kind == "site-lost"]
    assert site.subject == "site paris"
    assert site.text == (
        "all of ['par1'] silent; send the world elsewhere: "
        "standpipe failover voice --to london --force"
    )


def test_our_own_site_is_not_lost_while_we_are_here():
    play = serving()
    told = play.told(play.keeper("active", peer="silent"))
    assert told == [("node-lost", "major")]


def test_a_cable_that_is_missing_from_the_beginning_is_told():
    play = AgentPlay()
    assert ("link-down", "major") in play.told(play.keeper(link=False))


def test_a_cable_that_no_group_needs_is_not_missed_before_it_was_there():
    play = AgentPlay()
    report = play.keeper()
    report.links["eth7"] = False
    assert play.told(report) == []


def test_a_foreign_router_is_an_alarm_of_its_own_for_each_source():
    play = serving()
    told = alarms(
        play,
        play.keeper("active", decisions=(foreign("10.1.0.66"),)),
        play.keeper("active", decisions=(foreign("10.1.0.67"),)),
    )
    assert [alarm.subject for alarm in told] == [
        "advert-foreign from 10.1.0.66",
        "advert-foreign from 10.1.0.67",
    ]
    assert {alarm.kind for alarm in told} == {"foreign-router"}


def test_packets_that_go_on_coming_keep_their_alarm():
    play = serving()
    play.given(
        play.keeper("active", counters={"peer-key": 1}, decisions=(foreign(rule="peer-key"),))
    )
    for count in range(2, 9):
        play.given(after(300_000), play.keeper("active", counters={"peer-key": count}))
    assert "packet-refused" in play.standing()
    assert play.told(after(602_000)) == [("packet-refused", "cleared")]


@pytest.mark.parametrize("rule", ["advert-interval", "advert-form", "advert-owner"])
def test_a_router_of_ours_that_is_set_otherwise_disagrees(rule):
    play = serving()
    report = play.keeper("active", counters={rule: 1}, decisions=(foreign("10.1.0.12", rule),))
    (alarm,) = alarms(play, report)
    assert (alarm.kind, alarm.subject) == ("router-disagrees", f"{rule} from 10.1.0.12")


# ---------------------------------------------------------------- addresses that others touch


def test_a_stranger_at_our_address_is_named_with_the_address():
    play = serving()
    (alarm,) = alarms(play, play.keeper("active", decisions=defended()))
    assert (alarm.kind, alarm.subject) == ("address-conflict", "address 10.1.0.100 of sbc")
    assert alarm.text.startswith("aa:bb:cc:00:00:66 answers for 10.1.0.100 too")


def test_a_conflict_lasts_as_long_as_the_stranger_answers_and_a_minute_more():
    play = serving()
    for _ in range(5):
        play.given(play.keeper("active", decisions=defended()), after(50_000))
    assert "address-conflict" in play.standing()
    assert play.told(after(9000)) == []
    assert play.told(after(3000)) == [("address-conflict", "cleared")]


def test_whoever_removes_our_address_is_named_where_it_is_known():
    play = serving()
    (alarm,) = alarms(play, play.keeper("active", decisions=put_back()))
    assert alarm.text.startswith("NetworkManager (pid 812) removed 10.1.0.100: it was put back")
    assert str(alarm.severity) == "minor"
    play = serving()
    (alarm,) = alarms(play, play.keeper("active", decisions=put_back(by="")))
    assert alarm.text.startswith("a program that is not known removed 10.1.0.100")


def test_a_group_that_had_to_leave_because_of_it_is_worse():
    play = serving()
    told = alarms(
        play,
        play.keeper("active", decisions=put_back()),
        play.keeper("active", decisions=put_back("G-GIVE-TUSSLE")),
    )
    assert [str(alarm.severity) for alarm in told] == ["minor", "major"]
    assert "again and again: sbc is handed over" in told[1].text


def test_a_decision_that_names_no_address_is_about_the_group():
    play = serving()
    (alarm,) = alarms(play, play.keeper("active", decisions=(decided("G-PUT-BACK"),)))
    assert (alarm.subject, alarm.text.split(":")[0]) == (
        "group sbc",
        "a program that is not known removed an address of sbc",
    )


@pytest.mark.parametrize(
    ("kind", "after_ms", "decision"),
    [
        ("address-conflict", 60_000, defended()[0]),
        ("address-removed", 600_000, put_back()[0]),
        ("foreign-router", 600_000, foreign()),
        ("router-disagrees", 600_000, foreign(rule="advert-form")),
        ("packet-refused", 600_000, foreign(rule="peer-key")),
    ],
)
def test_what_an_earlier_agent_told_ends_after_the_same_time(kind, after_ms, decision):
    first = serving()
    first.given(first.keeper("active", decisions=(decision,)))
    core = AgentCore(settings(), {}, first.now, None, first.core.alarms.standing())
    play = AgentPlay()
    play.core, play.now = core, first.now
    play.given(*UP, play.keeper("active"))
    assert kind not in [name for name, _ in play.told(after(after_ms - 2000))]
    assert (kind, "cleared") in play.told(after(4000))


# ---------------------------------------------------------------- what an interface hears


def hearing(play, sense, **report):
    return play.keeper("active", senses={"eth0": sense}, **report)


@pytest.mark.parametrize(
    ("sense", "said"),
    [
        ("deaf", "nothing is heard on eth0, though neighbours were asked"),
        ("unanswered", "frames come in on eth0, but nobody who is asked there answers"),
    ],
)
def test_an_interface_that_is_cut_off_says_what_was_found(sense, said):
    play = serving()
    (alarm,) = alarms(play, hearing(play, sense), after(4000))
    assert (alarm.kind, alarm.subject) == ("interface-deaf", "link eth0")
    assert alarm.text.startswith(said)
    assert "check the switch port" in alarm.text or "check the cable" in alarm.text


def test_with_a_gateway_it_is_the_gateway_that_does_not_answer():
    play = serving(gateways=("10.1.0.1",))
    (alarm,) = alarms(play, hearing(play, "deaf"), after(4000))
    assert alarm.text.startswith("the gateway does not answer on eth0 (10.1.0.1)")


def test_one_bad_look_at_the_network_is_no_alarm():
    play = serving()
    assert play.told(hearing(play, "deaf"), after(1500), hearing(play, "hears"), after(9000)) == []


def test_an_interface_without_carrier_has_one_alarm_not_two():
    play = serving()
    assert play.told(hearing(play, "deaf", link=False), after(60_000)) == [("link-down", "major")]


def test_knowing_nothing_is_no_end_of_deafness():
    play = serving()
    play.given(hearing(play, "deaf"), after(4000))
    assert play.told(hearing(play, "unknown"), after(60_000)) == []
    assert play.told(hearing(play, "hears"), after(1000)) == [("interface-deaf", "cleared")]
    assert serving().told(hearing(play, "unknown"), after(60_000)) == []


# ---------------------------------------------------------------- absence


@pytest.mark.parametrize(
    ("kind", "wrong", "lasts_ms"),
    [
        ("group-without-owner", {"active": "", "peer_state": "backup"}, 4000),
        ("double-owner", {"peer_state": "active"}, 1000),
    ],
)
def test_what_a_hand_over_looks_like_for_a_moment_is_no_alarm(kind, wrong, lasts_ms):
    play = serving()
    state = "backup" if "active" in wrong else "active"
    play.given(play.keeper(state, **wrong), after(lasts_ms), play.keeper("active"), after(30_000))
    assert kind not in [a.alarm.kind for a in play.all if isinstance(a, Tell)]


def test_a_lost_path_of_a_peer_that_is_silent_on_all_is_no_alarm_of_its_own():
    play = serving()
    play.given(play.keeper("active", peer="silent", lost_paths=(0, 1)), after(5000))
    assert "peer-path-lost" not in play.standing()


def test_a_lost_path_says_which_network_to_look_at():
    play = serving()
    (alarm,) = alarms(play, play.keeper("active", lost_paths=(1,)), after(1000))
    assert alarm.subject == "path 10.9.0.12 of lon2"


def test_a_moment_of_lateness_is_no_alarm():
    assert serving().told(paused(2500), after(2000)) == []


def test_a_standby_that_is_away_for_a_moment_is_nothing():
    play = serving()
    play.given(play.keeper("active", peer_ready=False), after(8000), play.keeper("active"))
    assert play.told(after(60_000)) == []


def test_a_standby_misses_no_standby():
    play = standby()
    assert play.told(play.keeper("backup", peer_ready=False), after(60_000)) == []


def test_a_cold_standby_need_not_be_ready():
    play = serving(standby=COLD)
    able = play.keeper("active", peer_ready=False, able=("sbc",))
    assert "group-without-standby" not in [kind for kind, _ in play.told(able, after(60_000))]
    unable = play.keeper("active", peer_ready=False)
    assert "group-without-standby" in [kind for kind, _ in play.told(unable, after(60_000))]


def test_a_plain_peer_that_has_the_group_owns_it():
    play = standby(plain_peers=(PLAIN,))
    told = play.told(play.keeper("backup", active=PLAIN), after(60_000))
    assert told == [("group-moved", "minor")]
    assert "group-without-owner" in [
        kind for kind, _ in play.told(play.keeper(orphaned=True, peer="silent"), after(9000))
    ]


def test_a_router_that_is_no_plain_peer_of_the_group_owns_nothing():
    play = standby()
    play.given(play.keeper("backup", active=PLAIN), after(60_000))
    assert "group-without-owner" in play.standing()


def test_plain_peers_alone_are_a_standby_that_nobody_can_ask():
    play = serving(nodes=("lon1",), plain_peers=(PLAIN,))
    assert play.told(after(60_000)) == []


def test_a_group_without_other_nodes_misses_none():
    play = AgentPlay("par1")
    assert play.core.roles.keys() == {"sbc-paris"}
    assert play.told(after(60_000)) == []


def test_a_second_device_has_alarms_of_its_own():
    play = serving()
    play.core.settings.devices["ups2"] = DeviceSettings("ups2", "x", "london", SnmpSettings())
    ids = {alarm.alarm_id for alarm in alarms(play, ups(1, 1800))}
    assert ids == {"ups-on-battery:device ups1"}
    assert play.told(Sampled("ups9", (Reading("ups:ups9:source", 1, "state"),))) == []


def test_an_alarm_keeps_the_time_at_which_it_was_raised():
    play = serving()
    (raised,) = alarms(play, ups(1, 1800))
    at = play.now
    (cleared,) = alarms(play, after(60_000 - 31_000), ups(0, 1800))
    assert (raised.raised_ms, cleared.raised_ms) == (at, at)
