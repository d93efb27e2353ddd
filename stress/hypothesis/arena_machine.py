"""``ArenaMachine``: Hypothesis draws what processes do with one arena, and a model judges it.

::

    TestArena = ArenaMachine.TestCase                  # all of it, in a test file

    class Machine(ArenaMachine):                       # or changed: another arena, more rules
        geometry = {"size": "1MiB", "zones": 2, "poison": True}

Every process is real: the machine's own, children that attach, and children that these fork
(process_rules.py). They allocate and free pages and objects (also those of each other), hand blocks
over, make, view, write, send, load and drop arrays (array_rules.py), close the arena and attach
again, and are killed by SIGKILL, recovered and reaped. One acts at a time, so a failure depends on
its steps alone, and Hypothesis reduces it to few of them; what happens when they act at once is for
``shmstress run``, the explorer and ``tox -e array-storm``.

After each step, when no process works: the full audit finds nothing, no misuse was reported, the
page descriptors show exactly the blocks that the model has, and everything owned keeps its bytes.
When the steps end, everything is freed: no page of an array, of a table or of any owner is left.
"""

from __future__ import annotations

import sys
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, consumes, invariant, multiple, rule

from shmalloc import constants as c
from shmalloc import constants_slab as cs
from shmalloc.descriptor_text import MIGRATETYPES
from shmalloc.kernels.array_recovery import give_table_back
from stress.hypothesis.array_rules import ArrayRules
from stress.hypothesis.hands import stamp_of
from stress.hypothesis.model import (
    FIRST_OWNER,
    Block,
    Thing,
    allocated_in,
    blocks_in,
    references_in,
)
from stress.hypothesis.process_rules import Process, ProcessRules

ORDERS = st.integers(0, 3) | st.just(4)
KINDS = st.sampled_from(sorted(MIGRATETYPES, key=lambda kind: kind != "movable")[:3])
SIZES = st.integers(1, 1500)
SLAB_BITS = 40
SHEAVES = cs.OWNER_SHEAVES >> SLAB_BITS  # a cache keeps them


class ArenaMachine(ArrayRules):
    """Rules over one arena; subclass it to change what it is made of (``ProcessRules``)."""

    blocks: Bundle[Block] = Bundle("blocks")
    things: Bundle[Thing] = Bundle("things")
    active = ProcessRules.active

    # --- pages ------------------------------------------------------------------------------------
    @rule(target=blocks, process=active, order=ORDERS, migratetype=KINDS)
    def alloc_pages(self, process: Process, order: int, migratetype: str) -> Any:
        owner = FIRST_OWNER + self.model.number()
        pfn = process.tell("alloc_pages", order, migratetype, owner)
        if pfn is None:
            return multiple()
        return self.model.add_block(Block(pfn, order, owner, process.life))

    @rule(process=active, block=consumes(blocks))
    def free_pages(self, process: Process, block: Block) -> None:
        """Any process frees it."""
        if block.live:
            process.tell("free_pages", block.pfn, block.order)
            self.model.remove_block(block)

    @rule(giver=active, taker=active, block=blocks)
    def adopt_pages(self, giver: Process, taker: Process, block: Block) -> None:
        """A block is handed over, and survives its giver."""
        if block.live and block.holder is giver.life:
            taker.tell("adopt_pages", block.pfn, block.order, giver.tell("life"), block.owner)
            block.holder = taker.life

    @rule(process=active)
    def drain(self, process: Process) -> None:
        """Free pages on per-CPU lists return to their zones, and merge."""
        process.tell("drain")

    # --- objects ----------------------------------------------------------------------------------
    @rule(target=things, process=active, size=SIZES)
    def kmalloc(self, process: Process, size: int) -> Any:
        stamp = self.model.number()
        address = process.tell("kmalloc", size, stamp)
        if address is None:
            return multiple()
        return self.model.add_thing(Thing(address, size, stamp, process.life))

    @rule(process=active, thing=consumes(things))
    def kfree(self, process: Process, thing: Thing) -> None:
        """Any process frees it."""
        if thing.live:
            process.tell("kfree", thing.address)
            self.model.remove_thing(thing)

    # --- what must hold when no process works -----------------------------------------------------
    @invariant()
    def audit_finds_nothing(self) -> None:
        assert self.arena is not None
        found = self.arena.validate() or self.arena.violations()
        assert not found, "\n".join(map(str, found))

    @invariant()
    def arena_has_the_blocks_of_the_model(self) -> None:
        assert self.arena is not None
        found, owned = blocks_in(self.arena), self.model.owned()
        assert found == owned, (
            f"(pfn, order, owner): {sorted(found - owned)} are allocated and belong to no process;"
            f" {sorted(owned - found)} belong to one and are not allocated"
        )

    @invariant()
    def everything_keeps_its_bytes(self) -> None:
        assert self.arena is not None
        for block in self.model.blocks:
            page = bytes(self.arena.page(block.pfn, block.order))
            assert page == stamp_of(block.owner, len(page)), f"{block} was overwritten"
        for thing in self.model.things:
            found = bytes(self.arena.memory(thing.address, thing.size))
            assert found == stamp_of(thing.stamp, thing.size), f"{thing} was overwritten"

    def teardown(self) -> None:
        """No process and no segment stays, however the steps ended; and nothing in the segment."""
        try:
            if self.arena is not None and sys.exc_info()[0] is None:  # no step has failed
                self._end_all()
                self._nothing_is_left()
        finally:
            super().teardown()

    def _end_all(self) -> None:
        """Every process ends, one is killed, one closes, in turns; then all is freed."""
        assert self.own is not None and self.arena is not None
        for k, process in enumerate(list(self.running)):
            (self._ends if k % 2 else self._is_killed)(process)
        for holder in self.model.held_by(*self.own.lives):
            for _ in holder.pieces:
                self.own.tell("drop_piece", holder.number, 0)
        self.arena.recover(transit_older_than=0)
        for block in self.model.blocks:
            self.own.tell("free_pages", block.pfn, block.order)
        for thing in self.model.things:
            self.own.tell("kfree", thing.address)

    def _nothing_is_left(self) -> None:
        arena = self.arena
        assert arena is not None
        left = dict(references_in(arena)), arena.leaks()
        assert left == ({}, []), f"{{references: arrays}}, tickets: {left} are left"
        for claim in range(arena.segment.ram.load(c.H_CLAIMS_USED)):
            assert arena.run(give_table_back, claim) == 0, f"records of claim {claim} are left"
        allocated = [one for one in allocated_in(arena) if one[2] >> SLAB_BITS != SHEAVES]
        assert allocated == [], f"(pfn, order, owner): {allocated} are left"
        self.audit_finds_nothing()
