"""``Operation``: a case of one public operation, and the variants in which operations are tried.

CPU 0 runs the operation, mostly once, and undoes it; CPU 1 meanwhile takes and frees a page or an
object, so that a living CPU must be able to continue. Both die in turn. A *variant* is the same
case in another state, or with one more CPU: ``pages-bulk+waiter``. With its variants an operation
comes to nearly every write that it can reach, in its own code and in that of its callees.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from shmalloc import constants as c
from shmalloc.dialect import Kernel
from stress.crash.actions import two_types, wait_awake
from stress.crash.adapt import build, case_of
from stress.crash.case import CrashCase
from stress.machine.program import Program
from stress.programs.initial_state import InitialState, reshaped
from stress.programs.worlds import WORLDS


def mark_for_poison(state: InitialState) -> InitialState:
    """Mark every single page in use to leave service when it is freed (poison.py)."""
    for pfn in range(state.layout.geometry.pages):
        at = state.layout.descriptor(pfn)
        word = state.ram[at]
        in_use = word & c.TYPE_MASK in (c.T_ALLOCATED, c.T_SLAB)
        if in_use and word >> c.ORDER_SHIFT & c.ORDER_MASK == 0:
            state.ram[at] = word | c.POISON_BIT
    return state


@dataclass(frozen=True)
class Variant:
    """Another state for the same operations: fields of the geometry, and additional CPUs.

    ``prepare``: changes the finished state. ``may_leave``: pages that may end poisoned.
    """

    story: str
    changes: Mapping[str, Any]
    besides: tuple[Kernel, ...] = ()
    prepare: Callable[[InitialState], InitialState] | None = None
    may_leave: int = 0


VARIANTS = {
    **{name: Variant(world.story, world.changes) for name, world in WORLDS.items()},
    "fill": Variant("free pages are poisoned", {"poison": True}),
    "init": Variant(
        "pages and objects are zeroed when they are allocated and freed",
        {"init_on_alloc": True, "init_on_free": True},
    ),
    "spins": Variant("spins on a held lock before the sleep", {"spins": 2}),
    "waiter": Variant("one more CPU waits for memory", {}, (wait_awake,)),
    "types": Variant(
        "small pageblocks, and one more CPU that allocates another migratetype",
        {"pageblock_order": 1, "max_order": 2},
        (two_types,),
    ),
    "sampled": Variant(
        "every allocation is sampled, in a table of one window",
        {"page_owner": 1, "page_owner_entries": c.PO_WINDOW, "stack_words": 1 << 10},
    ),
    "marked": Variant(
        "pages in use are marked to leave service", {}, prepare=mark_for_poison, may_leave=16
    ),
}


@dataclass(frozen=True)
class Operation:
    """A case to build: its state, what the CPUs do, how many pages may end poisoned."""

    name: str
    state: Callable[[], InitialState]
    threads: tuple[Kernel, ...]
    story: str
    may_leave: int = 0
    reaping: bool = False
    check: Kernel | None = None  # for the reports that it provokes (adapt.py)

    def program(self) -> Program:
        program = self.state().program(self.name, self.threads, self.story)
        return program if self.check is None else replace(program, check=self.check)

    def case(self) -> CrashCase:
        return case_of(build(self.program), self.may_leave, self.reaping)

    def varied(self, name: str) -> Operation:
        """The operation in the state of ``VARIANTS[name]``."""
        variant = VARIANTS[name]

        def state() -> InitialState:
            with reshaped(len(variant.besides), **variant.changes):
                made = self.state()
            return made if variant.prepare is None else variant.prepare(made)

        return replace(
            self,
            name=f"{self.name}+{name}",
            state=state,
            threads=self.threads + variant.besides,
            story=f"{self.story}; {variant.story}",
            may_leave=max(self.may_leave, variant.may_leave),
        )
