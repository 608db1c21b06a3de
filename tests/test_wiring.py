# SPDX-License-Identifier: GPL-2.0-or-later
"""Settings in, drivers out; a drill plays what its script names and leaves the rest real."""

from pathlib import Path

import pytest

from agent.core.settings import CheckSettings, ServiceSettings, Settings, WatchSettings
from agent.wiring import SCRIPT, Wiring
from drivers.commands import CommandService
from drivers.disk import DiskWatch
from drivers.fake import FakeCheck, FakeService, FakeWatch
from drivers.memory import MemoryWatch
from drivers.tcp import TcpCheck

DRILL = """
[[watch."host:disk".reading]]
resource = "disk:/var"
unit = "bytes"
limit = 64_000_000
points = [[0, 6_400_000]]
[check.sip]
turns = [[0, "no"]]
[service.kamailio]
running = true
"""


def settings() -> Settings:
    watches = {kind: WatchSettings(kind) for kind in ("disk", "memory")}
    return Settings("lab", "", "", watches=watches)


def wired(tmp_path: Path) -> Wiring:
    return Wiring(settings(), tmp_path, tmp_path)


def service(name: str) -> ServiceSettings:
    return ServiceSettings(name, start="true", stop="true", status="true")


def test_what_a_drill_names_is_played(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "drill.toml"
    script.write_text(DRILL)
    monkeypatch.setenv(SCRIPT, str(script))
    wiring = wired(tmp_path)
    assert [type(watch) for _, watch in wiring.watches()] == [FakeWatch, MemoryWatch]
    assert isinstance(wiring.check(CheckSettings("sip", "sip", "udp://127.0.0.1:5060")), FakeCheck)
    assert isinstance(wiring.service(service("kamailio")), FakeService)
    assert isinstance(wiring.service(service("asterisk")), CommandService)


def test_without_a_drill_everything_is_real(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(SCRIPT, raising=False)
    wiring = wired(tmp_path)
    assert [type(watch) for _, watch in wiring.watches()] == [DiskWatch, MemoryWatch]
    assert isinstance(wiring.check(CheckSettings("port", "tcp", "127.0.0.1:5060")), TcpCheck)
    assert isinstance(wiring.service(service("kamailio")), CommandService)


def test_a_kind_that_nobody_drives_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="check x: no driver for 'carrier-pigeon'"):
        wired(tmp_path).check(CheckSettings("x", "carrier-pigeon", "coop"))
