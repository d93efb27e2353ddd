"""``Naming``: the names of a program's words, values and codes in reports.

Without names a word is ``[4]``, a value a number (hexadecimal if it is large), a code nothing.
Names come from the program (machine/names.py); this file adds what all printers share: places,
and transitions such as ``FREE order 1 zone 0 MOVABLE v3 -> ALLOCATED order 0 v4 owner 7``.

A transition does not repeat unchanged fields. A field is a word followed by a number (``order 1``)
or a word alone (``MOVABLE``); the first field is always printed.
"""

from __future__ import annotations

import re

from stress.machine.names import named
from stress.machine.program import Program

LARGEST_DECIMAL = 10**9  # tagged and packed words are legible in hexadecimal
_FIELD = re.compile(r"[A-Za-z-]+ \d+(?!\S)|\S+")


def number(value: int) -> str:
    return str(value) if abs(value) < LARGEST_DECIMAL else hex(value)


def transition(before: str, after: str) -> str:
    """``before -> after`` without the unchanged fields."""
    if before == after:
        return f"{before}, unchanged"
    known = set(_FIELD.findall(before))
    first, *others = _FIELD.findall(after) or [after]
    return f"{before} -> {' '.join([first, *(part for part in others if part not in known)])}"


class Naming:
    """The names of one program; ``Naming(None)`` has none."""

    def __init__(self, program: Program | None) -> None:
        self._program = program

    def inside(self, index: int) -> bool:
        """Whether the word exists: only those have names."""
        return self._program is None or 0 <= index < self._program.words

    def word(self, index: int) -> str:
        """The name of a word; "" if it has none."""
        program = self._program
        if program is None or not self.inside(index):
            return ""
        assert isinstance(program.names, dict)
        given: str = program.names.get(index, "")
        return given or named("word_name", program.word_name, index)

    def place(self, index: int, pair: bool = False) -> str:
        """``zone 0 lock``, ``[4]``, or ``[4, 5]``."""
        return self.word(index) or (f"[{index}, {index + 1}]" if pair else f"[{index}]")

    def in_prose(self, index: int) -> str:
        """``zone 0 lock``, or ``word 4``."""
        return self.word(index) or f"word {index}"

    def meaning(self, index: int, *values: int) -> str:
        """What a value, or a pair of them, means; "" for bare numbers."""
        program = self._program
        if program is None or not self.inside(index):
            return ""
        if len(values) == 2:
            return named("pair_name", program.pair_name, index, *values)
        return named("value_name", program.value_name, index, *values)

    def value(self, index: int, *values: int) -> str:
        """``FREE order 1``, or the numbers."""
        if len(values) == 2:
            alone = self.value(index, values[0]), self.value(index + 1, values[1])
            return self.meaning(index, *values) or ", ".join(alone)
        return self.meaning(index, *values) or number(values[0])

    def change(self, index: int, before: tuple[int, ...], after: tuple[int, ...]) -> str:
        """``free -> held by claim 1``, or ``0 -> 1``."""
        if self.meaning(index, *before) or self.meaning(index, *after):
            return transition(self.value(index, *before), self.value(index, *after))
        return f"{self.value(index, *before)} -> {self.value(index, *after)}"

    def code(self, code: int) -> str:
        """``I_TAIL: every page is covered by exactly one head``; "" for a code without a name."""
        return "" if self._program is None else named("code_name", self._program.code_name, code)

    def short_code(self, code: int) -> str:
        """The part before the colon: ``I_TAIL``."""
        return self.code(code).partition(":")[0]


NO_NAMES = Naming(None)
