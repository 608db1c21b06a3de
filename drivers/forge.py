# SPDX-License-Identifier: GPL-2.0-or-later
"""Forges the keeper's kit in a short-lived process: batches with pyroute2, frames with scapy.

python -m drivers.forge --config FILE [--node NAME] --run-dir DIR      writes DIR/kit.json
"""

import argparse
import os
import sys
from pathlib import Path

from agent.core.keeping import Keeping
from agent.core.kit import Kit, KitFrame, KitGroup, KitQuestion, KitRouter, Link, dump, virtual_mac
from agent.core.kit_plan import Host, keeping_of, kit_addresses, kit_peer, kit_routers
from agent.core.settings import AddressSettings, Exclusive, GroupSettings, Settings
from drivers.forge_batches import clearing, parking, preparing, releasing, taking
from drivers.forge_frames import announcement, question
from drivers.links import fingerprint, read_links


def forge(settings: Settings, links: dict[str, Link]) -> Kit:
    """The kit of `settings.node` for the interfaces as they are now; the keeper draws the boot."""
    host = Host(settings, links)
    keeping = keeping_of(settings, host)
    groups = {it.name: _kit_group(it, settings, host) for it in settings.own_groups()}
    asked = _asked(keeping)
    used = {it.interface for group in settings.own_groups() for it in group.addresses}
    used |= {interface for interface, _ in asked}
    interfaces = {
        name: (links[name].index, links[name].mac) if name in links else (0, "")
        for name in sorted(used)
    }
    for router in (router for group in groups.values() for router in group.routers):
        name, index = router.mouth
        interfaces.setdefault(name, (index, virtual_mac(router.family, router.vrid)))
    return Kit(
        keeping=keeping,
        own=kit_peer(host.node),
        key_file=settings.key_file,
        digest=settings.digest,
        peers={name: kit_peer(settings.nodes[name]) for name in keeping.peers},
        interfaces=interfaces,
        groups=groups,
        questions=tuple(_question(host, interface, address) for interface, address in asked),
        made_from=fingerprint(settings, links),
    )


def _asked(keeping: Keeping) -> list[tuple[str, str]]:
    """Whoever may be asked for, each once: peers, gateways, and who has a floating address."""
    asked = [pair for peer in keeping.peers.values() for pair in peer.asked]
    for group in keeping.groups.values():
        asked += [*group.gateways, *group.probed]
    return list(dict.fromkeys(asked))


def _question(host: Host, interface: str, address: str) -> KitQuestion:
    source = host.asker(interface, address)
    return KitQuestion(interface, address, question(host.links[interface].mac, source, address))


def _kit_group(group: GroupSettings, settings: Settings, host: Host) -> KitGroup:
    addresses = kit_addresses(group, host)
    routers, missing = kit_routers(group, settings, host)
    if missing:
        return KitGroup(addresses, (), (), (), (), group.checksum_pseudo, missing)
    return KitGroup(
        addresses=addresses,
        routers=routers,
        take=taking(group, host),
        release=releasing(group, host),
        announcements=tuple(
            _announcement(group, it, host)
            for it in group.addresses
            if host.speaks_ethernet(it.interface)
        ),
        checksum_pseudo=group.checksum_pseudo,
        prepare=preparing(group, host),
        before=clearing(group, host),
        park=parking(group),
        silent=_silent(group, routers),
        stops=_stops(group),
    )


def _announcement(group: GroupSettings, it: AddressSettings, host: Host) -> KitFrame:
    link = host.links[it.interface]
    mac = virtual_mac(it.family, it.vrid) if group.virtual_mac else link.mac
    mouth = host.mouth(group, it.family, it.interface, it.vrid)[0]
    return KitFrame(mouth, announcement(mac, it.address, router=link.forwarding))


def _stops(group: GroupSettings) -> tuple[tuple[str, ...], ...]:
    """A unit is stopped and then killed, so that nothing starts it again."""
    if group.exclusive is Exclusive.SEGMENT:
        return ()
    stops: list[tuple[str, ...]] = []
    for service in group.services:
        if service.unit:
            stops.append(("systemctl", "--no-block", "stop", service.unit))
            stops.append(("systemctl", "--signal=SIGKILL", "kill", service.unit))
        elif service.stop:
            stops.append(("/bin/sh", "-c", service.stop))
    return tuple(stops)


def _silent(group: GroupSettings, routers: tuple[KitRouter, ...]) -> tuple[str, ...]:
    """Where an ARP answer for what another interface carries would lead clients astray."""
    if not group.drain_ms and not group.virtual_mac:
        return ()
    return tuple(dict.fromkeys(name for it in routers for name in (it.interface, it.mouth[0])))


# ---------------------------------------------------------------- the process


def write(kit: Kit, run_dir: Path) -> Path:
    """RUN_DIR/kit.json, whole or not at all, for the owner's eyes only."""
    run_dir.mkdir(parents=True, exist_ok=True)
    path, fresh = run_dir / "kit.json", run_dir / f".kit.json.{os.getpid()}"
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(dump(kit))
    fresh.replace(path)
    return path


def main(argv: list[str]) -> int:
    from agent.config import ConfigError, load

    parser = argparse.ArgumentParser(prog="python -m drivers.forge", description=__doc__)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--node", help="default: the one with this host's name")
    parser.add_argument("--run-dir", type=Path, required=True)
    options = parser.parse_args(argv)
    try:
        settings = load(options.config, options.node)
        if not settings.node:
            print(f"forge: {options.config} has no node: there is nothing to keep", file=sys.stderr)
            return 1
        write(forge(settings, read_links()), options.run_dir)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        print(f"forge: {options.run_dir}: {error.strerror}; the kit is not forged", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
