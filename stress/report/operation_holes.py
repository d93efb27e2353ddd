"""Why a public operation is not called in some column of operations.py, one reason for each hole.

A reason is about operations by name (``module.function``) and columns. A test refuses a hole
without a reason, a reason for what is no hole any more, and a name that is no operation.
"""

from __future__ import annotations

from dataclasses import dataclass

from stress.report.operations import COLUMNS, CRASH, NATIVE, PROGRAM


@dataclass(frozen=True)
class Reason:
    """``text``: a clause behind "not called:". ``names``: of operations, with blanks between."""

    text: str
    columns: tuple[str, ...]
    names: str

    @property
    def operations(self) -> list[str]:
        return self.names.split()


_QUIESCENT = Reason(
    "it runs while no process is inside an operation, and changes nothing but reports; every check"
    " of a program and every audit of a run calls it",
    COLUMNS,
    "audit.audit audit_owners.audit_owners audit_quiet.audit_quiet slab_audit.audit_slabs",
)
_ALONE = Reason(
    "it runs once, before another process can see the segment or the structure; a maker that dies"
    " leaves what no process has found yet, and structure-make-blocks tries that",
    COLUMNS,
    "boot.boot slots.publish frames.frame_place frames.frames_prepare "
    "hashtable.dict_place hashtable.dict_prepare hashtable.dict_shape ring.queue_place "
    "ring.queue_prepare",
)
_READS = Reason(
    "it reads one moment for people, or a word that never changes, and decides nothing",
    COLUMNS,
    "frames.frames_free frames.own_life kmalloc.usable_bytes ring.buffer_at "
    "ring.queue_length robust.robust_holder",
)
_ENTRIES = Reason(
    "it looks whether the entry is still the structure's and calls the operation that the programs"
    " call, which have the structure without an entry",
    COLUMNS,
    "atomics.structure_is dicts.structure_begin dicts.structure_find "
    "frames.entry_frame ring.entry_begin ring.entry_take",
)
_WITHIN = Reason(
    "queue_begin_wait does it before it sleeps, and the programs about dead producers get there;"
    " Python calls it alone behind a shutdown",
    COLUMNS,
    "ring.queue_reclaim",
)
_ONE_SWAP = Reason(
    "it is one exchange of a word that all others only read",
    COLUMNS,
    "ring.queue_shut",
)
_STRUCTURES = Reason(
    "no workload uses structures: natively several processes use and kill them in tox -e"
    " structure-kills, and the tests of each structure",
    (NATIVE,),
    "array_values.end_array_value array_values.hold_array atomics.atomic_add "
    "atomics.atomic_cas atomics.atomic_exchange atomics.atomic_load atomics.pair_cas "
    "atomics.pair_exchange atomics.pair_load entries.add_block entries.end_structure "
    "entries.make_structure entries.publish_structure frames.frame_adopt "
    "frames.frame_data frames.frame_give frames.frame_is_ours frames.frame_take_wait "
    "hashtable.dict_is_at hashtable.dict_length hashtable.dict_next_bucket "
    "hashtable.dict_nth hashtable_writes.dict_drop hashtable_writes.dict_exchange "
    "hashtable_writes.dict_reclaim ring.data_of ring.queue_adopt ring.queue_begin_wait "
    "ring.queue_drop ring.queue_publish ring.queue_release ring.queue_return "
    "ring.queue_take_wait robust.make_consistent robust.robust_abandon "
    "robust.robust_lock robust.robust_unlock",
)
_DISARMED = Reason(
    "it is what wake_reclaimer does behind its look, in reclaim-wake and in the workload reclaim",
    (PROGRAM, CRASH, NATIVE),
    "reclaim.disarm_reclaim",
)
_RESTS = Reason(
    "it writes nothing; reclaim-wake explores it, and tests/test_reclaimer.py runs the loop",
    (CRASH, NATIVE),
    "reclaimer.all_balanced reclaimer.reclaim_rest",
)
_ARMED = Reason(
    "the word is no promise, and needs no recovery; reclaim-wake explores it",
    (CRASH,),
    "reclaimer.arm_reclaim",
)
_TICKETS = Reason(
    "tickets are sent by pickle, which no kernel does: tox -e array-storm sends, loads and kills"
    " natively",
    (NATIVE,),
    "array_recovery.copy_references array_recovery.reap_ticket "
    "array_recovery.reap_tickets array_recovery.recover_arrays "
    "shared_arrays.exchange_array shared_arrays.load_array shared_arrays.make_run "
    "shared_arrays.send_array",
)
_TICKET = Reason(
    "it is the step of reap_tickets that arrays-load-reap tries",
    (PROGRAM, CRASH),
    "array_recovery.reap_ticket",
)
_WITHIN_RECOVERY = Reason(
    "it is the first part of recover, which the programs and all cases try",
    (PROGRAM, CRASH),
    "recover.unblock",
)
_ARRAYS_RECOVERED = Reason(
    "it is the last part of recover; the check of all arrays-* programs calls it",
    (PROGRAM,),
    "array_recovery.recover_arrays",
)
_KEEPS_ITS_SLOT = Reason(
    "a worker keeps its slot until its process ends, and may not leave it within a kernel, in which"
    " its epoch is fixed: a workload, which is kernels, cannot call it",
    (NATIVE,),
    "slots.release_slot",
)
_FLAGS = Reason(
    "a workload with flags is still to be written; its writes are those of cache_alloc and kmalloc",
    (NATIVE,),
    "cache_bulk.cache_alloc_bulk_gfp cache_gfp.cache_alloc_gfp kmalloc.kmalloc_gfp",
)
_PAUSE = Reason(
    "it takes a seat, sleeps once and leaves it, as alloc_pages_wait does in a loop",
    COLUMNS,
    "waiters.pause_for_memory",
)
_STACKS = Reason(
    "Python calls it with a stack of its own, which no kernel has; tests/test_page_owner.py and"
    " tests/test_page_owner_entries.py do",
    COLUMNS,
    "page_owner.enter_stack page_owner.set_clocks stack_depot.find_stack "
    "stack_depot.publish_stack stack_depot.reserve_stack",
)
REASONS = (
    _STACKS,
    _FLAGS,
    _PAUSE,
    _QUIESCENT,
    _ALONE,
    _READS,
    _ENTRIES,
    _WITHIN,
    _ONE_SWAP,
    _STRUCTURES,
    _DISARMED,
    _ARMED,
    _RESTS,
    _TICKETS,
    _TICKET,
    _WITHIN_RECOVERY,
    _ARRAYS_RECOVERED,
    _KEEPS_ITS_SLOT,
)
REASON_OF: dict[tuple[str, str], Reason] = {
    (operation, column): reason
    for reason in reversed(REASONS)
    for operation in reason.operations
    for column in reason.columns
}
