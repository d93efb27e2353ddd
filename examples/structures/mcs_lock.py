"""The queue lock of Mellor-Crummey and Scott (1991): each CPU spins on a word of its own.

A CPU puts its node at TAIL and links it behind the one before. Between the two the one before may
want to leave: it sees no successor, but TAIL says that there is one, and it has to wait for the
link. One that leaves without that look forgets its successor.
"""

from shmalloc import kernel
from shmalloc.words import cas, exchange, load, relax, store
from stress import Program, explore

TAIL, COUNT, NODES = 0, 1, 2  # a node: the next node, and whether its CPU has to wait
WAITS = 1
NOT_ALONE = 1  # code


@kernel
def lock(mem, node):
    store(mem, node, 0)
    store(mem, node + WAITS, 1)
    before = exchange(mem, TAIL, node)
    if before != 0:
        store(mem, before, node)
        while load(mem, node + WAITS) == 1:
            relax(mem)


@kernel
def unlock(mem, node, looks):
    if load(mem, node) == 0:
        if not looks:
            store(mem, TAIL, 0)
            return
        if cas(mem, TAIL, node, 0):
            return
        while load(mem, node) == 0:
            relax(mem)
    store(mem, load(mem, node) + WAITS, 0)


@kernel
def count_up(mem, cpu, looks):
    node = NODES + 2 * cpu
    lock(mem, node)
    mem[COUNT] = mem[COUNT] + 1  # plain: two at once would be a race
    unlock(mem, node, looks)


@kernel
def all_counted(mem):
    return 0 if mem[COUNT] == 2 and mem[TAIL] == 0 else NOT_ALONE


forgetful = Program("forgetful", 6, [(count_up, 0)] * 2, check=all_counted)
queue_lock = Program("queue lock", 6, [(count_up, 1)] * 2, check=all_counted)
if __name__ == "__main__":
    for result in map(explore, (forgetful, queue_lock)):
        print(result.failure.report() if result.failure else result)
