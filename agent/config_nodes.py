# SPDX-License-Identifier: GPL-2.0-or-later
"""[cluster], [site.NAME], [node.NAME]: who there is, where, and how each is reached."""

from dataclasses import dataclass

from agent.config_forms import folder_path, host_address, move_budget, percent
from agent.config_lines import At
from agent.config_section import Section, did_you_mean, listed
from agent.core.settings import NodeSettings

KEY_FILE = "/etc/standpipe/cluster.key"
PEER_PORT = 7411
LAST_PEER_PORT = 65533  # the agents' is one above it, the carrying of settings two
WITNESS = "witness"
ROLES = ("member", WITNESS)
RESERVED_SITES = ("name", "type", "ttl")
"""Keys of [[geo.NAME.record]], which also has a key for each site."""

PKI_DIR = "/etc/standpipe/pki"
MOVES = (6, 3_600_000)
MOVES_SHARE_PCT = 50

Addresses = dict[str, tuple[At, str]]
"""Every address that is taken -> where the file says so, and whose it is."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """What [cluster] says. moves: so many of them within so many ms."""

    name: str = ""
    key_file: str = ""
    peer_port: int = PEER_PORT
    pki_dir: str = PKI_DIR
    moves: tuple[int, int] = MOVES
    moves_share_pct: int = MOVES_SHARE_PCT


def read_cluster(root: Section, needed: bool) -> Cluster:
    """`needed`: there are nodes, which must prove who they are."""
    cluster = root.table("cluster")
    if cluster is None:
        if needed and "cluster" not in root:
            root.note("cluster", "missing: write [cluster] with the name of these nodes together")
        return Cluster()
    name = cluster.text("name", needed="what these nodes are together called" if needed else "")
    if needed or "key_file" in cluster:
        key_file = cluster.secret_file("key_file", KEY_FILE)
    else:
        key_file = cluster.text("key_file")
    read = Cluster(
        name=name,
        key_file=key_file,
        peer_port=cluster.whole("peer_port", PEER_PORT, 1, LAST_PEER_PORT),
        pki_dir=cluster.form("pki_dir", folder_path, PKI_DIR),
        moves=cluster.form("moves", move_budget, MOVES),
        moves_share_pct=cluster.form("moves_share", percent, MOVES_SHARE_PCT),
    )
    cluster.close()
    return read


def read_sites(root: Section) -> tuple[str, ...]:
    """Their names, as the file orders them."""
    tables = root.named("site")
    for name, site in tables.items():
        if name in RESERVED_SITES:
            site.source.note(site.at, "this name is taken by a key of [[geo.NAME.record]]")
        site.close()
    return tuple(tables)


def read_site(section: Section, sites: tuple[str, ...]) -> str:
    """The key `site` of a table: must be one of those there are, and given where there are any."""
    if not sites and "site" not in section:
        section.text("site")
        return ""
    site = section.text("site", needed=f"one of {listed(sites)}")
    if site and site not in sites:
        why = f"no such [site.*]: there are {listed(sites)}"
        section.note("site", why + (did_you_mean(site, sites) or f"; write [site.{site}]"))
        return ""
    return site


def read_nodes(
    root: Section,
    sites: tuple[str, ...],
    peer_port: int,
    taken: Addresses,
    fences: dict[str, Section],
) -> dict[str, NodeSettings]:
    """The nodes; their paths go into `taken`, their [node.NAME.fence], unread, into `fences`."""
    nodes = {}
    for name, table in root.named("node").items():
        site = read_site(table, sites)
        paths = []
        for at, text in table.texts("paths", needed='its own addresses, as in ["10.1.0.11"]'):
            try:
                address = host_address(text)
            except ValueError as error:
                table.source.note(at, str(error), text)
                continue
            if address in taken:
                see, whose = taken[address]
                table.source.note(at, f"is {whose} already", text, see)
                continue
            taken[address] = (at, f"a path of node {name}")
            paths.append(address)
        fence = table.table("fence")
        if fence is not None:
            fences[name] = fence
        role = table.choice("role", ROLES, ROLES[0])
        table.close()
        nodes[name] = NodeSettings(name, site, tuple(paths), peer_port, witness=role == WITNESS)
    return nodes
