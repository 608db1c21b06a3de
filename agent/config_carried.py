# SPDX-License-Identifier: GPL-2.0-or-later
"""[group.NAME.settings]: what a standby gets from the primary, and what no peer may ever touch."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from agent.config_forms import file_path, folder_url, path_from_root
from agent.config_lines import At
from agent.config_section import Section
from agent.core.settings import CarriedSettings, CloudSettings

CLOSED = ("/etc/standpipe", "/var/lib/standpipe", "/proc", "/sys", "/dev", "/run", "/var/run")
"""Each node's own, or no files at all: nothing in them is carried, nor a tree that has one."""
MIB = 1 << 20
DAY_MS = 86_400_000

Spot = tuple[At, str, str]
"""Where the file names a path, as it is written there, and for which group."""


@dataclass(slots=True)
class PathClaims:
    """Paths that are carried already. closed: the cluster's keys, wherever they are."""

    closed: tuple[str, ...] = ()
    taken: dict[str, dict[str, Spot]] = field(default_factory=dict)  # node -> path -> who has it


def inside(path: str, tree: str) -> bool:
    """Whether `path` is `tree`, or lies in it; with or without a / at the end."""
    return f"{path.rstrip('/')}/".startswith(f"{tree.rstrip('/')}/")


def read_carried(
    group: Section, name: str, nodes: Collection[str], claims: PathClaims
) -> CarriedSettings | None:
    """None where the group carries nothing. Its paths go into `claims`."""
    table = group.table("settings")
    if table is None:
        return None
    files = _read_paths(table, "files", claims)
    licence = _read_paths(table, "licence", claims)
    status = _read_status(table, claims)
    own = _read_paths(table, "own", claims)
    _check_nesting(table, files, "files")
    _check_nesting(table, licence, "licence")
    _check_status(table, status, {**files, **licence})
    _check_own(table, own, files, licence)
    _claim(table, name, nodes, {**files, **licence, **status}, claims)
    table.only_with("status", "status_max_age", "load_test")
    table.only_with("licence", "licence_test", "licence_warn")
    usual = CarriedSettings()
    carried = CarriedSettings(
        files=tuple(files),
        licence=tuple(licence),
        status=next(iter(status), ""),
        own=tuple(own),
        status_max_age_ms=table.duration("status_max_age", usual.status_max_age_ms, 100, DAY_MS),
        load_test=table.text("load_test"),
        licence_test=table.text("licence_test"),
        licence_warn_ms=table.duration("licence_warn", usual.licence_warn_ms, 0, 366 * DAY_MS),
        apply=table.text("apply"),
        max_bytes=table.size("max_size", usual.max_bytes, 1024, MIB**2),
        rate_bytes_s=table.rate("rate", usual.rate_bytes_s, 10_000, 10_000_000_000),
        versions=table.whole("versions", usual.versions, 1, 1000),
        cloud=_read_cloud(table),
    )
    if not any(key in table for key in ("files", "licence", "status")):
        table.source.note(table.at, "carries nothing: give it files, licence or status")
    table.close()
    return carried


def _read_paths(table: Section, key: str, claims: PathClaims) -> dict[str, At]:
    found: dict[str, At] = {}
    for at, text in table.texts(key):
        try:
            path = path_from_root(text)
        except ValueError as error:
            table.source.note(at, str(error), text)
            continue
        if path.rstrip("/") in {other.rstrip("/") for other in found}:
            table.source.note(at, "is in the list already", text)
        elif _open_to_peers(table, at, path, claims):
            found[path] = at
    return found


def _read_status(table: Section, claims: PathClaims) -> dict[str, At]:
    status, at = table.form("status", file_path, ""), table.spot("status")
    return {status: at} if status and _open_to_peers(table, at, status, claims) else {}


def _open_to_peers(table: Section, at: At, path: str, claims: PathClaims) -> bool:
    """Notes a path that a peer must never read or write."""
    for closed in (*CLOSED, *claims.closed):
        if closed and inside(path, closed):
            why = f"is in {closed}, which is" if path.rstrip("/") != closed else "is"
            table.source.note(at, f"{why} each node's own: it is never carried", path)
            return False
        if closed and inside(closed, path):
            why = f"has {closed} in it, which is never carried; name what is below it"
            table.source.note(at, why, path)
            return False
    return True


def _check_nesting(table: Section, paths: Mapping[str, At], key: str) -> None:
    for path, at in paths.items():
        for tree, see in paths.items():
            if tree != path and inside(path, tree):
                table.source.note(at, f"is in {tree} of {key} already", path, see)
                break


def _check_status(table: Section, status: Mapping[str, At], others: Mapping[str, At]) -> None:
    """A standby's settings are kept the same in place; its status is put there at the takeover."""
    for path in status:
        for tree, see in others.items():
            if inside(path, tree):
                why = f"is in {tree}, which is kept the same all the time; list the rest of that "
                table.note("status", why + "tree, or have the service write it elsewhere", see)
                return


def _check_own(
    table: Section, own: Mapping[str, At], files: Mapping[str, At], licence: Mapping[str, At]
) -> None:
    for path, at in own.items():
        if any(path.rstrip("/") == other.rstrip("/") for other in files):
            table.source.note(at, "is in files: either it is carried, or each node has its own")
        elif not any(inside(path, tree) for tree in (*files, *licence)):
            why = "is in none of files and licence, so it is not carried anyway; leave it out"
            table.source.note(at, why, path)


def _claim(
    table: Section, group: str, nodes: Iterable[str], paths: Mapping[str, At], claims: PathClaims
) -> None:
    """Two groups of one node that carry one path would undo each other's work."""
    noted = set()
    for node in nodes:
        taken = claims.taken.setdefault(node, {})
        for path, at in paths.items():
            for other, (see, written, owner) in taken.items():
                if owner == group or at in noted:
                    continue
                if inside(path, other) or inside(other, path):
                    noted.add(at)
                    why = f"group {owner} carries {written} already, on {node} too"
                    table.source.note(at, why, path, see)
        taken.update({path: (at, path, group) for path, at in paths.items()})


def _read_cloud(settings: Section) -> CloudSettings | None:
    table = settings.table("cloud")
    if table is None:
        return None
    cloud = CloudSettings(
        url=table.form(
            "url", folder_url, "", needed='as in "https://cloud.example.net/standpipe/"'
        ),
        user=table.text("user"),
        password_file=table.secret_file("password_file"),
        ca_file=table.form("ca_file", file_path, ""),
    )
    table.only_with("user", "password_file")
    table.only_with("password_file", "user")
    table.close()
    return cloud
