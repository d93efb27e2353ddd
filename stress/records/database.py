"""A database file, opened: made if it is new, refused in one line if it is not ours or damaged.

For writing the file is in WAL mode, so that readers and a writer do not wait for each other.
``PRAGMA synchronous`` is FULL where a loss would break a promise and NORMAL for samples (writer.py
chooses by transaction). FULL waits for the disk at each commit: what a round found survives a power
cut. NORMAL does not wait: a commit survives the death of its process, and after a power cut the
last of them may be missing, while the file stays whole.

For reading nothing is written, and a file on a read-only file system can be read, too. SQLite needs
a shared index of the WAL in the same folder. Where it cannot make one, it reads the file as one
that never changes, or a copy if a killed writer left a WAL there.

The file itself is never opened by ``open``: closing it again would free the locks that SQLite holds
on it in this process (they are POSIX locks). ``stat`` and SQLite say all that we need.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shmalloc.errors import EnvironmentUnfitError, MisuseError, ShmallocError
from stress.records import schema

WHOLE_BYTES = 64 << 20  # a larger file is read through only after an unclean end: 5 s for 500 MiB
BUSY_S = 60.0  # a writer waits so long for another one; the longest writes thin a file out
SETTINGS = ("trusted_schema = OFF", "cell_size_check = ON", "foreign_keys = ON")
_PRIMARY = 0xFF  # of an extended result code


class Busy(EnvironmentUnfitError):
    """Another process held the lock of the database for too long."""


def real_path(path: str | os.PathLike[str]) -> Path:
    """Where the file is, links followed: SQLite puts its WAL beside that one.

    Raises ``MisuseError`` for what can be no database file.
    """
    if os.fspath(path) == "-":
        raise MisuseError("db: '-': a database is no stream; name a file")
    real = Path(os.path.realpath(path))
    try:
        mode = real.stat().st_mode
    except FileNotFoundError:
        return real
    except OSError as error:
        raise MisuseError(f"db: {path}: {error.strerror}; name another file") from error
    if stat.S_ISDIR(mode):
        raise MisuseError(f"db: {path} is a directory; name a file in it")
    if not stat.S_ISREG(mode):
        raise MisuseError(f"db: {path} is no regular file; name another one")
    return real


def told(path: Path, error: sqlite3.Error) -> ShmallocError:
    """An error of SQLite as one of ours: the file, what is wrong, the cure."""
    code = getattr(error, "sqlite_errorcode", 0) & _PRIMARY
    if code == sqlite3.SQLITE_NOTADB:
        return MisuseError(f"db: {path} is no SQLite database; name another file")
    if code == sqlite3.SQLITE_CORRUPT:
        return _damaged(path, str(error))
    if code == sqlite3.SQLITE_FULL:
        return EnvironmentUnfitError(
            f"db: {path}: the disk is full; make room there, or use --keep"
        )
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return Busy(
            f"db: {path}: another process keeps it locked; end that one, or name another file"
        )
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return MisuseError(
            f"db: {path}: {error}; name a file that can be written, in a folder that can be, too"
        )
    if code == sqlite3.SQLITE_IOERR:
        return EnvironmentUnfitError(f"db: {path}: {error}; look at the disk, its room and limits")
    return _damaged(path, str(error))


def _damaged(path: Path, what: str) -> MisuseError:
    what = " ".join(what.split())
    return MisuseError(f"db: {path} is damaged ({what}); name another file, or mend it (.recover)")


@contextmanager
def errors_told(path: Path) -> Iterator[None]:
    """Errors of SQLite leave this block as ours; mistakes in our own calls as they are."""
    try:
        yield
    except (sqlite3.ProgrammingError, sqlite3.IntegrityError):
        raise
    except sqlite3.Error as error:
        raise told(path, error) from error


def open_for_writing(path: Path, create: bool = True) -> sqlite3.Connection:
    """A connection that writes; a file that is new or empty gets the tables.

    Raises ``MisuseError`` for what is not ours, damaged or not writable, ``EnvironmentUnfitError``
    for a full disk. What ended well is whole: a large file is checked if a writer left its WAL.
    """
    unclean = _leftover(path)
    if not path.exists() and not create:
        raise MisuseError(f"db: {path} does not exist; name a database")
    if not path.parent.is_dir():
        raise MisuseError(f"db: {path}: its folder does not exist; make it, or name another file")
    with errors_told(path):
        connection = _connect(path, "rwc" if create else "rw")
        try:
            if _is_new(connection):
                _make(connection)
            require_ours(connection, path)
            if unclean or path.stat().st_size <= WHOLE_BYTES:
                _require_whole(connection, path)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA journal_size_limit = 0")  # a WAL shrinks when it begins anew
        except BaseException:
            connection.close()
            raise
    return connection


def open_for_reading(path: Path) -> tuple[sqlite3.Connection, Path | None]:
    """A connection that only reads, and the folder of a copy to be removed, if one was made.

    Raises ``MisuseError`` for what is missing, not ours or damaged.
    """
    if not path.exists():
        raise MisuseError(f"db: {path} does not exist; name a database")
    with errors_told(path):
        connection, copy = _readable(path)
        try:
            connection.execute("PRAGMA query_only = ON")
            require_ours(connection, path)
        except BaseException:
            connection.close()
            remove_copy(copy)
            raise
    return connection, copy


def remove_copy(folder: Path | None) -> None:
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)


def require_ours(connection: sqlite3.Connection, path: Path) -> None:
    """Raises ``MisuseError`` for the database of another program or of another format."""
    if _pragma(connection, "application_id") != schema.APPLICATION_ID:
        what = "is empty" if _is_new(connection) else "is a database of another program"
        raise MisuseError(f"db: {path} {what}; name another file")
    version = _pragma(connection, "user_version")
    if version != schema.VERSION:
        raise MisuseError(
            f"db: {path} has format {version}, and this shmstress knows {schema.VERSION};"
            " use the shmstress that made it, or name another file"
        )


def size_of(connection: sqlite3.Connection) -> int:
    """Bytes of the database without its free pages: what it shrinks to."""
    pages = _pragma(connection, "page_count") - _pragma(connection, "freelist_count")
    return pages * _pragma(connection, "page_size")


def _connect(path: Path, mode: str, more: str = "") -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{path.as_uri()}?mode={mode}{more}",
        uri=True,
        timeout=BUSY_S,
        isolation_level=None,  # we say BEGIN ourselves
        check_same_thread=False,  # a run that is stuck is ended by another thread (controller.py)
    )
    connection.row_factory = sqlite3.Row
    try:
        for setting in SETTINGS:
            connection.execute(f"PRAGMA {setting}")
    except BaseException:
        connection.close()
        raise
    return connection


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


def _is_new(connection: sqlite3.Connection) -> bool:
    """Whether nothing is in it yet, not even the mark of another program."""
    tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    return tables == 0 and _pragma(connection, "application_id") == 0


def _make(connection: sqlite3.Connection) -> None:
    """All tables in one transaction; another process may do the same at this moment."""
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # before the first page is written
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("BEGIN IMMEDIATE")
    try:
        if _is_new(connection):
            for statement in schema.statements():
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {schema.VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _leftover(path: Path) -> bool:
    """Whether a WAL with bytes stands beside it: of a writer that was killed, or is at work.

    An empty one is what a reader leaves: it may not remove what a writer may have opened meanwhile.
    """
    wal = path.with_name(f"{path.name}-wal")
    return wal.exists() and wal.stat().st_size > 0


def _require_whole(connection: sqlite3.Connection, path: Path) -> None:
    """Raises ``MisuseError`` unless every page, row and index entry is where it belongs."""
    said = [row[0] for row in connection.execute("PRAGMA integrity_check(1)")]
    if said != ["ok"]:
        raise _damaged(path, str(said[0]))


def _readable(path: Path) -> tuple[sqlite3.Connection, Path | None]:
    connection = _connect(path, "ro")
    try:
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        return connection, None
    except sqlite3.OperationalError as error:
        connection.close()
        code = error.sqlite_errorcode & _PRIMARY
        if code not in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
            raise
    if not _leftover(path):
        return _connect(path, "ro", "&immutable=1"), None
    folder = Path(tempfile.mkdtemp(prefix="shmstress-"))
    try:
        for file in (path, path.with_name(f"{path.name}-wal")):
            shutil.copyfile(file, folder / file.name)
        return _connect(folder / path.name, "rw"), folder
    except OSError as error:
        remove_copy(folder)
        raise MisuseError(f"db: {path}: {error.strerror}; name a file that can be read") from error
    except BaseException:
        remove_copy(folder)
        raise
