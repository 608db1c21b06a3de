# SPDX-License-Identifier: GPL-2.0-or-later
"""The forms that values are written in. Each raises ValueError that says what would be right."""

import re
from ipaddress import IPv4Address, IPv6Address, ip_address

from agent.config_duration import duration_ms

_RESTARTS = re.compile(r"([0-9]{1,4})\s+in\s+(\S+)")
_HOST = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_][A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]+)*\.?")
_INTERFACE = re.compile(r"[^\s/:]{1,15}")
_UNIT = re.compile(r"[A-Za-z0-9:_.@\\-]+")
_UNIT_TYPES = ("service", "socket", "target", "mount", "timer", "path", "slice", "scope", "device")


def floating_address(text: str) -> tuple[str, int, int]:
    """ "10.1.0.100/24" as (address, prefix length, family)."""
    address_text, slash, prefix = text.partition("/")
    address = _address(address_text)
    if not slash:
        raise ValueError(f'needs its prefix length, as in "{address}/{_usual(address)}"')
    if not re.fullmatch(r"[0-9]{1,3}", prefix):
        raise ValueError(f'the prefix length is a number, as in "{address}/{_usual(address)}"')
    prefix_len = int(prefix)
    if prefix_len > address.max_prefixlen:
        raise ValueError(f"the prefix length must be 0..{address.max_prefixlen}")
    if address.is_multicast or address.is_unspecified or address.is_loopback:
        raise ValueError("must be a unicast address that can be on an interface")
    host_mask = (1 << address.max_prefixlen - prefix_len) - 1
    host = int(address) & host_mask
    if host_mask > 1 and host == 0:
        raise ValueError(f"is the network {text} itself, not an address in it")
    if host_mask > 1 and host == host_mask and address.version == 4:
        raise ValueError(f"is the broadcast address of its network, {text}")
    return str(address), prefix_len, address.version


def host_address(text: str) -> str:
    """A unicast IP address without a prefix: names would make the cluster depend on DNS."""
    if "/" in text:
        plain = text.partition("/")[0]
        raise ValueError(f'an address without a prefix length; did you mean "{plain}"')
    address = _address(text)
    if address.is_multicast or address.is_unspecified:
        raise ValueError("must be a unicast address")
    return str(address)


def server(text: str) -> str:
    """ "192.0.2.53", "192.0.2.53:5353" or "[2001:db8::53]:5353", in the shortest spelling."""
    if text.count(":") != 1 and "[" not in text:
        return host_address(text)
    host, port = endpoint(text, 53)
    host = host_address(host)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def endpoint(text: str, usual_port: int = 0) -> tuple[str, int]:
    """ "127.0.0.1:5060", "[::1]:5060", "name:5060" as (host, port)."""
    found = re.fullmatch(r"\[([^\]]*)\](?::(.*))?|([^:]*)(?::([^:]*))?", text)
    if found is None:
        raise ValueError('an IPv6 address goes in brackets: "[2001:db8::1]:5060"')
    host = found[1] if found[1] is not None else found[3]
    port_text = found[2] if found[1] is not None else found[4]
    if found[1] is not None or re.fullmatch(r"[0-9.]+", host):
        host = str(_address(host))
    elif not _HOST.fullmatch(host):
        raise ValueError('must be host:port, as in "127.0.0.1:5060"')
    if port_text is None and usual_port:
        return host, usual_port
    if not re.fullmatch(r"[0-9]{1,5}", port_text or "") or not 0 < int(port_text) < 65536:
        raise ValueError('the port must be 1..65535, as in "127.0.0.1:5060"')
    return host, int(port_text)


def web_host(text: str) -> str:
    """The host of an http:// or https:// URL."""
    found = re.fullmatch(r"(?:([a-z]+)://)?([^/?#\s]*)([/?#]\S*)?", text)
    if found is None or found[1] not in ("http", "https", None) or "@" in found[2]:
        raise ValueError('must be a URL, as in "http://127.0.0.1:8080/health"')
    if found[1] is None:
        raise ValueError(f'must be a URL; did you mean "http://{text}"')
    return endpoint(found[2], 443 if found[1] == "https" else 80)[0]


def sip_host(text: str) -> str:
    """The host of "udp://127.0.0.1:5060"."""
    scheme, marks, rest = text.partition("://")
    if not marks:
        raise ValueError(f'must say the transport; did you mean "udp://{text}"')
    if scheme in ("tcp", "tls", "sip", "sips"):
        raise ValueError("not in this version: use udp://, or a tcp check of the port")
    if scheme != "udp":
        raise ValueError('must be as in "udp://127.0.0.1:5060"')
    return endpoint(rest, 5060)[0]


def unit_name(text: str) -> str:
    """A systemd unit; ".service" where no type is given, as systemctl reads it."""
    if not _UNIT.fullmatch(text):
        raise ValueError('must be a systemd unit, as in "kamailio.service"')
    return text if text.rpartition(".")[2] in _UNIT_TYPES and "." in text else f"{text}.service"


def process_name(text: str) -> str:
    """What ps shows as the command: no path, no arguments."""
    if "/" in text:
        raise ValueError(f'a name without its path; did you mean "{text.rpartition("/")[2]}"')
    return text


def interface_name(text: str) -> str:
    """At most 15 bytes (IFNAMSIZ, net/if.h)."""
    if not _INTERFACE.fullmatch(text) or text in (".", ".."):
        raise ValueError('must be an interface, 1..15 letters, as in "eth0"')
    return text


def restart_budget(text: str) -> tuple[int, int]:
    """ "3 in 10m" as (3, 600000)."""
    found = _RESTARTS.fullmatch(text.strip())
    if found is None:
        raise ValueError('must be as in "3 in 10m"')
    window_ms = duration_ms(found[2])
    if window_ms < 1000:
        raise ValueError('the window must be 1s or more, as in "3 in 10m"')
    return int(found[1]), window_ms


def domain(text: str) -> str:
    """A DNS name in lower case, without the last dot."""
    name = text.lower().removesuffix(".")
    labels = name.split(".")
    if len(name) > 253 or not all(re.fullmatch(r"[a-z0-9_*-]{1,63}", label) for label in labels):
        raise ValueError('must be a DNS name, as in "example.net"')
    return name


def record_value(kind: str, text: str) -> str:
    """One value of a record, as RFC 1035 master files have it."""
    fields = text.split()
    if kind in ("A", "AAAA"):
        address = _address(text)
        if address.version != (4 if kind == "A" else 6):
            other = "AAAA" if kind == "A" else "A"
            raise ValueError(f"is IPv{address.version}: it belongs into a record of type {other}")
        return str(address)
    if kind == "CNAME":
        domain(text)
    elif kind == "SRV" and not (len(fields) == 4 and all(_u16(number) for number in fields[:3])):
        raise ValueError('must be priority weight port target, as in "10 5 5060 sip.example.net."')
    elif kind == "NAPTR" and not (len(fields) >= 6 and all(_u16(number) for number in fields[:2])):
        raise ValueError(
            "must be order, preference, flags, service, regexp, replacement, as in "
            '\'10 50 "s" "SIP+D2U" "" _sip._udp.example.net.\''
        )
    return text


def _u16(text: str) -> bool:
    return re.fullmatch(r"[0-9]{1,5}", text) is not None and int(text) < 65536


def _usual(address: IPv4Address | IPv6Address) -> int:
    return 24 if address.version == 4 else 64


def _address(text: str) -> IPv4Address | IPv6Address:
    try:
        address = ip_address(text)
    except ValueError:
        raise ValueError('must be an IP address, as in "10.1.0.100"') from None
    if "%" in str(address):
        raise ValueError("must not name an interface: leave out the % and what follows")
    return address
