"""Three kernels broken by hand: each must be reported, and the unbroken ones must not.

Where the break is a patched global, the kernels are interpreted: the same source, the same
scheduler decisions. (``docs/bugs.md`` tells how the first fares natively.)
"""

from shmalloc import constants as c
from shmalloc.dialect import kernel
from shmalloc.engine import get_engine
from shmalloc.image import write_image
from shmalloc.kernels import bits, buddy, descriptor
from shmalloc.kernels.bits import order_of, pack, type_of
from shmalloc.kernels.boot import boot
from shmalloc.kernels.buddy import is_free_head
from shmalloc.kernels.descriptor import page_state
from shmalloc.kernels.pages import alloc_pages, free_pages
from shmalloc.kernels.pcp import drain_cpu
from shmalloc.layout import Geometry, Layout, ZoneSpec
from shmalloc.memory import Ram
from stress.machine.program import Program
from stress.oracles.versions import check_version
from support import driver
from support.page_segment import SMALL, PageSegment
from support.schedules import RandomSchedules

SCHEDULES = 300
WATCHES = 120  # enough to look at the page all the while it changes
SEEN = 200  # a word of CPU 0's scratch area, behind what the audit uses


@kernel
def mergeable_without_zone(mem, zone, buddy, order, mt):
    """``mergeable`` that looks at type and order only."""
    w0 = page_state(mem, buddy)
    return w0 if is_free_head(w0, (w0 >> c.ZONE_SHIFT) & c.ZONE_MASK, order) else 0


def test_a_merge_without_the_zone_check_is_reported_by_the_audit(patch_kernels):
    patch_kernels(buddy, "mergeable", mergeable_without_zone)
    world = PageSegment(get_engine("interpreted"), SMALL, zones=(ZoneSpec(8), ZoneSpec(56)))
    for pfn in world.alloc_everything():
        world.free(pfn)
    world.drain()
    world.do(driver.AUDIT)
    assert {c.I_CONSERVATION, c.I_FREE_HEAD} <= set(world.reports())


# --- under the scheduler of the explorer: a walker beside an allocator ----------------------------


@kernel
def allocate_and_free(mem, cpu):
    """Page 0 lives as the head of a free block of order 3, or as an allocation of order 0."""
    for _ in range(3):
        free_pages(mem, cpu, alloc_pages(mem, cpu, 0, c.MT_MOVABLE, 7), 0)
        drain_cpu(mem, cpu, cpu)
    return 0


@kernel
def watch_versions(mem, cpu):
    """Read one descriptor twice, repeatedly."""
    for _ in range(WATCHES):
        check_version(mem, cpu, 0)
    return 0


@kernel
def nothing_reported(mem):
    return mem[c.H_REPORT_COUNT]


LAYOUT = Layout.of(
    Geometry(
        zones=(ZoneSpec(8),),
        page_bytes=64,
        cpus=2,
        max_order=3,
        pageblock_order=3,
        pcp_batch=1,
        pcp_high=1,
        scratch_words=256,
        spins=1,
        caches=1,
    )
)


def program(watcher, check):
    ram = Ram.of_words(LAYOUT.words)
    write_image(ram, LAYOUT)
    boot(ram)
    return Program(
        "test",
        LAYOUT.words,
        (watcher, allocate_and_free),
        init=ram.array.copy(),
        check=check,
        check_writes=True,
    )


def explore(watcher, check, engine="native"):
    return RandomSchedules(engine, program(watcher, check), step_limit=20_000).run(1, SCHEDULES)


@kernel
def next_word_without_version(w0, kind, order, zone, mt, detail):
    if (bits.successors(w0 & c.TYPE_MASK) >> kind) & 1 == 0:
        return c.E_STATE
    return pack(kind, order, zone, mt, detail, bits.version_of(w0))


def test_a_forgotten_version_bump_is_reported_by_the_explorer(patch_kernels):
    for module in (descriptor, buddy):
        patch_kernels(module, "next_word", next_word_without_version)
    result = explore(watch_versions, nothing_reported, "interpreted")
    first_code = result.memory[LAYOUT.at["reports"] + c.R_CODE]
    assert (result.verdict, first_code) == ("failed", c.X_VERSION)


def test_versions_of_the_real_kernels_pass_the_explorer():
    assert explore(watch_versions, nothing_reported).verdict == "passed"


@kernel
def see(mem, kind, order):
    """Keep the set of (type, order) pairs that the walker believes in."""
    at = mem[c.H_AT_SCRATCH] + SEEN
    mem[at] = mem[at] | 1 << (kind * 4 + order)


@kernel
def walk_once_read(mem, cpu):
    """A walker that judges one snapshot."""
    for _ in range(WATCHES):
        w0 = page_state(mem, 0)
        see(mem, type_of(w0), order_of(w0))
    return 0


@kernel
def walk_twice_read(mem, cpu):
    """Broken: the type from one reading, the order from the next."""
    for _ in range(WATCHES):
        kind = type_of(page_state(mem, 0))
        see(mem, kind, order_of(page_state(mem, 0)))
    return 0


@kernel
def only_states_that_were(mem):
    """Page 0 was FREE at order 3, and PCP and ALLOCATED at order 0: nothing else."""
    seen = mem[mem[c.H_AT_SCRATCH] + SEEN]
    legal = 1 << (c.T_FREE * 4 + 3) | 1 << (c.T_PCP * 4) | 1 << (c.T_ALLOCATED * 4)
    return seen & ~legal


def test_an_order_that_is_read_twice_is_reported_by_the_explorer():
    assert explore(walk_twice_read, only_states_that_were).verdict == "failed"


def test_a_walker_that_reads_once_passes_the_explorer():
    assert explore(walk_once_read, only_states_that_were).verdict == "passed"


def test_the_reported_schedule_fails_again_from_its_seed():
    found = explore(walk_twice_read, only_states_that_were)
    broken = program(walk_twice_read, only_states_that_were)
    again = RandomSchedules("interpreted", broken, step_limit=20_000).run(found.failing_seed, 1)
    assert (again.verdict, again.code) == (found.verdict, found.code)
