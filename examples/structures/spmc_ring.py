"""A ring with one producer and several consumers. A consumer reads its place before it claims it.

``filled`` asks how full the ring gets with four consumers: a walk that chooses every CPU with the
same probability hardly ever lets the producer run ahead, priorities do (``strategy="pct"``).
"""

from shmalloc import kernel
from shmalloc.words import cas, expect, load, relax, store
from stress import Program, explore

TAIL, HEAD, RING = 0, 2, 4
WRONG, FULL = 1, 2  # codes


@kernel
def produce(mem, cpu, items, places, most):
    """Put 1, 2, ... ``items`` in, as long as there is room; no more than ``most`` may be there."""
    for item in range(items):
        if item - load(mem, HEAD) == places:
            return item
        store(mem, RING + item % places, item + 1)
        store(mem, TAIL, item + 1)
        expect(mem, item + 1 - load(mem, HEAD) <= most, FULL)
    return items


@kernel
def consume(mem, cpu, places, tries):
    """Each item must be the one that belongs to its place in the sequence."""
    for _ in range(tries):
        head = load(mem, HEAD)
        if head == load(mem, TAIL):
            relax(mem)
        else:
            item = load(mem, RING + head % places)  # before the claim: then it may be overwritten
            if cas(mem, HEAD, head, head + 1):
                expect(mem, item == head + 1, WRONG)
    return tries


@kernel
def consume_late(mem, cpu, places, tries):
    for _ in range(tries):
        head = load(mem, HEAD)
        if head == load(mem, TAIL):
            relax(mem)
        elif cas(mem, HEAD, head, head + 1):
            item = load(mem, RING + head % places)
            expect(mem, item == head + 1, WRONG)
    return tries


late = Program("late", 6, [(produce, 2, 1, 1), (consume_late, 1, 1), (consume_late, 1, 1)])
early = Program("early", 6, [(produce, 2, 1, 1), (consume, 1, 1), (consume, 1, 1)])
filled = Program("filled", 20, [(produce, 16, 16, 10), *[(consume, 16, 40)] * 4])
if __name__ == "__main__":
    for program, strategy in ((late, "auto"), (early, "auto"), (filled, "pct")):
        result = explore(program, strategy)
        print(result.failure.report() if result.failure else result)
