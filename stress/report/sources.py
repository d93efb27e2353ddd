"""Where a report reads: a database, or a directory that ``shmstress run --out`` wrote.

A directory of ``--out`` holds a directory for each run, with a database in it. Given the upper one,
the last run in it is meant: their names begin with the time.
"""

from __future__ import annotations

from pathlib import Path

from shmalloc.errors import MisuseError
from stress.records.reader import Reader
from stress.records.rows import RunRow

DATABASE = "records.db"  # of a run with --out


def database_of(path: str, option: str = "report") -> Path:
    """The database that ``path`` means. Raises ``MisuseError`` if a directory has none."""
    place = Path(path)
    if not place.is_dir():
        return place
    if (place / DATABASE).exists():
        return place / DATABASE
    below = sorted(one.parent.name for one in place.glob(f"*/{DATABASE}"))
    if not below:
        raise MisuseError(
            f"{option}: {path} has no {DATABASE}; name a database (--db), or a directory that"
            " shmstress run --out wrote"
        )
    return place / below[-1] / DATABASE


def run_of(reader: Reader, run_id: int | None) -> RunRow:
    """The run with this id; None: the last one. Raises ``MisuseError`` if there is none."""
    if run_id is not None:
        return reader.run(run_id)
    runs = reader.runs()
    if not runs:
        raise MisuseError(f"report: {reader.path} has no run; record one with --db")
    return runs[-1]
