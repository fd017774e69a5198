"""The SQLite file behind ``SqliteStore``: tables and transactions. Blocking; used by one thread."""

from __future__ import annotations

import os
import sqlite3
from contextlib import contextmanager
from itertools import groupby
from typing import TYPE_CHECKING

from racimo.errors import StoreError, StoreUnavailable, StoreUnknown, WatchLost
from racimo.store.base import ABSENT, Change, Event, Listing, Stored, prefix_end

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from racimo.store.base import Compare, Put

HISTORY = 4096
"""Revisions that watches can look back over."""

TRIM_EVERY = 256
"""Revisions between two trimmings of the history."""

BUSY_TIMEOUT = 5.0
"""Seconds to wait for another process's transaction."""

SCHEMA = 1
"""Kept in the file's ``user_version``."""

TABLES = """
CREATE TABLE records (key BLOB PRIMARY KEY, value BLOB NOT NULL, revision INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE history (revision INTEGER, key BLOB, value BLOB, PRIMARY KEY (revision, key)) WITHOUT ROWID;
CREATE TABLE counters (revision INTEGER NOT NULL, trimmed INTEGER NOT NULL);
INSERT INTO counters VALUES (1, 0);
"""


class SqliteFile:
    """One connection, opened at the first use. Raises ``StoreUnavailable`` with the reason and what to do."""

    def __init__(self, path: Path, history: int) -> None:
        self._path, self._history = path, history
        self._connection: sqlite3.Connection | None = None

    def get(self, key: str) -> Stored | None:
        with self._read() as connection:
            return _get(connection, key)

    def snapshot(self, keys: Sequence[str]) -> tuple[Stored | None, ...]:
        with self._read() as connection:
            return tuple(_get(connection, key) for key in keys)

    def list(self, prefix: str) -> Listing:
        condition, bounds = _range(prefix)
        with self._read() as connection:
            revision = _revision(connection)
            rows = connection.execute(
                f"SELECT key, value, revision FROM records WHERE {condition} ORDER BY key",  # noqa: S608 - no input
                bounds,
            ).fetchall()
        return Listing(tuple(Stored(key.decode(), value, at) for key, value, at in rows), revision)

    def revision(self) -> int:
        with self._read() as connection:
            return _revision(connection)

    def data_version(self) -> int:
        """A number that changes when another connection has committed."""
        with self._errors("The store cannot be read"):
            return int(self._open().execute("PRAGMA data_version").fetchone()[0])

    def changes(self, prefix: str, since: int) -> tuple[Sequence[Change], int]:
        """Changes under ``prefix`` after revision ``since``, and the newest revision. Raises ``WatchLost``."""
        condition, bounds = _range(prefix)
        with self._read() as connection:
            newest, trimmed = connection.execute("SELECT revision, trimmed FROM counters").fetchone()
            if since < trimmed:
                raise WatchLost(f"Changes since revision {since} are no longer kept", todo="List again")
            rows = connection.execute(
                "SELECT revision, key, value FROM history"  # noqa: S608 - no input
                f" WHERE revision > ? AND {condition} ORDER BY revision, key",
                (since, *bounds),
            ).fetchall()
        return [
            Change(revision, tuple(Event(key.decode(), value, revision) for _, key, value in group))
            for revision, group in groupby(rows, key=lambda row: int(row[0]))
        ], int(newest)

    def commit(self, compares: Sequence[Compare], puts: Sequence[Put], deletes: Sequence[str]) -> int | None:
        with self._errors("The store cannot be written"):
            connection = self._open()
            connection.execute("BEGIN IMMEDIATE" if puts or deletes else "BEGIN")
            try:
                revision = self._write(connection, compares, puts, deletes)
            except BaseException:
                _rollback(connection)
                raise
            self._end(connection)
        return revision

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _write(
        self, connection: sqlite3.Connection, compares: Sequence[Compare], puts: Sequence[Put], deletes: Sequence[str]
    ) -> int | None:
        for compare in compares:
            row = connection.execute("SELECT revision FROM records WHERE key = ?", (compare.key.encode(),)).fetchone()
            if (row[0] if row else ABSENT) != compare.revision:
                return None
        revision = _revision(connection)
        gone = [
            key
            for key in map(str.encode, deletes)
            if connection.execute("DELETE FROM records WHERE key = ?", (key,)).rowcount
        ]
        if not puts and not gone:
            return revision
        revision += 1
        written = [(put.key.encode(), bytes(put.value), revision) for put in puts]
        connection.executemany("INSERT OR REPLACE INTO records VALUES (?, ?, ?)", written)
        connection.executemany(
            "INSERT INTO history VALUES (?, ?, ?)",
            [(revision, key, value) for key, value, _ in written] + [(revision, key, None) for key in gone],
        )
        connection.execute("UPDATE counters SET revision = ?", (revision,))
        if revision % TRIM_EVERY == 0 or self._history < TRIM_EVERY:
            self._trim(connection, revision - self._history)
        return revision

    def _trim(self, connection: sqlite3.Connection, revision: int) -> None:
        if revision > 0:
            connection.execute("DELETE FROM history WHERE revision <= ?", (revision,))
            connection.execute("UPDATE counters SET trimmed = ?", (revision,))

    def _end(self, connection: sqlite3.Connection) -> None:
        try:
            connection.execute("COMMIT")
        except sqlite3.OperationalError as error:
            _rollback(connection)
            if _primary(error) == sqlite3.SQLITE_IOERR:
                raise StoreUnknown(
                    "It is not known whether the store has carried out a write",
                    why=f"{self._path}: {error}",
                    todo="Check the disk, then look at the record before trying again",
                ) from error
            raise

    @contextmanager
    def _read(self) -> Iterator[sqlite3.Connection]:
        """A transaction that sees one state of the file."""
        with self._errors("The store cannot be read"):
            connection = self._open()
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                _rollback(connection)

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            self._make()
            connection = sqlite3.connect(
                self._path, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False
            )
            try:
                self._prepare(connection)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def _make(self) -> None:
        """The records hold keys and tokens: the file, and those that SQLite makes beside it, are for root alone."""
        try:
            os.close(os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        except OSError as error:
            todo = "Check that the folder exists and that its disk has space"
            why = f"{self._path}: {error.strerror}"
            raise StoreUnavailable("The store cannot be opened", why=why, todo=todo) from error

    def _prepare(self, connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA cache_size = -512")
        connection.execute("BEGIN IMMEDIATE")
        try:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version > SCHEMA:
                raise StoreError(
                    f"The store {self._path} is of a newer Racimo",
                    why=f"it has schema {version}, this version knows {SCHEMA}",
                    todo="Upgrade this node",
                )
            if version == 0:
                for statement in TABLES.strip().split(";\n"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {SCHEMA}")
            connection.execute("COMMIT")
        except BaseException:
            _rollback(connection)
            raise

    @contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            todo = {
                sqlite3.SQLITE_FULL: f"Free space on the disk of {self._path}",
                sqlite3.SQLITE_BUSY: "Another process keeps the store locked: restart racimo-node and racimo-ha",
                sqlite3.SQLITE_CANTOPEN: "Check that the folder exists and that the user may write there",
                sqlite3.SQLITE_READONLY: "Make the file system writable again",
                sqlite3.SQLITE_IOERR: "Check the disk and the free space on it",
            }.get(_primary(error), "Restore the store from a backup")
            raise StoreUnavailable(what, why=f"{self._path}: {error}", todo=todo) from error


def _primary(error: sqlite3.Error) -> int:
    """SQLite's primary result code: the low byte of the extended one."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def _rollback(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        connection.execute("ROLLBACK")


def _get(connection: sqlite3.Connection, key: str) -> Stored | None:
    row = connection.execute("SELECT value, revision FROM records WHERE key = ?", (key.encode(),)).fetchone()
    return Stored(key, row[0], row[1]) if row else None


def _revision(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT revision FROM counters").fetchone()[0])


def _range(prefix: str) -> tuple[str, tuple[bytes, ...]]:
    """The keys under a prefix as an SQL condition, in byte order."""
    end = prefix_end(prefix.encode())
    return ("key >= ? AND key < ?", (prefix.encode(), end)) if end else ("key >= ?", (prefix.encode(),))
