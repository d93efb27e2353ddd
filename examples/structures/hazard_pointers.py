"""Hazard pointers (Michael, 2004): say what you are about to read, then look whether it is current.

A reader writes the node that it will read to its HAZARD word, and reads CURRENT again: unless it
still names the node, a writer may have looked for hazards before. A writer frees a node only if no
hazard names it.
"""

from shmalloc import kernel
from shmalloc.words import exchange, expect, fence, load, store
from stress import Program, explore

CURRENT, HAZARD, OLD, NEW = 0, 2, 4, 6  # OLD and NEW are nodes of one word
FREED = -1
READ_FREED = 1  # code


@kernel
def read(mem, cpu, looks_again, fenced):
    while True:
        node = load(mem, CURRENT)
        store(mem, HAZARD, node)
        if fenced:
            fence(mem)  # the hazard is visible before we look again
        if not looks_again or load(mem, CURRENT) == node:
            break
    value = load(mem, node)
    expect(mem, value != FREED, READ_FREED)
    store(mem, HAZARD, 0)
    return value


@kernel
def replace(mem, cpu):
    """Put NEW in the place of OLD, and free it if no CPU reads it; 0: it is left for later."""
    old = exchange(mem, CURRENT, NEW)
    if load(mem, HAZARD) == old:
        return 0
    store(mem, old, FREED)
    return old


START = [(CURRENT, OLD), (OLD, 1), (NEW, 2)]
careless = Program("careless", 8, [(read, 0, 1), replace], init=START)
unfenced = Program("unfenced", 8, [(read, 1, 0), replace], init=START)
careful = Program("careful", 8, [(read, 1, 1), replace], init=START)
if __name__ == "__main__":
    for program in (careless, unfenced, careful):
        result = explore(program, memory="tso")
        print(result.failure.report() if result.failure else result)
