"""One writer of a database among several: ``busy_records.py DB ROUNDS``."""

from __future__ import annotations

import sys

from shmalloc.errors import Violation
from stress.records.work import Work
from stress.records.writer import Records

TAIL = Violation("I_TAIL", "pfn 5", "1", "2", claim=0)


def main(path: str, rounds: str) -> None:
    with Records(path) as records:
        run = records.begin_run(Work("run", "shmstress run"))
        for number in range(int(rounds)):
            round_id = records.begin_round(run, Work("run", "shmstress run"))
            with records.together():
                records.violations(round_id, [TAIL], "shmstress run")
                records.end_round(round_id, "FAILED", 1.0, number)
        records.end_run(run, "FAILED")


if __name__ == "__main__":
    main(*sys.argv[1:])
