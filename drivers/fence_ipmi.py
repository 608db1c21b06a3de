# SPDX-License-Identifier: GPL-2.0-or-later
"""Fence: a node's BMC over IPMI 2.0 (RMCP+), asked through ipmitool(1).

A BMC is fed by the machine that it switches: where that lost its power the BMC is silent, which is
not known, and never off.
"""

import os
import re
import shlex

from agent.core.fencing import Sight
from agent.core.settings import FenceSettings
from agent.ports import Garbled, Refused, Unreachable
from drivers.inquiry import boottime_ms
from drivers.shell import Ended, question, said
from drivers.switching import switch

IPMITOOL = "ipmitool"
ONE_MS = 6_000  # one run of ipmitool: a BMC without cipher suites to list costs 3 s
PORT = "623"
OPERATOR = 3  # privilege level, IPMI 2.0 table 22-1: enough for Chassis Control
PRIVILEGE = "raw 0x06 0x3b 0x00"  # Set Session Privilege Level, "no change": answers the present
NOT_FOUND = 127
POWER = re.compile(r"Chassis Power is (on|off)\b")
NO_SUITES, SUITE = "Unable to Get Channel Cipher Suites", "-C 3"  # ipmitool then takes suite 3
REFUSED = re.compile(
    r"RAKP \d|unauthorized name|HMAC is invalid|Insufficient privilege|password file"
    r"|Privilege Level to \w+ failed|invalid (authentication|role)",
    re.IGNORECASE,
)


class IpmiFence:
    """ports.Fence. The password stays in its file: ipmitool reads it there."""

    def __init__(self, node: str, settings: FenceSettings, ipmitool: str = IPMITOOL) -> None:
        self.node = node
        self.name = f"BMC {settings.address}"
        self._password_file = settings.password_file
        host, port = _host_and_port(settings.address)
        argv = [ipmitool, "-v", "-I", "lanplus", "-N", "1", "-R", "2", "-L", "OPERATOR"]
        argv += ["-H", host, "-p", port, "-U", settings.user, "-f", settings.password_file]
        self._command = shlex.join(argv)
        self._suite = ""

    async def off(self, within_ms: int) -> str:
        return await switch(self.node, [self], True, within_ms)

    async def on(self, within_ms: int) -> str:
        return await switch(self.node, [self], False, within_ms)

    async def status(self, within_ms: int) -> str:
        """What its chassis power is, for people; only reads."""
        sight = await self._look(within_ms)
        return f"node {self.node}: by {self.name} its power is {sight}"

    async def test(self, within_ms: int) -> str:
        until_ms = boottime_ms() + within_ms
        told = await self.status(within_ms)
        ended = await self._run(PRIVILEGE, until_ms - boottime_ms())
        level = ended.tail.split()[-1] if ended.tail else ""
        if not re.fullmatch(r"0[1-5]", level):
            raise Garbled(f"{self.name}: its privilege level is {level!r}; try ipmitool by hand")
        if int(level) < OPERATOR:
            raise Refused(f"{self.name}: this user may only look; give it the OPERATOR privilege")
        return f"{told}, its user may switch it"

    async def look(self, within_ms: int) -> tuple[Sight, str]:
        return await self._look(within_ms), ""

    async def command(self, off: bool, _clear: bool, within_ms: int) -> None:
        """Nothing waits in a BMC: there is nothing to clear."""
        await self._run(f"chassis power {'off' if off else 'on'}", within_ms)

    async def _look(self, within_ms: int) -> Sight:
        """Raises Unreachable, Refused, Garbled."""
        ended = await self._run("chassis power status", within_ms)
        found = POWER.search(ended.tail)
        if found is None:
            raise Garbled(f"{self.name}: {said(ended)}; try ipmitool by hand")
        return Sight(found[1])

    async def _run(self, words: str, within_ms: int) -> Ended:
        """One run of ipmitool that ended with 0. Raises Unreachable, Refused."""
        if not os.access(self._password_file, os.R_OK):
            raise Refused(
                f"node.{self.node}.fence.password_file: {self._password_file} is missing or not"
                " readable to the agent"
            )
        try:
            command = f"{self._command} {self._suite} {words}"
            ended = await question(command, max(1, min(within_ms, ONE_MS)))
        except OSError as error:
            raise Unreachable(f"{self.name}: cannot run ipmitool: {error.strerror}") from error
        if NO_SUITES in ended.tail:
            self._suite = SUITE  # it would be asked for them in vain each time, for 3 s
        if ended.code == 0:
            return ended
        if ended.code == NOT_FOUND:
            raise Refused(f"{self.name}: {said(ended)}; install the package ipmitool")
        if ended.code is not None and REFUSED.search(ended.tail):
            raise Refused(
                f"{self.name}: {said(ended)}; check user, password_file and the user's privilege"
            )
        raise Unreachable(f"{self.name}: {said(ended)}; is its BMC fed and on the network?")


def _host_and_port(address: str) -> tuple[str, str]:
    """ "host", "host:port", "2001:db8::1" or "[2001:db8::1]:port"."""
    if address.startswith("["):
        host, _, tail = address[1:].partition("]")
        return host, tail.removeprefix(":") or PORT
    if address.count(":") == 1:
        host, _, port = address.partition(":")
        return host, port
    return address, PORT
