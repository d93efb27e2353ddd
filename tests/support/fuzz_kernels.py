"""Run many random programs in all ways: the long form of test_compiler_agreement.py.

    PYTHONPATH=tests python -m support.fuzz_kernels [--programs 100000] [--seed N] [--first K]

Works in batches, each in a process of its own, since images stay in a process for its life. Prints
what was run and each difference with a way to repeat it. Ends with 1 if there was one.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import secrets
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from shmalloc.compiler.directory import ENV_CACHE_DIR
from support import agreement
from support.agreement import Batch

BATCH = 400  # programs that are compiled as one image


def _one(seed: int, naive_every: int, span: tuple[int, int]) -> Batch:
    with tempfile.TemporaryDirectory(prefix="shmalloc-fuzz-") as directory:
        os.environ[ENV_CACHE_DIR] = str(Path(directory, "cache"))
        first, count = span
        return agreement.compare(Path(directory), seed, first, count, naive_every)


def main() -> int:
    parser = argparse.ArgumentParser(description="random kernels, compiled against interpreted")
    parser.add_argument("--programs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=secrets.randbits(32))
    parser.add_argument("--first", type=int, default=0, help="number of the first program")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--naive-every", type=int, default=5, help="programs evaluated naively")
    chosen = parser.parse_args()
    end = chosen.first + chosen.programs
    spans = [(at, min(BATCH, end - at)) for at in range(chosen.first, end, BATCH)]
    total, started = Batch(), time.monotonic()
    work = partial(_one, chosen.seed, chosen.naive_every)
    print(f"seed {chosen.seed}", flush=True)
    with multiprocessing.get_context("spawn").Pool(chosen.jobs, maxtasksperchild=4) as pool:
        for batch in pool.imap_unordered(work, spans):
            total.add(batch)
            for difference in batch.differences:
                print(difference, flush=True)
            if sys.stdout.isatty() or total.programs % (25 * BATCH) == 0:
                print(f"{time.monotonic() - started:.0f} s: {total}", flush=True)
    print(f"{time.monotonic() - started:.0f} s, seed {chosen.seed}: {total}")
    return 1 if total.differences else 0


if __name__ == "__main__":
    sys.exit(main())
