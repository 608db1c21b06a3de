# SPDX-License-Identifier: GPL-2.0-or-later
"""One-time tokens that let a machine join, and who guesses at them.

A token is "spj1-" and 56 letters and digits: 16 bytes of the authority's fingerprint, 16 bytes of
secret, 3 bytes that show a mistyped one. Of the secret only its digest is kept, as the name of a
file in the state folder; whoever removes that file has used it, and only one can.
"""

import base64
import hashlib
import hmac
import json
import os
import secrets
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from agent.ports import Refused
from agent.writing import write_new

FOLDER = "invites"
PREFIX = "spj1-"
PRINT_BYTES = 16
SECRET_BYTES = 16
CHECK_BYTES = 3
SKEW_S = 60.0  # a clock that was set back by so little voids nothing
GUESSES = 5  # wrong tokens from one address ...
GUESSES_IN_MS = 600_000  # ... within this, then it is not listened to
MOST_GUESSERS = 1024


@dataclass(frozen=True, slots=True)
class Invite:
    """An open invitation. node: the only one that it is for, "" for any. Times: wall clock."""

    digest: str
    made_s: float
    until_s: float
    node: str = ""


def new_token(fingerprint: bytes) -> tuple[str, bytes]:
    """A token, and the secret in it."""
    secret = secrets.token_bytes(SECRET_BYTES)
    body = fingerprint[:PRINT_BYTES] + secret
    text = base64.b32encode(body + _check(body)).decode().lower()
    return PREFIX + text, secret


def read_token(text: str) -> tuple[bytes, bytes]:
    """The fingerprint's first bytes and the secret. Raises Refused."""
    advice = "copy the whole of it, as `standpipe invite` printed it"
    if not text.startswith(PREFIX):
        raise Refused(f"token: does not begin with {PREFIX}; {advice}")
    try:
        whole = base64.b32decode(text.removeprefix(PREFIX).upper())
    except ValueError as error:
        raise Refused(f"token: is not whole; {advice}") from error
    body, check = whole[:-CHECK_BYTES], whole[-CHECK_BYTES:]
    if len(body) != PRINT_BYTES + SECRET_BYTES or check != _check(body):
        raise Refused(f"token: is not whole, or mistyped; {advice}")
    return body[:PRINT_BYTES], body[PRINT_BYTES:]


def keep(state_dir: Path, secret: bytes, node: str, now_s: float, life_s: float) -> None:
    """From now on whoever shows the secret may join. Raises Refused."""
    folder = state_dir / FOLDER
    said = {"made_s": now_s, "until_s": now_s + life_s, "node": node}
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        _own_as_above(folder)
        write_new(folder / _digest(secret), json.dumps(said).encode(), 0o600)
    except OSError as error:
        raise Refused(f"{folder}: {error.strerror}; run as root, or give --state-dir") from error


def find(state_dir: Path, secret: bytes, now_s: float) -> Invite | None:
    """The open invitation for it. Those that have ended are removed."""
    shown = _digest(secret)
    found = None
    for invite in _open_invites(state_dir):
        if not invite.made_s - SKEW_S <= now_s < invite.until_s:
            spend(state_dir, invite)
        elif hmac.compare_digest(invite.digest, shown):
            found = invite
    return found


def spend(state_dir: Path, invite: Invite) -> bool:
    """Whether it was open until now: of many who ask, one hears yes."""
    try:
        (state_dir / FOLDER / invite.digest).unlink()
    except OSError:
        return False
    return True


@dataclass(slots=True)
class Guesses:
    """Who showed wrong tokens of late. Times: now_ms of the shell."""

    _wrong: dict[str, list[int]] = field(default_factory=dict)

    def note(self, source: str, now_ms: int) -> None:
        """A wrong token from this address."""
        times = self._recent(source, now_ms)
        self._wrong.pop(source, None)  # last again in the order in which they are forgotten
        self._wrong[source] = [*times, now_ms]
        while len(self._wrong) > MOST_GUESSERS:
            del self._wrong[next(iter(self._wrong))]

    def too_many(self, source: str, now_ms: int) -> bool:
        """It is not listened to for now."""
        return len(self._recent(source, now_ms)) >= GUESSES

    def _recent(self, source: str, now_ms: int) -> list[int]:
        return [at for at in self._wrong.get(source, []) if now_ms - at < GUESSES_IN_MS]


def _open_invites(state_dir: Path) -> list[Invite]:
    found = []
    with suppress(OSError):
        for file in (state_dir / FOLDER).iterdir():
            with suppress(OSError, ValueError, KeyError, TypeError):  # half-written: no invitation
                said = json.loads(file.read_bytes())
                times = float(said["made_s"]), float(said["until_s"])
                found.append(Invite(file.name, *times, str(said["node"])))
    return found


def _own_as_above(folder: Path) -> None:
    """Root makes it for the agent, to which the state folder belongs."""
    if os.geteuid() == 0:
        above = folder.parent.stat()
        os.chown(folder, above.st_uid, above.st_gid)


def _digest(secret: bytes) -> str:
    return hashlib.sha256(b"standpipe invite" + secret).hexdigest()


def _check(body: bytes) -> bytes:
    return hashlib.sha256(b"standpipe token" + body).digest()[:CHECK_BYTES]
