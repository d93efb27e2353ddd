"""The timed loops of the answer: pages scattered over memory, owners that write them, tails.

The work area of the caller's claim at ``at`` has two parts of ``n`` words: the pages that are held,
and the order in which they are freed, a permutation that Python wrote::

    [ pfn x n | index x n ]
"""

from shmalloc import constants as c
from shmalloc.dialect import kernel
from shmalloc.kernels.bits import order_of, type_of
from shmalloc.kernels.pages import alloc_pages, free_pages
from shmalloc.kernels.walk import owner_at
from shmalloc.kernels.zone import descriptor_at
from shmalloc.words import fixed, load2, store_relaxed

OWNER = 7
RANDOM_MASK = 0x7FFFFFFF
NO_TAILS, OWNER_IN_TAILS, HEAD_IN_TAILS = 0, 1, 2  # what ``block_pairs`` writes into each tail


@kernel
def take_all(mem, claim, at, n):
    """Allocate ``n`` single pages, or as many as there are. Returns their number."""
    for k in range(n):
        pfn = alloc_pages(mem, claim, 0, c.MT_MOVABLE, OWNER)
        if pfn < 0:
            return k
        mem[at + k] = pfn
    return n


@kernel
def take_what_there_is(mem, claim, at, n):
    """The same, and go on after a refusal, of which there may be ``n``; they are counted behind."""
    taken = 0
    refused = 0
    while taken < n and refused < n:
        pfn = alloc_pages(mem, claim, 0, c.MT_MOVABLE, OWNER)
        if pfn == c.E_NOMEM:
            break
        if pfn < 0:
            refused += 1
        else:
            mem[at + taken] = pfn
            taken += 1
    mem[at + n] = refused
    return taken


@kernel
def touch_all(mem, at, n, lines):
    """Write the first ``lines`` cache lines of each held page, as its owner would."""
    frames = fixed(mem, c.H_AT_FRAMES)
    shift = fixed(mem, c.H_PAGE_SHIFT)
    for k in range(n):
        first = frames + (mem[at + k] << shift)
        for word in range(first, first + lines * 8):
            mem[word] = k
    return n


@kernel
def give_all(mem, claim, at, n):
    """Free the held pages in the order of the permutation. Returns failures."""
    failed = 0
    for k in range(n):
        if free_pages(mem, claim, mem[at + mem[at + n + k]], 0) < 0:
            failed += 1
    return failed


@kernel
def rounds_of(mem, claim, at, n, repeats, lines):
    """``repeats`` times: allocate ``n`` pages, write ``lines`` of each, free them. Failures."""
    failed = 0
    for _ in range(repeats):
        if take_all(mem, claim, at, n) != n:
            return -1
        if lines > 0:
            touch_all(mem, at, n, lines)
        failed += give_all(mem, claim, at, n)
    return failed


@kernel
def write_tails(mem, pfn, order, kind, owner):
    """Write into the descriptor of each tail whose it is, and where its head is; 0: clear them."""
    word0 = 0
    if kind == HEAD_IN_TAILS:
        word0 = pfn << c.LINK_SHIFT
    for page in range(pfn + 1, pfn + (1 << order)):
        at = descriptor_at(mem, page)
        store_relaxed(mem, at + 1, owner)
        if kind == HEAD_IN_TAILS:
            store_relaxed(mem, at, word0)


@kernel
def block_pairs(mem, claim, order, n, kind):
    """Allocate a block and free it, and keep its tails as ``kind`` says. Returns failures."""
    failed = 0
    for _ in range(n):
        pfn = alloc_pages(mem, claim, order, c.MT_MOVABLE, OWNER)
        if pfn < 0:
            failed += 1
        else:
            if kind != NO_TAILS:
                write_tails(mem, pfn, order, kind, OWNER)
                clear_tails(mem, pfn, order, kind)
            free_pages(mem, claim, pfn, order)
    return failed


@kernel
def clear_tails(mem, pfn, order, kind):
    """Before the free: a tail of a free block has no owner (I_TAIL)."""
    for page in range(pfn + 1, pfn + (1 << order)):
        at = descriptor_at(mem, page)
        store_relaxed(mem, at + 1, 0)
        if kind == HEAD_IN_TAILS:
            store_relaxed(mem, at, 0)


@kernel
def fill_with_blocks(mem, claim, order):
    """Allocate all memory in blocks of ``order`` whose tails name their owner. Pages taken."""
    taken = 0
    pfn = alloc_pages(mem, claim, order, c.MT_MOVABLE, OWNER)
    while pfn >= 0:
        write_tails(mem, pfn, order, HEAD_IN_TAILS, OWNER)
        taken += 1 << order
        pfn = alloc_pages(mem, claim, order, c.MT_MOVABLE, OWNER)
    return taken


@kernel
def owners_by_arithmetic(mem, n, mask):
    """Look up the owners of ``n`` random pages from descriptors of heads. Returns their sum."""
    seed = 1
    total = 0
    for _ in range(n):
        seed = (seed * 1103515245 + 12345) & RANDOM_MASK
        total += owner_at(mem, (seed >> 8) & mask)
    return total


@kernel
def owners_by_stored_heads(mem, n, mask):
    """The same by the head that each tail names, which must still reach the page."""
    seed = 1
    total = 0
    for _ in range(n):
        seed = (seed * 1103515245 + 12345) & RANDOM_MASK
        pfn = (seed >> 8) & mask
        w0, owner = load2(mem, descriptor_at(mem, pfn))
        if type_of(w0) == c.T_TAIL:
            head = (w0 & c.LINK_MASK) >> c.LINK_SHIFT
            w0, owner = load2(mem, descriptor_at(mem, head))
            if head + (1 << order_of(w0)) <= pfn:
                owner = 0
        total += owner
    return total


@kernel
def owners_in_tails(mem, n, mask):
    """The same from the page's descriptor alone."""
    seed = 1
    total = 0
    for _ in range(n):
        seed = (seed * 1103515245 + 12345) & RANDOM_MASK
        _, owner = load2(mem, descriptor_at(mem, (seed >> 8) & mask))
        total += owner
    return total
