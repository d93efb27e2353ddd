"""kmalloc: memory by size. Small sizes come from caches, one for each class, large ones from pages.

::

    class   0  1  2  3  4   5   6   7   8   9    10   11   12       made by kmalloc_boot, once;
    bytes   8 16 32 64 96 128 192 256 512 1024 2048 4096 8192       H_KMALLOC + class: id + 1

A class whose objects are larger than two pages is not made: such sizes get whole pages, as does
every size before ``kmalloc_boot``. ``kfree`` needs no size: the descriptor of the page names the
cache. Objects of a power of two are aligned to their size, up to a page.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc import constants_slab as cs
from shmalloc.dialect import hot, kernel, unit
from shmalloc.kernels.bits import order_of, type_of
from shmalloc.kernels.cache import cache_alloc, free_object, refuse, slab_of_address
from shmalloc.kernels.cache_gfp import cache_alloc_gfp
from shmalloc.kernels.cache_set import cache_create
from shmalloc.kernels.descriptor import page_state
from shmalloc.kernels.gfp import is_known_gfp
from shmalloc.kernels.object_layout import order_for
from shmalloc.kernels.objects import cache_at, cache_of_word, slab_words
from shmalloc.kernels.reporting import event
from shmalloc.kernels.slab_format import give_pages_back, slab_pages
from shmalloc.kernels.zone import descriptor_at, frame_at
from shmalloc.units import CacheId, Claim, Gfp, Memory, ObjectAddress, Pfn
from shmalloc.words import fixed, load, load2, load_relaxed, store


@kernel
def class_bytes(size_class: int) -> int:
    """Object size of a class: 8, 16, 32, 64, 96, 128, 192, then powers of two from 256."""
    if size_class < 4:
        return 8 << size_class
    if size_class == 4:
        return 96
    if size_class == 5:
        return 128
    if size_class == 6:
        return 192
    return 256 << (size_class - 7)


@hot
def class_of(size_bytes: int) -> int:
    """The smallest class that holds ``size_bytes``, KMALLOC_CLASSES if none does."""
    if size_bytes <= 64:
        if size_bytes <= 16:
            return 0 if size_bytes <= 8 else 1
        return 2 if size_bytes <= 32 else 3
    if size_bytes <= 192:
        if size_bytes <= 96:
            return 4
        return 5 if size_bytes <= 128 else 6
    size_class = 7
    while size_class < cs.KMALLOC_CLASSES and class_bytes(size_class) < size_bytes:
        size_class += 1
    return size_class


@unit
def kmalloc_boot(mem: Memory, claim: Claim, flags: int) -> CacheId:
    """Make the caches of all classes that fit (``flags``: CF_*). Returns how many, or E_NOMEM."""
    largest = 2 << (fixed(mem, c.H_PAGE_SHIFT) + 3)
    made = 0
    for size_class in range(cs.KMALLOC_CLASSES):
        size = class_bytes(size_class)
        if size <= largest and load(mem, cs.H_KMALLOC + size_class) == 0:
            align = min(size & -size, largest >> 1)
            named = flags | (size_class + 1) << cs.CF_CLASS_SHIFT
            cache_id = cache_create(mem, claim, size, align, named, 0)
            if cache_id < 0:
                return cache_id
            store(mem, cs.H_KMALLOC + size_class, cache_id + 1)
            made += 1
    return made


@hot
def kmalloc(mem: Memory, claim: Claim, size_bytes: int) -> ObjectAddress:
    """Word address of at least ``size_bytes`` bytes, E_NOMEM, or E_INVAL for a size below 1."""
    if size_bytes < 1:
        return c.E_INVAL
    size_class = class_of(size_bytes)
    if size_class < cs.KMALLOC_CLASSES:
        cache_id = load_relaxed(mem, cs.H_KMALLOC + size_class) - 1
        if cache_id >= 0:
            return cache_alloc(mem, claim, cache_id)
    return kmalloc_large(mem, claim, size_bytes, 0)


@unit
def kmalloc_gfp(mem: Memory, claim: Claim, size_bytes: int, gfp: Gfp) -> ObjectAddress:
    """``kmalloc`` with flags (gfp.py); E_INVAL for those that no object can satisfy."""
    if size_bytes < 1 or not is_known_gfp(mem, gfp) or gfp & c.GFP_ZONES != 0:
        return c.E_INVAL
    size_class = class_of(size_bytes)
    if size_class < cs.KMALLOC_CLASSES:
        cache_id = load_relaxed(mem, cs.H_KMALLOC + size_class) - 1
        if cache_id >= 0:
            return cache_alloc_gfp(mem, claim, cache_id, gfp)
    return kmalloc_large(mem, claim, size_bytes, gfp & ~c.GFP_MT_MASK)


@unit
def kmalloc_large(mem: Memory, claim: Claim, size_bytes: int, gfp: Gfp) -> ObjectAddress:
    """Whole pages, owned by OWNER_LARGE."""
    order = order_for(mem, (size_bytes + 7) >> 3)
    if order < 0:
        return +order
    pfn = slab_pages(mem, claim, order, gfp, cs.OWNER_LARGE)
    if pfn < 0:
        return +pfn
    event(mem, claim, c.EV_PAGE_LARGE)
    return +frame_at(mem, pfn)


@hot
def kfree(mem: Memory, claim: Claim, address: ObjectAddress) -> int:
    """Free what ``kmalloc`` (or any cache) gave. Returns 0, or E_STATE for a misuse (reported)."""
    pfn = slab_of_address(mem, address)
    if pfn < 0:
        return refuse(mem, claim, -1, address)
    w0 = page_state(mem, pfn)
    if type_of(w0) == c.T_SLAB:
        return free_object(mem, claim, cache_of_word(w0), pfn, w0, address, 0)
    return kfree_large(mem, claim, pfn, address)


@unit
def kfree_large(mem: Memory, claim: Claim, pfn: Pfn, address: ObjectAddress) -> int:
    """Free the pages of a large ``kmalloc``, and no others."""
    w0, w1 = load2(mem, descriptor_at(mem, pfn))
    if type_of(w0) == c.T_ALLOCATED and w1 == cs.OWNER_LARGE and address == frame_at(mem, pfn):
        return give_pages_back(mem, claim, pfn, order_of(w0), cs.OWNER_LARGE)
    return refuse(mem, claim, -1, address)


@kernel
def usable_bytes(mem: Memory, address: ObjectAddress) -> int:
    """Bytes that may be used at an address that ``kmalloc`` gave, or E_STATE."""
    pfn = slab_of_address(mem, address)
    if pfn < 0:
        return c.E_STATE
    w0, w1 = load2(mem, descriptor_at(mem, pfn))
    if type_of(w0) == c.T_SLAB:
        return mem[cache_at(mem, cache_of_word(w0)) + cs.K_OBJECT_BYTES]
    if type_of(w0) == c.T_ALLOCATED and w1 == cs.OWNER_LARGE:
        return slab_words(mem, order_of(w0)) * 8
    return c.E_STATE
