"""Programs about the dict (shmalloc/structures/kernels/hashtable.py): a few keys, two buckets.

structure_dict_actions.py has what the CPUs do and what must hold.
"""

from __future__ import annotations

from dataclasses import replace

from shmalloc.dialect import Kernel
from shmalloc.memory import Ram
from shmalloc.structures.kernels.hashtable import (
    D_BUCKETS,
    D_HINT,
    E_CHANGES,
    E_DATA,
    E_HASH,
    NUMBER_BITS,
    USE_MASK,
    USED,
    WRITING,
    dict_place,
    dict_prepare,
    dict_shape,
)
from stress.machine.program import Program
from stress.programs.initial_state import catalogue
from stress.programs.structure_dict_actions import (
    BLOCK,
    CAME,
    DIGITS,
    FIRST,
    LEFT,
    STRIDE,
    accounted,
    begin_and_drop,
    count,
    entry_words,
    get,
    get_both,
    look_around,
    one_was_refused,
    put,
    put_then_drop,
    put_twice,
    put_value,
    reclaim_then_put,
    take,
    take_then_put,
)
from stress.programs.structure_world import BODY, NOTES, OVER, world

NAMES = {BODY + D_HINT: "hint", BODY + D_BUCKETS: "version", BODY + D_BUCKETS + 1: "chain"}


class Words:
    """The words of a table, prepared by the kernels themselves."""

    def __init__(self, entries: int, mask: int, keys: tuple[int, ...] = (), spare: int = 0) -> None:
        self.ram = Ram.of_words(NOTES + 64)
        dict_prepare(self.ram, BODY, entries, mask)
        dict_shape(self.ram, BODY, entries, STRIDE, 16, spare)
        dict_place(self.ram, BODY, 0, BLOCK, entries)
        for key in keys:
            put_value(self.ram, 0, key * DIGITS + FIRST, 0)
        self.ram[LEFT] = 0

    def use(self, number: int, use: int, life: int, hashed: int) -> Words:
        """Put an entry in some use, in the name of ``life``."""
        at = entry_words(number)
        self.ram[at] = self.ram[at] & ~USE_MASK | use
        self.ram[at + 1] = life
        self.ram[at + E_HASH] = hashed
        return self

    def announce(self, leaving: int, coming: int) -> Words:
        """A change of bucket 0 whose writer died behind its swap: the value has left already."""
        self.ram[CAME + self.ram[entry_words(leaving) + E_DATA]] = 0
        pair = BODY + D_BUCKETS
        self.ram[pair] += 1
        self.ram[pair + 1] |= leaving << NUMBER_BITS | coming << 2 * NUMBER_BITS
        return self

    @property
    def init(self) -> list[tuple[int, int]]:
        return [(at, int(self.ram[at])) for at in range(BODY, NOTES + 64) if self.ram[at]]


def table(
    name: str, threads: tuple[object, ...], story: str, words: Words, check: Kernel | None = None
) -> Program:
    holds = accounted if check is None else check
    names = dict(NAMES)
    for number in range(1, 5):
        at = entry_words(number)
        names |= {at: f"state of entry {number}", at + E_CHANGES + 1: f"link of entry {number}"}
    program = world(name, threads, holds, story, words.init, names)
    return replace(program, check_writes=True)


def dict_insert_insert(name: str) -> Program:
    return table(
        name,
        ((put, 1), (put, 1)),
        "two writers insert one key: the loser of the swap looks again, and replaces",
        Words(3, 0),
    )


def dict_insert_delete_read(name: str) -> Program:
    return table(
        name,
        ((take_then_put, 1, 2), (get, 1)),
        "a key goes, and another one gets its entry while a reader has it",
        Words(1, 1, (1,)),
    )


def dict_replace_read(name: str) -> Program:
    return table(
        name,
        ((put_twice, 1), (get, 1)),
        "a value is replaced twice, so the entry that a reader reads is written again",
        Words(2, 0, (1,)),
    )


def dict_replace_replace(name: str) -> Program:
    return table(
        name,
        ((put, 1), (put, 1)),
        "two writers replace one value: each of the values before it leaves the table once",
        Words(3, 0, (1,)),
    )


def dict_delete_delete(name: str) -> Program:
    return table(
        name,
        ((take, 1), (take, 1)),
        "two writers remove one key, which is not the first of its chain: one gets its value",
        Words(2, 0, (1, 2)),
    )


def dict_collision(name: str) -> Program:
    return table(
        name,
        ((take, 1), (put, 2)),
        "one bucket: the last of a chain is removed while the one in front of it is replaced",
        Words(3, 0, (1, 2)),
    )


def dict_collision_insert(name: str) -> Program:
    return table(
        name,
        ((take, 1), (put, 3)),
        "one bucket: the last of a chain is removed while a key comes in front",
        Words(3, 0, (1, 2)),
    )


def dict_collision_read(name: str) -> Program:
    return table(
        name,
        ((put, 1), (get_both, 2, 1)),
        "the last of a chain is replaced: a reader finds the old or the new, and its neighbour",
        Words(3, 0, (1, 2)),
    )


def dict_iterate_delete(name: str) -> Program:
    return table(
        name,
        ((look_around, 1), (take_then_put, 2, 3)),
        "an iteration meets a key once that is there all the time, whatever happens beside it",
        Words(2, 0, (1, 2)),
    )


def dict_length_insert(name: str) -> Program:
    return table(
        name,
        ((count, 2, 3), (put, 3)),
        "the keys of a table are counted while another writer puts one into the same chain",
        Words(3, 0, (1, 2)),
    )


def dict_full(name: str) -> Program:
    return table(
        name,
        ((put, 1), (put, 2)),
        "two new keys, room for one: the last entry stays free for replacements",
        Words(2, 1, spare=1),
        one_was_refused,
    )


def dict_give_up(name: str) -> Program:
    return table(
        name,
        ((begin_and_drop, 1), (put, 2)),
        "a writer gives its entry up, and another one takes and publishes it at once",
        Words(2, 1),
    )


def dict_give_up_late(name: str) -> Program:
    return table(
        name,
        ((put_then_drop, 1), (take, 1)),
        "a writer gives up what it has put already, while another one removes it",
        Words(2, 0),
    )


def dict_unpublished(name: str) -> Program:
    return table(
        name,
        ((reclaim_then_put, 1), (reclaim_then_put, 2)),
        "a dead writer has the only free entry: two living ones free it, one of them gets it",
        Words(2, 0, (1,)).use(2, WRITING, OVER, 2),
    )


def dict_published(name: str) -> Program:
    return table(
        name,
        ((reclaim_then_put, 1), (take, 1)),
        "a dead writer's entry is in its chain, and still says WRITING: it is no garbage",
        Words(2, 0, (1,)).use(1, WRITING, OVER, 1),
    )


def dict_unlinked(name: str) -> Program:
    return table(
        name,
        ((reclaim_then_put, 1), (put, 1)),
        "an entry left its chain, and the writer that should have freed it died",
        Words(3, 0, (1,)).use(2, USED, 0, 1),
    )


def dict_reclaim_put(name: str) -> Program:
    return table(
        name,
        ((put, 1), (reclaim_then_put, 2)),
        "an entry that a living writer is about to free is freed by another one, and used again",
        Words(2, 0, (1,)),
    )


def dict_announced(name: str) -> Program:
    return table(
        name,
        ((take, 1), (get, 2)),
        "a writer died between its swap and the change of the link: both others finish it",
        Words(2, 0, (1, 2)).announce(1, 0),
    )


def dict_reuse(name: str) -> Program:
    return table(
        name,
        ((take, 1), (put, 4)),
        "an entry leaves the end of one bucket's chain, and comes into another bucket's",
        Words(3, 1, (2, 1, 3)),
    )


def dict_late(name: str) -> Program:
    return table(
        name,
        ((take_then_put, 2, 1), (get, 3)),
        "a reader finishes a change for its writer and is late: the entry that left stands behind"
        " the same one again, and stays",
        Words(3, 0, (1, 2, 3)),
    )


def dict_stale_3(name: str) -> Program:
    return table(
        name,
        ((take, 1), (get, 2), (take_then_put, 2, 3)),
        "two writers and a reader in one bucket: each may finish what another one began",
        Words(2, 0, (1, 2)),
    )


PROGRAMS = catalogue(
    "structure",
    dict_insert_insert,
    dict_insert_delete_read,
    dict_replace_read,
    dict_replace_replace,
    dict_delete_delete,
    dict_collision,
    dict_collision_insert,
    dict_collision_read,
    dict_iterate_delete,
    dict_length_insert,
    dict_full,
    dict_give_up,
    dict_give_up_late,
    dict_unpublished,
    dict_published,
    dict_unlinked,
    dict_reclaim_put,
    dict_announced,
    dict_reuse,
    dict_late,
    dict_stale_3,
)
CHECKS = {"structure-dict-full": one_was_refused}  # the others have ``accounted``
