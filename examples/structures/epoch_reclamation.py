"""Epoch-based reclamation (Fraser, 2004): what was removed is freed two epochs later.

A reader pins the epoch that it saw. The epoch advances only if every pinned reader has seen the
current one, so behind two advances no reader can have what was removed before them. One advance is
not enough.
"""

from shmalloc import kernel
from shmalloc.words import cas, exchange, expect, fence, load, store
from stress import Program, explore

EPOCH, PINNED, CURRENT, OLD, NEW = 0, 2, 4, 6, 8  # PINNED: 1 + an epoch, 0: not reading
FREED = -1
READ_FREED = 1  # code


@kernel
def read(mem, cpu, fenced):
    store(mem, PINNED, load(mem, EPOCH) + 1)
    if fenced:
        fence(mem)  # the pin is visible before we look for what to read
    value = load(mem, load(mem, CURRENT))
    expect(mem, value != FREED, READ_FREED)
    store(mem, PINNED, 0)
    return value


@kernel
def replace(mem, cpu, advances):
    """Put NEW in the place of OLD, and free it behind so many advances; 0: left for later."""
    old = exchange(mem, CURRENT, NEW)
    for _ in range(advances):
        epoch = load(mem, EPOCH)
        pinned = load(mem, PINNED)
        if pinned != 0 and pinned != epoch + 1:
            return 0
        cas(mem, EPOCH, epoch, epoch + 1)
    store(mem, old, FREED)
    return old


START = [(CURRENT, OLD), (OLD, 1), (NEW, 2)]
too_early = Program("too early", 10, [(read, 1), (replace, 1)], init=START)
unfenced = Program("unfenced", 10, [(read, 0), (replace, 2)], init=START)
two_epochs = Program("two epochs", 10, [(read, 1), (replace, 2)], init=START)
if __name__ == "__main__":
    for program in (too_early, unfenced, two_epochs):
        result = explore(program, memory="tso")
        print(result.failure.report() if result.failure else result)
