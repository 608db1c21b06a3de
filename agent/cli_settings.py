# SPDX-License-Identifier: GPL-2.0-or-later
"""`standpipe settings status|diff|restore`: the versions of a group's settings on this node.

They are read from the shelf (STATE_DIR/carried) itself, which is for root or the agent's user.
Exit 0 done (`diff`: no difference), 1 refused or failed, 2 (`diff`) there are differences.
"""

import argparse
import difflib
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agent.carried_files import CarriedFiles
from agent.carry_hands import Hands
from agent.cli_socket import Unanswered, ask, cleaned, show_json
from agent.config import ConfigError, load
from agent.core.difference import difference
from agent.core.manifest import Declared, Entry, Version, declared
from agent.core.settings import Settings
from agent.ports import PortError
from agent.shelf import Shelf, Shelved

STATUS_WITHIN_S = 5.0
LONGEST_DIFF_BYTES = 1 << 20
DIFFERENT = 2


class Trouble(Exception):
    """Says who, what, and what now."""


class Held:
    """One group's shelf and files, as the command line sees them."""

    def __init__(self, options: argparse.Namespace, settings: Settings, hands: Hands) -> None:
        group = settings.groups.get(options.group)
        if group is None or group.carried is None or settings.node not in group.nodes:
            own = [g.name for g in settings.own_groups() if g.carried is not None]
            known = f"; groups that carry: {', '.join(own)}" if own else ""
            raise Trouble(f"{options.group}: carries nothing on this node{known}")
        self.name = group.name
        self.node = settings.node
        self.allowed: Declared = declared(group.carried)
        self.shelf = Shelf(Path(options.state_dir), group.name, self.allowed, hands.sync)
        self.files = CarriedFiles(group.name, settings.node, self.allowed, self.shelf, hands)
        self.files.current = self.shelf.current()
        self.files.look()
        self.ids = hands.local_ids

    def version(self, text: str) -> Version:
        """By number, the newest where several have it."""
        same = [one for one in self.shelf.versions() if str(one.number) == text]
        if not same:
            kept = ", ".join(str(one.number) for one in self.shelf.versions()) or "none"
            raise Trouble(f"{self.name}: no version {text} is kept here; there are: {kept}")
        try:
            return self.shelf.load(same[-1])
        except (ValueError, OSError) as error:
            raise Trouble(f"{self.name}: version {text} cannot be used: {error}") from error


def settings(options: argparse.Namespace, hands: Callable[[], Hands]) -> int:
    """options: action, group, and for diff and restore versions or version, paths, force, json."""
    try:
        configuration = load(Path(options.config), node=options.node)
        held = Held(options, configuration, hands())
        match options.action:
            case "status":
                return _status(options, held)
            case "diff":
                return _diff(options, held)
            case _:
                return _restore(options, held)
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
    except PermissionError as error:
        sys.stderr.write(f"standpipe: {error.filename}: {error.strerror}; use sudo\n")
    except (Trouble, PortError, OSError) as error:
        sys.stderr.write(f"standpipe: {error}\n")
    return 1


# ---------------------------------------------------------------- status


def _status(options: argparse.Namespace, held: Held) -> int:
    current = held.shelf.current_digest()
    rows = [_row(held, one, current) for one in held.shelf.versions()]
    drift = held.files.drift().found.paths()
    status = held.shelf.status()
    said: dict[str, Any] = {"version": 1, "group": held.name, "versions": rows, "differs": drift}
    said["left_out"] = held.files.left_out
    said["status"] = None
    if status is not None:
        snapshot, vouched_ms = status
        said["status"] = {
            "epoch": snapshot.epoch,
            "from": snapshot.node,
            "bytes": snapshot.entry.size,
            "age_s": max(0, time.time_ns() // 1_000_000 - vouched_ms) // 1000,
        }
    if options.json:
        show_json(said)
        return 0
    sys.stdout.write("".join(f"{line}\n" for line in _lines(said)))
    return 0


def _row(held: Held, one: Shelved, current: str) -> dict[str, Any]:
    row: dict[str, Any] = {"number": one.number, "epoch": one.epoch, "digest": one.digest}
    row["counts"] = one.digest == current
    with suppress(ValueError, OSError):
        version = held.shelf.load(one)
        made = datetime.fromtimestamp(version.origin_ms / 1000, UTC)
        files = sum(entry.kind == "file" for entry in version.entries.values())
        row |= {"made": made.strftime("%Y-%m-%d %H:%M:%S UTC"), "by": version.node}
        row |= {"files": files, "bytes": version.total_bytes}
    return row


def _lines(said: dict[str, Any]) -> Iterator[str]:
    for row in said["versions"]:
        mark = "*" if row["counts"] else " "
        what = (
            f"{row['made']}  by {row['by']}  {row['files']} files  {row['bytes']} bytes"
            if "made" in row
            else "cannot be used with the paths that are declared now"
        )
        yield f"{mark} {row['number']:6}  epoch {row['epoch']}  {what}"
    if not said["versions"]:
        yield "no version yet"
    for path in said["differs"]:
        yield f"differs on this host: {cleaned(path)}"
    for path, why in said["left_out"].items():
        yield f"not carried: {cleaned(path)}: {cleaned(why)}"
    status = said["status"]
    if status is not None:
        yield (
            f"status: {status['bytes']} bytes of epoch {status['epoch']} from {status['from']},"
            f" {status['age_s']} s old"
        )


# ---------------------------------------------------------------- diff


def _diff(options: argparse.Namespace, held: Held) -> int:
    """Two versions, one against what lies here, or the one that counts against that."""
    wanted = list(options.versions)
    if not wanted and held.files.current is None:
        raise Trouble(f"{held.name}: no version counts here yet")
    old = held.version(wanted[0]) if wanted else held.files.current
    assert old is not None
    new = held.version(wanted[1]) if len(wanted) > 1 else None
    entries = new.entries if new is not None else held.files.live
    after = f"version {new.number}" if new is not None else "here"
    paths = sorted({*old.entries, *entries})
    different = False
    for path in paths:
        before, now = old.entries.get(path), entries.get(path)
        if before is not None and now is not None and before.line() == now.line():
            continue
        different = True
        for line in _changes(held, path, before, now, (f"version {old.number}", after)):
            sys.stdout.write(f"{cleaned(line)}\n")
    return DIFFERENT if different else 0


def _changes(
    held: Held, path: str, before: Entry | None, now: Entry | None, names: tuple[str, str]
) -> Iterator[str]:
    old, new = (_text(held, entry) for entry in (before, now))
    if before is not None and now is not None:
        for what in ("kind", "mode", "owner", "group", "target"):
            was, became = getattr(before, what), getattr(now, what)
            if was != became:
                shown = (f"{was:o}", f"{became:o}") if what == "mode" else (was, became)
                yield f"{path}: {what} {shown[0]} in {names[0]}, {shown[1]} in {names[1]}"
        if before.sha256 == now.sha256:
            return
    if old is None or new is None:
        digests = [entry.sha256[:16] if entry else "not there" for entry in (before, now)]
        yield f"{path}: {digests[0]} in {names[0]}, {digests[1]} in {names[1]}"
        return
    was, became = (f"{path} ({name})" for name in names)
    yield from difflib.unified_diff(old, new, was, became, lineterm="")


def _text(held: Held, entry: Entry | None) -> list[str] | None:
    """Lines; None for what is no text or too long to compare."""
    if entry is None or entry.kind != "file":
        return []
    if entry.size > LONGEST_DIFF_BYTES:
        return None
    try:
        if held.shelf.has(entry.sha256):
            with open(held.shelf.open(entry.sha256), "rb") as content:
                return content.read().decode().splitlines()
        with held.files.reading(entry.path) as source:
            return os.read(source, LONGEST_DIFF_BYTES).decode().splitlines()
    except (UnicodeDecodeError, PortError):
        return None


# ---------------------------------------------------------------- restore


def _restore(options: argparse.Namespace, held: Held) -> int:
    """Puts an older version, or some paths of it, into place; the agent makes it a new version."""
    version = held.version(options.version)
    _check_serving(options, held)
    if options.paths:
        version = _some(version, held, options.paths)
    found = difference(held.files.live, version.entries, held.ids)
    if not found:
        sys.stdout.write(f"{held.name}: what lies here is as in version {options.version}\n")
        return 0
    held.files.current = version
    when = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    aside = held.files.place(lambda: False, when)
    for path in found.paths():
        sys.stdout.write(f"restored {cleaned(path)}\n")
    for kept in aside:
        sys.stdout.write(f"what was there is in {cleaned(kept)}\n")
    return 0


def _check_serving(options: argparse.Namespace, held: Held) -> None:
    """Only what lies on the node that serves becomes a version; elsewhere it would be mended."""
    try:
        said = ask(options, "status", {}, within_s=STATUS_WITHIN_S)["detail"]
    except Unanswered as error:
        if options.force:
            return
        raise Trouble(f"{error}; or say --force") from error
    groups = [g for g in said.get("groups", []) if g.get("name") == held.name]
    if groups and groups[0].get("state") == "active":
        return
    owner = groups[0].get("owner") if groups else ""
    where = f"do it on {owner}" if owner else "no node serves it"
    if not options.force:
        raise Trouble(f"{held.name}: is not served here; {where}, or say --force")


def _some(version: Version, held: Held, paths: list[str]) -> Version:
    """What lies here, with these paths (and all below them) as in the version."""

    def chosen(path: str) -> bool:
        return any(
            path == one.rstrip("/") or path.startswith(one.rstrip("/") + "/") for one in paths
        )

    if not any(chosen(path) for path in (*version.entries, *held.files.live)):
        raise Trouble(f"{', '.join(paths)}: neither in version {version.number} nor here")
    entries = {path: entry for path, entry in held.files.live.items() if not chosen(path)}
    for path, entry in version.entries.items():
        if chosen(path):
            entries[path] = entry
            parent = os.path.dirname(path)
            while parent in version.entries and parent not in entries:
                entries[parent] = version.entries[parent]
                parent = os.path.dirname(parent)
    return replace(version, entries=entries, digest="")
