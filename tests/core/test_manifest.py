# SPDX-License-Identifier: GPL-2.0-or-later
"""Versions of settings: what may be in one, how two differ, and that nothing else is taken."""

from __future__ import annotations

import json
import posixpath
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core import manifest
from agent.core.difference import difference, missing_roots
from agent.core.manifest import Declared, Entry, Version
from agent.core.settings import CarriedSettings

SHA = "a" * 64
APP = manifest.declared(
    CarriedSettings(
        files=("/etc/app/",),
        licence=("/etc/app.licence",),
        status="/etc/app/status",
        own=("/etc/app/own/",),
    )
)
FOLDER = Entry("/etc/app", "dir", 0o755, "root", "root", 0, 0)
FILE = Entry("/etc/app/a", "file", 0o644, "app", "app", 7, 7, 3, 1, SHA)
LICENCE = replace(FILE, path="/etc/app.licence")


def version(*entries: Entry) -> Version:
    return Version("sbc", 1, 1, 1, "lon1", {entry.path: entry for entry in entries})


def reread(found: Version, allowed: Declared = APP, most: int = 1 << 30) -> Version:
    return manifest.load_version(
        json.loads(json.dumps(manifest.dump_version(found))), allowed, most
    )


def test_a_version_is_read_as_it_was_written() -> None:
    link = replace(FILE, path="/etc/app/l", kind="link", target="a", sha256="", size=0, mode=0o777)
    odd = replace(FILE, path="/etc/app/caf\udce9")
    found = version(FOLDER, FILE, LICENCE, link, odd)
    assert reread(found) == found


def test_when_and_by_what_number_a_file_was_written_does_not_count() -> None:
    other = replace(FILE, mtime_ns=9, uid=99, gid=99)
    assert version(FOLDER, FILE).digest == version(FOLDER, other).digest
    assert version(FOLDER, FILE).digest != version(FOLDER, replace(FILE, mode=0o600)).digest


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        (replace(FILE, path="/etc/passwd"), "not declared"),
        (replace(FILE, path="/etc/apple"), "not declared"),
        (replace(FILE, path="/etc/app/own"), "not declared"),
        (replace(FILE, path="/etc/app/own/x"), "not declared"),
        (replace(FILE, path="/etc/app/status"), "not declared"),
        (replace(FILE, path="/etc/app/.standpipe-0123456789abcdef"), "not declared"),
        (replace(FILE, path="/etc/app/../passwd"), r"\.\."),
        (replace(FILE, path="/etc/app//a"), "empty part"),
        (replace(FILE, path="/etc/app/"), "empty part"),
        (replace(FILE, path="etc/app/a"), "absolute"),
        (replace(FILE, path="/etc/app/\0"), "absolute"),
        (replace(FILE, path="/etc/app/" + "x" * 256), "longer than 255"),
        (replace(FILE, path="/etc/app" + "/x" * 2100), "longer than 4095"),
        (replace(FILE, path="/etc/app/no/where"), "no folder"),
        (replace(FILE, path="/etc/app/a/b"), "no folder"),
        (replace(FILE, kind="fifo"), "not carried"),
        (replace(FILE, mode=0o4755), "mode"),
        (replace(FILE, owner=""), "no name"),
        (replace(FILE, owner="../x"), "no name"),
        (replace(FILE, sha256="../../../etc/passwd"), "digest"),
        (replace(FILE, size=-1), "no good size"),
        (replace(FILE, size=1 << 31), "more than max_size"),
        (replace(FILE, path="/etc/app.licence", kind="dir", size=0, sha256=""), "declared as a"),
    ],
)
def test_what_may_not_be_in_a_version_is_refused(entry: Entry, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        reread(version(FOLDER, FILE, entry) if entry.path != FILE.path else version(FOLDER, entry))


def test_an_entry_that_is_there_twice_and_a_digest_that_is_not_its_own_are_refused() -> None:
    said = manifest.dump_version(version(FOLDER, FILE))
    with pytest.raises(ValueError, match="twice"):
        manifest.load_version(said | {"entries": said["entries"] * 2}, APP, 1 << 30)
    with pytest.raises(ValueError, match="digest"):
        manifest.load_version(said | {"digest": "b" * 64}, APP, 1 << 30)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=9),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner),
    ),
    st.sampled_from(["entries", "digest", "left_out", "number", "epoch", "group"]),
)
def test_anything_in_the_place_of_a_part_is_refused_in_words(raw: Any, part: str) -> None:
    said = manifest.dump_version(version(FOLDER, FILE)) | {part: raw}
    with suppress(ValueError):
        assert manifest.load_version(said, APP, 1 << 30).entries
    with pytest.raises(ValueError, match=r"."):
        manifest.load_version(raw, APP, 1 << 30)


@given(st.lists(st.sampled_from(["..", ".", "", "a", "b"]), max_size=6), st.integers(0, 3))
def test_a_link_that_may_be_carried_never_leads_out(parts: list[str], depth: int) -> None:
    path = "/etc/app" + "/d" * depth + "/link"
    target = "/".join(parts)
    if not manifest.link_trouble(path, target, "/etc/app"):
        end = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
        assert end == "/etc/app" or end.startswith("/etc/app/")


PATHS = st.sampled_from([f"/etc/app/{name}" for name in "abcdef"])
TREES = st.dictionaries(PATHS, st.sampled_from([SHA, "b" * 64, "c" * 64]))


@given(TREES, TREES)
def test_a_change_makes_one_version_into_the_next(old: dict[str, str], new: dict[str, str]) -> None:
    first, second = (
        version(FOLDER, *(replace(FILE, path=p, sha256=s) for p, s in files.items()))
        for files in (old, new)
    )
    change = json.loads(json.dumps(manifest.delta(first.entries, second.entries)))
    said = manifest.dump_version(second, whole=False) | {"change": change}
    assert manifest.patched(first, said, APP, 1 << 30).entries == second.entries


def test_a_change_that_does_not_fit_is_refused() -> None:
    said = manifest.dump_version(version(FOLDER, FILE), whole=False)
    for change in (None, [], {"gone": [1], "entries": []}, {"gone": [], "entries": [5]}):
        with pytest.raises(ValueError, match=r"."):
            manifest.patched(version(FOLDER), said | {"change": change}, APP, 1 << 30)


def test_what_differs_is_told_by_what_a_host_calls_the_owner() -> None:
    wanted = version(FOLDER, FILE).entries
    live = {FOLDER.path: FOLDER, FILE.path: replace(FILE, uid=55, gid=55, owner="55")}

    def here(entry: Entry) -> tuple[int, int]:
        return (55, 55) if entry.owner == "app" else (0, 0)

    assert not difference(live, wanted, here)
    found = difference(live | {LICENCE.path: LICENCE}, wanted, lambda entry: (7, 7))
    assert [entry.path for entry in found.wrong] == ["/etc/app", "/etc/app/a"]
    assert found.extra == ("/etc/app.licence",)


def test_a_declared_path_that_went_and_a_tree_that_became_empty_are_missing() -> None:
    full = version(FOLDER, FILE, LICENCE).entries
    assert missing_roots(full, full, APP) == []
    empty = {FOLDER.path: FOLDER}
    assert missing_roots(full, empty, APP) == ["/etc/app/", "/etc/app.licence"]
    assert missing_roots((), empty | {LICENCE.path: LICENCE}, APP) == []
