# SPDX-License-Identifier: GPL-2.0-or-later
"""Waiting for a condition, with a deadline."""

import asyncio
from collections.abc import Callable
from itertools import count


async def until(met: Callable[[], object], within_s: float = 10) -> None:
    """Raises TimeoutError where it never comes true."""
    async with asyncio.timeout(within_s):
        for _ in count():
            if met():
                return
            await asyncio.sleep(0.01)
