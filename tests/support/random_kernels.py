"""Random programs of the kernel dialect, as the text of a module: what the fuzzers run.

``module_text(seed, count)`` has programs number 0 to ``count`` - 1. Program k depends on the seed
and k only; it is a kernel ``program_k(mem, ...)`` with helpers of its own. All of them are in the
dialect by construction: names are read where they are assigned on every path, and each loop eats
``fuel``, so that it ends. Most cannot fault; ``RISKY`` of them may (random_expressions.py).

``arguments_of`` and ``words_of`` give what to call them with.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from random import Random

from support import random_expressions
from support.random_expressions import Helper, Scope

RISKY = 0.45  # of all programs; about half of those fault with given arguments
FUEL = 12
HEAD = '''"""Random kernels, seed {seed}."""

from shmalloc import constants as c
from shmalloc.dialect import hot, kernel, unit
from shmalloc.words import (
    cas, cas2, exchange, fence, fetch_add, fetch_and, fetch_or, fixed, give_way, light_fence, load,
    load2, load_relaxed, mark, now, relax, store, store_relaxed, wake,
)

'''


# What must come up in a few hundred programs.
VOCABULARY = (
    "if ", "elif ", "else:", "while ", "while True:", "for ", "break", "continue", "return ",
    "return None", "pass", ": int", " and ", " or ", "not ", " if ", "+= ", "-= ", "*= ", "//= ",
    "%= ", "<<= ", ">>= ", "&= ", "|= ", "^= ", " // ", " % ", " << ", " >> ", "(~", "(-", "(+",
    "min(", "max(", "abs(", "int(", "bool(", "mem[", "load(", "load_relaxed(", "store(",
    "store_relaxed(", "cas(", "cas2(", "load2(", "exchange(", "fetch_add(", "fetch_or(",
    "fetch_and(", "fence(", "light_fence(", "relax(", "give_way(", "wake(", "mark(", "fixed(",
    "now(", "True", "False", "TOP", "BOTTOM", "c.", "cpu", "@kernel", "@hot", "@unit",
)  # fmt: skip


def head(seed: int) -> str:
    """Imports and constants of a module of programs."""
    return HEAD.format(seed=seed) + "".join(
        f"{name} = {at}\n" for name, at in random_expressions.NAMED.items()
    )


def module_text(seed: int, count: int, first: int = 0) -> str:
    """The text of a module with the programs ``first`` to ``first + count - 1`` of ``seed``."""
    return head(seed) + "\n".join(program_text(seed, k) for k in range(first, first + count))


def program_text(seed: int, number: int) -> str:
    """The helpers and the entry of one program."""
    rng = Random(f"{seed}:{number}")
    risk = rng.choice((0.1, 0.3, 0.6)) if rng.random() < RISKY else 0.0
    helpers: list[Helper] = []
    texts = []
    for k in range(rng.choice((0, 0, 1, 1, 2, 3))):
        takes_memory = rng.random() < 0.7
        result = rng.choice(("int", "int", "bool", "none" if takes_memory else "int", 2, 3))
        made = Helper(f"helper_{number}_{k}", takes_memory, rng.randint(0, 3), result)
        texts.append(_Writer(rng, risk / 2, made, helpers, rng.choice((1, 1, 2, 3, 6))).text())
        helpers.append(made)
    result = rng.choice(("int", "int", "int", "bool", "none", 2, 3))
    entry = Helper(f"program_{number}", True, rng.randint(0, 3), result)
    size = 2 + int(24 * rng.random() ** 4)  # most are small, which finds more a second
    writer = _Writer(rng, risk, entry, helpers, size, rng.random() < 0.4)
    return "\n".join([*texts, writer.text()])


def arguments_of(seed: int, number: int, count: int, attempt: int) -> list[int]:
    """``count`` numbers to call program ``number`` with."""
    rng = Random(f"{seed}:{number}:{attempt}")
    kinds = (
        lambda: rng.choice(random_expressions.CORNERS),
        lambda: rng.randint(-20, 70),
        lambda: rng.randint(-(1 << 63), (1 << 63) - 1),
    )
    return [rng.choice(kinds)() for _ in range(count)]


def words_of(seed: int, number: int, attempt: int) -> list[int]:
    """The words of memory at the start of a call."""
    return arguments_of(seed, -number - 1, random_expressions.WORDS, attempt)


class _Writer:
    """Writes one kernel, statement by statement. ``scope.names``: what is assigned for certain."""

    def __init__(
        self,
        rng: Random,
        risk: float,
        kernel: Helper,
        helpers: list[Helper],
        statements: int,
        has_cpu: bool = False,
    ) -> None:
        self.rng, self.kernel, self.left = rng, kernel, statements
        self.numbers = [f"a{k}" for k in range(kernel.numbers)]
        if has_cpu and self.numbers:
            self.numbers[0] = "cpu"
        self.scope = Scope(rng, risk, kernel.takes_memory, set(self.numbers), list(helpers))
        self.lines: list[str] = []
        self.indent = 1
        self.breaks: list[list[set[str]]] = []  # of each loop around: names known at its breaks

    def text(self) -> str:
        """The kernel's source."""
        parameters = (["mem"] if self.kernel.takes_memory else []) + self.numbers
        decorator = self.rng.choice(("kernel", "kernel", "hot", "unit"))
        self.write(f"fuel = {FUEL}")
        if self.block(self.left):
            self.give()
        head = f"@{decorator}\ndef {self.kernel.name}({', '.join(parameters)}):\n"
        return f"\n\n{head}" + "\n".join(self.lines) + "\n"

    # --- small things ---
    def write(self, text: str) -> None:
        self.lines.append("    " * self.indent + text)

    def number(self, depth: int = 3) -> str:
        return random_expressions.number(
            self.scope, min(depth, self.rng.choice((0, 0, 1, 1, 2, 3)))
        )

    def name(self) -> str:
        return f"v{self.rng.randrange(8)}"

    def targets(self, count: int) -> list[str]:
        return self.rng.sample([f"v{k}" for k in range(8)], count)

    @contextmanager
    def inside(self) -> Iterator[None]:
        """One level deeper; what is assigned there is not known behind it."""
        before = set(self.scope.names)
        self.indent += 1
        yield
        self.indent -= 1
        self.scope.names = before

    def give(self) -> None:
        """A return of the kernel's type."""
        result = self.kernel.result
        if result == "none":
            self.write(self.rng.choice(("return", "return None")))
        elif result == "bool":
            self.write(f"return {random_expressions.truth(self.scope, 2)}")
        elif result == "int":
            self.write(f"return {self.number()}")
        else:
            self.give_several(int(result))

    def give_several(self, count: int) -> None:
        helpers = self.scope.helpers_giving(count)
        if helpers and self.rng.random() < 0.3:
            self.write(
                f"return {random_expressions.called(self.scope, self.rng.choice(helpers), 1)}"
            )
        else:
            self.write(f"return {', '.join(self.number(2) for _ in range(count))}")

    # --- statements: each says whether control goes on behind it ---
    def block(self, statements: int) -> bool:
        for _ in range(statements):
            if self.left <= 0:
                break
            self.left -= 1
            if not self.statement():
                return self.rng.random() < 0.05 and self.dead_code()
        return True

    def dead_code(self) -> bool:
        """Statements that nothing reaches, which must not harm."""
        self.assign()
        return False

    def statement(self) -> bool:
        makers = [
            (self.assign, 6),
            (self.augment, 4),
            (self.branch, 3),
            (self.loop, 3),
            (self.unpack, 1),
            (self.bare, 1),
            (self.leave, 0.4),
        ]
        if self.scope.takes_memory:
            makers += [(self.write_word, 4), (self.augment_word, 2), (self.plain_word, 1)]
        if self.indent > 4:
            makers = [maker for maker in makers if maker[0] not in (self.branch, self.loop)]
        functions, weights = zip(*makers, strict=True)
        return self.rng.choices(functions, weights)[0]() is not False

    def assign(self) -> None:
        kind = self.rng.random()
        names = self.targets(1 if kind < 0.9 else 2)
        value = (
            random_expressions.truth(self.scope, 2) if self.rng.random() < 0.15 else self.number()
        )
        also = (
            f"mem[{random_expressions.index(self.scope, 1)}] = "
            if kind > 0.95 and self.scope.takes_memory
            else ""
        )
        note = ": int" if kind < 0.05 else ""
        self.write(f"{' = '.join(names)}{note} = {also}{value}")
        self.scope.names |= set(names)

    def operator_and_operand(self) -> str:
        kind = self.rng.random()
        if kind < 0.15:
            return f"{self.rng.choice(('//=', '%='))} {random_expressions.divisor(self.scope, 2)}"
        if kind < 0.3:
            return f"{self.rng.choice(('<<=', '>>='))} {random_expressions.count(self.scope, 2)}"
        return f"{self.rng.choice(random_expressions.ARITHMETIC)}= {self.number(2)}"

    def augment(self) -> None:
        names = sorted(self.scope.names)
        if names:
            self.write(f"{self.rng.choice(names)} {self.operator_and_operand()}")

    def augment_word(self) -> None:
        self.write(f"mem[{random_expressions.index(self.scope, 2)}] {self.operator_and_operand()}")

    def write_word(self) -> None:
        at = random_expressions.index(self.scope, 2)
        word = self.rng.choice(("store", "store_relaxed", "", "", "mark"))
        if word == "mark":
            self.write(f"mark(mem, {at})")
        elif word:
            self.write(f"{word}(mem, {at}, {self.number()})")
        else:
            self.write(f"mem[{at}] = {self.number()}")

    def plain_word(self) -> None:
        at = random_expressions.index(self.scope, 1)
        self.write(
            self.rng.choice(
                (
                    "fence(mem)",
                    "light_fence(mem)",
                    "relax(mem)",
                    "give_way(mem)",
                    f"wake(mem, {at}, 1)",
                )
            )
        )

    def unpack(self) -> None:
        helpers = self.scope.helpers_giving(2, 3)
        if helpers and self.rng.random() < 0.6:
            helper = self.rng.choice(helpers)
            names, value = (
                self.targets(int(helper.result)),
                random_expressions.called(self.scope, helper, 2),
            )
        elif self.scope.takes_memory:
            names, value = self.targets(2), f"load2(mem, {random_expressions.pair(self.scope, 2)})"
        else:
            return
        self.write(f"{', '.join(names)} = {value}")
        self.scope.names |= set(names)

    def bare(self) -> None:
        """A call whose result is dropped, or a pass."""
        helpers = [helper for helper in self.scope.helpers if self.scope.allows(helper)]
        if helpers:
            self.write(random_expressions.called(self.scope, self.rng.choice(helpers), 2))
        else:
            self.write("pass")

    def leave(self) -> bool:
        self.give()
        return False

    # --- control ---
    def body(self, statements: int) -> set[str] | None:
        """A block one level deeper; the names known at its end, None where that is not reached."""
        with self.inside():
            start = len(self.lines)
            goes_on = self.block(statements)
            if len(self.lines) == start:
                self.write("pass")
            return set(self.scope.names) if goes_on else None

    def branch(self) -> bool:
        ends = []
        self.write(f"if {random_expressions.test(self.scope, 3)}:")
        ends.append(self.body(self.rng.randint(1, 3)))
        while self.rng.random() < 0.3:
            self.write(f"elif {random_expressions.test(self.scope, 2)}:")
            ends.append(self.body(self.rng.randint(1, 3)))
        if self.rng.random() < 0.6:
            self.write("else:")
            ends.append(self.body(self.rng.randint(1, 3)))
        else:
            ends.append(set(self.scope.names))
        reached = [names for names in ends if names is not None]
        if reached:
            self.scope.names = set.intersection(*reached)
        return bool(reached)

    def loop(self) -> None:
        kind = self.rng.random()
        self.breaks.append([])
        if kind < 0.5:
            self.write(f"for {self.loop_variable()} in range({self.range_arguments()}):")
            self.loop_body(known={self.variable})
        elif kind < 0.75:
            self.write(f"while {random_expressions.test(self.scope, 2)}:")
            self.loop_body(known=set())
        else:
            self.write("while True:")
            self.loop_body(known=set(self.endless_start()))
        at_breaks = self.breaks.pop()
        if kind >= 0.75:
            self.scope.names = set.intersection(*at_breaks)

    def loop_variable(self) -> str:
        self.variable = self.name()
        return self.variable

    def endless_start(self) -> list[str]:
        """Names that are assigned at the start of an endless loop and known behind it."""
        self.indent += 1
        names = self.targets(self.rng.randint(0, 2))
        for name in names:
            self.write(f"{name} = {self.number(2)}")
        self.indent -= 1
        return names

    def range_arguments(self) -> str:
        small = lambda: f"({self.number(2)} & 7)"  # noqa: E731
        known = ("1", "2", "2", "3", "(-1)", "(-2)", "(-3)", "TOP", "BOTTOM")
        step = self.rng.choice((*known, f"({small()} | 1)", f"(-1 - {small()})"))
        if self.rng.random() < self.scope.risk:
            step = f"({self.number(1)} & 1)"
        ends = [self.number(2) if self.rng.random() < 0.2 else small() for _ in range(2)]
        return ", ".join(self.rng.choice(([ends[0]], ends, [*ends, step], [*ends, step])))

    def loop_body(self, known: set[str]) -> None:
        """Eats fuel first; may leave or go on in its middle."""
        with self.inside():
            self.scope.names |= known
            self.write("fuel -= 1")
            self.write("if fuel < 0:")
            self.write("    break")
            self.breaks[-1].append(set(self.scope.names))
            if known and self.scope.takes_memory:  # so that each round shows
                self.write(f"mem[3] = ((mem[3] * 5) + {self.rng.choice(sorted(known))})")
            going = self.block(self.rng.randint(1, 3))
            while going and self.rng.random() < 0.4:
                self.write(f"if {random_expressions.test(self.scope, 2)}:")
                word = self.rng.choice(("break", "continue"))
                self.write(f"    {word}")
                if word == "break":
                    self.breaks[-1].append(set(self.scope.names))
                going = self.block(self.rng.randint(1, 2))
