# SPDX-License-Identifier: GPL-2.0-or-later
"""How often something may be tried: "3 in 10m", and each try is forgiven by itself."""

from collections import deque


class Budget:
    """At most `n` takes in any `window_ms`; each comes back that long after it was taken."""

    __slots__ = ("_taken", "n", "window_ms")

    def __init__(self, n: int, window_ms: int) -> None:
        self.n = n
        self.window_ms = window_ms
        self._taken: deque[int] = deque()

    def take(self, now: int) -> bool:
        """Uses one if there is one."""
        if self.left(now) == 0:
            return False
        self._taken.append(now)
        return True

    def left(self, now: int) -> int:
        taken = self._taken
        while taken and now - taken[0] >= self.window_ms:
            taken.popleft()
        return self.n - len(taken)

    def deadline(self) -> int | None:
        """When the next one comes back; None while nothing is taken."""
        return self._taken[0] + self.window_ms if self._taken else None

    def clear(self) -> None:
        """An operator has looked: the whole budget is there again."""
        self._taken.clear()
