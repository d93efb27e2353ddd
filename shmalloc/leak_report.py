"""``LeakReport``: what is still allocated, by the call that allocated it.

Made of sampled allocations (page_owner.py), so counts and bytes are estimates, scaled up from the
sample to all; with a rate of 1 they are exact. The allocator's own pages (slabs, sheaves, tables,
structures, images of constructors) are left out: an object counts, not the slab that it lies in.
Whether a process is dead says its claim, as for recovery.

What this does not do: say that something is a leak. What is allocated on purpose is shown as well;
the oldest, and what the dead hold, are the suspects.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from shmalloc import constants as c
from shmalloc import constants_slab as cs
from shmalloc.page_owner import PageOwner, Sample
from shmalloc.page_owner_text import cache_name
from shmalloc.pages import is_reserved_owner
from shmalloc.sizes import counted, format_bytes

NO_STACK = "(its process died before the stack was saved, or the depot is full)"


@dataclass(frozen=True)
class Holder:
    """A process that holds some of it; ``pid`` 0: one that took it over and is gone."""

    pid: int
    alive: bool

    def __str__(self) -> str:
        name = f"pid {self.pid}" if self.pid else "a process that took it over"
        return f"{name} ({'alive' if self.alive else 'dead'})"


@dataclass(frozen=True)
class LeakPart:
    """What one process holds of one kind, of a call site: so many ``one``, or ``many``.

    ``count``, ``pages``, ``bytes``: estimates of all; ``sampled``: the allocations that were seen.
    """

    one: str
    many: str
    count: int
    pages: int
    bytes: int
    sampled: int
    holder: Holder

    @property
    def told(self) -> str:
        """``50 blocks of order 2``."""
        return counted(self.count, self.one, self.many)

    def __str__(self) -> str:
        return f"{self.told}, {format_bytes(self.bytes)}, held by {self.holder}"


@dataclass(frozen=True)
class LeakSite:
    """What one call site still has allocated, the largest part first.

    ``oldest_s``: age of the oldest that was seen, None: not known. ``stack``: innermost first.
    """

    parts: tuple[LeakPart, ...]
    oldest_s: float | None
    stack: tuple[str, ...]

    @property
    def count(self) -> int:
        return sum(part.count for part in self.parts)

    @property
    def pages(self) -> int:
        """Pages of its blocks; objects lie in slabs, which are not counted."""
        return sum(part.pages for part in self.parts)

    @property
    def bytes(self) -> int:
        return sum(part.bytes for part in self.parts)

    @property
    def sampled(self) -> int:
        return sum(part.sampled for part in self.parts)

    @property
    def holders(self) -> tuple[Holder, ...]:
        """The processes that hold it, the dead first."""
        found = {part.holder for part in self.parts}
        return tuple(sorted(found, key=lambda holder: (holder.alive, holder.pid)))

    @property
    def total(self) -> str:
        """``6.4MiB, 1,648 pages, in 412 allocations``."""
        pages = f", {counted(self.pages, 'page')}," if self.pages else ""
        return f"{format_bytes(self.bytes)}{pages} in {counted(self.count, 'allocation')}"

    @property
    def line(self) -> str:
        """In one line: how many, where, and who holds them."""
        where = " < ".join(self.stack[:2]) or NO_STACK
        kinds = ", ".join(dict.fromkeys(part.told for part in self.parts))
        held = ", ".join(map(str, self.holders))
        return f"allocated by {where}: {self.total} ({kinds}), held by {held}"

    def __str__(self) -> str:
        age = "?" if self.oldest_s is None else f"{self.oldest_s:.1f} s"
        head = f"{self.total} ({self.sampled:,} sampled), the oldest {age} old"
        frames = (f"    {line}" for line in self.stack or (NO_STACK,))
        return "\n".join([head, *(f"  {part}" for part in self.parts), *frames])


@dataclass(frozen=True)
class LeakReport:
    """All sites, those with most bytes first. ``rate``: one page, or object, in so many is sampled.

    ``lost``: samples that found no room, and are missing.
    """

    sites: tuple[LeakSite, ...]
    rate: int
    lost: int

    def __str__(self) -> str:
        exact = "every allocation is sampled"
        scaled = f"one page, or object, in {self.rate} is sampled; the numbers are scaled up to all"
        lost = f"; {self.lost:,} samples found no room and are missing" if self.lost else ""
        head = f"still allocated, by call site ({exact if self.rate == 1 else scaled}{lost})"
        return "\n".join([head, *map(str, self.sites)] if self.sites else [head, "nothing"])


def leak_report(
    owner: PageOwner, word: Callable[[int], int], is_held: Callable[[int], bool]
) -> LeakReport:
    """The report of a segment now. ``word``: one of its words; ``is_held``: whether a process lives
    that holds a claim."""
    groups: dict[tuple[str, ...], list[Sample]] = {}
    for one in owner.samples():
        if one.is_object or not _is_internal(one.owner):
            groups.setdefault(one.stack, []).append(one)
    found = (_site(owner, word, is_held, stack, group) for stack, group in groups.items())
    ordered = sorted(found, key=lambda site: (-site.bytes, site.stack))
    return LeakReport(tuple(ordered), owner.rate, owner.lost)


def _site(
    owner: PageOwner,
    word: Callable[[int], int],
    is_held: Callable[[int], bool],
    stack: tuple[str, ...],
    group: list[Sample],
) -> LeakSite:
    kinds: dict[tuple[str, str, Holder], list[Sample]] = {}
    for one in group:
        holder = _holder(owner, word, is_held, one)
        kinds.setdefault((*_names(one, owner, word), holder), []).append(one)
    parts = [_part(*kind, samples) for kind, samples in kinds.items()]
    ages = [age for age in map(owner.age_s, group) if age is not None]
    return LeakSite(
        parts=tuple(sorted(parts, key=lambda part: (-part.bytes, part.one, part.holder.pid))),
        oldest_s=max(ages, default=None),
        stack=stack,
    )


def _part(one: str, many: str, holder: Holder, samples: list[Sample]) -> LeakPart:
    return LeakPart(
        one=one,
        many=many,
        count=round(sum(sample.weight for sample in samples)),
        pages=round(sum(sample.weight * sample.pages for sample in samples)),
        bytes=round(sum(sample.weight * sample.bytes for sample in samples)),
        sampled=len(samples),
        holder=holder,
    )


def _holder(
    owner: PageOwner, word: Callable[[int], int], is_held: Callable[[int], bool], one: Sample
) -> Holder:
    """The process of the life that holds it, which need not be the one that allocated it."""
    if not 0 <= one.claim < owner.layout.geometry.claims:
        return Holder(0, alive=False)
    at = owner.layout.cpu(one.claim)
    same = (word(at + c.C_EPOCH) ^ one.epoch) & c.LABEL_EPOCH_MASK == 0
    alive = same and is_held(one.claim)
    return Holder(word(at + c.C_PID) if alive else one.pid if not one.adopted else 0, alive)


def _names(one: Sample, owner: PageOwner, word: Callable[[int], int]) -> tuple[str, str]:
    """What it is called, one and many of it."""
    if one.is_object:
        of = f"of cache {cache_name(word, owner, one.owner)}"
        return f"object {of}", f"objects {of}"
    of = f"of order {one.order}"
    if one.owner & c.OWNER_ARRAY:
        return f"block of an array, {of}", f"blocks of arrays, {of}"
    return f"block {of}", f"blocks {of}"


def _is_internal(word: int) -> bool:
    """Whether pages with this owner word are a part of the allocator."""
    return is_reserved_owner(word) and word != cs.OWNER_LARGE
