"""What can go wrong, as classes: each message names the argument, the value and the cure.

Kernels never raise: they return the negative codes of ``constants`` and the Python face turns
them into these. ``Violation`` is data: the same one is printed by the CLI, pytest and JUnit.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass


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


class EnvironmentUnfitError(ShmallocError):
    """This machine cannot run it: too little memory, no cmpxchg16b, unknown platform."""


class EngineError(ShmallocError):
    """A kernel that could not be compiled or is not a kernel."""


@dataclass(frozen=True)
class Violation:
    """One broken invariant: its number (docs/invariants.md), where, and what was found."""

    invariant: str
    where: str
    expected: str
    found: str
    history: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.invariant} at {self.where}: expected {self.expected}, found {self.found}"

    def as_dict(self) -> dict[str, object]:
        return asdict(self)
