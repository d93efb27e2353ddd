"""Mutants: our own kernels with one defect each, to find out what the hunter finds.

``MUTANTS`` by name, in the order of the catalogue. A stress framework is worth what it finds; a
mutant that survives is a missing program, oracle or invariant, or it is equivalent, and then the
argument stands beside it (mutant.py). The original kernels must pass the same hunt.
"""

from __future__ import annotations

from stress.mutants import (
    buddy,
    bulk,
    contig,
    dicts,
    locks,
    nowait,
    operations,
    pcp,
    reclaim,
    recovery,
    reviewed,
    slab,
    stores,
    structures,
    watermarks,
)
from stress.mutants.mutant import Mutant, MutantError

# Parts, in the order of the table.
PARTS: dict[str, tuple[Mutant, ...]] = {
    "buddy": buddy.MUTANTS,
    "stores": stores.MUTANTS,
    "per-CPU": pcp.MUTANTS,
    "bulk": bulk.MUTANTS,
    "locks": locks.MUTANTS,
    "slab": slab.MUTANTS,
    "ranges": contig.MUTANTS,
    "recovery": recovery.MUTANTS,
    "watermarks": watermarks.MUTANTS,
    "nowait": nowait.MUTANTS,
    "operations": operations.MUTANTS,
    "reclaim": reclaim.MUTANTS,
    "reviewed": reviewed.MUTANTS,
    "structures": (*structures.MUTANTS, *dicts.MUTANTS),
}
MUTANTS: dict[str, Mutant] = {mutant.name: mutant for part in PARTS.values() for mutant in part}
CANARY = "put-to-a-full-slab"  # the hunter is broken where it does not find this one

__all__ = ["CANARY", "MUTANTS", "PARTS", "Mutant", "MutantError"]
