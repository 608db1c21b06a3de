# SPDX-License-Identifier: GPL-2.0-or-later
"""What the configuration says, checked and with units: the form in which the core reads it.

`agent.config` makes these from `standpipe.toml`; nothing here parses or looks anything up.
Durations are integer milliseconds, sizes bytes, shares percent.
"""

from dataclasses import dataclass, field
from enum import StrEnum


class Standby(StrEnum):
    """How a standby is kept."""

    HOT = "hot"
    COLD = "cold"
    REALTIME = "realtime"


class Exclusive(StrEnum):
    """What a node needs before it runs the group's services while another one may."""

    SEGMENT = "segment"  # nothing: two copies for a moment do no harm
    LEASE = "lease"  # a majority of the voters: the group's nodes and every witness
    FENCE = "fence"  # a majority of the group's nodes, a fenced one counting as a yes


class Failback(StrEnum):
    """Who decides that the preferred node takes its group back."""

    MANUAL = "manual"
    NEVER = "never"
    AFTER = "after"  # a time of good health: GroupSettings.failback_ms


@dataclass(frozen=True, slots=True)
class SnmpSettings:
    """How to speak SNMP with somebody: v2c with a community, or v3 with a user."""

    version: str = "2c"  # "2c" or "3"
    community_file: str = ""
    community: str = ""
    user: str = ""
    level: str = "noAuthNoPriv"  # noAuthNoPriv authNoPriv authPriv
    secrets_file: str = ""  # lines: auth = "sha256:pass", priv = "aes128:pass"
    port: int = 161


@dataclass(frozen=True, slots=True)
class OutletSettings:
    """An outlet that feeds a node. `outlet`: as its PDU counts them, "5" or "1.5"."""

    device: str  # its name in the file, for people
    address: str  # host, without port
    snmp: SnmpSettings  # must be allowed to write
    outlet: str


@dataclass(frozen=True, slots=True)
class FenceSettings:
    """How a node is switched off from outside. kind: pdu ipmi command.

    All `outlets` must be off for a node to be off. off, on, status: shell words; status ends with 0
    where the node is on, 2 where it is off, anything else is "not known".
    """

    kind: str
    outlets: tuple[OutletSettings, ...] = ()
    address: str = ""  # ipmi: of the BMC, "host" or "host:port"
    user: str = ""
    password_file: str = ""
    off: str = ""
    on: str = ""
    status: str = ""
    within_ms: int = 20_000


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """A server or gateway. `paths`: its addresses on independent networks, in order."""

    name: str
    site: str
    paths: tuple[str, ...]
    peer_port: int = 7411  # UDP of its keeper, its agent on the next; TCP on the one after
    witness: bool = False  # it serves no group: it only votes (`exclusive = "lease"`)
    fence: FenceSettings | None = None


@dataclass(frozen=True, slots=True)
class AddressSettings:
    """A floating address. `address`: "10.1.0.100", prefix_len as on the wire, `family` 4 or 6."""

    address: str
    prefix_len: int
    family: int
    interface: str
    vrid: int


@dataclass(frozen=True, slots=True)
class CheckSettings:
    """One way to ask a service "are you alive?".

    kind: tcp http command process unit sip; target: what `kind` reads (host:port, URL, shell words,
    process name, unit name). `floating`: the target is one of the group's own addresses, so only
    the active node can expect an answer.
    """

    name: str
    kind: str
    target: str
    every_ms: int = 1000
    timeout_ms: int = 1000
    rise: int = 2
    fall: int = 3
    stale_after_ms: int = 10_000
    expect: str = ""  # http: the status code wanted, "200"; command: none
    floating: bool = False
    retry_ms: int = 100  # after an answer that was bad it is asked again so soon


@dataclass(frozen=True, slots=True)
class ServiceSettings:
    """One service of a group: a systemd unit, or start/stop/status commands (all three or none)."""

    name: str
    unit: str = ""
    start: str = ""
    stop: str = ""
    status: str = ""
    checks: tuple[CheckSettings, ...] = ()
    restarts: int = 3  # "3 in 10m": so many restarts ...
    restarts_in_ms: int = 600_000  # ... within this window, then the group moves
    start_within_ms: int = 30_000
    stop_within_ms: int = 30_000
    after: tuple[str, ...] = ()  # services of the group that must be alive before it is started
    pid_file: str = ""  # of its main process, where it is run by commands
    starts_in_ms: int = 0  # how long its start takes, 0: as measured
    on_death: str = "auto"  # auto restart move: auto restarts where that is not felt, else moves


@dataclass(frozen=True, slots=True)
class CloudSettings:
    """A WebDAV folder that keeps what is carried, sealed before it leaves (RFC 4918)."""

    url: str  # https://host/folder/
    user: str = ""
    password_file: str = ""
    ca_file: str = ""  # "": the system's


@dataclass(frozen=True, slots=True)
class CarriedSettings:
    """What a standby gets from the primary. Paths from the root; one that ends in / is a tree.

    `own`: paths inside those that belong to each node itself and never travel. licence: as files,
    but each must be valid on the host that it lies on.
    """

    files: tuple[str, ...] = ()
    licence: tuple[str, ...] = ()
    status: str = ""
    own: tuple[str, ...] = ()
    status_max_age_ms: int = 10_000
    load_test: str = ""  # command: does the status file (its last word) load? 0: yes
    licence_test: str = ""  # command, for each licence file (its last word); 0: valid here
    licence_warn_ms: int = 30 * 86_400_000
    apply: str = ""  # command, run on a standby after its settings changed
    max_bytes: int = 1 << 30
    rate_bytes_s: int = 50_000_000
    versions: int = 10
    cloud: CloudSettings | None = None


@dataclass(frozen=True, slots=True)
class RealtimeSettings:
    """Sessions that cannot be mirrored, and work that must come back in steps.

    sessions: how many are up: "command" prints a number, "http" gives JSON with `field`, "oid" is
    read of 127.0.0.1 or of `address`. drain, undrain: commands: take no new work, take it again.
    What was drained after a move takes new work again, as a standby, when its last session is gone.
    ramp: a command whose last word is the share of the load to take now, in percent.
    """

    sessions_kind: str = ""  # command http oid, "": nobody knows
    sessions: str = ""  # command line, URL, OID
    field: str = ""  # http: "calls.active"
    snmp: SnmpSettings | None = None
    address: str = "127.0.0.1"
    drain: str = ""
    undrain: str = ""
    drain_first: bool = False  # before the addresses move: for sessions that hang on them
    deadline_ms: int = 600_000
    ramp: str = ""
    steps_pct: tuple[int, ...] = (10, 25, 50, 100)
    step_every_ms: int = 10_000
    jitter_ms: int = 5_000


@dataclass(frozen=True, slots=True)
class RouteSettings:
    """A route that is there while the group's addresses are, and goes with them.

    `to`: "192.0.2.0/24" or "default"; `via`: a next hop or "". `source`: one of the group's own
    addresses, of the route's family: the kernel drops the route together with it.
    """

    to: str
    family: int
    interface: str
    source: str
    via: str = ""
    metric: int = 0
    table: int = 254  # main


@dataclass(frozen=True, slots=True)
class GroupSettings:
    """What fails over together. `nodes`: preferred first.

    `plain_peers`: primary addresses of VRRP routers (a keepalived, a router) that share the
    group's virtual routers and are no nodes of this cluster. `priorities`: one for each node.
    """

    name: str
    nodes: tuple[str, ...]
    addresses: tuple[AddressSettings, ...]
    services: tuple[ServiceSettings, ...] = ()
    standby: Standby = Standby.HOT
    failback: Failback = Failback.MANUAL
    failback_ms: int = 0
    advert_ms: int = 200
    hold_ms: int = 10_000  # how long an unheard keeper or agent is waited for
    unicast: bool = True  # VRRP to the nodes' first paths; False: to 224.0.0.18 / ff02::12
    checksum_pseudo: bool = True  # IPv4 checksum with the pseudo-header, as keepalived and FRR send
    probation_ms: int = 30_000  # good health asked of a node that failed, before it is READY again
    priorities: tuple[int, ...] = ()  # 1..255; (): 200, and 10 less for each node before it
    plain_peers: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()  # asked by ARP or ND: without an answer this node is cut off
    routes: tuple[RouteSettings, ...] = ()
    break_first: bool = False  # a hand-over lets go before the other one takes
    drain_ms: int = 0  # after a hand-over the addresses stay so long, silently, for answers
    virtual_mac: bool = False  # RFC 9568 section 7.3, on a macvlan
    link_local_first: bool = False  # IPv6 adverts list it first (RFC 9568 5.2.9), keepalived's not
    announce_command: str = ""  # run beside the announcements: for clouds that must be told
    exclusive: Exclusive = Exclusive.SEGMENT
    lease_ms: int = 2_000
    carried: CarriedSettings | None = None
    realtime: RealtimeSettings | None = None
    promote: str = ""  # command: this node's running standby becomes the one that works
    demote: str = ""
    hook_within_ms: int = 10_000
    after: tuple[str, ...] = ()  # groups that must be in service, here or elsewhere, before it
    apart: tuple[str, ...] = ()  # groups that must not be on the same node
    rehearse: str = ""  # command: a dress rehearsal on the standby; 0: it would serve
    rehearse_every_ms: int = 3_600_000
    proof_max_age_ms: int = 60_000  # of every proof that it is ready but the rehearsal's
    needs_bytes: int = 0  # memory that must be available before it is brought up, 0: not asked
    failback_window: tuple[int, int] = (0, 0)  # minutes of the local day, from and to; equal: any


@dataclass(frozen=True, slots=True)
class RecordSettings:
    """A name in DNS and what it holds for each site: site -> tuple of RFC 1035 text forms."""

    name: str
    type: str
    ttl_s: int
    values: dict[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class GeoSettings:
    """Which site the world is sent to. `groups`: site -> the group that serves there."""

    name: str
    sites: tuple[str, ...]
    groups: dict[str, str]
    zone: str
    servers: tuple[str, ...]  # "192.0.2.53" or "192.0.2.53:5353"; the first is the primary
    tsig_file: str
    records: tuple[RecordSettings, ...]
    arbiter: str = "manual"


@dataclass(frozen=True, slots=True)
class DeviceSettings:
    """Something that speaks SNMP. `feeds`: the nodes that die when it dies."""

    name: str
    address: str
    site: str
    snmp: SnmpSettings
    feeds: tuple[str, ...] = ()
    every_ms: int = 5000
    stale_after_ms: int = 30_000
    runtime_low_s: int = 300  # on battery with less left than this: hand over while it can


@dataclass(frozen=True, slots=True)
class NmsSettings:
    """Who is told."""

    name: str
    address: str
    snmp: SnmpSettings
    inform: bool = False


@dataclass(frozen=True, slots=True)
class WatchSettings:
    """One kind of resource of the host (disk, inodes, memory, swap, fds, cpu, psi).

    `warn_ms`, `critical_ms`: forecast horizons; `warn_pct`, `critical_pct`: levels that alarm
    whatever the forecast; `switch_over_ms`: move groups so long before exhaustion (0: never).
    """

    kind: str
    warn_ms: int = 24 * 3_600_000
    critical_ms: int = 4 * 3_600_000
    warn_pct: float = 90.0
    critical_pct: float = 97.0
    switch_over_ms: int = 0
    every_ms: int = 10_000
    only: tuple[str, ...] = ()  # disk, inodes: these mount points alone


@dataclass(frozen=True, slots=True)
class Settings:
    """The whole file, as one node reads it. `node` is "" where it only watches."""

    cluster: str
    key_file: str
    node: str
    sites: tuple[str, ...] = ()
    nodes: dict[str, NodeSettings] = field(default_factory=dict)
    groups: dict[str, GroupSettings] = field(default_factory=dict)
    geos: dict[str, GeoSettings] = field(default_factory=dict)
    devices: dict[str, DeviceSettings] = field(default_factory=dict)
    watches: dict[str, WatchSettings] = field(default_factory=dict)
    nms: dict[str, NmsSettings] = field(default_factory=dict)
    pki_dir: str = "/etc/standpipe/pki"  # made by `standpipe init`: ca.crt ca.key node.crt node.key
    moves: int = 6  # "6 in 1h": so many moves that nobody ordered ...
    moves_in_ms: int = 3_600_000  # ... of all groups here within this, then freeze and page
    moves_share_pct: int = 50  # never more of this node's groups at once, where there are several
    digest: str = ""  # sha256 of the file's bytes, hex

    def own_groups(self) -> list[GroupSettings]:
        """The groups that this node may serve."""
        return [group for group in self.groups.values() if self.node in group.nodes]
