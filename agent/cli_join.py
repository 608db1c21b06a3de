# SPDX-License-Identifier: GPL-2.0-or-later
"""`standpipe invite` and `standpipe join`: how a machine becomes a node."""

import argparse
import hmac
import os
import socket
import ssl
import sys
from datetime import UTC, datetime
from pathlib import Path

from agent import invites, placing
from agent.config import ConfigError, load
from agent.config_source import Problem
from agent.core.settings import Settings
from agent.joining import (
    LENGTH_BYTES,
    LONGEST_BUNDLE_BYTES,
    WITHIN_S,
    Bundle,
    frame,
    unframe,
)
from agent.places import CONSOLE_SOCKET
from agent.ports import Garbled, PortError, Refused, Unreachable

PORT = 7413  # [cluster] peer_port and 2
LIFE_S = 3600.0


def invite(options: argparse.Namespace) -> int:
    """Prints a token, and what to type on the machine that is to join."""
    from agent.wiring_identity import authority

    try:
        settings = load(Path(options.config), options.node)
        if not settings.nodes:
            raise Refused(f"{options.config}: has no nodes; write a [node.*] for each first")
        for_node = options.name or ""
        if for_node and for_node not in settings.nodes:
            raise Refused(
                f"{for_node} is no node in {options.config}; add [node.{for_node}] on every node, "
                "then `standpipe reload`"
            )
        pki = Path(settings.pki_dir)
        token, secret = invites.new_token(authority.fingerprint(_bytes(pki / "ca.crt")))
        life_s = options.span_ms / 1000 if options.span_ms else LIFE_S
        invites.keep(Path(options.state_dir), secret, for_node, _wall_s(), life_s)
    except ConfigError as error:
        return _fail(f"{error}\nstandpipe: put this right first: standpipe check")
    except PortError as error:
        return _fail(str(error))
    if not os.path.lexists(Path(options.run_dir) / CONSOLE_SOCKET):
        sys.stderr.write("standpipe: no agent runs here, which must answer: start it first\n")
    own = settings.nodes[settings.node]
    port = own.peer_port + 2
    where = own.paths[0] if ":" not in own.paths[0] else f"[{own.paths[0]}]"
    sys.stdout.write(
        f"On {for_node or 'the new machine'}, within {life_s / 60:.0f} minutes, once:\n"
        f"standpipe join {where}{'' if port == PORT else f':{port}'} {token}\n"
    )
    return 0


def join(options: argparse.Namespace) -> int:
    """Gets everything from a node, or from a cloud folder, and puts it into place."""
    folder = Path(options.dir).absolute()
    node = options.node or os.uname().nodename.partition(".")[0]
    try:
        if options.from_cloud:
            from agent.cli_join_cloud import join_from_cloud

            return join_from_cloud(options, folder, node)
        if not options.host or not options.token:
            raise Refused("say where and with what: standpipe join HOST TOKEN, or --from-cloud URL")
        _refuse_overwriting(folder, options.force)
        bundle = _asked(options.host, options.token, node)
        done = settle(bundle, folder, node, options.force)
    except PortError as error:
        return _fail(str(error))
    sys.stdout.write("".join(f"{line}\n" for line in done))
    return 0


def settle(bundle: Bundle, folder: Path, node: str, force: bool) -> list[str]:
    """The bundle in place, with a certificate for this node; what was done and what is left to do.

    Raises Refused, Garbled.
    """
    from agent.wiring_identity import authority

    placed = placing.staged(bundle, folder)
    try:
        authority.issue(placed.stage / "pki", placed.settings.cluster, node)
        lines = placing.put(placed, force)
    finally:
        placing.discard(placed.stage)
    return [*lines, *_left_to_do(folder / placing.CONFIG, node, placed.elsewhere)]


def _left_to_do(config: Path, node: str, elsewhere: list[str]) -> list[str]:
    lines = [f"copy from another node: {path}" for path in elsewhere]
    try:
        settings = load(config, node)
    except ConfigError as error:
        lines += [f"to put right: {problem}" for problem in _problems(error, node)]
        return [*lines, f"then: standpipe check --config {config}"]
    groups = ", ".join(group.name for group in settings.own_groups()) or "no group yet"
    return [
        *lines,
        f"this is {node} of {settings.cluster}, which may serve {groups}",
        f"now: {_start(settings)}",
    ]


def _problems(error: ConfigError, node: str) -> list[Problem | str]:
    found: list[Problem | str] = list(error.problems)
    if any(problem.path == "node" for problem in error.problems):
        found.append(f'add, on every node: [node.{node}] with its site and paths = ["ADDRESS"]')
    return found


def _start(settings: Settings) -> str:
    if os.path.isdir("/run/systemd/system"):
        return "systemctl enable --now standpipe-keeper standpipe-agent, then: standpipe status"
    return f"standpipe run --node {settings.node}, then: standpipe status"


def _refuse_overwriting(folder: Path, force: bool) -> None:
    """Before a token is used up."""
    there = [str(path) for path in placing.in_the_way(folder)]
    if there and not force:
        raise Refused(
            f"{', '.join(there)} there already: this machine has joined a cluster; --force keeps "
            f"what is there as {placing.OLD}"
        )


def _asked(host: str, token: str, node: str) -> Bundle:
    """Raises Unreachable, Refused, Garbled."""
    from agent.wiring_identity import authority

    fingerprint, secret = invites.read_token(token)
    where = address_and_port(host)
    ca = str(_spoken(where, authority.joining_context(None), None).get("ca")).encode()
    if not hmac.compare_digest(authority.fingerprint(ca)[: len(fingerprint)], fingerprint):
        raise Refused(
            f"{host}: has another authority than the node that made this token; nothing was said "
            "to it. Is it the right address? If so, somebody answers in its place"
        )
    question = {"secret": secret.hex(), "node": node}
    answer = _spoken(where, authority.joining_context(ca), question)
    if "error" in answer:
        raise Refused(f"{host}: {answer['error']}")
    return answer


def _spoken(where: tuple[str, int], context: ssl.SSLContext, question: Bundle | None) -> Bundle:
    """The greeting, or the answer to a question after it. Raises Unreachable, Refused, Garbled."""
    who = f"{where[0]} port {where[1]}"
    try:
        with (
            socket.create_connection(where, WITHIN_S) as plain,
            context.wrap_socket(plain) as connection,
        ):
            connection.settimeout(WITHIN_S)
            said = _received(connection)
            if question is not None:
                connection.sendall(frame(question))
                said = _received(connection)
            return said
    except ssl.SSLCertVerificationError as error:
        raise Refused(
            f"{who}: is no node of that authority ({error.verify_message}); are the clocks right?"
        ) from error
    except (OSError, EOFError) as error:
        why = str(error) or type(error).__name__
        raise Unreachable(
            f"{who}: {why}; is its agent running, and is TCP port {where[1]} open? After some "
            "wrong tokens it does not listen for ten minutes"
        ) from error


def _received(connection: ssl.SSLSocket) -> Bundle:
    length = int.from_bytes(_exactly(connection, LENGTH_BYTES))
    if length > LONGEST_BUNDLE_BYTES:
        raise Garbled(f"join: {length} bytes announced; is that a Standpipe agent?")
    return unframe(_exactly(connection, length))


def _exactly(connection: ssl.SSLSocket, count: int) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        block = connection.recv(min(count - len(parts), 1 << 16))
        if not block:
            raise EOFError("hung up")
        parts += block
    return bytes(parts)


def address_and_port(text: str) -> tuple[str, int]:
    """Of "10.1.0.11", "host:7413", "2001:db8::1" or "[2001:db8::1]:7413". Raises Refused."""
    host, port = text, ""
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        port = rest.removeprefix(":")
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    if port and not (port.isdecimal() and 0 < int(port) < 65536):
        raise Refused(f"{text}: {port} is no port; write HOST or HOST:PORT")
    return host, int(port or PORT)


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise Refused(
            f"{file}: {error.strerror}; run as root; `standpipe init` makes what is missing"
        ) from error


def _wall_s() -> float:
    return datetime.now(UTC).timestamp()


def _fail(why: str) -> int:
    sys.stderr.write(f"standpipe: {why}\n")
    return 1
