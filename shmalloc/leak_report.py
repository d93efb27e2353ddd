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
from shmalloc.sizes import format_bytes

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
class LeakSite:
    """What one call site still has allocated of one kind.

    ``count``, ``bytes``: estimates of all; ``sampled``: the allocations that were seen.
    ``oldest_s``: age of the oldest of these; None: not known. ``stack``: innermost frame first.
    """

    what: str
    count: int
    bytes: int
    sampled: int
    oldest_s: float | None
    holders: tuple[Holder, ...]
    stack: tuple[str, ...]

    @property
    def line(self) -> str:
        """In one line: how many, where, and who holds them."""
        where = " < ".join(self.stack[:2]) or NO_STACK
        held = ", ".join(map(str, self.holders))
        return f"allocated by {where}: {self.count:,} of {self.what}, held by {held}"

    def __str__(self) -> str:
        age = "?" if self.oldest_s is None else f"{self.oldest_s:.1f} s"
        head = (
            f"{self.count:,} of {self.what}, {format_bytes(self.bytes)} ({self.sampled} sampled),"
            f" the oldest {age} old, held by {', '.join(map(str, self.holders))}"
        )
        return "\n".join([head, *(f"    {line}" for line in self.stack or (NO_STACK,))])


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
    groups: dict[tuple[str, tuple[str, ...]], list[Sample]] = {}
    for one in owner.samples():
        if one.is_object or not _is_internal(one.owner):
            groups.setdefault((_what(one, owner, word), one.stack), []).append(one)
    found = (_site(owner, word, is_held, *key, group) for key, group in groups.items())
    ordered = sorted(found, key=lambda site: (-site.bytes, site.stack))
    return LeakReport(tuple(ordered), owner.rate, owner.lost)


def _site(
    owner: PageOwner,
    word: Callable[[int], int],
    is_held: Callable[[int], bool],
    what: str,
    stack: tuple[str, ...],
    group: list[Sample],
) -> LeakSite:
    holders = {_holder(owner, word, is_held, one) for one in group}
    ages = [age for age in map(owner.age_s, group) if age is not None]
    return LeakSite(
        what=what,
        count=round(sum(one.weight for one in group)),
        bytes=round(sum(one.weight * one.bytes for one in group)),
        sampled=len(group),
        oldest_s=max(ages, default=None),
        holders=tuple(sorted(holders, key=lambda holder: (holder.alive, holder.pid))),
        stack=stack,
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


def _what(one: Sample, owner: PageOwner, word: Callable[[int], int]) -> str:
    if one.is_object:
        return f"cache {cache_name(word, owner, one.owner)}"
    if one.owner & c.OWNER_ARRAY:
        return f"arrays, blocks of order {one.order}"
    return f"pages, order {one.order}"


def _is_internal(word: int) -> bool:
    """Whether pages with this owner word are a part of the allocator."""
    return is_reserved_owner(word) and word != cs.OWNER_LARGE
