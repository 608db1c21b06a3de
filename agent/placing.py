# SPDX-License-Identifier: GPL-2.0-or-later
"""A bundle put into place on a machine that joins: all of it, or nothing."""

import base64
import os
import re
import shutil
import stat
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from agent.config import ConfigError, load
from agent.core.settings import Settings
from agent.joining import PKI_FILES, Bundle
from agent.ports import Garbled, Refused
from agent.writing import entrust, write_new

CONFIG = "standpipe.toml"
KEY = "cluster.key"
OLD = ".old"
INSIDE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(?:/[A-Za-z0-9_][A-Za-z0-9_.-]*){0,3}")


@dataclass(slots=True)
class Placing:
    """Staged files on their way into `folder`, which is the configuration's. moved: (to, old)."""

    folder: Path
    stage: Path
    settings: Settings
    elsewhere: list[str]
    moved: list[tuple[Path, Path | None]] = field(default_factory=list)


def in_the_way(folder: Path) -> list[Path]:
    """What a join would overwrite, as far as can be said before anything is known."""
    return [path for name in (KEY, CONFIG, "pki") if os.path.lexists(path := folder / name)]


def staged(bundle: Bundle, folder: Path) -> Placing:
    """The bundle's files in a new folder inside `folder`. Raises Refused, Garbled."""
    try:
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        stage = Path(tempfile.mkdtemp(prefix=".joining-", dir=folder))
    except OSError as error:
        raise Refused(f"{error.filename}: {error.strerror}; run as root, or --dir") from error
    try:
        _lay_out(bundle, stage)
        settings = _settings(stage / CONFIG)
        elsewhere = [str(path) for path in bundle.get("elsewhere", [])]
        came_from = Path(str(bundle.get("folder", folder)))
        settings = _relocated(settings, came_from, folder)
    except OSError as error:
        discard(stage)
        raise Refused(f"{error.filename}: {error.strerror}; is the disk full?") from error
    except BaseException:
        discard(stage)
        raise
    return Placing(folder, stage, settings, elsewhere)


def put(placing: Placing, force: bool) -> list[str]:
    """Every staged file to its place, the configuration last; what is in the way becomes .old.

    Says what it did, a line for each. After a failure all is as before. Raises Refused.
    """
    targets = [
        (placing.stage / "pki", Path(placing.settings.pki_dir)),
        (placing.stage / KEY, Path(placing.settings.key_file)),
        *_secrets(placing),
        (placing.stage / CONFIG, placing.folder / CONFIG),
    ]
    targets = [(new, target) for new, target in targets if not _same(new, target)]
    there = [str(target) for _, target in targets if os.path.lexists(target)]
    if there and not force:
        raise Refused(
            f"{', '.join(there)} there already, nothing is written; --force keeps what is there "
            f"as {OLD}"
        )
    try:
        for staged_file, target in targets:
            _move(placing, staged_file, target)
    except OSError as error:
        _undo(placing)
        raise Refused(
            f"{error.filename}: {error.strerror}; all is as it was before, put it right and try "
            "again"
        ) from error
    return [f"{target}{f' (before: {old})' if old else ''}" for target, old in placing.moved]


def discard(stage: Path) -> None:
    """What is left of a stage."""
    shutil.rmtree(stage, ignore_errors=True)


def _lay_out(bundle: Bundle, stage: Path) -> None:
    pki = stage / "pki"
    pki.mkdir(mode=0o700)
    files = {CONFIG: (bundle.get("config"), 0o644), KEY: (bundle.get("key"), 0o600)}
    for name in PKI_FILES:
        mode = 0o600 if name.endswith(".key") else 0o644
        files[f"pki/{name}"] = (_table(bundle, "pki").get(name), mode)
    for name, content in _table(bundle, "secrets").items():
        if not INSIDE.fullmatch(name) or name in (CONFIG, KEY) or name.startswith("pki/"):
            raise Garbled(f"join: a file named {name[:80]!r} came, which is not placed")
        files[f"secrets/{name}"] = (content, 0o600)
    for name, (content, mode) in files.items():
        if not isinstance(content, str):
            raise Garbled(f"join: {name} did not come; is the other node of the same version?")
        try:
            plain = base64.b64decode(content, validate=True)
        except ValueError as error:
            raise Garbled(f"join: {name} came garbled: {error}") from error
        (stage / name).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_new(stage / name, plain, mode)


def _table(bundle: Bundle, name: str) -> dict[str, Any]:
    found = bundle.get(name)
    if not isinstance(found, dict):
        raise Garbled(f"join: {name} did not come; is the other node of the same version?")
    return found


def _settings(config: Path) -> Settings:
    try:
        return load(config, None, check_files=False, any_node=True)
    except ConfigError as error:
        raise Refused(
            f"the configuration that came is not good here:\n{error}\nare both machines of the "
            "same version?"
        ) from error


def _relocated(settings: Settings, came_from: Path, folder: Path) -> Settings:
    """What lay beside the configuration there lies beside it here."""

    def here(path: str) -> str:
        if Path(path).is_relative_to(came_from) and ".." not in Path(path).parts:
            return str(folder / Path(path).relative_to(came_from))
        return path

    return replace(settings, key_file=here(settings.key_file), pki_dir=here(settings.pki_dir))


def _secrets(placing: Placing) -> list[tuple[Path, Path]]:
    root = placing.stage / "secrets"
    return [
        (file, placing.folder / file.relative_to(root))
        for file in sorted(root.rglob("*"))
        if stat.S_ISREG(file.lstat().st_mode)
    ]


def _same(new: Path, target: Path) -> bool:
    """It lies there already, as when only the configuration is fetched again."""
    if not new.is_file() or not stat.S_ISREG(_mode(target)):
        return False
    return new.read_bytes() == target.read_bytes()


def _mode(path: Path) -> int:
    try:
        return path.lstat().st_mode
    except OSError:
        return 0


def _move(placing: Placing, staged_file: Path, target: Path) -> None:
    old = None
    target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    if os.path.lexists(target):
        old = target.with_name(target.name + OLD)
        if old.is_dir() and not old.is_symlink():
            shutil.rmtree(old)
        target.replace(old)
    placing.moved.append((target, old))
    shutil.move(staged_file, target)
    if target.name != CONFIG:
        entrust(target)


def _undo(placing: Placing) -> None:
    for target, old in reversed(placing.moved):
        with suppress(OSError):
            if target.is_dir():
                shutil.rmtree(target)
            else:
                target.unlink(missing_ok=True)
        if old is not None:
            old.replace(target)
    placing.moved.clear()
