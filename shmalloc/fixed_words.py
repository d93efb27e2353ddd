"""The words of a segment that never change while it lives, compared with what they must be.

They follow from the geometry: the header, the geometry's own text, the fixed words of zones,
fallback orders, CPU slots and per-CPU lists, and the descriptors of pages that no zone manages.
``image.py`` says what each is, here into a table instead of a segment. Six more words of the header
are particular to one segment (``IDENTITY``); a process remembers them from when it made or attached
it. This needs no kernel: kernels follow these words without a look, so an audit compares them
first, and goes no further if one is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from shmalloc import constants as c
from shmalloc.errors import Violation
from shmalloc.image import placed_on, write_fixed
from shmalloc.invariants import name_of
from shmalloc.layout import Layout
from shmalloc.memory import Ram
from shmalloc.word_names import WordNames

IDENTITY = (
    c.H_DIGEST,
    c.H_OWNER_PID,
    c.H_OWNER_START,
    c.H_OWNER_NAMESPACE,
    c.H_SEGMENT_ID,
    c.H_MADE_S,
)
NAMED_AT_MOST = 16  # wrong words that one look reports one by one


def identity_of(ram: Ram) -> dict[int, int]:
    """The words that tell this segment from others, as they are now."""
    return {word: int(ram[word]) for word in IDENTITY}


@dataclass(frozen=True)
class FixedWords:
    """The fixed words of one segment: their places, and the value of each."""

    layout: Layout
    places: np.ndarray
    values: np.ndarray

    @classmethod
    def of(cls, layout: Layout, identity: Mapping[int, int]) -> FixedWords:
        """All that follow from ``layout``, and the ``identity`` of the segment."""
        table: dict[int, int] = {}
        write_fixed(table, layout)
        table |= {c.H_MAGIC: c.MAGIC, **identity}
        places = np.array(sorted(table), dtype=np.int64)
        values = np.array([table[int(place)] for place in places], dtype=np.int64)
        return cls(layout, places, values)

    def violations(self, ram: Ram) -> list[Violation]:
        """One for each word that is not what it must be (the first ones, if there are many)."""
        found = ram.array[self.places]
        wrong = np.flatnonzero(found != self.values)
        names = WordNames(self.layout)
        if not wrong.size:
            return misplaced_claims(ram, self.layout) + unheard(ram, self.layout, False)
        return [
            Violation(
                name_of(c.I_FIXED),
                names.name(int(self.places[i])),
                f"{int(self.values[i]):#x}",
                f"{int(found[i]):#x}",
            )
            for i in wrong[:NAMED_AT_MOST]
        ] + unheard(ram, self.layout, bool(wrong.size))


def misplaced_claims(ram: Ram, layout: Layout) -> list[Violation]:
    """Claims whose records lead to lists that are not their CPU's; kernels follow these words."""
    geometry, used, names = layout.geometry, int(ram[c.H_CLAIMS_USED]), WordNames(layout)
    if not geometry.cpus <= used <= geometry.claims:
        expected = f"{geometry.cpus} to {geometry.claims}"
        return [Violation(name_of(c.I_FIXED), names.name(c.H_CLAIMS_USED), expected, f"{used}")]
    wrong = []
    for number in range(used):
        at = layout.cpu(number)
        if number < geometry.cpus or ram[at + c.C_EPOCH] & 1:
            cpu = int(ram[at + c.C_CPU])
            known = cpu if 0 <= cpu < geometry.cpus else 0
            wrong += [
                (at + word, value)
                for word, value in placed_on(layout, known).items()
                if ram[at + word] != value
            ]
            way = ways_to_lock(layout, number, cpu, int(ram[at + c.C_EPOCH]))
            if ram[at + c.C_EPOCH] & 1 and ram[at + c.C_LOCKS] != way:
                wrong.append((at + c.C_LOCKS, way))
    return [
        Violation(name_of(c.I_FIXED), names.name(word), f"{value:#x}", f"{int(ram[word]):#x}")
        for word, value in wrong[:NAMED_AT_MOST]
    ]


def ways_to_lock(layout: Layout, claim: int, cpu: int, epoch: int) -> int:
    """What C_LOCKS of a claim in life ``epoch`` is (``settle_on`` in kernels/slots.py)."""
    if not layout.geometry.biased_locks:
        return c.LOCKS_PLAIN
    return epoch << c.LIFE_EPOCH_SHIFT | c.LOCK_OPEN if claim == cpu else c.LOCKS_GUEST


def unheard(ram: Ram, layout: Layout, misplaced: bool) -> list[Violation]:
    """Whether the count of reports is that of the reports in the table; not if it is ``misplaced``.

    A count that is too high would lose every later report.
    """
    if misplaced:
        return []
    at, count = layout.at["reports"], int(ram[c.H_REPORT_COUNT])
    ready = ram.array[at + c.R_READY : at + c.REPORTS * c.R_STRIDE : c.R_STRIDE]
    kept = int(np.count_nonzero(ready))
    if kept == min(count, c.REPORTS) and count >= 0:
        return []
    name = WordNames(layout).name(c.H_REPORT_COUNT)
    return [Violation(name_of(c.I_FIXED), name, f"{kept} reports", f"{count} reports")]
