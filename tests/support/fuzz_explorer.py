"""Compare the explorer with brute force on many random programs.

    PYTHONPATH=tests python -m support.fuzz_explorer [--programs 20000] [--seconds N] [--seed N]

The long form of test_explorer_brute_force.py: programs of 2 to 6 CPUs with at most 20,000
schedules each, half of them under sc and half under tso, that access, spin, sleep and wake. DPOR
has to find as many classes as brute force, none twice, and the same outcomes; dfs as many
schedules; the random strategies no other outcomes. Prints each difference as a test to paste, and
the numbers that repeat it (``--seed``, ``--first``). Ends with 1 if there was one.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import secrets
import sys
import time
from functools import partial

from support.spinning_agreement import MOST, Compared, as_test, compare, reduced
from support.spinning_programs import draw

BATCH = 50
MEMORIES = ("sc", "tso")


def numbered(seed: int, number: int) -> Compared:
    """Compare program ``number``: the first of its draws that brute force can take."""
    rng = random.Random(f"{seed}/{number}")
    memory = MEMORIES[number % 2]
    while True:
        drawn = draw(rng, memory, MOST)
        compared = compare(drawn, memory)
        if compared is None:
            continue
        if compared.differences:
            test = as_test(reduced(drawn, memory), memory)
            text = "\n".join((f"--seed {seed} --first {number}:", *compared.differences, test))
            compared.differences = [text]
        return compared


def batch(seed: int, end: float, numbers: range) -> Compared:
    """Compare programs, as long as the clock that all processes share has not come to ``end``."""
    total = Compared()
    for number in numbers:
        if time.monotonic() < end:
            total.add(numbered(seed, number))
    return total


def main() -> int:
    parser = argparse.ArgumentParser(description="the explorer against brute force")
    parser.add_argument("--programs", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--seed", type=int, default=secrets.randbits(32))
    parser.add_argument("--first", type=int, default=0, help="number of the first program")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    chosen = parser.parse_args()
    total, started = Compared(), time.monotonic()
    work = partial(batch, chosen.seed, started + chosen.seconds)
    end = chosen.first + chosen.programs
    spans = [range(at, min(at + BATCH, end)) for at in range(chosen.first, end, BATCH)]
    print(f"seed {chosen.seed}", flush=True)
    with multiprocessing.get_context("spawn").Pool(chosen.jobs) as pool:
        for found in pool.imap_unordered(work, spans):
            total.add(found)
            for difference in found.differences:
                print(difference, flush=True)
            if total.programs % (20 * BATCH) == 0:
                print(f"{time.monotonic() - started:.0f} s: {total}", flush=True)
    print(f"{time.monotonic() - started:.0f} s, seed {chosen.seed}: {total}")
    return 1 if total.differences else 0


if __name__ == "__main__":
    sys.exit(main())
