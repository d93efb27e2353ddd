"""Signals at random moments of every command that works for a while, and what they leave behind.

    PYTHONPATH=tests python -m support.random_signals [--moments 32] [--command run] [--seed N]

A moment lies between the handlers' installation, which /proc tells, and LONGEST_S later. A quarter
of the commands begin with an empty store, so that kernels are compiled meanwhile. Whatever comes,
the command ends with a code that docs/command-line.md has and with a sentence; no process, no
segment and no half of a file is left. Prints a line for each moment, then the slowest ends.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from support.runs import environment, hear_ctrl_c

LONGEST_S = 10.0
END_S = 60.0  # a command that has not ended by then hangs
FRESH = 0.25  # of the commands have an empty store
RUN = ("run", "--ram", "32MiB", "--workers", "2", "--duration", "10m", "--workload", "churn,orders")
COMMANDS: dict[str, tuple[str, ...]] = {
    "run": RUN,
    "run-faults": (*RUN, "--faults", "kill:every=200ms,stop:every=300ms,for=100ms"),
    "explore": ("explore", "lock-*", "--duration", "10m"),
    "explore-threads": ("explore", "lock-sleep-kept-3", "--workers", "2", "--duration", "10m"),
    "crash": ("crash", "pages-*"),
    "check": ("check", "buddy", "--crash", "--duration", "10m"),
    "mutants": ("mutants", "buddy", "--engine", "both", "--duration", "10m"),
    "soak": ("soak", "--duration", "10m", "--round-time", "2s", "--ram", "16MiB", "--workers", "2"),
}
INT, TERM, HUP = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
WAYS: dict[str, tuple[bool, tuple[signal.Signals, ...]]] = {  # to the whole group?
    "INT": (False, (INT,)),
    "TERM": (False, (TERM,)),
    "HUP": (False, (HUP,)),
    "INT INT": (False, (INT, INT)),
    "TERM INT": (False, (TERM, INT)),
    "group INT": (True, (INT,)),
    "group TERM": (True, (TERM,)),
    "group HUP HUP": (True, (HUP, HUP)),
}
CODES = (0, 1, 2, 5)  # a command may have come to its end before
BAD_WORDS = ("Traceback", "Exception ignored", "SIGSEGV", "please report", "Segmentation")


@dataclass
class Ended:
    """How one command ended. ``wrong``: what must not be."""

    code: int | None
    seconds: float
    said: str
    wrong: list[str]


def main() -> int:
    parser = argparse.ArgumentParser(description="signals at random moments")
    parser.add_argument("--moments", type=int, default=32, help="of each command")
    parser.add_argument("--command", choices=COMMANDS, action="append")
    drawn = random.SystemRandom().randrange(1, 1 << 32)
    parser.add_argument("--seed", type=lambda text: int(text, 0), default=drawn)
    given = parser.parse_args()
    print(f"seed {given.seed:#x}", flush=True)
    chance, wrong, slowest = random.Random(given.seed), 0, {}
    for number in range(given.moments):
        for name in given.command or COMMANDS:
            way = list(WAYS)[(number + list(COMMANDS).index(name)) % len(WAYS)]
            after_s, fresh = chance.uniform(0, LONGEST_S), chance.random() < FRESH
            ended = one(COMMANDS[name], way, after_s, fresh, chance.choice((0, 0.01, 0.1, 0.5)))
            wrong += bool(ended.wrong)
            slowest[name] = max(slowest.get(name, 0.0), ended.seconds)
            about = f"{name}, {way} after {after_s:.1f} s{', compiling' if fresh else ''}"
            print(f"{about}: code {ended.code} in {ended.seconds:.1f} s; {ended.said}", flush=True)
            for line in ended.wrong:
                print(f"  !!! {line}", flush=True)
    total = given.moments * len(given.command or COMMANDS)
    ends = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in slowest.items())
    print(f"{total} moments, {wrong} wrong; the slowest ends: {ends}")
    return int(bool(wrong))


def one(command: tuple[str, ...], way: str, after_s: float, fresh: bool, pause_s: float) -> Ended:
    """Start ``command``, send it the signals of ``way``, and look at what is left."""
    with tempfile.TemporaryDirectory(prefix="shmstress-signals-") as folder:
        variables = {"SHMALLOC_CACHE_DIR": f"{folder}/store"} if fresh else {}
        files = ("--json", "r.json", "--junit", "r.xml", "--progress", "never")
        process = subprocess.Popen(
            [sys.executable, "-m", "stress", *command, *files],
            env=environment(**variables), cwd=folder, text=True, preexec_fn=hear_ctrl_c,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        try:
            return _one(process, *WAYS[way], after_s, pause_s, Path(folder))
        finally:
            for left in session_of(process.pid):
                with suppress(psutil.NoSuchProcess):
                    left.kill()
            process.communicate()


def _one(
    process: subprocess.Popen[str],
    group: bool,
    numbers: tuple[signal.Signals, ...],
    after_s: float,
    pause_s: float,
    folder: Path,
) -> Ended:
    while process.poll() is None and not _hears(process.pid):
        time.sleep(0.005)
    with suppress(subprocess.TimeoutExpired):
        process.wait(after_s)
    owners = {process.pid, *(one.pid for one in session_of(process.pid))}
    for turn, number in enumerate(numbers):
        time.sleep(pause_s if turn else 0)
        if process.poll() is None:
            (os.killpg if group else os.kill)(process.pid, number)
    before_s = time.monotonic()
    try:
        output, errors = process.communicate(timeout=END_S)
    except subprocess.TimeoutExpired:
        return Ended(None, END_S, "", [f"it has not ended after {END_S:g} s"])
    seconds = time.monotonic() - before_s
    lines = (output + errors).splitlines()
    said = next((line for line in lines if line.startswith(SENTENCES)), "")
    wrong = list(_wrong(process, output + errors, said, owners, folder))
    return Ended(process.returncode, seconds, said[:90], wrong)


SENTENCES = (
    "interrupted: ",
    "shmstress: interrupted",
    "INTERRUPTED",
    "stopped",
    "PASSED",
    "FAILED",
)


def _wrong(
    process: subprocess.Popen[str], text: str, said: str, owners: set[int], folder: Path
) -> Iterator[str]:
    """What must not be after a command has ended."""
    if process.returncode not in CODES:
        yield f"exit code {process.returncode}: {text[-1500:]}"
    if process.returncode == 2 and not said:
        yield f"no sentence: {text[-1500:]}"
    for word in BAD_WORDS:
        if word in text:
            yield f"{word}: {text[-3000:]}"
    deadline_s = time.monotonic() + 10
    while (left := session_of(process.pid)) and time.monotonic() < deadline_s:
        time.sleep(0.05)
    for one in left:
        with suppress(psutil.NoSuchProcess):
            yield f"process {one.pid} is left: {' '.join(one.cmdline())[:200]}"
    for path in Path("/dev/shm").glob("shm-*-*-*"):
        if int(path.name.split("-")[1]) in owners:
            yield f"segment {path.name} is left"
    for path in folder.glob(".*part"):
        yield f"{path.name} is left"
    if (folder / "r.json").exists():
        json.loads((folder / "r.json").read_text())


def _hears(pid: int) -> bool:
    """Whether the command has installed a handler of SIGTERM."""
    with suppress(FileNotFoundError, ProcessLookupError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("SigCgt"):
                return bool(int(line.split()[1], 16) >> (TERM - 1) & 1)
    return False


def session_of(pid: int) -> list[psutil.Process]:
    """The living processes of the session that ``pid`` leads."""
    found = []
    for process in psutil.process_iter():
        with suppress(ProcessLookupError, psutil.NoSuchProcess):
            if os.getsid(process.pid) == pid and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


if __name__ == "__main__":
    sys.exit(main())
