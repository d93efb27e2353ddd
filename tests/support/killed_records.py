"""Writers of a database that are killed: at each of their SQL statements, and at random moments.

``killed_records.py FOLDER SEED`` is a process without threads, so that it may fork
its victims. It prints one JSON object: what each death left behind, as a second program reads it.

A victim tells through a pipe which rounds it has ended; what was told may not be lost.
"""

from __future__ import annotations

import json
import os
import random
import select
import signal
import sqlite3
import sys
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from shmalloc.errors import Violation
from stress.records import database
from stress.records.reader import Reader
from stress.records.work import Work
from stress.records.writer import Records

ROUNDS = 2  # of a victim that dies at a statement
ENDLESS, RANDOM_DEATHS, LONGEST_S = 1 << 20, 10, 0.08
WORK = Work("run", "shmstress run", {"workers": 2}, seed=5)
TAIL = Violation("I_TAIL", "pfn 5", "1", "2", claim=0)


class Hasty(sqlite3.Connection):
    """Never waits for the disk: what a killed process has written, the system still has."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        super().execute("PRAGMA synchronous = OFF")

    def execute(self, query: str, *values: Any) -> sqlite3.Cursor:
        if query.startswith("PRAGMA synchronous"):
            query = "PRAGMA synchronous = OFF"
        return super().execute(query, *values)


def write(path: Path, rounds: int, tell: Callable[[int], object]) -> None:
    """All rounds of one run, of which an earlier writer may have done a part."""
    with Records(path) as records:
        with Reader(path) as reader:
            known = [run.id for run in reader.runs()]
        run = known[0] if known else records.begin_run(WORK)
        if known:
            records.resume_run(run)
        while (number := records.next_number(run)) <= rounds:
            round_id = records.begin_round(run, WORK)
            records.note_summary(run, {"began": number})
            with records.together():
                records.violations(round_id, [TAIL, TAIL], "shmstress run")
                records.end_round(round_id, "FAILED", 1.0, number)
            tell(number)
        records.end_run(run, "FAILED")


def forked(
    work: Callable[[Callable[[int], object]], None], kill_after_s: float = 60.0
) -> dict[str, Any]:
    """Run ``work`` in a child: the rounds that it told, and whether it died."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(reader)
            work(lambda number: os.write(writer, number.to_bytes(4, "little")))
            code = 0
        finally:
            os._exit(code)
    os.close(writer)
    told = bytearray()
    poll = select.poll()
    poll.register(reader, select.POLLIN)
    end_s = time.monotonic() + kill_after_s  # of its whole life, however much it has to tell
    while poll.poll(max(0.0, end_s - time.monotonic()) * 1000) and time.monotonic() < end_s:
        data = os.read(reader, 64)
        if not data:
            break
        told += data
    else:
        os.kill(child, signal.SIGKILL)
        while data := os.read(reader, 64):
            told += data
    os.close(reader)
    _, status = os.waitpid(child, 0)
    numbers = [int.from_bytes(told[at : at + 4], "little") for at in range(0, len(told), 4)]
    return {"told": numbers, "killed": os.WIFSIGNALED(status), "failed": os.WEXITSTATUS(status)}


def dying_at(statement: int) -> None:
    """Let this process die before its statement of that number, the first is 1."""
    connect, left = database._connect, [statement]

    def count(text: str) -> None:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def counted(*arguments: Any, **more: Any) -> sqlite3.Connection:
        connection = connect(*arguments, **more)
        connection.set_trace_callback(count)
        return connection

    database._connect = counted


def left_behind(path: Path) -> dict[str, Any]:
    """What is in the file, read by plain SQL after the next writer has looked at it."""
    with Records(path):
        pass
    with closing(sqlite3.connect(path)) as plain:

        def rows(query: str) -> list[list[Any]]:
            return [list(row) for row in plain.execute(query)]

        return {
            "integrity": rows("PRAGMA integrity_check"),
            "runs": rows("SELECT state FROM runs"),
            "rounds": rows("SELECT number, state, operations FROM rounds ORDER BY id"),
            "findings": rows("SELECT count FROM findings"),
            "sightings": rows("SELECT count(*) FROM sightings"),
            "violations": rows("SELECT count(*) FROM violations"),
        }


def _victim(path: Path, statement: int, tell: Callable[[int], object]) -> None:
    dying_at(statement)
    write(path, ROUNDS, tell)


def at_each_statement(folder: Path) -> list[dict[str, Any]]:
    found = []
    for statement in range(1, 1000):
        path = folder / f"{statement}.db"
        death = forked(partial(_victim, path, statement))
        found.append({"statement": statement, **death, **left_behind(path)})
        if not death["killed"]:
            break
        for file in folder.iterdir():
            file.unlink()
    return found


def at_random(folder: Path, seed: int) -> dict[str, Any]:
    """One run that is killed and resumed again and again, then left alone."""
    draw, path = random.Random(seed), folder / "random.db"
    told: list[int] = []
    deaths = 0
    for _ in range(RANDOM_DEATHS):
        life = forked(lambda tell: write(path, ENDLESS, tell), draw.uniform(0.005, LONGEST_S))
        told += life["told"]
        deaths += life["killed"]
    last = forked(lambda tell: write(path, max(told, default=0) + ROUNDS, tell))
    return {"deaths": deaths, "told": told + last["told"], **left_behind(path)}


def main(folder: str, seed: str) -> None:
    place = Path(folder)
    sqlite3.connect = partial(sqlite3.connect, factory=Hasty)  # type: ignore[assignment]
    (place / "statements").mkdir()
    statements = at_each_statement(place / "statements")
    print(json.dumps({"statements": statements, "random": at_random(place, int(seed, 0))}))


if __name__ == "__main__":
    main(*sys.argv[1:])
