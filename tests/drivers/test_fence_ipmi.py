# SPDX-License-Identifier: GPL-2.0-or-later
"""A node is fenced through its BMC: ipmitool against OpenIPMI's ipmi_sim on loopback."""

import asyncio
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.core.settings import FenceSettings
from agent.ports import Garbled, PortError, Refused, Unreachable
from drivers.fence_ipmi import IpmiFence
from tests.drivers.test_snmp import free_port

PLAYED = """#!/bin/sh
# chassis_control of ipmi_lan(5): get FIELD..., set FIELD VALUE...
cd "$(dirname "$0")" || exit 1
verb="$1"; shift
for field; do
    [ "$verb:$field" = get:power ] && echo "power:$(cat power)"
    [ "$verb:$field" = get:boot ] && echo "boot:none"
done
if [ "$verb:$1" = set:power ]; then
    echo "$2" >>orders
    if [ -e refuses ]; then exit 1; fi
    if [ -e lies ]; then exit 0; fi
    if [ -e slow ]; then (sleep 1; echo "$2" >power) & else echo "$2" >power; fi
fi
exit 0
"""


class Bmc:
    """ipmi_sim with one BMC, whose chassis is a file: 1 is on."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        auths = "".join(
            f"    allowed_auths_{level} none md2 md5 straight\n"
            for level in ("callback", "user", "operator", "admin")
        )
        (folder / "lan.conf").write_text(
            'name "lon2"\nset_working_mc 0x20\n  startlan 1\n'
            f"    addr 127.0.0.1 {self.port}\n    priv_limit admin\n{auths}"
            "    guid a123456789abcdefa123456789abcdef\n  endlan\n"
            f'  chassis_control "{folder}/chassis"\n'
            '  user 2 true "fence" "sekrit" operator 10 none md2 md5 straight\n'
        )
        (folder / "sim.emu").write_text(
            "mc_setbmc 0x20\n"
            "mc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02 persist_sdr\n"
            "mc_enable 0x20\n"
        )
        (folder / "chassis").write_text(PLAYED)
        (folder / "chassis").chmod(0o755)
        (folder / "state").mkdir()
        file = folder / "password"
        file.write_text("sekrit")
        file.chmod(0o600)
        self.password, self.address = str(file), f"127.0.0.1:{self.port}"
        self.known = self.fence()  # it has learned what the simulator cannot do, which costs 3 s
        self.power = "1"
        argv = ["ipmi_sim", "-c", "lan.conf", "-f", "sim.emu", "-s", "state", "-n"]
        self._process = subprocess.Popen(
            argv, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self._greet()

    def _greet(self) -> None:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            assert self._process.poll() is None, "ipmi_sim ended at once"
            try:
                asyncio.run(self.known.status(5_000))
                return
            except PortError:
                time.sleep(0.1)
        raise AssertionError("ipmi_sim does not answer")

    @property
    def power(self) -> str:
        return (self.folder / "power").read_text().strip()

    @power.setter
    def power(self, value: str) -> None:
        (self.folder / "power").write_text(value)

    def orders(self) -> list[str]:
        file = self.folder / "orders"
        return file.read_text().split() if file.exists() else []

    def fence(self, **changes: str) -> IpmiFence:
        told = {"address": self.address, "user": "fence", "password_file": self.password} | changes
        return IpmiFence("lon2", FenceSettings("ipmi", **told))

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bmc]:
    for program in ("ipmi_sim", "ipmitool"):
        assert shutil.which(program), f"{program} is not installed: make machine"
    bmc = Bmc(tmp_path_factory.mktemp("bmc"))
    yield bmc
    bmc.close()


@pytest.fixture
def bmc(simulator: Bmc) -> Bmc:
    simulator.power = "1"
    for name in ("orders", "lies", "slow", "refuses"):
        (simulator.folder / name).unlink(missing_ok=True)
    return simulator


def test_a_node_is_off_when_its_bmc_says_so_after_the_command(bmc: Bmc) -> None:
    told = asyncio.run(bmc.known.off(20_000))
    assert told == f"node lon2: BMC 127.0.0.1:{bmc.port} is off"
    assert (bmc.power, bmc.orders()) == ("0", ["0"])
    assert asyncio.run(bmc.known.on(20_000)).endswith("is on")
    assert bmc.power == "1"


def test_a_bmc_that_cannot_list_its_cipher_suites_is_asked_for_them_once(
    bmc: Bmc, tmp_path: Path
) -> None:
    shim = tmp_path / "ipmitool"
    shim.write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/runs\nexec ipmitool "$@"\n')
    shim.chmod(0o755)
    settings = FenceSettings("ipmi", address=bmc.address, user="fence", password_file=bmc.password)
    fence = IpmiFence("lon2", settings, ipmitool=str(shim))
    asyncio.run(fence.status(20_000))
    asyncio.run(fence.status(20_000))
    first, second = (tmp_path / "runs").read_text().splitlines()
    assert ("-C" in first.split(), "-C 3" in second) == (False, True)


def test_a_node_that_takes_time_to_go_off_is_waited_for(bmc: Bmc) -> None:
    (bmc.folder / "slow").touch()
    asyncio.run(bmc.known.off(20_000))
    assert bmc.power == "0"


def test_a_bmc_that_takes_the_command_and_does_nothing_is_found_out(bmc: Bmc) -> None:
    (bmc.folder / "lies").touch()
    with pytest.raises(PortError) as caught:
        asyncio.run(bmc.known.off(5_000))
    assert type(caught.value) in (Garbled, Unreachable)  # or it was cut off in its last look
    assert bmc.orders()[0] == "0"


def test_a_test_asks_for_the_right_and_changes_nothing(bmc: Bmc) -> None:
    told = asyncio.run(bmc.known.test(20_000))
    assert told.endswith("its power is on, its user may switch it")
    assert bmc.orders() == []


@pytest.mark.parametrize(
    ("level", "why"), [("02", "this user may only look"), ("zz", "its privilege level is 'zz'")]
)
def test_a_user_without_the_right_to_switch_is_found_by_the_test(
    tmp_path: Path, level: str, why: str
) -> None:
    """Played: ipmi_sim gives every user the privilege that it asks for."""
    password, shim = tmp_path / "password", tmp_path / "ipmitool"
    password.write_text("x")
    shim.write_text(
        '#!/bin/sh\ncase "$*" in\n'
        f"    *raw*) echo ' {level}' ;;\n"
        "    *) echo Chassis Power is on ;;\nesac\n"
    )
    shim.chmod(0o755)
    settings = FenceSettings("ipmi", address="::1", user="x", password_file=str(password))
    with pytest.raises((Refused, Garbled), match=why):
        asyncio.run(IpmiFence("lon2", settings, ipmitool=str(shim)).test(5_000))


@pytest.mark.parametrize("verb", ["off", "test"])
def test_a_wrong_password_is_refused_and_not_taken_for_silence(
    bmc: Bmc, tmp_path: Path, verb: str
) -> None:
    wrong = tmp_path / "password"
    wrong.write_text("wrong")
    with pytest.raises(Refused, match=r"HMAC is invalid.*check user, password_file"):
        asyncio.run(getattr(bmc.fence(password_file=str(wrong)), verb)(20_000))
    assert bmc.power == "1"


def test_an_unknown_user_is_refused(bmc: Bmc) -> None:
    with pytest.raises(Refused, match="unauthorized name"):
        asyncio.run(bmc.fence(user="nobody").test(20_000))


def test_a_missing_password_file_is_refused_by_its_setting(bmc: Bmc) -> None:
    with pytest.raises(Refused, match=r"node\.lon2\.fence\.password_file.*missing"):
        asyncio.run(bmc.fence(password_file="/nonexistent").off(5_000))


def test_the_password_is_on_no_command_line(bmc: Bmc) -> None:
    assert "sekrit" not in bmc.fence()._command


def test_a_bmc_that_is_silent_is_not_known_and_never_off(bmc: Bmc) -> None:
    silent = bmc.fence(address=f"127.0.0.1:{free_port()}")
    with pytest.raises(Unreachable, match=r"is unknown .*not known to be off"):
        asyncio.run(silent.off(4_000))


def test_without_ipmitool_it_says_what_to_install(bmc: Bmc) -> None:
    settings = FenceSettings("ipmi", address="127.0.0.1", user="fence", password_file=bmc.password)
    with pytest.raises(Refused, match="install the package ipmitool"):
        asyncio.run(IpmiFence("lon2", settings, ipmitool="no-ipmitool-here").test(5_000))


@pytest.mark.parametrize(
    ("address", "host", "port"),
    [
        ("10.0.0.1", "10.0.0.1", "623"),
        ("bmc.example:1623", "bmc.example", "1623"),
        ("2001:db8::1", "2001:db8::1", "623"),
        ("[2001:db8::1]:1623", "2001:db8::1", "1623"),
    ],
)
def test_addresses_may_have_a_port(address: str, host: str, port: str) -> None:
    fence = IpmiFence("lon2", FenceSettings("ipmi", address=address, user="x"))
    assert f"-H {host} -p {port} " in fence._command
