"""Kill one soak many times by SIGKILL, resume it each time, and check what docs/soak.md promises.

    PYTHONPATH=tests python -m support.soak_kills [--kills 10] [--rounds 40] [--seed N] [--db FILE]

Each kill comes after a random part of a few rounds: between two rounds, in the start of one, in its
work, while the database is written. Prints a line for each kill and ends with 1 if a promise is
broken.
"""

from __future__ import annotations

import argparse
import random
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import psutil

from stress.run.workers import cores
from stress.soak.draw import Drawer
from stress.soak.spec import spec_from
from support.runs import environment, wait_until
from support.soaks import command_of, is_alive, rounds_of, runs_of

ROUND_S = 2.0
SHARE_OF_ROUNDS = (0.1, 10.0)  # how long each life of the soak lasts, in rounds
SETTINGS = (
    *("--round-time", f"{ROUND_S:g}s", "--ram", "32MiB", "--workers", "4", "--duration", "1d"),
    *("--without", "prealloc", "--repeat", "1", "--minimize-time", "10s"),
)  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description="a soak that is killed and goes on")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument(
        "--seed",
        type=lambda text: int(text, 0),
        default=random.SystemRandom().randrange(1, 1 << 32),
    )
    parser.add_argument("--db", type=Path)
    given = parser.parse_args()
    print(f"seed {given.seed:#x}", flush=True)
    with tempfile.TemporaryDirectory(prefix="shmstress-kills-") as folder:
        db = given.db or Path(folder, "soak.db")
        first = (*SETTINGS, "--rounds", str(given.rounds), "--seed", hex(given.seed))
        moments = random.Random(given.seed)
        killed = 0
        while killed < given.kills:
            life_s = ROUND_S * moments.uniform(*SHARE_OF_ROUNDS)
            done = killed_after(life_s, db, first if not db.exists() else ("--resume",))
            if not done:
                break
            killed += 1
            print(f"kill {killed} after {life_s:.1f} s: {told(db)}", flush=True)
        last = subprocess.run(command_of(db, "--resume"), env=environment(), check=False)
        broken = list(broken_promises(db, killed))
    print(
        f"{killed} kills, exit code {last.returncode}, {len(broken)} broken promises",
        *broken,
        sep="\n",
    )
    return int(bool(broken) or killed < given.kills or last.returncode not in (0, 5))


def killed_after(life_s: float, db: Path, arguments: tuple[str, ...]) -> bool:
    """Start a soak and kill it; False if it ended before. Its processes have to end by themselves.

    A life begins with the first sign in the database, so that the start of Python is no part of it.
    """
    changed = changes(db)
    soak = subprocess.Popen(
        command_of(db, *arguments), env=environment(), stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_until(lambda: soak.poll() is not None or changes(db) != changed, "the first round")
        try:
            soak.wait(life_s)
            return False
        except subprocess.TimeoutExpired:
            pass
        family = psutil.Process(soak.pid).children(recursive=True)
    finally:
        soak.kill()
        soak.wait()
    wait_until(lambda: not any(map(is_alive, family)), f"the end of {len(family)} processes")
    return True


def changes(db: Path) -> tuple[int, int]:
    """How many rounds there are, and how many samples."""
    if not db.exists():
        return (0, 0)
    try:
        with closing(sqlite3.connect(f"{db.as_uri()}?mode=ro", uri=True)) as file:
            query = "SELECT (SELECT count(*) FROM rounds), (SELECT count(*) FROM samples)"
            rounds, samples = file.execute(query).fetchone()
            return (int(rounds), int(samples))
    except sqlite3.OperationalError:  # it has no tables yet
        return (0, 0)


def told(db: Path) -> str:
    states = [one.state for one in rounds_of(db)] if changes(db) != (0, 0) else []
    counts = (f"{states.count(state)} {state}" for state in ("ended", "running", "lost"))
    return ", ".join(counts)


def broken_promises(db: Path, killed: int) -> list[str]:
    """What docs/soak.md promises, and does not hold."""
    rounds, (run,) = rounds_of(db), runs_of(db)
    states = [one.state for one in rounds]
    drawer = Drawer(spec_from({name: str(text) for name, text in run.spec.items()}), len(cores()))
    counted = sum(sum(kind.values()) for kind in run.summary["rounds"].values())
    with closing(sqlite3.connect(db)) as file:
        sound = file.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    held = {
        "the file is sound": sound,
        "rounds are numbered without a gap": [one.number for one in rounds]
        == list(range(1, len(rounds) + 1)),
        f"at most {killed} rounds are lost": states.count("lost") <= killed,
        "every other round has ended": set(states) <= {"ended", "lost"},
        "each was counted once": counted == states.count("ended"),
        "each is the one that the seed gives": all(
            one.command == drawer.round(one.number).command for one in rounds
        ),
        "no segment is left": not segments_of(db),
        "no process is left": not [p for p in psutil.process_iter(["cmdline"]) if _of(p, db)],
    }
    return [promise for promise, true in held.items() if not true]


def segments_of(db: Path) -> list[str]:
    """Segments of controllers that the database knows."""
    with closing(sqlite3.connect(db)) as file:
        rows = file.execute("SELECT DISTINCT pid FROM processes WHERE role = 'controller'")
        names = {f"shm-{pid}-" for (pid,) in rows}
    return [path.name for path in Path("/dev/shm").iterdir() if path.name.startswith(tuple(names))]


def _of(process: psutil.Process, db: Path) -> bool:
    return str(db) in (process.info["cmdline"] or ())


if __name__ == "__main__":
    sys.exit(main())
