# SPDX-License-Identifier: GPL-2.0-or-later
"""House rules as functions of a tree: each yields one line for everything that breaks it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

TREE = Path(__file__).resolve().parents[2]
LICENCE_LINE = "# SPDX-License-Identifier: GPL-2.0-or-later"
MAX_FILE_LINES = 400

# Standard library that has no clock, no I/O and the same answer for the same arguments.
# fmt: off
PURE = {
    "__future__", "array", "base64", "binascii", "bisect", "collections", "contextlib", "copy",
    "dataclasses", "enum", "fractions", "functools", "graphlib", "hashlib", "heapq", "hmac",
    "ipaddress", "itertools", "json", "math", "operator", "re", "statistics", "string",
    "struct", "textwrap", "types", "typing", "zlib",
}
# fmt: on
IMPURE_CALLS = {"__import__", "breakpoint", "eval", "exec", "input", "open", "print"}

# Written so that this file does not break its own rule.
NOT_FOR_READERS = {
    "a path of one machine": re.compile("/" + r"work/(main|shared)|/" + "tmp/sp/|/" + "root/"),
    "a registry's host": re.compile(
        r"pypi\." + r"org|pythonhosted\." + r"org|deb\.debian\." + "org"
    ),
    "a note to self": re.compile(r"\b(TO" + "DO|FIX" + "ME|X" + r"XX)\b"),
}
NOT_OURS = re.compile(r"\.(?!ci$|gitignore$)|(build|dist|COPYING|__pycache__)$")
ROW = re.compile(r"^\| *`([a-z0-9_]+)` *\|", re.MULTILINE)


def python_files(tree: Path, *folders: str) -> Iterator[Path]:
    for folder in folders:
        yield from sorted(p for p in (tree / folder).rglob("*.py") if "__pycache__" not in p.parts)


def too_long(tree: Path) -> Iterator[str]:
    for path in python_files(tree, "agent", "drivers"):
        lines = len(path.read_text().splitlines())
        if lines > MAX_FILE_LINES:
            yield f"{path.relative_to(tree)}: {lines} lines, at most {MAX_FILE_LINES}; split it"


def unlicensed(tree: Path) -> Iterator[str]:
    for path in python_files(tree, "agent", "drivers", "tests", "setup", "packaging"):
        if not path.read_text().startswith(LICENCE_LINE + "\n"):
            yield f"{path.relative_to(tree)}: first line is not '{LICENCE_LINE}'"


def driver_rows(tree: Path) -> Iterator[str]:
    """drivers/NAME.py and the rows of docs/drivers.md (| `NAME` | ...) name the same drivers."""
    files = {p.stem for p in (tree / "drivers").glob("*.py")} - {"__init__"}
    rows = ROW.findall((tree / "docs/drivers.md").read_text())
    for name in sorted(files - set(rows)):
        yield f"drivers/{name}.py: no row in docs/drivers.md"
    for name in sorted(set(rows) - files):
        yield f"docs/drivers.md: `{name}`: no drivers/{name}.py"
    for name in sorted({n for n in rows if rows.count(n) > 1}):
        yield f"docs/drivers.md: `{name}`: more than one row"


def decision_records(tree: Path) -> Iterator[str]:
    """docs/decisions/NNNN-title.md: unique numbers, and the four parts of a record."""
    taken: dict[str, str] = {}
    for path in sorted((tree / "docs/decisions").glob("*.md")):
        name = re.fullmatch(r"(\d{4})-[a-z0-9-]+\.md", path.name)
        if name is None:
            yield f"docs/decisions/{path.name}: not NNNN-title.md"
            continue
        if name[1] in taken:
            yield f"docs/decisions/{path.name}: number {name[1]} is taken by {taken[name[1]]}"
        taken[name[1]] = path.name
        yield from without_headings(tree, path, ("Status", "Context", "Decision", "Consequences"))


def runbook_pages(tree: Path, kinds: Iterable[str]) -> Iterator[str]:
    """docs/runbook/KIND.md for each alarm kind and for nothing else, with its four parts."""
    pages = {p.stem: p for p in (tree / "docs/runbook").glob("*.md") if p.stem != "README"}
    for kind in sorted(set(kinds) - set(pages)):
        yield f"alarm {kind}: no docs/runbook/{kind}.md"
    for name in sorted(set(pages) - set(kinds)):
        yield f"docs/runbook/{name}.md: no such alarm kind"
    for name in sorted(set(pages) & set(kinds)):
        yield from without_headings(
            tree, pages[name], ("Meaning", "Impact", "Diagnosis", "Mitigation")
        )


def without_headings(tree: Path, path: Path, wanted: tuple[str, ...]) -> Iterator[str]:
    text = path.read_text()
    for heading in wanted:
        if not re.search(rf"^#+ *{heading}\b", text, re.MULTILINE):
            yield f"{path.relative_to(tree)}: no '## {heading}'"


def impure_core(tree: Path) -> Iterator[str]:
    """agent/core imports itself and PURE, and calls nothing that touches the world."""
    for path in python_files(tree, "agent/core"):
        where = path.relative_to(tree)
        for node in ast.walk(ast.parse(path.read_text(), str(path))):
            for module in imported(node):
                if module.split(".")[0] not in PURE and not f"{module}.".startswith("agent.core."):
                    yield f"{where}: imports {module}, which is not pure"
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id in IMPURE_CALLS
            ):
                yield f"{where}:{node.lineno}: calls {node.func.id}()"


def imported(node: ast.AST) -> list[str]:
    match node:
        case ast.Import(names=names):
            return [alias.name for alias in names]
        case ast.ImportFrom(module=None) | ast.ImportFrom(level=1 | 2 | 3):
            return [".relative"]  # the house writes imports out in full
        case ast.ImportFrom(module=str(module), names=names) if module == "agent":
            return [f"agent.{alias.name}" for alias in names]
        case ast.ImportFrom(module=str(module)):
            return [module]
        case _:
            return []


def not_for_readers(tree: Path) -> Iterator[str]:
    """Text in the tree that says something to its authors instead of to its readers."""
    for path in sorted(tree.rglob("*")):
        if any(map(NOT_OURS.match, path.relative_to(tree).parts)) or not path.is_file():
            continue
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue  # a recorded packet, not a text
        for number, line in enumerate(text.splitlines(), 1):
            for what, pattern in NOT_FOR_READERS.items():
                if pattern.search(line):
                    yield f"{path.relative_to(tree)}:{number}: {what}: {line.strip()[:80]}"


def unpackaged(tree: Path) -> Iterator[str]:
    """What packaging/nfpm.yaml takes from the tree, or build.sh makes of it, is there."""
    wanted = re.findall(r": (\S+)$", (tree / "packaging/nfpm.yaml").read_text(), re.MULTILINE)
    for name in wanted:
        if name.startswith("build/package/man/"):
            name = "docs/man/" + Path(name).name.removesuffix(".gz")
        if "/" in name and not name.startswith(("/", "build/")) and not (tree / name).exists():
            yield f"packaging/nfpm.yaml: no {name}"


def loose_locks(tree: Path) -> Iterator[str]:
    """Each lock pins every package with hashes, and holds no address."""
    for path in sorted(tree.glob("requirements*.txt")):
        text = path.read_text()
        if "://" in text:
            yield f"{path.name}: has an address; run make lock with a clean client configuration"
        for block in re.split(r"\n(?=[A-Za-z0-9])", text):
            first = block.splitlines()[0]
            if re.match(r"[A-Za-z0-9]", first) and (
                "==" not in first or "--hash=sha256:" not in block
            ):
                yield f"{path.name}: not pinned with a hash: {first}"


def unlocked_dependencies(tree: Path, declared: Mapping[str, Iterable[str]]) -> Iterator[str]:
    """Each requirement that pyproject.toml declares for a lock (file -> requirements) is in it."""
    for lock, requirements in declared.items():
        names = {
            m.lower()
            for m in re.findall(r"^([A-Za-z0-9._-]+)==", (tree / lock).read_text(), re.MULTILINE)
        }
        for requirement in requirements:
            name = re.split(r"[\[<>=! ]", requirement)[0].lower()
            if name not in names:
                yield f"pyproject.toml: {name} is not in {lock}; run make lock"


def unkept_promises(tree: Path) -> Iterator[str]:
    """Each test that docs/promises.md names is there, and each row names one."""
    for row in re.findall(r"^\| (?!-)(.*)", (tree / "docs/promises.md").read_text(), re.MULTILINE)[
        1:
    ]:
        what, _, shown = row.partition(" | ")
        tests = re.findall(r"`(\S+\.py)::(test_\w+)`", shown)
        if not tests:
            yield f"docs/promises.md: nothing shows {what!r}"
        for file, name in tests:
            path = tree / file
            if not path.is_file() or f"def {name}(" not in path.read_text():
                yield f"docs/promises.md: {what}: there is no {file}::{name}"
