# SPDX-License-Identifier: GPL-2.0-or-later
"""`standpipe status`: what it shows, how it ends, how little it needs."""

import argparse
import json
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from agent.cli_socket import Unanswered, ask
from tests.cli.playing import ENDING, STATUS, agent, line, proof, standpipe
from tests.cli.terminal import Terminal

HEAVY = {
    *("asyncio", "tomllib", "logging", "subprocess", "ssl", "sqlite3", "pathlib", "dataclasses"),
    *("pysnmp", "scapy", "pyroute2", "dns", "psutil", "jeepney", "cryptography", "rich"),
    *("agent.config", "agent.core", "agent.core.settings", "agent.wiring", "drivers"),
}


def answering(detail: dict[str, Any]) -> Any:
    return lambda request: [line(True, "", detail)]


@pytest.mark.parametrize(
    ("health", "code"), [("up", 0), ("down", 1), ("degraded", 2), ("unknown", 2), ("odd", 1)]
)
def test_the_exit_status_is_the_health(tmp_path: Path, health: str, code: int) -> None:
    with agent(tmp_path, answering(STATUS | {"health": health})) as heard:
        ended = standpipe("status", run_dir=tmp_path)
    assert (ended.returncode, ended.stderr) == (code, "")
    assert heard == [{"v": 1, "verb": "status", "args": {}}]


def test_alarms_come_first_the_worst_on_top(tmp_path: Path) -> None:
    with agent(tmp_path, answering(STATUS)):
        lines = standpipe("status", run_dir=tmp_path).stdout.splitlines()
    assert lines[0] == "lon1  london of callcentre  DEGRADED  agent up 3d 4h"
    assert [text.split()[0] for text in lines[2:5]] == ["CRITICAL", "MAJOR", "WARNING"]
    assert lines[2].split("  ")[-2:] == ["silent on both paths", "(node-lost)"]


def test_a_group_shows_who_has_it_and_who_could(tmp_path: Path) -> None:
    with agent(tmp_path, answering(STATUS)):
        lines = standpipe("status", run_dir=tmp_path).stdout.splitlines()
    assert (
        "sbc-london  active   active  lon1   17     hot      10.1.0.100/24 2001:db8:1::100/64"
        in lines
    )
    assert "  ● lon1 active   ○ lon2 backup, ready   preferred, and nobody else is active" in lines
    assert "  ○ lon1 backup, not ready   ● lon2 active   probation: 12 s of 30 s" in lines
    assert "      http://127.0.0.1:8080/health: 503, wanted 2xx  (2s ago)" in lines
    assert any(text.endswith("10.1.0.103/24 and 17 more") for text in lines)


def test_a_plain_peer_that_has_a_group_is_named(tmp_path: Path) -> None:
    plain = {"owner": "10.1.0.9", "plain_peers": ["10.1.0.9"], "role": "standby"}
    group = STATUS["groups"][0] | plain | {"state": "backup", "why": ""}
    with agent(tmp_path, answering(STATUS | {"groups": [group]})):
        lines = standpipe("status", run_dir=tmp_path).stdout.splitlines()
    (row,) = [text for text in lines if text.startswith("sbc-london")]
    assert row.split()[:4] == ["sbc-london", "standby", "backup", "10.1.0.9"]
    (nodes,) = [text for text in lines if "plain peer" in text]
    assert nodes.endswith("   ● plain peer 10.1.0.9 has it")
    assert nodes.startswith("  ○ lon1 backup, ready")


def test_a_plain_peer_that_does_not_have_it_is_not_shown_as_if(tmp_path: Path) -> None:
    group = STATUS["groups"][0] | {"plain_peers": ["10.1.0.9"]}
    with agent(tmp_path, answering(STATUS | {"groups": [group]})):
        assert "plain peer" not in standpipe("status", run_dir=tmp_path).stdout


def shown(folder: Path, group: dict[str, Any], *more: str) -> list[str]:
    """The status of a cold group of lon1's, as lines."""
    detail = STATUS | {"groups": [STATUS["groups"][1] | group]}
    with agent(folder, answering(detail)):
        return standpipe("status", *more, run_dir=folder).stdout.splitlines()


def test_a_standby_says_what_is_not_proved_of_it(tmp_path: Path) -> None:
    lines = shown(tmp_path, {})
    at = lines.index("  lease refused: no majority gives it")
    assert lines[at + 1 : at + 4] == [
        "  ◐ status  stale   31s ago  is 31.2 s old; lon2 does not answer",
        "  ? ports   unseen           not shown yet",
        "  ✗ drift   bad     40s ago  /etc/dialer.conf edited here; people are told, it may serve"
        " all the same",
    ]


def test_verbose_shows_every_proof_with_its_age_and_its_end(tmp_path: Path) -> None:
    lines = shown(tmp_path, {}, "-v")
    assert "  ● settings  good    4s ago   as it should be" in lines
    assert "  ● licence   good    12s ago  500 channels; ends in 12d 0h" in lines


def test_a_licence_that_has_ended_says_so(tmp_path: Path) -> None:
    ended = {"proofs": [proof("licence", "bad", 1, "") | {"left_s": -5}]}
    assert "  ✗ licence  bad  1s ago  has ended" in shown(tmp_path, ended)


def test_a_cold_standby_that_could_be_started_is_not_called_unready(tmp_path: Path) -> None:
    peer = STATUS["peers"][0] | {"groups": {"dialer": {"state": "backup", "able": True}}}
    group = STATUS["groups"][1] | {"able": True, "owner": "lon3", "why": ""}
    with agent(tmp_path, answering(STATUS | {"groups": [group], "peers": [peer]})):
        lines = standpipe("status", run_dir=tmp_path).stdout.splitlines()
    assert "  ○ lon1 backup, ready to start   ○ lon2 backup, ready to start" in lines


@pytest.mark.parametrize(
    ("group", "told"),
    [
        ({"step": "starting", "exclusive": "lease", "lease": "held"}, "  → starting   lease held"),
        (
            {"step": "claiming", "exclusive": "lease", "lease": "asked"},
            "  → claiming   lease asked for",
        ),
        ({"step": "draining", "sessions": 1}, "  → draining   1 session up"),
        ({"step": "draining", "sessions": 12}, "  → draining   12 sessions up"),
        ({"step": "draining", "sessions": None}, "  → draining   sessions: not known how many"),
        ({"step": "idle", "sessions": 3}, "  3 sessions up"),
        ({"step": "serving", "exclusive": "fence", "lease": "held"}, "  lease held"),
        ({"exclusive": "fence", "lease": ""}, "  no lease"),
        ({"exclusive": "lease", "lease": "lost"}, "  LEASE LOST: stopped here"),
        (
            {"role": "probation", "probation_s": 83},
            "  probation: 1m 23s of good health to go",
        ),
    ],
)
def test_what_a_group_is_about_is_said(tmp_path: Path, group: dict[str, Any], told: str) -> None:
    lines = shown(tmp_path, {"exclusive": "segment", "proofs": []} | group)
    assert told in lines


@pytest.mark.parametrize("step", ["idle", "serving", ""])
def test_a_group_at_rest_has_no_line_for_it(tmp_path: Path, step: str) -> None:
    group = {"exclusive": "segment", "lease": "", "proofs": [], "probation_s": 30, "step": step}
    lines = shown(tmp_path, group | {"sessions": 0})
    at = next(place for place, text in enumerate(lines) if "lon1 backup" in text)
    assert lines[at + 1] == ""


def test_a_witness_is_known_as_one(tmp_path: Path) -> None:
    bare = STATUS | {"node": "wit", "witness": True, "watch_only": True, "groups": []}
    with agent(tmp_path, answering(bare)):
        lines = standpipe("status", run_dir=tmp_path).stdout.splitlines()
    assert lines[0].endswith("a witness: it votes, and serves nothing")
    assert "● peer    wit    alive  dublin  a witness: it only votes" in lines


def test_an_interface_that_is_cut_off_is_shown_at_the_end(tmp_path: Path) -> None:
    senses = {"eth0": "deaf", "eth1": "well", "eth2": "unanswered"}
    with agent(tmp_path, answering(STATUS | {"senses": senses})):
        foot = standpipe("status", run_dir=tmp_path).stdout.splitlines()[-1]
    assert "eth0 deaf  eth2 unanswered" in foot
    assert "eth1" not in foot


def test_a_resource_has_a_bar_and_the_time_that_is_left(tmp_path: Path) -> None:
    with agent(tmp_path, answering(STATUS)):
        lines = standpipe("status", run_dir=tmp_path).stdout.splitlines()
    (disk,) = [text for text in lines if text.startswith("disk:/var")][-1:]
    assert re.sub(" +", " ", disk) == (
        "disk:/var ██████████████████▌░ 92% 43.0G of 46.6G exhausted in 3h 10m (2h 30m to 5h 00m)"
    )
    (unknown,) = [text for text in lines if text.startswith("inodes:/mnt/nfs")]
    assert unknown.endswith("?")


def test_resources_that_are_well_are_only_all_shown_when_asked(tmp_path: Path) -> None:
    well = [STATUS["resources"][1] | {"resource": f"disk:/srv/{n}"} for n in range(40)]
    with agent(tmp_path, answering(STATUS | {"resources": [*well, STATUS["resources"][0]]})):
        short = standpipe("status", run_dir=tmp_path).stdout
        full = standpipe("status", "--all", run_dir=tmp_path).stdout
    assert short.count("disk:/srv/") == 12
    assert "28 more are well: --all shows them" in short
    assert full.count("disk:/srv/") == 40


def test_an_agent_that_only_watches_has_no_empty_tables(tmp_path: Path) -> None:
    bare = {"version": 1, "node": "", "health": "up", "watch_only": True, "up_s": 5}
    bare |= {"cluster": "web7", "groups": [], "resources": []}
    with agent(tmp_path, answering(bare)):
        ended = standpipe("status", run_dir=tmp_path)
    assert ended.stdout == (
        "web7  UP  agent up 5s  "
        "only watching: `standpipe init` writes a configuration to start from\n"
    )


def test_what_is_not_as_it_should_be_is_said_at_the_end(tmp_path: Path) -> None:
    detail = STATUS | {
        "store": {"ok": False, "detail": "disk full"},
        "config": {"digest": "ab" * 32, "problems": ["standpipe.toml:3: x = 1: unknown key"]},
        "maintenance": {"until_s": 5400, "by": "root (uid 0)"},
    }
    with agent(tmp_path, answering(detail)):
        lines = standpipe("status", run_dir=tmp_path).stdout.splitlines()
    assert lines[0].endswith("MAINTENANCE for 1h 30m more, by root (uid 0)")
    assert "STORE: disk full" in lines[-3]
    assert lines[-1] == "  standpipe.toml:3: x = 1: unknown key"


def test_json_is_what_the_agent_said(tmp_path: Path) -> None:
    with agent(tmp_path, answering(STATUS)):
        ended = standpipe("status", "--json", run_dir=tmp_path)
    assert json.loads(ended.stdout) == STATUS
    assert ended.returncode == 2


def test_without_an_agent_it_says_what_to_do(tmp_path: Path) -> None:
    ended = standpipe("status", run_dir=tmp_path)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith(f"standpipe: {tmp_path}/agent.sock: no agent is running there; ")
    assert "systemctl start standpipe" in ended.stderr
    as_json = standpipe("status", "--json", run_dir=tmp_path)
    assert as_json.returncode == 1
    assert json.loads(as_json.stdout)["health"] == "unknown"


def test_a_socket_that_nobody_listens_on_is_no_agent(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left_over:
        left_over.bind(str(tmp_path / "agent.sock"))
    assert "no agent is running there" in standpipe("status", run_dir=tmp_path).stderr


def test_a_folder_name_that_is_too_long_for_a_socket(tmp_path: Path) -> None:
    ended = standpipe("status", run_dir=tmp_path / ("x" * 120))
    assert ended.returncode == 1
    assert "choose a shorter --run-dir" in ended.stderr


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"", "hung up before its last word"),
        (b'{"ok": nu', "hung up before its last word"),
        (b"hello\n", "the answer is not understood"),
        (b"[]\n", "the answer is not understood"),
        (b'{"text": "x"}\n', "the answer is not understood"),
        (line(False, "still starting; ask again in a second"), "still starting; ask again"),
    ],
)
def test_half_an_answer_is_none(tmp_path: Path, answer: bytes, expected: str) -> None:
    with agent(tmp_path, lambda request: [answer]):
        ended = standpipe("status", run_dir=tmp_path)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert expected in ended.stderr


def test_an_agent_that_hangs_is_not_waited_for(tmp_path: Path) -> None:
    options = argparse.Namespace(run_dir=str(tmp_path))
    over = threading.Event()

    def hang(request: dict[str, Any]) -> list[bytes]:
        over.wait(30)
        return []

    with agent(tmp_path, hang):
        with pytest.raises(Unanswered, match=r"silent for 0\.1 s") as unanswered:
            ask(options, "status", {}, within_s=0.1)
        assert unanswered.value.sent
        over.set()


def test_names_cannot_steer_the_terminal(tmp_path: Path) -> None:
    device = {"name": "ups\x1b]0;owned\x07", "health": "up", "detail": "a\nb\u202ec"}
    with agent(tmp_path, answering(STATUS | {"devices": [device]})):
        ended = standpipe("status", run_dir=tmp_path)
    assert "ups?]0;owned?" in ended.stdout
    assert "a b?c" in ended.stdout


def test_a_terminal_without_unicode_is_drawn_in_ascii(tmp_path: Path) -> None:
    with agent(tmp_path, answering(STATUS | {"node": "zürich"})):
        ended = standpipe("status", run_dir=tmp_path, env={"PYTHONIOENCODING": "ascii"})
    assert ended.stdout.isascii()
    assert ended.stdout.startswith("z?rich")
    assert "##################=." in ended.stdout


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    many = [STATUS["resources"][0] | {"resource": f"disk:/{n}"} for n in range(5000)]
    with agent(tmp_path, answering(STATUS | {"resources": many})):
        command = "import sys; from agent.cli import main; sys.exit(main())"
        with subprocess.Popen(
            [sys.executable, "-c", command, "status", "--run-dir", str(tmp_path)],
            env=ENDING,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdout.read(10)
            process.stdout.close()
            assert process.stderr.read() == b""


def test_status_loads_no_protocol_library(tmp_path: Path) -> None:
    code = (
        "import sys; before = set(sys.modules); from agent.cli import main; "
        f"main(['status', '--run-dir', {str(tmp_path)!r}]); "
        "print(*(set(sys.modules) - before), file=sys.stderr)"
    )
    with agent(tmp_path, answering(STATUS)):
        ended = subprocess.run(
            [sys.executable, "-c", code], env=ENDING, capture_output=True, text=True, timeout=60
        )
    loaded = set(ended.stderr.split())
    assert {"agent.cli_status", "json", "socket"} <= loaded
    assert loaded & HEAVY == set()


def test_watch_draws_again_until_it_is_interrupted(tmp_path: Path) -> None:
    rounds = iter(range(1000))

    def rising(request: dict[str, Any]) -> list[bytes]:
        pct = 10.0 + next(rounds) * 20
        resource = STATUS["resources"][2] | {"pct": pct, "value": pct}
        return [line(True, "", STATUS | {"resources": [resource]})]

    env = {"TERM": "xterm", "COLUMNS": "100"}
    with agent(tmp_path, rising):
        terminal = Terminal("status", "--watch", "--run-dir", str(tmp_path), env=env)
        terminal.read_until("50%")
        assert terminal.interrupt() == 2
    assert terminal.text.startswith("\x1b[?1049h\x1b[?25l")
    assert "▂▃▅" in terminal.text
    last = terminal.text.rpartition("\x1b[?25h\x1b[?1049l")[2]
    assert "DEGRADED" in last


def test_watch_goes_on_when_the_agent_goes_away(tmp_path: Path) -> None:
    env = {"TERM": "xterm", "NO_COLOR": "1", "COLUMNS": "200"}
    with agent(tmp_path, answering(STATUS)):
        terminal = Terminal("status", "--watch", "--run-dir", str(tmp_path), env=env)
        terminal.read_until("DEGRADED")
    terminal.read_until("no agent is running there")
    (tmp_path / "agent.sock").unlink()
    with agent(tmp_path, answering(STATUS | {"health": "up"})):
        terminal.read_until("  UP  ")
        assert terminal.interrupt() == 0
    assert "\x1b[31m" not in terminal.text


def test_watch_as_json_is_one_line_a_look(tmp_path: Path) -> None:
    command = "import sys; from agent.cli import main; sys.exit(main())"
    with (
        agent(tmp_path, answering(STATUS)),
        subprocess.Popen(
            [sys.executable, "-c", command, "status", "--watch", "--json", "--run-dir", tmp_path],
            env=ENDING,
            stdout=subprocess.PIPE,
        ) as process,
    ):
        assert process.stdout is not None
        assert json.loads(process.stdout.readline()) == STATUS
        assert json.loads(process.stdout.readline()) == STATUS
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 2
