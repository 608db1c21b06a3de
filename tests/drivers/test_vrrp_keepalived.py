# SPDX-License-Identifier: GPL-2.0-or-later
"""keepalived is the other end: it believes our advertisements, and we read its own."""

from __future__ import annotations

import select
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from agent.core.keeping import AdvertSeen, PacketRefused
from agent.core.settings import GroupSettings
from drivers.vrrp import Vrrp
from tests.drivers.street import FLOATING, FLOATING_6, GROUP, Street, heard, laid
from tests.lab.netns import now_ms

CONFIG = """
global_defs {{
    router_id lon2
    vrrp_version 3
}}
vrrp_instance sbc {{
    state BACKUP
    interface eth0
    virtual_router_id 51
    priority 190
    advert_int 0.1
    {peers}
    virtual_ipaddress {{
        {address}
    }}
}}
"""
UNICAST = "unicast_src_ip 10.1.0.12\n    unicast_peer {\n        10.1.0.11\n    }"
WATCHED_MS = 600  # six intervals: well over the three after which it takes over

pytestmark = pytest.mark.skipif(not shutil.which("keepalived"), reason="needs keepalived")


@pytest.fixture(scope="module")
def street() -> Iterator[Street]:
    with laid() as street:
        yield street


@contextmanager
def keepalived(street: Street, folder: Path, **words: str) -> Iterator[None]:
    config = folder / "keepalived.conf"
    config.write_text(CONFIG.format(**words))
    config.chmod(0o600)
    options = ["--dont-fork", "--log-console", "--vrrp", "--use-file", str(config)]
    pids = ["--pid", str(folder / "pid"), "--vrrp_pid", str(folder / "vrrp_pid")]
    command = ["ip", "netns", "exec", street.namespace("lon2"), "keepalived", *options, *pids]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield
    finally:
        process.terminate()
        process.wait(5)


@pytest.mark.parametrize(
    ("group", "address", "peers", "form"),
    [
        (replace(GROUP, addresses=(FLOATING,)), "10.1.0.100/16", UNICAST, "pseudo"),
        (replace(GROUP, addresses=(FLOATING_6,)), "fd00:1::100/64", "", "v6"),
    ],
    ids=["IPv4 unicast", "IPv6 multicast"],
)
def test_keepalived_follows_our_adverts_and_takes_over_when_we_leave(
    street: Street, tmp_path: Path, group: GroupSettings, address: str, peers: str, form: str
) -> None:
    kit = street.forge("lon1", replace(group, advert_ms=100))
    with street.inside("lon1"):
        vrrp = Vrrp(kit)
    with keepalived(street, tmp_path, address=address, peers=peers):
        (first,) = heard(vrrp.receive, vrrp.filenos(), len)[:1]
        assert isinstance(first, AdvertSeen), first
        assert (first.priority, first.interval_ms, first.form) == (190, 100, form)
        while_we_lead = led(vrrp)
        vrrp.send("sbc", 0)
        (last,) = heard(vrrp.receive, vrrp.filenos(), len)[:1]
    vrrp.close()
    assert [it for it in while_we_lead if isinstance(it, PacketRefused)] == []
    assert len(while_we_lead) <= 2, f"keepalived did not follow: {while_we_lead}"
    assert isinstance(last, AdvertSeen), last


def led(vrrp: Vrrp) -> list[AdvertSeen | PacketRefused]:
    """What keepalived says while we advertise the higher priority."""
    seen: list[AdvertSeen | PacketRefused] = []
    until_ms = now_ms() + WATCHED_MS
    while now_ms() < until_ms:
        vrrp.send("sbc", 200)
        select.select(vrrp.filenos(), [], [], 0.05)
        seen += vrrp.receive()
    return seen
