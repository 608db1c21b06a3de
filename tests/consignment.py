# SPDX-License-Identifier: GPL-2.0-or-later
"""Nodes that carry for one another on loopback, each with a folder that stands for its /."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from agent.carry_hands import Clock, Hands, Tls
from agent.carrying import PORT_OFFSET, Carrying
from agent.core.model import Carried
from agent.core.settings import CarriedSettings, GroupSettings, NodeSettings, Settings
from agent.ports import PortError
from drivers import authority
from drivers.carrier import Listener, dial
from drivers.inotify import FolderWatch
from drivers.staging import Staging, local_ids, replace_file, spare_bytes, sync_system
from drivers.tree import Tree

GROUP = "sbc"
CARRIED = CarriedSettings(
    files=("/etc/app/",),
    licence=("/etc/app.licence",),
    status="/var/app/status.json",
    own=("/etc/app/own",),
)


class Machine:
    """One node. serving, epoch: what its agent would say; said: what it fed its core."""

    def __init__(self, name: str, folder: Path, settings: Settings, pki: Path) -> None:
        self.name = name
        self.root = folder / name
        self.serving = False
        self.epoch = 1
        self.said: list[Carried] = []
        self.commands: list[str] = []
        self.command_ends = (True, "")
        self.trouble: list[str] = []
        self.space: Callable[[str], int] = spare_bytes
        for part in ("etc/app", "var/app"):
            (self.root / part).mkdir(parents=True, exist_ok=True)
        self.settings = settings
        self._pki = pki
        self._state = folder / f"{name}-state"
        self._stop = asyncio.Event()
        self._running: asyncio.Task[None] | None = None
        self.carrying = self._made()

    def _made(self) -> Carrying:
        cluster, root = self.settings.cluster, str(self.root)
        self.hands = Hands(
            tree=partial(Tree, root=root),
            staging=partial(Staging, root=root),
            watch=partial(FolderWatch, root),
            local_ids=local_ids,
            replace_file=partial(replace_file, root=root),
            sync=sync_system,
            spare_bytes=lambda path: self.space(path),
            listener=lambda serve: Listener(
                serve, None, lambda secured: authority.peer_name(secured, cluster)
            ),
            dial=dial,
            command=self._command,
        )
        tls = Tls(
            server=lambda: authority.server_context(self._pki, cluster),
            client=lambda node: authority.client_context(self._pki, cluster, node),
        )
        return Carrying(
            self.settings,
            self._state,
            self.said.append,
            lambda group: self.serving,
            lambda group: self.epoch,
            self.hands,
            tls,
            Clock(),
        )

    async def _command(self, line: str, within_ms: int) -> tuple[bool, str]:
        self.commands.append(line)
        return self.command_ends

    @property
    def group(self) -> Any:
        return self.carrying.groups[GROUP]

    @property
    def word(self) -> Carried:
        return self.said[-1]

    def file(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    def put(self, path: str, content: str | bytes, mode: int = 0o644) -> Path:
        """Writes aside and renames, as a careful service does."""
        home = self.file(path)
        home.parent.mkdir(parents=True, exist_ok=True)
        aside = self.root / "new"  # in no declared folder
        aside.write_bytes(content.encode() if isinstance(content, str) else content)
        aside.chmod(mode)
        aside.replace(home)
        return home

    def reads(self, path: str) -> str | None:
        try:
            return self.file(path).read_text()
        except FileNotFoundError:
            return None

    def start(self) -> None:
        self._running = asyncio.ensure_future(self._run())

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for name, worker in self.carrying.workers():
                tasks.create_task(self._supervised(name, worker))

    async def _supervised(self, name: str, worker: Callable[[], Any]) -> None:
        while True:
            try:
                await worker()
            except PortError as error:
                self.trouble.append(f"{name}: {error}")
                await asyncio.sleep(0.1)

    async def stop(self) -> None:
        """As a process that is killed: nothing is said, nothing ended."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running])
            self._running = None
        self.carrying.close()

    async def restart(self) -> None:
        await self.stop()
        self.carrying = self._made()
        self.start()

    def serve(self, epoch: int) -> None:
        self.serving, self.epoch = True, epoch
        self.carrying.poke()

    def stand_by(self) -> None:
        self.serving = False
        self.carrying.poke()


def settings_of(names: tuple[str, ...], node: str, port: int, carried: CarriedSettings) -> Settings:
    """Each on a loopback address of its own."""
    nodes = {
        name: NodeSettings(name, "here", (f"127.0.0.{10 + index}",), port)
        for index, name in enumerate(names)
    }
    group = GroupSettings(GROUP, names, (), carried=carried)
    return Settings("lab", "", node, ("here",), nodes, {GROUP: group})


@asynccontextmanager
async def machines(
    folder: Path, *names: str, carried: CarriedSettings = CARRIED
) -> AsyncIterator[list[Machine]]:
    """Started, the first one serving under epoch 1; stopped at the end."""
    port = free_port() - PORT_OFFSET
    found = []
    ca = folder / "pki-ca"
    authority.make_ca(ca, "lab")
    for name in names:
        pki = folder / f"pki-{name}"
        pki.mkdir()
        for part in ("ca.crt", "ca.key"):
            (pki / part).write_bytes((ca / part).read_bytes())
            (pki / part).chmod(0o600)
        authority.issue(pki, "lab", name)
        found.append(Machine(name, folder, settings_of(names, name, port, carried), pki))
    found[0].serving = True
    try:
        yield found
    finally:
        for machine in found:
            await machine.stop()


def free_port() -> int:
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        return int(door.getsockname()[1])
