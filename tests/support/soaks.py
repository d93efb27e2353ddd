"""Real ``shmstress soak`` processes under test: small ones, watched through their database."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil

from shmalloc.errors import MisuseError
from stress.records.reader import Reader
from stress.records.rows import RoundRow, RunRow
from support.runs import PATIENCE_S, ROOT, environment, hear_ctrl_c, wait_until

TINY = (
    *("--ram", "8MiB", "--workers", "2", "--workload", "churn,orders", "--seed", "0x5"),
    *("--round-time", "1s", "--duration", "1h"),
    *("--without", "interpreted,delays,flight,prealloc,fault:*"),
)  # fmt: skip


def soak(db: Path, *arguments: str, root: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """A soak, run to its end on the packages in ``root``."""
    done = subprocess.run(
        command_of(db, *arguments),
        env=environment(PYTHONPATH=str(root)),
        cwd=root,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    print(done.stdout, done.stderr)
    return done


def command_of(db: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "stress", "soak", "--db", str(db), *arguments]


class RunningSoak:
    """A soak in the background. Use in a ``with`` block: leaving it kills what is left."""

    def __init__(self, db: Path, *arguments: str) -> None:
        self.db = db
        self.process = subprocess.Popen(
            command_of(db, *arguments),
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=hear_ctrl_c,
        )

    def __enter__(self) -> RunningSoak:
        return self

    def __exit__(self, *error: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()

    def wait_for_round(self, number: int) -> None:
        """Until the round of that number is at work: it has a sample."""

        def at_work() -> bool:
            assert self.process.poll() is None, "".join(self.process.communicate())
            return self._at_work(number)

        wait_until(at_work, f"round {number} to be at work")

    def _at_work(self, number: int) -> bool:
        try:
            with Reader(self.db) as reader:
                begun = [one for one in reader.rounds() if one.number == number]
                return bool(begun) and bool(reader.samples(round_id=begun[0].id))
        except MisuseError:  # it does not exist yet
            return False

    def family(self) -> list[psutil.Process]:
        """The process of the round, and all of its processes."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def kill(self) -> None:
        """SIGKILL, and the end of all of its processes, which is theirs to care for."""
        family = self.family()
        self.process.kill()
        self.process.communicate()
        gone: Callable[[], bool] = lambda: not any(map(is_alive, family))  # noqa: E731
        wait_until(gone, f"the end of {[one.pid for one in family]}")

    def interrupt(self) -> None:
        os.kill(self.process.pid, signal.SIGINT)

    def end(self) -> tuple[int, str]:
        """Exit code and standard output."""
        output, errors = self.process.communicate(timeout=PATIENCE_S)
        print(output, errors)
        return self.process.returncode, output


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def rounds_of(db: Path) -> list[RoundRow]:
    with Reader(db) as reader:
        return reader.rounds()


def runs_of(db: Path) -> list[RunRow]:
    with Reader(db) as reader:
        return reader.runs()
