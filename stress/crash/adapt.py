"""How a program of the allocator becomes a case: supervisors, their slots, and tolerated losses.

The program is built again with slots for the supervisors and with words behind the segment
(kernels.py) that announce deaths.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import FunctionType

import numpy as np

from shmalloc import constants as c
from shmalloc.dialect import Kernel
from stress.crash import kernels as crash_kernels
from stress.crash.array_actions import arrays_survive, dict_arrays_survive
from stress.crash.case import SUPERVISORS, CrashCase
from stress.machine.names import WordName
from stress.machine.program import Program
from stress.programs import (
    arrays,
    bulk,
    checks,
    claims,
    filled,
    kmalloc,
    structure_dict_arrays,
    structure_entries,
    structure_lock_sleepers,
    takers,
)
from stress.programs.initial_state import spare_cpus
from stress.programs.worlds import worlds_of

# The report that a program provokes, by its check.
TOLERATED: dict[Kernel, int] = {
    checks.page_refused_once: c.M_DOUBLE_FREE,
    checks.object_refused_once: c.M_OBJECT_FREE,
    checks.destroyed_or_busy: c.M_LEAKED_OBJECTS,
    filled.stray_is_caught: c.I_BYTES,
    bulk.two_freed: c.M_DOUBLE_FREE,
    kmalloc.small_refused_once: c.M_OBJECT_FREE,
}
# Checks of what bears no slot's label: of arrays the dead's records must be gone.
SURVIVES: dict[Kernel, Kernel] = {
    arrays.arrays_are_sound: arrays_survive,
    arrays.one_was_last: arrays_survive,
    takers.minimum_beside_arrays: arrays_survive,
    arrays_survive: arrays_survive,
    structure_entries.structures_are_sound: crash_kernels.structures_survive,
    structure_entries.one_end: crash_kernels.structures_survive,
    structure_dict_arrays.dict_arrays_are_sound: dict_arrays_survive,
    claims.one_life: crash_kernels.claim_survives,
    filled.stray_is_caught: crash_kernels.stray_survives,
}
NO_SEGMENT = "a lock word alone: there is nothing to recover"
STOPPED = "a process has stopped: only the system's clock can tell"
HELD = "a stopped CPU holds a lock for ever, and a recovery has to wait for it"
OVERWRITTEN = "a free pointer was overwritten from outside: recovery believes free lists"
ONLY_WAKER = "the CPU that dies is the only one that would have woken the sleeper"
LEFT_OVER = (
    "the CPU that dies is the only one that would have ended an isolation of a life long over"
)
RECOVERER = "a recoverer helps itself as it waits for who dies later, which none does here"
RECOVERERS = ("wait-recover", "wait-recover-list")
WAIT_ONLY = "online shrink destroy reap"
ONLY_WAKERS = [*(f"wait-{name}" for name in WAIT_ONLY.split()), "watermark-nofail-and-free"]
# Programs that begin with a stopped lock. What dies in try_pages.py is in try_operations.py.
STOPS = "zone-stopped lists-stopped all-stopped descriptor-stopped index-stopped holder-stops"
LOCKS_HELD = [
    f"try-{name}" for name in f"{STOPS} free-drain free-free-drain-3 free-alloc wake".split()
]
PLAYED = "a CPU plays a fixed part, and the other one waits for each step of it"
ASKED = "a reclaimer rests while nothing is asked for: who would have asked may be dead"
WITHOUT_REST = ("reclaim-shrink", "reclaim-pass")
RESTING = ("watermark-boost-and-end",)


def left_out(name: str) -> str:
    """Why the program has no case, in whatever worlds; empty if it has one."""
    name, _ = worlds_of(name)
    if name in LOCKS_HELD:
        return HELD
    if name in ONLY_WAKERS:
        return ONLY_WAKER
    if name in structure_lock_sleepers.PROGRAMS:
        return PLAYED
    if name == "claims-labels-again":
        return LEFT_OVER
    if name in RECOVERERS:
        return RECOVERER
    if name in RESTING or (name.startswith("reclaim-") and name not in WITHOUT_REST):
        return ASKED
    if name in ("slab-destroy-stopped", "contig-isolate-stopped"):
        return STOPPED
    if name.startswith("stray-"):
        return OVERWRITTEN
    return NO_SEGMENT if name.startswith(("lock-", "sync-")) else ""


def build(make: Callable[[], Program]) -> Program:
    """Build a program with slots for supervisors."""
    with spare_cpus(SUPERVISORS):
        return make()


def case_of(
    program: Program, may_leave: int = 0, reaping: bool = False, hopeful: int = 0
) -> CrashCase:
    """The case of ``program``, whose machine has spare slots for the supervisors.

    ``may_leave``: pages that may be poisoned at the end. ``reaping``: the supervisor frees what the
    dead owned while the others continue; otherwise the check does so at the end. ``hopeful``: the
    code that its threads report when there is no memory, which is right while a dead CPU holds it.
    """
    assert isinstance(program.init, np.ndarray)
    image = np.zeros(program.words + crash_kernels.NOTICE_WORDS, dtype=np.int64)
    image[: program.words] = program.init
    behind = program.words
    cpus = int(image[c.H_CPUS])
    for cpu in range(cpus):
        image[behind + crash_kernels.EPOCHS + cpu] = image[c.CPUS_AT + cpu * c.C_STRIDE + c.C_EPOCH]
    check = program.check
    assert isinstance(check, FunctionType)
    image[behind + crash_kernels.TOLERATED] = TOLERATED.get(check, hopeful)
    image[behind + crash_kernels.MANAGED] = _managed_pages(image)
    image[behind + crash_kernels.MAY_LEAVE] = may_leave
    image[behind + crash_kernels.REAPED] = int(reaping)
    holds = SURVIVES.get(check, crash_kernels.nothing_is_lost)
    wider = replace(
        program,
        words=len(image),
        init=image,
        check=holds,
        locks=(),
        word_name=_with_notices(program.word_name, behind),
    )
    supervisor = crash_kernels.supervise_and_reap if reaping else crash_kernels.supervise
    if check is claims.one_life:
        supervisor = crash_kernels.supervise_claim
    return CrashCase(wider, supervisor, behind + crash_kernels.DIED, holds)


def _managed_pages(image: np.ndarray) -> int:
    """Pages of all zones that are in service or offline: the check brings those back."""
    zones = [int(image[c.H_AT_ZONES]) + z * c.Z_STRIDE for z in range(int(image[c.H_ZONES]))]
    first = int(image[c.H_AT_MEMMAP])
    words = image[first : first + int(image[c.H_PAGES]) * c.D_WORDS : c.D_WORDS]
    offline = words[words & c.TYPE_MASK == c.T_OFFLINE]
    pages = int((1 << (offline >> c.ORDER_SHIFT & c.ORDER_MASK)).sum())
    return pages + sum(int(image[zone + c.Z_MANAGED]) for zone in zones)


def _with_notices(word_name: WordName | None, behind: int) -> WordName:
    """``word_name`` of a program that also knows the words from ``behind`` on (kernels.py)."""
    single = {
        crash_kernels.TOLERATED: "report that is tolerated",
        crash_kernels.MANAGED: "pages managed at the start",
        crash_kernels.MAY_LEAVE: "pages that may leave",
        crash_kernels.REAPED: "whether a supervisor reaps",
    }

    def name(index: int) -> str:
        which = index - behind
        if which < 0:
            return "" if word_name is None else word_name(index)
        if which < crash_kernels.EPOCHS:
            return f"death of cpu {which}"
        return single.get(which, f"epoch of cpu {which - crash_kernels.EPOCHS} at the start")

    return name
