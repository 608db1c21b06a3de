# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether a well signed packet is new: a replay guard for what one peer says in one role.

A packet that names our own present boot was made in our lifetime; with a counter not seen before it
cannot be a replay. Anything else may be an old recording and changes nothing here but the window.
"""

FRESH = "fresh"
STALE = "stale"  # well signed, but the sender does not know our boot: not to be believed
REPLAYED = "replayed"

WINDOW = 64  # how far packets may overtake one another, on two paths for instance
MOST_RETIRED = 1024  # starts of the peer in our lifetime that are remembered


class Session:
    """What was heard of one peer in one role. `boot`: its present one, 0 while none is known."""

    __slots__ = ("_highest", "_retired", "_seen", "boot")

    def __init__(self) -> None:
        self.boot = 0
        self._highest = 0
        self._seen = 0  # bit n: counter `_highest` - n was heard
        self._retired: dict[int, None] = {}  # in order of their end

    def judge(self, boot: int, counter: int, echo: int, own_boot: int) -> str:
        """FRESH, STALE or REPLAYED. A boot that was followed by another one never comes back."""
        if boot in self._retired:
            return REPLAYED
        known = echo == own_boot
        if boot != self.boot:
            if not known:
                return STALE
            self._adopt(boot, counter)
            return FRESH
        if not self._first_time(counter):
            return REPLAYED
        return FRESH if known else STALE

    def _adopt(self, boot: int, counter: int) -> None:
        if self.boot:
            self._retired[self.boot] = None
            while len(self._retired) > MOST_RETIRED:
                del self._retired[next(iter(self._retired))]
        self.boot, self._highest, self._seen = boot, counter, 1

    def _first_time(self, counter: int) -> bool:
        ahead = counter - self._highest
        if ahead > 0:
            self._seen = ((self._seen << ahead) | 1) & ((1 << WINDOW) - 1) if ahead < WINDOW else 1
            self._highest = counter
            return True
        bit = 1 << -ahead
        if -ahead >= WINDOW or self._seen & bit:
            return False
        self._seen |= bit
        return True
