# SPDX-License-Identifier: GPL-2.0-or-later
"""What goes between this node's agent and the others' over TLS: settings, licences and status, new
machines that join, and the second copy in a cloud folder."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

from agent.carry_hands import Clock, Tls
from agent.carrying import Carrying
from agent.clouding import Clouding
from agent.core.model import Carried, CertificateSaid, CloudSaid
from agent.core.settings import GroupSettings, Settings
from agent.joining import Joining
from agent.wiring_identity import authority, carry_hands, cloud_folder, read_key, vault

LOOK_EVERY_S = 3_600.0

Worker = tuple[str, Callable[[], Awaitable[None]]]
Feed = Callable[[Carried | CloudSaid | CertificateSaid], None]


class Freight:
    """One node's. serves: whether the group is in service here; epoch: the highest known of it."""

    def __init__(
        self,
        settings: Settings,
        config_file: Path,
        state_dir: Path,
        feed: Feed,
        serves: Callable[[str], bool],
        epoch: Callable[[str], int],
        command: Callable[[str, int], Awaitable[tuple[bool, str]]],
    ) -> None:
        self._settings = settings
        self._pki = Path(settings.pki_dir)
        self._feed = feed
        joining = Joining(settings, config_file, state_dir, _say)
        hands = carry_hands(settings.cluster, joining.serve, command)
        tls = Tls(
            partial(authority.server_context, self._pki, settings.cluster),
            partial(authority.client_context, self._pki, settings.cluster),
            self._renew,
        )
        self.carrying = Carrying(settings, state_dir, feed, serves, epoch, hands, tls, Clock())
        self._clouding: Clouding | None = None
        if any(_cloud(group) for group in settings.own_groups()):
            self._clouding = Clouding(
                settings,
                config_file,
                state_dir,
                lambda name: self.carrying.groups[name].shelf,
                vault(Path(settings.key_file)),
                cloud_folder,
                serves,
                lambda group, ok, why: feed(CloudSaid(group, ok, why)),
            )

    def workers(self) -> list[Worker]:
        """To be run under `Loop.supervise`."""
        found: list[Worker] = [("certificate", self._mind_certificate)]
        found += [(name, partial(self._certified, work)) for name, work in self.carrying.workers()]
        if self._clouding is not None:
            found += self._clouding.workers()
        return found

    def poke(self, group: str = "") -> None:
        """Who serves, or under which epoch, may have changed."""
        self.carrying.poke(group)
        if self._clouding is not None and group:
            self._clouding.notify(group)

    def status_copy(self, group: str) -> Callable[[], Awaitable[Path | None]]:
        """Of the freshest status here, for a load test."""
        return partial(self.carrying.status_file, group)

    def offset_ms(self, group: str) -> int | None:
        """How far the clock of the node that serves is ahead of ours."""
        return self.carrying.offset_ms(group)

    def server_of(self, group: str) -> tuple[str, dict[str, Any]] | None:
        """The node that serves, and what its host is like."""
        return self.carrying.server_of(group)

    def publish(self, group: str, facts: dict[str, Any]) -> None:
        """What this host is like."""
        self.carrying.publish(group, facts)

    def close(self) -> None:
        self.carrying.close()

    # ------------------------------------------------------------ the certificate

    def _renew(self) -> bool:
        """Blocking. Raises Refused."""
        if not (self._pki / "ca.key").exists():
            secret = read_key(Path(self._settings.key_file))
            authority.make_ca(self._pki, self._settings.cluster, secret=secret)
        return authority.renew_if_due(self._pki, self._settings.cluster, self._settings.node)

    async def _certified(self, work: Callable[[], Awaitable[None]]) -> None:
        """Not before there is one."""
        await self._ready()
        await work()

    async def _ready(self) -> None:
        await asyncio.to_thread(self._renew)

    async def _mind_certificate(self) -> None:
        """Tells how long it is good; raises Refused where there can be none."""
        while True:
            await self._ready()
            days = await asyncio.to_thread(authority.days_left, self._pki)
            self._feed(CertificateSaid(days))
            await asyncio.sleep(LOOK_EVERY_S)


def _cloud(group: GroupSettings) -> bool:
    return group.carried is not None and group.carried.cloud is not None


def _say(text: str) -> None:
    print(f"standpipe agent: {text}", file=sys.stderr, flush=True)
