# SPDX-License-Identifier: GPL-2.0-or-later
"""An agent that is played: a socket that answers as it is told, in a thread of the test."""

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

TREE = Path(__file__).parents[2]
ENDING = {"HOME": "/", "PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "PYTHONPATH": str(TREE)}

Script = Callable[[dict[str, Any]], list[bytes]]
"""Request -> the lines that answer it."""


def line(ok: bool | None, text: str = "", detail: dict[str, Any] | None = None) -> bytes:
    """One line of an answer."""
    return json.dumps({"ok": ok, "text": text, "detail": detail or {}}).encode() + b"\n"


@contextmanager
def agent(run_dir: Path, script: Script) -> Iterator[list[dict[str, Any]]]:
    """Plays until the end of the block. Yields the requests that came."""
    heard: list[dict[str, Any]] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(run_dir / "agent.sock"))
        listener.listen()

        def serve() -> None:
            while True:
                try:
                    channel, _ = listener.accept()
                except OSError:
                    return
                with channel, channel.makefile("rb") as stream:
                    request = stream.readline()
                    if not request:
                        return
                    heard.append(json.loads(request))
                    with suppress(OSError):  # the caller may be gone
                        for answer in script(heard[-1]):
                            channel.sendall(answer)

        player = threading.Thread(target=serve)
        player.start()
        try:
            yield heard
        finally:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as last:
                last.connect(str(run_dir / "agent.sock"))
            player.join(10)
            assert not player.is_alive()


def standpipe(
    *args: str | Path, run_dir: Path | None = None, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    command = [sys.executable, "-c", "import sys; from agent.cli import main; sys.exit(main())"]
    command += [str(arg) for arg in args]
    if run_dir is not None:
        command += ["--run-dir", str(run_dir)]
    return subprocess.run(
        command,
        env=ENDING | (env or {}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
    )


def proof(name: str, state: str, age_s: int | None, detail: str) -> dict[str, Any]:
    """One of a group's proofs, of those that must be shown."""
    stands = {"name": name, "state": state, "weight": "shown", "detail": detail}
    return stands | {"age_s": age_s, "left_s": None}


STATUS: dict[str, Any] = {
    "version": 1,
    "node": "lon1",
    "cluster": "callcentre",
    "site": "london",
    "up_s": 273_600,
    "health": "degraded",
    "watch_only": False,
    "witness": False,
    "groups": [
        {
            "name": "sbc-london",
            "standby": "hot",
            "role": "active",
            "state": "active",
            "owner": "lon1",
            "epoch": 17,
            "ready": True,
            "why": "preferred, and nobody else is active",
            "addresses": ["10.1.0.100/24", "2001:db8:1::100/64"],
            "plain_peers": [],
            "exclusive": "segment",
            "lease": "",
            "step": "serving",
            "able": False,
            "sessions": None,
            "probation_s": None,
            "proofs": [],
            "services": [
                {
                    "name": "kamailio",
                    "state": "well",
                    "health": "up",
                    "restarts_left": 3,
                    "checks": [
                        {
                            "name": "sip udp://10.1.0.100:5060",
                            "health": "up",
                            "detail": "200 OK",
                            "age_s": 0.4,
                        },
                        {
                            "name": "tcp 127.0.0.1:5060",
                            "health": "up",
                            "detail": "accepted",
                            "age_s": 0.1,
                        },
                    ],
                },
                {
                    "name": "billing",
                    "state": "well",
                    "health": "degraded",
                    "restarts_left": 1,
                    "checks": [
                        {
                            "name": "http://127.0.0.1:8080/health",
                            "health": "down",
                            "detail": "503, wanted 2xx",
                            "age_s": 2.0,
                        }
                    ],
                },
            ],
        },
        {
            "name": "dialer",
            "standby": "cold",
            "role": "standby",
            "state": "backup",
            "owner": "lon2",
            "epoch": 4,
            "ready": False,
            "why": "probation: 12 s of 30 s",
            "addresses": [f"10.1.0.{n}/24" for n in range(101, 121)],
            "plain_peers": [],
            "exclusive": "lease",
            "lease": "refused",
            "step": "idle",
            "able": False,
            "sessions": None,
            "probation_s": None,
            "proofs": [
                proof("settings", "good", 4, "as it should be"),
                proof("status", "stale", 31, "is 31.2 s old; lon2 does not answer"),
                proof("licence", "good", 12, "500 channels") | {"left_s": 1_036_800},
                proof("ports", "unseen", None, "not shown yet"),
                proof("drift", "bad", 40, "/etc/dialer.conf edited here") | {"weight": "told"},
            ],
            "services": [],
        },
    ],
    "peers": [
        {
            "name": "lon2",
            "site": "london",
            "state": "alive",
            "witness": False,
            "groups": {
                "sbc-london": {"state": "backup", "ready": True, "able": False},
                "dialer": {"state": "active", "ready": True, "able": False},
            },
        },
        {"name": "par1", "site": "paris", "state": "silent", "witness": False, "groups": {}},
        {"name": "wit", "site": "dublin", "state": "alive", "witness": True, "groups": {}},
    ],
    "geos": [{"name": "voice", "site": "london", "epoch": 3, "arbiter": "manual"}],
    "devices": [{"name": "ups1", "health": "up", "detail": "on mains, 42 min, 100 %"}],
    "resources": [
        {
            "resource": "disk:/var",
            "value": 46_200_000_000,
            "limit": 50_000_000_000,
            "unit": "bytes",
            "pct": 92.4,
            "health": "degraded",
            "eta_s": 11_400,
            "eta_low_s": 9000,
            "eta_high_s": 18_000,
        },
        {
            "resource": "memory",
            "value": 3_100_000_000,
            "limit": 8_000_000_000,
            "unit": "bytes",
            "pct": 38.7,
            "health": "up",
            "eta_s": None,
            "eta_low_s": None,
            "eta_high_s": None,
        },
        {
            "resource": "cpu",
            "value": 12.0,
            "limit": 100,
            "unit": "pct",
            "pct": 12.0,
            "health": "up",
            "eta_s": None,
            "eta_low_s": None,
            "eta_high_s": None,
        },
        {
            "resource": "inodes:/mnt/nfs",
            "value": None,
            "limit": None,
            "unit": "count",
            "pct": None,
            "health": "unknown",
            "eta_s": None,
            "eta_low_s": None,
            "eta_high_s": None,
        },
    ],
    "alarms": [
        {
            "alarm_id": "service-down:service billing",
            "kind": "service-down",
            "subject": "service billing",
            "severity": "major",
            "text": "does not answer: 503",
            "since_s": 12,
        },
        {
            "alarm_id": "resource-filling:disk:/var",
            "kind": "resource-filling",
            "subject": "disk:/var",
            "severity": "warning",
            "text": "full in 3h 10m",
            "since_s": 740,
        },
        {
            "alarm_id": "node-lost:node par1",
            "kind": "node-lost",
            "subject": "node par1",
            "severity": "critical",
            "text": "silent on both paths",
            "since_s": 95,
        },
    ],
    "keeper": {"state": "alive", "beat_age_ms": 42, "counters": {"peer-key": 2}},
    "store": {"ok": True, "detail": ""},
    "maintenance": None,
    "config": {"digest": "3f1c2b" * 10, "problems": []},
}
