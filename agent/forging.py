# SPDX-License-Identifier: GPL-2.0-or-later
"""When the kit is forged anew: for a new configuration, and when an interface was made anew.

The forge's libraries are big, so it is a process that ends.
"""

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from agent.config import ConfigError, load
from agent.core.kit import Kit
from agent.core.kit import load as load_kit
from agent.core.model import ConfigAccepted, ConfigRefused
from agent.places import KIT, arguments

FORGE_AGAIN_S = 5.0


class Forging:
    """One at a time. renewed: hears of each kit that was forged for the running configuration."""

    def __init__(
        self, options: argparse.Namespace, digest: str, renewed: Callable[[Kit], None]
    ) -> None:
        self._options = options
        self._digest = digest
        self._renewed = renewed
        self._work: asyncio.Task[None] | None = None
        self._path: Path = options.run_dir / KIT

    def reload(self, say: Callable[[ConfigAccepted | ConfigRefused], None]) -> None:
        """Look at the file; `say` what came of it, once its kit is there."""
        self._begin(self._reload(say))

    def renew(self, keeper_pid: int) -> None:
        """An interface is not what it was: forge again, and let the keeper adopt what it has."""
        self._begin(self._forge_and_adopt(keeper_pid))

    async def kit(self) -> Kit:
        """Of this configuration: forged already by `standpipe run`, else forged now.

        Raises ValueError with what the forge complained of.
        """
        kit = await asyncio.to_thread(_read_kit, self._path)
        if kit is None or kit.digest != self._digest:
            complaint = await self._forge()
            if complaint:
                raise ValueError(complaint)
            kit = load_kit(self._path.read_bytes())
        return kit

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        if self._work is None or self._work.done():
            self._work = asyncio.ensure_future(work)
        else:
            work.close()

    async def _reload(self, say: Callable[[ConfigAccepted | ConfigRefused], None]) -> None:
        try:
            fresh = await asyncio.to_thread(load, self._options.config, self._options.node)
        except ConfigError as error:
            say(ConfigRefused(tuple(str(problem) for problem in error.problems)))
            return
        complaint = await self._forge() if fresh.digest != self._digest else ""
        say(ConfigRefused((complaint,)) if complaint else ConfigAccepted(fresh.digest))

    async def _forge(self) -> str:
        """A new kit; what the forge complained of, "" if nothing."""
        argv = ["-m", "agent.prepare", *arguments(self._options)]
        forging = await asyncio.create_subprocess_exec(
            sys.executable, *argv, stderr=asyncio.subprocess.PIPE
        )
        _, complaint = await forging.communicate()
        return complaint.decode(errors="replace").strip() if forging.returncode else ""

    async def _forge_and_adopt(self, keeper_pid: int) -> None:
        complaint = await self._forge()
        if complaint:
            print(f"standpipe agent: {complaint}", file=sys.stderr, flush=True)
        else:
            self._renewed(load_kit(self._path.read_bytes()))
            os.kill(keeper_pid, signal.SIGUSR1)
        await asyncio.sleep(FORGE_AGAIN_S)


def _read_kit(path: Path) -> Kit | None:
    try:
        return load_kit(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
