# SPDX-License-Identifier: GPL-2.0-or-later
"""Check: a SIP server answers OPTIONS over UDP (RFC 3261 sections 11 and 17.1.2)."""

import asyncio
import secrets
import socket
from contextlib import suppress
from dataclasses import dataclass

from agent.core.model import Answer
from agent.core.settings import CheckSettings
from drivers.inquiry import Resolver, Verdict, answer_within, endpoint

PORT = 5060
T1_MS = 500  # until the first repeat of a request
BRANCH = "z9hG4bK"  # section 8.1.1.7
COMPACT = {"v": "via", "i": "call-id"}
SCHEMES = ("udp://", "sip:")

# Section 11.2: a server answers OPTIONS as it would answer an INVITE now. Whatever it says by
# itself (busy, not found, who are you) it is alive; these say that it does not serve.
NOT_SERVING = {
    408: "what is behind it does not answer",
    500: "server error",
    502: "what is behind it answers nonsense",
    504: "what is behind it does not answer",
}
NO_OPTIONS = 501  # section 21.5.2: it lives, and does not know this method
UNAVAILABLE = 503  # section 21.5.4: it lives, and takes no new work


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    reason: str
    branch: str
    call_id: str
    retry_after: str


def parse_response(packet: bytes) -> Response | None:
    """None for what is no SIP response."""
    head = packet.partition(b"\r\n\r\n")[0].decode("utf-8", "replace")
    first, *lines = head.split("\r\n")
    version, _, rest = first.partition(" ")
    code, _, reason = rest.partition(" ")
    if version != "SIP/2.0" or len(code) != 3 or not (code.isascii() and code.isdigit()):
        return None
    headers: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        name = name.strip().lower()
        headers.setdefault(COMPACT.get(name, name), value.strip())  # the topmost Via is ours
    parameters = (word.strip() for word in headers.get("via", "").split(",")[0].split(";"))
    branch = next((word[7:] for word in parameters if word.lower().startswith("branch=")), "")
    return Response(
        int(code), reason, branch, headers.get("call-id", ""), headers.get("retry-after", "")
    )


def judge_response(response: Response) -> Verdict:
    shown = f"{response.status} {response.reason}".strip()
    later = f", retry after {response.retry_after}" if response.retry_after else ""
    if response.status == UNAVAILABLE:
        return Verdict(True, f"{shown}: draining or overloaded{later}", draining=True)
    why = NOT_SERVING.get(response.status)
    if why is None and 500 <= response.status <= 599 and response.status != NO_OPTIONS:
        why = "server error"
    return Verdict(True, shown) if why is None else Verdict(False, f"{shown}: {why}{later}")


def build_options(host: str, port: int, own: tuple[str, int], branch: str, call_id: str) -> bytes:
    """own: address and port it is sent from; `rport` (RFC 3581) brings the answer back."""

    def bracketed(address: str) -> str:
        return f"[{address}]" if ":" in address else address

    uri = f"sip:{bracketed(host)}:{port}"
    here = f"{bracketed(own[0])}:{own[1]}"
    return (
        f"OPTIONS {uri} SIP/2.0\r\n"
        f"Via: SIP/2.0/UDP {here};branch={branch};rport\r\n"
        "Max-Forwards: 70\r\n"
        f"From: <sip:standpipe@{here}>;tag={call_id[:8]}\r\n"
        f"To: <{uri}>\r\n"
        f"Call-ID: {call_id}\r\n"
        "CSeq: 1 OPTIONS\r\n"
        f"Contact: <sip:standpipe@{here}>\r\n"
        "Accept: application/sdp\r\n"
        "User-Agent: standpipe\r\n"
        "Content-Length: 0\r\n\r\n"
    ).encode()


class SipCheck:
    """Target "udp://host:port", "sip:host:port" or "host"; the port is 5060 where none is given."""

    def __init__(self, settings: CheckSettings) -> None:
        target = settings.target
        for scheme in SCHEMES:
            target = target.removeprefix(scheme)
        self._timeout_ms = settings.timeout_ms
        self._resolver = Resolver(
            *endpoint(f"check {settings.name}", target, PORT), socket.SOCK_DGRAM
        )

    async def ask(self) -> Answer:
        return await answer_within(self._timeout_ms, self._question)

    async def _question(self) -> Verdict:
        address = (await self._resolver.addresses(self._timeout_ms // 2))[0]
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
            # Connected, so that a closed port is heard of at once (ICMP).
            sock.connect((address, self._resolver.port))
            branch, call_id = BRANCH + secrets.token_hex(8), secrets.token_hex(16)
            request = build_options(
                self._resolver.host, self._resolver.port, sock.getsockname()[:2], branch, call_id
            )
            return judge_response(await self._exchange(sock, request, branch, call_id))

    async def _exchange(
        self, sock: socket.socket, request: bytes, branch: str, call_id: str
    ) -> Response:
        """Repeats the request, waiting twice as long each time, until there is a final response.

        Where the whole limit is shorter than T1 it is sent once: who asks counts several misses.
        """
        loop = asyncio.get_running_loop()
        repeat_s = T1_MS / 1000
        repeat: asyncio.TimerHandle | None = None

        def again() -> None:
            nonlocal repeat_s, repeat
            with suppress(OSError):  # a closed port is heard of where the answer is waited for
                sock.send(request)
            repeat_s *= 2
            repeat = loop.call_later(repeat_s, again)

        sock.send(request)
        if self._timeout_ms > T1_MS:
            repeat = loop.call_later(repeat_s, again)
        try:
            while True:
                response = parse_response(await loop.sock_recv(sock, 65_535))
                if (
                    response is not None
                    and response.status >= 200
                    and (response.branch, response.call_id) == (branch, call_id)
                ):
                    return response
                await asyncio.sleep(0)  # a flood of others must not hold the loop
        finally:
            if repeat is not None:
                repeat.cancel()
