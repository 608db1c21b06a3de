# SPDX-License-Identifier: GPL-2.0-or-later
"""One group's settings and status on this node in words: for its peers, for the agent's core.

Whom this node follows, and whether what lies here is what that one has. Nothing here waits or
touches a disk.
"""

from collections.abc import Callable
from typing import Any

from agent.carried_files import CarriedFiles, Drift
from agent.carried_status import CarriedStatus
from agent.carry_hands import Clock
from agent.core.carriage import Follow, Have, Said, follow
from agent.core.difference import Difference
from agent.core.model import Carried, Copy

YOUNG_MS = 10_000  # a version so long on its way is no fault yet
NOTHING = Drift(Difference(), ())


class CarriedWord:
    """said: what each peer that is heard says; copies: how their copies stand.

    stamp: rises with each change of `said_now`. trouble: of this node's files; pull_trouble: of
    what comes from a peer; remark: what was done with what people had written here.
    """

    def __init__(
        self,
        name: str,
        files: CarriedFiles,
        status: CarriedStatus,
        active: Callable[[], bool],
        epoch: Callable[[], int],
        clock: Clock,
        wake: Callable[[], None],
    ) -> None:
        self.name = name
        self.files = files
        self.status = status
        self.clock = clock
        self.said: dict[str, Said] = {}
        self.copies: dict[str, Copy] = {}
        self.stamp = 1
        self.shipping = False
        self.trouble = ""
        self.pull_trouble = ""
        self.remark = ""
        self.drift = NOTHING
        self.facts: dict[str, Any] = {}  # what this host is like, for the standbys
        self.facts_of: dict[str, dict[str, Any]] = {}  # and the others'
        self.looked = False
        self._active = active
        self._epoch = epoch
        self._wake = wake
        self._behind_ms: int | None = None

    @property
    def active(self) -> bool:
        return self._active() or self.shipping

    @property
    def epoch(self) -> int:
        return self._epoch()

    def known_epoch(self) -> int:
        """The highest under which anything here was written or is served."""
        written = [one.epoch for one in (self.files.current, self.status.held) if one is not None]
        return max([self.epoch, *written])

    def follow(self) -> Follow:
        """Whose settings and status are to be followed."""
        if self.active:
            return Follow("", "this node serves it")
        return follow(self.said, self.known_epoch())

    def said_now(self) -> Said:
        current, held = self.files.current, self.status.held
        return Said(
            self.active,
            self.epoch,
            self.stamp,
            current.digest if current is not None and self.looked else "",
            held.rank if held is not None else None,
            held.entry.sha256 if held is not None else "",
            self.files.trouble or self.trouble or self._left_out(),
        )

    def have(self) -> Have:
        said = self.verdict()
        current, held = self.files.current, self.status.held
        return Have(
            said[0] is True,
            said[1],
            current.digest if current is not None else "",
            held.rank if held is not None else None,
        )

    def changed(self) -> None:
        """Something that others are told is not as it was."""
        self.stamp += 1
        self._wake()

    def hear(self, node: str, said: Said, at_ms: int) -> None:
        """A peer's word, as of when it was asked."""
        self.said[node] = said
        if said.active and said.status is not None and self.follow().node == node:
            self.status.vouch(said.status, at_ms, self.clock.wall_ms())
        if self._behind(node):
            self._behind_ms = self._behind_ms or self.clock.now_ms()
        elif self.follow().node == node:
            self._behind_ms = None

    def lost(self, node: str) -> None:
        self.said.pop(node, None)

    def _behind(self, node: str) -> bool:
        said, current = self.said[node], self.files.current
        if self.follow().node != node or not said.version:
            return False
        return current is None or current.digest != said.version

    # ------------------------------------------------------------ what the core is told

    def report(self) -> Carried:
        """For the agent's core."""
        ok, detail = self.verdict()
        held = self.status.held
        age_ms = self.status.age_ms(self.clock.now_ms(), self.clock.wall_ms())
        rank = held.epoch if held is not None else 0
        return Carried(self.name, dict(self.copies), ok, detail, age_ms, rank)

    def verdict(self) -> tuple[bool | None, str]:
        """Do the settings here equal the primary's; why not, or what was done."""
        if self.active:
            why = self.files.trouble or self.trouble or self._left_out()
            return (not why and self.looked, why or ("" if self.looked else "not looked at yet"))
        whom = self.follow()
        if not whom.node:
            return None, whom.why
        said, current = self.said[whom.node], self.files.current
        if said.trouble:
            return False, f"{whom.node}: {said.trouble}"
        if not said.version:
            return None, f"{whom.node} has not looked at its settings yet"
        if self.trouble or self.pull_trouble:
            return False, self.trouble or self.pull_trouble
        if current is None or current.digest != said.version:
            since_ms = self.clock.now_ms() - (self._behind_ms or self.clock.now_ms())
            young = since_ms < YOUNG_MS and current is not None
            return (None if young else False), f"what {whom.node} has is on its way"
        return self._verdict_here()

    def _verdict_here(self) -> tuple[bool | None, str]:
        if self.drift.edited:
            names = self.files.named(self.drift.edited)
            return False, f"edited on this host: {names}; it is put aside and replaced soon"
        if self.drift:
            return None, f"being mended: {self.files.named(self.drift.found.paths())}"
        return True, self.remark

    def _left_out(self) -> str:
        current = self.files.current
        return f"not carried: {current.left_out[0]}" if current and current.left_out else ""
