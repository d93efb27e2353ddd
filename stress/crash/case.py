"""``CrashCase``: a program, the CPUs that may die in it, and the supervisors that recover.

Data only. The last CPUs of the program are supervisors: they run ``recover`` after a CPU has died.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from shmalloc.dialect import Kernel
from shmalloc.errors import MisuseError
from stress.explorer.address import Address, found_address
from stress.machine.program import Program

SUPERVISORS = 2


@dataclass(frozen=True, eq=False)
class CrashCase:
    """A program whose CPUs may die.

    ``program``: as for ``explore``; its ``check`` is not used here.
    ``recover``: kernel ``(mem, cpu)`` of a supervisor. It begins when a CPU has died and finds out
    which: word ``died + cpu`` is 1 for each dead one. If it dies as well, another supervisor
    begins. One kernel for all, or one for each.
    ``died``: first of ``len(program.threads) + 2`` words of the program's memory that nothing else
    uses, 0 at the start.
    ``check``: kernel ``(mem)`` -> 0 or an error code, after the living and a supervisor are done.
    ``victims``: the CPUs that die in turn; None: all of the program's.
    """

    program: Program
    recover: Kernel | Sequence[Kernel]
    died: int
    check: Kernel
    victims: Sequence[int] | None = None

    def __post_init__(self) -> None:
        program = self.program
        last = program.words - self.living - SUPERVISORS
        if not 0 <= self.died <= last:
            raise MisuseError(f"died: word {self.died}; use 0 to {last}: a word for each CPU")
        if len(self._supervisors()) != SUPERVISORS:
            raise MisuseError(f"recover: use one kernel, or {SUPERVISORS}")
        for victim in self.victims or ():
            if not 0 <= victim < self.living:
                raise MisuseError(f"victims: {victim}; use 0 to {self.living - 1}")
        self.model()

    @property
    def name(self) -> str:
        return self.program.name

    @property
    def story(self) -> str:
        return self.program.story

    @property
    def living(self) -> int:
        """CPUs that run the program."""
        return len(self.program.threads)

    @property
    def dying(self) -> tuple[int, ...]:
        return tuple(range(self.living) if self.victims is None else self.victims)

    @cached_property
    def address(self) -> Address | None:
        """Where the command line finds it; None if it cannot."""
        return found_address(self, (*self._supervisors(), *self.program.threads))

    def _supervisors(self) -> tuple[Kernel, ...]:
        if callable(self.recover):
            return (self.recover,) * SUPERVISORS
        return tuple(self.recover)

    def model(self) -> Program:
        """The program with its supervisors, as the engines take it."""
        return self._model

    @cached_property
    def _model(self) -> Program:
        model = self.program
        supervisors = self._supervisors()
        return replace(
            model,
            threads=(*model.threads, *supervisors),
            arguments=(*model.arguments, *[() for _ in supervisors]),
            check=self.check,
            invariant=None,
            observe=(),
        )

    def model_alone(self) -> Program:
        """The program without supervisors and without a check: for its schedules."""
        return replace(self.program, check=None, invariant=None, observe=())
