# SPDX-License-Identifier: GPL-2.0-or-later
"""What outlives the agent: journal, alarms, trap spool and samples in SQLite, epochs in a file.

Blocking; for one thread at a time. A damaged database is put aside and a new one begun with what
could still be read of the spool and the alarms; the journal's chain goes on from its last digest.
"""

import json
import os
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from agent.core.journal import GENESIS, canonical, chain, verify
from agent.core.model import Alarm, Reading, Severity
from agent.ports import Refused, Unreachable

SCHEMA_VERSION = 1
SCHEMA = """
CREATE TABLE journal (seq INTEGER PRIMARY KEY, wall_s REAL, record TEXT NOT NULL,
    digest TEXT NOT NULL);
CREATE TABLE anchor (one INTEGER PRIMARY KEY, seq INTEGER NOT NULL, digest TEXT NOT NULL);
CREATE TABLE alarm (alarm_id TEXT PRIMARY KEY, alarm TEXT NOT NULL, wall_s REAL NOT NULL);
CREATE TABLE spool (spool_id INTEGER PRIMARY KEY AUTOINCREMENT, nms TEXT NOT NULL,
    alarm TEXT NOT NULL, wall_s REAL NOT NULL);
CREATE INDEX spool_by_nms ON spool (nms, spool_id);
CREATE TABLE sample (sample_id INTEGER PRIMARY KEY, resource TEXT NOT NULL,
    wall_s REAL NOT NULL, value REAL NOT NULL, bound REAL);
CREATE INDEX sample_by_resource ON sample (resource, wall_s);
CREATE TABLE epoch (name TEXT PRIMARY KEY, ceiling INTEGER NOT NULL);
"""
DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
BAD_KEPT = 3  # databases put aside

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is kept. The journal is cut in whole blocks, once their chain is verified."""

    journal_bytes: int = 64 * 2**20
    journal_days: int = 400
    journal_block: int = 1000
    samples: int = 200_000
    spool: int = 10_000  # for each NMS


class Damaged(sqlite3.DatabaseError):
    """A check of the database, or of the journal's chain, found something."""


class Store:
    """ports.Store in `state_dir`: standpipe.db, epochs.json and its copy.

    mended: what was found damaged and what was done about it, for people; "" where nothing was.
    dropped: notifications thrown away because an NMS took none for too long.
    Every method raises Unreachable where the disk does not let it, and then has changed nothing.
    """

    def __init__(self, state_dir: Path, limits: Limits | None = None) -> None:
        self._folder = state_dir
        self._file = state_dir / "standpipe.db"
        self._epoch_files = (state_dir / "epochs.json", state_dir / "epochs.json.copy")
        self._limits = limits or Limits()
        self._connection: sqlite3.Connection | None = None
        self._last = (0, GENESIS)  # of the journal: seq and digest
        self._untrimmed = self._limits.journal_block  # records added since it was last cut
        self._saved: dict[str, list[Any]] = {}  # rows of a damaged database
        self._epochs: dict[str, int] | None = None
        self.mended = ""
        self.dropped = 0

    def append(self, records: list[dict[str, Any]]) -> None:
        """Adds records under the next numbers, all or none; "wall_s" in a record gives its age."""

        def work(db: sqlite3.Connection) -> tuple[int, str]:
            seq, digest = self._last
            for record in records:
                seq += 1
                numbered = {**record, "seq": seq, "previous": digest}
                digest = chain(digest, numbered)
                row = (seq, record.get("wall_s"), canonical(numbered), digest)
                db.execute("INSERT INTO journal VALUES (?, ?, ?, ?)", row)
            return seq, digest

        self._last = self._do(work)
        self._untrimmed += len(records)
        if self._untrimmed >= self._limits.journal_block:
            self._untrimmed = 0
            with suppress(Unreachable):  # the records themselves are safe
                while self._do(self._cut_block):
                    pass

    def journal(self, last: int) -> list[dict[str, Any]]:
        """The last records, oldest first, each with its "seq", "previous" and "digest"."""
        rows = self._all("SELECT seq, record, digest FROM journal ORDER BY seq DESC LIMIT ?", last)
        return [record_from(row) for row in rows[::-1]]

    def broken(self) -> int | None:
        """The number of the first record that was changed, removed or added; None: all are good."""
        rows = self._all("SELECT seq, record, digest FROM journal ORDER BY seq")
        index = verify(map(record_from, rows), self._do(anchor_of)[1])
        return None if index is None else rows[index][0]

    def keep_alarm(self, alarm: Alarm, wall_s: float) -> None:
        """Keeps what stands, forgets what is cleared."""
        query = "INSERT OR REPLACE INTO alarm VALUES (?, ?, ?)"
        row: tuple[Any, ...] = (alarm.alarm_id, canonical(asdict(alarm)), wall_s)
        if alarm.severity is Severity.CLEARED:
            query, row = "DELETE FROM alarm WHERE alarm_id = ?", row[:1]
        self._do(lambda db: db.execute(query, row))

    def alarms(self) -> list[tuple[Alarm, float]]:
        """Those that stood when the agent ended, with the wall time of their last change."""
        rows = self._all("SELECT alarm, wall_s FROM alarm ORDER BY wall_s")
        return [(alarm_from(text), wall_s) for text, wall_s in rows]

    def spool(self, nms: str, alarm: Alarm, wall_s: float) -> int:
        """Keeps a notification until `unspool`; beyond Limits.spool the oldest goes."""

        def work(db: sqlite3.Connection) -> tuple[int, int]:
            row = (nms, canonical(asdict(alarm)), wall_s)
            added = db.execute("INSERT INTO spool (nms, alarm, wall_s) VALUES (?, ?, ?)", row)
            old = "WHERE nms = ? ORDER BY spool_id DESC LIMIT -1 OFFSET ?"
            gone = db.execute(
                f"DELETE FROM spool WHERE spool_id IN (SELECT spool_id FROM spool {old})",
                (nms, self._limits.spool),
            )
            return added.lastrowid or 0, gone.rowcount

        spool_id, gone = self._do(work)
        self.dropped += gone
        return spool_id

    def spooled(self, nms: str) -> list[tuple[int, Alarm, float]]:
        """Oldest first."""
        query = "SELECT spool_id, alarm, wall_s FROM spool WHERE nms = ? ORDER BY spool_id"
        return [(number, alarm_from(text), at) for number, text, at in self._all(query, nms)]

    def unspool(self, spool_id: int) -> None:
        self._do(lambda db: db.execute("DELETE FROM spool WHERE spool_id = ?", (spool_id,)))

    def keep_samples(self, readings: Iterable[Reading], wall_s: float) -> None:
        """Keeps what has a value; beyond Limits.samples the oldest go."""
        rows = [(r.resource, wall_s, r.value, r.limit) for r in readings if r.value is not None]

        def work(db: sqlite3.Connection) -> None:
            insert = "INSERT INTO sample (resource, wall_s, value, bound) VALUES (?, ?, ?, ?)"
            db.executemany(insert, rows)
            old = "sample_id <= (SELECT max(sample_id) FROM sample) - ?"
            db.execute(f"DELETE FROM sample WHERE {old}", (self._limits.samples,))

        self._do(work)

    def resources(self) -> list[str]:
        """Those with samples."""
        return [row[0] for row in self._all("SELECT DISTINCT resource FROM sample")]

    def samples(self, resource: str, last: int) -> list[tuple[float, float, float | None]]:
        """(wall_s, value, limit), oldest first."""
        rows = "SELECT wall_s, value, bound FROM sample WHERE resource = ? ORDER BY wall_s DESC"
        return self._all(f"{rows} LIMIT ?", resource, last)[::-1]

    def keep_epoch(self, name: str, ceiling: int) -> None:
        """Returns when `ceiling` is on disk; one that is not higher changes nothing."""
        epochs = self.epochs()
        if ceiling > epochs.get(name, 0):
            self._write_epochs(epochs | {name: ceiling})

    def epochs(self) -> dict[str, int]:
        """The highest of the file, its copy and the database. Raises Refused: none can tell."""
        if self._epochs is None:
            self._epochs = self._read_epochs()
        return dict(self._epochs)

    def _read_epochs(self) -> dict[str, int]:
        sources: list[dict[str, int]] = []
        damaged = []
        for file in self._epoch_files:
            try:
                sources.append(parse_epochs(file.read_bytes()))
            except FileNotFoundError:
                continue
            except OSError as error:
                raise self._unreachable(f"{file.name}: {error.strerror}") from error
            except ValueError as error:
                damaged.append(f"{file}: {error}")
        try:
            sources.append(dict(self._all("SELECT name, ceiling FROM epoch")))
        except (Unreachable, Refused):
            if not sources:
                raise
        names = {name for source in sources for name in source}
        highest = {name: max(source.get(name, 0) for source in sources) for name in names}
        if damaged and not highest:
            raise Refused(
                f"{'; '.join(damaged)}; nothing else knows the epochs of this node. Write "
                '{"epochs": {GROUP: N}} with an N above that of every peer (standpipe status)'
            )
        if damaged:
            self._say(f"{'; '.join(damaged)}: took the highest epochs known elsewhere")
            self._write_epochs(highest)
        return highest

    def _write_epochs(self, epochs: dict[str, int]) -> None:
        document = (canonical({"epochs": epochs}) + "\n").encode()
        try:
            write_safely(self._epoch_files[0], document)
        except OSError as error:
            raise self._unreachable(str(error.strerror or error)) from error
        self._epochs = epochs
        try:
            write_safely(self._epoch_files[1], document)
            rows = list(epochs.items())
            self._do(lambda db: db.executemany("INSERT OR REPLACE INTO epoch VALUES (?, ?)", rows))
        except (OSError, Unreachable) as error:
            self._say(f"epochs are only in {self._epoch_files[0]} for now: {error}")

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _all(self, query: str, *values: Any) -> list[Any]:
        return self._do(lambda db: db.execute(query, values).fetchall())

    def _do(self, work: Callable[[sqlite3.Connection], T], mended: bool = False) -> T:
        """One transaction: all of it or nothing. Mends a damaged database, then tries again."""
        try:
            with self._connection or self._open() as db:
                return work(db)
        except sqlite3.DatabaseError as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if mended or not (code in DAMAGED or isinstance(error, Damaged)):
                raise self._unreachable(str(error)) from error
            self._put_aside(str(error))
        except OSError as error:
            raise self._unreachable(error.strerror or str(error)) from error
        return self._do(work, mended=True)

    def _unreachable(self, why: str) -> Unreachable:
        return Unreachable(f"store {self._folder}: {why}; is the disk full, or not writable?")

    def _open(self) -> sqlite3.Connection:
        self._folder.mkdir(parents=True, exist_ok=True)
        new = not self._file.exists()
        cut = parts_of(self._file) == [self._file] and self._file.stat().st_size == 0
        db = sqlite3.connect(self._file, timeout=2, check_same_thread=False)
        try:
            if cut:
                raise Damaged("the file is empty")
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
            db.execute("PRAGMA journal_size_limit = 4194304")
            (version,) = db.execute("PRAGMA user_version").fetchone()
            if version == 0:
                db.executescript(f"BEGIN; {SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
            elif version != SCHEMA_VERSION:
                why = f"made by another version ({version}, not {SCHEMA_VERSION})"
                raise Refused(f"{self._file}: {why}; install that one, or move the file away")
            (finding,) = db.execute("PRAGMA quick_check(1)").fetchone()
            if finding != "ok":
                raise Damaged(finding)
            with db:
                self._last = self._take_over(db)
        except BaseException:
            db.close()
            if new:
                self._file.unlink(missing_ok=True)
            raise
        self._connection, self._saved = db, {}
        return db

    def _take_over(self, db: sqlite3.Connection) -> tuple[int, str]:
        """Puts in what was saved of a damaged database; the journal's last number and digest."""
        for table, rows in self._saved.items():
            for row in rows:
                holes = ", ".join("?" * len(row))
                db.execute(f"INSERT OR IGNORE INTO {table} VALUES ({holes})", row)
        if self._saved:
            db.execute("INSERT OR REPLACE INTO anchor VALUES (1, ?, ?)", self._last)
        last = db.execute("SELECT seq, digest FROM journal ORDER BY seq DESC LIMIT 1").fetchone()
        return last or anchor_of(db)

    def _put_aside(self, why: str) -> None:
        """Renames the database and reads what can still be read; the next `_open` begins anew."""
        self.close()
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        bad = Path(f"{self._file}.bad-{stamp}")
        try:
            for part in parts_of(self._file):
                part.rename(str(part).replace(str(self._file), str(bad)))
            for old in sorted(self._folder.glob(f"{self._file.name}.bad-*Z"))[:-BAD_KEPT]:
                for part in parts_of(old):
                    part.unlink()
        except OSError as error:
            raise self._unreachable(f"{why}, and it cannot be renamed: {error.strerror}") from error
        self._say(f"{self._file}: {why}; kept as {bad.name}, a new one was begun")
        lasts, self._saved = readable_rows(bad)
        self._last = max([self._last, *lasts])

    def _say(self, what: str) -> None:
        if what not in self.mended:
            self.mended = f"{self.mended}; {what}" if self.mended else what

    def _cut_block(self, db: sqlite3.Connection) -> bool:
        """Cuts the oldest block where it is too old or the journal too big; its digest stays."""
        size, newest = db.execute("SELECT sum(length(record)), max(wall_s) FROM journal").fetchone()
        block = "SELECT seq, record, digest, wall_s FROM journal ORDER BY seq LIMIT ?"
        rows = db.execute(block, (self._limits.journal_block,)).fetchall()
        if len(rows) < self._limits.journal_block:
            return False
        seq, _, digest, wall_s = rows[-1]
        young = wall_s is None or wall_s >= newest - self._limits.journal_days * 86_400
        if size <= self._limits.journal_bytes and young:
            return False
        index = verify((record_from(row[:3]) for row in rows), anchor_of(db)[1])
        if index is not None:
            raise Damaged(f"journal record {rows[index][0]} is not what was written")
        db.execute("DELETE FROM journal WHERE seq <= ?", (seq,))
        db.execute("INSERT OR REPLACE INTO anchor VALUES (1, ?, ?)", (seq, digest))
        return True


def record_from(row: tuple[int, str, str]) -> dict[str, Any]:
    return {**json.loads(row[1]), "digest": row[2]}


def anchor_of(db: sqlite3.Connection) -> tuple[int, str]:
    """Number and digest of the record before the first one that is kept."""
    row: tuple[int, str] | None = db.execute("SELECT seq, digest FROM anchor").fetchone()
    return row or (0, GENESIS)


def parts_of(database: Path) -> list[Path]:
    """Those of its files that are there, the database itself last."""
    return [part for end in ("-wal", "-shm", "") if (part := Path(f"{database}{end}")).exists()]


def readable_rows(bad: Path) -> tuple[list[tuple[int, str]], dict[str, list[Any]]]:
    """Of a damaged database: candidates for the journal's last (seq, digest), and rows by table."""
    lasts: list[tuple[int, str]] = []
    saved: dict[str, list[Any]] = {"alarm": [], "spool": [], "epoch": []}
    db = sqlite3.connect(bad)
    try:
        for order in ("anchor", "journal ORDER BY seq DESC LIMIT 1"):
            with suppress(sqlite3.DatabaseError):
                lasts += db.execute(f"SELECT seq, digest FROM {order}").fetchall()
        for table, rows in saved.items():
            with suppress(sqlite3.DatabaseError):
                for row in db.execute(f"SELECT * FROM {table}"):
                    if table == "epoch" or is_alarm(row[-2]):
                        rows.append(row)
    finally:
        db.close()
    return lasts, saved


def alarm_from(text: str) -> Alarm:
    fields = json.loads(text)
    return Alarm(**{**fields, "severity": Severity(fields["severity"])})


def is_alarm(text: Any) -> bool:
    try:
        return alarm_from(text).alarm_id != ""
    except (KeyError, TypeError, ValueError):
        return False


def parse_epochs(text: bytes) -> dict[str, int]:
    """Raises ValueError."""
    document = json.loads(text)
    epochs = document.get("epochs") if isinstance(document, dict) else None
    if not isinstance(epochs, dict):
        raise ValueError("has no epochs")
    for name, ceiling in epochs.items():
        if type(ceiling) is not int or ceiling < 0:
            raise ValueError(f"{name} is not a number")
    return epochs


def write_safely(file: Path, content: bytes) -> None:
    """The whole new content or the old one, whatever happens; on disk when it returns."""
    new = file.with_name(file.name + ".new")
    with new.open("wb") as handle:
        handle.write(content)
        handle.flush()
        os.fsync(handle.fileno())
    new.replace(file)
    folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
