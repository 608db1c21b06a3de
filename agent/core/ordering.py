# SPDX-License-Identifier: GPL-2.0-or-later
"""What stands on what among the services of a group; `after` has no circle."""

from collections.abc import Sequence

from agent.core.settings import ServiceSettings


def forerunners(services: Sequence[ServiceSettings], name: str) -> set[str]:
    """What `name` is started after, and what those are."""
    after = {service.name: service.after for service in services}
    found: set[str] = set()
    todo = list(after[name])
    while todo:
        below = todo.pop()
        if below not in found:
            found.add(below)
            todo += after[below]
    return found


def dependants(services: Sequence[ServiceSettings], name: str) -> set[str]:
    """What stands on `name`, directly or not."""
    return {s.name for s in services if name in forerunners(services, s.name)}
