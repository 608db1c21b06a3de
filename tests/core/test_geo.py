# SPDX-License-Identifier: GPL-2.0-or-later
"""Sending the world to another site: steps in order, each with what must hold before it."""

import pytest

from agent.core.model import Outcome
from agent.core.orders import (
    KeepEpoch,
    LookNames,
    ObserveNames,
    Reply,
    Tell,
    UpdateNames,
    VerifyNames,
)
from tests.core.agents import DOWN, AgentPlay, ask, serving
from tests.core.playbook import ANY, after

GEO = "geo voice"
PROGRESS = ANY(Reply, request_id=1, ok=None)
REFUSED = ANY(Reply, request_id=1, ok=False)
SUCCEEDED = ANY(Reply, request_id=1, ok=True)
TO_PARIS = ask("switchover", group="voice", to="paris")
FORCED = ask("failover", group="voice", to="paris", force=True)
LOOK = ANY(LookNames, geo="voice")
VERIFY = ANY(VerifyNames, geo="voice", site="paris")
STEPS = (LookNames, UpdateNames, VerifyNames)
FIRST, SECOND = "192.0.2.53", "192.0.2.54"


def keep(epoch):
    return ANY(KeepEpoch, name="geo:voice", ceiling=epoch)


def write(epoch):
    return ANY(UpdateNames, geo="voice", site="paris", epoch=epoch)


def servers(first=True, second=True):
    return {
        "servers": {
            FIRST: {"serial": 7, "ok": first, "detail": ""},
            SECOND: {"serial": 7, "ok": second, "detail": ""},
        }
    }


def looking(event=TO_PARIS, **kind):
    return serving(**kind).given(event)


def keeping(zone_epoch=4):
    play = looking()
    return play.given(play.done(epoch=zone_epoch))


def writing():
    play = keeping()
    return play.given(play.done())


def verifying():
    play = writing()
    return play.given(play.done(rcode="NOERROR", epoch=5, took_ms=3))


def geo(play):
    return play.core.geos["voice"]


def reply(play, *events):
    (last,) = [a for a in play.said(Reply, *events) if a.ok is not None]
    return last


# ---------------------------------------------------------------- the way there


def test_it_looks_stores_writes_and_verifies_in_this_order():
    play = serving()
    assert play >> TO_PARIS << PROGRESS << LOOK
    assert play >> play.done(epoch=4) << keep(5)
    assert play >> play.done() << write(5)
    assert play >> play.done(epoch=5) << VERIFY
    assert play >> play.done(**servers()) << SUCCEEDED << ANY(Tell)
    assert geo(play).site == "paris"
    assert play.rules(GEO) == ["N-LOOK", "N-KEEP", "N-WRITE", "N-VERIFY", "N-DONE"]


def test_every_step_is_written_down_with_its_number_before_it_is_taken():
    play = verifying()
    for place, action in enumerate(play.all):
        mine = isinstance(action, STEPS) or getattr(action, "name", "") == "geo:voice"
        if mine:
            intent = play.all[place - 1]
            assert (intent.kind, intent.subject) == ("intent", GEO)
            assert intent.detail["op_id"] == action.op_id
    assert [record.text for record in play.records("intent") if record.subject == GEO] == [
        "look paris epoch 0",
        "keep paris epoch 5",
        "write paris epoch 5",
        "verify paris epoch 5",
    ]


@pytest.mark.parametrize(("ours", "zone", "used"), [(0, 0, 1), (9, 4, 10), (3, 8, 9)])
def test_the_epoch_is_above_ours_and_above_the_zones(ours, zone, used):
    play = looking(epochs={"geo:voice": ours})
    assert play >> play.done(epoch=zone) << keep(used)


def test_the_end_says_epoch_and_time():
    play = verifying().given(after(700))
    text = reply(play, play.done(**servers())).text
    assert text == "voice: every name server says paris (epoch 5, 700 ms)"


def test_a_move_is_told_to_people():
    play = verifying()
    assert play.told(play.done(**servers())) == [("geo-moved", "major")]


# ---------------------------------------------------------------- never to a dead site


def no_paris(play):
    return play.keeper("active", paris="silent")


def test_never_to_a_site_that_does_not_answer_not_even_by_force():
    for order in (TO_PARIS, FORCED):
        play = serving()
        play.given(no_paris(play))
        assert play >> order << PROGRESS << REFUSED
        assert geo(play).state == "idle"
    text = reply(play, order).text
    assert "Nothing was changed. Bring sbc-paris into service at paris first." in text


def test_a_site_that_stops_answering_before_the_write_gets_nothing():
    play = keeping()
    play.given(no_paris(play))
    assert play >> play.done() << REFUSED
    assert geo(play).state == "idle"


def test_our_own_site_answers_only_while_its_services_do():
    play = serving()
    home = ask("switchover", group="voice", to="london")
    assert play >> home << PROGRESS << LOOK
    play = serving()
    play.given(*DOWN)
    assert play >> home << PROGRESS << REFUSED


# ---------------------------------------------------------------- replies that are missing


@pytest.mark.parametrize("outcome", ["failed", "unknown"])
def test_a_primary_that_cannot_be_looked_at_ends_it(outcome):
    play = looking()
    end = reply(play, getattr(play, outcome)("dns 192.0.2.53 does not answer"))
    assert (end.ok, end.text) == (
        False,
        "voice: dns 192.0.2.53 does not answer. The names were not moved.",
    )
    assert geo(play).state == "idle"


@pytest.mark.parametrize("outcome", ["failed", "unknown"])
def test_an_epoch_that_is_not_known_to_be_stored_is_not_used(outcome):
    play = keeping()
    assert play >> getattr(play, outcome)() << REFUSED
    assert geo(play).state == "idle"


def test_an_epoch_once_tried_is_never_tried_again():
    play = keeping()
    play.given(play.failed(), TO_PARIS)
    assert play >> play.done(epoch=4) << keep(6)


def test_a_refused_update_ends_it_with_the_servers_words():
    play = writing()
    text = reply(play, play.failed("dns 192.0.2.53: NOTAUTH(BADKEY)")).text
    assert text == "voice: dns 192.0.2.53: NOTAUTH(BADKEY). The names were not moved."


def test_a_lost_reply_is_no_no_the_servers_are_looked_at():
    play = writing()
    assert play >> play.unknown() << VERIFY
    assert play >> play.done(**servers()) << SUCCEEDED << ANY(Tell)
    assert geo(play).site == "paris"


def test_a_lost_reply_and_a_primary_that_does_not_say_so_stays_open():
    play = writing()
    play.given(play.unknown())
    end = verify_to_the_end(play, servers(first=False))
    assert not end.ok
    assert "Whether the names were moved is not known" in end.text
    assert geo(play).site == ""


def test_a_lost_reply_and_a_primary_that_says_so_is_written_whatever_the_others_say():
    play = writing()
    play.given(play.unknown())
    end = verify_to_the_end(play, servers(second=False))
    assert end.ok
    assert end.text.startswith("voice: the primary says paris")


@pytest.mark.parametrize("outcome", ["failed", "unknown"])
def test_a_lost_reply_and_nobody_to_ask_stays_open(outcome):
    play = writing()
    play.given(play.unknown())
    end = verify_to_the_end(play, outcome=outcome)
    assert not end.ok
    assert "Whether the names were moved is not known" in end.text


@pytest.mark.parametrize("outcome", ["failed", "unknown"])
def test_a_written_update_stays_written_though_nobody_can_be_asked_since(outcome):
    play = verifying()
    end = verify_to_the_end(play, outcome=outcome)
    assert end.ok
    assert geo(play).site == "paris"
    assert "dns-disagrees" in play.standing()


def verify_to_the_end(play, facts=None, outcome="done"):
    """The same outcome of every look, until it is over."""
    began = play.now
    while play.now < began + 30_000:
        replies = play.said(Reply, getattr(play, outcome)(**facts or {}))
        if replies:
            return replies[-1]
        play.given(after(1000))
    raise AssertionError("it never ends")


# ---------------------------------------------------------------- servers that lag


def test_a_server_that_lags_is_asked_again_for_a_while():
    play = verifying()
    assert play >> play.done(**servers(second=False))
    assert play >> after(1000) << VERIFY
    assert play >> play.done(**servers()) << SUCCEEDED << ANY(Tell)


def test_a_server_that_never_follows_is_told_and_the_world_is_moved_all_the_same():
    play = verifying()
    end = verify_to_the_end(play, servers(second=False))
    assert end.ok
    assert end.text.startswith(f"voice: the primary says paris; {SECOND} does not say so yet")
    assert {"geo-moved", "dns-disagrees"} <= play.standing()


def test_a_second_move_has_the_whole_time_for_its_servers_again():
    play = verifying()
    verify_to_the_end(play, servers(second=False))
    play.given(TO_PARIS)
    play.given(play.done(epoch=5))
    play.given(play.done())
    play.given(play.done(epoch=6))
    assert play >> play.done(**servers(second=False))
    assert geo(play).state == "verifying"


def test_one_round_of_asking_that_comes_to_nothing_is_not_the_end():
    play = verifying()
    assert play >> play.failed()
    assert play >> after(1000) << VERIFY


def test_the_next_move_that_all_servers_follow_clears_it():
    play = verifying()
    verify_to_the_end(play, servers(second=False))
    play.given(TO_PARIS)
    play.given(play.done(epoch=5))
    play.given(play.done())
    play.given(play.done(epoch=6))
    assert ("dns-disagrees", "cleared") in play.told(play.done(**servers()))


def test_an_outcome_of_an_earlier_step_says_nothing():
    play = verifying()
    early = play.done(**servers())
    play.given(play.done(**servers(second=False)), after(1000))
    assert play >> early
    assert geo(play).state == "verifying"


# ---------------------------------------------------------------- by themselves


def observed(play, ok=True, site="london", second=True):
    """The outcome of the last look at what the servers say with nothing to change."""
    op_id = [a for a in play.all if isinstance(a, ObserveNames)][-1].op_id
    facts = {"epoch": 9, "site": site, "servers": servers(second=second)["servers"]} if ok else {}
    return Outcome(op_id, ok, "", facts)


def test_now_and_then_it_is_looked_what_the_servers_say_by_themselves():
    play = serving()
    assert len(play.said(ObserveNames, after(600_000))) == 10
    play.given(observed(play))
    assert (geo(play).site, geo(play).zone_epoch) == ("london", 9)


def test_a_server_that_disagrees_by_itself_is_told_and_its_return_too():
    play = serving()
    assert play.told(observed(play, second=False)) == [("dns-disagrees", "major")]
    play.given(after(61_000))
    assert play.told(observed(play)) == [("dns-disagrees", "cleared")]


def test_a_server_that_cannot_be_asked_disagrees_with_nobody():
    play = serving()
    assert play.told(observed(play, second=None)) == []


@pytest.mark.parametrize("ok", [False, None])
def test_a_look_that_came_to_nothing_changes_nothing(ok):
    play = serving()
    play.given(observed(play, second=False), after(61_000))
    assert play.told(observed(play, ok)) == []
    assert geo(play).site == "london"


def test_nothing_is_looked_at_while_the_names_are_moved():
    play = looking()
    early = observed(play, site="rome")
    assert play.said(ObserveNames, after(300_000)) == []
    play.given(early)
    assert geo(play).site == ""


# ---------------------------------------------------------------- what may be asked


def test_a_site_that_is_not_its_own_is_refused_with_those_that_are():
    play = AgentPlay()
    text = reply(play, ask("switchover", group="voice", to="rome")).text
    assert text == "voice: say where to with --to, one of london, paris"


def test_a_second_order_waits_for_the_end_of_the_first():
    play = looking()
    assert (
        "is being moved already (looking)"
        in reply(play, ask("switchover", 2, **TO_PARIS.args)).text
    )


def test_a_lost_site_needs_a_human_who_knows():
    play = serving(node="lon1")
    play.given(play.keeper("backup", active="", peer="silent"))
    text = reply(play, TO_PARIS).text
    assert "london does not answer" in text
    assert text.endswith("confirm: standpipe failover voice --to paris --force")
    assert play >> FORCED << PROGRESS << LOOK


def test_a_geo_may_be_called_as_the_configuration_calls_it():
    play = serving()
    order = ask("switchover", group="geo.voice", to="paris")
    assert play >> order << PROGRESS << LOOK
