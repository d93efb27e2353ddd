"""``ArenaMachine``: Hypothesis draws what processes do with one arena, and a model judges it.

::

    TestArena = ArenaMachine.TestCase                  # all of it, in a test file

    class Machine(ArenaMachine):                       # or changed: another arena, more rules
        geometry = {"size": "1MiB", "zones": 2, "poison": True}

Every process is real: the machine's own, and children that attach. They allocate and free pages and
objects (also those of each other), hand blocks over, send arrays, close, and are killed by SIGKILL,
recovered and reaped. One acts at a time, so a failure depends on its steps alone, and Hypothesis
reduces it to few of them; what happens when they act at once is for ``shmstress run`` and the
explorer.

After each step, when no process works: the full audit finds nothing, no misuse was reported, the
page descriptors show exactly the blocks that the model has, and everything owned keeps its bytes.
"""

from __future__ import annotations

from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)

from shmalloc import Arena
from shmalloc.descriptor_text import MIGRATETYPES
from stress.hypothesis.child import Child
from stress.hypothesis.hands import Hands, stamp_of
from stress.hypothesis.model import FIRST_OWNER, Array, Block, Model, Thing, blocks_in

SMALL = {"page_bytes": 512, "max_order": 5, "pageblock_order": 3}
ORDERS = st.integers(0, 3) | st.just(4)
KINDS = st.sampled_from(sorted(MIGRATETYPES, key=lambda kind: kind != "movable")[:3])
SIZES = st.integers(1, 1500)
VALUES = st.lists(st.integers(-2, 2), max_size=20)


class Process:
    """One that uses the arena; ``number`` is its name in the model. ``child`` None: the machine."""

    def __init__(self, number: int, hands: Hands | None = None, child: Child | None = None) -> None:
        self.number, self.hands, self.child = number, hands, child

    @property
    def active(self) -> bool:
        return self.hands is not None or self.child is not None

    def tell(self, method: str, *arguments: Any) -> Any:
        """``Hands.method`` in that process."""
        if self.child is not None:
            return self.child.tell(method, *arguments)
        return getattr(self.hands, method)(*arguments)

    def __repr__(self) -> str:
        return f"<Process {self.number}>"


class ArenaMachine(RuleBasedStateMachine):
    """Rules over one arena; subclass it to change what it is made of.

    ``geometry``: arguments of ``Arena.create``. ``max_children``: child processes at a time.
    ``engine``: of the machine's own process.
    """

    geometry: ClassVar[dict[str, Any]] = {"size": "256KiB", **SMALL}
    max_children: ClassVar[int] = 3
    engine: ClassVar[str] = "native"

    processes: Bundle[Process] = Bundle("processes")
    children: Bundle[Process] = Bundle("children")
    blocks: Bundle[Block] = Bundle("blocks")
    things: Bundle[Thing] = Bundle("things")
    arrays: Bundle[Array] = Bundle("arrays")
    active = processes.filter(lambda process: process.active)  # neither killed nor closed

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.running: list[Process] = []
        self.arena: Arena | None = None

    @initialize(target=processes)
    def create(self) -> Process:
        """The arena, with a CPU slot for each process."""
        arguments = {"cpus": self.max_children + 1, **self.geometry}
        self.arena = Arena.create(engine=self.engine, **arguments)
        return Process(0, hands=Hands(self.arena))

    # --- processes --------------------------------------------------------------------------------
    @precondition(lambda self: len(self.running) < self.max_children)
    @rule(targets=(processes, children))
    def open(self) -> Process:
        """A child attaches."""
        assert self.arena is not None
        opened = Process(self.model.number(), child=Child(self.arena.name))
        self.running.append(opened)
        return opened

    @rule(process=consumes(children))
    def kill(self, process: Process) -> None:
        """SIGKILL; then its slot is recovered, and what it owned is freed."""
        child = self._remove(process)
        child.kill()
        assert self.arena is not None
        (recovered,) = self.arena.recover()
        assert recovered.pid == child.pid
        reaped = self.arena.reap(recovered)
        owned = self.model.died(process.number)
        assert reaped == owned, f"{reaped} blocks and objects were freed; it owned {owned}"

    @rule(process=consumes(children))
    def close(self, process: Process) -> None:
        """It closes its arena and ends; what it allocated stays."""
        self._remove(process).end()
        self.model.left(process.number)

    def _remove(self, process: Process) -> Child:
        child = process.child
        assert child is not None
        self.running.remove(process)
        process.child = None
        return child

    # --- pages ------------------------------------------------------------------------------------
    @rule(target=blocks, process=active, order=ORDERS, migratetype=KINDS)
    def alloc_pages(self, process: Process, order: int, migratetype: str) -> Any:
        owner = FIRST_OWNER + self.model.number()
        pfn = process.tell("alloc_pages", order, migratetype, owner)
        if pfn is None:
            return multiple()
        return self.model.add_block(Block(pfn, order, owner, process.number))

    @rule(process=active, block=consumes(blocks))
    def free_pages(self, process: Process, block: Block) -> None:
        """Any process frees it."""
        if block.live:
            process.tell("free_pages", block.pfn, block.order)
            self.model.remove_block(block)

    @rule(giver=active, taker=active, block=blocks)
    def adopt_pages(self, giver: Process, taker: Process, block: Block) -> None:
        """A block is handed over, and survives its giver."""
        if block.live and block.holder == giver.number:
            taker.tell("adopt_pages", block.pfn, block.order, giver.tell("life"), block.owner)
            block.holder = taker.number

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
        return self.model.add_thing(Thing(address, size, stamp, process.number))

    @rule(process=active, thing=consumes(things))
    def kfree(self, process: Process, thing: Thing) -> None:
        """Any process frees it."""
        if thing.live:
            process.tell("kfree", thing.address)
            self.model.remove_thing(thing)

    # --- arrays -----------------------------------------------------------------------------------
    @rule(target=arrays, process=active, values=VALUES)
    def array(self, process: Process, values: list[int]) -> Any:
        number = self.model.number()
        if not process.tell("make_array", number, values):
            return multiple()
        made = Array(number, values, {process.number})
        self.model.arrays.append(made)
        return made

    @rule(sender=active, receiver=active, array=arrays)
    def send_array(self, sender: Process, receiver: Process, array: Array) -> None:
        """It is pickled in one process and opened in another, which reads the same values."""
        if sender.number not in array.open_in or receiver.number in array.open_in:
            return
        receiver.tell("open_array", array.number, sender.tell("pickled_array", array.number))
        array.open_in.add(receiver.number)
        found, wanted = receiver.tell("read_array", array.number), (array.values, array.references)
        assert found == wanted, f"{array}: values and references are {found}, not {wanted}"

    @rule(process=active, array=arrays)
    def close_array(self, process: Process, array: Array) -> None:
        if process.number in array.open_in:
            array.open_in.remove(process.number)
            left = process.tell("close_array", array.number)
            assert left == array.references, f"{array}: {left} references are left"

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
        """No process and no segment stays, however the steps ended."""
        for process in list(self.running):
            self._remove(process).kill()
        if self.arena is not None:
            self.arena.close()
