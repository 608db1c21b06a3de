# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernel settings of interfaces that must not speak for addresses of others.

Documentation/networking/ip-sysctl.rst. Common ground of the keeper's drivers.
"""

from collections.abc import Iterator
from pathlib import Path

CONF = Path("/proc/sys/net")
ANSWERS = {"ipv4/conf/{}/arp_ignore": 1, "ipv4/conf/{}/arp_announce": 2}
"""ARP for the interface's own addresses alone, and from them alone, as IPv6 does anyway."""

MACVLAN = {
    "ipv4/conf/{}/rp_filter": 2,  # the route back to a client is the parent's
    "ipv6/conf/{}/accept_ra": 0,  # the parent is told already
    "ipv6/conf/{}/autoconf": 0,
    "ipv6/conf/{}/mldv1_unsolicited_report_interval": 1,  # ms: said at once, or never: from a node
    "ipv6/conf/{}/mldv2_unsolicited_report_interval": 1,  # that gave the MAC away it would mislead
}
MACVLAN_4 = {"ipv6/conf/{}/disable_ipv6": 1}  # or it would report its multicast groups


def silence(interface: str, macvlan_family: int = 0, conf: Path = CONF) -> Iterator[str]:
    """Set what is not set already; what cannot be, one line each. Nothing where it is not there.

    macvlan_family: of the virtual router whose macvlan it is, 0 where it is none.
    """
    wanted = dict(ANSWERS)
    if macvlan_family:
        wanted |= MACVLAN
    if macvlan_family == 4:
        wanted |= MACVLAN_4
    for pattern, value in wanted.items():
        name = pattern.format(interface)
        path = conf / name
        try:
            if int(path.read_text()) != value:
                path.write_text(str(value))
        except FileNotFoundError:
            continue  # no such interface, or no IPv6
        except OSError as error:
            setting = "net/" + name
            yield (
                f"{interface}: {name.rpartition('/')[2]} cannot be set ({error.strerror});"
                f" say `{setting} = {value}` in a file of /etc/sysctl.d"
            )
