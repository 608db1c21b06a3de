# SPDX-License-Identifier: GPL-2.0-or-later
"""`standpipe join --from-cloud`: a standby made ready with nothing but cluster.key and a folder."""

import argparse
import sys
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from agent import placing
from agent.carried_files import CarriedFiles
from agent.cli_join import settle
from agent.cloud_source import fetched_bundle, fetched_status, fetched_version, fresh_head
from agent.clouding import SEEN, Seen
from agent.config import ConfigError, load
from agent.core.manifest import declared
from agent.core.settings import CarriedSettings, CloudSettings, GroupSettings, Settings
from agent.depot import Folder, Head, Seal, Stream
from agent.ports import PortError, Refused
from agent.shelf import Shelf

STALE_S = 2 * 3600.0  # an agent that serves writes every hour
MADE_ASIDE = ".from-cloud-"


@dataclass(frozen=True, slots=True)
class Source:
    """A cloud folder, opened with the cluster key. scratch: for contents on their way."""

    cloud: CloudSettings
    far: Folder
    vault: Seal
    seen: Seen
    scratch: Path
    node: str

    def newest(self, *parts: str) -> tuple[Stream, Head]:
        """Raises Refused, Unreachable, Garbled."""
        stream = Stream(self.far, self.vault, parts, self.node)
        key = f"{self.cloud.url} {stream.place}"
        head = fresh_head(stream, self.seen.serial(key))
        self.seen.note(key, head.serial)
        return stream, head


def join_from_cloud(options: argparse.Namespace, folder: Path, node: str) -> int:
    """Exit 0: all is in place; 1: something is not. Raises PortError before anything is changed."""
    from agent.wiring_identity import cloud_folder, vault

    key = Path(options.key) if options.key else folder / placing.KEY
    state = Path(options.state_dir)
    cloud = CloudSettings(options.from_cloud, options.user, options.password_file, options.ca_file)
    seal, far = vault(key), cloud_folder(cloud)
    try:
        state.mkdir(mode=0o750, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=MADE_ASIDE, dir=state) as scratch:
            source = Source(cloud, far, seal, Seen(state / SEEN), Path(scratch), node)
            stream, head = source.newest("bundle")
            _tell(_age(head))
            bundle = fetched_bundle(stream, head, source.scratch)
            for line in settle(bundle, folder, node, options.force):
                _tell(line)
            settings = _settings(folder / placing.CONFIG)
            faults = [
                fault
                for group in settings.groups.values()
                if (fault := _group(source, settings, group, state, node))
            ]
    except OSError as error:
        raise Refused(f"{error.filename}: {error.strerror}; run as root, or --state-dir") from error
    finally:
        far.close()
    for fault in faults:
        sys.stderr.write(f"standpipe: {fault}\n")
    return 1 if faults else 0


def _settings(config: Path) -> Settings:
    try:
        return load(config, None, check_files=False, any_node=True)
    except ConfigError as error:
        raise Refused(f"{error}\nput this right, then: standpipe check") from error


def _group(source: Source, settings: Settings, group: GroupSettings, state: Path, node: str) -> str:
    """What is carried of one group, to where it belongs. Why not, "" if all is well."""
    carried = group.carried
    if carried is None or (node in settings.nodes and node not in group.nodes):
        return ""
    if carried.cloud is None:
        return f"group {group.name}: has no [group.{group.name}.settings.cloud]; nothing is there"
    shelf = Shelf(state, group.name, declared(carried))
    said = []
    try:
        if carried.files or carried.licence:
            said.append(_placed_settings(source, settings, group.name, carried, shelf, node))
        if carried.status:
            said.append(_shelved_status(source, group.name, carried, shelf))
    except PortError as error:
        return f"group {group.name}: {'; '.join([*said, str(error)])}"
    _tell(f"group {group.name}: {'; '.join(said)}")
    return ""


def _placed_settings(
    source: Source,
    settings: Settings,
    group: str,
    carried: CarriedSettings,
    shelf: Shelf,
    node: str,
) -> str:
    from agent.wiring_identity import carry_hands

    hands = carry_hands(settings.cluster, None, _no_command)
    stream, head = source.newest("group", group, "settings")
    version = fetched_version(stream, head, source.scratch, carried)
    for sha256 in version.contents():
        (source.scratch / sha256).replace(shelf.part(sha256))
        shelf.adopt(sha256, shelf.part(sha256))
    shelf.keep(version)
    shelf.set_current(version.digest)
    files = CarriedFiles(group, node, declared(carried), shelf, hands)
    files.start()
    aside = files.place(lambda: False, f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}")
    kept = f", {len(aside)} of this host kept in {shelf.folder / 'aside'}" if aside else ""
    licences = f", {len(carried.licence)} of them licences" if carried.licence else ""
    count = len(version.contents())
    return f"{count} files{licences}, of {_when(version.origin_ms)} from {version.node}{kept}"


async def _no_command(line: str, within_ms: int) -> tuple[bool, str]:  # noqa: ARG001
    return False, "a machine that joins runs no command of the configuration"


def _shelved_status(source: Source, group: str, carried: CarriedSettings, shelf: Shelf) -> str:
    """The status stays on the shelf until this node serves."""
    stream, head = source.newest("group", group, "status")
    snapshot = fetched_status(stream, head, source.scratch, carried)
    held = shelf.status()
    if held is not None and held[0].rank > snapshot.rank:
        return "the status that is here is fresher than the one there"
    with shelf.incoming() as part:
        (source.scratch / snapshot.entry.sha256).replace(part)
        shelf.keep_status(snapshot, part, snapshot.origin_ms)
    shelf.settle_status(snapshot, snapshot.origin_ms)
    return f"status of {_when(snapshot.origin_ms)} from {snapshot.node}"


def _age(head: Head) -> str:
    age_s = datetime.now(UTC).timestamp() - head.at_s
    said = f"last written by {head.by} at {_when(int(head.at_s * 1000))}"
    if age_s < STALE_S:
        return said
    return f"{said}: {age_s / 3600:.0f} h ago; nobody keeps it up to date, or somebody put it back"


def _when(wall_ms: int) -> str:
    return f"{datetime.fromtimestamp(wall_ms / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
