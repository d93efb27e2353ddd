"""A ring of two places between a producer and a consumer: no lock, no swap, only ordering."""

from shmalloc import kernel
from shmalloc.words import load, relax, store
from stress import Program, explore

TAIL, HEAD, RING, CAME = 0, 2, 4, 6  # one CPU writes each word outside the ring
PLACES, ITEMS = 2, 3


@kernel
def produce(mem, cpu):
    for item in range(ITEMS):
        while item - load(mem, HEAD) == PLACES:  # acquire: the place was read before we write it
            relax(mem)
        mem[RING + item % PLACES] = item + 1
        store(mem, TAIL, item + 1)  # release: publishes the item


@kernel
def consume(mem, cpu):
    for item in range(ITEMS):
        while load(mem, TAIL) == item:  # acquire: the item was written before we read it
            relax(mem)
        mem[CAME] = mem[CAME] * 10 + mem[RING + item % PLACES]
        store(mem, HEAD, item + 1)  # release: gives the place back


@kernel
def all_in_order(mem):
    return 0 if mem[CAME] == 123 else 1


program = Program(name="spsc", words=8, threads=[produce, consume], check=all_in_order)
if __name__ == "__main__":
    for memory in ("sc", "tso"):
        result = explore(program, memory=memory)
        print(memory, result.failure.report() if result.failure else result.verdict)
