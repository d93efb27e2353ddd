"""DPOR in parts, as many processes would do it: a seed draws who is ready first, and every cut.

    PYTHONPATH=tests python -m support.explored_in_parts [--programs 2000] [--seed N]

compares random programs with the sequential search (which tests/test_explorer_brute_force.py
compares with brute force): the number of classes, all outcomes and failures.
"""

from __future__ import annotations

import argparse
import random
import secrets
import sys

from stress import Program
from stress.explorer.found import Found
from stress.explorer.searches import Budget, Plan, Search
from stress.explorer.subtrees import Explored, Handed, Subtrees, explore_part
from stress.machine.block_layout import Settings
from support.fuzz_explorer import MEMORIES
from support.spinning_programs import as_explored, draw

STEP_LIMIT = 200
MOST = 3000  # classes of a random program
PARTS = 30  # about so many, of a program


def plan_of(memory: str, free_spins: int = 1, step_limit: int = STEP_LIMIT) -> Plan:
    """Of an exhaustive search that looks for no data races and stops at no failure."""
    settings = Settings(step_limit, 20, True, memory, False, free_spins=free_spins)
    return Plan("dpor", settings, "native", 1, False)


def sequential(program: Program, plan: Plan, most: int = MOST) -> Found | None:
    """What one search finds; None if it does not come to its end within ``most`` schedules."""
    search = Search(program, plan, Budget(None, None))
    search.run(Budget(None, most))
    return search.found() if search.done else None


def in_parts(program: Program, plan: Plan, rng: random.Random, most: int) -> Subtrees:
    """Explore all parts, each of at most ``most`` schedules, in a random order."""
    subtrees = Subtrees()
    out: list[tuple[Handed, Explored]] = []
    while not subtrees.done:
        while (handed := subtrees.take()) is not None:
            count, branches = rng.randint(1, most), rng.choice((1, 2, 8))
            out.append((handed, explore_part(program, plan, handed.part, count, branches)))
        handed, explored = out.pop(rng.randrange(len(out)))
        subtrees.merge(handed.number, explored)
    return subtrees


def counts(found: Found) -> tuple[object, ...]:
    return found.schedules, found.outcomes, found.failures, found.abandoned, found.diverged


def compare(program: Program, plan: Plan, rng: random.Random) -> tuple[Subtrees, str] | None:
    """The program in parts, and how that differs from one search; None: it has too many classes."""
    whole = sequential(program, plan)
    if whole is None:
        return None
    subtrees = in_parts(program, plan, rng, max(2, whole.schedules // PARTS))
    if counts(subtrees.found) != counts(whole):
        return subtrees, f"{plan.settings.model}: {counts(subtrees.found)} for {counts(whole)}"
    return subtrees, ""


def numbered(seed: int, number: int) -> tuple[Subtrees, str]:
    """Compare random program ``number`` of a seed."""
    rng = random.Random(f"{seed}/{number}")
    memory = MEMORIES[number % 2]
    while True:
        drawn = draw(rng, memory, MOST)
        compared = compare(as_explored(drawn.program), plan_of(memory, drawn.free_spins), rng)
        if compared is not None:
            subtrees, difference = compared
            return subtrees, f"{difference} {drawn}" if difference else ""


def main() -> int:
    parser = argparse.ArgumentParser(description="DPOR in parts against DPOR in one")
    parser.add_argument("--programs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=secrets.randbits(32))
    chosen = parser.parse_args()
    print(f"seed {chosen.seed}", flush=True)
    parts = classes = redundant = different = 0
    for number in range(chosen.programs):
        subtrees, difference = numbered(chosen.seed, number)
        parts += subtrees.parts
        classes += subtrees.found.schedules
        redundant += subtrees.found.redundant
        if difference:
            different += 1
            print(f"program {number}: {difference}", flush=True)
    print(
        f"seed {chosen.seed}: {chosen.programs:,} programs, {classes:,} classes in {parts:,} parts;"
        f" {redundant} schedules could not be ended; {different} differences"
    )
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
