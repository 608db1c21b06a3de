# SPDX-License-Identifier: GPL-2.0-or-later
"""Two versions of a group's settings beside each other, and what is missing from one."""

from collections.abc import Callable, Collection
from dataclasses import dataclass

from agent.core.manifest import Declared, Entries, Entry


@dataclass(frozen=True, slots=True)
class Difference:
    """What lies on this host against what should. wrong: as it should be; extra: paths."""

    wrong: tuple[Entry, ...] = ()
    extra: tuple[str, ...] = ()

    def paths(self) -> list[str]:
        return [*(entry.path for entry in self.wrong), *self.extra]

    def __bool__(self) -> bool:
        return bool(self.wrong or self.extra)


def difference(
    live: Entries, wanted: Entries, here: Callable[[Entry], tuple[int, int]]
) -> Difference:
    """here: the uid and gid that an entry's owner has on this host. wrong: folders first."""
    ids: dict[tuple[str, int, str, int], tuple[int, int]] = {}

    def owner(entry: Entry) -> tuple[int, int]:
        whose = entry.owner, entry.uid, entry.group, entry.gid
        if whose not in ids:
            ids[whose] = here(entry)
        return ids[whose]

    def same(entry: Entry) -> bool:
        found = live.get(entry.path)
        if found is None:
            return False
        if (found.kind, found.sha256, found.target) != (entry.kind, entry.sha256, entry.target):
            return False
        return found.mode == entry.mode and (found.uid, found.gid) == owner(entry)

    wrong = sorted((e for e in wanted.values() if not same(e)), key=lambda entry: entry.path)
    return Difference(tuple(wrong), tuple(sorted(path for path in live if path not in wanted)))


def missing_roots(before: Collection[str], entries: Entries, allowed: Declared) -> list[str]:
    """Declared paths that are not there, and trees that had something and are empty now.

    A disk that is not mounted looks like that, and no standby may follow it. before: the paths of
    the version before.
    """
    found = []
    for root in allowed.roots:
        if root not in entries:
            found.append(root)
        elif root in allowed.trees and _filled(root, before) and not _filled(root, entries):
            found.append(root + "/")
    return found


def _filled(root: str, paths: Collection[str]) -> bool:
    return any(path.startswith(root + "/") for path in paths)
