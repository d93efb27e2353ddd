"""The work-stealing deque of Chase and Lev (SPAA 2005): the owner's end needs one fence.

The owner pushes and takes at BOTTOM, thieves steal at TOP; only the last item is fought for with a
swap. The owner's store to BOTTOM must be visible before it looks at TOP: without the fence it and a
thief can both have the same item on x86.
"""

from shmalloc import kernel
from shmalloc.words import cas, fence, load, store
from stress import Program, explore, returned

TOP, BOTTOM, RING, PLACES = 0, 2, 4, 4
TWICE, LOST = 1, 2  # codes


@kernel
def push(mem, item):
    bottom = load(mem, BOTTOM)
    store(mem, RING + bottom % PLACES, item)
    store(mem, BOTTOM, bottom + 1)


@kernel
def take(mem, fenced):
    """The youngest item; 0: there is none."""
    bottom = load(mem, BOTTOM) - 1
    store(mem, BOTTOM, bottom)
    if fenced:
        fence(mem)
    top = load(mem, TOP)
    if top > bottom:
        store(mem, BOTTOM, bottom + 1)
        return 0
    item = load(mem, RING + bottom % PLACES)
    if top == bottom:  # the last one belongs to the CPU that moves TOP
        if not cas(mem, TOP, top, top + 1):
            item = 0
        store(mem, BOTTOM, bottom + 1)
    return item


@kernel
def steal(mem):
    """The oldest item; 0: there is none, or another CPU was faster."""
    top = load(mem, TOP)
    if top >= load(mem, BOTTOM):
        return 0
    item = load(mem, RING + top % PLACES)
    return item if cas(mem, TOP, top, top + 1) else 0


@kernel
def own(mem, cpu, fenced):
    push(mem, 1)
    push(mem, 2)
    first = take(mem, fenced)
    return 10 * first + take(mem, fenced)


@kernel
def steal_twice(mem, cpu):
    first = steal(mem)
    return 10 * first + steal(mem)


@kernel
def each_once(mem):
    """Of the items 1 and 2, each came out once or is still there."""
    for item in range(1, 3):
        count = 0
        for cpu in range(2):
            both = returned(mem, cpu)
            count += int(both // 10 == item) + int(both % 10 == item)
        for at in range(load(mem, TOP), load(mem, BOTTOM)):
            count += int(load(mem, RING + at % PLACES) == item)
        if count != 1:
            return TWICE if count > 1 else LOST
    return 0


unfenced = Program("unfenced", 8, [(own, 0), steal_twice], check=each_once)
fenced = Program("fenced", 8, [(own, 1), steal_twice], check=each_once)
if __name__ == "__main__":
    for program in (unfenced, fenced):
        result = explore(program, memory="tso")
        print(result.failure.report() if result.failure else result)
