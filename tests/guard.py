# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs one module so that nothing outlives it, no process and no network namespace.

`python -m tests.guard [--within SECONDS] MODULE [ARGUMENT...]`; the exit status is the module's,
124 when it took too long. Orphans come to the guard because it is a child subreaper (prctl(2)),
so it knows every process that the run ever started, however the run ends; the laboratory's
namespaces and links are known by their names, `spl` + process id + `-`.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
TEARDOWN_S = 20.0
OVERTIME_STATUS = 124  # as timeout(1)
NETNS_DIR = Path("/run/netns")
OURS = re.compile(r"spl(\d+)-")


def main(argv: list[str]) -> int:
    """Run the module that argv names; its status, or 128 + signal when it was told to stop."""
    arguments = parse_arguments(argv)
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    prctl(PR_SET_PDEATHSIG, signal.SIGTERM)  # a killed make must not leave the run behind
    sweep(stale_prefixes())
    watch = Watch(arguments.within)
    run = subprocess.Popen(
        [sys.executable, "-m", *arguments.module],
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=lambda: prctl(PR_SET_PDEATHSIG, signal.SIGKILL),
    )
    status = watch.wait(run)
    left = kill_descendants()
    left += sweep([f"spl{run.pid}-", *stale_prefixes()])
    if left and watch.told_to_stop is None:
        print(f"guard: the run left these behind, now gone: {', '.join(left)}", file=sys.stderr)
    return status


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.guard", description=__doc__)
    parser.add_argument("--within", type=float, default=600.0, metavar="SECONDS")
    parser.add_argument("module", nargs=argparse.REMAINDER, metavar="MODULE [ARGUMENT...]")
    arguments = parser.parse_args(argv)
    if not arguments.module:
        parser.error("name the module to run, for example: python -m tests.guard pytest tests/core")
    return arguments


def prctl(option: int, value: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}, {value})")


class Watch:
    """Waits for the run; a signal or overtime interrupts it, a second one or slowness kills it."""

    def __init__(self, within_s: float) -> None:
        self.within_s = within_s
        self.deadline_s = time.monotonic() + within_s
        self.told_to_stop: int | None = None
        self.kill_now = False
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._stop)

    def _stop(self, number: int, _frame: FrameType | None) -> None:
        self.kill_now = self.told_to_stop is not None
        self.told_to_stop = self.told_to_stop or number

    def wait(self, run: subprocess.Popen[bytes]) -> int:
        overtime = False
        while run.poll() is None and self.told_to_stop is None and not overtime:
            time.sleep(0.02)
            reap(all_but=run.pid)
            overtime = time.monotonic() > self.deadline_s
        if overtime:
            print(f"guard: not done within {self.within_s:.0f} s, stopping it", file=sys.stderr)
        if run.poll() is None:
            self._interrupt(run)
        if overtime:
            return OVERTIME_STATUS
        if self.told_to_stop is not None:
            return 128 + self.told_to_stop
        return run.returncode if run.returncode >= 0 else 128 - run.returncode

    def _interrupt(self, run: subprocess.Popen[bytes]) -> None:
        run.send_signal(signal.SIGINT)  # what pytest tears its fixtures down for
        patience_s = time.monotonic() + TEARDOWN_S
        while run.poll() is None and not self.kill_now and time.monotonic() < patience_s:
            time.sleep(0.02)
        if run.poll() is None:
            run.kill()
            run.wait()


def kill_descendants() -> list[str]:
    """Kill and reap every process that the run left, until none is there; their command names."""
    left: list[str] = []
    deadline_s = time.monotonic() + 10.0
    while (found := descendants(os.getpid())) and time.monotonic() < deadline_s:
        for pid, name, state in found:
            if state != "Z":
                left.append(f"{name}[{pid}]")
                kill(pid)
        reap()
        time.sleep(0.01)
    return list(dict.fromkeys(left))


def descendants(root: int) -> list[tuple[int, str, str]]:
    """(pid, command name, state letter) of all below root, parents first; proc(5), stat."""
    children: dict[int, list[tuple[int, str, str]]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                head, _, tail = (entry / "stat").read_text().rpartition(")")
            except OSError:
                continue  # ended meanwhile
            state, parent = tail.split()[:2]
            name = head.partition("(")[2]
            children.setdefault(int(parent), []).append((int(entry.name), name, state))
    below = list(children.get(root, []))
    for pid, _, _ in below:  # grows while it is read
        below.extend(children.get(pid, []))
    return below


def kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def reap(all_but: int = 0) -> None:
    """Collect the dead, so that "is it gone?" has a true answer; not the one Popen waits for."""
    try:
        while seen := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            if seen.si_pid == all_but:
                return
            os.waitpid(seen.si_pid, 0)
    except ChildProcessError:
        return


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def stale_prefixes() -> list[str]:
    """Prefixes of namespaces and links whose run is no more: the guard itself was killed."""
    names = [match for name in names_here() if (match := OURS.match(name))]
    return sorted({m.group() for m in names if not alive(int(m.group(1)))})


def names_here() -> list[str]:
    spaces = [space.name for space in NETNS_DIR.iterdir()] if NETNS_DIR.is_dir() else []
    return spaces + os.listdir("/sys/class/net")


def sweep(prefixes: list[str]) -> list[str]:
    """Remove namespaces so named, who lives in them, and such links; says what is gone."""
    removed = []
    for name in names_here():
        if not name.startswith(tuple(prefixes)):
            continue
        space = NETNS_DIR / name
        if space.exists():
            for pid in inhabitants(space.stat().st_ino):
                kill(pid)
        kind = "netns" if space.exists() else "link"
        if subprocess.run(["ip", kind, "delete", name], capture_output=True).returncode == 0:
            removed.append(f"{kind} {name}")
    return removed


def inhabitants(netns_inode: int) -> list[int]:
    """Processes whose network namespace has this inode number; namespaces(7)."""
    pids = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if (entry / "ns/net").stat().st_ino == netns_inode:
                    pids.append(int(entry.name))
            except OSError:
                continue  # ended meanwhile
    return pids


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
