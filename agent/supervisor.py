# SPDX-License-Identifier: GPL-2.0-or-later
"""`standpipe run`: starts the keeper and the agent, and starts again what ends.

For the lab, the demo and machines without systemd, where two units do this. It decides nothing:
told to stop, it tells the keeper first, so that addresses are handed over before all else. When it
dies its children see their lifeline end and do the same by themselves.
"""

import argparse
import os
import selectors
import signal
import subprocess
import sys
import time

from agent.places import LIFELINE, arguments

SLOWEST_RESTART_S = 5.0
FIRST_RESTART_S = 0.05
SETTLED_S = 2.0  # one that lived so long was at work: its address must not wait
STOP_WITHIN_S = 4.0


class Child:
    """One of the pair."""

    def __init__(self, name: str, argv: list[str], lifeline: int) -> None:
        self.name = name
        self.process: subprocess.Popen[bytes] | None = None
        self.due_s = 0.0
        self._argv = argv
        self._lifeline = lifeline
        self._began_s = 0.0
        self._wait_s = FIRST_RESTART_S

    def start(self) -> None:
        """Now."""
        self._began_s = time.monotonic()
        environment = {**os.environ, LIFELINE: str(self._lifeline)}
        self.process = subprocess.Popen(self._argv, env=environment, pass_fds=(self._lifeline,))

    def reap(self) -> bool:
        """True once it has ended; it is then due to be started again, slower if it ends at once."""
        if self.process is None or self.process.poll() is None:
            return False
        code = self.process.returncode
        lived_s = time.monotonic() - self._began_s
        self._wait_s = (
            FIRST_RESTART_S if lived_s > SETTLED_S else min(SLOWEST_RESTART_S, self._wait_s * 2)
        )
        self.process = None
        self.due_s = time.monotonic() + (0.0 if code == 0 and lived_s > 1 else self._wait_s)
        if code:
            how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
            say(f"the {self.name} ended {how}: starting it again")
        return True

    def stop(self, within_s: float) -> None:
        """SIGTERM, then SIGKILL."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            say(f"the {self.name} did not stop in {within_s:.0f} s: killing it")
            self.process.kill()
            self.process.wait()


def say(text: str) -> None:
    """For whoever runs it in the foreground."""
    print(f"standpipe: {text}", file=sys.stderr, flush=True)


def prepare(options: argparse.Namespace) -> bool:
    """Check the configuration and forge the kit, in a process that ends; False: it was refused."""
    options.run_dir.mkdir(parents=True, exist_ok=True)
    options.state_dir.mkdir(parents=True, exist_ok=True)
    argv = [sys.executable, "-m", "agent.prepare", *arguments(options)]
    return subprocess.run(argv, check=False).returncode == 0


def main(options: argparse.Namespace) -> int:
    """Until SIGTERM or SIGINT."""
    if not prepare(options):
        return 1
    lifeline, held = os.pipe()
    os.set_inheritable(held, False)
    wake, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    heard: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, lambda signum, _: heard.append(signum))
    signal.set_wakeup_fd(wake_write)
    command = [sys.executable, "-m", "agent.cli"]
    places = arguments(options)
    children = [
        Child("keeper", [*command, "keeper", *places], lifeline),
        Child("agent", [*command, "agent", *places], lifeline),
    ]
    for child in children:
        child.start()
    _mind(children, heard, wake)
    say("stopping: handing over what is held here")
    children[0].stop(STOP_WITHIN_S)
    children[1].stop(STOP_WITHIN_S)
    return 0


def _mind(children: list[Child], heard: list[int], wake: int) -> None:
    """Start again what ends, until told to stop."""
    with selectors.DefaultSelector() as selector:
        selector.register(wake, selectors.EVENT_READ)
        while signal.SIGTERM not in heard and signal.SIGINT not in heard:
            waiting = [child.due_s for child in children if child.process is None]
            wait_s = max(0.0, min(waiting) - time.monotonic()) if waiting else None
            if selector.select(wait_s):
                os.read(wake, 64)
            agent = children[1].process
            if signal.SIGHUP in heard and agent is not None:
                agent.send_signal(signal.SIGHUP)
            heard[:] = [n for n in heard if n in (signal.SIGTERM, signal.SIGINT)]
            for child in children:
                child.reap()
                if child.process is None and time.monotonic() >= child.due_s and not heard:
                    child.start()
