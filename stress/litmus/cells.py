"""The native side of the litmus tests: many cells, played by real processes at the same time.

Words of the shared file that the processes play in::

    parameters | slots, one of two lines a process | results | counts | cells

    P_*        written by the controller while no process plays
    slot       how often a process came to a meeting, and its random state; only it writes
    results    what a process returned for each cell of the batch; only it writes
    counts     how often it counted each outcome; only it writes

One round: all processes meet, each plays all cells in the same order, all meet, each counts its
share of the cells and sets them back to zero. The meetings order plain accesses (an arrival is a
release, reading another's arrival an acquire), and so does the pipe before and after a turn.

Between two meetings only the shape itself orders accesses: that is the experiment. Each process
begins a batch a random number of pauses late, so that all overlaps occur.
"""

from __future__ import annotations

from shmalloc.dialect import kernel
from shmalloc.units import Cpu, Memory, WordIndex
from shmalloc.words import give_way, load, relax, store
from stress.litmus.shapes import play
from stress.seeds import below, next_random

LINE_WORDS = 8
MAX_PROCESSES = 4
MAX_CELLS = 1 << 12
P_SHAPE = 0
P_PROCESSES = 1
P_CELLS = 2
P_STRIDE = 3  # from one cell to the next
P_X = 4  # of the first cell
P_Y = 5
P_SPINS = 6  # polls of another's arrival before the process yields the processor
P_DELAYS = 7  # a process begins a batch fewer pauses late than this
SLOT_WORDS = 2 * LINE_WORDS  # processors prefetch the neighbour of a line
SLOTS = SLOT_WORDS
S_ARRIVED = 0
S_RANDOM = 8  # on a separate line: no other process reads it
RESULTS = SLOTS + MAX_PROCESSES * SLOT_WORDS
RESULT_BITS = 4
RESULT_MASK = (1 << RESULT_BITS) - 1
FINAL_BITS = 2
FINAL_MASK = (1 << FINAL_BITS) - 1
X_SHIFT = 2 * RESULT_BITS
Y_SHIFT = X_SHIFT + FINAL_BITS
STRANGE = 1 << (Y_SHIFT + FINAL_BITS)  # an outcome with a value that no process wrote
COUNTS_WORDS = STRANGE + SLOT_WORDS
COUNTS = RESULTS + MAX_PROCESSES * MAX_CELLS
CELLS = COUNTS + MAX_PROCESSES * COUNTS_WORDS
PATIENCE = 1 << 24  # give_ways until a partner counts as lost: a few seconds
LOST = -1


@kernel
def arrive(mem: Memory, cpu: Cpu) -> int:
    """Announce that ``cpu`` has come to its next meeting; returns its number."""
    at = SLOTS + cpu * SLOT_WORDS + S_ARRIVED
    meeting = load(mem, at) + 1
    store(mem, at, meeting)
    return meeting


@kernel
def await_arrival(mem: Memory, at: WordIndex, meeting: int) -> int:
    """Wait until the process that counts its arrivals in word ``at`` has come; else LOST."""
    spins = mem[P_SPINS]
    for _ in range(spins):
        if load(mem, at) >= meeting:
            return 0
        relax(mem)
    for _ in range(PATIENCE):
        if load(mem, at) >= meeting:
            return 0
        give_way(mem)
    return LOST


@kernel
def meet(mem: Memory, cpu: Cpu) -> int:
    """Wait until all processes have come. LOST if one does not."""
    meeting = arrive(mem, cpu)
    for other in range(mem[P_PROCESSES]):
        if await_arrival(mem, SLOTS + other * SLOT_WORDS + S_ARRIVED, meeting) == LOST:
            return LOST
    return 0


@kernel
def dawdle(mem: Memory, cpu: Cpu) -> None:
    """Pause a random number of times."""
    bits = next_random(mem, SLOTS + cpu * SLOT_WORDS + S_RANDOM)
    for _ in range(below(mem, bits, mem[P_DELAYS])):
        relax(mem)


@kernel
def play_batch(mem: Memory, cpu: Cpu) -> None:
    """Play every cell once."""
    shape = mem[P_SHAPE]
    cells = mem[P_CELLS]
    stride = mem[P_STRIDE]
    x = mem[P_X]
    y = mem[P_Y]
    result = RESULTS + cpu * MAX_CELLS
    dawdle(mem, cpu)
    for cell in range(cells):
        mem[result + cell] = play(mem, shape, cpu, x, y)
        x += stride
        y += stride


@kernel
def outcome_of(mem: Memory, first: int, second: int, x: WordIndex, y: WordIndex) -> int:
    """Both results and both final values as one number; STRANGE if one is out of range."""
    if first & RESULT_MASK != first or second & RESULT_MASK != second:
        return STRANGE
    if x & FINAL_MASK != x or y & FINAL_MASK != y:
        return STRANGE
    return first | second << RESULT_BITS | x << X_SHIFT | y << Y_SHIFT


@kernel
def count_share(mem: Memory, cpu: Cpu) -> None:
    """Count the outcomes of one share of the cells, and reset these for the next round."""
    processes = mem[P_PROCESSES]
    cells = mem[P_CELLS]
    begin = cells * cpu // processes
    end = cells * (cpu + 1) // processes
    stride = mem[P_STRIDE]
    x = mem[P_X] + begin * stride
    y = mem[P_Y] + begin * stride
    counts = COUNTS + cpu * COUNTS_WORDS
    for cell in range(begin, end):
        first = mem[RESULTS + cell]
        second = mem[RESULTS + MAX_CELLS + cell]
        at = counts + outcome_of(mem, first, second, mem[x], mem[y])
        mem[at] = mem[at] + 1
        mem[x] = 0
        mem[y] = 0
        x += stride
        y += stride


@kernel
def play_rounds(mem: Memory, cpu: Cpu, rounds: int) -> int:
    """Play ``rounds`` rounds; all processes call this at the same time. 0, or LOST."""
    for _ in range(rounds):
        if meet(mem, cpu) == LOST:
            return LOST
        play_batch(mem, cpu)
        if meet(mem, cpu) == LOST:
            return LOST
        count_share(mem, cpu)
    return 0
