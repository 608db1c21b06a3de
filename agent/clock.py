# SPDX-License-Identifier: GPL-2.0-or-later
"""The clock that everything but text for people goes by."""

import time


def now_ms() -> int:
    """Milliseconds of CLOCK_BOOTTIME: monotonic, and it counts suspend (clock_gettime(2))."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000
