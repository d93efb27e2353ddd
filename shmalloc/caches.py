"""The object face of an arena: named caches of equal objects, in every process that attaches.

An object's address is the index of its first word in the segment, so it means the same in every
process; ``memory`` and ``Cache.view`` give its bytes. Any process may free what another allocated.
Names live in the cache descriptors (cachenames.py).

A constructor runs once, at creation: it fills the image that every new object starts as a copy of.
A constructed object must be freed in its constructed state (Linux: the same rule).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from shmalloc import constants as c
from shmalloc import constants_slab as cs
from shmalloc.bound import OWNER_LIMIT
from shmalloc.cache_flags import cache_flags
from shmalloc.cachenames import checked_name, descriptor_of, name_of, write_name
from shmalloc.checked import MOST_PLACE, checked_place
from shmalloc.errors import MisuseError, OutOfMemoryError, ShmallocError
from shmalloc.flagged_objects import FlaggedObjects
from shmalloc.gfp import Gfp
from shmalloc.kernels.cache import cache_alloc, cache_free
from shmalloc.kernels.cache_bulk import cache_alloc_bulk_gfp, cache_free_bulk
from shmalloc.kernels.cache_gfp import cache_alloc_gfp
from shmalloc.kernels.cache_set import cache_create, cache_destroy, cache_shrink
from shmalloc.kernels.kmalloc import kfree, kmalloc, kmalloc_boot, kmalloc_gfp, usable_bytes
from shmalloc.kernels.reap import adopt_object
from shmalloc.reports import violation_count, violations
from shmalloc.statistics import CacheStatistics

Constructor = bytes | Callable[[memoryview], None]


class Cache:
    """A cache of objects of one size, as this process sees it."""

    def __init__(self, arena: ObjectOperations, number: int, name: str) -> None:
        self._arena = arena
        self.number = number
        self.name = name
        self.object_bytes = self._word(cs.K_OBJECT_BYTES)
        self._do_alloc, self._do_free = arena._do_cache_alloc, arena._do_cache_free

    def alloc(self, flags: Gfp | None = None) -> int:
        """A new object; its address. Raises ``OutOfMemoryError``.

        ``flags``: what it may do for memory (gfp.py); not a limit of the zone, and no ZERO where
        a constructor says what a new object holds.
        """
        arena = self._arena
        if arena.segment.closed:
            raise arena.is_closed()
        if flags is not None:
            return self._alloc_flagged(flags)
        address: int = self._do_alloc(arena.claim, self.number)
        if address < 0 or arena._rescuer.found:
            if address == c.E_NOMEM and arena.recovers_dead():
                address = self._do_alloc(arena.claim, self.number)
            self._settle(address, "alloc")
        return address

    def _alloc_flagged(self, flags: Gfp) -> int:
        self._check_zero(flags)
        asked = f"cache {self.name!r}: alloc"
        return self._arena._alloc_with(flags, cache_alloc_gfp, self.number, asked)

    def _check_zero(self, flags: Gfp) -> None:
        if flags & Gfp.ZERO and self._word(cs.K_TEMPLATE):
            raise MisuseError(f"cache {self.name!r}: ZERO with a constructor; use one of the two")

    def free(self, address: int) -> None:
        """Free one object. Raises ``CorruptionError`` unless it is a live object of this cache."""
        arena = self._arena
        if type(address) is not int or not -MOST_PLACE <= address <= MOST_PLACE:
            address = checked_place("address", address)
        if arena.segment.closed:
            raise arena.is_closed()
        result = self._do_free(arena.claim, self.number, address)
        if result < 0 or arena._rescuer.found:
            self._settle(result, f"free({address})")

    def adopt(self, address: int, giver: int) -> None:
        """Take over an object that another process passes on: it stays ours if that process dies.

        ``giver`` is that process's ``Arena.life``, sent along. Raises ``CorruptionError`` if that
        process no longer owns the object: it died, and its memory was reaped.
        """
        address = self._arena.check_int("address", address, 0, OWNER_LIMIT)
        giver = self._arena.check_int("giver", giver, 1, OWNER_LIMIT)
        result = self._arena.run(adopt_object, self.number, address, giver)
        if result < 0:
            raise self._refused(result, f"adopt({address}, giver={giver:#x})")

    def alloc_bulk(self, count: int, flags: Gfp | None = None) -> list[int]:
        """``count`` objects, all or none. Raises ``OutOfMemoryError``. ``flags``: as for ``alloc``,
        but not NOFAIL."""
        count = self._arena.check_int("count", count, 1, OWNER_LIMIT)
        gfp = 0
        if flags is not None:
            self._check_zero(flags)
            gfp = self._arena._object_gfp(flags)
            if gfp & c.GFP_NOFAIL:
                raise MisuseError("flags: NOFAIL in bulk; allocate one by one")
        return self._arena._alloc_objects(self, count, gfp)

    def free_bulk(self, addresses: Sequence[int]) -> None:
        """Free many. Raises ``CorruptionError`` after freeing all that can be freed."""
        freed = self._arena._free_objects(self, addresses)
        if freed < len(addresses):
            left = len(addresses) - freed
            raise self._refused(c.E_STATE, f"free_bulk of {len(addresses)}: {left} not freed")

    def view(self, address: int) -> memoryview:
        """The bytes of an object, writable; yours while it is live."""
        return self._arena.memory(address, self.object_bytes)

    def shrink(self) -> int:
        """Flush the sheaves and release empty slabs; how many."""
        result = self._arena.run(cache_shrink, self.number)
        if result < 0:
            raise self._refused(result, "shrink")
        return result

    def destroy(self) -> None:
        """Remove the cache. Raises ``MisuseError`` with the live objects; freeing them still works.

        So it does after a second if a process that has stopped holds one of its locks. A
        constructor's image goes with it.
        """
        self._arena._destroy(self)

    def statistics(self) -> CacheStatistics:
        """Counted from the page descriptors and sheaves, which change while they are read."""
        self._arena.check_open()
        words, layout = self._arena.segment.ram.array, self._arena.segment.layout
        first, pages = layout.at["memmap"], self._arena.segment.geometry.pages
        pairs = words[first : first + pages * c.D_WORDS].reshape(pages, c.D_WORDS)
        mask = c.TYPE_MASK | c.SLAB_CACHE_MASK << c.LINK_SHIFT
        ours = pairs[(pairs[:, 0] & mask) == (c.T_SLAB | self.number << c.LINK_SHIFT)]
        inuse = int(((ours[:, 1] >> c.S_INUSE_SHIFT) & c.S_INUSE_MASK).sum())
        objects = int(((ours[:, 1] >> c.S_OBJECTS_SHIFT) & c.S_OBJECTS_MASK).sum())
        in_sheaves = self._sheaf_objects()
        return CacheStatistics(
            name=self.name,
            object_bytes=self.object_bytes,
            stride_bytes=self._word(cs.K_STRIDE) * 8,
            slab_pages=1 << self._word(cs.K_ORDER),
            slabs=len(ours),
            objects=objects,
            live_objects=inuse - in_sheaves,
            sheaf_objects=in_sheaves,
        )

    def _sheaf_objects(self) -> int:
        first, stride = self._word(cs.K_SHEAVES), self._word(cs.K_SHEAF_STRIDE)
        count = self._word(cs.K_SHEAF_COUNT)
        ram = self._arena.segment.ram
        return sum(ram[first + i * stride + cs.SF_SIZE] for i in range(count))

    def _word(self, index: int) -> int:
        return self._arena.segment.ram[self._arena._descriptor(self.number) + index]

    def _settle(self, result: int, asked: str) -> None:
        self._arena.settle(max(result, 0), asked)
        if result < 0:
            raise self._refused(result, asked)

    def _refused(self, result: int, asked: str) -> ShmallocError:
        asked = f"cache {self.name!r}: {asked}"
        if result == c.E_INVAL:
            return MisuseError(f"{asked}: the cache was destroyed; create it again")
        return self._arena.refused(result, asked)

    def __repr__(self) -> str:
        return f"<Cache {self.name!r} {self.object_bytes} bytes>"


class ObjectOperations(FlaggedObjects):
    """Caches of objects, and memory by size, in an arena."""

    _kmalloc_booted = False

    def _bind(self) -> None:
        super()._bind()
        geometry = self.segment.geometry
        self._largest = geometry.page_bytes << geometry.max_order
        self._do_kmalloc, self._do_kfree = self.builtin(kmalloc), self.builtin(kfree)
        self._do_cache_alloc = self.builtin(cache_alloc)
        self._do_cache_free = self.builtin(cache_free)

    def kmalloc(self, size: int, flags: Gfp | None = None) -> int:
        """Address of at least ``size`` bytes. Raises ``OutOfMemoryError``. ``flags``: gfp.py; not a
        limit of the zone."""
        if type(size) is not int or not 1 <= size <= self._largest:
            size = self.check_int("size", size, 1, self._largest)
        if not self._kmalloc_booted:
            self._boot_kmalloc()
        if self.segment.closed:
            raise self.is_closed()
        if flags is not None:
            return self._alloc_with(flags, kmalloc_gfp, size, f"kmalloc({size})")
        address: int = self._do_kmalloc(self.claim, size)
        if address < 0 or self._rescuer.found:
            if address == c.E_NOMEM and self.recovers_dead():
                address = self._do_kmalloc(self.claim, size)
            self.settle(address, f"kmalloc({size})")
        return address

    def kfree(self, address: int) -> None:
        """Free what ``kmalloc`` or a cache gave. Raises ``CorruptionError`` for anything else."""
        if type(address) is not int or not -MOST_PLACE <= address <= MOST_PLACE:
            address = checked_place("address", address)
        if self.segment.closed:
            raise self.is_closed()
        result = self._do_kfree(self.claim, address)
        if result < 0 or self._rescuer.found:
            self.settle(result, f"kfree({address})")

    def usable_bytes(self, address: int) -> int:
        """Bytes that may be used at a live address from ``kmalloc``."""
        address = checked_place("address", address)
        self.check_open()
        size = self.engine.call(usable_bytes, self.segment.ram, address)
        if size < 0:
            raise MisuseError(f"address: {address} is no address that kmalloc gave")
        return size

    def _boot_kmalloc(self) -> None:
        """Make the caches of the size classes, once for the segment, at its first kmalloc.

        A process that dies here leaves classes unmade; the next one makes the rest. If memory or
        cache numbers run out, kmalloc serves such a class by whole pages.
        """
        self.check_open()
        with self._lock, self.segment.exclusive():
            self.run(kmalloc_boot, cs.CF_EXACT)
        self._kmalloc_booted = True

    def cache(
        self,
        name: str,
        object_bytes: int,
        align: int = 8,
        ctor: Constructor | None = None,
        debug: str = "",
        shuffle: bool = False,
        sheaves: bool = True,
    ) -> Cache:
        """Create a cache. ``debug``: letters as in Linux's slab_debug: F (consistency), Z (red
        zones), P (poison), U (user tracking). ``ctor``: the image of a new object, or a function
        that writes it. Raises ``MisuseError`` if the name is taken.
        """
        text = checked_name(name)
        self._refuse_taken(name, self.caches())
        page_bytes = self.segment.geometry.page_bytes
        object_bytes = self.check_int("object_bytes", object_bytes, 1, self._largest)
        align = self.check_int("align", align, 1, page_bytes)
        flags = cache_flags(debug, shuffle=shuffle, sheaves=sheaves)
        template = self._template(object_bytes, ctor)
        number = self.run(cache_create, object_bytes, align, flags, template)
        if number < 0:
            self._free_template(template)
            raise self._not_created(number, name, object_bytes, align)
        write_name(self.segment, number, text)
        made = Cache(self, number, name)
        others = {other: at for other, at in self.caches().items() if at < number}
        try:
            # Of two processes that create one name at once, each writes its name before it looks:
            # so at least the one with the higher number sees the other, and gives way.
            self._refuse_taken(name, others)
        except MisuseError:
            made.destroy()
            raise
        return made

    def open_cache(self, name: str) -> Cache:
        """The cache of that name, made by this or another process."""
        known = self.caches()
        if name not in known:
            names = ", ".join(sorted(known)) or "none"
            raise MisuseError(f"name: no cache {name!r} in {self.name!r}; there are: {names}")
        return Cache(self, known[name], name)

    def caches(self) -> dict[str, int]:
        """Names of the caches, with their numbers; those of kmalloc have no name."""
        self.check_open()
        found = {}
        for number in reversed(range(self.segment.geometry.caches)):
            name = name_of(self.segment, number)
            if name:
                found[name] = number
        return found

    def memory(self, address: int, size: int) -> memoryview:
        """``size`` bytes from the object at ``address`` on, writable while it is live."""
        self.check_open()
        first, last = self.segment.layout.at["frames"], self.segment.layout.words
        address = self.check_int("address", address, first, last - 1)
        size = self.check_int("size", size, 0, (last - address) * 8)
        return self.view(address, size)

    def _descriptor(self, number: int) -> int:
        return descriptor_of(self.segment, number)

    def _refuse_taken(self, name: str, known: dict[str, int]) -> None:
        if name in known:
            raise MisuseError(f"name: a cache {name!r} exists; use open_cache, or another name")

    def _not_created(self, result: int, name: str, size: int, align: int) -> ShmallocError:
        asked = f"cache({name!r}, object_bytes={size}, align={align})"
        if result == c.E_INVAL:
            return MisuseError(f"{asked}: align is no power of two, or no slab can hold one object")
        if result == c.E_NOMEM and self._all_numbers_taken():
            limit = self.segment.geometry.caches
            return MisuseError(f"{asked}: all {limit} caches are taken; create with caches=...")
        return self.refused(result, asked)

    def _all_numbers_taken(self) -> bool:
        numbers = range(self.segment.geometry.caches)
        ram = self.segment.ram
        return all(ram[self._descriptor(n) + cs.K_STATE] != cs.CACHE_NONE for n in numbers)

    def _template(self, object_bytes: int, ctor: Constructor | None) -> int:
        """Word of a block with the constructor's image, 0 without one."""
        if ctor is None:
            return 0
        image = bytearray(object_bytes)
        if isinstance(ctor, bytes):
            if len(ctor) != object_bytes:
                raise MisuseError(f"ctor: {len(ctor)} bytes; use object_bytes ({object_bytes})")
            image[:] = ctor
        elif callable(ctor):
            ctor(memoryview(image))
        else:
            raise MisuseError(f"ctor: {ctor!r}; use bytes or a function of a memoryview")
        pages = -(-object_bytes // self.segment.geometry.page_bytes)
        order = (pages - 1).bit_length()
        pfn = self._alloc_shared(order)
        block = self.page(pfn, order)
        block[:] = bytes(image).ljust(len(block), b"\0")
        return self.segment.layout.frame(pfn)

    def _free_template(self, word: int) -> None:
        if word:
            layout, geometry = self.segment.layout, self.segment.geometry
            pfn = (word - layout.at["frames"]) // geometry.page_words
            order = (self.segment.ram[layout.descriptor(pfn)] >> c.ORDER_SHIFT) & c.ORDER_MASK
            self.free_pages(pfn, order)

    def _destroy(self, cache: Cache) -> None:
        self.check_open()
        self.check_writable("destroy")
        # The name goes first: after a success another cache may take the number at once.
        template = cache._word(cs.K_TEMPLATE)
        before = violation_count(self.segment)
        self.segment.ram[self._descriptor(cache.number) + cs.K_NAME] = 0
        self._rescuer.skipped.clear()
        result = self.run(cache_destroy, cache.number)
        if result == c.E_AGAIN:
            write_name(self.segment, cache.number, checked_name(cache.name))
            pids = ", ".join(map(str, sorted(self._rescuer.skipped)))
            raise MisuseError(
                f"cache {cache.name!r}: destroy: process {pids} holds one of its locks and does not"
                " run; destroy it again when that process continues, or has ended"
            )
        if result == c.E_BUSY:
            live = [v.where for v in violations(self.segment, before)]
            raise MisuseError(
                f"cache {cache.name!r}: destroy: objects are live ({', '.join(live) or 'in use'});"
                " free them, then destroy it again; nothing more can be allocated from it"
            )
        if result < 0:
            raise cache._refused(result, "destroy")
        self._free_template(template)

    def _alloc_objects(self, cache: Cache, count: int, gfp: int) -> list[int]:
        found: list[int] = []
        with self._lock:
            at, room = self._buffer()
            while len(found) < count:
                part = min(room, count - len(found))
                got = self.run(cache_alloc_bulk_gfp, cache.number, part, at, gfp)
                if got < 0:
                    self._free_objects(cache, found)
                    raise cache._refused(got, f"alloc_bulk({count})")
                found += self.segment.ram.array[at : at + got].tolist()
        return found

    def _free_objects(self, cache: Cache, addresses: Sequence[int]) -> int:
        words = self.check_ints("addresses", addresses)
        with self._lock:
            try:
                at, room = self._buffer(Gfp.MEMALLOC)
            except OutOfMemoryError:  # freeing memory must not need memory
                return sum(self.run(cache_free, cache.number, word) == 0 for word in words)
            freed = 0
            for first in range(0, len(words), room):
                part = words[first : first + room]
                self.segment.ram.array[at : at + len(part)] = part
                result = self.run(cache_free_bulk, cache.number, len(part), at)
                if result < 0:
                    raise cache._refused(result, f"free_bulk of {len(words)}")
                freed += result
        return freed
