"""Hunt mutants: build each, let the explorer and the native hunt loose on it, say who found it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from shmalloc.invariants import name_of
from stress.crash.allocator import case_names
from stress.explorer.token import VERSION
from stress.mutants.mutant import CRASH, Mutant, programs_of
from stress.mutants.tree import ChildError, build, run_python
from stress.programs import PROGRAMS
from stress.quantities import counted
from stress.verdict import Verdict

EXPLORER, NATIVE = "explorer", "native"
ENGINES = (EXPLORER, NATIVE)
ORIGINAL = "original"
GRACE_S = 300.0  # beyond the budget: start, compile, shrink
COMPILE_S = 600.0  # of a native run whose kernels are all new
RUN_SHARE = 0.9  # of a native budget: what is found when all is given back counts, too
SEED = 1
RUN = "run.json"  # in a copy: the document of its native run
TOLD = 3  # kinds of violations of a run
FOUND, SURVIVED, EXPECTED, TROUBLE = "found", "survived", "not expected", "trouble"


@dataclass(frozen=True)
class Hunted:
    """What one engine made of one mutant, or of the original kernels.

    ``outcome``: FOUND; SURVIVED: it was to be found and was not; EXPECTED: it was not found, and
    need not be (equivalent, or invisible natively); TROUBLE: the hunt itself failed.
    ``by``: program and memory model, or workload. ``preemptions``: of the shrunk trace.
    """

    mutant: str
    engine: str
    outcome: str
    by: str = ""
    kind: str = ""
    schedules: int = 0
    seconds: float = 0.0
    preemptions: int | None = None
    token: str = ""
    note: str = ""
    cause: str = field(default="", compare=False)
    after: str = field(default="", compare=False)  # what became of the finding (``real_after``)

    @property
    def verdict(self) -> Verdict:
        if self.mutant == ORIGINAL:  # there nothing may be found
            bad = Verdict.FAILED if self.outcome == FOUND else Verdict.PASSED
        else:
            bad = Verdict.FAILED if self.outcome == SURVIVED else Verdict.PASSED
        return Verdict.ERROR if self.outcome == TROUBLE else bad

    def __str__(self) -> str:
        """One line, printed as soon as the hunt is over."""
        where = f"by {self.by} after {self.seconds:.1f} s: {self.kind}" if self.by else self.note
        return f"{self.mutant} ({self.engine}): {self.outcome} {where}".rstrip()


@dataclass(frozen=True)
class Following:
    """What follows a find. ``real``: the explorer's is made to happen in real processes.
    ``explain_s``: that of a native run is explained within that time; None: neither."""

    real: bool = False
    explain_s: float | None = None


def known_programs() -> tuple[str, ...]:
    """All that a mutant may name."""
    return (*PROGRAMS, *(f"{CRASH}:{name}" for name in case_names()))


def code_name(kind: str, code: int) -> str:
    """A kind of failure with the name of the violation, where it has one."""
    return f"{kind} {name_of(code)}" if code else kind


def hunt_mutant(
    mutant: Mutant,
    root: Path,
    engines: Iterable[str],
    seconds: float | None,
    following: Following | None = None,
) -> Iterator[Hunted]:
    """Build ``mutant`` in ``root`` and hunt it with each engine; ``seconds``: another budget."""
    after = following or Following()
    build(root, mutant)
    budget = seconds or mutant.budget_s
    missed = EXPECTED if mutant.equivalent else SURVIVED
    if EXPLORER in engines:
        explored = _explored(mutant.name, root, mutant.programs, budget, missed)
        yield replace(explored, after=real_after(root, explored)) if after.real else explored
    if NATIVE in engines:
        if mutant.workloads:
            if mutant.patient:
                build(root, mutant, patient=True)
            found = _stressed(mutant.name, root, run_of(mutant), budget, missed)
            if after.explain_s is not None:
                found = explained_after(root, found, after.explain_s)
            yield found
        else:
            yield Hunted(mutant.name, NATIVE, EXPECTED, note=mutant.unseen)


def real_after(root: Path, hunted: Hunted) -> str:
    """What real processes in the copy make of a token: ``yes, 0.09 s, 2 gates``, or why not."""
    if hunted.outcome != FOUND or not hunted.token.startswith(f"{VERSION}/"):
        return "no token" if hunted.outcome == FOUND else ""
    arguments = ["-m", "stress.mutants.made_real", hunted.token]
    document = _document(root, arguments, COMPILE_S, codes=(0,))
    if isinstance(document, str):
        return f"trouble: {document}"
    if not document["happened"]:
        return f"no: {document['note']}"
    return f"yes, {document['seconds']:.2f} s, {counted(document['gates'], 'gate')}"


def explained_after(root: Path, found: Hunted, seconds: float) -> Hunted:
    """``found`` with what ``shmstress explain`` makes of its run in the copy: ``yes, 12 s, same
    invariant`` and the token, or how far it came."""
    if found.outcome != FOUND:
        return found
    options = ["--duration", f"{seconds:g}s", "--json", "-", "--config", os.devnull]
    arguments = ["-m", "stress", "explain", RUN, *options]
    codes = (Verdict.FAILED.exit_code, Verdict.VACUOUS.exit_code)
    document = _document(root, arguments, seconds + GRACE_S, codes)
    if isinstance(document, str):
        return replace(found, after=f"trouble: {document}")
    if not document["explained"]:
        return replace(found, after=f"no: {document['sentence']}")
    kind = "same invariant" if document["same"] else "another invariant"
    after = f"yes, {document['seconds']:.0f} s, {kind}"
    return replace(found, after=after, token=document["token"])


def run_of(mutant: Mutant) -> tuple[str, ...]:
    """Its workloads, as one name, and its options, for ``shmstress run``; nothing: no run."""
    return (",".join(mutant.workloads), *mutant.run_options) if mutant.workloads else ()


def hunt_original(
    mutants: Iterable[Mutant], root: Path, engines: Iterable[str], seconds: float | None
) -> Iterator[Hunted]:
    """The same hunts on the kernels as they are: each set of programs or workloads once."""
    budgets: dict[tuple[str, bool, tuple[str, ...]], float] = {}
    for mutant in mutants:
        for engine, names in ((EXPLORER, mutant.programs), (NATIVE, run_of(mutant))):
            if names and engine in engines:
                budget = seconds or mutant.budget_s
                key = engine, mutant.patient and engine == NATIVE, names
                budgets[key] = max(budget, budgets.get(key, 0.0))
    for (engine, patient, names), budget in budgets.items():
        build(root, None, patient)
        hunt = _explored if engine == EXPLORER else _stressed
        yield hunt(ORIGINAL, root, names, budget, EXPECTED)


def _explored(
    name: str, root: Path, programs: tuple[str, ...], budget: float, missed: str
) -> Hunted:
    """Explore the programs in the copy."""
    chosen = programs_of(programs, known_programs())
    arguments = ["-m", "stress.mutants.hunt", str(root), f"{budget:g}", *chosen]
    document = _document(root, arguments, budget + GRACE_S, codes=(0,))
    if isinstance(document, str):
        return Hunted(name, EXPLORER, TROUBLE, note=document)
    found, problems = document["found"], document["problems"]
    if found is None:
        outcome = TROUBLE if problems else missed
        return Hunted(
            name,
            EXPLORER,
            outcome,
            schedules=document["schedules"],
            seconds=document["seconds"],
            note=_coverage(document, chosen),
        )
    return Hunted(
        name,
        EXPLORER,
        FOUND,
        by=f"{found['program']} ({found['memory']})",
        kind=code_name(found["kind"], found["code"]),
        schedules=document["schedules"],
        seconds=found["seconds"],
        preemptions=found["preemptions"],
        token=found["token"],
        note=found["engine"],
        cause=found["cause"],
    )


def _coverage(document: dict[str, Any], programs: list[str]) -> str:
    """What was explored without a failure."""
    if document["problems"]:
        return "; ".join(document["problems"])
    cut = f", {document['cut']:,} schedules cut at the step limit" if document["cut"] else ""
    if document["exhausted"]:
        return f"every class of {', '.join(programs)} was run{cut}"
    return f"not to the end: {', '.join(document['left'])}{cut}"


def _stressed(name: str, root: Path, run: tuple[str, ...], budget: float, missed: str) -> Hunted:
    """Run the workloads natively in the copy; ``run``: their names, then options."""
    names = " ".join(run)
    arguments = [
        "-m", "stress", "run", "--workload", *run, "--duration", f"{budget * RUN_SHARE:g}s",
        "--seed", hex(SEED), "--progress", "never", "--json", "-", "--config", os.devnull,
    ]  # fmt: skip
    verdicts = {verdict.exit_code for verdict in Verdict} - {Verdict.UNFIT.exit_code}
    document = _document(root, arguments, budget + COMPILE_S, codes=verdicts)
    if isinstance(document, str):
        return Hunted(name, NATIVE, TROUBLE, note=document)
    (root / RUN).write_text(json.dumps(document))
    result = document["results"][0]
    seconds = result["seconds"]
    if document["verdict"] == Verdict.FAILED.name:
        kind, cause = _first_violation(result)
        return Hunted(name, NATIVE, FOUND, names, kind, seconds=seconds, cause=cause)
    passed = document["verdict"] in (Verdict.PASSED.name, Verdict.VACUOUS.name)
    outcome = missed if passed else TROUBLE
    return Hunted(name, NATIVE, outcome, seconds=seconds, note=f"{names}: {document['verdict']}")


def _first_violation(result: dict[str, Any]) -> tuple[str, str]:
    """Name of the first violation, and the first few kinds in words; else the first trouble."""
    if result["violations"]:
        groups = result["violation_groups"]
        return str(groups[0]["invariant"]), "\n".join(group["text"] for group in groups[:TOLD])
    return "worker", "; ".join(trouble["text"] for trouble in result["troubles"])


def _document(
    root: Path, arguments: list[str], timeout_s: float, codes: Iterable[int]
) -> dict[str, Any] | str:
    """The JSON document that a child prints, or why there is none."""
    try:
        return document_in(*run_python(root, arguments, timeout_s), codes)
    except ChildError as error:
        return str(error)


def document_in(code: int, output: str, errors: str, codes: Iterable[int]) -> dict[str, Any] | str:
    """The JSON document that a child printed, which ended with ``code``, or why there is none."""
    if code not in codes or not output.strip():
        last = errors.strip().splitlines()[-1:] or ["it said nothing"]
        return f"exit code {code}: {last[0]}"
    document: dict[str, Any] = json.loads(output)
    return document


def hunt_all(
    mutants: list[Mutant],
    root: Path,
    engines: Iterable[str],
    seconds: float | None,
    original: bool,
    following: Following | None = None,
) -> Iterator[Hunted]:
    """Hunt all of them, one process at a time; each result comes as soon as it is known."""
    if original:
        yield from hunt_original(mutants, root, engines, seconds)
        return
    for mutant in mutants:
        yield from hunt_mutant(mutant, root, engines, seconds, following)
