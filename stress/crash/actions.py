"""What the CPUs do in the cases of operations.py: each operation, and what undoes it.

Thread kernels ``(mem, cpu)``. What a CPU was given is noted where the check finds it (held.py);
lists of bulk operations lie behind that, in the same work area.
"""

from shmalloc.constants import MT_MOVABLE, MT_UNMOVABLE, OWNER_ARRAYS
from shmalloc.constants_slab import CF_BARN_SHIFT, CF_CAPACITY_SHIFT, CF_DEBUG, CF_NO_SHEAVES
from shmalloc.dialect import kernel
from shmalloc.kernel.cache import cache_alloc, cache_alloc_bulk, cache_free, cache_free_bulk
from shmalloc.kernel.cacheset import cache_create, cache_destroy, cache_shrink
from shmalloc.kernel.contig import (
    alloc_contig_range, free_contig_range, isolate_range, offline_range, online_range,
    unisolate_range,
)  # fmt: skip
from shmalloc.kernel.handles import grow_entries
from shmalloc.kernel.hotplug import plug_cpu, unplug_cpu
from shmalloc.kernel.kmalloc import kfree, kmalloc, kmalloc_boot
from shmalloc.kernel.pages import alloc_bulk, alloc_pages, alloc_pages_wait, free_bulk, free_pages
from shmalloc.kernel.pcp import drain_all, drain_cpu, pcp_decay
from shmalloc.kernel.poison import poison_page
from shmalloc.kernel.reap import adopt_object, adopt_pages
from shmalloc.kernel.recover import recover
from stress.programs.held import (
    FIRST_OBJECT, ONLY_CACHE, block_order, block_pfn, hold, let_go, object_put, object_take,
    page_put, page_take, slot_at,
)  # fmt: skip

LIST = 8  # first word of a CPU's work area where bulk operations keep their lists
LISTED = 3
PATIENCE = 1_000
SMALL_BYTES = 24
LARGE_BYTES = 200
NEW_BYTES = 16
KMALLOC_SLOT = 3


@kernel
def list_at(mem, cpu):
    return slot_at(mem, cpu, LIST)


# --- pages ---------------------------------------------------------------------------------------
@kernel
def take_put(mem, cpu, order):
    page_take(mem, cpu, 0, order)
    return page_put(mem, cpu, 0)


@kernel
def page_churn(mem, cpu):
    """The other CPU: takes a page and frees it."""
    return take_put(mem, cpu, 0)


@kernel
def order_0(mem, cpu):
    """Three pages and back: refill, and a drain above the high mark."""
    page_take(mem, cpu, 0, 0)
    page_take(mem, cpu, 1, 0)
    take_third = alloc_pages(mem, cpu, 0, MT_MOVABLE, cpu + 1)
    page_put(mem, cpu, 0)
    page_put(mem, cpu, 1)
    if take_third >= 0:
        free_pages(mem, cpu, take_third, 0)
    return 0


@kernel
def order_1(mem, cpu):
    return take_put(mem, cpu, 1)


@kernel
def order_2(mem, cpu):
    return take_put(mem, cpu, 2)


@kernel
def order_3(mem, cpu):
    return take_put(mem, cpu, 3)


@kernel
def order_4(mem, cpu):
    return take_put(mem, cpu, 4)


@kernel
def whole_pageblocks(mem, cpu):
    """Two blocks of the pageblock order: the per-CPU list keeps one."""
    page_take(mem, cpu, 0, 2)
    page_take(mem, cpu, 1, 2)
    page_put(mem, cpu, 0)
    return page_put(mem, cpu, 1)


@kernel
def two_types(mem, cpu):
    """An unmovable page from a zone of movable ones: claim or steal."""
    pfn = hold(mem, cpu, 0, alloc_pages(mem, cpu, 0, MT_UNMOVABLE, cpu + 1), 0)
    page_take(mem, cpu, 1, 0)
    page_put(mem, cpu, 1)
    return pfn if pfn < 0 else page_put(mem, cpu, 0)


@kernel
def free_of_zero(mem, cpu):
    """Frees what CPU 0 holds, if it holds something yet or still."""
    block = let_go(mem, 0, 0)
    if block == 0:
        return 0
    return free_pages(mem, cpu, block_pfn(block), block_order(block))


@kernel
def bulk_take_put(mem, cpu):
    count = alloc_bulk(mem, cpu, 0, MT_MOVABLE, cpu + 1, LISTED, list_at(mem, cpu))
    return free_bulk(mem, cpu, 0, count, list_at(mem, cpu))


@kernel
def wait_take_put(mem, cpu):
    pfn = hold(mem, cpu, 0, alloc_pages_wait(mem, cpu, 0, MT_MOVABLE, cpu + 1, PATIENCE), 0)
    return pfn if pfn < 0 else page_put(mem, cpu, 0)


@kernel
def put_held(mem, cpu):
    return page_put(mem, cpu, 0)


@kernel
def drain_everybody(mem, cpu):
    return drain_all(mem, cpu)


@kernel
def drain_other(mem, cpu):
    return drain_cpu(mem, cpu, 1)


@kernel
def take_put_decay(mem, cpu):
    """Fills the per-CPU list, then lets its high mark sink below what is on it."""
    order_0(mem, cpu)
    pcp_decay(mem, cpu)
    return 0


@kernel
def poison_free(mem, cpu):
    return poison_page(mem, cpu, 1)


@kernel
def poison_used(mem, cpu):
    """Marks its own page, then frees it: it leaves service on the way."""
    block = let_go(mem, cpu, 0)
    poison_page(mem, cpu, block_pfn(block))
    return free_pages(mem, cpu, block_pfn(block), 0)


@kernel
def isolate_and_back(mem, cpu):
    result = isolate_range(mem, cpu, 0, 2)
    return result if result < 0 else unisolate_range(mem, cpu, 0, 2)


@kernel
def offline_and_back(mem, cpu):
    result = offline_range(mem, cpu, 0, 2)
    return result if result < 0 else online_range(mem, cpu, 0, 2)


@kernel
def range_and_back(mem, cpu):
    result = alloc_contig_range(mem, cpu, 1, 3, cpu + 1)
    return result if result < 0 else free_contig_range(mem, cpu, 1, 3)


@kernel
def unplug_and_plug_other(mem, cpu):
    result = unplug_cpu(mem, cpu, 1)
    return result if result < 0 else plug_cpu(mem, cpu, 1)


@kernel
def page_churn_1(mem, cpu):
    """Takes a page and frees it, and keeps what it began with in slot 0."""
    page_take(mem, cpu, 1, 0)
    return page_put(mem, cpu, 1)


@kernel
def recover_too(mem, cpu):
    """Recovers, though nobody may be dead: whoever must do it as well waits for us."""
    return recover(mem, cpu)


@kernel
def adopt_page(mem, cpu):
    """Takes over the page that CPU 0 passes on: the slot of CPU 0 is the letter box."""
    pfn = block_pfn(let_go(mem, 0, 0))
    result = adopt_pages(mem, cpu, pfn, 0, 1, cpu + 1)
    if result == 0:
        hold(mem, cpu, 0, pfn, 0)
    return result


@kernel
def grow_table(mem, cpu):
    """A page becomes two entries of the array table."""
    pfn = alloc_pages(mem, cpu, 0, MT_UNMOVABLE, OWNER_ARRAYS)
    return pfn if pfn < 0 else grow_entries(mem, cpu, pfn)


# --- objects -------------------------------------------------------------------------------------
@kernel
def object_churn(mem, cpu):
    """The other CPU: takes an object and frees it."""
    object_take(mem, cpu, 0)
    return object_put(mem, cpu, 0)


@kernel
def object_churn_2(mem, cpu):
    """Takes an object and frees it, and keeps what it began with."""
    object_take(mem, cpu, 2)
    return object_put(mem, cpu, 2)


@kernel
def adopt_one(mem, cpu):
    """Takes over the object that CPU 0 passes on, and frees it."""
    address = let_go(mem, 0, FIRST_OBJECT)
    result = adopt_object(mem, cpu, 0, address)
    if result == 0:
        mem[slot_at(mem, cpu, FIRST_OBJECT)] = address
        object_put(mem, cpu, 0)
    return result


@kernel
def objects_round(mem, cpu):
    """Three objects and back: a new slab, full and partial, or sheaves that run over."""
    object_take(mem, cpu, 0)
    object_take(mem, cpu, 1)
    object_take(mem, cpu, 2)
    object_put(mem, cpu, 1)
    object_put(mem, cpu, 0)
    return object_put(mem, cpu, 2)


@kernel
def objects_bulk(mem, cpu):
    count = cache_alloc_bulk(mem, cpu, 0, LISTED, list_at(mem, cpu))
    return cache_free_bulk(mem, cpu, 0, count, list_at(mem, cpu))


@kernel
def object_pair(mem, cpu):
    """Two objects: out of the main sheaf, then out of the spare one."""
    object_take(mem, cpu, 0)
    object_take(mem, cpu, 1)
    object_put(mem, cpu, 1)
    return object_put(mem, cpu, 0)


@kernel
def create_with_image(mem, cpu):
    """A cache whose objects are copies of an image, one object of it, and its end."""
    made = cache_create(mem, cpu, NEW_BYTES, 0, CF_NO_SHEAVES | CF_DEBUG, list_at(mem, cpu))
    if made < 0:
        return made
    address = cache_alloc(mem, cpu, made)
    if address >= 0:
        cache_free(mem, cpu, made, address)
    return cache_destroy(mem, cpu, made)


@kernel
def shrink_cache(mem, cpu):
    return cache_shrink(mem, cpu, 0)


@kernel
def create_and_destroy(mem, cpu):
    """A second cache with sheaves, one object of it, and its end."""
    made = cache_create(mem, cpu, NEW_BYTES, 0, 1 << CF_CAPACITY_SHIFT | 1 << CF_BARN_SHIFT, 0)
    return made if made < 0 else cache_destroy(mem, cpu, made)


@kernel
def destroy_cache(mem, cpu):
    return cache_destroy(mem, cpu, ONLY_CACHE)


@kernel
def create_and_keep(mem, cpu):
    """A cache with the number of the one that was destroyed, if it was, and an object of it."""
    made = cache_create(mem, cpu, NEW_BYTES, 0, CF_NO_SHEAVES, 0)
    if made >= 0:
        address = cache_alloc(mem, cpu, made)
        if address >= 0:
            mem[slot_at(mem, cpu, FIRST_OBJECT)] = address
    return made


@kernel
def boot_kmalloc(mem, cpu):
    return kmalloc_boot(mem, cpu, CF_NO_SHEAVES)


@kernel
def kmalloc_small(mem, cpu):
    address = kmalloc(mem, cpu, SMALL_BYTES)
    return address if address < 0 else kfree(mem, cpu, address)


@kernel
def kmalloc_big(mem, cpu):
    address = kmalloc(mem, cpu, LARGE_BYTES)
    return address if address < 0 else kfree(mem, cpu, address)
