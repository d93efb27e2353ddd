"""What an access is, as a number: the vocabulary of hooks, event logs and schedulers.

An event is four words: ``(cpu, op, address, value)``. The value is what was read by a load, what
was written by a store, what a read-modify-write found, 1 or 0 for the success of ``cas`` and
``cas2``, the first word for ``load2``, 1 for a ``wait`` that slept, RETURNED_EARLY for one that did
not though its word had not changed, the number woken by a ``wake``, what a ``choose`` gave.

The order matters: ops that name a word come first, and the writes among them are one range.
"""

OP_READ = 0  # plain: mem[i]
OP_LOAD = 1
OP_LOAD_RELAXED = 2
OP_LOAD2 = 3
OP_WRITE = 4  # plain: mem[i] = v
OP_STORE = 5
OP_STORE_RELAXED = 6
OP_CAS = 7
OP_CAS2 = 8
OP_EXCHANGE = 9
OP_FETCH_ADD = 10
OP_FETCH_OR = 11
OP_FETCH_AND = 12
OP_WAIT = 13
OP_WAKE = 14
OP_FIXED = 15  # seen by a scheduler only when out of range
OP_MARK = 16
OP_HEAVY_FENCE = 17
OP_FENCE = 18
OP_RELAX = 19  # relax and give_way
OP_FINISH = 20  # the kernel returned
OP_FLUSH = 21  # the oldest entry of a store buffer became visible
OP_CHOOSE = 22  # a value that the explorer chooses; 1 to ARG of them

RETURNED_EARLY = 2

LAST_READ = OP_LOAD2
FIRST_WRITE = OP_WRITE
LAST_STORE = OP_STORE_RELAXED
LAST_WRITE = OP_FETCH_AND
LAST_ADDRESSED = OP_HEAVY_FENCE

NAMES = {
    value: name.removeprefix("OP_").lower()
    for name, value in list(globals().items())
    if name.startswith("OP_")
}

# Words of kernels by what they are; ``getitem`` and ``setitem`` are mem[i] and mem[i] = v.
READS = {"getitem": OP_READ, "load": OP_LOAD, "load_relaxed": OP_LOAD_RELAXED}
WRITES = {"setitem": OP_WRITE, "store": OP_STORE, "store_relaxed": OP_STORE_RELAXED}
UPDATES = {
    "exchange": OP_EXCHANGE,
    "fetch_add": OP_FETCH_ADD,
    "fetch_or": OP_FETCH_OR,
    "fetch_and": OP_FETCH_AND,
}
BARRIERS = {"heavy_fence": OP_HEAVY_FENCE}
SLEEPS = {"wait": OP_WAIT, "wake": OP_WAKE}
ORDERINGS = {"fence": OP_FENCE, "relax": OP_RELAX, "give_way": OP_RELAX}
