"""What can go wrong, as classes: each message names the argument, the value and the cure.

Kernels never raise: they return the negative codes of ``constants`` and the Python face turns
them into these. ``Violation`` is data: the same one is printed by the CLI, pytest and JUnit.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from shmalloc.invariants import BY_NAME


class ShmallocError(Exception):
    """Base of everything that this package raises on purpose."""


class MisuseError(ShmallocError, ValueError):
    """An argument that can never work. Cause and cure are in the message."""


class OutOfMemoryError(ShmallocError, MemoryError):
    """No block of that size is free. Cure: free something, or create a larger segment."""


class CorruptionError(ShmallocError):
    """The allocator refused an operation that would corrupt it (double free, foreign page, ...).

    The page was leaked rather than reused; ``violation`` tells which invariant was at stake.
    """

    def __init__(self, message: str, violation: Violation | None = None) -> None:
        super().__init__(message)
        self.violation = violation


class SegmentError(ShmallocError):
    """A segment that is missing, foreign, truncated or of another build."""


class NotReadyError(SegmentError):
    """A segment that is missing, or that its owner is still making: it may be there soon."""


class EnvironmentUnfitError(ShmallocError):
    """This machine cannot run it: too little memory, no cmpxchg16b, unknown platform."""


class EngineError(ShmallocError):
    """A kernel that could not be compiled or is not a kernel."""


class DialectError(MisuseError, EngineError):
    """A kernel that is not in the kernel dialect: one line with file, line, reason and cure."""


class KernelFault(ShmallocError):
    """A kernel did something undefined, and its call ended there; earlier writes stay.

    ``kind``: "outside", "odd pair", "division", "shift", "step", "choice" or "expectation".
    ``kernel``, ``file`` and ``line`` say where, ``cpu`` who called it (its argument ``claim`` or
    ``cpu``; None if it has neither), ``index`` at which word; of an expectation it is the code.
    """

    def __init__(
        self,
        kind: str,
        kernel: str,
        file: str,
        line: int,
        cpu: int | None = None,
        index: int | None = None,
        words: int | None = None,
    ) -> None:
        self.kind, self.kernel, self.file, self.line = kind, kernel, file, line
        self.cpu, self.index, self.words = cpu, index, words
        super().__init__(f"{self._what()} in {kernel}, {file}:{line}{self._where()}")

    @property
    def short_kernel(self) -> str:
        """The module and the kernel, ``buddy.take_block``."""
        return ".".join(self.kernel.split(".")[-2:])

    def _where(self) -> str:
        return "" if self.cpu is None else f", on cpu {self.cpu}"

    def _what(self) -> str:
        if self.kind == "odd pair":
            return f"word {self.index} is odd: a pair starts at an even word;"
        if self.kind == "outside":
            size = "" if self.words is None else f" of {self.words} words"
            return f"word {self.index} is outside the segment{size}"
        if self.kind == "expectation":
            return f"expectation {self.index} was not met"
        return {
            "division": "division by zero",
            "shift": "a shift by less than 0 or more than 63 bits",
            "step": "a range with step 0",
            "choice": "a choice of fewer than 1 or more than 60 values",
        }[self.kind]

    def __reduce__(self) -> tuple[object, ...]:
        arguments = (self.kind, self.kernel, self.file, self.line, self.cpu, self.index, self.words)
        return type(self), arguments


class OutsideFault(KernelFault, IndexError):
    """An access outside the segment, or a pair at an odd word."""


class ArithmeticFault(KernelFault, ArithmeticError):
    """A division by zero, a shift by a count outside 0..63, a range with step 0."""


class ExpectationFault(KernelFault, AssertionError):
    """``expect`` found its condition false; ``code`` is what it said."""

    @property
    def code(self) -> int | None:
        return self.index


@dataclass(frozen=True)
class Violation:
    """One broken invariant, in words.

    ``invariant``: its name in docs/invariants.md, ``I_TAIL``. ``where``: the page, object, cache or
    word. ``history``: the last operations on it. ``claim``: who reported it, if it was a process.
    ``kernel``: the kernel that reported it, ``audit.check_head``, if one did.
    """

    invariant: str
    where: str
    expected: str
    found: str
    history: tuple[str, ...] = ()
    claim: int | None = None
    kernel: str = ""

    @property
    def cpu(self) -> int | None:
        """``claim``, by its older name."""
        return self.claim

    @property
    def number(self) -> int:
        """The number that kernels report; 0 for a violation that no kernel reports."""
        row = BY_NAME.get(self.invariant)
        return row.number if row else 0

    @property
    def sentence(self) -> str:
        """What must hold; empty if the table of invariants does not say."""
        row = BY_NAME.get(self.invariant)
        return row.sentence if row else ""

    def __str__(self) -> str:
        """``I_TAIL: every page is covered by exactly one head: at pfn 2, expected 1, found 2``."""
        what = f"{self.invariant}: {self.sentence}" if self.sentence else self.invariant
        seen = "" if self.claim is None else f" (reported by claim {self.claim})"
        return f"{what}: at {self.where}, expected {self.expected}, found {self.found}{seen}"

    def as_dict(self) -> dict[str, object]:
        return {"number": self.number, "sentence": self.sentence, **asdict(self), "cpu": self.cpu}
