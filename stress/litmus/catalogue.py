"""The litmus tests by name, and each as a program for the explorer.

An outcome is ``(result of process 0, result of process 1, final x, final y)``; ``columns`` are the
parts of it that a test shows, pairs of a label and a part (``R0_FIRST`` ...). ``asks`` are the
outcomes that the test is about. The explorer says whether they are allowed.
"""

from __future__ import annotations

from dataclasses import dataclass

from shmalloc.engine import asymmetric
from shmalloc.errors import MisuseError
from stress.litmus import shapes
from stress.machine.program import Program
from stress.quantities import nearest

Outcome = tuple[int, int, int, int]
R0_FIRST, R0_SECOND, R1_FIRST, R1_SECOND, X, Y = range(6)
_VALUE = (1 << shapes.VALUE_BITS) - 1
_MODEL_WORDS = 8


@dataclass(frozen=True)
class Litmus:
    """One test. ``pair``: x and y are the halves of an aligned pair, else on separate lines.
    ``membarrier``: it needs the call of the system of that name."""

    name: str
    shape: int
    story: str
    code: tuple[str, ...]  # what each process does
    columns: tuple[tuple[str, int], ...]
    asks: tuple[Outcome, ...]
    pair: bool = False
    membarrier: bool = False

    @property
    def processes(self) -> int:
        return len(self.code)

    def values(self, outcome: Outcome) -> dict[str, int]:
        """What the test shows of ``outcome``, by label."""
        first, second, x, y = outcome
        bits = shapes.VALUE_BITS
        parts = (first & _VALUE, first >> bits, second & _VALUE, second >> bits, x, y)
        return {label: parts[part] for label, part in self.columns}

    def program(self) -> Program:
        """The same code over one cell, for the explorer."""
        x = shapes.MODEL_CELL
        y = x + 1 if self.pair else x + 2
        return Program(
            name=f"litmus {self.name}",
            words=_MODEL_WORDS,
            story=self.story,
            threads=[shapes.in_model] * self.processes,
            init=[(shapes.MODEL_SHAPE, self.shape), (shapes.MODEL_X, x), (shapes.MODEL_Y, y)],
            observe=[("r", 0), ("r", 1), x, y],
        )


def _both(first: int, second: int) -> int:
    return first | second << shapes.VALUE_BITS


_READS = (("r0", R0_FIRST), ("r1", R1_FIRST))
_READS_OF_1 = (("r0", R1_FIRST), ("r1", R1_SECOND))
_HALVES = (("low", R1_FIRST), ("high", R1_SECOND))
_SWAPS = "x,y = 1,1 if 0,0; x,y = 2,2 if 1,1"
_TORN: tuple[Outcome, ...] = tuple(
    (0, _both(low, high), 2, 2) for low in range(3) for high in range(3) if low != high
)

TESTS = (
    Litmus(
        "sb", shapes.SB, "store buffering: a store waits in its buffer while the load goes ahead",
        ("x = 1; r0 = y", "y = 1; r1 = x"), _READS, ((0, 0, 1, 1),),
    ),
    Litmus(
        "sb+fence", shapes.SB_FENCE, "store buffering with a fence between store and load",
        ("x = 1; fence; r0 = y", "y = 1; fence; r1 = x"), _READS, ((0, 0, 1, 1),),
    ),
    Litmus(
        "sb+rmw", shapes.SB_RMW, "store buffering by exchange, which drains the buffer",
        ("exchange(x, 1); r0 = y", "exchange(y, 1); r1 = x"), _READS, ((0, 0, 1, 1),),
    ),
    Litmus(
        "sb+membarrier", shapes.SB_ASYMMETRIC,
        "store buffering with a heavy fence (membarrier) on one side, and a light one, which is no"
        " instruction, on the other",
        ("x = 1; light fence; r0 = y", "y = 1; heavy fence; r1 = x"), _READS, ((0, 0, 1, 1),),
        membarrier=True,
    ),
    Litmus(
        "mp", shapes.MP, "message passing: the flag is seen, the data is not",
        ("x = 1; y = 1", "r0 = y; r1 = x"), _READS_OF_1, ((0, _both(1, 0), 1, 1),),
    ),
    Litmus(
        "lb", shapes.LB, "load buffering: both loads see a store that comes after a load",
        ("r0 = x; y = 1", "r1 = y; x = 1"), _READS, ((1, 1, 1, 1),),
    ),
    Litmus(
        "corr", shapes.CORR, "coherence: a word goes back to its old value",
        ("x = 1", "r0 = x; r1 = x"), _READS_OF_1, ((0, _both(1, 0), 1, 0),),
    ),
    Litmus(
        "2+2w", shapes.TWO_PLUS_TWO_W, "both first stores end up last",
        ("x = 1; y = 2", "y = 1; x = 2"), (("x", X), ("y", Y)), ((0, 0, 1, 1),),
    ),
    Litmus(
        "r", shapes.R, "the later store wins, although its process reads the old value",
        ("x = 1; y = 1", "y = 2; r1 = x"), (("r1", R1_FIRST), ("y", Y)), ((0, 0, 1, 2),),
    ),
    Litmus(
        "s", shapes.S, "a store after a read is overwritten by a store before the value read",
        ("x = 2; y = 1", "r1 = y; x = 1"), (("r1", R1_FIRST), ("x", X)), ((0, 1, 2, 1),),
    ),
    Litmus(
        "two-word", shapes.TWO_WORD, "a pair that is swapped is read by load2: in one piece",
        (_SWAPS, "low,high = load2(x)"), _HALVES, _TORN, pair=True,
    ),
    Litmus(
        "two-word-torn", shapes.TWO_WORD_TORN, "the same pair read by two loads: in pieces",
        (_SWAPS, "low = x; high = y"), _HALVES, _TORN, pair=True,
    ),
    Litmus(
        "rmw", shapes.RMW, "two fetch_adds: one of them is lost",
        ("r0 = fetch_add(x, 1)", "r1 = fetch_add(x, 1)"), (*_READS, ("x", X)), ((0, 0, 1, 0),),
    ),
    Litmus(
        "iriw", shapes.IRIW, "two readers see two independent stores in opposite orders",
        ("r0 = x; r1 = y", "r2 = y; r3 = x", "x = 1", "y = 1"),
        (("r0", R0_FIRST), ("r1", R0_SECOND), ("r2", R1_FIRST), ("r3", R1_SECOND)),
        ((_both(1, 0), _both(1, 0), 1, 1),),
    ),
)  # fmt: skip
CATALOGUE = {test.name: test for test in TESTS}


def chosen(names: tuple[str, ...]) -> list[Litmus]:
    """The tests of those names, each once; without names all that this system can run.

    Raises ``MisuseError`` for an unknown name, and for one that needs what the system lacks.
    """
    has_membarrier = asymmetric.can_make_heavy_fences()
    for name in names:
        if name not in CATALOGUE:
            raise nearest(name, CATALOGUE, "litmus test")
        if CATALOGUE[name].membarrier and not has_membarrier:
            raise MisuseError(f"{name}: this system has no membarrier(2), or refuses it here")
    possible = [test.name for test in TESTS if has_membarrier or not test.membarrier]
    return [CATALOGUE[name] for name in dict.fromkeys(names or possible)]
