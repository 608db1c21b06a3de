# SPDX-License-Identifier: GPL-2.0-or-later
"""Who is let in, who is not, and when certificates are made anew."""

import asyncio
import ssl
import stat
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent.ports import Refused
from drivers import authority

CLUSTER = "call centre"  # a blank is allowed in a cluster's name, and not in a DNS label
AT = datetime.now(UTC)


def pki(folder: Path, node: str, cluster: str = CLUSTER, at: datetime = AT) -> Path:
    """A node of its own cluster."""
    authority.make_ca(folder, cluster, at)
    authority.issue(folder, cluster, node, at)
    return folder


def sibling(first: Path, folder: Path, node: str, at: datetime = AT) -> Path:
    """Another node of the same cluster."""
    folder.mkdir()
    for name in ("ca.crt", "ca.key"):
        (folder / name).write_bytes((first / name).read_bytes())
    authority.issue(folder, CLUSTER, node, at)
    return folder


async def meet(server: ssl.SSLContext, client: ssl.SSLContext) -> tuple[str, str]:
    """What each side knows once both have spoken: the protocol, and the name the server sees.

    Raises what the client sees: ssl.SSLError, or ConnectionError where it was hung up on.
    """
    seen: list[tuple[str, str]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        shown = writer.get_extra_info("ssl_object")
        protocol = shown.selected_alpn_protocol()
        name = authority.peer_name(shown, CLUSTER) if protocol == authority.CARRY else ""
        seen.append((protocol, name))
        writer.write(await reader.readexactly(1))
        await writer.drain()
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server)
    port = listening.sockets[0].getsockname()[1]
    try:
        async with asyncio.timeout(20):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client)
            try:
                writer.write(b"x")
                await writer.drain()
                if await reader.read(1) != b"x":
                    raise ConnectionResetError("hung up on")
            finally:
                writer.close()
                with suppress(OSError, ssl.SSLError):
                    await writer.wait_closed()
    finally:
        listening.close()
    return seen[0]


def test_two_nodes_of_a_cluster_know_each_other_by_name(tmp_path: Path) -> None:
    lon1 = pki(tmp_path / "lon1", "lon1")
    lon2 = sibling(lon1, tmp_path / "lon2", "lon2.example.net")
    server = authority.server_context(lon1, CLUSTER)
    client = authority.client_context(lon2, CLUSTER, "lon1")
    assert asyncio.run(meet(server, client)) == (authority.CARRY, "lon2.example.net")


def test_another_node_of_the_cluster_cannot_stand_in_for_the_one_dialled(tmp_path: Path) -> None:
    lon1 = pki(tmp_path / "lon1", "lon1")
    lon2 = sibling(lon1, tmp_path / "lon2", "lon2")
    client = authority.client_context(lon2, CLUSTER, "lon3")
    with pytest.raises(ssl.SSLError, match="lon1 answers in the place of lon3"):
        asyncio.run(meet(authority.server_context(lon1, CLUSTER), client))


def test_a_node_of_another_cluster_of_the_same_name_is_hung_up_on(tmp_path: Path) -> None:
    lon1 = pki(tmp_path / "lon1", "lon1")
    stranger = pki(tmp_path / "stranger", "lon2")
    client = authority.client_context(stranger, CLUSTER, "lon1")
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE  # it would lie about that
    client.sslobject_class = ssl.SSLObject
    with pytest.raises((ssl.SSLError, ConnectionError)):
        asyncio.run(meet(authority.server_context(lon1, CLUSTER), client))


def test_a_server_of_another_cluster_is_not_spoken_to(tmp_path: Path) -> None:
    lon1 = pki(tmp_path / "lon1", "lon1")
    stranger = pki(tmp_path / "stranger", "lon2")
    client = authority.client_context(lon1, CLUSTER, "lon2")
    with pytest.raises(ssl.SSLCertVerificationError):
        asyncio.run(meet(authority.server_context(stranger, CLUSTER), client))


def anonymous(*protocols: str) -> ssl.SSLContext:
    context = authority.joining_context(None)
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


def test_without_a_certificate_one_may_join_and_nothing_else(tmp_path: Path) -> None:
    server = authority.server_context(pki(tmp_path / "lon1", "lon1"), CLUSTER)
    assert asyncio.run(meet(server, anonymous())) == (authority.JOIN, "")
    for asked in (authority.CARRY, "h2"):
        with pytest.raises((ssl.SSLError, ConnectionError)):
            asyncio.run(meet(server, anonymous(asked)))


def test_nothing_older_than_tls_1_3_is_spoken(tmp_path: Path) -> None:
    server = authority.server_context(pki(tmp_path / "lon1", "lon1"), CLUSTER)
    client = anonymous()
    client.minimum_version = client.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises((ssl.SSLError, ConnectionError)):
        asyncio.run(meet(server, client))


def test_a_joiner_that_knows_the_authority_speaks_to_its_nodes_alone(tmp_path: Path) -> None:
    lon1 = pki(tmp_path / "lon1", "lon1")
    client = authority.joining_context((lon1 / "ca.crt").read_bytes())
    server = authority.server_context(lon1, CLUSTER)
    assert asyncio.run(meet(server, client)) == (authority.JOIN, "")
    stranger = pki(tmp_path / "stranger", "lon1")
    with pytest.raises(ssl.SSLCertVerificationError):
        asyncio.run(meet(authority.server_context(stranger, CLUSTER), client))


def test_an_expired_node_is_hung_up_on_until_it_renews_itself(tmp_path: Path) -> None:
    long_ago = AT - timedelta(days=100)
    lon1 = pki(tmp_path / "lon1", "lon1", at=long_ago)
    authority.issue(lon1, CLUSTER, "lon1", AT)
    lon2 = sibling(lon1, tmp_path / "lon2", "lon2", at=long_ago)
    assert authority.days_left(lon2, AT) == pytest.approx(-10, abs=0.1)
    server = authority.server_context(lon1, CLUSTER)
    client = authority.client_context(lon2, CLUSTER, "lon1")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        asyncio.run(meet(server, client))
    assert authority.renew_if_due(lon2, CLUSTER, "lon2", AT)
    authority.reload(client, lon2)
    assert asyncio.run(meet(server, client)) == (authority.CARRY, "lon2")


def test_a_certificate_is_renewed_from_its_sixtieth_day_and_keeps_its_key(tmp_path: Path) -> None:
    folder = pki(tmp_path / "p", "lon1")
    key, first = ((folder / name).read_bytes() for name in ("node.key", "node.crt"))
    for days, renewed in ((0, False), (59, False), (61, True)):
        at = AT + timedelta(days=days, minutes=1)
        assert authority.renew_if_due(folder, CLUSTER, "lon1", at) is renewed, days
    assert (folder / "node.key").read_bytes() == key
    assert (folder / "node.crt").read_bytes() != first
    assert authority.days_left(folder, AT + timedelta(days=61)) == pytest.approx(90, abs=0.1)


@pytest.mark.parametrize(
    ("what", "damage"),
    [
        ("the certificate is gone", lambda folder: (folder / "node.crt").unlink()),
        ("the key is gone", lambda folder: (folder / "node.key").unlink()),
        ("half a certificate", lambda folder: (folder / "node.crt").write_bytes(b"-----BEGIN")),
        (
            "the certificate of another key",
            lambda folder: (folder / "node.crt").write_bytes(
                (pki(folder / "other", "lon1") / "node.crt").read_bytes()
            ),
        ),
        ("the name of another node", lambda folder: authority.issue(folder, CLUSTER, "par1", AT)),
        ("a time to come", lambda folder: authority.issue(folder, CLUSTER, "lon1", AT + DAY)),
    ],
)
def test_what_is_of_no_use_is_made_anew(tmp_path: Path, what: str, damage) -> None:  # type: ignore[no-untyped-def]
    folder = pki(tmp_path / "p", "lon1")
    damage(folder)
    assert authority.renew_if_due(folder, CLUSTER, "lon1", AT), what
    assert not authority.renew_if_due(folder, CLUSTER, "lon1", AT), what
    authority.server_context(folder, CLUSTER)


DAY = timedelta(days=1)


def test_a_clock_an_hour_behind_takes_a_new_certificate(tmp_path: Path) -> None:
    folder = pki(tmp_path / "p", "lon1", at=AT + timedelta(minutes=59))
    server = authority.server_context(folder, CLUSTER)
    lon2 = sibling(folder, tmp_path / "q", "lon2", at=AT + timedelta(minutes=59))
    client = authority.client_context(lon2, CLUSTER, "lon1")
    assert asyncio.run(meet(server, client)) == (authority.CARRY, "lon2")


@pytest.mark.parametrize(
    ("at", "why"),
    [
        (datetime(1970, 1, 2, tzinfo=UTC), "the clock says 1970-01-02, before the authority"),
        (AT + timedelta(days=21 * 365), "ended on .*; begin a new one with `standpipe init`"),
    ],
)
def test_no_certificate_is_made_at_an_impossible_time(
    tmp_path: Path, at: datetime, why: str
) -> None:
    folder = pki(tmp_path / "p", "lon1")
    before = (folder / "node.crt").read_bytes()
    with pytest.raises(Refused, match=why):
        authority.renew_if_due(folder, CLUSTER, "lon1", at)
    assert (folder / "node.crt").read_bytes() == before


def test_keys_are_closed_to_others_and_an_authority_is_never_overwritten(tmp_path: Path) -> None:
    folder = pki(tmp_path / "p", "lon1")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE((folder / f"{name}.key").stat().st_mode) for name in ("ca", "node")} == {
        0o600
    }
    before = (folder / "ca.key").read_bytes()
    with pytest.raises(Refused, match="there is one already, nothing is overwritten"):
        authority.make_ca(folder, CLUSTER)
    assert (folder / "ca.key").read_bytes() == before
    assert sorted(file.name for file in folder.iterdir()) == [
        "ca.crt",
        "ca.key",
        "node.crt",
        "node.key",
    ]


def test_what_is_missing_or_wrong_is_named_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"nowhere: No such file.*standpipe init.*standpipe join"):
        authority.server_context(tmp_path / "nowhere", CLUSTER)
    folder = pki(tmp_path / "p", "lon1")
    (folder / "ca.key").write_bytes((folder / "node.key").read_bytes())
    with pytest.raises(Refused, match=r"ca\.key is not the key of ca.crt; copy both"):
        authority.issue(folder, CLUSTER, "lon1")
    (folder / "ca.key").write_text("rubbish")
    with pytest.raises(Refused, match=r"ca\.key: is no private key"):
        authority.issue(folder, CLUSTER, "lon1")


def test_a_name_of_another_clusters_form_is_nobody(tmp_path: Path) -> None:
    lon1 = pki(tmp_path / "lon1", "lon1")
    lon2 = sibling(lon1, tmp_path / "lon2", "lon2")
    authority.issue(lon2, "another", "lon2", AT)
    client = authority.client_context(lon2, CLUSTER, "lon1")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        asyncio.run(meet(authority.server_context(lon1, CLUSTER), client))


def test_nodes_with_the_same_cluster_key_have_the_same_authority_each_for_itself(
    tmp_path: Path,
) -> None:
    folders = {}
    for node, secret in (("lon1", b"s" * 32), ("lon2", b"s" * 32), ("odd", b"t" * 32)):
        folders[node] = tmp_path / node
        authority.make_ca(folders[node], CLUSTER, AT, secret)
        authority.issue(folders[node], CLUSTER, node, AT)
    prints = {
        node: authority.fingerprint((folder / "ca.crt").read_bytes())
        for node, folder in folders.items()
    }
    assert prints["lon1"] == prints["lon2"] != prints["odd"]
    server = authority.server_context(folders["lon1"], CLUSTER)
    for node, known in (("lon2", True), ("odd", False)):
        client = authority.client_context(folders[node], CLUSTER, "lon1")
        if known:
            assert asyncio.run(meet(server, client)) == (authority.CARRY, node)
        else:
            with pytest.raises(ssl.SSLCertVerificationError):
                asyncio.run(meet(server, client))
