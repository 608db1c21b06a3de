# SPDX-License-Identifier: GPL-2.0-or-later
"""What the keeper sees of the network, told to people: peers, cables, strangers, packets.

The keeper decides about all of it by itself; here it becomes alarms, and each of them ends.
"""

from typing import TYPE_CHECKING

from agent.core.keeping import PacketRefused
from agent.core.model import Alarm, Decision, KeeperSaid, PeerDeed, Severity
from agent.core.notice import lasting
from agent.core.sense import DEAF, UNANSWERED, UNKNOWN

if TYPE_CHECKING:
    from agent.core.engine import AgentCore

QUIET_MS = 600_000  # packets that were refused are forgotten after this
DEAF_MS = 2_000  # a look at the network takes a tenth of that
CALM_MS = {"address-conflict": 60_000, "address-removed": 600_000}  # without another one: over
PACKET_KINDS = {
    "advert-foreign": "foreign-router",
    "advert-interval": "router-disagrees",
    "advert-form": "router-disagrees",
    "advert-owner": "router-disagrees",
}
"""Rule of the machine "packets" -> kind of alarm; any other is packet-refused."""


def noticed(core: "AgentCore", before: KeeperSaid | None, said: KeeperSaid) -> None:
    """Peers that fall silent or come back, cables, packets, addresses that others touch."""
    for name, peer in said.peers.items():
        was = before.peers.get(name) if before is not None else None
        if was is None or was.state != peer.state:
            _peer_changed(core, name, peer, was)
    for interface, up in said.links.items():
        was_up = None if before is None else before.links.get(interface)
        if up and not was_up:
            core.clear_alarm("link-down", f"link {interface}", "carrier is back")
        elif not up and (was_up or (was_up is None and interface in _kept_interfaces(core))):
            core.raise_alarm("link-down", f"link {interface}", "carrier lost")
    for decision in said.decisions:
        _decided(core, decision)
    for kind, count in said.counters.items():
        if core.packets.get(kind, (0, 0))[0] != count:
            core.packets[kind] = (count, core.now)


def _decided(core: "AgentCore", decision: Decision) -> None:
    if decision.machine == "packets":
        kind = PACKET_KINDS.get(decision.rule, "packet-refused")
        source = decision.inputs.get("source", "?")
        core.raise_alarm(kind, f"{decision.rule} from {source}", decision.why)
    elif decision.rule == "G-DEFEND":
        _defended(core, decision)
    elif decision.rule in ("G-PUT-BACK", "G-GIVE-TUSSLE"):
        _removed(core, decision)


def packet_refused(core: "AgentCore", event: PacketRefused) -> bool:
    """By this process's own end of the peer link."""
    count = core.packets.get(event.kind, (0, 0))[0] + 1
    core.packets[event.kind] = (count, core.now)
    core.raise_alarm("packet-refused", f"{event.kind} from {event.source}", event.detail)
    return False


def _kept_interfaces(core: "AgentCore") -> set[str]:
    return {
        address.interface for role in core.roles.values() for address in role.settings.addresses
    }


def _peer_changed(core: "AgentCore", name: str, peer: PeerDeed, was: PeerDeed | None) -> None:
    subject = f"node {name}"
    site = core.settings.nodes[name].site
    if peer.state == "silent":
        core.raise_alarm("node-lost", subject, "silent in every way it can be asked")
        silent = (
            {n for n, p in core.keeper.peers.items() if p.state == "silent"}
            if core.keeper
            else set()
        )
        members = {n for n, node in core.settings.nodes.items() if node.site == site}
        if members <= silent:
            hint = "".join(
                f"; send the world elsewhere: standpipe failover {name} --to {other} --force"
                for name, geo in core.settings.geos.items()
                if site in geo.sites
                for other in geo.sites
                if other != site
            )
            core.raise_alarm("site-lost", f"site {site}", f"all of {sorted(members)} silent{hint}")
    elif peer.state == "alive":
        since = "" if was is None else f" (was {was.state})"
        core.clear_alarm("node-lost", subject, f"it is heard again{since}")
        core.clear_alarm("site-lost", f"site {site}", f"{name} is heard again")


# ---------------------------------------------------------------- addresses that others touch


def _defended(core: "AgentCore", decision: Decision) -> None:
    address, subject = _touched(decision)
    mac = decision.inputs.get("mac") or "a machine whose MAC address is not known"
    text = (
        f"{mac} answers for {address} too: the network was told again that it is here; find that "
        "machine by its MAC address in the switch and take the address from it"
    )
    _until_calm(core, "address-conflict", subject, text)


def _removed(core: "AgentCore", decision: Decision) -> None:
    address, subject = _touched(decision)
    by = decision.inputs.get("by") or "a program that is not known"
    if decision.rule == "G-PUT-BACK":
        text, severity = f"{by} removed {address}: it was put back", Severity.MINOR
    else:
        group = decision.machine.removeprefix("group ")
        text = f"{by} removes {address} again and again: {group} is handed over"
        severity = Severity.MAJOR
    text += f"; let that program leave what is not its own, see {_page('address-removed')}"
    _until_calm(core, "address-removed", subject, text, severity)


def _touched(decision: Decision) -> tuple[str, str]:
    """The address for a sentence, and the alarm's subject."""
    group = decision.machine.removeprefix("group ")
    address = str(decision.inputs.get("address") or "")
    if not address:
        return f"an address of {group}", f"group {group}"
    return address, f"address {address} of {group}"


def _page(kind: str) -> str:
    return f"docs/runbook/{kind}.md"


def _until_calm(
    core: "AgentCore", kind: str, subject: str, text: str, severity: Severity | None = None
) -> None:
    core.calm_at[kind, subject] = core.now + CALM_MS[kind]
    core.raise_alarm(kind, subject, text, severity)


# ---------------------------------------------------------------- over time


def recall(core: "AgentCore", alarm: Alarm) -> None:
    """One that an earlier agent raised: its time runs anew, for nobody tells us what was before."""
    if alarm.kind == "packet-refused" or alarm.kind in PACKET_KINDS.values():
        core.packets[alarm.subject.partition(" from ")[0]] = (0, core.now)
    elif alarm.kind in CALM_MS:
        core.calm_at[alarm.kind, alarm.subject] = core.now + CALM_MS[alarm.kind]


def watch(core: "AgentCore", said: KeeperSaid) -> None:
    """Once a second: what lasts, and what has been quiet for long enough."""
    _watch_packets(core)
    for (kind, subject), at in list(core.calm_at.items()):
        if core.now >= at:
            del core.calm_at[kind, subject]
            core.clear_alarm(kind, subject, f"not seen again for {CALM_MS[kind] // 1000} s")
    _watch_paths(core, said)
    _watch_senses(core, said)


def _watch_packets(core: "AgentCore") -> None:
    for kind, (count, grew_ms) in list(core.packets.items()):
        if grew_ms and core.now - grew_ms >= QUIET_MS:
            core.packets[kind] = (count, 0)
            for alarm in core.alarms.standing():
                if alarm.subject.startswith(f"{kind} from "):
                    core.clear_alarm(alarm.kind, alarm.subject, "no more of them for 10 min")


def _watch_paths(core: "AgentCore", said: KeeperSaid) -> None:
    for name, peer in said.peers.items():
        for path, address in enumerate(core.settings.nodes[name].paths):
            lost = peer.state == "alive" and path in peer.lost_paths
            text = (
                f"{name} is not heard by way of {address}, and is by another: look at that network"
            )
            subject = f"path {address} of {name}"
            lasting(core, "peer-path-lost", subject, lost, 0, text, "heard again")


def _watch_senses(core: "AgentCore", said: KeeperSaid) -> None:
    """An interface without carrier has an alarm of its own; "unknown" is no word of health."""
    for interface, sense in said.senses.items():
        if sense == UNKNOWN or not said.links.get(interface, True):
            continue
        wrong = sense in (DEAF, UNANSWERED)
        text = _trouble(core, interface, sense) if wrong else ""
        subject = f"link {interface}"
        lasting(core, "interface-deaf", subject, wrong, DEAF_MS, text, "answers come in again")


def _trouble(core: "AgentCore", interface: str, sense: str) -> str:
    if sense == UNANSWERED:
        return (
            f"frames come in on {interface}, but nobody who is asked there answers: what this node "
            "sends may not get out; check the switch port, its VLAN and the filters here"
        )
    gateways = sorted(
        gateway
        for role in core.roles.values()
        if any(address.interface == interface for address in role.settings.addresses)
        for gateway in role.settings.gateways
    )
    if gateways:
        return (
            f"the gateway does not answer on {interface} ({', '.join(gateways)}): nothing is taken "
            "over there; check the cable, the switch port and its VLAN, then the gateway itself"
        )
    return (
        f"nothing is heard on {interface}, though neighbours were asked: nothing is taken over "
        "there; check the cable, the switch port and its VLAN"
    )
