# SPDX-License-Identifier: GPL-2.0-or-later
"""Two SIP servers as patients: Kamailio, a proxy, and a B2BUA whose calls live in its process.

Each runs on the node under any address of the group, held here or not (ip_nonlocal_bind), and is
started, stopped and asked by commands, as an operator's would be.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.lab.netns import LabError, processes_in, wait_until
from tests.lab.world import Node

SIP_PORT, CARRIER_PORT, CALLS_PORT = 5060, 5080, 8088
B2BUA = Path(__file__).with_name("sip_b2bua.py")

# $1: start stop status. @RUN@ must go into the background by itself once it serves.
CONTROL = """#!/bin/sh
pid_file=@PID_FILE@
pid=$(cat "$pid_file" 2>/dev/null)
runs() { [ -n "$pid" ] && grep -qs '^State:.[^ZX]' "/proc/$pid/status"; }
case $1 in
start)
    runs && exit 0
    rm -f "$pid_file"
    exec @RUN@ ;;
stop)
    runs || exit 0
    kill -TERM "$pid"
    for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
        runs || exit 0
        sleep 0.1
    done
    kill -KILL -- "-$(ps -o pgid= -p "$pid" | tr -d ' ')" ;;
status)
    runs || exit 3 ;;
esac
"""

# Stateful, record-routing, two workers a socket; new calls go to the carrier.
KAMAILIO = """debug=1
log_stderror=no
children=2
disable_tcp=yes
auto_aliases=no
dns=no
rev_dns=no
listen=udp:@VIP@:@PORT@
listen=udp:@OWN@:@PORT@
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "rr.so"
loadmodule "pv.so"
loadmodule "maxfwd.so"
loadmodule "siputils.so"
loadmodule "textops.so"
request_route {
    if (!mf_process_maxfwd_header("10")) {
        sl_send_reply("483", "Too Many Hops");
        exit;
    }
    if (is_method("OPTIONS") && uri==myself) {
        sl_send_reply("200", "OK");
        exit;
    }
    if (has_totag()) {
        if (loose_route()) t_relay();
        else if (!is_method("ACK")) sl_send_reply("404", "Not Here");
        exit;
    }
    if (is_method("CANCEL")) {
        if (t_check_trans()) t_relay();
        exit;
    }
    t_check_trans();
    record_route();
    $du = "sip:@CARRIER@";
    t_relay();
}
"""


class SipServer:
    """One server on one node. `floating`: the group's address; `carrier`: host:port."""

    def __init__(self, node: Node, floating: str, carrier: str) -> None:
        self.node, self.floating, self.carrier = node, floating, carrier
        self.pid_file = node.run_folder / "sip.pid"
        self.control = node.state_folder / "sipctl"
        run = shlex.join(self.argv())
        text = CONTROL.replace("@PID_FILE@", str(self.pid_file)).replace("@RUN@", run)
        self.control.write_text(text)
        self.control.chmod(0o755)

    def argv(self) -> Sequence[str]:
        """Starts it, and ends when it serves."""
        raise NotImplementedError

    def owns(self, words: Sequence[str]) -> bool:
        """Whether the command line is one of its processes."""
        raise NotImplementedError

    def command(self, action: str) -> str:
        """For a configuration: start, stop or status."""
        return f"{self.control} {action}"

    def tell(self, action: str) -> None:
        done = self.node.run(str(self.control), action, check=False)
        if done.returncode:
            said = done.stdout + done.stderr
            raise LabError(f"sip server on {self.node.name}: {action}: {done.returncode} {said}")

    def pids(self) -> set[int]:
        """All of its processes that are alive, awake or not."""
        found = set()
        for pid in processes_in([self.node.namespace]):
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
                if self.owns(words):
                    found.add(pid)
        return found

    def signal(self, pids: set[int], number: signal.Signals) -> None:
        """At one instant, as near as one process can; those that have gone are left out."""
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def main_pid(self) -> int:
        """Once it is written, which it is before it serves."""
        wait_until(lambda: self.pid_file.exists() and self.pid_file.read_text(), "a pid is there")
        return int(self.pid_file.read_text())


class Kamailio(SipServer):
    """Debian's: a stateful relay that stays in the path of its calls."""

    def argv(self) -> Sequence[str]:
        node, configuration = self.node, self.node.state_folder / "kamailio.cfg"
        own = {"VIP": self.floating, "OWN": node.address, "CARRIER": self.carrier}
        text = KAMAILIO
        for key, value in (own | {"PORT": str(SIP_PORT)}).items():
            text = text.replace(f"@{key}@", value)
        configuration.write_text(text)
        argv = ["kamailio", "-f", str(configuration), "-P", str(self.pid_file)]
        return [*argv, "-Y", str(node.run_folder), "-m", "32", "-M", "4"]

    def owns(self, words: Sequence[str]) -> bool:
        return words[0] == "kamailio"


class B2bua(SipServer):
    """The laboratory's own; new calls at the floating address, dialogs at the node's own."""

    def argv(self) -> Sequence[str]:
        argv = [sys.executable, str(B2BUA), "--floating", f"{self.floating}:{SIP_PORT}"]
        argv += ["--own", f"{self.node.address}:{SIP_PORT}", "--carrier", self.carrier]
        return [*argv, "--calls-port", str(CALLS_PORT), "--pid-file", str(self.pid_file)]

    def owns(self, words: Sequence[str]) -> bool:
        return len(words) > 1 and words[1] == str(B2BUA)
