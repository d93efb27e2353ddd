"""What kernels left behind, in words: violations from the report table, pages, histories.

Kernels write numbers (kernels/reporting.py); here they become ``Violation`` objects and sentences.
All reads are of words that are published once or may be old by the time they are shown, and
nothing here changes the segment or decides anything.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.descriptor_text import TYPES, block_text, order_of, owner_text
from shmalloc.errors import Violation
from shmalloc.segment import Segment

_PREFIXES = ("I_", "M_", "X_")
CODES: dict[int, str] = {
    value: name for name, value in vars(c).items() if name.startswith(_PREFIXES)
}
MEANINGS: dict[int, str] = {
    c.I_CONSERVATION: "every managed page is in exactly one place",
    c.I_FREE_HEAD: "a free block is aligned, in its zone, on the list of its order and type",
    c.I_LIST_LINKS: "lists are symmetric, acyclic and as long as their count",
    c.I_UNMERGED: "no two free buddies stay apart",
    c.I_PCP_COUNT: "a per-CPU list holds what it counts",
    c.I_TAIL: "every page is covered by exactly one head",
    c.I_SLAB: "free list, counters and list of a slab agree",
    c.I_SHEAF: "no object is in two places",
    c.I_BYTES: "poison and red zones are intact",
    c.I_STAMP: "the owner's stamp is in its memory",
    c.I_TEARDOWN: "with everything freed, all blocks merge again",
    c.I_PROGRESS: "every worker makes progress",
    c.M_DOUBLE_FREE: "double free",
    c.M_WRONG_ORDER: "free at another order than it was allocated",
    c.M_TAIL_FREE: "free of a page inside a block",
    c.M_OUT_OF_RANGE: "free of a page that does not exist",
    c.M_SLAB_AS_PAGE: "free of a slab as a page",
    c.M_WRONG_STATE: "free of a page that was never given out",
    c.M_STRANGER: "free by somebody who is not its owner",
    c.M_OBJECT_POINTER: "not the address of an object",
    c.M_OBJECT_FREE: "object already free",
    c.M_OBJECT_CACHE: "object of another cache",
    c.M_OBJECT_BYTES: "written outside of the object or after its life",
    c.M_SHUTDOWN: "used after the shutdown began",
    c.M_FREECHAIN: "free list corrupt",
    c.M_LEAKED_OBJECTS: "cache destroyed with live objects",
    c.X_DOUBLE_ALLOC: "one page given to two owners",
    c.X_LOST_OWNER: "freed by an owner that the owner map does not know",
    c.X_WALKER: "a walker read an illegal descriptor",
    c.X_PAYLOAD: "memory changed while it was owned",
    c.X_VERSION: "a page changed its state and kept its version",
}
OPERATIONS = {
    value: name.removeprefix("OP_").lower().replace("_", " ")
    for name, value in vars(c).items()
    if name.startswith("OP_")
}
_OBJECT_CODES = frozenset(
    {c.M_OBJECT_POINTER, c.M_OBJECT_FREE, c.M_OBJECT_CACHE, c.M_OBJECT_BYTES, c.M_LEAKED_OBJECTS,
     c.I_SHEAF}
)  # fmt: skip
_FREE_CODES = frozenset(
    {c.M_DOUBLE_FREE, c.M_WRONG_ORDER, c.M_TAIL_FREE, c.M_OUT_OF_RANGE, c.M_SLAB_AS_PAGE,
     c.M_WRONG_STATE, c.M_STRANGER}
)  # fmt: skip
_READS = 64


def code_name(code: int) -> str:
    """``"M_DOUBLE_FREE (double free)"``."""
    return f"{CODES.get(code, f'code {code}')} ({MEANINGS.get(code, 'unknown')})"


def violation_count(segment: Segment) -> int:
    """How many violations were reported since the segment was made, kept or not."""
    return segment.ram[c.H_REPORT_COUNT]


def violations(segment: Segment, first: int = 0) -> list[Violation]:
    """The kept reports from number ``first`` on; half-written ones are left out.

    The table keeps the first ``REPORTS`` of a segment's life; a last entry says how many it lost.
    """
    count = violation_count(segment)
    kept = [_violation(segment, n) for n in range(first, min(count, c.REPORTS))]
    found = [violation for violation in kept if violation is not None]
    lost = count - max(first, c.REPORTS)
    if lost > 0:
        kept_at_most = f"at most {c.REPORTS} reports"
        found.append(Violation("report table", "segment", kept_at_most, f"{lost} more"))
    return found


def last_violation(segment: Segment, cpu: int) -> Violation | None:
    """The newest kept report of ``cpu``, for the error of the operation that caused it."""
    ram = segment.ram
    for n in reversed(range(min(violation_count(segment), c.REPORTS))):
        at = segment.layout.at["reports"] + n * c.R_STRIDE
        if ram[at + c.R_CPU] == cpu and ram[at + c.R_READY] == n + 1:
            return _violation(segment, n)
    return None


def _violation(segment: Segment, n: int) -> Violation | None:
    at, ram = segment.layout.at["reports"] + n * c.R_STRIDE, segment.ram
    if ram[at + c.R_READY] != n + 1:
        return None
    code, where = ram[at + c.R_CODE], ram[at + c.R_WHERE]
    is_page = code not in _OBJECT_CODES and 0 <= where < segment.geometry.pages
    expected, found = str(ram[at + c.R_EXPECTED]), str(ram[at + c.R_FOUND])
    if code in _FREE_CODES:
        expected = f"an allocated block of order {expected}"
        found = _found_words(ram[at + c.R_FOUND])
    return Violation(
        invariant=code_name(code),
        where=f"pfn {where}" if is_page else f"word {where}",
        expected=expected,
        found=found,
        history=page_history(segment, where) if is_page else (),
    )


def _found_words(word0: int) -> str:
    """The state a page was found in when its free was refused."""
    if word0 < 0:
        return "no such page"
    kind = TYPES.get(word0 & c.TYPE_MASK, "corrupt")
    if word0 & c.TYPE_MASK == c.T_TAIL:
        return "a page inside another block"
    return f"{kind}, order {(word0 >> c.ORDER_SHIFT) & c.ORDER_MASK}"


def page_history(segment: Segment, pfn: int) -> tuple[str, ...]:
    """What each CPU's ring still knows about ``pfn``, oldest first; empty without a history."""
    ram, entries = segment.ram, segment.geometry.history
    found = []
    for cpu in range(segment.geometry.cpus):
        for k in range(entries):
            at = segment.layout.at["history"] + (cpu * entries + k) * c.HI_STRIDE
            operation, order = ram[at + c.HI_OP] >> 8, ram[at + c.HI_OP] & 0xFF
            if operation and ram[at + c.HI_WHERE] == pfn:
                name = OPERATIONS.get(operation, f"operation {operation}")
                text = f"cpu {cpu}: {name} pfn {pfn} order {order} ({ram[at + c.HI_DETAIL]})"
                found.append((ram[at + c.HI_CLOCK], text))
    found.sort(key=lambda entry: entry[0])  # equal clocks stay in the order of their ring
    return tuple(text for _, text in found)


def _stable_pair(segment: Segment, pfn: int) -> tuple[int, int]:
    """Both words of a descriptor, word 0 unchanged around the read of word 1 (it has a version)."""
    ram, at = segment.ram, segment.layout.descriptor(pfn)
    for _ in range(_READS):
        word0 = ram[at]
        word1 = ram[at + 1]
        if ram[at] == word0:
            break
    return word0, word1


def describe_page(segment: Segment, pfn: int) -> str:
    """One sentence about ``pfn``: what it is, who covers it, whose it is."""
    word0, word1 = _stable_pair(segment, pfn)
    if word0 & c.TYPE_MASK == c.T_TAIL:
        return _describe_tail(segment, pfn)
    return f"pfn {pfn} is {owner_text(word0, word1)}: {block_text(word0, pfn)}"


def _describe_tail(segment: Segment, pfn: int) -> str:
    """A tail is covered by the first head on the way of its parents (kernels/descriptor.py)."""
    head = pfn
    while head:
        head &= head - 1
        word0, word1 = _stable_pair(segment, head)
        if word0 & c.TYPE_MASK != c.T_TAIL:
            if head + (1 << order_of(word0)) > pfn:
                state = f"{owner_text(word0, word1)}: {block_text(word0, head)}"
                return f"pfn {pfn} is inside the block of pfn {head}, {state}"
            break
    return f"pfn {pfn} is a tail that no block covers (in motion, or corrupt)"
