"""One defect has one fingerprint: over seeds, strategies, engines, processes, lines and numbers."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from crash_programs import case_of, recover_lock_only
from shmalloc.errors import MisuseError, Violation
from stress.crash.search import Effort, Hunt
from stress.explorer.explore import explore
from stress.records.failures import identity_of, identity_of_crash
from stress.records.finding import fingerprint_of
from stress.records.fingerprint import Ignored, fingerprint
from stress.run.controller import Controller
from stress.run.interrupts import Interrupts
from stress.run.progress import Progress
from stress.run.result import RunResult
from stress.spec import RunSpec, Zone
from stress.verdict import Verdict
from stress.workloads import WORKLOADS, Workload, add

TAIL = Violation("I_TAIL", "pfn 5", "1", "2", claim=0, kernel="audit.audit_tails")

# --- native runs ---
MISUSE = '''
from shmalloc import kernel
from shmalloc.kernels.pages import free_pages
from stress.workloads.area import W_DATA, draw, work_at

@kernel
def flood(mem, cpu, steps):
    """Free a page that does not exist, another one each time."""
    free_pages(mem, cpu, -1 - draw(mem, work_at(mem, cpu), 1000), 0)
    return 1

@kernel
def drip(mem, cpu, steps):
    """The same in one call of a thousand, from the first on."""
    at = work_at(mem, cpu) + W_DATA
    if mem[at] % 1000 == 0:
        flood(mem, cpu, steps)
    mem[at] = mem[at] + 1
    return 1

@kernel
def finish(mem, cpu):
    return 0
'''


@pytest.fixture(scope="module")
def misuse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, ...]]:
    """Workloads that break a rule: now and then, and all the time."""
    path = tmp_path_factory.mktemp("misuse") / "planted.py"
    path.write_text(MISUSE)
    module = imported("planted", path)
    before = dict(WORKLOADS)
    yield tuple(
        add(Workload(step.__name__, step, module.finish, marks=(), work_words=32))
        for step in (module.drip, module.flood)
    )
    WORKLOADS.clear()
    WORKLOADS.update(before)


def imported(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(name: str, seed: int, ignored: Ignored | None = None) -> RunResult:
    spec = RunSpec((name,), workers=1, zones=(Zone(8 << 20),), duration_s=0.3, seed=seed)
    known = None if ignored is None else lambda found: fingerprint_of(found) in ignored
    return Controller(spec, Progress(), Interrupts(), None, lambda _: None, known).run()


@pytest.fixture(scope="module")
def planted(misuse: tuple[str, ...]) -> list[RunResult]:
    return [run(misuse[0], seed) for seed in (1, 2)]


@pytest.fixture(scope="module")
def known(planted: list[RunResult]) -> Ignored:
    return Ignored([fingerprint_of(planted[0].violations[0])])


def test_a_planted_violation_has_one_fingerprint_whatever_the_seed(
    planted: list[RunResult],
) -> None:
    first, second = (result.violations[0] for result in planted)
    assert first.where != second.where, "the seeds made no difference"
    assert fingerprint_of(first) == fingerprint_of(second)


def test_a_violation_names_the_kernel_that_saw_it(planted: list[RunResult]) -> None:
    assert {one.kernel for one in planted[0].violations} == {"pages.refuse_free"}


def test_a_run_goes_past_a_violation_that_is_ignored(
    misuse: tuple[str, ...], known: Ignored
) -> None:
    result = run(misuse[0], 3, known)
    assert (result.verdict, result.violations) == (Verdict.PASSED, []), result.troubles
    assert result.ignored_total > 0


def test_a_run_is_not_ended_by_a_violation_that_is_ignored(
    misuse: tuple[str, ...], planted: list[RunResult], known: Ignored
) -> None:
    assert run(misuse[0], 3, known).seconds > planted[0].seconds


def test_another_violation_still_fails_the_run(misuse: tuple[str, ...]) -> None:
    assert run(misuse[0], 3, Ignored(["0123456789ab"])).verdict is Verdict.FAILED


def test_more_reports_than_can_be_told_apart_fail_the_run(
    misuse: tuple[str, ...], known: Ignored
) -> None:
    result = run(misuse[1], 3, known)
    assert [one.invariant for one in result.violations] == ["report table"]
    assert result.verdict is Verdict.FAILED


@pytest.mark.parametrize(
    "other",
    [
        replace(TAIL, where="pfn 77", expected="4", found="TAIL order 3 v9"),
        replace(TAIL, claim=5, history=("cpu 5: freed",)),
    ],
)
def test_numbers_take_no_part(other: Violation) -> None:
    assert fingerprint_of(other) == fingerprint_of(TAIL)


@pytest.mark.parametrize(
    "other", [replace(TAIL, invariant="I_SLAB"), replace(TAIL, kernel="buddy.merge")]
)
def test_another_rule_or_another_kernel_is_another_finding(other: Violation) -> None:
    assert fingerprint_of(other) != fingerprint_of(TAIL)


def test_where_no_kernel_is_known_the_place_without_numbers_counts() -> None:
    hung = [Violation("I_PROGRESS", f"worker {n}", "a beat", f"silent {n} s") for n in (1, 2)]
    other = Violation("I_PROGRESS", "H_WAITERS", "a beat", "silent")
    assert len({fingerprint_of(one) for one in (*hung, other)}) == 2


# --- the explorer ---
PROGRAM = """from shmalloc import kernel
from shmalloc.words import load, store
from stress import Program

@kernel
def count(mem, cpu):
    value = load(mem, 0)
    store(mem, 0, value + 1)

@kernel
def counted(mem):
    return 0 if mem[0] == 2 else 3  # both were counted

@kernel
def twice(mem):
    if mem[0] == 1:
        return 3
    return 0

lost = Program("lost", 2, [count, count], check=counted)
other = Program("lost", 2, [count, count], check=twice)
"""
SEARCHES = [
    ("random", 1, "interpreted", "sc"), ("random", 9, "interpreted", "tso"),
    ("pct", 2, "interpreted", "sc"), ("dpor", 1, "interpreted", "sc"), ("auto", 1, "native", "sc"),
]  # fmt: skip


def lost(folder: Path, text: str = PROGRAM, name: str = "lost") -> object:
    """The program of a file in a folder."""
    folder.mkdir(exist_ok=True)
    (folder / "lost.py").write_text(text)
    return vars(imported(f"lost_{folder.name}", folder / "lost.py"))[name]


def explored(program: object, strategy: str, seed: int, engine: str, memory: str) -> str:
    result = explore(program, strategy, memory, seed=seed, engine=engine, seconds=10)
    assert result.failure is not None
    return identity_of(result.failure).fingerprint


def test_a_failure_has_one_fingerprint_whatever_found_it(tmp_path: Path) -> None:
    program = lost(tmp_path)
    assert len({explored(program, *search) for search in SEARCHES}) == 1


def test_lines_that_move_and_comments_change_nothing(tmp_path: Path) -> None:
    moved = PROGRAM.replace("@kernel\ndef counted", "# a comment\n\n@kernel\ndef counted")
    moved = moved.replace("# both were counted", "# neither got lost")
    here, there = lost(tmp_path / "here"), lost(tmp_path / "there", moved)
    assert explored(here, *SEARCHES[0]) == explored(there, *SEARCHES[0])


def test_another_line_of_a_check_is_another_finding(tmp_path: Path) -> None:
    here, there = lost(tmp_path), lost(tmp_path, name="other")
    assert explored(here, *SEARCHES[0]) != explored(there, *SEARCHES[0])


# --- crash mode ---
def test_a_death_has_one_fingerprint_whatever_the_schedule() -> None:
    found = []
    for seed in (1, 50):
        case = case_of(recover_lock_only)
        result = Hunt(case, Effort(seeds=4, seed=seed, engine="interpreted")).run()
        found.append({identity_of_crash(one).fingerprint for one in result.failures})
    assert found[0] == found[1] != set()


# --- what people type ---
def test_the_first_letters_are_enough() -> None:
    name = fingerprint("I_TAIL", "audit.audit_tails")
    assert name in Ignored([name[:6].upper()]) and name not in Ignored(["ffffff"])


@pytest.mark.parametrize("name", ["", "abc", "not hex", "0123456789abcdef"])
def test_what_is_no_fingerprint_is_refused(name: str) -> None:
    with pytest.raises(MisuseError, match="fingerprint: "):
        Ignored([name])


def test_a_fingerprint_is_for_ever() -> None:
    assert fingerprint("I_TAIL", "audit.audit_tails") == "2a66b1c0d1d7"
