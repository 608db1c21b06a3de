# SPDX-License-Identifier: GPL-2.0-or-later
"""The forms that values are written in. Each raises ValueError that says what would be right."""

import re
from ipaddress import IPv4Address, IPv6Address, ip_address

from agent.config_duration import duration_ms

_RESTARTS = re.compile(r"([0-9]{1,4})\s+in\s+(\S+)")
_HOST = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_][A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]+)*\.?")
_INTERFACE = re.compile(r"[^\s/:]{1,15}")
_TIME_OF_DAY = re.compile(r"([01]?[0-9]|2[0-3]):([0-5][0-9])")
_MIDNIGHT = "24:00"
_OUTLET = re.compile(r"[0-9]{1,6}(?:\.[0-9]{1,6}){0,3}")
_OID = re.compile(r"[0-2](?:\.[0-9]{1,10}){2,126}")
_FIELD = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*")
PATH_LIMIT_BYTES = 4095  # PATH_MAX less the zero at its end (limits.h)
IPMI_PORT = 623
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


def server(text: str, usual_port: int = 53) -> str:
    """ "192.0.2.53", "192.0.2.53:5353" or "[2001:db8::53]:5353", in the shortest spelling."""
    if text.count(":") != 1 and "[" not in text:
        return host_address(text)
    host, port = endpoint(text, usual_port)
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


def move_budget(text: str) -> tuple[int, int]:
    """ "6 in 1h" as (6, 3600000)."""
    moves, window_ms = restart_budget(text)
    if not moves:
        raise ValueError("must let one move happen; `standpipe maintenance on` keeps all in place")
    return moves, window_ms


def percent(text: str) -> int:
    """ "50%", 1 to 100."""
    found = re.fullmatch(r"([0-9]{1,3})\s*%", text.strip())
    if found is None or not 1 <= int(found[1]) <= 100:
        raise ValueError('must be 1% to 100%, as in "50%"')
    return int(found[1])


def day_window(text: str) -> tuple[int, int]:
    """ "22:00-04:30" as minutes of the day, (1320, 270)."""
    first, dash, last = (part.strip() for part in text.partition("-"))
    begin = _TIME_OF_DAY.fullmatch(first)
    end = _TIME_OF_DAY.fullmatch("0:00" if last == _MIDNIGHT else last)
    if not dash or begin is None or end is None:
        raise ValueError('must be two times of the day, as in "02:00-04:00"')
    window = int(begin[1]) * 60 + int(begin[2]), int(end[1]) * 60 + int(end[2])
    if window[0] == window[1]:
        raise ValueError("begins and ends at the same time; leave it out for the whole day")
    return window


def path_from_root(text: str) -> str:
    """An absolute path that is spelled in one way only; a tree keeps the / at its end."""
    if not text.startswith("/"):
        raise ValueError(f'must be a path from the root; did you mean "/{text}"')
    if not text.isprintable() or len(text.encode()) > PATH_LIMIT_BYTES:
        raise ValueError(f"must be printable, and at most {PATH_LIMIT_BYTES} bytes long")
    steps = text.strip("/").split("/")
    if ".." in steps:
        raise ValueError("must not go up with ..: write where it leads")
    plain = "/" + "/".join(step for step in steps if step not in ("", "."))
    plain += "/" if text.endswith("/") and plain != "/" else ""
    if plain != text:
        raise ValueError(f'did you mean "{plain}"')
    return plain


def file_path(text: str) -> str:
    """An absolute path of a file."""
    path = path_from_root(text)
    if path.endswith("/"):
        raise ValueError(f'must be a file; did you mean "{path.rstrip("/")}"')
    return path


def folder_path(text: str) -> str:
    """An absolute path of a folder, without a / at its end."""
    return path_from_root(text.rstrip("/") or "/")


def outlet(text: str) -> str:
    """As its PDU counts them: "5", or "1.5" for the fifth of the first unit."""
    if not _OUTLET.fullmatch(text):
        raise ValueError('must be as the PDU counts its outlets, "5" or "1.5"')
    return text


def management_controller(text: str) -> str:
    """Of IPMI: "10.1.0.61", or with a port."""
    return server(text, IPMI_PORT)


def object_id(text: str) -> str:
    """ "1.3.6.1.2.1.1.3.0", without a dot before it."""
    found = text.removeprefix(".")
    if not _OID.fullmatch(found):
        raise ValueError('must be an OID in numbers, as in "1.3.6.1.4.1.8072.1.2.0"')
    return found


def field_name(text: str) -> str:
    """Where the number is in the JSON: "calls.active"."""
    if not _FIELD.fullmatch(text):
        raise ValueError('must be names with dots between them, as in "calls.active"')
    return text


def folder_url(text: str) -> str:
    """ "https://host/folder/", with the / at its end."""
    web_host(text)
    if not text.startswith("https://"):
        raise ValueError("must be https: what is kept there is the cluster's")
    if "?" in text or "#" in text:
        raise ValueError('must be a folder, as in "https://cloud.example.net/standpipe/"')
    return text.rstrip("/") + "/"


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
