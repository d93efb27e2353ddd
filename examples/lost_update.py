"""A lost update, found and shown: two virtual CPUs increment one word without an atomic.

Run: python examples/lost_update.py
"""

from shmalloc import kernel
from shmalloc.engine.model_python import PyModel
from shmalloc.engine.program import ModelProgram


@kernel
def increment(mem, cpu):
    mem[0] = mem[0] + 1
    return 0


@kernel
def both_counted(mem):
    return 0 if mem[0] == 2 else 1


def main() -> None:
    program = ModelProgram(words=2, threads=(increment, increment), check=both_counted)
    result = PyModel(program, log=True).run(seed=1, schedules=100)
    print(f"{result.verdict} after {result.schedules} schedules, seed {result.failing_seed}:")
    for event in result.events:
        print("    " * event.cpu, event)


if __name__ == "__main__":
    main()
