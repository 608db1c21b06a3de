# SPDX-License-Identifier: GPL-2.0-or-later
"""The tree keeps the house rules, and each rule notices when it does not."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from agent.core import alarm
from tests.house import rules
from tests.house.rules import TREE

RECORD = "# T\n## Status\n## Context\n## Decision\n## Consequences\n"
PAGE = "# T\n## Meaning\n## Impact\n## Diagnosis\n"


def declared() -> dict[str, list[str]]:
    project = tomllib.loads((TREE / "pyproject.toml").read_text())
    return {
        "requirements.txt": project["project"]["dependencies"],
        "requirements-dev.txt": project["dependency-groups"]["dev"],
        "requirements-lab.txt": project["dependency-groups"]["lab"],
    }


def put(tree: Path, name: str, text: str) -> Path:
    path = tree / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return tree


def test_files_of_the_agent_and_the_drivers_are_short() -> None:
    assert list(rules.too_long(TREE)) == []


def test_a_long_file_is_noticed(tmp_path: Path) -> None:
    put(tmp_path, "drivers/ups.py", "pass\n" * 401)
    put(tmp_path, "drivers/pdu.py", "pass\n" * 400)
    assert len(list(rules.too_long(tmp_path))) == 1


def test_every_file_says_its_licence() -> None:
    assert list(rules.unlicensed(TREE)) == []


def test_a_file_without_licence_is_noticed(tmp_path: Path) -> None:
    assert list(rules.unlicensed(put(tmp_path, "agent/loop.py", '"""Loop."""\n')))


def test_every_driver_has_its_row() -> None:
    assert list(rules.driver_rows(TREE)) == []


def test_a_driver_without_row_a_row_without_driver_and_a_double_row_are_noticed(
    tmp_path: Path,
) -> None:
    put(tmp_path, "drivers/ups.py", "")
    put(tmp_path, "drivers/disk.py", "")
    put(tmp_path, "docs/drivers.md", "| `pdu` | x |\n| `disk` | x |\n| `disk` | y |\n")
    assert len(list(rules.driver_rows(tmp_path))) == 3


def test_decision_records_have_unique_numbers_and_all_parts() -> None:
    assert list(rules.decision_records(TREE)) == []


def test_two_records_with_one_number_are_noticed(tmp_path: Path) -> None:
    put(tmp_path, "docs/decisions/0001-one.md", RECORD)
    put(tmp_path, "docs/decisions/0001-other.md", RECORD)
    put(tmp_path, "docs/decisions/second.md", RECORD)
    put(tmp_path, "docs/decisions/0003-short.md", "# T\n## Status\n## Context\n## Decision\n")
    assert len(list(rules.decision_records(tmp_path))) == 3


def test_every_alarm_kind_has_its_runbook_page() -> None:
    assert list(rules.runbook_pages(TREE, alarm.KINDS)) == []


def test_an_alarm_without_page_and_a_page_without_alarm_are_noticed(tmp_path: Path) -> None:
    put(tmp_path, "docs/runbook/gone.md", PAGE)
    put(tmp_path, "docs/runbook/half.md", PAGE)
    assert len(list(rules.runbook_pages(tmp_path, ["half", "new"]))) == 3


def test_the_core_is_pure() -> None:
    assert list(rules.impure_core(TREE)) == []


@pytest.mark.parametrize(
    "line",
    [
        "import time",
        "from datetime import datetime",
        "from . import model",
        "from agent import ports",
        "from agent.config import load",
        "import agent.loop",
        "def f():\n    import random",
        "print(1)",
        "open('x')",
    ],
)
def test_a_core_that_touches_the_world_is_noticed(tmp_path: Path, line: str) -> None:
    assert list(rules.impure_core(put(tmp_path, "agent/core/decide.py", line + "\n")))


def test_a_core_that_knows_itself_and_the_pure_library_is_fine(tmp_path: Path) -> None:
    text = "import math\nfrom collections.abc import Iterable\nfrom agent.core.model import Word\n"
    assert not list(rules.impure_core(put(tmp_path, "agent/core/decide.py", text)))


def test_the_tree_speaks_to_its_readers() -> None:
    assert list(rules.not_for_readers(TREE)) == []


@pytest.mark.parametrize("words", ["see /" + "work/shared/x", "TO" + "DO later", "pypi" + ".org"])
def test_a_note_to_its_authors_is_noticed(tmp_path: Path, words: str) -> None:
    assert list(rules.not_for_readers(put(tmp_path, "docs/a.md", words)))


def test_locks_are_pinned_by_hash_and_hold_what_the_project_declares() -> None:
    assert list(rules.loose_locks(TREE)) == []
    assert list(rules.unlocked_dependencies(TREE, declared())) == []


def test_a_loose_lock_is_noticed(tmp_path: Path) -> None:
    put(tmp_path, "requirements.txt", "a==1 \\\n    --hash=sha256:00\nb==2\nc @ https://x/c.whl\n")
    assert len(list(rules.loose_locks(tmp_path))) == 3
    assert list(rules.unlocked_dependencies(tmp_path, {"requirements.txt": ["a>=1", "z[q]>=1"]}))


HEAVY = ("asyncio", "dns", "drivers.forge", "jeepney", "psutil", "pyroute2", "pysnmp", "scapy")
KEEPERS_HANDS = ("addresses", "neighbour", "peerlink", "vrrp")
QUICK = ("agent.cli", "agent.keeper", *(f"drivers.{name}" for name in KEEPERS_HANDS))


@pytest.mark.parametrize("module", QUICK)
def test_what_must_start_quickly_imports_nothing_heavy(module: str) -> None:
    probe = f"import sys, {module}; print(*[m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", probe], cwd=TREE, capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "", "")


def test_the_package_takes_what_is_there() -> None:
    assert list(rules.unpackaged(TREE)) == []


def test_a_package_of_what_is_not_there_is_noticed(tmp_path: Path) -> None:
    text = "  - src: etc/a.toml\n    dst: /etc/a.toml\n  - src: build/package/man/a.1.gz\n"
    assert len(list(rules.unpackaged(put(tmp_path, "packaging/nfpm.yaml", text)))) == 2


def test_versions_agree() -> None:
    version = tomllib.loads((TREE / "pyproject.toml").read_text())["project"]["version"]
    changelog = (TREE / "CHANGELOG.md").read_text()
    assert f"## {version}" in changelog


def test_what_is_promised_is_shown_by_a_test() -> None:
    assert list(rules.unkept_promises(TREE)) == []


def test_a_promise_without_its_test_is_noticed(tmp_path: Path) -> None:
    rows = "| what | shown by |\n|---|---|\n| a | `tests/t.py::test_a` |\n| b | soon |\n"
    put(tmp_path, "tests/t.py", "def test_b():\n    pass\n")
    assert len(list(rules.unkept_promises(put(tmp_path, "docs/promises.md", rows)))) == 2
