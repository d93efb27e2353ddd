"""Random expressions of the kernel dialect, as text: the leaves that random_kernels.py builds on.

Everything is in parentheses, so precedence plays no part (test_compiler_meaning.py looks at that).
A ``Scope`` says what an expression may use: names that are assigned for certain, helpers, a memory.
``risk`` is the chance of a division, shift or step to be left unguarded, four times that of an
access, since accesses are frequent; 0 makes programs that cannot fault.

The memory that programs run over has ``WORDS`` words. The last ``FIXED`` of them are read by
``fixed`` only, and no index that is made here for a write ever names one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

WORDS, FIXED = 20, 4
PLAIN = WORDS - FIXED  # a power of two: an index is made safe by a mask
NOT_FIXED = -PLAIN - 1  # clears the bit that all indexes of fixed words have
CORNERS = (
    0, 1, -1, 2, 3, -2, 5, 7, 8, 10, 63, 64, 255, 1 << 31, -(1 << 31), (1 << 31) - 1, 1 << 32,
    1 << 62, -(1 << 62), (1 << 63) - 1, -(1 << 63), -(1 << 63) + 1, 0x1234_5678_9ABC_DEF,
)  # fmt: skip
NAMED = {
    "SMALL": 5,
    "NEGATIVE": -7,
    "MASK": 255,
    "BIG": 1 << 62,
    "TOP": (1 << 63) - 1,
    "BOTTOM": -(1 << 63),
    "YES": True,
    "ONES": -1,
}
OF_CONSTANTS = ("c.LINK_BITS", "c.VERSION_MASK", "c.E_STATE", "c.T_COUNT", "c.ZONE_SHIFT")
ARITHMETIC = ("+", "-", "*", "&", "|", "^", "+", "-")
COMPARISONS = ("<", "<=", ">", ">=", "==", "!=")


@dataclass(frozen=True)
class Helper:
    """A kernel that others may call. ``result``: "int", "bool", "none" or a number of ints."""

    name: str
    takes_memory: bool
    numbers: int
    result: str | int


@dataclass
class Scope:
    """What an expression may use where it stands."""

    rng: Random
    risk: float
    takes_memory: bool
    names: set[str]
    helpers: list[Helper] = field(default_factory=list)

    def chance(self, share: float) -> bool:
        return self.rng.random() < share

    def helpers_giving(self, *results: str | int) -> list[Helper]:
        return [h for h in self.helpers if h.result in results and self.allows(h)]

    def allows(self, helper: Helper) -> bool:
        return self.takes_memory or not helper.takes_memory


def constant(s: Scope) -> str:
    kind = s.rng.random()
    if kind < 0.2:
        return s.rng.choice(list(NAMED))
    if kind < 0.3:
        return s.rng.choice(OF_CONSTANTS)
    if kind < 0.35:
        return s.rng.choice(("True", "False"))
    return f"({s.rng.choice(CORNERS) if s.chance(0.6) else s.rng.randint(-20, 70)})"


def leaf(s: Scope) -> str:
    if s.names and s.chance(0.7):
        return s.rng.choice(sorted(s.names))
    return constant(s)


def number(s: Scope, depth: int) -> str:
    """An expression of type int or bool."""
    if depth <= 0:
        return leaf(s)
    makers = [(_operation, 8), (_division, 2), (_shift, 2), (_unary, 2), (_choice, 2), (_call, 2)]
    makers += [(truth, 2), (_deciding, 2), (_extreme, 2), (_leaf, 4)]
    if s.takes_memory:
        makers.append((_read, 5))
    functions, weights = zip(*makers, strict=True)
    return s.rng.choices(functions, weights)[0](s, depth - 1)


def _leaf(s: Scope, depth: int) -> str:
    return leaf(s)


def _operation(s: Scope, depth: int) -> str:
    gap = "\n" if s.chance(0.03) else " "  # faults behind it are on another line
    return f"({number(s, depth)} {s.rng.choice(ARITHMETIC)}{gap}{number(s, depth)})"


def divisor(s: Scope, depth: int) -> str:
    if s.chance(s.risk):
        return s.rng.choice((number(s, depth), f"({number(s, depth)} & 3)", "0"))
    if s.chance(0.5):
        return s.rng.choice(
            ("1", "2", "8", "(-1)", "(-3)", "7", "(-16)", "SMALL", "NEGATIVE", "TOP")
        )
    return f"({number(s, depth)} | {s.rng.choice((1, 2, 4))})"


def _division(s: Scope, depth: int) -> str:
    return f"({number(s, depth)} {s.rng.choice(('//', '%'))} {divisor(s, depth)})"


def count(s: Scope, depth: int) -> str:
    """How far to shift. A literal out of range is refused, so that one is always a variable."""
    if s.chance(s.risk):
        return f"({number(s, depth)} & {s.rng.choice((-1, 127, 66))})"
    if s.chance(0.4):
        return str(s.rng.choice((0, 1, 4, 31, 32, 62, 63)))
    return f"({number(s, depth)} & {s.rng.choice((63, 31, 7))})"


def _shift(s: Scope, depth: int) -> str:
    return f"({number(s, depth)} {s.rng.choice(('<<', '>>'))} {count(s, depth)})"


def _unary(s: Scope, depth: int) -> str:
    return f"({s.rng.choice(('-', '~', '+', 'not ', '-'))}{number(s, depth)})"


def _choice(s: Scope, depth: int) -> str:
    return f"({number(s, depth)} if {test(s, depth)} else {number(s, depth)})"


def _deciding(s: Scope, depth: int) -> str:
    """and/or for their value."""
    word = s.rng.choice((" and ", " or "))
    return f"({word.join(number(s, depth) for _ in range(s.rng.randint(2, 3)))})"


def _extreme(s: Scope, depth: int) -> str:
    name = s.rng.choice(("min", "max", "min", "max", "abs", "int", "bool"))
    few = 1 if name in ("abs", "int", "bool") else s.rng.choice((2, 2, 3))
    return f"{name}({', '.join(number(s, depth) for _ in range(few))})"


def _call(s: Scope, depth: int) -> str:
    helpers = s.helpers_giving("int", "bool")
    return called(s, s.rng.choice(helpers), depth) if helpers else number(s, depth)


def called(s: Scope, helper: Helper, depth: int) -> str:
    memory = ["mem"] if helper.takes_memory else []
    return f"{helper.name}({', '.join(memory + [number(s, depth) for _ in range(helper.numbers)])})"


# --- truth ---------------------------------------------------------------------------------------
def truth(s: Scope, depth: int) -> str:
    """An expression of type bool."""
    kind = s.rng.random()
    if depth <= 0 or kind < 0.4:
        return f"({number(s, depth - 1)} {s.rng.choice(COMPARISONS)} {number(s, depth - 1)})"
    if kind < 0.6:
        parts = [number(s, depth - 1) for _ in range(s.rng.choice((3, 3, 4)))]
        chain = "".join(f" {s.rng.choice(COMPARISONS)} {part}" for part in parts[1:])
        return f"({parts[0]}{chain})"
    if kind < 0.7:
        return f"(not {number(s, depth - 1)})"
    if kind < 0.8:
        word = s.rng.choice((" and ", " or ", " & ", " | ", " ^ "))
        return f"({truth(s, depth - 1)}{word}{truth(s, depth - 1)})"
    if kind < 0.85:
        return f"bool({number(s, depth - 1)})"
    if kind < 0.9:
        body = f"{truth(s, depth - 1)} if {test(s, depth - 1)} else {truth(s, depth - 1)}"
        return f"({body})"
    return _true_call(s, depth - 1)


def _true_call(s: Scope, depth: int) -> str:
    helpers = s.helpers_giving("bool")
    if helpers and s.chance(0.5):
        return called(s, s.rng.choice(helpers), depth)
    if not s.takes_memory:
        return s.rng.choice(("True", "False"))
    if s.chance(0.5):
        return f"cas(mem, {index(s, depth)}, {number(s, depth)}, {number(s, depth)})"
    values = ", ".join(number(s, depth) for _ in range(4))
    return f"cas2(mem, {pair(s, depth)}, {values})"


def test(s: Scope, depth: int) -> str:
    """What a condition may be: any number."""
    return truth(s, depth) if s.chance(0.7) else number(s, depth)


# --- memory --------------------------------------------------------------------------------------
def index(s: Scope, depth: int) -> str:
    """Of a word that may be written: 0 to PLAIN - 1, or outside of the memory."""
    if s.chance(s.risk / 4):
        outside = (f"({number(s, depth)} & ({NOT_FIXED}))", str(WORDS), "(-1)", "TOP", "BOTTOM")
        return s.rng.choice(outside)
    if s.chance(0.4):
        return str(s.rng.randrange(PLAIN))
    return f"({number(s, depth)} & {PLAIN - 1})"


def pair(s: Scope, depth: int) -> str:
    """Of a pair: even, or at a risk odd or outside."""
    if s.chance(s.risk / 2):
        return s.rng.choice((index(s, depth), str(WORDS), "3", "(-2)"))
    return f"({number(s, depth)} & {PLAIN - 2})"


def _read(s: Scope, depth: int) -> str:
    at = index(s, depth)
    kind = s.rng.randrange(8)
    if kind < 3:
        return f"mem[{at}]"
    if kind == 3:
        return f"fixed(mem, ({PLAIN} + ({number(s, depth)} & {FIXED - 1})))"
    if kind == 4:
        return f"{s.rng.choice(('load', 'load_relaxed'))}(mem, {at})"
    if kind == 5 and s.chance(0.2):
        return "(now(mem) >= 0)"
    word = s.rng.choice(("exchange", "fetch_add", "fetch_or", "fetch_and"))
    return f"{word}(mem, {at}, {number(s, depth)})"
