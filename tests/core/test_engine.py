# SPDX-License-Identifier: GPL-2.0-or-later
"""The agent's core as a whole: its border, its words to the keeper, and what is always so."""

from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.engine import AgentCore
from agent.core.model import (
    ConfigAccepted,
    ConfigRefused,
    Decision,
    GroupDeed,
    KeeperLost,
    KeeperSaid,
    Outcome,
    PeerDeed,
    SourceFailed,
    StoreFailed,
    StoreMended,
    Ticked,
)
from agent.core.orders import (
    ControlService,
    KeepEpoch,
    LookNames,
    ObserveNames,
    Record,
    Reply,
    Tell,
    TellKeeper,
    UpdateNames,
    VerifyNames,
)
from agent.core.settings import Settings, Standby
from tests.core.agents import (
    COLD,
    DOWN,
    OPERATIONS,
    PLAIN,
    START,
    UP,
    AgentPlay,
    ask,
    checked,
    sample,
    serving,
    standby,
    ups,
)
from tests.core.agents import settings as agents
from tests.core.playbook import after

# ---------------------------------------------------------------- words and epochs


def begun():
    """A core after its first moment, the store's answer to its first wish not yet given."""
    core = AgentCore(agents(), {}, START)
    return core, core.step(Ticked(), START)


def test_the_first_epochs_are_stored_ahead_at_once():
    _, actions = begun()
    (keep,) = [a for a in actions if isinstance(a, KeepEpoch)]
    assert (keep.name, keep.ceiling) == ("group:sbc", 16)


def test_it_says_nothing_of_a_group_before_it_has_heard_what_is_served_here():
    play = AgentPlay()
    assert play.said(TellKeeper, *UP, after(10_000)) == []
    (tell,) = play.said(TellKeeper, play.keeper("active"))
    assert tell.words["sbc"].ready


def test_a_ceiling_is_told_only_once_it_is_on_disk():
    core, actions = begun()
    (keep,) = [a for a in actions if isinstance(a, KeepEpoch)]
    report = AgentPlay().keeper()
    (tell,) = [a for a in core.step(report, START) if isinstance(a, TellKeeper)]
    assert tell.words["sbc"].ceiling == 0
    (tell,) = [a for a in core.step(Outcome(keep.op_id, True), START) if isinstance(a, TellKeeper)]
    assert tell.words["sbc"].ceiling == 16


@pytest.mark.parametrize("ok", [False, None])
def test_a_ceiling_that_is_not_on_disk_is_tried_again_later_and_never_told(ok):
    play = AgentPlay(epochs={"group:sbc": 20})
    (keep,) = play.said(KeepEpoch, play.keeper(epoch=30))
    assert play.said(KeepEpoch, Outcome(keep.op_id, ok), after(4000)) == []
    assert play.word.ceiling < 46
    (again,) = play.said(KeepEpoch, after(3000))
    assert again.ceiling == 46


def test_an_epoch_is_reserved_at_once_when_the_store_is_mended():
    play = AgentPlay(epochs={"group:sbc": 20})
    (keep,) = play.said(KeepEpoch, play.keeper(epoch=30))
    play.given(Outcome(keep.op_id, False), StoreFailed("no space left on device"), after(1000))
    assert len(play.said(KeepEpoch, StoreMended(), after(1000))) == 1


def test_more_epochs_are_stored_before_the_last_ones_are_used():
    play = AgentPlay(epochs={"group:sbc": 20})
    play.given(play.keeper(epoch=20))
    assert play.word.ceiling == 36
    assert play.said(KeepEpoch, play.keeper(epoch=28)) == []
    (keep,) = play.said(KeepEpoch, play.keeper(epoch=29))
    assert keep.ceiling == 45


def test_the_word_carries_the_highest_epoch_that_was_seen():
    play = AgentPlay(epochs={"group:sbc": 7})
    play.given(play.keeper(epoch=3))
    assert play.word.epoch == 7
    play.given(play.keeper(epoch=9))
    assert play.word.epoch == 9
    play.given(play.keeper(epoch=8))
    assert play.word.epoch == 9


def test_every_change_of_readiness_is_written_down_with_its_reason():
    play = standby()
    records = play.said(Record, *DOWN)
    assert "not ready: service kamailio is restarting, down" in [r.text for r in records]


# ---------------------------------------------------------------- the keeper's reports


def test_a_report_that_says_nothing_new_costs_nothing():
    play = serving()
    before = len(play.all)
    play.given(*[play.keeper("active")] * 10)
    assert len(play.all) == before


def test_the_keepers_decisions_are_written_down_and_kept_for_explain():
    play = serving()
    buried = Decision("group sbc", "G-BURY", "backup", "active", "it is silent", {"ready": True})
    (record,) = play.said(Record, play.keeper("active", decisions=(buried,)))[:1]
    assert (record.kind, record.subject) == ("decision", "group sbc")
    assert record.text == "G-BURY: backup -> active: it is silent"
    assert play.decisions("group sbc")[-1] == buried


@pytest.mark.parametrize("state", ["active", "doubt", "giving"])
def test_the_owner_is_who_holds_the_addresses(state):
    play = AgentPlay()
    play.given(play.keeper(state))
    assert play.core.owner("sbc") == "lon1"


def test_the_owner_may_be_a_peer_but_not_one_that_is_not_heard():
    play = AgentPlay()
    assert play.core.owner("sbc") == ""
    play.given(play.keeper())
    assert play.core.owner("sbc") == "lon2"
    assert play.core.owner("sbc-paris") == "par1"
    play.given(play.keeper(peer="silent"))
    assert play.core.owner("sbc") == ""


def test_the_owner_may_be_a_plain_peer_while_it_is_heard():
    play = standby(plain_peers=(PLAIN,))
    play.given(play.keeper("backup", active=PLAIN))
    assert play.core.owner("sbc") == PLAIN
    play.given(play.keeper(orphaned=True, peer_state="backup"))
    assert play.core.owner("sbc") == ""
    play.given(play.keeper("backup", active="10.1.0.77"))
    assert play.core.owner("sbc") == ""


@pytest.mark.parametrize("deed", [
    GroupDeed("backup", orphaned=True, active=PLAIN), GroupDeed("init", active=PLAIN)
])  # fmt: skip
def test_a_plain_peer_that_was_heard_long_ago_owns_nothing(deed):
    play = standby(plain_peers=(PLAIN,))
    play.given(play.keeper("backup", active=PLAIN))
    assert play.core.owner("sbc") == PLAIN
    play.given(replace(play.keeper("backup", active=PLAIN), groups={"sbc": deed}))
    assert play.core.owner("sbc") == ""


def test_whether_services_answer_behind_a_plain_peer_nobody_can_say():
    play = standby(plain_peers=(PLAIN,))
    assert play.core.site_answers("london")
    play.given(play.keeper("backup", active=PLAIN))
    assert not play.core.site_answers("london")


def test_a_move_to_a_plain_peer_and_back_is_told_by_its_name():
    play = serving(plain_peers=(PLAIN,))
    (there,) = play.said(Tell, play.keeper("backup", active=PLAIN))
    assert there.alarm.text == "from lon1 to plain peer 10.1.0.9"
    (back,) = play.said(Tell, play.keeper("active", epoch=7))
    assert back.alarm.text == "from plain peer 10.1.0.9 to lon1 under epoch 7"
    assert play.said(Tell, play.keeper("active", epoch=7, peer_ready=False)) == []


def test_a_lost_keeper_is_told_and_its_return_too():
    play = serving()
    assert play.told(KeeperLost("killed")) == [("keeper-lost", "major")]
    assert play.told(play.keeper("active")) == [("keeper-lost", "cleared")]


def test_a_lost_keeper_changes_no_role():
    play = serving().given(KeeperLost("killed"), after(60_000))
    assert play.role.state == "active"


# ---------------------------------------------------------------- configuration, store, time


def test_a_refused_configuration_leaves_the_old_one_and_says_the_first_problem():
    play = serving()
    (tell,) = play.said(Tell, ConfigRefused(("a.toml:3: vrid = 0: 1..255", "b", "c")))
    assert tell.alarm.text == "a.toml:3: vrid = 0: 1..255 (and 2 more); the old one stays"
    assert play.told(ConfigAccepted("d2")) == [("config-refused", "cleared")]
    assert play.core.config_problems == ()


def test_a_store_that_fails_is_told_and_protection_goes_on():
    play = serving()
    assert play.told(StoreFailed("no space left on device")) == [("store-failed", "major")]
    assert [a.verb for a in play.said(ControlService, *DOWN)] == ["restart"]
    assert play.told(StoreMended()) == [("store-failed", "cleared")]


def test_it_asks_to_be_woken_once_a_second():
    play = serving()
    assert play.core.deadline() == play.now + 1000
    play.given(Ticked())
    assert play.core.deadline() == play.now + 1000


def test_an_event_alarm_clears_by_itself():
    play = standby("lon1")
    play.given(play.keeper("active"))
    assert "group-moved" in play.standing()
    assert ("group-moved", "cleared") in play.told(after(602_000))


def test_a_node_without_groups_watches_and_alarms():
    play = AgentPlay("")
    assert play.core.roles == {}
    assert play.told(sample(98.0)) == [("resource-level", "critical")]


def test_a_configuration_with_nothing_in_it_is_enough():
    core = AgentCore(Settings("", "", ""), {}, START)
    assert core.step(Ticked(), START) == []


# ---------------------------------------------------------------- whatever happens

FLAGS = st.booleans()
OK = st.sampled_from((True, False, None))
STATES = st.sampled_from(("init", "backup", "active", "doubt", "giving"))
PEER_STATES = st.sampled_from(("unknown", "alive", "asking", "held", "silent"))
NODE = st.sampled_from(("", "lon1", "lon2"))


@dataclass(frozen=True)
class Ended:
    """An operation ended: the last one, or one of those before it. number, yes: what was seen."""

    back: int
    ok: bool | None
    number: int
    yes: bool

    def outcome(self, operations):
        if len(operations) <= self.back:
            return Outcome(0, self.ok)
        operation = operations[-1 - self.back]
        return Outcome(operation.op_id, self.ok, "", self._facts(operation) if self.ok else {})

    def _facts(self, operation):
        servers = {
            "192.0.2.53": {"serial": 1, "ok": self.yes, "detail": ""},
            "192.0.2.54": {"serial": 1, "ok": self.number % 2 == 0, "detail": ""},
        }
        match operation:
            case ControlService(verb="status"):
                return {"running": self.yes}
            case LookNames():
                return {"epoch": self.number}
            case UpdateNames():
                return {"rcode": "NOERROR", "epoch": self.number, "took_ms": 1}
            case VerifyNames():
                return {"servers": servers}
            case ObserveNames():
                return {"epoch": self.number, "site": "london", "servers": servers}
        return {}


REPORTS = st.builds(
    lambda state, epoch, orphaned, active, peer, ready, wanted, link: KeeperSaid(
        {"sbc": GroupDeed(state, epoch, orphaned, active)},
        {
            "lon2": PeerDeed(peer, "9", {"sbc": ("backup", ready)}, {"sbc": wanted}),
            "par1": PeerDeed(peer, "9", {"sbc-paris": ("active", ready)}, {}),
        },
        {"eth0": link},
        {"peer-key": epoch},
    ),
    STATES,
    st.integers(0, 40),
    FLAGS,
    NODE,
    PEER_STATES,
    FLAGS,
    NODE,
    FLAGS,
)
ORDERS = st.builds(
    lambda verb, group, to, on, force: ask(verb, 1, group=group, to=to, on=on, force=force),
    st.sampled_from(("switchover", "failover", "maintenance", "clear", "dance")),
    st.sampled_from(("sbc", "voice", "", "nothing")),
    st.sampled_from(("", "lon1", "lon2", "london", "paris", "nowhere")),
    FLAGS,
    FLAGS,
)
EVENTS = st.one_of(
    st.integers(0, 3000).map(after),
    st.sampled_from((after(40_000), after(700_000))),
    st.builds(checked, OK, st.sampled_from(("tcp", "sip", "nothing"))),
    st.sampled_from((*UP, *DOWN)),
    REPORTS,
    REPORTS,
    ORDERS,
    st.builds(Ended, st.integers(0, 3), OK, st.integers(0, 20), FLAGS),
    st.builds(Ended, st.just(0), st.just(True), st.integers(0, 20), FLAGS),
    st.builds(sample, st.sampled_from((None, 5.0, 80.0, 99.0, 120.0))),
    st.builds(ups, st.sampled_from((None, 0, 1)), st.sampled_from((None, 10.0, 5000.0))),
    st.builds(
        SourceFailed,
        st.sampled_from(("ups1", "host", "nms:main")),
        st.sampled_from(("unreachable", "refused", "garbled")),
        st.just("x"),
    ),
    st.sampled_from(
        (
            KeeperLost("x"),
            ConfigRefused(("x",)),
            ConfigRefused(()),
            ConfigAccepted("d"),
            StoreFailed("x"),
            StoreMended(),
            Ticked(),
        )
    ),
)
STORIES = st.lists(EVENTS, max_size=50)
KINDS = st.sampled_from((Standby.HOT, COLD))


def to_paris(answers):
    return AgentPlay().keeper("active", paris="alive" if answers else "silent")


TO_PARIS = ask("switchover", 1, group="voice", to="paris", force=True)
GOOD = st.builds(Ended, st.just(0), st.just(True), st.integers(0, 20), FLAGS)
MOVES = st.lists(  # stories of names that are moved
    st.one_of(
        GOOD,
        GOOD,
        GOOD,
        st.builds(Ended, st.integers(0, 1), OK, st.integers(0, 20), FLAGS),
        st.sampled_from((True, True, False)).map(to_paris),
        st.sampled_from((TO_PARIS, TO_PARIS, after(500), after(5000))),
    ),
    max_size=30,
).map(lambda events: [*UP, to_paris(True), TO_PARIS, *events])
PLAYS = settings(max_examples=80)


ENDING = (*OPERATIONS, ObserveNames)


class Watched(AgentPlay):
    """Looks after each step at what must always be so."""

    told_last = None

    def _step(self, event):
        if isinstance(event, Ended):
            event = event.outcome([a for a in self.all if isinstance(a, ENDING)])
        seen = len(self.all)
        super()._step(event)
        self.check(self.all[seen:])

    def check(self, actions):
        intents = {}
        for action in actions:
            if isinstance(action, Record) and action.kind == "intent":
                intents[action.detail["op_id"]] = action
            elif isinstance(action, OPERATIONS):
                assert action.op_id in intents, "everything is written down before it happens"
            elif isinstance(action, TellKeeper):
                word = action.words["sbc"]
                assert word.ready == (word.why == ""), "ready or why not"
                assert word != self.told_last, "a word is told only where it changed"
                self.told_last = word


@PLAYS
@given(STORIES, KINDS)
def test_whatever_happens_it_does_not_fail_and_writes_before_it_acts(story, kind):
    Watched(standby=kind).given(*story, after(5000))


@PLAYS
@given(STORIES, KINDS)
def test_the_same_events_give_the_same_actions(story, kind):
    one, other = (Watched(standby=kind).given(*story) for _ in range(2))
    assert one.all == other.all


@PLAYS
@given(STORIES)
def test_alarms_alternate_between_raised_and_cleared(story):
    play = Watched().given(*story)
    standing = {}
    for action in play.all:
        if isinstance(action, Tell):
            alarm = action.alarm
            if str(alarm.severity) == "cleared":
                assert alarm.alarm_id in standing
                assert standing.pop(alarm.alarm_id).raised_ms == alarm.raised_ms
            else:
                standing[alarm.alarm_id] = alarm
    assert {alarm.alarm_id for alarm in play.core.alarms.standing()} == set(standing)


@PLAYS
@given(MOVES)
def test_names_are_never_written_to_a_site_that_does_not_answer_nor_before_the_epoch_is_kept(story):
    play = Watched()
    kept, written = set(), [0]
    for event in story:
        operations = [action for action in play.all if isinstance(action, ENDING)]
        if isinstance(event, Ended):
            event = event.outcome(operations)
        if isinstance(event, Outcome) and event.ok:
            kept |= {
                o.ceiling
                for o in operations
                if isinstance(o, KeepEpoch) and (o.op_id, o.name) == (event.op_id, "geo:voice")
            }
        for action in play.said(UpdateNames, event):
            assert play.core.site_answers(action.site)
            assert action.epoch in kept, "its epoch is on the disk"
            assert action.epoch > written[-1], "each write has an epoch of its own"
            written.append(action.epoch)


@PLAYS
@given(STORIES)
def test_every_request_ends_at_most_once(story):
    play = Watched()
    numbered = []
    for number, event in enumerate(story):
        if hasattr(event, "request_id"):
            event = ask(event.verb, number, **event.args)
            numbered.append(number)
        play.given(event)
    play.given(after(60_000))
    ends = [a.request_id for a in play.all if isinstance(a, Reply) and a.ok is not None]
    assert len(ends) == len(set(ends))
    waiting = {geo.request_id for geo in play.core.geos.values() if geo.state != "idle"}
    assert set(numbered) - set(ends) <= waiting
