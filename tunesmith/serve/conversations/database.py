"""The SQLite file: how it is opened, what its tables are, and how older files are brought up to date."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tunesmith.errors import DataError, LockedError, MissingInputError, StorageError
from tunesmith.files import storage_errors

FILE = "conversations.sqlite3"
LOCK = "conversations.lock"
OWNER_ONLY = 0o600
PATIENCE = 10.0
"""Seconds to wait for another process that writes."""

MIGRATIONS = (
    """
    CREATE TABLE conversations (
        id TEXT PRIMARY KEY,
        title TEXT NOT NULL,
        system TEXT NOT NULL,
        feedback INTEGER NOT NULL,
        created INTEGER NOT NULL,
        changed INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE messages (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        conversation TEXT NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
        parent TEXT REFERENCES messages (id) DEFERRABLE INITIALLY DEFERRED,
        role TEXT NOT NULL,
        text TEXT NOT NULL,
        shown INTEGER NOT NULL,
        created INTEGER NOT NULL,
        context TEXT NOT NULL,
        state TEXT NOT NULL,
        model TEXT NOT NULL,
        system TEXT NOT NULL,
        sampling TEXT NOT NULL,
        seed INTEGER NOT NULL,
        sample INTEGER NOT NULL,
        prompt_tokens INTEGER NOT NULL,
        tokens INTEGER NOT NULL,
        milliseconds INTEGER NOT NULL,
        dropped INTEGER NOT NULL,
        finish TEXT NOT NULL,
        error TEXT NOT NULL,
        edit_of TEXT,
        drafts TEXT NOT NULL,
        chosen INTEGER,
        vote INTEGER NOT NULL,
        comment TEXT NOT NULL
    ) STRICT;
    CREATE INDEX messages_of_conversation ON messages (conversation, number);
    CREATE INDEX replies_of_message ON messages (parent);
    """,
)
"""One script for each version of the tables; ``user_version`` of a file counts those that were run."""


def open_database(directory: Path) -> sqlite3.Connection:
    """The database in a directory, which is created, brought up to date, and readable by its owner only.

    A transaction that was committed is on the disk (``synchronous=FULL``).
    Raises StorageError, also for a file that is no such database, and DataError for one of a later version.
    """
    path = directory / FILE
    with storage_errors(path), database_errors(path):
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, OWNER_ONLY))
        path.chmod(OWNER_ONLY)
        connection = _connect(path, "rwc")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        _migrate(connection, path)
    return connection


def open_existing(directory: Path) -> sqlite3.Connection:
    """The database in a directory, only to be read, also while a server uses it. Raises as ``open_database``."""
    path = directory if directory.is_file() else directory / FILE
    if not path.is_file():
        advice = "name the directory that was given to `tunesmith serve --data`"
        raise MissingInputError(f"there is no file {FILE}", where=directory, advice=advice)
    with database_errors(path):
        connection = _connect(path, "ro")
        _check_version(connection, path)
    return connection


@contextmanager
def exclusive(directory: Path) -> Iterator[None]:
    """Only one process at a time serves a directory. Raises LockedError and StorageError."""
    path = directory / LOCK
    with storage_errors(path):
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, OWNER_ONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            advice = "stop it, or name another directory with --data"
            raise LockedError("another server uses these conversations", where=directory, advice=advice) from error
        yield
    finally:
        os.close(descriptor)


class DamagedDatabaseError(StorageError):
    """A file is no database of conversations, or is no longer one."""


@contextmanager
def database_errors(path: Path) -> Iterator[None]:
    """Errors of SQLite as those of Tunesmith. Raises DamagedDatabaseError, and StorageError for all others."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError | sqlite3.IntegrityError | sqlite3.ProgrammingError):
            advice = "free disk space, or choose another directory; what was acknowledged is still there"
            raise StorageError(f"the conversations cannot be written: {error}", where=path, advice=advice) from error
        what = f"the file of the conversations is damaged, or another file: {error}"
        advice = "stop the server, and move the file away or restore a copy of it"
        raise DamagedDatabaseError(what, where=path, advice=advice) from error


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    address = f"{path.absolute().as_uri()}?mode={mode}"
    connection = sqlite3.connect(address, uri=True, timeout=PATIENCE, isolation_level=None, check_same_thread=False)
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA foreign_keys=ON")
    connection.execute("PRAGMA trusted_schema=OFF")
    connection.create_function("contains", 2, _contains, deterministic=True)
    return connection


def _contains(text: str | None, folded: str) -> bool:
    """Whether a text has another one in it, whatever the case."""
    return folded in (text or "").casefold()


def _check_version(connection: sqlite3.Connection, path: Path) -> int:
    """The version of the tables. Raises DataError for one of a later Tunesmith."""
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version > len(MIGRATIONS):
        what = f"a later version of Tunesmith has written this file (version {version} of its tables)"
        raise DataError(what, where=path, advice="update Tunesmith, or name another directory with --data")
    return version


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Run the migrations that the file lacks, each in one transaction."""
    for version in range(_check_version(connection, path), len(MIGRATIONS)):
        script = f"BEGIN IMMEDIATE; {MIGRATIONS[version]} PRAGMA user_version={version + 1}; COMMIT;"
        connection.executescript(script)
