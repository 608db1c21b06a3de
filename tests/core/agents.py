# SPDX-License-Identifier: GPL-2.0-or-later
"""Agents for dialogues: lon1, lon2 serve group sbc in London, par1 serves sbc-paris in Paris."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from agent.core.care import Care
from agent.core.engine import AgentCore
from agent.core.model import (
    Answer,
    Asked,
    Checked,
    Decision,
    GroupDeed,
    KeeperSaid,
    Outcome,
    PeerDeed,
    Reading,
    Sampled,
    Severity,
    Ticked,
    Word,
)
from agent.core.orders import (
    ControlService,
    FenceNode,
    GatherFacts,
    KeepEpoch,
    LookNames,
    ObserveNames,
    PlaceStatus,
    ReadSessions,
    Record,
    RunHook,
    ShipStatus,
    Tell,
    TellKeeper,
    UpdateNames,
    VerifyNames,
)
from agent.core.playing import ACQUAINTED_MS
from agent.core.role import Role
from agent.core.settings import (
    AddressSettings,
    CheckSettings,
    DeviceSettings,
    GeoSettings,
    GroupSettings,
    NodeSettings,
    RecordSettings,
    ServiceSettings,
    Settings,
    SnmpSettings,
    Standby,
    WatchSettings,
)
from tests.core.playbook import ANY, Playbook, after

START = 5_000_000
TCP = CheckSettings("tcp", "tcp", "127.0.0.1:5060", rise=2, fall=2, stale_after_ms=3_600_000)
SIP = CheckSettings("sip", "sip", "udp://10.1.0.100:5060", rise=1, fall=1, floating=True)
KAMAILIO = ServiceSettings(
    "kamailio",
    unit="kamailio.service",
    checks=(TCP,),
    restarts=2,
    restarts_in_ms=600_000,
    on_death="restart",
)
OPERATIONS = (
    *(ControlService, RunHook, ReadSessions, ShipStatus, PlaceStatus, FenceNode),
    *(KeepEpoch, LookNames, UpdateNames, VerifyNames),
)


def settings(node: str = "lon1", services: tuple[ServiceSettings, ...] = (KAMAILIO,), **group: Any):
    nodes = {
        "lon1": NodeSettings("lon1", "london", ("10.1.0.11", "10.9.0.11")),
        "lon2": NodeSettings("lon2", "london", ("10.1.0.12", "10.9.0.12")),
        "par1": NodeSettings("par1", "paris", ("10.2.0.11",)),
    }
    for name, fence in group.pop("fences", {}).items():
        nodes[name] = replace(nodes[name], fence=fence)
    address = AddressSettings("10.1.0.100", 24, 4, "eth0", 51)
    far = AddressSettings("10.2.0.100", 24, 4, "eth0", 52)
    record = RecordSettings(
        "sip.example.net", "A", 30, {"london": ("192.0.2.10",), "paris": ("198.51.100.10",)}
    )
    return Settings(
        "callcentre",
        "/etc/standpipe/cluster.key",
        node,
        sites=("london", "paris"),
        nodes=nodes,
        groups={
            "sbc": GroupSettings(
                "sbc", group.pop("nodes", ("lon1", "lon2")), (address,), services, **group
            ),
            "sbc-paris": GroupSettings("sbc-paris", ("par1",), (far,), services),
        },
        geos={
            "voice": GeoSettings(
                "voice",
                ("london", "paris"),
                {"london": "sbc", "paris": "sbc-paris"},
                "example.net",
                ("192.0.2.53", "192.0.2.54"),
                "/etc/standpipe/dns.key",
                (record,),
            )
        },
        devices={"ups1": DeviceSettings("ups1", "10.1.0.60", "london", SnmpSettings(), ("lon1",))},
        watches={"disk": WatchSettings("disk", switch_over_ms=1_800_000)},
        digest="d1",
    )


class AgentPlay(Playbook):
    """What is written down or told to the keeper, and epochs of groups, are not shown."""

    core: AgentCore

    def __init__(
        self, node: str = "lon1", epochs: dict[str, int] | None = None, **group: Any
    ) -> None:
        core = AgentCore(settings(node, **group), epochs or {}, START)
        super().__init__(core, START, lambda _: Ticked(), _routine)
        self.node = node
        self.given(after(ACQUAINTED_MS))
        for action in list(self.all):
            if isinstance(action, KeepEpoch):  # the first epochs are on disk at once
                self.given(Outcome(action.op_id, True))

    @property
    def role(self) -> Role:
        return self.core.roles["sbc"]

    @property
    def care(self) -> Care:
        return self.role.cares[0]

    @property
    def word(self) -> Word:
        """The last that the keeper was told of the group."""
        return [a for a in self.all if isinstance(a, TellKeeper)][-1].words["sbc"]

    def keeper(
        self,
        state: str = "backup",
        active: str | None = None,
        *,
        epoch: int = 3,
        orphaned: bool = False,
        peer: str = "alive",
        peer_ready: bool = True,
        peer_state: str = "",
        paris: str = "alive",
        wanted: str = "",
        link: bool = True,
        lost_paths: tuple[int, ...] = (),
        counters: dict[str, int] | None = None,
        decisions: tuple[Decision, ...] = (),
        senses: dict[str, str] | None = None,
        tenure: int = 0,
        able: tuple[str, ...] = (),
        lease: str = "",
        lease_until_ms: int = 0,
    ) -> KeeperSaid:
        """The keeper's report. peer: the other London node, which is active where this is not."""
        me, other = ("lon1", "lon2") if self.node == "lon1" else ("lon2", "lon1")
        if active is None:
            active = other if state == "backup" else me
        theirs = peer_state or ("active" if active == other else "backup")
        peers = {
            other: PeerDeed(
                peer,
                "9",
                {"sbc": (theirs, peer_ready)},
                {"sbc": wanted} if wanted else {},
                lost_paths,
                able,
            ),
            "par1": PeerDeed(paris, "9", {"sbc-paris": ("active", True)}, {}),
        }
        deed = GroupDeed(
            state,
            epoch,
            orphaned,
            "" if orphaned else active,
            tenure=tenure,
            lease=lease,
            lease_until_ms=lease_until_ms,
        )
        links = {"eth0": link}
        return KeeperSaid({"sbc": deed}, peers, links, counters or {}, decisions, senses or {})

    def quiet(self, said: KeeperSaid) -> AgentPlay:
        """The first report: what looks whether a cold service was left over finds nothing."""
        for look in [a for a in self.said(ControlService, said) if a.verb == "status"]:
            self.given(Outcome(look.op_id, True, "", {"running": False}))
        return self

    def op_id(self) -> int:
        """Of the last operation that is shown."""
        operations = [a for a in self.all if isinstance(a, OPERATIONS) and not _routine(a)]
        return operations[-1].op_id

    def done(self, **facts: Any) -> Outcome:
        return Outcome(self.op_id(), True, "", facts)

    def failed(self, detail: str = "it said no", **facts: Any) -> Outcome:
        return Outcome(self.op_id(), False, detail, facts)

    def unknown(self, detail: str = "timed out") -> Outcome:
        return Outcome(self.op_id(), None, detail)

    def records(self, kind: str) -> list[Record]:
        return [a for a in self.all if isinstance(a, Record) and a.kind == kind]

    def decisions(self, machine: str) -> list[Decision]:
        return [d for _, d in self.core.decisions if d.machine == machine]

    def rules(self, machine: str) -> list[str]:
        return [decision.rule for decision in self.decisions(machine)]

    def told(self, *events: Any) -> list[tuple[str, str]]:
        """(kind, severity) of each alarm that these events raise or clear."""
        alarms = [action.alarm for action in self.said(Tell, *events)]
        return [(alarm.kind, str(alarm.severity)) for alarm in alarms]

    def standing(self) -> set[str]:
        return {alarm.kind for alarm in self.core.alarms.standing()}


def _routine(action: Any) -> bool:
    if isinstance(action, KeepEpoch):
        return not action.name.startswith("geo:")
    return isinstance(action, Record | TellKeeper | ObserveNames | GatherFacts)


def standby(node: str = "lon2", **kind: Any) -> AgentPlay:
    """Its services answer, its keeper hears the other London node as active."""
    play = AgentPlay(node, **kind).given(*UP)
    return play.quiet(play.keeper("backup")).given(after(1000))


def serving(node: str = "lon1", **kind: Any) -> AgentPlay:
    """It has the addresses; the other London node is a ready standby, Paris serves too."""
    play = AgentPlay(node, **kind)
    return play.given(*UP, play.keeper("active"), after(1000))


# ---------------------------------------------------------------- what comes in


def checked(ok: bool | None, check: str = "tcp", detail: str = "") -> Checked:
    return Checked("sbc", "kamailio", check, Answer(ok, detail or ("" if ok else "refused"), 1))


YES, NO = checked(True), checked(False)
UP = (YES, YES)
DOWN = (NO, NO)


def sample(value: float | None, resource: str = "disk:/var", limit: float = 100.0) -> Sampled:
    return Sampled("host", (Reading(resource, value, "bytes", limit),))


def ups(source: float | None, runtime_s: float | None, text: str = "normal") -> Sampled:
    """source: 0 mains, 1 battery, None unknown."""
    return Sampled(
        "ups1",
        (
            Reading("ups:ups1:source", source, "state", text=text),
            Reading("ups:ups1:runtime", runtime_s, "s", 0.0, rising=False),
            Reading("ups:ups1:charge", 80.0, "pct"),
        ),
    )


def ask(verb: str, request_id: int = 1, **args: Any) -> Asked:
    return Asked(request_id, verb, args, "root (uid 0)")


# ---------------------------------------------------------------- what goes out


def does(verb: str, service: str = "kamailio") -> ANY:
    return ANY(ControlService, group="sbc", service=service, verb=verb)


COLD = Standby.COLD
PLAIN = "10.1.0.9"
"""A router that speaks VRRP and nothing else, where a group has plain_peers."""
CLEARED = str(Severity.CLEARED)
