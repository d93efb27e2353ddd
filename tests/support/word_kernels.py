"""One kernel for each word of shmalloc.words: its machine code is that of the word."""

from shmalloc.dialect import kernel
from shmalloc.words import (
    cas,
    cas2,
    exchange,
    expect,
    fence,
    fetch_add,
    fetch_and,
    fetch_or,
    fixed,
    give_way,
    heavy_fence,
    light_fence,
    load,
    load2,
    load_relaxed,
    mark,
    notice,
    now,
    relax,
    store,
    store_relaxed,
    wait,
    wake,
)


@kernel
def k_getitem(mem, i):
    return mem[i]


@kernel
def k_setitem(mem, i, v):
    mem[i] = v


@kernel
def k_fixed(mem, i):
    return fixed(mem, i)


@kernel
def k_load(mem, i):
    return load(mem, i)


@kernel
def k_load_relaxed(mem, i):
    return load_relaxed(mem, i)


@kernel
def k_store(mem, i, v):
    store(mem, i, v)


@kernel
def k_store_relaxed(mem, i, v):
    store_relaxed(mem, i, v)


@kernel
def k_mark(mem, i):
    mark(mem, i)


@kernel
def k_cas(mem, i, old, new):
    return cas(mem, i, old, new)


@kernel
def k_exchange(mem, i, v):
    return exchange(mem, i, v)


@kernel
def k_fetch_add(mem, i, v):
    return fetch_add(mem, i, v)


@kernel
def k_fetch_or(mem, i, v):
    return fetch_or(mem, i, v)


@kernel
def k_fetch_and(mem, i, v):
    return fetch_and(mem, i, v)


@kernel
def k_cas2(mem, i, old0, old1, new0, new1):
    return cas2(mem, i, old0, old1, new0, new1)


@kernel
def k_load2(mem, i):
    return load2(mem, i)


@kernel
def k_fence(mem):
    fence(mem)


@kernel
def k_light_fence(mem):
    light_fence(mem)


@kernel
def k_heavy_fence(mem, i):
    heavy_fence(mem, i)


@kernel
def k_relax(mem):
    relax(mem)


@kernel
def k_give_way(mem):
    give_way(mem)


@kernel
def k_wait(mem, i, old):
    wait(mem, i, old)


@kernel
def k_wake(mem, i, count):
    wake(mem, i, count)


@kernel
def k_notice(mem, i):
    notice(mem, i)


@kernel
def k_now(mem):
    return now(mem)


@kernel
def k_expect(mem, condition, code):
    expect(mem, condition, code)


# --- what the tests must be able to tell from the words -------------------------------------------
@kernel
def two_loads(mem, i):
    """A pair that may be torn."""
    return load(mem, i), load(mem, i + 1)


@kernel
def two_relaxed_loads(mem, i):
    """A pair that may be torn, of loads that a compiler could join to one ldp."""
    return mem[i], mem[i + 1]


@kernel
def two_swaps(mem, i, old, new):
    """Two swaps of a word are no swap of a pair."""
    return cas(mem, i, old, new) and cas(mem, i + 1, old, new)
