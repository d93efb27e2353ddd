"""The table of docs/arena.md: what happens to shared arrays. ``tox -e arena-situations``.

Each situation of array_situations.py, by each way of array_ways.py, under each way to start a
process, is a program of its own: what it says, how it ends, what the resource tracker says, and
which of its names are in /dev/shm while it runs, when it has ended, and when an arena was made
after it. Writes the table into the file that is given, or prints it.

    python -m support.array_table [FILE] [--only SITUATION,...]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from shmalloc import Arena
from support.array_situations import PROGRAMS, SITUATIONS, Stage
from support.array_ways import NAMES_FILE, WAYS

METHODS = ("fork", "forkserver", "spawn")
LIMIT_S = 30.0  # of a program; one that has no answer then hangs
BEGIN, END = "<!-- situations: made by tox -e arena-situations -->", "<!-- end of situations -->"
WARNED = re.compile(r"There appear to be (\d+) leaked shared_memory objects")
PLAYS = {play.__name__: play for play in (*SITUATIONS, *PROGRAMS)}


def play(method: str, way: str, situation: str) -> None:
    """In the program of one cell: prints the outcome and what is left while it runs."""
    # Also of its children: who is killed with the tracker leaves them, and cell removes them.
    multiprocessing.current_process()._config["semprefix"] = f"/{semaphores_of(os.getpid())}"  # type: ignore[attr-defined]
    context = multiprocessing.get_context(method)
    stage = Stage(context, WAYS[way])
    outcome = PLAYS[situation](stage)
    left = 0 if situation in {one.__name__ for one in PROGRAMS} else stage.way.left()
    print(json.dumps([outcome, left]), flush=True)
    stage.close()


def cell(method: str, way: str, situation: str) -> str:
    """What one program showed."""
    with tempfile.TemporaryDirectory() as directory:
        names = Path(directory, "names")
        names.touch()
        said, errors = Path(directory, "out"), Path(directory, "err")
        with said.open("w") as out, errors.open("w") as err:
            process = subprocess.Popen(
                [sys.executable, "-m", "support.array_table", "--play", method, way, situation],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env={**os.environ, NAMES_FILE: str(names)},
                start_new_session=True,
            )
            hangs = False
            try:
                process.wait(LIMIT_S)
            except subprocess.TimeoutExpired:
                hangs = True
            stays = not session_ends(process.pid, kill=hangs)
            process.wait()
            for left in Path("/dev/shm").glob(f"sem.{semaphores_of(process.pid)}-*"):
                left.unlink(missing_ok=True)
        code = "hangs" if hangs else process.returncode
        return described(said.read_text(), errors.read_text(), code, stays, names)


def semaphores_of(session: int) -> str:
    """How the names of the semaphores of a session begin."""
    return f"situation-{session}"


def session_ends(session: int, kill: bool) -> bool:
    """Wait until no process of a session is there, as long as a tracker needs; else kill them."""
    end = time.monotonic() + (0 if kill else 10)
    while members_of(session) and time.monotonic() < end:
        time.sleep(0.02)
    found = members_of(session)
    for pid in found:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return not found


def members_of(session: int) -> list[int]:
    """Processes of a session that have not ended."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, _, of = stat.read_text().rpartition(")")[2].split()[:4]
            if int(of) == session and state != "Z":
                found.append(int(stat.parent.name))
    return found


def described(said: str, errors: str, code: int | str, stays: bool, names: Path) -> str:
    """A cell of the table."""
    outcome, left = json.loads(said) if said.strip() else ("", 0)
    parts = [outcome] if outcome not in ("", "-") else []
    if code == "hangs":
        parts.append("hangs")
    elif code != 0:
        kind = signal.Signals(-code).name if code < 0 else last_error(errors)
        parts.append(kind)
    if left:
        parts.append(f"{left} left while it runs")
    if stays:
        parts.append("a process stays")
    mine = names.read_text().split()
    if after := existing(mine):
        Arena.create(size="1MiB", cpus=1).close()
        until = f"{after} left for good" if existing(mine) else f"{after} left until the next arena"
        parts.append(until)
        for name in mine:
            Path("/dev/shm", name).unlink(missing_ok=True)
    warned = sum(map(int, WARNED.findall(errors)))
    if warned:
        parts.append(f"tracker: {warned} leaked")
    if "Exception ignored" in errors:
        parts.append("exceptions in finalizers")
    return "; ".join(parts) or "nothing left"


def existing(names: list[str]) -> int:
    return sum(Path("/dev/shm", name).exists() for name in set(names))


def last_error(errors: str) -> str:
    found = re.findall(r"^([A-Z]\w*(?:Error|Exception|Empty))\b", errors, re.MULTILINE)
    return found[-1] if found else "ends with an error"


def joined(cells: list[str]) -> str:
    """One entry for all ways to start a process, or one for each."""
    if len(set(cells)) == 1:
        return cells[0]
    same: dict[str, list[str]] = {}
    for method, told in zip(METHODS, cells, strict=True):
        same.setdefault(told, []).append(method)
    return ". ".join(f"{', '.join(methods)}: {told}" for told, methods in same.items())


def table(situations: list[str]) -> str:
    lines = [f"| situation | {' | '.join(WAYS)} |", "|---|" + "---|" * len(WAYS)]
    for situation in situations:
        row = [joined([cell(method, way, situation) for method in METHODS]) for way in WAYS]
        lines.append(f"| {PLAYS[situation].__doc__} | {' | '.join(row)} |")
        print(lines[-1], flush=True)
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", nargs="?", type=Path, help="Markdown to write the table into")
    parser.add_argument("--only", help="situations, by the names of their functions")
    parser.add_argument("--play", nargs=3, metavar=("METHOD", "WAY", "SITUATION"))
    chosen = parser.parse_args()
    if chosen.play:
        play(*chosen.play)
        return
    made = table(chosen.only.split(",") if chosen.only else list(PLAYS))
    if chosen.file:
        before, _, rest = chosen.file.read_text().partition(BEGIN)
        _, _, after = rest.partition(END)
        chosen.file.write_text(f"{before}{BEGIN}\n\n{made}\n\n{END}{after}")


if __name__ == "__main__":
    main()
