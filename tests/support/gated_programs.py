"""Small programs of every kind of failure, for replays in real processes."""

from __future__ import annotations

from shmalloc.dialect import kernel
from shmalloc.words import cas2 as swap_both
from shmalloc.words import expect, load, load2, now, relax, store, wait, wake
from stress import Program, choose, sync


@kernel
def increment(mem, cpu):
    store(mem, 0, load(mem, 0) + 1)


@kernel
def both_counted(mem):
    return 0 if mem[0] == 2 else 7


@kernel
def careless(mem, cpu):
    mem[0] = mem[0] + 1


@kernel
def both(mem, cpu, first, second):
    sync.mutex_lock(mem, first, cpu)
    sync.mutex_lock(mem, second, cpu)
    mem[2] = mem[2] + 1
    sync.mutex_unlock(mem, second, cpu)
    sync.mutex_unlock(mem, first, cpu)


@kernel
def ups_both(mem, cpu):
    low, high = load2(mem, 0)
    swap_both(mem, 0, low, high, low + 1, high + 1)


@kernel
def reads_halves(mem, cpu):
    low = load(mem, 0)
    high = load(mem, 1)
    store(mem, 2, low - high)


@kernel
def points(mem, cpu):
    store(mem, 0, 100)
    store(mem, 0, 1)


@kernel
def follows(mem, cpu):
    store(mem, load(mem, 0), 5)


@kernel
def expects_even(mem, cpu):
    value = load(mem, 0)
    expect(mem, value % 2 == 0, 9)


@kernel
def low_then_high(mem, cpu):
    store(mem, 0, 1)
    store(mem, 1, 1)


@kernel
def never_apart(mem):
    return 0 if mem[0] == mem[1] else 3


@kernel
def picks(mem, cpu):
    store(mem, cpu, choose(mem, 5))


@kernel
def not_four(mem):
    return 4 if mem[0] == 4 else 0


@kernel
def waits_once(mem, cpu):
    wait(mem, 0, 0)
    store(mem, 1, load(mem, 0))


@kernel
def tells(mem, cpu):
    store(mem, 0, 1)
    wake(mem, 0, 1)


@kernel
def was_told(mem):
    return 0 if mem[1] == 1 else 6


@kernel
def tells_no_one(mem, cpu):
    store(mem, 2, 1)


@kernel
def spins(mem, cpu):
    while load(mem, 0) == 0:
        relax(mem)


@kernel
def stores_then_looks(mem, cpu, other):
    store(mem, cpu, 1)
    store(mem, 2 + cpu, 1 + load(mem, other))


@kernel
def one_saw_the_other(mem):
    return 5 if mem[2] == 1 and mem[3] == 1 else 0


@kernel
def in_haste(mem, cpu):
    """Believes only what it saw at once."""
    start = now(mem)
    first = load(mem, 0)
    second = load(mem, 0)
    if first != second and now(mem) - start < 10:
        store(mem, 1, 1)


@kernel
def saw_no_change(mem):
    return 8 if mem[1] == 1 else 0


@kernel
def goes_beyond(mem, cpu):
    store(mem, 2 + cpu, 1)


LOST = Program("lost", 2, [increment, increment], check=both_counted, names={0: "count"})
RACE = Program("careless", 2, [careless, careless], names={0: "count"})
CROSSED = Program("crossed", 4, [(both, 0, 1), (both, 1, 0)], locks=[0, 1], names={0: "a", 1: "b"})
TORN = Program("halves", 4, [ups_both, reads_halves])
OUTSIDE = Program("outside", 2, [points, follows])
ODD = Program("odd", 2, [increment, expects_even])
APART = Program("apart", 2, [low_then_high, increment], invariant=never_apart)
CHOSEN = Program("chosen", 2, [picks], check=not_four)
EARLY = Program("early", 2, [waits_once, tells], check=was_told, spurious=1)
UNTOLD = Program("untold", 4, [waits_once, tells_no_one])
SPUN = Program("spun", 2, [spins, spins])
BUFFERED = Program(
    "buffered", 4, [(stores_then_looks, 1), (stores_then_looks, 0)], check=one_saw_the_other
)
HASTY = Program("hasty", 2, [in_haste, increment], check=saw_no_change)
BEYOND = Program("beyond", 2, [goes_beyond])
