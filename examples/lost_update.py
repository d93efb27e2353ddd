"""A lost update, found and shown: two virtual CPUs increment one word without an atomic operation.

Run: python examples/lost_update.py   or: shmstress explore examples/lost_update.py:program
"""

from shmalloc import kernel
from shmalloc.words import fetch_add
from stress import Program, explore


@kernel
def increment(mem, cpu):
    mem[0] = mem[0] + 1  # plain accesses, which nothing orders


@kernel
def increment_at_once(mem, cpu):
    fetch_add(mem, 0, 1)


@kernel
def both_counted(mem):
    return 0 if mem[0] == 2 else 1


program = Program(
    name="lost-update", words=2, threads=[increment, increment], check=both_counted, observe=[0]
)
fixed = Program(
    name="no-lost-update",
    words=2,
    threads=[increment_at_once, increment_at_once],
    check=both_counted,
    observe=[0],
)

if __name__ == "__main__":
    for each in (program, fixed):
        result = explore(each)
        print(result.failure.report() if result.failure else f"{each.name}: {result.verdict}")
