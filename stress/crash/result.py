"""The result of crash runs: counts by operation and write site, and one failure of each kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from shmalloc.compiler.directory import shown
from stress import shell
from stress.crash.case import CrashCase
from stress.crash.runner import Point, Run
from stress.crash.schedules import Schedule
from stress.explorer.report.naming import Naming
from stress.explorer.report.trace import kind_of
from stress.machine.site import Site
from stress.verdict import Verdict

PASSED = "passed"
FAILED = "failed"
CUT = "cut"  # runs that reached the step limit: never a pass
VERDICT_OF = {PASSED: Verdict.PASSED, FAILED: Verdict.FAILED, CUT: Verdict.VACUOUS}
RETURNED = "(returned)"
AT_END = Site("", 0, "")  # the place of a CPU that has returned


class Key(NamedTuple):
    """Where a CPU died: the operation that it was in and the step that it did not make."""

    operation: str
    site: Site


@dataclass
class Counts:
    """Crashes at one place, or of one operation."""

    crashes: int = 0
    recovered: int = 0
    failed: int = 0
    cut: int = 0

    def add(self, run: Run) -> None:
        self.crashes += 1
        self.recovered += run.kind == "passed"
        self.failed += run.failed
        self.cut += run.kind == "abandoned"

    def merge(self, other: Counts) -> None:
        self.crashes += other.crashes
        self.recovered += other.recovered
        self.failed += other.failed
        self.cut += other.cut


@dataclass(frozen=True)
class CrashFailure:
    """One run that was not recovered, and the options that show it again."""

    case: CrashCase
    schedule: Schedule
    victim: int
    point: int
    then: int  # 0: the supervisor lived
    kind: str
    code: int
    key: Key
    stack: tuple[Site, ...]

    @property
    def signature(self) -> tuple[str, int, Key, bool]:
        """Equal for similar failures: the same ending after a death at the same place."""
        return self.kind, self.code, self.key, self.then > 0

    @property
    def command(self) -> str:
        return self.again()

    @property
    def again_title(self) -> str:
        """The heading of the line of ``again``."""
        if self.case.address is None:
            return (
                "to see it again, in Python, with case = CrashCase(program, recover, died, check):"
            )
        return "to see it again:"

    def again(self, engine: str = "native") -> str:
        """The line that shows this run again: for a shell, or for Python."""
        address = self.case.address
        if address is None:
            then = f", then={self.then}" if self.then else ""
            where = f"{str(self.schedule)!r}, victim={self.victim}, write={self.point}{then}"
            return f"print(stress.crash.rerun(case, {where}))"
        then = f" --then {self.then}" if self.then else ""
        chosen = "" if engine == "native" else f" --engine {engine}"
        which = f"{address.option}{shell.quote(address.target)} --schedule {self.schedule}"
        return f"shmstress crash {which} --victim {self.victim} --write {self.point}{then}{chosen}"

    def __str__(self) -> str:
        if self.point == 0:
            return f"{self.case.name}: {self.ending}, although no CPU died"
        where = f"{self.key.operation}, {place(self.key.site)}"
        return f"{self.case.name}: {self.ending} after a death in {where}"

    @property
    def ending(self) -> str:
        """``check 6 I_TAIL``, ``deadlock``: how it ended, with the name of the code."""
        name = Naming(self.case.program).short_code(self.code)
        return " ".join(part for part in (kind_of(self.kind), str(self.code or ""), name) if part)


def place(site: Site) -> str:
    """Short: the file's name and the line."""
    if site == AT_END:
        return "at its end"
    return f"{shown(site.file.rpartition('/')[2])}:{site.line} {site.function}"


@dataclass
class CrashResult:
    """Counts of one case, or the sum of several. ``again``: crashes inside recovery as well."""

    cases: int = 1
    schedules: int = 0
    steps: int = 0
    seconds: float = 0.0
    once: dict[Key, Counts] = field(default_factory=dict)
    again: dict[Key, Counts] = field(default_factory=dict)
    stacks: Counter[tuple[Key, tuple[Site, ...]]] = field(default_factory=Counter)
    recovery_sites: Counter[Site] = field(default_factory=Counter)
    failures: list[CrashFailure] = field(default_factory=list)  # one of each signature
    ignored: list[CrashFailure] = field(default_factory=list)  # likewise; they fail nothing
    complete: bool = True  # False: the time ran out first
    interrupted: bool = False

    def count(self, key: Key, run: Run, second: bool = False) -> None:
        table = self.again if second else self.once
        table.setdefault(key, Counts()).add(run)

    def keep(self, failure: CrashFailure) -> None:
        """Keep the first failure of its kind."""
        if failure.signature not in {known.signature for known in self.failures}:
            self.failures.append(failure)

    def ignore(self, is_known: Callable[[CrashFailure], bool]) -> None:
        """Set aside the failures that are known."""
        self.ignored += [failure for failure in self.failures if is_known(failure)]
        self.failures = [failure for failure in self.failures if not is_known(failure)]

    def add(self, other: CrashResult) -> None:
        """Add the counts of another case."""
        self.cases += other.cases
        self.schedules += other.schedules
        self.steps += other.steps
        self.seconds += other.seconds
        self.complete &= other.complete
        self.interrupted |= other.interrupted
        for mine, theirs in ((self.once, other.once), (self.again, other.again)):
            for key, counts in theirs.items():
                mine.setdefault(key, Counts()).merge(counts)
        self.stacks.update(other.stacks)
        self.recovery_sites.update(other.recovery_sites)
        for failure in other.failures:
            self.keep(failure)
        self.ignored += other.ignored

    def total(self, second: bool = False) -> Counts:
        total = Counts()
        for counts in (self.again if second else self.once).values():
            total.merge(counts)
        return total

    @property
    def runs(self) -> int:
        return self.total().crashes + self.total(second=True).crashes

    @property
    def cut(self) -> int:
        return self.total().cut + self.total(second=True).cut

    @property
    def verdict(self) -> str:
        if self.failures:
            return FAILED
        return CUT if self.cut else PASSED


def key_of(point: Point | None, operations: frozenset[str]) -> Key:
    """Where a CPU is when it dies before ``point``; None: it has returned.

    The operation is the outermost frame among ``operations``; if there is none, the thread.
    """
    if point is None:
        return Key(RETURNED, AT_END)
    named = [site.function for site in point.stack if site.function in operations]
    thread = f"({point.stack[-1].function})" if point.stack else "(?)"
    return Key(named[-1] if named else thread, point.stack[0])
