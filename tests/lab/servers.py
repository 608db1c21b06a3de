# SPDX-License-Identifier: GPL-2.0-or-later
"""Real servers on the laboratory's hosts: name servers with a signed update path, and keepalived.

Each is started from a configuration made for it in its host's folder, asked until it answers, and
stopped by its pid.
"""

from __future__ import annotations

import base64
import contextlib
import secrets
import shutil
import signal
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rcode

from tests.lab import plan as places
from tests.lab.netns import LabError, inside, wait_until
from tests.lab.world import Host, Node, World


class Daemon:
    """A server in the foreground on a host; it can be ended, killed, hung and started again."""

    def __init__(
        self,
        host: Host,
        name: str,
        argv: Sequence[str],
        answers: Callable[[], bool],
        env: dict[str, str] | None = None,
    ) -> None:
        """`answers` asks the server whether it serves."""
        self.host, self.name, self.argv, self.answers, self.env = host, name, argv, answers, env
        self.process: subprocess.Popen[bytes] | None = None

    def launch(self) -> None:
        """Start without waiting."""
        if shutil.which(self.argv[0], path=_SEARCH) is None:
            raise LabError(
                f"{self.argv[0]} is not on this machine; run: sudo make test (it installs it)"
            )
        self.process = self.host.start(
            *self.argv, log=f"{self.name}.log", env={"PATH": _SEARCH, **(self.env or {})}
        )

    def wait(self, limit_s: float = 20.0) -> None:
        """Until it answers; LabError with its log when it does not."""
        try:
            wait_until(
                lambda: self._dead() or self.answers(),
                f"{self.name} on {self.host.name} answers",
                limit_s,
            )
        except LabError as error:
            raise LabError(f"{error}; its log:\n{self._tail()}") from error
        if self._dead():
            raise LabError(
                f"{self.name} on {self.host.name} died at its start; its log:\n{self._tail()}"
            )

    def start(self) -> None:
        self.launch()
        self.wait()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """By default a decent end; SIGKILL for a death."""
        if self.process is None:
            return
        self.process.send_signal(number)
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(5)
        self.process = None

    def hang(self) -> None:
        assert self.process
        self.process.send_signal(signal.SIGSTOP)

    def wake(self) -> None:
        assert self.process
        self.process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        self.stop(signal.SIGKILL)

    def _dead(self) -> bool:
        return self.process is None or self.process.poll() is not None

    def _tail(self) -> str:
        return self.host.log(f"{self.name}.log")[-2000:]


_SEARCH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


# Name servers


class Names:
    """A BIND primary that takes signed updates and notifies at once, a secondary, a resolver."""

    def __init__(
        self,
        world: World,
        *,
        zone: str = "example.net",
        records: Sequence[str] = (),
        max_cache_ttl_s: int = 604800,
    ) -> None:
        """`records` are lines of the zone file, such as "sip 2 IN A 10.1.0.100"."""
        self.world, self.zone = world, zone
        self.primary_host, self.secondary_host, self.resolver_host = (
            world.host(name) for name in (places.PRIMARY, places.SECONDARY, places.RESOLVER)
        )
        self.key_name = "standpipe"
        self.key_file = world.folder / "dns.key"  # as tsig-keygen(8) writes it, hmac-sha256
        secret = base64.b64encode(secrets.token_bytes(32)).decode()
        self.key_file.touch(mode=0o600)
        self.key_file.write_text(
            f'key "{self.key_name}" {{\n\talgorithm hmac-sha256;\n\tsecret "{secret}";\n}};\n'
        )
        self._write_zone(records)
        primary, secondary = self.primary_host.address, self.secondary_host.address
        self.primary = self._named(
            self.primary_host,
            f'include "{self.key_file}";',
            "recursion no; notify explicit;"
            " notify-delay 0; notify-rate 1000; startup-notify-rate 1000;"
            f" also-notify {{ {secondary}; }}; allow-transfer {{ {secondary}; }};",
            f'type primary; file "zone"; allow-update {{ key "{self.key_name}"; }};',
        )
        self.secondary = self._named(
            self.secondary_host,
            "",
            "recursion no; notify no; min-retry-time 1; min-refresh-time 1;",
            f'type secondary; file "zone"; masterfile-format text; primaries {{ {primary}; }};',
        )
        self.resolver = self._named(
            self.resolver_host,
            "",
            "recursion yes; qname-minimization off;"
            f" max-cache-ttl {max_cache_ttl_s}; max-ncache-ttl 1;",
            f"type static-stub; server-addresses {{ {primary}; {secondary}; }};",
        )
        self.daemons = (self.primary, self.secondary, self.resolver)
        for daemon in self.daemons:
            world.keep(daemon).launch()
        for daemon in self.daemons:
            daemon.wait()

    def _write_zone(self, records: Sequence[str]) -> None:
        hosts = [
            f"{name} 5 IN A {host.address}"
            for name, host in (("ns1", self.primary_host), ("ns2", self.secondary_host))
        ]
        lines = [
            f"$ORIGIN {self.zone}.",
            "$TTL 5",
            "@ IN SOA ns1 hostmaster 1 3600 5 86400 1",
            "@ IN NS ns1",
            "@ IN NS ns2",
            *hosts,
            *records,
        ]
        (self.primary_host.folder / "zone").write_text("\n".join(lines) + "\n")

    def _named(self, host: Host, head: str, options: str, zone: str) -> Daemon:
        configuration = host.folder / "named.conf"
        configuration.write_text(
            f"""{head}
options {{
    directory "{host.folder}"; pid-file none; session-keyfile "{host.folder}/session.key";
    managed-keys-directory "{host.folder}"; geoip-directory none;
    listen-on {{ {host.address}; }}; listen-on-v6 {{ none; }};
    allow-query {{ any; }}; dnssec-validation no; empty-zones-enable no; prefetch 0;
    {options}
}};
controls {{ }};
zone "{self.zone}" {{ {zone} }};
"""
        )
        named = _out_of_apparmor("/usr/sbin/named", host.folder)
        argv = [named, "-g", "-4", "-n", "1", "-c", str(configuration)]
        recursive = host is self.resolver_host
        return Daemon(host, "named", argv, lambda: self._serves(host, recursive=recursive))

    def _serves(self, host: Host, *, recursive: bool) -> bool:
        with contextlib.suppress(dns.exception.Timeout, OSError):
            reply = self.ask(host, self.zone, "SOA", timeout_s=0.5)
            good = reply.rcode() == dns.rcode.NOERROR and bool(reply.answer)
            return good and (recursive or bool(reply.flags & dns.flags.AA))
        return False

    def ask(self, host: Host, name: str, kind: str, timeout_s: float = 2.0) -> dns.message.Message:
        """One question to the server on `host`, from that host; dns.exception.Timeout, OSError."""
        with inside(host.namespace):
            return dns.query.udp(
                dns.message.make_query(name, kind), host.address, timeout=timeout_s
            )

    def answer(self, host: Host, name: str, kind: str = "A") -> tuple[str, ...]:
        """Sorted rdata texts."""
        return tuple(
            sorted(
                rdata.to_text() for rrset in self.ask(host, name, kind).answer for rdata in rrset
            )
        )


def _out_of_apparmor(binary: str, folder: Path) -> str:
    """Debian's profile for named binds its path, and forbids our folder; a copy is not bound."""
    enabled = Path("/sys/module/apparmor/parameters/enabled")
    if not enabled.exists() or enabled.read_text().strip() != "Y" or not Path(binary).exists():
        return binary
    return str(shutil.copy(Path(binary), folder))


# The VRRP peer


class Keepalived(Daemon):
    """keepalived on a node, VRRPv3, one instance; `options` are more lines of that block."""

    def __init__(
        self,
        world: World,
        node: Node,
        addresses: Sequence[str],
        *,
        vrid: int = 51,
        priority: int = 100,
        advert_s: float = 1.0,
        options: Sequence[str] = (),
    ) -> None:
        folder = node.state_folder
        held = "\n".join(f"        {address} dev {places.LAN}" for address in addresses)
        more = "\n".join(f"    {line}" for line in options)
        configuration = folder / "keepalived.conf"
        configuration.write_text(
            f"""global_defs {{
    router_id {node.name}
    vrrp_version 3
}}
vrrp_instance lab {{
    state BACKUP
    interface {places.LAN}
    virtual_router_id {vrid}
    priority {priority}
    advert_int {advert_s:g}
{more}
    virtual_ipaddress {{
{held}
    }}
}}
"""
        )
        argv = [
            "keepalived",
            "--dont-fork",
            "--log-console",
            "--log-detail",
            "--vrrp",
            "-f",
            str(configuration),
        ]
        argv += ["-p", str(folder / "keepalived.pid"), "-r", str(folder / "vrrp.pid")]
        super().__init__(
            node, "keepalived", argv, lambda: "Entering BACKUP STATE" in node.log("keepalived.log")
        )
        world.keep(self).start()
