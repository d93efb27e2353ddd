"""The queue of Michael and Scott (PODC 1996), with and without counted pointers.

A node is three words, ``next, count, value``; HEAD and TAIL are pairs ``node, count``. Every change
of a pair adds STEP to its count. With STEP 0 the pointers are not counted, and a node that was
dequeued and enqueued again is taken for the one that a CPU saw before (ABA).
"""

from shmalloc import kernel
from shmalloc.words import cas2, fixed, load, load2, store
from stress import Program, explore, returned

HEAD, TAIL, STEP, NODES = 0, 2, 4, 6
VALUE, NODE_WORDS = 2, 4
AGAIN = 1  # code: a value came out twice


@kernel
def enqueue(mem, node, value):
    _, count = load2(mem, node)
    store(mem, node + VALUE, value)
    cas2(mem, node, load(mem, node), count, 0, count + fixed(mem, STEP))
    while True:
        tail, tails = load2(mem, TAIL)
        following, count = load2(mem, tail)
        if following != 0:  # the tail lags behind: help
            cas2(mem, TAIL, tail, tails, following, tails + fixed(mem, STEP))
        elif cas2(mem, tail, 0, count, node, count + fixed(mem, STEP)):
            cas2(mem, TAIL, tail, tails, node, tails + fixed(mem, STEP))
            return


@kernel
def dequeue(mem):
    """The value and the node that is free now; 0, 0 if the queue is empty."""
    while True:
        head, heads = load2(mem, HEAD)
        tail, tails = load2(mem, TAIL)
        following = load(mem, head)
        again, count = load2(mem, HEAD)
        if again != head or count != heads:
            continue
        if head == tail:
            if following == 0:
                return 0, 0
            cas2(mem, TAIL, tail, tails, following, tails + fixed(mem, STEP))
        elif following != 0:
            value = load(mem, following + VALUE)  # before the swap: then it may be reused
            if cas2(mem, HEAD, head, heads, following, heads + fixed(mem, STEP)):
                return value, head


@kernel
def take(mem, cpu):
    value, _ = dequeue(mem)
    return value


@kernel
def take_and_put(mem, cpu):
    """Puts the node that became free in again, and takes twice more: the digits of the result."""
    first, node = dequeue(mem)
    if node != 0:
        enqueue(mem, node, 3)
    second, _ = dequeue(mem)
    third, _ = dequeue(mem)
    return 100 * first + 10 * second + third


@kernel
def each_came_once(mem):
    other = returned(mem, 1)
    value = returned(mem, 0)
    if value == 0:
        return 0
    twice = value == other // 100 or value == other // 10 % 10 or value == other % 10
    return AGAIN if twice else 0


QUEUE = [(HEAD, 6), (TAIL, 14), (6, 10), (10, 14), (10 + VALUE, 1), (14 + VALUE, 2)]
THREADS = [take, take_and_put]
uncounted = Program("uncounted", 18, THREADS, init=QUEUE, check=each_came_once)
counted = Program("counted", 18, THREADS, init=[*QUEUE, (STEP, 1)], check=each_came_once)
if __name__ == "__main__":
    for result in map(explore, (uncounted, counted)):
        print(result.failure.report() if result.failure else result)
