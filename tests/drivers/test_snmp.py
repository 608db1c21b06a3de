# SPDX-License-Identifier: GPL-2.0-or-later
"""SNMP questions to net-snmp's agent on loopback: what is asked, and what is made of a no."""

import asyncio
import gc
import os
import signal
import socket
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest

from agent.core.model import Reading
from agent.core.settings import DeviceSettings, SnmpSettings
from agent.ports import Garbled, Refused, Unreachable
from drivers.snmp import Session, engine_id
from drivers.ups import UPS_MIB, Ups

ON_MAINS = {
    "2.1.0": 2, "2.2.0": 0, "2.3.0": 43, "2.4.0": 100, "3.3.1.3.1": 229, "4.1.0": 3,
    "4.4.1.5.1": 59,
}  # fmt: skip
ON_BATTERY = ON_MAINS | {"2.2.0": 40, "3.3.1.3.1": 0, "4.1.0": 5}


class Snmpd:
    """net-snmp's agent on a free loopback port, serving fixed UPS-MIB rows."""

    def __init__(self, folder: Path, rows: dict[str, int], phrase: str = "auth pass 1") -> None:
        self.folder = folder
        self.port = free_port()
        lines = [
            f"agentaddress udp:127.0.0.1:{self.port},udp6:[::1]:{self.port}",
            "rocommunity public 127.0.0.1",
            "rocommunity6 public ::1",
            "rocommunity blind 127.0.0.1 .1.3.6.1.2.1.1",
            f'createUser monitor SHA-256 "{phrase}" AES "priv pass 1"',
            f'createUser strong SHA-512 "{phrase}" AES-256 "priv pass 1"',
            "rouser monitor authPriv",
            "rouser strong authPriv",
        ]
        lines += [f"override {UPS_MIB}.{oid} integer {value}" for oid, value in rows.items()]
        (folder / "snmpd.conf").write_text("\n".join(lines) + "\n")
        self.start()

    def start(self, persistent: str = "state") -> None:
        """A new `persistent` folder makes it another SNMP engine, as a replaced card is."""
        state = self.folder / persistent
        state.mkdir(exist_ok=True)
        self.process = subprocess.Popen(
            ["/usr/sbin/snmpd", "-f", "-Lo", "-I", "-smux"],
            env={
                "SNMPCONFPATH": f"{self.folder}:{state}",
                "SNMP_PERSISTENT_DIR": str(state),
                "MIBS": "",
                "PATH": os.environ["PATH"],
            },
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 10
        while not self.answers():
            assert self.process.poll() is None, "snmpd ended at once"
            assert time.monotonic() < deadline, "snmpd does not answer"

    def answers(self) -> bool:
        command = ["snmpget", "-v2c", "-cpublic", "-r0", "-t0.2", f"127.0.0.1:{self.port}"]
        done = subprocess.run([*command, f".{UPS_MIB}.2.1.0"], capture_output=True, check=False)
        return done.returncode == 0

    def stop(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def snmpd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Snmpd]:
    server = Snmpd(tmp_path_factory.mktemp("snmpd"), ON_MAINS)
    yield server
    server.stop()


def secrets(folder: Path, auth: str, priv: str) -> str:
    file = folder / "snmp.key"
    file.write_text(f'auth = "{auth}"\npriv = "{priv}"\n')
    return str(file)


def v3(port: int, file: str, user: str = "monitor") -> SnmpSettings:
    return SnmpSettings("3", user=user, level="authPriv", secrets_file=file, port=port)


Story = Callable[[Session], Awaitable[None]]


def tell(state_dir: Path, story: Story) -> None:
    """Runs a story with an SNMP session, closed afterwards."""

    async def whole() -> None:
        session = Session(state_dir, "callcentre.lon1")
        try:
            await story(session)
        finally:
            session.close()
            await asyncio.sleep(0)  # lets pysnmp's timer see that it is cancelled

    asyncio.run(whole())


def ups_on(session: Session, snmp: SnmpSettings, address: str = "127.0.0.1") -> Ups:
    settings = DeviceSettings("ups1", address, "london", snmp)
    return Ups(settings, session.line("device.ups1", address, snmp, try_s=0.6))


def read(state_dir: Path, snmp: SnmpSettings, address: str = "127.0.0.1") -> list[Reading]:
    readings: list[Reading] = []

    async def story(session: Session) -> None:
        readings.extend(await ups_on(session, snmp, address).read())

    tell(state_dir, story)
    return readings


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_real_agent_is_read_with_a_community(snmpd: Snmpd, tmp_path: Path, address: str) -> None:
    readings = read(tmp_path, SnmpSettings(community="public", port=snmpd.port), address)
    assert [reading.value for reading in readings] == [2580.0, 100.0, 59.0, 0.0, 0.0, None]


@pytest.mark.parametrize(
    ("user", "auth", "priv"), [("monitor", "sha256", "aes128"), ("strong", "SHA-512", "AES256")]
)
def test_a_real_agent_is_read_with_a_v3_user(
    snmpd: Snmpd, tmp_path: Path, user: str, auth: str, priv: str
) -> None:
    file = secrets(tmp_path, f"{auth}:auth pass 1", f"{priv}:priv pass 1")
    assert read(tmp_path, v3(snmpd.port, file, user))[0].value == 2580.0


def test_devices_that_share_a_community_do_not_lose_each_others_answers(
    snmpd: Snmpd, tmp_path: Path
) -> None:
    other = Snmpd(tmp_path, ON_BATTERY)

    async def story(session: Session) -> None:
        one = ups_on(session, SnmpSettings(community="public", port=snmpd.port))
        two = ups_on(session, SnmpSettings(community="public", port=other.port))
        for _ in range(2):
            async with asyncio.TaskGroup() as tasks:
                reads = [tasks.create_task(ups.read()) for ups in (one, two)]
            assert [done.result()[3].value for done in reads] == [0.0, 1.0]

    try:
        tell(tmp_path, story)
    finally:
        other.stop()


def test_a_wrong_pass_phrase_is_refused_by_name(snmpd: Snmpd, tmp_path: Path) -> None:
    file = secrets(tmp_path, "sha256:auth pass 2", "aes128:priv pass 1")
    with pytest.raises(Refused, match=r"device\.ups1.*'monitor' refused.*check device\.ups1\.snmp"):
        read(tmp_path, v3(snmpd.port, file))


def test_an_unknown_user_is_refused_by_name(snmpd: Snmpd, tmp_path: Path) -> None:
    file = secrets(tmp_path, "sha256:auth pass 1", "aes128:priv pass 1")
    with pytest.raises(Refused, match="'nobody' refused"):
        read(tmp_path, v3(snmpd.port, file, "nobody"))


def test_one_user_name_may_have_another_secret_on_another_device(
    snmpd: Snmpd, tmp_path: Path
) -> None:
    other = Snmpd(tmp_path, ON_BATTERY, "auth pass 2")
    (tmp_path / "keys").mkdir()
    one = v3(snmpd.port, secrets(tmp_path, "sha256:auth pass 1", "aes128:priv pass 1"))
    two = v3(other.port, secrets(tmp_path / "keys", "sha256:auth pass 2", "aes128:priv pass 1"))

    async def story(session: Session) -> None:
        for _ in range(3):
            async with asyncio.TaskGroup() as tasks:
                reads = [tasks.create_task(ups_on(session, snmp).read()) for snmp in (one, two)]
            assert [done.result()[3].value for done in reads] == [0.0, 1.0]

    try:
        tell(tmp_path, story)
    finally:
        other.stop()


def test_a_mended_secrets_file_is_read_again(snmpd: Snmpd, tmp_path: Path) -> None:
    async def story(session: Session) -> None:
        ups = ups_on(session, v3(snmpd.port, str(tmp_path / "snmp.key")))
        with pytest.raises(Refused, match=r"device\.ups1\.snmp\.secrets_file.*No such file"):
            await ups.read()
        secrets(tmp_path, "sha256:short", "aes128:priv pass 1")
        with pytest.raises(Refused, match="shorter than 8"):
            await ups.read()
        secrets(tmp_path, "rot13:auth pass 1", "aes128:priv pass 1")
        with pytest.raises(Refused, match="sha256"):
            await ups.read()
        secrets(tmp_path, "sha256:auth pass 2", "aes128:priv pass 1")
        with pytest.raises(Refused, match="'monitor' refused"):
            await ups.read()
        secrets(tmp_path, "sha256:auth pass 1", "aes128:priv pass 1")
        assert (await ups.read())[0].value == 2580.0

    tell(tmp_path, story)


def test_a_view_without_ups_mib_is_garbled(snmpd: Snmpd, tmp_path: Path) -> None:
    with pytest.raises(Garbled, match="no row of UPS-MIB"):
        read(tmp_path, SnmpSettings(community="blind", port=snmpd.port))


def test_silence_is_unreachable_and_never_a_value(tmp_path: Path) -> None:
    with pytest.raises(
        Unreachable, match=r"device\.ups1 \(127\.0\.0\.1 port \d+\): no answer in 1.2 s"
    ):
        read(tmp_path, SnmpSettings(community="public", port=free_port()))


def test_a_card_that_comes_back_as_another_engine_is_read_again(tmp_path: Path) -> None:
    server = Snmpd(tmp_path, ON_MAINS)
    file = secrets(tmp_path, "sha256:auth pass 1", "aes128:priv pass 1")

    async def story(session: Session) -> None:
        ups = ups_on(session, v3(server.port, file))
        assert (await ups.read())[0].value == 2580.0
        server.stop()
        server.start("state of another card")
        with pytest.raises(Unreachable):
            await ups.read()
        assert (await ups.read())[0].value == 2580.0

    try:
        tell(tmp_path, story)
    finally:
        server.stop()


def test_hundreds_of_polls_leave_nothing_behind(snmpd: Snmpd, tmp_path: Path) -> None:
    async def story(session: Session) -> None:
        ups = ups_on(session, SnmpSettings(community="public", port=snmpd.port))

        async def objects_after(polls: int) -> int:
            for _ in range(polls):
                await ups.read()
            gc.collect()
            return len(gc.get_objects())

        seen = [await objects_after(100)] + [await objects_after(300) for _ in range(3)]
        growth = [later - earlier for earlier, later in pairwise(seen)]
        assert min(growth) < 100, "a leak grows each time; what others allocate once does not"

    tell(tmp_path, story)


# ---------------------------------------------------------------- the engine's identity


def test_the_engine_is_named_as_rfc_3411_says() -> None:
    assert engine_id("callcentre.lon1") == b"\x80\x00\x1f\x88\x04callcentre.lon1"
    long = engine_id("a cluster of many words.and a node")
    assert (len(long), long[4]) == (17, 5)


def test_starts_are_counted_on_disk_and_rise_without_it(snmpd: Snmpd, tmp_path: Path) -> None:
    public = SnmpSettings(community="public", port=snmpd.port)
    starts = []

    async def story(session: Session) -> None:
        starts.append(await session.line("device.ups1", "127.0.0.1", public).open())

    tell(tmp_path, story)
    tell(tmp_path, story)
    (tmp_path / "snmp-engine.json").write_text('{"starts": 2000000000}')
    tell(tmp_path, story)
    (tmp_path / "snmp-engine.json").write_text("torn")
    tell(tmp_path, story)
    assert starts[1] == starts[0] + 1
    assert starts[2] == 2_000_000_001
    minutes_since_2020 = (datetime.now(UTC) - datetime(2020, 1, 1, tzinfo=UTC)).total_seconds() / 60
    assert starts[3] == pytest.approx(minutes_since_2020, abs=3)
