# SPDX-License-Identifier: GPL-2.0-or-later
"""systemd over D-Bus: one short conversation for each question (org.freedesktop.systemd1(5)).

A conversation that is opened anew survives a restart of the bus without being told.
"""

import asyncio
import os
from collections.abc import Iterator
from itertools import count
from types import TracebackType
from typing import Any, Self

from jeepney import DBusAddress, MatchRule, Message, MessageType, Parser, message_bus
from jeepney.auth import BEGIN, AuthenticationError, Authenticator
from jeepney.bus import get_bus
from jeepney.low_level import HeaderFields
from jeepney.wrappers import Properties, new_method_call

from agent.ports import Garbled, Refused, Unreachable

SYSTEM_BUS = "SYSTEM"
NAME = "org.freedesktop.systemd1"
MANAGER = DBusAddress("/org/freedesktop/systemd1", NAME, f"{NAME}.Manager")
SERVICE = ".service"
SUFFIXES = (SERVICE, ".socket", ".target", ".mount", ".timer", ".path", ".slice", ".scope")

DENIED = frozenset(("AccessDenied", "AuthFailed", "InteractiveAuthorizationRequired"))
UNKNOWN = frozenset(  # org.freedesktop.DBus.Error names after which nobody knows what was done
    (
        *("Disconnected", "LimitsExceeded", "NameHasNoOwner", "NoMemory", "NoReply", "NoServer"),
        *("ServiceUnknown", "Timeout", "TimedOut", "ExecFailed", "ChildExited"),
    )
)


class Denied(Refused):
    """We may not ask for that: an authorisation is missing."""


def unit_name(name: str) -> str:
    """As systemctl does: "kamailio" is kamailio.service."""
    return name if name.endswith(SUFFIXES) else name + SERVICE


class Bus:
    """A connection to the bus, for the length of an `async with`. address: as D-Bus writes it."""

    def __init__(self, address: str = SYSTEM_BUS) -> None:
        self._address = address
        self._serials: Iterator[int] = count(1)
        self._parser = Parser()
        self._signals: list[Message] = []

    async def __aenter__(self) -> Self:
        """Raises Unreachable, Refused."""
        try:
            self._reader, self._writer = await asyncio.open_unix_connection(get_bus(self._address))
        except OSError as error:
            raise Unreachable(
                f"D-Bus {self._address}: {os.strerror(error.errno or 0)}; is dbus running here?"
            ) from error
        except (LookupError, ValueError, RuntimeError) as error:
            raise Refused(f"D-Bus {self._address!r} is no bus address: {error}") from error
        try:
            await self._greet()
        except BaseException:
            self._writer.transport.abort()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._writer.transport.abort()

    async def call(self, message: Message) -> tuple[Any, ...]:
        """The reply's body. Raises Denied, Refused, Unreachable, Garbled."""
        serial = next(self._serials)
        try:
            self._writer.write(message.serialise(serial))
            await self._writer.drain()
        except OSError as error:
            raise self._gone() from error
        while True:
            answer = await self._receive()
            if answer.header.fields.get(HeaderFields.reply_serial) != serial:
                self._keep(answer)
            elif answer.header.message_type is MessageType.error:
                raise refusal(answer)
            else:
                return tuple(answer.body)

    async def job_result(self, job: str) -> str:
        """Waits for JobRemoved of that job: done canceled timeout failed dependency skipped ..."""
        while True:
            while self._signals:
                _, path, _, result = self._signals.pop(0).body
                if path == job:
                    return str(result)
            self._keep(await self._receive())

    async def follow_jobs(self) -> None:
        """Must come before the job is made, or its end may be missed."""
        rule = MatchRule(
            type="signal", sender=NAME, interface=MANAGER.interface, member="JobRemoved"
        )
        await self.call(message_bus.AddMatch(rule))
        await self.call(new_method_call(MANAGER, "Subscribe"))

    async def manager(self, method: str, signature: str, *body: object) -> tuple[Any, ...]:
        """Calls the Manager."""
        return await self.call(new_method_call(MANAGER, method, signature, body))

    async def properties(self, unit: str, interface: str = "Unit") -> dict[str, Any]:
        """All properties of a unit; one that is not there has LoadState "not-found"."""
        (path,) = await self.manager("LoadUnit", "s", unit)
        place = DBusAddress(path, NAME, f"{NAME}.{interface}")
        (found,) = await self.call(Properties(place).get_all())
        return {name: value for name, (_, value) in found.items()}

    async def _greet(self) -> None:
        greeting = Authenticator()
        try:
            for line in greeting:
                self._writer.write(line)
                greeting.feed(await self._some())
        except AuthenticationError as error:
            raise Refused(
                f"D-Bus {self._address}: does not let uid {os.geteuid()} in: {error}"
            ) from error
        self._writer.write(BEGIN)
        await self.call(message_bus.Hello())

    async def _receive(self) -> Message:
        while True:
            try:
                message = self._parser.get_next_message()
            except ValueError as error:
                raise Garbled(f"D-Bus {self._address}: {error}; restart dbus") from error
            if message is not None:
                return message
            self._parser.add_data(await self._some())

    async def _some(self) -> bytes:
        try:
            chunk = await self._reader.read(65_536)
        except OSError as error:
            raise self._gone() from error
        if not chunk:
            raise self._gone()
        return chunk

    def _keep(self, message: Message) -> None:
        if message.header.fields.get(HeaderFields.member) == "JobRemoved":
            self._signals.append(message)

    def _gone(self) -> Unreachable:
        return Unreachable(f"D-Bus {self._address}: closed the connection; look again")


def refusal(answer: Message) -> Refused | Unreachable:
    """An error reply as the port says it."""
    name = str(answer.header.fields.get(HeaderFields.error_name, "unnamed error"))
    text = str(answer.body[0]).rstrip(".") if answer.body else ""
    short = name.rpartition(".")[2]
    if short in DENIED:
        return Denied(f"{short}: {text}")
    if short in UNKNOWN:
        return Unreachable(f"systemd: {short}: {text}; look again")
    return Refused(f"{short}: {text}")
