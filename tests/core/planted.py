# SPDX-License-Identifier: GPL-2.0-or-later
"""Leases with a planted bug each: whoever looks for two holders must find them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from agent.core.lease import Lease
from agent.core.lease_count import Vote


class FromReply(Lease):
    """It counts from the answer, however late that is."""

    @property
    def _late_ms(self) -> int:
        return self.terms.lease_ms

    def _carried(self, asked: Any) -> None:
        asked.sent_ms = self.now
        super()._carried(asked)


class Amnesic(Lease):
    """A voter whose machine was started votes at once."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.quiet_until = self.now if self.promise is None else self.quiet_until


class LateReply(Lease):
    """Any answer is one to the last request."""

    def answered(self, vote: Vote, now: int) -> None:
        number = self.rounds[-1].number if self.rounds else vote.number
        super().answered(replace(vote, number=number), now)


class Forgets(Lease):
    """A restarted keeper knows nothing of its predecessor's promise."""

    def memory(self) -> list[Any]:
        return [None, 0, *super().memory()[2:]]


class Trusts(Lease):
    """What it slept does not count."""

    def look(self, now: int) -> None:
        if self.since_ms and now - self.now > 400:
            self.since_ms += now - self.now
        super().look(now)
