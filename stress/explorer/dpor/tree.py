"""Wakeup trees: the sequences to try before an event, as ordered trees of branches.

Abdulla, Aronis, Jonsson, Sagonas: Source sets (JACM 2017). A branch is an access record, its first
child and its next sibling; branches come from a pool after the depths (search.py). Inserting a
sequence v into a tree descends along branches that v may begin with; if it ends at a leaf, that
leaf already covers v; if no branch fits, the rest of v becomes a new chain at the end.

A sequence is a list of pointers to access records: events of the running schedule and, as its last
one, the later side of a race as it would be without the earlier side (scratch record).
"""

from __future__ import annotations

from shmalloc.engine.control import scheduler
from shmalloc.units import Control
from stress.explorer.dpor.clocks import AREA_END, EVENTS, before
from stress.explorer.dpor.records import (
    ACTOR,
    BRANCHES_DONE,
    ELSEWHERE,
    EMPTY,
    ENABLER,
    KIND1,
    RECORD,
    RESUMED,
    ROOT,
    SLEEPING,
    VALUES,
    breaks,
    copy_record,
    dependent,
    depth_at,
    sleeper_at,
)
from stress.machine import block as cb

POOL_AT = 115
POOL_FREE = 116  # first branch of the list of free ones
POOL_NEXT = 117  # the pool from here on was never used
POOL_END = 118
POOL_EMPTY = 119  # 1: a branch was needed and there was none
SEQUENCE_AT = 120  # pointers
SEQUENCE = 121  # its length
SCRATCH = 122  # the record of the last one
LAST_INDEX = 123  # the event of the scratch record
NEXT = 125  # the next step behind the later side that may join the sequence
RACE_START = 126  # the earlier side
RELIED = 127  # mask: what the last answer relied on not being touched
LATEST_RELIED = 98  # the last step behind the later side that it used; -1: none

CHILD = RECORD
SIBLING = RECORD + 1
BRANCH = RECORD + 2


@scheduler
def lay_out_tree(ctl: Control, step_limit: int, end: int) -> None:
    ctl[SCRATCH] = ctl[AREA_END]
    ctl[SEQUENCE_AT] = ctl[SCRATCH] + RECORD
    ctl[POOL_AT] = ctl[SEQUENCE_AT] + step_limit + 2
    ctl[POOL_NEXT] = ctl[POOL_AT]
    ctl[POOL_END] = end
    ctl[POOL_FREE] = 0


@scheduler
def new_branch(ctl: Control, record: int) -> int:
    """A branch for ``record``; 0 if the pool is used up."""
    branch = ctl[POOL_FREE]
    if branch != 0:
        ctl[POOL_FREE] = ctl[branch + SIBLING]
    elif ctl[POOL_NEXT] + BRANCH <= ctl[POOL_END]:
        branch = ctl[POOL_NEXT]
        ctl[POOL_NEXT] += BRANCH
    else:
        ctl[POOL_EMPTY] = 1
        return 0
    copy_record(ctl, branch, record)
    ctl[branch + CHILD] = 0
    ctl[branch + SIBLING] = 0
    return branch


@scheduler
def free_branch(ctl: Control, branch: int) -> None:
    ctl[branch + SIBLING] = ctl[POOL_FREE]
    ctl[POOL_FREE] = branch


@scheduler
def take_first(ctl: Control, depth: int, below: int) -> int:
    """Detach the first branch before the event at ``depth``; its children go to ``below``."""
    branch = ctl[depth + ROOT]
    ctl[depth + ROOT] = ctl[branch + SIBLING]
    ctl[below + ROOT] = ctl[branch + CHILD]
    actor = ctl[branch + ACTOR]
    ctl[depth + VALUES] = ctl[branch + VALUES]
    free_branch(ctl, branch)
    return actor


@scheduler
def free_tree(ctl: Control, root: int) -> None:
    """Give a whole tree back to the pool, without recursion: children move up into the list."""
    branch = root
    while branch != 0:
        child = ctl[branch + CHILD]
        if child != 0:
            last = child
            while ctl[last + SIBLING] != 0:
                last = ctl[last + SIBLING]
            ctl[last + SIBLING] = ctl[branch + SIBLING]
            ctl[branch + SIBLING] = child
        following = ctl[branch + SIBLING]
        free_branch(ctl, branch)
        branch = following


# --- sequences -----------------------------------------------------------------------------------
@scheduler
def start_sequence(ctl: Control, earlier: int, later: int) -> None:
    """An empty sequence for the race of two steps."""
    ctl[SEQUENCE] = 0
    ctl[RACE_START] = earlier
    ctl[LAST_INDEX] = later
    ctl[NEXT] = later + 1
    ctl[RELIED] = 0
    ctl[LATEST_RELIED] = -1


@scheduler
def add_to_sequence(ctl: Control, record: int) -> None:
    ctl[ctl[SEQUENCE_AT] + ctl[SEQUENCE]] = record
    ctl[SEQUENCE] += 1


@scheduler
def grow(ctl: Control) -> int:
    """Add the next step behind the later side that the earlier one does not precede: 0 if there is
    none."""
    while ctl[NEXT] < ctl[EVENTS]:
        event = depth_at(ctl, ctl[NEXT])
        ctl[NEXT] += 1
        if before(ctl, ctl[RACE_START], event) == 0:
            add_to_sequence(ctl, event)
            return 1
    return 0


@scheduler
def entry(ctl: Control, k: int) -> int:
    return ctl[ctl[SEQUENCE_AT] + k]


@scheduler
def position_of(ctl: Control, actor: int) -> int:
    """Place of the first record of ``actor`` in the sequence; -1: it has none."""
    for k in range(ctl[SEQUENCE]):
        if ctl[entry(ctl, k) + ACTOR] == actor:
            return k
    return -1


@scheduler
def index_of(ctl: Control, record: int) -> int:
    """The step of an event in the sequence."""
    if record == ctl[SCRATCH]:
        return ctl[LAST_INDEX]
    first = depth_at(ctl, 0)
    return (record - first) // (depth_at(ctl, 1) - first)


@scheduler
def comes_before_last(ctl: Control, index: int) -> int:
    """1 if step ``index`` comes before the last step of the sequence, on which it does not depend.

    The clock of a heavy fence also has what comes before the flush that it waited for. In the
    sequence there is no such flush, nor the store: there only what enabled the fence counts.
    """
    last = depth_at(ctl, ctl[LAST_INDEX])
    if ctl[last + KIND1] != EMPTY or ctl[last + RESUMED] != 0:
        return before(ctl, index, last)
    enabler = ctl[last + ENABLER] - 1
    if enabler < 0 or index == enabler:
        return 1 if index == enabler else 0
    return before(ctl, index, depth_at(ctl, enabler))


@scheduler
def begins(ctl: Control, position: int) -> int:
    """1 if nothing in the sequence has to come before the record at ``position``."""
    record = entry(ctl, position)
    for k in range(position):
        other = entry(ctl, k)
        if record == ctl[SCRATCH]:
            if dependent(ctl, other, record) == 1:
                return 0
            if comes_before_last(ctl, index_of(ctl, other)) == 1:
                return 0
        elif before(ctl, index_of(ctl, other), record) == 1:
            return 0
    return 1


@scheduler
def independent_of_all(ctl: Control, record: int) -> int:
    for k in range(ctl[SEQUENCE]):
        if dependent(ctl, record, entry(ctl, k)) == 1:
            return 0
    return 1


@scheduler
def drop(ctl: Control, position: int) -> None:
    """Take one record out of the sequence."""
    ctl[SEQUENCE] -= 1
    for k in range(position, ctl[SEQUENCE]):
        ctl[ctl[SEQUENCE_AT] + k] = entry(ctl, k + 1)


@scheduler
def may_begin(ctl: Control, record: int) -> int:
    """Whether the actor of ``record`` may begin the sequence: 0 no, 1 with its own step of the
    sequence, 2 with ``record``, which no step of the sequence depends on.

    That needs the whole schedule: as long as nothing in the sequence speaks against it, the
    sequence grows by what comes behind the later side of the race.
    """
    position = position_of(ctl, ctl[record + ACTOR])
    if position < 0 and independent_of_all(ctl, record) == 0:
        return 0
    while position < 0:
        if grow(ctl) == 0:
            ctl[RELIED] |= breaks(ctl, record)
            return 2
        added = entry(ctl, ctl[SEQUENCE] - 1)
        if ctl[added + ACTOR] == ctl[record + ACTOR]:
            position = ctl[SEQUENCE] - 1
        elif dependent(ctl, record, added) == 1:
            return 0
    if ctl[entry(ctl, position) + VALUES] & ctl[record + VALUES] == 0:
        return 0  # another outcome of the same choice
    if begins(ctl, position) == 0:
        return 0
    index = index_of(ctl, entry(ctl, position))
    if index > ctl[LAST_INDEX]:
        ctl[LATEST_RELIED] = max(ctl[LATEST_RELIED], index)
    return 1


@scheduler
def covered_by_sleepers(ctl: Control, depth: int) -> int:
    """1 if an actor that was tried before could begin the sequence: it has been explored.

    One that another search tries covers nothing: that search knows only its own races.
    """
    mask = ctl[depth + SLEEPING] & ~ctl[depth + ELSEWHERE]
    for actor in range(ctl[cb.ACTORS]):
        if mask >> actor & 1 == 1 and may_begin(ctl, sleeper_at(ctl, depth, actor)) != 0:
            return 1
    return 0


@scheduler
def left_to_others(ctl: Control, depth: int) -> int:
    """Take out of the sequence what begins with a step that a search of another part tries.

    1 if the later side of the race goes with it: that search reverses the race.
    """
    mask = ctl[depth + SLEEPING] & ctl[depth + ELSEWHERE]
    for actor in range(ctl[cb.ACTORS] if mask != 0 else 0):
        position = position_of(ctl, actor) if mask >> actor & 1 == 1 else -1
        if position >= 0:
            tried = ctl[sleeper_at(ctl, depth, actor) + VALUES]
            same = ctl[entry(ctl, position) + VALUES] & tried != 0
            if same and begins(ctl, position) == 1 and take_out(ctl, position) == 1:
                return 1
    return 0


@scheduler
def take_out(ctl: Control, first: int) -> int:
    """Drop the record at ``first`` and all that have to come behind it; 1 if the scratch record is
    one of them."""
    taken = entry(ctl, first)
    if taken == ctl[SCRATCH]:
        return 1
    index = index_of(ctl, taken)
    position = first + 1
    while position < ctl[SEQUENCE]:
        record = entry(ctl, position)
        if record == ctl[SCRATCH]:
            if dependent(ctl, taken, record) == 1:
                return 1
            if comes_before_last(ctl, index) == 1:
                return 1
            position += 1
        elif before(ctl, index, record) == 1:
            drop(ctl, position)
        else:
            position += 1
    drop(ctl, first)
    return 0


@scheduler
def matching_branch(ctl: Control, first: int) -> int:
    """The first of ``first`` and its siblings that the sequence may begin with; 0: none.

    If the sequence contains the actor of the branch, remove its step from the sequence.
    """
    branch = first
    while branch != 0:
        how = may_begin(ctl, branch)
        if how == 1:
            drop(ctl, position_of(ctl, ctl[branch + ACTOR]))
        if how != 0:
            return branch
        branch = ctl[branch + SIBLING]
    return 0


@scheduler
def insert(ctl: Control, depth: int) -> int:
    """Insert the sequence into the tree before the event at ``depth``; 1 if it was new."""
    parent = 0
    first = ctl[depth + ROOT]
    while True:
        branch = matching_branch(ctl, first)
        if branch == 0:
            break
        if ctl[branch + CHILD] == 0 or ctl[SEQUENCE] == 0:
            return 0
        parent = branch
        first = ctl[branch + CHILD]
    append_chain(ctl, depth, parent)
    return 1


@scheduler
def append_chain(ctl: Control, depth: int, parent: int) -> None:
    """Append the rest of the sequence as the last child of ``parent`` (0: of the tree)."""
    for k in range(ctl[SEQUENCE]):
        branch = new_branch(ctl, entry(ctl, k))
        if branch == 0:
            return
        slot = depth + ROOT if parent == 0 else parent + CHILD
        if ctl[slot] == 0:
            ctl[slot] = branch
        else:
            last = ctl[slot]
            while ctl[last + SIBLING] != 0:
                last = ctl[last + SIBLING]
            ctl[last + SIBLING] = branch
        parent = branch
        depth = 0


@scheduler
def branches_left(ctl: Control, depth: int) -> int:
    count = 0
    branch = ctl[depth + ROOT]
    while branch != 0:
        count += 1
        branch = ctl[branch + SIBLING]
    return count + ctl[depth + BRANCHES_DONE]
