"""What a check found."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from stress.linearize.history import Operation
from stress.linearize.model import Model
from stress.linearize.part import LINEARIZABLE, NOT_LINEARIZABLE, NOT_SEQUENTIAL, SEQUENTIAL, Part
from stress.linearize.report import body


@dataclass(frozen=True, eq=False)
class Check:
    """The result of ``check``.

    ``verdict``: "linearizable", "not-linearizable", or "unknown" if the budget ended first (in
    program order "sequentially-consistent", "not-sequentially-consistent"). ``left_out``:
    operations that the model's partition put into no part, because it allows them anywhere.
    ``visited``: configurations, that is, sets of operations done with the resulting state.
    """

    model: Model
    verdict: str
    parts: tuple[Part, ...]
    left_out: tuple[Operation, ...]
    visited: int
    seconds: float

    @property
    def ok(self) -> bool:
        return self.verdict in (LINEARIZABLE, SEQUENTIAL)

    @property
    def failed(self) -> tuple[Part, ...]:
        """Parts that have no order."""
        return tuple(p for p in self.parts if p.verdict in (NOT_LINEARIZABLE, NOT_SEQUENTIAL))

    @property
    def partial(self) -> dict[Hashable, tuple[Operation, ...]]:
        """The longest partial order of each part that did not pass."""
        passed = (LINEARIZABLE, SEQUENTIAL)
        return {part.key: part.order for part in self.parts if part.verdict not in passed}

    @property
    def unplaced(self) -> tuple[Operation, ...]:
        """The operations of failed parts that could not be placed."""
        return tuple(operation for part in self.failed for operation in part.unplaced)

    def report(self) -> str:
        """Some lines for people: which operations contradict each other."""
        return "\n".join([str(self), *body(self.model, self.parts, self.left_out)])

    def __str__(self) -> str:
        """One line."""
        operations = sum(len(part.operations) for part in self.parts) + len(self.left_out)
        split = f"parts={len(self.parts)} left out={len(self.left_out)}"
        return (
            f"{self.model.name}: {self.verdict} operations={operations} {split}"
            f" configurations={self.visited} seconds={self.seconds:.2f}"
        )
