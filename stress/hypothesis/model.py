"""What must be true of an arena while a machine uses it: who has what, in plain Python.

The model believes no word of the segment; it hears only what calls answered. Its things are what
the machine's bundles hold, so their ``repr`` is short::

    Life      one process's hold on the arena, from attach or fork to its end; owns blocks, things
    Block     pages; Thing: an object
    Array     the values, and two kinds of references:
    Holder    one reference of a life: an array, or views of it, by the index where they begin
    Ticket    one in transit, from its sending to its first load

A life ends when its arena is closed and its last holder is gone, or with its process. What it owns
then stays, or is reaped.

``blocks_in``, ``references_in`` and ``allocated_in`` read the segment instead, to be compared with
the model: page descriptors and entries of arrays, not the allocator's lists, counters or audit.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from shmalloc import Arena
from shmalloc import constants as c

FIRST_OWNER = 1 << 40  # owner words of the machine: above every pid, below those of the allocator
LAST_OWNER = FIRST_OWNER + (1 << 20)


@dataclass(eq=False)
class Life:
    """``closed``: its process closed the arena. ``over``: it holds nothing any more."""

    number: int
    closed: bool = False
    over: bool = False


@dataclass(eq=False)
class Block:
    """A block of pages. ``holder``: the life that owns it, which may be over."""

    pfn: int
    order: int
    owner: int
    holder: Life
    live: bool = True

    def pages(self) -> range:
        return range(self.pfn, self.pfn + (1 << self.order))


@dataclass(eq=False)
class Thing:
    """An object from kmalloc: ``size`` bytes at word ``address``."""

    address: int
    size: int
    stamp: int
    holder: Life
    live: bool = True

    def words(self) -> range:
        return range(self.address, self.address + -(-self.size // 8))


@dataclass(eq=False)
class Array:
    number: int
    values: list[int]


@dataclass(eq=False)
class Holder:
    """``number``: its name in its process; a forked child has the same names."""

    number: int
    array: Array
    life: Life
    pieces: list[int]  # where each begins: the array, views of it
    writeable: bool = True

    def values(self) -> list[list[int]]:
        return [self.array.values[begin:] for begin in self.pieces]


@dataclass(eq=False)
class Ticket:
    """``sent``: the bytes, which may be loaded again and again. ``begin``: of the view sent."""

    array: Array
    sent: bytes = field(repr=False)
    sender: Life
    begin: int
    writeable: bool


@dataclass
class Model:
    """Everything that is allocated, as the answers said."""

    blocks: list[Block] = field(default_factory=list)
    things: list[Thing] = field(default_factory=list)
    holders: list[Holder] = field(default_factory=list)
    tickets: list[Ticket] = field(default_factory=list)  # those that are not loaded
    numbers: int = 0

    def number(self) -> int:
        """A number that nothing has had before."""
        self.numbers += 1
        return self.numbers

    # --- pages and objects ------------------------------------------------------------------------
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

    def owned(self) -> Counter[tuple[int, int, int]]:
        """(pfn, order, owner word) of every block."""
        return Counter((block.pfn, block.order, block.owner) for block in self.blocks)

    # --- arrays -----------------------------------------------------------------------------------
    def references(self, array: Array) -> int:
        """How many it has in all processes, and in transit."""
        return sum(one is array for one in self._arrays())

    def referenced(self) -> Counter[int]:
        """How many arrays have so many references."""
        return Counter(Counter(self._arrays()).values())

    def _arrays(self) -> list[Array]:
        """The array of each reference."""
        return [one.array for one in self.holders] + [one.array for one in self.tickets]

    def held_by(self, *lives: Life) -> list[Holder]:
        return [holder for holder in self.holders if holder.life in lives]

    def dropped(self, holder: Holder, piece: int) -> None:
        """One piece of it is gone; it goes with the last one, and a closed life with that."""
        del holder.pieces[piece]
        if not holder.pieces:
            self.holders.remove(holder)
            self._ends(holder.life)

    def closed(self, life: Life) -> None:
        """Its process closed the arena."""
        life.closed = True
        self._ends(life)

    def _ends(self, life: Life) -> None:
        life.over = life.closed and not self.held_by(life)

    def forked(self, lives: list[Life]) -> list[Life]:
        """The lives of a child: it has a reference for each of its parent's."""
        made = []
        for life in lives:
            child = Life(self.number(), life.closed)
            copies = [
                Holder(one.number, one.array, child, list(one.pieces), one.writeable)
                for one in self.held_by(life)
            ]
            self.holders += copies
            made.append(child)
        return made

    def died(self, lives: list[Life]) -> int:
        """A process was killed, recovered and reaped; how much of its own was freed."""
        blocks = [block for block in self.blocks if block.holder in lives]
        things = [thing for thing in self.things if thing.holder in lives]
        for block in blocks:
            self.remove_block(block)
        for thing in things:
            self.remove_thing(thing)
        self.left(lives)
        return len(blocks) + len(things)

    def left(self, lives: list[Life]) -> None:
        """A process ended: it holds no array. What it allocated stays with the segment."""
        self.holders = [one for one in self.holders if one.life not in lives]
        for life in lives:
            life.over = True

    def tickets_ended(self, all_of_them: bool) -> None:
        """Tickets were given back: those of lives that are over, or all."""
        self.tickets = [one for one in self.tickets if not (all_of_them or one.sender.over)]


# --- what the segment says -----------------------------------------------------------------------
def blocks_in(arena: Arena) -> Counter[tuple[int, int, int]]:
    """(pfn, order, owner word) of every allocated block with an owner word of a machine."""
    return Counter(one for one in allocated_in(arena) if FIRST_OWNER <= one[2] < LAST_OWNER)


def allocated_in(arena: Arena) -> list[tuple[int, int, int]]:
    """(pfn, order, owner word) of every allocated block; no pages of slabs."""
    first, pages = arena.segment.layout.at["memmap"], arena.geometry.pages
    words = arena.segment.ram.array[first : first + pages * c.D_WORDS]
    lows, owners = words[0 :: c.D_WORDS], words[1 :: c.D_WORDS]
    heads = (lows & c.TYPE_MASK == c.T_ALLOCATED).nonzero()[0].tolist()
    return [
        (pfn, int(lows[pfn]) >> c.ORDER_SHIFT & c.ORDER_MASK, int(owners[pfn])) for pfn in heads
    ]


def references_in(arena: Arena) -> Counter[int]:
    """How many arrays have so many references, by their entries."""
    at, pages = arena.segment.layout.at["arrays"], arena.geometry.pages
    words = arena.segment.ram.array[at : at + pages * c.AR_STRIDE : c.AR_STRIDE]
    return Counter(count for count in (words & c.AR_REFS_MASK).tolist() if count)
