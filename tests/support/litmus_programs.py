"""Small programs whose answers are known from the literature, as data (reference.py).

``LITMUS``: the classic shapes, each with one *weak* outcome and the memory models that allow it
(x86-TSO: Sewell et al. 2010, whose names n5, n6 and iwp are kept; pso: SPARC). Values are chosen so
that ``acc``, the number of the CPU plus all it read, tells which values were read.

``COUNTED``: families with a known number of classes under sc.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import factorial

from support.reference import Instruction, Straight

X, Y, Z = 0, 1, 2
SAVED = 3  # written by one CPU and read by none


@dataclass(frozen=True)
class Litmus:
    """A program and its weak outcome: final ``words`` and ``accs``, each as (number, value) pairs.

    ``executions``: the candidates, that is the ways in which reads can read from writes and the
    writes of a word can be ordered; all but the weak one are allowed everywhere. None where a CPU
    reads what it has just stored, so that more orders count than these.
    """

    program: Straight
    allowed: frozenset[str]  # memory models that show the weak outcome
    words: tuple[tuple[int, int], ...] = ()
    accs: tuple[tuple[int, int], ...] = ()
    executions: int | None = None

    def is_weak(self, outcome: Sequence[int]) -> bool:
        first_acc = len(self.program.init)
        wanted = [*self.words, *((first_acc + cpu, value) for cpu, value in self.accs)]
        return all(outcome[at] == value for at, value in wanted)

    def classes(self, model: str) -> int | None:
        if self.executions is None:
            return None
        return self.executions - (model not in self.allowed)


@dataclass(frozen=True)
class Counted:
    """A program and its number of classes under sc, by a formula."""

    program: Straight
    classes: int


# --- notation ------------------------------------------------------------------------------------
def store(word: int, value: int) -> Instruction:
    return Instruction("store", word, value)


def relaxed(word: int, value: int) -> Instruction:
    return Instruction("relaxed", word, value)


def load(word: int) -> Instruction:
    return Instruction("load", word)


def exchange(word: int, value: int) -> Instruction:
    return Instruction("exchange", word, value)


FENCE = Instruction("fence")
SAVE_ACC = Instruction("write", SAVED)  # acc & 3: tells two reads of one word apart
NOWHERE: frozenset[str] = frozenset()
BUFFERED = frozenset({"tso", "pso"})
PSO_ONLY = frozenset({"pso"})


def straight(name: str, *cpus: Sequence[Instruction]) -> Straight:
    words = 1 + max(instruction.word for code in cpus for instruction in code)
    return Straight(name, (0,) * max(words, 2), tuple(tuple(code) for code in cpus))


# --- litmus tests --------------------------------------------------------------------------------
LITMUS = (
    Litmus(
        straight("SB", [store(X, 1), load(Y)], [store(Y, 1), load(X)]),
        BUFFERED, accs=((0, 0), (1, 1)), executions=4,
    ),
    Litmus(
        straight("SB+fences", [store(X, 1), FENCE, load(Y)], [store(Y, 1), FENCE, load(X)]),
        NOWHERE, accs=((0, 0), (1, 1)), executions=4,
    ),
    Litmus(
        straight("SB+fence", [store(X, 1), FENCE, load(Y)], [store(Y, 1), load(X)]),
        BUFFERED, accs=((0, 0), (1, 1)), executions=4,
    ),
    Litmus(
        straight("SB+exchanges", [exchange(X, 1), load(Y)], [exchange(Y, 1), load(X)]),
        NOWHERE, accs=((0, 0), (1, 1)), executions=4,
    ),
    Litmus(  # each CPU sees its own store early
        straight(
            "SB+forwarding (iwp2.4)",
            [store(X, 1), load(X), load(Y)], [store(Y, 2), load(Y), load(X)],
        ),
        BUFFERED, accs=((0, 1), (1, 3)),
    ),
    Litmus(
        straight("MP", [relaxed(X, 1), relaxed(Y, 2)], [load(Y), load(X)]),
        PSO_ONLY, accs=((1, 1 + 2),), executions=4,
    ),
    Litmus(
        straight("MP+release", [relaxed(X, 1), store(Y, 2)], [load(Y), load(X)]),
        NOWHERE, accs=((1, 1 + 2),), executions=4,
    ),
    Litmus(  # a release orders what is before it, not what comes later
        straight("MP+release first", [store(X, 1), relaxed(Y, 2)], [load(Y), load(X)]),
        PSO_ONLY, accs=((1, 1 + 2),), executions=4,
    ),
    Litmus(
        straight("MP+fence", [relaxed(X, 1), FENCE, relaxed(Y, 2)], [load(Y), load(X)]),
        NOWHERE, accs=((1, 1 + 2),), executions=4,
    ),
    Litmus(
        straight("LB", [load(X), store(Y, 1)], [load(Y), store(X, 1)]),
        NOWHERE, accs=((0, 1), (1, 1 + 1)), executions=4,
    ),
    Litmus(
        straight("2+2W", [relaxed(X, 1), relaxed(Y, 2)], [relaxed(Y, 1), relaxed(X, 2)]),
        PSO_ONLY, words=((X, 1), (Y, 1)), executions=4,
    ),
    Litmus(
        straight("2+2W+releases", [relaxed(X, 1), store(Y, 2)], [relaxed(Y, 1), store(X, 2)]),
        NOWHERE, words=((X, 1), (Y, 1)), executions=4,
    ),
    Litmus(
        straight("S", [relaxed(X, 2), relaxed(Y, 1)], [load(Y), relaxed(X, 1)]),
        PSO_ONLY, words=((X, 2),), accs=((1, 1 + 1),), executions=4,
    ),
    Litmus(
        straight("R", [store(X, 1), store(Y, 1)], [store(Y, 2), load(X)]),
        BUFFERED, words=((Y, 2),), accs=((1, 1),), executions=4,
    ),
    Litmus(
        straight("IRIW", [store(X, 1)], [store(Y, 2)], [load(X), load(Y)], [load(Y), load(X)]),
        NOWHERE, accs=((2, 2 + 1), (3, 3 + 2)), executions=16,
    ),
    Litmus(
        straight("WRC", [store(X, 1)], [load(X), store(Y, 2)], [load(Y), load(X)]),
        NOWHERE, accs=((1, 1 + 1), (2, 2 + 2)), executions=8,
    ),
    Litmus(
        straight("RWC", [store(X, 1)], [load(X), load(Y)], [store(Y, 2), load(X)]),
        BUFFERED, accs=((1, 1 + 1), (2, 2)), executions=8,
    ),
    Litmus(
        straight(
            "ISA2", [relaxed(X, 1), relaxed(Y, 1)], [load(Y), relaxed(Z, 2)], [load(Z), load(X)]
        ),
        PSO_ONLY, accs=((1, 1 + 1), (2, 2 + 2)), executions=8,
    ),
    Litmus(
        straight(
            "ISA2+releases",
            [relaxed(X, 1), store(Y, 1)], [load(Y), store(Z, 2)], [load(Z), load(X)],
        ),
        NOWHERE, accs=((1, 1 + 1), (2, 2 + 2)), executions=8,
    ),
    Litmus(
        straight("CoRR", [load(X), SAVE_ACC, load(X)], [store(X, 1)]),
        NOWHERE, words=((SAVED, 1),), accs=((0, 1),), executions=4,
    ),
    Litmus(  # each CPU would have to see the other's store overwrite its own
        straight("n5", [store(X, 1), load(X)], [store(X, 2), load(X)]),
        NOWHERE, accs=((0, 2), (1, 1 + 1)),
    ),
    Litmus(  # a CPU sees its own store before it sees an older one of the other
        straight("n6", [store(X, 1), load(X), load(Y)], [store(Y, 2), store(X, 2)]),
        BUFFERED, words=((X, 1),), accs=((0, 1),),
    ),
)  # fmt: skip


# --- families ------------------------------------------------------------------------------------
def increments(n: int) -> Counted:
    """n CPUs read a word and write it back. Which read sees what, in which order they write."""
    code = [Instruction("read", X), Instruction("write", X, 1)]
    return Counted(straight(f"{n} increments", *[code] * n), factorial(n) ** 2)


def adders(n: int) -> Counted:
    """n CPUs, one blind fetch_add each: all orders."""
    code = [Instruction("fetch_add", X, 1)]
    return Counted(straight(f"{n} adders", *[code] * n), factorial(n))


def writers(n: int) -> Counted:
    """n CPUs, one store to the same word each: all orders."""
    codes = [[store(X, cpu + 1)] for cpu in range(n)]
    return Counted(straight(f"{n} writers", *codes), factorial(n))


def readers(n: int) -> Counted:
    """One writer and n readers: each reader is before or after the write."""
    return Counted(straight(f"{n} readers", [store(X, 1)], *[[load(X)]] * n), 2**n)


def rotating_cas(n: int) -> Counted:
    """CPU i swaps i for i + 1 once. The first k succeed in turn, then CPU k fails.

    It can fail where the word is not k, in k ways; each of the n - k - 1 behind it fails at any of
    the k + 1 values that the word takes.
    """
    codes = [[Instruction("cas", X, cpu, cpu + 1)] for cpu in range(n)]
    classes = 1 + sum(k * (k + 1) ** (n - k - 1) for k in range(1, n))
    return Counted(straight(f"{n} rotating cas", *codes), classes)


def strangers(n: int) -> Counted:
    """n CPUs that never meet: one class, however many schedules."""
    codes = [[store(cpu, 1), load(cpu)] for cpu in range(n)]
    return Counted(straight(f"{n} strangers", *codes), 1)


COUNTED = (
    *(increments(n) for n in (2, 3, 4)),
    *(adders(n) for n in (2, 3, 4, 5, 6)),
    *(writers(n) for n in (2, 3, 4, 5, 6)),
    *(readers(n) for n in (1, 2, 3, 4, 5)),
    *(rotating_cas(n) for n in (2, 3, 4, 5, 6)),
    *(strangers(n) for n in (2, 3)),
)
