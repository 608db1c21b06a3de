# SPDX-License-Identifier: GPL-2.0-or-later
"""Prover: the programs here fit those of the active node; and what else is different there.

`facts` travels with the carrying: {"kernel": release, "interfaces": [names, sorted],
"packages": {service: "package version"}}; a program of no package has "PATH sha256:..." instead.
Another major version of a service's package is not compatible; other differences are told.
"""

import hashlib
import os
import re
import shlex
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from agent.core.model import Proof
from agent.core.settings import GroupSettings, ServiceSettings
from agent.ports import Unreachable
from drivers.bus import SYSTEM_BUS, Bus, unit_name
from drivers.inquiry import boottime_ms
from drivers.proving import Prover, judged
from drivers.shell import question

Facts = dict[str, Any]

READ_EVERY_MS = 3_600_000
ASK_MS = 10_000
DPKG = "dpkg-query -S {0} 2>/dev/null | grep -v ^diversion | head -n 1 | cut -d: -f1"
DPKG_VERSION = "dpkg-query -W -f '${{Package}} ${{Version}}' {0}"
RPM = "rpm -qf --queryformat '%{{NAME}} %{{EPOCH}}:%{{VERSION}}-%{{RELEASE}}' {0}"
VERSION = re.compile(r"^(\S+) (?:(?:\d+|\(none\)):)?(\d+)")
SERVER_OF = Callable[[], tuple[str, Mapping[str, Any]] | None]


def compare(ours: Mapping[str, Any], node: str, theirs: Mapping[str, Any]) -> list[Proof]:
    """Proofs "versions" and "drift". What a peer says and is no such thing is passed over."""
    unfit: list[str] = []
    drift: list[str] = []
    packages = theirs.get("packages")
    for service, here in ours.get("packages", {}).items():
        there = packages.get(service, "") if isinstance(packages, Mapping) else ""
        if not isinstance(there, str) or not there or not here or here == there:
            continue
        told = f"{service} is {here} here and {there} on {node}"
        (unfit if _unfit(here, there) else drift).append(told)
    kernel = theirs.get("kernel")
    if isinstance(kernel, str) and kernel and kernel != ours.get("kernel"):
        drift.append(f"the kernel is {ours.get('kernel')} here and {kernel} on {node}")
    interfaces = theirs.get("interfaces")
    if isinstance(interfaces, list) and interfaces != ours.get("interfaces"):
        here = " ".join(ours.get("interfaces", []))
        drift.append(f"interfaces are {here} here and {' '.join(map(str, interfaces))} on {node}")
    return [judged("versions", unfit), judged("drift", drift)]


def _unfit(here: str, there: str) -> bool:
    """Whether two words "package version" are of different packages or major versions."""
    one, other = VERSION.match(here), VERSION.match(there)
    return bool(one and other and one.groups() != other.groups())


class VersionsProof(Prover):
    """Proofs "versions" and "drift". server_of: (node, its facts) of the active node, or None.

    publish: takes our own facts, so that the other nodes can compare.
    """

    name = "versions"

    def __init__(
        self,
        settings: GroupSettings,
        server_of: SERVER_OF,
        bus: str = SYSTEM_BUS,
        *,
        publish: Callable[[Facts], None] = lambda _: None,
        net: Path = Path("/sys/class/net"),
    ) -> None:
        super().__init__(settings)
        self._server_of = server_of
        self._publish = publish
        self._bus = bus
        self._net = net
        self._facts: Facts = {}
        self._read_ms: int | None = None

    async def facts(self) -> Facts:
        """As of the last hour. Raises PortError, OSError."""
        now = boottime_ms()
        if self._read_ms is None or now - self._read_ms >= READ_EVERY_MS:
            packages = {
                service.name: await self._package(service) for service in self.settings.services
            }
            self._facts = {
                "kernel": os.uname().release,
                "interfaces": await self._look(lambda: interfaces(self._net)),
                "packages": packages,
            }
            self._read_ms = now
        return self._facts

    async def _proofs(self) -> list[Proof]:
        ours = await self.facts()
        self._publish(ours)
        server = self._server_of()
        if server is None:
            return [Proof("versions", None, "no active node is heard to compare with")]
        return compare(ours, *server)

    async def _package(self, service: ServiceSettings) -> str:
        """ "" where its program is not known."""
        program = await self._program(service)
        if not program:
            return ""
        real = await self._look(lambda: os.path.realpath(program))
        paths = (program, real, program.removeprefix("/usr"), real.removeprefix("/usr"))
        for path in dict.fromkeys(paths):  # where /usr is merged a package may have either
            word = shlex.quote(path)
            package = (await question(DPKG.format(word), ASK_MS)).tail
            if package:
                found = await question(DPKG_VERSION.format(shlex.quote(package)), ASK_MS)
            else:
                found = await question(RPM.format(word), ASK_MS)
            if found.code == 0 and found.tail:
                return found.tail
        return await self._look(lambda: _digest(program))

    async def _program(self, service: ServiceSettings) -> str:
        if not service.unit:
            words = shlex.split(service.start) or [""]
            return shutil.which(words[0]) or ""
        async with Bus(self._bus) as bus:
            properties = await bus.properties(unit_name(service.unit), "Service")
        try:
            return str(properties["ExecStart"][0][0])
        except (LookupError, TypeError):
            raise Unreachable(f"unit {service.unit}: systemd tells no ExecStart=") from None


def _digest(program: str) -> str:
    try:
        with open(program, "rb") as file:
            return f"{program} sha256:{hashlib.file_digest(file, 'sha256').hexdigest()[:16]}"
    except OSError:
        return ""


def interfaces(net: Path) -> list[str]:
    """Names of this host's cards: what is made by software comes and goes. Blocking."""
    return sorted(name for name in os.listdir(net) if (net / name / "device").exists())
