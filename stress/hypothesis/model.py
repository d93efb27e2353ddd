"""What must be true of an arena while a machine uses it: who has what, in plain Python.

The model believes no word of the segment; it hears only what calls answered. Its things, ``Block``,
``Thing`` and ``Array``, are what the machine's bundles hold, so their ``repr`` is short.

``blocks_in`` reads the page descriptors instead, to be compared with the model: not the allocator's
lists, counters or audit.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from shmalloc import Arena
from shmalloc import constants as c

FIRST_OWNER = 1 << 40  # owner words of the machine: above every pid, below those of the allocator
LAST_OWNER = FIRST_OWNER + (1 << 20)


@dataclass(eq=False)
class Block:
    """A block of pages. ``holder``: the number of the process that owns it, which may be gone."""

    pfn: int
    order: int
    owner: int
    holder: int
    live: bool = True

    def pages(self) -> range:
        return range(self.pfn, self.pfn + (1 << self.order))


@dataclass(eq=False)
class Thing:
    """An object from kmalloc: ``size`` bytes at word ``address``."""

    address: int
    size: int
    stamp: int
    holder: int
    live: bool = True

    def words(self) -> range:
        return range(self.address, self.address + -(-self.size // 8))


@dataclass(eq=False)
class Array:
    """An array. ``open_in``: processes that have it open."""

    number: int
    values: list[int]
    open_in: set[int]

    @property
    def references(self) -> int:
        return len(self.open_in)


@dataclass
class Model:
    """Everything that is allocated, as the answers said."""

    blocks: list[Block] = field(default_factory=list)
    things: list[Thing] = field(default_factory=list)
    arrays: list[Array] = field(default_factory=list)
    numbers: int = 0

    def number(self) -> int:
        """A number that nothing has had before."""
        self.numbers += 1
        return self.numbers

    def add_block(self, block: Block) -> Block:
        assert block.pfn % (1 << block.order) == 0, f"{block} is not aligned to its order"
        taken = {page: other for other in self.blocks for page in other.pages()}
        twice = [(page, taken[page]) for page in block.pages() if page in taken]
        assert not twice, f"{block} was handed out while {twice[0][1]} was live"
        self.blocks.append(block)
        return block

    def add_thing(self, thing: Thing) -> Thing:
        taken = {word: other for other in self.things for word in other.words()}
        twice = [taken[word] for word in thing.words() if word in taken]
        assert not twice, f"{thing} was handed out while {twice[0]} was live"
        self.things.append(thing)
        return thing

    def remove_block(self, block: Block) -> None:
        block.live = False
        self.blocks.remove(block)

    def remove_thing(self, thing: Thing) -> None:
        thing.live = False
        self.things.remove(thing)

    def died(self, holder: int) -> int:
        """A process was killed, recovered and reaped; how much of its own was freed."""
        blocks = [block for block in self.blocks if block.holder == holder]
        things = [thing for thing in self.things if thing.holder == holder]
        for block in blocks:
            self.remove_block(block)
        for thing in things:
            self.remove_thing(thing)
        for array in self.arrays:
            array.open_in.discard(holder)
        return len(blocks) + len(things)

    def left(self, holder: int) -> None:
        """A process closed its arena: its arrays are closed, the rest stays with the segment."""
        for array in self.arrays:
            array.open_in.discard(holder)

    def owned(self) -> Counter[tuple[int, int, int]]:
        """(pfn, order, owner word) of every block."""
        return Counter((block.pfn, block.order, block.owner) for block in self.blocks)


def blocks_in(arena: Arena) -> Counter[tuple[int, int, int]]:
    """(pfn, order, owner word) of every allocated block with an owner word of a machine."""
    first, pages = arena.segment.layout.at["memmap"], arena.geometry.pages
    words = arena.segment.ram.array[first : first + pages * c.D_WORDS]
    found: Counter[tuple[int, int, int]] = Counter()
    lows, owners = words[0 :: c.D_WORDS], words[1 :: c.D_WORDS]
    ours = (lows & c.TYPE_MASK == c.T_ALLOCATED) & (owners >= FIRST_OWNER) & (owners < LAST_OWNER)
    for pfn in ours.nonzero()[0].tolist():
        found[pfn, int(lows[pfn]) >> c.ORDER_SHIFT & c.ORDER_MASK, int(owners[pfn])] += 1
    return found
