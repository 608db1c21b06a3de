# SPDX-License-Identifier: GPL-2.0-or-later
"""As agent.wiring, for what makes, shows and uses a node's identity: joins, carrying, the cloud."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from agent.carry_hands import Hands
from agent.core.settings import CloudSettings
from agent.depot import Folder, Seal
from drivers import authority, carrier, inotify, staging, tree
from drivers.peerlink import read_key
from drivers.vault import Vault
from drivers.webdav import WebDav

__all__ = ["authority", "carry_hands", "cloud_folder", "read_key", "vault"]

Join = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Command = Callable[[str, int], Awaitable[tuple[bool, str]]]


def vault(key_file: Path) -> Seal:
    """Raises Refused."""
    return Vault(read_key(key_file))


def cloud_folder(settings: CloudSettings) -> Folder:
    """Raises Refused."""
    return WebDav(settings)


def carry_hands(cluster: str, join: Join | None, command: Command) -> Hands:
    """What carrying asks of the drivers. join: answers machines that have no certificate yet."""
    return Hands(
        tree=tree.Tree,
        staging=staging.Staging,
        watch=inotify.FolderWatch,
        local_ids=staging.local_ids,
        replace_file=staging.replace_file,
        sync=staging.sync_system,
        spare_bytes=staging.spare_bytes,
        listener=lambda serve: carrier.Listener(
            serve, join, lambda secured: authority.peer_name(secured, cluster)
        ),
        dial=carrier.dial,
        command=command,
    )
