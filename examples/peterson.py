"""Peterson's lock: correct under sc, broken by store buffers (tso), repaired by one fence."""

from shmalloc import kernel
from shmalloc.words import fence, fixed, load, relax, store
from stress import Program, explore

WANTS, TURN, COUNT, FENCED = 0, 2, 4, 6  # WANTS: one word for each CPU


@kernel
def enter_and_count(mem, cpu):
    other = 1 - cpu
    store(mem, WANTS + cpu, 1)
    store(mem, TURN, other)
    if fixed(mem, FENCED) != 0:
        fence(mem)  # else both may read WANTS while the other's 1 is in its store buffer
    while load(mem, WANTS + other) == 1 and load(mem, TURN) == other:
        relax(mem)
    mem[COUNT] = mem[COUNT] + 1  # plain: only one CPU is here
    store(mem, WANTS + cpu, 0)


@kernel
def both_counted(mem):
    return 0 if mem[COUNT] == 2 else 1


BOTH = [enter_and_count, enter_and_count]
unfenced = Program(name="unfenced", words=8, threads=BOTH, check=both_counted, observe=[COUNT])
fenced = Program(
    name="fenced", words=8, threads=BOTH, init=[(FENCED, 1)], check=both_counted, observe=[COUNT]
)

if __name__ == "__main__":
    for memory in ("sc", "tso"):
        for program in (unfenced, fenced):
            result = explore(program, memory=memory)
            print(memory, program.name, result.verdict)
            if result.failure:
                print(result.failure.report())
