# SPDX-License-Identifier: GPL-2.0-or-later
"""How many groups move at once and how often, where nothing but caution moves them."""

from dataclasses import replace

from agent.core.engine import AgentCore
from agent.core.model import GroupDeed, KeeperSaid, Outcome, PeerDeed, Sampled
from agent.core.orders import KeepEpoch, TellKeeper
from tests.core.agents import START, ask, serving, settings
from tests.core.playbook import after


def filling(play, percent=99.0):
    """The disk's forecast says that it will be full soon."""
    for name, role in play.core.roles.items():
        if name == "sbc":
            role.threats["resource:disk:/var"] = f"disk:/var: {percent} %"
    return play.given(after(1000))


def calm(play):
    for role in play.core.roles.values():
        role.threats.clear()
    return play.given(after(1000))


def test_a_resource_that_runs_out_moves_a_group():
    play = filling(serving())
    assert play.word.why.startswith("disk:/var")


def test_after_so_many_such_moves_in_an_hour_it_is_let_be_and_people_are_told():
    play = serving()
    for _ in range(6):
        filling(play)
        assert not play.word.ready
        calm(play)
    filling(play)
    assert play.word.ready
    assert "moves-frozen" in play.standing()


def test_time_or_an_operator_gives_the_budget_back():
    play = serving()
    for _ in range(7):
        calm(filling(play))
    assert "moves-frozen" in play.standing()
    play.given(ask("clear"))
    assert "moves-frozen" not in play.standing()
    filling(play)
    assert not play.word.ready


def test_the_end_of_its_power_never_waits():
    play = serving()
    for _ in range(7):
        calm(filling(play))
    play.core.roles["sbc"].threats["power:ups1"] = "power of ups1 ends"
    play.given(after(1000))
    assert play.word.why == "power of ups1 ends"


def two_groups():
    """A node that serves two groups, so that half of them is one."""
    base = settings()
    one = base.groups["sbc"]
    other = replace(one, name="pbx")
    config = replace(base, groups={"sbc": one, "pbx": other}, geos={})
    core = AgentCore(config, {}, START)
    for action in core.step(Sampled("host", ()), START):
        if isinstance(action, KeepEpoch):
            core.step(Outcome(action.op_id, True), START)
    peer = PeerDeed("alive", "9", {"sbc": ("backup", True), "pbx": ("backup", True)}, {})

    deeds = {name: GroupDeed("active", 3, False, "lon1") for name in ("sbc", "pbx")}
    core.step(KeeperSaid(deeds, {"lon2": peer}, {"eth0": True}, {}), START)
    return core


def ready(core, now):
    said = [a for a in core.step(Sampled("host", ()), now) if isinstance(a, TellKeeper)]
    words = said[-1].words if said else core.words
    return {name: word.ready for name, word in words.items()}


def test_no_more_than_a_share_of_the_groups_here_leaves_at_once():
    core = two_groups()
    for role in core.roles.values():
        role.threats["resource:disk:/var"] = "disk:/var: full soon"
    assert sorted(ready(core, START + 1000).values()) == [False, True]
