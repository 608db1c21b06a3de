# SPDX-License-Identifier: GPL-2.0-or-later
"""Network namespaces, bridges and cables: made, broken on purpose, gone without a trace."""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

NAMES = Path("/run/netns")
CLONE_NEWNET = 0x40000000  # setns(2)
SWITCH = "switch"  # the namespace in which all bridges live
_libc = ctypes.CDLL(None, use_errno=True)


class LabError(RuntimeError):
    """The laboratory could not do what was asked; the text says what, and what now."""


def now_ms() -> float:
    """CLOCK_MONOTONIC, the one clock of every record in the laboratory."""
    return time.monotonic_ns() / 1e6


def wait_until(condition: Callable[[], object], what: str, limit_s: float = 10.0) -> None:
    """Ask `condition` until it is true; LabError names `what` when the limit passes."""
    deadline_ms = now_ms() + limit_s * 1000
    while not condition():
        if now_ms() > deadline_ms:
            raise LabError(f"waited {limit_s:g} s in vain until {what}")
        time.sleep(0.01)


def require_root() -> None:
    if os.geteuid():
        raise LabError(
            "the laboratory makes network namespaces, which needs root; run: sudo make test"
        )


def command(*argv: str, text: str | None = None) -> str:
    """Standard output of a finished command; LabError with its complaint when it fails."""
    done = subprocess.run(argv, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LabError(
            f"{' '.join(argv)}: {done.stderr.strip()}" + (f"\nin\n{text}" if text else "")
        )
    return done.stdout


def batch(lines: Sequence[str], namespace: str | None = None) -> None:
    """Many `ip` commands in one process, in the named namespace if one is given."""
    where = ["-n", namespace] if namespace else []
    command("ip", *where, "-batch", "-", text="\n".join(lines) + "\n")


def enter(namespace: str) -> None:
    """Move this thread into the namespace for good (setns(2))."""
    with open(NAMES / namespace) as there:
        _setns(there.fileno())


@contextlib.contextmanager
def inside(namespace: str) -> Iterator[None]:
    """Sockets opened and /proc/sys/net written by this thread in this block are the namespace's."""
    with open("/proc/thread-self/ns/net") as home:
        enter(namespace)
        try:
            yield
        finally:
            _setns(home.fileno())


def _setns(descriptor: int) -> None:
    if _libc.setns(descriptor, CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


# Processes, known by the network namespace they live in


def processes_in(namespaces: Iterable[str]) -> set[int]:
    """Every pid, whoever started it, that lives in one of the namespaces; zombies live nowhere."""
    wanted = set()
    for name in namespaces:
        with contextlib.suppress(FileNotFoundError):
            wanted.add(_identity(NAMES / name))
    found = set()
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != os.getpid():
            with contextlib.suppress(OSError):
                if _identity(Path(f"/proc/{entry}/ns/net")) in wanted:
                    found.add(int(entry))
    return found


def lives_in(pid: int, namespace: str) -> bool:
    with contextlib.suppress(OSError):
        return _identity(Path(f"/proc/{pid}/ns/net")) == _identity(NAMES / namespace)
    return False


def _identity(path: Path) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_dev, found.st_ino


def kill_in(namespaces: Sequence[str], limit_s: float = 5.0) -> None:
    """SIGKILL at one instant: all are stopped first, so no child says goodbye for its parent."""
    stopped: set[int] = set()
    while fresh := processes_in(namespaces) - stopped:
        _signal(fresh, signal.SIGSTOP)
        stopped |= fresh
    _signal(stopped, signal.SIGKILL)
    deadline_ms = now_ms() + limit_s * 1000
    while left := processes_in(namespaces):
        if now_ms() > deadline_ms:
            raise LabError(f"processes {sorted(left)} in {', '.join(namespaces)} outlive SIGKILL")
        _signal(left - stopped, signal.SIGKILL)
        time.sleep(0.005)


def _signal(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


# Cables, ports and the switch they end in


@dataclass(frozen=True)
class Cable:
    """A host's interface, the network it is in, and its own addresses with prefix lengths."""

    host: str
    interface: str
    network: str
    addresses: tuple[str, ...]

    @property
    def port(self) -> str:
        return f"{self.host}-{self.interface}"[:15]


@dataclass(frozen=True)
class Port:
    """The switch's end of a cable, where the faults of cables and switches are made."""

    switch: str
    name: str

    def down(self) -> None:
        """The node loses its carrier."""
        set_ports([self], up=False)

    def up(self) -> None:
        set_ports([self], up=True)

    def mute(self) -> None:
        """The silent cut: nothing passes either way, and the node keeps its carrier."""
        self._forward("0")  # BR_STATE_DISABLED, bridge(8)

    def silence(self) -> None:
        """What the node sends is lost; it still hears."""
        self._drop("ingress")

    def deafen(self) -> None:
        """What is sent to the node is lost; it is still heard."""
        self._drop("egress")

    def heal(self) -> None:
        """Undo mute, silence and deafen; a port that is down stays down."""
        self._filter("")
        self._forward("3")  # BR_STATE_FORWARDING

    def _forward(self, state: str) -> None:
        command("bridge", "-n", self.switch, "link", "set", "dev", self.name, "state", state)

    def _drop(self, hook: str) -> None:
        place = f"type filter hook {hook} device {self.name} priority 0"
        self._filter(f"chain {hook} {{ {place}; policy drop; }}\n")

    def _filter(self, chain: str) -> None:
        table = f"netdev {self.name}"
        rules = f"table {table}\ndelete table {table}\n" + (
            f"table {table} {{ {chain} }}\n" if chain else ""
        )
        command("ip", "netns", "exec", self.switch, "nft", "-f", "-", text=rules)


def set_ports(ports: Sequence[Port], *, up: bool) -> None:
    """All the ports at one instant, as near as one process can; they must be of one switch."""
    batch([f"link set {port.name} {'up' if up else 'down'}" for port in ports], ports[0].switch)


class Fabric:
    """The namespaces of one laboratory: a switch with all the bridges, and the hosts."""

    def __init__(self, prefix: str) -> None:
        """`prefix` starts the name of every namespace and of every scratch folder."""
        self.prefix = prefix
        self.hosts: list[str] = []

    def namespace(self, host: str) -> str:
        return self.prefix + host

    def port(self, cable: Cable) -> Port:
        return Port(self.namespace(SWITCH), cable.port)

    def lay(self, hosts: Sequence[str], networks: Sequence[str], cables: Sequence[Cable]) -> None:
        """Make the namespaces and a bridge for each network, and plug all cables in."""
        self.hosts = [SWITCH, *hosts]
        batch([f"netns add {self.namespace(host)}" for host in self.hosts])
        for host in self.hosts:
            self._settle(host)
        lines = []
        for network in networks:
            lines += [
                f"link add br-{network} type bridge stp_state 0 mcast_snooping 0",
                f"link set br-{network} up",
            ]
        for cable in cables:
            lines += [
                f"link add {cable.port} type veth"
                f" peer name {cable.interface} netns {self.namespace(cable.host)}",
                f"link set {cable.port} master br-{cable.network} up",
            ]
        batch(lines, self.namespace(SWITCH))
        for host in hosts:
            lines = ["link set lo up"]
            for cable in cables:
                if cable.host == host:
                    lines += [
                        f"addr add {address} dev {cable.interface}" for address in cable.addresses
                    ]
                    lines.append(f"link set {cable.interface} up")
            batch(lines, self.namespace(host))

    def _settle(self, host: str) -> None:
        """No duplicate address detection, no router advertisements; the switch speaks no IPv6."""
        settings = {"ipv6/conf/default/accept_dad": 0, "ipv6/conf/default/accept_ra": 0}
        settings |= {"ipv4/conf/default/rp_filter": 0, "ipv4/conf/all/rp_filter": 0}
        if host == SWITCH:
            settings["ipv6/conf/default/disable_ipv6"] = 1
        self.configure(host, settings)

    def configure(self, host: str, settings: dict[str, int]) -> None:
        """Write kernel settings, named by their path under /proc/sys/net, on the host."""
        with inside(self.namespace(host)):
            for path, value in settings.items():
                Path("/proc/sys/net", path).write_text(str(value))

    def close(self) -> None:
        sweep(self.prefix)


def folder(prefix: str) -> Path:
    """A new scratch folder that `sweep` of the same prefix removes."""
    return Path(tempfile.mkdtemp(prefix=prefix))


def sweep(prefix: str) -> list[str]:
    """Kill what lives in namespaces of this prefix, delete these and their scratch folders."""
    if not prefix:
        raise LabError("a sweep needs a prefix, for example spl1234-")
    old = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
    try:
        names = sorted(path.name for path in NAMES.glob("*") if path.name.startswith(prefix))
        kill_in(names)
        for name in names:
            command("ip", "netns", "del", name)
        for path in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
            shutil.rmtree(path, ignore_errors=True)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old)
    return names


@contextlib.contextmanager
def tidy_when_told_to_end(tidy: Callable[[], None]) -> Iterator[None]:
    """SIGTERM and SIGHUP run `tidy`, then end the process as ever; SIGINT raises anyway."""

    def end(number: int, _frame: object) -> None:
        tidy()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    former = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.lab.netns", description=sweep.__doc__)
    parser.add_argument("--sweep", required=True, metavar="PREFIX")
    prefix = parser.parse_args().sweep
    try:
        require_root()
        for name in sweep(prefix):
            print(f"deleted {name}")
    except LabError as error:
        print(f"netns: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
