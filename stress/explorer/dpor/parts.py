"""Parts of a search by DPOR: what one search hands over so that others go on with it.

A *part* is a path of steps with a *floor*. The search of a part leaves the steps before its floor
as they are, and explores the rest: all classes that begin with them, but for those that a sleeping
actor can begin. The states above the floor are *shared*: subtrees.py has all of them, and hands out
their other children.

No two parts have a class in common, because the children of a shared state are put in an order, and
those in front sleep in those behind them. And nothing is lost, though no search hears of the races
of another one:

- A sleeper that another search explores (ELSEWHERE, records.py) keeps a schedule from being run
  twice, and no more: it never covers a sequence (tree.py), so a search may begin schedules that it
  cannot end. They are REDUNDANT and not counted, and their races are reversed like any other.
- What a race asks for above the floor goes into the tree there, and is handed back (subtrees.py).

This module reads a part from the control block, and writes one into it. It decides nothing.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stress.explorer.dpor import clocks, records, tree
from stress.explorer.dpor import search as dpor_search
from stress.machine import block as cb
from stress.machine.machine import Block, Machine

Words = NDArray[np.int64]
COLUMNS = records.RECORD + 1  # of a branch: its record, and the row of its parent; -1: none


def no_branches() -> Words:
    return np.empty((0, COLUMNS), np.int64)


@dataclass(frozen=True, eq=False)
class Part:
    """One search to make.

    ``path``: a row of words for each depth, the last one with the step that is made next.
    ``floor``: the first depth that the search owns. ``siblings``: actor and outcomes of each step
    that other parts make in place of the last one above the floor. ``branches``: the wakeup trees
    at the depths from the floor on, the last one below the path. ``races``: those on the path.
    """

    path: Words
    floor: int
    siblings: tuple[tuple[int, int], ...]
    branches: tuple[Words, ...]
    races: Words
    first_alone: int

    def key(self) -> str:
        """A digest of the part: the same one, the same classes."""
        text = hashlib.sha256(repr((self.path.shape, self.floor, self.siblings)).encode())
        for words in (self.path, *self.branches, self.races, np.array([self.first_alone])):
            text.update(repr(words.shape).encode() + words.astype(np.int64).tobytes())
        return text.hexdigest()[:32]


def depth_words(block: Block) -> int:
    return records.CLOCK + int(block[cb.ACTORS]) * (2 + records.RECORD)


def depth_at(block: Block, index: int) -> int:
    return int(block[cb.TREE_AT]) + (index + 1) * depth_words(block)


def words_of(block: Block, at: int, count: int) -> list[int]:
    return [int(word) for word in block[at : at + count]]


# --- reading -------------------------------------------------------------------------------------
def read_tree(block: Block, depth: int) -> Words:
    """The wakeup tree before the event of step ``depth``, a row a branch, parents in front."""
    rows: list[list[int]] = []
    todo = [(int(block[depth_at(block, depth) + records.ROOT]), -1)]
    while todo:
        branch, parent = todo.pop()
        if branch == 0:
            continue
        rows.append([*words_of(block, branch, records.RECORD), parent])
        todo.append((int(block[branch + tree.SIBLING]), parent))
        todo.append((int(block[branch + tree.CHILD]), len(rows) - 1))
    return np.array(rows, np.int64) if rows else no_branches()


def read_path(block: Block) -> Words:
    """The depths of the steps that the next schedule takes from the path."""
    size = depth_words(block)
    steps = int(block[dpor_search.PREFIX])
    words = words_of(block, depth_at(block, 0), steps * size)
    path = np.array(words, np.int64).reshape(steps, size)
    path[:, records.ROOT] = 0
    return path


def read_races(block: Block) -> Words:
    count = int(block[clocks.RACE_COUNT])
    words = words_of(block, int(block[clocks.RACES_AT]), count * clocks.RACE)
    return np.array(words, np.int64).reshape(count, clocks.RACE)


def read_rest(block: Block, floor: int) -> Part:
    """All that the search has left behind ``floor``, as a part."""
    path = read_path(block)
    branches = tuple(read_tree(block, depth) for depth in range(floor, len(path) + 1))
    return Part(path, floor, (), branches, read_races(block), int(block[clocks.FIRST_ALONE]))


def tops(rows: Words) -> list[Words]:
    """Each tree of a forest by itself."""
    found: list[Words] = []
    home: list[tuple[int, int]] = []  # of each row: which tree, which row there
    parts: list[list[Words]] = []
    for row in rows:
        parent = int(row[-1])
        if parent < 0:
            parts.append([])
            home.append((len(parts) - 1, 0))
        else:
            home.append((home[parent][0], len(parts[home[parent][0]])))
        moved = row.copy()
        moved[-1] = -1 if parent < 0 else home[parent][1]
        parts[home[-1][0]].append(moved)
    found.extend(np.array(part, np.int64) for part in parts)
    return found


def below(top: Words) -> Words:
    """The forest below the root of one tree."""
    rows = top[1:].copy()
    rows[:, -1] -= 1
    return rows


# --- writing -------------------------------------------------------------------------------------
def write_tree(block: Block, depth: int, rows: Words) -> None:
    """Put branches into the empty tree before the event of step ``depth``."""
    at: list[int] = []
    last: dict[int, int] = {}
    for row in rows:
        branch, parent = int(block[tree.POOL_NEXT]), int(row[-1])
        if branch + tree.BRANCH > int(block[tree.POOL_END]):
            block[tree.POOL_EMPTY] = 1
            return
        block[tree.POOL_NEXT] = branch + tree.BRANCH
        for k in range(records.RECORD):
            block[branch + k] = int(row[k])
        block[branch + tree.CHILD] = 0
        block[branch + tree.SIBLING] = 0
        if parent in last:
            block[last[parent] + tree.SIBLING] = branch
        else:
            root = depth_at(block, depth) + records.ROOT
            block[root if parent < 0 else at[parent] + tree.CHILD] = branch
        last[parent] = branch
        at.append(branch)


def write_part(machine: Machine, part: Part) -> None:
    """Make a machine that has run nothing continue with ``part``."""
    block = machine.block
    machine.call(dpor_search.dpor, 0, 0)  # lays out the area
    if block[dpor_search.TOO_SMALL]:
        return
    first, size = depth_at(block, 0), depth_words(block)
    for index, row in enumerate(part.path):
        at = first + index * size
        block[at : at + size] = [int(word) for word in row] if isinstance(block, list) else row
    for index in range(len(part.path) + 1):
        block[depth_at(block, index) + records.ROOT] = 0
    block[clocks.FIRST_ALONE] = part.first_alone
    _meet_siblings(machine, part)
    block[dpor_search.FLOOR] = part.floor
    block[dpor_search.PREFIX] = len(part.path)
    for depth, rows in enumerate(part.branches, part.floor):
        write_tree(block, depth, rows)
    for k, race in enumerate(part.races):
        for word in range(clocks.RACE):
            block[int(block[clocks.RACES_AT]) + clocks.RACE * k + word] = int(race[word])
    block[clocks.RACE_COUNT] = len(part.races)
    block[clocks.FIRST_ALONE] = part.first_alone


def _meet_siblings(machine: Machine, part: Part) -> None:
    """Put the siblings to sleep: what they access is seen by making each step."""
    if not part.siblings:
        return
    block, index = machine.block, part.floor - 1
    depth = depth_at(block, index)
    own = words_of(block, depth, records.RECORD)
    for actor, values in part.siblings:
        block[depth + records.ACTOR] = actor
        block[depth + records.VALUES] = values
        if machine.call(dpor_search.meet_sibling, index) == 0:
            raise RuntimeError(f"step {index} of actor {actor}, which another part makes, is none")
    for k, word in enumerate(own):
        block[depth + k] = word
