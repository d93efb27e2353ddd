"""Which class a schedule belongs to, from what it executed: to show that none is explored twice.

``trace_key`` is equal for two schedules exactly if they executed the same events and ordered all
dependent ones alike. It knows every op of the model memories, needs one pass and says nothing about
which classes exist: that is reference.py, for straight-line programs.

The key is a history of every *place*: the events that changed it, one after the other, each with
the set of events that read it before the next change. Places are

- the words of memory. A failed cas only looks, load2 and cas2 concern two words; a failed cas2
  counts as a change of a half that it found as expected, for the other half has decided
- the values of a word that a CPU has stored and that are not flushed yet (``buffered``): a flush
  changes them, a read that they serve looks at them instead of at memory
- the stores of a word that wait in buffers: a heavy fence looks which have entered
- the sleepers on a word: wait looks at them, for two that come commute, and wake changes them

Everything else (fence, relax, mark, ...) concerns no place: its CPU orders it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable
from typing import NamedTuple

LOOKS = frozenset({"read", "load", "load_relaxed", "load2"})
STORES = frozenset({"write", "store", "store_relaxed"})
ATOMICS = frozenset({"cas", "cas2", "exchange", "fetch_add", "fetch_or", "fetch_and"})
PLACELESS = frozenset({"fence", "relax", "finish", "fixed", "mark", "choose"})
PAIRS = frozenset({"load2", "cas2"})


class Executed(NamedTuple):
    """One event. A flush is one of the CPU that stored; its ``local`` is not looked at.

    ``local`` numbers the other events of ``cpu``; ``op`` is a name of ops.py; the ``word`` of a
    choose is its value; ``wrote`` says of a read-modify-write whether it changed memory (of the
    same value is a change, too), ``expected`` of a cas2 that did not which of its words it found as
    expected, of a wait whether it returned early.
    """

    cpu: int
    local: int
    op: str
    word: int
    wrote: bool
    expected: tuple[int, ...] = ()


class Place(NamedTuple):
    kind: str  # "word", "buffer", "sleepers"
    word: int
    cpu: int = -1


def trace_key(events: Iterable[Executed], buffered: bool = False) -> Hashable:
    """The class of one schedule; ``buffered``: stores become visible by flushes (tso and pso)."""
    history: defaultdict[Place, list[Hashable]] = defaultdict(lambda: [frozenset()])
    unflushed: Counter[tuple[int, int]] = Counter()
    flushes: Counter[tuple[int, int]] = Counter()
    entered: defaultdict[int, frozenset[tuple[int, ...]]] = defaultdict(frozenset)
    executed: set[Hashable] = set()
    for event in events:
        own = event.cpu, event.word
        name: tuple[int, ...] = (event.cpu, event.local)
        if event.op == "flush":
            flushes[own] += 1
            unflushed[own] -= 1
            name = (*own, flushes[own])
        elif buffered and event.op in STORES:
            unflushed[own] += 1
            entered[event.word] |= {name}
        elif buffered and event.op == "heavy_fence":
            executed.add((name, entered[event.word]))
        executed.add((name, event.op, event.word, event.wrote, event.expected))
        looked, changed = places(event, buffered, unflushed)
        for place in looked:
            history[place][-1] |= {name}  # type: ignore[operator]
        for place in changed:
            history[place] += [name, frozenset()]
    return frozenset(executed), frozenset((place, *past) for place, past in history.items())


def places(
    event: Executed, buffered: bool, unflushed: Counter[tuple[int, int]]
) -> tuple[list[Place], list[Place]]:
    """What the event looked at and what it changed."""
    cpu, _, op, word, wrote, expected = event
    in_memory = [Place("word", at) for at in ((word, word + 1) if op in PAIRS else (word,))]
    if op in LOOKS:
        looked = [
            Place("buffer", place.word, cpu) if unflushed[cpu, place.word] else place
            for place in in_memory
        ]
        return looked, []
    if op in ATOMICS:
        changed = [place for place in in_memory if wrote or place.word in expected]
        return [place for place in in_memory if place not in changed], changed
    if op in STORES:
        return ([], []) if buffered else ([], in_memory)
    if op == "flush":
        return [], [*in_memory, Place("buffer", word, cpu)]
    if op == "wait":
        return [*in_memory, Place("sleepers", word)], []
    if op == "wake":
        return [], [Place("sleepers", word)]
    if op == "heavy_fence":  # ``entered`` of ``trace_key``
        return [], []
    assert op in PLACELESS, f"no rule for the op {op!r}"
    return [], []
