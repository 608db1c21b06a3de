# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine joins over TLS: `standpipe invite` on one side, `standpipe join` on the other."""

import asyncio
import os
import socket
import ssl
import stat
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from agent import invites
from agent.config import load
from agent.core.settings import (
    CarriedSettings,
    CloudSettings,
    GroupSettings,
    NmsSettings,
    ServiceSettings,
    Settings,
    SnmpSettings,
)
from agent.joining import Joining, frame, named_files
from drivers import authority
from drivers.peerlink import read_key
from tests.cli.playing import standpipe

CONFIG = """\
[cluster]
name = "callcentre"
key_file = "{folder}/cluster.key"
pki_dir = "{folder}/pki"
[site.here]
[node.lon1]
site = "here"
paths = ["127.0.0.1"]
[node.lon2]
site = "here"
paths = ["127.0.0.2"]
[nms.main]
address = "127.0.0.9"
snmp = {{ version = "2c", community_file = "{folder}/keys/trap.key" }}
[nms.other]
address = "127.0.0.8"
snmp = {{ version = "2c", community_file = "{elsewhere}" }}
"""


class First:
    """A node that is there already, its listener in a thread."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "first"
        self.state = root / "state"
        self.state.mkdir()
        (self.folder / "keys").mkdir(parents=True)
        elsewhere = root / "elsewhere.key"
        for secret in (elsewhere, self.folder / "keys" / "trap.key"):
            secret.write_text(f"secret of {secret.name}")
            secret.chmod(0o600)
        key = self.folder / "cluster.key"
        key.write_text("ab" * 32)
        key.chmod(0o600)
        self.config = self.folder / "standpipe.toml"
        self.config.write_text(CONFIG.format(folder=self.folder, elsewhere=elsewhere))
        self.settings = load(self.config, "lon1")
        authority.make_ca(self.folder / "pki", "callcentre", secret=read_key(key))
        authority.issue(self.folder / "pki", "callcentre", "lon1")
        self.said: list[str] = []
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        assert self._ready.wait(20)

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        self.joining = Joining(
            self.settings, self.config, self.state, self.said.append, wrong_costs_s=0.05
        )
        context = authority.server_context(self.folder / "pki", "callcentre")
        busy: set[asyncio.Task[None]] = set()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            busy.add(task)
            await self.joining.serve(reader, writer)
            writer.transport.abort()  # whoever listens may do so at once
            busy.discard(task)

        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        for task in busy:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(20)

    def invited(self, *arguments: str) -> str:
        """A token."""
        ended = standpipe(
            "invite", *arguments, "--config", self.config, "--node", "lon1", *self.places
        )
        assert ended.returncode == 0, ended.stderr
        line = ended.stdout.splitlines()[1]
        assert line.startswith("standpipe join 127.0.0.1 spj1-")
        return line.rpartition(" ")[2]

    @property
    def places(self) -> list[str]:
        return ["--state-dir", str(self.state), "--run-dir", str(self.state)]


@pytest.fixture
def first(tmp_path: Path) -> Iterator[First]:
    first = First(tmp_path)
    yield first
    first.close()


def join(
    first: First, token: str, folder: Path, *arguments: str, node: str = "lon2"
) -> "subprocess.CompletedProcess[str]":
    where = f"127.0.0.1:{first.port}"
    return standpipe("join", where, token, "--dir", folder, "--node", node, *arguments)


def test_a_machine_joins_with_a_token_and_is_a_node(first: First, tmp_path: Path) -> None:
    folder = tmp_path / "second"
    ended = join(first, first.invited(), folder)
    assert ended.returncode == 0, ended.stderr
    assert (folder / "cluster.key").read_text() == "ab" * 32
    assert (folder / "standpipe.toml").read_bytes() == first.config.read_bytes()
    assert (folder / "keys" / "trap.key").read_text() == "secret of trap.key"
    modes = {
        name: stat.S_IMODE((folder / name).stat().st_mode)
        for name in ("cluster.key", "keys/trap.key", "pki", "pki/ca.key", "pki/node.key")
    }
    assert modes == {name: 0o700 if name == "pki" else 0o600 for name in modes}
    assert f"copy from another node: {tmp_path}/elsewhere.key" in ended.stdout
    assert "this is lon2 of callcentre" in ended.stdout
    assert "now: " in ended.stdout
    assert [name for name in os.listdir(folder) if name.startswith(".")] == []
    assert first.said == ["lon2 joined from 127.0.0.1"]
    asyncio.run(_meets(first, folder))


async def _meets(first: First, folder: Path) -> None:
    """The new node's certificate opens the first one's door."""
    context = authority.client_context(folder / "pki", "callcentre", "lon1")
    _, writer = await asyncio.open_connection("127.0.0.1", first.port, ssl=context)
    shown = writer.get_extra_info("ssl_object")
    assert authority.peer_name(shown, "callcentre") == "lon1"
    writer.close()
    with suppress(OSError, ssl.SSLError):
        await writer.wait_closed()


def test_a_token_is_good_once(first: First, tmp_path: Path) -> None:
    token = first.invited()
    assert join(first, token, tmp_path / "second").returncode == 0
    ended = join(first, token, tmp_path / "third")
    assert ended.returncode == 1
    assert "is not known here, was used, or has ended" in ended.stderr
    assert not (tmp_path / "third").exists()


def test_a_token_for_one_node_is_good_for_no_other(first: First, tmp_path: Path) -> None:
    token = first.invited("lon2")
    ended = join(first, token, tmp_path / "second", node="lon1")
    assert ended.returncode == 1
    assert "this token is for lon2, not for lon1" in ended.stderr
    assert join(first, token, tmp_path / "second").returncode == 0


def test_a_machine_that_is_no_node_yet_hears_which_lines_to_add(
    first: First, tmp_path: Path
) -> None:
    token = first.invited()
    ended = join(first, token, tmp_path / "second", node="par1")
    assert ended.returncode == 1
    assert '[node.par1]\nsite = "here"\npaths = ["127.0.0.1"]' in ended.stderr
    assert "the token stays good" in ended.stderr
    assert not (tmp_path / "second").exists()
    assert join(first, token, tmp_path / "second").returncode == 0


def test_what_is_there_is_not_overwritten_and_the_token_stays_good(
    first: First, tmp_path: Path
) -> None:
    folder = tmp_path / "second"
    folder.mkdir()
    (folder / "cluster.key").write_text("precious")
    token = first.invited()
    ended = join(first, token, folder)
    assert ended.returncode == 1
    assert f"{folder}/cluster.key there already" in ended.stderr
    assert os.listdir(folder) == ["cluster.key"]
    ended = join(first, token, folder, "--force")
    assert ended.returncode == 0, ended.stderr
    assert (folder / "cluster.key.old").read_text() == "precious"
    assert f"{folder}/cluster.key (before: {folder}/cluster.key.old)" in ended.stdout


def test_nothing_is_said_to_somebody_of_another_authority(first: First, tmp_path: Path) -> None:
    """The token's fingerprint is compared before its secret is shown."""
    token, secret = invites.new_token(b"another authority" * 2)
    invites.keep(first.state, secret, "", 0.0, 1e12)
    ended = join(first, token, tmp_path / "second")
    assert ended.returncode == 1
    assert "nothing was said to it" in ended.stderr
    assert len(list((first.state / "invites").iterdir())) == 1
    assert first.said == []


def test_a_configuration_that_is_not_in_service_is_not_given_away(
    first: First, tmp_path: Path
) -> None:
    first.config.write_text(first.config.read_text() + "# edited\n")
    ended = join(first, first.invited(), tmp_path / "second")
    assert ended.returncode == 1
    assert "is not in service yet; `standpipe reload`" in ended.stderr


def test_who_guesses_tokens_is_not_listened_to_any_more(first: First, tmp_path: Path) -> None:
    good = first.invited()
    print_ = authority.fingerprint((first.folder / "pki" / "ca.crt").read_bytes())
    for _ in range(invites.GUESSES):
        token, _ = invites.new_token(print_)
        assert "not known here" in join(first, token, tmp_path / "second").stderr
    ended = join(first, good, tmp_path / "second")
    assert ended.returncode == 1
    assert "After some wrong tokens it does not listen for ten minutes" in ended.stderr


def test_where_nobody_listens_the_port_is_named(tmp_path: Path) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        token, _ = invites.new_token(bytes(32))
        ended = standpipe("join", f"127.0.0.1:{port}", token, "--dir", tmp_path / "d")
    assert ended.returncode == 1
    assert f"is TCP port {port} open" in ended.stderr


def raw(first: First, sent: bytes) -> bytes:
    """All that comes back for some bytes after the handshake."""
    context = authority.joining_context(None)
    with (
        socket.create_connection(("127.0.0.1", first.port), 20) as plain,
        context.wrap_socket(plain) as connection,
    ):
        connection.sendall(sent)
        heard = b""
        with suppress(OSError):
            while block := connection.recv(65536):
                heard += block
        return heard


@pytest.mark.parametrize(
    "sent",
    [
        b"\xff\xff\xff\xff",
        b"\0\0\0\x03abc",
        b"\0\0\0\x02[]",
        b"\0\0\x10\x01" + b"x" * 4097,
        b"GET / HTTP/1.1\r\n\r\n",
    ],
)
def test_rubbish_is_hung_up_on(first: First, sent: bytes) -> None:
    assert b"key" not in raw(first, sent)
    assert first.said == []


@pytest.mark.parametrize(
    "question",
    [
        {},
        {"node": "lon2"},
        {"node": "../../etc", "secret": "00"},
        {"node": "lon2", "secret": "no hex"},
        {"node": ["lon2"], "secret": {}},
    ],
)
def test_a_question_without_a_good_secret_gets_no_secrets(
    first: First, question: dict[str, object]
) -> None:
    heard = raw(first, frame(question))
    assert b'"error"' in heard
    assert b"config" not in heard


def test_an_invitation_needs_a_configuration_and_a_node_that_is_in_it(
    first: First, tmp_path: Path
) -> None:
    ended = standpipe("invite", "par1", "--config", first.config, "--node", "lon1", *first.places)
    assert ended.returncode == 1
    assert "add [node.par1] on every node" in ended.stderr
    ended = standpipe("invite", "--config", tmp_path / "none.toml", *first.places)
    assert ended.returncode == 1
    assert "standpipe check" in ended.stderr
    assert not (first.state / "invites").exists()


def test_every_file_of_secrets_that_the_configuration_names_is_known() -> None:
    group = GroupSettings(
        "sbc",
        ("lon1",),
        (),
        services=(ServiceSettings("kamailio", pid_file="/run/kamailio.pid"),),
        carried=CarriedSettings(cloud=CloudSettings("https://x/", "u", "/p/cloud.key", "/p/ca")),
    )
    nms = NmsSettings("main", "192.0.2.1", SnmpSettings(community_file="/p/trap.key"))
    settings = Settings("c", "/p/cluster.key", "lon1", groups={"sbc": group}, nms={"main": nms})
    assert sorted(named_files(settings)) == [
        "/p/ca",
        "/p/cloud.key",
        "/p/cluster.key",
        "/p/trap.key",
    ]
