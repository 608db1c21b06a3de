# SPDX-License-Identifier: GPL-2.0-or-later
"""The patient: a small service that is watched, and the commands that start, stop and torment it.

UDP 7007 answers with its name, a space and the payload, from the address that was asked; TCP 7008
says "ok NAME". `status` exits 0 running, 3 not running (LSB). While it lives it holds a lock on
DIR/patient.lock, so that a file left by a dead one misleads nobody. While DIR/refuse exists it does
not start.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import selectors
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path

UDP_PORT, TCP_PORT = 7007, 7008
RUNNING, NOT_RUNNING, FAILED = 0, 3, 1
IP_PKTINFO = 8  # in.h; the socket module has it from Python 3.14 on
_FLOCK = "hhqqi"  # struct flock: type, whence, start, length, pid


class Patient:
    """One name and one state folder."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.lock_file = folder / "patient.lock"
        self.refusal = folder / "refuse"
        folder.mkdir(parents=True, exist_ok=True)

    def pid(self) -> int | None:
        """Of the one that runs or hangs, None when there is none; by F_GETLK, fcntl(2)."""
        question = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        try:
            with open(self.lock_file) as file:
                answer = struct.unpack(_FLOCK, fcntl.fcntl(file, fcntl.F_GETLK, question))
        except FileNotFoundError:
            return None
        return None if answer[0] == fcntl.F_UNLCK else int(answer[-1])

    def start(self) -> int:
        """Return when it answers; starting one that runs is well."""
        if self.pid() is not None:
            return RUNNING
        if self.refusal.exists():
            print(
                f"patient {self.name}: refuses to start while {self.refusal} exists",
                file=sys.stderr,
            )
            return FAILED
        ready, tell = os.pipe()
        if os.fork() == 0:
            os.close(ready)
            os.setsid()
            if os.fork() == 0:
                self._serve_detached(tell)
            os._exit(0)
        os.close(tell)
        os.wait()
        with os.fdopen(ready, "rb") as pipe:
            complaint = pipe.read()
        if complaint != b"ready":
            print(f"patient {self.name}: {complaint.decode() or 'died at once'}", file=sys.stderr)
            return FAILED
        return RUNNING

    def _serve_detached(self, tell: int) -> None:
        nowhere = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(nowhere, descriptor)
        try:
            lock = open(self.lock_file, "w")  # noqa: SIM115  # held for as long as it lives
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            service = Service(self.name)
        except OSError as error:
            os.write(tell, str(error).encode())
            os._exit(FAILED)
        os.write(tell, b"ready")
        os.close(tell)
        service.run()

    def stop(self) -> int:
        """Ask, then insist after a second; stopping one that is gone is well."""
        self._send(signal.SIGTERM)
        if not self._gone(1.0):
            self.die()
        return RUNNING

    def status(self) -> int:
        pid = self.pid()
        print(f"patient {self.name}: {'not running' if pid is None else f'running, pid {pid}'}")
        return NOT_RUNNING if pid is None else RUNNING

    def die(self) -> int:
        self._send(signal.SIGKILL)
        return RUNNING if self._gone(5.0) else FAILED

    def hang(self) -> int:
        return self._send(signal.SIGSTOP)

    def wake(self) -> int:
        return self._send(signal.SIGCONT)

    def refuse(self) -> int:
        self.refusal.touch()
        return RUNNING

    def allow(self) -> int:
        self.refusal.unlink(missing_ok=True)
        return RUNNING

    def _send(self, number: signal.Signals) -> int:
        pid = self.pid()
        if pid is None:
            return NOT_RUNNING
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        return RUNNING

    def _gone(self, limit_s: float) -> bool:
        deadline_s = time.monotonic() + limit_s
        while self.pid() is not None:
            if time.monotonic() > deadline_s:
                return False
            time.sleep(0.005)
        return True


class Service:
    """The sockets, both families on both ports, and what is said on them."""

    def __init__(self, name: str) -> None:
        self.name = name.encode()
        self.selector = selectors.DefaultSelector()
        for family in (socket.AF_INET, socket.AF_INET6):
            datagrams = socket.socket(family, socket.SOCK_DGRAM)
            datagrams.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            self._listen(datagrams, UDP_PORT, self.answer)
            listener = socket.socket(family, socket.SOCK_STREAM)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._listen(listener, TCP_PORT, self.greet)
            listener.listen(64)
            if family == socket.AF_INET:
                datagrams.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
            else:
                datagrams.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)

    def _listen(
        self, sock: socket.socket, port: int, serve: Callable[[socket.socket], None]
    ) -> None:
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setblocking(False)
        sock.bind(("", port))
        self.selector.register(sock, selectors.EVENT_READ, serve)

    def run(self) -> None:
        while True:
            for key, _ in self.selector.select():
                with contextlib.suppress(OSError):
                    key.data(key.fileobj)

    def answer(self, sock: socket.socket) -> None:
        payload, controls, _, asker = sock.recvmsg(2048, 128)
        level, kind, info = controls[0]
        if sock.family == socket.AF_INET:
            # in_pktinfo: interface, local address (the answer's source), address that was asked
            source = struct.pack("i4s4s", 0, info[8:12], bytes(4))
        else:
            source = struct.pack(
                "16si", info[:16], 0
            )  # in6_pktinfo: address that was asked, interface
        sock.sendmsg([self.name + b" " + payload], [(level, kind, source)], 0, asker)

    def greet(self, sock: socket.socket) -> None:
        caller, _ = sock.accept()
        with caller:
            caller.sendall(b"ok " + self.name + b"\n")


ACTIONS = ("start", "stop", "status", "die", "hang", "wake", "refuse", "allow")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("action", choices=ACTIONS)
    parser.add_argument("--name", required=True)
    parser.add_argument("--state-dir", required=True, type=Path)
    chosen = parser.parse_args()
    action: Callable[[], int] = getattr(Patient(chosen.name, chosen.state_dir), chosen.action)
    return action()


if __name__ == "__main__":
    sys.exit(main())
