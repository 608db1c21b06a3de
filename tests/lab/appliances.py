# SPDX-License-Identifier: GPL-2.0-or-later
"""Appliances: nodes of a world that boot a real Debian with systemd as process 1.

One image is made by mmdebstrap and kept in CACHE; packages go into layers above it, and each node
writes into a layer of its own, which is its disk and survives a power cut. A node runs in
systemd-nspawn in its own network namespace, so all that breaks a world's nodes breaks these too.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from tests.lab.netns import LabError, command, now_ms, wait_until
from tests.lab.world import Node, World
from tests.lab.world import cut_power as cut_nodes

CACHE = Path("/var/tmp/standpipe-lab")
SUITE = "bookworm"
PACKAGES = (
    "systemd,systemd-sysv,dbus,polkitd,iproute2,procps,python3,libcap2-bin,netbase,curl,keepalived"
)
CAPABILITIES = "CAP_NET_ADMIN,CAP_NET_RAW,CAP_NET_BIND_SERVICE,CAP_SYS_NICE,CAP_IPC_LOCK"
QUIET = ("apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer")
ENVIRONMENT = ("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8")
NEEDED = {
    "mmdebstrap": "mmdebstrap",
    "systemd-nspawn": "systemd-container",
    "nsenter": "util-linux",
}
BOOT_S = 60.0
PRIVATE = ("unshare", "--mount", "--propagation", "private")
Layers = tuple[Path, ...]

# Runs in a mount namespace of its own, so that what it mounts is gone with the node. There
# /sys/fs/cgroup is the unified hierarchy, whatever the machine has.
BOOT = """set -e
group=$1 root=$2 layers=$3 upper=$4 work=$5
shift 5
umount -R /sys/fs/cgroup 2>/dev/null || true
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir -p "/sys/fs/cgroup/$group"
echo $$ >"/sys/fs/cgroup/$group/cgroup.procs"
mount -t overlay lab -o "lowerdir=$layers,upperdir=$upper,workdir=$work" "$root"
exec "$@"
"""


def require_tools() -> None:
    absent = [package for tool, package in NEEDED.items() if shutil.which(tool) is None]
    if absent:
        raise LabError(
            f"appliances need {' '.join(absent)}; run: apt-get install {' '.join(absent)}"
        )


def base_image() -> Layers:
    """Debian with what every appliance has, made at the first use."""
    require_tools()
    key = hashlib.sha256(f"{SUITE} {PACKAGES}".encode()).hexdigest()[:10]
    image = CACHE / f"base-{key}"
    if not image.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        making = image.with_name(f"{image.name}.{os.getpid()}")
        command(
            "mmdebstrap",
            "--quiet",
            "--variant=minbase",
            f"--include={PACKAGES}",
            '--aptopt=Acquire::Languages "none"',
            "--dpkgopt=path-exclude=/usr/share/doc/*",
            "--dpkgopt=path-exclude=/usr/share/man/*",
            "--dpkgopt=path-exclude=/usr/share/locale/*",
            SUITE,
            str(making),
            _mirror(),
        )
        for unit in QUIET:
            (making / "etc/systemd/system" / unit).symlink_to("/dev/null")
        for unit in (making / "etc/systemd/system").glob("*.wants/keepalived.service"):
            unit.unlink()
        (making / "etc/machine-id").write_text("")
        making.rename(image)
    return (image,)


def _mirror() -> str:
    """The one that this machine takes its own packages from."""
    for path in sorted(Path("/etc/apt").rglob("*.sources")):
        for line in path.read_text().splitlines():
            if line.startswith("URIs:"):
                return line.split()[1]
    for path in (Path("/etc/apt/sources.list"), *Path("/etc/apt").rglob("*.list")):
        for line in path.read_text().splitlines() if path.exists() else ():
            words = [word for word in line.split() if not word.startswith("[")]
            if words[:1] == ["deb"]:
                return words[1]
    raise LabError("no Debian mirror in /etc/apt: add one to /etc/apt/sources.list")


def with_package(below: Layers, package: Path) -> Layers:
    """The layers with a .deb installed on top; made once for each content of the file."""
    digest = hashlib.sha256(package.read_bytes() + str(below).encode()).hexdigest()[:10]
    layer = CACHE / f"layer-{digest}"
    if not layer.exists():
        for old in CACHE.glob("layer-*"):
            _forget(old)
        making = layer.with_name(f"{layer.name}.{os.getpid()}")
        for part in ("upper", "work", "tree"):
            (making / part).mkdir(parents=True)
        script = (
            'mount -t overlay lab -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$2/tree"\n'
            'cp "$3" "$2/tree/var/tmp/it.deb"\n'
            'chroot "$2/tree" dpkg --install /var/tmp/it.deb\n'
            'rm "$2/tree/var/tmp/it.deb"\n'
        )
        where = [":".join(map(str, reversed(below))), str(making), str(package)]
        command("unshare", "--mount", "sh", "-ec", script, "sh", *where)
        making.rename(layer)
    return (*below, layer / "upper")


def _forget(layer: Path) -> None:
    """An old layer, unless a node of another run stands on it."""
    used = any(str(layer) in _text(path) for path in Path("/proc").glob("[0-9]*/mounts"))
    if not used:
        shutil.rmtree(layer, ignore_errors=True)


def _text(path: Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_text()
    return ""


class Appliance:
    """A node of a world that boots from layers. binds: nspawn's own options for them."""

    def __init__(self, node: Node, layers: Layers, binds: Sequence[str] = ()) -> None:
        self.node, self.layers, self.binds = node, layers, binds
        self.name = node.name
        self.upper = node.folder / "upper"
        for part in ("upper", "work", "root"):
            (node.folder / part).mkdir()
        self._cgroup = node.namespace
        self._spawned: subprocess.Popen[bytes] | None = None
        self.write("/etc/hostname", node.name + "\n")
        self.write("/etc/machine-id", hashlib.md5(node.namespace.encode()).hexdigest() + "\n")

    # ------------------------------------------------------------ power

    def boot(self) -> None:
        """Power on; return when process 1 is there."""
        self.node.power_on()
        layers = ":".join(str(layer) for layer in reversed(self.layers))
        folder = self.node.folder
        places = [self._cgroup, str(folder / "root"), layers, str(self.upper), str(folder / "work")]
        nspawn = ["systemd-nspawn", "--quiet", f"--directory={folder / 'root'}", "--boot"]
        nspawn += ["--register=no", "--keep-unit", f"--machine={self.name}"]
        nspawn += [f"--network-namespace-path=/run/netns/{self.node.namespace}"]
        nspawn += [f"--capability={CAPABILITIES}", "--console=pipe", "--link-journal=no"]
        nspawn += ["--resolv-conf=off", "--timezone=off", *self.binds]
        said = open(folder / "console.log", "ab")  # noqa: SIM115  # the child's
        with said:
            self._spawned = subprocess.Popen(
                [*PRIVATE, "sh", "-c", BOOT, "sh", *places, *nspawn],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,
                env={
                    **os.environ,
                    "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1",
                    "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "network",
                },
            )
        wait_until(lambda: self._leader() or self._ended(), f"{self.name} boots", 20.0)
        if self._ended():
            raise LabError(f"{self.name} did not boot:\n{self.console()[-2000:]}")

    def wait(self, limit_s: float = BOOT_S) -> None:
        """Until systemd has started everything, well or not."""
        try:
            wait_until(self._settled, f"{self.name} has booted", limit_s)
        except LabError as error:
            jobs = self.run("systemctl", "list-jobs", check=False).stdout
            raise LabError(f"{error}; still on their way:\n{jobs}{self.journal()}") from error

    def _settled(self) -> bool:
        found = self.run("systemctl", "is-system-running", check=False).stdout.strip()
        return found in ("running", "degraded")

    def power_cut(self) -> float:
        """When, in ms."""
        at_ms = self.node.power_cut()
        self.bury()
        return at_ms

    def bury(self) -> None:
        """Once the power is gone: what the machine that it ran on still has of it."""
        if self._spawned is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._spawned.pid, signal.SIGKILL)
            self._spawned.wait(10)
            self._spawned = None
        wait_until(self._ungrouped, f"{self.name} has no control group any more")

    def _ungrouped(self) -> bool:
        """Groups whose last process has just died are busy for a moment."""
        group = _unified() / self._cgroup
        for path in (*sorted(group.rglob("*/"), reverse=True), group):
            with contextlib.suppress(OSError):
                path.rmdir()
        return not group.exists()

    def freeze(self) -> float:
        """Every process stops at once, the kernel goes on; when, in ms."""
        at_ms = now_ms()
        self._freezer(1)
        return at_ms

    def thaw(self) -> float:
        at_ms = now_ms()
        self._freezer(0)
        return at_ms

    def _freezer(self, state: int) -> None:
        (_unified() / self._cgroup / "cgroup.freeze").write_text(str(state))

    @property
    def is_on(self) -> bool:
        return self._spawned is not None and not self._ended()

    def _ended(self) -> bool:
        return self._spawned is None or self._spawned.poll() is not None

    def _leader(self) -> int:
        """Process 1 of the node as this machine counts it, 0 where there is none."""
        assert self._spawned
        pid = self._spawned.pid
        with contextlib.suppress(OSError):
            for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
                for line in Path(f"/proc/{child}/status").read_text().splitlines():
                    if line.startswith("NSpid:") and line.split()[-1] == "1":
                        return int(child)
        return 0

    # ------------------------------------------------------------ inside

    def command(self, *argv: str) -> list[str]:
        """The command line that runs `argv` in the node."""
        leader = self._leader() if self._spawned else 0
        if not leader:
            raise LabError(f"{self.name} has no power")
        enter = ["nsenter", "--target", str(leader), "--mount", "--uts", "--ipc", "--net", "--pid"]
        return [*enter, "--cgroup", "--root", "--wd", "env", "-i", *ENVIRONMENT, *argv]

    def run(
        self, *argv: str, check: bool = True, timeout_s: float = 30.0
    ) -> subprocess.CompletedProcess[str]:
        try:
            done = subprocess.run(
                self.command(*argv), capture_output=True, text=True, timeout=timeout_s, check=False
            )
        except subprocess.TimeoutExpired as error:
            said = f"{self.name}: {' '.join(argv)}: no end in {timeout_s:g} s"
            raise LabError(said) from error
        if check and done.returncode:
            raise LabError(f"{self.name}: {' '.join(argv)}: {done.stdout}{done.stderr}")
        return done

    @property
    def root(self) -> Path:
        """Of its files, while it runs."""
        return Path(f"/proc/{self._leader()}/root")

    def write(
        self, path: str, text: str, mode: int = 0o644, owner: tuple[int, int] = (0, 0)
    ) -> None:
        """A file on its disk, with the folders that it needs; also while there is no power."""
        whole = Path(str(self.root if self.is_on else self.upper) + path)
        whole.parent.mkdir(parents=True, exist_ok=True)
        whole.write_text(text)
        whole.chmod(mode)
        os.chown(whole, *owner)

    def enable(self, *units: str) -> None:
        """They start at the next boot."""
        for unit in units:
            link = self.upper / "etc/systemd/system/multi-user.target.wants" / unit
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(f"/usr/lib/systemd/system/{unit}")

    @cached_property
    def accounts(self) -> Mapping[str, tuple[int, int]]:
        """User name -> user and group id."""
        for layer in reversed(self.layers):
            path = layer / "etc/passwd"
            if path.exists():
                rows = [line.split(":") for line in path.read_text().splitlines()]
                return {row[0]: (int(row[2]), int(row[3])) for row in rows}
        return {}

    def console(self) -> str:
        return self.node.log("console.log")

    def journal(self, *units: str, lines: int = 60) -> str:
        chosen = [f"--unit={unit}" for unit in units]
        argv = ["journalctl", "--no-pager", "--output=short-precise", f"--lines={lines}", *chosen]
        return self.run(*argv, check=False).stdout

    def pid_of(self, unit: str) -> int:
        """The main process of a unit as this machine counts it; 0 where there is none."""
        main = self.run("systemctl", "show", "--property=MainPID", "--value", unit).stdout.strip()
        if main in ("", "0"):
            return 0
        for pid in _tree(_unified() / self._cgroup):
            status = _text(Path(f"/proc/{pid}/status"))
            if any(row.startswith("NSpid:") and row.split()[-1] == main for row in _rows(status)):
                return pid
        return 0

    def pids_of(self, unit: str) -> list[int]:
        """Every process of a unit as this machine counts it."""
        group = _unified() / self._cgroup
        return [pid for folder in group.rglob(unit) for pid in _tree(folder)]


def _tree(group: Path) -> Iterator[int]:
    """Every process in a control group and those below it."""
    for path in group.rglob("cgroup.procs"):
        yield from map(int, _text(path).split())


def _rows(text: str) -> Iterator[str]:
    yield from text.splitlines()


def _unified() -> Path:
    """Where this machine has the unified control group hierarchy, mountinfo(5)."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        words = line.split()
        if words[words.index("-") + 1] == "cgroup2" and words[3] == "/":
            return Path(words[4])
    raise LabError("no cgroup2 mount: mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified")


def cut_power(appliances: Sequence[Appliance]) -> float:
    """Several at one instant; when, in ms."""
    at_ms = cut_nodes([appliance.node for appliance in appliances])
    for appliance in appliances:
        appliance.bury()
    return at_ms


def build(
    world: World, layers: Layers, names: Sequence[str], binds: Sequence[str] = ()
) -> dict[str, Appliance]:
    """Those nodes of a world, without power; what is left of them goes with the world."""
    found = {name: Appliance(world.node(name), layers, binds) for name in names}
    world.keep(_Undertaker(list(found.values())))
    return found


class _Undertaker:
    def __init__(self, appliances: Sequence[Appliance]) -> None:
        self._appliances = appliances

    def close(self) -> None:
        on = [appliance for appliance in self._appliances if appliance.is_on]
        for appliance in on:
            appliance.thaw()
        if on:
            cut_power(on)
