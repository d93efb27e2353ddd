"""Look for a schedule that breaks the invariant of a failed run, within a budget.

Each sketch is explored for a moment, interpreted, while another process compiles the kernels, once
for all sketches; from then on they are explored natively, with hundreds of times as many schedules
in that moment. A schedule that breaks another invariant is kept in case none breaks the same one.
What a kernel does wrong alone is found as a program of one CPU.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from shmalloc.errors import CorruptionError, MisuseError
from shmalloc.invariants import name_of
from stress.crash.result import CrashFailure
from stress.explain.compiling import Compiler
from stress.explain.draw import sketches
from stress.explain.evidence import Evidence
from stress.explain.steps import StepSketch
from stress.explain.worlds import Sketch
from stress.explorer.explore import explore
from stress.explorer.report.failure import Failure
from stress.explorer.report.trace import kind_of
from stress.explorer.spinning import EndlessLoopError
from stress.machine.program import Program
from stress.progress import silent
from stress.quantities import counted

MOMENT_S = 0.4
STEP_LIMIT = 4_000
AnySketch = Sketch | StepSketch
HUNTED = ("check", "invariant", "memory", "expectation", "deadlock", "livelock", "arithmetic")


@dataclass(frozen=True)
class Explained:
    """A program with a schedule that fails. ``same``: it breaks the invariant of the run.

    ``sketch`` None: it is of the catalogue, and has that ``name``."""

    sketch: AnySketch | None
    program: Program
    failure: Failure | CrashFailure
    same: bool
    name: str = ""


@dataclass
class Effort:
    """How far an explanation came."""

    sketches: int = 0
    schedules: int = 0
    unprepared: int = 0  # sketches whose world a kernel alone breaks
    programs: int = 0  # of the catalogue
    seconds: float = 0.0
    native: bool = False
    found: Explained | None = None
    others: list[str] = field(default_factory=list)  # what else was broken

    def __str__(self) -> str:
        """``31 worlds and 5 programs of the catalogue, 12,345 schedules, 40 s``."""
        how = "some compiled" if self.native else "interpreted"
        listed = counted(self.programs, "program") + " of the catalogue" if self.programs else ""
        worlds = " and ".join(filter(None, (counted(self.sketches, "drawn world"), listed)))
        return f"{worlds}, {counted(self.schedules, 'schedule')}, {how}, {self.seconds:.0f} s"

    def take(self, found: Explained) -> bool:
        """Keep it, if it is the first or the first of the same invariant."""
        if not found.same:
            self.others.append(ending_of(found))
        if self.found is None or (found.same and not self.found.same):
            self.found = found
            return True
        return False


def ending_of(found: Explained) -> str:
    """``check I_TAIL``."""
    kind, code = kind_of(found.failure.kind), found.failure.code
    return f"{kind} {name_of(code)}" if code else kind


def is_same(kind: str, code: int, evidence: Evidence) -> bool:
    """Whether it is the invariant of the run; a run that hung is explained by what hangs."""
    if not evidence.invariant or evidence.invariant == "I_PROGRESS":
        return kind_of(kind) in ("deadlock", "livelock") or code == evidence.code != 0
    return code == evidence.code


def search(
    evidence: Evidence,
    effort: Effort,
    seconds: float,
    seed: int = 1,
    tell: Callable[[str], None] = lambda text: None,
    candidates: Iterable[AnySketch] | None = None,
) -> None:
    """The first sketch that fails in the same way, else the first that fails at all."""
    with Compiler() as compiler:
        _search(evidence, seconds, effort, tell, candidates or sketches(evidence, seed), compiler)


def _search(
    evidence: Evidence,
    seconds: float,
    effort: Effort,
    tell: Callable[[str], None],
    candidates: Iterable[AnySketch],
    compiler: Compiler,
) -> None:
    end = time.monotonic() + seconds
    for sketch in candidates:
        if time.monotonic() >= end:
            return
        effort.sketches += 1
        found = attempt(sketch, evidence, effort, compiler)
        if found is not None and effort.take(found):
            tell(f"{ending_of(found)}: {counted(sketch.operations, 'operation')}")
        if found is not None and found.same:
            return


def attempt(
    sketch: AnySketch, evidence: Evidence, effort: Effort, compiler: Compiler | None = None
) -> Explained | None:
    """Explore one sketch for a moment."""
    try:
        program = sketch.program()
    except CorruptionError:
        effort.unprepared += 1
        sketch = sketch.alone()
        try:
            program = sketch.program()
        except (CorruptionError, MisuseError):
            return None
    except (MisuseError, EndlessLoopError):
        return None
    failure = explored(program, effort, compiler)
    if failure is None or failure.kind not in HUNTED:
        return None
    return Explained(sketch, program, failure, is_same(failure.kind, failure.code, evidence))


def explored(
    program: Program, effort: Effort, compiler: Compiler | None, seconds: float = MOMENT_S
) -> Failure | None:
    """``compiler`` None: interpreted, as what is small is soon explored."""
    native = compiler is not None and compiler.has(program)
    effort.native |= native
    try:
        found = explore(
            program,
            seconds=seconds,
            engine="native" if native else "interpreted",
            races=False,
            step_limit=STEP_LIMIT,
            progress=silent,
        )
    except EndlessLoopError:
        return None
    effort.schedules += found.schedules
    return found.failure
