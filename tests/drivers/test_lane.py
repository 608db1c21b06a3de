# SPDX-License-Identifier: GPL-2.0-or-later
"""The lane: blocking calls off the loop, each with a limit."""

import asyncio
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from drivers.lane import Hung, Lane
from tests.drivers.patience import until

ROOT = Path(__file__).parents[2]


def test_a_call_runs_off_the_loop_and_hands_back_its_result_or_its_error() -> None:
    async def scene() -> None:
        lane = Lane("here")
        assert await lane.run(threading.get_ident, 5000) != threading.get_ident()
        with pytest.raises(FileNotFoundError):
            await lane.run(Path("/no/such/file").read_text, 5000)

    asyncio.run(scene())


def test_a_call_that_hangs_is_left_behind_and_the_next_refused_until_it_is_back() -> None:
    async def scene() -> None:
        gate = threading.Event()
        lane = Lane("statvfs /mnt")
        with pytest.raises(Hung, match="statvfs /mnt: hangs, no answer within 30 ms"):
            await lane.run(gate.wait, 30)
        with pytest.raises(Hung, match="an earlier call has not come back"):
            await lane.run(lambda: True, 5000)
        gate.set()
        await until(lambda: not lane.busy)
        assert await lane.run(lambda: 7, 5000) == 7

    asyncio.run(scene())


def test_a_result_that_came_while_the_loop_stood_still_counts() -> None:
    async def scene() -> None:
        back = threading.Event()
        lane = Lane("here")

        async def stand_still() -> None:
            back.wait(10)
            while lane.busy:
                pass
            threading.Event().wait(0.1)  # the limit passes with the result already handed over

        async with asyncio.TaskGroup() as group:
            task = group.create_task(lane.run(lambda: back.set() or 7, 50))
            group.create_task(stand_still())
        assert task.result() == 7

    asyncio.run(scene())


def test_a_timeout_that_the_call_itself_raises_is_no_hang() -> None:
    def refuse() -> None:
        raise TimeoutError("the kernel said so")

    async def scene() -> None:
        with pytest.raises(TimeoutError, match="the kernel said so"):
            await Lane("here").run(refuse, 5000)

    asyncio.run(scene())


def test_a_hung_call_does_not_delay_the_end_of_the_process() -> None:
    program = (
        "import asyncio, threading\n"
        "from drivers.lane import Hung, Lane\n"
        "async def main():\n"
        "    try:\n"
        "        await Lane('here').run(threading.Event().wait, 10)\n"
        "    except Hung:\n"
        "        print('hung')\n"
        "asyncio.run(main())\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert run.stdout == "hung\n", run.stderr
