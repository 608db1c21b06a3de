# SPDX-License-Identifier: GPL-2.0-or-later
"""An NMS that keeps every trap (snmptrapd), and a UPS that loses its mains (snmpsim)."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path

from tests.lab import plan as places
from tests.lab.netns import LabError, now_ms, wait_until
from tests.lab.servers import Daemon
from tests.lab.world import ROOT, World


@dataclass(frozen=True)
class Secrets:
    """An SNMPv3 user, authPriv with SHA-256 and AES-128 (RFC 7860, RFC 3826)."""

    user: str
    authentication: str
    privacy: str

    def options(self) -> list[str]:
        """For net-snmp's commands (snmpcmd(1))."""
        keys = ["-a", "SHA-256", "-A", self.authentication, "-x", "AES", "-X", self.privacy]
        return ["-v3", "-u", self.user, "-l", "authPriv", *keys]


@dataclass(frozen=True)
class Trap:
    """One notification: snmpTrapOID's value, and the varbinds as (oid, "TYPE: value").

    OIDs have a leading dot.
    """

    at_ms: float
    oid: str
    varbinds: tuple[tuple[str, str], ...]

    def value(self, oid: str) -> str | None:
        """The first varbind at or under an OID, without its type."""
        for found, text in self.varbinds:
            if found == oid or found.startswith(oid + "."):
                return text.partition(": ")[2]
        return None


_FIELD, _END = "\x1f", "\x1e"
_TRAP_OID = ".1.3.6.1.6.3.1.1.4.1.0"  # snmpTrapOID.0


class Traps:
    """snmptrapd on the NMS, for v2c ("public") and v3; each trap is stamped as it arrives.

    A v3 inform needs nothing more; a v3 trap is signed in its sender's engine, which `engine_id`
    (hex) names.
    """

    def __init__(self, world: World, *, engine_id: str | None = None) -> None:
        self.host = world.host(places.NMS)
        self.address, self.community = self.host.address, "public"
        self.user = Secrets("traps", "wheal-prosper-auth", "wheal-prosper-priv")
        self._traps: list[Trap] = []
        self._changed = threading.Condition()
        user = f"{self.user.user} SHA-256 {self.user.authentication} AES {self.user.privacy}"
        lines = [
            f"createUser {user}",
            f"authUser log {self.user.user} priv",
            f"authCommunity log {self.community}",
        ]
        if engine_id:
            lines.append(f"createUser -e 0x{engine_id} {user}")
        self._configuration = self.host.folder / "snmptrapd.conf"
        self._configuration.write_text("\n".join(lines) + "\n")
        self._process: subprocess.Popen[bytes] | None = None
        world.keep(self).start()

    def start(self) -> None:
        """Start, or start again, and return when it acknowledges; what came before is kept."""
        argv = ["snmptrapd", "-f", "-n", "-C", "-c", str(self._configuration)]
        argv += ["-Lo", "-On", "-Oe", "-Ot", "-F", f"%V{_FIELD}%v{_END}\n"]
        environment = {"SNMP_PERSISTENT_DIR": str(self.host.folder), "MIBS": ""}
        self._process = subprocess.Popen(
            self.host.command(*argv, f"udp:{self.address}:162"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, **environment},
        )
        assert self._process.stdout
        output = self._process.stdout.fileno()
        self._reader = threading.Thread(target=self._read, args=(output,), daemon=True)
        self._reader.start()
        self._greet()

    def stop(self) -> None:
        """The NMS is dead: nothing is acknowledged any more."""
        if self._process:
            self._process.kill()
            with self._process:
                self._reader.join()
            self._process = None

    def _greet(self) -> None:
        """An inform is acknowledged only by one that listens; its record is taken out again."""
        greeting = ".1.3.6.1.4.1.8072.9999.9999"  # netSnmpPlaypen

        def acknowledged() -> bool:
            where = ["-v2c", "-c", self.community, "-r", "0", "-t", "0.2", self.address]
            return self.host.run("snmpinform", *where, "", greeting, check=False).returncode == 0

        wait_until(acknowledged, f"snmptrapd on {self.host.name} acknowledges an inform")
        self.wait_for(greeting)
        with self._changed:
            self._traps = [trap for trap in self._traps if trap.oid != greeting]

    def _read(self, output: int) -> None:
        pending = b""
        while block := os.read(output, 1 << 16):
            at_ms = now_ms()
            *whole, pending = (pending + block).split(_END.encode())
            with self._changed:
                texts = [text.decode(errors="replace") for text in whole]
                self._traps += [trap for text in texts if (trap := parse_trap(text, at_ms))]
                self._changed.notify_all()

    def all(self) -> list[Trap]:
        """In the order of arrival."""
        with self._changed:
            return list(self._traps)

    def wait_for(self, oid: str, limit_s: float = 10.0, after_ms: float = 0.0) -> Trap:
        """The first of this kind that came, or comes, after a moment; LabError when none does."""

        def found() -> Trap | None:
            return next(
                (trap for trap in self._traps if trap.oid == oid and trap.at_ms >= after_ms), None
            )

        with self._changed:
            trap = self._changed.wait_for(found, limit_s)
            if trap is None:
                raise LabError(
                    f"no trap {oid} in {limit_s:g} s, only {[known.oid for known in self._traps]}"
                )
            return trap

    def close(self) -> None:
        self.stop()


def parse_trap(text: str, at_ms: float) -> Trap | None:
    """A record of snmptrapd's; None for its other log lines."""
    fields = [field.strip() for field in text.split(_FIELD)]
    pairs = [
        (oid.strip(), value)
        for oid, sign, value in (field.partition(" = ") for field in fields)
        if sign
    ]
    kind = next(
        (value.removeprefix("OID: ") for oid, value in pairs if oid.endswith(_TRAP_OID)), None
    )
    if kind is None:
        return None
    return Trap(at_ms, kind, tuple(pair for pair in pairs if not pair[0].endswith(_TRAP_OID)))


# The UPS


@dataclass(frozen=True)
class Power:
    """What the UPS says of itself (UPS-MIB, RFC 1628)."""

    on_battery: bool = False
    runtime_minutes: int = 45
    charge_pct: int = 100
    battery_low: bool = False
    load_pct: int = 40


_UPS_MIB = "1.3.6.1.2.1.33.1"
_SECONDS_ON_BATTERY = f"{_UPS_MIB}.2.2.0"


def snmp_records(power: Power, booted_ms: float, battery_since_ms: float | None) -> dict[str, str]:
    """The device's objects as {oid: "TAG|value"} of .snmprec; times run from snmpsim's start."""
    volts = 0 if power.on_battery else 230
    if battery_since_ms is None:
        seconds = "2|0"
    else:
        seconds = f"2:numeric|rate=1,offset={(booted_ms - battery_since_ms) / 1000:.3f}"
    own = {
        "1.1.0": "4|Standpipe laboratory",  # upsIdentManufacturer
        "1.2.0": "4|Street mains",  # upsIdentModel
        "2.1.0": f"2|{3 if power.battery_low else 2}",  # upsBatteryStatus low(3), normal(2)
        "2.2.0": seconds,  # upsSecondsOnBattery
        "2.3.0": f"2|{power.runtime_minutes}",  # upsEstimatedMinutesRemaining
        "2.4.0": f"2|{power.charge_pct}",  # upsEstimatedChargeRemaining
        "2.5.0": "2|546",  # upsBatteryVoltage, 0.1 V
        "2.7.0": "2|24",  # upsBatteryTemperature
        "3.1.0": f"65|{int(power.on_battery)}",  # upsInputLineBads
        "3.2.0": "2|1",  # upsInputNumLines
        "3.3.1.2.1": f"2|{0 if power.on_battery else 500}",  # upsInputFrequency, 0.1 Hz
        "3.3.1.3.1": f"2|{volts}",  # upsInputVoltage
        "4.1.0": f"2|{5 if power.on_battery else 3}",  # upsOutputSource battery(5), normal(3)
        "4.2.0": "2|500",  # upsOutputFrequency, 0.1 Hz
        "4.3.0": "2|1",  # upsOutputNumLines
        "4.4.1.2.1": "2|230",  # upsOutputVoltage
        "4.4.1.5.1": f"2|{power.load_pct}",  # upsOutputPercentLoad
        "6.1.0": f"66|{int(power.on_battery) + int(power.battery_low)}",  # upsAlarmsPresent
    }
    system = {
        "1.3.6.1.2.1.1.1.0": "4|UPS of the Standpipe laboratory",  # sysDescr
        "1.3.6.1.2.1.1.2.0": "6|1.3.6.1.2.1.33",  # sysObjectID
        "1.3.6.1.2.1.1.3.0": "67:numeric|rate=100,initial=0",  # sysUpTime
        "1.3.6.1.2.1.1.5.0": "4|ups1",  # sysName
    }
    return system | {f"{_UPS_MIB}.{tail}": value for tail, value in own.items()}


class Ups:
    """A scripted UPS-MIB device on port 161, for v2c ("public") and v3 with an empty context."""

    def __init__(self, world: World) -> None:
        self.host = world.host(places.UPS)
        self.address, self.community = self.host.address, "public"
        self.user = Secrets("monitor", "south-crofty-auth", "south-crofty-priv")
        self.power = Power()
        self._battery_since_ms: float | None = None
        self._data = self.host.folder / "data"
        cache = self.host.folder / "cache"
        for path in (self._data, cache):
            path.mkdir()
        self._stamp_s = 0
        self._booted_ms = now_ms()
        self._write()
        argv = [_simulator(), f"--data-dir={self._data}", f"--cache-dir={cache}"]
        argv += [
            f"--agent-udpv4-endpoint={self.address}:161",
            "--process-user=root",
            "--process-group=root",
        ]
        argv += [
            f"--v3-user={self.user.user}",
            "--v3-auth-proto=SHA256",
            f"--v3-auth-key={self.user.authentication}",
        ]
        argv += [
            "--v3-priv-proto=AES",
            f"--v3-priv-key={self.user.privacy}",
            "--logging-method=null",
        ]
        self.daemon = Daemon(self.host, "snmpsim", argv, self._says_so)
        world.keep(self.daemon).start()

    def change(self, power: Power) -> None:
        """Return when the device says so itself, by v2c and by v3."""
        if power.on_battery and self._battery_since_ms is None:
            self._battery_since_ms = now_ms()
        if not power.on_battery:
            self._battery_since_ms = None
        self.power = power
        self._write()
        wait_until(self._says_so, f"{self.host.name} says {power}")

    def on_battery(self, minutes: int, charge_pct: int = 90, *, low: bool = False) -> None:
        """The mains fail, or go on failing with less runtime left."""
        self.change(Power(True, minutes, charge_pct, low))

    def on_mains(self) -> None:
        self.change(Power())

    def get(self, *oids: str, v3: bool = False) -> list[str]:
        """Values as net-snmp prints them; subprocess.CalledProcessError when it does not answer."""
        who = self.user.options() if v3 else ["-v2c", "-c", self.community]
        done = self.host.run(
            "snmpget", *who, "-m", "", "-Oqvet", "-r", "0", "-t", "1", self.address, *oids
        )
        return done.stdout.split("\n")[: len(oids)]

    def _says_so(self) -> bool:
        records = snmp_records(self.power, self._booted_ms, self._battery_since_ms)
        fixed = {
            oid: value.partition("|")[2] for oid, value in records.items() if value.startswith("2|")
        }
        with contextlib.suppress(subprocess.CalledProcessError):
            return all(self.get(*fixed, v3=v3) == list(fixed.values()) for v3 in (False, True))
        return False

    def _write(self) -> None:
        """snmpsim reads a file anew when its time, in whole seconds, changes.

        `self.snmprec` answers the empty context.
        """
        records = snmp_records(self.power, self._booted_ms, self._battery_since_ms)
        ordered = sorted(records, key=lambda oid: [int(part) for part in oid.split(".")])
        text = "".join(f"{oid}|{records[oid]}\n" for oid in ordered)
        fresh = self.host.folder / "fresh"
        for name in (f"{self.community}.snmprec", "self.snmprec"):
            fresh.write_text(text)
            self._stamp_s = max(self._stamp_s + 1, int(fresh.stat().st_mtime))
            os.utime(fresh, (self._stamp_s, self._stamp_s))
            fresh.replace(self._data / name)


def _simulator() -> str:
    path: Path = ROOT / ".venv-lab" / "bin" / "snmpsim-command-responder"
    if not path.exists():
        raise LabError(f"{path} is missing; run: sudo make test (it makes .venv-lab)")
    return str(path)
