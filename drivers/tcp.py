# SPDX-License-Identifier: GPL-2.0-or-later
"""Check: a TCP connection is accepted."""

import socket

from agent.core.model import Answer
from agent.core.settings import CheckSettings
from drivers.inquiry import Resolver, Verdict, answer_within, connect, endpoint


class TcpCheck:
    """Target "host:port". That something accepts is all it proves: a hung server still does."""

    def __init__(self, settings: CheckSettings) -> None:
        self._timeout_ms = settings.timeout_ms
        self._resolver = Resolver(
            *endpoint(f"check {settings.name}", settings.target), socket.SOCK_STREAM
        )

    async def ask(self) -> Answer:
        return await answer_within(self._timeout_ms, self._question)

    async def _question(self) -> Verdict:
        (await connect(self._resolver, self._timeout_ms)).close()
        return Verdict(True, "connected")
