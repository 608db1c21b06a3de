# SPDX-License-Identifier: GPL-2.0-or-later
"""What waits for what, and what keeps apart: `after` of groups and services, `apart` of groups."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from graphlib import CycleError, TopologicalSorter

from agent.config_lines import At
from agent.config_section import Section, did_you_mean, listed
from agent.core.settings import GroupSettings

Named = dict[str, dict[str, At]]
"""Name -> the names that it lists, and where."""


def read_names(
    table: Section, key: str, own: str, known: Collection[str], what: str
) -> dict[str, At]:
    """Others of its kind that `own` lists. what: how the file calls such, "[group.*]"."""
    found: dict[str, At] = {}
    for at, name in table.texts(key):
        if name == own:
            table.source.note(at, "is itself", name)
        elif name not in known:
            why = f"no such {what}: there are {listed(known)}{did_you_mean(name, known)}"
            table.source.note(at, why, name)
        elif name in found:
            table.source.note(at, "is in the list already", name, found[name])
        else:
            found[name] = at
    return found


def note_cycle(table: Section, after: Named) -> None:
    """Notes the first ring of those that would wait for one another for ever."""
    try:
        TopologicalSorter(after).prepare()
    except CycleError as error:
        ring: list[str] = error.args[1]  # each is one that the next one waits for
        first, second = ring[-1], ring[-2]
        path = " after ".join(reversed(ring))
        table.source.note(after[first][second], f"nothing of this can start: {path}", second)


def bind_groups(
    tables: Mapping[str, Section], groups: Mapping[str, GroupSettings]
) -> dict[str, GroupSettings]:
    """The groups, with the `after` and `apart` of their tables; who is apart is so both ways."""
    after: Named = {}
    apart: Named = {}
    for name, table in tables.items():
        after[name] = read_names(table, "after", name, groups, "[group.*]")
        apart[name] = read_names(table, "apart", name, groups, "[group.*]")
        for other in apart[name]:
            _check_apart(table, groups[name], groups[other], apart[name][other], after[name])
    if tables:
        note_cycle(next(iter(tables.values())), after)
    both = {
        name: tuple(dict.fromkeys((*own, *(it for it in apart if name in apart[it]))))
        for name, own in apart.items()
    }
    return {
        name: replace(group, after=tuple(after[name]), apart=both[name])
        for name, group in groups.items()
    }


def _check_apart(
    table: Section, group: GroupSettings, other: GroupSettings, at: At, after: Mapping[str, At]
) -> None:
    nodes = {*group.nodes, *other.nodes}
    if other.name in after:
        why = "is in after as well: that one may be on another node anyway; decide for one"
        table.source.note(at, why, other.name, after[other.name])
    elif len(nodes) == 1:
        table.source.note(
            at, f"both have {listed(nodes)} alone, so one could never serve", other.name
        )
