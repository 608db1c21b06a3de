# SPDX-License-Identifier: GPL-2.0-or-later
"""One group's 'current status': taken where it is written, kept where it is not, put into place.

A status has a rank: the epoch under which it was written, then when. Nothing with a lower rank
takes the place of a higher one. Blocking, all of it in one thread.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent.carry_hands import Hands, Tree
from agent.core.manifest import Declared, Entry, Snapshot
from agent.ports import Garbled, PortError, Refused
from agent.shelf import Shelf

PART = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC


class CarriedStatus:
    """held: the freshest that this node has. vouched_ms: when it was the writer's latest, by the
    caller's monotonic clock; None: not since this process began. heard: the highest rank that any
    node said that it has.
    """

    def __init__(
        self, node: str, allowed: Declared, shelf: Shelf, hands: Hands, max_bytes: int
    ) -> None:
        self.path = allowed.status
        self.held: Snapshot | None = None
        self.vouched_ms: int | None = None
        self.heard: tuple[int, int] = (0, 0)
        self._vouched_wall_ms = 0
        self._node = node
        self._shelf = shelf
        self._hands = hands
        self._max_bytes = max_bytes
        self._tree: Tree = hands.tree(allowed)

    def start(self) -> None:
        """What an earlier life left."""
        found = self._shelf.status()
        if found is not None:
            self.held, self._vouched_wall_ms = found
        noted = self._shelf.noted_status()
        if noted is not None:
            self.heard = noted.rank

    def age_ms(self, now_ms: int, wall_ms: int) -> int | None:
        """How long ago what is held was the writer's latest, at most."""
        if self.held is None:
            return None
        if self.vouched_ms is not None:
            return max(0, now_ms - self.vouched_ms)
        return max(0, wall_ms - self._vouched_wall_ms)

    def vouch(self, rank: tuple[int, int], at_ms: int, wall_ms: int) -> None:
        """The writer said at `at_ms` that this is its latest."""
        self.heard = max(self.heard, rank)
        if self.held is None or self.held.rank != rank:
            return
        if self.vouched_ms is None or at_ms > self.vouched_ms:
            self.vouched_ms, self._vouched_wall_ms = at_ms, wall_ms

    # ------------------------------------------------------------ where it is written

    def take(self, epoch: int, now_ms: int, wall_ms: int) -> bool:
        """Reads it; True: it is not as before, or written under another epoch.

        Raises Unreachable (it is being written), Refused, OSError.
        """
        with self._shelf.incoming() as part:
            into = os.open(part, PART, 0o600)
            try:
                entry = self._tree.snapshot(self.path, into)
            finally:
                os.close(into)
            if entry.size > self._max_bytes:
                raise Refused(
                    f"{self.path}: {entry.size} bytes, more than max_size = {self._max_bytes}"
                )
            return self._took(entry, part, epoch, now_ms, wall_ms)

    def _took(self, entry: Entry, part: Path, epoch: int, now_ms: int, wall_ms: int) -> bool:
        held = self.held
        self.vouched_ms, self._vouched_wall_ms = now_ms, wall_ms
        if held is not None and held.entry.line() == entry.line() and held.epoch == epoch:
            return False
        after = held.origin_ms + 1 if held is not None and held.epoch == epoch else 0
        fresh = Snapshot(entry, epoch, max(wall_ms, after), self._node)
        if held is not None and held.rank > fresh.rank:
            raise Refused(
                f"{self.path}: a status of epoch {held.epoch} is known, this node serves under"
                f" {epoch}"
            )
        self._keep(fresh, part, now_ms, wall_ms)
        return True

    def _keep(self, fresh: Snapshot, part: Path, now_ms: int, wall_ms: int) -> None:
        self._shelf.keep_status(fresh, part, wall_ms)
        self.held = fresh
        self.vouched_ms, self._vouched_wall_ms = now_ms, wall_ms
        self.heard = max(self.heard, fresh.rank)

    def settle(self) -> None:
        """What is held is on disk when it returns; for any thread. Raises OSError."""
        if self.held is not None:
            self._shelf.settle_status(self.held, self._vouched_wall_ms)

    def written(self) -> bool:
        """There is a file where the service keeps it."""
        try:
            with self._tree.reading(self.path):
                return True
        except PortError:
            return False

    # ------------------------------------------------------------ where it is received

    def receive(self, fresh: Snapshot, part: Path, at_ms: int, wall_ms: int) -> None:
        """Keeps a status that came whole. at_ms: when it was asked for. Raises Refused."""
        if self.held is not None and fresh.rank < self.held.rank:
            raise Refused(
                f"{self.path}: {fresh.node} sent a status of epoch {fresh.epoch} that is older than"
                f" the one of epoch {self.held.epoch} that is held"
            )
        self._keep(fresh, part, at_ms, wall_ms)

    # ------------------------------------------------------------ where it is needed

    def place(self, max_lag_ms: int, now_ms: int, wall_ms: int) -> dict[str, Any]:
        """Puts the freshest where the service reads it: {"age_ms", "epoch", "from", "detail"}.

        What this node wrote itself and nobody has written since is left as it lies there. age_ms
        None, from "": nobody ever wrote one. Raises Refused where a fresher one is known of, or
        the one that is held cannot be used.
        """
        held = self.held
        lies_here = self.written()
        epoch = held.epoch if held else 0
        origin_ms = held.origin_ms if held else 0
        if self.heard > (epoch, origin_ms + (max_lag_ms if held else 0)):
            raise Refused(
                f"{self.path}: a status of epoch {self.heard[0]} is known of and was never received"
                f" here; the freshest here is of epoch {epoch}"
            )
        if held is None:
            said = "as it lies here" if lies_here else "nobody has written one yet"
            origin = self._node if lies_here else ""
            return {"age_ms": None, "epoch": 0, "from": origin, "detail": f"{self.path}: {said}"}
        age_ms = self.age_ms(now_ms, wall_ms)
        said = f"{self.path}: of epoch {held.epoch} from {held.node}"
        facts = {"age_ms": age_ms, "epoch": held.epoch, "from": held.node}
        if held.node == self._node and lies_here:
            return facts | {"detail": f"{said}, as it lies here"}
        self._hands.replace_file(held.entry, self._filler(held))
        return facts | {"detail": said}

    def _filler(self, held: Snapshot) -> Callable[[int], None]:
        def fill(into: int) -> None:
            source = self._shelf.open_status(held)
            try:
                left = held.entry.size
                while left > 0:
                    sent = os.sendfile(into, source, None, left)
                    if sent == 0:
                        raise Garbled(f"{self.path}: what was received was damaged on this disk")
                    left -= sent
            finally:
                os.close(source)

        return fill
