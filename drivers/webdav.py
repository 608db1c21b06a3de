# SPDX-License-Identifier: GPL-2.0-or-later
"""A folder on a WebDAV server (RFC 4918) over HTTPS, with basic or digest authentication.

Blocking; for one thread at a time. Nothing that the server says is followed or believed: redirects
are refused, answers have a longest length, of listings only names that we could have made count.
"""

import base64
import http.client
import re
import socket
import ssl
import xml.etree.ElementTree as ET
from contextlib import suppress
from pathlib import Path
from time import monotonic
from urllib.parse import quote, unquote, urlsplit
from urllib.request import (
    AbstractDigestAuthHandler,
    HTTPPasswordMgr,
    Request,
    parse_http_list,
    parse_keqv_list,
)

from agent.core.settings import CloudSettings
from agent.ports import Garbled, PortError, Refused, Unreachable

TIMEOUT_S = 20.0
SLOWEST_BYTES_S = 16 << 10  # of a link that is still worth waiting for
LONGEST_LISTING_BYTES = 64 << 20
BLOCK_BYTES = 1 << 16
LISTED = re.compile(r"[0-9A-Za-z][0-9A-Za-z.-]{0,99}")
ASKED = b'<?xml version="1.0"?><propfind xmlns="DAV:"><prop><getcontentlength/></prop></propfind>'

_REASONS: dict[int, tuple[type[PortError], str]] = {
    301: (Refused, "sends us elsewhere; write the address that it names into the url"),
    302: (Refused, "sends us elsewhere; write the address that it names into the url"),
    307: (Refused, "sends us elsewhere; write the address that it names into the url"),
    308: (Refused, "sends us elsewhere; write the address that it names into the url"),
    401: (Refused, "does not take user and password; put right user and password_file"),
    403: (Refused, "does not permit it; let the user read, write and delete there"),
    404: (Refused, "has no such folder; make it, or put right the url"),
    405: (Refused, "does not know the method; is it a WebDAV folder?"),
    409: (Refused, "has no folder to put it in; make the one that the url names"),
    413: (Refused, "does not take so much at once; let it take 5 MiB"),
    423: (Unreachable, "has locked it; it is tried again"),
    501: (Refused, "does not know the method; is it a WebDAV folder?"),
    507: (Refused, "is full (507); make room there, or keep fewer versions"),
}


class WebDav:
    """Paths are relative to the folder. All raise Unreachable, Refused, Garbled."""

    def __init__(self, settings: CloudSettings, timeout_s: float = TIMEOUT_S) -> None:
        parts = urlsplit(settings.url)
        if parts.scheme != "https" or not parts.hostname:
            raise Refused(f"cloud {settings.url}: must be https://host/folder/")
        self.url = settings.url
        self._host, self._port = parts.hostname, parts.port or 443
        self._base = "/" + quote(unquote(parts.path).strip("/")) + "/"
        self._base = self._base.replace("//", "/")
        self._user = settings.user
        self._password = _password(settings)
        self._timeout_s = timeout_s
        self._context = _context(settings)
        self._connection: http.client.HTTPSConnection | None = None
        self._challenge: dict[str, str] = {}  # of the last 401 with Digest
        self._digest = _Digest(settings.user, self._password)
        self._basic = False

    def read(self, path: str, most_bytes: int) -> bytes | None:
        """The whole object; None: there is none."""
        status, content = self._ask("GET", path, most_bytes=most_bytes)
        if status == 404:
            return None
        if status != 200:
            raise self._complaint(status, "GET", path)
        return content

    def write(self, path: str, content: bytes) -> None:
        """All of it or nothing: it gets its name when all of it is there."""
        folder, slash, name = path.rpartition("/")
        aside = f"{folder}{slash}new-{name}"
        status, _ = self._ask("PUT", aside, content)
        if status not in (200, 201, 204):
            with suppress(PortError):
                self.remove(aside)
            raise self._complaint(status, "PUT", path)
        place = f"https://{self._authority()}{self._base}{path}"
        status, _ = self._ask("MOVE", aside, headers={"Destination": place, "Overwrite": "T"})
        if status not in (201, 204):
            raise self._complaint(status, "MOVE", path)

    def names(self, folder: str) -> dict[str, int]:
        """What lies in it, with sizes in bytes; -1: not said."""
        status, content = self._ask(
            "PROPFIND",
            f"{folder}/",
            ASKED,
            {"Depth": "1", "Content-Type": "application/xml"},
            LONGEST_LISTING_BYTES,
        )
        if status != 207:
            raise self._complaint(status, "PROPFIND", folder)
        try:
            return parse_listing(content)
        except (ET.ParseError, ValueError) as error:
            raise Garbled(
                f"cloud {self.url}: its listing makes no sense ({error}); is it a WebDAV folder?"
            ) from error

    def make(self, folder: str) -> None:
        """The folder, unless it is there."""
        status, _ = self._ask("MKCOL", f"{folder}/")
        if status not in (201, 405):
            raise self._complaint(status, "MKCOL", folder)

    def remove(self, path: str) -> None:
        """Well also where there was none."""
        status, _ = self._ask("DELETE", path)
        if status not in (200, 204, 404):
            raise self._complaint(status, "DELETE", path)

    def close(self) -> None:
        """Also from another thread: whatever waits there for the server ends at once."""
        connection, self._connection = self._connection, None
        if connection is not None:
            if connection.sock is not None:
                with suppress(OSError):
                    socket.socket.shutdown(connection.sock, socket.SHUT_RDWR)
            connection.close()

    def _ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        most_bytes: int = BLOCK_BYTES,
    ) -> tuple[int, bytes]:
        """Status and content. Asked again where the nonce is new or a kept connection ended."""
        again = self._connection is not None
        proved = False
        while True:
            try:
                status, content, challenges = self._once(
                    method, path, body, headers or {}, most_bytes
                )
            except ssl.SSLCertVerificationError as error:
                self.close()
                raise Refused(
                    f"cloud {self.url}: its certificate is not good ({error.verify_message}); name "
                    "the authority that signed it in ca_file"
                ) from error
            except (OSError, http.client.HTTPException) as error:
                self.close()
                if again and not isinstance(error, TimeoutError):
                    again = False
                    continue
                why = str(error) or type(error).__name__
                raise Unreachable(
                    f"cloud {self.url}: {why}; check the network and the server"
                ) from error
            if status != 401 or proved or not self._prepare(challenges):
                return status, content
            proved = True

    def _once(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str], most_bytes: int
    ) -> tuple[int, bytes, list[str]]:
        size = max(len(body or b""), most_bytes)
        limit_s = self._timeout_s + size / SLOWEST_BYTES_S
        connection = self._connection
        if connection is None:
            connection = http.client.HTTPSConnection(
                self._host, self._port, timeout=self._timeout_s, context=self._context
            )
            connection.connect()
            self._connection = connection
        connection.sock.settimeout(self._timeout_s + len(body or b"") / SLOWEST_BYTES_S)
        target = self._base + path
        proof = self._proof(method, target)
        if proof:
            headers = headers | {"Authorization": proof}
        with suppress(BrokenPipeError, ConnectionResetError):  # it may have said why before
            connection.request(method, target, body, headers)
        answer = connection.getresponse()
        content = self._content(answer, most_bytes, monotonic() + limit_s)
        if answer.will_close:
            self.close()
        return answer.status, content, answer.headers.get_all("WWW-Authenticate") or []

    def _content(
        self, answer: http.client.HTTPResponse, most_bytes: int, deadline_s: float
    ) -> bytes:
        """Raises Garbled, TimeoutError, IncompleteRead."""
        parts = []
        left = most_bytes
        while block := answer.read(BLOCK_BYTES):
            left -= len(block)
            if left < 0:
                self.close()
                if answer.status not in (200, 207):
                    break  # a long page about an error
                raise Garbled(
                    f"cloud {self.url}: answers with more than {most_bytes} bytes, which none of "
                    "our objects has; somebody put something else there"
                )
            if monotonic() > deadline_s:
                raise TimeoutError("too slow")
            parts.append(block)
        else:
            if answer.length:  # fewer bytes came than were promised
                raise http.client.IncompleteRead(b"".join(parts), answer.length)
        return b"".join(parts)

    def _prepare(self, challenges: list[str]) -> bool:
        """Whether a 401 says how to prove who we are, and we can."""
        self._challenge, self._basic = {}, False
        if not self._user:
            return False
        for challenge in challenges:
            scheme, _, rest = challenge.partition(" ")
            if scheme.lower() == "digest":
                fields = parse_keqv_list([field for field in parse_http_list(rest) if "=" in field])
                if fields.get("algorithm", "MD5") in ("MD5", "SHA") and "nonce" in fields:
                    self._challenge = fields
                    return True
            self._basic = self._basic or scheme.lower() == "basic"
        return self._basic

    def _proof(self, method: str, target: str) -> str:
        if self._challenge:
            asked = Request(f"https://{self._authority()}{target}", method=method)
            return f"Digest {self._digest.get_authorization(asked, self._challenge)}"
        if self._basic:
            pair = f"{self._user}:{self._password}".encode()
            return f"Basic {base64.b64encode(pair).decode()}"
        return ""

    def _authority(self) -> str:
        host = f"[{self._host}]" if ":" in self._host else self._host
        return host if self._port == 443 else f"{host}:{self._port}"

    def _complaint(self, status: int, method: str, path: str) -> PortError:
        kind, why = _REASONS.get(
            status,
            (Unreachable, "cannot now; look in its log")
            if status >= 500
            else (Refused, "will not; look in its log"),
        )
        return kind(f"cloud {self.url}: {status} to {method} {path[:40]}: {why}")


class _Digest(AbstractDigestAuthHandler):
    """The arithmetic of RFC 7616, without the opener around it."""

    def __init__(self, user: str, password: str) -> None:
        super().__init__(_One(user, password))


class _One(HTTPPasswordMgr):
    """The same user everywhere."""

    def __init__(self, user: str, password: str) -> None:
        super().__init__()
        self._pair = user, password

    def find_user_password(self, realm: str, authuri: str) -> tuple[str | None, str | None]:  # noqa: ARG002
        return self._pair


def parse_listing(document: bytes) -> dict[str, int]:
    """Last part of each href -> its size; folders and foreign names are left out.

    Raises ParseError, ValueError.
    """
    if b"<!" in document.replace(b"<![CDATA[", b""):
        raise ValueError("it has declarations")
    found = {}
    for answer in ET.fromstring(document).iter("{DAV:}response"):
        href = unquote(answer.findtext("{DAV:}href") or "")
        name = href.rpartition("/")[2]
        size = answer.findtext(".//{DAV:}getcontentlength") or ""
        if LISTED.fullmatch(name):
            found[name] = int(size) if size.isdecimal() else -1
    return found


def _password(settings: CloudSettings) -> str:
    if not settings.password_file:
        return ""
    try:
        return Path(settings.password_file).read_text().strip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(
            f"cloud {settings.url}: password_file {settings.password_file}: {error}; make it "
            "readable to the agent"
        ) from error


def _context(settings: CloudSettings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.ca_file or None)
    except (OSError, ssl.SSLError) as error:
        raise Refused(
            f"cloud {settings.url}: ca_file {settings.ca_file}: {error}; put the certificate of "
            "the authority there, in PEM"
        ) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
