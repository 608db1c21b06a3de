# SPDX-License-Identifier: GPL-2.0-or-later
"""A private message bus, and something on it that answers as systemd does."""

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

from jeepney import (
    DBusAddress,
    HeaderFields,
    Message,
    MessageType,
    new_error,
    new_method_return,
    new_signal,
)
from jeepney.bus_messages import message_bus
from jeepney.io.asyncio import DBusConnection, DBusRouter, Proxy, open_dbus_connection

CONFIG = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <listen>unix:path={socket}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
    {rules}
  </policy>
</busconfig>
"""
DENY = (
    """<deny send_destination="{name}" send_interface="{name}.Manager" send_member="{member}"/>"""
)

NAME = "org.freedesktop.systemd1"
PATH = "/org/freedesktop/systemd1"
SERVICE_ONLY = ("Result", "Type", "MainPID", "ControlGroup")
SIGNATURES: dict[type, str] = {bool: "b", int: "t", str: "s"}
VERBS = {"StartUnit": "active", "RestartUnit": "active", "StopUnit": "inactive"}


@contextmanager
def message_bus_daemon(folder: Path, *denied: str) -> Iterator[str]:
    """Its address. denied: methods that nobody may call."""
    socket = folder / "bus"
    config = folder / "bus.conf"
    rules = "\n".join(DENY.format(name=NAME, member=member) for member in denied)
    config.write_text(CONFIG.format(socket=socket, rules=rules))
    command = ["dbus-daemon", f"--config-file={config}", "--nofork", "--print-address=1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as daemon:
        try:
            assert daemon.stdout is not None
            assert daemon.stdout.readline(), "dbus-daemon did not start"
            yield f"unix:path={socket}"
        finally:
            daemon.terminate()
            daemon.wait(10)


class Systemd:
    """Units by name, and how their next jobs end.

    results: unit -> the job's result, or "error NAME" for an error reply, or "silent" for a job
    that never ends. after: unit -> ActiveState after the job, where it is not the natural one.
    """

    def __init__(self) -> None:
        self.units: dict[str, dict[str, Any]] = {}
        self.results: dict[str, str] = {}
        self.after: dict[str, str] = {}
        self.asked: list[tuple[str, str]] = []
        self._jobs = count(1)
        self._subscribed: set[str] = set()

    def unit(self, name: str, state: str = "inactive", **properties: Any) -> None:
        self.units[name] = {
            "LoadState": "loaded",
            "ActiveState": state,
            "SubState": "dead",
            "ConditionResult": True,
            "ConditionTimestamp": 1,
            **properties,
        }

    @asynccontextmanager
    async def serving(self, address: str) -> AsyncIterator[None]:
        connection = await open_dbus_connection(address)
        async with DBusRouter(connection) as router:
            await Proxy(message_bus, router).RequestName(NAME)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(self._serve(connection))
            yield
            task.cancel()
        await connection.close()

    async def _serve(self, connection: DBusConnection) -> None:
        while True:
            message = await connection.receive()
            if message.header.message_type is MessageType.method_call:
                for answer in self._answers(message):
                    await connection.send(answer)

    def _answers(self, message: Message) -> Iterator[Message]:
        fields = message.header.fields
        match fields[HeaderFields.member]:
            case "Subscribe":
                self._subscribed.add(fields[HeaderFields.sender])
                yield new_method_return(message)
            case "LoadUnit":
                yield new_method_return(message, "o", (self._path(message.body[0]),))
            case "GetAll":
                yield self._properties(message)
            case "KillUnit":
                yield self._kill(message)
            case verb:
                yield from self._job(message, verb)

    def _kill(self, message: Message) -> Message:
        unit, who, number = message.body
        self.asked.append(("KillUnit", unit))
        result = self.results.get(unit, "done")
        if result.startswith("error "):
            return new_error(message, result.removeprefix("error "), "s", (f"Unit {unit}: no",))
        assert who == "all"
        if result != "silent":
            with suppress(ProcessLookupError):
                os.kill(self.units[unit]["MainPID"], number)
        return new_method_return(message)

    def _path(self, unit: str) -> str:
        return f"{PATH}/unit/" + unit.encode().hex()

    def _properties(self, message: Message) -> Message:
        path = message.header.fields[HeaderFields.path]
        name = bytes.fromhex(path.rpartition("/")[2]).decode()
        unit = self.units.get(name, {"LoadState": "not-found", "ActiveState": "inactive"})
        if message.body[0].endswith(".Service"):
            found = {
                key: (SIGNATURES[type(unit[key])], unit[key]) for key in SERVICE_ONLY if key in unit
            }
        else:
            found = {
                key: (SIGNATURES[type(value)], value)
                for key, value in unit.items()
                if key not in SERVICE_ONLY
            }
        return new_method_return(message, "a{sv}", (found,))

    def _job(self, message: Message, verb: str) -> Iterator[Message]:
        unit, mode = message.body
        assert mode == "replace"
        self.asked.append((verb, unit))
        result = self.results.get(unit, "done")
        if unit not in self.units:
            result = f"error {NAME}.NoSuchUnit"
        if result.startswith("error "):
            yield new_error(message, result.removeprefix("error "), "s", (f"Unit {unit}: no",))
            return
        yield self._removed("another.service", f"{PATH}/job/0", "done")
        job = f"{PATH}/job/{next(self._jobs)}"
        yield new_method_return(message, "o", (job,))
        if result == "silent":
            return
        self.units[unit]["ActiveState"] = self.after.get(unit, VERBS[verb])
        if message.header.fields[HeaderFields.sender] in self._subscribed:
            yield self._removed(unit, job, result)

    def _removed(self, unit: str, job: str, result: str) -> Message:
        place = DBusAddress(PATH, interface=f"{NAME}.Manager")
        return new_signal(place, "JobRemoved", "uoss", (int(job.split("/")[-1]), job, unit, result))
