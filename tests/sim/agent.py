# SPDX-License-Identifier: GPL-2.0-or-later
"""The agent's shell in the simulator: its core's words become services, disk, DNS and traps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent.core.keeping import PacketRefused, PeerHeard, WordGiven
from agent.core.model import (
    Alarm,
    Answer,
    Checked,
    KeeperLost,
    KeeperSaid,
    Outcome,
    Severity,
    StoreFailed,
    StoreMended,
    Ticked,
    Word,
)
from agent.core.orders import (
    ControlService,
    GatherFacts,
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
from agent.core.peer import agent_answer
from tests.sim.process import Process

if TYPE_CHECKING:
    from tests.sim.node import Node
    from tests.sim.world import World

BEAT_MS = 1000  # the real shell beats four times as often; the core's limits are whole seconds
KEEPER_HUNG_MS = 4000
STOP_BY_FORCE_MS = 35_000  # the service manager's patience with one that hangs
KILL_MS = 30
FSYNC_MS = (2, 40)
SLOW_FSYNC_MS = (500, 8_000)
DNS_MS = (10, 60)
DNS_TIMEOUT_MS = 3000
NMS_RETRY_MS = 2000


class AgentProcess(Process):
    """Everything that is not an address."""

    role = "agent"

    def __init__(self, node: Node, world: World) -> None:
        super().__init__(node, world)
        self.rng = world.works
        self.words: dict[str, Word] | None = None
        self.keeper_heard_ms = 0
        self.keeper_lost = False
        self.unstored: list[Alarm] = []  # what a full disk could not keep
        self.told_ms = 0  # when it last told something
        self.standing: dict[str, Severity] = {}
        self.intents: set[int] = set()  # written down and not yet acted on
        self.hands = {
            TellKeeper: self.tell_keeper,
            ControlService: self.control_service,
            GatherFacts: self.gather_facts,
            KeepEpoch: self.keep_epoch,
            LookNames: self.look_names,
            UpdateNames: self.update_names,
            VerifyNames: self.verify_names,
            ObserveNames: self.observe_names,
            Tell: self.tell,
            Record: self.record,
            Reply: self.reply,
        }

    def begin(self) -> None:
        super().begin()
        world, node = self.world, self.node
        self.words = None
        self.keeper_lost = False
        self.keeper_heard_ms = self.agenda.now
        world.judge.agent_began(self)
        settings = world.town.settings(node.name)
        epochs = dict(node.disk.epochs)
        standing = list(node.disk.standing.values())
        self.standing = {alarm.alarm_id: alarm.severity for alarm in standing}
        now = self.clock.read(self.agenda.now)
        self.core = world.cores.agent(settings, epochs, now, None, standing)
        if node.disk.full:
            self.feed(StoreFailed("no space left on device"))
        self.due_ms = self.core.deadline()
        self.arm()
        for group in world.town.groups_of(node.name):
            for service in group.services:
                for check in service.checks:
                    first = self.rng.randrange(check.every_ms)
                    where = (group.name, service.name, check.name, check.every_ms)
                    self.agenda.after(first, self.check, self.life, *where)
        for device in world.town.devices.values():
            first = self.rng.randrange(device.every_ms)
            self.agenda.after(first, self.poll, self.life, device.name, device.every_ms)
        self.agenda.after(BEAT_MS, self.beat, self.life)
        self.agenda.after(1, self.send_spool, self.life)

    def end(self) -> None:
        super().end()
        self.unstored = []

    def woken(self, due_ms: int) -> Ticked:
        return Ticked(self.world.wall_s(self.node))

    # ---------------------------------------------------------------- what comes in

    def beat(self, life: int) -> None:
        """Repeat the last words; miss the keeper's."""
        if life != self.life or not self.alive:
            return
        self.agenda.after(BEAT_MS, self.beat, life)
        if self.stopped:
            return
        if self.words is not None:
            self.node.keeper.feed(WordGiven(self.words, self.core.words_ms))
        if self.agenda.now - self.keeper_heard_ms > KEEPER_HUNG_MS and not self.keeper_lost:
            self.keeper_lost = True
            self.feed(KeeperLost("nothing heard from it: killed"))
            self.node.kill("keeper")

    def hear_keeper(self, said: KeeperSaid, life: int) -> None:
        if life == self.node.keeper.life and self.alive:
            self.keeper_heard_ms = self.agenda.now
            self.keeper_lost = False
            self.feed(said)

    def listen(self, heard: PeerHeard) -> None:
        """Answers for its node; a paused one answers when it goes on."""
        if heard.kind != "ask":
            return
        if self.stopped:
            self.inbox.append(heard)
        else:
            body = agent_answer(heard.body, self.keeper_lost)
            self.send_peer(heard.node, "keeper", "answer", body)

    def take_in(self, event: Any) -> None:
        if event.__class__ is PeerHeard:
            self.listen(event)
        else:
            super().take_in(event)

    def refuse(self, refused: PacketRefused) -> None:
        """Counted by the real shell, nothing for the core."""

    def check(self, life: int, group: str, service: str, check: str, every_ms: int) -> None:
        """One round of "are you alive?"."""
        if life != self.life or not self.alive:
            return
        self.agenda.after(every_ms, self.check, life, group, service, check, every_ms)
        alive = self.node.services[group, service].alive
        answer = Answer(True, "", 1) if alive else Answer(False, "connection refused", 1)
        if not self.stopped:
            self.take_in(Checked(group, service, check, answer))

    def poll(self, life: int, device: str, every_ms: int) -> None:
        if life != self.life or not self.alive:
            return
        self.agenda.after(every_ms, self.poll, life, device, every_ms)
        if not self.stopped:
            self.take_in(self.world.power_supplies[device].sampled(self.agenda.now))

    def store_changed(self) -> None:
        """The disk filled up, or has room again."""
        if self.node.disk.full:
            self.feed(StoreFailed("no space left on device"))
        else:
            for alarm in self.unstored:
                self.node.disk.keep(alarm)
            self.unstored = []
            self.feed(StoreMended())

    # ---------------------------------------------------------------- what its core wants done

    def outcome(
        self, delay_ms: int, op_id: int, ok: bool | None, detail: str, **facts: Any
    ) -> None:
        self.agenda.after(delay_ms, self.feed_life, self.life, Outcome(op_id, ok, detail, facts))

    def tell_keeper(self, action: TellKeeper) -> None:
        self.words = action.words
        self.agenda.after(0, self.node.keeper.feed, WordGiven(action.words, self.core.words_ms))

    def control_service(self, action: ControlService) -> None:
        self.world.judge.acting(self, action)
        service = self.node.services[action.group, action.service]
        if action.verb == "status":
            self.outcome(5, action.op_id, True, "", running=service.running)
            return
        if action.verb == "kill":
            self.agenda.after(KILL_MS, self.finish_kill, self.life, action)
            return
        service.orders += 1
        took_ms = 200 if action.verb == "stop" else service.start_ms
        if service.hanging and action.verb != "start":
            took_ms += STOP_BY_FORCE_MS
            if took_ms > action.within_ms:
                self.outcome(action.within_ms, action.op_id, None, "timed out")
        self.agenda.after(took_ms, self.finish_control, self.life, service.orders, action)

    def finish_control(self, life: int, order: int, action: ControlService) -> None:
        """The system's part goes on without us; whether we hear of it is another thing."""
        if order != self.node.services[action.group, action.service].orders:
            self.feed_life(life, Outcome(action.op_id, False, "cancelled by a later order"))
            return
        ok, detail = self.node.control(action.group, action.service, action.verb)
        self.feed_life(life, Outcome(action.op_id, ok, detail))

    def finish_kill(self, life: int, action: ControlService) -> None:
        """Beside whatever else is ordered; what was being started is killed with it."""
        self.node.services[action.group, action.service].orders += 1
        self.node.stop_service(action.group, action.service)
        self.feed_life(life, Outcome(action.op_id, True, "gone"))

    def gather_facts(self, action: GatherFacts) -> None:
        self.outcome(20, action.op_id, True, "", lines=[], resources={})

    def keep_epoch(self, action: KeepEpoch) -> None:
        self.world.judge.acting(self, action)
        bounds = SLOW_FSYNC_MS if self.node.disk.slow else FSYNC_MS
        self.agenda.after(self.rng.randint(*bounds), self.finish_keeping, self.life, action)

    def finish_keeping(self, life: int, action: KeepEpoch) -> None:
        if life != self.life or not self.alive:
            return
        disk = self.node.disk
        if disk.full:
            self.feed(Outcome(action.op_id, None, "no space left on device"))
            return
        disk.epochs[action.name] = max(action.ceiling, disk.epochs.get(action.name, 0))
        self.feed(Outcome(action.op_id, True, "stored"))

    def look_names(self, action: LookNames) -> None:
        zone = self.world.zones[action.geo]
        if zone.down or not self.node.reaches_world():
            self.outcome(DNS_TIMEOUT_MS, action.op_id, None, "timed out")
        else:
            self.outcome(20, action.op_id, True, "", epoch=zone.epoch)

    def update_names(self, action: UpdateNames) -> None:
        self.world.judge.acting(self, action)
        self.agenda.after(self.rng.randint(*DNS_MS), self.finish_update, self.life, action)

    def finish_update(self, life: int, action: UpdateNames) -> None:
        zone = self.world.zones[action.geo]
        if zone.down or not self.node.reaches_world():
            self.outcome_for(life, DNS_TIMEOUT_MS, action.op_id, None, "timed out")
            return
        rcode = zone.swap(action.site, action.epoch)
        if rcode == "NOERROR":
            self.world.judge.names_written(self, action)
        if zone.replies_lost:
            self.outcome_for(life, DNS_TIMEOUT_MS, action.op_id, None, "timed out")
            return
        facts = {"rcode": rcode, "epoch": zone.epoch, "took_ms": 20}
        outcome = Outcome(action.op_id, rcode == "NOERROR", rcode, facts)
        self.feed_life(life, outcome)

    def outcome_for(self, life: int, delay_ms: int, op_id: int, ok: bool | None, why: str) -> None:
        self.agenda.after(delay_ms, self.feed_life, life, Outcome(op_id, ok, why))

    def verify_names(self, action: VerifyNames) -> None:
        zone = self.world.zones[action.geo]
        if zone.down or not self.node.reaches_world():
            servers = {"192.0.2.53": {"serial": 0, "ok": False, "detail": "timed out"}}
            self.outcome(DNS_TIMEOUT_MS, action.op_id, None, "timed out", servers=servers)
            return
        right = zone.site == action.site
        servers = {"192.0.2.53": {"serial": zone.epoch, "ok": right, "detail": zone.site}}
        self.outcome(20, action.op_id, right, zone.site, servers=servers)

    def observe_names(self, action: ObserveNames) -> None:
        zone = self.world.zones[action.geo]
        if zone.down or not self.node.reaches_world():
            self.outcome(DNS_TIMEOUT_MS, action.op_id, None, "timed out")
            return
        servers = {"192.0.2.53": {"serial": zone.epoch, "ok": True, "detail": zone.site}}
        self.outcome(20, action.op_id, True, "", epoch=zone.epoch, site=zone.site, servers=servers)

    def tell(self, action: Tell) -> None:
        self.world.judge.alarming(self, action.alarm)
        self.told_ms = self.agenda.now
        if self.node.disk.full:
            self.unstored.append(action.alarm)
        else:
            self.node.disk.keep(action.alarm)
        if len(self.node.disk.spool) + len(self.unstored) == 1:
            self.agenda.after(5, self.send_spool, self.life)

    def send_spool(self, life: int) -> None:
        """In order; what is not acknowledged stays."""
        if life != self.life or not self.alive:
            return
        nms, disk = self.world.nms, self.node.disk
        if nms.down or self.stopped or not self.node.reaches_world():
            self.agenda.after(NMS_RETRY_MS, self.send_spool, life)
            return
        for alarm in disk.spool + self.unstored:
            nms.receive(self.node.name, alarm)
        disk.spool.clear()
        self.unstored.clear()

    def record(self, action: Record) -> None:
        self.world.judge.recorded(self, action)

    def reply(self, action: Reply) -> None:
        self.world.judge.replied(self, action)
