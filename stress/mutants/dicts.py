"""Mutants of the dict: its table, the changes of it, and the arrays that it has."""

from __future__ import annotations

from stress.mutants.mutant import Mutant
from stress.mutants.structures import NO_WORKLOAD

TABLE = "shmalloc/structures/kernels/hashtable.py"
WRITES = "shmalloc/structures/kernels/hashtable_writes.py"
VALUES = "shmalloc/structures/kernels/array_values.py"
ENTRIES = "shmalloc/structures/kernels/entries.py"

MUTANTS = (
    Mutant(
        "read-unchecked",
        TABLE,
        (
            (
                "    unchanged: bool = load(mem, bucket) == version\n",
                "    unchanged: bool = load(mem, bucket) >= 0 * version\n",
            ),
        ),
        "a reader believes what it read, though its key went and another one got its entry",
        "X_PAYLOAD",
        ("structure-dict-insert-delete-read",),
        unseen=NO_WORKLOAD,
    ),
    Mutant(
        "link-uncounted",
        TABLE,
        (
            (
                "            cas2(mem, link, changes, leaving, changes + 1, following)\n",
                "            cas2(mem, link, changes, leaving, changes, following)\n",
            ),
        ),
        "a link has no count of its changes: a CPU that is late with another's change repeats it"
        " when the same entry stands there again",
        "X_PAYLOAD",
        ("structure-dict-late",),
        unseen=NO_WORKLOAD,
    ),
    Mutant(
        "settled-unlooked",
        TABLE,
        (
            (
                "    if load(mem, bucket) == version:\n        if link != 0:\n",
                "    if load(mem, bucket) >= 0:\n        if link != 0:\n",
            ),
        ),
        "a CPU finishes a change by what it read, without a look whether that was still due",
        "X_PAYLOAD",
        ("structure-dict-late",),
        unseen=NO_WORKLOAD,
    ),
    Mutant(
        "compared-before",
        WRITES,
        (
            (
                "    if found != version or not is_settled(head):\n",
                "    if found < version or not is_settled(head):\n",
            ),
            (
                "    if not cas2(mem, bucket, version, head, version + 1, chain):\n",
                "    if not cas2(mem, bucket, found, head, found + 1, chain):\n",
            ),
        ),
        "a writer changes the bucket as it is now by what it compared before: a key comes twice",
        "X_PAYLOAD",
        ("structure-dict-insert-insert",),
        unseen=NO_WORKLOAD,
    ),
    Mutant(
        "freed-in-the-chain",
        WRITES,
        (
            (
                "    if not is_settled(chain):\n        settle_bucket(mem, d, bucket)\n",
                "",
            ),
        ),
        "an entry is freed while its chain still leads to it: another key gets it there",
        "X_PAYLOAD",
        ("structure-dict-reuse",),
        unseen=NO_WORKLOAD,
    ),
    Mutant(
        "left-too-late",
        WRITES,
        (
            (
                "        left = load(mem, entry_of(mem, d, old)) >> USE_BITS\n",
                "",
            ),
            (
                "    return retire(mem, claim, d, old, left) if old != 0 else 0\n",
                "    if old != 0:\n"
                "        left = load(mem, entry_of(mem, d, old)) >> USE_BITS\n"
                "    return retire(mem, claim, d, old, left) if old != 0 else 0\n",
            ),
        ),
        "a writer asks for the version of what it replaced when that has left: another CPU freed"
        " it meanwhile, and it frees what a third one writes there",
        "I_PROGRESS",
        ("structure-dict-reclaim-put",),
        unseen=NO_WORKLOAD,
    ),
    Mutant(
        "dead-means-unpublished",
        WRITES,
        (
            (
                "    elif not is_linked(mem, d, number):\n",
                "    elif use == WRITING or not is_linked(mem, d, number):\n",
            ),
        ),
        "the entry of a writer that died behind its swap is taken for garbage",
        "I_PROGRESS",
        ("structure-dict-published",),
        unseen=NO_WORKLOAD,
    ),
    Mutant(
        "orphan-entries-stay",
        WRITES,
        (
            (
                "    elif not is_linked(mem, d, number):\n",
                "    elif use == WRITING and not is_linked(mem, d, number):\n",
            ),
        ),
        "a writer dies between its swap and the freeing of what it replaced: no process frees it",
        "I_PROGRESS",
        ("structure-dict-unlinked",),
        unseen=NO_WORKLOAD,
    ),
    Mutant(
        "spare-entry-taken",
        WRITES,
        (
            (
                "    if old == 0 and not has_spare(mem, d):\n",
                "    if old < 0 and not has_spare(mem, d):\n",
            ),
        ),
        "a new key takes the entry by which those that are there would be replaced",
        "X_PAYLOAD",
        ("structure-dict-full",),
        unseen=NO_WORKLOAD,
    ),
    Mutant(
        "array-of-a-dict-kept",
        ENTRIES,
        (
            (
                "    if end_arrays(mem, claim, at) < 0:\n",
                "    if claim < 0 and end_arrays(mem, claim, at) < 0:\n",
            ),
        ),
        "a dict is destroyed and its arrays are not dropped: no process can free them any more",
        "I_CONSERVATION",
        ("structure-dict-array-destroy",),
        unseen=NO_WORKLOAD,
    ),
    Mutant(
        "array-dropped-before-noted",
        VALUES,
        (
            (
                "        drop_ticket(mem, record, sequence, named - 1, generation)\n"
                "        drop_array(mem, claim, slot, number)\n",
                "        store(mem, record, 0 * sequence)\n"
                "        drop_array(mem, claim, slot, number)\n",
            ),
        ),
        "the record of a dict's array is erased, and the array still counts it",
        "I_CONSERVATION",
        ("structure-dict-array-put-remove",),
        unseen=NO_WORKLOAD,
    ),
)
