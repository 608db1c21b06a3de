# SPDX-License-Identifier: GPL-2.0-or-later
"""Carrying settings and status between two nodes on loopback, beside rsync.

`python -m tests.bench.carry [--files N] [--megabytes N] [--idle S]`. Both nodes are the carrying
of an agent alone, each in a process of its own, over TLS; rsync copies the same tree to another
folder, by a daemon on loopback, without encryption. Ages are taken on the standby: how old the
status is that it holds, by the time that is written in it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from agent.core.settings import CarriedSettings
from drivers import authority
from tests.bench.common import Row, as_installed, finish, load, p95, say
from tests.bench.memory import cpu_s, rollup_mb
from tests.consignment import Machine, free_port, settings_of

NODES = ("lon1", "lon2")
CARRIED = CarriedSettings(
    files=("/etc/app/",), status="/var/app/status.json", rate_bytes_s=1_000_000_000
)
COPY_LIMIT_S, CHANGE_LIMIT_S, AGE_LIMIT_S = 60.0, 0.3, 1.0
CHANGES = 20
STATUS_BYTES = 1_000_000
STATUS_S = 15.0
STATUS_A_SECOND = 10


def fill(tree: Path, files: int, size_bytes: int) -> None:
    """So many files of different lengths in folders of a hundred."""
    dice = random.Random(1)
    weights = [dice.uniform(0.2, 1.8) for _ in range(files)]
    for number, weight in enumerate(weights):
        home = tree / f"d{number // 100:03d}" / f"f{number:05d}"
        home.parent.mkdir(parents=True, exist_ok=True)
        home.write_bytes(dice.randbytes(int(size_bytes * weight / sum(weights))))


def node_process(folder: Path, name: str, port: int) -> int:
    """One node until it is told to stop; says in FOLDER/NAME.said how it stands."""

    async def run() -> None:
        settings = settings_of(NODES, name, port, CARRIED)
        machine = Machine(name, folder, settings, folder / f"pki-{name}")
        machine.serving = name == NODES[0]
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        machine.start()
        known = ""
        while not stop.is_set():
            word = machine.said[-1] if machine.said else None
            said = json.dumps([word.settings_ok, word.detail] if word else [None, ""])
            if said != known:
                known = said
                (folder / f"{name}.new").write_text(said)
                (folder / f"{name}.new").replace(folder / f"{name}.said")
            del machine.said[:-1]
            with suppress(TimeoutError):
                async with asyncio.timeout(0.5):
                    await stop.wait()
        await machine.stop()

    asyncio.run(run())
    return 0


@contextmanager
def node(folder: Path, name: str, port: int) -> Iterator[subprocess.Popen[bytes]]:
    argv = [sys.executable, "-m", "tests.bench.carry", "--node", name]
    process = subprocess.Popen([*argv, "--folder", str(folder), "--port", str(port)])
    try:
        yield process
    finally:
        process.terminate()
        process.wait(20)


def wait(what: str, met: Callable[[], bool], within_s: float = 120.0) -> float:
    """Seconds until it is so."""
    began_s = time.monotonic()
    while not met():
        if time.monotonic() - began_s > within_s:
            raise TimeoutError(f"{what}: not within {within_s:g} s")
        time.sleep(0.002)
    return time.monotonic() - began_s


def equal(folder: Path, files: int) -> bool:
    """The standby says that what it has is what the primary has, and it has it."""
    with suppress(OSError, ValueError):
        if json.loads((folder / "lon2.said").read_text())[0] is True:
            return sum(len(f) for _, _, f in os.walk(folder / "lon2/etc/app")) == files
    return False


def change_times(folder: Path) -> list[float]:
    """Of a small file, until the standby's own file is the new one."""
    ours, theirs = (folder / name / "etc/app/d000/changed" for name in NODES)
    found = []
    for number in range(CHANGES):
        text = f"change {number}"
        aside = ours.with_name(".changed")
        aside.write_text(text)
        began_s = time.monotonic()
        aside.replace(ours)

        def arrived(wanted: str = text) -> bool:
            return theirs.exists() and theirs.read_text() == wanted

        wait("a change", arrived, 20)
        found.append(time.monotonic() - began_s)
        time.sleep(0.3)
    return found


def status_ages(folder: Path) -> list[float]:
    """How old the standby's status is, each 20 ms, while it is written 10 times a second."""
    home = folder / "lon1/var/app/status.json"
    shelf = folder / "lon2-state/carried/sbc/status"
    padding = "x" * (STATUS_BYTES - 100)
    ages, due_s = [], time.monotonic()
    until_s = due_s + STATUS_S
    while (now_s := time.monotonic()) < until_s:
        if now_s >= due_s:
            due_s += 1 / STATUS_A_SECOND
            home.with_suffix(".new").write_text(f"{time.monotonic():020.6f}{padding}")
            home.with_suffix(".new").replace(home)
        with suppress(OSError, ValueError):
            said = json.loads((shelf / "fresh.json").read_text())["snapshot"]
            with (shelf / f"{said['entry']['sha256']}.content").open() as content:
                age_s = time.monotonic() - float(content.read(20))
            if now_s > until_s - STATUS_S + 1:
                ages.append(age_s)
        time.sleep(0.02)
    return ages


def rsync_copy(source: Path, folder: Path) -> float | None:
    """Seconds for the same tree by rsync's daemon on loopback; None where there is no rsync."""
    if shutil.which("rsync") is None:
        return None
    port, target = free_port(), folder / "rsynced"
    target.mkdir()
    conf = folder / "rsyncd.conf"
    conf.write_text(
        f"use chroot = no\nuid = 0\ngid = 0\n[tree]\npath = {source}\nread only = yes\n"
    )
    argv = ["rsync", "--daemon", "--no-detach", f"--config={conf}", f"--port={port}"]
    daemon = subprocess.Popen([*argv, "--address=127.0.0.1"])
    try:
        fetch = ["rsync", "-a", "--fsync", f"rsync://127.0.0.1:{port}/tree/", f"{target}/"]
        until_s = time.monotonic() + 10
        while subprocess.run(fetch[:1] + fetch[3:4], capture_output=True).returncode:
            if time.monotonic() > until_s:
                return None
            time.sleep(0.1)
        began_s = time.monotonic()
        subprocess.run(fetch, check=True)
        return time.monotonic() - began_s
    finally:
        daemon.terminate()
        daemon.wait(10)


def rows(options: argparse.Namespace, folder: Path) -> list[Row]:
    port = free_port()
    authority.make_ca(folder / "ca", "lab")
    for name in NODES:
        shutil.copytree(folder / "ca", folder / f"pki-{name}")
        authority.issue(folder / f"pki-{name}", "lab", name)
        (folder / name / "var/app").mkdir(parents=True)
        (folder / name / "etc/app").mkdir(parents=True)
    fill(folder / "lon1/etc/app", options.files, options.megabytes * 1_000_000)
    os.sync()
    say("initial copy")
    with ExitStack() as stack:
        one = stack.enter_context(node(folder, "lon1", port))
        two = stack.enter_context(node(folder, "lon2", port))
        copy_s = wait("the initial copy", lambda: equal(folder, options.files), 300)
        spent = [cpu_s([process.pid]) for process in (one, two)]
        os.sync()  # not the disk's work for the copy
        say(f"changes of one file of {options.files}")
        changes = change_times(folder)
        say("a status of 1 MB, ten times a second")
        before = [cpu_s([process.pid]) for process in (one, two)]
        ages = status_ages(folder)
        busy = [cpu_s([p.pid]) - b for p, b in zip((one, two), before, strict=True)]
        say(f"at rest for {options.idle:g} s")
        time.sleep(5)
        before = [cpu_s([process.pid]) for process in (one, two)]
        time.sleep(options.idle)
        idle = [
            (cpu_s([p.pid]) - b) * 60 / options.idle
            for p, b in zip((one, two), before, strict=True)
        ]
        memory = [rollup_mb([process.pid])[1] for process in (one, two)]
    say("rsync")
    rsync_s = rsync_copy(folder / "lon1/etc/app", folder)
    what = f"{options.files} files, {options.megabytes} MB"
    return [
        Row(f"initial copy, {what}", copy_s, rsync_s, "s", COPY_LIMIT_S),
        Row("its CPU, primary", spent[0], None, "s"),
        Row("its CPU, standby", spent[1], None, "s"),
        Row("one file changed, seen: median", statistics.median(changes), None, "s"),
        Row("one file changed, seen: worst", max(changes), None, "s", CHANGE_LIMIT_S),
        Row("status on the standby, age: median", statistics.median(ages), None, "s"),
        Row("status on the standby, age: p95", p95(ages), None, "s"),
        Row("status on the standby, age: worst", max(ages), None, "s", AGE_LIMIT_S),
        Row("CPU while it changes, primary", busy[0] * 60 / STATUS_S, None, "s/min"),
        Row("CPU while it changes, standby", busy[1] * 60 / STATUS_S, None, "s/min"),
        Row("CPU at rest, primary", idle[0], None, "s/min"),
        Row("CPU at rest, standby", idle[1], None, "s/min"),
        Row("RSS, primary", memory[0], None, "MB"),
        Row("RSS, standby", memory[1], None, "MB"),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.carry", description=__doc__)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("--idle", type=float, default=20.0, metavar="S")
    for name in ("node", "folder", "port"):
        parser.add_argument(f"--{name}", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.node:
        return node_process(Path(options.folder), options.node, int(options.port))
    as_installed()
    say(f"load average {load()} at the start")
    try:
        with tempfile.TemporaryDirectory(prefix="standpipe-carry-") as folder:
            found = rows(options, Path(folder))
    except TimeoutError as error:
        print(f"bench carry: {error}", file=sys.stderr)
        return 1
    remarks = [
        "ours: two processes, TLS 1.3, contents kept twice on each node (shelf and place), on disk",
        "rsync: one way, in the clear, --fsync, from the same tree to another folder",
    ]
    found = [replace(row, ours=round(row.ours, 3)) for row in found if row.ours is not None]
    return finish("carry", found, "rsync", remarks)


if __name__ == "__main__":
    sys.exit(main())
