# SPDX-License-Identifier: GPL-2.0-or-later
"""The cold patient: a service that takes time to start, keeps a status file and must run only once.

It counts up by itself, ten times a second unless told otherwise, and writes count and ballast to
its status file at each change; a start reads that file, refuses one that is broken, then takes its
start-up time until it answers. UDP PORT answers as the patient does, HTTP on PORT + 1 gives the
count. A copy beats in its notebook from its first moment to its last (cold_notebook.py).
`serve` stays in the foreground and tells systemd when it is ready (sd_notify(3)).
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import random
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.lab.cold_notebook import BEAT_S, Page
from tests.lab.patient import ACTIONS, FAILED, IP_PKTINFO, RUNNING, Patient, Service

PORT = 7020
PID_FILE = "cold.pid"


@dataclass(frozen=True)
class Nature:
    """What a cold patient is like."""

    status: Path
    notebook: Path
    port: int = PORT
    start_up_s: float = 2.0
    rate: float = 10.0  # changes a second
    ballast_bytes: int = 10_000


class Unreadable(Exception):
    """The status file is not what was written."""


def load(path: Path) -> int:
    """The count in a status file, 0 where there is none; Unreadable."""
    try:
        head, _, ballast = path.read_bytes().partition(b"\n")
    except FileNotFoundError:
        return 0
    try:
        told = json.loads(head)
        count, digest = int(told["count"]), told["sha256"]
    except (ValueError, KeyError, TypeError) as error:
        raise Unreadable(f"{path}: its first line is broken: {error}") from error
    if hashlib.sha256(ballast).hexdigest() != digest:
        raise Unreadable(f"{path}: what follows its first line is not what was written")
    return count


def save(path: Path, count: int, ballast_bytes: int) -> None:
    """Aside, then in place at once."""
    ballast = random.Random(count).randbytes(ballast_bytes)
    head = json.dumps({"count": count, "sha256": hashlib.sha256(ballast).hexdigest()})
    aside = path.with_name(path.name + ".new")
    aside.write_bytes(head.encode() + b"\n" + ballast)
    os.rename(aside, path)


class Ledger(Service):
    """It answers, counts, saves and beats."""

    def __init__(self, name: str, nature: Nature, page: Page, count: int) -> None:
        self.name = name.encode()
        self.nature, self.page, self.count = nature, page, count
        self.selector = selectors.DefaultSelector()
        self.told_to_end = False
        datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._listen(datagrams, nature.port, self.answer)
        datagrams.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listen(listener, nature.port + 1, self.greet)
        listener.listen(64)

    def greet(self, sock: socket.socket) -> None:
        caller, _ = sock.accept()
        caller.setblocking(False)
        self.selector.register(caller, selectors.EVENT_READ, self.reply)

    def reply(self, caller: socket.socket) -> None:
        self.selector.unregister(caller)
        with caller:
            if caller.recv(4096):
                body = f"{self.count}\n"
                head = (
                    f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
                )
                caller.sendall((head + body).encode())

    def end(self, *_: object) -> None:
        self.told_to_end = True

    def run(self) -> None:
        due_s = time.monotonic()
        while not self.told_to_end:
            for key, _ in self.selector.select(BEAT_S):
                with contextlib.suppress(OSError):
                    key.data(key.fileobj)
            self.page.beat(self.count)
            if time.monotonic() >= due_s:
                due_s = max(due_s + 1 / self.nature.rate, time.monotonic())
                self.count += 1
                self._save()
        self._save()
        self.page.beat(self.count)

    def _save(self) -> None:
        with contextlib.suppress(OSError):  # a full disk stops no service
            save(self.nature.status, self.count, self.nature.ballast_bytes)


class ColdPatient(Patient):
    """One name, one state folder, one nature."""

    def __init__(self, name: str, folder: Path, nature: Nature) -> None:
        super().__init__(name, folder)
        self.nature = nature
        self.pid_file = folder / PID_FILE

    def serve(self) -> int:
        """Until SIGTERM; the status file then holds the last count."""
        if self._refused():
            print(f"patient {self.name}: refuses to start", file=sys.stderr)
            return FAILED
        try:
            self._begin(self._ready_by_notify).run()
        except (OSError, Unreadable) as error:
            print(f"patient {self.name}: {error}", file=sys.stderr)
            return FAILED
        return RUNNING

    def start(self) -> int:
        if self.pid() is None:
            self._refused()
        return super().start()

    def _refused(self) -> bool:
        """Each time that it would not start is a line in the file that says so."""
        if not self.refusal.exists():
            return False
        with open(self.refusal, "a") as file:
            file.write("refused\n")
        return True

    def _serve_detached(self, tell: int) -> None:
        nowhere = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(nowhere, descriptor)

        def ready() -> None:
            os.write(tell, b"ready")
            os.close(tell)

        try:
            service = self._begin(ready)
        except (OSError, Unreadable) as error:
            os.write(tell, str(error).encode())
            os._exit(FAILED)
        service.run()
        os._exit(RUNNING)

    def _begin(self, ready: Callable[[], None]) -> Ledger:
        self.lock = open(self.lock_file, "w")  # noqa: SIM115  # held for as long as it lives
        fcntl.lockf(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self.pid_file.write_text(f"{os.getpid()}\n")
        page = Page(self.nature.notebook, self.name)
        count = load(self.nature.status)
        page.load(count)
        began_s = time.monotonic()
        while time.monotonic() < began_s + self.nature.start_up_s:
            time.sleep(BEAT_S)
            page.beat(count)
        service = Ledger(self.name, self.nature, page, count)
        signal.signal(signal.SIGTERM, service.end)
        ready()
        return service

    def _ready_by_notify(self) -> None:
        where = os.environ.get("NOTIFY_SOCKET", "")
        if where:
            address = "\0" + where[1:] if where.startswith("@") else where
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.sendto(b"READY=1", address)


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    found.add_argument("action", choices=("serve", *ACTIONS))
    found.add_argument("--name", required=True)
    found.add_argument("--state-dir", required=True, type=Path)
    found.add_argument("--status", required=True, type=Path)
    found.add_argument("--notebook", required=True, type=Path)
    found.add_argument("--port", type=int, default=Nature.port)
    found.add_argument("--start-up", type=float, default=Nature.start_up_s, metavar="S")
    found.add_argument("--rate", type=float, default=Nature.rate, metavar="CHANGES_A_SECOND")
    found.add_argument("--ballast", type=int, default=Nature.ballast_bytes, metavar="BYTES")
    return found


def arguments(name: str, folder: str, nature: Nature) -> list[str]:
    """The options that say the same, for a command line."""
    found = ["--name", name, "--state-dir", folder, "--status", str(nature.status)]
    found += ["--notebook", str(nature.notebook), "--port", str(nature.port)]
    found += ["--start-up", f"{nature.start_up_s:g}", "--rate", f"{nature.rate:g}"]
    return [*found, "--ballast", str(nature.ballast_bytes)]


def main() -> int:
    told = parser().parse_args()
    nature = Nature(told.status, told.notebook, told.port, told.start_up, told.rate, told.ballast)
    patient = ColdPatient(told.name, told.state_dir, nature)
    action: Callable[[], int] = getattr(patient, told.action)
    return action()


if __name__ == "__main__":
    sys.exit(main())
